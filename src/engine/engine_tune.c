/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include <kiln/context.h>

#include "kln_engine.h"
#include "network/kln_network.h"

/* Each way to build is run for so long, and at least as often. */
#define TUNE_MILLISECONDS 300
#define TUNE_RUNS 200

/* Where the result of the first version of the header ends. */
#define FIRST_SIZE offsetof(kiln_tune_result, merged_products)

/* What is tried: the options as they were given, then these instead of theirs. */
typedef struct variant {
    kiln_switch prefer_nhwc;
    kiln_conv_search conv_search;
    kiln_switch fuse_conv_bias;
} variant;

static const variant variants[] = {
    {KILN_SWITCH_OFF, KILN_CONV_SEARCH_HEURISTIC, KILN_SWITCH_OFF},
    {KILN_SWITCH_ON, KILN_CONV_SEARCH_EXHAUSTIVE, KILN_SWITCH_OFF},
    {KILN_SWITCH_ON, KILN_CONV_SEARCH_HEURISTIC, KILN_SWITCH_OFF},
    {KILN_SWITCH_ON, KILN_CONV_SEARCH_EXHAUSTIVE, KILN_SWITCH_ON},
};

/* The shape that tuning runs input `index` with: the profile's most usual, or the only one. */
static kiln_status shape_of(const kiln_engine *engine, const kiln_build_options *options,
                            size_t index, kiln_shape *shape)
{
    const kiln_binding *binding = &engine->description.bindings[index];
    *shape = binding->shape;
    for (size_t i = 0; options->profile_count != 0 && i < options->profiles[0].input_count; i++) {
        const kiln_profile_input *input = &options->profiles[0].inputs[i];
        if (strcmp(input->name, binding->name) == 0 && input->value_count == 0) {
            *shape = input->opt;
            return KILN_OK;
        }
    }
    if (shape->rank < 0 || !kiln_shape_is_static(shape)) {
        return kln_fail(KILN_ERROR_SHAPE,
                        "kiln_engine_tune_file: the shape of input \"%s\" is open; a profile must "
                        "give its most usual one",
                        binding->name);
    }
    return KILN_OK;
}

static kiln_status time_engine(kiln_engine *engine, const kiln_build_options *options,
                               uint64_t *nanoseconds)
{
    kiln_context *context = NULL;
    kiln_warmup_summary summary = {.struct_size = sizeof summary};
    kiln_status status = kiln_context_create(engine, NULL, &context);
    for (size_t i = 0; status == KILN_OK && i < engine->description.input_count; i++) {
        kiln_shape shape;
        status = shape_of(engine, options, i, &shape);
        if (status == KILN_OK) {
            status = kiln_context_reshape(context, engine->description.bindings[i].name, &shape);
        }
    }
    /* The first of these captures; the others are what is measured. */
    if (status == KILN_OK) {
        status = kiln_context_warmup(context, 3, 0, NULL);
    }
    if (status == KILN_OK) {
        status = kiln_context_warmup(context, TUNE_RUNS, TUNE_MILLISECONDS, &summary);
    }
    kiln_context_destroy(context);
    *nanoseconds = summary.median_nanoseconds;
    return status;
}

/* What differs by less from the options as they were given is chance. */
static bool is_faster(uint64_t nanoseconds, uint64_t best, uint64_t given)
{
    return nanoseconds < best && nanoseconds < given - given / 100;
}

/* Builds and times one way; keeps it where it is the fastest so far. `graph`: the model, rewritten;
 * NULL: as it lies in the file. */
static kiln_status try_variant(const char *path, const kln_onnx_model *graph,
                               const kiln_build_options *options, kiln_tune_result *result,
                               kiln_engine **engine)
{
    kiln_engine *made = NULL;
    uint64_t nanoseconds = 0;
    result->tried++;
    const kln_model model = {.path = NULL, .graph = graph};
    kiln_status status = graph != NULL ? kln_engine_make(&model, options, false, NULL, &made)
                                       : kiln_engine_build_file(path, options, &made);
    if (status == KILN_OK && made->device < 0) {
        status = kln_fail(KILN_ERROR_UNSUPPORTED,
                          "kiln_engine_tune_file: the %s backend computes on the CPU here, where "
                          "nothing is tuned",
                          made->info.name);
    }
    if (status == KILN_OK) {
        status = time_engine(made, options, &nanoseconds);
    }
    if (status != KILN_OK) {
        kiln_engine_release(made);
        return status;
    }
    kln_log(KILN_LOG_INFO, "engine",
            "tuning %s: nhwc %d, convolution search %d, bias fused %d%s: %.1f us", path,
            (int)options->prefer_nhwc, (int)options->conv_search, (int)options->fuse_conv_bias,
            graph != NULL ? ", products merged" : "", (double)nanoseconds / 1e3);
    if (*engine == NULL ||
        is_faster(nanoseconds, result->best_nanoseconds, result->given_nanoseconds)) {
        kiln_engine_release(*engine);
        *engine = made;
        result->best_nanoseconds = nanoseconds;
        result->prefer_nhwc = options->prefer_nhwc;
        result->conv_search = options->conv_search;
        result->fuse_conv_bias = options->fuse_conv_bias;
    } else {
        kiln_engine_release(made);
    }
    return KILN_OK;
}

/* As try_variant, but a way that does not work is passed over. */
static bool try_other(const char *path, const kln_onnx_model *graph,
                      const kiln_build_options *options, kiln_tune_result *result,
                      kiln_engine **engine)
{
    const kiln_engine *before = *engine;
    if (try_variant(path, graph, options, result, engine) != KILN_OK) {
        kln_log(KILN_LOG_INFO, "engine", "tuning %s: %s", path, kiln_error_message());
        result->failed++;
    }
    return *engine != before;
}

/* With the options that were the fastest so far. */
static void try_merged(const char *path, const kiln_build_options *options,
                       kiln_tune_result *result, kiln_engine **engine)
{
    kiln_build_options best = *options;
    kln_onnx_model *model = NULL;
    size_t merged = 0;
    best.issues = NULL; /* as above: it is no fault of the model */
    best.prefer_nhwc = result->prefer_nhwc;
    best.conv_search = result->conv_search;
    best.fuse_conv_bias = result->fuse_conv_bias;
    kiln_status status = kln_onnx_read_file(path, &model);
    if (status == KILN_OK) {
        status = kln_merge_products(model, &merged);
    }
    if (status != KILN_OK) {
        kln_log(KILN_LOG_INFO, "engine", "tuning %s: %s", path, kiln_error_message());
    } else if (merged != 0 && try_other(path, model, &best, result, engine)) {
        result->merged_products = (uint32_t)merged;
    }
    kln_onnx_model_destroy(model);
}

/* What is measured first is measured on a device that is not warm yet. The engine as the options
 * were given is timed once more at the end, and the best must still be faster. */
static kiln_status confirm(kiln_engine *given, const kiln_build_options *options,
                           kiln_tune_result *result, kiln_engine **engine)
{
    uint64_t again = 0;
    if (*engine == given) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(time_engine(given, options, &again));
    if (again < result->given_nanoseconds) {
        result->given_nanoseconds = again;
    }
    if (!is_faster(result->best_nanoseconds, UINT64_MAX, result->given_nanoseconds)) {
        kiln_engine_release(*engine);
        *engine = kiln_engine_retain(given);
        result->best_nanoseconds = result->given_nanoseconds;
        result->prefer_nhwc = options->prefer_nhwc;
        result->conv_search = options->conv_search;
        result->fuse_conv_bias = options->fuse_conv_bias;
        result->merged_products = 0;
    }
    return KILN_OK;
}

kiln_status kiln_engine_tune_file(const char *path, const kiln_build_options *options,
                                  kiln_tune_result *result, kiln_engine **engine)
{
    KLN_RETURN_IF_NULL(engine);
    *engine = NULL;
    KLN_RETURN_IF_NULL(path);
    kiln_build_options read;
    kiln_tune_result found = {.struct_size = sizeof found};
    KLN_RETURN_IF_ERROR(kln_build_options_read(options, &read));
    if (result != NULL) {
        KLN_RETURN_IF_ERROR(kln_info_write(__func__, result, FIRST_SIZE, &found, sizeof found));
    }
    KLN_RETURN_IF_ERROR(try_variant(path, NULL, &read, &found, engine));
    found.given_nanoseconds = found.best_nanoseconds;
    kiln_engine *given = kiln_engine_retain(*engine);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(variants); i++) {
        kiln_build_options other = read;
        other.issues = NULL; /* what one way cannot build is no fault of the model */
        other.prefer_nhwc = variants[i].prefer_nhwc;
        other.conv_search = variants[i].conv_search;
        other.fuse_conv_bias = variants[i].fuse_conv_bias;
        (void)try_other(path, NULL, &other, &found, engine);
    }
    try_merged(path, &read, &found, engine);
    const kiln_status status = confirm(given, &read, &found, engine);
    kiln_engine_release(given);
    if (status != KILN_OK) {
        kiln_engine_release(*engine);
        *engine = NULL;
        return status;
    }
    return result != NULL ? kln_info_write(__func__, result, FIRST_SIZE, &found, sizeof found)
                          : KILN_OK;
}
