/* SPDX-License-Identifier: Apache-2.0 */
/* Celu in the operators that define it: the results stay. */
#include "context_test.h"
#include "graph/kln_graph.h"
#include "graph_maker.h"
#include "tensor/kln_tensor.h"

#define COUNT 64
#define OPSET 28 /* the first that has it in 16 bits */

static const struct {
    kiln_dtype dtype;
    int32_t wire;
    float epsilon; /* between 1 and the next number */
} types[] = {{KILN_DTYPE_FLOAT16, 10, 0.0009765625F}, {KILN_DTYPE_BFLOAT16, 16, 0.0078125F}};

/* y = Celu(Celu(x)), of one alpha given and one not. */
static void make(graph_maker *m, int32_t wire, float alpha)
{
    maker_begin(m, OPSET);
    maker_input(m, "x", wire, "64");
    maker_node(m, "Celu", "x", "inner");
    maker_attribute_float(m, "alpha", alpha);
    maker_node(m, "Celu", "inner", "y");
    maker_output(m, "y", wire, "64");
    assert_ok(m->status);
}

static void run(const kln_onnx_model *model, kiln_dtype dtype, double *results)
{
    double values[COUNT];
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
    owned_engine engine = built_bytes(maker_span(model), &options);
    owned_context context = context_on(engine);
    kiln_tensor x = tensor_in(context, "x");
    assert_int_equal(x.desc.dtype, dtype);
    for (int i = 0; i < COUNT; i++) {
        values[i] = (i - COUNT / 2) / 4.0;
    }
    assert_ok(kiln_tensor_write(&x, 0, COUNT, values));
    assert_ok(kiln_context_run(context));
    kiln_tensor y = tensor_in(context, "y");
    assert_ok(kiln_tensor_read(&y, 0, COUNT, results));
}

TEST(results_stay)
{
    static const float alphas[] = {1, 2, 0.3F};
    for (size_t t = 0; t < KLN_ARRAY_LENGTH(types); t++) {
        for (size_t a = 0; a < KLN_ARRAY_LENGTH(alphas); a++) {
            owned_maker m;
            double before[COUNT];
            double after[COUNT];
            size_t expanded = 0;
            make(&m, types[t].wire, alphas[a]);
            run(m.model, types[t].dtype, before);
            assert_ok(kln_expand_celu(m.model, &expanded));
            assert_int_equal(expanded, 2);
            assert_false(kln_graph_has(&m.model->graph, "Celu"));
            assert_int_equal(m.model->graph.node_count, 10);
            run(m.model, types[t].dtype, after);
            for (int i = 0; i < COUNT; i++) {
                /* Each of the parts rounds, in two operators. */
                const double allowed = 4 * (double)types[t].epsilon * (fabs(before[i]) + 0.5);
                assert_true(fabs(before[i] - after[i]) <= allowed);
            }
            assert_true(before[0] < 0 && before[COUNT - 1] > 7);
        }
    }
}

TEST(float32_stays_as_it_is)
{
    owned_maker m;
    size_t expanded = 9;
    make(&m, 1, 2);
    assert_true(kln_graph_has(&m.model->graph, "Celu"));
    assert_ok(kln_expand_celu(m.model, &expanded));
    assert_int_equal(expanded, 0);
    assert_int_equal(m.model->graph.node_count, 2);
}

static kiln_status expand_one(void *user)
{
    owned_maker m;
    size_t expanded = 0;
    maker_model(&m, OPSET, "in x float16[64]; y=Celu(x); out y float16[64]");
    TRY(m.status);
    const kiln_status status = kln_expand_celu(m.model, &expanded);
    assert_true(kln_graph_has(&m.model->graph, "Celu") == (status != KILN_OK));
    return status;
}

TEST(every_allocation_may_fail)
{
    kiln_test_each_allocation(expand_one, NULL);
}
