/* SPDX-License-Identifier: Apache-2.0 */
/* Products with several constant matrices in one: the results stay, the nodes become fewer. */
#include "context_test.h"
#include "graph/kln_graph.h"
#include "graph_maker.h"

#define ROWS 5
#define DEPTH 6
#define MOST_COLUMNS 9

static float numbers[4096];
static size_t used;

/* A constant of `rows` times `columns`; a vector where `rows` is 0. */
static kiln_tensor_id constant(kiln_network *network, int64_t rows, int64_t columns)
{
    const size_t count = (size_t)((rows == 0 ? 1 : rows) * columns);
    kiln_tensor_id id;
    assert_true(used + count <= KLN_ARRAY_LENGTH(numbers));
    const kiln_weights weights = {KILN_DTYPE_FLOAT32,
                                  rows == 0 ? KILN_SHAPE(columns) : KILN_SHAPE(rows, columns),
                                  {&numbers[used], count * sizeof(float)}};
    for (size_t i = 0; i < count; i++) {
        numbers[used] = sinf((float)used);
        used++;
    }
    assert_ok(kiln_network_add_constant(network, NULL, &weights, &id));
    return id;
}

static kiln_tensor_id product(kiln_network *network, kiln_tensor_id x, kiln_tensor_id matrix,
                              kiln_tensor_id bias, const char *name)
{
    kiln_tensor_id y;
    assert_ok(kiln_network_add_matrix_multiply(network, bias == x ? name : NULL, x, matrix, &y));
    if (bias != x) {
        assert_ok(kiln_network_add_elementwise(network, name, KILN_ELEMENTWISE_ADD, bias, y, &y));
    }
    assert_ok(kiln_network_mark_output(network, y));
    return y;
}

static kiln_network *start(kiln_tensor_id *x)
{
    used = 0;
    kiln_network *network = new_network();
    assert_ok(kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32, &KILN_SHAPE(ROWS, DEPTH),
                                     NULL, x));
    return network;
}

/* a, b, c with a bias and d, e without, one of the matrices twice; f alone, over another tensor. */
static kiln_network *several(void)
{
    kiln_tensor_id x;
    kiln_network *network = start(&x);
    const kiln_tensor_id shared = constant(network, DEPTH, 4);
    kiln_tensor_id a = product(network, x, shared, constant(network, 0, 4), "a");
    (void)product(network, x, constant(network, DEPTH, MOST_COLUMNS),
                  constant(network, 0, MOST_COLUMNS), "b");
    (void)product(network, x, shared, x, "d");
    (void)product(network, a, constant(network, 4, 3), constant(network, 0, 3), "f");
    (void)product(network, x, constant(network, DEPTH, 1), constant(network, 0, 1), "c");
    (void)product(network, x, constant(network, DEPTH, 2), x, "e");
    return network;
}

static void run(const kiln_network *network, float results[][ROWS * MOST_COLUMNS])
{
    owned_engine engine = NULL;
    owned_context context = open_reference(network, &engine);
    kiln_tensor tensor = tensor_in(context, "x");
    for (size_t i = 0; i < (size_t)ROWS * DEPTH; i++) {
        ((float *)tensor.data)[i] = cosf((float)i);
    }
    assert_ok(kiln_context_run(context));
    for (size_t i = 0; i < kiln_engine_output_count(engine); i++) {
        const kiln_binding binding = output_at(engine, i);
        assert_ok(kiln_context_tensor(context, binding.name, &tensor));
        memcpy(results[i], tensor.data, tensor.bytes);
    }
}

static size_t merge(kiln_network *network)
{
    kln_onnx_model *model = NULL;
    size_t merged = 99;
    assert_ok(kln_network_edit(network, &model));
    assert_ok(kln_fuse_horizontally(model, &merged));
    return merged;
}

TEST(results_stay_and_nodes_become_fewer)
{
    static float before[6][ROWS * MOST_COLUMNS];
    static float after[6][ROWS * MOST_COLUMNS];
    owned_network network = several();
    run(network, before);
    const kln_onnx_model *model = NULL;
    assert_ok(kln_network_model(network, &model));
    assert_int_equal(model->graph.node_count, 10);
    assert_int_equal(model->graph.initializer_count, 9);
    assert_int_equal(merge(network), 2);
    /* MatMul, Add, Split; MatMul, Split; and f as it was. */
    assert_int_equal(model->graph.node_count, 7);
    /* Matrix, bias and sizes; matrix and sizes; f's two. */
    assert_int_equal(model->graph.initializer_count, 7);
    run(network, after);
    for (size_t i = 0; i < 6; i++) {
        for (size_t k = 0; k < (size_t)ROWS * MOST_COLUMNS; k++) {
            assert_true(fabsf(before[i][k] - after[i][k]) < 1e-5F);
        }
    }
    assert_true(before[0][0] != 0);
    /* Once more there is nothing left to do. */
    assert_int_equal(merge(network), 0);
    assert_int_equal(model->graph.node_count, 7);
}

TEST(what_must_stay_apart_does)
{
    kiln_tensor_id x;
    kiln_tensor_id y;
    owned_network network = start(&x);
    /* One with a bias; one with a bias for each element, so without; one of another depth. */
    (void)product(network, x, constant(network, DEPTH, 4), constant(network, 0, 4), "a");
    y = product(network, x, constant(network, DEPTH, 4), constant(network, ROWS, 4), "b");
    (void)product(network, y, constant(network, 4, 4), y, "c");
    assert_int_equal(merge(network), 0);
}

TEST(old_and_nested_models_are_left_alone)
{
    kln_onnx_model *model = NULL;
    size_t merged = 99;
    const kiln_span bytes =
        made_model(17,
                   "in c bool[]; in x float32[n]; w={1.0}; "
                   "y=If(c) then_branch={z=Identity(x); out z float32[n]} "
                   "else_branch={z=Identity(x); out z float32[n]}; out y float32[n]");
    assert_ok(kln_onnx_read_bytes(bytes, NULL, &model));
    assert_ok(kln_fuse_horizontally(model, &merged));
    assert_int_equal(merged, 0);
    kln_onnx_model_destroy(model);
    owned_network network = several();
    assert_ok(kln_network_edit(network, &model));
    model->opsets[0].version = 12;
    assert_int_equal(merge(network), 0);
}

static kiln_status read_and_merge(void *user)
{
    owned_model model = NULL;
    size_t merged = 99;
    kiln_status status = kln_onnx_read_file(user, &model);
    if (status == KILN_OK) {
        const size_t nodes = model->graph.node_count;
        const size_t constants = model->graph.initializer_count;
        status = kln_fuse_horizontally(model, &merged);
        assert_int_equal(merged, status == KILN_OK ? 2 : 0);
        if (status != KILN_OK) {
            assert_int_equal(model->graph.node_count, nodes);
            assert_int_equal(model->graph.initializer_count, constants);
        }
    }
    return status;
}

TEST(every_allocation_may_fail)
{
    static char path[4096];
    (void)snprintf(path, sizeof path, "%s", kiln_test_path("several.onnx"));
    kiln_network *network = several();
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
    kiln_network_destroy(network);
    kiln_test_each_allocation(read_and_merge, path);
}
