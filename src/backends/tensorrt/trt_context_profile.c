/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "backends/tensorrt/trt_context.h"

/* Finds the first input whose shape is outside a profile, and the profile's range for it; NULL if
 * all are inside. */
static const trt_binding *find_outside(const trt_context *self, int32_t profile, trt_Dims *least,
                                       trt_Dims *most)
{
    const trt_abi *abi = &self->engine->library->abi;
    for (size_t i = 0; i < self->input_count; i++) {
        const trt_binding *s = &self->slots[i];
        *least = trt_CudaEngine_getProfileShape(abi, self->engine->engine, s->name, profile,
                                                trt_value(abi, TRT_V_OptProfileSelector_MIN));
        *most = trt_CudaEngine_getProfileShape(abi, self->engine->engine, s->name, profile,
                                               trt_value(abi, TRT_V_OptProfileSelector_MAX));
        for (int32_t d = 0; d < s->tensor.desc.shape.rank && d < least->nbDims; d++) {
            const int64_t size = s->tensor.desc.shape.dims[d];
            if (size < least->d[d] || size > most->d[d]) {
                return s;
            }
        }
    }
    return NULL;
}

static bool in_profile(const trt_context *self, int32_t profile)
{
    trt_Dims least;
    trt_Dims most;
    return find_outside(self, profile, &least, &most) == NULL;
}

/* How many profiles an error message lists. */
#define MOST_TOLD 8

/* Lists the ranges of the profiles from `first` on, for the inputs that are outside of them. */
static kiln_status fail_outside(const trt_context *self, int32_t first, int32_t count,
                                const char *of_how_many)
{
    KLN_SCOPED(kln_text_finish) kln_text text;
    const trt_binding *told = NULL;
    kln_text_init(&text, 4096);
    for (int32_t i = 0; i < count && i < MOST_TOLD; i++) {
        trt_Dims dims[2];
        const int32_t profile = (first + i) % self->profile_count;
        const trt_binding *s = find_outside(self, profile, &dims[0], &dims[1]);
        const kiln_shape least = trt_shape(&dims[0]);
        const kiln_shape most = trt_shape(&dims[1]);
        if (s != told) {
            KLN_RETURN_IF_ERROR(kln_text_printf(&text, "%s\"%s\" is %s, and", i > 0 ? "; " : "",
                                                s->name, KLN_SHAPE_PRINTED(&s->tensor.desc.shape)));
        }
        KLN_RETURN_IF_ERROR(kln_text_printf(&text, "%s profile %d takes %s to %s",
                                            s == told ? "," : "", profile,
                                            KLN_SHAPE_PRINTED(&least), KLN_SHAPE_PRINTED(&most)));
        told = s;
    }
    return kln_fail(KILN_ERROR_SHAPE, "the input shapes are in %s: %s%s", of_how_many, text.data,
                    count > MOST_TOLD ? ", ..." : "");
}

/* Switches on the stream of the run, because a switch may enqueue copies that the run depends
 * on. */
static kiln_status switch_profile(trt_context *self, int32_t chosen, const kiln_stream *stream)
{
    if (chosen == self->profile) {
        return KILN_OK;
    }
    KLN_FAIL_IF(!trt_ExecutionContext_setOptimizationProfileAsync(
                    &self->engine->library->abi, self->object, chosen, kiln_stream_handle(stream)),
                trt_fail(KILN_ERROR_BACKEND, &self->recorder, "optimization profile %d", chosen));
    self->profile = chosen;
    for (size_t i = 0; i < self->input_count; i++) {
        self->slots[i].reshaped = true;
    }
    return KILN_OK;
}

/* Switching costs time, so the current profile stays while the shapes fit it. */
static kiln_status find_profile(trt_context *self, const kiln_stream *stream)
{
    if (self->fixed_profile >= 0) {
        return in_profile(self, self->fixed_profile)
                   ? switch_profile(self, self->fixed_profile, stream)
                   : fail_outside(self, self->fixed_profile, 1,
                                  "another optimization profile than kiln_context_set_profile "
                                  "asked for");
    }
    int32_t chosen = -1;
    for (int32_t i = 0; i < self->profile_count && chosen < 0; i++) {
        const int32_t candidate = (self->profile + i) % self->profile_count;
        chosen = in_profile(self, candidate) ? candidate : -1;
    }
    if (chosen < 0 && self->profile_count > 0) {
        char which[80];
        (void)snprintf(which, sizeof which,
                       self->profile_count == 1
                           ? "no optimization profile of the plan"
                           : "none of the %d optimization profiles of the plan",
                       self->profile_count);
        return fail_outside(self, 0, self->profile_count, which);
    }
    return chosen >= 0 ? switch_profile(self, chosen, stream) : KILN_OK;
}

kiln_status trt_context_choose_profile(trt_context *self, const kiln_stream *stream)
{
    if (!self->has_profile) {
        KLN_RETURN_IF_ERROR(find_profile(self, stream));
        self->has_profile = true;
    }
    return KILN_OK;
}

/* --- run --- */
