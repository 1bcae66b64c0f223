/* SPDX-License-Identifier: Apache-2.0 */
#include "models.h"
#include "bench_times.h"

#include <math.h>
#include <stdlib.h>

/* A network in the making, and the weights it does not own. */
typedef struct maker {
    kiln_network *network;
    void **weights;
    size_t weight_count;
    uint32_t seed;
} maker;

static maker begin(void)
{
    maker made = {.seed = 1};
    bench_require(kiln_network_create(NULL, &made.network));
    made.weights = calloc(4096, sizeof *made.weights);
    if (made.weights == NULL) {
        exit(1);
    }
    return made;
}

static void finish(maker *made, const char *path)
{
    bench_require(kiln_network_save_onnx(made->network, path, KILN_WEIGHTS_INLINE));
    kiln_network_destroy(made->network);
    for (size_t i = 0; i < made->weight_count; i++) {
        free(made->weights[i]);
    }
    free(made->weights);
}

static void *take(maker *made, size_t bytes)
{
    void *memory = malloc(bytes);
    if (memory == NULL || made->weight_count == 4096) {
        exit(1);
    }
    made->weights[made->weight_count++] = memory;
    return memory;
}

/* Floats around `centre`, at most `spread` away. */
static kiln_tensor_id floats(maker *made, kiln_shape shape, float centre, float spread)
{
    int64_t count = 0;
    bench_require(kiln_shape_elements(&shape, &count));
    float *values = take(made, (size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++) {
        made->seed = made->seed * 1664525U + 1013904223U;
        values[i] = centre + spread * ((float)(made->seed >> 8) / 8388608.0F - 1.0F);
    }
    const kiln_weights weights = {.dtype = KILN_DTYPE_FLOAT32,
                                  .shape = shape,
                                  .data = {values, (size_t)count * sizeof *values}};
    kiln_tensor_id id;
    bench_require(kiln_network_add_constant(made->network, NULL, &weights, &id));
    return id;
}

static kiln_tensor_id number(maker *made, float value)
{
    return floats(made, KILN_SHAPE(1), value, 0);
}

static kiln_tensor_id activate(maker *made, kiln_activation kind, kiln_tensor_id x)
{
    kiln_tensor_id y;
    bench_require(kiln_network_add_activation(made->network, NULL, kind, x, 0, 0, &y));
    return y;
}

static kiln_tensor_id join(maker *made, kiln_elementwise kind, kiln_tensor_id a, kiln_tensor_id b)
{
    kiln_tensor_id y;
    bench_require(kiln_network_add_elementwise(made->network, NULL, kind, a, b, &y));
    return y;
}

static kiln_tensor_id input(maker *made, const char *name, kiln_dtype dtype, kiln_shape shape)
{
    static const char *const names[KILN_MAX_RANK] = {"batch"};
    kiln_tensor_id id;
    bench_require(kiln_network_add_input(made->network, name, dtype, &shape, names, &id));
    return id;
}

void model_unary(const char *path, kiln_activation kind)
{
    maker made = begin();
    const kiln_tensor_id x = input(&made, "x", KILN_DTYPE_FLOAT32, KILN_SHAPE(KILN_DYNAMIC));
    kiln_tensor_id y;
    bench_require(kiln_network_add_activation(made.network, "y", kind, x, 0, 0, &y));
    bench_require(kiln_network_mark_output(made.network, y));
    finish(&made, path);
}

/* --- ResNet-50 --- */

static kiln_tensor_id convolve(maker *made, kiln_tensor_id x, int64_t in, int64_t out, int64_t size,
                               int64_t stride)
{
    kiln_convolution_options options = KILN_CONVOLUTION_OPTIONS_INIT;
    for (int i = 0; i < 2; i++) {
        options.strides[i] = stride;
        options.before[i] = size / 2;
        options.after[i] = size / 2;
    }
    const float spread = sqrtf(3.0F / (float)(in * size * size));
    const kiln_tensor_id kernel = floats(made, KILN_SHAPE(out, in, size, size), 0, spread);
    const kiln_tensor_id bias = floats(made, KILN_SHAPE(out), 0, 0.01F);
    kiln_tensor_id y;
    bench_require(kiln_network_add_convolution(made->network, NULL, x, kernel, bias, &options, &y));
    return y;
}

static kiln_tensor_id bottleneck(maker *made, kiln_tensor_id x, int64_t in, int64_t width,
                                 int64_t stride)
{
    const int64_t out = width * 4;
    kiln_tensor_id y = activate(made, KILN_ACTIVATION_RELU, convolve(made, x, in, width, 1, 1));
    y = activate(made, KILN_ACTIVATION_RELU, convolve(made, y, width, width, 3, stride));
    y = convolve(made, y, width, out, 1, 1);
    if (in != out || stride != 1) {
        x = convolve(made, x, in, out, 1, stride);
    }
    return activate(made, KILN_ACTIVATION_RELU, join(made, KILN_ELEMENTWISE_ADD, y, x));
}

void model_resnet50(const char *path)
{
    static const int blocks[] = {3, 4, 6, 3};
    maker made = begin();
    kiln_tensor_id x =
        input(&made, "image", KILN_DTYPE_FLOAT32, KILN_SHAPE(KILN_DYNAMIC, 3, 224, 224));
    x = activate(&made, KILN_ACTIVATION_RELU, convolve(&made, x, 3, 64, 7, 2));
    kiln_pooling_options pooling = KILN_POOLING_OPTIONS_INIT;
    for (int i = 0; i < 2; i++) {
        pooling.window[i] = 3;
        pooling.strides[i] = 2;
        pooling.before[i] = 1;
        pooling.after[i] = 1;
    }
    kiln_tensor_id y;
    bench_require(kiln_network_add_pooling(made.network, NULL, KILN_POOLING_MAX, x, &pooling, &y));
    int64_t in = 64;
    for (int stage = 0; stage < 4; stage++) {
        const int64_t width = INT64_C(64) << stage;
        for (int block = 0; block < blocks[stage]; block++) {
            y = bottleneck(&made, y, in, width, block == 0 && stage > 0 ? 2 : 1);
            in = width * 4;
        }
    }
    bench_require(kiln_network_add_global_pooling(made.network, NULL, KILN_POOLING_AVERAGE, y, &x));
    bench_require(kiln_network_add_flatten(made.network, NULL, x, 1, &y));
    const kiln_tensor_id matrix = floats(&made, KILN_SHAPE(2048, 1000), 0, 0.04F);
    const kiln_tensor_id bias = floats(&made, KILN_SHAPE(1000), 0, 0.01F);
    bench_require(kiln_network_add_gemm(made.network, "scores", y, matrix, bias, NULL, &x));
    bench_require(kiln_network_mark_output(made.network, x));
    finish(&made, path);
}

/* --- BERT-base --- */

#define WIDTH 768
#define HEADS 12

static kiln_tensor_id multiply(maker *made, kiln_tensor_id a, kiln_tensor_id b)
{
    kiln_tensor_id y;
    bench_require(kiln_network_add_matrix_multiply(made->network, NULL, a, b, &y));
    return y;
}

static kiln_tensor_id dense(maker *made, kiln_tensor_id x, int64_t in, int64_t out)
{
    const kiln_tensor_id matrix = floats(made, KILN_SHAPE(in, out), 0, sqrtf(3.0F / (float)in));
    return join(made, KILN_ELEMENTWISE_ADD, multiply(made, x, matrix),
                floats(made, KILN_SHAPE(out), 0, 0.01F));
}

static kiln_tensor_id normalize(maker *made, kiln_tensor_id x)
{
    kiln_tensor_id y;
    bench_require(kiln_network_add_layer_normalization(
        made->network, NULL, x, floats(made, KILN_SHAPE(WIDTH), 1, 0.1F),
        floats(made, KILN_SHAPE(WIDTH), 0, 0.1F), -1, 1e-12F, &y));
    return y;
}

static kiln_tensor_id reshape(maker *made, kiln_tensor_id x, kiln_shape shape)
{
    kiln_tensor_id y;
    bench_require(kiln_network_add_reshape(made->network, NULL, x, &shape, &y));
    return y;
}

static kiln_tensor_id transpose(maker *made, kiln_tensor_id x, const int64_t order[4])
{
    kiln_tensor_id y;
    bench_require(kiln_network_add_transpose(made->network, NULL, x, order, 4, &y));
    return y;
}

static kiln_tensor_id attend(maker *made, kiln_tensor_id x, kiln_tensor_id mask)
{
    static const int64_t heads_first[] = {0, 2, 1, 3};
    static const int64_t keys_last[] = {0, 2, 3, 1};
    const kiln_shape split = KILN_SHAPE(0, 0, HEADS, WIDTH / HEADS);
    kiln_tensor_id parts[3]; /* query, key and value */
    for (int i = 0; i < 3; i++) {
        parts[i] = dense(made, x, WIDTH, WIDTH);
    }
    const kiln_tensor_id query = transpose(made, reshape(made, parts[0], split), heads_first);
    const kiln_tensor_id key = transpose(made, reshape(made, parts[1], split), keys_last);
    const kiln_tensor_id value = transpose(made, reshape(made, parts[2], split), heads_first);
    kiln_tensor_id scores =
        join(made, KILN_ELEMENTWISE_DIV, multiply(made, query, key), number(made, 8.0F));
    scores = join(made, KILN_ELEMENTWISE_ADD, scores, mask);
    kiln_tensor_id shares;
    bench_require(kiln_network_add_softmax(made->network, NULL, scores, -1, false, &shares));
    const kiln_tensor_id mixed = transpose(made, multiply(made, shares, value), heads_first);
    return dense(made, reshape(made, mixed, KILN_SHAPE(0, 0, WIDTH)), WIDTH, WIDTH);
}

/* x / 2 * (1 + erf(x / sqrt(2))), as models are exported with it. */
static kiln_tensor_id gelu(maker *made, kiln_tensor_id x)
{
    kiln_tensor_id y = join(made, KILN_ELEMENTWISE_DIV, x, number(made, 1.41421356F));
    bench_require(kiln_network_add_unary(made->network, NULL, KILN_UNARY_ERF, y, &y));
    y = join(made, KILN_ELEMENTWISE_ADD, y, number(made, 1.0F));
    return join(made, KILN_ELEMENTWISE_MUL, join(made, KILN_ELEMENTWISE_MUL, x, y),
                number(made, 0.5F));
}

static kiln_tensor_id look_up(maker *made, kiln_tensor_id ids, int64_t rows)
{
    const kiln_tensor_id table = floats(made, KILN_SHAPE(rows, WIDTH), 0, 0.05F);
    kiln_tensor_id y;
    bench_require(kiln_network_add_gather(made->network, NULL, table, ids, 0, &y));
    return y;
}

void model_bert(const char *path)
{
    static const int64_t middle[] = {1, 2};
    maker made = begin();
    const kiln_shape shape = KILN_SHAPE(KILN_DYNAMIC, BERT_TOKENS);
    const kiln_tensor_id ids = input(&made, "ids", KILN_DTYPE_INT64, shape);
    const kiln_tensor_id types = input(&made, "types", KILN_DTYPE_INT64, shape);
    kiln_tensor_id mask = input(&made, "mask", KILN_DTYPE_INT64, shape);
    bench_require(kiln_network_add_unsqueeze(made.network, NULL, mask, middle, 2, &mask));
    bench_require(kiln_network_add_cast(made.network, NULL, mask, KILN_DTYPE_FLOAT32, &mask));
    mask = join(&made, KILN_ELEMENTWISE_SUB, number(&made, 1.0F), mask);
    mask = join(&made, KILN_ELEMENTWISE_MUL, mask, number(&made, -10000.0F));
    kiln_tensor_id x =
        join(&made, KILN_ELEMENTWISE_ADD, look_up(&made, ids, 30522), look_up(&made, types, 2));
    x = join(&made, KILN_ELEMENTWISE_ADD, x,
             floats(&made, KILN_SHAPE(1, BERT_TOKENS, WIDTH), 0, 0.05F));
    x = normalize(&made, x);
    for (int layer = 0; layer < 12; layer++) {
        x = normalize(&made, join(&made, KILN_ELEMENTWISE_ADD, attend(&made, x, mask), x));
        kiln_tensor_id y = gelu(&made, dense(&made, x, WIDTH, 4 * WIDTH));
        y = dense(&made, y, 4 * WIDTH, WIDTH);
        x = normalize(&made, join(&made, KILN_ELEMENTWISE_ADD, y, x));
    }
    kiln_tensor_id hidden;
    bench_require(kiln_network_add_activation(made.network, "hidden", KILN_ACTIVATION_IDENTITY, x,
                                              0, 0, &hidden));
    bench_require(kiln_network_mark_output(made.network, hidden));
    finish(&made, path);
}
