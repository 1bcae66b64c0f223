/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/tensorrt/trt_spare.h"

#include <string.h>

#include "cuda/kln_cuda.h"

/* Pieces are handed out again for what is as large, or nearly. */
static bool fits(size_t piece, size_t size)
{
    return piece >= size && piece - size <= size / 4 + 4096;
}

/* The smallest that fits, taken out; NULL where there is none. */
static void *take(trt_spare *self, size_t size, size_t *bytes)
{
    size_t best = self->count;
    for (size_t i = 0; i < self->count; i++) {
        if (fits(self->pieces[i].bytes, size) &&
            (best == self->count || self->pieces[i].bytes < self->pieces[best].bytes)) {
            best = i;
        }
    }
    if (best == self->count) {
        return NULL;
    }
    void *memory = self->pieces[best].memory;
    *bytes = self->pieces[best].bytes;
    self->bytes -= *bytes;
    self->count--;
    memmove(&self->pieces[best], &self->pieces[best + 1],
            (self->count - best) * sizeof self->pieces[0]);
    return memory;
}

/* The oldest go back until so many are left. */
static void give_back(trt_spare *self, size_t count, size_t bytes)
{
    size_t gone = 0;
    while (gone < self->count && (self->count - gone > count || self->bytes > bytes)) {
        self->bytes -= self->pieces[gone].bytes;
        const kiln_block none = {.bytes = 0};
        (void)self->from->release(self->from->user, self->pieces[gone].memory, NULL, &none);
        gone++;
    }
    self->count -= gone;
    memmove(self->pieces, self->pieces + gone, self->count * sizeof self->pieces[0]);
}

static void *spare_allocate(void *user, size_t size, void *stream, kiln_block *piece)
{
    trt_spare *self = user;
    size_t bytes = size;
    (void)pthread_mutex_lock(&self->lock);
    void *memory = take(self, size, &bytes);
    (void)pthread_mutex_unlock(&self->lock);
    if (memory == NULL) {
        memory = self->from->allocate(self->from->user, size, stream, piece);
    }
    if (memory == NULL) {
        (void)pthread_mutex_lock(&self->lock);
        give_back(self, 0, 0);
        (void)pthread_mutex_unlock(&self->lock);
        memory = self->from->allocate(self->from->user, size, stream, piece);
    }
    *piece = (kiln_block){.bytes = bytes};
    return memory;
}

/* Of what nothing is enqueued on any more. */
static bool spare_drop(void *user, void *memory, void *stream, const kiln_block *piece)
{
    trt_spare *self = user;
    if (piece->bytes > TRT_SPARE_BYTES) {
        return self->from->release(self->from->user, memory, stream, piece);
    }
    (void)pthread_mutex_lock(&self->lock);
    give_back(self, TRT_SPARE_PIECES - 1, TRT_SPARE_BYTES - piece->bytes);
    self->pieces[self->count].memory = memory;
    self->pieces[self->count].bytes = piece->bytes;
    self->count++;
    self->bytes += piece->bytes;
    (void)pthread_mutex_unlock(&self->lock);
    return true;
}

/* The driver's own release waits for the GPU, too. */
static bool spare_release(void *user, void *memory, void *stream, const kiln_block *piece)
{
    trt_spare *self = user;
    if (kln_cuda_wait(self->device) != KILN_OK) {
        return self->from->release(self->from->user, memory, stream, piece);
    }
    return spare_drop(user, memory, stream, piece);
}

void trt_spare_begin(trt_spare *spare, const trt_memory *from, int32_t device)
{
    memset(spare, 0, sizeof *spare);
    spare->memory = (trt_memory){.user = spare,
                                 .allocate = spare_allocate,
                                 .release = spare_release,
                                 .drop = spare_drop,
                                 .copy = from->copy};
    spare->from = from;
    spare->device = device;
    (void)pthread_mutex_init(&spare->lock, NULL);
}

void trt_spare_end(trt_spare *spare)
{
    give_back(spare, 0, 0);
    (void)pthread_mutex_destroy(&spare->lock);
}
