/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#include <kiln/calibrate.h>

#include "base/kln_base.h"
#include "tensor/kln_tensor.h"

struct kiln_batch_folder {
    kln_arena arena; /* holds the paths */
    const char **paths;
    size_t count, capacity, next;
    kiln_named_tensor *tensors; /* from a .npz file */
    size_t tensor_count;
    kiln_named_tensor single; /* from a .npy file */
};

static bool ends_with(const char *text, const char *end)
{
    const size_t length = strlen(text);
    const size_t size = strlen(end);
    return length > size && strcmp(text + length - size, end) == 0;
}

static bool is_batch(const char *name)
{
    return ends_with(name, ".npy") || ends_with(name, ".npz");
}

static kiln_status add(kiln_batch_folder *folder, const char *path, const char *name)
{
    const size_t length = strlen(path);
    const char *slash = length == 0 || path[length - 1] == '/' ? "" : "/";
    KLN_RETURN_IF_ERROR(KLN_GROW(&folder->arena, folder->paths, folder->count, folder->capacity));
    const char *whole = kln_arena_printf(&folder->arena, "%s%s%s", path, slash, name);
    KLN_RETURN_IF_NO_MEMORY(whole, strlen(name), "the names in a folder");
    folder->paths[folder->count++] = whole;
    return KILN_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static kiln_status list(kiln_batch_folder *folder, const char *path)
{
    DIR *open = opendir(path);
    if (open == NULL) {
        const int why = errno;
        if (why == ENOTDIR && is_batch(path)) {
            return add(folder, "", path);
        }
        KLN_RETURN_IF(why == ENOTDIR, KILN_ERROR_INVALID_ARGUMENT,
                      "\"%s\" is neither a folder of batches nor a .npy or .npz file", path);
        return kln_fail(why == ENOENT ? KILN_ERROR_NOT_FOUND : KILN_ERROR_IO,
                        "the folder \"%s\" cannot be read: %s", path, strerror(why));
    }
    kiln_status status = KILN_OK;
    const struct dirent *entry = NULL;
    while (status == KILN_OK && (entry = readdir(open)) != NULL) {
        if (is_batch(entry->d_name)) {
            status = add(folder, path, entry->d_name);
        }
    }
    (void)closedir(open);
    KLN_RETURN_IF(status == KILN_OK && folder->count == 0, KILN_ERROR_EMPTY,
                  "the folder \"%s\" has no .npy and no .npz file; each is a batch", path);
    if (status == KILN_OK) {
        qsort(folder->paths, folder->count, sizeof *folder->paths, by_name);
    }
    return status;
}

KLN_SCOPED_POINTER(kiln_batch_folder, kiln_batch_folder_close)

kiln_status kiln_batch_folder_open(const char *path, kiln_batch_folder **folder)
{
    KLN_RETURN_IF_NULL_RESULT(folder, path);
    KLN_SCOPED(kiln_batch_folder_close_at)
    kiln_batch_folder *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "a folder of batches");
    KLN_RETURN_IF_ERROR(list(made, path));
    *folder = KLN_TAKE(made);
    return KILN_OK;
}

size_t kiln_batch_folder_count(const kiln_batch_folder *folder)
{
    return folder != NULL ? folder->count : 0;
}

static void let_go(kiln_batch_folder *folder)
{
    kiln_tensors_free(folder->tensors, folder->tensor_count);
    kiln_tensor_free(&folder->single.tensor);
    folder->tensors = NULL;
    folder->tensor_count = 0;
}

static kiln_status next(void *user, const kiln_named_tensor **inputs, size_t *count)
{
    kiln_batch_folder *folder = user;
    *inputs = NULL;
    *count = 0;
    KLN_FAIL_IF(folder == NULL, kln_fail_null("kiln_batch_folder_source", "folder"));
    let_go(folder);
    if (folder->next == folder->count) {
        return KILN_OK;
    }
    const char *path = folder->paths[folder->next++];
    if (ends_with(path, ".npy")) {
        KLN_RETURN_IF_ERROR(kiln_tensor_load_npy(path, &folder->single.tensor));
        *inputs = &folder->single;
        *count = 1;
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(kiln_tensors_load_npz(path, &folder->tensors, &folder->tensor_count));
    KLN_RETURN_IF(folder->tensor_count == 0, KILN_ERROR_EMPTY, "\"%s\" has no arrays", path);
    *inputs = folder->tensors;
    *count = folder->tensor_count;
    return KILN_OK;
}

kiln_batch_source kiln_batch_folder_source(kiln_batch_folder *folder)
{
    return (kiln_batch_source){next, folder};
}

void kiln_batch_folder_close(kiln_batch_folder *folder)
{
    if (folder != NULL) {
        let_go(folder);
        kln_arena_finish(&folder->arena);
        kln_free(folder);
    }
}
