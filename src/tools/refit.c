/* SPDX-License-Identifier: Apache-2.0 */
/* Replaces the weights of an engine in use: tries them in a second engine, then takes them over
 * between two runs. */
#include "refit_parts.h"

static kiln_status need_refit(const kiln_engine *engine, const char *function)
{
    KLN_RETURN_IF(engine->shared.backend->refit == NULL, KILN_ERROR_UNSUPPORTED,
                  "%s: an engine of the %s backend keeps its weights; those of TensorRT, "
                  "ONNX Runtime and the reference executor can be replaced",
                  function, engine->shared.info.name);
    return kln_engine_check_process(engine, function);
}

#define RETURN_IF_NO_REFIT(engine) KLN_RETURN_IF_ERROR(need_refit((engine), __func__))

static kiln_status count_weights(kiln_engine *engine, size_t *count)
{
    KLN_LOCKED(&engine->refitting);
    return engine->shared.backend->refit->count(engine->shared.state, count);
}

kiln_status kiln_engine_refit_count(kiln_engine *engine, size_t *count)
{
    KLN_RETURN_IF_NULL(engine, count);
    *count = 0;
    RETURN_IF_NO_REFIT(engine);
    return count_weights(engine, count);
}

kiln_status kiln_engine_refit_get(kiln_engine *engine, size_t index, kiln_refit_weight *weight)
{
    size_t count = 0;
    KLN_RETURN_IF_NULL(engine, weight);
    RETURN_IF_NO_REFIT(engine);
    KLN_RETURN_IF_ERROR(count_weights(engine, &count));
    KLN_RETURN_IF(index >= count, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_engine_refit_get: weights %zu were asked for, there are %zu", index, count);
    kiln_refit_weight found = {.struct_size = sizeof found};
    (void)pthread_mutex_lock(&engine->refitting);
    const kiln_status status =
        engine->shared.backend->refit->get(engine->shared.state, index, &found);
    (void)pthread_mutex_unlock(&engine->refitting);
    KLN_RETURN_IF_ERROR(status);
    kln_weight_shapes_tell(engine, &found);
    return kln_info_write(__func__, weight, &found, sizeof found);
}

/* --- the trial engine --- */

static bool is_same(const kiln_binding *one, const kiln_binding *other)
{
    return strcmp(one->name, other->name) == 0 && one->dtype == other->dtype &&
           kiln_shape_equal(&one->shape, &other->shape);
}

/* Weights may determine shapes: inputs and outputs must stay as callers know them. */
static kiln_status check_bindings(const kiln_engine *engine, const kiln_engine *trial)
{
    const kiln_description *before = &engine->shared.description;
    const kiln_description *after = &trial->shared.description;
    const size_t count = before->input_count + before->output_count + before->optional_count;
    bool same = before->input_count == after->input_count &&
                before->output_count == after->output_count &&
                before->optional_count == after->optional_count;
    for (size_t i = 0; same && i < count; i++) {
        KLN_RETURN_IF(!is_same(&before->bindings[i], &after->bindings[i]), KILN_ERROR_MISMATCH,
                      "refit: with the new weights \"%s\" would have another shape or type; "
                      "the weights are as they were",
                      before->bindings[i].name);
    }
    return same ? KILN_OK
                : kln_fail(KILN_ERROR_MISMATCH,
                           "refit: with the new weights the engine would have other inputs or "
                           "outputs; the weights are as they were");
}

static kiln_status take_in_place(const kiln_refit_table *table, void *state,
                                 const kln_refit_source *source, const kln_refit_weights *weights)
{
    return source->is_read_by_backend ? table->in_place_model(state, source->model)
                                      : table->in_place(state, weights->items, weights->count);
}

/* Makes an engine with the new weights. */
static kiln_status make_trial(kiln_engine *engine, const kln_refit_source *source,
                              const kln_refit_weights *weights, kiln_engine **trial)
{
    const kln_shared *shared = &engine->shared;
    const kiln_refit_table *table = shared->backend->refit;
    const bool in_place = table->in_place != NULL;
    void *state = NULL;
    kiln_status status = table->beside(shared->state, in_place ? NULL : weights->items,
                                       in_place ? 0 : weights->count, &state);
    if (status == KILN_OK && in_place) {
        status = take_in_place(table, state, source, weights);
        if (status != KILN_OK) {
            shared->backend->engine.destroy(state);
        }
    }
    KLN_RETURN_IF_ERROR(status);
    KLN_RETURN_IF_ERROR(kln_engine_adopt(shared->backend, &shared->info, state, &engine->built,
                                         engine->source, trial));
    return check_bindings(engine, *trial);
}

/* --- taking the new weights --- */

/* Replaces the engine's state by the trial's. */
static kiln_status replace(kiln_engine *engine, kiln_engine *trial)
{
    KLN_RETURN_IF_ERROR(kln_shared_lock_weights(&engine->shared));
    const kiln_status status = kln_shared_replace(&engine->shared, trial->shared.state);
    if (status == KILN_OK) {
        trial->shared.state = NULL;
    }
    kln_shared_unlock_weights(&engine->shared);
    return status;
}

static kiln_status take(kiln_engine *engine, const kln_refit_source *source,
                        const kln_refit_weights *weights, kiln_engine *trial)
{
    const kiln_refit_table *table = engine->shared.backend->refit;
    if (table->in_place == NULL) {
        return replace(engine, trial);
    }
    KLN_RETURN_IF_ERROR(kln_shared_lock_weights(&engine->shared));
    const kiln_status status = take_in_place(table, engine->shared.state, source, weights);
    if (status == KILN_OK) {
        engine->built.strip_plan = false; /* plans saved from now on include their weights */
    }
    kln_shared_unlock_weights(&engine->shared);
    return status;
}

static kiln_status try_and_take(kiln_engine *engine, const kln_refit_source *source,
                                const kiln_refit_options *options, kiln_refit_report *report)
{
    const bool in_place = engine->shared.backend->refit->in_place != NULL;
    const bool tries = options->sample_count > 0;
    KLN_SCOPED(kln_refit_weights_finish) kln_refit_weights weights = {.count = 0};
    KLN_SCOPED(kiln_engine_release_at) kiln_engine *trial = NULL;
    KLN_RETURN_IF_ERROR(source->is_read_by_backend
                            ? kln_refit_check_model(engine, source->model, options)
                            : kln_refit_weights_make(engine, source, options, report, &weights));
    if (tries || !in_place) {
        KLN_RETURN_IF_ERROR(make_trial(engine, source, &weights, &trial));
    }
    if (tries) {
        KLN_RETURN_IF_ERROR(kln_refit_try(trial, options, report));
    }
    return take(engine, source, &weights, trial);
}

/* --- options --- */

static kiln_status check_samples(const kiln_refit_options *options)
{
    KLN_FAIL_IF(options->sample_count > 0 && options->samples == NULL,
                kln_fail_null("kiln_refit_options", "samples"));
    KLN_RETURN_IF(options->check != NULL && options->sample_count == 0, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_refit_options: there is a check, and no sample to run for it");
    KLN_RETURN_IF(!(options->absolute >= 0) || !(options->relative >= 0),
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_refit_options: absolute and relative must be 0 or more");
    for (size_t i = 0; i < options->sample_count; i++) {
        const kiln_refit_sample *sample = &options->samples[i];
        for (size_t k = 0; sample->expected != NULL && k < sample->expected_count; k++) {
            KLN_FAIL_IF(sample->expected[k].name == NULL,
                        kln_fail_null("kiln_refit_options", "samples[].expected[].name"));
            KLN_RETURN_IF_ERROR(
                kln_tensor_check(sample->expected[k].name, &sample->expected[k].tensor));
        }
        KLN_FAIL_IF(sample->expected == NULL && sample->expected_count > 0,
                    kln_fail_null("kiln_refit_options", "samples[].expected"));
        KLN_RETURN_IF(sample->expected_count == 0 && options->check == NULL,
                      KILN_ERROR_INVALID_ARGUMENT,
                      "kiln_refit_options: nothing is expected of sample %zu, and there is "
                      "no check: whatever came out would be taken",
                      i);
    }
    return KILN_OK;
}

static kiln_status refit(kiln_engine *engine, const kln_refit_source *source,
                         const kiln_refit_options *options)
{
    kiln_refit_options read = KILN_REFIT_OPTIONS_INIT;
    kiln_refit_report report = {.struct_size = sizeof report};
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_refit_options", options, &read, sizeof read));
    KLN_RETURN_IF_ERROR(check_samples(&read));
    (void)pthread_mutex_lock(&engine->refitting);
    const kiln_status status = try_and_take(engine, source, &read, &report);
    (void)pthread_mutex_unlock(&engine->refitting);
    if (read.report != NULL) {
        KLN_RETURN_IF_ERROR(kln_info_write(__func__, read.report, &report, sizeof report));
    }
    return status;
}

kiln_status kiln_engine_refit(kiln_engine *engine, const kiln_named_tensor *weights, size_t count,
                              const kiln_refit_options *options)
{
    KLN_RETURN_IF_NULL(engine);
    RETURN_IF_NO_REFIT(engine);
    KLN_RETURN_IF(count == 0, KILN_ERROR_EMPTY, "kiln_engine_refit: no weights were given");
    KLN_RETURN_IF_NULL(weights);
    for (size_t i = 0; i < count; i++) {
        KLN_FAIL_IF(weights[i].name == NULL, kln_fail_null(__func__, "name"));
        KLN_RETURN_IF_ERROR(kln_tensor_check(weights[i].name, &weights[i].tensor));
    }
    const kln_refit_source source = {.weights = weights, .count = count};
    return refit(engine, &source, options);
}

static kiln_status refit_from(kiln_engine *engine, const kiln_model *model,
                              const kiln_refit_options *options)
{
    const bool backend_reads =
        engine->shared.backend->refit->in_place_model != NULL && !kln_safetensors_is(model->bytes);
    const kln_refit_source source = {.model = model, .is_read_by_backend = backend_reads};
    return refit(engine, &source, options);
}

kiln_status kiln_engine_refit_file(kiln_engine *engine, const char *path,
                                   const kiln_refit_options *options)
{
    KLN_RETURN_IF_NULL(engine, path);
    RETURN_IF_NO_REFIT(engine);
    KLN_SCOPED(kln_mapping_close) kln_mapping mapping = {0};
    KLN_RETURN_IF_ERROR(kln_mapping_open(path, &mapping));
    const kiln_model model = {.path = path, .file = &mapping, .bytes = mapping.bytes};
    return refit_from(engine, &model, options);
}

kiln_status kiln_engine_refit_bytes(kiln_engine *engine, kiln_span bytes, const char *folder,
                                    const kiln_refit_options *options)
{
    KLN_RETURN_IF_NULL(engine);
    KLN_RETURN_IF(bytes.size == 0, KILN_ERROR_EMPTY, "kiln_engine_refit_bytes: there are 0 bytes");
    KLN_FAIL_IF(bytes.data == NULL, kln_fail_null(__func__, "bytes.data"));
    RETURN_IF_NO_REFIT(engine);
    const kiln_model model = {.folder = folder, .bytes = bytes};
    return refit_from(engine, &model, options);
}
