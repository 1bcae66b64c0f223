/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

bool serve_library_open(const serve_library *library, void *table, char *sentence, size_t size)
{
    void *opened = dlopen(library->file, RTLD_NOW | RTLD_LOCAL);
    if (opened == NULL) {
        (void)snprintf(sentence, size,
                       "%s needs %s, and it cannot be opened: %s; Debian and Ubuntu have it in the "
                       "package %s",
                       library->user, library->name, dlerror(), library->package);
        return false;
    }
    for (size_t i = 0; i < library->count; i++) {
        void *found = dlsym(opened, library->symbols[i].name);
        if (found == NULL) {
            (void)snprintf(sentence, size, "%s needs %s %s or newer: %s here lacks %s",
                           library->user, library->name, library->version, library->file,
                           library->symbols[i].name);
            return false;
        }
        memcpy((char *)table + library->symbols[i].offset, &found, sizeof found);
    }
    return true;
}
