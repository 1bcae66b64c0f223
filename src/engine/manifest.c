/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cJSON.h>
#include <kiln/version.h>

#include "kln_engine.h"

#define SUFFIX ".json"
/* A manifest has some dozens of short lines; anything past this is something else. */
#define LARGEST_MANIFEST ((size_t)1 << 20)

/* cJSON says only that it failed; this tells a text that is no JSON from a heap that is empty. */
static _Thread_local bool out_of_memory;

static void *allocate(size_t size)
{
    void *memory = kln_alloc(size);
    out_of_memory = out_of_memory || memory == NULL;
    return memory;
}

static pthread_once_t hooked = PTHREAD_ONCE_INIT;

static void set_hooks(void)
{
    cJSON_Hooks hooks = {.malloc_fn = allocate, .free_fn = kln_free};
    cJSON_InitHooks(&hooks);
}

/* cJSON's hooks are global: set once, so that the replaceable heap holds here too. */
static void use_kiln_heap(void)
{
    (void)pthread_once(&hooked, set_hooks);
}

static kiln_status manifest_path(const char *path, char **out)
{
    const size_t length = strlen(path);
    *out = kln_alloc(length + sizeof SUFFIX);
    if (*out == NULL) {
        return kln_fail_memory(length + sizeof SUFFIX, "a path");
    }
    memcpy(*out, path, length);
    memcpy(*out + length, SUFFIX, sizeof SUFFIX);
    return KILN_OK;
}

/* --- writing --- */

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static bool add_provider(cJSON *object, const kiln_build_options *options)
{
    return cJSON_AddNumberToObject(object, "provider", (int)options->provider) != NULL &&
           cJSON_AddNumberToObject(object, "tf32", (int)options->tf32) != NULL &&
           cJSON_AddNumberToObject(object, "conv_search", (int)options->conv_search) != NULL &&
           cJSON_AddNumberToObject(object, "prefer_nhwc", (int)options->prefer_nhwc) != NULL;
}

static bool add_options(cJSON *root, const kiln_build_options *options)
{
    cJSON *object = cJSON_AddObjectToObject(root, "options");
    return object != NULL && cJSON_AddNumberToObject(object, "device", options->device) != NULL &&
           cJSON_AddNumberToObject(object, "threads", options->threads) != NULL &&
           cJSON_AddNumberToObject(object, "parallel_nodes", options->parallel_nodes) != NULL &&
           cJSON_AddNumberToObject(object, "optimization", (int)options->optimization) != NULL &&
           (options->provider != KILN_PROVIDER_CUDA || add_provider(object, options));
}

static bool fill(cJSON *root, const char *path, const kiln_engine *engine, kiln_span bytes)
{
    char hash[17];
    (void)snprintf(hash, sizeof hash, "%016" PRIx64,
                   kln_hash(bytes.data, bytes.size, KLN_HASH_SEED));
    const bool native = (engine->info.capabilities & KILN_CAPABILITY_NATIVE_PLAN) != 0;
    return cJSON_AddStringToObject(root, "kiln", kiln_version_string()) != NULL &&
           cJSON_AddStringToObject(root, "file", name_of(path)) != NULL &&
           cJSON_AddStringToObject(root, "format", native ? "plan" : "onnx") != NULL &&
           cJSON_AddNumberToObject(root, "size", (double)bytes.size) != NULL &&
           cJSON_AddStringToObject(root, "fnv1a64", hash) != NULL &&
           cJSON_AddStringToObject(root, "backend", engine->info.name) != NULL &&
           cJSON_AddStringToObject(root, "backend_version", engine->info.version) != NULL &&
           cJSON_AddStringToObject(root, "source", name_of(engine->source)) != NULL &&
           add_options(root, &engine->built);
}

static kiln_status write_text(const char *path, const char *text)
{
    kln_output output;
    KLN_RETURN_IF_ERROR(kln_output_open(path, &output));
    kiln_status status = kln_output_write(&output, text, strlen(text));
    if (status == KILN_OK) {
        status = kln_output_write(&output, "\n", 1);
    }
    if (status == KILN_OK) {
        status = kln_output_commit(&output);
    }
    kln_output_discard(&output);
    return status;
}

kiln_status kln_manifest_write(const char *path, const kiln_engine *engine, kiln_span bytes)
{
    use_kiln_heap();
    char *beside = NULL;
    KLN_RETURN_IF_ERROR(manifest_path(path, &beside));
    cJSON *root = cJSON_CreateObject();
    char *text = root != NULL && fill(root, path, engine, bytes) ? cJSON_Print(root) : NULL;
    const kiln_status status =
        text != NULL ? write_text(beside, text) : kln_fail_memory(1024, "a manifest");
    cJSON_free(text);
    cJSON_Delete(root);
    kln_free(beside);
    return status;
}

/* --- reading --- */

static kiln_status read_text(const cJSON *root, const char *key, char *out, size_t size)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, key);
    if (!cJSON_IsString(item) || strlen(item->valuestring) >= size) {
        return kln_fail(KILN_ERROR_MALFORMED,
                        "\"%s\" must be a text of less than %zu bytes; delete the manifest to load "
                        "without it",
                        key, size);
    }
    memcpy(out, item->valuestring, strlen(item->valuestring) + 1);
    return KILN_OK;
}

static kiln_status read_fields(const cJSON *root, kln_manifest *manifest)
{
    char hash[17];
    KLN_RETURN_IF_ERROR(read_text(root, "backend", manifest->backend, sizeof manifest->backend));
    KLN_RETURN_IF_ERROR(read_text(root, "backend_version", manifest->backend_version,
                                  sizeof manifest->backend_version));
    KLN_RETURN_IF_ERROR(read_text(root, "fnv1a64", hash, sizeof hash));
    char *end = NULL;
    manifest->hash = strtoull(hash, &end, 16);
    const cJSON *size = cJSON_GetObjectItemCaseSensitive(root, "size");
    /* 2^53: the largest integer that JSON's numbers hold exactly. */
    if (*end != '\0' || strlen(hash) != 16 || !cJSON_IsNumber(size) || size->valuedouble < 1 ||
        size->valuedouble > 9007199254740992.0 || manifest->backend[0] == '\0') {
        return kln_fail(KILN_ERROR_MALFORMED,
                        "\"size\", \"fnv1a64\" or \"backend\" makes no sense; delete the manifest "
                        "to load without it");
    }
    manifest->size = (uint64_t)size->valuedouble;
    return KILN_OK;
}

kiln_status kln_manifest_parse(kiln_span text, kln_manifest *manifest)
{
    use_kiln_heap();
    *manifest = (kln_manifest){.size = 0};
    if (text.size > LARGEST_MANIFEST) {
        return kln_fail(KILN_ERROR_LIMIT, "a manifest of %zu bytes was refused, %zu are allowed",
                        text.size, LARGEST_MANIFEST);
    }
    const char *end = NULL;
    out_of_memory = false;
    cJSON *root = cJSON_ParseWithLengthOpts(text.data, text.size, &end, false);
    if (root == NULL && out_of_memory) {
        return kln_fail_memory(text.size, "a manifest");
    }
    if (root == NULL) {
        return kln_fail(KILN_ERROR_MALFORMED,
                        "no JSON from byte %td on; delete the manifest to load without it",
                        end != NULL ? end - (const char *)text.data : 0);
    }
    const kiln_status status = read_fields(root, manifest);
    cJSON_Delete(root);
    if (status != KILN_OK) {
        *manifest = (kln_manifest){.size = 0};
    }
    return status;
}

kiln_status kln_manifest_read(const char *path, kln_manifest *manifest)
{
    *manifest = (kln_manifest){.size = 0};
    char *beside = NULL;
    KLN_RETURN_IF_ERROR(manifest_path(path, &beside));
    kiln_status status = KILN_OK;
    kln_mapping mapping = {{NULL, 0}};
    if (kln_file_exists(beside)) {
        status = kln_mapping_open(beside, &mapping);
    }
    if (status == KILN_OK && mapping.bytes.size != 0) {
        status = kln_manifest_parse(mapping.bytes, manifest);
        if (status != KILN_OK) {
            status = kln_fail_within(status, "\"%s\"", beside);
        }
    }
    kln_mapping_close(&mapping);
    kln_free(beside);
    return status;
}

kiln_status kln_manifest_check_file(const kln_manifest *manifest, const char *path, kiln_span bytes)
{
    if (manifest->size != bytes.size) {
        return kln_fail(KILN_ERROR_MISMATCH,
                        "\"%s\": %zu bytes were found, its manifest says %" PRIu64
                        "; the file was cut or replaced: save the engine again, or delete "
                        "\"%s" SUFFIX "\"",
                        path, bytes.size, manifest->size, path);
    }
    const uint64_t hash = kln_hash(bytes.data, bytes.size, KLN_HASH_SEED);
    if (manifest->hash != hash) {
        return kln_fail(KILN_ERROR_MISMATCH,
                        "\"%s\": its hash is %016" PRIx64 ", its manifest says %016" PRIx64
                        "; the file was changed: save the engine again, or delete \"%s" SUFFIX "\"",
                        path, hash, manifest->hash, path);
    }
    return KILN_OK;
}
