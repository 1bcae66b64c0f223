/* SPDX-License-Identifier: Apache-2.0 */
/* A graph inside a node is judged by whether it runs: a fault of shapes in the branch of an If is
 * an error where that branch is taken, a warning where nobody knows, and none elsewhere. */
#include "graph/kln_graph.h"
#include "graph_maker.h"
#include "kiln_test.h"

static kiln_issue_list *validate(graph_maker *m, const kln_validate_options *options)
{
    kiln_issue_list *issues = NULL;
    assert_ok(m->status);
    assert_ok(kln_validate(m->model, options, &issues));
    return issues;
}

/* One issue of that severity, kind and words; or none at all with words of NULL. */
static void expect_with(graph_maker *m, const kln_validate_options *options, kiln_severity severity,
                        kiln_issue_kind kind, const char *words)
{
    owned_issue_list issues = validate(m, options);
    const size_t count = kiln_issue_list_count(issues);
    const kiln_issue *issue = kiln_issue_list_get(issues, 0);
    if (count != (words != NULL ? 1 : 0) ||
        (words != NULL && (issue->severity != severity || issue->kind != kind ||
                           strstr(issue->sentence, words) == NULL))) {
        print_error("expected \"%s\"; found %zu:\n", words != NULL ? words : "none", count);
        for (size_t i = 0; i < count; i++) {
            issue = kiln_issue_list_get(issues, i);
            print_error("%d %s: %s\n", (int)issue->severity, kiln_issue_kind_name(issue->kind),
                        issue->sentence);
        }
        fail();
    }
    maker_end(m);
}

static void expect(graph_maker *m, kiln_severity severity, kiln_issue_kind kind, const char *words)
{
    expect_with(m, NULL, severity, kind, words);
}

static void expect_none(graph_maker *m)
{
    expect(m, KILN_SEVERITY_ERROR, KILN_ISSUE_SHAPE, NULL);
}

/* y = Relu(x) where `condition` does not hold; the other branch is to be filled in. */
static kln_onnx_graph *begin_then(graph_maker *m, const char *condition)
{
    kln_onnx_graph *outer = NULL;
    maker_node(m, "If", condition, "y");
    maker_enter(m, "else_branch", &outer);
    maker_text(m, "e=Relu(x); out e");
    maker_leave(m, outer);
    maker_enter(m, "then_branch", &outer);
    return outer;
}

static void end_then(graph_maker *m, kln_onnx_graph *outer)
{
    maker_output(m, "t", 0, NULL);
    maker_leave(m, outer);
    maker_output(m, "y", 1, NULL);
}

/* x is [2,3]. "no" does not hold, "yes" does, and of the input "which" nobody knows. */
static void begin(graph_maker *m, const char *condition)
{
    maker_model(m, 17, "in x float32[2,3]");
    if (strcmp(condition, "which") == 0) {
        maker_input(m, "which", 9, "");
    } else {
        maker_weights(m, "no", 9, "");
        if (strcmp(condition, "yes") == 0) {
            maker_node(m, "Not", "no", "yes");
        }
    }
}

static void bad_add(graph_maker *m, const char *condition)
{
    begin(m, condition);
    kln_onnx_graph *outer = begin_then(m, condition);
    maker_text(m, "zeros w float32[4]; t=Add(x,w)");
    end_then(m, outer);
}

TEST(shapes_count_where_they_run)
{
    graph_maker m;
    static const char words[] = "dimensions that broadcast must be the same: 3 and 4";
    bad_add(&m, "yes");
    expect(&m, KILN_SEVERITY_ERROR, KILN_ISSUE_SHAPE, words);
    bad_add(&m, "no");
    expect_none(&m);
    bad_add(&m, "which");
    expect(&m, KILN_SEVERITY_WARNING, KILN_ISSUE_SHAPE,
           "a branch fails if it is taken: node \"t\" (Add): dimensions that broadcast must be the "
           "same: 3 and 4");

    /* A caller may replace what is both an input and weights. */
    bad_add(&m, "no");
    maker_input(&m, "no", 9, "");
    expect(&m, KILN_SEVERITY_WARNING, KILN_ISSUE_SHAPE, words);

    /* Inputs that are weights too have the dimensions of the weights. */
    begin(&m, "which");
    maker_text(&m, "in b float32[4]; in w float32[5]");
    m.model->ir_version = 3;
    maker_text(&m, "zeros b float32[4]; zeros w float32[5]");
    kln_onnx_graph *outer = begin_then(&m, "which");
    maker_node(&m, "Add", "b,w", "t");
    end_then(&m, outer);
    expect(&m, KILN_SEVERITY_ERROR, KILN_ISSUE_SHAPE, "must be the same: 4 and 5");
}

TEST(ranks_and_values_too)
{
    static const char *const conditions[] = {"yes", "no", "which"};
    static const kiln_severity severities[] = {KILN_SEVERITY_ERROR, 0, KILN_SEVERITY_WARNING};
    for (size_t i = 0; i < 3; i++) {
        graph_maker m;
        begin(&m, conditions[i]);
        kln_onnx_graph *outer = begin_then(&m, conditions[i]);
        maker_text(&m, "axes={1}; t=Squeeze(x,axes)");
        end_then(&m, outer);
        expect(&m, severities[i], KILN_ISSUE_SHAPE,
               severities[i] != 0 ? "only a 1 can be taken out" : NULL);
    }
    /* The rank of x is the model's own, whatever its dimensions are. */
    graph_maker m;
    begin(&m, "which");
    kln_onnx_graph *outer = begin_then(&m, "which");
    maker_text(&m, "t=Softmax(x) axis=2");
    end_then(&m, outer);
    expect(&m, KILN_SEVERITY_ERROR, KILN_ISSUE_VALUE, "axis 2 is outside");
    begin(&m, "no");
    outer = begin_then(&m, "no");
    maker_text(&m, "t=Softmax(x) axis=2");
    end_then(&m, outer);
    expect_none(&m);
}

TEST(other_faults_are_errors_everywhere)
{
    static const char *const conditions[] = {"yes", "no", "which"};
    for (size_t i = 0; i < 3; i++) {
        graph_maker m;
        const char *condition = conditions[i];
        begin(&m, condition);
        kln_onnx_graph *outer = begin_then(&m, condition);
        maker_node(&m, "Neg", "nobody", "t");
        end_then(&m, outer);
        expect(&m, KILN_SEVERITY_ERROR, KILN_ISSUE_UNKNOWN_NAME, "\"nobody\"");

        begin(&m, condition);
        outer = begin_then(&m, condition);
        maker_text(&m, "t=Relu(x) slope=1");
        end_then(&m, outer);
        expect(&m, KILN_SEVERITY_ERROR, KILN_ISSUE_ATTRIBUTE, "no attribute \"slope\"");

        begin(&m, condition);
        outer = begin_then(&m, condition);
        maker_node(&m, "Neg", "x,x", "t");
        end_then(&m, outer);
        expect(&m, KILN_SEVERITY_ERROR, KILN_ISSUE_ARITY, "takes 1");

        begin(&m, condition);
        outer = begin_then(&m, condition);
        maker_text(&m, "zeros w int64[3]; t=Add(x,w)");
        end_then(&m, outer);
        expect(&m, KILN_SEVERITY_ERROR, KILN_ISSUE_DTYPE, "is int64, but \"x\" is float32");
    }
    /* Two weights that never go together, whatever the inputs are. */
    graph_maker m;
    begin(&m, "which");
    kln_onnx_graph *outer = begin_then(&m, "which");
    maker_text(&m, "zeros a float32[4]; zeros b float32[5]; t=Add(a,b)");
    end_then(&m, outer);
    expect(&m, KILN_SEVERITY_ERROR, KILN_ISSUE_SHAPE, "must be the same: 4 and 5");
}

/* y = Add(x, w) where `inner` holds, within a branch that is taken where `outer` holds. */
static void nested(graph_maker *m, const char *outer, const char *inner)
{
    maker_model(m, 17,
                "in x float32[2,3]; in which bool[]; zeros no bool[]; yes=Not(no); "
                "used=Or(no,yes); out used; used_too=Not(which); out used_too");
    kln_onnx_graph *main_graph = begin_then(m, outer);
    kln_onnx_graph *branch = NULL;
    maker_node(m, "If", inner, "t");
    maker_enter(m, "else_branch", &branch);
    maker_text(m, "inner_e=Neg(x); out inner_e");
    maker_leave(m, branch);
    maker_enter(m, "then_branch", &branch);
    maker_text(m, "zeros w float32[4]; inner_t=Add(x,w); out inner_t");
    maker_leave(m, branch);
    end_then(m, main_graph);
}

TEST(a_branch_is_as_certain_as_its_outer_one)
{
    graph_maker m;
    static const char words[] = "must be the same: 3 and 4";
    nested(&m, "yes", "yes");
    expect(&m, KILN_SEVERITY_ERROR, KILN_ISSUE_SHAPE, words);
    nested(&m, "which", "yes");
    expect(&m, KILN_SEVERITY_WARNING, KILN_ISSUE_SHAPE, words);
    nested(&m, "yes", "which");
    expect(&m, KILN_SEVERITY_WARNING, KILN_ISSUE_SHAPE, words);
    nested(&m, "no", "yes");
    expect_none(&m);
    nested(&m, "which", "no");
    expect_none(&m);
}

/* What the branch taken gives goes on; after it, faults are the main graph's again. */
TEST(the_branch_taken_gives_the_output)
{
    graph_maker m;
    begin(&m, "no");
    kln_onnx_graph *outer = begin_then(&m, "no");
    maker_text(&m, "s=Shape(x); r=ConstantOfShape(s); t=Unsqueeze(r,s)");
    end_then(&m, outer);
    maker_text(&m, "zeros w float32[4]; z=Add(y,w); out z float32");
    expect(&m, KILN_SEVERITY_ERROR, KILN_ISSUE_SHAPE, "node \"z\" (Add): dimensions that");
}

/* --- profiles --- */

/* The branch with a Reshape to [-1,4,8] is taken where x has `length` along its last dimension, or,
 * with "which", where the caller wants it. */
static void reshape_where(graph_maker *m, const char *condition, int64_t length)
{
    maker_model(m, 17, "in x float32[batch,4,n]");
    if (strcmp(condition, "which") == 0) {
        maker_input(m, "which", 9, "");
    } else {
        maker_int(m, "last", 2);
        maker_int(m, "length", length);
        maker_text(m, "shape=Shape(x); n=Gather(shape,last)");
        maker_node(m, "Equal", "n,length", condition);
    }
    maker_ints(m, "to", 3, (int64_t[]){-1, 4, 8});
    kln_onnx_graph *outer = begin_then(m, condition);
    maker_node(m, "Reshape", "x,to", "t");
    end_then(m, outer);
}

TEST(profiles_decide_conditions)
{
    graph_maker m;
    const kiln_shape small = KILN_SHAPE(1, 4, 8);
    const kln_profile_range ranges[] = {{"x", small, small, KILN_SHAPE(1, 4, 9)}};
    const kln_validate_options options = {.ranges = ranges, .range_count = 1};
    reshape_where(&m, "is_length", 8);
    expect_with(&m, &options, KILN_SEVERITY_ERROR, KILN_ISSUE_PROFILE, NULL);
    reshape_where(&m, "is_length", 9);
    expect_with(&m, &options, KILN_SEVERITY_ERROR, KILN_ISSUE_PROFILE,
                "with all inputs at max, node \"t\" (Reshape)");
    reshape_where(&m, "which", 0);
    expect_with(&m, &options, KILN_SEVERITY_WARNING, KILN_ISSUE_PROFILE,
                "with all inputs at max, a branch fails if it is taken: node \"t\" (Reshape)");
}

/* An error that has nothing to do with shapes hides no error of a profile. */
TEST(profiles_are_held_beside_other_errors)
{
    owned_maker m;
    const kiln_shape odd = KILN_SHAPE(1, 4, 9);
    const kln_profile_range ranges[] = {{"x", odd, odd, odd}};
    const kln_validate_options options = {.ranges = ranges, .range_count = 1};
    maker_model(&m, 17,
                "in x float32[batch,4,n]; to={-1,4,8}; b=Bogus(x); c=Bogus(x); y=Reshape(x,to); "
                "out y float32; out b float32; out c float32");
    owned_issue_list issues = validate(&m, &options);
    assert_int_equal(5, kiln_issue_list_errors(issues));
    assert_int_equal(KILN_ISSUE_PROFILE, kiln_issue_list_get(issues, 4)->kind);
}

/* --- loops --- */

/* `turns` 0 or not, and begun where `condition` holds ("": always). */
static void bad_loop(graph_maker *m, int64_t turns, const char *condition)
{
    char inputs[64];
    kln_onnx_graph *outer = NULL;
    begin(m, condition[0] != '\0' ? condition : "which");
    maker_int(m, "turns", turns);
    (void)snprintf(inputs, sizeof inputs, "turns,%s,x", condition);
    maker_node(m, "Loop", inputs, "y");
    maker_enter(m, "body", &outer);
    maker_text(m,
               "in turn int64[]; in before bool[]; in now float32; zeros w float32[4]; "
               "after=Identity(before); sum=Add(x,w); out after bool[]; out sum float32");
    maker_leave(m, outer);
    maker_output(m, "y", 1, NULL);
    if (condition[0] == '\0') {
        maker_text(m, "used=Not(which); out used bool");
    }
}

TEST(a_loop_without_a_turn_does_not_run)
{
    graph_maker m;
    bad_loop(&m, 2, "");
    expect(&m, KILN_SEVERITY_ERROR, KILN_ISSUE_SHAPE, "must be the same: 3 and 4");
    bad_loop(&m, 0, "");
    expect_none(&m);
    bad_loop(&m, 2, "no");
    expect_none(&m);
    bad_loop(&m, 2, "which");
    expect(&m, KILN_SEVERITY_ERROR, KILN_ISSUE_SHAPE, "must be the same: 3 and 4");
}

/* --- a build --- */

TEST(such_a_network_is_built)
{
    owned_maker m;
    bad_add(&m, "no");
    assert_ok(m.status);
    owned_network network = network_in(maker_span(m.model), NULL);
    kiln_build_options options = backend_options("reference");
    owned_engine engine = built_network(network, &options);
}

static kiln_status check_once(void *user)
{
    const kiln_span *model = user;
    owned_issue_list issues = NULL;
    return kiln_check_bytes(*model, NULL, NULL, &issues);
}

TEST(each_allocation_may_fail)
{
    static unsigned char copy[4096];
    graph_maker m;
    bad_add(&m, "which");
    assert_ok(m.status);
    kln_text bytes = maker_bytes(m.model);
    memcpy(copy, bytes.data, bytes.size);
    kiln_span model = {copy, bytes.size};
    kln_text_finish(&bytes);
    maker_end(&m);
    kiln_test_each_allocation(check_once, &model);
}
