/* SPDX-License-Identifier: Apache-2.0 */
/* What loading a model through Kiln costs over a raw session: time and peak memory, each load in a
 * process of its own with the library already open, in alternating order. load MODEL [PAIRS]
 */
#include <kiln/kiln.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "raw_ort.h"

typedef struct sample {
    double milliseconds;
    double peak_kib; /* VmHWM after the load */
} sample;

static void require(kiln_status status)
{
    if (status != KILN_OK) {
        (void)fprintf(stderr, "kiln: %s\n", kiln_error_message());
        exit(1);
    }
}

static double peak_kib(void)
{
    char line[256];
    long value = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "VmHWM:", 6) == 0) {
            value = strtol(line + 6, NULL, 10);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return (double)value;
}

/* Both open the library and load the small model first, so that only the model's own cost is left.
 */
static sample load_kiln(const char *path)
{
    kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
    options.backend = "onnxruntime";
    options.threads = 1;
    kiln_engine *engine = NULL;
    require(kiln_engine_build_bytes((kiln_span){identity_model, sizeof identity_model}, &options,
                                    &engine));
    kiln_engine_release(engine);
    const uint64_t begin = bench_now();
    require(kiln_engine_build_file(path, &options, &engine));
    kiln_context *context = NULL;
    require(kiln_context_create(engine, NULL, &context));
    const sample result = {(double)(bench_now() - begin) / 1e6, peak_kib()};
    kiln_context_destroy(context);
    kiln_engine_release(engine);
    return result;
}

static sample load_raw(const char *path, const char *library)
{
    raw_ort *raw = raw_open(library);
    raw_load(raw, NULL, identity_model, sizeof identity_model);
    raw_unload(raw);
    const uint64_t begin = bench_now();
    raw_load(raw, path, NULL, 0);
    const sample result = {(double)(bench_now() - begin) / 1e6, peak_kib()};
    raw_unload(raw);
    return result;
}

static sample in_child(const char *path, const char *library)
{
    int pipes[2];
    sample result = {0, 0};
    if (pipe(pipes) != 0) {
        exit(1);
    }
    const pid_t child = fork();
    if (child == 0) {
        const sample made = library != NULL ? load_raw(path, library) : load_kiln(path);
        exit(write(pipes[1], &made, sizeof made) == (ssize_t)sizeof made ? 0 : 1);
    }
    int status = 0;
    (void)close(pipes[1]);
    if (child < 0 || read(pipes[0], &result, sizeof result) != (ssize_t)sizeof result ||
        waitpid(child, &status, 0) != child || status != 0) {
        exit(1);
    }
    (void)close(pipes[0]);
    return result;
}

/* The library's path, asked for in a child: this process must not have it open. */
static void find_library(char *path, size_t size)
{
    int pipes[2];
    if (pipe(pipes) != 0) {
        exit(1);
    }
    const pid_t child = fork();
    if (child == 0) {
        kiln_backend_info info = {.struct_size = sizeof info};
        require(kiln_backend_choose("onnxruntime", &info));
        exit(write(pipes[1], info.library, strlen(info.library)) > 0 ? 0 : 1);
    }
    (void)close(pipes[1]);
    const ssize_t length = read(pipes[0], path, size - 1);
    if (length <= 0) {
        exit(1);
    }
    path[length] = '\0';
    (void)waitpid(child, NULL, 0);
    (void)close(pipes[0]);
}

int main(int count, char **arguments)
{
    if (count < 2) {
        (void)fprintf(stderr, "usage: load MODEL [PAIRS]\n");
        return 2;
    }
    static char library[4096];
    find_library(library, sizeof library);
    const size_t pairs = count > 2 ? strtoul(arguments[2], NULL, 10) : 31;
    double *values = calloc(pairs * 4 + 4, sizeof *values);
    if (values == NULL || pairs == 0) {
        return 2;
    }
    for (size_t i = 0; i < pairs; i++) {
        for (size_t half = 0; half < 2; half++) {
            const size_t side = (i + half) % 2;
            const sample made = in_child(arguments[1], side == 0 ? NULL : library);
            values[side * pairs + i] = made.milliseconds;
            values[(2 + side) * pairs + i] = made.peak_kib;
        }
    }
    const double kiln_time = bench_median(values, pairs);
    const double raw_time = bench_median(values + pairs, pairs);
    const double kiln_peak = bench_median(values + 2 * pairs, pairs);
    const double raw_peak = bench_median(values + 3 * pairs, pairs);
    (void)printf("load %s, medians of %zu pairs\n", arguments[1], pairs);
    (void)printf("  time   kiln %9.2f ms   raw %9.2f ms   ratio %.4f\n", kiln_time, raw_time,
                 kiln_time / raw_time);
    (void)printf("  peak   kiln %9.0f KiB  raw %9.0f KiB  difference %+.0f KiB\n", kiln_peak,
                 raw_peak, kiln_peak - raw_peak);
    free(values);
    return 0;
}
