/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <cJSON.h>
#include <kiln/version.h>

#include "cuda/kln_cuda.h"
#include "kln_engine.h"

/* While a save is in progress: the manifest of the file that is being replaced. */
#define PREVIOUS "previous"
/* A manifest has some dozens of short lines, and possibly scales and the shape of each matrix that
 * a refit may replace; anything larger is not a manifest. While a save is in progress, it has two
 * entries. */
#define LARGEST_MANIFEST ((size_t)1 << 24)
#define LARGEST_ENTRY (LARGEST_MANIFEST / 2)

/* A manifest's path; opening a path that is too long fails. */
typedef char manifest_path[PATH_MAX + sizeof KLN_MANIFEST_SUFFIX];

static const char *path_beside(const char *path, manifest_path beside)
{
    (void)snprintf(beside, sizeof(manifest_path), "%.*s" KLN_MANIFEST_SUFFIX, PATH_MAX, path);
    return beside;
}

/* --- writing --- */

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* The options that were set, as text, except for pointers and options that depend on the
 * machine. */
static bool add_options(cJSON *root, const kiln_build_options *options)
{
    cJSON *object = cJSON_AddObjectToObject(root, "options");
    bool added = object != NULL;
    for (const kln_option *option = kln_options; added && option->groups != 0; option++) {
        const bool machines = option->shown.loads && !option->shown.saved;
        if (option->shown.kind < KILN_OPTION_TEXT && !machines &&
            kln_option_is_set(option, options)) {
            kln_text text;
            kln_text_init(&text, LARGEST_MANIFEST);
            added = kln_option_format(option, options, &text) == KILN_OK &&
                    cJSON_AddStringToObject(object, option->shown.name, text.data) != NULL;
            kln_text_finish(&text);
        }
    }
    return added;
}

static bool add_measured(cJSON *root, const kiln_engine *engine)
{
    KLN_LOCKED(&engine->shared.measured->mutex);
    return measured_variants_write(&engine->shared.measured->variants, root);
}

/* By name and compute capability: a device number means nothing on another machine. */
static bool add_gpu(cJSON *root, int32_t device)
{
    kiln_device_info info = {.struct_size = sizeof info};
    if (device < 0 || kln_cuda_device_info(device, &info) != KILN_OK) {
        return true;
    }
    return cJSON_AddStringToObject(root, "gpu", info.name) != NULL &&
           cJSON_AddStringToObject(root, "compute_capability",
                                   KLN_PRINTED("%d.%d", info.compute_major, info.compute_minor)) !=
               NULL;
}

static bool add_hash(cJSON *root, kiln_span bytes)
{
    return cJSON_AddNumberToObject(root, "size", (double)bytes.size) != NULL &&
           cJSON_AddStringToObject(
               root, "xxh3_64",
               KLN_PRINTED("%016" PRIx64, kln_hash_bytes(bytes.data, bytes.size))) != NULL;
}

static bool fill(cJSON *root, const char *path, const kiln_engine *engine, kiln_span bytes)
{
    const bool native = (engine->shared.info.capabilities & KILN_CAPABILITY_NATIVE_PLAN) != 0;
    return cJSON_AddStringToObject(root, "kiln", kiln_version_string()) != NULL &&
           cJSON_AddStringToObject(root, "file", name_of(path)) != NULL &&
           cJSON_AddStringToObject(root, "format", native ? "plan" : "onnx") != NULL &&
           add_hash(root, bytes) &&
           cJSON_AddStringToObject(root, "backend", engine->shared.info.name) != NULL &&
           cJSON_AddStringToObject(root, "backend_version", engine->shared.info.version) != NULL &&
           cJSON_AddStringToObject(root, "source", name_of(engine->source)) != NULL &&
           add_gpu(root, engine->shared.device) && add_options(root, &engine->built) &&
           add_measured(root, engine) && kln_profile_names_write(engine, root) &&
           kln_quantization_write(engine, root) && kln_weight_shapes_write(engine, root);
}

static void free_text(char **text)
{
    cJSON_free(*text);
}

static size_t part_size(const cJSON *root, const char *key)
{
    return (size_t)cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(root, key));
}

/* A registered backend may have a version of any length, but the reader has fixed-size buffers. */
static kiln_status check_texts(const cJSON *root)
{
    static const struct {
        const char *key;
        size_t room;
    } texts[] = {{"backend", sizeof((kln_manifest *)0)->backend},
                 {"backend_version", sizeof((kln_manifest *)0)->backend_version},
                 {"gpu", sizeof((kln_manifest *)0)->gpu}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(texts); i++) {
        const char *text =
            cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, texts[i].key));
        KLN_RETURN_IF(text != NULL && strlen(text) >= texts[i].room, KILN_ERROR_LIMIT,
                      "the manifest's \"%s\" would have %zu bytes, and %zu can be read: \"%.100s\"",
                      texts[i].key, strlen(text), texts[i].room - 1, text);
    }
    return KILN_OK;
}

/* Prints `root`, unless the text is too long to be read again. Not `filled`: memory ran out. */
static kiln_status print(const cJSON *root, bool filled, size_t most, char **text)
{
    KLN_SCOPED(free_text) char *printed = filled ? cJSON_Print(root) : NULL;
    *text = NULL;
    KLN_RETURN_IF_NO_MEMORY(printed, 1024, "a manifest");
    KLN_RETURN_IF_ERROR(check_texts(root));
    const size_t size = strlen(printed);
    KLN_RETURN_IF(size > most, KILN_ERROR_LIMIT,
                  "the manifest would have %zu bytes, and %zu can be read: it has the scales of "
                  "%zu inputs and outputs, and the shapes of %zu weights that a refit may replace; "
                  "build without refit, or give the weights shorter names",
                  size, most, part_size(root, KLN_MANIFEST_QUANTIZATION),
                  part_size(root, KLN_MANIFEST_WEIGHT_SHAPES));
    *text = KLN_TAKE(printed);
    return KILN_OK;
}

/* Writes `root` to `output`; committing that puts it at `beside`. */
static kiln_status prepare(const char *beside, const cJSON *root, size_t most, kln_output *output)
{
    KLN_SCOPED(free_text) char *text = NULL;
    KLN_RETURN_IF_ERROR(print(root, true, most, &text));
    KLN_RETURN_IF_ERROR(kln_output_open(beside, output));
    KLN_RETURN_IF_ERROR(kln_output_write(output, text, strlen(text)));
    KLN_RETURN_IF_ERROR(kln_output_write(output, "\n", 1));
    return kln_output_flush(output);
}

/* --- reading --- */

/* If `optional`, a missing key leaves `out` unchanged. */
static kiln_status read_text(const cJSON *root, const char *key, bool optional, char *out,
                             size_t size)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, key);
    const char *text = cJSON_GetStringValue(item);
    if (item == NULL && optional) {
        return KILN_OK;
    }
    KLN_RETURN_IF(text == NULL || strlen(text) >= size, KILN_ERROR_MALFORMED,
                  "\"%s\" must be a text of less than %zu bytes" KLN_MANIFEST_ADVICE, key, size);
    memcpy(out, text, strlen(text) + 1);
    return KILN_OK;
}

static kiln_status read_options(const cJSON *object, kiln_build_options *options)
{
    for (const kln_option *option = kln_options; option->groups != 0; option++) {
        char text[64] = "";
        if (option->shown.kind >= KILN_OPTION_TEXT) {
            continue;
        }
        KLN_RETURN_IF_ERROR(read_text(object, option->shown.name, true, text, sizeof text));
        if (text[0] != '\0' && kln_option_parse(option, text, NULL, options) != KILN_OK) {
            kln_message why;
            kln_message_keep(&why);
            return kln_fail(KILN_ERROR_MALFORMED, "\"options\": %.900s" KLN_MANIFEST_ADVICE,
                            why.text);
        }
    }
    return KILN_OK;
}

static kiln_status read_gpu(const cJSON *root, kln_manifest *manifest)
{
    char text[16] = "";
    char *end = text;
    KLN_RETURN_IF_ERROR(read_text(root, "gpu", true, manifest->gpu, sizeof manifest->gpu));
    KLN_RETURN_IF_ERROR(read_text(root, "compute_capability", true, text, sizeof text));
    const long major = strtol(text, &end, 10);
    const long minor = *end == '.' ? strtol(end + 1, &end, 10) : 0;
    KLN_RETURN_IF(
        *end != '\0' || major < 0 || major > 1000 || minor < 0 || minor > 9, KILN_ERROR_MALFORMED,
        "\"compute_capability\" is \"%s\", a text like \"9.0\" is needed" KLN_MANIFEST_ADVICE,
        text);
    manifest->gpu_capability = (int32_t)(major * 10 + minor);
    return KILN_OK;
}

static kiln_status read_fields(const cJSON *root, kln_manifest *manifest)
{
    char hash[17];
    char format[16] = "";
    KLN_RETURN_IF_ERROR(
        read_text(root, "backend", false, manifest->backend, sizeof manifest->backend));
    KLN_RETURN_IF_ERROR(read_text(root, "backend_version", false, manifest->backend_version,
                                  sizeof manifest->backend_version));
    KLN_RETURN_IF_ERROR(read_text(root, "format", true, format, sizeof format));
    KLN_RETURN_IF_ERROR(read_text(root, "xxh3_64", false, hash, sizeof hash));
    char *end = NULL;
    manifest->is_plan = strcmp(format, "plan") == 0;
    manifest->hash = strtoull(hash, &end, 16);
    const cJSON *size = cJSON_GetObjectItemCaseSensitive(root, "size");
    KLN_RETURN_IF(*end != '\0' || strlen(hash) != 16 || !cJSON_IsNumber(size) ||
                      size->valuedouble < 1 || size->valuedouble > KLN_JSON_LARGEST_INTEGER,
                  KILN_ERROR_MALFORMED,
                  "\"size\" must be a number of bytes from 1 on and \"xxh3_64\" a hash of 16 "
                  "hexadecimal digits" KLN_MANIFEST_ADVICE);
    manifest->size = (uint64_t)size->valuedouble;
    KLN_RETURN_IF_ERROR(read_gpu(root, manifest));
    KLN_RETURN_IF_ERROR(measured_variants_read(&manifest->measured, root));
    KLN_RETURN_IF_ERROR(kln_profile_names_read(root, manifest->profile_names));
    return read_options(cJSON_GetObjectItemCaseSensitive(root, "options"), &manifest->options);
}

static kiln_status parse(kiln_span text, cJSON **root)
{
    return kln_json_parse(text, LARGEST_MANIFEST, "a manifest", KLN_MANIFEST_ADVICE, root);
}

static bool fits(const kln_manifest *manifest, kiln_span bytes, uint64_t hash)
{
    return manifest->size == bytes.size && manifest->hash == hash;
}

/* Detaches a part that the engine reads itself; NULL if it is missing. */
static kiln_status take_part(cJSON *root, const char *key, const char *kind,
                             cJSON_bool (*is)(const cJSON *), cJSON **part)
{
    cJSON *found = cJSON_GetObjectItemCaseSensitive(root, key);
    KLN_RETURN_IF(found != NULL && !is(found), KILN_ERROR_MALFORMED,
                  "\"%s\" must be %s" KLN_MANIFEST_ADVICE, key, kind);
    *part = found != NULL ? cJSON_DetachItemViaPointer(root, found) : NULL;
    return KILN_OK;
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
                          "\"backend\" is empty; it must name the backend that the engine is "
                          "for" KLN_MANIFEST_ADVICE);
    }
    cJSON *previous = cJSON_GetObjectItemCaseSensitive(root, PREVIOUS);
    cJSON *entry = root;
    kln_manifest other = {.size = 0};
    if (status == KILN_OK && cJSON_IsObject(previous)) {
        status = read_fields(previous, &other);
    }
    /* If the size differs, the file is another one, and hashing it is unnecessary. */
    if (status == KILN_OK && (manifest->size == bytes.size || other.size == bytes.size)) {
        hash = kln_hash_bytes(bytes.data, bytes.size);
    }
    if (status == KILN_OK && !fits(manifest, bytes, hash) && fits(&other, bytes, hash)) {
        *manifest = other;
        entry = previous;
    }
    KLN_THEN(status, take_part(entry, KLN_MANIFEST_QUANTIZATION, "a list", cJSON_IsArray,
                               &manifest->quantization));
    KLN_THEN(status, take_part(entry, KLN_MANIFEST_WEIGHT_SHAPES, "an object", cJSON_IsObject,
                               &manifest->weight_shapes));
    cJSON_Delete(root);
    if (status != KILN_OK) {
        kln_manifest_finish(manifest);
        *manifest = (kln_manifest){.size = 0};
    }
    manifest->found_size = bytes.size;
    manifest->found_hash = hash;
    return status;
}

void kln_manifest_finish(kln_manifest *manifest)
{
    cJSON_Delete(manifest->quantization);
    cJSON_Delete(manifest->weight_shapes);
    manifest->quantization = NULL;
    manifest->weight_shapes = NULL;
}

kiln_status kln_manifest_read(const char *path, kiln_span bytes, kln_manifest *manifest)
{
    *manifest = (kln_manifest){.size = 0};
    manifest_path beside;
    kiln_status status = KILN_OK;
    KLN_SCOPED(kln_mapping_close) kln_mapping mapping = {.mapped = NULL};
    if (kln_file_exists(path_beside(path, beside))) {
        status = kln_mapping_open(beside, &mapping);
    }
    if (status == KILN_OK && mapping.bytes.size != 0) {
        status = kln_manifest_parse(mapping.bytes, bytes, manifest);
        if (status != KILN_OK) {
            status = kln_fail_within(status, "\"%s\"", beside);
        }
    }
    return status;
}

/* --- saving a model with its manifest --- */

/* While a save is in progress, the manifest describes two files: the new one and the one it
 * replaces. Whichever a reader opens, even after this process was killed, the manifest matches
 * it. */

/* The entry for an existing file that has no manifest. */
static cJSON *entry_of_stranger(kiln_span bytes)
{
    cJSON *entry = cJSON_CreateObject();
    if (entry != NULL && add_hash(entry, bytes) &&
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

/* The entry of the old manifest that describes the file with these bytes. After an interrupted save
 * there are two; a single one is used without a check. */
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

/* Maps the file at `path` if there is one. Fails only with OUT_OF_MEMORY. */
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

/* Finds the entry of the given file in the text of the old manifest. A manifest that cannot be read
 * is simply replaced. */
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

/* The entry of the file that is at `path` now; NULL if there is none. */
static kiln_status read_old(const char *path, const char *beside, cJSON **entry)
{
    KLN_SCOPED(kln_mapping_close) kln_mapping file = {0};
    KLN_SCOPED(kln_mapping_close) kln_mapping text = {.mapped = NULL};
    *entry = NULL;
    KLN_RETURN_IF_ERROR(open_if_there(path, &file));
    KLN_RETURN_IF_ERROR(open_if_there(beside, &text));
    if (file.bytes.size > 0) {
        KLN_RETURN_IF_ERROR(find_entry(file.bytes, text.bytes, entry));
    }
    return KILN_OK;
}

/* Writes everything before it renames the first file into place. */
static kiln_status place(const char *path, const char *beside, cJSON *root, kln_output *file)
{
    KLN_SCOPED(kln_output_discard) kln_output both = {.descriptor = -1};
    KLN_SCOPED(kln_output_discard) kln_output last = {.descriptor = -1};
    cJSON *old = NULL;
    KLN_RETURN_IF_ERROR(prepare(beside, root, LARGEST_ENTRY, &last));
    KLN_RETURN_IF_ERROR(read_old(path, beside, &old));
    if (old == NULL) {
        KLN_RETURN_IF_ERROR(kln_output_commit(&last));
        return kln_output_commit(file);
    }
    if (!cJSON_AddItemToObject(root, PREVIOUS, old)) {
        cJSON_Delete(old);
        return kln_fail_memory(1024, "a manifest");
    }
    KLN_RETURN_IF_ERROR(prepare(beside, root, LARGEST_MANIFEST, &both));
    KLN_RETURN_IF_ERROR(kln_output_commit(&both));
    KLN_RETURN_IF_ERROR(kln_output_commit(file));
    return kln_output_commit(&last);
}

kiln_status kln_manifest_place(const char *path, const kiln_engine *engine, kiln_span bytes,
                               kln_output *file)
{
    kln_json_begin();
    manifest_path beside;
    int lock = -1;
    cJSON *root = cJSON_CreateObject();
    kiln_status status = root != NULL && fill(root, path, engine, bytes)
                             ? kln_folder_lock(path, &lock)
                             : kln_fail_memory(1024, "a manifest");
    KLN_THEN(status, place(path, path_beside(path, beside), root, file));
    kln_folder_unlock(lock);
    cJSON_Delete(root);
    return status;
}

kiln_status kln_manifest_write(const kiln_engine *engine, kiln_span bytes, char **text)
{
    kln_json_begin();
    cJSON *root = cJSON_CreateObject();
    const bool filled = root != NULL && fill(root, "", engine, bytes);
    const kiln_status status = print(root, filled, LARGEST_ENTRY, text);
    cJSON_Delete(root);
    return status;
}

kiln_status kln_manifest_write_timings(const kiln_backend_info *info, int32_t device,
                                       kiln_span bytes, char **text)
{
    kln_json_begin();
    cJSON *root = cJSON_CreateObject();
    const bool filled =
        root != NULL && cJSON_AddStringToObject(root, "kiln", kiln_version_string()) != NULL &&
        cJSON_AddStringToObject(root, "format", "timings") != NULL && add_hash(root, bytes) &&
        cJSON_AddStringToObject(root, "backend", info->name) != NULL &&
        cJSON_AddStringToObject(root, "backend_version", info->version) != NULL &&
        add_gpu(root, device);
    const kiln_status status = print(root, filled, LARGEST_ENTRY, text);
    cJSON_Delete(root);
    return status;
}

void kln_manifest_look(kiln_span text, kln_manifest_facts *facts)
{
    cJSON *root = NULL;
    *facts = (kln_manifest_facts){.format = ""};
    KLN_MESSAGE_STAYS;
    if (parse(text, &root) == KILN_OK) {
        const struct {
            const char *key;
            char *out;
            size_t size;
        } fields[] = {{"format", facts->format, sizeof facts->format},
                      {"source", facts->source, sizeof facts->source},
                      {"backend", facts->backend, sizeof facts->backend},
                      {"backend_version", facts->version, sizeof facts->version},
                      {"gpu", facts->gpu, sizeof facts->gpu}};
        for (size_t i = 0; i < KLN_ARRAY_LENGTH(fields); i++) {
            const char *found =
                cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, fields[i].key));
            (void)snprintf(fields[i].out, fields[i].size, "%s", found != NULL ? found : "");
        }
    }
    cJSON_Delete(root);
}
