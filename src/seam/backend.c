/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_seam.h"

kiln_status kln_backend_check(const kiln_backend *backend)
{
    const struct {
        const char *operation;
        bool present;
    } required[] = {
        {"name", backend->name != NULL},
        {"description", backend->description != NULL},
        {"probe", backend->probe != NULL},
        {"engine.describe", backend->engine.describe != NULL},
        {"engine.destroy", backend->engine.destroy != NULL},
        {"context.create", backend->context.create != NULL},
        {"context.destroy", backend->context.destroy != NULL},
        {"context.bind", backend->context.bind != NULL},
        {"context.run", backend->context.run != NULL},
        {"context.output", backend->context.output != NULL},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(required); i++) {
        KLN_RETURN_IF(!required[i].present, KILN_ERROR_INTERNAL,
                      "backend \"%s\": its table lacks `%s`",
                      backend->name != NULL ? backend->name : "?", required[i].operation);
    }
    return KILN_OK;
}

kiln_status kiln_fail(kiln_status status, const char *sentence)
{
    return status == KILN_OK
               ? KILN_OK
               : kln_fail(status, "%s", sentence != NULL ? sentence : kiln_status_text(status));
}

kiln_status kln_binding_own_names(kln_arena *arena, kiln_binding *binding)
{
    binding->name = kln_arena_strdup(arena, binding->name);
    bool complete = binding->name != NULL;
    for (int32_t d = 0; complete && d < binding->shape.rank; d++) {
        if (binding->dim_names[d] != NULL) {
            binding->dim_names[d] = kln_arena_strdup(arena, binding->dim_names[d]);
            complete = binding->dim_names[d] != NULL;
        }
    }
    return complete ? KILN_OK : kln_fail_memory(sizeof *binding, "the names of a binding");
}

kiln_status kln_node_time_show(const kln_node_time *times, size_t count, size_t index,
                               kiln_layer_time *layer)
{
    KLN_RETURN_IF(index >= count, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_context_layer: layer %zu was asked for, %zu were measured", index, count);
    layer->name = times[index].name;
    layer->type = times[index].type;
    layer->milliseconds = (double)times[index].nanoseconds / 1e6;
    layer->runs = times[index].runs;
    return KILN_OK;
}
