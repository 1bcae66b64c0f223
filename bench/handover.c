/* SPDX-License-Identifier: Apache-2.0 */
/* What building 1 GiB of weights on ONNX Runtime adds to a process: peak resident memory and Kiln's
 * own heap, from the caller's arrays and from a file, each way in a process of its own.
 * handover FOLDER
 */
#include <kiln/kiln.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench_times.h"

#define SIDE 4096
#define TENSORS 16
#define BYTES ((size_t)SIDE * SIDE * sizeof(float))
#define RUNS 5

static float *arrays[TENSORS];

static void make_arrays(void)
{
    const double range[2] = {-0.02, 0.02};
    for (int i = 0; i < TENSORS; i++) {
        arrays[i] = bench_allocate(BYTES);
        const kiln_tensor tensor = {
            .desc = {.dtype = KILN_DTYPE_FLOAT32, .shape = KILN_SHAPE(SIDE, SIDE)},
            .data = arrays[i],
            .bytes = BYTES};
        bench_require(kiln_tensor_fill(&tensor, "w", (uint64_t)i, range));
    }
}

static kiln_network *make_network(void)
{
    kiln_network *network = NULL;
    kiln_tensor_id x, w;
    const char *names[] = {"rows", NULL};
    bench_require(kiln_network_create(NULL, &network));
    bench_require(kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32,
                                         &KILN_SHAPE(KILN_DYNAMIC, SIDE), names, &x));
    for (int i = 0; i < TENSORS; i++) {
        const kiln_weights weights = {
            KILN_DTYPE_FLOAT32, KILN_SHAPE(SIDE, SIDE), {arrays[i], BYTES}};
        bench_require(kiln_network_add_constant(network, NULL, &weights, &w));
        bench_require(kiln_network_add_matrix_multiply(network, NULL, x, w, &x));
    }
    bench_require(kiln_network_mark_output(network, x));
    return network;
}

static double run(kiln_engine *engine, int64_t rows)
{
    kiln_context *context = NULL;
    kiln_tensor tensor;
    double best = 1e9;
    bench_require(kiln_context_create(engine, NULL, &context));
    bench_require(kiln_context_reshape(context, "x", &KILN_SHAPE(rows, SIDE)));
    bench_require(kiln_context_tensor(context, "x", &tensor));
    memset(tensor.data, 0, tensor.bytes);
    for (int i = 0; i < RUNS; i++) {
        const double begin = bench_milliseconds();
        bench_require(kiln_context_run(context));
        const double spent = bench_milliseconds() - begin;
        best = spent < best ? spent : best;
    }
    kiln_context_destroy(context);
    return best;
}

/* A first engine opens the library, so that what is counted is the network's own. */
static void open_library(const kiln_build_options *options)
{
    kiln_network *network = NULL;
    kiln_engine *engine = NULL;
    kiln_tensor_id x;
    bench_require(kiln_network_create(NULL, &network));
    bench_require(
        kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32, &KILN_SHAPE(1), NULL, &x));
    bench_require(kiln_network_add_unary(network, "y", KILN_UNARY_NEG, x, &x));
    bench_require(kiln_network_mark_output(network, x));
    bench_require(kiln_engine_build(network, options, &engine));
    kiln_engine_release(engine);
    kiln_network_destroy(network);
}

typedef struct way {
    const char *what;
    const char *file;   /* NULL: the caller's arrays */
    bool through_graph; /* read as a network, else by ONNX Runtime itself */
    kiln_switch share;
} way;

static void build(const way *how, const char *folder)
{
    char path[4096];
    kiln_engine *engine = NULL;
    kiln_network *network = NULL;
    kiln_allocation_counters before, after;
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = "onnxruntime", .threads = 1, .share_weights = how->share);
    open_library(&options);
    if (how->file == NULL) {
        make_arrays();
    }
    const double resident = bench_memory("VmRSS:") / 1024;
    kiln_get_allocation_counters(&before);
    const double begin = bench_milliseconds();
    (void)snprintf(path, sizeof path, "%s/%s", folder, how->file != NULL ? how->file : "");
    if (how->file != NULL && !how->through_graph) {
        bench_require(kiln_engine_build_file(path, &options, &engine));
    } else {
        if (how->file != NULL) {
            bench_require(kiln_network_from_onnx(path, &network));
        } else {
            network = make_network();
        }
        bench_require(kiln_engine_build(network, &options, &engine));
        kiln_network_destroy(network);
    }
    const double spent = bench_milliseconds() - begin;
    kiln_get_allocation_counters(&after);
    const double peak = bench_memory("VmHWM:") / 1024 - resident;
    const double kept = bench_memory("VmRSS:") / 1024 - resident;
    const double one = run(engine, 1);
    const double four = run(engine, 4);
    const double weights = (double)BYTES * TENSORS / (1024.0 * 1024.0);
    const double heap = (double)(after.bytes_peak - before.bytes_in_use) / (1024.0 * 1024.0);
    (void)printf(
        "%-44s %6.0f ms  peak %+6.0f MiB (%.2f of the weights)  kept %+6.0f MiB"
        "  Kiln's heap %7.2f MiB (%.4f)  a run of 1 row %6.1f ms, of 4 %6.1f ms\n",
        how->what, spent, peak, peak / weights, kept, heap, heap / weights, one, four);
    kiln_engine_release(engine);
}

static void in_child(const way *how, const char *folder)
{
    (void)fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        build(how, folder);
        (void)fflush(stdout);
        _exit(0);
    }
    int status = 0;
    (void)waitpid(child, &status, 0);
    if (status != 0) {
        (void)printf("%s: failed\n", how->what);
    }
}

static void make_files(const char *folder)
{
    char path[4096];
    (void)fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        make_arrays();
        kiln_network *network = make_network();
        (void)snprintf(path, sizeof path, "%s/inline.onnx", folder);
        bench_require(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
        (void)snprintf(path, sizeof path, "%s/external.onnx", folder);
        bench_require(kiln_network_save_onnx(network, path, KILN_WEIGHTS_EXTERNAL));
        _exit(0);
    }
    (void)waitpid(child, NULL, 0);
}

int main(int count, char **arguments)
{
    static const way ways[] = {
        {"the caller's arrays, shared", NULL, true, KILN_SWITCH_ON},
        {"the caller's arrays", NULL, true, KILN_SWITCH_DEFAULT},
        {"file, weights outside, as a network, shared", "external.onnx", true, KILN_SWITCH_ON},
        {"file, weights outside, by path, shared", "external.onnx", false, KILN_SWITCH_ON},
        {"file, weights outside, as a network", "external.onnx", true, KILN_SWITCH_DEFAULT},
        {"file, weights outside, by path", "external.onnx", false, KILN_SWITCH_DEFAULT},
        {"file, weights inside, as a network", "inline.onnx", true, KILN_SWITCH_DEFAULT},
        {"file, weights inside, by path", "inline.onnx", false, KILN_SWITCH_DEFAULT},
    };
    if (count != 2) {
        (void)fprintf(stderr, "usage: handover FOLDER\n");
        return 2;
    }
    make_files(arguments[1]);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        in_child(&ways[i], arguments[1]);
    }
    return 0;
}
