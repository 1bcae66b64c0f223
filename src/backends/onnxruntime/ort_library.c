/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ort_internal.h"

#define ENVIRONMENT "KILN_ONNXRUNTIME"

typedef struct exports {
    const ort_api_base *(*OrtGetApiBase)(void);
} exports;

static bool accept(const void *table, char version[KLN_LIBRARY_VERSION],
                   char reason[KLN_LIBRARY_REASON])
{
    const ort_api_base *base = ((const exports *)table)->OrtGetApiBase();
    if (base == NULL) {
        (void)snprintf(reason, KLN_LIBRARY_REASON, "its OrtGetApiBase returned NULL");
        return false;
    }
    (void)snprintf(version, KLN_LIBRARY_VERSION, "%s", base->GetVersionString());
    if (base->GetApi(ORT_API_LEVEL) == NULL) {
        (void)snprintf(reason, KLN_LIBRARY_REASON,
                       "version %s is too old, at least " ORT_OLDEST_VERSION " is needed", version);
        return false;
    }
    return true;
}

static const char *const files[] = {"libonnxruntime.so.1.*", "libonnxruntime.so.1",
                                    "libonnxruntime.so", NULL};
static const char *const packages[] = {"onnxruntime/capi", NULL};
static const char *const folders[] = {
    "/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",     "/opt/onnxruntime*/lib",     NULL};
static const kln_symbol symbols[] = {{"OrtGetApiBase", offsetof(exports, OrtGetApiBase), NULL},
                                     {NULL, 0, NULL}};

static const kln_library_spec spec = {
    .name = "ONNX Runtime",
    .purpose = "runs ONNX models where TensorRT is not installed",
    .environment = ENVIRONMENT,
    .files = files,
    .deps = "onnxruntime",
    .packages = packages,
    .folders = folders,
    .symbols = symbols,
    .table_size = sizeof(exports),
    .advice = "pip install onnxruntime (" ORT_OLDEST_VERSION " or newer), or set " ENVIRONMENT
              " to libonnxruntime.so or its folder",
    .accept = accept,
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static ort_runtime *runtimes;

/* --- errors --- */

static kiln_status status_of(unsigned code, const char *message)
{
    if (strstr(message, "bad_alloc") != NULL ||
        strstr(message, "Failed to allocate memory") != NULL ||
        strstr(message, "bad allocation") != NULL) {
        return KILN_ERROR_OUT_OF_MEMORY;
    }
    switch (code) {
        case ORT_NO_SUCHFILE: return KILN_ERROR_NOT_FOUND;
        case ORT_INVALID_PROTOBUF: return KILN_ERROR_MALFORMED;
        case ORT_NOT_IMPLEMENTED: return KILN_ERROR_UNSUPPORTED;
        case ORT_INVALID_GRAPH: return KILN_ERROR_INVALID_NETWORK;
        default: return KILN_ERROR_BACKEND;
    }
}

kiln_status ort_check(const ort_api *api, OrtStatus *status, const char *what)
{
    if (status == NULL) {
        return KILN_OK;
    }
    const char *message = api->GetErrorMessage(status);
    const kiln_status result = kln_fail(status_of(api->GetErrorCode(status), message),
                                        "%s: ONNX Runtime says: %s", what, message);
    api->ReleaseStatus(status);
    return result;
}

/* --- log --- */

static void log_message(void *user, unsigned severity, const char *category, const char *logid,
                        const char *location, const char *message)
{
    (void)user;
    (void)category;
    (void)logid;
    static const kiln_log_level levels[] = {KILN_LOG_DEBUG, KILN_LOG_DEBUG, KILN_LOG_WARNING,
                                            KILN_LOG_ERROR, KILN_LOG_ERROR};
    const kiln_log_level level =
        severity < KLN_ARRAY_LENGTH(levels) ? levels[severity] : KILN_LOG_ERROR;
    kln_log(level, "onnxruntime", "%s (%s)", message, location);
}

/* --- finding --- */

static void fill_api(ort_api *api, const void *table)
{
    const unsigned char *slots = table;
#define FILL(slot, name, result, parameters) \
    memcpy(&api->name, slots + (size_t)(slot) * sizeof(void *), sizeof api->name);
    ORT_SLOTS(FILL)
#undef FILL
}

static kiln_status look(ort_runtime *runtime, const char *path)
{
    exports table = {NULL};
    runtime->status = kln_library_open(&spec, path, &table, &runtime->library);
    if (runtime->status == KILN_ERROR_OUT_OF_MEMORY) {
        return runtime->status;
    }
    if (runtime->status != KILN_OK) {
        (void)snprintf(runtime->reason, sizeof runtime->reason, "%s", kiln_error_message());
        return KILN_OK;
    }
    fill_api(&runtime->api, table.OrtGetApiBase()->GetApi(ORT_API_LEVEL));
    (void)snprintf(runtime->reason, sizeof runtime->reason, "ONNX Runtime %s runs it on the CPU",
                   kln_library_version(runtime->library));
    return KILN_OK;
}

static kiln_status add(const char *key, const char *path, ort_runtime **added)
{
    const size_t size = strlen(key) + 1;
    ort_runtime *runtime = kln_alloc_zeroed(1, sizeof *runtime + size);
    if (runtime == NULL) {
        return kln_fail_memory(sizeof *runtime + size, "a record of ONNX Runtime");
    }
    char *requested = (char *)(runtime + 1);
    memcpy(requested, key, size);
    runtime->requested = requested;
    const kiln_status status = look(runtime, path);
    if (status != KILN_OK) {
        kln_free(runtime);
        return status;
    }
    runtime->next = runtimes;
    runtimes = runtime;
    *added = runtime;
    return KILN_OK;
}

/* With the lock held. */
static kiln_status find(const char *path, ort_runtime **runtime)
{
    const char *variable = getenv(ENVIRONMENT);
    const char *key = path != NULL ? path : variable != NULL ? variable : "";
    for (ort_runtime *known = runtimes; known != NULL; known = known->next) {
        if (strcmp(known->requested, key) == 0) {
            *runtime = known;
            return KILN_OK;
        }
    }
    kln_lasting_begin();
    const kiln_status status = add(key, path, runtime);
    kln_lasting_end();
    return status;
}

/* With the lock held. */
static kiln_status start(ort_runtime *runtime)
{
    if (runtime->environment != NULL) {
        return KILN_OK;
    }
    const ort_api *api = &runtime->api;
    const char *what = "ONNX Runtime's environment";
    if (runtime->cpu == NULL) {
        KLN_RETURN_IF_ERROR(ort_check(
            api, api->CreateCpuMemoryInfo(ORT_DEVICE_ALLOCATOR, ORT_MEMORY_DEFAULT, &runtime->cpu),
            what));
    }
    KLN_RETURN_IF_ERROR(
        ort_check(api, api->GetAllocatorWithDefaultOptions(&runtime->allocator), what));
    const unsigned severity = kln_log_wants(KILN_LOG_DEBUG) ? ORT_LOG_INFO : ORT_LOG_WARNING;
    KLN_RETURN_IF_ERROR(ort_check(
        api,
        api->CreateEnvWithCustomLogger(log_message, NULL, severity, "kiln", &runtime->environment),
        what));
    return ort_check(api, api->DisableTelemetryEvents(runtime->environment), what);
}

kiln_status ort_runtime_find(const char *path, const ort_runtime **runtime)
{
    ort_runtime *found = NULL;
    (void)pthread_mutex_lock(&lock);
    const kiln_status status = find(path, &found);
    (void)pthread_mutex_unlock(&lock);
    *runtime = found;
    return status;
}

kiln_status ort_runtime_open(const char *path, const ort_runtime **runtime)
{
    ort_runtime *found = NULL;
    (void)pthread_mutex_lock(&lock);
    kiln_status status = find(path, &found);
    if (status == KILN_OK && found->status != KILN_OK) {
        status = kln_fail(found->status, "%s", found->reason);
    }
    if (status == KILN_OK) {
        status = start(found);
    }
    (void)pthread_mutex_unlock(&lock);
    *runtime = found;
    return status;
}

/* --- what the seam asks --- */

static kiln_status probe(const char *library, kiln_backend_info *info)
{
    const ort_runtime *runtime = NULL;
    KLN_RETURN_IF_ERROR(ort_runtime_find(library, &runtime));
    info->reason = runtime->reason;
    info->library = kln_library_path(runtime->library);
    info->version = kln_library_version(runtime->library);
    if (runtime->status != KILN_OK) {
        return runtime->status;
    }
    info->available = true;
    info->score = 50;
    info->capabilities =
        KILN_CAPABILITY_BUILD | KILN_CAPABILITY_RUN | KILN_CAPABILITY_DYNAMIC_SHAPES;
    return KILN_OK;
}

static bool library_use(size_t index, kln_library_use *use)
{
    const ort_runtime *runtime = NULL;
    if (index != 0 || ort_runtime_find(NULL, &runtime) != KILN_OK) {
        return false;
    }
    *use = (kln_library_use){.spec = &spec,
                             .library = runtime->library,
                             .version = kln_library_version(runtime->library)};
    return true;
}

/* --- building --- */

/* One protobuf message holds at most this much:
 * https://protobuf.dev/programming-guides/proto-limits/ */
#define LARGEST_MESSAGE ((size_t)INT32_MAX)

static kiln_status set_options(const ort_api *api, OrtSessionOptions *session,
                               const kiln_build_options *options)
{
    static const unsigned levels[] = {ORT_OPTIMIZE_ALL, ORT_OPTIMIZE_NONE, ORT_OPTIMIZE_BASIC,
                                      ORT_OPTIMIZE_EXTENDED, ORT_OPTIMIZE_ALL};
    const char *what = "the session's options";
    KLN_RETURN_IF_ERROR(ort_check(
        api, api->SetSessionGraphOptimizationLevel(session, levels[options->optimization]), what));
    if (options->threads > 0) {
        KLN_RETURN_IF_ERROR(
            ort_check(api, api->SetIntraOpNumThreads(session, options->threads), what));
    }
    if (options->parallel_nodes > 1) {
        KLN_RETURN_IF_ERROR(
            ort_check(api, api->SetSessionExecutionMode(session, ORT_RUN_PARALLEL), what));
        KLN_RETURN_IF_ERROR(
            ort_check(api, api->SetInterOpNumThreads(session, options->parallel_nodes), what));
    }
    return KILN_OK;
}

static kiln_status create_session(ort_engine *engine, const kln_model *model,
                                  const OrtSessionOptions *options)
{
    const ort_api *api = &engine->runtime->api;
    OrtEnv *environment = engine->runtime->environment;
    OrtStatus *status =
        model->path != NULL
            ? api->CreateSession(environment, model->path, options, &engine->session)
            : api->CreateSessionFromArray(environment, model->bytes.data, model->bytes.size,
                                          options, &engine->session);
    return ort_check(api, status, model->path != NULL ? model->path : "a model in memory");
}

/* kiln_engine_save hands the model out again: a file stays mapped, which costs no memory until
 * then. */
static kiln_status keep_model(ort_engine *engine, const kln_model *model)
{
    if (model->path != NULL) {
        KLN_RETURN_IF_ERROR(kln_mapping_open(model->path, &engine->mapping));
        engine->model = engine->mapping.bytes;
        return KILN_OK;
    }
    engine->copy = kln_alloc(model->bytes.size);
    if (engine->copy == NULL) {
        return kln_fail_memory(model->bytes.size, "a copy of the model");
    }
    memcpy(engine->copy, model->bytes.data, model->bytes.size);
    engine->model = (kiln_span){engine->copy, model->bytes.size};
    return KILN_OK;
}

static void engine_destroy(void *state)
{
    ort_engine *engine = state;
    if (engine->session != NULL) {
        engine->runtime->api.ReleaseSession(engine->session);
    }
    kln_mapping_close(&engine->mapping);
    kln_free(engine->copy);
    kln_free(engine);
}

static kiln_status make_session(ort_engine *engine, const kln_model *model,
                                const kiln_build_options *options)
{
    const ort_api *api = &engine->runtime->api;
    OrtSessionOptions *session_options = NULL;
    KLN_RETURN_IF_ERROR(
        ort_check(api, api->CreateSessionOptions(&session_options), "the session's options"));
    kiln_status status = set_options(api, session_options, options);
    if (status == KILN_OK) {
        status = create_session(engine, model, session_options);
    }
    api->ReleaseSessionOptions(session_options);
    return status;
}

static kiln_status build(const kln_model *model, const kiln_build_options *options,
                         const kln_monitor *monitor, void **engine)
{
    (void)monitor; /* ONNX Runtime reports no progress while it makes a session */
    const char *source = model->path != NULL ? model->path : "a model in memory";
    if (model->bytes.size > LARGEST_MESSAGE) {
        return kln_fail(KILN_ERROR_LIMIT,
                        "\"%s\": the model has %zu bytes, one protobuf message holds at most %zu; "
                        "save it with its weights in an external file",
                        source, model->bytes.size, LARGEST_MESSAGE);
    }
    ort_engine *made = kln_alloc_zeroed(1, sizeof *made);
    if (made == NULL) {
        return kln_fail_memory(sizeof *made, "an engine of ONNX Runtime");
    }
    kiln_status status = ort_runtime_open(options->library, &made->runtime);
    if (status == KILN_OK) {
        status = make_session(made, model, options);
    }
    if (status == KILN_OK) {
        status = keep_model(made, model);
    }
    if (status != KILN_OK) {
        engine_destroy(made);
        return status;
    }
    *engine = made;
    return KILN_OK;
}

static kiln_status serialize(void *state, kiln_span *bytes)
{
    *bytes = ((ort_engine *)state)->model;
    return KILN_OK;
}

const kln_backend kln_backend_onnxruntime = {
    .name = "onnxruntime",
    .description = "Microsoft ONNX Runtime",
    .probe = probe,
    .library = library_use,
    .build = build,
    .serialize = serialize,
    .describe = ort_describe,
    .engine_destroy = engine_destroy,
    .context_create = ort_context_create,
    .context_destroy = ort_context_destroy,
    .bind = ort_context_bind,
    .run = ort_context_run,
    .output = ort_context_output,
};
