/* SPDX-License-Identifier: Apache-2.0 */
/* Files that the server reads. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "serve_parts.h"

#define DEEPEST 3 /* levels below a model's folder: a version's, and files next to the model */

FILE *serve_file_open(const char *path, bool appends)
{
    const int flags = appends ? O_WRONLY | O_APPEND | O_CREAT : O_RDONLY;
    const int descriptor = open(path, flags | O_CLOEXEC | O_NONBLOCK, 0666);
    FILE *file = descriptor >= 0 && fcntl(descriptor, F_SETFL, flags & O_APPEND) == 0
                     ? fdopen(descriptor, appends ? "a" : "r")
                     : NULL;
    if (file == NULL && descriptor >= 0) {
        (void)close(descriptor);
    }
    return file;
}

char *serve_file_read(const char *path, const char *what, size_t limit, size_t *size,
                      serve_problem *problem)
{
    FILE *file = path != NULL ? serve_file_open(path, false) : NULL;
    char *text = file != NULL ? malloc(limit + 1) : NULL;
    *size = text != NULL ? fread(text, 1, limit, file) : 0;
    const bool whole = text != NULL && ferror(file) == 0 && fgetc(file) == EOF;
    if (!whole) {
        const bool larger = text != NULL && ferror(file) == 0;
        (void)(file != NULL && text == NULL
                   ? serve_no_memory(problem)
                   : serve_refuse(problem, 400, "\"%.300s\" cannot be read: %s", what,
                                  larger         ? "it is too large"
                                  : path == NULL ? "it is not there"
                                                 : strerror(errno)));
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    if (!whole) {
        free(text);
        return NULL;
    }
    text[*size] = '\0';
    return text;
}

char *serve_file_inside(struct serve *server, const char *root, const char *folder,
                        const char *name, mode_t kind)
{
    SCOPED(serve_text_finish) serve_text joined = {.data = NULL};
    struct stat found;
    serve_text_printf(&joined, "%s/%s", folder, name);
    char *real = joined.failed ? NULL : realpath(joined.data, NULL);
    const size_t length = strlen(root);
    server->models.blind |= joined.failed || (real == NULL && errno == ENOMEM);
    const bool within = real != NULL && strncmp(real, root, length) == 0 && real[length] == '/';
    if (real != NULL && !within && !server->models.looks_again) {
        serve_say(server, "%s is left out: it leads out of the repository, to %s", joined.data,
                  real);
    }
    if (!within || stat(real, &found) != 0 || (found.st_mode & S_IFMT) != kind) {
        free(real);
        return NULL;
    }
    return real;
}

char *serve_file_beside(serve *server, const char *root, const char *folder, const char *name,
                        bool *lost)
{
    const bool before = server->models.blind;
    server->models.blind = false;
    char *path = serve_file_inside(server, root, folder, name, S_IFREG);
    *lost = server->models.blind;
    server->models.blind |= before;
    return path;
}

/* --- change detection --- */

static uint64_t mix(uint64_t hash, uint64_t value)
{
    for (unsigned byte = 0; byte < 8; byte++) { /* FNV-1a */
        hash = (hash ^ (value >> 8 * byte & 255)) * 0x100000001b3;
    }
    return hash;
}

/* A stamp that changes with a file, or with any file in a folder, following links. */
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
    if (!folder) { /* a folder's own time says no more than its entries */
        stamp = mix(stamp, (uint64_t)found.st_size);
        stamp = mix(stamp, (uint64_t)found.st_mtim.tv_sec);
        stamp = mix(stamp, (uint64_t)found.st_mtim.tv_nsec);
    }
    DIR *opened = folder && depth < DEEPEST ? opendir(path) : NULL;
    for (struct dirent *entry = NULL; opened != NULL && (entry = readdir(opened)) != NULL;) {
        SCOPED(serve_text_finish) serve_text inner = {.data = NULL};
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            serve_text_printf(&inner, "%s/%s", path, entry->d_name);
            stamp += inner.failed ? 0 : stamp_of(inner.data, entry->d_name, depth + 1);
        }
    }
    if (opened != NULL) {
        (void)closedir(opened);
    }
    return stamp;
}

uint64_t serve_file_stamp(const char *path)
{
    return stamp_of(path, "", 0);
}
