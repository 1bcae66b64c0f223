/* SPDX-License-Identifier: Apache-2.0 */
/* A graph inside a node is judged by whether it runs: a fault of shapes in the branch of an If is
 * an error where that branch is taken, a warning where nobody knows, and none elsewhere. */
#include "validate_test.h"

#define ERROR KILN_SEVERITY_ERROR
#define WARNING KILN_SEVERITY_WARNING

/* "no" does not hold, "yes" does, and of the input "which" nobody knows. */
static const char *const conditions[] = {"yes", "no", "which"};

static const char *made_by(const char *condition)
{
    return strcmp(condition, "which") == 0 ? "in which bool[]"
           : strcmp(condition, "yes") == 0 ? "zeros no bool[]; yes=Not(no)"
                                           : "zeros no bool[]";
}

/* y = Relu(x) where `condition` does not hold; else `then`, which makes t. */
static void branch(graph_maker *m, const char *condition, const char *then)
{
    char text[1024];
    (void)snprintf(text, sizeof text,
                   "y=If(%s) else_branch={e=Relu(x); out e} then_branch={%s; out t}; out y float32",
                   condition, then);
    maker_text(m, text);
}

static void begin(graph_maker *m, const char *condition, const char *then)
{
    maker_model(m, 17, "in x float32[2,3]");
    maker_text(m, made_by(condition));
    branch(m, condition, then);
}

#define BAD_ADD "zeros w float32[4]; t=Add(x,w)"
#define SQUEEZE "axes={1}; t=Squeeze(x,axes)"

TEST(faults_of_shapes_count_where_they_run)
{
    static const struct {
        const char *condition, *then;
        kiln_severity severity;
        kiln_issue_kind kind;
        const char *words; /* NULL: no issue */
    } cases[] = {
        {"yes", BAD_ADD, ERROR, KILN_ISSUE_SHAPE,
         "dimensions that broadcast must be the same: 3 and 4"},
        {"no", BAD_ADD, ERROR, KILN_ISSUE_SHAPE, NULL},
        {"which", BAD_ADD, WARNING, KILN_ISSUE_SHAPE,
         "a branch fails if it is taken: node \"t\" (Add): dimensions that broadcast must be the "
         "same: 3 and 4"},
        {"yes", SQUEEZE, ERROR, KILN_ISSUE_SHAPE, "only a 1 can be taken out"},
        {"no", SQUEEZE, ERROR, KILN_ISSUE_SHAPE, NULL},
        {"which", SQUEEZE, WARNING, KILN_ISSUE_SHAPE, "only a 1 can be taken out"},
        /* The rank of x is the model's own, whatever its dimensions are. */
        {"which", "t=Softmax(x) axis=2", ERROR, KILN_ISSUE_VALUE, "axis 2 is outside"},
        {"no", "t=Softmax(x) axis=2", ERROR, KILN_ISSUE_VALUE, NULL},
        /* Two weights that never go together, whatever the inputs are. */
        {"which", "zeros a float32[4]; zeros b float32[5]; t=Add(a,b)", ERROR, KILN_ISSUE_SHAPE,
         "must be the same: 4 and 5"},
    };
    graph_maker m;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        begin(&m, cases[i].condition, cases[i].then);
        expect(&m, NULL, cases[i].severity, cases[i].kind, cases[i].words);
    }
    /* A caller may replace what is both an input and weights. */
    begin(&m, "no", BAD_ADD);
    maker_text(&m, "in no bool[]");
    expect_warning(&m, KILN_ISSUE_SHAPE, "dimensions that broadcast must be the same: 3 and 4");

    /* Inputs that are weights too have the dimensions of the weights. */
    maker_model(&m, 17, "in x float32[2,3]; in which bool[]; in b float32[4]; in w float32[5]");
    m.model->ir_version = 3;
    maker_text(&m, "zeros b float32[4]; zeros w float32[5]");
    branch(&m, "which", "t=Add(b,w)");
    expect_error(&m, KILN_ISSUE_SHAPE, "must be the same: 4 and 5");
}

TEST(other_faults_are_errors_everywhere)
{
    static const fault faults[] = {
        {"t=Neg(nobody)", KILN_ISSUE_UNKNOWN_NAME, "\"nobody\""},
        {"t=Relu(x) slope=1", KILN_ISSUE_ATTRIBUTE, "no attribute \"slope\""},
        {"t=Neg(x,x)", KILN_ISSUE_ARITY, "takes 1"},
        {"zeros w int64[3]; t=Add(x,w)", KILN_ISSUE_DTYPE, "is int64, but \"x\" is float32"},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(faults) * KLN_ARRAY_LENGTH(conditions); i++) {
        const fault *each = &faults[i / KLN_ARRAY_LENGTH(conditions)];
        graph_maker m;
        begin(&m, conditions[i % KLN_ARRAY_LENGTH(conditions)], each->model);
        expect_error(&m, each->kind, each->words);
    }
}

/* y = Add(x, w) where `inner` holds, within a branch that is taken where `outer` holds. */
static void nested(graph_maker *m, const char *outer, const char *inner)
{
    char then[256];
    (void)snprintf(then, sizeof then,
                   "t=If(%s) else_branch={inner_e=Neg(x); out inner_e} "
                   "then_branch={zeros w float32[4]; inner_t=Add(x,w); out inner_t}",
                   inner);
    maker_model(m, 17,
                "in x float32[2,3]; in which bool[]; zeros no bool[]; yes=Not(no); "
                "used=Or(no,yes); out used; used_too=Not(which); out used_too");
    branch(m, outer, then);
}

TEST(a_branch_is_as_certain_as_its_outer_one)
{
    static const struct {
        const char *outer, *inner;
        kiln_severity severity;
        const char *words;
    } cases[] = {{"yes", "yes", ERROR, "must be the same: 3 and 4"},
                 {"which", "yes", WARNING, "must be the same: 3 and 4"},
                 {"yes", "which", WARNING, "must be the same: 3 and 4"},
                 {"no", "yes", ERROR, NULL},
                 {"which", "no", ERROR, NULL}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        graph_maker m;
        nested(&m, cases[i].outer, cases[i].inner);
        expect(&m, NULL, cases[i].severity, KILN_ISSUE_SHAPE, cases[i].words);
    }
}

/* What the branch taken gives goes on; after it, faults are the main graph's again. */
TEST(the_branch_taken_gives_the_output)
{
    graph_maker m;
    begin(&m, "no", "s=Shape(x); r=ConstantOfShape(s); t=Unsqueeze(r,s)");
    maker_text(&m, "zeros w float32[4]; z=Add(y,w); out z float32");
    expect_error(&m, KILN_ISSUE_SHAPE, "node \"z\" (Add): dimensions that");
}

/* --- profiles --- */

/* The branch with a Reshape to [-1,4,8] is taken where x has a last dimension of this length, or
 * where the caller wants it. */
TEST(profiles_decide_conditions)
{
    static const struct {
        const char *given, *condition;
        kiln_severity severity;
        const char *words;
    } cases[] = {
        {"length=8; last=2; shape=Shape(x); n=Gather(shape,last); is_length=Equal(n,length)",
         "is_length", ERROR, NULL},
        {"length=9; last=2; shape=Shape(x); n=Gather(shape,last); is_length=Equal(n,length)",
         "is_length", ERROR, "with all inputs at max, node \"t\" (Reshape)"},
        {"in which bool[]", "which", WARNING,
         "with all inputs at max, a branch fails if it is taken: node \"t\" (Reshape)"},
    };
    const kiln_shape small = KILN_SHAPE(1, 4, 8);
    const kln_profile_range ranges[] = {{"x", small, small, KILN_SHAPE(1, 4, 9)}};
    const kln_validate_options options = {.ranges = ranges, .range_count = 1};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        graph_maker m;
        maker_model(&m, 17, "in x float32[batch,4,n]; to={-1,4,8}");
        maker_text(&m, cases[i].given);
        branch(&m, cases[i].condition, "t=Reshape(x,to)");
        expect(&m, &options, cases[i].severity, KILN_ISSUE_PROFILE, cases[i].words);
    }
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

TEST(a_loop_without_a_turn_does_not_run)
{
    static const struct {
        const char *turns, *condition, *words; /* begun always where it has no condition */
    } cases[] = {{"2", "", "must be the same: 3 and 4"},
                 {"0", "", NULL},
                 {"2", "no", NULL},
                 {"2", "which", "must be the same: 3 and 4"}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        const bool always = cases[i].condition[0] == '\0';
        char text[512];
        graph_maker m;
        (void)snprintf(text, sizeof text,
                       "in x float32[2,3]; %s; turns=%s; y=Loop(turns,%s,x) body={in turn int64[]; "
                       "in before bool[]; in now float32; zeros w float32[4]; "
                       "after=Identity(before); sum=Add(x,w); out after bool[]; out sum float32}; "
                       "out y float32%s",
                       made_by(always ? "which" : cases[i].condition), cases[i].turns,
                       cases[i].condition, always ? "; used=Not(which); out used bool" : "");
        maker_model(&m, 17, text);
        expect(&m, NULL, ERROR, KILN_ISSUE_SHAPE, cases[i].words);
    }
}

/* --- a build --- */

TEST(such_a_network_is_built)
{
    owned_maker m;
    begin(&m, "no", BAD_ADD);
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
    owned_maker m;
    begin(&m, "which", BAD_ADD);
    assert_ok(m.status);
    kiln_span model = maker_span(m.model);
    maker_end(&m);
    kiln_test_each_allocation(check_once, &model);
}
