/* SPDX-License-Identifier: Apache-2.0 */
/* Checks that optimization profiles match the inputs of a model. */
#include "kln_seam.h"

static const char *const names[] = {"min", "opt", "max"};

static const char *input_name(const void *from, size_t index)
{
    const kiln_binding *binding = &((const kiln_binding *)from)[index];
    return binding->is_input ? binding->name : NULL;
}

/* Checks a shape against the input, and that it is not less than the one before it (min, opt,
 * max). */
static kiln_status check_shape(const char *name, size_t profile, size_t which,
                               const kiln_shape *shape, const kiln_shape *before,
                               const kiln_shape *declared)
{
    char given[192];
    char needed[192];
    (void)kiln_shape_format(shape, given, sizeof given);
    (void)kiln_shape_format(declared, needed, sizeof needed);
    KLN_RETURN_IF(shape->rank < 0 || shape->rank > KILN_MAX_RANK ||
                      (declared->rank >= 0 && shape->rank != declared->rank) ||
                      (before != NULL && shape->rank != before->rank),
                  KILN_ERROR_RANK, "profile %zu, input \"%s\": %s is %s, the model has %s", profile,
                  name, names[which], given, needed);
    for (int32_t d = 0; d < shape->rank; d++) {
        const int64_t wanted = declared->rank >= 0 ? declared->dims[d] : KILN_DYNAMIC;
        KLN_RETURN_IF(shape->dims[d] < 0 || (wanted != KILN_DYNAMIC && wanted != shape->dims[d]),
                      KILN_ERROR_SHAPE,
                      "profile %zu, input \"%s\": %s is %s, the model has %s (dimension %d)",
                      profile, name, names[which], given, needed, d);
        KLN_RETURN_IF(
            before != NULL && shape->dims[d] < before->dims[d], KILN_ERROR_SHAPE,
            "profile %zu, input \"%s\": in dimension %d, %s (%lld) is less than %s (%lld)", profile,
            name, d, names[which], (long long)shape->dims[d], names[which - 1],
            (long long)before->dims[d]);
    }
    return KILN_OK;
}

static kiln_status check_input(const kiln_profile_input *input, size_t profile,
                               const kiln_shape *declared)
{
    const kiln_shape *shapes[] = {&input->min, &input->opt, &input->max};
    const int64_t *lists[] = {input->min_values, input->opt_values, input->max_values};
    for (size_t i = 0; i < 3 && input->value_count == 0; i++) {
        KLN_RETURN_IF_ERROR(check_shape(input->name, profile, i, shapes[i],
                                        i > 0 ? shapes[i - 1] : NULL, declared));
    }
    for (size_t i = 0; i < 3 && input->value_count > 0; i++) {
        KLN_RETURN_IF(lists[i] == NULL, KILN_ERROR_INVALID_ARGUMENT,
                      "profile %zu, input \"%s\": value_count is %zu and %s_values is NULL",
                      profile, input->name, input->value_count, names[i]);
        for (size_t k = 0; k < input->value_count && i > 0; k++) {
            KLN_RETURN_IF(lists[i][k] < lists[i - 1][k], KILN_ERROR_SHAPE,
                          "profile %zu, input \"%s\": value %zu, %s (%lld) is less than %s (%lld)",
                          profile, input->name, k, names[i], (long long)lists[i][k], names[i - 1],
                          (long long)lists[i - 1][k]);
        }
    }
    return KILN_OK;
}

kiln_status kln_profiles_check(const kiln_build_options *options, const kiln_binding *bindings,
                               size_t count)
{
    for (size_t i = 0; i < options->profile_count; i++) {
        const kiln_profile *profile = &options->profiles[i];
        KLN_FAIL_IF(profile->input_count > 0 && profile->inputs == NULL,
                    kln_fail_null("kiln_build_options", "profiles[].inputs"));
        for (size_t k = 0; k < profile->input_count; k++) {
            const kiln_profile_input *input = &profile->inputs[k];
            KLN_RETURN_IF(input->name == NULL, KILN_ERROR_NULL_ARGUMENT,
                          "profile %zu: input %zu has no name", i, k);
            size_t at = 0;
            while (at < count &&
                   !(bindings[at].is_input && strcmp(bindings[at].name, input->name) == 0)) {
                at++;
            }
            char known[600];
            KLN_RETURN_IF(at == count, KILN_ERROR_NAME, "profile %zu: there is no input \"%s\"; %s",
                          i, input->name,
                          kln_there_are(known, sizeof known, count, input_name, bindings));
            KLN_RETURN_IF_ERROR(check_input(input, i, &bindings[at].shape));
        }
    }
    return KILN_OK;
}
