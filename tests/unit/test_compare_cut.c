/* SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

#include "graph_maker.h"
#include "kiln_test.h"
#include "tools/compare_parts.h"

/* Tensors of several outputs, of subgraphs and of integers, a sequence and strings that live
 * across parts, and a node that gives what can be kept and what cannot. */
static void make(graph_maker *m)
{
    maker_model(m, 21,
                "in x float32[4,6]; w={1.0,-2.0,3.0,-4.0,5.0,-6.0}; zero=0; two=2; last=-1; "
                "a=Add(x,w); left,right=Split(a) axis=1 num_outputs=2; "
                "both=SequenceConstruct(left,right); "
                "grown,doubled=Loop(two,,both,a) body={in i int64[]; in goes_on bool[]; in list; "
                "in value float32[4,6]; goes_on_out=Identity(goes_on); "
                "list_out=SequenceInsert(list,value); value_out=Add(value,value); "
                "out goes_on_out bool[]; out list_out; out value_out float32[4,6]}; "
                "shape=Shape(a); relu=Relu(left); negative=Neg(x); shaped=Reshape(negative,shape); "
                "sum=ReduceSum(a) keepdims=0; positive=Cast(sum) to=9; "
                "chosen=If(positive) then_branch={then_out=Add(right,relu); out then_out float32} "
                "else_branch={else_out=Sub(right,relu); out else_out float32}; "
                "first=SequenceAt(both,zero); piece=SequenceAt(grown,last); "
                "total=ReduceSum(piece); product=Mul(chosen,first); moved=Add(product,total); "
                "y=Concat(moved,doubled,shaped) axis=1; out y float32");
}

static const char *const names[] = {"a",        "left",   "right",   "doubled",  "shape",  "relu",
                                    "negative", "shaped", "sum",     "positive", "chosen", "first",
                                    "piece",    "total",  "product", "moved",    "y"};
#define COUNT KLN_ARRAY_LENGTH(names)

static kiln_engine *engine_of(kln_onnx_model *model)
{
    const kiln_model of = {.graph = model};
    kiln_engine *engine = NULL;
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
    assert_ok(kln_engine_make(&of, &options, false, NULL, &engine));
    return engine;
}

/* A context over the whole network that shows every tensor. */
static kiln_context *run_whole(graph_maker *m, const kln_compare_inputs *inputs)
{
    static const kln_onnx_kind tensor = KLN_ONNX_KIND_TENSOR;
    static const int32_t types[COUNT] = {1, 1, 1, 1, 7, 1, 1, 1, 1, 9, 1, 1, 1, 1, 1, 1, 1};
    kln_onnx_value outputs[COUNT];
    const kln_onnx_graph graph = m->model->graph;
    for (size_t i = 0; i < COUNT; i++) {
        outputs[i] = (kln_onnx_value){
            .name = names[i],
            .type = {.kind = tensor, .dtype = kln_onnx_dtype(types[i]), .wire_dtype = types[i]}};
    }
    m->model->graph.outputs = outputs;
    m->model->graph.output_count = COUNT;
    owned_engine engine = engine_of(m->model);
    m->model->graph = graph;
    kiln_context *context = context_on(engine);
    assert_ok(kiln_context_bind(context, "x", &inputs->tensors[0].tensor));
    assert_ok(kiln_context_run(context));
    return context;
}

static void expect_same(kiln_context *whole, kiln_context *part, const char *name)
{
    kiln_tensor expected, found;
    assert_ok(kiln_context_tensor(whole, name, &expected));
    assert_ok(kiln_context_tensor(part, name, &found));
    assert_int_equal(expected.bytes, found.bytes);
    assert_true(kiln_shape_equal(&expected.desc.shape, &found.desc.shape));
    assert_memory_equal(expected.data, found.data, found.bytes);
}

static void reverse_nodes(graph_maker *m)
{
    kln_onnx_graph *graph = &m->model->graph;
    for (size_t i = 0; i < graph->node_count / 2; i++) {
        const kln_onnx_node node = graph->nodes[i];
        graph->nodes[i] = graph->nodes[graph->node_count - 1 - i];
        graph->nodes[graph->node_count - 1 - i] = node;
    }
}

/* Cuts after every `step` nodes and runs the parts. */
static void run_parts(graph_maker *m, const kln_compare_inputs *inputs, kiln_context *whole,
                      uint32_t step)
{
    const kln_compare_builds builds = {
        {.struct_size = sizeof(kiln_build_options), .backend = "reference"},
        {.struct_size = sizeof(kiln_build_options), .backend = "reference"}};
    owned_inference inference = NULL;
    kln_cut cut;
    size_t seen = 0;
    assert_ok(kln_infer(m->model, NULL, &inference));
    assert_ok(kln_cut_init(&cut, m->model, inference, inputs));
    const uint32_t count = (uint32_t)m->model->graph.node_count;
    for (uint32_t first = 0; first < count; first += step) {
        const uint32_t last = first + step < count ? first + step - 1 : count - 1;
        kiln_engine *engines[2] = {NULL, NULL};
        kiln_context *contexts[2] = {NULL, NULL};
        uint32_t values[COUNT];
        size_t value_count = 0;
        for (size_t i = 0; i < COUNT; i++) {
            const uint32_t value = kln_names_get(&inference->graph->names, names[i]);
            const uint32_t at = cut.positions[inference->graph->values[value]->producer];
            if (at >= first && at <= last) {
                values[value_count++] = value;
            }
        }
        if (value_count == 0) {
            continue;
        }
        assert_ok(kln_cut_build(&cut, values, value_count, first, last, &builds, engines));
        const kln_compare_inputs part = {.tensors = cut.bound[0], .count = cut.bound_count[0]};
        const kln_compare_inputs *const both[2] = {&part, &part};
        assert_ok(kln_compare_run(engines, both, contexts));
        for (size_t i = 0; i < value_count; i++, seen++) {
            expect_same(whole, contexts[1], inference->graph->values[values[i]]->name);
            assert_ok(kln_cut_keep(&cut, values[i], contexts));
        }
        for (size_t i = 0; i < 2; i++) {
            kiln_context_destroy(contexts[i]);
            kiln_engine_release(engines[i]);
        }
        kln_cut_forget(&cut);
    }
    assert_int_equal(COUNT, seen);
    assert_int_equal(0, cut.live_count);
    kln_cut_finish(&cut);
}

TEST(parts_give_what_the_whole_gives)
{
    for (int sign = -1; sign <= 1; sign += 2) { /* each branch */
        owned_maker m;
        make(&m);
        assert_ok(m.status);
        float x[24];
        for (size_t i = 0; i < 24; i++) {
            x[i] = (float)sign * (3.5F + (float)i);
        }
        kiln_named_tensor input = {
            "x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(4, 6), x, sizeof x)};
        const kln_compare_inputs inputs = {.tensors = &input, .count = 1};
        owned_context whole = run_whole(&m, &inputs);
        for (int order = 0; order < 2; order++) {
            for (uint32_t step = 1; step <= m.model->graph.node_count; step++) {
                run_parts(&m, &inputs, whole, step);
            }
            reverse_nodes(&m);
        }
    }
}

/* --- quantized networks --- */

static size_t warnings;

static void count_warnings(void *user, kiln_log_level level, const char *component,
                           const char *message)
{
    if (level <= KILN_LOG_WARNING) {
        printf("%s: %s\n", component, message);
        warnings++;
    }
}

/* Q and DQ with scales that Constant nodes give, weights that are quantized, a weight that nobody
 * reads, and a product that two backends round differently. */
static void make_quantized(graph_maker *m)
{
    static const float scale[] = {0.02F};
    static const float other[] = {0.03F};
    maker_model(m, 21, "in x float32[rows,512]");
    maker_floats(m, "other", 1, other);
    maker_floats(m, "unread", 1, other);
    maker_text(m, "zeros z int8[1]; zeros w float32[512,64]; s=Constant()");
    maker_attribute_float(m, "value_float", scale[0]);
    maker_text(m,
               "q1=QuantizeLinear(x,s); d1=DequantizeLinear(q1,s); r=Relu(d1); "
               "q2=QuantizeLinear(r,other,z); d2=DequantizeLinear(q2,other,z); "
               "qw=QuantizeLinear(w,other,z); dw=DequantizeLinear(qw,other,z); "
               "product=MatMul(d2,dw); out product float32");
    assert_ok(m->status);
    kln_onnx_tensor *w = &m->model->graph.initializers[3];
    assert_string_equal("w", w->name);
    float *numbers = kln_arena_alloc(&m->model->arena, 512 * 64 * sizeof *numbers);
    assert_non_null(numbers);
    for (size_t i = 0; i < 512 * 64; i++) {
        numbers[i] = (float)(i * 7919 % 255) * 0.03F - 3.8F;
    }
    w->data = (kiln_span){numbers, 512 * 64 * sizeof *numbers};
}

TEST(quantized_parts_are_whole)
{
    const kln_compare_builds builds = {
        {.struct_size = sizeof(kiln_build_options), .backend = "onnxruntime"},
        {.struct_size = sizeof(kiln_build_options), .backend = "reference"}};
    kiln_compare_options options = KILN_COMPARE_OPTIONS_INIT;
    kiln_comparison comparison = {.count = 0};
    graph_maker m;
    make_quantized(&m);
    float x[4 * 512];
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(x); i++) {
        x[i] = (float)(i * 104729 % 1000) * 0.002F - 1;
    }
    kiln_named_tensor input = {
        "x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(4, 512), x, sizeof x)};
    const kln_compare_inputs inputs = {.tensors = &input, .count = 1};
    options.absolute = options.relative = 0;
    options.intermediate_bytes = 1; /* one tensor at a time */
    warnings = 0;
    kiln_log_set_sink(count_warnings, NULL, KILN_LOG_WARNING);
    const kiln_status status = kln_compare_nodes(m.model, &builds, &inputs, &options, &comparison);
    kiln_log_set_sink(NULL, NULL, KILN_LOG_WARNING);
    if (status != KILN_ERROR_LIBRARY_ABSENT) {
        assert_ok(status);
        assert_non_null(comparison.first);
        assert_string_equal("product", comparison.first->name);
        assert_int_equal(0, warnings);
    }
    kln_arena_finish(&comparison.arena);
    maker_end(&m);
    SKIP_IF(status == KILN_ERROR_LIBRARY_ABSENT);
}

/* What a part is given is what the network is given or what another part computed: no scale, and
 * no weight. */
TEST(scales_and_weights_stay_constant)
{
    const kln_compare_builds builds = {
        {.struct_size = sizeof(kiln_build_options), .backend = "reference"},
        {.struct_size = sizeof(kiln_build_options), .backend = "reference"}};
    owned_maker m;
    owned_inference inference = NULL;
    kln_cut cut;
    make_quantized(&m);
    float x[512] = {0};
    kiln_named_tensor input = {
        "x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1, 512), x, sizeof x)};
    const kln_compare_inputs inputs = {.tensors = &input, .count = 1};
    assert_ok(kln_infer(m.model, NULL, &inference));
    assert_ok(kln_cut_init(&cut, m.model, inference, &inputs));
    for (uint32_t i = 0; i < m.model->graph.node_count; i++) {
        kiln_engine *engines[2] = {NULL, NULL};
        kiln_context *contexts[2] = {NULL, NULL};
        const uint32_t value =
            kln_names_get(&inference->graph->names, m.model->graph.nodes[i].outputs[0]);
        assert_ok(kln_cut_build(&cut, &value, 1, i, i, &builds, engines));
        for (size_t k = 0; k < kiln_engine_input_count(engines[0]); k++) {
            kiln_binding binding = input_at(engines[0], k);
            assert_true(kiln_shape_is_static(&binding.shape));
            assert_true(strchr("xqdr", binding.name[0]) != NULL &&
                        strcmp(binding.name, "qw") != 0 && strcmp(binding.name, "dw") != 0);
        }
        const kln_compare_inputs part = {.tensors = cut.bound[0], .count = cut.bound_count[0]};
        const kln_compare_inputs *const both[2] = {&part, &part};
        assert_ok(kln_compare_run(engines, both, contexts));
        assert_ok(kln_cut_keep(&cut, value, contexts));
        for (size_t k = 0; k < 2; k++) {
            kiln_context_destroy(contexts[k]);
            kiln_engine_release(engines[k]);
        }
        kln_cut_forget(&cut);
    }
    kln_cut_finish(&cut);
}

/* --- growth --- */

static double seconds(void)
{
    struct timespec now;
    assert_int_equal(0, clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now));
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double time_of_search(size_t nodes)
{
    const kln_compare_builds builds = {
        {.struct_size = sizeof(kiln_build_options), .backend = "reference"},
        {.struct_size = sizeof(kiln_build_options), .backend = "reference"}};
    const kiln_compare_options options = KILN_COMPARE_OPTIONS_INIT;
    float x[2] = {1, 2};
    kiln_named_tensor input = {"n0",
                               KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(2), x, sizeof x)};
    const kln_compare_inputs inputs = {.tensors = &input, .count = 1};
    kiln_comparison comparison = {.count = 0};
    owned_maker m;
    const char *last = "n0";
    maker_model(&m, 21, "in n0 float32[2]");
    for (size_t i = 1; i <= nodes; i++) {
        char *name = kln_arena_printf(&m.model->arena, "n%zu", i);
        maker_node(&m, "Neg", last, name);
        last = name;
    }
    maker_output(&m, last, 1, "2");
    assert_ok(m.status);
    const double start = seconds();
    assert_ok(kln_compare_nodes(m.model, &builds, &inputs, &options, &comparison));
    const double took = seconds() - start;
    assert_int_equal(nodes, comparison.intermediate_count);
    kln_arena_finish(&comparison.arena);
    return took;
}

TEST(a_search_grows_evenly)
{
    double few = time_of_search(3000);
    const double again = time_of_search(3000);
    few = again < few ? again : few;
    const double many = time_of_search(12000);
    printf("3,000 nodes %.0f ms, 12,000 nodes %.0f ms\n", few * 1e3, many * 1e3);
    assert_true(many < few * 9);
}
