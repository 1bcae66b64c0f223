/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_internal.h"

#define CLASS_COUNT ((size_t)64 * 4)
#define SMALLEST ((size_t)64)

struct ref_buffer {
    ref_buffer *next; /* in the free list */
    size_t size_class;
    size_t references;
    size_t size; /* of its size class */
    _Alignas(64) unsigned char data[];
};

kiln_status ref_memory_init(ref_memory *memory)
{
    *memory = (ref_memory){.free = kln_alloc_zeroed(CLASS_COUNT, sizeof(ref_buffer *))};
    KLN_RETURN_IF_NO_MEMORY(memory->free, CLASS_COUNT * sizeof(ref_buffer *),
                            "the reference executor");
    return KILN_OK;
}

static void release_free(ref_memory *memory)
{
    for (size_t i = 0; i < CLASS_COUNT; i++) {
        while (memory->free[i] != NULL) {
            ref_buffer *buffer = memory->free[i];
            memory->free[i] = buffer->next;
            memory->bytes -= buffer->size;
            kln_free(buffer);
        }
    }
}

void ref_memory_finish(ref_memory *memory)
{
    if (memory->free == NULL) {
        return;
    }
    release_free(memory);
    kln_free(memory->free);
    memory->free = NULL;
}

/* Four classes per power of two; `*size` is rounded up to that of the class. */
static size_t size_class(size_t *size)
{
    size_t power = SMALLEST;
    size_t index = 0;
    while (power * 2 < *size) {
        power *= 2;
        index += 4;
    }
    const size_t quarter = power / 4;
    const size_t past = *size > power ? (*size - power + quarter - 1) / quarter : 0;
    *size = power + past * quarter;
    return index + past;
}

/* Before failing, frees cached buffers of other sizes. */
static kiln_status check_limit(ref_memory *memory, size_t size)
{
    if (memory->limit == 0 || memory->bytes + size <= memory->limit) {
        return KILN_OK;
    }
    release_free(memory);
    return memory->bytes + size <= memory->limit
               ? KILN_OK
               : kln_fail(KILN_ERROR_LIMIT,
                          "the run has %llu bytes of tensors and needs %zu more; %llu are allowed",
                          (unsigned long long)memory->bytes, size,
                          (unsigned long long)memory->limit);
}

kiln_status ref_memory_take(ref_memory *memory, size_t size, ref_buffer **buffer)
{
    KLN_RETURN_IF(size > SIZE_MAX / 8, KILN_ERROR_LIMIT,
                  "a tensor of %zu bytes is beyond any memory", size);
    const size_t index = size_class(&size);
    ref_buffer *found = memory->free[index];
    if (found != NULL) {
        memory->free[index] = found->next;
    } else {
        KLN_RETURN_IF_ERROR(check_limit(memory, size));
        found = kln_alloc_aligned(sizeof *found + size, 64);
        KLN_RETURN_IF_NO_MEMORY(found, size, "a tensor inside the network");
        found->size_class = index;
        found->size = size;
        memory->bytes += size;
    }
    found->next = NULL;
    found->references = 1;
    *buffer = found;
    return KILN_OK;
}

void *ref_buffer_data(const ref_buffer *buffer)
{
    return (void *)(uintptr_t)buffer->data;
}

static void let_go(ref_memory *memory, ref_buffer *buffer)
{
    buffer->next = memory->free[buffer->size_class];
    memory->free[buffer->size_class] = buffer;
}

void ref_buffer_release(ref_memory *memory, ref_buffer *buffer)
{
    if (buffer != NULL && --buffer->references == 0) {
        let_go(memory, buffer);
    }
}

void ref_value_copy(ref_value *to, const ref_value *from)
{
    *to = *from;
    if (to->buffer != NULL) {
        to->buffer->references++;
    }
}

void ref_value_release(ref_memory *memory, ref_value *value)
{
    ref_buffer *buffer = value->buffer;
    if (buffer != NULL && --buffer->references == 0) {
        if (value->kind == REF_SEQUENCE) {
            /* Items are tensors, so there is no further nesting. */
            ref_value *items = value->tensor.data;
            for (int64_t i = 0; i < value->tensor.count; i++) {
                ref_buffer_release(memory, items[i].buffer);
            }
        }
        let_go(memory, buffer);
    }
    *value = (ref_value){.kind = REF_NONE, .buffer = NULL};
}
