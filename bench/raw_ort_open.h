/* SPDX-License-Identifier: Apache-2.0 */
/* ONNX Runtime opened by its peers, raw_ort.c and raw_cuda.c. */
#ifndef BENCH_RAW_ORT_OPEN_H
#define BENCH_RAW_ORT_OPEN_H

/* The list of slots is Kiln's one fact shared with its peer; none of its code is. */
#include "backends/onnxruntime/ort_api.h"

/* Fills in the table and makes an environment that says no more than errors, to nobody. `version`
 * is the library's, or NULL where it is not wanted. */
OrtEnv *raw_ort_open(const char *path, ort_api *api, const char **version);

/* Ends the program with ONNX Runtime's sentence where `status` is an error. */
void raw_ort_check(const ort_api *api, OrtStatus *status);

#endif
