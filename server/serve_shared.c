/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_shared.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MOST_REGIONS 4096

struct serve_region {
    serve_region *next;
    atomic_int references;
    char name[SERVE_NAME];
    char key[SERVE_NAME];
    int descriptor;
    int64_t offset, size;
};

static void release(serve_region *region)
{
    if (atomic_fetch_sub(&region->references, 1) == 1) {
        if (region->descriptor >= 0) {
            (void)close(region->descriptor);
        }
        free(region);
    }
}

/* The link to a region, or the end of the list. Called with shared_lock held. */
static serve_region **find(serve *server, const char *name)
{
    serve_region **link = &server->regions;
    while (*link != NULL && strcmp((*link)->name, name) != 0) {
        link = &(*link)->next;
    }
    return link;
}

static serve_region *take(serve *server, const serve_place *place, const char *tensor,
                          serve_problem *problem)
{
    (void)pthread_mutex_lock(&server->shared_lock);
    serve_region *region = *find(server, place->region);
    if (region != NULL) {
        (void)atomic_fetch_add(&region->references, 1);
    }
    (void)pthread_mutex_unlock(&server->shared_lock);
    if (region == NULL) {
        (void)serve_refuse(problem, 400, "\"%.200s\": there is no shared memory region \"%.200s\"",
                           tensor, place->region);
    } else if (place->offset < 0 || place->size < 0 || place->offset > region->size ||
               place->size > region->size - place->offset) {
        (void)serve_refuse(problem, 400,
                           "\"%.200s\": %lld bytes at %lld are not in the shared memory region "
                           "\"%.200s\", which has %lld",
                           tensor, (long long)place->size, (long long)place->offset, place->region,
                           (long long)region->size);
        release(region);
        region = NULL;
    }
    return region;
}

bool serve_place_check(serve *server, const serve_place *place, const char *tensor,
                       serve_problem *problem)
{
    serve_region *region = take(server, place, tensor, problem);
    if (region != NULL) {
        release(region);
    }
    return region != NULL;
}

/* Copies everything, or returns false. */
static bool copy(serve *server, const serve_place *place, const char *tensor, char *into,
                 const char *from, size_t size, serve_problem *problem)
{
    serve_region *region = take(server, place, tensor, problem);
    size_t done = 0;
    ssize_t some = 1;
    if (region == NULL) {
        return false;
    }
    while (done < size && some > 0) {
        const off_t at = (off_t)(region->offset + place->offset + (int64_t)done);
        some = into != NULL ? pread(region->descriptor, into + done, size - done, at)
                            : pwrite(region->descriptor, from + done, size - done, at);
        done += some > 0 ? (size_t)some : 0;
        some = some < 0 && errno == EINTR ? 1 : some;
    }
    release(region);
    return done == size ||
           serve_refuse(problem, 400, "\"%.200s\": the shared memory region \"%.200s\" %s: %s",
                        tensor, place->region, into != NULL ? "cannot be read" : "takes no output",
                        some == 0 ? "it was cut short since it was registered" : strerror(errno));
}

bool serve_place_read(serve *server, const serve_place *place, const char *tensor, void *data,
                      size_t size, serve_problem *problem)
{
    return copy(server, place, tensor, data, NULL, size, problem);
}

bool serve_place_write(serve *server, const serve_place *place, const char *tensor,
                       const void *data, size_t size, serve_problem *problem)
{
    return copy(server, place, tensor, NULL, data, size, problem);
}

/* --- endpoints --- */

static bool is_offered(serve_connection *at)
{
    return at->server->options->shared_memory ||
           serve_refuse(&at->problem, 403,
                        "this server reads and writes no shared memory (--shared-memory)");
}

static serve_result done(serve_connection *at, serve_text *text)
{
    return serve_answer_text(at, 200, "application/json", text) ? SERVE_DONE : SERVE_REFUSED;
}

/* "" if no name is given: all regions. */
static const char *name_of(const serve_connection *at)
{
    return at->segment_count == 5 ? at->segments[3] : "";
}

static void put_region(serve_text *text, const serve_region *region)
{
    serve_text_string(text, "{\"name\":");
    serve_text_json(text, region->name);
    serve_text_string(text, ",\"key\":");
    serve_text_json(text, region->key);
    serve_text_printf(text, ",\"offset\":%lld,\"byte_size\":%lld}", (long long)region->offset,
                      (long long)region->size);
}

/* A list or, for gRPC, a map, whose entries hold the region separately. */
serve_result serve_shared_show(serve_connection *at)
{
    const char *name = name_of(at);
    const bool is_map = at->connection == NULL;
    serve_text text = {.data = NULL};
    bool some = name[0] == '\0';
    if (!is_offered(at)) {
        return SERVE_REFUSED;
    }
    serve_text_string(&text, "[");
    (void)pthread_mutex_lock(&at->server->shared_lock);
    for (const serve_region *region = at->server->regions; region != NULL; region = region->next) {
        if (name[0] != '\0' && strcmp(name, region->name) != 0) {
            continue;
        }
        serve_text_string(&text, text.size > 1 ? "," : "");
        if (is_map) {
            serve_text_string(&text, "{\"name\":");
            serve_text_json(&text, region->name);
            serve_text_string(&text, ",\"region\":");
        }
        put_region(&text, region);
        serve_text_string(&text, is_map ? "}" : "");
        some = true;
    }
    (void)pthread_mutex_unlock(&at->server->shared_lock);
    serve_text_string(&text, "]");
    if (!some) {
        serve_text_finish(&text);
        (void)serve_refuse(&at->problem, 404, "there is no shared memory region \"%.200s\"", name);
        return SERVE_REFUSED;
    }
    return done(at, &text);
}

/* {"key": "/name", "offset": 0, "byte_size": 64} */
static bool read_request(serve_connection *at, serve_region *region)
{
    serve_json body;
    serve_slice key;
    serve_slice other;
    serve_json_init(&body, at->body, at->body_size);
    bool read = serve_json_enter(&body, '{');
    while (read && serve_json_member(&body, &key)) {
        read = serve_json_is(&key, "key")
                   ? serve_json_string(&body, region->key, sizeof region->key)
               : serve_json_is(&key, "offset")    ? serve_json_integer(&body, &region->offset)
               : serve_json_is(&key, "byte_size") ? serve_json_integer(&body, &region->size)
                                                  : serve_json_skip(&body, &other);
    }
    if (!serve_json_end(&body) || !read) {
        return serve_refuse(&at->problem, 400, "the request's JSON: %s",
                            body.reason != NULL ? body.reason : "it is broken");
    }
    if (region->key[0] == '\0' || region->size < 1 || region->offset < 0 ||
        region->offset > INT64_MAX - region->size) {
        return serve_refuse(&at->problem, 400,
                            "a region needs a key and a byte_size of 1 and more, and its offset is "
                            "0 and more");
    }
    return true;
}

/* A key is a name for shm_open(3), which can only lead to shared memory. */
static bool open_region(serve_connection *at, serve_region *region)
{
    const char *key = region->key + (region->key[0] == '/');
    struct stat found;
    if (key[0] == '\0' || key[0] == '.' || strchr(key, '/') != NULL) {
        return serve_refuse(&at->problem, 400, "\"%.200s\" is no key of shared memory",
                            region->key);
    }
    region->descriptor = shm_open(region->key, O_RDWR | O_CLOEXEC, 0);
    if (region->descriptor < 0 || fstat(region->descriptor, &found) != 0) {
        return serve_refuse(&at->problem, 400, "the shared memory \"%.200s\" cannot be opened: %s",
                            region->key, strerror(errno));
    }
    return (S_ISREG(found.st_mode) && found.st_size >= region->offset + region->size) ||
           serve_refuse(&at->problem, 400,
                        "the shared memory \"%.200s\" has %lld bytes; %lld at %lld are asked for",
                        region->key, (long long)found.st_size, (long long)region->size,
                        (long long)region->offset);
}

static bool add(serve_connection *at, serve_region *region)
{
    serve *server = at->server;
    size_t count = 0;
    (void)pthread_mutex_lock(&server->shared_lock);
    for (const serve_region *other = server->regions; other != NULL; other = other->next) {
        count++;
    }
    serve_region **link = find(server, region->name);
    const bool taken = *link != NULL;
    if (!taken && count < MOST_REGIONS) {
        *link = region;
    }
    (void)pthread_mutex_unlock(&server->shared_lock);
    return (!taken && count < MOST_REGIONS) ||
           serve_refuse(&at->problem, 400,
                        taken ? "the shared memory region \"%.200s\" is registered already"
                              : "\"%.200s\" is one region too many",
                        region->name);
}

serve_result serve_shared_register(serve_connection *at)
{
    serve_region *region = is_offered(at) ? calloc(1, sizeof *region) : NULL;
    if (region == NULL) {
        if (at->server->options->shared_memory) {
            (void)serve_no_memory(&at->problem);
        }
        return SERVE_REFUSED;
    }
    serve_text text = {.data = NULL};
    region->descriptor = -1;
    atomic_init(&region->references, 1);
    (void)snprintf(region->name, sizeof region->name, "%s", name_of(at));
    if (!read_request(at, region) || !open_region(at, region) || !add(at, region)) {
        release(region);
        return SERVE_REFUSED;
    }
    serve_text_string(&text, "{}");
    return done(at, &text);
}

/* Unregistering a region that does not exist succeeds. */
serve_result serve_shared_unregister(serve_connection *at)
{
    const char *name = name_of(at);
    serve_text text = {.data = NULL};
    if (!is_offered(at)) {
        return SERVE_REFUSED;
    }
    (void)pthread_mutex_lock(&at->server->shared_lock);
    for (serve_region **link = &at->server->regions; *link != NULL;) {
        serve_region *region = *link;
        if (name[0] == '\0' || strcmp(name, region->name) == 0) {
            *link = region->next;
            release(region);
        } else {
            link = &region->next;
        }
    }
    (void)pthread_mutex_unlock(&at->server->shared_lock);
    serve_text_string(&text, "{}");
    return done(at, &text);
}

/* GPU regions: none can ever be registered. */
serve_result serve_shared_show_none(serve_connection *at)
{
    serve_text text = {.data = NULL};
    if (name_of(at)[0] != '\0') {
        (void)serve_refuse(&at->problem, 404,
                           "there is no region \"%.200s\" of a GPU's shared memory", name_of(at));
        return SERVE_REFUSED;
    }
    serve_text_string(&text, "[]");
    return done(at, &text);
}

serve_result serve_shared_drop_none(serve_connection *at)
{
    serve_text text = {.data = NULL};
    serve_text_string(&text, "{}");
    return done(at, &text);
}

void serve_shared_finish(serve *server)
{
    while (server->regions != NULL) {
        serve_region *next = server->regions->next;
        release(server->regions);
        server->regions = next;
    }
}

serve_result serve_shared_refuse(serve_connection *at)
{
    const char *what = at->segments[1];
    (void)serve_refuse(
        &at->problem, 501,
        strcmp(what, "cudasharedmemory") == 0
            ? "memory of a GPU is not shared with clients; system shared memory is "
              "(--shared-memory)"
        : strcmp(what, "logging") == 0
            ? "log settings cannot be changed by request; --access-log is the log"
            : "there is no trace: /metrics and /v2/models/stats say where time goes");
    return SERVE_REFUSED;
}
