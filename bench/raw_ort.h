/* SPDX-License-Identifier: Apache-2.0 */
/* The peer: ONNX Runtime called as its own documentation shows, without Kiln. */
#ifndef BENCH_RAW_ORT_H
#define BENCH_RAW_ORT_H

#include "raw_tensor.h"

typedef struct raw_ort raw_ort;

/* Opens the library at `path` and makes an environment. Ends the program with a sentence when that
 * fails, like all calls here: a benchmark without its peer measures nothing. */
raw_ort *raw_open(const char *path);

/* A session with one thread from a file, or from bytes when `path` is NULL. */
void raw_load(raw_ort *raw, const char *path, const void *bytes, size_t size);

/* Binds host memory: one input, one output. */
void raw_bind(raw_ort *raw, const raw_tensor *input, const raw_tensor *output);

/* One RunWithBinding. */
void raw_run(raw_ort *raw);

/* One Run, with a value made for each tensor and released after it. At most 256 inputs, 8 outputs;
 * where an output has no data ONNX Runtime finds memory, and tells address, rank and dims, valid
 * until the next call. */
void raw_run_feeds(raw_ort *raw, const raw_tensor *inputs, size_t input_count, raw_tensor *outputs,
                   size_t output_count);

void raw_unload(raw_ort *raw);

/* An ONNX model y = Identity(x) over 64 floats (IR 8, opset 17). */
extern const unsigned char identity_model[67];

#endif
