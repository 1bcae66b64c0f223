/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_plan.h"

kiln_status ref_fail_arena(void)
{
    return kln_fail(KILN_ERROR_OUT_OF_MEMORY, "memory for the plan of a network is exhausted");
}

static const kln_onnx_attribute *named(const kln_onnx_attribute *const *list, size_t count,
                                       const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i]->name, name) == 0) {
            return list[i];
        }
    }
    return NULL;
}

/* Resolves a reference inside a function: the call's attribute, else the function's default, else
 * NULL. */
static const kln_onnx_attribute *referred(const ref_environment *around, const char *name)
{
    const kln_onnx_attribute *found =
        named(around->call->attributes, around->call->attribute_count, name);
    for (size_t i = 0; found == NULL && i < around->function->attribute_count; i++) {
        if (strcmp(around->function->attributes[i].name, name) == 0) {
            found = &around->function->attributes[i];
        }
    }
    return found;
}

/* Kernels compare C strings, but those in a file are not NUL-terminated. */
static kiln_status terminate(kln_arena *arena, const kln_onnx_attribute **attribute)
{
    if ((*attribute)->type != KLN_ONNX_ATTRIBUTE_STRING || (*attribute)->s.data == NULL) {
        return KILN_OK;
    }
    kln_onnx_attribute *copy = kln_arena_alloc(arena, sizeof *copy);
    char *text = kln_arena_strndup(arena, (*attribute)->s.data, (*attribute)->s.size);
    KLN_FAIL_IF(copy == NULL || text == NULL, ref_fail_arena());
    *copy = **attribute;
    copy->s.data = text;
    *attribute = copy;
    return KILN_OK;
}

kiln_status ref_resolve_attributes(kln_arena *arena, const ref_environment *around, ref_node *node)
{
    const kln_onnx_node *from = node->node;
    node->attributes = kln_arena_alloc_zeroed(arena, from->attribute_count + 1, sizeof(void *));
    node->bodies = kln_arena_alloc_zeroed(arena, from->attribute_count + 1, sizeof(void *));
    KLN_FAIL_IF(node->attributes == NULL || node->bodies == NULL, ref_fail_arena());
    for (size_t i = 0; i < from->attribute_count; i++) {
        const kln_onnx_attribute *attribute = &from->attributes[i];
        const bool reference = attribute->reference != NULL && attribute->reference[0] != '\0';
        if (reference && around->call != NULL) {
            const kln_onnx_attribute *found = referred(around, attribute->reference);
            if (found == NULL) {
                continue;
            }
            kln_onnx_attribute *copy = kln_arena_alloc(arena, sizeof *copy);
            KLN_FAIL_IF(copy == NULL, ref_fail_arena());
            *copy = *found;
            copy->name = attribute->name;
            attribute = copy;
        }
        KLN_RETURN_IF_ERROR(terminate(arena, &attribute));
        node->attributes[node->attribute_count++] = attribute;
    }
    return KILN_OK;
}
