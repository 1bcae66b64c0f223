/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "kln_engine.h"

/* `data` in the arena, or NULL where it is. `*failed` becomes true for want of memory. */
static void *copy_bytes(kln_arena *arena, const void *data, size_t size, bool *failed)
{
    if (data == NULL) {
        return NULL;
    }
    void *copy = kln_arena_alloc(arena, size > 0 ? size : 1);
    if (copy == NULL) {
        *failed = true;
    } else if (size > 0) {
        memcpy(copy, data, size);
    }
    return copy;
}

static const char *copy_text(kln_arena *arena, const char *text, bool *failed)
{
    return text != NULL ? copy_bytes(arena, text, strlen(text) + 1, failed) : NULL;
}

static const char *const *copy_texts(kln_arena *arena, const char *const *texts, size_t count,
                                     bool *failed)
{
    if (texts == NULL || count == 0) {
        return NULL;
    }
    const char **copy = kln_arena_alloc_zeroed(arena, count, sizeof *copy);
    *failed = *failed || copy == NULL;
    for (size_t i = 0; i < count && !*failed; i++) {
        copy[i] = copy_text(arena, texts[i], failed);
    }
    return copy;
}

static void copy_input(kln_arena *arena, kiln_profile_input *input, bool *failed)
{
    const size_t bytes = input->value_count * sizeof(int64_t);
    input->name = copy_text(arena, input->name, failed);
    input->min_values = copy_bytes(arena, input->min_values, bytes, failed);
    input->opt_values = copy_bytes(arena, input->opt_values, bytes, failed);
    input->max_values = copy_bytes(arena, input->max_values, bytes, failed);
}

static const kiln_profile *copy_profiles(kln_arena *arena, const kiln_profile *profiles,
                                         size_t count, bool *failed)
{
    kiln_profile *copy = copy_bytes(arena, profiles, count * sizeof *profiles, failed);
    for (size_t i = 0; copy != NULL && i < count && !*failed; i++) {
        kiln_profile_input *inputs =
            copy_bytes(arena, copy[i].inputs, copy[i].input_count * sizeof *copy[i].inputs, failed);
        for (size_t k = 0; inputs != NULL && k < copy[i].input_count && !*failed; k++) {
            copy_input(arena, &inputs[k], failed);
        }
        copy[i].inputs = inputs;
        copy[i].name = copy_text(arena, copy[i].name, failed);
    }
    return copy;
}

kiln_status kln_build_options_copy(kln_arena *arena, kiln_build_options *options)
{
    bool failed = false;
    kiln_build_options *o = options;
    o->backend = copy_text(arena, o->backend, &failed);
    o->library = copy_text(arena, o->library, &failed);
    o->profiles = copy_profiles(arena, o->profiles, o->profile_count, &failed);
    o->timing_cache = copy_text(arena, o->timing_cache, &failed);
    o->timing_cache_bytes.data =
        copy_bytes(arena, o->timing_cache_bytes.data, o->timing_cache_bytes.size, &failed);
    o->refit_weights = copy_texts(arena, o->refit_weights, o->refit_weight_count, &failed);
    o->tactic_sources = copy_text(arena, o->tactic_sources, &failed);
    o->compute_capabilities =
        copy_bytes(arena, o->compute_capabilities,
                   o->compute_capability_count * sizeof *o->compute_capabilities, &failed);
    o->plugins = copy_texts(arena, o->plugins, o->plugin_count, &failed);
    kiln_shape_hint *hints =
        copy_bytes(arena, o->shape_hints, o->shape_hint_count * sizeof *o->shape_hints, &failed);
    for (size_t i = 0; hints != NULL && i < o->shape_hint_count && !failed; i++) {
        hints[i].name = copy_text(arena, hints[i].name, &failed);
    }
    o->shape_hints = hints;
    o->weights_folder = copy_text(arena, o->weights_folder, &failed);
    return failed ? kln_fail_memory(sizeof *o, "a copy of the build options") : KILN_OK;
}
