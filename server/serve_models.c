/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "serve_parts.h"

bool serve_models_init(serve_models *models)
{
    return pthread_rwlock_init(&models->lock, NULL) == 0 &&
           pthread_mutex_init(&models->load_lock, NULL) == 0 &&
           pthread_mutex_init(&models->dying_lock, NULL) == 0;
}

void serve_models_finish(serve_models *models)
{
    serve_models_bury(models);
    for (serve_model *model = models->first; model != NULL;) {
        serve_model *next = model->next;
        for (serve_version *version = model->versions; version != NULL;) {
            serve_version *older = version->next;
            if (version->instance != NULL) {
                serve_instance_release(version->instance);
            }
            serve_models_bury(models);
            free(version->file);
            free(version);
            version = older;
        }
        free(model->place);
        free(model->root);
        free(model);
        model = next;
    }
    (void)pthread_rwlock_destroy(&models->lock);
    (void)pthread_mutex_destroy(&models->load_lock);
    (void)pthread_mutex_destroy(&models->dying_lock);
}

/* --- the list --- */

static serve_model *find_model(serve_models *models, const char *name)
{
    for (serve_model *model = models->first; model != NULL; model = model->next) {
        if (strcmp(model->name, name) == 0) {
            return model;
        }
    }
    return NULL;
}

static serve_model *add_model(serve_models *models, const char *name, const char *place,
                              const char *root)
{
    serve_model **end = &models->first;
    serve_model *model = calloc(1, sizeof *model);
    if (model == NULL || (model->place = strdup(place)) == NULL ||
        (root != NULL && (model->root = strdup(root)) == NULL)) {
        free(model != NULL ? model->place : NULL);
        free(model);
        return NULL;
    }
    (void)snprintf(model->name, sizeof model->name, "%s", name);
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = model;
    return model;
}

static bool add_version(serve_model *model, const char *number, const char *file)
{
    serve_version *version = model->versions;
    while (version != NULL && strcmp(version->version, number) != 0) {
        version = version->next;
    }
    if (version == NULL) {
        version = calloc(1, sizeof *version);
        if (version == NULL) {
            return false;
        }
        (void)snprintf(version->version, sizeof version->version, "%s", number);
        (void)snprintf(version->reason, sizeof version->reason, "it was not loaded yet");
        serve_version **place = &model->versions;
        while (*place != NULL && strtoll((*place)->version, NULL, 10) > strtoll(number, NULL, 10)) {
            place = &(*place)->next;
        }
        version->next = *place;
        *place = version;
    }
    char *copy = strdup(file);
    if (copy != NULL) {
        free(version->file);
        version->file = copy;
        version->present = true;
    }
    return copy != NULL;
}

bool serve_models_found(struct serve *server, const char *name, const char *root, const char *place,
                        const char *version, const char *file)
{
    serve_models *models = &server->models;
    (void)pthread_rwlock_wrlock(&models->lock);
    serve_model *model = find_model(models, name);
    const bool mine = model == NULL || strcmp(model->place, place) == 0;
    model = model == NULL ? add_model(models, name, place, root) : model;
    const bool added = mine && model != NULL && add_version(model, version, file);
    models->blind |= mine && !added;
    (void)pthread_rwlock_unlock(&models->lock);
    return added;
}

bool serve_models_scan(struct serve *server, serve_problem *problem)
{
    bool scanned = true;
    server->models.blind = false;
    (void)pthread_rwlock_wrlock(&server->models.lock);
    for (serve_model *model = server->models.first; model != NULL; model = model->next) {
        for (serve_version *version = model->versions; version != NULL; version = version->next) {
            version->present = false;
        }
    }
    (void)pthread_rwlock_unlock(&server->models.lock);
    for (size_t i = 0; i < server->options->place_count; i++) {
        scanned = serve_repository_walk(server, server->options->places[i], problem) && scanned;
    }
    return !server->models.blind
               ? scanned
               : serve_refuse(problem, 503, "memory is short: the repository was not read");
}

/* --- looking up --- */

static serve_version *choose(const serve_model *model, const char *number)
{
    serve_version *version = model != NULL ? model->versions : NULL;
    while (version != NULL &&
           (number != NULL ? strcmp(version->version, number) != 0 : version->instance == NULL)) {
        version = version->next;
    }
    return version;
}

serve_instance *serve_find(struct serve *server, const char *name, const char *number,
                           serve_problem *problem)
{
    serve_models *models = &server->models;
    (void)pthread_rwlock_rdlock(&models->lock);
    const serve_model *model = find_model(models, name);
    const serve_version *version = choose(model, number);
    serve_instance *instance = version != NULL ? version->instance : NULL;
    if (instance != NULL) {
        (void)atomic_fetch_add(&instance->references, 1);
    } else if (model == NULL) {
        (void)serve_refuse(problem, 404, "there is no model \"%.200s\"", name);
    } else if (version == NULL && number != NULL) {
        (void)serve_refuse(problem, 404, "model \"%.200s\" has no version \"%.40s\"", name, number);
    } else {
        version = version != NULL ? version : model->versions;
        (void)serve_refuse(problem, 503, "model \"%.200s\" is not ready: %.300s", name,
                           version == NULL                     ? "it has no version"
                           : version->state == SERVE_LOADING   ? "it is being loaded"
                           : version->state == SERVE_UNLOADING ? "it is being unloaded"
                                                               : version->reason);
    }
    (void)pthread_rwlock_unlock(&models->lock);
    return instance;
}

void serve_versions_put(serve_text *text, const serve_instance *instance)
{
    serve_models *models = &instance->server->models;
    const serve_version *last = NULL;
    const char *comma = "";
    (void)pthread_rwlock_rdlock(&models->lock);
    const serve_model *model = find_model(models, instance->name);
    while (last != model->versions) {
        const serve_version *version = model->versions;
        while (version->next != last) {
            version = version->next;
        }
        if (version->instance != NULL) {
            serve_text_printf(text, "%s\"%s\"", comma, version->version);
            comma = ",";
        }
        last = version;
    }
    (void)pthread_rwlock_unlock(&models->lock);
}

void serve_instance_release(serve_instance *instance)
{
    if (atomic_fetch_sub(&instance->references, 1) != 1) {
        return;
    }
    struct serve *server = instance->server;
    (void)pthread_mutex_lock(&server->models.dying_lock);
    instance->next = server->models.dying;
    server->models.dying = instance;
    (void)pthread_mutex_unlock(&server->models.dying_lock);
    serve_work(server, NULL);
}

void serve_models_bury(serve_models *models)
{
    (void)pthread_mutex_lock(&models->dying_lock);
    serve_instance *dying = models->dying;
    models->dying = NULL;
    (void)pthread_mutex_unlock(&models->dying_lock);
    while (dying != NULL) {
        serve_instance *next = dying->next;
        serve_instance_close(dying);
        dying = next;
    }
}

/* --- loading and unloading --- */

/* Puts `instance` in the place of what was there; NULL: nothing. With the lock. */
static void replace(serve_version *version, serve_instance *instance, const char *reason)
{
    serve_instance *old = version->instance;
    version->instance = instance;
    version->state = instance != NULL ? SERVE_READY : SERVE_UNAVAILABLE;
    if (instance == NULL && old != NULL) {
        (void)snprintf(version->reason, sizeof version->reason, "%s", reason);
    }
    if (old != NULL) {
        serve_instance_release(old);
    }
}

/* Takes away the versions that are not present, or all. */
static void unload(serve_models *models, serve_model *model, bool all, const char *reason)
{
    (void)pthread_rwlock_wrlock(&models->lock);
    for (serve_version *version = model->versions; version != NULL; version = version->next) {
        if (all || !version->present) {
            replace(version, NULL, reason);
        }
    }
    (void)pthread_rwlock_unlock(&models->lock);
}

static serve_model *look_up(struct serve *server, const char *name, serve_problem *problem)
{
    (void)pthread_rwlock_rdlock(&server->models.lock);
    serve_model *model = find_model(&server->models, name);
    (void)pthread_rwlock_unlock(&server->models.lock);
    if (model == NULL) {
        (void)serve_refuse(problem, 404, "there is no model \"%.200s\" in the repository", name);
    }
    return model;
}

static bool load_version(struct serve *server, serve_model *model, serve_version *version,
                         serve_problem *problem)
{
    serve_models *models = &server->models;
    (void)pthread_rwlock_wrlock(&models->lock);
    version->state = version->instance != NULL ? SERVE_READY : SERVE_LOADING;
    (void)pthread_rwlock_unlock(&models->lock);
    const uint64_t begin = kiln_clock_now();
    serve_instance *instance = serve_instance_open(server, model, version, problem);
    if (instance != NULL) {
        serve_say(server, "%s, version %s: ready after %.2f s on %s", model->name, version->version,
                  (double)(kiln_clock_now() - begin) / 1e9, instance->backend);
    } else {
        serve_say(server, "%s, version %s: %s", model->name, version->version, problem->sentence);
    }
    (void)pthread_rwlock_wrlock(&models->lock);
    if (instance != NULL) {
        replace(version, instance, "");
    } else {
        version->state = version->instance != NULL ? SERVE_READY : SERVE_UNAVAILABLE;
        (void)snprintf(version->reason, sizeof version->reason, "%s", problem->sentence);
    }
    (void)pthread_rwlock_unlock(&models->lock);
    return instance != NULL;
}

void serve_model_take_away(struct serve *server, serve_model *model, const char *reason)
{
    unload(&server->models, model, true, reason);
}

/* The first problem, and the others all the same. */
bool serve_model_load_found(struct serve *server, serve_model *model, serve_problem *problem)
{
    model->stamp = model->seen = serve_model_stamp(model); /* before: it may change meanwhile */
    size_t count = 0;
    bool loaded = true;
    for (serve_version *version = model->versions; version != NULL; version = version->next) {
        serve_problem own = {.code = 0};
        count += version->present;
        if (version->present && !load_version(server, model, version, &own) && loaded) {
            *problem = own;
            loaded = false;
        }
    }
    if (count == 0) {
        return serve_refuse(problem, 404, "model \"%.200s\" is not in the repository any more",
                            model->name);
    }
    if (loaded) {
        unload(&server->models, model, false, "it is not in the repository any more");
    }
    return loaded;
}

bool serve_model_load(struct serve *server, const char *name, serve_problem *problem)
{
    serve_problem other = {.code = 0};
    (void)pthread_mutex_lock(&server->models.load_lock);
    const bool scanned = serve_models_scan(server, &other);
    serve_model *model = look_up(server, name, problem);
    bool loaded = false;
    if (!scanned && server->models.blind) {
        *problem = other;
    } else {
        loaded = model != NULL && serve_model_load_found(server, model, problem);
    }
    (void)pthread_mutex_unlock(&server->models.load_lock);
    return loaded;
}

bool serve_model_unload(struct serve *server, const char *name, serve_problem *problem)
{
    serve_model *model = look_up(server, name, problem);
    if (model != NULL) {
        serve_model_take_away(server, model, "it was unloaded");
    }
    return model != NULL;
}

/* At the start. */
static bool is_wanted(const serve_options *options, const char *name)
{
    bool wanted = options->load_count == 0;
    for (size_t i = 0; i < options->load_count; i++) {
        wanted |= strcmp(options->loads[i], name) == 0;
    }
    return wanted;
}

static bool check_wanted(struct serve *server, serve_problem *problem)
{
    const serve_options *options = server->options;
    for (size_t i = 0; i < options->load_count; i++) {
        if (find_model(&server->models, options->loads[i]) == NULL) {
            return serve_refuse(problem, 404, "there is no model \"%.200s\" in the repository",
                                options->loads[i]);
        }
    }
    return true;
}

bool serve_load_all(struct serve *server, serve_problem *problem)
{
    (void)pthread_mutex_lock(&server->models.load_lock);
    bool loaded = serve_models_scan(server, problem);
    for (serve_model *model = server->models.first; model != NULL; model = model->next) {
        serve_problem own = {.code = 0};
        if (is_wanted(server->options, model->name) &&
            !serve_model_load_found(server, model, &own) && loaded) {
            (void)serve_refuse(problem, own.code, "%.200s: %.380s", model->name, own.sentence);
            loaded = false;
        }
    }
    loaded = loaded && check_wanted(server, problem);
    if (loaded && server->models.first == NULL && server->options->poll_seconds <= 0) {
        loaded = serve_refuse(problem, 404,
                              "no model was found: a folder holds NAME.onnx or NAME.plan, or "
                              "NAME/1/model.onnx or NAME/1/model.plan");
    }
    atomic_store(&server->models.loaded, true);
    (void)pthread_mutex_unlock(&server->models.load_lock);
    return loaded;
}

size_t serve_ready_count(struct serve *server)
{
    size_t count = 0;
    (void)pthread_rwlock_rdlock(&server->models.lock);
    for (serve_model *model = server->models.first; model != NULL; model = model->next) {
        count += choose(model, NULL) != NULL;
    }
    (void)pthread_rwlock_unlock(&server->models.lock);
    return count;
}
