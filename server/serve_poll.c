/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at the repositories now and then: what is new or was changed is loaded, what is gone is
 * unloaded. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "serve_parts.h"

#define DEEPEST 3 /* folders below a model's: of a version, and what stands beside its file */

static uint64_t mix(uint64_t hash, uint64_t value)
{
    for (unsigned byte = 0; byte < 8; byte++) { /* FNV-1a */
        hash = (hash ^ (value >> 8 * byte & 255)) * 0x100000001b3;
    }
    return hash;
}

/* What changes with a file, or with one of a folder, wherever a link leads. */
static uint64_t stamp_of(const char *path, const char *name, int depth)
{
    struct stat found;
    if (stat(path, &found) != 0) {
        return 0;
    }
    const bool folder = S_ISDIR(found.st_mode);
    uint64_t stamp = mix(0xcbf29ce484222325, (uint64_t)found.st_ino);
    for (const char *c = name; *c != '\0'; c++) {
        stamp = mix(stamp, (unsigned char)*c);
    }
    if (!folder) { /* whose own time says no more than its entries */
        stamp = mix(stamp, (uint64_t)found.st_size);
        stamp = mix(stamp, (uint64_t)found.st_mtim.tv_sec);
        stamp = mix(stamp, (uint64_t)found.st_mtim.tv_nsec);
    }
    DIR *opened = folder && depth < DEEPEST ? opendir(path) : NULL;
    for (struct dirent *entry = NULL; opened != NULL && (entry = readdir(opened)) != NULL;) {
        serve_text inner = {.data = NULL};
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            serve_text_printf(&inner, "%s/%s", path, entry->d_name);
            stamp += inner.failed ? 0 : stamp_of(inner.data, entry->d_name, depth + 1);
        }
        serve_text_finish(&inner);
    }
    if (opened != NULL) {
        (void)closedir(opened);
    }
    return stamp;
}

uint64_t serve_model_stamp(const serve_model *model)
{
    return stamp_of(model->place, "", 0);
}

static bool is_present(const serve_model *model)
{
    const serve_version *version = model->versions;
    while (version != NULL && !version->present) {
        version = version->next;
    }
    return version != NULL;
}

/* A model that is still being written is left for the next look. */
static void look_at(struct serve *server, serve_model *model)
{
    serve_problem problem = {.code = 0};
    const uint64_t stamp = serve_model_stamp(model);
    if (stamp == model->stamp) {
        model->seen = stamp;
    } else if (stamp != model->seen) {
        model->seen = stamp;
    } else {
        (void)serve_model_load_found(server, model, &problem); /* which says why not */
    }
}

void serve_models_poll(struct serve *server)
{
    serve_models *models = &server->models;
    serve_problem problem = {.code = 0};
    (void)pthread_mutex_lock(&models->load_lock);
    /* Where a repository cannot be read nobody knows what is gone. */
    models->looks_again = true;
    const bool scanned = serve_models_scan(server, &problem);
    models->looks_again = false;
    if (!scanned && !models->poll_failed) {
        serve_say(server, "%s", problem.sentence);
    }
    models->poll_failed = !scanned;
    for (serve_model *model = models->first; model != NULL && !models->blind; model = model->next) {
        if (is_present(model)) {
            look_at(server, model);
        } else if (scanned && model->stamp != 0) {
            model->stamp = 0;
            model->seen = 0;
            serve_say(server, "%s: it is not in the repository any more", model->name);
            serve_model_take_away(server, model, "it is not in the repository any more");
        }
    }
    (void)pthread_mutex_unlock(&models->load_lock);
}
