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
    maker_model(m, 16,
                "in x float32[n,4]; in which bool[]; y=If(which) then_branch={inner_relu=Relu(x); "
                "out inner_relu} else_branch={inner_concat=Concat(x,x) axis=0; out inner_concat}; "
                "z=Neg(y); out z");
}

#endif
