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

static const float *all_numbers(void)
{
    static float numbers[4096];
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(numbers); i++) {
        numbers[i] = sinf((float)i) / 2;
    }
    return numbers;
}

static char model_text[8192];

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    const size_t used = strlen(model_text);
    va_list list;
    va_start(list, format);
    assert_true((size_t)vsnprintf(model_text + used, sizeof model_text - used, format, list) <
                sizeof model_text - used);
    va_end(list);
}

static void dense(const char *y, const char *x, int width)
{
    say("floats %s.w float32[%d,%d]; floats %s.b float32[%d]; ", y, WIDTH, width, y, width);
    say("%s.p=MatMul(%s,%s.w); %s=Add(%s.p,%s.b); ", y, x, y, y, y, y);
}

/* `a` becomes part of the names, y the result. */
static void attend(char a, const char *y, const char *x, const form *how)
{
    char name[16];
    if (how->merged) {
        (void)snprintf(name, sizeof name, "%c.m", a);
        dense(name, x, 3 * WIDTH);
        say("%c.q0,%c.k0,%c.v0=Split(%s,sizes) axis=-1; ", a, a, a, name);
    }
    for (const char *part = "qkv"; *part != '\0'; part++) {
        (void)snprintf(name, sizeof name, "%c.%c0", a, *part);
        if (!how->merged) {
            dense(name, x, WIDTH);
        }
        say("%c.%c1=Reshape(%s,heads); %c.%c=Transpose(%c.%c1) perm=[%s]; ", a, *part, name, a,
            *part, a, *part, *part == 'k' && !how->keys_twice ? "0,2,3,1" : "0,2,1,3");
    }
    if (how->keys_twice) {
        say("%c.K=Transpose(%c.k) perm=[0,1,3,2]; ", a, a);
    }
    const char *keys = how->keys_twice ? "K" : "k";
    if (how->scales_query) {
        say("%c.Q=Mul(quarter,%c.q); %c.s=MatMul(%c.Q,%c.%s); ", a, a, a, a, a, keys);
    } else {
        say("%c.p=MatMul(%c.q,%c.%s); %c.s=Div(%c.p,four); ", a, a, a, keys, a, a);
    }
    if (how->shows_scores) {
        say("out %c.s; ", a);
    }
    if (!how->no_mask && how->keys_twice) {
        say("%c.S=Add(mask,%c.s); ", a, a);
    } else if (!how->no_mask) {
        say("%c.S=Add(%c.s,mask); ", a, a);
    }
    say("%c.P=Softmax(%c.%s) axis=%d; %c.V=MatMul(%c.P,%c.v); ", a, a, how->no_mask ? "s" : "S",
        how->other_axis ? 2 : -1, a, a, a);
    say("%c.T=Transpose(%c.V) perm=[0,2,1,3]; %c.R=Reshape(%c.T,whole); ", a, a, a, a);
    (void)snprintf(name, sizeof name, "%c.R", a);
    dense(y, name, WIDTH);
}

static kiln_network *network_of(const form *how)
{
    const char *length = how->open ? "?" : "5";
    model_text[0] = '\0';
    say("in x float32[%d,%s,%d]; heads={0,0,%d,%d}; whole={0,0,%d}; ", BATCH, length, WIDTH, HEADS,
        SIZE, WIDTH);
    if (how->scales_query) {
        say("const quarter float32[]={0.25}; ");
    } else {
        say("const four float32[]={4.0}; ");
    }
    if (how->merged) {
        say("sizes={%d,%d,%d}; ", WIDTH, WIDTH, WIDTH);
    }
    if (!how->no_mask) {
        say("in mask float32[%d,1,%s,%s]; ", BATCH, how->full_mask ? length : "1", length);
    }
    attend('a', "first", "x", how);
    if (how->twice) {
        attend('b', "second", "first", how);
    }
    say("y=Identity(%s); out y", how->twice ? "second" : "first");
    return made_network(all_numbers(), "%s", model_text);
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
    owned_network network = made_network(
        all_numbers(),
        "in x float32[%d,%d]; floats shared float32[6,6]; floats u float32[6,6]; "
        "floats b float32[6]; floats v float32[6,6]; s=MatMul(x,shared); t=MatMul(s,shared); "
        "g=Gemm(t,u,b) alpha=0.5; y=Gemm(g,v) alpha=0.5 transB=1; out y",
        BATCH * LENGTH, WIDTH);
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
