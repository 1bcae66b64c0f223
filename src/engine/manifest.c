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
/* 2^53: up to there JSON's numbers hold every integer. */
#define LARGEST_INTEGER 9007199254740992.0

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

/* Options that a load takes over. All are enumerations whose 0 is the default. */
#define SAVED(name, most, gpu)                                   \
    {                                                            \
#name, offsetof(kiln_build_options, name), (most), (gpu) \
    }

static const struct {
    const char *key;
    size_t offset;
    int most;
    bool gpu; /* means something with the CUDA provider only */
} saved[] = {
    SAVED(optimization, KILN_OPTIMIZATION_ALL, false),
    SAVED(share_weights, KILN_SWITCH_OFF, false),
    SAVED(provider, KILN_PROVIDER_CUDA, false),
    SAVED(tf32, KILN_SWITCH_OFF, true),
    SAVED(arena_growth, KILN_ARENA_AS_NEEDED, true),
    SAVED(conv_search, KILN_CONV_SEARCH_NONE, true),
    SAVED(prefer_nhwc, KILN_SWITCH_OFF, true),
    SAVED(fuse_conv_bias, KILN_SWITCH_OFF, true),
};

_Static_assert(sizeof(kiln_switch) == sizeof(int), "an enumeration is as large as an int");

static int get_saved(const kiln_build_options *options, size_t index)
{
    int value = 0;
    memcpy(&value, (const unsigned char *)options + saved[index].offset, sizeof value);
    return value;
}

static void set_saved(kiln_build_options *options, size_t index, int value)
{
    memcpy((unsigned char *)options + saved[index].offset, &value, sizeof value);
}

static bool add_options(cJSON *root, const kiln_build_options *options)
{
    cJSON *object = cJSON_AddObjectToObject(root, "options");
    bool added = object != NULL &&
                 cJSON_AddNumberToObject(object, "device", options->device) != NULL &&
                 cJSON_AddNumberToObject(object, "threads", options->threads) != NULL &&
                 cJSON_AddNumberToObject(object, "parallel_nodes", options->parallel_nodes) != NULL;
    const bool on_gpu = options->provider == KILN_PROVIDER_CUDA;
    for (size_t i = 0; added && i < KLN_ARRAY_LENGTH(saved); i++) {
        if (!saved[i].gpu || on_gpu) {
            added = cJSON_AddNumberToObject(object, saved[i].key, get_saved(options, i)) != NULL;
        }
    }
    if (added && on_gpu) {
        added = cJSON_AddNumberToObject(object, "gpu_memory_bytes",
                                        (double)options->gpu_memory_bytes) != NULL &&
                cJSON_AddBoolToObject(object, "gpu_only", options->gpu_only) != NULL;
    }
    return added;
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

/* A whole number from 0 to `most`; a key that is not there leaves it. */
static kiln_status read_number(const cJSON *object, const char *key, double most, double *out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (item == NULL) {
        return KILN_OK;
    }
    const double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(value >= 0 && value <= most) || value != (double)(uint64_t)value) {
        return kln_fail(KILN_ERROR_MALFORMED,
                        "\"%s\" must be a whole number from 0 to %.0f; delete the manifest to load "
                        "without it",
                        key, most);
    }
    *out = value;
    return KILN_OK;
}

static kiln_status read_options(const cJSON *object, kiln_build_options *options)
{
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(saved); i++) {
        double value = 0;
        KLN_RETURN_IF_ERROR(read_number(object, saved[i].key, saved[i].most, &value));
        set_saved(options, i, (int)value);
    }
    double bytes = 0;
    KLN_RETURN_IF_ERROR(read_number(object, "gpu_memory_bytes", LARGEST_INTEGER, &bytes));
    options->gpu_memory_bytes = (uint64_t)bytes;
    options->gpu_only = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, "gpu_only"));
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
    if (*end != '\0' || strlen(hash) != 16 || !cJSON_IsNumber(size) || size->valuedouble < 1 ||
        size->valuedouble > LARGEST_INTEGER || manifest->backend[0] == '\0') {
        return kln_fail(KILN_ERROR_MALFORMED,
                        "\"size\", \"fnv1a64\" or \"backend\" makes no sense; delete the manifest "
                        "to load without it");
    }
    manifest->size = (uint64_t)size->valuedouble;
    return read_options(cJSON_GetObjectItemCaseSensitive(root, "options"), &manifest->options);
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

void kln_manifest_apply(const kln_manifest *manifest, kiln_build_options *options)
{
    const kiln_provider provider =
        options->provider != KILN_PROVIDER_DEFAULT ? options->provider : manifest->options.provider;
    const bool on_gpu = provider == KILN_PROVIDER_CUDA;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(saved); i++) {
        if (get_saved(options, i) == 0 && (!saved[i].gpu || on_gpu)) {
            set_saved(options, i, get_saved(&manifest->options, i));
        }
    }
    if (on_gpu && options->gpu_memory_bytes == 0) {
        options->gpu_memory_bytes = manifest->options.gpu_memory_bytes;
    }
    options->gpu_only = options->gpu_only || (on_gpu && manifest->options.gpu_only);
}
