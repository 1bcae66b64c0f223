/* SPDX-License-Identifier: Apache-2.0 */
/* A context of Kiln's with memory for each input and output, filled with numbers. */
#ifndef BENCH_PLAN_FEED_H
#define BENCH_PLAN_FEED_H

#include <kiln/kiln.h>

#include "raw_tensor.h"

#define FEED_MOST 8
#define FEED_BATCHES 8

typedef struct feed_side {
    const char *name; /* the engine's */
    kiln_tensor tensor;
    size_t elements;
    kiln_buffer *buffer;
} feed_side;

typedef struct feed {
    kiln_context *context;
    feed_side inputs[FEED_MOST];
    feed_side outputs[FEED_MOST];
    size_t input_count;
    size_t output_count;
} feed;

/* A context whose inputs have the shapes of `shapes`, NAME=DIMS with N for `batch`, and numbers:
 * floating-point types from 0 to 1, others 1. Inputs and outputs are bound to buffers of
 * `location`. It has run once. */
void feed_open(feed *fed, kiln_engine *engine, kiln_location location, int64_t batch, char **shapes,
               size_t count);
void feed_close(feed *fed);

/* The same for the peer. `fed` is not in device memory, and must outlive them. */
void feed_raw(const feed *fed, raw_tensor *inputs, raw_tensor *outputs);

/* One run, as compare_ways wants it. */
void feed_run(void *fed);
/* Warms the context up and says on stderr which form of a run was kept, beside `what`; the number
 * of its CUDA graphs. */
uint64_t feed_warm_up(const feed *fed, const char *what);
/* The largest difference of output `index` from `direct`, in memory of the host, by the largest
 * value of that. `fed` is not in device memory. */
double feed_difference(const feed *fed, size_t index, const void *direct);

/* "1,8,32": how many. */
size_t feed_batches(char *text, int64_t *batches);

#endif
