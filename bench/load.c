/* SPDX-License-Identifier: Apache-2.0 */
/* What loading a model through Kiln costs over a raw session: time and memory, each load in a
 * program of its own with the library already open, in alternating order. load MODEL [PAIRS]
 */
#include <kiln/kiln.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench_times.h"
#include "raw_ort.h"

typedef struct sample {
    double milliseconds;
    double peak;  /* VmHWM after the load, KiB */
    double grown; /* by how much that is more than what the program held before it */
    double kept;  /* RssAnon then: what belongs to this process alone */
} sample;

static sample sample_since(uint64_t begin, double before)
{
    const double milliseconds = (double)(bench_now() - begin) / 1e6;
    const double peak = bench_memory("VmHWM:");
    return (sample){milliseconds, peak, peak - before, bench_memory("RssAnon:")};
}

/* Both open the library and load the small model first, so that only the model's own cost is left.
 */
static sample load_kiln(const char *path)
{
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "onnxruntime", .threads = 1);
    kiln_engine *engine = NULL;
    bench_require(kiln_engine_build_bytes((kiln_span){identity_model, sizeof identity_model},
                                          &options, &engine));
    kiln_engine_release(engine);
    const double before = bench_memory("VmRSS:");
    const uint64_t begin = bench_now();
    bench_require(kiln_engine_build_file(path, &options, &engine));
    kiln_context *context = NULL;
    bench_require(kiln_context_create(engine, NULL, &context));
    const sample result = sample_since(begin, before);
    kiln_context_destroy(context);
    kiln_engine_release(engine);
    return result;
}

static sample load_raw(const char *path, const char *library)
{
    raw_ort *raw = raw_open(library);
    raw_load(raw, NULL, identity_model, sizeof identity_model);
    raw_unload(raw);
    const double before = bench_memory("VmRSS:");
    const uint64_t begin = bench_now();
    raw_load(raw, path, NULL, 0);
    const sample result = sample_since(begin, before);
    raw_unload(raw);
    return result;
}

/* Each load is a program of its own, so that no two share where their memory happens to lie. */
static sample in_program(const char *path, const char *library)
{
    int pipes[2];
    sample result = {0};
    if (pipe(pipes) != 0) {
        exit(1);
    }
    const pid_t child = fork();
    if (child == 0) {
        (void)dup2(pipes[1], STDOUT_FILENO);
        (void)close(pipes[0]);
        (void)close(pipes[1]);
        (void)execl("/proc/self/exe", "load", "--one", path, library, (char *)NULL);
        _exit(1);
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

/* The program that in_program starts: LIBRARY is ONNX Runtime's, or empty for Kiln. */
static int load_one(const char *path, const char *library)
{
    const sample made = library[0] != '\0' ? load_raw(path, library) : load_kiln(path);
    return write(STDOUT_FILENO, &made, sizeof made) == (ssize_t)sizeof made ? 0 : 1;
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
        bench_require(kiln_backend_choose("onnxruntime", &info));
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

typedef struct column {
    const char *name;
    const char *unit;
    size_t offset; /* in a sample */
} column;

static double value_of(const sample *one, const column *what)
{
    double value = 0;
    memcpy(&value, (const char *)one + what->offset, sizeof value);
    return value;
}

/* A row of medians: of each side, of the ratio within a pair, and of the difference within one with
 * its quartiles. */
static void print_column(const column *what, const sample *kiln, const sample *raw, size_t pairs,
                         double *values)
{
    for (size_t i = 0; i < pairs; i++) {
        values[i] = value_of(&kiln[i], what);
    }
    const double ours = bench_median(values, pairs);
    for (size_t i = 0; i < pairs; i++) {
        values[i] = value_of(&raw[i], what);
    }
    const double theirs = bench_median(values, pairs);
    for (size_t i = 0; i < pairs; i++) {
        values[i] = value_of(&kiln[i], what) / value_of(&raw[i], what);
    }
    const double ratio = bench_median(values, pairs);
    for (size_t i = 0; i < pairs; i++) {
        values[i] = value_of(&kiln[i], what) - value_of(&raw[i], what);
    }
    const double between = bench_median(values, pairs); /* sorts */
    (void)printf(
        "  %-5s kiln %9.2f %-3s  raw %9.2f %-3s  in a pair: ratio %.4f  difference "
        "%+.2f (quartiles %+.2f, %+.2f)\n",
        what->name, ours, what->unit, theirs, what->unit, ratio, between, values[pairs / 4],
        values[pairs - 1 - pairs / 4]);
}

int main(int count, char **arguments)
{
    static const column columns[] = {
        {"time", "ms", offsetof(sample, milliseconds)},
        {"peak", "KiB", offsetof(sample, peak)},
        {"grown", "KiB", offsetof(sample, grown)},
        {"kept", "KiB", offsetof(sample, kept)},
    };
    if (count == 4 && strcmp(arguments[1], "--one") == 0) {
        return load_one(arguments[2], arguments[3]);
    }
    const size_t pairs = count > 2 ? strtoul(arguments[2], NULL, 10) : 41;
    if (count < 2 || pairs == 0 || pairs > 100000) {
        (void)fprintf(stderr, "usage: load MODEL [PAIRS]\n");
        return 2;
    }
    static char library[4096];
    find_library(library, sizeof library);
    sample *samples = bench_allocate(pairs * 2 * sizeof *samples);
    double *values = bench_allocate(pairs * sizeof *values);
    for (size_t i = 0; i < pairs; i++) {
        for (size_t half = 0; half < 2; half++) {
            const size_t side = (i + half) % 2;
            samples[side * pairs + i] = in_program(arguments[1], side == 0 ? "" : library);
        }
    }
    (void)printf("load %s, medians of %zu pairs\n", arguments[1], pairs);
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        print_column(&columns[i], samples, samples + pairs, pairs, values);
    }
    free(samples);
    free(values);
    return 0;
}
