/* SPDX-License-Identifier: Apache-2.0 */
/* The peer: ONNX Runtime called as its own documentation shows, without Kiln. */
#ifndef BENCH_RAW_ORT_H
#define BENCH_RAW_ORT_H

#include <stddef.h>
#include <stdint.h>

typedef struct raw_ort raw_ort;

/* Opens the library at `path` and makes an environment. Ends the program with a sentence when that
 * fails, like all calls here: a benchmark without its peer measures nothing. */
raw_ort *raw_open(const char *path);

/* A session with one thread from a file, or from bytes when `path` is NULL. */
void raw_load(raw_ort *raw, const char *path, const void *bytes, size_t size);

/* Binds host memory of `bytes` bytes; `type` is an ONNXTensorElementDataType. */
void raw_bind_input(raw_ort *raw, const char *name, void *data, size_t bytes, const int64_t *dims,
                    size_t rank, unsigned type);
void raw_bind_output(raw_ort *raw, const char *name, void *data, size_t bytes, const int64_t *dims,
                     size_t rank, unsigned type);

/* One RunWithBinding. */
void raw_run(raw_ort *raw);

/* A tensor of one run. */
typedef struct raw_feed {
    const char *name;
    void *data; /* NULL for an output: ONNX Runtime finds memory, and tells where */
    size_t bytes;
    int64_t dims[8];
    size_t rank;
    unsigned type; /* an ONNXTensorElementDataType */
} raw_feed;

/* One Run, with a value made for each tensor and released after it. At most 256 inputs, 8 outputs;
 * an output without data gets address, rank and dims, valid until the next call. */
void raw_run_feeds(raw_ort *raw, const raw_feed *inputs, size_t input_count, raw_feed *outputs,
                   size_t output_count);

void raw_unload(raw_ort *raw);

/* An ONNX model y = Identity(x) over 64 floats (IR 8, opset 17). */
extern const unsigned char identity_model[67];

#endif
