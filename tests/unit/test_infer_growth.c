/* SPDX-License-Identifier: Apache-2.0 */
/* Inference with shapes that are given, of a network that grows, and without memory. */
#include "infer_test.h"

TEST(given_shapes_are_taken)
{
    owned_maker m;
    maker_model(&m, 17, "in x float32[batch,3]; in y float32[batch,3]; z=Add(x,y); out z");
    kln_input_shape shapes[] = {{"x", KILN_SHAPE(4, 3)}};
    kln_infer_options options = {.inputs = shapes, .input_count = 1};
    kln_inference *i = NULL;
    assert_ok(kln_infer(m.model, &options, &i));
    assert_type("float32[4,3]", i, "z");
    assert_type("float32[4,3]", i, "y"); /* the same name, the same number */
    kln_inference_destroy(i);
    shapes[0].name = "nobody";
    assert_fails(KILN_ERROR_NAME, kln_infer(m.model, &options, &i), "nobody");
    shapes[0] = (kln_input_shape){"x", KILN_SHAPE(4, 5)};
    assert_fails(KILN_ERROR_SHAPE, kln_infer(m.model, &options, &i),
                 "dimension 1 is 3, but 5 was given");
    shapes[0] = (kln_input_shape){"x", KILN_SHAPE(4)};
    assert_status(KILN_ERROR_RANK, kln_infer(m.model, &options, &i));
    assert_null(i);
    assert_status(KILN_ERROR_NULL_ARGUMENT, kln_infer(NULL, NULL, &i));
    assert_status(KILN_ERROR_NULL_ARGUMENT, kln_infer(m.model, NULL, NULL));
}

TEST(a_network_grows)
{
    owned_maker m;
    owned_inference i = NULL;
    maker_model(&m, 17, "in x float32[n,3]");
    assert_ok(kln_infer(m.model, NULL, &i));
    char names[40][8];
    for (size_t k = 0; k < 40; k++) {
        (void)snprintf(names[k], sizeof names[k], "t%zu", k);
        maker_node(&m, k % 2 == 0 ? "Relu" : "Neg", k == 0 ? "x" : names[k - 1], names[k]);
        assert_ok(kln_infer_more(i, i->graph));
        assert_type("float32[n,3]", i, names[k]);
    }
    maker_text(&m, "zeros w float32[3,5]; last=MatMul(t39,w); out last");
    assert_ok(kln_infer_more(i, i->graph));
    assert_type("float32[n,5]", i, "last");
    assert_int_equal(1, i->graph->output_count);
    assert_int_equal(0, kiln_issue_list_count(i->issues));
}

static uint32_t readers(const kln_inference *i, const char *name)
{
    return kln_inference_find(i->graph, name)->consumers;
}

/* What a builder adds and takes back leaves nothing behind: values, readers (of subgraphs too),
 * issues. */
TEST(what_was_taken_in_is_taken_back)
{
    owned_maker m;
    owned_inference i = NULL;
    maker_model(&m, 17, "in x float32[n,3]; in c bool[]; y=Relu(x)");
    assert_ok(kln_infer(m.model, NULL, &i));
    const kln_infer_mark mark = kln_infer_mark_of(i, i->graph);
    const size_t values = i->graph->value_count;
    for (int round = 0; round < 3; round++) {
        maker_text(&m,
                   "zeros w float32[5,3]; in late float32[2]; wrong=MatMul(y,w); "
                   "chosen=If(c) then_branch={inner=Add(y,y); out inner} else_branch={out y}");
        assert_ok(kln_infer_more(i, i->graph));
        assert_int_equal(1, kiln_issue_list_errors(i->issues));
        assert_int_equal(4, readers(i, "y"));
        assert_int_equal(1, readers(i, "c"));
        assert_type("float32[n,3]", i, "chosen");
        kln_infer_take_back(i, i->graph, &mark);
        m.model->graph.node_count = 1;
        m.model->graph.input_count = 2;
        m.model->graph.initializer_count = 0;
        assert_int_equal(0, kiln_issue_list_count(i->issues));
        assert_int_equal(values, i->graph->value_count);
        assert_int_equal(0, readers(i, "y"));
        assert_int_equal(0, readers(i, "c"));
        assert_int_equal(1, readers(i, "x"));
        assert_null(kln_inference_find(i->graph, "wrong"));
        assert_null(kln_inference_find(i->graph, "w"));
    }
    maker_node(&m, "Neg", "y", "wrong");
    assert_ok(kln_infer_more(i, i->graph));
    assert_type("float32[n,3]", i, "wrong");
    assert_int_equal(1, readers(i, "y"));
}

TEST(quantization_is_carried)
{
    owned_maker m;
    maker_model(&m, 21,
                "in x float32[n,16,8]; zeros scale float32[16]; zeros zero int8[16]; "
                "q=QuantizeLinear(x,scale,zero); d=DequantizeLinear(q,scale,zero); "
                "zeros w int4[8,32]; zeros blocks float32[8,2]; "
                "dw=DequantizeLinear(w,blocks) axis=1 block_size=16; out d");
    owned_inference i = infer(&m);
    assert_type("int8[n,16,8]", i, "q");
    assert_type("float32[n,16,8]", i, "d");
    assert_type("float32[8,32]", i, "dw");
    const kln_value_quantization *q = kln_inference_find(i->graph, "q")->quantization;
    assert_non_null(q);
    assert_string_equal("scale", q->scale);
    assert_string_equal("zero", q->zero_point);
    assert_int_equal(1, q->axis);
    q = kln_inference_find(i->graph, "w")->quantization;
    assert_non_null(q);
    assert_int_equal(16, q->block_size);
    assert_null(q->zero_point);
}

/* --- memory --- */

ALLOCATIONS(TEST, each_allocation_may_fail)
{
    owned_maker m;
    owned_inference inference = NULL;
    owned_issue_list issues = NULL;
    make_branches(&m);
    maker_text(&m, "shape=Shape(x); filled=ConstantOfShape(shape); out filled");
    TRY(m.status);
    TRY(kln_infer(m.model, NULL, &inference));
    return kln_validate(m.model, NULL, &issues);
}

/* Large enough that every table grows. */
static kiln_status infer_many(void *user)
{
    static char names[300][8];
    owned_maker m;
    maker_model(&m, 17, "in x float32[n,k]");
    for (size_t i = 0; i < 300; i++) {
        (void)snprintf(names[i], sizeof names[i], "t%zu", i);
        char inputs[24];
        (void)snprintf(inputs, sizeof inputs, "%s,%s", i == 0 ? "x" : names[i - 1], "x");
        maker_node(&m, i % 3 == 0 ? "Concat" : "Add", i % 3 == 0 ? inputs : names[0], names[i]);
        if (i % 3 == 0) {
            maker_attribute_int(&m, "axis", 1);
        }
    }
    maker_output(&m, names[299], 0, NULL);
    TRY(m.status);
    owned_issue_list issues = NULL;
    return kln_validate(m.model, NULL, &issues);
}

TEST(each_allocation_of_many_may_fail)
{
    kiln_test_each_allocation(infer_many, NULL);
}
