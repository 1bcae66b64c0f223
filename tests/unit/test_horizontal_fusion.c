/* SPDX-License-Identifier: Apache-2.0 */
/* Products with several constant matrices in one: the results stay, the nodes become fewer. */
#include "context_test.h"
#include "graph/kln_graph.h"
#include "graph_maker.h"

#define ROWS 5
#define DEPTH 6
#define MOST_COLUMNS 9

static const float *all_numbers(void)
{
    static float numbers[4096];
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(numbers); i++) {
        numbers[i] = sinf((float)i);
    }
    return numbers;
}

/* a, b, c with a bias and d, e without, one of the matrices twice; f alone, over another tensor. */
static kiln_network *several(void)
{
    return made_network(
        all_numbers(),
        "in x float32[5,6]; floats s float32[6,4]; floats sb float32[4]; floats bw float32[6,9]; "
        "floats bb float32[9]; floats fw float32[4,3]; floats fb float32[3]; "
        "floats cw float32[6,1]; floats cb float32[1]; floats ew float32[6,2]; "
        "ap=MatMul(x,s); a=Add(sb,ap); bp=MatMul(x,bw); b=Add(bb,bp); d=MatMul(x,s); "
        "fp=MatMul(a,fw); f=Add(fb,fp); cp=MatMul(x,cw); c=Add(cb,cp); e=MatMul(x,ew); "
        "out a; out b; out d; out f; out c; out e");
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
    /* One with a bias; one with a bias for each element, so without; one of another depth. */
    owned_network network = made_network(
        all_numbers(),
        "in x float32[5,6]; floats aw float32[6,4]; floats ab float32[4]; floats bw float32[6,4]; "
        "floats bb float32[5,4]; floats cw float32[4,4]; ap=MatMul(x,aw); a=Add(ab,ap); "
        "bp=MatMul(x,bw); b=Add(bb,bp); c=MatMul(b,cw); out a; out b; out c");
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
