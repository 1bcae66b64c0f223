/* SPDX-License-Identifier: Apache-2.0 */
/* Products in parts: what they come to stays, also where TF32 rounds what they multiply. */
#include "context_test.h"
#include "graph/kln_graph.h"
#include "graph_maker.h"

enum { ROWS = 5, DEPTH = 96, COLUMNS = 24, WIDE = 7, MOST = ROWS * COLUMNS };

/* The first matrix, the second, and a bias. */
static float numbers[DEPTH * COLUMNS + WIDE * COLUMNS + WIDE];
static const char *const outputs[] = {"a", "b", "c", "d"};

static void fill(float *values, size_t count, uint32_t state)
{
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525U + 1013904223U;
        values[i] = ldexpf((float)(int32_t)state, -32 + (int)(state % 7));
    }
}

/* a = x first, b = 0.5 a second' + 2 bias, c = a a', d = x first again. */
static kiln_network *made(float largest)
{
    float *const second = numbers + (size_t)DEPTH * COLUMNS;
    fill(numbers, (size_t)DEPTH * COLUMNS, 1);
    fill(second, (size_t)WIDE * COLUMNS, 2);
    fill(second + (size_t)WIDE * COLUMNS, WIDE, 3);
    numbers[5] = largest != 0 ? largest : numbers[5];
    return made_network(
        numbers,
        "in x float32[?,%d]; floats first float32[%d,%d]; a=MatMul(x,first); d=MatMul(x,first); "
        "floats second float32[%d,%d]; floats bias float32[%d]; "
        "b=Gemm(a,second,bias) transB=1 alpha=0.5 beta=2.0; t=Transpose(a); c=MatMul(a,t); "
        "out a; out b; out c; out d",
        DEPTH, DEPTH, COLUMNS, WIDE, COLUMNS, WIDE);
}

/* `halves`, if it is there, of the tensor of that name. */
static void run(const char *backend, kiln_split split, const kiln_network *network,
                float results[][MOST], const char *name, float *halves)
{
    kiln_tensor tensor;
    float x[ROWS * DEPTH];
    kiln_build_options options = backend_options(backend);
    options.split_products = split;
    owned_engine engine = built_network(network, &options);
    owned_context context = context_on(engine);
    fill(x, KLN_ARRAY_LENGTH(x), 4);
    tensor = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(ROWS, DEPTH), x, sizeof x);
    assert_ok(kiln_context_bind(context, "x", &tensor));
    assert_ok(kiln_context_run(context));
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(outputs); i++) {
        assert_ok(kiln_context_tensor(context, outputs[i], &tensor));
        memcpy(results[i], tensor.data, tensor.bytes);
    }
    if (name != NULL) {
        assert_ok(kiln_context_tensor(context, name, &tensor));
        assert_true(tensor.bytes <= 3 * sizeof x);
        memcpy(halves, tensor.data, tensor.bytes);
    }
}

static const kln_onnx_graph *graph_of(const kiln_network *network)
{
    const kln_onnx_model *model = NULL;
    assert_ok(kln_network_model(network, &model));
    return &model->graph;
}

TEST_EACH(results_stay, i, 4)
{
    static float before[4][MOST], after[4][MOST], built[4][MOST];
    const char *backend = i % 2 == 0 ? "reference" : "onnxruntime";
    size_t split = 0;
    owned_network network = made(0);
    run(backend, KILN_SPLIT_NONE, network, before, NULL, NULL);
    run(backend, i / 2 == 0 ? KILN_SPLIT_FEW : KILN_SPLIT_MANY, network, built, NULL, NULL);
    assert_ok(kiln_network_split_products(network, i / 2 == 0, &split));
    assert_int_equal(split, i / 2 == 0 ? 3 : 4);
    assert_ok(kiln_network_split_products(network, i / 2 == 0, &split)); /* nothing is left */
    assert_int_equal(split, 0);
    run(backend, KILN_SPLIT_NONE, network, after, NULL, NULL);
    assert_memory_equal(built, after, sizeof after);
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(outputs); k++) {
        float largest = 0;
        for (size_t n = 0; n < MOST; n++) {
            largest = fmaxf(largest, fabsf(before[k][n]));
        }
        for (size_t n = 0; n < MOST; n++) {
            assert_true(fabsf(before[k][n] - after[k][n]) <= 1e-6F * largest);
        }
        assert_true(largest > 0);
    }
}

/* --- TF32 --- */

static double rounded(float value, bool truncates)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits += truncates ? 0 : 0x0fff + (bits >> 13 & 1);
    bits &= ~(uint32_t)0x1fff;
    memcpy(&value, &bits, sizeof bits);
    return (double)value;
}

/* A row of `a` times a column of `b`. */
static double product(const float *a, const float *b, size_t depth, size_t step, bool truncates)
{
    double sum = 0;
    for (size_t k = 0; k < depth; k++) {
        sum += rounded(a[k], truncates) * rounded(b[k * step], truncates);
    }
    return sum;
}

static const kln_onnx_tensor *matrix_of(const kiln_network *network, int64_t rows, int64_t columns)
{
    const kln_onnx_graph *graph = graph_of(network);
    const kln_onnx_tensor *matrix = NULL;
    for (size_t i = 0; i < graph->initializer_count; i++) {
        matrix = strcmp(graph->initializers[i].name, "a/matrix_halves") == 0
                     ? &graph->initializers[i]
                     : matrix;
    }
    assert_true(matrix != NULL && matrix->dims[0] == rows && matrix->dims[1] == columns);
    return matrix;
}

/* What its halves come to, by TF32. */
static double product_of_halves(const float *halves, const float *matrix, size_t row, size_t column,
                                bool few, bool truncates)
{
    double sum = 0;
    if (!few) {
        return product(halves + row * 3 * DEPTH, matrix + column, 3 * DEPTH, COLUMNS, truncates);
    }
    for (size_t i = 0; i < 4; i++) {
        sum += product(halves + (i / 2 * ROWS + row) * DEPTH, matrix + i % 2 * COLUMNS + column,
                       DEPTH, 2 * COLUMNS, truncates);
    }
    return sum;
}

TEST_EACH(tf32_rounds_what_float32_would, i, 4)
{
    static float results[4][MOST], x[ROWS * DEPTH], halves[3 * ROWS * DEPTH];
    const bool few = i / 2 == 0;
    const bool truncates = i % 2 == 0;
    const char *name = few ? "x/stacked" : "a/halves";
    kiln_tensor_id id = KILN_NO_TENSOR;
    double worst = 0;
    double without = 0;
    owned_network network = made(0);
    assert_ok(kiln_network_split_products(network, few, NULL));
    assert_ok(kiln_network_find(network, name, &id));
    assert_ok(kiln_network_mark_output(network, id));
    const float *matrix =
        matrix_of(network, (few ? 1 : 3) * DEPTH, (few ? 2 : 1) * COLUMNS)->data.data;
    run("reference", KILN_SPLIT_NONE, network, results, name, halves);
    fill(x, KLN_ARRAY_LENGTH(x), 4);
    for (size_t n = 0; n < MOST; n++) {
        const size_t row = n / COLUMNS;
        const size_t column = n % COLUMNS;
        double exact = 0;
        double magnitude = 0; /* of what is summed up */
        for (size_t k = 0; k < DEPTH; k++) {
            const double each = (double)x[row * DEPTH + k] * (double)numbers[k * COLUMNS + column];
            exact += each;
            magnitude += fabs(each);
        }
        const double found = product_of_halves(halves, matrix, row, column, few, truncates);
        const double plain = product(x + row * DEPTH, numbers + column, DEPTH, COLUMNS, truncates);
        worst = fmax(worst, fabs(found - exact) / magnitude);
        without = fmax(without, fabs(plain - exact) / magnitude);
    }
    assert_true(worst < (truncates ? 0x1p-20 : 0x1p-22));
    assert_true(without > 0x1p-15);
}

TEST(a_build_splits_products_of_float32_alone)
{
    owned_network network = made(0);
    kiln_engine *engine = NULL;
    kiln_build_options options = backend_options("reference");
    options.split_products = KILN_SPLIT_MANY;
    options.precision = KILN_PRECISION_FP16;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build(network, &options, &engine),
                 "split_products", "stays in float32");
    options.precision = KILN_PRECISION_DEFAULT;
    assert_ok(kiln_network_split_products(network, false, NULL));
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_build(network, &options, &engine),
                 "no product of float32", "leave \"split_products\" out");
}

TEST(what_has_no_halves_stays)
{
    size_t split = 9;
    owned_network network = made(1e38F);
    assert_ok(kiln_network_split_products(network, true, &split));
    assert_int_equal(split, 1);
    owned_network empty = new_network();
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_network_split_products(empty, true, &split), "empty");
}

static kiln_status read_and_split(void *user)
{
    kiln_network *network = NULL;
    size_t split = 0;
    kiln_status status = kiln_network_from_onnx(user, &network);
    if (status == KILN_OK) {
        const size_t nodes = graph_of(network)->node_count;
        status = kiln_network_split_products(network, false, &split);
        assert_int_equal(split, status == KILN_OK ? 4 : 0);
        assert_true((graph_of(network)->node_count == nodes) == (status != KILN_OK));
    }
    kiln_network_destroy(network);
    return status;
}

TEST(every_allocation_may_fail)
{
    static char path[4096];
    (void)snprintf(path, sizeof path, "%s", kiln_test_path("split.onnx"));
    kiln_network *network = made(0);
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
    kiln_network_destroy(network);
    kiln_test_each_allocation(read_and_split, path);
}
