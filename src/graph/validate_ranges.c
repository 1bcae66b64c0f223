/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "validate_rules.h"

static void tell(kln_validation *v, kiln_severity severity, const char *input, const char *expected,
                 const char *found, const char *words)
{
    kln_validate_issue(v, severity, KILN_ISSUE_PROFILE, "", input, expected, found,
                       "the range of input \"%.120s\": %.300s", input, words);
}

static void complain(kln_validation *v, const char *input, const char *expected, const char *found,
                     const char *words)
{
    tell(v, KILN_SEVERITY_ERROR, input, expected, found, words);
}

/* Whether the range is consistent, with itself and with what the model declares. */
static bool check_range(kln_validation *v, const kln_profile_range *range)
{
    const kln_onnx_value *input = kln_onnx_find_input(v->model, range->input);
    char words[200];
    if (input == NULL) {
        complain(v, range->input, "an input", "none", "the network has no input of that name");
        return false;
    }
    const int32_t rank = range->opt.rank;
    if (range->min.rank != rank || range->max.rank != rank || rank < 0 || rank > KILN_MAX_RANK ||
        (input->type.has_shape && input->type.rank != (size_t)rank)) {
        (void)snprintf(words, sizeof words,
                       "min, opt and max have %d, %d and %d dimensions, but the input has %zu",
                       (int)range->min.rank, (int)rank, (int)range->max.rank, input->type.rank);
        complain(v, range->input, "one rank", "others", words);
        return false;
    }
    bool good = true;
    for (int32_t i = 0; i < rank; i++) {
        const int64_t low = range->min.dims[i];
        const int64_t best = range->opt.dims[i];
        const int64_t high = range->max.dims[i];
        if (low < 0 || low > best || best > high) {
            (void)snprintf(
                words, sizeof words,
                "dimension %d goes from %lld over %lld to %lld; min must not pass opt, nor opt max",
                (int)i, (long long)low, (long long)best, (long long)high);
            complain(v, range->input, "min <= opt <= max", "another order", words);
            good = false;
        } else if (input->type.has_shape && input->type.dims[i].value >= 0 &&
                   (low != input->type.dims[i].value || high != low)) {
            (void)snprintf(words, sizeof words,
                           "dimension %d goes from %lld to %lld, but is always %lld", (int)i,
                           (long long)low, (long long)high, (long long)input->type.dims[i].value);
            complain(v, range->input, "the fixed dimension", "another", words);
            good = false;
        }
    }
    return good;
}

static kiln_status try_shapes(kln_validation *v, const char *which, const kln_input_shape *shapes)
{
    const kln_infer_options options = {.inputs = shapes, .input_count = v->options->range_count};
    KLN_SCOPED(kln_inference_destroy_at) kln_inference *inference = NULL;
    const kiln_status status = kln_infer(v->model, &options, &inference);
    if (status == KILN_ERROR_SHAPE || status == KILN_ERROR_RANK || status == KILN_ERROR_NAME) {
        complain(v, shapes[0].name, "shapes that go together", which, kiln_error_message());
        return KILN_OK;
    }
    if (status != KILN_OK) {
        return status;
    }
    /* Faults for all shapes were reported already; these are about this range alone. */
    const kiln_issue *first = kln_validate_news(v, inference->issues, KILN_SEVERITY_ERROR);
    char words[300];
    if (first != NULL) {
        (void)snprintf(words, sizeof words, "with all inputs at %s, %.260s", which,
                       first->sentence);
        complain(v, shapes[0].name, "shapes that the graph takes", which, words);
    } else if ((first = kln_validate_news(v, inference->doubts, KILN_SEVERITY_WARNING)) != NULL) {
        (void)snprintf(words, sizeof words,
                       "with all inputs at %s, a branch fails if it is taken: %.220s", which,
                       first->sentence);
        tell(v, KILN_SEVERITY_WARNING, shapes[0].name, "shapes that every branch takes", which,
             words);
    }
    return KILN_OK;
}

void kln_validate_ranges(kln_validation *v)
{
    const kln_validate_options *options = v->options;
    bool good = options->range_count > 0;
    for (size_t i = 0; i < options->range_count && v->status == KILN_OK; i++) {
        good &= check_range(v, &options->ranges[i]);
    }
    if (!good || v->status != KILN_OK) {
        return;
    }
    kln_input_shape *shapes =
        kln_arena_alloc_zeroed(&v->inference->arena, options->range_count, sizeof *shapes);
    if (shapes == NULL) {
        v->status = kln_fail_memory(options->range_count * sizeof *shapes, "profile ranges");
        return;
    }
    static const char *const names[] = {"min", "opt", "max"};
    for (size_t k = 0; k < 3 && v->status == KILN_OK; k++) {
        for (size_t i = 0; i < options->range_count; i++) {
            const kln_profile_range *range = &options->ranges[i];
            shapes[i].name = range->input;
            shapes[i].shape = k == 0 ? range->min : k == 1 ? range->opt : range->max;
        }
        v->status = try_shapes(v, names[k], shapes);
    }
}
