/* SPDX-License-Identifier: Apache-2.0 */
#include "compare_parts.h"
#include "engine/kln_engine.h"

/* An input that the engine takes as float32 instead of float64 is converted into the context's own
 * memory. */
static kiln_status bind_narrowed(kiln_context *context, const kiln_named_tensor *input)
{
    const kiln_tensor *wide = &input->tensor;
    kiln_tensor narrow;
    int64_t count = 0;
    KLN_RETURN_IF_ERROR(kiln_context_reshape(context, input->name, &wide->desc.shape));
    KLN_RETURN_IF_ERROR(kiln_context_tensor(context, input->name, &narrow));
    KLN_RETURN_IF_ERROR(kiln_shape_elements(&wide->desc.shape, &count));
    for (int64_t first = 0; first < count; first += 256) {
        double values[256];
        const size_t size = count - first < 256 ? (size_t)(count - first) : 256;
        KLN_RETURN_IF_ERROR(kiln_tensor_read(wide, first, size, values));
        KLN_RETURN_IF_ERROR(kiln_tensor_write(&narrow, first, size, values));
    }
    return KILN_OK;
}

static kiln_status bind_input(const kiln_engine *engine, kiln_context *context,
                              const kiln_named_tensor *input)
{
    const uint32_t index = kln_names_get(&engine->inputs, input->name);
    const bool narrows = index != KLN_NAMES_NONE && engine->shared.backend->bound_as != NULL &&
                         input->tensor.desc.dtype == KILN_DTYPE_FLOAT64 &&
                         engine->shared.description.bindings[index].dtype == KILN_DTYPE_FLOAT32;
    return narrows ? bind_narrowed(context, input)
                   : kiln_context_bind(context, input->name, &input->tensor);
}

static kiln_status bind_and_run(kiln_engine *engine, const kln_compare_inputs *inputs,
                                kiln_context **context)
{
    KLN_SCOPED(kiln_context_destroy_at) kiln_context *made = NULL;
    KLN_RETURN_IF_ERROR(kiln_context_create(engine, NULL, &made));
    kiln_status status = KILN_OK;
    for (size_t i = 0; i < inputs->count && status == KILN_OK; i++) {
        status = bind_input(engine, made, &inputs->tensors[i]);
    }
    KLN_THEN(status, kiln_context_run(made));
    KLN_RETURN_WITHIN(status, "the %s backend", engine->shared.info.name);
    *context = KLN_TAKE(made);
    return KILN_OK;
}

kiln_status kln_compare_run(kiln_engine *const engines[2],
                            const kln_compare_inputs *const inputs[2], kiln_context *contexts[2])
{
    KLN_SCOPED(kiln_context_destroy_at) kiln_context *first = NULL;
    contexts[0] = contexts[1] = NULL;
    KLN_RETURN_IF_ERROR(bind_and_run(engines[0], inputs[0], &first));
    KLN_RETURN_IF_ERROR(bind_and_run(engines[1], inputs[1], &contexts[1]));
    contexts[0] = KLN_TAKE(first);
    return KILN_OK;
}

kiln_status kln_compare_output(kiln_context *const contexts[2], const char *name,
                               const kiln_compare_options *options, kln_compare_steps *steps,
                               kiln_tensor_difference *difference)
{
    kiln_tensor tensors[2];
    for (size_t i = 0; i < 2; i++) {
        const kiln_status status = kiln_context_tensor(contexts[i], name, &tensors[i]);
        if (status == KILN_ERROR_DTYPE) {
            /* Not a tensor. */
            tensors[i] = (kiln_tensor){.desc = {.dtype = KILN_DTYPE_UNDEFINED}};
        } else if (status != KILN_OK) {
            return status;
        }
    }
    return kln_compare_tensor(&tensors[0], &tensors[1], options, steps, difference);
}
