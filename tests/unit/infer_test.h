/* SPDX-License-Identifier: Apache-2.0 */
/* Types that inference finds, as texts. */
#ifndef INFER_TEST_H
#define INFER_TEST_H

#include "graph/kln_graph.h"
#include "graph_maker.h"
#include "kiln_test.h"
#include "ops/infer_expression.h"

static char text[512];

static inline const char *type_of(kln_inference *inference, const char *name)
{
    const kln_value *value = kln_inference_find(inference->graph, name);
    assert_non_null(value);
    (void)kln_value_format(value, text, sizeof text);
    return text;
}

static inline kln_inference *infer(graph_maker *m)
{
    kln_inference *inference = NULL;
    assert_ok(m->status);
    assert_ok(kln_infer(m->model, NULL, &inference));
    for (size_t i = 0; i < kiln_issue_list_count(inference->issues); i++) {
        print_error("%s\n", kiln_issue_list_get(inference->issues, i)->sentence);
    }
    assert_int_equal(kiln_issue_list_count(inference->issues), 0);
    return inference;
}

#define assert_type(expected, inference, name) \
    assert_string_equal((expected), type_of((inference), (name)))

/* z = -y, y from branches of x [n,4] that have other lengths. */
static inline void make_branches(graph_maker *m)
{
    kln_onnx_graph *outer = NULL;
    maker_begin(m, 16);
    maker_input(m, "x", 1, "n,4");
    maker_input(m, "which", 9, "");
    maker_node(m, "If", "which", "y");
    maker_enter(m, "then_branch", &outer);
    maker_node(m, "Relu", "x", "inner_relu");
    maker_output(m, "inner_relu", 0, NULL);
    maker_leave(m, outer);
    maker_enter(m, "else_branch", &outer);
    maker_node(m, "Concat", "x,x", "inner_concat");
    maker_attribute_int(m, "axis", 0);
    maker_output(m, "inner_concat", 0, NULL);
    maker_leave(m, outer);
    maker_node(m, "Neg", "y", "z");
    maker_output(m, "z", 0, NULL);
}

#endif
