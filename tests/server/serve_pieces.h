/* SPDX-License-Identifier: Apache-2.0 */
/* A body that comes in pieces, which must be read as the whole one is. */
#ifndef SERVE_PIECES_H
#define SERVE_PIECES_H

#include <stdlib.h>
#include <string.h>

#include "serve_infer.h"

/* One is the whole, the other came in pieces. */
typedef struct pieces_read {
    bool reads;
    serve_infer infer;
    serve_problem problem;
    size_t taken; /* bytes that were read as they came */
} pieces_read;

static inline bool pieces_same_text(const char *one, const char *other)
{
    return one == NULL || other == NULL ? one == other : strcmp(one, other) == 0;
}

static inline bool pieces_are_equal(const pieces_read *one, const pieces_read *other)
{
    const serve_infer *a = &one->infer;
    const serve_infer *b = &other->infer;
    if (!one->reads || !other->reads) {
        return one->reads == other->reads && one->problem.code == other->problem.code &&
               strcmp(one->problem.sentence, other->problem.sentence) == 0;
    }
    bool equal = a->input_count == b->input_count && a->wish_count == b->wish_count &&
                 a->binary == b->binary && a->timeout == b->timeout && a->priority == b->priority &&
                 pieces_same_text(a->id, b->id);
    for (size_t i = 0; equal && i < a->input_count; i++) {
        const kiln_tensor *x = &a->inputs[i].tensor;
        const kiln_tensor *y = &b->inputs[i].tensor;
        equal = a->inputs[i].name == b->inputs[i].name && x->bytes == y->bytes &&
                (x->bytes == 0 || memcmp(x->data, y->data, x->bytes) == 0);
    }
    for (size_t i = 0; equal && i < a->wish_count; i++) {
        equal = a->wishes[i].index == b->wishes[i].index &&
                a->wishes[i].binary == b->wishes[i].binary &&
                a->wishes[i].classes == b->wishes[i].classes;
    }
    return equal;
}

/* Pieces of at most `most` bytes, drawn by `seed`, the first of them `first` bytes longer; each in
 * memory of its very size. */
static inline void pieces_feed(serve_connection *at, const char *body, size_t size, size_t first,
                               size_t most, uint64_t seed, pieces_read *read)
{
    size_t done = 0;
    read->reads = serve_body_reserve(at, size);
    while (read->reads && done < size) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        size_t next = 1 + (size_t)(seed >> 33) % most + (done == 0 ? first : 0);
        next = next < size - done ? next : size - done;
        char *piece = malloc(next);
        if (piece == NULL) {
            abort();
        }
        memcpy(piece, body + done, next);
        read->reads = serve_stream_take(at, piece, next);
        done += next;
        free(piece);
    }
    if (read->reads) {
        read->reads = at->stream != NULL ? serve_stream_finish(at)
                                         : serve_infer_read(at->body, at->body_size, SIZE_MAX, NULL,
                                                            &at->arena, at->infer, &at->problem);
    }
    read->infer = *at->infer;
    read->problem = at->problem;
    read->taken = at->taken;
}

/* Whether both come to the same; what came of the pieces in `*read`, without its tensors. */
static inline bool pieces_agree(serve_instance *model, const char *body, size_t size, size_t first,
                                size_t most, uint64_t seed, pieces_read *read)
{
    const serve_options options = {.body_limit = INT64_MAX / 4, .memory_limit = INT64_MAX / 4};
    serve server = {.options = &options};
    serve_infer infer = {.instance = model};
    serve_connection at = {
        .server = &server, .announced = size, .head_size = SIZE_MAX, .infer = &infer};
    pieces_read whole = {.infer = {.instance = model}};
    serve_arena arena = {.first = NULL};
    char *copy = malloc(size + 1);
    if (copy == NULL) {
        abort();
    }
    memcpy(copy, body, size);
    whole.reads =
        serve_infer_read(copy, size, SIZE_MAX, NULL, &arena, &whole.infer, &whole.problem);
    pieces_feed(&at, body, size, first, most, seed, read);
    const bool equal = pieces_are_equal(&whole, read);
    serve_arena_finish(&arena);
    serve_arena_finish(&at.arena);
    free(at.block);
    free(copy);
    return equal;
}

#endif
