/* SPDX-License-Identifier: Apache-2.0 */
/* A tensor as the peers are told of it. */
#ifndef BENCH_RAW_TENSOR_H
#define BENCH_RAW_TENSOR_H

#include <stddef.h>
#include <stdint.h>

typedef struct raw_tensor {
    const char *name;
    unsigned type; /* ONNXTensorElementDataType; TensorRT needs none */
    int64_t dims[8];
    size_t rank;
    size_t bytes;
    void *data; /* of an input, what it holds; of an output, as each call says */
} raw_tensor;

/* ONNXTensorElementDataType */
#define RAW_FLOAT32 1U
#define RAW_INT32 6U
#define RAW_INT64 7U
#define RAW_FLOAT16 10U

#endif
