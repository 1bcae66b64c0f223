/* SPDX-License-Identifier: Apache-2.0 */
#include <kiln/context.h>

#include "engine/kln_engine.h"
#include "onnx/kln_onnx.h"

/* Each variant is timed for this many runs or this long, whichever ends first. */
#define TUNE_MILLISECONDS 300
#define TUNE_RUNS 200

/* The shape with which input `index` is tuned: the profile's opt shape, or the only one. */
static kiln_status shape_of(const kiln_engine *engine, const kiln_build_options *options,
                            size_t index, kiln_shape *shape)
{
    const kiln_binding *binding = &engine->shared.description.bindings[index];
    *shape = binding->shape;
    for (size_t i = 0; options->profile_count != 0 && i < options->profiles[0].input_count; i++) {
        const kiln_profile_input *input = &options->profiles[0].inputs[i];
        if (strcmp(input->name, binding->name) == 0 && input->value_count == 0) {
            *shape = input->opt;
            return KILN_OK;
        }
    }
    KLN_RETURN_IF(shape->rank < 0 || !kiln_shape_is_static(shape), KILN_ERROR_SHAPE,
                  "kiln_engine_tune_file: input \"%s\" has a dynamic dimension; give a profile, "
                  "whose opt shape runs are timed with",
                  binding->name);
    return KILN_OK;
}

static kiln_status time_engine(kiln_engine *engine, const kiln_build_options *options,
                               uint64_t *nanoseconds)
{
    KLN_SCOPED(kiln_context_destroy_at) kiln_context *context = NULL;
    kiln_warmup_summary summary = {.struct_size = sizeof summary};
    const kiln_description *description = &engine->shared.description;
    KLN_RETURN_IF_ERROR(kiln_context_create(engine, NULL, &context));
    for (size_t i = 0; i < description->input_count; i++) {
        kiln_shape shape;
        KLN_RETURN_IF_ERROR(shape_of(engine, options, i, &shape));
        KLN_RETURN_IF_ERROR(kiln_context_reshape(context, description->bindings[i].name, &shape));
    }
    /* The first of these captures a graph; only later runs are measured. */
    KLN_RETURN_IF_ERROR(kiln_context_warmup(context, 3, 0, NULL));
    KLN_RETURN_IF_ERROR(kiln_context_warmup(context, TUNE_RUNS, TUNE_MILLISECONDS, &summary));
    *nanoseconds = summary.median_nanoseconds;
    return KILN_OK;
}

/* The state of one call. */
typedef struct tuner {
    kiln_model model;
    kiln_engine *given; /* built with the options as given */
    kiln_engine *best;  /* the fastest so far */
    double best_ratio;  /* its time relative to that of `given` */
    kiln_tune_result result;
} tuner;

static kiln_status build(const tuner *t, const kln_variant *variant, kiln_engine **made)
{
    const kiln_model rewritten = {.graph = variant->model};
    KLN_RETURN_IF_ERROR(kln_engine_make(variant->model != NULL ? &rewritten : &t->model,
                                        &variant->options, false, NULL, made));
    return (*made)->shared.device >= 0 ? KILN_OK
                                       : kln_fail(KILN_ERROR_UNSUPPORTED,
                                                  "kiln_engine_tune_file: the %s backend computes "
                                                  "on the CPU here, where nothing is tuned",
                                                  (*made)->shared.info.name);
}

static void keep(tuner *t, kiln_engine *made, const kiln_tune_result *told, uint64_t given,
                 uint64_t nanoseconds)
{
    const kiln_tune_result before = t->result;
    kiln_engine_release(t->best);
    t->best = kiln_engine_retain(made);
    t->result = *told;
    t->result.struct_size = before.struct_size;
    t->result.tried = before.tried;
    t->result.failed = before.failed;
    t->result.given_nanoseconds = given;
    t->result.best_nanoseconds = nanoseconds;
}

/* Whether two results describe the same variant. */
static bool is_same(const kiln_tune_result *a, const kiln_tune_result *b)
{
    return a->prefer_nhwc == b->prefer_nhwc && a->conv_search == b->conv_search &&
           a->fuse_conv_bias == b->fuse_conv_bias && a->merged_products == b->merged_products &&
           a->fused_attentions == b->fused_attentions &&
           a->transposed_products == b->transposed_products;
}

/* Times an engine in alternation with the given one: a device is slower when it has just begun to
 * work, and a process was seen to be faster with a single engine. */
static kiln_status judge(tuner *t, kiln_engine *made, const kln_variant *variant)
{
    const kiln_tune_result *told = &variant->told;
    uint64_t given = 0;
    uint64_t nanoseconds = 0;
    KLN_RETURN_IF_ERROR(time_engine(t->given, &variant->options, &given));
    KLN_RETURN_IF_ERROR(time_engine(made, &variant->options, &nanoseconds));
    const double ratio = (double)nanoseconds / (double)(given != 0 ? given : 1);
    kln_log(KILN_LOG_INFO, "engine",
            "tuning %s: nhwc %d, convolution search %d, bias fused %d, %u products merged, %u "
            "attentions fused, %u weights transposed: %.1f us, %.3f of the time as given",
            t->model.path, (int)told->prefer_nhwc, (int)told->conv_search,
            (int)told->fuse_conv_bias, told->merged_products, told->fused_attentions,
            told->transposed_products, (double)nanoseconds / 1e3, ratio);
    /* Smaller differences from the options as given are noise. */
    if (ratio < t->best_ratio && ratio < 0.99) {
        keep(t, made, told, given, nanoseconds);
        t->best_ratio = ratio;
    }
    return KILN_OK;
}

/* Builds and times the options as given. */
static kiln_status try_given(tuner *t, const kln_variant *variant)
{
    uint64_t nanoseconds = 0;
    kiln_engine *made = NULL;
    t->result.tried++;
    t->best_ratio = 1;
    const kiln_status status = build(t, variant, &made);
    t->given = made; /* even if it computes on the CPU */
    KLN_RETURN_IF_ERROR(status);
    KLN_RETURN_IF_ERROR(time_engine(t->given, &variant->options, &nanoseconds));
    keep(t, t->given, &variant->told, nanoseconds, nanoseconds);
    return KILN_OK;
}

/* Builds and times another variant. One that fails is skipped: the model is not at fault. */
static void try_other(tuner *t, const kln_variant *variant)
{
    KLN_SCOPED(kiln_engine_release_at) kiln_engine *made = NULL;
    t->result.tried++;
    kiln_status status = build(t, variant, &made);
    KLN_THEN(status, judge(t, made, variant));
    if (status != KILN_OK) {
        kln_log(KILN_LOG_INFO, "engine", "tuning %s: %s", t->model.path, kiln_error_message());
        t->result.failed++;
    }
}

static kln_variant as_given(const kiln_build_options *options)
{
    return (kln_variant){.options = *options,
                         .told = {.prefer_nhwc = options->prefer_nhwc,
                                  .conv_search = options->conv_search,
                                  .fuse_conv_bias = options->fuse_conv_bias}};
}

static kiln_status tune(tuner *t, const kiln_build_options *options)
{
    kln_variant variant = as_given(options);
    KLN_RETURN_IF_ERROR(try_given(t, &variant));
    const kiln_backend *backend = t->given->shared.backend;
    kiln_tune_result last = variant.told;
    for (size_t i = 0; i < backend->engine.variant_count; i++) {
        variant = as_given(options);
        variant.options.issues = NULL;
        const kiln_status status = backend->engine.variant(&t->model, i, &t->result, &variant);
        if (status != KILN_OK) {
            kln_log(KILN_LOG_INFO, "engine", "tuning %s: %s", t->model.path, kiln_error_message());
        } else if (!is_same(&variant.told, &last) && !is_same(&variant.told, &t->result)) {
            try_other(t, &variant);
            last = variant.told;
        }
        kln_onnx_model_destroy(variant.model);
    }
    return KILN_OK;
}

kiln_status kiln_engine_tune_file(const char *path, const kiln_build_options *options,
                                  kiln_tune_result *result, kiln_engine **engine)
{
    KLN_RETURN_IF_NULL_RESULT(engine, path);
    kiln_build_options read;
    kln_mapping file;
    tuner t = {.result = {.struct_size = sizeof t.result}};
    KLN_RETURN_IF_ERROR(kln_build_options_read(options, &read));
    if (result != NULL) {
        KLN_RETURN_IF_ERROR(kln_info_write(__func__, result, &t.result, sizeof t.result));
    }
    KLN_RETURN_IF_ERROR(kln_mapping_open_as(path, read.copy_file, &file));
    t.model = (kiln_model){.path = path, .file = &file, .bytes = file.bytes};
    const kiln_status status = tune(&t, &read);
    kln_mapping_close(&file);
    kiln_engine_release(t.given);
    if (status != KILN_OK) {
        kiln_engine_release(t.best);
        return status;
    }
    *engine = t.best;
    return result != NULL ? kln_info_write(__func__, result, &t.result, sizeof t.result) : KILN_OK;
}
