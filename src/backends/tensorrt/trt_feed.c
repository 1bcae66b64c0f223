/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/tensorrt/trt_builder.h"

kiln_status trt_profile_names(const kiln_build_options *options, kln_names *names)
{
    for (size_t i = 0; i < options->profile_count; i++) {
        const kiln_profile *profile = &options->profiles[i];
        for (size_t k = 0; profile->inputs != NULL && k < profile->input_count; k++) {
            if (profile->inputs[k].name != NULL) {
                KLN_RETURN_IF_ERROR(kln_names_set(names, profile->inputs[k].name, (uint32_t)i));
            }
        }
    }
    return KILN_OK;
}

/* Leaves those in `names` that are inputs of the graph: what is read of them is no constant. */
static kiln_status keep_inputs(const kln_onnx_graph *graph, const kln_names *profiled,
                               kln_names *fed)
{
    for (size_t i = 0; i < graph->input_count; i++) {
        if (kln_names_get(profiled, graph->inputs[i].name) != KLN_NAMES_NONE) {
            KLN_RETURN_IF_ERROR(kln_names_set(fed, graph->inputs[i].name, (uint32_t)i));
        }
    }
    return KILN_OK;
}

/* The model without the initializers that are fed. */
static kiln_status leave_out(trt_build *build, const kln_names *fed, const kln_onnx_model *from,
                             const kln_onnx_model **onnx)
{
    const kln_onnx_tensor *initializers = from->graph.initializers;
    const size_t count = from->graph.initializer_count;
    const char *first = NULL;
    for (size_t i = 0; i < count && first == NULL; i++) {
        const bool is_fed = kln_names_get(fed, initializers[i].name) != KLN_NAMES_NONE;
        first = is_fed ? initializers[i].name : NULL;
    }
    if (first == NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF(from->ir_version < KLN_ONNX_IR_OF_OPTIONAL_INPUTS, KILN_ERROR_NAME,
                  "%s: \"%s\" has a value in the model, which is of IR version %lld: before "
                  "version %d that is a constant, and nobody feeds it; save the model with a "
                  "later IR version, or leave \"%s\" out of shapes and profiles",
                  build->source, first, (long long)from->ir_version, KLN_ONNX_IR_OF_OPTIONAL_INPUTS,
                  first);
    if (build->rewritten == NULL) {
        KLN_RETURN_IF_ERROR(kln_onnx_model_share(from, &build->rewritten));
    }
    kln_onnx_graph *made = &build->rewritten->graph;
    KLN_RETURN_IF_ERROR(kln_onnx_copy_initializers(&build->rewritten->arena, made));
    made->initializer_count = 0;
    for (size_t i = 0; i < count; i++) {
        const kln_onnx_tensor *tensor = &initializers[i];
        if (kln_names_get(fed, tensor->name) == KLN_NAMES_NONE) {
            made->initializers[made->initializer_count++] = *tensor;
        } else {
            kln_log(KILN_LOG_INFO, "tensorrt",
                    "%s: \"%s\" has a value in the model and is an input "
                    "of the engine, because a profile or shape names it",
                    build->source, tensor->name);
        }
    }
    *onnx = build->rewritten;
    return KILN_OK;
}

kiln_status trt_feed(trt_build *build, const kln_onnx_model **onnx)
{
    const kln_onnx_model *from = *onnx != NULL ? *onnx : build->onnx;
    if (build->options->profile_count == 0 || from == NULL) {
        return KILN_OK;
    }
    KLN_SCOPED(kln_names_finish) kln_names profiled = {0};
    KLN_SCOPED(kln_names_finish) kln_names fed = {0};
    KLN_RETURN_IF_ERROR(trt_profile_names(build->options, &profiled));
    KLN_RETURN_IF_ERROR(keep_inputs(&from->graph, &profiled, &fed));
    return leave_out(build, &fed, from, onnx);
}
