/* SPDX-License-Identifier: Apache-2.0 */
/* Posts one request over and over, on so many connections at once, each as soon as its last one is
 * answered: serve_client PORT FILE CONNECTIONS SECONDS. FILE holds the whole request, its head too.
 * Prints answers a second, p50, p90 and p99 in microseconds, and how many were no 200. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <kiln/histogram.h>

#include "bench_times.h"

#define ANSWER ((size_t)16 << 20)

typedef struct line {
    int socket;
    size_t sent, received;
    size_t expected; /* 0: the head is not whole yet */
    char *answer;
    uint64_t begin;
} line;

typedef struct load {
    char *request;
    size_t size;
    kiln_histogram *times;
    size_t count, wrong;
} load;

static void die(const char *what)
{
    (void)fprintf(stderr, "serve_client: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void read_request(load *self, const char *path)
{
    FILE *file = fopen(path, "rb");
    self->request = malloc(ANSWER);
    if (file == NULL || self->request == NULL) {
        die(path);
    }
    self->size = fread(self->request, 1, ANSWER, file);
    (void)fclose(file);
}

static void open_line(line *at, unsigned port)
{
    const int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    at->socket = socket(AF_INET, SOCK_STREAM, 0);
    at->answer = malloc(ANSWER);
    if (at->socket < 0 || at->answer == NULL ||
        connect(at->socket, (struct sockaddr *)&address, sizeof address) != 0) {
        die("connect");
    }
    (void)setsockopt(at->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void go_on_sending(const load *self, line *at)
{
    while (at->sent < self->size) {
        const ssize_t sent = send(at->socket, self->request + at->sent, self->size - at->sent,
                                  MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            return;
        }
        if (sent <= 0) {
            die("send");
        }
        at->sent += (size_t)sent;
    }
}

static void begin(const load *self, line *at)
{
    at->sent = 0;
    at->received = 0;
    at->expected = 0;
    at->begin = bench_now();
    go_on_sending(self, at);
}

static size_t whole_size(const line *at)
{
    const char *end = memmem(at->answer, at->received, "\r\n\r\n", 4);
    if (end == NULL) {
        return 0;
    }
    const size_t head = (size_t)(end + 4 - at->answer);
    for (const char *row = at->answer; row < end; row = strchr(row, '\n') + 1) {
        if (strncasecmp(row, "Content-Length:", 15) == 0) {
            return head + strtoul(row + 15, NULL, 10);
        }
    }
    return head;
}

static void note(load *self, const line *at)
{
    kiln_histogram_record(self->times, bench_now() - at->begin);
    self->count++;
    self->wrong += memcmp(at->answer + 9, "200", 3) != 0;
}

static void go_on_receiving(load *self, line *at)
{
    for (;;) {
        const ssize_t found =
            recv(at->socket, at->answer + at->received, ANSWER - 1 - at->received, MSG_DONTWAIT);
        if (found < 0 && errno == EAGAIN) {
            return;
        }
        if (found <= 0) {
            die("the server closed a connection");
        }
        at->received += (size_t)found;
        at->answer[at->received] = '\0';
        at->expected = at->expected == 0 ? whole_size(at) : at->expected;
        if (at->expected != 0 && at->received >= at->expected) {
            note(self, at);
            begin(self, at);
            return;
        }
    }
}

int main(int count, char **arguments)
{
    if (count != 5) {
        (void)fprintf(stderr, "serve_client PORT FILE CONNECTIONS SECONDS\n");
        return 2;
    }
    const unsigned port = (unsigned)strtoul(arguments[1], NULL, 10);
    const size_t lines = strtoul(arguments[3], NULL, 10);
    const double seconds = strtod(arguments[4], NULL);
    load self = {.request = NULL};
    bench_require(kiln_histogram_create(&self.times));
    read_request(&self, arguments[2]);
    line *all = calloc(lines, sizeof *all);
    const int poll = epoll_create1(0);
    if (all == NULL || poll < 0) {
        die("start");
    }
    for (size_t i = 0; i < lines; i++) {
        open_line(&all[i], port);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = &all[i]};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, all[i].socket, &event) != 0) {
            die("epoll");
        }
        begin(&self, &all[i]);
    }
    const uint64_t start = bench_now();
    uint64_t now = start;
    while ((double)(now - start) < seconds * 1e9) {
        struct epoll_event events[64];
        const int ready = epoll_wait(poll, events, 64, 1000);
        for (int i = 0; i < ready; i++) {
            go_on_sending(&self, events[i].data.ptr);
            go_on_receiving(&self, events[i].data.ptr);
        }
        now = bench_now();
    }
    if (self.count == 0) {
        (void)printf("0 0 0 0 0\n");
        return 1;
    }
    (void)printf("%.1f %.1f %.1f %.1f %zu\n", (double)self.count * 1e9 / (double)(now - start),
                 kiln_histogram_percentile(self.times, 50) / 1e3,
                 kiln_histogram_percentile(self.times, 90) / 1e3,
                 kiln_histogram_percentile(self.times, 99) / 1e3, self.wrong);
    return 0;
}
