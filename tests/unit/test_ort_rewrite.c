/* SPDX-License-Identifier: Apache-2.0 */
/* Models rewritten into ONNX Runtime's own operators: what is found, what is left alone, and that
 * the results stay. */
#include "backends/onnxruntime/ort_rewrite.h"
#include "graph/kln_graph.h"
#include "graph_maker.h"
#include "kiln_test.h"

#define BATCH 2
#define LENGTH 5
#define HEADS 2
#define SIZE 3
#define WIDTH (HEADS * SIZE)
#define COUNT (BATCH * LENGTH * WIDTH)

static float numbers[4096];
static size_t used;

/* How an attention is written. */
typedef struct form {
    bool keys_twice;   /* the key is transposed two times */
    bool scales_query; /* before the product, by Mul, instead of after, by Div */
    bool no_mask;
    bool full_mask;    /* with all its rows */
    bool open;         /* the length is not known */
    bool shows_scores; /* which are an output, too */
    bool other_axis;   /* of the softmax */
    bool merged;       /* one product for query, key and value */
    bool twice;        /* one attention after the other */
} form;

static kiln_tensor_id constant(kiln_network *network, const kiln_shape *shape)
{
    size_t count = 1;
    kiln_tensor_id id;
    for (int32_t i = 0; i < shape->rank; i++) {
        count *= (size_t)shape->dims[i];
    }
    assert_true(used + count <= KLN_ARRAY_LENGTH(numbers));
    const kiln_weights weights = {KILN_DTYPE_FLOAT32, *shape, {&numbers[used], count * 4}};
    for (size_t i = 0; i < count; i++) {
        numbers[used] = sinf((float)used) / 2;
        used++;
    }
    assert_ok(kiln_network_add_constant(network, NULL, &weights, &id));
    return id;
}

static kiln_tensor_id number(kiln_network *network, float value)
{
    kiln_tensor_id id;
    numbers[used] = value;
    const kiln_weights weights = {KILN_DTYPE_FLOAT32, KILN_SHAPE_SCALAR, {&numbers[used++], 4}};
    assert_ok(kiln_network_add_constant(network, NULL, &weights, &id));
    return id;
}

static kiln_tensor_id binary(kiln_network *network, kiln_elementwise kind, kiln_tensor_id a,
                             kiln_tensor_id b)
{
    kiln_tensor_id y;
    assert_ok(kiln_network_add_elementwise(network, NULL, kind, a, b, &y));
    return y;
}

static kiln_tensor_id times(kiln_network *network, kiln_tensor_id a, kiln_tensor_id b)
{
    kiln_tensor_id y;
    assert_ok(kiln_network_add_matrix_multiply(network, NULL, a, b, &y));
    return y;
}

static kiln_tensor_id dense(kiln_network *network, kiln_tensor_id x, int64_t width)
{
    const kiln_tensor_id product = times(network, x, constant(network, &KILN_SHAPE(WIDTH, width)));
    return binary(network, KILN_ELEMENTWISE_ADD, product, constant(network, &KILN_SHAPE(width)));
}

static kiln_tensor_id turn(kiln_network *network, kiln_tensor_id x, const int64_t order[4])
{
    kiln_tensor_id y;
    assert_ok(kiln_network_add_transpose(network, NULL, x, order, 4, &y));
    return y;
}

static kiln_tensor_id reshape(kiln_network *network, kiln_tensor_id x, const kiln_shape *shape)
{
    kiln_tensor_id y;
    assert_ok(kiln_network_add_reshape(network, NULL, x, shape, &y));
    return y;
}

static kiln_tensor_id attend(kiln_network *network, kiln_tensor_id x, kiln_tensor_id mask,
                             const form *how)
{
    static const int64_t heads_first[] = {0, 2, 1, 3};
    static const int64_t keys_last[] = {0, 2, 3, 1};
    static const int64_t swapped[] = {0, 1, 3, 2};
    static const int64_t sizes[] = {WIDTH, WIDTH, WIDTH};
    kiln_tensor_id parts[3];
    kiln_tensor_id shares;
    if (how->merged) {
        assert_ok(kiln_network_add_split(network, NULL, dense(network, x, (int64_t)3 * WIDTH), -1,
                                         sizes, 3, parts));
    }
    for (int i = 0; i < 3; i++) {
        parts[i] = reshape(network, how->merged ? parts[i] : dense(network, x, WIDTH),
                           &KILN_SHAPE(0, 0, HEADS, SIZE));
        parts[i] = turn(network, parts[i], i == 1 && !how->keys_twice ? keys_last : heads_first);
    }
    if (how->keys_twice) {
        parts[1] = turn(network, parts[1], swapped);
    }
    if (how->scales_query) {
        parts[0] = binary(network, KILN_ELEMENTWISE_MUL, number(network, 0.25F), parts[0]);
    }
    kiln_tensor_id scores = times(network, parts[0], parts[1]);
    if (!how->scales_query) {
        scores = binary(network, KILN_ELEMENTWISE_DIV, scores, number(network, 4));
    }
    if (how->shows_scores) {
        assert_ok(kiln_network_mark_output(network, scores));
    }
    if (!how->no_mask) {
        scores = binary(network, KILN_ELEMENTWISE_ADD, how->keys_twice ? mask : scores,
                        how->keys_twice ? scores : mask);
    }
    assert_ok(
        kiln_network_add_softmax(network, NULL, scores, how->other_axis ? 2 : -1, false, &shares));
    const kiln_tensor_id mixed = turn(network, times(network, shares, parts[2]), heads_first);
    return dense(network, reshape(network, mixed, &KILN_SHAPE(0, 0, WIDTH)), WIDTH);
}

static kiln_network *network_of(const form *how)
{
    const int64_t length = how->open ? KILN_DYNAMIC : LENGTH;
    kiln_tensor_id x;
    kiln_tensor_id mask = KILN_NO_TENSOR;
    used = 0;
    kiln_network *network = new_network();
    assert_ok(kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32,
                                     &KILN_SHAPE(BATCH, length, WIDTH), NULL, &x));
    if (!how->no_mask) {
        assert_ok(kiln_network_add_input(network, "mask", KILN_DTYPE_FLOAT32,
                                         &KILN_SHAPE(BATCH, 1, how->full_mask ? length : 1, length),
                                         NULL, &mask));
    }
    kiln_tensor_id y = attend(network, x, mask, how);
    if (how->twice) {
        y = attend(network, y, mask, how);
    }
    assert_ok(kiln_network_add_activation(network, "y", KILN_ACTIVATION_IDENTITY, y, 0, 0, &y));
    assert_ok(kiln_network_mark_output(network, y));
    return network;
}

static void run(const kiln_network *network, float result[COUNT])
{
    kiln_tensor tensor;
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = "onnxruntime", .library = kiln_test_deps("onnxruntime"));
    owned_engine engine = built_network(network, &options);
    owned_context context = context_on(engine);
    for (size_t i = 0; i < kiln_engine_input_count(engine); i++) {
        const kiln_binding binding = input_at(engine, i);
        assert_ok(kiln_context_tensor(context, binding.name, &tensor));
        for (size_t k = 0; k < tensor.bytes / 4; k++) {
            ((float *)tensor.data)[k] = cosf((float)(k + i)) * (i == 0 ? 1 : 3);
        }
    }
    assert_ok(kiln_context_run(context));
    assert_ok(kiln_context_tensor(context, "y", &tensor));
    assert_int_equal(tensor.bytes, COUNT * sizeof(float));
    memcpy(result, tensor.data, tensor.bytes);
}

static kln_onnx_model *model_of(kiln_network *network)
{
    kln_onnx_model *model = NULL;
    assert_ok(kln_network_edit(network, &model));
    return model;
}

static size_t rewrite(kiln_network *network, ort_rewrite_kind kind, const kiln_profile *profile)
{
    size_t count = 99;
    assert_ok(ort_rewrite(model_of(network), kind, profile, &count));
    return count;
}

static size_t count_nodes(kiln_network *network, const char *op)
{
    const kln_onnx_graph *graph = &model_of(network)->graph;
    size_t count = 0;
    for (size_t i = 0; i < graph->node_count; i++) {
        count += strcmp(graph->nodes[i].op_type, op) == 0;
    }
    return count;
}

static void check_same(const float *before, const float *after)
{
    for (size_t i = 0; i < COUNT; i++) {
        if (!(fabsf(before[i] - after[i]) < 1e-5F)) {
            fail_msg("element %zu: %g before, %g after", i, (double)before[i], (double)after[i]);
        }
    }
    assert_true(before[0] != before[1]);
}

TEST(attention_becomes_one_operator)
{
    static const form forms[] = {{.open = false},   {.keys_twice = true}, {.scales_query = true},
                                 {.no_mask = true}, {.full_mask = true},  {.twice = true}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(forms); i++) {
        static float before[COUNT];
        static float after[COUNT];
        owned_network network = network_of(&forms[i]);
        const size_t expected = forms[i].twice ? 2 : 1;
        run(network, before);
        assert_int_equal(rewrite(network, ORT_REWRITE_ATTENTION, NULL), expected);
        assert_int_equal(count_nodes(network, "MultiHeadAttention"), expected);
        assert_int_equal(count_nodes(network, "Softmax"), 0);
        assert_int_equal(count_nodes(network, "Transpose"), 0);
        /* One for all that read the mask. */
        assert_int_equal(count_nodes(network, "Expand"),
                         forms[i].no_mask || forms[i].full_mask ? 0 : 1);
        assert_int_equal(kln_onnx_opset_version(model_of(network), "com.microsoft"), 1);
        run(network, after);
        check_same(before, after);
        /* Once more there is nothing left to do. */
        assert_int_equal(rewrite(network, ORT_REWRITE_ATTENTION, NULL), 0);
    }
}

/* The element of the constant that a node of that kind multiplies by. */
static const float *matrix_of(kiln_network *network, const char *op)
{
    const kln_onnx_graph *graph = &model_of(network)->graph;
    for (size_t i = 0; i < graph->node_count; i++) {
        for (size_t k = 0; strcmp(graph->nodes[i].op_type, op) == 0 && k < graph->initializer_count;
             k++) {
            if (strcmp(graph->initializers[k].name, graph->nodes[i].inputs[1]) == 0) {
                return graph->initializers[k].data.data;
            }
        }
    }
    fail_msg("no %s with a constant", op);
    return NULL;
}

/* Query, key and value of a head lie side by side; nothing but a GPU computes that. */
TEST(parts_of_one_product_are_packed)
{
    owned_network network = network_of(&(form){.merged = true});
    static float before[WIDTH * 3 * WIDTH];
    memcpy(before, matrix_of(network, "MatMul"), sizeof before);
    assert_int_equal(rewrite(network, ORT_REWRITE_ATTENTION, NULL), 1);
    assert_int_equal(count_nodes(network, "Split"), 0);
    const float *after = matrix_of(network, "MatMul");
    for (size_t row = 0; row < WIDTH; row++) {
        for (size_t i = 0; i < 3 * WIDTH; i++) {
            const size_t part = i / WIDTH;
            const size_t head = i % WIDTH / SIZE;
            const size_t to = (head * 3 + part) * SIZE + i % SIZE;
            assert_true(before[row * 3 * WIDTH + i] == after[row * 3 * WIDTH + to]);
        }
    }
    const kln_onnx_graph *graph = &model_of(network)->graph;
    const kln_onnx_node *node = NULL;
    for (size_t i = 0; i < graph->node_count; i++) {
        node = strcmp(graph->nodes[i].op_type, "MultiHeadAttention") == 0 ? &graph->nodes[i] : node;
    }
    assert_non_null(node);
    assert_string_equal(node->domain, "com.microsoft");
    assert_int_equal(node->input_count, 6);
    assert_string_equal(node->inputs[1], "");
    assert_string_equal(node->inputs[2], "");
    assert_int_equal(kln_onnx_find_attribute(node, "num_heads")->i, HEADS);
    assert_true(kln_onnx_find_attribute(node, "scale")->f == 0.25F);
}

TEST(what_is_something_else_is_left_alone)
{
    static const form forms[] = {{.shows_scores = true}, {.other_axis = true}, {.open = true}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(forms); i++) {
        owned_network network = network_of(&forms[i]);
        const size_t nodes = model_of(network)->graph.node_count;
        assert_int_equal(rewrite(network, ORT_REWRITE_ATTENTION, NULL), 0);
        assert_int_equal(model_of(network)->graph.node_count, nodes);
        assert_int_equal(kln_onnx_opset_version(model_of(network), "com.microsoft"), 0);
    }
    /* A profile that leaves the length open changes nothing; one that fixes it does. */
    owned_network network = network_of(&forms[2]);
    kiln_profile_input inputs[] = {
        {.name = "x", .min = KILN_SHAPE(BATCH, 1, WIDTH), .max = KILN_SHAPE(BATCH, LENGTH, WIDTH)},
        {.name = "mask",
         .min = KILN_SHAPE(BATCH, 1, 1, 1),
         .max = KILN_SHAPE(BATCH, 1, 1, LENGTH)}};
    const kiln_profile profile = {.inputs = inputs, .input_count = 2};
    assert_int_equal(rewrite(network, ORT_REWRITE_ATTENTION, &profile), 0);
    inputs[0].min = inputs[0].max;
    inputs[1].min = inputs[1].max;
    assert_int_equal(rewrite(network, ORT_REWRITE_ATTENTION, &profile), 1);
}

TEST(matrices_are_turned)
{
    static float before[COUNT];
    static float after[COUNT];
    owned_network network = network_of(&(form){.no_mask = true});
    run(network, before);
    assert_int_equal(rewrite(network, ORT_REWRITE_PRODUCTS, NULL), 4);
    assert_int_equal(count_nodes(network, "FusedMatMul"), 4);
    assert_int_equal(count_nodes(network, "MatMul"), 2); /* of no constant */
    run(network, after);
    check_same(before, after);
    assert_int_equal(rewrite(network, ORT_REWRITE_PRODUCTS, NULL), 0);
}

/* Gemm can read a matrix either way; what two read stays as it is. */
TEST(gemm_and_shared_matrices)
{
    static float before[COUNT];
    static float after[COUNT];
    kiln_gemm_options gemm = KILN_GEMM_OPTIONS_INIT;
    kiln_tensor_id x;
    kiln_tensor_id y;
    used = 0;
    gemm.alpha = 0.5F;
    owned_network network = new_network();
    assert_ok(kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32,
                                     &KILN_SHAPE(BATCH * LENGTH, WIDTH), NULL, &x));
    const kiln_tensor_id shared = constant(network, &KILN_SHAPE(WIDTH, WIDTH));
    y = times(network, times(network, x, shared), shared);
    assert_ok(kiln_network_add_gemm(network, NULL, y, constant(network, &KILN_SHAPE(WIDTH, WIDTH)),
                                    constant(network, &KILN_SHAPE(WIDTH)), &gemm, &y));
    gemm.transpose_b = true;
    assert_ok(kiln_network_add_gemm(network, "y", y, constant(network, &KILN_SHAPE(WIDTH, WIDTH)),
                                    KILN_NO_TENSOR, &gemm, &y));
    assert_ok(kiln_network_mark_output(network, y));
    run(network, before);
    assert_int_equal(rewrite(network, ORT_REWRITE_PRODUCTS, NULL), 1);
    assert_int_equal(count_nodes(network, "MatMul"), 2);
    assert_int_equal(count_nodes(network, "Gemm"), 2);
    run(network, after);
    check_same(before, after);
}

typedef struct attempt {
    const char *path;
    ort_rewrite_kind kind;
    bool merges;
} attempt;

static kiln_status read_and_rewrite(void *user)
{
    const attempt *what = user;
    owned_model model = NULL;
    size_t count = 99;
    size_t merged = 0;
    kiln_status status = kln_onnx_read_file(what->path, &model);
    if (status == KILN_OK && what->merges) {
        status = kln_fuse_horizontally(model, &merged);
    }
    if (status == KILN_OK) {
        const size_t nodes = model->graph.node_count;
        status = ort_rewrite(model, what->kind, NULL, &count);
        assert_true(status == KILN_OK ? count != 0 : count == 0);
        assert_true(status == KILN_OK || model->graph.node_count == nodes);
    }
    return status;
}

TEST(every_allocation_may_fail)
{
    static char path[4096];
    static attempt attempts[] = {{path, ORT_REWRITE_ATTENTION, false},
                                 {path, ORT_REWRITE_ATTENTION, true},
                                 {path, ORT_REWRITE_PRODUCTS, false}};
    (void)snprintf(path, sizeof path, "%s", kiln_test_path("attention.onnx"));
    kiln_network *network = network_of(&(form){.twice = true});
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
    kiln_network_destroy(network);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(attempts); i++) {
        kiln_test_each_allocation(read_and_rewrite, &attempts[i]);
    }
}
