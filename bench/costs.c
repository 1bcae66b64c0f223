/* Instructions of a layer that is added to a network: add_layers KIND COUNT [build] adds COUNT of
 * them, and builds the network with the reference executor.
 * bench/layers_instructions.sh counts with two numbers and takes the difference.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include <kiln/kiln.h>

#include "bench_times.h"

static kiln_network *network;
static kiln_tensor_id x, last, weights, scale, indices;
static const float zeros[64 * 64 * 9];

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

static kiln_status convolution(const char *name, kiln_tensor_id *y)
{
    kiln_convolution_options options = KILN_CONVOLUTION_OPTIONS_INIT;
    options.before[0] = options.before[1] = options.after[0] = options.after[1] = 1;
    return kiln_network_add_convolution(network, name, x, weights, KILN_NO_TENSOR, &options, y);
}

static kiln_status add(const char *kind, const char *name)
{
    static const int64_t order[] = {0, 2, 3, 1};
    const kiln_shape flat = KILN_SHAPE(1, 64, -1);
    const kiln_tensor_id both[] = {x, x};
    kiln_tensor_id *y = &last;
    switch (kind[0] | kind[1] << 8) {
        case 'u' | 'n' << 8: return kiln_network_add_unary(network, name, KILN_UNARY_ABS, x, y);
        case 'a' | 'c' << 8:
            return kiln_network_add_activation(network, name, KILN_ACTIVATION_RELU, x, 0, 0, y);
        case 'e' | 'l' << 8:
            return kiln_network_add_elementwise(network, name, KILN_ELEMENTWISE_ADD, x, scale, y);
        case 'c' | 'h' << 8: /* a chain: each reads the one before it */
            return kiln_network_add_elementwise(network, name, KILN_ELEMENTWISE_ADD, last, last, y);
        case 'm' | 'a' << 8: return kiln_network_add_matrix_multiply(network, name, x, x, y);
        case 's' | 'o' << 8: return kiln_network_add_softmax(network, name, x, 1, false, y);
        case 'c' | 'a' << 8: return kiln_network_add_cast(network, name, x, KILN_DTYPE_FLOAT16, y);
        case 'c' | 'o' << 8: return convolution(name, y);
        case 'g' | 'a' << 8: return kiln_network_add_gather(network, name, x, indices, 1, y);
        case 'j' | 'o' << 8: return kiln_network_add_concat(network, name, both, 2, 1, y);
        case 's' | 'h' << 8: return kiln_network_add_shape(network, name, x, y);
        case 'r' | 'e' << 8: return kiln_network_add_reshape(network, name, x, &flat, y);
        case 't' | 'r' << 8: return kiln_network_add_transpose(network, name, x, order, 4, y);
        default: return KILN_ERROR_INVALID_ARGUMENT;
    }
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        (void)fprintf(stderr, "usage: add_layers KIND COUNT [build]\n");
        return 2;
    }
    const kiln_shape shape = KILN_SHAPE(1, 64, 28, 28);
    const kiln_shape places = KILN_SHAPE(8);
    bench_require(kiln_network_create(NULL, &network));
    bench_require(kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32, &shape, NULL, &x));
    bench_require(kiln_network_add_input(network, "i", KILN_DTYPE_INT64, &places, NULL, &indices));
    weights = constant("w", KILN_SHAPE(64, 64, 3, 3));
    last = x;
    scale = constant("s", KILN_SHAPE(64, 1, 1));
    const long count = strtol(argv[2], NULL, 10);
    for (long i = 0; i < count; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "layer%ld", i);
        bench_require(add(argv[1], name));
    }
    if (argc > 3) {
        kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
        kiln_engine *engine = NULL;
        options.backend = "reference";
        bench_require(kiln_network_mark_output(network, last));
        bench_require(kiln_engine_build(network, &options, &engine));
        kiln_engine_release(engine);
    }
    kiln_network_destroy(network);
    return 0;
}
