/* SPDX-License-Identifier: Apache-2.0 */
/* A host that opens libkiln, uses it and closes it, and goes on. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include <kiln/kiln.h>

/* An object's address becomes a function's, as POSIX has it. */
#define TAKE(name)                                            \
    __typeof__(name) *take_##name = NULL;                     \
    const void *const address_##name = dlsym(library, #name); \
    memcpy(&take_##name, &address_##name, sizeof take_##name)

static int once(const char *path, const char *model)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        (void)fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    TAKE(kiln_engine_build_file);
    TAKE(kiln_engine_release);
    TAKE(kiln_error_message);
    kiln_engine *engine = NULL;
    if (take_kiln_engine_build_file(model, NULL, &engine) != KILN_OK) {
        (void)fprintf(stderr, "%s\n", take_kiln_error_message());
        return 1;
    }
    take_kiln_engine_release(engine);
    (void)dlclose(library);
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    if (library == NULL) {
        (void)fprintf(stderr, "libkiln is gone, and ONNX Runtime still calls it\n");
        return 1;
    }
    (void)dlclose(library);
    return 0;
}

int main(int count, char **arguments)
{
    for (int i = 0; i < 3; i++) {
        if (count < 3 || once(arguments[1], arguments[2]) != 0) {
            return 1;
        }
    }
    /* ONNX Runtime says its last words when the process ends. */
    puts("closed three times");
    return 0;
}
