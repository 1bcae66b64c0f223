/* SPDX-License-Identifier: Apache-2.0 */
/* Builds one model several times in one process, and says in milliseconds how long each took until
 * there was an engine, and how much of that was TensorRT's own call; libraries and driver are ready
 * before the clock runs.
 *
 *     bench_gpu_build [--cache FOLDER] [--threads N] LIBNVINFER MODEL COUNT [NAME=MIN:OPT:MAX]...
 *
 * With --cache there are two builds more, which put the plan into that cache of engines and find it
 * there.
 */
#include <dlfcn.h>
#include <kiln/kiln.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_times.h"

/* What stands beside libnvinfer, as importing NVIDIA's bindings opens it. */
static void open_beside(const char *libnvinfer, const char *name)
{
    char path[4096];
    const char *at = strstr(libnvinfer, "libnvinfer.");
    if (at != NULL) {
        (void)snprintf(path, sizeof path, "%.*s%s.%s", (int)(at - libnvinfer), libnvinfer, name,
                       at + strlen("libnvinfer."));
        if (dlopen(path, RTLD_NOW | RTLD_LOCAL) == NULL) {
            (void)fprintf(stderr, "%s: opened within the first build\n", path);
        }
    }
}

static double own; /* milliseconds of the library's own call in the last build */

static void note_own(void *user, kiln_log_level level, const char *component, const char *message)
{
    static const char words[] = "buildSerializedNetwork took ";
    (void)user;
    (void)level;
    if (strcmp(component, "tensorrt") == 0 && strncmp(message, words, sizeof words - 1) == 0) {
        own = strtod(message + sizeof words - 1, NULL);
    }
}

static void build(const char *model, const kiln_build_options *options, bool is_first)
{
    kiln_engine *engine = NULL;
    own = 0;
    const double begin = bench_milliseconds();
    bench_require(kiln_engine_build_file(model, options, &engine));
    const double took = bench_milliseconds() - begin;
    (void)printf("%s[%.3f, %.3f]", is_first ? "" : ", ", took, own);
    kiln_engine_release(engine);
}

int main(int argc, char **argv)
{
    const char *cache = NULL;
    char profile[4096] = "";
    kiln_build_options *options = NULL;
    bench_require(kiln_build_options_create(&options));
    for (; argc > 2 && strncmp(argv[1], "--", 2) == 0; argc -= 2, argv += 2) {
        if (strcmp(argv[1], "--cache") == 0) {
            cache = argv[2];
        } else {
            bench_require(kiln_build_options_set(options, "threads", argv[2]));
        }
    }
    if (argc < 4) {
        (void)fprintf(
            stderr,
            "usage: bench_gpu_build [--cache FOLDER] [--threads N] LIBNVINFER MODEL COUNT "
            "[NAME=MIN:OPT:MAX]...\n");
        return 2;
    }
    kiln_backend_info info = {.struct_size = sizeof info};
    kiln_buffer *buffer = NULL;
    bench_require(kiln_build_options_set(options, "backend", "tensorrt"));
    bench_require(kiln_build_options_set(options, "library", argv[1]));
    for (int i = 4; i < argc; i++) {
        (void)snprintf(profile + strlen(profile), sizeof profile - strlen(profile), "%s%s",
                       i > 4 ? " " : "", argv[i]);
    }
    if (argc > 4) {
        bench_require(kiln_build_options_set(options, "profiles", profile));
    }
    bench_require(kiln_backend_choose("tensorrt", &info));
    open_beside(argv[1], "libnvonnxparser");
    open_beside(argv[1], "libnvinfer_plugin");
    bench_require(kiln_buffer_create(KILN_LOCATION_DEVICE, 0, 256, &buffer));
    kiln_log_set_sink(note_own, NULL, KILN_LOG_DEBUG);
    (void)printf("[");
    for (long i = 0; i < strtol(argv[3], NULL, 10); i++) {
        build(argv[2], options, i == 0);
    }
    if (cache != NULL) {
        bench_require(kiln_build_options_set(options, "cache", cache));
        build(argv[2], options, false);
        build(argv[2], options, false);
    }
    (void)printf("]\n");
    kiln_buffer_destroy(buffer);
    kiln_build_options_destroy(options);
    return 0;
}
