/* SPDX-License-Identifier: Apache-2.0 */
#include <cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ort_engine.h"

/* The suffix of a node's kernel event. */
#define KERNEL "_kernel_time"

/* ONNX Runtime writes one file for a session, with one event on each line; once it is closed,
 * profiling cannot be resumed. */
struct ort_profile {
    char folder[PATH_MAX - 64];
    pthread_mutex_t lock; /* guards everything below */
    bool ended;
    kiln_status status; /* of reading the file */
    char reason[512];
    kln_arena arena;
    kln_names names;
    kln_node_time *times;
    size_t count;
    size_t capacity;
};

kiln_status ort_profile_begin(ort_engine *engine, OrtSessionOptions *session_options)
{
    const char *named = kln_getenv("TMPDIR");
    const char *where = named != NULL ? named : "/tmp";
    ort_profile *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "a profile");
    (void)pthread_mutex_init(&made->lock, NULL);
    engine->profile = made;
    (void)snprintf(made->folder, sizeof made->folder, "%s/kiln-profile-XXXXXX", where);
    if (mkdtemp(made->folder) == NULL) {
        const int reason = errno;
        made->ended = true;
        const kiln_status status =
            kln_fail(KILN_ERROR_IO, "profile_nodes: no folder can be made in \"%s\": %s", where,
                     strerror(reason));
        made->folder[0] = '\0';
        return status;
    }
    char prefix[PATH_MAX];
    (void)snprintf(prefix, sizeof prefix, "%s/nodes", made->folder);
    return ort_check(engine->runtime, engine->runtime->api.EnableProfiling(session_options, prefix),
                     "profile_nodes");
}

kiln_status ort_profile_check(const ort_engine *engine)
{
    ort_profile *profile = engine->profile;
    KLN_RETURN_IF(profile == NULL, KILN_ERROR_STATE,
                  "this engine of ONNX Runtime does not measure its nodes; build it with "
                  "kiln_build_options.profile_nodes");
    (void)pthread_mutex_lock(&profile->lock);
    const bool ended = profile->ended;
    (void)pthread_mutex_unlock(&profile->lock);
    return ended ? kln_fail(KILN_ERROR_STATE,
                            "the nodes of this engine were measured and asked for; ONNX Runtime "
                            "measures those of a session once")
                 : KILN_OK;
}

/* --- reading the file --- */

static const char *text_of(const cJSON *event, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(event, key);
    return cJSON_IsString(item) ? item->valuestring : "";
}

static double number_of(const cJSON *event, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(event, key);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

/* The next line with an event, or NULL at the end. */
static cJSON *next_event(kln_mapping *file, size_t *at)
{
    kln_json_begin();
    const char *text = file->bytes.data;
    while (*at < file->bytes.size) {
        const char *begin = text + *at;
        const char *end = memchr(begin, '\n', file->bytes.size - *at);
        size_t length = end != NULL ? (size_t)(end - begin) : file->bytes.size - *at;
        *at += length + 1;
        cJSON *event = length > 2 && begin[0] == '{' ? cJSON_ParseWithLength(begin, length) : NULL;
        if (event != NULL) {
            return event;
        }
    }
    return NULL;
}

/* When the first of the last `runs` runs began, by the file's clock in microseconds. */
static double begin_of(kln_mapping *file, uint64_t runs)
{
    uint64_t total = 0;
    double begin = 0;
    for (int pass = 0; pass < 2; pass++) {
        const uint64_t wanted = total > runs ? total - runs : 0;
        uint64_t seen = 0;
        size_t at = 0;
        for (cJSON *event; (event = next_event(file, &at)) != NULL; cJSON_Delete(event)) {
            if (strcmp(text_of(event, "name"), "model_run") == 0) {
                begin = seen == wanted && pass == 1 ? number_of(event, "ts") : begin;
                seen++;
            }
        }
        total = seen;
    }
    return begin;
}

static kiln_status add_node(ort_profile *profile, const char *name, const char *type,
                            kln_node_time **found)
{
    KLN_RETURN_IF_ERROR(KLN_GROW(NULL, profile->times, profile->count, profile->capacity));
    kln_node_time *made = &profile->times[profile->count];
    *made = (kln_node_time){.name = kln_arena_strdup(&profile->arena, name),
                            .type = kln_arena_strdup(&profile->arena, type)};
    KLN_FAIL_IF(made->name == NULL || made->type == NULL,
                kln_fail_memory(strlen(name), "the name of a node"));
    KLN_RETURN_IF_ERROR(kln_names_set(&profile->names, made->name, (uint32_t)profile->count));
    profile->count++;
    *found = made;
    return KILN_OK;
}

/* A node without a name is listed by its operator and index. */
static kiln_status add_event(ort_profile *profile, const cJSON *event)
{
    const cJSON *arguments = cJSON_GetObjectItemCaseSensitive(event, "args");
    const char *type = text_of(arguments, "op_name");
    const char *event_name = text_of(event, "name");
    char name[512];
    const int length = (int)(strlen(event_name) - strlen(KERNEL));
    if (length > 0) {
        (void)snprintf(name, sizeof name, "%.*s", length, event_name);
    } else {
        (void)snprintf(name, sizeof name, "%s %s", type, text_of(arguments, "node_index"));
    }
    const uint32_t known = kln_names_get(&profile->names, name);
    kln_node_time *node = known != KLN_NAMES_NONE ? &profile->times[known] : NULL;
    if (node == NULL) {
        KLN_RETURN_IF_ERROR(add_node(profile, name, type, &node));
    }
    node->nanoseconds += (uint64_t)(number_of(event, "dur") * 1e3);
    node->runs++;
    return KILN_OK;
}

static bool is_kernel(const cJSON *event)
{
    const char *name = text_of(event, "name");
    const size_t length = strlen(name);
    const size_t ending = strlen(KERNEL);
    return strcmp(text_of(event, "cat"), "Node") == 0 && length >= ending &&
           strcmp(name + length - ending, KERNEL) == 0;
}

static kiln_status read_file(ort_profile *profile, const char *path, uint64_t runs)
{
    KLN_SCOPED(kln_mapping_close) kln_mapping file = {0};
    KLN_RETURN_IF_ERROR(kln_mapping_open(path, &file));
    const double begin = begin_of(&file, runs);
    size_t at = 0;
    kiln_status status = KILN_OK;
    for (cJSON *event; status == KILN_OK && (event = next_event(&file, &at)) != NULL;
         cJSON_Delete(event)) {
        if (is_kernel(event) && number_of(event, "ts") >= begin) {
            status = add_event(profile, event);
        }
    }
    return status;
}

static kiln_status end_profile(const ort_engine *engine, char path[PATH_MAX])
{
    const ort_runtime *runtime = engine->runtime;
    char *name = NULL;
    KLN_RETURN_IF_ERROR(ort_check(
        runtime, runtime->api.SessionEndProfiling(engine->session, runtime->allocator, &name),
        "the times of nodes"));
    (void)snprintf(path, PATH_MAX, "%s", name);
    return ort_check(runtime, runtime->api.AllocatorFree(runtime->allocator, name),
                     "the times of nodes");
}

static void read_once(const ort_engine *engine, uint64_t runs)
{
    ort_profile *profile = engine->profile;
    char path[PATH_MAX];
    profile->status = end_profile(engine, path);
    profile->ended = true;
    if (profile->status == KILN_OK && runs > 0) {
        profile->status = read_file(profile, path, runs);
    }
    (void)snprintf(profile->reason, sizeof profile->reason, "%s",
                   profile->status == KILN_OK ? "" : kiln_error_message());
}

kiln_status ort_profile_show(const ort_engine *engine, uint64_t runs, size_t index,
                             kiln_layer_time *layer)
{
    ort_profile *profile = engine->profile;
    if (profile == NULL) {
        return ort_profile_check(engine);
    }
    KLN_LOCKED(&profile->lock);
    if (!profile->ended) {
        read_once(engine, runs);
    }
    return profile->status == KILN_OK
               ? kln_node_time_show(profile->times, profile->count, index, layer)
               : kln_fail(profile->status, "%s", profile->reason);
}

static void remove_folder(const char *folder)
{
    DIR *open = folder[0] != '\0' ? opendir(folder) : NULL;
    if (open == NULL) {
        return;
    }
    for (const struct dirent *entry; (entry = readdir(open)) != NULL;) {
        if (entry->d_name[0] != '.') {
            (void)unlinkat(dirfd(open), entry->d_name, 0);
        }
    }
    (void)closedir(open);
    (void)rmdir(folder);
}

void ort_profile_finish(ort_engine *engine)
{
    ort_profile *profile = engine->profile;
    if (profile == NULL) {
        return;
    }
    if (!profile->ended && engine->session != NULL) {
        read_once(engine, 0);
    }
    remove_folder(profile->folder);
    kln_names_finish(&profile->names);
    kln_arena_finish(&profile->arena);
    kln_free(profile->times);
    (void)pthread_mutex_destroy(&profile->lock);
    kln_free(profile);
    engine->profile = NULL;
}
