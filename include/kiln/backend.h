/*
 * backend.h - what can run a network here: list the backends, ask what each can do, and play one
 * yourself.
 *
 * A backend is TensorRT, ONNX Runtime, Kiln's own reference executor, or the mock, which hands each
 * run to a function of the caller's. Nothing is linked: a backend's library is looked for when it
 * is first asked for.
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

/* What a backend can do. A call that needs an absent one fails with KILN_ERROR_UNSUPPORTED and its
 * name. */
typedef enum kiln_capability {
    KILN_CAPABILITY_BUILD = 1 << 0,          /* builds an engine from ONNX */
    KILN_CAPABILITY_RUN = 1 << 1,            /* executes an engine on this machine */
    KILN_CAPABILITY_DYNAMIC_SHAPES = 1 << 2, /* shapes may change between runs without a profile */
    KILN_CAPABILITY_PROFILES = 1 << 3,       /* dynamic shapes need an optimization profile */
    KILN_CAPABILITY_DEVICE_MEMORY = 1 << 4,  /* bindings may lie in device memory */
    KILN_CAPABILITY_STREAMS = 1 << 5,        /* work is enqueued on a stream of the caller's */
    KILN_CAPABILITY_GRAPHS = 1 << 6,         /* a run can be captured into a CUDA graph */
    KILN_CAPABILITY_REFIT = 1 << 7,          /* weights can be replaced in a built engine */
    KILN_CAPABILITY_NATIVE_PLAN = 1 << 8     /* saves a format of its own instead of ONNX */
} kiln_capability;

/* One backend, as it was found on this machine. */
typedef struct kiln_backend_info {
    size_t struct_size; /* sizeof(kiln_backend_info), set by the caller */
    const char *name; /* "tensorrt", "onnxruntime", "reference", "mock"; what options name it by */
    const char *description; /* one line */
    bool available;          /* an engine can be built and run with it here */
    int score; /* 0: not usable here; else the highest is chosen where the caller names none */
    const char *version;   /* of the library, "" when there is none */
    const char *library;   /* path of the library that was opened, "" when there is none */
    const char *reason;    /* one sentence: why it is usable, or what is missing and what to do */
    uint32_t capabilities; /* of kiln_capability */
} kiln_backend_info;

/* How many backends this build of Kiln knows, usable or not. Any thread. Since 0.1. */
KILN_API size_t kiln_backend_count(void);

/* Describes backend `index`, from 0, looking for its library if nobody did so yet: to open one, and
 * to start the GPU's driver, takes tenths of a second. The strings are static or live as long as
 * the process. Errors: NULL_ARGUMENT; INVALID_ARGUMENT past the end or for a struct_size that is
 * too small. That a backend is not usable is not an error here. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_backend_get(size_t index, kiln_backend_info *info);

/* The backend that would be chosen for `name`: that one, or for NULL, "" and "auto" the usable one
 * with the highest score, for which all libraries are looked for. The environment variable
 * KILN_BACKEND takes the place of a name that is not given. Errors: NAME with the names there are;
 * LIBRARY_* or UNSUPPORTED with the reason when the one that was named is not usable. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_backend_choose(const char *name, kiln_backend_info *info);

#ifdef __cplusplus
}
#endif

#endif
