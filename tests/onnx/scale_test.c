/* SPDX-License-Identifier: Apache-2.0 */
/* Bounds on what large models cost, in time and memory.
 *
 *     scale_test FOLDER
 *
 * Weights are files and mappings with nothing but holes in them, so that the machine needs neither
 * the disk nor the memory. Prints what was measured beside each bound; ends with 1 past one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <kiln/kiln.h>

#include "onnx/kln_onnx.h"

#define GIB ((size_t)1 << 30)
#define MIB (1024.0 * 1024.0)
#define SIDE 4096
#define TENSORS 16
#define RUNS 7

static int past;

static void bound(const char *what, double found, double most, const char *unit)
{
    (void)printf("%-4s %-58s %10.3f %s, %g allowed\n", found <= most ? "ok" : "PAST", what, found,
                 unit, most);
    past += found > most;
}

static void require(kiln_status status)
{
    if (status != KILN_OK) {
        (void)fprintf(stderr, "%s: %s\n", kiln_status_name(status), kiln_error_message());
        exit(1);
    }
}

static void must(bool good, const char *what)
{
    if (!good) {
        (void)fprintf(stderr, "%s\n", what);
        exit(1);
    }
}

/* Of the processor: what else the machine does shall not count. */
static double milliseconds(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static double resident(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    must(file != NULL && fscanf(file, "%*d %ld", &pages) == 1, "/proc/self/statm");
    (void)fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / MIB;
}

/* The heap that was in use at most since `before` was taken; a process has one peak only. */
static double heap_since(const kiln_allocation_counters *before)
{
    kiln_allocation_counters now;
    kiln_get_allocation_counters(&now);
    return (double)(now.bytes_peak - before->bytes_in_use) / MIB;
}

/* --- building from the caller's memory --- */

static kiln_network *products(const char *weights)
{
    const size_t each = (size_t)SIDE * SIDE * sizeof(float);
    kiln_network *network = NULL;
    kiln_tensor_id x;
    kiln_tensor_id w;
    require(kiln_network_create(NULL, &network));
    require(
        kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32, &KILN_SHAPE(1, SIDE), NULL, &x));
    for (size_t i = 0; i < TENSORS; i++) {
        const kiln_weights data = {
            KILN_DTYPE_FLOAT32, KILN_SHAPE(SIDE, SIDE), {weights + i * each, each}};
        require(kiln_network_add_constant(network, NULL, &data, &w));
        require(kiln_network_add_matrix_multiply(network, NULL, x, w, &x));
    }
    require(kiln_network_mark_output(network, x));
    return network;
}

static void build(const char *weights, const char *backend, kiln_switch share, const char *what)
{
    kiln_engine *engine = NULL;
    kiln_allocation_counters before;
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = backend, .threads = 1, .share_weights = share);
    kiln_get_allocation_counters(&before);
    kiln_network *network = products(weights);
    require(kiln_engine_build(network, &options, &engine));
    bound(what, heap_since(&before), 32.0, "MiB of heap");
    kiln_network_destroy(network);
    kiln_engine_release(engine);
}

static void build_all(void)
{
    void *weights = mmap(NULL, GIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    must(weights != MAP_FAILED, "no address space for 1 GiB");
    build(weights, "onnxruntime", KILN_SWITCH_ON, "1 GiB of the caller's, on ONNX Runtime, shared");
    build(weights, "onnxruntime", KILN_SWITCH_DEFAULT, "1 GiB of the caller's, on ONNX Runtime");
    build(weights, "reference", KILN_SWITCH_DEFAULT, "1 GiB of the caller's, on the reference");
    (void)munmap(weights, GIB);
}

/* --- reading --- */

static size_t put_varint(unsigned char *to, uint64_t value)
{
    size_t used = 0;
    for (; value >= 128; value >>= 7) {
        to[used++] = (unsigned char)(value | 128);
    }
    to[used++] = (unsigned char)value;
    return used;
}

static void write_file(const char *path, const void *head, size_t used, size_t size)
{
    FILE *file = fopen(path, "wb");
    must(file != NULL && fwrite(head, 1, used, file) == used && fclose(file) == 0 &&
             truncate(path, (off_t)size) == 0,
         path);
}

/* A tensor of `size` bytes that stand in the message itself, as the hole at the end of the file. */
static void make_inline(const char *path, uint64_t size)
{
    unsigned char tensor[64] = {0x10, 1, 0x42, 1, 'w', 0x08}; /* float32, "w" */
    unsigned char graph[32] = {0x2a};
    unsigned char head[128] = {0x08, 8, 0x3a};
    size_t t = 6 + put_varint(tensor + 6, size / 4);
    tensor[t++] = 0x4a;
    t += put_varint(tensor + t, size);
    const size_t g = 1 + put_varint(graph + 1, t + size);
    size_t used = 3 + put_varint(head + 3, g + t + size);
    memcpy(head + used, graph, g);
    memcpy(head + used + g, tensor, t);
    used += g + t;
    write_file(path, head, used, used + size);
}

static void make_external(const char *path, const char *data_path, uint64_t size)
{
    kln_onnx_model *model = NULL;
    int64_t dim = (int64_t)(size / 4);
    kln_onnx_tensor tensor = {.name = "w",
                              .dtype = KILN_DTYPE_FLOAT32,
                              .rank = 1,
                              .dims = &dim,
                              .wire_dtype = kln_onnx_wire_dtype(KILN_DTYPE_FLOAT32),
                              .is_external = true,
                              .location = strrchr(data_path, '/') + 1,
                              .external_length = size};
    require(kln_onnx_model_create(&model));
    model->ir_version = 8;
    model->graph.name = "g";
    model->graph.initializers = &tensor;
    model->graph.initializer_count = 1;
    require(kln_onnx_write_file(model, path, KLN_ONNX_WEIGHTS_INLINE));
    kln_onnx_model_destroy(model);
    write_file(data_path, "", 0, size);
}

static void read_large(const char *path, const char *what, uint64_t size)
{
    char line[128];
    double best = 1e9;
    double heap = 0.0;
    double memory = 0.0;
    kln_onnx_model *model = NULL;
    for (int i = 0; i < RUNS; i++) {
        kiln_allocation_counters before;
        kiln_allocation_counters after;
        kln_onnx_model_destroy(model);
        kiln_get_allocation_counters(&before);
        const double resident_before = resident();
        const double begin = milliseconds();
        require(kln_onnx_read_file(path, &model));
        const double spent = milliseconds() - begin;
        kiln_get_allocation_counters(&after);
        best = spent < best ? spent : best;
        memory = resident() - resident_before;
        heap = (double)(after.bytes_in_use - before.bytes_in_use) / MIB;
    }
    const kiln_span data = model->graph.initializers[0].data;
    must(data.size == size && ((const char *)data.data)[size - 1] == 0, "other weights");
    kln_onnx_model_destroy(model);
    (void)snprintf(line, sizeof line, "reading %s", what);
    bound(line, best, 20.0, "ms");
    bound("    its heap", heap, 4.0, "MiB");
    bound("    its resident memory", memory, 4.0, "MiB");
    must(unlink(path) == 0, path);
}

static void read_all(const char *folder)
{
    char path[4096];
    char data[4096];
    (void)snprintf(path, sizeof path, "%s/large.onnx", folder);
    (void)snprintf(data, sizeof data, "%s/large.bin", folder);
    make_inline(path, GIB);
    read_large(path, "1 GiB in the message", GIB);
    make_inline(path, 3 * (uint64_t)GIB);
    read_large(path, "3 GiB in the message", 3 * (uint64_t)GIB);
    make_external(path, data, 5 * (uint64_t)GIB);
    read_large(path, "5 GiB in a file beside it", 5 * (uint64_t)GIB);
    must(unlink(data) == 0, data);
}

/* --- many nodes --- */

/* Blocks of a product, a bias, a rectifier, a residual and a softmax. */
static void make_blocks(const char *path, int nodes)
{
    static const float zeros[16 * 16];
    kiln_network *network = NULL;
    kiln_tensor_id x;
    kiln_tensor_id y;
    kiln_tensor_id w;
    kiln_tensor_id b;
    const kiln_weights weights = {KILN_DTYPE_FLOAT32, KILN_SHAPE(16, 16), {zeros, sizeof zeros}};
    const kiln_weights bias = {KILN_DTYPE_FLOAT32, KILN_SHAPE(16), {zeros, 64}};
    require(kiln_network_create(NULL, &network));
    require(kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32, &KILN_SHAPE(KILN_DYNAMIC, 16),
                                   NULL, &x));
    require(kiln_network_add_constant(network, "w", &weights, &w));
    require(kiln_network_add_constant(network, "b", &bias, &b));
    for (int i = 0; i < nodes / 5; i++) {
        require(kiln_network_add_matrix_multiply(network, NULL, x, w, &y));
        require(kiln_network_add_elementwise(network, NULL, KILN_ELEMENTWISE_ADD, y, b, &y));
        require(
            kiln_network_add_activation(network, NULL, KILN_ACTIVATION_RELU, y, 0.0F, 0.0F, &y));
        require(kiln_network_add_elementwise(network, NULL, KILN_ELEMENTWISE_ADD, x, y, &y));
        require(
            kiln_network_add_activation(network, NULL, KILN_ACTIVATION_SIGMOID, y, 0.0F, 0.0F, &x));
    }
    require(kiln_network_mark_output(network, x));
    require(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
    kiln_network_destroy(network);
}

static double check_blocks(const char *path, int nodes)
{
    double best = 1e9;
    make_blocks(path, nodes);
    for (int i = 0; i < RUNS; i++) {
        kiln_issue_list *issues = NULL;
        const double begin = milliseconds();
        require(kiln_check_file(path, NULL, &issues));
        const double spent = milliseconds() - begin;
        must(kiln_issue_list_count(issues) == 0, "a network without fault has issues");
        kiln_issue_list_destroy(issues);
        best = spent < best ? spent : best;
    }
    must(unlink(path) == 0, path);
    return best;
}

static void check_all(const char *folder)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/blocks.onnx", folder);
    const double few = check_blocks(path, 5000);
    const double many = check_blocks(path, 100000);
    bound("5,000 nodes read, inferred and checked", few, 20.0, "ms");
    bound("100,000 nodes, a node's time against that", many / 20.0 / few, 2.5, "times");
}

int main(int count, char **arguments)
{
    if (count != 2) {
        (void)fprintf(stderr, "usage: scale_test FOLDER\n");
        return 2;
    }
    read_all(arguments[1]);
    build_all();
    check_all(arguments[1]);
    return past == 0 ? 0 : 1;
}
