/* SPDX-License-Identifier: Apache-2.0 */
#include "ort_engine.h"
#include "ort_lacks.h"
#include "ort_rewrite.h"

/* --- probe --- */

static kiln_status probe(const char *library, kiln_backend_info *info)
{
    const ort_runtime *runtime = NULL;
    const kiln_status status = ort_runtime_look(library, &runtime);
    if (status != KILN_OK) {
        info->reason = "ONNX Runtime could not be looked for";
        return status;
    }
    info->version = runtime->version;
    info->library = kln_library_path(runtime->library);
    info->reason = runtime->reason;
    if (runtime->status == KILN_OK) {
        info->available = true;
        info->score = 50;
        info->capabilities =
            KILN_CAPABILITY_BUILD | KILN_CAPABILITY_RUN | KILN_CAPABILITY_DYNAMIC_SHAPES;
    }
    return runtime->status;
}

static bool library_use(size_t index, kln_library_use *use)
{
    const ort_runtime *runtime = NULL;
    if (ort_runtime_look(NULL, &runtime) != KILN_OK) {
        return false;
    }
    if (index > 1) {
        return ort_cuda_part(runtime, index - 2, use);
    }
    *use = index == 1 ? ort_cuda_provider(runtime)
                      : (kln_library_use){&ort_library_spec, runtime->library, runtime->version};
    return true;
}

/* --- the table --- */

static kiln_status build(const kiln_model *model, const kiln_build_options *options,
                         const kiln_monitor *monitor, void **engine)
{
    const ort_runtime *runtime = NULL;
    ort_engine *made = NULL;
    *engine = NULL;
    KLN_RETURN_IF_ERROR(ort_cuda_check_options(options));
    KLN_RETURN_IF_ERROR(ort_runtime_open(options->library, &runtime));
    KLN_RETURN_IF_ERROR(ort_engine_make(runtime, model, options, monitor, &made));
    *engine = made;
    return KILN_OK;
}

const kiln_backend kln_backend_onnxruntime = {
    .struct_size = sizeof(kiln_backend),
    .name = "onnxruntime",
    .description = "ONNX Runtime on the CPU, or on a GPU with its CUDA provider",
    .options = KLN_OPTIONS_ONNXRUNTIME | KLN_OPTIONS_CUDA,
    .environment = ORT_ENVIRONMENT,
    .binds_strings = true,
    .lacks = ort_lacks,
    .newest_ir = ORT_NEWEST_IR,
    .unique_node_names = true,
    .refit = &ort_refit_operations,
    .probe = probe,
    .library = library_use,
    .engine = {.build = build,
               .variant_count = ORT_VARIANTS,
               .variant = ort_variant,
               .serialize = ort_serialize,
               .describe = ort_describe,
               .destroy = ort_engine_destroy,
               .device = ort_cuda_device,
               .stream = ort_cuda_stream,
               .no_capture = ort_cuda_no_capture},
    .context = {.create = ort_context_create,
                .destroy = ort_context_destroy,
                .bind = ort_context_bind,
                .run = ort_context_run,
                .raw = ort_context_raw,
                .stop = ort_context_stop,
                .output = ort_context_output,
                .time_layers = ort_context_time,
                .layer_time = ort_context_layer,
                .enqueue = ort_context_enqueue},
};
