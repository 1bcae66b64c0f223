/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>

#include "backends/tensorrt/trt_library.h"
#include "backends/tensorrt/trt_plan.h"

/* TensorRT loads its kernels with the first builder of a process and drops them with the last one.
 * The builder that is kept builds nothing: each build makes one of its own, in under a millisecond
 * while this one is there, so that builds in several threads do not meet in it, and nothing of one
 * that failed is left in it. It lives until it is released, or as long as the process: nothing is
 * safely undone at the exit, where a library's own end may have come first. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static trt_library *keepers;

kiln_status trt_library_keep_builder(trt_library *library)
{
    kiln_status status = KILN_OK;
    (void)pthread_mutex_lock(&lock);
    if (library->kept == NULL) {
        trt_logged_clear();
        trt_Builder *made =
            library->core.createInferBuilder_INTERNAL(&library->logger, library->abi.version);
        if (trt_is_null(made)) {
            status = trt_fail(KILN_ERROR_BACKEND, NULL, "%s gives no builder", library->name);
        } else {
            library->kept = made;
            library->next_keeper = keepers;
            keepers = library;
        }
    }
    (void)pthread_mutex_unlock(&lock);
    return status;
}

size_t trt_release_builders(void)
{
    size_t count = 0;
    (void)pthread_mutex_lock(&lock);
    while (keepers != NULL) {
        trt_library *library = keepers;
        keepers = library->next_keeper;
        trt_Builder_destroy(library->kept);
        library->kept = NULL;
        count++;
    }
    (void)pthread_mutex_unlock(&lock);
    return count;
}
