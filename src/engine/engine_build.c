/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "engine_cache.h"
#include "graph/kln_graph.h"

/* Options that ask for something the backend does not have must not be ignored silently. */
static kiln_status check_taken(const kiln_backend *backend, const kiln_build_options *options)
{
    const kln_option *option = kln_options_beyond(options, KLN_OPTIONS_ANY | backend->options);
    KLN_RETURN_IF(options->device > 0 && backend->engine.device == NULL, KILN_ERROR_NO_DEVICE,
                  "kiln_build_options: \"device\" is %d, but the backend %s computes on the CPU; "
                  "leave it out, or name a backend for GPUs",
                  options->device, backend->name);
    return option == NULL ? KILN_OK
                          : kln_fail(KILN_ERROR_UNSUPPORTED,
                                     "kiln_build_options: \"%s\" is set, which the backend %s does "
                                     "not take; it is for %s",
                                     option->shown.name, backend->name, option->shown.group);
}

/* A file in one backend's own format cannot be read by another backend, nor built from. */
static kiln_status check_format(const kiln_model *model, const kiln_backend *backend, bool load)
{
    const char *what = NULL;
    const kiln_backend *owner = kln_backend_of(model->bytes, &what);
    const char *source = model->path != NULL ? model->path : "what is in memory";
    if (owner == NULL || (owner == backend && load)) {
        return KILN_OK;
    }
    KLN_RETURN_IF(owner != backend, KILN_ERROR_MISMATCH,
                  "%s is %s, which the backend %s cannot read; the backend %s can", source, what,
                  backend->name, owner->name);
    return kln_fail(
        KILN_ERROR_MALFORMED,
        model->path != NULL
            ? "%s is %s already, and no model to build one from; kiln_engine_load loads it"
            : "%s is %s already, and no model to build one from; kiln_engine_load_bytes loads it",
        source, what);
}

/* Only a model in memory needs to be told where its weights are. */
static kiln_status name_folder(kiln_model *model, const char *folder)
{
    if (folder == NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF(
        model->path != NULL || model->graph != NULL, KILN_ERROR_INVALID_ARGUMENT,
        "kiln_build_options: weights_folder is \"%s\", which only a model in memory needs; %s; "
        "leave it out",
        folder,
        model->path != NULL ? "the weights of a file lie beside it" : "a network has its weights");
    model->folder = folder;
    return KILN_OK;
}

static kiln_status make_once(const kiln_model *asked, const kiln_build_options *options, bool load,
                             const kiln_monitor *monitor, kiln_engine **engine)
{
    kiln_model placed = *asked;
    const kiln_model *model = &placed;
    KLN_RETURN_IF_ERROR(name_folder(&placed, options->weights_folder));
    const kiln_backend *backend = NULL;
    kiln_backend_info info = {.struct_size = sizeof info};
    KLN_RETURN_IF_ERROR(kln_backend_select(options->backend, options->library, &backend, &info));
    KLN_RETURN_IF_ERROR(check_format(model, backend, load));
    KLN_RETURN_IF_ERROR(check_taken(backend, options));
    KLN_SCOPED(kln_onnx_model_destroy_at) kln_onnx_model *read = NULL;
    KLN_SCOPED(kln_text_finish)
    kln_text written; /* used only by backends that need a network as bytes */
    placed.read = asked->read != NULL ? asked->read : &read;
    placed.written = &written;
    kln_text_init(&written, KLN_ONNX_MESSAGE_LIMIT);
    return kln_engine_cache_takes(backend, model, options)
               ? kln_engine_make_cached(backend, &info, model, options, load, monitor, engine)
               : kln_engine_make_anew(backend, &info, model, options, load, monitor, engine);
}

/* Whether a retry is worthwhile, with the file that has replaced the one at this path. */
static bool was_replaced(kiln_status status, const kln_mapping *file, const char *path,
                         int replaced)
{
    return status != KILN_OK && status != KILN_ERROR_CANCELLED &&
           status != KILN_ERROR_OUT_OF_MEMORY && replaced < KLN_MOST_REPLACED &&
           kln_mapping_was_replaced(file, path);
}

kiln_status kln_engine_make(const kiln_model *asked, const kiln_build_options *options, bool load,
                            const kiln_monitor *monitor, kiln_engine **engine)
{
    kln_mapping newer = {.mapped = NULL};
    kiln_model model = *asked;
    kiln_status status = make_once(&model, options, load, monitor, engine);
    for (int replaced = 0;
         !load && model.file != NULL && was_replaced(status, model.file, model.path, replaced);
         replaced++) {
        const bool copy = kln_mapping_is_copy(model.file);
        kln_mapping_close(&newer);
        KLN_RETURN_IF_ERROR(kln_mapping_open_as(model.path, copy, &newer));
        model.file = &newer;
        model.bytes = newer.bytes;
        status = make_once(&model, options, load, monitor, engine);
    }
    kln_mapping_close(&newer);
    return status;
}

kiln_status kiln_engine_build_file(const char *path, const kiln_build_options *options,
                                   kiln_engine **engine)
{
    KLN_RETURN_IF_NULL_RESULT(engine, path);
    kiln_build_options read;
    KLN_RETURN_IF_ERROR(kln_build_options_read(options, &read));
    KLN_SCOPED(kln_mapping_close) kln_mapping mapping = {0};
    KLN_RETURN_IF_ERROR(kln_mapping_open_as(path, read.copy_file, &mapping));
    const kiln_model model = {.path = path, .file = &mapping, .bytes = mapping.bytes};
    return kln_engine_make(&model, &read, false, NULL, engine);
}

static kiln_status check_bytes(const char *function, const char *what, kiln_span bytes)
{
    KLN_RETURN_IF(bytes.size == 0, KILN_ERROR_EMPTY, "%s: the model has 0 bytes", function);
    return bytes.data != NULL ? KILN_OK : kln_fail_null(function, what);
}

kiln_status kiln_engine_build_bytes(kiln_span model, const kiln_build_options *options,
                                    kiln_engine **engine)
{
    KLN_RETURN_IF_NULL_RESULT(engine);
    kiln_build_options read;
    KLN_RETURN_IF_ERROR(kln_build_options_read(options, &read));
    KLN_RETURN_IF_ERROR(check_bytes(__func__, "model.data", model));
    const kiln_model source = {.bytes = model};
    return kln_engine_make(&source, &read, false, NULL, engine);
}

/* Reports what is wrong with a network, for its backend and profiles, before a backend sees it. An
 * invalid network is rejected even if no backend is available. */
static kiln_status check_network(const kiln_network *network, const kln_onnx_model *model,
                                 const kiln_build_options *options)
{
    const kiln_backend *backend = NULL;
    kiln_backend_info info = {.struct_size = sizeof info};
    kiln_check_options how = KILN_CHECK_OPTIONS_INIT;
    kiln_issue_list *issues = NULL;
    const kiln_status selected =
        kln_backend_select(options->backend, options->library, &backend, &info);
    if (selected == KILN_ERROR_OUT_OF_MEMORY) {
        return selected;
    }
    how.backend = selected == KILN_OK ? backend->name : NULL;
    how.profiles = options->profiles;
    how.profile_count = options->profiles != NULL ? options->profile_count : 0;
    KLN_RETURN_IF_ERROR(kln_check_model(model, &how, options->provider, &issues));
    kiln_status status = kln_network_issues(network, &issues);
    KLN_THEN(status, kln_issues_status(issues));
    if (status != KILN_OK && options->issues != NULL) {
        *options->issues = issues;
    } else {
        kiln_issue_list_destroy(issues);
    }
    return status;
}

kiln_status kiln_engine_build(const kiln_network *network, const kiln_build_options *options,
                              kiln_engine **engine)
{
    KLN_RETURN_IF_NULL_RESULT(engine, network);
    kiln_build_options read;
    kiln_model model = {.path = NULL};
    KLN_RETURN_IF_ERROR(kln_build_options_read(options, &read));
    KLN_RETURN_IF_ERROR(kln_network_model(network, &model.graph));
    KLN_RETURN_IF_ERROR(check_network(network, model.graph, &read));
    return kln_engine_make(&model, &read, false, NULL, engine);
}

static kiln_status serialize(const char *function, const kiln_engine *engine, kiln_span *bytes)
{
    *bytes = (kiln_span){NULL, 0};
    KLN_RETURN_IF(engine->shared.backend->engine.serialize == NULL, KILN_ERROR_UNSUPPORTED,
                  "%s: an engine of the %s backend has nothing to save", function,
                  engine->shared.backend->name);
    const kiln_status status =
        engine->shared.backend->engine.serialize(engine->shared.state, bytes);
    if (status != KILN_OK) {
        *bytes = (kiln_span){NULL, 0};
    }
    return status;
}

/* Saving changes nothing that callers can see, but it must not run during a refit. */
static kln_shared *hold(const kiln_engine *engine)
{
    union {
        const kiln_engine *in;
        kiln_engine *out;
    } held = {.in = engine};
    kln_shared_hold_weights(&held.out->shared);
    return &held.out->shared;
}

kiln_status kiln_engine_save_bytes(const kiln_engine *engine, kiln_span *bytes)
{
    KLN_RETURN_IF_NULL(bytes);
    *bytes = (kiln_span){NULL, 0};
    KLN_RETURN_IF_NULL(engine);
    kln_shared *shared = hold(engine);
    const kiln_status status = serialize(__func__, engine, bytes);
    kln_shared_let_weights_go(shared);
    return status;
}

kiln_status kiln_engine_manifest(const kiln_engine *engine, char *text, size_t size, size_t *length)
{
    KLN_RETURN_IF_NULL_RESULT(length, engine);
    if (size > 0) {
        KLN_RETURN_IF_NULL(text);
        text[0] = '\0';
    }
    kiln_span bytes = {NULL, 0};
    KLN_SCOPED_FREE char *written = NULL;
    kln_shared *shared = hold(engine);
    kiln_status status = serialize(__func__, engine, &bytes);
    KLN_THEN(status, kln_manifest_write(engine, bytes, &written));
    kln_shared_let_weights_go(shared);
    KLN_RETURN_IF_ERROR(status);
    *length = strlen(written);
    if (size > 0) {
        (void)snprintf(text, size, "%s", written);
        status =
            *length < size
                ? KILN_OK
                : kln_fail(KILN_ERROR_LIMIT,
                           "kiln_engine_manifest: room for %zu bytes was given, %zu are needed",
                           size, *length + 1);
    }
    return status;
}

static kiln_status save(const char *function, const kiln_engine *engine, const char *path)
{
    kiln_span bytes = {NULL, 0};
    KLN_RETURN_IF_ERROR(serialize(function, engine, &bytes));
    KLN_SCOPED(kln_output_discard) kln_output file = {.descriptor = -1};
    KLN_RETURN_IF_ERROR(kln_output_open(path, &file));
    KLN_RETURN_IF_ERROR(kln_output_write(&file, bytes.data, bytes.size));
    KLN_RETURN_IF_ERROR(kln_output_flush(&file));
    /* A pipe or a device gets no manifest. */
    return kln_output_replaces(&file) ? kln_manifest_place(path, engine, bytes, &file)
                                      : kln_output_commit(&file);
}

kiln_status kiln_engine_save(const kiln_engine *engine, const char *path)
{
    KLN_RETURN_IF_NULL(engine, path);
    kln_shared *shared = hold(engine);
    const kiln_status status = save(__func__, engine, path);
    kln_shared_let_weights_go(shared);
    return status;
}

static kiln_status load(const kiln_model *model, const kiln_build_options *options,
                        const kln_manifest *manifest, const kiln_monitor *monitor,
                        kiln_engine **engine)
{
    kiln_build_options chosen = *options;
    char names[KLN_PROFILE_NAMES];
    memcpy(names, manifest->profile_names, sizeof names);
    KLN_RETURN_IF_ERROR(kln_manifest_obey(manifest, model, &chosen));
    kiln_status status = kln_engine_make(model, &chosen, true, monitor, engine);
    if (status != KILN_OK) {
        status = kln_manifest_explain(status, manifest, &chosen);
    } else {
        status = kln_profile_names_restore(*engine, names);
        KLN_THEN(status, kln_manifest_restore(manifest, *engine));
        if (status != KILN_OK) {
            kiln_engine_release(*engine);
            *engine = NULL;
        }
    }
    const bool moved =
        chosen.provider == KILN_PROVIDER_CUDA && options->provider != KILN_PROVIDER_CUDA;
    return status != KILN_OK && moved
               ? kln_fail_within(status, "the manifest of \"%s\" says that it computes on a GPU",
                                 kln_model_name(model))
               : status;
}

static kiln_status load_file(const char *path, const kln_mapping *file,
                             const kiln_build_options *options, const kln_manifest *manifest,
                             const kiln_monitor *monitor, kiln_engine **engine)
{
    const kiln_model model = {.path = path, .file = file, .bytes = file->bytes};
    return load(&model, options, manifest, monitor, engine);
}

kiln_status kiln_engine_load_bytes(kiln_span bytes, kiln_span manifest,
                                   const kiln_build_options *options, kiln_engine **engine)
{
    KLN_RETURN_IF_NULL_RESULT(engine);
    kiln_build_options read;
    KLN_SCOPED(kln_manifest_finish) kln_manifest parsed = {.size = 0};
    const kiln_model model = {.bytes = bytes};
    KLN_RETURN_IF_ERROR(kln_build_options_read(options, &read));
    KLN_RETURN_IF_ERROR(check_bytes(__func__, "bytes.data", bytes));
    if (manifest.size > 0) {
        KLN_FAIL_IF(manifest.data == NULL, kln_fail_null(__func__, "manifest.data"));
        KLN_RETURN_WITHIN(kln_manifest_parse(manifest, bytes, &parsed), "the manifest of %s",
                          kln_model_name(&model));
    }
    return load(&model, &read, &parsed, NULL, engine);
}

kiln_status kln_engine_load(const kiln_model *model, const kiln_build_options *options,
                            kiln_engine **engine)
{
    KLN_SCOPED(kln_manifest_finish) kln_manifest manifest = {0};
    KLN_RETURN_IF_ERROR(kln_manifest_read(model->path, model->bytes, &manifest));
    return load(model, options, &manifest, NULL, engine);
}

/* Opens a file and its manifest. If they do not match and the file has been replaced, somebody
 * saved in between: open the new pair. */
static kiln_status open_pair(const char *path, bool copy, kln_mapping *file, kln_manifest *manifest)
{
    for (;;) {
        KLN_RETURN_IF_ERROR(kln_mapping_open_as(path, copy, file));
        kiln_status status = kln_manifest_read(path, file->bytes, manifest);
        const bool fits = status == KILN_OK && (manifest->backend[0] == '\0' ||
                                                kln_manifest_check_file(manifest, path) == KILN_OK);
        if (fits || kln_mapping_is_at(file, path)) {
            if (status != KILN_OK) {
                kln_mapping_close(file);
            }
            return status;
        }
        kln_manifest_finish(manifest);
        kln_mapping_close(file);
    }
}

kiln_status kiln_engine_load(const char *path, const kiln_build_options *options,
                             kiln_engine **engine)
{
    KLN_RETURN_IF_NULL_RESULT(engine, path);
    kiln_build_options read;
    KLN_RETURN_IF_ERROR(kln_build_options_read(options, &read));
    return kln_engine_load_path(path, &read, NULL, engine);
}

kiln_status kln_engine_load_path(const char *path, const kiln_build_options *options,
                                 const kiln_monitor *monitor, kiln_engine **engine)
{
    for (int replaced = 0;; replaced++) {
        kln_mapping file;
        kln_manifest manifest;
        KLN_RETURN_IF_ERROR(open_pair(path, options->copy_file, &file, &manifest));
        const kiln_status status = load_file(path, &file, options, &manifest, monitor, engine);
        const bool again = was_replaced(status, &file, path, replaced);
        kln_manifest_finish(&manifest);
        kln_mapping_close(&file);
        if (!again) {
            return status;
        }
    }
}
