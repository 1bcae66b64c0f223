/* SPDX-License-Identifier: Apache-2.0 */
/* What is done before a network is quantized: channels are evened out, normalizations folded, means
 * corrected, gates left alone. Each is compared with the same ranges without their channels. */
#include "context_test.h"
#include "graph_maker.h"
#include "precision/kln_precision.h"
#include "precision_report.h"

#define CHANNELS 8
#define INPUT (CHANNELS * 25)
#define BATCHES 6
#define MOST 4096

static float numbers[16][MOST];

/* Weights of float32 that go up and down; channel 3 along the axis of `stride` is so much larger,
 * or smaller. */
static void weights(graph_maker *m, int slot, const char *name, const char *dims, size_t stride,
                    float uneven)
{
    maker_weights(m, name, 1, dims);
    if (m->status != KILN_OK) {
        return;
    }
    kln_onnx_tensor *made = &m->graph->initializers[m->graph->initializer_count - 1];
    const size_t count = made->data.size / sizeof(float);
    assert_true(count <= MOST);
    for (size_t i = 0; i < count; i++) {
        const float wave = sinf((float)i * 1.7F + (float)slot) * 0.5F + 0.1F;
        numbers[slot][i] = stride != 0 && i / stride % CHANNELS == 3 ? wave * uneven : wave;
    }
    made->data.data = numbers[slot];
}

static void normalized_product(graph_maker *m)
{
    weights(m, 0, "g", "8", 1, 60);
    weights(m, 1, "h", "8", 0, 1);
    weights(m, 2, "w", "8,16", 16, 1 / 60.0F);
    weights(m, 3, "b", "16", 0, 1);
    maker_text(
        m,
        "rows={25,8}; a=Reshape(x,rows); t=LayerNormalization(a,g,h); c=MatMul(t,w); y=Add(c,b)");
}

static void folded_convolutions(graph_maker *m)
{
    weights(m, 0, "w", "8,8,1,1", 0, 1);
    weights(m, 1, "scale", "8", 1, 80);
    weights(m, 2, "term", "8", 0, 1);
    weights(m, 3, "mean", "8", 0, 1);
    weights(m, 4, "v", "8,1,3,3", 9, 1 / 80.0F);
    maker_text(m,
               "variance={1.0,2.0,1.0,2.0,1.0,2.0,1.0,2.0}; a=Conv(x,w); "
               "b=BatchNormalization(a,scale,term,mean,variance); t=Relu(b); y=Conv(t,v) group=8 "
               "pads=[1,1,1,1]");
}

/* What is far from 0 is moved there: the Add takes it, and the next bias. */
static void moved(graph_maker *m)
{
    maker_floats(m, "far", 1, (const float[]){30});
    weights(m, 0, "f", "8,1,1", 1, 50);
    weights(m, 1, "w", "8,8,1,1", 1, 1 / 50.0F);
    maker_text(m, "a=Sigmoid(x); b=Mul(a,f); t=Add(b,far); y=Conv(t,w)");
}

/* Something else reads the tensor as it is. */
static void shared(graph_maker *m)
{
    weights(m, 0, "f", "8,1,1", 1, 50);
    weights(m, 1, "w", "8,8,1,1", 1, 1 / 50.0F);
    maker_text(m, "t=Mul(x,f); a=Conv(t,w); b=Sigmoid(t); y=Add(a,b)");
}

/* The same, where an operator more would keep a convolution from giving eight bits. */
static void shared_behind_a_convolution(graph_maker *m)
{
    weights(m, 0, "v", "8,8,1,1", 8, 50);
    weights(m, 1, "w", "8,8,1,1", 1, 1 / 50.0F);
    maker_text(m, "t=Conv(x,v); a=Conv(t,w); b=Sigmoid(t); y=Add(a,b)");
}

/* Weights that the steps of a recurrence share stay one tensor, whatever would serve each step. */
static void steps(graph_maker *m)
{
    weights(m, 0, "f", "8", 1, 50);
    weights(m, 1, "w", "8,8", 8, 1 / 50.0F);
    maker_text(m,
               "rows={25,8}; r=Reshape(x,rows); a=Mul(r,f); b=MatMul(a,w); t=Mul(b,f); "
               "y=MatMul(t,w)");
}

static void gated_with(graph_maker *m, bool swish)
{
    weights(m, 0, "w", "8,8,1,1", 0, 1);
    weights(m, 1, "u", "2,8,1,1", 0, 1);
    weights(m, 2, "v", "8,2,1,1", 0, 1);
    maker_text(m, "t=Conv(x,w); b=GlobalAveragePool(t); c=Conv(b,u)");
    /* Two nodes read the convolution for the swish. */
    maker_text(m, swish ? "s=Sigmoid(c); d=Mul(s,c)" : "d=Relu(c)");
    maker_text(m, "e=Conv(d,v); f=HardSigmoid(e); y=Mul(t,f)");
}

static void gated(graph_maker *m)
{
    gated_with(m, false);
}

static void gated_by_swish(graph_maker *m)
{
    gated_with(m, true);
}

/* A gate that computes in eight bits, as what it scales does. */
static void gated_in_bytes(graph_maker *m)
{
    weights(m, 0, "w", "8,8,1,1", 0, 1);
    weights(m, 1, "u", "2,8,1,1", 0, 1);
    weights(m, 2, "v", "8,2,1,1", 0, 1);
    maker_text(m,
               "t=Conv(x,w); s=Sigmoid(t); d=Mul(t,s); b=GlobalAveragePool(d); c=Conv(b,u); "
               "r=Relu(c); e=Conv(r,v); f=Sigmoid(e); y=Mul(d,f)");
}

/* Eight numbers that are two, seen from several sides: what is rounded in one weight the others
 * make up for. */
static void together(graph_maker *m)
{
    weights(m, 0, "u", "8,2", 0, 1);
    weights(m, 1, "v", "2,8", 0, 1);
    weights(m, 2, "w", "8,16", 0, 1);
    maker_text(m, "rows={25,8}; a=Reshape(x,rows); b=MatMul(a,u); t=MatMul(b,v); y=MatMul(t,w)");
}

static void seen_together(graph_maker *m)
{
    weights(m, 0, "u", "2,8,1,1", 0, 1);
    weights(m, 1, "v", "8,2,1,1", 0, 1);
    weights(m, 2, "w", "16,8,3,3", 0, 1);
    weights(m, 3, "b", "16", 0, 1);
    maker_text(m, "a=Conv(x,u); t=Conv(a,v); y=Conv(t,w,b) pads=[1,1,1,1]");
}

#define BYTES "QuantizeLinear DequantizeLinear "
#define PAIR BYTES "DequantizeLinear "

static const struct {
    const char *name;
    void (*make)(graph_maker *m);
    kiln_precision precision;
    const char *graph;
    double less;   /* of the error without channels, at most */
    bool products; /* then of that without products */
} cases[] = {
    {"normalized product", normalized_product, KILN_PRECISION_INT8,
     "Reshape LayerNormalization " PAIR "MatMul Add", 0.3, false},
    {"folded convolutions", folded_convolutions, KILN_PRECISION_INT8, PAIR "Conv Relu " PAIR "Conv",
     0.8, false},
    {"moved", moved, KILN_PRECISION_INT8, "Sigmoid Mul Add " PAIR "Conv", 0.1, false},
    {"shared", shared, KILN_PRECISION_INT8,
     "Mul Mul " PAIR "Conv Sigmoid QuantizeLinear DequantizeLinear Add", 0.5, false},
    {"steps", steps, KILN_PRECISION_INT8, "Reshape Mul " PAIR "MatMul Mul " BYTES "MatMul", 1,
     false},
    {"gated", gated, KILN_PRECISION_INT8,
     PAIR "Conv GlobalAveragePool Conv Relu Conv HardSigmoid Mul", 1.05, false},
    {"gated by swish", gated_by_swish, KILN_PRECISION_INT8,
     PAIR "Conv GlobalAveragePool Conv Sigmoid Mul Conv HardSigmoid Mul", 1.05, false},
    {"gated in fp16", gated_by_swish, KILN_PRECISION_FP16,
     "Cast Conv Cast GlobalAveragePool Conv Sigmoid Mul Conv HardSigmoid Mul", 0.95, false},
    {"means in bf16", moved, KILN_PRECISION_BF16, "Cast Sigmoid Mul Add Conv Cast", 1.0, false},
    {"together in int4", together, KILN_PRECISION_INT4,
     "Reshape DequantizeLinear MatMul DequantizeLinear MatMul DequantizeLinear MatMul", 0.6, true},
    {"together about zero points", together, KILN_PRECISION_INT4,
     "Reshape DequantizeLinear MatMul DequantizeLinear MatMul DequantizeLinear MatMul", 0.8, true},
    {"together in int8", seen_together, KILN_PRECISION_INT8, PAIR "Conv " PAIR "Conv " PAIR "Conv",
     0.95, true},
    {"together in fp16", seen_together, KILN_PRECISION_FP16, "Cast Conv Conv Conv Cast", 0.97,
     true},
    {"together in bf16", seen_together, KILN_PRECISION_BF16, "Cast Conv Conv Conv Cast", 0.97,
     true},
    {"gated beside a half type", gated_in_bytes, KILN_PRECISION_INT8,
     PAIR "Conv Sigmoid Mul " BYTES "GlobalAveragePool " PAIR "Conv Relu " PAIR
          "Conv Sigmoid " BYTES "Mul",
     1.05, false},
    {"shared behind a convolution", shared_behind_a_convolution, KILN_PRECISION_INT8,
     PAIR "Conv " PAIR "Conv Sigmoid QuantizeLinear DequantizeLinear Add", 1.05, false},
};

/* --- batches --- */

typedef struct batches {
    float data[INPUT];
    kiln_named_tensor tensor;
    unsigned next;
} batches;

static void fill(float *data, unsigned seed)
{
    uint32_t state = seed * 2654435761U + 1;
    for (size_t i = 0; i < INPUT; i++) {
        state = state * 1664525U + 1013904223U;
        data[i] = (float)(state >> 8) / (float)(1 << 23) - 1;
    }
}

static kiln_tensor tensor_of(float *data)
{
    return KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1, CHANNELS, 5, 5), data,
                            INPUT * sizeof *data);
}

static kiln_status next_batch(void *user, const kiln_named_tensor **inputs, size_t *count)
{
    batches *of = user;
    fill(of->data, of->next);
    of->tensor = (kiln_named_tensor){"x", tensor_of(of->data)};
    *inputs = &of->tensor;
    *count = of->next++ < BATCHES;
    return KILN_OK;
}

/* --- networks --- */

static kiln_network *network_of(size_t index)
{
    owned_maker m;
    const char *path = kiln_test_path("smooth.onnx");
    maker_model(&m, 22, "in x float32[1,8,5,5]");
    cases[index].make(&m);
    maker_output(&m, "y", 1, NULL);
    assert_ok(m.status);
    const kiln_span whole = maker_span(m.model);
    assert_ok(kln_file_write(path, &whole, 1, false));
    return network_file(path);
}

static kiln_range_table *calibrate(size_t index, bool channels, bool products)
{
    batches of = {.next = 0};
    kiln_range_table *ranges = NULL;
    owned_network network = network_of(index);
    const kiln_batch_source source = {next_batch, &of};
    kiln_calibrate_options how = KILN_CALIBRATE_OPTIONS_INIT;
    kiln_build_options by = KILN_BUILD_OPTIONS(.backend = "reference");
    how.method = KILN_CALIBRATE_MINMAX;
    how.channels = channels;
    how.products = products;
    assert_ok(kiln_calibrate(network, &by, &source, &how, &ranges));
    const kiln_range *range = kiln_range_table_find(ranges, "t");
    assert_int_equal(range->channel_count,
                     channels && strncmp(cases[index].name, "gated", 5) != 0 ? CHANNELS : 0);
    return ranges;
}

static size_t run(const kiln_network *network, float results[MOST])
{
    owned_engine engine = NULL;
    owned_context context = open_reference(network, &engine);
    size_t count = 0;
    for (unsigned batch = 0; batch < BATCHES; batch++) {
        float data[INPUT];
        int64_t each = 0;
        fill(data, 100 + batch);
        const kiln_tensor x = tensor_of(data);
        assert_ok(kiln_context_bind(context, "x", &x));
        assert_ok(kiln_context_run(context));
        const kiln_tensor y = tensor_in(context, "y");
        assert_ok(kiln_shape_elements(&y.desc.shape, &each));
        assert_true(count + (size_t)each <= MOST);
        memcpy(results + count, y.data, (size_t)each * sizeof *results);
        count += (size_t)each;
    }
    return count;
}

/* The mean square error of what it is converted to; `text` has its operators. */
static double error_of(size_t index, const kiln_range_table *ranges, const float *expected,
                       char text[1024])
{
    static float found[MOST];
    owned_network network = network_of(index);
    owned_network again = network_of(index);
    owned_precision_report report = NULL;
    const kln_onnx_model *model = NULL;
    double sum = 0;
    kiln_precision_options how =
        KILN_PRECISION_OPTIONS(.precision = cases[index].precision, .ranges = ranges,
                               .zero_points = strstr(cases[index].name, "zero points") != NULL);
    if (strstr(cases[index].name, "beside") != NULL) {
        how.rest = KILN_PRECISION_FP16;
    }
    assert_ok(kiln_network_convert(network, &how, &report));
    const kiln_precision_options kept = keep_converted(report, how);
    assert_kept(kiln_network_convert(again, &kept, NULL));
    const size_t count = run(network, found);
    for (size_t i = 0; i < count; i++) {
        sum += pow((double)found[i] - (double)expected[i], 2);
    }
    assert_ok(kln_network_model(network, &model));
    operators_of(&model->graph, text);
    return sum / (double)count;
}

TEST_EACH(channels_lose_less, i, KLN_ARRAY_LENGTH(cases))
{
    static float expected[MOST];
    char text[1024];
    const bool products = cases[i].products;
    owned_range_table plain = calibrate(i, products, false);
    owned_range_table with = calibrate(i, true, products);
    kiln_network *network = network_of(i);
    (void)run(network, expected);
    kiln_network_destroy(network);
    const double before = error_of(i, plain, expected, text);
    const double after = error_of(i, with, expected, text);
    assert_string_equal(text, cases[i].graph);
    if (!(after <= cases[i].less * before)) {
        fail_msg("%s: error %g, without %g", cases[i].name, after, before);
    }
}

/* Weights between -64 and 64, of which each tensor has one; rounding them costs no more than four
 * times the square error, which is their share and that of what they are multiplied by. */
static double error_of_seven_bits(size_t index, const kiln_range_table *ranges,
                                  const float *expected)
{
    static float found[MOST];
    owned_network network = network_of(index);
    const kln_onnx_model *model = NULL;
    double sum = 0;
    const kiln_precision_options how =
        KILN_PRECISION_OPTIONS(.precision = KILN_PRECISION_INT8, .ranges = ranges,
                               .reduce_range = true);
    assert_ok(kiln_network_convert(network, &how, NULL));
    assert_ok(kln_network_model(network, &model));
    for (size_t i = 0; i < model->graph.initializer_count; i++) {
        const kln_onnx_tensor *weights = &model->graph.initializers[i];
        const signed char *bytes = weights->data.data;
        int most = 0;
        for (size_t k = 0; weights->dtype == KILN_DTYPE_INT8 && k < weights->data.size; k++) {
            most = abs(bytes[k]) > most ? abs(bytes[k]) : most;
        }
        assert_int_equal(most, weights->dtype == KILN_DTYPE_INT8 && weights->rank != 0 ? 64 : 0);
    }
    const size_t count = run(network, found);
    for (size_t i = 0; i < count; i++) {
        sum += pow((double)found[i] - (double)expected[i], 2);
    }
    return sum / (double)count;
}

TEST_EACH(seven_bits_hold_weights, i, KLN_ARRAY_LENGTH(cases))
{
    static float expected[MOST];
    char text[1024];
    if (cases[i].precision != KILN_PRECISION_INT8) {
        return;
    }
    kiln_network *network = network_of(i);
    (void)run(network, expected);
    kiln_network_destroy(network);
    owned_range_table ranges = calibrate(i, true, cases[i].products);
    const double eight = error_of(i, ranges, expected, text);
    const double seven = error_of_seven_bits(i, ranges, expected);
    if (!(seven > eight && seven < 4 * eight)) {
        fail_msg("%s: error %g in seven bits, %g in eight", cases[i].name, seven, eight);
    }
}

/* What was folded, and the two convolutions of the gate, are told. */
TEST(reasons_are_told)
{
    static const struct {
        size_t index;
        kiln_precision_reason reason;
        size_t count;
    } told[] = {
        {1, KILN_PRECISION_FOLDED, 1}, {5, KILN_PRECISION_GATE, 2}, {6, KILN_PRECISION_GATE, 2}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(told); i++) {
        kiln_precision_summary summary = {.struct_size = sizeof summary};
        owned_precision_report report = NULL;
        owned_network network = network_of(told[i].index);
        owned_range_table ranges = calibrate(told[i].index, true, false);
        size_t found = 0;
        kiln_precision_options how =
            KILN_PRECISION_OPTIONS(.precision = KILN_PRECISION_INT8, .ranges = ranges);
        assert_ok(kiln_network_convert(network, &how, &report));
        assert_ok(kiln_precision_report_summary(report, &summary));
        for (size_t k = 0; k < summary.node_count; k++) {
            kiln_precision_node node = {.struct_size = sizeof node};
            assert_ok(kiln_precision_report_node(report, k, &node));
            found += node.reason == told[i].reason;
        }
        assert_int_equal(found, told[i].count);
    }
}

/* A convolution is kept by each of the names that it had and got: its own, that of what it makes,
 * and those of the normalization that is folded into it. */
TEST(kept_nodes_are_known_by_all_their_names)
{
    static const char *const names[] = {"a", "b"};
    static const kiln_precision precisions[] = {KILN_PRECISION_INT8, KILN_PRECISION_FP16};
    owned_range_table ranges = calibrate(1, true, false);
    for (size_t i = 0; i < 4; i++) {
        kiln_precision_options how = KILN_PRECISION_OPTIONS_INIT;
        owned_precision_report report = NULL;
        owned_network network = network_of(1);
        size_t kept = 0;
        how.precision = precisions[i / 2];
        how.ranges = ranges;
        how.keep_nodes = &names[i % 2];
        how.keep_node_count = 1;
        assert_ok(kiln_network_convert(network, &how, &report));
        kiln_precision_summary summary = {.struct_size = sizeof summary};
        assert_ok(kiln_precision_report_summary(report, &summary));
        for (size_t k = 0; k < summary.node_count; k++) {
            kiln_precision_node node = {.struct_size = sizeof node};
            assert_ok(kiln_precision_report_node(report, k, &node));
            assert_null(strstr(node.output, "/evened"));
            kept += node.reason == KILN_PRECISION_KEPT && strcmp(node.operator_type, "Conv") == 0;
        }
        assert_int_equal(kept, 1);
    }
}

/* A weight that the branch of an If reads as well stays for it. */
TEST(branches_keep_their_weights)
{
    owned_maker m;
    owned_range_table ranges = NULL;
    kiln_precision_options how = KILN_PRECISION_OPTIONS_INIT;
    bool found = false;
    maker_model(&m, 13, "in x float32[4,8]; in c bool[]");
    weights(&m, 0, "w", "8,8", 0, 1);
    maker_text(&m,
               "a=MatMul(x,w); y=If(c) then_branch={t=Identity(w); out t float32} "
               "else_branch={e=Neg(a); out e float32}; out y float32");
    assert_ok(m.status);
    assert_ok(kiln_range_table_create(&ranges));
    assert_ok(kiln_range_table_set(ranges, "x", -1, 1));
    how.precision = KILN_PRECISION_INT8;
    how.ranges = ranges;
    assert_ok(kln_precision_convert(m.model, &how, NULL));
    for (size_t i = 0; i < m.model->graph.initializer_count; i++) {
        found = found || strcmp(m.model->graph.initializers[i].name, "w") == 0;
    }
    assert_true(found);
}

static kiln_status convert_each(void *user)
{
    const size_t index = *(const size_t *)user;
    owned_network network = NULL;
    owned_range_table ranges = NULL;
    owned_precision_report report = NULL;
    batches of = {.next = 0};
    const kiln_batch_source source = {next_batch, &of};
    const kiln_build_options by = KILN_BUILD_OPTIONS(.backend = "reference");
    kiln_calibrate_options seen = KILN_CALIBRATE_OPTIONS_INIT;
    seen.products = true;
    seen.batches = 1;
    seen.threads = 1;
    kiln_status status =
        cases[index].products
            ? kiln_calibrate_file(kiln_test_path("smooth.onnx"), &by, &source, &seen, &ranges)
            : kiln_range_table_load(kiln_test_path("smooth.json"), &ranges);
    kiln_precision_options how =
        KILN_PRECISION_OPTIONS(.precision = cases[index].precision, .ranges = ranges,
                               .zero_points = strstr(cases[index].name, "zero points") != NULL);
    status = status == KILN_OK ? kiln_network_from_onnx(kiln_test_path("smooth.onnx"), &network)
                               : status;
    status = status == KILN_OK ? kiln_network_convert(network, &how, &report) : status;
    return status;
}

TEST_EACH(allocations_may_fail, i, KLN_ARRAY_LENGTH(cases))
{
    kiln_range_table *ranges = calibrate(i, true, false);
    assert_ok(kiln_range_table_save(ranges, kiln_test_path("smooth.json")));
    kiln_range_table_destroy(ranges);
    kiln_test_each_allocation(convert_each, &i);
}
