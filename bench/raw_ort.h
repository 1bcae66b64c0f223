/*
 * raw_ort.h - the peer: ONNX Runtime called as its own documentation shows, without Kiln.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
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

void raw_unload(raw_ort *raw);

/* An ONNX model y = Identity(x) over 64 floats (IR 8, opset 17). */
extern const unsigned char identity_model[67];

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t bench_now(void);

/* The value in the middle; sorts `values`. */
double bench_median(double *values, size_t count);

#endif
