/*
 * trt_spare.h - device memory that a build gives back and takes again.
 *
 * TensorRT tries kernels in memory that it allocates for each: 20,000 times for ResNet-50, which
 * costs the driver two seconds. Here the pieces are kept until the build ends.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TRT_SPARE_H
#define TRT_SPARE_H

#include "backends/tensorrt/trt_callbacks.h"

#define TRT_SPARE_PIECES 64
#define TRT_SPARE_BYTES ((size_t)1 << 30) /* that lie idle, at most */

typedef struct trt_spare {
    trt_memory memory; /* for an allocator */
    const trt_memory *from;
    int32_t device;
    pthread_mutex_t lock; /* everything below */
    size_t bytes;
    size_t count;
    struct {
        void *memory;
        size_t bytes;
    } pieces[TRT_SPARE_PIECES]; /* the oldest first */
} trt_spare;

/* `from`: the driver's memory on `device`; it stays as long as `spare`, at its place. */
void trt_spare_begin(trt_spare *spare, const trt_memory *from, int32_t device);
/* Gives all that lies idle back. What is in use then is given back to `from`. */
void trt_spare_end(trt_spare *spare);

#endif
