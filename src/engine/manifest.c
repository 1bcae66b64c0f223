/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cJSON.h>
#include <kiln/version.h>

#include "cuda/kln_cuda.h"
#include "kln_engine.h"

#define SUFFIX ".json"
/* Within a manifest: that of the file which lay there before, while a save goes on. */
#define PREVIOUS "previous"
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

static bool add_measured(cJSON *root, const kiln_engine *engine)
{
    (void)pthread_mutex_lock(&engine->measured->mutex);
    const bool added = measured_variants_write(&engine->measured->variants, root);
    (void)pthread_mutex_unlock(&engine->measured->mutex);
    return added;
}

/* By model and compute capability: the number of a device means nothing on another machine. */
static bool add_gpu(cJSON *root, const kiln_engine *engine)
{
    kiln_device_info info = {.struct_size = sizeof info};
    if (engine->device < 0 || kln_cuda_device_info(engine->device, &info) != KILN_OK) {
        return true;
    }
    char capability[32];
    (void)snprintf(capability, sizeof capability, "%d.%d", info.compute_major, info.compute_minor);
    return cJSON_AddStringToObject(root, "gpu", info.name) != NULL &&
           cJSON_AddStringToObject(root, "compute_capability", capability) != NULL;
}

/* What decides where a plan can be loaded. */
static bool add_reach(cJSON *root, const kiln_build_options *options)
{
    static const char *const levels[] = {"none", "ampere+", "same-capability"};
    return cJSON_AddBoolToObject(root, "version_compatible", options->version_compatible) != NULL &&
           cJSON_AddBoolToObject(root, "stripped", options->strip_plan) != NULL &&
           cJSON_AddStringToObject(root, "hardware_compatibility",
                                   levels[options->hardware_compatibility]) != NULL;
}

static bool fill(cJSON *root, const char *path, const kiln_engine *engine, kiln_span bytes)
{
    char hash[17];
    (void)snprintf(hash, sizeof hash, "%016" PRIx64, kln_hash_bytes(bytes.data, bytes.size));
    const bool native = (engine->info.capabilities & KILN_CAPABILITY_NATIVE_PLAN) != 0;
    return cJSON_AddStringToObject(root, "kiln", kiln_version_string()) != NULL &&
           cJSON_AddStringToObject(root, "file", name_of(path)) != NULL &&
           cJSON_AddStringToObject(root, "format", native ? "plan" : "onnx") != NULL &&
           cJSON_AddNumberToObject(root, "size", (double)bytes.size) != NULL &&
           cJSON_AddStringToObject(root, "xxh3_64", hash) != NULL &&
           cJSON_AddStringToObject(root, "backend", engine->info.name) != NULL &&
           cJSON_AddStringToObject(root, "backend_version", engine->info.version) != NULL &&
           cJSON_AddStringToObject(root, "source", name_of(engine->source)) != NULL &&
           add_gpu(root, engine) && (!native || add_reach(root, &engine->built)) &&
           add_options(root, &engine->built) && add_measured(root, engine) &&
           kln_profile_names_write(engine, root);
}

/* Writes `root` to `output`, which a commit puts at `beside`. */
static kiln_status prepare(const char *beside, const cJSON *root, kln_output *output)
{
    char *text = cJSON_Print(root);
    if (text == NULL) {
        return kln_fail_memory(1024, "a manifest");
    }
    kiln_status status = kln_output_open(beside, output);
    if (status == KILN_OK) {
        status = kln_output_write(output, text, strlen(text));
    }
    if (status == KILN_OK) {
        status = kln_output_write(output, "\n", 1);
    }
    if (status == KILN_OK) {
        status = kln_output_flush(output);
    }
    cJSON_free(text);
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

static kiln_status read_reach(const cJSON *root, kln_manifest *manifest)
{
    char format[16] = "";
    char capability[16] = "";
    const struct {
        const char *key;
        char *out;
        size_t size;
    } texts[] = {{"format", format, sizeof format},
                 {"gpu", manifest->gpu, sizeof manifest->gpu},
                 {"compute_capability", capability, sizeof capability}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(texts); i++) {
        if (cJSON_GetObjectItemCaseSensitive(root, texts[i].key) != NULL) {
            KLN_RETURN_IF_ERROR(read_text(root, texts[i].key, texts[i].out, texts[i].size));
        }
    }
    char *end = capability;
    const long major = strtol(capability, &end, 10);
    const long minor = *end == '.' ? strtol(end + 1, &end, 10) : 0;
    if (*end != '\0' || major < 0 || major > 1000 || minor < 0 || minor > 9) {
        return kln_fail(KILN_ERROR_MALFORMED,
                        "\"compute_capability\" is \"%s\", a text like \"9.0\" is needed; delete "
                        "the manifest to load without it",
                        capability);
    }
    manifest->gpu_capability = (int32_t)(major * 10 + minor);
    manifest->is_plan = strcmp(format, "plan") == 0;
    manifest->stripped = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "stripped"));
    manifest->version_compatible =
        cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "version_compatible"));
    return KILN_OK;
}

static kiln_status read_fields(const cJSON *root, kln_manifest *manifest)
{
    char hash[17];
    KLN_RETURN_IF_ERROR(read_text(root, "backend", manifest->backend, sizeof manifest->backend));
    KLN_RETURN_IF_ERROR(read_text(root, "backend_version", manifest->backend_version,
                                  sizeof manifest->backend_version));
    KLN_RETURN_IF_ERROR(read_text(root, "xxh3_64", hash, sizeof hash));
    char *end = NULL;
    manifest->hash = strtoull(hash, &end, 16);
    const cJSON *size = cJSON_GetObjectItemCaseSensitive(root, "size");
    if (*end != '\0' || strlen(hash) != 16 || !cJSON_IsNumber(size) || size->valuedouble < 1 ||
        size->valuedouble > LARGEST_INTEGER) {
        return kln_fail(KILN_ERROR_MALFORMED,
                        "\"size\" must be a number of bytes from 1 on and \"xxh3_64\" a hash of 16 "
                        "hexadecimal digits; delete the manifest to load "
                        "without it");
    }
    manifest->size = (uint64_t)size->valuedouble;
    KLN_RETURN_IF_ERROR(read_reach(root, manifest));
    KLN_RETURN_IF_ERROR(measured_variants_read(&manifest->measured, root));
    KLN_RETURN_IF_ERROR(kln_profile_names_read(root, manifest->profile_names));
    return read_options(cJSON_GetObjectItemCaseSensitive(root, "options"), &manifest->options);
}

static kiln_status parse(kiln_span text, cJSON **root)
{
    use_kiln_heap();
    *root = NULL;
    if (text.size > LARGEST_MANIFEST) {
        return kln_fail(KILN_ERROR_LIMIT, "a manifest of %zu bytes was refused, %zu are allowed",
                        text.size, LARGEST_MANIFEST);
    }
    const char *end = NULL;
    out_of_memory = false;
    *root = cJSON_ParseWithLengthOpts(text.data, text.size, &end, false);
    if (*root == NULL && out_of_memory) {
        return kln_fail_memory(text.size, "a manifest");
    }
    if (*root == NULL) {
        return kln_fail(KILN_ERROR_MALFORMED,
                        "no JSON from byte %td on; delete the manifest to load without it",
                        end != NULL ? end - (const char *)text.data : 0);
    }
    return KILN_OK;
}

static bool fits(const kln_manifest *manifest, kiln_span bytes, uint64_t hash)
{
    return manifest->size == bytes.size && manifest->hash == hash;
}

kiln_status kln_manifest_parse(kiln_span text, kiln_span bytes, kln_manifest *manifest)
{
    cJSON *root = NULL;
    uint64_t hash = 0;
    *manifest = (kln_manifest){.size = 0};
    KLN_RETURN_IF_ERROR(parse(text, &root));
    kiln_status status = read_fields(root, manifest);
    if (status == KILN_OK && manifest->backend[0] == '\0') {
        status = kln_fail(KILN_ERROR_MALFORMED,
                          "\"backend\" is empty; delete the manifest to load without it");
    }
    const cJSON *previous = cJSON_GetObjectItemCaseSensitive(root, PREVIOUS);
    kln_manifest other = {.size = 0};
    if (status == KILN_OK && cJSON_IsObject(previous)) {
        status = read_fields(previous, &other);
    }
    /* A file of another size is another file; no hash is needed to see it. */
    if (status == KILN_OK && (manifest->size == bytes.size || other.size == bytes.size)) {
        hash = kln_hash_bytes(bytes.data, bytes.size);
    }
    if (status == KILN_OK && !fits(manifest, bytes, hash) && fits(&other, bytes, hash)) {
        *manifest = other;
    }
    cJSON_Delete(root);
    if (status != KILN_OK) {
        *manifest = (kln_manifest){.size = 0};
    }
    manifest->found_size = bytes.size;
    manifest->found_hash = hash;
    return status;
}

kiln_status kln_manifest_read(const char *path, kiln_span bytes, kln_manifest *manifest)
{
    *manifest = (kln_manifest){.size = 0};
    char *beside = NULL;
    KLN_RETURN_IF_ERROR(manifest_path(path, &beside));
    kiln_status status = KILN_OK;
    kln_mapping mapping = {.mapped = NULL};
    if (kln_file_exists(beside)) {
        status = kln_mapping_open(beside, &mapping);
    }
    if (status == KILN_OK && mapping.bytes.size != 0) {
        status = kln_manifest_parse(mapping.bytes, bytes, manifest);
        if (status != KILN_OK) {
            status = kln_fail_within(status, "\"%s\"", beside);
        }
    }
    kln_mapping_close(&mapping);
    kln_free(beside);
    return status;
}

/* --- placing a model and its manifest --- */

/* While a save goes on, the manifest speaks of two files: the one that is about to come, and the
 * one that lies there. Whichever a reader opens, or finds after this process was killed, it is told
 * of.
 */

/* What tells a file that lies there without a manifest. */
static cJSON *entry_of_stranger(kiln_span bytes)
{
    char hash[17];
    (void)snprintf(hash, sizeof hash, "%016" PRIx64, kln_hash_bytes(bytes.data, bytes.size));
    cJSON *entry = cJSON_CreateObject();
    if (entry != NULL && cJSON_AddNumberToObject(entry, "size", (double)bytes.size) != NULL &&
        cJSON_AddStringToObject(entry, "xxh3_64", hash) != NULL &&
        cJSON_AddStringToObject(entry, "backend", "") != NULL &&
        cJSON_AddStringToObject(entry, "backend_version", "") != NULL) {
        return entry;
    }
    cJSON_Delete(entry);
    return NULL;
}

static bool speaks_of(const cJSON *entry, kiln_span bytes)
{
    kln_manifest read = {.size = 0};
    return entry != NULL && read_fields(entry, &read) == KILN_OK &&
           fits(&read, bytes, kln_hash_bytes(bytes.data, bytes.size));
}

/* Of an old manifest the entry of the file with `bytes`. There are two after a save that was cut
 * short; a single one is believed. */
static cJSON *entry_of_old(cJSON *root, kiln_span bytes)
{
    cJSON *previous = cJSON_DetachItemFromObjectCaseSensitive(root, PREVIOUS);
    if (speaks_of(previous, bytes)) {
        cJSON_Delete(root);
        return previous;
    }
    cJSON_Delete(previous);
    return root;
}

/* Opens `path` where a file lies there; OUT_OF_MEMORY alone fails. */
static kiln_status open_if_there(const char *path, kln_mapping *mapping)
{
    kln_message before;
    *mapping = (kln_mapping){.mapped = NULL};
    kln_message_keep(&before);
    const kiln_status status = kln_file_exists(path) ? kln_mapping_open(path, mapping) : KILN_OK;
    if (status == KILN_ERROR_OUT_OF_MEMORY) {
        return status;
    }
    kln_message_restore(&before);
    return KILN_OK;
}

/* The entry of the file whose bytes are given, from the text of the old manifest. One that cannot
 * be read is replaced as it is. */
static kiln_status find_entry(kiln_span file, kiln_span text, cJSON **entry)
{
    if (text.size == 0) {
        *entry = entry_of_stranger(file);
        return *entry != NULL ? KILN_OK : kln_fail_memory(1024, "a manifest");
    }
    kln_message before;
    kln_message_keep(&before);
    const kiln_status status = parse(text, entry);
    if (status == KILN_ERROR_OUT_OF_MEMORY) {
        return status;
    }
    if (status == KILN_OK) {
        *entry = entry_of_old(*entry, file);
    }
    kln_message_restore(&before);
    return KILN_OK;
}

/* The entry of the file that lies at `path` now; NULL where there is none. */
static kiln_status read_old(const char *path, const char *beside, cJSON **entry)
{
    kln_mapping file;
    kln_mapping text = {.mapped = NULL};
    *entry = NULL;
    KLN_RETURN_IF_ERROR(open_if_there(path, &file));
    kiln_status status = open_if_there(beside, &text);
    if (status == KILN_OK && file.bytes.size > 0) {
        status = find_entry(file.bytes, text.bytes, entry);
    }
    kln_mapping_close(&text);
    kln_mapping_close(&file);
    return status;
}

/* All is written before the first of them is put in its place. */
static kiln_status place(const char *path, const char *beside, cJSON *root, kln_output *file)
{
    kln_output both = {.descriptor = -1};
    kln_output last = {.descriptor = -1};
    cJSON *old = NULL;
    kiln_status status = prepare(beside, root, &last);
    if (status == KILN_OK) {
        status = read_old(path, beside, &old);
    }
    if (status == KILN_OK && old != NULL) {
        if (cJSON_AddItemToObject(root, PREVIOUS, old)) {
            status = prepare(beside, root, &both);
        } else {
            cJSON_Delete(old);
            status = kln_fail_memory(1024, "a manifest");
        }
    }
    if (status == KILN_OK && old != NULL) {
        status = kln_output_commit(&both);
    } else if (status == KILN_OK) {
        status = kln_output_commit(&last);
    }
    if (status == KILN_OK) {
        status = kln_output_commit(file);
    }
    if (status == KILN_OK && old != NULL) {
        status = kln_output_commit(&last);
    }
    kln_output_discard(&both);
    kln_output_discard(&last);
    return status;
}

kiln_status kln_manifest_place(const char *path, const kiln_engine *engine, kiln_span bytes,
                               kln_output *file)
{
    use_kiln_heap();
    char *beside = NULL;
    int lock = -1;
    KLN_RETURN_IF_ERROR(manifest_path(path, &beside));
    cJSON *root = cJSON_CreateObject();
    kiln_status status = root != NULL && fill(root, path, engine, bytes)
                             ? kln_folder_lock(path, &lock)
                             : kln_fail_memory(1024, "a manifest");
    if (status == KILN_OK) {
        status = place(path, beside, root, file);
    }
    kln_folder_unlock(lock);
    cJSON_Delete(root);
    kln_free(beside);
    return status;
}

kiln_status kln_manifest_write(const kiln_engine *engine, kiln_span bytes, char **text)
{
    use_kiln_heap();
    cJSON *root = cJSON_CreateObject();
    *text = root != NULL && fill(root, "", engine, bytes) ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    return *text != NULL ? KILN_OK : kln_fail_memory(1024, "a manifest");
}

kiln_status kln_manifest_check_file(const kln_manifest *manifest, const char *path)
{
    const char *name = path != NULL ? path : "a model in memory";
    char advice[PATH_MAX + 32] = "load it without the manifest";
    if (path != NULL) {
        (void)snprintf(advice, sizeof advice, "delete \"%s" SUFFIX "\"", path);
    }
    if (manifest->size != manifest->found_size) {
        return kln_fail(KILN_ERROR_MISMATCH,
                        "\"%s\": %" PRIu64 " bytes were found, its manifest says %" PRIu64
                        "; the file was cut or replaced: save the engine again, or %s",
                        name, manifest->found_size, manifest->size, advice);
    }
    if (manifest->hash != manifest->found_hash) {
        return kln_fail(KILN_ERROR_MISMATCH,
                        "\"%s\": its hash is %016" PRIx64 ", its manifest says %016" PRIx64
                        "; the file was changed: save the engine again, or %s",
                        name, manifest->found_hash, manifest->hash, advice);
    }
    return KILN_OK;
}

static bool is_refusal(kiln_status status)
{
    return status == KILN_ERROR_MALFORMED || status == KILN_ERROR_MISMATCH ||
           status == KILN_ERROR_BACKEND || status == KILN_ERROR_UNSUPPORTED;
}

kiln_status kln_manifest_explain(kiln_status status, const kln_manifest *manifest,
                                 const kiln_build_options *options)
{
    if (!is_refusal(status) || !manifest->is_plan) {
        return status;
    }
    char why[1024];
    (void)snprintf(why, sizeof why, "%s", kiln_error_message());
    const kln_backend *backend = NULL;
    kiln_backend_info info = {.struct_size = sizeof info};
    if (kln_backend_select(manifest->backend, options->library, &backend, &info) == KILN_OK &&
        strcmp(info.version, manifest->backend_version) != 0) {
        return kln_fail(
            KILN_ERROR_MISMATCH,
            "it was built version compatible with %s %s, and %s does not take it; build "
            "it again from the model or install that version: %s",
            manifest->backend, manifest->backend_version, info.version, why);
    }
    kiln_device_info here = {.struct_size = sizeof here};
    if (manifest->gpu_capability != 0 && kln_cuda_device_info(options->device, &here) == KILN_OK &&
        here.compute_major * 10 + here.compute_minor != manifest->gpu_capability) {
        return kln_fail(
            KILN_ERROR_MISMATCH,
            "it was built for %s of compute capability %d.%d, device %d is %s of %d.%d; "
            "build it again from the model: %s",
            manifest->gpu[0] != '\0' ? manifest->gpu : "a GPU", manifest->gpu_capability / 10,
            manifest->gpu_capability % 10, options->device, here.name, here.compute_major,
            here.compute_minor, why);
    }
    return kln_fail(status, "%s", why);
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
