/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/words.h"
#include "serve_config.h"

/* Models are looked up by names found while walking the repository: no path is ever built from what
 * a client sends. Links that lead out of the repository are ignored. */

static const char *const endings[] = {".onnx", ".plan", ".engine"};

/* The length of a file's name without its extension; 0 if it is not a model. */
static size_t stem_length(const char *name)
{
    const size_t length = strlen(name);
    for (size_t i = 0; i < SERVE_LENGTH(endings); i++) {
        const size_t ending = strlen(endings[i]);
        if (length > ending && strcmp(name + length - ending, endings[i]) == 0) {
            return length - ending;
        }
    }
    return 0;
}

static bool is_version(const char *name)
{
    const size_t length = strlen(name);
    return length >= 1 && length <= 18 && name[0] != '0' && strspn(name, "0123456789") == length;
}

static bool is_name(const char *name)
{
    const char *end = name + strlen(name);
    if (name[0] == '.' || end - name >= SERVE_NAME) {
        return false;
    }
    while (name < end) {
        uint32_t point = 0;
        const size_t length = kln_utf8_read(name, (size_t)(end - name), &point);
        if (length == 0 || (unsigned char)*name < 0x20 || *name == 0x7f) {
            return false;
        }
        name += length;
    }
    return true;
}

typedef struct walk {
    struct serve *server;
    const char *root; /* the repository, with links resolved; NULL: a single file */
    serve_problem *problem;
} walk;

static char *inside(const walk *at, const char *folder, const char *name, mode_t kind)
{
    return serve_file_inside(at->server, at->root, folder, name, kind);
}

/* The named file, or a folder of that name with the model and its weights, as Triton has it for
 * ONNX models of several files. */
static char *named_file(const walk *at, const char *folder, const char *name)
{
    char *file = inside(at, folder, name, S_IFREG);
    SCOPED(serve_text_finish) serve_text inner = {.data = NULL};
    serve_text_printf(&inner, "%s/model.onnx", name);
    at->server->models.blind |= inner.failed;
    return file != NULL || inner.failed ? file : inside(at, folder, inner.data, S_IFREG);
}

/* The model's file in a folder, or NULL. */
static char *model_file(const walk *at, const char *folder, const serve_config *config)
{
    static const char *const names[] = {"model.plan", "model.onnx", "model.engine"};
    const char *named = config->given ? config->model.default_model_filename : NULL;
    const char *backend = config->given ? config->model.backend : NULL;
    const bool is_onnx = backend != NULL && strcmp(backend, "onnxruntime") == 0;
    char *file = NULL;
    if (named != NULL && named[0] != '\0') {
        return named_file(at, folder, named);
    }
    for (size_t i = 0; file == NULL && i < SERVE_LENGTH(names); i++) {
        file = !is_onnx || serve_is_onnx(names[i]) ? named_file(at, folder, names[i]) : NULL;
    }
    return file;
}

static bool add(const walk *at, const char *name, const char *place, const char *version,
                const char *file)
{
    if (serve_models_found(at->server, name, at->root, place, version, file)) {
        return true;
    }
    (void)serve_refuse(at->problem, 503,
                       "\"%.200s\" cannot be added: another model has the name, or memory is short",
                       name);
    if (at->server->models.looks_again) { /* it does not decide whether something is gone */
        return !at->server->models.blind;
    }
    serve_say(at->server, "%s is left out: %s", place, at->problem->sentence);
    return false;
}

#define MOST_VERSIONS 1024

static int by_age(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a;
    const int64_t y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* The numbers of the version folders, newest first. */
static size_t list_versions(const walk *at, const char *folder, const serve_config *config,
                            int64_t *versions)
{
    size_t count = 0;
    DIR *opened = opendir(folder);
    for (struct dirent *entry = NULL; opened != NULL && (entry = readdir(opened)) != NULL;) {
        SCOPED_HEAP char *version = is_version(entry->d_name) && count < MOST_VERSIONS
                                        ? inside(at, folder, entry->d_name, S_IFDIR)
                                        : NULL;
        SCOPED_HEAP char *file = version != NULL ? model_file(at, version, config) : NULL;
        if (file != NULL) {
            versions[count++] = strtoll(entry->d_name, NULL, 10);
        }
    }
    if (opened != NULL) {
        (void)closedir(opened);
    }
    qsort(versions, count, sizeof *versions, by_age);
    return count;
}

static bool add_version(const walk *at, const char *name, const char *folder,
                        const serve_config *config, int64_t number)
{
    char version[24];
    (void)snprintf(version, sizeof version, "%lld", (long long)number);
    SCOPED_HEAP char *place = inside(at, folder, version, S_IFDIR);
    SCOPED_HEAP char *file = place != NULL ? model_file(at, place, config) : NULL;
    return file == NULL || add(at, name, folder, version, file);
}

/* A folder with a configuration is a model. If it has no file, as with an ensemble, loading reports
 * that. */
static bool add_absent(const walk *at, const char *name, const char *folder)
{
    SCOPED(serve_text_finish) serve_text file = {.data = NULL};
    serve_text_printf(&file, "%s/1/model.onnx", folder);
    return !file.failed && add(at, name, folder, "1", file.data);
}

/* A folder that contains model.onnx, or folders 1, 2, ... that do. An unreadable configuration is a
 * problem of the model, reported when it is loaded. */
static bool walk_model(const walk *at, const char *name, const char *folder)
{
    int64_t versions[MOST_VERSIONS];
    SCOPED(serve_config_finish) serve_config config = {.given = false};
    serve_problem other;
    const bool read = serve_config_read(at->server, at->root, folder, &config, &other);
    at->server->models.blind |= !read && other.code == 503;
    SCOPED_HEAP char *file = model_file(at, folder, &config);
    const size_t count = file == NULL ? list_versions(at, folder, &config, versions) : 0;
    const bool is_absent = file == NULL && count == 0 && (config.given || !read);
    if (file == NULL && count == 0 && !is_absent) {
        if (!at->server->models.looks_again) {
            serve_say(at->server,
                      "%s is left out: it holds no model.onnx or model.plan, and no folder 1, 2, "
                      "... that does",
                      folder);
        }
        return true;
    }
    bool added =
        is_absent ? add_absent(at, name, folder) : file == NULL || add(at, name, folder, "1", file);
    size_t served = 0;
    for (size_t i = 0; i < count; i++) {
        const bool serves = serve_config_serves(&config, versions, i);
        served += serves;
        added = (!serves || add_version(at, name, folder, &config, versions[i])) && added;
    }
    if (count != 0 && served == 0 && !at->server->models.looks_again) {
        serve_say(at->server,
                  "%s is left out: its config.pbtxt's version_policy names none of the versions "
                  "that are there, the newest of which is %lld",
                  folder, (long long)versions[0]);
    }
    return added;
}

/* A model's name is that of its file or folder; model.onnx in the repository itself is named after
 * the repository. */
static void make_name(const char *folder, const char *entry, char *name)
{
    const size_t stem = stem_length(entry);
    const char *slash = strrchr(folder, '/');
    const bool takes_folder = stem == 5 && memcmp(entry, "model", 5) == 0 && slash != NULL;
    (void)snprintf(name, SERVE_NAME, "%.*s",
                   takes_folder ? SERVE_NAME - 1 : (int)(stem != 0 ? stem : strlen(entry)),
                   takes_folder ? slash + 1 : entry);
}

static bool walk_entry(const walk *at, const char *folder, const char *entry)
{
    const size_t stem = stem_length(entry);
    char name[SERVE_NAME];
    if (!is_name(entry)) {
        return true;
    }
    make_name(folder, entry, name);
    SCOPED_HEAP char *place = inside(at, folder, entry, stem != 0 ? S_IFREG : S_IFDIR);
    return place == NULL ||
           (stem != 0 ? add(at, name, place, "1", place) : walk_model(at, name, place));
}

static bool walk_folder(struct serve *server, const char *root, serve_problem *problem)
{
    const walk at = {server, root, problem};
    struct dirent **entries = NULL;
    const int count = scandir(root, &entries, NULL, alphasort);
    server->models.blind |= count < 0 && errno == ENOMEM;
    bool walked = count >= 0 || serve_refuse(problem, 503, "\"%.400s\" cannot be read: %s", root,
                                             strerror(errno));
    for (int i = 0; i < count; i++) {
        walked = walk_entry(&at, root, entries[i]->d_name) && walked;
        free(entries[i]);
    }
    free(entries);
    return walked;
}

bool serve_repository_walk(struct serve *server, const char *place, serve_problem *problem)
{
    struct stat found;
    SCOPED_HEAP char *real = realpath(place, NULL);
    if (real == NULL || stat(real, &found) != 0) {
        server->models.blind |= errno == ENOMEM;
        return serve_refuse(problem, 404, "\"%.400s\" cannot be opened: %s", place,
                            strerror(errno));
    }
    if ((found.st_mode & S_IFMT) == S_IFDIR) {
        return walk_folder(server, real, problem);
    }
    const char *slash = strrchr(place, '/');
    char name[SERVE_NAME];
    make_name("", slash != NULL ? slash + 1 : place, name);
    const walk at = {server, NULL, problem};
    return is_name(name) ? add(&at, name, place, "1", place)
                         : serve_refuse(problem, 400, "\"%.200s\" is no name for a model", name);
}
