/* SPDX-License-Identifier: Apache-2.0 */
#include "compare_parts.h"
#include "tensor/kln_tensor.h"

static kiln_status make(const kiln_binding *binding, const kiln_named_tensor *given,
                        const kiln_compare_options *options, kiln_named_tensor *made)
{
    const kiln_shape shape = given != NULL ? given->tensor.desc.shape : binding->shape;
    size_t bytes = 0;
    if (shape.rank < 0 || !kiln_shape_is_static(&shape)) {
        return kln_fail(KILN_ERROR_SHAPE,
                        "input \"%s\" %s %s: give it a shape in kiln_compare_options.inputs, with "
                        "or without data",
                        binding->name, shape.rank < 0 ? "may have" : "has the shape",
                        KLN_SHAPE_PRINTED(&shape));
    }
    KLN_RETURN_IF(!kln_dtype_is_bindable(binding->dtype), KILN_ERROR_DTYPE,
                  "input \"%s\" is of type %s, which Kiln cannot feed", binding->name,
                  kiln_dtype_name(binding->dtype));
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(binding->dtype, &shape, &bytes));
    /* Some extra bytes, so that an empty tensor has an address too. */
    void *data = kln_alloc_aligned(bytes + 16, 64);
    KLN_RETURN_IF_NO_MEMORY(data, bytes, "an input");
    memset(data, 0, bytes + 16);
    *made =
        (kiln_named_tensor){binding->name, KILN_HOST_TENSOR(binding->dtype, shape, data, bytes)};
    const kiln_status status =
        options->fill == KILN_FILL_RANDOM
            ? kiln_tensor_fill(&made->tensor, made->name, options->seed, NULL)
            : KILN_OK;
    if (status != KILN_OK) {
        kln_free(data);
        *made = (kiln_named_tensor){.name = NULL};
    }
    return status;
}

/* Indices of inputs by name. */
typedef struct making {
    kiln_engine *const *engines;
    const kiln_compare_options *options;
    kln_names given; /* in the options */
    kln_names taken; /* in `inputs` */
    kln_compare_inputs *inputs;
} making;

static kiln_status read_given(making *m)
{
    const kiln_compare_options *options = m->options;
    for (size_t i = 0; i < options->input_count; i++) {
        const char *name = options->inputs[i].name;
        KLN_RETURN_IF(name == NULL, KILN_ERROR_NULL_ARGUMENT,
                      "kiln_compare_options: input %zu has no name", i);
        for (size_t k = 0; k < 2; k++) {
            KLN_RETURN_IF(
                kln_names_get(&m->engines[k]->inputs, name) == KLN_NAMES_NONE, KILN_ERROR_NAME,
                "kiln_compare_options: there is no input \"%s\" in the engine of the %s backend",
                name, m->engines[k]->shared.info.name);
        }
        KLN_RETURN_IF_ERROR(kln_names_set(&m->given, name, (uint32_t)i));
    }
    return KILN_OK;
}

static kiln_status take(making *m, const kiln_binding *binding)
{
    kln_compare_inputs *inputs = m->inputs;
    if (kln_names_get(&m->taken, binding->name) != KLN_NAMES_NONE) {
        return KILN_OK;
    }
    const uint32_t place = kln_names_get(&m->given, binding->name);
    const kiln_named_tensor *given = place != KLN_NAMES_NONE ? &m->options->inputs[place] : NULL;
    const size_t index = inputs->count;
    KLN_RETURN_IF_ERROR(kln_names_set(&m->taken, binding->name, (uint32_t)index));
    if (given != NULL && (given->tensor.data != NULL || given->tensor.bytes > 0)) {
        inputs->tensors[index] = *given;
    } else {
        inputs->is_owned[index] = true;
        KLN_RETURN_IF_ERROR(make(binding, given, m->options, &inputs->tensors[index]));
    }
    inputs->count++;
    return KILN_OK;
}

/* Takes the inputs that either engine needs, in the order of the second, and any others that are
 * given. */
static kiln_status take_all(making *m)
{
    for (size_t k = 2; k-- > 0;) {
        const kiln_description *description = &m->engines[k]->shared.description;
        for (size_t i = 0; i < description->input_count; i++) {
            KLN_RETURN_IF_ERROR(take(m, &description->bindings[i]));
        }
    }
    for (size_t i = 0; i < m->options->input_count; i++) {
        const kiln_engine *engine = m->engines[1];
        const uint32_t slot = kln_names_get(&engine->inputs, m->options->inputs[i].name);
        KLN_RETURN_IF_ERROR(take(m, &engine->shared.description.bindings[slot]));
    }
    return KILN_OK;
}

kiln_status kln_compare_inputs_make(kiln_engine *const engines[2],
                                    const kiln_compare_options *options, kln_compare_inputs *inputs)
{
    making m = {.engines = engines, .options = options, .inputs = inputs};
    const size_t most = kiln_engine_input_count(engines[0]) + kiln_engine_input_count(engines[1]) +
                        options->input_count + 1;
    *inputs = (kln_compare_inputs){NULL, NULL, 0};
    kiln_status status = read_given(&m);
    if (status == KILN_OK) {
        inputs->tensors = kln_alloc_zeroed(most, sizeof *inputs->tensors);
        inputs->is_owned = kln_alloc_zeroed(most, sizeof *inputs->is_owned);
        status = inputs->tensors != NULL && inputs->is_owned != NULL
                     ? take_all(&m)
                     : kln_fail_memory(most * sizeof *inputs->tensors, "inputs");
    }
    kln_names_finish(&m.given);
    kln_names_finish(&m.taken);
    if (status != KILN_OK) {
        kln_compare_inputs_finish(inputs);
    }
    return status;
}

void kln_compare_inputs_finish(kln_compare_inputs *inputs)
{
    const bool has_lists = inputs->tensors != NULL && inputs->is_owned != NULL;
    for (size_t i = 0; has_lists && i < inputs->count; i++) {
        if (inputs->is_owned[i]) {
            kln_free(inputs->tensors[i].tensor.data);
        }
    }
    kln_free(inputs->tensors);
    kln_free(inputs->is_owned);
    *inputs = (kln_compare_inputs){NULL, NULL, 0};
}
