/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_cache.h"

#include <stdio.h>

#include "onnx/kln_onnx.h"

/* One build through the cache. */
typedef struct cached_build {
    const kiln_backend *backend;
    const kiln_backend_info *info;
    const kiln_model *model;
    const kiln_build_options *options;
    bool load;
    const kiln_monitor *monitor;
    kln_onnx_model *read; /* of a file or bytes; NULL for a network */
    kln_cache cache;
    char key[KLN_CACHE_KEY];
    int lock;
    bool is_locked;
} cached_build;

/* The cache is for plans, which take long to build and are fast to load: backends that have a
 * format of their own. It keeps no plan that carries code: such code may run only if the caller
 * trusts the plan, and finding it in a cache is no reason to. */
bool kln_engine_cache_takes(const kiln_backend *backend, const kiln_model *model,
                            const kiln_build_options *options)
{
    const char *what = NULL;
    if (options->cache == NULL || backend->engine.load == NULL ||
        backend->engine.recognize == NULL || kln_backend_of(model->bytes, &what) != NULL) {
        return false;
    }
    const bool has_code =
        options->version_compatible && !options->exclude_lean_runtime && !options->allow_host_code;
    if (has_code || options->plugin_count > 0) {
        kln_log(KILN_LOG_INFO, "engine", "%s: not looked for in the cache, which keeps no plan %s",
                kln_model_name(model), has_code ? "that carries code" : "with layers of plugins");
        return false;
    }
    return true;
}

kiln_status kln_engine_cache_read(const kln_cache *cache, const char *key, kln_mapping *data,
                                  kln_manifest *manifest)
{
    char path[PATH_MAX];
    kln_cache_path(cache, key, path);
    KLN_RETURN_IF_ERROR(kln_mapping_open(path, data));
    kiln_status status = kln_manifest_read(path, data->bytes, manifest);
    if (status == KILN_OK && manifest->backend[0] == '\0') {
        status = kln_fail(KILN_ERROR_MALFORMED, "\"%s\": it has no manifest", path);
    }
    KLN_THEN(status, kln_manifest_check_file(manifest, path));
    if (status != KILN_OK) {
        kln_manifest_finish(manifest);
        kln_mapping_close(data);
    }
    return status;
}

/* --- finding --- */

static kiln_status keep_place(const cached_build *self, kiln_cache_use use, kiln_engine *engine)
{
    KLN_NEW(engine->cached, 1, "an engine");
    engine->cached->use = use;
    engine->cached->cache = self->cache;
    memcpy(engine->cached->key, self->key, sizeof self->key);
    engine->cached->written = engine->shared.measured->variants;
    return KILN_OK;
}

static kiln_status load_entry(const cached_build *self, const kln_mapping *data,
                              const kln_manifest *manifest, kiln_engine **engine)
{
    char path[PATH_MAX];
    void *state = NULL;
    KLN_SCOPED(kiln_engine_release_at) kiln_engine *made = NULL;
    kln_cache_path(&self->cache, self->key, path);
    const kiln_model plan = {
        .path = path,
        .file = data,
        .bytes = data->bytes,
        .origin = self->model->graph != NULL ? self->model->graph : self->read};
    KLN_RETURN_IF_ERROR(self->backend->engine.load(&plan, self->options, NULL, &state));
    KLN_RETURN_IF_ERROR(kln_engine_adopt(self->backend, self->info, state, self->options,
                                         self->model->path, &made));
    KLN_RETURN_IF_ERROR(kln_manifest_restore(manifest, made));
    KLN_RETURN_IF_ERROR(keep_place(self, KILN_CACHE_FOUND, made));
    *engine = KLN_TAKE(made);
    return KILN_OK;
}

/* Whether the entry itself is at fault, so that a new build repairs it. */
static bool is_damage(kiln_status status)
{
    return status == KILN_ERROR_MALFORMED || status == KILN_ERROR_MISMATCH ||
           status == KILN_ERROR_LIMIT || status == KILN_ERROR_EMPTY ||
           status == KILN_ERROR_NOT_A_FILE || status == KILN_ERROR_IO;
}

/* Loads the entry if there is a good one; KILN_OK without an engine if there is none. Without the
 * lock, an entry that looks damaged may be half written. */
static kiln_status find(const cached_build *self, kiln_engine **engine)
{
    kln_mapping data;
    kln_manifest manifest;
    kln_message before;
    kln_message_keep(&before);
    kiln_status status = kln_engine_cache_read(&self->cache, self->key, &data, &manifest);
    if (status == KILN_OK) {
        status = load_entry(self, &data, &manifest, engine);
        kln_manifest_finish(&manifest);
        kln_mapping_close(&data);
    }
    if (status == KILN_OK) {
        kln_cache_touch(&self->cache, self->key);
        kln_log(KILN_LOG_INFO, "engine", "%s: found in the cache, %s/%s, and not built",
                kln_model_name(self->model), self->cache.folder, self->key);
        return KILN_OK;
    }
    if (is_damage(status) && self->is_locked) {
        kln_log(KILN_LOG_WARNING, "engine",
                "%s: its entry in the cache is damaged, so it is built anew: %s",
                kln_model_name(self->model), kiln_error_message());
    }
    if (status == KILN_ERROR_NOT_FOUND || is_damage(status)) {
        kln_message_restore(&before);
        return KILN_OK;
    }
    return status;
}

/* --- building --- */

static void warn_timings(const char *what)
{
    kln_log(KILN_LOG_WARNING, "engine", "what builds measured was not %s the cache: %s", what,
            kiln_error_message());
}

/* Reads the timings of other processes; none if they are missing or damaged. */
static void read_timings(const cached_build *self, kln_mapping *data)
{
    char key[KLN_CACHE_KEY];
    kln_manifest manifest;
    kln_message before;
    kln_message_keep(&before);
    *data = (kln_mapping){.mapped = NULL};
    if (self->backend->timings == NULL ||
        kln_engine_timings_key(self->info, self->options->device, key) != KILN_OK) {
        kln_message_restore(&before);
        return;
    }
    const kiln_status status = kln_engine_cache_read(&self->cache, key, data, &manifest);
    if (status == KILN_OK) {
        kln_manifest_finish(&manifest);
        kln_cache_touch(&self->cache, key);
    } else {
        *data = (kln_mapping){.mapped = NULL};
        if (is_damage(status)) {
            warn_timings("taken from");
        }
        kln_message_restore(&before);
    }
}

/* If two builds end at the same time, each writes a valid entry and the later one stays. */
static kiln_status put_timings(const cached_build *self, kiln_span bytes)
{
    char key[KLN_CACHE_KEY];
    KLN_SCOPED_FREE char *text = NULL;
    int lock = -1;
    KLN_RETURN_IF_ERROR(kln_engine_timings_key(self->info, self->options->device, key));
    KLN_RETURN_IF_ERROR(
        kln_manifest_write_timings(self->info, self->options->device, bytes, &text));
    KLN_RETURN_IF_ERROR(kln_cache_lock(&self->cache, key, true, NULL, NULL, &lock));
    const kiln_status status =
        kln_cache_put(&self->cache, key, bytes, (kiln_span){text, strlen(text)});
    kln_folder_unlock(lock);
    return status;
}

static void write_timings(const cached_build *self, kiln_span before)
{
    kiln_span bytes = {NULL, 0};
    if (self->backend->timings == NULL || self->options->disable_timing_cache) {
        return;
    }
    kiln_status status =
        self->backend->timings(self->options->library, self->options->device, &bytes);
    const bool is_new = bytes.size > 0 && (bytes.size != before.size ||
                                           memcmp(bytes.data, before.data, bytes.size) != 0);
    if (status == KILN_OK && is_new) {
        status = put_timings(self, bytes);
    }
    if (status != KILN_OK) {
        warn_timings("put into");
    }
    kln_free((void *)(uintptr_t)bytes.data);
}

static kiln_status store(const cached_build *self, const kiln_engine *engine)
{
    kiln_span bytes;
    char *text = NULL;
    uint64_t freed = 0;
    const uint64_t most =
        self->options->cache_bytes != 0 ? self->options->cache_bytes : KLN_CACHE_LIMIT;
    KLN_RETURN_IF_ERROR(self->backend->engine.serialize(engine->shared.state, &bytes));
    KLN_RETURN_IF(bytes.size > most, KILN_ERROR_LIMIT,
                  "the plan has %zu bytes, and the cache may hold %llu", bytes.size,
                  (unsigned long long)most);
    KLN_RETURN_IF_ERROR(kln_manifest_write(engine, bytes, &text));
    kiln_status status =
        kln_cache_put(&self->cache, self->key, bytes, (kiln_span){text, strlen(text)});
    kln_free(text);
    KLN_THEN(status, kln_cache_trim(&self->cache, most, self->key, &freed));
    if (freed > 0) {
        kln_log(KILN_LOG_INFO, "engine", "the cache gave up %llu bytes that were not used for long",
                (unsigned long long)freed);
    }
    return status;
}

/* Builds, and stores the plan if it holds the lock. A failure of the cache does not fail the
 * build. */
static kiln_status build(cached_build *self, kiln_engine **engine)
{
    kiln_model model = *self->model;
    KLN_SCOPED(kln_mapping_close) kln_mapping timings = {.mapped = NULL};
    if (self->is_locked) {
        read_timings(self, &timings);
        model.timings = timings.bytes;
    }
    KLN_SCOPED(kiln_engine_release_at) kiln_engine *made = NULL;
    KLN_RETURN_IF_ERROR(kln_engine_make_anew(self->backend, self->info, &model, self->options,
                                             self->load, self->monitor, &made));
    kiln_cache_use use = KILN_CACHE_NOT_STORED;
    if (made->shared.device >= 0 && self->is_locked) {
        KLN_MESSAGE_STAYS;
        const kiln_status stored = store(self, made);
        use = stored == KILN_OK ? KILN_CACHE_STORED : KILN_CACHE_NOT_STORED;
        if (stored != KILN_OK) {
            kln_log(KILN_LOG_WARNING, "engine", "%s is built, but was not put into the cache: %s",
                    kln_model_name(self->model), kiln_error_message());
        }
        write_timings(self, timings.bytes);
    }
    if (made->shared.device >= 0 || !self->is_locked) {
        KLN_RETURN_IF_ERROR(keep_place(self, use, made));
    }
    *engine = KLN_TAKE(made);
    return KILN_OK;
}

static bool goes_on(void *user)
{
    const kiln_monitor *monitor = user;
    const kiln_phase now = {.phase = "waiting for another process that builds the same"};
    return monitor == NULL || monitor->progress(monitor->user, &now);
}

/* Builds even though the cache cannot be used. It warns only after success: what keeps the cache
 * from working may make the build fail, too. */
static kiln_status build_without(cached_build *self, kiln_status why, kiln_engine **engine)
{
    kln_message reason;
    if (why == KILN_ERROR_OUT_OF_MEMORY || why == KILN_ERROR_CANCELLED) {
        return why;
    }
    kln_message_keep(&reason);
    KLN_RETURN_IF_ERROR(build(self, engine));
    kln_log(KILN_LOG_WARNING, "engine", "%s is built without the cache: %s",
            kln_model_name(self->model), reason.text);
    return KILN_OK;
}

static kiln_status look_and_build(cached_build *self, kiln_engine **engine)
{
    KLN_RETURN_IF_ERROR(find(self, engine));
    if (*engine != NULL) {
        return KILN_OK;
    }
    union { /* the callback's pointer is not const */
        const kiln_monitor *in;
        void *out;
    } monitor = {.in = self->monitor};
    kiln_status status =
        kln_cache_lock(&self->cache, self->key, true, goes_on, monitor.out, &self->lock);
    self->is_locked = status == KILN_OK;
    if (!self->is_locked) {
        return build_without(self, status, engine);
    }
    status = find(self, engine);
    if (status == KILN_OK && *engine == NULL) {
        status = build(self, engine);
    }
    kln_folder_unlock(self->lock);
    return status;
}

kiln_status kln_engine_make_cached(const kiln_backend *backend, const kiln_backend_info *info,
                                   const kiln_model *model, const kiln_build_options *options,
                                   bool load, const kiln_monitor *monitor, kiln_engine **engine)
{
    cached_build self = {.backend = backend,
                         .info = info,
                         .model = model,
                         .options = options,
                         .load = load,
                         .monitor = monitor,
                         .lock = -1};
    kln_message before;
    kln_message_keep(&before);
    *engine = NULL;
    kiln_status status = kln_cache_open(options->cache, &self.cache);
    if (status == KILN_OK && model->graph == NULL) {
        status = kln_model_read(model, &self.read);
    }
    KLN_THEN(status, kln_engine_cache_key(info, model, self.read, options, self.key));
    if (status == KILN_OK) {
        status = look_and_build(&self, engine);
    } else {
        status = build_without(&self, status, engine);
    }
    if (status == KILN_OK) {
        kln_message_restore(&before);
    }
    kln_onnx_model_destroy(self.read);
    return status;
}

/* --- measurements after the build --- */

static kiln_status write_again(const kiln_engine *engine, const measured_variants *now)
{
    char path[PATH_MAX];
    char *text = NULL;
    kiln_span bytes;
    kln_mapping there;
    struct kln_cached *cached = engine->cached;
    KLN_RETURN_IF_ERROR(engine->shared.backend->engine.serialize(engine->shared.state, &bytes));
    kln_cache_path(&cached->cache, cached->key, path);
    KLN_RETURN_IF_ERROR(kln_mapping_open(path, &there));
    const bool is_same =
        there.bytes.size == bytes.size && memcmp(there.bytes.data, bytes.data, bytes.size) == 0;
    kln_mapping_close(&there);
    if (!is_same) {
        return KILN_OK; /* another process has rebuilt it */
    }
    KLN_RETURN_IF_ERROR(kln_manifest_write(engine, bytes, &text));
    char beside[PATH_MAX + sizeof KLN_MANIFEST_SUFFIX];
    (void)snprintf(beside, sizeof beside, "%s" KLN_MANIFEST_SUFFIX, path);
    const kiln_status status = kln_file_write(beside, &(kiln_span){text, strlen(text)}, 1, false);
    kln_free(text);
    if (status == KILN_OK) {
        (void)pthread_mutex_lock(&engine->shared.measured->mutex);
        cached->written = *now;
        (void)pthread_mutex_unlock(&engine->shared.measured->mutex);
    }
    return status;
}

void kln_engine_cache_note(kiln_engine *engine)
{
    struct kln_cached *cached = engine->cached;
    if (cached == NULL || cached->use == KILN_CACHE_NOT_STORED) {
        return;
    }
    int lock = -1;
    (void)pthread_mutex_lock(&engine->shared.measured->mutex);
    const measured_variants now = engine->shared.measured->variants;
    const bool is_new = !measured_variants_same(&now, &cached->written);
    (void)pthread_mutex_unlock(&engine->shared.measured->mutex);
    if (!is_new) {
        return;
    }
    KLN_MESSAGE_STAYS;
    kiln_status status = kln_cache_lock(&cached->cache, cached->key, false, NULL, NULL, &lock);
    if (status == KILN_OK) {
        status = write_again(engine, &now);
        kln_folder_unlock(lock);
    }
    if (status != KILN_OK && status != KILN_ERROR_NOT_FOUND && status != KILN_ERROR_BUSY) {
        kln_log(KILN_LOG_WARNING, "engine", "what was measured was not put into the cache: %s",
                kiln_error_message());
    }
}
