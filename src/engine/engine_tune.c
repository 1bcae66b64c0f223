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

/* The shape that tuning runs input `index` with: the profile's opt shape, or the only one. */
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
                        "kiln_engine_tune_file: input \"%s\" has a dynamic dimension; give a "
                        "profile, whose opt shape runs are timed with",
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

/* How a model may be rewritten, all at once; each one after what it builds on. */
enum { MERGES = 1, FUSES = 2, TURNS = 4 };
static const unsigned rewrites[] = {MERGES, MERGES | FUSES, MERGES | FUSES | TURNS, TURNS};

/* A model in memory, and how often each was done to it. */
typedef struct rewritten {
    kln_onnx_model *model; /* NULL: as it lies in the file */
    size_t merged, fused, transposed;
} rewritten;

/* One call's work. */
typedef struct tuner {
    const char *path;
    kln_mapping file;
    kiln_engine *given; /* the options as they were given; NULL at first */
    kiln_engine *best;  /* the fastest so far */
    double best_ratio;  /* of its time to that of `given` */
    kiln_tune_result result;
} tuner;

static const rewritten as_it_is = {.model = NULL};

static kiln_status build(const tuner *t, const rewritten *how, const kiln_build_options *options,
                         kiln_engine **made)
{
    const kln_model rewritten_model = {.graph = how->model};
    const kln_model model = {.path = t->path, .file = &t->file, .bytes = t->file.bytes};
    KLN_RETURN_IF_ERROR(kln_engine_make(how->model != NULL ? &rewritten_model : &model, options,
                                        false, NULL, made));
    return (*made)->device >= 0
               ? KILN_OK
               : kln_fail(KILN_ERROR_UNSUPPORTED,
                          "kiln_engine_tune_file: the %s backend computes on the CPU here, where "
                          "nothing is tuned",
                          (*made)->info.name);
}

static void keep(tuner *t, kiln_engine *made, const kiln_build_options *options,
                 const rewritten *how)
{
    kiln_tune_result *result = &t->result;
    kiln_engine_release(t->best);
    t->best = kiln_engine_retain(made);
    result->prefer_nhwc = options->prefer_nhwc;
    result->conv_search = options->conv_search;
    result->fuse_conv_bias = options->fuse_conv_bias;
    result->merged_products = (uint32_t)how->merged;
    result->fused_attentions = (uint32_t)how->fused;
    result->transposed_products = (uint32_t)how->transposed;
}

/* Times an engine in turn with the given one, because a device that just began to work is slower,
 * and a process with one engine alone was seen to be faster. */
static kiln_status judge(tuner *t, kiln_engine *made, const kiln_build_options *options,
                         const rewritten *how)
{
    uint64_t given = 0;
    uint64_t nanoseconds = 0;
    KLN_RETURN_IF_ERROR(time_engine(t->given, options, &given));
    KLN_RETURN_IF_ERROR(time_engine(made, options, &nanoseconds));
    const double ratio = (double)nanoseconds / (double)(given != 0 ? given : 1);
    kln_log(KILN_LOG_INFO, "engine",
            "tuning %s: nhwc %d, convolution search %d, bias fused %d, %zu products merged, %zu "
            "attentions fused, %zu weights transposed: %.1f us, %.3f of the time as given",
            t->path, (int)options->prefer_nhwc, (int)options->conv_search,
            (int)options->fuse_conv_bias, how->merged, how->fused, how->transposed,
            (double)nanoseconds / 1e3, ratio);
    /* What differs by less from the options as they were given is chance. */
    if (ratio < t->best_ratio && ratio < 0.99) {
        keep(t, made, options, how);
        t->best_ratio = ratio;
        t->result.given_nanoseconds = given;
        t->result.best_nanoseconds = nanoseconds;
    }
    return KILN_OK;
}

/* The options as they were given. */
static kiln_status try_given(tuner *t, const kiln_build_options *options)
{
    t->result.tried++;
    KLN_RETURN_IF_ERROR(build(t, &as_it_is, options, &t->given));
    keep(t, t->given, options, &as_it_is);
    t->best_ratio = 1;
    KLN_RETURN_IF_ERROR(time_engine(t->given, options, &t->result.given_nanoseconds));
    t->result.best_nanoseconds = t->result.given_nanoseconds;
    return KILN_OK;
}

/* Builds and times another way. One that does not work is passed over: what it cannot build is no
 * fault of the model. */
static void try_other(tuner *t, const rewritten *how, const kiln_build_options *options)
{
    kiln_build_options other = *options;
    kiln_engine *made = NULL;
    other.issues = NULL;
    t->result.tried++;
    kiln_status status = build(t, how, &other, &made);
    if (status == KILN_OK) {
        status = judge(t, made, &other, how);
    }
    if (status != KILN_OK) {
        kln_log(KILN_LOG_INFO, "engine", "tuning %s: %s", t->path, kiln_error_message());
        t->result.failed++;
    }
    kiln_engine_release(made);
}

static kiln_status rewrite(const tuner *t, const kiln_build_options *options, unsigned wanted,
                           rewritten *how)
{
    const kln_backend *backend = t->given->backend;
    const kiln_profile *profile = options->profile_count != 0 ? options->profiles : NULL;
    KLN_RETURN_IF_ERROR(kln_onnx_read_mapping(&t->file, t->path, &how->model));
    if ((wanted & MERGES) != 0) {
        KLN_RETURN_IF_ERROR(kln_merge_products(how->model, &how->merged));
    }
    if ((wanted & FUSES) != 0 && backend->rewrite != NULL) {
        KLN_RETURN_IF_ERROR(
            backend->rewrite(how->model, KLN_REWRITE_ATTENTION, profile, &how->fused));
    }
    if ((wanted & TURNS) != 0 && backend->rewrite != NULL) {
        KLN_RETURN_IF_ERROR(
            backend->rewrite(how->model, KLN_REWRITE_PRODUCTS, profile, &how->transposed));
    }
    return KILN_OK;
}

/* With the options that were the fastest so far. What changes no more than the one before is not
 * tried again. */
static void try_rewritten(tuner *t, const kiln_build_options *options)
{
    kiln_build_options best = *options;
    rewritten last = as_it_is;
    best.prefer_nhwc = t->result.prefer_nhwc;
    best.conv_search = t->result.conv_search;
    best.fuse_conv_bias = t->result.fuse_conv_bias;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(rewrites); i++) {
        rewritten how = as_it_is;
        if (rewrite(t, &best, rewrites[i], &how) != KILN_OK) {
            kln_log(KILN_LOG_INFO, "engine", "tuning %s: %s", t->path, kiln_error_message());
        } else if (how.merged != last.merged || how.fused != last.fused ||
                   how.transposed != last.transposed) {
            try_other(t, &how, &best);
            last = how;
        }
        kln_onnx_model_destroy(how.model);
    }
}

static kiln_status tune(tuner *t, const kiln_build_options *options)
{
    KLN_RETURN_IF_ERROR(try_given(t, options));
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(variants); i++) {
        kiln_build_options other = *options;
        other.prefer_nhwc = variants[i].prefer_nhwc;
        other.conv_search = variants[i].conv_search;
        other.fuse_conv_bias = variants[i].fuse_conv_bias;
        try_other(t, &as_it_is, &other);
    }
    try_rewritten(t, options);
    return KILN_OK;
}

kiln_status kiln_engine_tune_file(const char *path, const kiln_build_options *options,
                                  kiln_tune_result *result, kiln_engine **engine)
{
    KLN_RETURN_IF_NULL(engine);
    *engine = NULL;
    KLN_RETURN_IF_NULL(path);
    kiln_build_options read;
    tuner t = {.path = path, .result = {.struct_size = sizeof t.result}};
    KLN_RETURN_IF_ERROR(kln_build_options_read(options, &read));
    if (result != NULL) {
        KLN_RETURN_IF_ERROR(
            kln_info_write(__func__, result, FIRST_SIZE, &t.result, sizeof t.result));
    }
    KLN_RETURN_IF_ERROR(kln_mapping_open_as(path, read.copy_file, &t.file));
    const kiln_status status = tune(&t, &read);
    kln_mapping_close(&t.file);
    kiln_engine_release(t.given);
    if (status != KILN_OK) {
        kiln_engine_release(t.best);
        return status;
    }
    *engine = t.best;
    return result != NULL ? kln_info_write(__func__, result, FIRST_SIZE, &t.result, sizeof t.result)
                          : KILN_OK;
}
