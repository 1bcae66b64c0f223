/*
 * trt_engine.h - a plan, and the engine it becomes where there is a GPU.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TRT_ENGINE_H
#define TRT_ENGINE_H

#include "backends/tensorrt/trt_builder.h"
#include "backends/tensorrt/trt_library.h"

typedef struct trt_engine {
    trt_library *library;
    int32_t device;
    kiln_span plan;         /* lies in one of the next three */
    trt_HostMemory *memory; /* of a build */
    kln_mapping mapping;    /* of a file */
    void *copy;             /* of bytes in memory */
    kln_arena arena;        /* of `built` */
    kln_description built;  /* what the network said, where the plan was built here */
    trt_Runtime *runtime;   /* NULL where the engine was only built, ahead of time */
    trt_CudaEngine *engine; /* likewise */
    trt_error_recorder recorder;
    char version[KLN_LIBRARY_VERSION];
} trt_engine;

/* Makes the runtime and deserializes the plan. NO_DEVICE where there is no GPU to do it on,
 * MALFORMED, MISMATCH, BACKEND. */
KILN_MUST_CHECK kiln_status trt_engine_deserialize(trt_engine *engine, const char *source);

/* The JSON that the engine's inspector gives for all layers, or for layer `index` (-1: all). Ends
 * with a zero; to be given to kln_free. STATE for an engine that is only built. */
KILN_MUST_CHECK kiln_status trt_engine_inspect(trt_engine *engine, int32_t index, char **json);

/* kln_backend.describe. */
KILN_MUST_CHECK kiln_status trt_describe(void *state, kln_description *description);

#endif
