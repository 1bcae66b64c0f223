/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler_parts.h"

#define DEFAULT_ROWS 32
#define MOST_ROWS ((int64_t)1 << 16)

/* --- whether requests can be joined --- */

/* Why the binding prevents joining, or NULL. `*size` is the fixed size in the bindings before
 * it. */
static const char *obstacle(const kiln_binding *binding, int32_t axis, int64_t *size,
                            const char **name)
{
    if (binding->shape.rank <= axis) {
        return "it has no such dimension";
    }
    if (kiln_dtype_bits(binding->dtype) % 8 != 0) {
        return "its elements are smaller than a byte";
    }
    const int64_t here = binding->shape.dims[axis] < 0 ? 0 : binding->shape.dims[axis];
    const char *named = binding->dim_names[axis];
    if (*size >= 0 && here != *size) {
        return "that dimension is not as it is in the others";
    }
    if (binding->is_input && named != NULL && *name != NULL && strcmp(named, *name) != 0) {
        return "that dimension has another name than it has in the others";
    }
    *size = here;
    *name = *name == NULL ? named : *name;
    return NULL;
}

/* The first binding that prevents joining, or NULL. `*size` is the fixed size, or 0. */
static const kiln_binding *find_obstacle(const schedule_rules *rules, int32_t axis, int64_t *size,
                                         const char **why)
{
    const char *name = NULL;
    *size = -1;
    for (size_t i = 0; i < rules->input_count + rules->output_count; i++) {
        const kiln_binding *binding = &rules->bindings[i];
        *why = obstacle(binding, axis, size, &name);
        if (*why != NULL) {
            return binding;
        }
    }
    return NULL;
}

static kiln_status find_followers(schedule_rules *rules)
{
    const int32_t axis = rules->axis;
    const char *name =
        axis >= 0 && rules->input_count != 0 ? rules->bindings[0].dim_names[axis] : NULL;
    rules->follows = kln_arena_alloc_zeroed(&rules->arena, rules->output_count + 1, sizeof(bool));
    for (size_t i = 0; rules->follows != NULL && axis >= 0 && i < rules->output_count; i++) {
        const char *own = rules->outputs[i].dim_names[axis];
        rules->follows[i] = rules->fixed || (name != NULL && own != NULL && strcmp(name, own) == 0);
    }
    return rules->follows != NULL ? KILN_OK
                                  : kln_fail_memory(rules->output_count, "a scheduler's rules");
}

/* --- how many rows --- */

static kiln_status read_sizes(const kiln_scheduler_options *options, schedule_rules *rules)
{
    for (size_t i = 0; i < options->batch_size_count; i++) {
        const int64_t size = options->batch_sizes[i];
        if (size < 1 || size > MOST_ROWS || (i > 0 && size <= options->batch_sizes[i - 1])) {
            return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                            "kiln_scheduler_options: batch_sizes[%zu] is %lld; they rise, from 1 "
                            "to %lld at most",
                            i, (long long)size, (long long)MOST_ROWS);
        }
    }
    if (options->batch_size_count == 0) {
        return KILN_OK;
    }
    const size_t bytes = options->batch_size_count * sizeof(int64_t);
    int64_t *asked = kln_arena_alloc(&rules->arena, bytes);
    KLN_RETURN_IF_NO_MEMORY(asked, bytes, "a scheduler's sizes");
    rules->asked = memcpy(asked, options->batch_sizes, bytes);
    rules->asked_count = options->batch_size_count;
    const int64_t largest = asked[rules->asked_count - 1];
    KLN_RETURN_IF(options->max_batch > largest, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_scheduler_options: max_batch is %lld, and the largest of batch_sizes %lld",
                  (long long)options->max_batch, (long long)largest);
    rules->max_rows = options->max_batch > 0 ? options->max_batch : largest;
    return KILN_OK;
}

static kiln_status choose_rows(const kiln_engine *engine, const kiln_scheduler_options *options,
                               int64_t fixed, schedule_rules *rules)
{
    if (fixed > 0) {
        KLN_RETURN_IF(
            options->max_batch > fixed || options->batch_size_count != 0, KILN_ERROR_UNSUPPORTED,
            "kiln_scheduler_options: %s is given, and this model has batches of "
            "%lld and no others",
            options->batch_size_count != 0 ? "batch_sizes" : "max_batch", (long long)fixed);
        rules->max_rows = options->max_batch > 0 ? options->max_batch : fixed;
        rules->fixed_rows = fixed;
        rules->fixed = true;
        return KILN_OK;
    }
    rules->max_rows =
        options->max_batch > 0 ? options->max_batch : batch_sizes_most(engine, rules->axis);
    rules->max_rows = rules->max_rows < 1           ? DEFAULT_ROWS
                      : rules->max_rows > MOST_ROWS ? MOST_ROWS
                                                    : rules->max_rows;
    return read_sizes(options, rules);
}

/* --- all rules --- */

static kiln_status copy_bindings(const kiln_description *from, schedule_rules *rules)
{
    const size_t count = from->input_count + from->output_count;
    KLN_ARENA_NEW(&rules->arena, rules->bindings, count + 1, "a scheduler's bindings");
    for (size_t i = 0; i < count; i++) {
        rules->bindings[i] = from->bindings[i];
        KLN_RETURN_IF_ERROR(kln_binding_own_names(&rules->arena, &rules->bindings[i]));
    }
    rules->outputs = rules->bindings + from->input_count;
    rules->input_count = from->input_count;
    rules->output_count = from->output_count;
    return KILN_OK;
}

static kiln_status check_numbers(const kiln_scheduler_options *options)
{
    const struct {
        const char *name;
        int64_t value, least, most;
    } numbers[] = {
        {"schedule", (int64_t)options->schedule, 0, KILN_SCHEDULE_THROUGHPUT},
        {"contexts", options->contexts, 0, MOST_CONTEXTS},
        {"batch_axis", options->batch_axis, -1, KILN_MAX_RANK - 1},
        {"max_batch", options->max_batch, 0, MOST_ROWS},
        {"join_rows", options->join_rows, 0, MOST_ROWS},
        {"batch_size_count", (int64_t)options->batch_size_count, 0, MOST_SIZES},
        {"queue_limit", (int64_t)options->queue_limit, 0, INT32_MAX},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(numbers); i++) {
        if (numbers[i].value < numbers[i].least || numbers[i].value > numbers[i].most) {
            return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                            "kiln_scheduler_options: %s is %lld; %lld to %lld is allowed",
                            numbers[i].name, (long long)numbers[i].value,
                            (long long)numbers[i].least, (long long)numbers[i].most);
        }
    }
    KLN_FAIL_IF(options->batch_size_count != 0 && options->batch_sizes == NULL,
                kln_fail_null("kiln_scheduler_options", "batch_sizes"));
    if (options->context != NULL && options->context->stream != NULL) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_scheduler_options: context has a stream, which all contexts would "
                        "take turns on; each has one of its own");
    }
    return KILN_OK;
}

static kiln_status check_bindings(const schedule_rules *rules)
{
    for (size_t i = 0; i < rules->input_count + rules->output_count; i++) {
        const kiln_binding *binding = &rules->bindings[i];
        KLN_RETURN_IF(!kln_dtype_is_bindable(binding->dtype), KILN_ERROR_UNSUPPORTED,
                      "kiln_scheduler_create: %s \"%s\" is of type %s, which no request can bring",
                      binding->is_input ? "input" : "output", binding->name,
                      kiln_dtype_name(binding->dtype));
    }
    return KILN_OK;
}

static kiln_status choose_axis(const kiln_engine *engine, const kiln_scheduler_options *options,
                               schedule_rules *rules)
{
    if (options->batch_axis < 0 || rules->input_count == 0) {
        return KILN_OK;
    }
    int64_t fixed = 0;
    const char *why = NULL;
    const kiln_binding *in_the_way = find_obstacle(rules, options->batch_axis, &fixed, &why);
    if (in_the_way == NULL && fixed != 1) {
        rules->axis = options->batch_axis;
        return choose_rows(engine, options, fixed, rules);
    }
    KLN_RETURN_IF(options->max_batch > 1 || options->batch_size_count != 0, KILN_ERROR_UNSUPPORTED,
                  "kiln_scheduler_options: %s is given, and requests cannot be joined along "
                  "dimension %d: %s%s%s%s",
                  options->batch_size_count != 0 ? "batch_sizes" : "max_batch", options->batch_axis,
                  in_the_way != NULL ? "of \"" : "",
                  in_the_way != NULL ? in_the_way->name : "it is fixed to 1",
                  in_the_way != NULL ? "\", " : "", in_the_way != NULL ? why : "");
    return KILN_OK;
}

kiln_status schedule_rules_make(kiln_engine *const *engines, size_t count,
                                const kiln_scheduler_options *options, schedule_rules *rules)
{
    const kiln_engine *engine = engines[0];
    KLN_RETURN_IF_ERROR(check_numbers(options));
    rules->axis = -1;
    rules->max_rows = 1;
    KLN_RETURN_IF_ERROR(copy_bindings(&engine->shared.description, rules));
    KLN_RETURN_IF_ERROR(check_bindings(rules));
    KLN_RETURN_IF_ERROR(choose_axis(engine, options, rules));
    rules->join_rows = options->join_rows > 0 && options->join_rows < rules->max_rows
                           ? options->join_rows
                           : rules->max_rows;
    rules->join_measured = options->join_measured && engines[0]->shared.device < 0;
    KLN_RETURN_IF_ERROR(find_followers(rules));
    KLN_RETURN_IF_ERROR(length_rules_make(options, rules));
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(schedule_rules_check(rules, engines[i]));
    }
    return KILN_OK;
}

/* An output's dimension may be static in one engine and dynamic in another. */
static bool is_alike(const kiln_binding *a, const kiln_binding *b)
{
    bool alike = strcmp(a->name, b->name) == 0 && a->dtype == b->dtype &&
                 a->shape.rank == b->shape.rank && a->is_input == b->is_input;
    for (int32_t d = 0; alike && d < a->shape.rank; d++) {
        const bool unknown = a->shape.dims[d] < 0 || b->shape.dims[d] < 0;
        alike = a->shape.dims[d] == b->shape.dims[d] || (!a->is_input && unknown);
    }
    return alike;
}

kiln_status schedule_rules_check(const schedule_rules *rules, const kiln_engine *engine)
{
    const kiln_description *description = &engine->shared.description;
    bool same = description->input_count == rules->input_count &&
                description->output_count == rules->output_count;
    for (size_t i = 0; same && i < rules->input_count + rules->output_count; i++) {
        same = is_alike(&rules->bindings[i], &description->bindings[i]);
    }
    return same ? KILN_OK
                : kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                           "engines of one scheduler have the same inputs and outputs, in one "
                           "order; these differ");
}
