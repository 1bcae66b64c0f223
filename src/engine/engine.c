/* SPDX-License-Identifier: Apache-2.0 */
#include <kiln/precision.h>

#include "kln_engine.h"

/* --- references --- */

kiln_engine *kiln_engine_retain(kiln_engine *engine)
{
    if (engine != NULL) {
        atomic_fetch_add_explicit(&engine->references, 1, memory_order_relaxed);
    }
    return engine;
}

bool kln_engine_is_left_behind(const kiln_engine *engine)
{
    return engine->forks != kln_forks() && !engine->shared.backend->survives_fork;
}

kiln_status kln_engine_check_process(const kiln_engine *engine, const char *function)
{
    return kln_engine_is_left_behind(engine) ? kln_engine_fail_process(engine, function) : KILN_OK;
}

kiln_status kln_engine_fail_process(const kiln_engine *engine, const char *function)
{
    return kln_fail(KILN_ERROR_STATE,
                    "%s: this process was forked after the engine was made, and threads and "
                    "devices of the %s backend do not come along; build or load it after fork",
                    function, engine->shared.backend->name);
}

static void destroy(kiln_engine *engine)
{
    if (engine->shared.state != NULL && !kln_engine_is_left_behind(engine)) {
        engine->shared.backend->engine.destroy(engine->shared.state);
    }
    kln_names_finish(&engine->inputs);
    kln_names_finish(&engine->outputs);
    kln_names_finish(&engine->weight_places);
    kln_arena_finish(&engine->arena);
    kln_free(engine->inspection);
    kiln_precision_report_destroy(engine->precision);
    kln_free(engine->cached);
    (void)pthread_mutex_destroy(&engine->inspecting);
    (void)pthread_mutex_destroy(&engine->refitting);
    kln_shared_finish(&engine->shared);
    kln_free(engine);
}

void kiln_engine_release(kiln_engine *engine)
{
    if (engine != NULL &&
        atomic_fetch_sub_explicit(&engine->references, 1, memory_order_acq_rel) == 1) {
        destroy(engine);
    }
}

/* --- wrapping a backend's state in an engine --- */

static kiln_status index_bindings(kiln_engine *engine)
{
    const kiln_description *description = &engine->shared.description;
    const size_t required = description->input_count + description->output_count;
    for (size_t i = 0; i < required + description->optional_count; i++) {
        const bool is_output = i >= description->input_count && i < required;
        kln_names *names = is_output ? &engine->outputs : &engine->inputs;
        KLN_RETURN_IF_ERROR(kln_names_set(names, description->bindings[i].name, (uint32_t)i));
    }
    return KILN_OK;
}

static kiln_status describe(kiln_engine *engine, const kiln_build_options *options,
                            const char *source)
{
    engine->source = kln_arena_strdup(&engine->arena, source != NULL ? source : "");
    KLN_RETURN_IF_NO_MEMORY(engine->source, PATH_MAX, "a path");
    engine->built = kln_build_options_plain(options);
    engine->shared.description.arena = &engine->arena;
    KLN_RETURN_IF_ERROR(
        engine->shared.backend->engine.describe(engine->shared.state, &engine->shared.description));
    const kiln_description *description = &engine->shared.description;
    if ((engine->shared.info.capabilities & KILN_CAPABILITY_PROFILES) == 0) {
        /* This backend ignores profiles, but a mistake in them should not go unnoticed until
         * another backend is used. */
        KLN_RETURN_IF_ERROR(kln_profiles_check(
            options, description->bindings,
            description->input_count + description->output_count + description->optional_count));
    }
    KLN_RETURN_IF_ERROR(kln_profile_names_keep(engine, options->profiles, options->profile_count));
    return index_bindings(engine);
}

KLN_SCOPED_POINTER(kiln_engine, destroy)

kiln_status kln_engine_adopt(const kiln_backend *backend, const kiln_backend_info *info,
                             void *state, const kiln_build_options *options, const char *source,
                             kiln_engine **engine)
{
    *engine = NULL;
    KLN_SCOPED(destroy_at) kiln_engine *made = kln_alloc_zeroed(1, sizeof *made);
    if (made == NULL) {
        backend->engine.destroy(state);
        return kln_fail_memory(sizeof *made, "an engine");
    }
    atomic_init(&made->references, 1);
    made->forks = kln_forks_begin();
    made->shared.backend = backend;
    made->shared.state = state;
    made->shared.info = *info;
    (void)pthread_mutex_init(&made->inspecting, NULL);
    (void)pthread_mutex_init(&made->refitting, NULL);
    KLN_RETURN_IF_ERROR(kln_shared_init(&made->shared));
    KLN_RETURN_IF_ERROR(describe(made, options, source));
    *engine = KLN_TAKE(made);
    return KILN_OK;
}

/* --- bindings and metadata --- */

size_t kiln_engine_input_count(const kiln_engine *engine)
{
    return engine != NULL ? engine->shared.description.input_count : 0;
}

size_t kiln_engine_output_count(const kiln_engine *engine)
{
    return engine != NULL ? engine->shared.description.output_count : 0;
}

int32_t kiln_engine_device(const kiln_engine *engine)
{
    return engine != NULL ? engine->shared.device : -1;
}

size_t kiln_engine_host_node_count(const kiln_engine *engine)
{
    return engine != NULL ? engine->shared.description.host_node_count : 0;
}

const char *kiln_engine_host_node(const kiln_engine *engine, size_t index)
{
    return index < kiln_engine_host_node_count(engine)
               ? engine->shared.description.host_nodes[index]
               : NULL;
}

static kiln_status fail_index(const char *function, const char *what, size_t index, size_t count)
{
    return kln_fail(KILN_ERROR_INVALID_ARGUMENT, "%s: %s %zu was asked for, there %s %zu", function,
                    what, index, count == 1 ? "is" : "are", count);
}

/* Shows binding `index` of the `count` bindings that start at `first`. */
static kiln_status show_binding(const char *function, const char *what, const kiln_engine *engine,
                                size_t first, size_t count, size_t index, kiln_binding *binding)
{
    KLN_FAIL_IF(index >= count, fail_index(function, what, index, count));
    return kln_info_write(function, binding, &engine->shared.description.bindings[first + index],
                          sizeof *binding);
}

kiln_status kiln_engine_input(const kiln_engine *engine, size_t index, kiln_binding *binding)
{
    KLN_RETURN_IF_NULL(engine, binding);
    const size_t count = engine->shared.description.input_count;
    return show_binding(__func__, "input", engine, 0, count, index, binding);
}

kiln_status kiln_engine_output(const kiln_engine *engine, size_t index, kiln_binding *binding)
{
    KLN_RETURN_IF_NULL(engine, binding);
    const kiln_description *all = &engine->shared.description;
    return show_binding(__func__, "output", engine, all->input_count, all->output_count, index,
                        binding);
}

size_t kiln_engine_optional_count(const kiln_engine *engine)
{
    return engine != NULL ? engine->shared.description.optional_count : 0;
}

kiln_status kiln_engine_optional(const kiln_engine *engine, size_t index, kiln_binding *binding)
{
    KLN_RETURN_IF_NULL(engine, binding);
    const kiln_description *all = &engine->shared.description;
    return show_binding(__func__, "optional input", engine, all->input_count + all->output_count,
                        all->optional_count, index, binding);
}

size_t kiln_engine_metadata_count(const kiln_engine *engine)
{
    return engine != NULL ? engine->shared.description.metadata_count : 0;
}

kiln_status kiln_engine_metadata(const kiln_engine *engine, size_t index, kiln_metadata *metadata)
{
    KLN_RETURN_IF_NULL(engine, metadata);
    KLN_FAIL_IF(index >= engine->shared.description.metadata_count,
                fail_index(__func__, "line", index, engine->shared.description.metadata_count));
    *metadata = engine->shared.description.metadata[index];
    return KILN_OK;
}

kiln_status kiln_engine_backend(const kiln_engine *engine, kiln_backend_info *info)
{
    KLN_RETURN_IF_NULL(engine);
    return kln_info_write(__func__, info, &engine->shared.info, sizeof *info);
}
