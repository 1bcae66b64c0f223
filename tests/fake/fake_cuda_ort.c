/* SPDX-License-Identifier: Apache-2.0 */
/* ONNX Runtime with a CUDA provider, played: the library at FAKE_ORT_REAL computes on the CPU, and
 * a run that shall not wait is enqueued on the stream of the provider's options, on the driver that
 * fake_cuda.h plays, whose device memory the CPU reaches. What goes wrong is chosen by
 *
 *     FAKE_ORT_CUDA    "absent": the provider's library cannot be opened
 *     FAKE_ORT_HOST    set: every node is said to run on the CPU
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/onnxruntime/ort_api.h"

#define SLOTS 420
#define LIMIT 256
#define MOST 8

typedef struct value {
    OrtValue *handle;
    const OrtMemoryInfo *memory;
    void *data;
    size_t bytes;
    int64_t dims[8];
    size_t rank;
    ort_element_type type;
} value;

typedef struct bound {
    char name[32];
    value what;
} bound;

typedef struct binding {
    OrtIoBinding *handle;
    OrtSession *session;
    bound inputs[MOST];
    size_t input_count;
    bound outputs[MOST];
    size_t output_count;
} binding;

typedef OrtStatus *(*run_function)(OrtSession *, const OrtRunOptions *, const char *const *,
                                   const OrtValue *const *, size_t, const char *const *, size_t,
                                   OrtValue **);
typedef OrtStatus *(*status_function)(ort_error_code, const char *);

static ort_api real;
static run_function real_run;
static status_function make_status;
static const void *slots[SLOTS];
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static value values[LIMIT];
static binding bindings[LIMIT];
static const OrtRunOptions *hasty[LIMIT];
static binding jobs[4 * LIMIT];
static size_t job_count;
static void *stream; /* that the last provider was told */

/* Each session keeps the stream of its own provider. */
static struct {
    const OrtSession *session;
    void *stream;
} owners[LIMIT];
static size_t owner_count;

/* --- the provider --- */

static OrtStatus *available(char ***names, int *count)
{
    static char cuda[] = "CUDAExecutionProvider";
    static char cpu[] = "CPUExecutionProvider";
    static char *list[] = {cuda, cpu};
    *names = list;
    *count = 2;
    return NULL;
}

static OrtStatus *release_available(char **names, int count)
{
    (void)names;
    (void)count;
    return NULL;
}

static OrtStatus *append(OrtSessionOptions *options, const OrtCUDAProviderOptionsV2 *provider)
{
    (void)options;
    (void)provider;
    const char *wish = getenv("FAKE_ORT_CUDA");
    return wish != NULL && strcmp(wish, "absent") == 0
               ? make_status(ORT_CODE_FAIL,
                             "Failed to load library: libcudnn.so.9: cannot open "
                             "shared object file: No such file or directory")
               : NULL;
}

/* What the last provider was told for an option; "" where nothing was. */
#define OPTIONS 16
static char told[OPTIONS][2][64];
static size_t told_count;

__attribute__((visibility("default"))) const char *fake_ort_option(const char *name);

const char *fake_ort_option(const char *name)
{
    for (size_t i = 0; i < told_count; i++) {
        if (strcmp(told[i][0], name) == 0) {
            return told[i][1];
        }
    }
    return "";
}

static OrtStatus *create_provider(OrtCUDAProviderOptionsV2 **made)
{
    *made = calloc(1, 1);
    told_count = 0;
    return NULL;
}

static void release_provider(OrtCUDAProviderOptionsV2 *provider)
{
    free(provider);
}

static OrtStatus *update(OrtCUDAProviderOptionsV2 *provider, const char *const *keys,
                         const char *const *texts, size_t count)
{
    (void)provider;
    for (size_t i = 0; i < count; i++) {
        if (keys[i] == NULL || texts[i] == NULL) {
            return make_status(ORT_CODE_INVALID_ARGUMENT, "an option without a name or value");
        }
        if (told_count < OPTIONS) {
            (void)snprintf(told[told_count][0], sizeof told[0][0], "%s", keys[i]);
            (void)snprintf(told[told_count][1], sizeof told[0][1], "%s", texts[i]);
            told_count++;
        }
    }
    return NULL;
}

static OrtStatus *update_pointer(OrtCUDAProviderOptionsV2 *provider, const char *key, void *what)
{
    (void)provider;
    stream = strcmp(key, "user_compute_stream") == 0 ? what : stream;
    return NULL;
}

static OrtStatus *create_memory(const char *name, ort_allocator_kind kind, int device,
                                ort_memory_kind memory, OrtMemoryInfo **made)
{
    (void)device;
    return strcmp(name, "Cuda") == 0 ? real.CreateCpuMemoryInfo(kind, memory, made)
                                     : make_status(ORT_CODE_INVALID_ARGUMENT, "another memory");
}

static OrtStatus *provider_name(const OrtEpAssignedSubgraph *part, const char **name)
{
    (void)part;
    *name = getenv("FAKE_ORT_HOST") != NULL ? "CPUExecutionProvider" : "CUDAExecutionProvider";
    return NULL;
}

/* --- sessions --- */

static OrtStatus *keep_stream(OrtStatus *status, OrtSession *const *made)
{
    (void)pthread_mutex_lock(&guard);
    if (status == NULL) {
        owners[owner_count % LIMIT].session = *made;
        owners[owner_count++ % LIMIT].stream = stream;
    }
    (void)pthread_mutex_unlock(&guard);
    return status;
}

static OrtStatus *create_session(const OrtEnv *environment, const char *path,
                                 const OrtSessionOptions *options, OrtSession **made)
{
    return keep_stream(real.CreateSession(environment, path, options, made), made);
}

static OrtStatus *create_from_bytes(const OrtEnv *environment, const void *bytes, size_t size,
                                    const OrtSessionOptions *options, OrtSession **made)
{
    return keep_stream(real.CreateSessionFromArray(environment, bytes, size, options, made), made);
}

/* The newest of that address, which an older one that is gone may have had. */
static void *stream_of(const OrtSession *session)
{
    const size_t oldest = owner_count > LIMIT ? owner_count - LIMIT : 0;
    void *found = NULL;
    for (size_t i = oldest; i < owner_count; i++) {
        found = owners[i % LIMIT].session == session ? owners[i % LIMIT].stream : found;
    }
    return found;
}

/* --- what is bound --- */

static OrtStatus *create_value(const OrtMemoryInfo *memory, void *data, size_t bytes,
                               const int64_t *dims, size_t rank, ort_element_type type,
                               OrtValue **made)
{
    OrtStatus *status =
        real.CreateTensorWithDataAsOrtValue(memory, data, bytes, dims, rank, type, made);
    (void)pthread_mutex_lock(&guard);
    for (size_t i = 0; status == NULL && i < LIMIT; i++) {
        if (values[i].handle == NULL) {
            values[i] = (value){*made, memory, data, bytes, {0}, rank, type};
            memcpy(values[i].dims, dims, rank * sizeof *dims);
            break;
        }
    }
    (void)pthread_mutex_unlock(&guard);
    return status;
}

static void release_value(OrtValue *handle)
{
    (void)pthread_mutex_lock(&guard);
    for (size_t i = 0; handle != NULL && i < LIMIT; i++) {
        if (values[i].handle == handle) {
            values[i].handle = NULL;
        }
    }
    (void)pthread_mutex_unlock(&guard);
    real.ReleaseValue(handle);
}

static binding *find_binding(const OrtIoBinding *handle)
{
    for (size_t i = 0; i < LIMIT; i++) {
        if (bindings[i].handle == handle) {
            return &bindings[i];
        }
    }
    abort();
}

static OrtStatus *create_binding(OrtSession *session, OrtIoBinding **made)
{
    OrtStatus *status = real.CreateIoBinding(session, made);
    (void)pthread_mutex_lock(&guard);
    if (status == NULL) {
        *find_binding(NULL) = (binding){.handle = *made, .session = session};
    }
    (void)pthread_mutex_unlock(&guard);
    return status;
}

static void release_binding(OrtIoBinding *handle)
{
    (void)pthread_mutex_lock(&guard);
    find_binding(handle)->handle = NULL;
    (void)pthread_mutex_unlock(&guard);
    real.ReleaseIoBinding(handle);
}

static void remember(bound *list, size_t *count, const char *name, const OrtValue *handle)
{
    size_t place = 0;
    while (place < *count && strcmp(list[place].name, name) != 0) {
        place++;
    }
    if (place == MOST || strlen(name) >= sizeof list->name) {
        abort();
    }
    *count = place == *count ? place + 1 : *count;
    memcpy(list[place].name, name, strlen(name) + 1);
    for (size_t i = 0; i < LIMIT; i++) {
        if (values[i].handle == handle) {
            list[place].what = values[i];
        }
    }
}

static OrtStatus *bind_input(OrtIoBinding *handle, const char *name, const OrtValue *what)
{
    (void)pthread_mutex_lock(&guard);
    binding *to = find_binding(handle);
    remember(to->inputs, &to->input_count, name, what);
    (void)pthread_mutex_unlock(&guard);
    return real.BindInput(handle, name, what);
}

static OrtStatus *bind_output(OrtIoBinding *handle, const char *name, const OrtValue *what)
{
    (void)pthread_mutex_lock(&guard);
    binding *to = find_binding(handle);
    remember(to->outputs, &to->output_count, name, what);
    (void)pthread_mutex_unlock(&guard);
    return real.BindOutput(handle, name, what);
}

/* --- running --- */

static OrtStatus *add_entry(OrtRunOptions *options, const char *key, const char *text)
{
    (void)pthread_mutex_lock(&guard);
    for (size_t i = 0; i < LIMIT; i++) {
        if (hasty[i] == NULL) {
            hasty[i] = options;
            break;
        }
    }
    (void)pthread_mutex_unlock(&guard);
    return real.AddRunConfigEntry(options, key, text);
}

static void release_options(OrtRunOptions *options)
{
    (void)pthread_mutex_lock(&guard);
    for (size_t i = 0; i < LIMIT; i++) {
        hasty[i] = hasty[i] == options ? NULL : hasty[i];
    }
    (void)pthread_mutex_unlock(&guard);
    real.ReleaseRunOptions(options);
}

static OrtValue *value_of(const value *what)
{
    OrtValue *made = NULL;
    OrtStatus *status = real.CreateTensorWithDataAsOrtValue(
        what->memory, what->data, what->bytes, what->dims, what->rank, what->type, &made);
    if (status != NULL) {
        abort();
    }
    return made;
}

static void play(void *user)
{
    const binding *job = user;
    const char *names[2][MOST];
    OrtValue *inputs[MOST];
    OrtValue *outputs[MOST];
    for (size_t i = 0; i < job->input_count; i++) {
        names[0][i] = job->inputs[i].name;
        inputs[i] = value_of(&job->inputs[i].what);
    }
    for (size_t i = 0; i < job->output_count; i++) {
        names[1][i] = job->outputs[i].name;
        outputs[i] = value_of(&job->outputs[i].what);
    }
    OrtStatus *status = real_run(job->session, NULL, names[0], (const OrtValue *const *)inputs,
                                 job->input_count, names[1], job->output_count, outputs);
    if (status != NULL) {
        abort();
    }
    for (size_t i = 0; i < job->input_count; i++) {
        real.ReleaseValue(inputs[i]);
    }
    for (size_t i = 0; i < job->output_count; i++) {
        real.ReleaseValue(outputs[i]);
    }
}

static OrtStatus *run_with_binding(OrtSession *session, const OrtRunOptions *options,
                                   const OrtIoBinding *handle)
{
    int waits = 1;
    binding *job = NULL;
    void *target = NULL;
    (void)pthread_mutex_lock(&guard);
    for (size_t i = 0; i < LIMIT; i++) {
        waits = waits && hasty[i] != options;
    }
    if (!waits) {
        job = &jobs[job_count++ % (sizeof jobs / sizeof *jobs)];
        *job = *find_binding(handle);
        target = stream_of(session);
    }
    (void)pthread_mutex_unlock(&guard);
    if (waits) {
        return real.RunWithBinding(session, options, handle);
    }
    void *driver = dlopen(getenv("KILN_CUDA_DRIVER"), RTLD_NOW | RTLD_LOCAL);
    void *symbol = driver != NULL ? dlsym(driver, "cuLaunchHostFunc") : NULL;
    int (*launch)(void *, void (*)(void *), void *) = NULL;
    memcpy(&launch, &symbol, sizeof launch);
    const int result = launch != NULL ? launch(target, play, job) : -1;
    if (driver != NULL) {
        (void)dlclose(driver);
    }
    return result == 0 ? NULL
                       : make_status(ORT_CODE_FAIL,
                                     "CUDA failure 900: operation not "
                                     "permitted when stream is capturing");
}

/* --- the table --- */

static const ort_api_base *real_base(void)
{
    const char *path = getenv("FAKE_ORT_REAL");
    void *library = dlopen(path != NULL ? path : "", RTLD_NOW | RTLD_LOCAL);
    void *symbol = library != NULL ? dlsym(library, "OrtGetApiBase") : NULL;
    const ort_api_base *(*get_base)(void) = NULL;
    memcpy(&get_base, &symbol, sizeof get_base);
    return get_base != NULL ? get_base() : NULL;
}

#define OVERRIDE(slot, function)                                  \
    do {                                                          \
        const __typeof__(&(function)) pointer_ = function;        \
        memcpy((void *)&slots[slot], &pointer_, sizeof pointer_); \
    } while (0)

static void override_all(void)
{
    OVERRIDE(7, create_session);
    OVERRIDE(8, create_from_bytes);
    OVERRIDE(49, create_value);
    OVERRIDE(68, create_memory);
    OVERRIDE(96, release_value);
    OVERRIDE(97, release_options);
    OVERRIDE(125, available);
    OVERRIDE(126, release_available);
    OVERRIDE(133, run_with_binding);
    OVERRIDE(134, create_binding);
    OVERRIDE(135, release_binding);
    OVERRIDE(136, bind_input);
    OVERRIDE(137, bind_output);
    OVERRIDE(165, add_entry);
    OVERRIDE(204, append);
    OVERRIDE(205, create_provider);
    OVERRIDE(206, update);
    OVERRIDE(208, release_provider);
    OVERRIDE(263, update_pointer);
    OVERRIDE(408, provider_name);
}

static const void *get_api(uint32_t level)
{
    const ort_api_base *base = real_base();
    if (base == NULL || base->GetApi(level) == NULL) {
        return NULL;
    }
    if (slots[0] == NULL) {
        const void *const *theirs = base->GetApi(level);
        memcpy((void *)slots, theirs, sizeof slots);
#define TAKE(slot, level_, result, name, parameters) \
    memcpy(&real.name, &theirs[slot], sizeof real.name);
        ORT_API_LIST(TAKE)
#undef TAKE
        memcpy(&make_status, &theirs[0], sizeof make_status);
        memcpy(&real_run, &theirs[9], sizeof real_run);
        override_all();
    }
    return slots;
}

static const char *get_version(void)
{
    const ort_api_base *base = real_base();
    return base != NULL ? base->GetVersionString() : "?";
}

__attribute__((visibility("default"))) const ort_api_base *OrtGetApiBase(void);

const ort_api_base *OrtGetApiBase(void)
{
    static const ort_api_base base = {get_api, get_version};
    return real_base() != NULL ? &base : NULL;
}
