/* SPDX-License-Identifier: Apache-2.0 */
/* Strings of a run. Each element is a span. An input's bytes are the caller's; an output's are
 * copied into memory that the context owns, wherever the backend left them. Each output has two
 * blocks that alternate: a result may be an input of the next run, which reads it while the new
 * result is stored. */
#include "exec_parts.h"

typedef struct room {
    void *memory;
    size_t bytes;
} room;

struct exec_strings {
    kiln_tensor shown;
    room spans; /* for an output that the caller did not bind */
    room blocks[2];
    size_t last; /* index of the last run's block */
};

kiln_status exec_strings_create(kln_exec *exec)
{
    for (size_t i = 0; i < exec->slot_count; i++) {
        if (exec_binding(exec, i)->dtype == KILN_DTYPE_STRING) {
            exec->has_strings = true;
            if (!exec_binding(exec, i)->is_input) {
                KLN_NEW(exec->slots[i].strings, 1, "a context's strings");
            }
        }
    }
    return KILN_OK;
}

void exec_strings_destroy(kln_exec *exec)
{
    for (size_t i = 0; i < exec->slot_count; i++) {
        exec_strings *strings = exec->slots[i].strings;
        if (strings != NULL) {
            kln_free(strings->spans.memory);
            kln_free(strings->blocks[0].memory);
            kln_free(strings->blocks[1].memory);
            kln_free(strings);
        }
    }
}

const kiln_tensor *exec_strings_shown(const kln_exec *exec, size_t index)
{
    return &exec->slots[index].strings->shown;
}

/* Adds up the bytes of all strings of a tensor; fails for a string without an address. */
static kiln_status measure(const kiln_binding *binding, const kiln_tensor *tensor, size_t *bytes)
{
    int64_t count = 0;
    *bytes = 0;
    KLN_RETURN_IF_ERROR(kiln_shape_elements(&tensor->desc.shape, &count));
    const kiln_span *spans = tensor->data;
    for (int64_t i = 0; i < count; i++) {
        KLN_RETURN_IF(spans[i].data == NULL && spans[i].size != 0, KILN_ERROR_NULL_ARGUMENT,
                      "%s \"%s\": the address of string %lld, of %zu bytes, is NULL",
                      binding->is_input ? "input" : "output", binding->name, (long long)i,
                      spans[i].size);
        KLN_RETURN_IF(
            __builtin_add_overflow(*bytes, spans[i].size, bytes) || *bytes > (size_t)PTRDIFF_MAX,
            KILN_ERROR_LIMIT, "%s \"%s\": its strings take more bytes than there are addresses",
            binding->is_input ? "input" : "output", binding->name);
    }
    return KILN_OK;
}

kiln_status exec_strings_check(const kln_exec *exec)
{
    for (EXEC_EACH_SLOT(i, exec, true)) {
        size_t bytes = 0;
        if (exec_binding(exec, i)->dtype == KILN_DTYPE_STRING &&
            exec->slots[i].state != SLOT_EMPTY) {
            KLN_RETURN_IF_ERROR(measure(exec_binding(exec, i), &exec->slots[i].tensor, &bytes));
        }
    }
    return KILN_OK;
}

/* A block that has to grow gets half as much again, so that most later runs fit. */
static kiln_status reserve(kln_exec *exec, room *block, size_t bytes)
{
    if (bytes <= block->bytes) {
        return KILN_OK;
    }
    const room grown = {kln_alloc(bytes + bytes / 2), bytes + bytes / 2};
    KLN_RETURN_IF_NO_MEMORY(grown.memory, grown.bytes, "the strings of an output");
    exec->bytes_owned += grown.bytes - block->bytes;
    kln_free(block->memory);
    *block = grown;
    return KILN_OK;
}

/* Gets the result of the run and reserves memory for it. */
static kiln_status find(kln_exec *exec, size_t index)
{
    const exec_slot *slot = &exec->slots[index];
    exec_strings *strings = slot->strings;
    size_t bytes = 0;
    strings->shown = slot->tensor;
    if (slot->state == SLOT_EMPTY) {
        KLN_RETURN_IF_ERROR(
            exec->shared->backend->context.output(exec->state, index, &strings->shown));
        KLN_RETURN_IF_ERROR(reserve(exec, &strings->spans, strings->shown.bytes));
    }
    KLN_RETURN_IF_ERROR(measure(exec_binding(exec, index), &strings->shown, &bytes));
    return reserve(exec, &strings->blocks[1 - strings->last], bytes);
}

static void copy(const exec_slot *slot)
{
    exec_strings *strings = slot->strings;
    const kiln_span *from = strings->shown.data;
    kiln_span *to = slot->state == SLOT_EMPTY ? strings->spans.memory : strings->shown.data;
    int64_t count = 0;
    strings->last = 1 - strings->last;
    char *next = strings->blocks[strings->last].memory;
    if (kiln_shape_elements(&strings->shown.desc.shape, &count) != KILN_OK) {
        return; /* cannot happen: measure checked the shape */
    }
    for (int64_t i = 0; i < count; i++) {
        const size_t size = from[i].size;
        if (size != 0) {
            memcpy(next, from[i].data, size);
        }
        to[i] = (kiln_span){size != 0 ? next : "", size};
        next = size != 0 ? next + size : next;
    }
    strings->shown.data = to;
}

/* All or nothing: reserves for every output before it copies any, because a failure must not leave
 * an input overwritten. */
kiln_status exec_strings_keep(kln_exec *exec)
{
    for (EXEC_EACH_SLOT(i, exec, false)) {
        if (exec->slots[i].strings != NULL) {
            KLN_RETURN_IF_ERROR(find(exec, i));
        }
    }
    for (EXEC_EACH_SLOT(i, exec, false)) {
        if (exec->slots[i].strings != NULL) {
            copy(&exec->slots[i]);
        }
    }
    return KILN_OK;
}
