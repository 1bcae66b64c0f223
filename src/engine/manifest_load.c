/* SPDX-License-Identifier: Apache-2.0 */
/* What a manifest determines when its engine is loaded. */
#include <inttypes.h>
#include <stdio.h>

#include "cuda/kln_cuda.h"
#include "kln_engine.h"

kiln_status kln_manifest_check_file(const kln_manifest *manifest, const char *path)
{
    const char *name = path != NULL ? path : "a model in memory";
    char advice[PATH_MAX + 32] = "load it without the manifest";
    if (path != NULL) {
        (void)snprintf(advice, sizeof advice, "delete \"%s" KLN_MANIFEST_SUFFIX "\"", path);
    }
    KLN_RETURN_IF(manifest->size != manifest->found_size, KILN_ERROR_MISMATCH,
                  "\"%s\": %" PRIu64 " bytes were found, its manifest says %" PRIu64
                  "; the file was cut or replaced: save the engine again, or %s",
                  name, manifest->found_size, manifest->size, advice);
    KLN_RETURN_IF(manifest->hash != manifest->found_hash, KILN_ERROR_MISMATCH,
                  "\"%s\": its hash is %016" PRIx64 ", its manifest says %016" PRIx64
                  "; the file was changed: save the engine again, or %s",
                  name, manifest->found_hash, manifest->hash, advice);
    return KILN_OK;
}

static bool is_refusal(kiln_status status)
{
    return status == KILN_ERROR_MALFORMED || status == KILN_ERROR_MISMATCH ||
           status == KILN_ERROR_BACKEND || status == KILN_ERROR_UNSUPPORTED;
}

kiln_status kln_manifest_explain(kiln_status status, const kln_manifest *manifest,
                                 const kiln_build_options *options)
{
    if (!is_refusal(status) || !manifest->is_plan) {
        return status;
    }
    char why[1024];
    (void)snprintf(why, sizeof why, "%s", kiln_error_message());
    const kiln_backend *backend = NULL;
    kiln_backend_info info = {.struct_size = sizeof info};
    KLN_RETURN_IF(
        kln_backend_select(manifest->backend, options->library, &backend, &info) == KILN_OK &&
            strcmp(info.version, manifest->backend_version) != 0,
        KILN_ERROR_MISMATCH,
        "it was built version compatible with %s %s, and %s does not take it; build it again from "
        "the model or install that version: %s",
        manifest->backend, manifest->backend_version, info.version, why);
    kiln_device_info here = {.struct_size = sizeof here};
    KLN_RETURN_IF(manifest->gpu_capability != 0 &&
                      kln_cuda_device_info(options->device, &here) == KILN_OK &&
                      here.compute_major * 10 + here.compute_minor != manifest->gpu_capability,
                  KILN_ERROR_MISMATCH,
                  "it was built for %s of compute capability %d.%d, device %d is %s of %d.%d; "
                  "build it again from the model: %s",
                  manifest->gpu[0] != '\0' ? manifest->gpu : "a GPU", manifest->gpu_capability / 10,
                  manifest->gpu_capability % 10, options->device, here.name, here.compute_major,
                  here.compute_minor, why);
    return kln_fail(status, "%s", why);
}

void kln_manifest_apply(const kln_manifest *manifest, kiln_build_options *options)
{
    const kiln_provider provider =
        options->provider != KILN_PROVIDER_DEFAULT ? options->provider : manifest->options.provider;
    for (const kln_option *option = kln_options; option->groups != 0; option++) {
        const bool of_gpu = (option->groups & KLN_OPTIONS_CUDA) != 0;
        if (option->shown.saved && (!of_gpu || provider == KILN_PROVIDER_CUDA) &&
            !kln_option_is_set(option, options)) {
            kln_option_set_number(option, kln_option_number(option, &manifest->options), options);
        }
    }
}

/* For a backend's own format the versions must be equal, unless the plan was built version
 * compatible: then the library decides. A model in ONNX is built again with the saved options. */
static kiln_status settle_backend(const kln_manifest *manifest, const char *name,
                                  kiln_build_options *options)
{
    kiln_backend_info info = {.struct_size = sizeof info};
    const kiln_backend *backend = NULL;
    const kiln_status status =
        kln_backend_select(options->backend, options->library, &backend, &info);
    KLN_RETURN_IF(status == KILN_ERROR_NAME, KILN_ERROR_MISMATCH,
                  "\"%s\": it was built with the backend \"%s\", which this libkiln does not have",
                  name, manifest->backend);
    KLN_RETURN_IF_ERROR(status);
    if (strcmp(info.name, manifest->backend) != 0) {
        return KILN_OK;
    }
    options->strip_plan = options->strip_plan || manifest->options.strip_plan;
    options->refit = options->refit != KILN_REFIT_NONE ? options->refit : manifest->options.refit;
    if ((info.capabilities & KILN_CAPABILITY_NATIVE_PLAN) == 0) {
        kln_manifest_apply(manifest, options);
    } else if (strcmp(info.version, manifest->backend_version) != 0 &&
               !manifest->options.version_compatible) {
        return kln_fail(KILN_ERROR_MISMATCH,
                        "\"%s\": it was built with %s %s, and %s %s is installed here; build it "
                        "again from the model or install that version",
                        name, manifest->backend, manifest->backend_version, info.name,
                        info.version);
    }
    return KILN_OK;
}

kiln_status kln_manifest_restore(const kln_manifest *manifest, kiln_engine *engine)
{
    engine->shared.measured->variants = manifest->measured;
    KLN_RETURN_IF_ERROR(kln_quantization_restore(engine, manifest->quantization));
    return kln_weight_shapes_restore(engine, manifest->weight_shapes);
}

kiln_status kln_manifest_obey(const kln_manifest *manifest, const kiln_model *model,
                              kiln_build_options *options)
{
    if (manifest->backend[0] != '\0') {
        KLN_RETURN_IF_ERROR(kln_manifest_check_file(manifest, model->path));
        if (options->backend == NULL || options->backend[0] == '\0') {
            options->backend = manifest->backend;
        }
        KLN_RETURN_IF_ERROR(settle_backend(manifest, kln_model_name(model), options));
    }
    if (options->backend == NULL || options->backend[0] == '\0') {
        const char *what = NULL;
        const kiln_backend *owner = kln_backend_of(model->bytes, &what);
        options->backend = owner != NULL ? owner->name : NULL;
    }
    return KILN_OK;
}
