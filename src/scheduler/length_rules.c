/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of different lengths: the dimensions along which inputs are padded and outputs cut. */
#include "scheduler_parts.h"

static kiln_status find_binding(const schedule_rules *rules, const char *name, size_t *index)
{
    const size_t count = rules->input_count + rules->output_count;
    for (*index = 0; name != NULL && *index < count; (*index)++) {
        if (strcmp(rules->bindings[*index].name, name) == 0) {
            return KILN_OK;
        }
    }
    return name == NULL ? kln_fail_null("kiln_scheduler_options", "paddings")
                        : kln_fail(KILN_ERROR_NAME,
                                   "kiln_scheduler_options: paddings name \"%s\", and the engine "
                                   "has no such input or output",
                                   name);
}

static kiln_status read_padding(const kiln_scheduler_padding *padding, schedule_rules *rules)
{
    size_t index = 0;
    KLN_RETURN_IF_ERROR(find_binding(rules, padding->name, &index));
    const kiln_binding *binding = &rules->bindings[index];
    length_rule *rule = &rules->lengthy[index];
    const int32_t axis = padding->axis;
    KLN_RETURN_IF(axis < 0 || axis >= binding->shape.rank || axis == rules->axis ||
                      binding->shape.dims[axis] >= 0,
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_scheduler_options: \"%s\" cannot be padded along dimension %d: a "
                  "dynamic dimension other than batch_axis is needed",
                  padding->name, axis);
    const size_t bytes = kiln_dtype_bits(binding->dtype) / 8;
    KLN_RETURN_IF(rule->axis >= 0 || bytes == 0 || bytes > sizeof rule->value,
                  KILN_ERROR_INVALID_ARGUMENT, "kiln_scheduler_options: \"%s\" %s", padding->name,
                  rule->axis >= 0 ? "is padded along one dimension at most"
                                  : "has elements that cannot be padded");
    kiln_tensor one = KILN_HOST_TENSOR(binding->dtype, KILN_SHAPE(1), rule->value, bytes);
    rule->axis = axis;
    return kiln_tensor_write(&one, 0, 1, &padding->value);
}

/* The name of the dimension that varies in length, taken from the first padded one that has a name;
 * or NULL. */
static const char *length_name(const schedule_rules *rules)
{
    const char *name = NULL;
    for (size_t i = 0; name == NULL && i < rules->input_count + rules->output_count; i++) {
        const int32_t axis = rules->lengthy[i].axis;
        name = axis >= 0 ? rules->bindings[i].dim_names[axis] : NULL;
    }
    return name;
}

/* Every dimension of that name has to be padded or cut, and no output may have a dynamic dimension
 * without a name, whose length would be unknown. */
static kiln_status check_binding(schedule_rules *rules, size_t index, const char *name)
{
    const kiln_binding *binding = &rules->bindings[index];
    length_rule *rule = &rules->lengthy[index];
    for (int32_t d = 0; d < binding->shape.rank; d++) {
        const char *own = binding->dim_names[d];
        const bool same = name != NULL && own != NULL && strcmp(name, own) == 0;
        if (d == rules->axis || d == rule->axis || binding->shape.dims[d] >= 0) {
            continue;
        }
        if (!binding->is_input && same && rule->axis < 0) {
            rule->axis = d;
        } else if (same || (!binding->is_input && own == NULL)) {
            return kln_fail(KILN_ERROR_UNSUPPORTED,
                            "kiln_scheduler_options: %s \"%s\" has a dynamic dimension %d%s%s, and "
                            "paddings do not say that its length goes with those they name",
                            binding->is_input ? "input" : "output", binding->name, d,
                            same ? " of the same name, " : "", same ? name : "");
        }
    }
    return KILN_OK;
}

static kiln_status read_lengths(const kiln_scheduler_options *options, schedule_rules *rules)
{
    const size_t count = options->length_count;
    int64_t *lengths = kln_arena_alloc_zeroed(&rules->arena, count + 1, sizeof *lengths);
    KLN_FAIL_IF(count != 0 && options->lengths == NULL,
                kln_fail_null("kiln_scheduler_options", "lengths"));
    KLN_RETURN_IF_NO_MEMORY(lengths, count * sizeof *lengths, "a scheduler's lengths");
    for (size_t i = 0; i < count; i++) {
        lengths[i] = options->lengths[i];
        if (lengths[i] < 1 || (i > 0 && lengths[i] <= lengths[i - 1])) {
            return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                            "kiln_scheduler_options: lengths[%zu] is %lld; they rise, from 1 on", i,
                            (long long)lengths[i]);
        }
    }
    rules->lengths = lengths;
    rules->length_count = count;
    return KILN_OK;
}

kiln_status length_rules_make(const kiln_scheduler_options *options, schedule_rules *rules)
{
    const size_t count = rules->input_count + rules->output_count;
    KLN_ARENA_NEW(&rules->arena, rules->lengthy, count + 1, "a scheduler's rules");
    for (size_t i = 0; i < count; i++) {
        rules->lengthy[i].axis = -1;
    }
    if (options->padding_count == 0) {
        return KILN_OK;
    }
    if (options->paddings == NULL || rules->axis < 0) {
        return options->paddings == NULL ? kln_fail_null("kiln_scheduler_options", "paddings")
                                         : kln_fail(KILN_ERROR_UNSUPPORTED,
                                                    "kiln_scheduler_options: paddings are given, "
                                                    "and requests of this model are not joined");
    }
    KLN_RETURN_IF_ERROR(read_lengths(options, rules));
    for (size_t i = 0; i < options->padding_count; i++) {
        KLN_RETURN_IF_ERROR(read_padding(&options->paddings[i], rules));
    }
    const char *name = length_name(rules);
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(check_binding(rules, i, name));
    }
    rules->has_lengths = true;
    return KILN_OK;
}

int64_t length_rules_fill_up(const schedule_rules *rules, int64_t length)
{
    int64_t filled = 1;
    for (size_t i = 0; i < rules->length_count; i++) {
        if (rules->lengths[i] >= length) {
            return rules->lengths[i];
        }
    }
    while (rules->length_count == 0 && filled < length) {
        filled *= 2;
    }
    return filled < length ? length : filled;
}
