/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_memory.h"

#define DEFAULT_SMALL_BYTES ((size_t)1 << 20)

struct kiln_buffer_plan {
    kiln_buffer_plan_options options;
    kln_arena arena;
    kln_names names;
    kiln_named_tensor *tensors;
    size_t *places; /* for each tensor: its offset in the shared allocation, or NOT_SHARED */
    uint32_t
        *targets;  /* for each tensor: the tensor whose memory it uses; itself if it is no alias */
    size_t *needs; /* for each tensor: the size of the largest tensor in its memory */
    size_t count;
    void **allocations; /* the shared one first, if there is one */
    size_t allocation_count;
    size_t bytes;
};

#define NOT_SHARED SIZE_MAX

void kiln_buffer_plan_destroy(kiln_buffer_plan *plan)
{
    if (plan == NULL) {
        return;
    }
    for (size_t i = 0; i < plan->allocation_count; i++) {
        kln_memory_release(plan->options.location, plan->options.device, plan->allocations[i]);
    }
    kln_names_finish(&plan->names);
    kln_arena_finish(&plan->arena);
    kln_free(plan);
}

static kiln_status describe(kiln_buffer_plan *plan, const kiln_buffer_request *request,
                            size_t index)
{
    KLN_FAIL_IF(request->name == NULL, kln_fail_null("kiln_buffer_plan_create", "name"));
    KLN_RETURN_IF(kln_names_get(&plan->names, request->name) != KLN_NAMES_NONE, KILN_ERROR_NAME,
                  "kiln_buffer_plan_create: \"%s\" is given twice", request->name);
    size_t bytes = 0;
    KLN_RETURN_WITHIN(kiln_tensor_bytes(request->dtype, &request->shape, &bytes), "tensor \"%s\"",
                      request->name);
    const bool host = plan->options.location == KILN_LOCATION_HOST;
    KLN_RETURN_IF(request->dtype == KILN_DTYPE_STRING && !host, KILN_ERROR_UNSUPPORTED,
                  "tensor \"%s\": strings lie in host memory, not in %s memory", request->name,
                  kiln_location_name(plan->options.location));
    const char *name = kln_arena_strdup(&plan->arena, request->name);
    KLN_RETURN_IF_NO_MEMORY(name, sizeof *request, "a buffer plan");
    plan->tensors[index] =
        (kiln_named_tensor){.name = name,
                            .tensor = {.desc = {.dtype = request->dtype,
                                                .location = plan->options.location,
                                                .device = host ? 0 : plan->options.device,
                                                .shape = request->shape},
                                       .bytes = bytes}};
    return kln_names_set(&plan->names, name, (uint32_t)index);
}

static size_t round_up(size_t bytes)
{
    return (bytes + KLN_MEMORY_ALIGNMENT - 1) / KLN_MEMORY_ALIGNMENT * KLN_MEMORY_ALIGNMENT;
}

static kiln_status find_alias(const kiln_buffer_plan *plan, const char *name, uint32_t *index)
{
    KLN_FAIL_IF(name == NULL, kln_fail_null("kiln_buffer_plan_create", "aliases[].name"));
    *index = kln_names_get(&plan->names, name);
    KLN_RETURN_IF(*index == KLN_NAMES_NONE, KILN_ERROR_NAME,
                  "kiln_buffer_plan_create: an alias names \"%s\", which is not among the %zu "
                  "tensors",
                  name, plan->count);
    return KILN_OK;
}

static kiln_status set_targets(kiln_buffer_plan *plan)
{
    const kiln_buffer_plan_options *options = &plan->options;
    KLN_FAIL_IF(options->alias_count != 0 && options->aliases == NULL,
                kln_fail_null("kiln_buffer_plan_create", "aliases"));
    for (size_t i = 0; i < plan->count; i++) {
        plan->targets[i] = (uint32_t)i;
        plan->needs[i] = plan->tensors[i].tensor.bytes;
    }
    for (size_t i = 0; i < options->alias_count; i++) {
        uint32_t from = 0;
        uint32_t to = 0;
        KLN_RETURN_IF_ERROR(find_alias(plan, options->aliases[i].name, &from));
        KLN_RETURN_IF_ERROR(find_alias(plan, options->aliases[i].of, &to));
        KLN_RETURN_IF(from == to || plan->targets[from] != from, KILN_ERROR_INVALID_ARGUMENT,
                      "kiln_buffer_plan_create: \"%s\" is an alias %s", plan->tensors[from].name,
                      from == to ? "of itself" : "of two tensors");
        plan->targets[from] = to;
        plan->needs[to] = plan->needs[from] > plan->needs[to] ? plan->needs[from] : plan->needs[to];
    }
    for (size_t i = 0; i < plan->count; i++) {
        const uint32_t to = plan->targets[i];
        KLN_RETURN_IF(plan->targets[to] != to, KILN_ERROR_INVALID_ARGUMENT,
                      "kiln_buffer_plan_create: \"%s\" is an alias of \"%s\", which is one "
                      "itself; name \"%s\" instead",
                      plan->tensors[i].name, plan->tensors[to].name,
                      plan->tensors[plan->targets[to]].name);
    }
    return KILN_OK;
}

/* Assigns each small tensor its offset in the shared allocation, and computes the size of that. */
static kiln_status lay_out(kiln_buffer_plan *plan, size_t *shared)
{
    *shared = 0;
    for (size_t i = 0; i < plan->count; i++) {
        const size_t bytes = plan->targets[i] == i ? plan->needs[i] : 0;
        size_t end = 0;
        KLN_RETURN_IF(
            bytes > SIZE_MAX / 2 || __builtin_add_overflow(*shared, round_up(bytes), &end),
            KILN_ERROR_LIMIT, "tensor \"%s\": %zu bytes pass every memory", plan->tensors[i].name,
            bytes);
        if (bytes > plan->options.small_bytes) {
            plan->places[i] = NOT_SHARED;
        } else {
            plan->places[i] = *shared;
            *shared = end;
        }
    }
    return KILN_OK;
}

static kiln_status add_allocation(kiln_buffer_plan *plan, size_t bytes, void **memory)
{
    const kiln_location location = plan->options.location;
    const int32_t device = plan->options.device;
    KLN_RETURN_IF_ERROR(kln_memory_allocate(location, device, bytes, memory));
    plan->allocations[plan->allocation_count++] = *memory;
    plan->bytes += bytes;
    return kln_memory_fill(location, device, *memory, 0, bytes);
}

static kiln_status allocate(kiln_buffer_plan *plan)
{
    size_t shared = 0;
    void *memory = NULL;
    KLN_RETURN_IF_ERROR(lay_out(plan, &shared));
    if (shared != 0) {
        KLN_RETURN_IF_ERROR(add_allocation(plan, shared, &memory));
    }
    for (size_t i = 0; i < plan->count; i++) {
        kiln_tensor *tensor = &plan->tensors[i].tensor;
        if (plan->targets[i] != i) {
            continue;
        }
        if (plan->places[i] == NOT_SHARED) {
            KLN_RETURN_WITHIN(add_allocation(plan, plan->needs[i], &tensor->data), "tensor \"%s\"",
                              plan->tensors[i].name);
        } else if (plan->needs[i] != 0) {
            tensor->data = (unsigned char *)memory + plan->places[i];
        }
    }
    for (size_t i = 0; i < plan->count; i++) {
        plan->tensors[i].tensor.data = plan->tensors[plan->targets[i]].tensor.data;
    }
    return KILN_OK;
}

static kiln_status fill_plan(kiln_buffer_plan *plan, const kiln_buffer_request *requests)
{
    plan->tensors = kln_arena_alloc_zeroed(&plan->arena, plan->count, sizeof *plan->tensors);
    plan->places = kln_arena_alloc_zeroed(&plan->arena, plan->count, sizeof *plan->places);
    plan->allocations =
        kln_arena_alloc_zeroed(&plan->arena, plan->count + 1, sizeof *plan->allocations);
    plan->targets = kln_arena_alloc_zeroed(&plan->arena, plan->count, sizeof *plan->targets);
    plan->needs = kln_arena_alloc_zeroed(&plan->arena, plan->count, sizeof *plan->needs);
    KLN_FAIL_IF(plan->tensors == NULL || plan->places == NULL || plan->allocations == NULL ||
                    plan->targets == NULL || plan->needs == NULL,
                kln_fail_memory(plan->count * sizeof *plan->tensors, "a buffer plan"));
    for (size_t i = 0; i < plan->count; i++) {
        KLN_RETURN_IF_ERROR(describe(plan, &requests[i], i));
    }
    KLN_RETURN_IF_ERROR(set_targets(plan));
    return allocate(plan);
}

KLN_SCOPED_POINTER(kiln_buffer_plan, kiln_buffer_plan_destroy)

kiln_status kiln_buffer_plan_create(const kiln_buffer_request *requests, size_t count,
                                    const kiln_buffer_plan_options *options,
                                    kiln_buffer_plan **plan)
{
    KLN_RETURN_IF_NULL_RESULT(plan);
    if (count != 0) {
        KLN_RETURN_IF_NULL(requests);
    }
    kiln_buffer_plan_options read = KILN_BUFFER_PLAN_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(kln_options_read(__func__, options, &read, sizeof read));
    KLN_RETURN_IF_ERROR(kln_memory_check(read.location, read.device));
    read.small_bytes = read.small_bytes != 0 ? read.small_bytes : DEFAULT_SMALL_BYTES;
    KLN_SCOPED(kiln_buffer_plan_destroy_at) kiln_buffer_plan *made = NULL;
    KLN_NEW(made, 1, "a buffer plan");
    made->options = read;
    made->count = count;
    KLN_RETURN_IF_ERROR(fill_plan(made, requests));
    made->options.aliases = NULL; /* the caller owns them */
    *plan = KLN_TAKE(made);
    return KILN_OK;
}

size_t kiln_buffer_plan_count(const kiln_buffer_plan *plan)
{
    return plan != NULL ? plan->count : 0;
}

kiln_status kiln_buffer_plan_get(const kiln_buffer_plan *plan, size_t index,
                                 kiln_named_tensor *tensor)
{
    KLN_RETURN_IF_NULL(plan, tensor);
    KLN_RETURN_IF(index >= plan->count, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_buffer_plan_get: tensor %zu was asked for, there are %zu", index,
                  plan->count);
    *tensor = plan->tensors[index];
    return KILN_OK;
}

kiln_status kiln_buffer_plan_find(const kiln_buffer_plan *plan, const char *name,
                                  kiln_tensor *tensor)
{
    KLN_RETURN_IF_NULL(plan, name, tensor);
    const uint32_t index = kln_names_get(&plan->names, name);
    KLN_RETURN_IF(index == KLN_NAMES_NONE, KILN_ERROR_NAME,
                  "the buffer plan has no tensor \"%s\" among its %zu", name, plan->count);
    *tensor = plan->tensors[index].tensor;
    return KILN_OK;
}

kiln_status kiln_buffer_plan_view(const kiln_buffer_plan *plan, const char *name,
                                  const kiln_shape *shape, kiln_tensor *tensor)
{
    KLN_RETURN_IF_NULL(plan, name, shape);
    kiln_tensor found = {.data = NULL};
    KLN_RETURN_IF_ERROR(kiln_buffer_plan_find(plan, name, &found));
    size_t bytes = 0;
    KLN_RETURN_WITHIN(kiln_tensor_bytes(found.desc.dtype, shape, &bytes), "tensor \"%s\"", name);
    KLN_RETURN_IF(bytes > found.bytes, KILN_ERROR_SIZE,
                  "tensor \"%s\": %zu bytes are needed, the buffer plan has %zu for it", name,
                  bytes, found.bytes);
    KLN_RETURN_IF_NULL(tensor);
    found.desc.shape = *shape;
    found.bytes = bytes;
    *tensor = found;
    return KILN_OK;
}

size_t kiln_buffer_plan_bytes(const kiln_buffer_plan *plan)
{
    return plan != NULL ? plan->bytes : 0;
}

size_t kiln_buffer_plan_allocations(const kiln_buffer_plan *plan)
{
    return plan != NULL ? plan->allocation_count : 0;
}
