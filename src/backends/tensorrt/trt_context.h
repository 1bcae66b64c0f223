/*
 * trt_context.h - running an engine.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TRT_CONTEXT_H
#define TRT_CONTEXT_H

#include "backends/tensorrt/trt_engine.h"

/* The operations of kln_backend. */
KILN_MUST_CHECK kiln_status trt_context_create(void *engine, const kiln_context_options *options,
                                               void **context);
void trt_context_destroy(void *context);
KILN_MUST_CHECK kiln_status trt_context_bind(void *context, size_t index,
                                             const kiln_tensor *tensor);
KILN_MUST_CHECK kiln_status trt_context_run(void *context);
KILN_MUST_CHECK kiln_status trt_context_output(void *context, size_t index, kiln_tensor *tensor);

#endif
