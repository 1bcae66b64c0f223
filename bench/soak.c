/* SPDX-License-Identifier: Apache-2.0 */
/* Does anything grow? Runs over eight shapes, then loads of the saved engine, then failed builds
 * and loads; memory of the heap, of the process and of the GPU before and after. Ends with 1 if
 * something grew.
 * soak [RUNS [LOADS [BACKEND [cuda]]]] */
#include <kiln/kiln.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_times.h"

#define SHAPES 8
/* What malloc keeps back and forth is not growth: a leak of 2 bytes a run passes this. */
#define SLACK ((long long)2 << 20)

/* y = Relu(x) over floats of one dynamic dimension (IR 8, opset 17). */
static const unsigned char relu_model[63] = {
    0x08, 0x08, 0x3a, 0x35, 0x0a, 0x0c, 0x0a, 0x01, 0x78, 0x12, 0x01, 0x79, 0x22, 0x04, 0x52, 0x65,
    0x6c, 0x75, 0x12, 0x01, 0x67, 0x5a, 0x10, 0x0a, 0x01, 0x78, 0x12, 0x0b, 0x0a, 0x09, 0x08, 0x01,
    0x12, 0x05, 0x0a, 0x03, 0x12, 0x01, 0x6e, 0x62, 0x10, 0x0a, 0x01, 0x79, 0x12, 0x0b, 0x0a, 0x09,
    0x08, 0x01, 0x12, 0x05, 0x0a, 0x03, 0x12, 0x01, 0x6e, 0x42, 0x04, 0x0a, 0x00, 0x10, 0x11};

typedef struct level {
    unsigned long long allocations; /* of Kiln's heap so far */
    long long heap;                 /* bytes of Kiln's heap in use */
    long long process;              /* resident bytes */
    long long device;               /* bytes in use on the GPU; 0 without one */
} level;

static level measure(const kiln_engine *engine)
{
    kiln_allocation_counters counters;
    level found = {.allocations = 0};
    long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    kiln_get_allocation_counters(&counters);
    found.allocations = counters.allocations;
    found.heap = (long long)counters.bytes_in_use;
    if (file != NULL) {
        char line[128] = "";
        if (fgets(line, sizeof line, file) != NULL && strchr(line, ' ') != NULL) {
            pages = strtoll(strchr(line, ' '), NULL, 10);
        }
        (void)fclose(file);
    }
    found.process = pages * (long long)sysconf(_SC_PAGESIZE);
    if (kiln_engine_device(engine) >= 0) {
        size_t free_bytes = 0;
        size_t total = 0;
        bench_require(kiln_device_memory(kiln_engine_device(engine), &free_bytes, &total));
        found.device = (long long)(total - free_bytes);
    }
    return found;
}

static void run_one(kiln_context *context, float *x, size_t number)
{
    const int64_t count = (int64_t)64 << (number % SHAPES);
    const float value = (float)(number % 1000) - 500;
    kiln_tensor y;
    const kiln_tensor input =
        KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(count), x, (size_t)count * sizeof *x);
    x[count - 1] = value;
    bench_require(kiln_context_bind(context, "x", &input));
    bench_require(kiln_context_run(context));
    bench_require(kiln_context_tensor(context, "y", &y));
    if (((const float *)y.data)[count - 1] != (value > 0 ? value : 0) ||
        y.desc.shape.dims[0] != count) {
        (void)fprintf(stderr, "run %zu: a wrong result\n", number);
        exit(1);
    }
}

static int report(const char *what, size_t count, level before, level after, int may_allocate)
{
    const unsigned long long allocations = after.allocations - before.allocations;
    const long long heap = after.heap - before.heap;
    const long long process = after.process - before.process;
    const long long device = after.device - before.device;
    const int good =
        (may_allocate || allocations == 0) && heap == 0 && process <= SLACK && device <= 0;
    (void)printf(
        "{\"soak\": \"%s\", \"count\": %zu, \"allocations\": %llu, \"heap_growth\": %lld, "
        "\"process_growth\": %lld, \"device_growth\": %lld, \"good\": %s}\n",
        what, count, allocations, heap, process, device, good ? "true" : "false");
    (void)fflush(stdout);
    return good ? 0 : 1;
}

/* The engine as it was saved, and a run of it. */
static void load_one(size_t number, const char *path, const kiln_build_options *options, float *x)
{
    kiln_engine *engine = NULL;
    kiln_context *context = NULL;
    bench_require(kiln_engine_load(path, options, &engine));
    bench_require(kiln_context_create(engine, NULL, &context));
    run_one(context, x, number);
    kiln_context_destroy(context);
    kiln_engine_release(engine);
}

static int soak_loads(kiln_engine *engine, const kiln_build_options *options, float *x,
                      size_t count)
{
    char folder[] = "/tmp/kiln_soak_XXXXXX";
    char path[64];
    char manifest[64];
    if (mkdtemp(folder) == NULL) {
        return 1;
    }
    (void)snprintf(path, sizeof path, "%s/engine", folder);
    (void)snprintf(manifest, sizeof manifest, "%s/engine.json", folder);
    bench_require(kiln_engine_save(engine, path));
    for (size_t i = 0; i < 20; i++) {
        load_one(i, path, options, x);
    }
    const level before = measure(engine);
    for (size_t i = 0; i < count; i++) {
        load_one(i, path, options, x);
    }
    const int result = report("loads and a run of each", count, before, measure(engine), 1);
    (void)remove(path);
    (void)remove(manifest);
    (void)rmdir(folder);
    return result;
}

/* One that is cut off, one that is damaged, one that is not there; each must fail. */
static void fail_one(size_t number, const kiln_build_options *options)
{
    unsigned char bytes[sizeof relu_model];
    kiln_engine *engine = NULL;
    memcpy(bytes, relu_model, sizeof bytes);
    kiln_status status = KILN_OK;
    switch (number % 3) {
        case 0:
            status =
                kiln_engine_build_bytes((kiln_span){bytes, 10 + number % 40}, options, &engine);
            break;
        case 1:
            memcpy(memchr(bytes, 'R', sizeof bytes), "Rexx", 4);
            status = kiln_engine_build_bytes((kiln_span){bytes, sizeof bytes}, options, &engine);
            break;
        default: status = kiln_engine_load("/nowhere/model.onnx", options, &engine); break;
    }
    if (status == KILN_OK || engine != NULL) {
        (void)fprintf(stderr, "failure %zu: it worked\n", number);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    const size_t runs = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000;
    const size_t loads = argc > 2 ? strtoul(argv[2], NULL, 10) : 1000;
    kiln_engine *engine = NULL;
    kiln_context *context = NULL;
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = argc > 3 ? argv[3] : "onnxruntime", .threads = 1);
    if (argc > 4 && strcmp(argv[4], "cuda") == 0) {
        options.provider = KILN_PROVIDER_CUDA;
    }
    float *x = bench_allocate(((size_t)64 << SHAPES) * sizeof *x);
    const kiln_profile_input input = {.name = "x",
                                      .min = KILN_SHAPE(64),
                                      .opt = KILN_SHAPE(1024),
                                      .max = KILN_SHAPE((int64_t)64 << (SHAPES - 1))};
    const kiln_profile profile = {.inputs = &input, .input_count = 1};
    options.profiles = &profile;
    options.profile_count = 1;
    bench_require(
        kiln_engine_build_bytes((kiln_span){relu_model, sizeof relu_model}, &options, &engine));
    bench_require(kiln_context_create(engine, NULL, &context));
    for (size_t i = 0; i < 1000; i++) {
        run_one(context, x, i);
    }
    const level warm = measure(engine);
    for (size_t i = 0; i < runs; i++) {
        run_one(context, x, i);
    }
    int result = report("runs over 8 shapes", runs, warm, measure(engine), 0);
    result |= soak_loads(engine, &options, x, loads);
    for (size_t i = 0; i < 60 && loads != 0; i++) {
        fail_one(i, &options);
    }
    const level tried = measure(engine);
    for (size_t i = 0; i < loads; i++) {
        fail_one(i, &options);
    }
    result |= report("failed builds and loads", loads, tried, measure(engine), 1);
    kiln_context_destroy(context);
    kiln_engine_release(engine);
    free(x);
    return result;
}
