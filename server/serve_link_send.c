/* SPDX-License-Identifier: Apache-2.0 */
/* The data that an HTTP/2 connection has to send: parts of frames, and of answers in place. */
#include <errno.h>

#include "serve_grpc.h"

#define LEAST_PIECE ((size_t)1024) /* worth an entry of its own */

static void release(serve_spent *spent)
{
    if (spent->reply != NULL) {
        serve_reply_release(spent->reply);
    }
    serve_text_finish(&spent->out);
}

void serve_link_spend(serve_link *link, const serve_call *call, serve_spent spent)
{
    if (link != NULL && call->lent == link->round) { /* each has a piece, so there is room */
        link->spent[link->spent_count++] = spent;
    } else {
        release(&spent);
    }
}

void serve_link_begin_round(serve_link *link)
{
    for (size_t i = 0; i < link->spent_count; i++) {
        release(&link->spent[i]);
    }
    link->spent_count = 0;
    link->piece_count = 0;
    link->piece = 0;
    link->out_size = 0;
    link->round++;
}

bool serve_link_has_room(const serve_link *link)
{
    return link->out_size + SERVE_LINK_FRAME <= SERVE_LINK_FRAMES &&
           link->piece_count + SERVE_FRAME_PARTS + 1 <= SERVE_LINK_PIECES;
}

bool serve_link_put(serve_link *link, const void *data, size_t size, bool stay)
{
    struct iovec *next = &link->pieces[link->piece_count];
    if (stay && link->secure == NULL && size >= LEAST_PIECE) {
        *next = (struct iovec){(void *)(uintptr_t)data, size};
        link->piece_count++;
        return true;
    }
    char *place = link->out + link->out_size;
    memcpy(place, data, size);
    link->out_size += size;
    if (link->piece_count > 0 && (char *)next[-1].iov_base + next[-1].iov_len == place) {
        next[-1].iov_len += size;
    } else {
        *next = (struct iovec){place, size};
        link->piece_count++;
    }
    return false;
}

/* Returns the bytes that the socket took, or -1. */
static ssize_t send_pieces(serve_link *link)
{
    struct iovec *first = &link->pieces[link->piece];
    const struct msghdr message = {.msg_iov = first, .msg_iovlen = link->piece_count - link->piece};
    return link->secure != NULL ? serve_secure_send(link->secure, first->iov_base, first->iov_len)
                                : sendmsg(link->socket, &message, MSG_NOSIGNAL);
}

bool serve_link_drain(serve_link *link)
{
    while (link->piece < link->piece_count) {
        ssize_t sent = send_pieces(link);
        if (sent <= 0) {
            link->broken |= errno != EAGAIN && errno != EINTR;
            return false;
        }
        while (sent > 0) {
            struct iovec *at = &link->pieces[link->piece];
            const size_t part = (size_t)sent < at->iov_len ? (size_t)sent : at->iov_len;
            at->iov_base = (char *)at->iov_base + part;
            at->iov_len -= part;
            sent -= (ssize_t)part;
            link->piece += at->iov_len == 0;
        }
        link->since = kiln_clock_now();
    }
    serve_link_begin_round(link);
    return true;
}
