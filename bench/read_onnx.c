/* SPDX-License-Identifier: Apache-2.0 */
/* What reading an ONNX file costs before its weights are first used: time, heap, resident memory.
 * Makes its own files: 1 GiB of weights inside and outside of the message, and chains of 5,000 to
 * 100,000 nodes. read_onnx FOLDER prints a file, what it is, milliseconds and MiB of heap, divided
 * by tabs; bench/read_onnx_python.py runs it and reads the same files with onnx.load. */
#include <kiln/kiln.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_times.h"

#define GIB ((int64_t)1 << 30)
#define TENSORS 16
#define REPEATS 7

static kiln_network *start(kiln_tensor_id *x)
{
    kiln_network *network = NULL;
    bench_require(kiln_network_create(NULL, &network));
    bench_require(
        kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32, &KILN_SHAPE(1, 4096), NULL, x));
    return network;
}

static void finish(kiln_network *network, kiln_tensor_id x, const char *path,
                   kiln_weights_place place)
{
    bench_require(kiln_network_mark_output(network, x));
    bench_require(kiln_network_save_onnx(network, path, place));
    kiln_network_destroy(network);
}

static void make_large(const char *path, kiln_weights_place place)
{
    const size_t size = (size_t)(GIB / TENSORS);
    void *data = bench_allocate(size);
    kiln_tensor_id x, w;
    kiln_network *network = start(&x);
    for (int i = 0; i < TENSORS; i++) {
        const kiln_weights weights = {KILN_DTYPE_FLOAT32, KILN_SHAPE(4096, 4096), {data, size}};
        bench_require(kiln_network_add_constant(network, NULL, &weights, &w));
        bench_require(kiln_network_add_matrix_multiply(network, NULL, x, w, &x));
    }
    finish(network, x, path, place);
    free(data);
}

static void make_chain(const char *path, int nodes)
{
    kiln_tensor_id x;
    kiln_network *network = start(&x);
    for (int i = 0; i < nodes; i++) {
        if (i % 2 == 0) {
            bench_require(kiln_network_add_activation(network, NULL, KILN_ACTIVATION_LEAKY_RELU, x,
                                                      0.1F, 0.0F, &x));
        } else {
            bench_require(
                kiln_network_add_elementwise(network, NULL, KILN_ELEMENTWISE_ADD, x, x, &x));
        }
    }
    finish(network, x, path, KILN_WEIGHTS_INLINE);
}

static void measure(const char *what, const char *path)
{
    double times[REPEATS];
    kiln_allocation_counters before;
    kiln_allocation_counters after = {0};
    kiln_get_allocation_counters(&before);
    for (int i = 0; i < REPEATS; i++) {
        kiln_network *network = NULL;
        const double begin = bench_milliseconds();
        bench_require(kiln_network_from_onnx(path, &network));
        times[i] = bench_milliseconds() - begin;
        kiln_get_allocation_counters(&after);
        kiln_network_destroy(network);
    }
    (void)printf("%s\t%s\t%.3f\t%.2f\n", strrchr(path, '/') + 1, what, bench_median(times, REPEATS),
                 (double)(after.bytes_in_use - before.bytes_in_use) / (1024.0 * 1024.0));
}

int main(int count, char **arguments)
{
    static const int sizes[] = {5000, 10000, 20000, 50000, 100000};
    char path[4096];
    char what[64];
    if (count != 2) {
        (void)fprintf(stderr, "usage: read_onnx FOLDER\n");
        return 2;
    }
    for (int i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof path, "%s/%s.onnx", arguments[1],
                       i == 0 ? "inline" : "external");
        make_large(path, i == 0 ? KILN_WEIGHTS_INLINE : KILN_WEIGHTS_EXTERNAL);
        measure(i == 0 ? "1 GiB of weights in the message" : "1 GiB of weights beside it", path);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/chain%d.onnx", arguments[1], sizes[i]);
        (void)snprintf(what, sizeof what, "%d nodes", sizes[i]);
        make_chain(path, sizes[i]);
        measure(what, path);
    }
    return 0;
}
