/* SPDX-License-Identifier: Apache-2.0 */
/* The peer for TensorRT: a plan run by direct calls of the library and of the CUDA driver, in each
 * of the forms that a run from and to memory of the host can have.
 *
 * What it shares with Kiln is the table of slots, through which a C program calls TensorRT as
 * directly as C++ does; none of how Kiln runs a plan. Every call ends the program with a sentence
 * when something fails. */
#ifndef BENCH_RAW_TRT_H
#define BENCH_RAW_TRT_H

#include <stdbool.h>

#include "raw_tensor.h"

typedef enum raw_trt_form {
    RAW_TRT_PAGEABLE,   /* ordinary memory, copies and enqueueV3 on a stream, one wait */
    RAW_TRT_PINNED,     /* the same from and to pinned memory */
    RAW_TRT_COPIES,     /* a CUDA graph of that */
    RAW_TRT_MAPPED,     /* a graph without copies: the device works on pinned memory */
    RAW_TRT_MAPPED_IN,  /* inputs so, outputs copied in the graph */
    RAW_TRT_MAPPED_OUT, /* outputs so, inputs copied in the graph */
    RAW_TRT_DEVICE,     /* a graph over device memory: nothing is copied */
    RAW_TRT_FORMS
} raw_trt_form;

/* "raw_copies", ... */
extern const char *const raw_trt_names[RAW_TRT_FORMS];

typedef struct raw_trt raw_trt;
typedef struct raw_plan raw_plan;
typedef struct raw_context raw_context;

/* Opens TensorRT at `path`, a file, and the driver, and makes a runtime. */
raw_trt *raw_trt_open(const char *path);
int32_t raw_trt_version(const raw_trt *trt);

/* How a plan gets from its file to deserializeCudaEngine. */
typedef enum raw_trt_load {
    RAW_TRT_READ, /* read into memory: what a program does without thinking */
    RAW_TRT_MAP,  /* from the mapped file */
    RAW_TRT_LOADS
} raw_trt_load;

/* Deserializes a plan. */
raw_plan *raw_plan_load(raw_trt *trt, const char *path, raw_trt_load way);
void raw_plan_unload(raw_plan *plan);

/* A context for runs of this form, with memory of its own, run once and, for the graphs, captured.
 * Inputs whose shape the plan fixes need none of their own. */
raw_context *raw_context_create(raw_plan *plan, raw_trt_form form, const raw_tensor *inputs,
                                size_t input_count, const raw_tensor *outputs, size_t output_count);
void raw_context_run(raw_context *context);
/* Output `index` after a run, in memory of the host; not for RAW_TRT_DEVICE. */
const void *raw_context_output(const raw_context *context, size_t index);
void raw_context_destroy(raw_context *context);

#endif
