/* SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>

#include "library_record.h"

/* Libraries that Kiln opened itself. They do not count as the process's choice. */
#define MOST_OWN 64
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const void *own[MOST_OWN];
static size_t own_count;

static bool is_own(const void *handle)
{
    bool found = false;
    KLN_LOCKED(&lock);
    for (size_t i = 0; i < own_count && !found; i++) {
        found = own[i] == handle;
    }
    return found;
}

bool kln_library_is_loaded(const char *path)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    if (handle == NULL) {
        return false;
    }
    const bool others = !is_own(handle);
    (void)dlclose(handle);
    return others;
}

void kln_library_remember_own(const void *handle)
{
    if (is_own(handle)) {
        return;
    }
    KLN_LOCKED(&lock);
    if (own_count < MOST_OWN) {
        own[own_count++] = handle;
    }
}
