/* SPDX-License-Identifier: Apache-2.0 */
#include <kiln/cache.h>
#include <stdio.h>

#include "engine_cache.h"

kiln_cache_use kiln_engine_cache_use(const kiln_engine *engine)
{
    return engine != NULL && engine->cached != NULL ? engine->cached->use : KILN_CACHE_NONE;
}

kiln_status kiln_cache_folder(const char *cache, char *text, size_t size, size_t *length)
{
    kln_cache found;
    KLN_RETURN_IF_NULL_RESULT(length, cache);
    if (size > 0) {
        KLN_RETURN_IF_NULL(text);
        text[0] = '\0';
    }
    KLN_RETURN_IF_ERROR(kln_cache_find(cache, &found));
    *length = strlen(found.folder);
    if (size > 0) {
        (void)snprintf(text, size, "%s", found.folder);
    }
    return size == 0 || *length < size
               ? KILN_OK
               : kln_fail(KILN_ERROR_LIMIT,
                          "kiln_cache_folder: room for %zu bytes was given, %zu are needed", size,
                          *length + 1);
}

/* --- lists --- */

typedef struct listed_entry {
    kln_cache_row row;
    kln_manifest_facts facts;
    char problem[KLN_MESSAGE_SIZE]; /* "" if there is none */
} listed_entry;

struct kiln_cache_list {
    size_t count;
    listed_entry entries[];
};

/* Reads what the manifest says about the entry, if there is one. */
static void look(const kln_cache *cache, listed_entry *entry)
{
    char path[PATH_MAX];
    char beside[PATH_MAX + sizeof KLN_MANIFEST_SUFFIX];
    kln_mapping text;
    kln_cache_path(cache, entry->row.key, path);
    (void)snprintf(beside, sizeof beside, "%s" KLN_MANIFEST_SUFFIX, path);
    if (kln_mapping_open(beside, &text) == KILN_OK) {
        kln_manifest_look(text.bytes, &entry->facts);
        kln_mapping_close(&text);
    }
}

static kiln_status fill(const kln_cache *cache, bool verify, listed_entry *entry)
{
    kln_mapping data;
    kln_manifest manifest;
    kiln_status status = KILN_OK;
    look(cache, entry);
    if (verify) {
        status = kln_engine_cache_read(cache, entry->row.key, &data, &manifest);
        if (status == KILN_OK) {
            kln_manifest_finish(&manifest);
            kln_mapping_close(&data);
        }
    } else if (!entry->row.is_whole) {
        status = kln_fail(KILN_ERROR_NOT_FOUND, "it was never written to the end");
    }
    if (status != KILN_OK) {
        (void)snprintf(entry->problem, sizeof entry->problem, "%s", kiln_error_message());
    }
    return status == KILN_ERROR_OUT_OF_MEMORY ? status : KILN_OK;
}

kiln_status kiln_cache_list_create(const char *cache, bool verify, kiln_cache_list **list)
{
    kln_cache found;
    KLN_SCOPED_FREE kln_cache_row *rows = NULL;
    size_t count = 0;
    kln_message before;
    KLN_RETURN_IF_NULL_RESULT(list, cache);
    KLN_RETURN_IF_ERROR(kln_cache_find(cache, &found));
    kln_message_keep(&before);
    KLN_RETURN_IF_ERROR(kln_cache_list(&found, &rows, &count));
    const size_t size = sizeof(kiln_cache_list) + count * sizeof(listed_entry);
    KLN_SCOPED_FREE kiln_cache_list *made = kln_alloc_zeroed(1, size);
    KLN_RETURN_IF_NO_MEMORY(made, size, "the entries of the engine cache");
    for (size_t i = 0; i < count; i++) {
        if (rows[i].bytes > 0) { /* 0 bytes: a build is in progress, or was killed */
            made->entries[made->count].row = rows[i];
            KLN_RETURN_IF_ERROR(fill(&found, verify, &made->entries[made->count++]));
        }
    }
    kln_message_restore(&before);
    *list = KLN_TAKE(made);
    return KILN_OK;
}

size_t kiln_cache_list_count(const kiln_cache_list *list)
{
    return list != NULL ? list->count : 0;
}

kiln_status kiln_cache_list_get(const kiln_cache_list *list, size_t index, kiln_cache_entry *entry)
{
    KLN_RETURN_IF_NULL(list, entry);
    KLN_RETURN_IF(index >= list->count, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_cache_list_get: entry %zu was asked for, there are %zu", index,
                  list->count);
    const listed_entry *one = &list->entries[index];
    const kiln_cache_entry found = {.struct_size = sizeof found,
                                    .key = one->row.key,
                                    .kind = one->facts.format,
                                    .source = one->facts.source,
                                    .backend = one->facts.backend,
                                    .version = one->facts.version,
                                    .gpu = one->facts.gpu,
                                    .bytes = one->row.bytes,
                                    .used_seconds = one->row.used / UINT64_C(1000000000),
                                    .problem = one->problem[0] != '\0' ? one->problem : NULL};
    return kln_info_write(__func__, entry, &found, sizeof found);
}

void kiln_cache_list_destroy(kiln_cache_list *list)
{
    kln_free(list);
}

/* --- removing --- */

kiln_status kiln_cache_remove(const char *cache, const char *key)
{
    kln_cache found;
    KLN_RETURN_IF_NULL(cache, key);
    KLN_RETURN_IF_ERROR(kln_cache_find(cache, &found));
    KLN_RETURN_IF(!kln_cache_has(&found, key), KILN_ERROR_NAME,
                  "the engine cache \"%s\" has no entry \"%.40s\"", found.folder, key);
    return kln_cache_remove(&found, key);
}

kiln_status kiln_cache_clear(const char *cache, uint64_t bytes, uint64_t *freed)
{
    kln_cache found;
    uint64_t gone = 0;
    if (freed != NULL) {
        *freed = 0;
    }
    KLN_RETURN_IF_NULL(cache);
    KLN_RETURN_IF_ERROR(kln_cache_find(cache, &found));
    KLN_RETURN_IF_ERROR(kln_cache_trim(&found, bytes, NULL, &gone));
    if (freed != NULL) {
        *freed = gone;
    }
    return KILN_OK;
}
