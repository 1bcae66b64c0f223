/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "ort_lacks.h"
#include "ort_runtime.h"

/* How many different places can be asked for in one process. */
#define RUNTIME_LIMIT 16

/* --- finding the library --- */

typedef struct entry_point {
    const ort_api_base *(*get_base)(void);
} entry_point;

static const kln_symbol symbols[] = {
    {"OrtGetApiBase", offsetof(entry_point, get_base), NULL},
    {NULL, 0, NULL},
};

static bool accept_library(const void *table, char version[KLN_LIBRARY_VERSION],
                           char reason[KLN_LIBRARY_REASON])
{
    const entry_point *entry = table;
    const ort_api_base *base = entry->get_base();
    if (base == NULL || base->GetApi == NULL || base->GetVersionString == NULL) {
        (void)snprintf(reason, KLN_LIBRARY_REASON, "OrtGetApiBase returns nothing usable");
        return false;
    }
    (void)snprintf(version, KLN_LIBRARY_VERSION, "%s", base->GetVersionString());
    if (base->GetApi(ORT_LEVEL_NEEDED) == NULL) {
        (void)snprintf(reason, KLN_LIBRARY_REASON,
                       "version %s is too old, %s (API level %d) or later is needed", version,
                       ORT_RELEASE_NEEDED, ORT_LEVEL_NEEDED);
        return false;
    }
    return true;
}

static const char *const files[] = {"libonnxruntime.so", "libonnxruntime.so.1",
                                    "libonnxruntime.so.*", NULL};
static const char *const packages[] = {"onnxruntime/capi", NULL};
static const char *const folders[] = {"/usr/local/lib",
                                      "/usr/local/lib64",
                                      "/opt/onnxruntime*/lib",
                                      "/usr/lib/x86_64-linux-gnu",
                                      "/usr/lib/aarch64-linux-gnu",
                                      "/usr/lib64",
                                      "/usr/lib",
                                      NULL};

const kln_library_spec ort_library_spec = {
    .name = "ONNX Runtime",
    .purpose = "runs ONNX models on the CPU",
    .environment = ORT_ENVIRONMENT,
    .files = files,
    .packages = packages,
    .folders = folders,
    .symbols = symbols,
    .table_size = sizeof(entry_point),
    .advice =
        "pip install onnxruntime, or set " ORT_ENVIRONMENT " to libonnxruntime.so or its folder",
    .accept = accept_library,
};

/* --- its log --- */

/* Logged for each initializer that is also an input, which in older exports is every one: that is
 * no fault of the file. */
static bool is_expected(const char *message)
{
    return strstr(message, " appears in graph inputs and will not be treated as constant") != NULL;
}

static void hear(void *user, ort_logging_level level, const char *category, const char *log_id,
                 const char *location, const char *message)
{
    (void)user;
    (void)log_id;
    static const kiln_log_level levels[] = {KILN_LOG_DEBUG, KILN_LOG_DEBUG, KILN_LOG_WARNING,
                                            KILN_LOG_ERROR, KILN_LOG_ERROR};
    kiln_log_level translated = level < KLN_ARRAY_LENGTH(levels) ? levels[level] : KILN_LOG_ERROR;
    translated = message != NULL && is_expected(message) ? KILN_LOG_DEBUG : translated;
    const bool has_category = category != NULL && strcmp(category, "onnxruntime") != 0;
    kln_log(translated, "onnxruntime", "%s%s%s (%s)", has_category ? category : "",
            has_category ? ": " : "", message != NULL ? message : "",
            location != NULL ? location : "");
}

/* --- opening it --- */

/* Runtimes are added under the lock and never change afterwards, so pointers to them can be used
 * without it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static ort_runtime runtimes[RUNTIME_LIMIT];
static size_t runtime_count;
static _Atomic bool is_newer;

bool ort_runtime_is_newer(void)
{
    return is_newer;
}

/* "1.31.1" is release 31. */
static void note_release(const char *version)
{
    int major = 0;
    int minor = 0;
    const char *point = strchr(version, '.');
    major = (int)strtol(version, NULL, 10);
    minor = point != NULL ? (int)strtol(point + 1, NULL, 10) : 0;
    is_newer = is_newer || major > 1 || (major == 1 && minor > ORT_LACKS_MINOR);
}

static void fill_api(ort_runtime *runtime, const ort_api_base *base)
{
    const void *const *theirs = base->GetApi(ORT_LEVEL_NEEDED);
#define TAKE(slot, level, result, name, parameters)                          \
    if ((level) <= ORT_LEVEL_NEEDED || base->GetApi(level) != NULL) {        \
        memcpy(&runtime->api.name, &theirs[slot], sizeof runtime->api.name); \
    }
    ORT_API_LIST(TAKE)
#undef TAKE
}

/* From release 1.29 on, ONNX Runtime starts its telemetry when the environment is created: it keeps
 * a database below HOME and uploads it at a time of its choosing. Only an environment variable
 * prevents that, and the environment belongs to the process. So only the library is given this
 * answer. */
static const char *answer(const char *name)
{
    return strcmp(name, "ORT_DISABLE_TELEMETRY") == 0 ? "1" : secure_getenv(name);
}

/* If the library was open in the process before Kiln used it, its telemetry is left as it is. */
static void silence(const ort_runtime *runtime)
{
    union {
        const char *(*function)(const char *name);
        const void *address;
    } here = {.function = answer};
    if (!kln_library_is_own(runtime->library)) {
        kln_log(KILN_LOG_INFO, "onnxruntime",
                "it was open in this process before, so its telemetry is as it was");
    } else if (!kln_library_redirect(runtime->library, "getenv", here.address)) {
        kln_log(KILN_LOG_WARNING, "onnxruntime",
                "%s: it cannot be kept from starting its telemetry; ORT_DISABLE_TELEMETRY=1 in the "
                "environment of the program does",
                kln_library_path(runtime->library));
    }
}

static kiln_status start(ort_runtime *runtime)
{
    const ort_api *api = &runtime->api;
    silence(runtime);
    KLN_RETURN_IF_ERROR(ort_check(
        runtime,
        api->CreateEnvWithCustomLogger(hear, NULL, ORT_LEVEL_WARNING, "kiln", &runtime->env),
        "starting"));
    if (kln_library_is_own(runtime->library)) {
        KLN_RETURN_IF_ERROR(
            ort_check(runtime, api->DisableTelemetryEvents(runtime->env), "its telemetry"));
    }
    KLN_RETURN_IF_ERROR(ort_check(runtime, api->GetAllocatorWithDefaultOptions(&runtime->allocator),
                                  "its allocator"));
    return ort_check(
        runtime, api->CreateCpuMemoryInfo(ORT_ALLOCATOR_DEVICE, ORT_MEMORY_DEFAULT, &runtime->host),
        "its memory");
}

static kiln_status open_library(ort_runtime *runtime, const char *library)
{
    entry_point entry;
    KLN_RETURN_IF_ERROR(kln_library_open(&ort_library_spec, library, &entry, &runtime->library));
    const ort_api_base *base = entry.get_base();
    (void)snprintf(runtime->version, sizeof runtime->version, "%s", base->GetVersionString());
    note_release(runtime->version);
    fill_api(runtime, base);
    const kiln_status status = start(runtime);
    if (status != KILN_OK) {
        kln_library_refuse(runtime->library, kiln_error_message());
        return status;
    }
    (void)snprintf(runtime->reason, sizeof runtime->reason, "ONNX Runtime %s, from %s",
                   base->GetVersionString(), kln_library_path(runtime->library));
    return KILN_OK;
}

static kiln_status look_inside(const char *library, const char *wanted, const ort_runtime **runtime)
{
    for (size_t i = 0; i < runtime_count; i++) {
        if (strcmp(runtimes[i].wanted, wanted) == 0) {
            *runtime = &runtimes[i];
            return KILN_OK;
        }
    }
    KLN_RETURN_IF(runtime_count == RUNTIME_LIMIT, KILN_ERROR_LIMIT,
                  "ONNX Runtime was looked for in %d different places already; \"%s\" would "
                  "be one more",
                  RUNTIME_LIMIT, wanted);
    ort_runtime *made = &runtimes[runtime_count];
    memset(made, 0, sizeof *made);
    (void)snprintf(made->wanted, sizeof made->wanted, "%s", wanted);
    made->status = open_library(made, library);
    if (made->status == KILN_ERROR_OUT_OF_MEMORY) {
        /* Not a final result: a later attempt may find enough memory. */
        kln_library_forget(made->library);
        return made->status;
    }
    if (made->status != KILN_OK) {
        (void)snprintf(made->reason, sizeof made->reason, "%s", kiln_error_message());
    }
    made->provider = ort_cuda_look(kln_library_path(made->library));
    if (made->provider == NULL) {
        kln_library_forget(made->library);
        return KILN_ERROR_OUT_OF_MEMORY;
    }
    runtime_count++;
    *runtime = made;
    return KILN_OK;
}

kiln_status ort_runtime_look(const char *library, const ort_runtime **runtime)
{
    *runtime = NULL;
    /* The environment is part of the key, so that a change to it leads to a new search. */
    const char *wanted = library;
    if (wanted == NULL || wanted[0] == '\0') {
        wanted = kln_getenv(ORT_ENVIRONMENT);
    }
    wanted = wanted != NULL ? wanted : "";
    KLN_RETURN_IF(strlen(wanted) >= PATH_MAX, KILN_ERROR_INVALID_ARGUMENT,
                  "ONNX Runtime: the path of the library has %zu bytes, %d are possible",
                  strlen(wanted), PATH_MAX - 1);
    char absolute[PATH_MAX] = "";
    if (wanted[0] != '\0') {
        KLN_RETURN_IF_ERROR(kln_path_absolute(wanted, absolute));
    }
    KLN_LOCKED(&lock);
    return look_inside(library, absolute, runtime);
}

kiln_status ort_runtime_open(const char *library, const ort_runtime **runtime)
{
    KLN_RETURN_IF_ERROR(ort_runtime_look(library, runtime));
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): there is a record where it succeeds */
    KLN_RETURN_IF((*runtime)->status != KILN_OK, (*runtime)->status, "%s", (*runtime)->reason);
    return KILN_OK;
}
