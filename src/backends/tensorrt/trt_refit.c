/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/tensorrt/trt_device.h"
#include "backends/tensorrt/trt_engine.h"
#include "backends/tensorrt/trt_plan.h"

/* Each engine has one refitter, created when it is first needed. The engine module makes sure that
 * no run is in flight during a refit. */

/* --- the list --- */

static kiln_status list_names(trt_engine *engine)
{
    const trt_abi *abi = &engine->library->abi;
    const int32_t count = trt_Refitter_getAllWeights(abi, engine->refitter, 0, NULL);
    if (count <= 0) {
        return count == 0 ? KILN_OK
                          : trt_fail(KILN_ERROR_BACKEND, &engine->recorder, "the list of weights");
    }
    const char **names = kln_alloc_zeroed((size_t)count, sizeof *names);
    bool *missing = kln_alloc_zeroed((size_t)count, sizeof *missing);
    if (names == NULL || missing == NULL) {
        kln_free(names);
        kln_free(missing);
        return kln_fail_memory((size_t)count * sizeof *names, "the list of weights");
    }
    (void)trt_Refitter_getAllWeights(abi, engine->refitter, count, names);
    engine->weight_names = names;
    engine->weight_missing = missing;
    engine->weight_count = (size_t)count;
    return KILN_OK;
}

static size_t find(const trt_engine *engine, const char *name)
{
    for (size_t i = 0; i < engine->weight_count; i++) {
        if (engine->weight_names[i] != NULL && strcmp(engine->weight_names[i], name) == 0) {
            return i;
        }
    }
    return engine->weight_count;
}

/* Marks the weights that the refitter still needs together with those that are set. */
static kiln_status mark_lacking(trt_engine *engine)
{
    const trt_abi *abi = &engine->library->abi;
    const int32_t lacking = trt_Refitter_getMissingWeights(abi, engine->refitter, 0, NULL);
    if (lacking <= 0) {
        return lacking == 0 ? KILN_OK
                            : trt_fail(KILN_ERROR_BACKEND, &engine->recorder, "missing weights");
    }
    KLN_SCOPED_FREE const char **names = kln_alloc_zeroed((size_t)lacking, sizeof *names);
    KLN_RETURN_IF_NO_MEMORY(names, (size_t)lacking * sizeof *names, "the list of missing weights");
    (void)trt_Refitter_getMissingWeights(abi, engine->refitter, lacking, names);
    for (int32_t i = 0; i < lacking; i++) {
        const size_t at = names[i] != NULL ? find(engine, names[i]) : engine->weight_count;
        if (at < engine->weight_count) {
            engine->weight_missing[at] = true;
        }
    }
    return KILN_OK;
}

/* The same, plus every weight of a stripped plan that is not set, which TensorRT does not
 * report. */
static kiln_status mark_missing(trt_engine *engine, bool of_stripped, size_t *count)
{
    const trt_abi *abi = &engine->library->abi;
    memset(engine->weight_missing, 0, engine->weight_count * sizeof *engine->weight_missing);
    KLN_RETURN_IF_ERROR(mark_lacking(engine));
    *count = 0;
    for (size_t i = 0; i < engine->weight_count; i++) {
        if (of_stripped && engine->lacks_weights && engine->weight_names[i] != NULL &&
            trt_Refitter_getNamedWeights(abi, engine->refitter, engine->weight_names[i]).values ==
                NULL) {
            engine->weight_missing[i] = true;
        }
        *count += engine->weight_missing[i];
    }
    return KILN_OK;
}

static kiln_status fail_fixed(const trt_engine *engine)
{
    return engine->is_refittable
               ? kln_fail(
                     KILN_ERROR_UNSUPPORTED,
                     "refit: the plan was built with kiln_build_options.refit, and still none "
                     "of its weights can be replaced: either the network has none, or the plan "
                     "was stripped, got its weights and was saved, which makes them stay "
                     "before TensorRT 10.14; refit the stripped plan instead")
               : kln_fail(KILN_ERROR_UNSUPPORTED,
                          "refit: the plan was built without kiln_build_options.refit, so its "
                          "weights stay as they are");
}

/* Only a refitter knows whether there is anything to replace: isRefittable returns false for a plan
 * that was built for identical weights. */
kiln_status trt_refit_need(trt_engine *engine)
{
    trt_library *library = engine->library;
    KLN_RETURN_IF_ERROR(trt_engine_need(engine, "refit"));
    if (engine->refitter != NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF(library->core.createInferRefitter_INTERNAL == NULL, KILN_ERROR_UNSUPPORTED,
                  "refit: %s has no refitter", library->name);
    trt_logged_clear();
    trt_error_recorder_clear(&engine->recorder);
    trt_Refitter *made = library->core.createInferRefitter_INTERNAL(
        engine->engine, &library->logger, library->abi.version);
    if (trt_is_null(made)) {
        return trt_said(&engine->recorder, "isNoneRefittable")
                   ? fail_fixed(engine)
                   : trt_fail(KILN_ERROR_BACKEND, &engine->recorder, "%s gives no refitter",
                              library->name);
    }
    trt_Refitter_setErrorRecorder(&library->abi, made, &engine->recorder.object);
    engine->refitter = made;
    size_t ignored = 0;
    kiln_status status = list_names(engine);
    KLN_THEN(status,
             engine->weight_count > 0 ? mark_missing(engine, true, &ignored) : fail_fixed(engine));
    if (status != KILN_OK) {
        trt_refit_finish(engine);
    }
    return status;
}

void trt_refit_finish(trt_engine *engine)
{
    trt_Refitter_destroy(engine->refitter);
    kln_free(engine->weight_names);
    kln_free(engine->weight_missing);
    engine->refitter = NULL;
    engine->weight_names = NULL;
    engine->weight_missing = NULL;
    engine->weight_count = 0;
}

kiln_status trt_refit_count(void *state, size_t *count)
{
    trt_engine *engine = state;
    TRT_REFITTING(engine);
    const kiln_status status = trt_refit_need(engine);
    *count = engine->weight_count;
    return status;
}

kiln_status trt_refit_get(void *state, size_t index, kiln_refit_weight *weight)
{
    trt_engine *engine = state;
    KLN_LOCKED(&engine->refitting);
    const char *name = engine->weight_names[index];
    const trt_Weights prototype =
        trt_Refitter_getWeightsPrototype(&engine->library->abi, engine->refitter, name);
    weight->name = name;
    weight->dtype = trt_dtype(prototype.type);
    weight->elements = prototype.count;
    weight->shape.rank = -1;
    weight->missing = engine->weight_missing[index];
    return KILN_OK;
}

/* --- replacing --- */

static const char *weight_name(const void *from, size_t index)
{
    const char *name = ((const trt_engine *)from)->weight_names[index];
    return name != NULL ? name : "";
}

static const char *missing_name(const void *from, size_t index)
{
    return ((const trt_engine *)from)->weight_missing[index] ? weight_name(from, index) : NULL;
}

static kiln_status check(const trt_engine *engine, const kiln_named_tensor *given)
{
    const trt_abi *abi = &engine->library->abi;
    const kiln_tensor_desc *desc = &given->tensor.desc;
    if (find(engine, given->name) == engine->weight_count) {
        char names[600];
        return kln_fail(
            KILN_ERROR_NAME, "refit: there are no weights \"%s\" that can be replaced; %s",
            given->name,
            kln_there_are(names, sizeof names, engine->weight_count, weight_name, engine));
    }
    const trt_Weights prototype =
        trt_Refitter_getWeightsPrototype(abi, engine->refitter, given->name);
    KLN_RETURN_IF(trt_type_of(desc->dtype) != prototype.type, KILN_ERROR_DTYPE,
                  "refit: weights \"%s\" are %s, %s was given", given->name,
                  kiln_dtype_name(trt_dtype(prototype.type)), kiln_dtype_name(desc->dtype));
    int64_t elements = 0;
    KLN_RETURN_IF_ERROR(kiln_shape_elements(&desc->shape, &elements));
    KLN_RETURN_IF(elements != prototype.count, KILN_ERROR_SIZE,
                  "refit: weights \"%s\" have %lld elements, %lld were given", given->name,
                  (long long)prototype.count, (long long)elements);
    return KILN_OK;
}

static kiln_status set(trt_engine *engine, const kiln_named_tensor *given)
{
    const trt_abi *abi = &engine->library->abi;
    KLN_RETURN_IF_ERROR(check(engine, given));
    trt_Weights weights = {.type = trt_type_of(given->tensor.desc.dtype),
                           .values = given->tensor.data};
    KLN_RETURN_IF_ERROR(kiln_shape_elements(&given->tensor.desc.shape, &weights.count));
    const bool on_device = given->tensor.desc.location == KILN_LOCATION_DEVICE;
    const int32_t location =
        trt_value(abi, on_device ? TRT_V_TensorLocation_DEVICE : TRT_V_TensorLocation_HOST);
    KLN_FAIL_IF(!trt_Refitter_setNamedWeightsWithLocation(abi, engine->refitter, given->name,
                                                          weights, location),
                trt_fail(KILN_ERROR_BACKEND, &engine->recorder,
                         "refit: weights \"%s\" were not accepted", given->name));
    return KILN_OK;
}

void trt_refit_unset(trt_engine *engine)
{
    const trt_abi *abi = &engine->library->abi;
    for (size_t i = 0; i < engine->weight_count; i++) {
        const char *name = engine->weight_names[i];
        if (trt_Refitter_getNamedWeights(abi, engine->refitter, name).values != NULL) {
            (void)trt_Refitter_unsetNamedWeights(abi, engine->refitter, name);
        }
    }
}

kiln_status trt_refit_commit(trt_engine *engine, bool by_name)
{
    size_t missing = 0;
    KLN_RETURN_IF_ERROR(mark_missing(engine, by_name, &missing));
    if (missing > 0) {
        char names[600];
        (void)kln_list_names(names, sizeof names, engine->weight_count, missing_name, engine);
        return kln_fail(KILN_ERROR_STATE,
                        "refit: %zu weights are needed together with these and were not given: %s",
                        missing, names);
    }
    KLN_FAIL_IF(!trt_Refitter_refitCudaEngine(&engine->library->abi, engine->refitter),
                trt_fail(KILN_ERROR_BACKEND, &engine->recorder, "refit: the engine was not refit"));
    engine->lacks_weights = false;
    engine->is_stale = true;
    memset(engine->weight_missing, 0, engine->weight_count * sizeof *engine->weight_missing);
    return KILN_OK;
}

kiln_status trt_refit_begin(trt_engine *engine, trt_refitting *refitting)
{
    KLN_RETURN_IF_ERROR(trt_enter(engine->device, &refitting->scope));
    refitting->engine = engine;
    (void)pthread_mutex_lock(&engine->refitting);
    trt_logged_clear();
    trt_error_recorder_clear(&engine->recorder);
    return KILN_OK;
}

void trt_refit_end(trt_refitting *refitting)
{
    if (refitting->engine != NULL) {
        (void)pthread_mutex_unlock(&refitting->engine->refitting);
        kln_cuda_leave(&refitting->scope);
    }
}

kiln_status trt_refit(void *state, const kiln_named_tensor *weights, size_t count)
{
    trt_engine *engine = state;
    TRT_REFITTING(engine);
    kiln_status status = trt_refit_need(engine);
    for (size_t i = 0; i < count && status == KILN_OK; i++) {
        status = set(engine, &weights[i]);
    }
    KLN_THEN(status, trt_refit_commit(engine, true));
    if (status != KILN_OK && engine->refitter != NULL) {
        trt_refit_unset(engine);
    }
    return status;
}
