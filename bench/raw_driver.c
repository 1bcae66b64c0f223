/* SPDX-License-Identifier: Apache-2.0 */
#include "raw_driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void raw_check_cuda(int result, const char *what)
{
    if (result != 0) {
        (void)fprintf(stderr, "raw CUDA: %s: error %d\n", what, result);
        exit(1);
    }
}

void *raw_open_library(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        (void)fprintf(stderr, "raw: %s\n", dlerror());
        exit(1);
    }
    return library;
}

void raw_driver_open(raw_driver *cuda)
{
    const char *named = getenv("KILN_CUDA_DRIVER");
    void *library = raw_open_library(named != NULL && *named != '\0' ? named : "libcuda.so.1");
    void *context = NULL;
#define FIND(member, symbol, parameters)                    \
    {                                                       \
        void *found = dlsym(library, symbol);               \
        raw_check_cuda(found == NULL, symbol);              \
        memcpy(&cuda->member, &found, sizeof cuda->member); \
    }
    RAW_DRIVER_LIST(FIND)
#undef FIND
    raw_check_cuda(cuda->init(0), "cuInit");
    raw_check_cuda(cuda->retain(&context, 0), "the primary context");
    raw_check_cuda(cuda->push(context), "the primary context");
}
