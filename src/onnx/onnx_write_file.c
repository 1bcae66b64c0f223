/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a model's file and the file of its weights. The weights' name contains a hash of their
 * contents, so that both change atomically: first the weights appear under a name that nothing
 * refers to yet, then the model replaces the old one, then the old weights are removed. */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "onnx_write.h"

#define SUFFIX ".data"
#define HASH_DIGITS ((size_t)16)
/* How much longer the weights' name is than the model's: ".0123456789abcdef.data". */
#define MORE (1 + HASH_DIGITS + sizeof SUFFIX - 1)

/* The file name in `path`; `*folder` is the length of the part before it. */
static const char *name_of(const char *path, size_t *folder)
{
    const char *slash = strrchr(path, '/');
    *folder = slash != NULL ? (size_t)(slash - path) + 1 : 0;
    return path + *folder;
}

static void put_hash(char *data_path, size_t length, uint64_t hash)
{
    (void)snprintf(data_path + length, MORE + 1, ".%016" PRIx64 SUFFIX, hash);
}

/* --- cleaning up old weights --- */

/* Whether a file of this name holds weights of the model named `model`. */
static bool is_weights_of(const char *name, const char *model)
{
    const size_t length = strlen(model);
    return strlen(name) == length + MORE && strncmp(name, model, length) == 0 &&
           name[length] == '.' && strspn(name + length + 1, "0123456789abcdef") == HASH_DIGITS &&
           strcmp(name + length + 1 + HASH_DIGITS, SUFFIX) == 0;
}

/* Removes the weights of previous models at `path`, and of saves that were killed. The folder is
 * locked, so no other save is about to refer to them. */
static void sweep(const char *path, const char *kept)
{
    size_t folder = 0;
    const char *name = name_of(path, &folder);
    char place[PATH_MAX];
    (void)snprintf(place, sizeof place, "%.*s", folder > 0 ? (int)folder : 1,
                   folder > 0 ? path : ".");
    DIR *directory = opendir(place);
    if (directory == NULL) {
        return;
    }
    for (const struct dirent *entry = readdir(directory); entry != NULL;
         entry = readdir(directory)) {
        if (is_weights_of(entry->d_name, name) && strcmp(entry->d_name, kept) != 0) {
            (void)unlinkat(dirfd(directory), entry->d_name, 0);
        }
    }
    (void)closedir(directory);
}

/* --- committing model and weights --- */

static kiln_status put_in_place(const kln_onnx_writer *writer, const char *path,
                                const char *data_path)
{
    int lock = -1;
    const bool has_data = writer->data_offset != 0;
    KLN_RETURN_IF_ERROR(kln_folder_lock(path, &lock));
    const bool was_there = has_data && kln_file_exists(data_path);
    kiln_status status = has_data ? kln_output_commit(writer->data) : KILN_OK;
    const bool stands_alone = has_data && status == KILN_OK && !was_there;
    KLN_THEN(status, kln_output_commit(writer->file));
    if (status != KILN_OK && stands_alone) {
        (void)unlink(data_path);
    }
    if (status == KILN_OK && lock >= 0 && !writer->refers) {
        sweep(path, has_data ? writer->location : "");
    }
    kln_folder_unlock(lock);
    return status;
}

static kiln_status open_weights(const kln_onnx_writer *writer, const char *path,
                                const char *data_path)
{
    KLN_RETURN_IF(!kln_output_replaces(writer->file), KILN_ERROR_UNSUPPORTED,
                  "\"%s\": a file of weights cannot lie beside a device or a pipe; keep the "
                  "weights inline",
                  path);
    KLN_RETURN_IF_ERROR(kln_output_open(data_path, writer->data));
    kln_output_take_after(writer->data, path);
    return KILN_OK;
}

static kiln_status write_files(kln_onnx_writer *writer, const kln_onnx_model *model,
                               const char *path, const char *data_path)
{
    const bool has_data = writer->data_offset != 0;
    KLN_RETURN_IF_ERROR(kln_output_open(path, writer->file));
    if (has_data) {
        KLN_RETURN_IF_ERROR(open_weights(writer, path, data_path));
    }
    KLN_RETURN_IF_ERROR(kln_onnx_write_again(writer, model));
    if (has_data) {
        KLN_RETURN_IF_ERROR(kln_output_flush(writer->data));
        KLN_RETURN_IF_ERROR(kln_output_flush(writer->file));
    }
    return kln_output_replaces(writer->file) ? put_in_place(writer, path, data_path)
                                             : kln_output_commit(writer->file);
}

static kiln_status write_to_path(kln_onnx_writer *writer, const kln_onnx_model *model,
                                 const char *path, char *data_path)
{
    const size_t length = strlen(path);
    size_t folder = 0;
    memcpy(data_path, path, length);
    put_hash(data_path, length, 0);
    writer->location = name_of(data_path, &folder);
    KLN_RETURN_IF_ERROR(kln_onnx_measure(writer, model));
    put_hash(data_path, length, kln_hasher_value(writer->hasher));
    return write_files(writer, model, path, data_path);
}

kiln_status kln_onnx_write_file(const kln_onnx_model *model, const char *path,
                                kln_onnx_weights weights)
{
    KLN_RETURN_IF_NULL(model, path);
    KLN_RETURN_IF_ERROR(kln_onnx_check_weights(weights));
    KLN_SCOPED(kln_output_discard) kln_output file = {.descriptor = -1};
    KLN_SCOPED(kln_output_discard) kln_output data = {.descriptor = -1};
    kln_onnx_writer writer = {.tensor_field = kln_onnx_write_tensor_field,
                              .weights = weights,
                              .file = &file,
                              .data = &data};
    const size_t size = strlen(path) + MORE + 1;
    KLN_SCOPED_FREE char *data_path = kln_alloc(size);
    writer.buffer = kln_alloc(KLN_WRITER_BUFFER);
    writer.hasher = kln_hasher_create();
    const kiln_status status =
        data_path != NULL && writer.buffer != NULL && writer.hasher != NULL
            ? write_to_path(&writer, model, path, data_path)
            : kln_fail_memory(size + KLN_WRITER_BUFFER, "a buffer to write a model");
    kln_free(writer.hasher);
    kln_free(writer.buffer);
    kln_free(writer.lengths);
    return status;
}
