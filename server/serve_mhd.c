/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_mhd.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define LIBRARY "libmicrohttpd.so.12"

const serve_mhd *serve_mhd_open(char *sentence, size_t size)
{
    static serve_mhd table;
    static const struct {
        const char *name;
        size_t offset;
    } functions[] = {
#define SERVE_MHD_ROW_(name) {"MHD_" #name, offsetof(serve_mhd, name)},
        SERVE_MHD_FUNCTIONS(SERVE_MHD_ROW_)
#undef SERVE_MHD_ROW_
    };
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        (void)snprintf(sentence, size,
                       "the server needs libmicrohttpd, and it cannot be opened: %s; Debian and "
                       "Ubuntu have it in the package libmicrohttpd12",
                       dlerror());
        return NULL;
    }
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        void *found = dlsym(library, functions[i].name);
        if (found == NULL) {
            (void)snprintf(sentence, size,
                           "the server needs libmicrohttpd 0.9.74 or newer: " LIBRARY
                           " here lacks %s",
                           functions[i].name);
            return NULL;
        }
        memcpy((char *)&table + functions[i].offset, &found, sizeof found);
    }
    return &table;
}
