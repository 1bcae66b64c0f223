/* SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>
#include <stdio.h>

#include "kln_backends.h"

#define MOST_REGISTERED 16

enum {
#define COUNTED(name) INDEX_OF_##name,
    KLN_BACKENDS(COUNTED) OWN_COUNT
#undef COUNTED
};

static _Atomic(const kiln_backend *) listed[OWN_COUNT + MOST_REGISTERED + 1] = {
#define LISTED(name) &kln_backend_##name,
    KLN_BACKENDS(LISTED)
#undef LISTED
};
static pthread_mutex_t registering = PTHREAD_MUTEX_INITIALIZER;

const kiln_backend *kln_backend_at(size_t index)
{
    return index < KLN_ARRAY_LENGTH(listed) ? atomic_load(&listed[index]) : NULL;
}

static bool is_named(const char *library)
{
    return library != NULL && library[0] != '\0';
}

/* A library that is named is used or refused, also by a backend that opens none. */
static kiln_status probe(const kiln_backend *backend, const char *library, kiln_backend_info *info)
{
    if (is_named(library) && backend->environment == NULL) {
        info->reason = "it opens no library, and one is named";
        return KILN_ERROR_UNSUPPORTED;
    }
    return backend->probe(library, info);
}

/* Asks one backend. What it says no with becomes `*refusal`; the result is about the asking. */
static kiln_status ask(const kiln_backend *backend, const char *library, kiln_backend_info *info,
                       kiln_status *refusal)
{
    kln_message before;
    *refusal = KILN_OK;
    *info = (kiln_backend_info){.struct_size = sizeof *info};
    KLN_RETURN_IF_ERROR(kln_backend_check(backend));
    kln_message_keep(&before);
    const kiln_status status = probe(backend, library, info);
    if (status == KILN_ERROR_OUT_OF_MEMORY) {
        return status;
    }
    kln_message_restore(&before);
    info->struct_size = sizeof *info;
    info->name = backend->name;
    info->description = backend->description;
    info->version = info->version != NULL ? info->version : "";
    info->library = info->library != NULL ? info->library : "";
    info->reason = info->reason != NULL ? info->reason : "";
    if (status != KILN_OK || info->score <= 0) {
        info->available = false;
        info->score = 0;
        *refusal = status != KILN_OK ? status : KILN_ERROR_UNSUPPORTED;
    }
    return KILN_OK;
}

/* What builds nothing is not asked for by name. */
static const char *name_to_ask_for(const void *from, size_t index)
{
    const kiln_backend *backend = ((const kiln_backend *const *)from)[index];
    return backend->engine.build != NULL || backend->engine.load != NULL ? backend->name : NULL;
}

static kiln_status fail_name(const kiln_backend *const *list, const char *name)
{
    char names[256];
    size_t count = 0;
    while (list[count] != NULL) {
        count++;
    }
    return kln_fail(KILN_ERROR_NAME, "there is no backend \"%s\"; %s", name,
                    kln_there_are(names, sizeof names, count, name_to_ask_for, list));
}

static kiln_status select_named(const kiln_backend *const *list, const char *name,
                                const char *library, const kiln_backend **backend,
                                kiln_backend_info *info)
{
    for (size_t i = 0; list[i] != NULL; i++) {
        if (strcmp(list[i]->name, name) != 0) {
            continue;
        }
        kiln_status refusal = KILN_OK;
        KLN_RETURN_IF_ERROR(ask(list[i], library, info, &refusal));
        KLN_RETURN_IF(refusal != KILN_OK, refusal, "backend \"%s\" cannot be used here: %s", name,
                      info->reason);
        *backend = list[i];
        return KILN_OK;
    }
    return fail_name(list, name);
}

/* Who is not installed, or has nothing to work on, is passed over in silence; who is there and does
 * not work, or is not where the environment names it, was meant to. */
static kiln_log_level level_of(const kiln_backend *backend, const char *library,
                               kiln_status refusal)
{
    switch (refusal) {
        case KILN_ERROR_LIBRARY_ABSENT:
            return is_named(library) || backend->environment == NULL ||
                           kln_getenv(backend->environment) == NULL
                       ? KILN_LOG_DEBUG
                       : KILN_LOG_WARNING;
        case KILN_ERROR_NO_DEVICE:
        case KILN_ERROR_UNSUPPORTED: return KILN_LOG_DEBUG;
        default: return KILN_LOG_WARNING;
    }
}

/* Of backend `index` of a list. A warning for the same reason is given once. */
static void note_refusal(size_t index, kiln_log_level level, const kiln_backend_info *found)
{
    static _Atomic(const char *) warned[KLN_ARRAY_LENGTH(listed)];
    const bool is_known = level == KILN_LOG_WARNING &&
                          atomic_exchange(&warned[index], found->reason) == found->reason;
    kln_log(is_known ? KILN_LOG_DEBUG : level, "backend", "%s is passed over: %s", found->name,
            found->reason);
}

static kiln_status select_best(const kiln_backend *const *list, const char *library,
                               const kiln_backend **backend, kiln_backend_info *info)
{
    const kiln_backend *best = NULL;
    kiln_backend_info best_info = {.struct_size = sizeof best_info};
    char reasons[KLN_MESSAGE_SIZE] = "";
    size_t used = 0;
    for (size_t i = 0; list[i] != NULL; i++) {
        kiln_backend_info found;
        kiln_status refusal = KILN_OK;
        KLN_RETURN_IF_ERROR(ask(list[i], library, &found, &refusal));
        if (refusal != KILN_OK) {
            note_refusal(i, level_of(list[i], library, refusal), &found);
            if (list[i]->environment != NULL && used < sizeof reasons) {
                const int more = snprintf(reasons + used, sizeof reasons - used, "; %s: %s",
                                          found.name, found.reason);
                used += more > 0 ? (size_t)more : 0;
            }
        } else if (found.score > best_info.score) {
            best = list[i];
            best_info = found;
        }
    }
    KLN_RETURN_IF(best == NULL && is_named(library), KILN_ERROR_UNSUPPORTED,
                  "no backend can use \"%s\"%s", library, reasons);
    KLN_RETURN_IF(best == NULL, KILN_ERROR_UNSUPPORTED,
                  "no backend can be used here; `kiln doctor` and "
                  "kiln_backend_get say why of each");
    kln_log(KILN_LOG_INFO, "backend", "%s is chosen: %s", best->name, best_info.reason);
    *backend = best;
    *info = best_info;
    return KILN_OK;
}

kiln_status kln_backend_select_from(const kiln_backend *const *list, const char *name,
                                    const char *library, const kiln_backend **backend,
                                    kiln_backend_info *info)
{
    const char *origin = "";
    if (name == NULL || name[0] == '\0') {
        name = kln_getenv("KILN_BACKEND");
        origin = "environment variable KILN_BACKEND";
    }
    if (name == NULL || strcmp(name, "auto") == 0) {
        return select_best(list, library, backend, info);
    }
    const kiln_status status = select_named(list, name, library, backend, info);
    KLN_FAIL_IF(status != KILN_OK && origin[0] != '\0', kln_fail_within(status, "%s", origin));
    return status;
}

kiln_status kln_backend_select(const char *name, const char *library, const kiln_backend **backend,
                               kiln_backend_info *info)
{
    const kiln_backend *list[KLN_ARRAY_LENGTH(listed)];
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(list); i++) {
        list[i] = kln_backend_at(i);
    }
    return kln_backend_select_from(list, name, library, backend, info);
}

const kiln_backend *kln_backend_of(kiln_span bytes, const char **what)
{
    const kiln_backend *backend = NULL;
    for (size_t i = 0; (backend = kln_backend_at(i)) != NULL; i++) {
        *what = backend->engine.recognize != NULL ? backend->engine.recognize(bytes) : NULL;
        if (*what != NULL) {
            return backend;
        }
    }
    return NULL;
}

/* --- registered from outside --- */

static kiln_status check_name(const char *name)
{
    KLN_RETURN_IF(name[0] == '\0' ||
                      name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] != '\0' ||
                      strcmp(name, "auto") == 0,
                  KILN_ERROR_NAME,
                  "kiln_backend_register: \"%s\" names no backend; small letters, digits and _ "
                  "do, but for \"auto\"",
                  name);
    const kiln_backend *other = NULL;
    for (size_t i = 0; (other = kln_backend_at(i)) != NULL; i++) {
        KLN_RETURN_IF(strcmp(other->name, name) == 0, KILN_ERROR_NAME,
                      "kiln_backend_register: there is a backend \"%s\"", name);
    }
    return KILN_OK;
}

static kiln_status add(const kiln_backend *backend)
{
    const size_t count = kiln_backend_count();
    KLN_RETURN_IF_ERROR(check_name(backend->name));
    KLN_RETURN_IF(count == OWN_COUNT + MOST_REGISTERED, KILN_ERROR_LIMIT,
                  "kiln_backend_register: \"%s\" is number %d, and %d can be registered",
                  backend->name, MOST_REGISTERED + 1, MOST_REGISTERED);
    atomic_store(&listed[count], backend);
    return KILN_OK;
}

kiln_status kiln_backend_register(const kiln_backend *backend)
{
    KLN_RETURN_IF_NULL(backend);
    KLN_RETURN_IF(backend->struct_size != sizeof *backend, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_backend_register: the table has %zu bytes, and in this Kiln (%s) %zu; "
                  "build it against this version's <kiln/unstable/backend_table.h>",
                  backend->struct_size, kiln_version_string(), sizeof *backend);
    KLN_RETURN_IF(backend->plan != NULL || backend->library != NULL || backend->timings != NULL,
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_backend_register: `%s` is set, which only Kiln's own backends have",
                  backend->plan != NULL      ? "plan"
                  : backend->library != NULL ? "library"
                                             : "timings");
    KLN_RETURN_IF(
        kln_backend_check(backend) != KILN_OK || backend->engine.build == NULL,
        KILN_ERROR_INVALID_ARGUMENT, "kiln_backend_register: %s",
        backend->engine.build == NULL ? "the table lacks `engine.build`" : kiln_error_message());
    KLN_LOCKED(&registering);
    return add(backend);
}

/* --- the public list --- */

size_t kiln_backend_count(void)
{
    size_t count = 0;
    while (kln_backend_at(count) != NULL) {
        count++;
    }
    return count;
}

kiln_status kiln_backend_get(size_t index, kiln_backend_info *info)
{
    KLN_RETURN_IF_NULL(info);
    const size_t count = kiln_backend_count();
    KLN_RETURN_IF(index >= count, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_backend_get: index is %zu, there are %zu backends", index, count);
    kiln_backend_info found;
    kiln_status refusal = KILN_OK;
    KLN_RETURN_IF_ERROR(ask(kln_backend_at(index), NULL, &found, &refusal));
    return kln_info_write(__func__, info, &found, sizeof found);
}

kiln_status kiln_backend_choose(const char *name, kiln_backend_info *info)
{
    KLN_RETURN_IF_NULL(info);
    const kiln_backend *backend = NULL;
    kiln_backend_info found;
    KLN_RETURN_IF_ERROR(kln_backend_select(name, NULL, &backend, &found));
    return kln_info_write(__func__, info, &found, sizeof found);
}
