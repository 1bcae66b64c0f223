/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli_model.h"
#include "cli_warmup.h"

/* The first run is plain, the second is captured, and the third is measured. */
#define RUNS 3
#define MILLISECONDS 3000

static const kiln_profile_input *find_input(const kiln_profile *profile, const char *name)
{
    for (size_t i = 0; profile != NULL && i < profile->input_count; i++) {
        if (strcmp(profile->inputs[i].name, name) == 0) {
            return &profile->inputs[i];
        }
    }
    return NULL;
}

/* The context's own memory is used, zeroed; a shape tensor gets its values. */
static kiln_status give_input(kiln_context *context, const kiln_binding *binding,
                              const kiln_profile_input *chosen)
{
    const kiln_shape *shape =
        chosen != NULL && chosen->value_count == 0 ? &chosen->opt : &binding->shape;
    kiln_tensor tensor;
    KLN_RETURN_IF_ERROR(kiln_context_reshape(context, binding->name, shape));
    if (chosen == NULL || chosen->value_count == 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(cli_tensor_of(context, binding, &tensor));
    for (size_t i = 0; i < chosen->value_count; i++) {
        if (binding->dtype == KILN_DTYPE_INT64 && (i + 1) * sizeof(int64_t) <= tensor.bytes) {
            ((int64_t *)tensor.data)[i] = chosen->opt_values[i];
        } else if (binding->dtype == KILN_DTYPE_INT32 &&
                   (i + 1) * sizeof(int32_t) <= tensor.bytes) {
            ((int32_t *)tensor.data)[i] = (int32_t)chosen->opt_values[i];
        }
    }
    return KILN_OK;
}

static kiln_status warm_up(kiln_engine *engine, kiln_context *context, const kiln_profile *profile)
{
    const size_t count = kiln_engine_input_count(engine);
    for (size_t i = 0; i < count; i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        KLN_RETURN_IF_ERROR(kiln_engine_input(engine, i, &binding));
        KLN_RETURN_IF_ERROR(give_input(context, &binding, find_input(profile, binding.name)));
    }
    return kiln_context_warmup(context, RUNS, MILLISECONDS, NULL);
}

static kiln_status warm_up_all(kiln_engine *engine)
{
    const size_t profiles = kiln_engine_profile_count(engine);
    CLI_OWNED(context) context = NULL;
    KLN_RETURN_IF_ERROR(kiln_context_create(engine, NULL, &context));
    for (size_t i = 0; i == 0 || i < profiles; i++) {
        kiln_profile profile;
        KLN_RETURN_IF_ERROR(profiles > 0 ? kiln_engine_profile(engine, i, &profile) : KILN_OK);
        KLN_RETURN_IF_ERROR(warm_up(engine, context, profiles > 0 ? &profile : NULL));
    }
    return KILN_OK;
}

cli_exit cli_warmup(kiln_engine *engine)
{
    if (kiln_engine_device(engine) < 0) {
        cli_error(
            "--warmup measures how inputs and outputs travel to a GPU and back, and what was "
            "built does not run on one here; leave --warmup out");
        return CLI_FAILED;
    }
    return warm_up_all(engine) == KILN_OK ? CLI_DONE : cli_fail();
}
