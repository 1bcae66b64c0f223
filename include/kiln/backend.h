/*
 * backend.h - the backends available here, and what each can do.
 *
 * A backend is TensorRT, ONNX Runtime, Kiln's own reference executor, or the mock, which passes
 * each run to a function of the caller's. Nothing is linked: a backend's library is looked for on
 * first use.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_BACKEND_H
#define KILN_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kiln/export.h>
#include <kiln/status.h>
#include <kiln/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Capabilities of a backend. A call that needs a missing one fails with KILN_ERROR_UNSUPPORTED and
 * its name. */
typedef enum kiln_capability {
    KILN_CAPABILITY_BUILD = 1 << 0,          /* builds engines from ONNX */
    KILN_CAPABILITY_RUN = 1 << 1,            /* runs engines on this machine */
    KILN_CAPABILITY_DYNAMIC_SHAPES = 1 << 2, /* shapes may change between runs without a profile */
    KILN_CAPABILITY_PROFILES = 1 << 3,       /* dynamic shapes need an optimization profile */
    KILN_CAPABILITY_DEVICE_MEMORY = 1 << 4,  /* bindings may be in device memory */
    KILN_CAPABILITY_STREAMS = 1 << 5,        /* enqueues work on a stream of the caller's */
    KILN_CAPABILITY_GRAPHS = 1 << 6,         /* runs can be captured into a CUDA graph */
    KILN_CAPABILITY_REFIT = 1 << 7,          /* weights can be replaced in a built engine */
    KILN_CAPABILITY_NATIVE_PLAN = 1 << 8     /* saves its own format instead of ONNX */
} kiln_capability;

/* A backend, as found on this machine. */
typedef struct kiln_backend_info {
    size_t struct_size; /* sizeof(kiln_backend_info), set by the caller */
    const char *name;   /* "tensorrt", "onnxruntime", "reference", "mock"; the name in options */
    const char *description; /* one line */
    bool available;          /* engines can be built and run with it here */
    int score; /* 0: not usable here; otherwise, if the caller names none, the highest score is
                  chosen */
    const char *version; /* of the library; "" if there is none */
    const char *library; /* path of the library that was opened; "" if there is none */
    const char *reason;  /* one sentence: why it is usable, or what is missing and how to fix it */
    uint32_t capabilities; /* bits of kiln_capability */
} kiln_backend_info;

/* The number of backends that this build of Kiln knows, usable or not. Any thread. Since 0.1. */
KILN_API size_t kiln_backend_count(void);

/* Describes backend `index`, from 0. Looks for its library if that has not been done yet; opening
 * one, and starting the GPU's driver, takes tenths of a second. Strings are static or valid as long
 * as the process. A backend that is not usable is not an error here. Errors: NULL_ARGUMENT;
 * INVALID_ARGUMENT if `index` is past the end or struct_size is too small. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_backend_get(size_t index, kiln_backend_info *info);

/* Describes the backend that would be chosen for `name`. For NULL, "" and "auto" that is the usable
 * one with the highest score; all libraries are looked for. If no name is given, the environment
 * variable KILN_BACKEND supplies one. Errors: NAME with the names that exist; LIBRARY_* or
 * UNSUPPORTED with the reason, if a named backend is not usable. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_backend_choose(const char *name, kiln_backend_info *info);

#ifdef __cplusplus
}
#endif

#endif
