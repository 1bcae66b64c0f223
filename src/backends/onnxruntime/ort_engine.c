/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "ort_engine.h"

/* --- build --- */

static kiln_status set_options(const ort_runtime *runtime, const kiln_build_options *options,
                               OrtSessionOptions *session_options)
{
    const ort_api *api = &runtime->api;
    static const ort_graph_level levels[] = {ORT_GRAPH_ALL, ORT_GRAPH_OFF, ORT_GRAPH_BASIC,
                                             ORT_GRAPH_EXTENDED, ORT_GRAPH_ALL};
    KLN_RETURN_IF_ERROR(ort_check(
        runtime,
        api->SetSessionGraphOptimizationLevel(session_options, levels[options->optimization]),
        "optimization"));
    if (options->threads > 0) {
        KLN_RETURN_IF_ERROR(ort_check(
            runtime, api->SetIntraOpNumThreads(session_options, options->threads), "threads"));
    }
    if (options->parallel_nodes > 1) {
        KLN_RETURN_IF_ERROR(
            ort_check(runtime, api->SetSessionExecutionMode(session_options, ORT_MODE_PARALLEL),
                      "parallel_nodes"));
        KLN_RETURN_IF_ERROR(
            ort_check(runtime, api->SetInterOpNumThreads(session_options, options->parallel_nodes),
                      "parallel_nodes"));
    }
    if (options->share_weights == KILN_SWITCH_ON) {
        KLN_RETURN_IF_ERROR(ort_check(
            runtime, api->AddSessionConfigEntry(session_options, "session.disable_prepacking", "1"),
            "share_weights"));
    }
    if (options->spinning == KILN_SWITCH_OFF) {
        static const char *const pools[] = {"session.intra_op.allow_spinning",
                                            "session.inter_op.allow_spinning"};
        for (size_t i = 0; i < KLN_ARRAY_LENGTH(pools); i++) {
            KLN_RETURN_IF_ERROR(ort_check(
                runtime, api->AddSessionConfigEntry(session_options, pools[i], "0"), "spinning"));
        }
    }
    /* ONNX Runtime formats every message before it asks the sink, so the level is set here to avoid
     * formatting messages that nobody reads. */
    const int level = kln_log_wants(KILN_LOG_DEBUG) ? ORT_LEVEL_VERBOSE : ORT_LEVEL_WARNING;
    return ort_check(runtime, api->SetSessionLogSeverityLevel(session_options, level), "log level");
}

/* The library gets the model as bytes, so it must be told the folder of the external files: the
 * model's. */
static kiln_status name_folder(const ort_runtime *runtime, const char *path,
                               OrtSessionOptions *session_options)
{
    char folder[PATH_MAX] = ".";
    const char *slash = strrchr(path, '/');
    if (slash != NULL) {
        (void)snprintf(folder, sizeof folder, "%.*s", (int)(slash - path) + 1, path);
    }
    return ort_check(
        runtime,
        runtime->api.AddSessionConfigEntry(
            session_options, "session.model_external_initializers_file_folder_path", folder),
        "the model's folder");
}

/* For bytes that are not a model, the library says neither what they are nor where they break off;
 * for external files, it only reports what its own functions found. */
static kiln_status explain(const kiln_model *model, kiln_status status)
{
    const char *name = kln_model_name(model);
    const char *foreign = kln_onnx_foreign(model->bytes);
    KLN_RETURN_IF(foreign != NULL && status != KILN_ERROR_OUT_OF_MEMORY, KILN_ERROR_MALFORMED,
                  "\"%s\": not an ONNX model: this is %s", name, foreign);
    char said[1024];
    (void)snprintf(said, sizeof said, "%s", kiln_error_message());
    kln_onnx_model *read = NULL;
    const kiln_status own =
        status != KILN_ERROR_OUT_OF_MEMORY ? kln_model_read_anew(model, &read) : KILN_OK;
    kln_onnx_model_destroy(read);
    KLN_RETURN_IF(own == KILN_OK || own == KILN_ERROR_OUT_OF_MEMORY, status, "%s", said);
    return model->file != NULL ? own : kln_fail_within(own, "\"%s\"", name);
}

static kiln_status create_session(ort_engine *engine, const kiln_model *model,
                                  const kiln_build_options *options)
{
    const ort_runtime *runtime = engine->runtime;
    const ort_api *api = &runtime->api;
    OrtSessionOptions *session_options = NULL;
    KLN_RETURN_IF_ERROR(
        ort_check(runtime, api->CreateSessionOptions(&session_options), "session options"));
    kiln_status status = set_options(runtime, options, session_options);
    if (status == KILN_OK && (engine->keeps_expands || engine->keeps_biases)) {
        static const char *const all[] = {"", "ExpandElimination", "WeightBiasQuantization",
                                          "ExpandElimination;WeightBiasQuantization"};
        status = ort_check(
            runtime,
            api->AddSessionConfigEntry(session_options, "optimization.disable_specified_optimizers",
                                       all[engine->keeps_expands + 2 * engine->keeps_biases]),
            "optimizers");
    }
    if (status == KILN_OK && (engine->keeps_floats || engine->lifts_bytes)) {
        status =
            ort_check(runtime,
                      api->AddSessionConfigEntry(session_options,
                                                 engine->keeps_floats ? "session.disable_quant_qdq"
                                                                      : "session.x64quantprecision",
                                                 "1"),
                      "products of bytes");
    }
    if (status == KILN_OK && options->provider == KILN_PROVIDER_CUDA) {
        status = ort_cuda_append(engine, options, session_options);
    }
    if (status == KILN_OK && options->profile_nodes) {
        status = ort_profile_begin(engine, session_options);
    }
    if (status == KILN_OK && model->watch != NULL) {
        status = ort_watch_begin(engine, model->watch, session_options);
    }
    kiln_span bytes = model->bytes;
    if (status == KILN_OK && model->graph != NULL) {
        status = ort_handover_apply(&engine->handover, runtime, session_options);
        bytes = (kiln_span){engine->handover.message.data, engine->handover.message.size};
    }
    char made[PATH_MAX];
    const char *place = NULL;
    KLN_THEN(status, kln_model_place(model, made, &place));
    if (status == KILN_OK && place != NULL) {
        status = name_folder(runtime, place, session_options);
    }
    if (status == KILN_OK) {
        OrtStatus *failed = api->CreateSessionFromArray(runtime->env, bytes.data, bytes.size,
                                                        session_options, &engine->session);
        if (failed != NULL) {
            engine->session = NULL;
            status = ort_fail(runtime, failed, "\"%s\"", kln_model_name(model));
            status = model->graph == NULL ? explain(model, status) : status;
        }
    }
    api->ReleaseSessionOptions(session_options);
    return status;
}

static kiln_status check_model(const kiln_model *model)
{
    if (model->graph != NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF(model->bytes.size == 0, KILN_ERROR_EMPTY, "\"%s\": it has 0 bytes",
                  kln_model_name(model));
    KLN_RETURN_IF(model->bytes.size > KLN_ONNX_MESSAGE_LIMIT, KILN_ERROR_LIMIT,
                  "\"%s\": it has %zu bytes, one protobuf message holds %zu at most; keep "
                  "the weights in an external file",
                  kln_model_name(model), model->bytes.size, KLN_ONNX_MESSAGE_LIMIT);
    return KILN_OK;
}

static kiln_status keep_bytes(ort_engine *engine, const kiln_model *model,
                              const kiln_build_options *options)
{
    if (model->graph != NULL) {
        ort_handover_trim(&engine->handover);
        if (options->share_weights != KILN_SWITCH_ON) {
            ort_handover_rest(&engine->handover);
        }
        return KILN_OK;
    }
    if (model->file != NULL) {
        engine->file = kln_mapping_share(model->file);
        engine->bytes = engine->file.bytes;
        return KILN_OK;
    }
    void *copy = kln_alloc(model->bytes.size);
    KLN_RETURN_IF_NO_MEMORY(copy, model->bytes.size, "the engine's copy of the model");
    memcpy(copy, model->bytes.data, model->bytes.size);
    engine->bytes = (kiln_span){copy, model->bytes.size};
    return KILN_OK;
}

void ort_engine_destroy(void *engine)
{
    ort_engine *self = engine;
    ort_profile_finish(self);
    if (self->session != NULL) {
        self->runtime->api.ReleaseSession(self->session);
    }
    ort_watch_finish(self);
    ort_cuda_finish(self);
    ort_handover_finish(&self->handover);
    kln_onnx_model_destroy(self->external);
    kln_text_finish(&self->written);
    const bool reads_bytes = self->read != NULL; /* the model owns the bytes then */
    kln_onnx_model_destroy(self->read);
    (void)pthread_mutex_destroy(&self->writing);
    if (self->file.bytes.data == NULL && !reads_bytes) {
        kln_free((void *)(uintptr_t)self->bytes.data);
    }
    kln_mapping_close(&self->file);
    kln_arena_finish(&self->arena);
    kln_free(self);
}

static kiln_status go_on(const kiln_model *model, const kiln_monitor *monitor, int64_t step)
{
    const kiln_phase now = {"session", 0, step, 2, (double)step / 2};
    KLN_RETURN_IF(
        monitor != NULL && monitor->progress != NULL && !monitor->progress(monitor->user, &now),
        KILN_ERROR_CANCELLED, "\"%s\": the build was cancelled", kln_model_name(model));
    return KILN_OK;
}

static kiln_status fill_engine(ort_engine *engine, const kiln_model *model,
                               const kiln_build_options *options, const kiln_monitor *monitor)
{
    KLN_RETURN_IF_ERROR(go_on(model, monitor, 0));
    if (model->graph != NULL) {
        KLN_RETURN_IF_ERROR(ort_handover_init(&engine->handover, model->graph));
    }
    KLN_RETURN_IF_ERROR(check_model(model));
    KLN_RETURN_IF_ERROR(ort_guard(engine, model, options));
    KLN_RETURN_IF_ERROR(create_session(engine, model, options));
    kiln_status status = ort_read_bindings(engine);
    if (status == KILN_OK && engine->device >= 0) {
        status = ort_cuda_read_nodes(engine, options);
    }
    KLN_FAIL_IF(status != KILN_OK, kln_fail_within(status, "\"%s\"", kln_model_name(model)));
    KLN_RETURN_IF_ERROR(go_on(model, monitor, 1));
    return keep_bytes(engine, model, options);
}

/* The library maps external files itself, so with copy_file it gets copies of their contents. */
static kiln_status fill_copied(ort_engine *engine, const kiln_model *model,
                               const kiln_build_options *options, const kiln_monitor *monitor)
{
    KLN_SCOPED(kln_onnx_model_destroy_at) kln_onnx_model *copied = NULL;
    KLN_RETURN_IF_ERROR(kln_model_read(model, &copied));
    const kiln_model inner = {.graph = copied};
    const kiln_status status = fill_engine(engine, &inner, options, monitor);
    return status == KILN_OK ? KILN_OK : kln_fail_within(status, "\"%s\"", model->path);
}

static kiln_status keep_origin(ort_engine *engine, const kiln_model *model,
                               const kiln_build_options *options)
{
    const char *const texts[] = {model->path, model->folder};
    const char **const places[] = {&engine->path, &engine->folder};
    engine->options = kln_build_options_plain(options);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(texts); i++) {
        *places[i] = texts[i] != NULL ? kln_arena_strdup(&engine->arena, texts[i]) : NULL;
        KLN_FAIL_IF(texts[i] != NULL && *places[i] == NULL,
                    kln_fail_memory(strlen(texts[i]), "a path"));
    }
    return KILN_OK;
}

KLN_SCOPED_POINTER(ort_engine, ort_engine_destroy)

kiln_status ort_engine_make(const ort_runtime *runtime, const kiln_model *model,
                            const kiln_build_options *options, const kiln_monitor *monitor,
                            ort_engine **engine)
{
    KLN_SCOPED(ort_engine_destroy_at) ort_engine *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "an engine");
    made->runtime = runtime;
    made->device = -1;
    kln_text_init(&made->written, KLN_ONNX_MESSAGE_LIMIT);
    (void)pthread_mutex_init(&made->writing, NULL); /* cannot fail on Linux */
    KLN_RETURN_IF_ERROR(keep_origin(made, model, options));
    KLN_RETURN_IF_ERROR(options->copy_file && model->file != NULL
                            ? fill_copied(made, model, options, monitor)
                            : fill_engine(made, model, options, monitor));
    *engine = KLN_TAKE(made);
    return KILN_OK;
}
