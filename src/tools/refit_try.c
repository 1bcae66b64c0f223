/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the samples with the new weights and checks the results. */
#include "compare_parts.h"
#include "refit_parts.h"

static kiln_status compare(size_t index, const kiln_named_tensor *expected,
                           const kiln_tensor *found, const kiln_refit_options *options,
                           kiln_refit_report *report)
{
    kiln_compare_options how = KILN_COMPARE_OPTIONS_INIT;
    kln_compare_steps steps = {.count = 0};
    kiln_tensor_difference difference = {.name = expected->name};
    char shapes[2][KLN_SHAPE_TEXT];
    how.absolute = options->absolute;
    how.relative = options->relative;
    how.steps = 0;
    KLN_RETURN_IF_ERROR(kln_compare_tensor(found, &expected->tensor, &how, &steps, &difference));
    if (!difference.is_comparable) {
        (void)kiln_shape_format(&found->desc.shape, shapes[0], sizeof shapes[0]);
        (void)kiln_shape_format(&expected->tensor.desc.shape, shapes[1], sizeof shapes[1]);
        return kln_fail(KILN_ERROR_MISMATCH,
                        "refit: sample %zu: output \"%s\" is %s %s, %s %s was expected; the "
                        "weights are as they were",
                        index, expected->name, kiln_dtype_name(found->desc.dtype), shapes[0],
                        kiln_dtype_name(expected->tensor.desc.dtype), shapes[1]);
    }
    if (difference.largest_absolute > report->largest) {
        report->largest = difference.largest_absolute;
    }
    return difference.passes
               ? KILN_OK
               : kln_fail(KILN_ERROR_MISMATCH,
                          "refit: sample %zu: %lld of %lld elements of the output \"%s\" differ, "
                          "most at element %lld: %g was found, %g was expected, %g + %g x "
                          "|expected| is allowed; the weights are as they were",
                          index, (long long)difference.different, (long long)difference.count,
                          expected->name, (long long)difference.largest_at, difference.found,
                          difference.expected, options->absolute, options->relative);
}

static kiln_status ask(size_t index, const kiln_named_tensor *outputs, size_t count,
                       const kiln_refit_options *options)
{
    char message[1024] = "";
    const kiln_status status = options->check(options->user, index, outputs, count, message);
    message[sizeof message - 1] = '\0';
    return status == KILN_OK
               ? KILN_OK
               : kln_fail(
                     status,
                     "refit: sample %zu: the check refuses it%s%s; the weights are as they were",
                     index, message[0] != '\0' ? ": " : "", message);
}

static kiln_status judge(const kiln_refit_sample *sample, size_t index,
                         const kiln_named_tensor *outputs, size_t count,
                         const kiln_refit_options *options, kiln_refit_report *report)
{
    for (size_t i = 0; i < sample->expected_count; i++) {
        const kiln_named_tensor *found = NULL;
        for (size_t k = 0; k < count; k++) {
            found = strcmp(outputs[k].name, sample->expected[i].name) == 0 ? &outputs[k] : found;
        }
        KLN_RETURN_IF(found == NULL, KILN_ERROR_NAME,
                      "refit: the output \"%s\" is expected of sample %zu, and the engine has none "
                      "of that name",
                      sample->expected[i].name, index);
        KLN_RETURN_IF_ERROR(compare(index, &sample->expected[i], &found->tensor, options, report));
    }
    return options->check != NULL ? ask(index, outputs, count, options) : KILN_OK;
}

static kiln_status run_samples(kiln_context *context, kiln_named_tensor *outputs, size_t count,
                               const kiln_refit_options *options, kiln_refit_report *report)
{
    for (size_t i = 0; i < options->sample_count; i++) {
        const kiln_refit_sample *sample = &options->samples[i];
        for (size_t k = 0; k < count; k++) {
            outputs[k].tensor = (kiln_tensor){.data = NULL};
        }
        KLN_RETURN_WITHIN(
            kiln_context_run_tensors(context, sample->inputs, sample->input_count, outputs, count),
            "refit: sample %zu", i);
        report->samples++;
        KLN_RETURN_IF_ERROR(judge(sample, i, outputs, count, options, report));
    }
    return KILN_OK;
}

kiln_status kln_refit_try(kiln_engine *trial, const kiln_refit_options *options,
                          kiln_refit_report *report)
{
    const size_t count = kiln_engine_output_count(trial);
    kiln_context_options plain = KILN_CONTEXT_OPTIONS_INIT;
    KLN_SCOPED(kiln_context_destroy_at) kiln_context *context = NULL;
    KLN_SCOPED_FREE kiln_named_tensor *outputs = kln_alloc_zeroed(count, sizeof *outputs);
    KLN_RETURN_IF_NO_MEMORY(outputs, count * sizeof *outputs, "the outputs of a sample");
    for (size_t i = 0; i < count; i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        if (kiln_engine_output(trial, i, &binding) == KILN_OK) {
            outputs[i].name = binding.name;
        }
    }
    plain.graphs = KILN_GRAPH_OFF;
    KLN_RETURN_IF_ERROR(kiln_context_create(trial, &plain, &context));
    return run_samples(context, outputs, count, options, report);
}
