/* SPDX-License-Identifier: Apache-2.0 */
#include <kiln/precision.h>
#include <stdio.h>

#include "engine_cache.h"
#include "kln_engine.h"
#include "onnx/kln_onnx.h"

static kiln_status make_state(const kiln_backend *backend, const kiln_model *model,
                              const kiln_build_options *options, bool load,
                              const kiln_monitor *monitor, void **state)
{
    if (load && backend->engine.load != NULL) {
        return backend->engine.load(model, options, monitor, state);
    }
    if (backend->engine.build != NULL) {
        return backend->engine.build(model, options, monitor, state);
    }
    return kln_fail(KILN_ERROR_UNSUPPORTED,
                    "the %s backend builds no engine from a file; it is made by "
                    "kiln_engine_create_%s",
                    backend->name, backend->name);
}

/* Like make_state, with a profile for the shapes that the options announce. */
static kiln_status make_expected(const kiln_backend *backend, const kiln_backend_info *info,
                                 const kiln_model *model, const kiln_build_options *options,
                                 bool load, const kiln_monitor *monitor, void **state)
{
    const char *what = NULL;
    if ((options->shape_hint_count == 0 && options->profile_rows == 0) ||
        (info->capabilities & KILN_CAPABILITY_PROFILES) == 0 ||
        (load && kln_backend_of(model->bytes, &what) != NULL)) {
        return make_state(backend, model, options, load, monitor, state);
    }
    KLN_SCOPED(kln_arena_finish) kln_arena arena = {0};
    kiln_build_options expecting = *options;
    kiln_profile profile;
    KLN_RETURN_IF_ERROR(kln_profile_expected(model, options, &arena, &profile));
    expecting.profiles = &profile;
    expecting.profile_count = profile.input_count > 0 ? 1 : 0;
    return make_state(backend, model, &expecting, load, monitor, state);
}

/* Makes an engine of the backend's state, with the facts that only the model knows. */
static kiln_status take_over(const kiln_backend *backend, const kiln_backend_info *info,
                             void *state, const kiln_build_options *options,
                             const kiln_model *model, const char *path, kiln_engine **engine)
{
    KLN_SCOPED(kiln_engine_release_at) kiln_engine *made = NULL;
    KLN_RETURN_IF_ERROR(kln_engine_adopt(backend, info, state, options, path, &made));
    KLN_RETURN_IF_ERROR(kln_engine_read_model(made, model));
    *engine = KLN_TAKE(made);
    return KILN_OK;
}

kiln_status kln_engine_make_anew(const kiln_backend *backend, const kiln_backend_info *info,
                                 const kiln_model *model, const kiln_build_options *options,
                                 bool load, const kiln_monitor *monitor, kiln_engine **engine)
{
    const char *source = kln_model_name(model);
    kln_log(KILN_LOG_INFO, "engine", "%s: %s with %s %s", source, load ? "loading" : "building",
            info->name, info->version);
    const uint64_t begin = kln_now();
    void *state = NULL;
    kln_onnx_model *converted = NULL;
    kiln_precision_report *report = NULL;
    kiln_build_options told = *options;
    kiln_status status = load ? KILN_OK : kln_engine_convert(model, options, &converted, &report);
    if (report != NULL && backend->plan != NULL &&
        told.profiling_verbosity == KILN_PROFILING_DEFAULT) {
        told.profiling_verbosity = KILN_PROFILING_DETAILED; /* or the plan reports no types */
    }
    char name[PATH_MAX + KLN_PRINTED_SIZE];
    (void)snprintf(name, sizeof name, "%s in %s", source,
                   kln_option_words(kln_option_find("precision"))[options->precision]);
    const kiln_model changed = {
        .name = name, .graph = converted, .written = model->written, .timings = model->timings};
    const kiln_model *built = converted != NULL ? &changed : model;
    if (status == KILN_OK) {
        status = make_expected(backend, info, built, &told, load, monitor, &state);
        status = status == KILN_OK ? status : kln_engine_explain(status, built, options, backend);
    }
    KLN_THEN(status, take_over(backend, info, state, options, built, model->path, engine));
    kln_onnx_model_destroy(converted);
    if (status != KILN_OK) {
        kiln_precision_report_destroy(report);
        return status;
    }
    status =
        report != NULL ? kln_engine_achieve(*engine, report, options->precision_strict) : KILN_OK;
    if (status != KILN_OK) {
        kiln_engine_release(*engine);
        *engine = NULL;
        return kln_fail_within(status, "%s", source);
    }
    kln_log(KILN_LOG_INFO, "engine", "%s: ready after %.1f ms", source,
            (double)(kln_now() - begin) / 1e6);
    return KILN_OK;
}
