/* SPDX-License-Identifier: Apache-2.0 */
/* ONNX Runtime as an open library: its table, its environment, and the translation of its
 * errors. */
#ifndef KLN_ORT_RUNTIME_H
#define KLN_ORT_RUNTIME_H

#include "ort_api.h"
#include "seam/kln_seam.h"

/* One ONNX Runtime, or why there is none. Made once for each place that is asked for and never
 * changed or released: the library keeps threads of its own, and closing it under them is fatal. */
typedef struct ort_runtime {
    ort_api api;
    OrtEnv *env;
    OrtAllocator *allocator;           /* the library's own, for strings that it returns */
    OrtMemoryInfo *host;               /* ordinary memory */
    kln_library *library;              /* what the search found */
    kln_library *provider;             /* the CUDA provider beside it, or that there is none */
    kiln_status status;                /* KILN_OK: everything above is there */
    char reason[768];                  /* one sentence, either way */
    char version[KLN_LIBRARY_VERSION]; /* "1.31.1", or "" */
    char wanted[PATH_MAX];             /* the place that was asked for, "" for the usual ones */
} ort_runtime;

#define ORT_ENVIRONMENT "KILN_ONNXRUNTIME"
extern const kln_library_spec ort_library_spec;

/* The runtime for `library` (a path or folder; NULL: the usual places), opened or not: its status
 * says which. Any thread. OUT_OF_MEMORY, or LIMIT when too many different places were asked for. */
KILN_MUST_CHECK kiln_status ort_runtime_look(const char *library, const ort_runtime **runtime);

/* The same, failing with the runtime's sentence when it is not open. */
KILN_MUST_CHECK kiln_status ort_runtime_open(const char *library, const ort_runtime **runtime);

/* Whether one was opened that is newer than what Kiln has its kernels of (ort_lacks.h). */
bool ort_runtime_is_newer(void);

/* --- CUDA's libraries (ort_cuda_parts.c) --- */

/* How many a CUDA provider uses, and room for the words about those that are missing. */
#define ORT_CUDA_PARTS 7
#define ORT_CUDA_MISSING 384

/* Looks for the CUDA provider beside the library at the path `library`, "" where that is not open;
 * ONNX Runtime opens it itself. NULL: no memory. */
kln_library *ort_cuda_look(const char *library);

/* The library `index`, from 0, that the CUDA provider beside `runtime` uses; looks for it and opens
 * it if nobody did so yet. False past the end and where there is no such provider. Any thread. */
bool ort_cuda_part(const ort_runtime *runtime, size_t index, kln_library_use *use);

/* What the report says of the provider itself. */
kln_library_use ort_cuda_provider(const ort_runtime *runtime);

/* Opens all of them, and writes what is absent or broken, or "". */
void ort_cuda_open_parts(const ort_runtime *runtime, char missing[ORT_CUDA_MISSING]);

/* --- errors (ort_status.c) --- */

/* What a code and message of ONNX Runtime are in Kiln's terms. */
kiln_status ort_classify(ort_error_code code, const char *message);

/* Fails with ONNX Runtime's own words after a context, and releases `status`. */
KILN_MUST_CHECK kiln_status ort_fail(const ort_runtime *runtime, OrtStatus *status,
                                     const char *format, ...) KLN_PRINTF(3, 4);

/* KILN_OK for NULL, else ort_fail with a fixed context. */
KILN_MUST_CHECK kiln_status ort_check(const ort_runtime *runtime, OrtStatus *status,
                                      const char *context);

/* Gives back what its allocator gave; NULL is allowed. */
void ort_free(const ort_runtime *runtime, void *memory);

/* --- data types (ort_status.c) --- */

/* The type and shape of a value; of more than KILN_MAX_RANK dimensions the rank alone. */
OrtStatus *ort_describe_value(const ort_api *api, const OrtValue *value, kiln_tensor_desc *desc);

/* KILN_DTYPE_UNDEFINED where there is no match. */
kiln_dtype ort_dtype(ort_element_type type);
/* 0 where there is no match. */
ort_element_type ort_element(kiln_dtype dtype);

#endif
