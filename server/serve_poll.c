/* SPDX-License-Identifier: Apache-2.0 */
/* Polls the repositories: loads models that are new or have changed, and unloads those that are
 * gone. */
#include "serve_parts.h"

static bool is_present(const serve_model *model)
{
    const serve_version *version = model->versions;
    while (version != NULL && !version->present) {
        version = version->next;
    }
    return version != NULL;
}

/* A model that is still being written waits for the next poll. */
static void look_at(struct serve *server, serve_model *model)
{
    serve_problem problem = {.code = 0};
    const uint64_t stamp = serve_file_stamp(model->place);
    if (stamp == model->stamp) {
        model->seen = stamp;
    } else if (stamp != model->seen) {
        model->seen = stamp;
    } else {
        (void)serve_model_load_found(server, model, &problem); /* reports any failure itself */
    }
}

void serve_models_poll(struct serve *server)
{
    serve_models *models = &server->models;
    serve_problem problem = {.code = 0};
    (void)pthread_mutex_lock(&models->load_lock);
    /* If a repository cannot be read, nothing counts as gone. */
    models->looks_again = true;
    const bool scanned = serve_models_scan(server, &problem);
    models->looks_again = false;
    if (!scanned && !models->poll_failed) {
        serve_say(server, "%s", problem.sentence);
    }
    models->poll_failed = !scanned;
    for (serve_model *model = models->first;
         model != NULL && !models->blind && !atomic_load(&server->stopping); model = model->next) {
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
