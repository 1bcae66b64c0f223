/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/tensorrt/trt_device.h"
#include "backends/tensorrt/trt_library.h"
#include "backends/tensorrt/trt_plan.h"

/* TensorRT loads its kernels with the first builder of a process and drops them with the last one.
 * The builder that is kept here builds nothing: while it exists, each build creates one of its own
 * in under a millisecond, so that concurrent builds do not share one and a failed build leaves
 * nothing behind. It lives until it is released, or as long as the process: destroying it at exit
 * is not safe, because the library's own teardown may have come first. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static trt_library *keepers;
static unsigned forks; /* kln_forks when the builders were made */

/* The measurements of builds for one GPU, as a TensorRT timing cache. */
struct trt_timings {
    struct trt_timings *next;
    int32_t device;
    size_t size;
    unsigned char bytes[];
};

/* Beyond this size, the measurements are not worth their memory. */
#define MOST_TIMINGS ((size_t)64 << 20)

/* Finds the link to the timings of a GPU, or the end of the list. Called with the lock held. */
static struct trt_timings **find_timings(trt_library *library, int32_t device)
{
    struct trt_timings **place = &library->timings;
    while (*place != NULL && (*place)->device != device) {
        place = &(*place)->next;
    }
    return place;
}

static void drop_timings(struct trt_timings **place)
{
    struct trt_timings *dropped = *place;
    *place = dropped->next;
    kln_free(dropped);
}

/* Releases all builders. Those that were created before a fork can neither be used nor destroyed in
 * the child. Called with the lock held. */
static size_t give_up(void)
{
    const bool ours = forks == kln_forks();
    size_t count = 0;
    while (keepers != NULL) {
        trt_library *library = keepers;
        keepers = library->next_keeper;
        if (ours) {
            TRT_ENTER_ANYWAY(library->kept_device, "destroying a builder");
            trt_Builder_destroy(library->kept);
            count++;
        }
        library->kept = NULL;
        while (library->timings != NULL) {
            drop_timings(&library->timings);
        }
    }
    return count;
}

static void forget_foreign(void)
{
    if (keepers != NULL && forks != kln_forks()) {
        (void)give_up();
    }
}

bool trt_library_keeps_builder(const trt_library *library)
{
    KLN_LOCKED(&lock);
    forget_foreign();
    return library->kept != NULL;
}

kiln_status trt_library_keep_builder(trt_library *library, int32_t device)
{
    KLN_LOCKED(&lock);
    forget_foreign();
    if (library->kept == NULL) {
        trt_logged_clear();
        trt_Builder *made =
            library->core.createInferBuilder_INTERNAL(&library->logger, library->abi.version);
        if (trt_is_null(made)) {
            KLN_RETURN_IF_ERROR(
                trt_fail(KILN_ERROR_BACKEND, NULL, "%s gives no builder", library->name));
        } else {
            library->kept = made;
            library->kept_device = device;
            forks = kln_forks_begin();
            library->next_keeper = keepers;
            keepers = library;
        }
    }
    return KILN_OK;
}

/* --- timings --- */

kiln_status trt_library_get_timings(trt_library *library, int32_t device, kiln_span *copy)
{
    *copy = (kiln_span){NULL, 0};
    KLN_LOCKED(&lock);
    const struct trt_timings *found = *find_timings(library, device);
    if (found != NULL) {
        void *bytes = kln_alloc(found->size);
        if (bytes != NULL) {
            memcpy(bytes, found->bytes, found->size);
            *copy = (kiln_span){bytes, found->size};
        } else {
            KLN_RETURN_IF_ERROR(kln_fail_memory(found->size, "what earlier builds measured"));
        }
    }
    return KILN_OK;
}

void trt_library_keep_timings(trt_library *library, int32_t device, kiln_span bytes)
{
    struct trt_timings *made = NULL;
    if (bytes.size > 0 && bytes.size <= MOST_TIMINGS) {
        kln_lasting_begin();
        made = kln_alloc(sizeof *made + bytes.size);
        kln_lasting_end();
    }
    (void)pthread_mutex_lock(&lock);
    struct trt_timings **place = find_timings(library, device);
    if (*place != NULL) {
        drop_timings(place);
    }
    if (made != NULL && library->kept != NULL) {
        made->next = library->timings;
        made->device = device;
        made->size = bytes.size;
        memcpy(made->bytes, bytes.data, bytes.size);
        library->timings = made;
        made = NULL;
    }
    (void)pthread_mutex_unlock(&lock);
    kln_free(made); /* the builder has been released, or there is nothing to free */
}

kiln_status trt_timings(const char *requested, int32_t device, kiln_span *copy)
{
    trt_library *library = NULL;
    *copy = (kiln_span){NULL, 0};
    KLN_RETURN_IF_ERROR(trt_library_open(requested, &library));
    return trt_library_get_timings(library, device, copy);
}

size_t trt_release_builders(void)
{
    KLN_LOCKED(&lock);
    return give_up();
}
