/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of products of what a node sums over, against what the node computes; and weights that are
 * rounded by them. */
#include "context_test.h"
#include "graph/kln_graph.h"
#include "graph_maker.h"
#include "precision/quantize_fit.h"

#define MOST 4096

static float numbers[2][MOST];

static float wave(size_t i)
{
    return sinf((float)i * 1.3F) + 0.3F + 0.2F * sinf((float)(i * i % 97));
}

static const struct {
    const char *name, *op, *input, *weights, *attributes;
} cases[] = {
    {"a product", "MatMul", "5,7,6", "6,4", ""},
    {"a product, across", "Gemm", "9,6", "4,6", " transB=1"},
    {"one pixel", "Conv", "2,6,5,7", "4,6,1,1", ""},
    {"padded", "Conv", "1,3,5,7", "4,3,3,3", " strides=[1,1] dilations=[1,1] pads=[1,1,1,1]"},
    {"uneven", "Conv", "2,4,9,8", "4,2,3,2",
     " strides=[2,1] dilations=[1,3] pads=[2,0,1,3] group=2"},
    {"each channel", "Conv", "1,4,6,6", "4,1,3,3",
     " strides=[2,2] dilations=[1,1] pads=[1,1,1,1] group=4"},
    {"a line", "Conv", "2,3,19", "5,3,4", " strides=[3] dilations=[2] pads=[2,1]"},
    {"a volume", "Conv", "1,2,4,5,6", "3,2,2,3,2",
     " strides=[1,2,1] dilations=[1,1,2] pads=[0,1,1,1,0,1]"},
};

static kiln_network *network_of(size_t index, kln_patch *patch)
{
    for (size_t i = 0; i < MOST; i++) {
        numbers[0][i] = wave(i * 3 + 1) - 0.2F;
    }
    kiln_network *network = made_network(
        numbers[0], "in x float32[%s]; floats w float32[%s]; y=%s(x,w)%s; out y",
        cases[index].input, cases[index].weights, cases[index].op, cases[index].attributes);
    owned_inference inference = NULL;
    const kln_onnx_model *model = NULL;
    assert_ok(kln_network_model(network, &model));
    assert_ok(kln_infer(model, NULL, &inference));
    assert_true(kln_patch_of(&model->graph.nodes[0], inference->graph, patch));
    assert_string_equal(patch->input, "x");
    patch->input = "x";
    return network;
}

/* Sums of what the node gives, and of its squares, by output channel. */
typedef struct output_sums {
    double sum[8], square[8];
    size_t positions;
} output_sums;

static void run(size_t index, const kiln_network *network, const kiln_tensor *x, output_sums *to)
{
    owned_engine engine = NULL;
    owned_context context = open_reference(network, &engine);
    assert_ok(kiln_context_bind(context, "x", x));
    assert_ok(kiln_context_run(context));
    const kiln_tensor y = tensor_in(context, "y");
    const bool last = cases[index].op[0] != 'C';
    const int32_t axis = last ? y.desc.shape.rank - 1 : 1;
    size_t inner = 1;
    size_t all = 1;
    for (int32_t i = 0; i < y.desc.shape.rank; i++) {
        inner *= i > axis ? (size_t)y.desc.shape.dims[i] : 1;
        all *= (size_t)y.desc.shape.dims[i];
    }
    const size_t channels = (size_t)y.desc.shape.dims[axis];
    *to = (output_sums){.positions = all / channels};
    for (size_t i = 0; i < all; i++) {
        const double value = (double)((const float *)y.data)[i];
        to->sum[i / inner % channels] += value;
        to->square[i / inner % channels] += value * value;
    }
}

/* The sum of w x over all positions is w times the products with 1, that of (w x)^2 is w M w. */
TEST_EACH(products_say_what_comes_out, index, KLN_ARRAY_LENGTH(cases))
{
    kln_patch patch;
    kln_products *products = NULL;
    output_sums expected;
    owned_network network = network_of(index, &patch);
    kiln_tensor x = {.desc = {.dtype = KILN_DTYPE_FLOAT32}, .data = numbers[1]};
    kiln_tensor_id id;
    assert_ok(kiln_network_find(network, "x", &id));
    assert_ok(kiln_network_tensor_type(network, id, &x.desc.dtype, &x.desc.shape));
    assert_ok(kiln_tensor_bytes(KILN_DTYPE_FLOAT32, &x.desc.shape, &x.bytes));
    for (size_t i = 0; i < x.bytes / sizeof(float); i++) {
        numbers[1][i] = wave(i);
    }
    run(index, network, &x, &expected);
    assert_ok(kln_products_create(&patch, &products));
    kln_products_add(products, &x);
    assert_int_equal(products->count, expected.positions);
    const size_t n = products->size;
    const size_t outs = patch.groups > 1 || patch.rank != 0 ? 0 : 4;
    double moments[64 * 64];
    assert_true(n <= 64);
    for (size_t out = 0; expected.square[out] > 0; out++) {
        const size_t channels = cases[index].weights[0] == '5'   ? 5
                                : cases[index].weights[0] == '3' ? 3
                                                                 : 4;
        const size_t group = out / (channels / patch.groups);
        double sum = 0;
        double square = 0;
        assert_true(kln_products_read(products, group, moments));
        for (size_t i = 1; i < n; i++) {
            const bool beside = outs != 0 && cases[index].op[0] != 'G';
            const size_t at = beside ? (i - 1) * 4 + out : out * (n - 1) + i - 1;
            const double w = (double)numbers[0][at];
            sum += w * moments[i] * (double)products->count;
            for (size_t k = 1; k < n; k++) {
                const size_t other = beside ? (k - 1) * 4 + out : out * (n - 1) + k - 1;
                square +=
                    w * (double)numbers[0][other] * moments[i * n + k] * (double)products->count;
            }
        }
        if (!(fabs(sum - expected.sum[out]) <= 1e-3) ||
            !(fabs(square / expected.square[out] - 1) <= 1e-4)) {
            fail_msg("%s, channel %zu: sum %g for %g, squares %g for %g", cases[index].name, out,
                     sum, expected.sum[out], square, expected.square[out]);
        }
    }
    kln_products_destroy(products);
}

/* Of a large picture some positions are looked at, evenly; of another tensor none. */
TEST(some_positions_are_enough)
{
    static float picture[2 * 90 * 90];
    const kln_patch patch = {.input = "x",
                             .groups = 1,
                             .channels = 2,
                             .elements = 1,
                             .rank = 2,
                             .kernel = {1, 1},
                             .strides = {1, 1},
                             .dilations = {1, 1}};
    kln_products *products = NULL;
    double moments[9];
    double sum = 0;
    assert_ok(kln_products_create(&patch, &products));
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(picture); i++) {
        picture[i] = i < 8100 ? (float)(i % 90) / 90 + (float)i / 8100 : -1; /* a ramp, across */
        sum += i < 8100 ? (double)picture[i] : 0;
    }
    kiln_tensor x =
        KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1, 2, 90, 90), picture, sizeof picture);
    assert_false(kln_products_read(products, 0, moments));
    kln_products_add(products, &x);
    assert_int_equal(products->count, 512);
    assert_true(kln_products_read(products, 0, moments));
    assert_float_equal(moments[0], 1, 0);
    assert_float_equal(moments[1], sum / 8100, 0.02);
    assert_float_equal(moments[2], -1, 1e-6);
    assert_float_equal(moments[3 + 2], -moments[1], 1e-6);
    x.desc.shape = KILN_SHAPE(1, 3, 60, 90);
    kln_products_add(products, &x);
    assert_int_equal(products->count, 512);
    picture[0] = NAN;
    for (size_t i = 0; i < 4096; i++) {
        picture[i] = NAN;
    }
    x.desc.shape = KILN_SHAPE(1, 2, 90, 90);
    kln_products_add(products, &x);
    assert_false(kln_products_read(products, 0, moments));
    kln_products_destroy(products);
}

/* --- rounding --- */

#define SIZE ((size_t)24)
#define ROWS 37

static float to_tenths(const quantize_fit *fit, size_t row, size_t index, float number)
{
    return index == 5 ? 0.5F : rintf(number * 10) / 10;
}

static double error_of(const double *moments, const float *before, const float *after)
{
    double sum = 0;
    for (size_t i = 0; i < SIZE; i++) {
        for (size_t k = 0; k < SIZE; k++) {
            sum += ((double)after[i] - (double)before[i]) * moments[i * SIZE + k] *
                   ((double)after[k] - (double)before[k]);
        }
    }
    return sum;
}

/* Where numbers go together, what one weight loses the others make up for; where none do, weights
 * are rounded simply. */
TEST(weights_make_up_for_each_other)
{
    for (int together = 0; together < 3; together++) {
        double moments[SIZE * SIZE] = {0};
        float before[ROWS * SIZE];
        float after[ROWS * SIZE];
        double errors[2] = {0, 0};
        for (size_t i = 0; i < SIZE; i++) {
            for (size_t k = 0; k < SIZE; k++) {
                const double common = together == 2 ? 0 : together == 1 ? 1 : (i == k);
                moments[i * SIZE + k] = common + (together != 2 && i == k ? 0.02 : 0);
            }
        }
        for (size_t i = 0; i < ROWS * SIZE; i++) {
            before[i] = after[i] = wave(i);
        }
        const quantize_fit fit = {.moments = moments,
                                  .size = SIZE,
                                  .fixed = 1,
                                  .samples = 1000000,
                                  .ridge = 1e-6,
                                  .weights = after,
                                  .rows = ROWS,
                                  .round = to_tenths};
        assert_ok(quantize_fit_round(&fit));
        for (size_t row = 0; row < ROWS; row++) {
            const float *old = before + row * SIZE;
            const float *fitted = after + row * SIZE;
            float plain[SIZE];
            for (size_t i = 0; i < SIZE; i++) {
                plain[i] = to_tenths(&fit, row, i, old[i]);
                assert_float_equal(fitted[i],
                                   together == 2   ? old[i]
                                   : together == 0 ? plain[i]
                                                   : to_tenths(&fit, row, i, fitted[i]),
                                   1e-6F);
            }
            assert_true(together == 2 || fabsf(fitted[0] - plain[0]) < 1e-6F);
            errors[0] += error_of(moments, old, plain);
            errors[1] += error_of(moments, old, fitted);
            assert_true(error_of(moments, old, fitted) <= error_of(moments, old, plain) + 1e-9);
        }
        if (together == 1 && !(errors[1] < errors[0] * 0.2)) {
            fail_msg("error %g, by simple rounding %g", errors[1], errors[0]);
        }
    }
}
