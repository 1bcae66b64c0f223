/* SPDX-License-Identifier: Apache-2.0 */
/* A context of Kiln's with memory for each input and output, filled with numbers. */
#ifndef BENCH_PLAN_FEED_H
#define BENCH_PLAN_FEED_H

#include <kiln/kiln.h>

#include "raw_trt.h"

#define FEED_MOST 8

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

/* Ends the program with Kiln's sentence where `status` is an error. */
void feed_require(kiln_status status);
/* Or the end of the program. */
void *feed_allocate(size_t bytes);

/* A context whose inputs have the shapes of `shapes`, NAME=DIMS with N for `batch`, and numbers:
 * floating-point types from 0 to 1, others 1. Inputs and outputs are bound to buffers of
 * `location`. It has run once. */
void feed_open(feed *fed, kiln_engine *engine, kiln_location location, int64_t batch, char **shapes,
               size_t count);
void feed_close(feed *fed);

/* The same for the peer. `fed` is not in device memory, and must outlive them. */
void feed_raw(const feed *fed, raw_tensor *inputs, raw_tensor *outputs);

#endif
