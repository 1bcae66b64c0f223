/* SPDX-License-Identifier: Apache-2.0 */
/* Loading models and unloading them. */
#include <stdlib.h>
#include <string.h>

#include "serve_parts.h"

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

/* Replaces the version's instance by `instance`, or by none if NULL. Called with the lock held. */
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

/* Unloads the versions that are not present, or all. */
static void unload(serve_models *models, serve_model *model, bool all, const char *reason)
{
    LOCKED_TO_WRITE(&models->lock);
    for (serve_version *version = model->versions; version != NULL; version = version->next) {
        if (all || !version->present) {
            replace(version, NULL, reason);
        }
    }
}

static serve_model *look_up(struct serve *server, const char *name, serve_problem *problem)
{
    LOCKED_TO_READ(&server->models.lock);
    serve_model *model = serve_model_find(&server->models, name);
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
    LOCKED_TO_WRITE(&models->lock);
    if (instance != NULL) {
        replace(version, instance, "");
    } else {
        version->state = version->instance != NULL ? SERVE_READY : SERVE_UNAVAILABLE;
        (void)snprintf(version->reason, sizeof version->reason, "%s", problem->sentence);
    }
    return instance != NULL;
}

void serve_model_take_away(struct serve *server, serve_model *model, const char *reason)
{
    unload(&server->models, model, true, reason);
}

/* Loads all versions even if one fails, and reports the first problem. */
bool serve_model_load_found(struct serve *server, serve_model *model, serve_problem *problem)
{
    model->stamp = model->seen =
        serve_file_stamp(model->place); /* first, as it may change meanwhile */
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
    LOCKED(&server->models.load_lock);
    const bool scanned = serve_models_scan(server, &other);
    serve_model *model = look_up(server, name, problem);
    if (!scanned && server->models.blind) {
        *problem = other;
        return false;
    }
    return model != NULL && serve_model_load_found(server, model, problem);
}

bool serve_model_unload(struct serve *server, const char *name, serve_problem *problem)
{
    serve_model *model = look_up(server, name, problem);
    if (model != NULL) {
        serve_model_take_away(server, model, "it was unloaded");
    }
    return model != NULL;
}

/* Whether the model is loaded at startup. */
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
        if (serve_model_find(&server->models, options->loads[i]) == NULL) {
            return serve_refuse(problem, 404, "there is no model \"%.200s\" in the repository",
                                options->loads[i]);
        }
    }
    return true;
}

bool serve_load_all(struct serve *server, serve_problem *problem)
{
    LOCKED(&server->models.load_lock);
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
    return loaded;
}
