/* SPDX-License-Identifier: Apache-2.0 */
#include <kiln/plan.h>

#include "kln_engine.h"

static kiln_status need_plan(const kiln_engine *engine, const char *function)
{
    KLN_RETURN_IF(engine->shared.backend->plan == NULL, KILN_ERROR_UNSUPPORTED,
                  "%s: only an engine of TensorRT has this, and this one is of the %s backend",
                  function, engine->shared.backend->name);
    return kln_engine_check_process(engine, function);
}

#define RETURN_IF_NO_PLAN(engine) KLN_RETURN_IF_ERROR(need_plan((engine), __func__))

/* --- what a plan reports about itself --- */

size_t kiln_engine_profile_count(const kiln_engine *engine)
{
    return engine != NULL ? engine->shared.description.profile_count : 0;
}

static kiln_status check_profile(const kiln_engine *engine, int64_t profile, int64_t least)
{
    const size_t count = engine->shared.description.profile_count;
    KLN_RETURN_IF(profile < least || (profile >= 0 && (uint64_t)profile >= (count > 0 ? count : 1)),
                  KILN_ERROR_INVALID_ARGUMENT,
                  "optimization profile %lld was asked for, there %s %zu", (long long)profile,
                  count == 1 ? "is" : "are", count);
    return KILN_OK;
}

kiln_status kiln_engine_profile(const kiln_engine *engine, size_t index, kiln_profile *profile)
{
    KLN_RETURN_IF_NULL(engine, profile);
    KLN_RETURN_IF(index >= engine->shared.description.profile_count, KILN_ERROR_INVALID_ARGUMENT,
                  "optimization profile %zu was asked for, there are %zu", index,
                  engine->shared.description.profile_count);
    *profile = engine->shared.description.profiles[index];
    return KILN_OK;
}

kiln_status kiln_engine_inspect(kiln_engine *engine, const char **json)
{
    KLN_RETURN_IF_NULL_RESULT(json, engine);
    RETURN_IF_NO_PLAN(engine);
    kiln_status status = KILN_OK;
    KLN_LOCKED(&engine->inspecting);
    if (engine->inspection == NULL) {
        status = engine->shared.backend->plan->inspect(engine->shared.state, &engine->inspection);
    }
    *json = engine->inspection;
    return status;
}

kiln_status kiln_engine_device_memory(kiln_engine *engine, int32_t profile, uint64_t *bytes)
{
    KLN_RETURN_IF_NULL(engine, bytes);
    *bytes = 0;
    RETURN_IF_NO_PLAN(engine);
    KLN_RETURN_IF_ERROR(check_profile(engine, profile, -1));
    return engine->shared.backend->plan->device_memory(engine->shared.state, profile, bytes);
}

kiln_status kiln_engine_gpu_memory(kiln_engine *engine, kiln_gpu_memory *memory)
{
    KLN_RETURN_IF_NULL(engine, memory);
    RETURN_IF_NO_PLAN(engine);
    kiln_gpu_memory found = {.struct_size = sizeof found};
    KLN_RETURN_IF_ERROR(engine->shared.backend->plan->gpu_memory(engine->shared.state, &found));
    return kln_info_write(__func__, memory, &found, sizeof found);
}

/* --- weight streaming --- */

kiln_status kiln_engine_get_weight_streaming(kiln_engine *engine, kiln_weight_streaming *streaming)
{
    KLN_RETURN_IF_NULL(engine, streaming);
    RETURN_IF_NO_PLAN(engine);
    kiln_weight_streaming found = {.struct_size = sizeof found};
    KLN_RETURN_IF_ERROR(engine->shared.backend->plan->get_streaming(engine->shared.state, &found));
    return kln_info_write(__func__, streaming, &found, sizeof found);
}

kiln_status kiln_engine_set_weight_streaming(kiln_engine *engine, int64_t budget_bytes)
{
    KLN_RETURN_IF_NULL(engine);
    RETURN_IF_NO_PLAN(engine);
    return engine->shared.backend->plan->set_streaming(engine->shared.state, budget_bytes);
}

/* --- contexts --- */

static kiln_status enter_plan(kiln_context *context, const char *function,
                              const kiln_plan_table **plan)
{
    const kiln_engine *engine = context->engine;
    KLN_RETURN_IF_ERROR(need_plan(engine, function));
    *plan = engine->shared.backend->plan;
    return kln_context_enter(context, function);
}

kiln_status kiln_context_set_profile(kiln_context *context, int32_t profile)
{
    const kiln_plan_table *plan = NULL;
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_ERROR(need_plan(context->engine, __func__));
    KLN_RETURN_IF_ERROR(check_profile(context->engine, profile, -1));
    KLN_RETURN_IF_ERROR(enter_plan(context, __func__, &plan));
    kln_exec_forget(context->exec);
    return kln_context_leave(context, plan->set_profile(kln_exec_state(context->exec), profile));
}

kiln_status kiln_context_get_profile(kiln_context *context, int32_t *profile)
{
    const kiln_plan_table *plan = NULL;
    KLN_RETURN_IF_NULL(profile);
    *profile = -1;
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_ERROR(enter_plan(context, __func__, &plan));
    if (context->engine->shared.description.profile_count > 0) {
        *profile = plan->get_profile(kln_exec_state(context->exec));
    }
    return kln_context_leave(context, KILN_OK);
}

static kiln_status enter_timed(kiln_context *context, const char *function,
                               const kiln_backend **backend)
{
    *backend = context->engine->shared.backend;
    KLN_RETURN_IF((*backend)->context.time_layers == NULL, KILN_ERROR_UNSUPPORTED,
                  "%s: the backend %s tells no times of its layers", function, (*backend)->name);
    return kln_context_enter(context, function);
}

kiln_status kiln_context_profile_layers(kiln_context *context, bool on)
{
    const kiln_backend *backend = NULL;
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_ERROR(enter_timed(context, __func__, &backend));
    const kiln_status status = backend->context.time_layers(kln_exec_state(context->exec), on);
    if (status == KILN_OK) {
        kln_exec_allow_graphs(context->exec, !on);
    }
    return kln_context_leave(context, status);
}

kiln_status kiln_context_layer(kiln_context *context, size_t index, kiln_layer_time *layer)
{
    const kiln_backend *backend = NULL;
    KLN_RETURN_IF_NULL(context, layer);
    KLN_RETURN_IF_ERROR(enter_timed(context, __func__, &backend));
    kiln_layer_time found = {.struct_size = sizeof found, .type = ""};
    kiln_status status = backend->context.layer_time(kln_exec_state(context->exec), index, &found);
    KLN_THEN(status, kln_info_write(__func__, layer, &found, sizeof found));
    return kln_context_leave(context, status);
}

kiln_status kiln_context_save_runtime_cache(kiln_context *context, const char *path)
{
    const kiln_plan_table *plan = NULL;
    KLN_RETURN_IF_NULL(context, path);
    KLN_RETURN_IF_ERROR(enter_plan(context, __func__, &plan));
    return kln_context_leave(context,
                             plan->save_runtime_cache(kln_exec_state(context->exec), path));
}

/* --- plugins: only one backend has them --- */

static const kiln_plan_table *with_plugins(void)
{
    size_t i = 0;
    while (kln_backend_at(i)->plan == NULL) {
        i++;
    }
    return kln_backend_at(i)->plan;
}

kiln_status kiln_plugin_load(const char *library, const char *path)
{
    KLN_RETURN_IF_NULL(path);
    return with_plugins()->plugin_load(library, path);
}

kiln_status kiln_plugin_count(const char *library, size_t *count)
{
    KLN_RETURN_IF_NULL_RESULT(count);
    return with_plugins()->plugin_count(library, count);
}

kiln_status kiln_plugin_get(const char *library, size_t index, kiln_plugin *plugin)
{
    KLN_RETURN_IF_NULL(plugin);
    kiln_plugin found = {.struct_size = sizeof found};
    KLN_RETURN_IF_ERROR(with_plugins()->plugin_get(library, index, &found));
    return kln_info_write(__func__, plugin, &found, sizeof found);
}
