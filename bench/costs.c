/* SPDX-License-Identifier: Apache-2.0 */
/* What one call of the library costs, for bench/costs.py, which runs it over two versions of the
 * library in turns:
 *
 *     costs WHAT COUNT [BACKEND|FILE]
 *
 * does WHAT so many times and prints the nanoseconds of processor time that each took. WHAT is a
 * kind of layer, added to a network; "build" (layers of a chain, added and built); "run", "bind"
 * (other memory and a run), "tensors" (kiln_context_run_tensors), of BACKEND; "read" and "check",
 * of a chain of COUNT nodes that is saved to FILE first, or with 0 of the FILE that there is: then
 * the time is that of the whole file, else of each node.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kiln/kiln.h>

#include "bench_times.h"

#define MOST 4096
#define REPEATS 5

static kiln_network *network;
static kiln_tensor_id x, last, weights, scale, indices;
static const float zeros[64 * 64 * 9];
static char names[MOST][32];

static kiln_engine *engine;
static kiln_context *context;
static float memory[2][64], result[64];
static const char *file;

static kiln_tensor_id constant(const char *name, kiln_shape shape)
{
    size_t bytes = 0;
    kiln_tensor_id id = KILN_NO_TENSOR;
    bench_require(kiln_tensor_bytes(KILN_DTYPE_FLOAT32, &shape, &bytes));
    const kiln_weights values = {
        .dtype = KILN_DTYPE_FLOAT32, .shape = shape, .data = {zeros, bytes}};
    bench_require(kiln_network_add_constant(network, name, &values, &id));
    return id;
}

static void begin_network(void)
{
    const kiln_shape shape = KILN_SHAPE(1, 64, 28, 28);
    const kiln_shape places = KILN_SHAPE(8);
    bench_require(kiln_network_create(NULL, &network));
    bench_require(kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32, &shape, NULL, &x));
    bench_require(kiln_network_add_input(network, "i", KILN_DTYPE_INT64, &places, NULL, &indices));
    weights = constant("w", KILN_SHAPE(64, 64, 3, 3));
    scale = constant("s", KILN_SHAPE(64, 1, 1));
    last = x;
}

/* --- layers --- */

typedef kiln_status step(const char *name);

static kiln_status unary(const char *name)
{
    return kiln_network_add_unary(network, name, KILN_UNARY_ABS, x, &last);
}

static kiln_status activation(const char *name)
{
    return kiln_network_add_activation(network, name, KILN_ACTIVATION_RELU, x, 0, 0, &last);
}

static kiln_status elementwise(const char *name)
{
    return kiln_network_add_elementwise(network, name, KILN_ELEMENTWISE_ADD, x, scale, &last);
}

static kiln_status chain(const char *name) /* each reads the one before it */
{
    return kiln_network_add_elementwise(network, name, KILN_ELEMENTWISE_ADD, last, last, &last);
}

static kiln_status cast(const char *name)
{
    return kiln_network_add_cast(network, name, x, KILN_DTYPE_FLOAT16, &last);
}

static kiln_status convolution(const char *name)
{
    kiln_convolution_options options = KILN_CONVOLUTION_OPTIONS_INIT;
    options.before[0] = options.before[1] = options.after[0] = options.after[1] = 1;
    return kiln_network_add_convolution(network, name, x, weights, KILN_NO_TENSOR, &options, &last);
}

static kiln_status matmul(const char *name)
{
    return kiln_network_add_matrix_multiply(network, name, x, x, &last);
}

static kiln_status softmax(const char *name)
{
    return kiln_network_add_softmax(network, name, x, 1, false, &last);
}

static kiln_status gather(const char *name)
{
    return kiln_network_add_gather(network, name, x, indices, 1, &last);
}

static kiln_status join(const char *name)
{
    const kiln_tensor_id both[] = {x, x};
    return kiln_network_add_concat(network, name, both, 2, 1, &last);
}

static kiln_status shape(const char *name)
{
    return kiln_network_add_shape(network, name, x, &last);
}

static kiln_status reshape(const char *name)
{
    const kiln_shape flat = KILN_SHAPE(1, 64, -1);
    return kiln_network_add_reshape(network, name, x, &flat, &last);
}

static kiln_status transpose(const char *name)
{
    static const int64_t order[] = {0, 2, 3, 1};
    return kiln_network_add_transpose(network, name, x, order, 4, &last);
}

/* --- runs, of one small layer in memory that stays or moves --- */

static kiln_tensor tensor_of(float *data)
{
    return KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(64), data, sizeof result);
}

static void begin_runs(const char *backend)
{
    const kiln_shape shape_of_x = KILN_SHAPE(64);
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = backend, .threads = 1);
    bench_require(kiln_network_create(NULL, &network));
    bench_require(kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32, &shape_of_x, NULL, &x));
    bench_require(kiln_network_add_unary(network, "y", KILN_UNARY_ABS, x, &last));
    bench_require(kiln_network_mark_output(network, last));
    bench_require(kiln_engine_build(network, &options, &engine));
    bench_require(kiln_context_create(engine, NULL, &context));
    const kiln_tensor in = tensor_of(memory[0]);
    const kiln_tensor out = tensor_of(result);
    bench_require(kiln_context_bind(context, "x", &in));
    bench_require(kiln_context_bind(context, "y", &out));
    bench_require(kiln_context_warmup(context, 100, 0, NULL));
}

static kiln_status run(const char *name)
{
    (void)name;
    return kiln_context_run(context);
}

static kiln_status bind(const char *name)
{
    static size_t turn;
    const kiln_tensor in = tensor_of(memory[turn++ % 2]);
    const kiln_status status = kiln_context_bind(context, "x", &in);
    return status == KILN_OK ? run(name) : status;
}

static kiln_status tensors(const char *name)
{
    (void)name;
    const kiln_named_tensor in = {"x", tensor_of(memory[0])};
    kiln_named_tensor out = {"y", tensor_of(result)};
    return kiln_context_run_tensors(context, &in, 1, &out, 1);
}

/* --- files --- */

static kiln_status read_file(const char *name)
{
    (void)name;
    kiln_network *made = NULL;
    const kiln_status status = kiln_network_from_onnx(file, &made);
    kiln_network_destroy(made);
    return status;
}

static kiln_status check_file(const char *name)
{
    (void)name;
    kiln_issue_list *issues = NULL;
    const kiln_status status = kiln_check_file(file, NULL, &issues);
    if (kiln_issue_list_errors(issues) > 0) {
        (void)fprintf(stderr, "%s has errors: `kiln check` tells them\n", file);
        exit(1);
    }
    kiln_issue_list_destroy(issues);
    return status;
}

static kiln_status build(const char *name)
{
    (void)name;
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
    for (size_t i = 0; i < MOST / 4; i++) {
        bench_require(chain(names[i]));
    }
    bench_require(kiln_network_mark_output(network, last));
    return kiln_engine_build(network, &options, &engine);
}

/* --- measuring --- */

/* What bench/costs.py lets valgrind count. */
__attribute__((noinline)) static double measured(step *what, size_t count)
{
    const double begin = bench_processor(CLOCK_PROCESS_CPUTIME_ID);
    for (size_t i = 0; i < count; i++) {
        bench_require(what(names[i % MOST]));
    }
    return bench_processor(CLOCK_PROCESS_CPUTIME_ID) - begin;
}

static const struct {
    const char *name;
    step *what;
    char kind; /* Layer, Network, Run, File */
} steps[] = {{"unary", unary, 'L'},
             {"activation", activation, 'L'},
             {"chain", chain, 'L'},
             {"elementwise", elementwise, 'L'},
             {"cast", cast, 'L'},
             {"convolution", convolution, 'L'},
             {"matmul", matmul, 'L'},
             {"softmax", softmax, 'L'},
             {"gather", gather, 'L'},
             {"join", join, 'L'},
             {"shape", shape, 'L'},
             {"reshape", reshape, 'L'},
             {"transpose", transpose, 'L'},
             {"build", build, 'N'},
             {"run", run, 'R'},
             {"bind", bind, 'R'},
             {"tensors", tensors, 'R'},
             {"read", read_file, 'F'},
             {"check", check_file, 'F'}};

static void save_chain(size_t count)
{
    char name[32];
    begin_network();
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(name, sizeof name, "layer%zu", i);
        bench_require(i % 2 == 0 ? chain(name) : activation(name));
    }
    bench_require(kiln_network_mark_output(network, last));
    bench_require(kiln_network_save_onnx(network, file, KILN_WEIGHTS_INLINE));
    kiln_network_destroy(network);
    network = NULL;
}

static double measure(step *what, char kind, size_t count, const char *more)
{
    file = more;
    if (kind == 'R') {
        begin_runs(more);
        return measured(what, count) / (double)count;
    }
    if (kind == 'F') {
        if (count != 0) {
            save_chain(count);
        }
        bench_require(what(NULL));
        return measured(what, REPEATS) / REPEATS / (double)(count != 0 ? count : 1);
    }
    begin_network();
    return kind == 'N' ? measured(what, 1) / (MOST / 4.0) : measured(what, count) / (double)count;
}

int main(int argc, char **argv)
{
    for (size_t i = 0; i < MOST; i++) {
        (void)snprintf(names[i], sizeof names[i], "layer%zu", i);
    }
    for (size_t i = 0; argc >= 3 && i < sizeof steps / sizeof steps[0]; i++) {
        if (strcmp(argv[1], steps[i].name) == 0) {
            (void)printf("%.2f\n", measure(steps[i].what, steps[i].kind, strtoul(argv[2], NULL, 10),
                                           argc > 3 ? argv[3] : NULL));
            kiln_context_destroy(context);
            kiln_engine_release(engine);
            kiln_network_destroy(network);
            return 0;
        }
    }
    (void)fprintf(stderr, "usage: costs WHAT COUNT [BACKEND|FILE]\n");
    return 2;
}
