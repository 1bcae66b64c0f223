/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of kiln_plan_table. */
#ifndef TRT_PLAN_H
#define TRT_PLAN_H

#include "seam/kln_seam.h"

/* trt_refit.c */
KILN_MUST_CHECK kiln_status trt_refit_count(void *engine, size_t *count);
KILN_MUST_CHECK kiln_status trt_refit_get(void *engine, size_t index, kiln_refit_weight *weight);
KILN_MUST_CHECK kiln_status trt_refit(void *engine, const kiln_named_tensor *weights, size_t count);
KILN_MUST_CHECK kiln_status trt_refit_model(void *engine, const kiln_model *model);

/* trt_memory.c */
KILN_MUST_CHECK kiln_status trt_plan_device_memory(void *engine, int32_t profile, uint64_t *bytes);
KILN_MUST_CHECK kiln_status trt_plan_gpu_memory(void *engine, kiln_gpu_memory *memory);
KILN_MUST_CHECK kiln_status trt_get_streaming(void *engine, kiln_weight_streaming *streaming);
KILN_MUST_CHECK kiln_status trt_set_streaming(void *engine, int64_t budget);

/* trt_context.c, trt_context_plan.c */
KILN_MUST_CHECK kiln_status trt_context_set_profile(void *context, int32_t profile);
int32_t trt_context_get_profile(void *context);
KILN_MUST_CHECK kiln_status trt_context_profile_layers(void *context, bool on);
KILN_MUST_CHECK kiln_status trt_context_layer(void *context, size_t index, kiln_layer_time *layer);
KILN_MUST_CHECK kiln_status trt_context_save_cache(void *context, const char *path);

/* trt_keep.c: the builders that are kept, of all libraries; how many there were. */
size_t trt_release_builders(void);
/* kiln_backend.timings. */
KILN_MUST_CHECK kiln_status trt_timings(const char *requested, int32_t device, kiln_span *copy);

/* trt_plugins.c */
KILN_MUST_CHECK kiln_status trt_plugin_load(const char *requested, const char *path);
KILN_MUST_CHECK kiln_status trt_plugin_count(const char *requested, size_t *count);
KILN_MUST_CHECK kiln_status trt_plugin_get(const char *requested, size_t index,
                                           kiln_plugin *plugin);

#endif
