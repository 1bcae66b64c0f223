/* SPDX-License-Identifier: Apache-2.0 */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "serve_parts.h"

const char *const serve_states[] = {"UNAVAILABLE", "LOADING", "READY", "UNLOADING"};

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

serve_model *serve_model_find(serve_models *models, const char *name)
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
    LOCKED_TO_WRITE(&models->lock);
    serve_model *model = serve_model_find(models, name);
    const bool mine = model == NULL || strcmp(model->place, place) == 0;
    model = model == NULL ? add_model(models, name, place, root) : model;
    const bool added = mine && model != NULL && add_version(model, version, file);
    models->blind |= mine && !added;
    return added;
}

/* --- lookup --- */

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
    LOCKED_TO_READ(&models->lock);
    const serve_model *model = serve_model_find(models, name);
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
    return instance;
}

void serve_versions_put(serve_text *text, const serve_instance *instance)
{
    serve_models *models = &instance->server->models;
    const serve_version *last = NULL;
    const char *comma = "";
    LOCKED_TO_READ(&models->lock);
    const serve_model *model = serve_model_find(models, instance->name);
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
    LOCKED(&server->work_lock);
    (void)pthread_cond_signal(&server->work);
}

/* Returns memory to the system that a model's threads have left in the C library's arenas. */
static void give_memory_back(void)
{
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
}

void serve_models_bury(serve_models *models)
{
    (void)pthread_mutex_lock(&models->dying_lock);
    serve_instance *dying = models->dying;
    models->dying = NULL;
    (void)pthread_mutex_unlock(&models->dying_lock);
    const bool any = dying != NULL;
    while (dying != NULL) {
        serve_instance *next = dying->next;
        serve_instance_close(dying);
        dying = next;
    }
    if (any) {
        give_memory_back();
    }
}

size_t serve_ready_count(struct serve *server)
{
    size_t count = 0;
    LOCKED_TO_READ(&server->models.lock);
    for (serve_model *model = server->models.first; model != NULL; model = model->next) {
        count += choose(model, NULL) != NULL;
    }
    return count;
}
