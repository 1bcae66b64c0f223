/* SPDX-License-Identifier: Apache-2.0 */
/* The peer on a GPU: ONNX Runtime's CUDA provider and the CUDA driver called directly, in each of
 * the forms that a run from and to host memory can have. */
#ifndef BENCH_RAW_CUDA_H
#define BENCH_RAW_CUDA_H

#include "raw_tensor.h"

typedef enum raw_form {
    RAW_DEFAULT,   /* host memory is bound and a run waits: what a program does without thinking */
    RAW_OWN_GRAPH, /* ONNX Runtime's own CUDA graphs, device memory bound, copies around the run on
                      the same stream, one wait */
    RAW_DEVICE,    /* a graph captured around the run, data in device memory already: no copies */
    RAW_COPIES,    /* the same with the copies from and to pinned memory inside */
    RAW_MAPPED     /* the same without copies: the device works on pinned memory */
} raw_form;

typedef struct raw_cuda raw_cuda;
typedef struct raw_session raw_session;

/* Opens ONNX Runtime at `library` and the driver. Ends the program with a sentence when something
 * fails, like all calls here. */
raw_cuda *raw_cuda_open(const char *library);
const char *raw_cuda_version(const raw_cuda *raw);

/* A session for runs of this form, bound and, for the graphs, captured, with memory of its own for
 * inputs, whose data is copied, and outputs. `settings` are options of
 * the CUDA provider, names and values in turns up to a NULL; NULL for none. A name with a dot is a
 * session's instead. */
raw_session *raw_cuda_load(raw_cuda *raw, const char *path, raw_form form,
                           const char *const *settings, const raw_tensor *inputs,
                           size_t input_count, const raw_tensor *outputs, size_t output_count);
void raw_cuda_run(raw_session *session);
/* The first output's bytes after a run, but for RAW_DEVICE. */
const void *raw_cuda_output(const raw_session *session);
void raw_cuda_unload(raw_session *session);

#endif
