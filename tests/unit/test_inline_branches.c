/* SPDX-License-Identifier: Apache-2.0 */
/* An If that becomes the nodes of one branch: which does, and that the results stay. */
#include "context_test.h"
#include "graph/kln_graph.h"
#include "graph_maker.h"

#define BOXES 3
#define TEXT ((size_t)1024)

/* Boxes that overlap are suppressed, as torchvision exports it: `keep` of boxes `x` by scores `s`.
 */
#define SUPPRESS(keep)                                                                  \
    "most=ReduceMax(x) keepdims=0; far=Mul(most,zero); a=Add(x,far); at={0}; one={1}; " \
    "b=Unsqueeze(a,at); r=Unsqueeze(s,at); p=Unsqueeze(r,at); all=9; least={0.5}; "     \
    "q=NonMaxSuppression(b,p,all,least); two={2}; g=Gather(q,two) axis=1; " keep        \
    "=Squeeze(g,one); out " keep " int64"
#define NONE "{zeros none int64[0]; out none int64}"
#define COUNTED "n=Shape(x); product=ReduceProd(n) keepdims=0; null=0; "
#define ZERO "const zero float32[]={0}; "
#define READ "; y=Gather(x,k)"

static const struct {
    const char *name, *nodes;
    size_t inlined;
    const char *graph; /* operators then, or NULL */
} cases[] = {
    {"guarded",
     ZERO COUNTED "e=Equal(product,null); c=Cast(e) to=9; k=If(c) then_branch=" NONE
                  " else_branch={" SUPPRESS("keep") "}" READ,
     1,
     "Shape ReduceProd Equal Cast ReduceMax Mul Add Unsqueeze Unsqueeze Unsqueeze "
     "NonMaxSuppression Gather Squeeze Gather"},
    {"guarded by size",
     ZERO "n=Size(x); null=0; c=Equal(null,n); k=If(c) then_branch=" NONE
          " else_branch={" SUPPRESS("keep") "}" READ,
     1, NULL},
    {"guarded by what is more",
     ZERO "n=Size(x); null=0; c=Greater(n,null); k=If(c) else_branch=" NONE
          " then_branch={" SUPPRESS("keep") "}" READ,
     1, NULL},
    {"guarded by not",
     ZERO "n=Size(x); null=0; e=Equal(n,null); c=Not(e); k=If(c) else_branch=" NONE
          " then_branch={" SUPPRESS("keep") "}" READ,
     1, NULL},
    /* Both have a tensor `keep`, and one is the name of an output. */
    {"guarded twice",
     ZERO COUNTED "c=Equal(product,null); k=If(c) then_branch=" NONE " else_branch={" SUPPRESS(
         "keep") "}; h=If(c) then_branch=" NONE
                 " else_branch={" SUPPRESS("keep") "}; z=Gather(x,h); w=Gather(x,k); y=Add(z,w)",
     2, NULL},
    {"known",
     "f={1,2,3}; n=Size(f); null=0; c=Equal(n,null); y=If(c) "
     "then_branch={t=Neg(x); out t float32} else_branch={e=Abs(x); out e float32}",
     1, "Size Equal Abs"},
    {"known inside of known",
     "f={1,2,3}; n=Size(f); null=0; c=Equal(n,null); d=Not(c); y=If(d) "
     "then_branch={u=If(c) then_branch={t=Neg(x); out t float32} "
     "else_branch={e=Exp(x); v=Abs(e); out v float32}; out u float32} "
     "else_branch={i=Neg(x); out i float32}",
     2, "Size Equal Not Exp Abs"},
    /* The branch gives what is there already, twice. */
    {"known and passed on",
     "const c bool[]={1}; v=Abs(x); y,w=If(c) then_branch={out v float32; out v float32} "
     "else_branch={a=Neg(x); b=Neg(x); out a float32; out b float32}",
     1, "Abs Identity Identity"},
    {"weights of a branch",
     "const c bool[]={1}; y=If(c) then_branch={one={1.5}; t=Add(x,one); out t float32} "
     "else_branch={one={2.5}; e=Add(x,one); out e float32}",
     1, "Add"},
    {"not known",
     "m=ReduceMax(x) keepdims=0; const zero float32[]={0}; c=Greater(m,zero); y=If(c) "
     "then_branch={t=Neg(x); out t float32} else_branch={e=Abs(x); out e float32}",
     0, NULL},
    /* It asks about something else than the branch reads. */
    {"guarded by others",
     ZERO "v=NonZero(s); n=Size(v); null=0; c=Equal(n,null); k=If(c) then_branch=" NONE
          " else_branch={" SUPPRESS("keep") "}" READ,
     0, NULL},
    /* What the guard gives has elements, or the other branch has of nothing. */
    {"guarded with a default",
     ZERO COUNTED "c=Equal(product,null); k=If(c) then_branch={zeros none int64[1]; out none "
                  "int64} else_branch={" SUPPRESS("keep") "}; g=Size(k); y=Add(s,zero)",
     0, NULL},
    {"guarded, with elements of nothing",
     COUNTED "c=Equal(product,null); k=If(c) then_branch=" NONE
             " else_branch={l=Shape(x); out l int64}; g=Size(k); y=Neg(x)",
     0, NULL},
    /* Of no elements it would be wrong to look at the first. */
    {"guarded for a reason",
     COUNTED
     "c=Equal(product,null); k=If(c) then_branch={zeros none float32[0,4]; out none float32}"
     " else_branch={first=0; l=Gather(x,first); t=Add(x,l); out t float32}; y=Neg(k)",
     0, NULL},
};

static void make(graph_maker *m, size_t index)
{
    maker_model(m, 13, "in x float32[n,4]; in s float32[n]");
    maker_text(m, cases[index].nodes);
    maker_output(m, "y", 1, NULL);
    assert_ok(m->status);
}

/* The results of 0 to BOXES boxes, one behind the other; how many numbers. */
static size_t run(const kln_onnx_model *model, double results[TEXT])
{
    static float boxes[BOXES][4] = {{0, 0, 2, 2}, {0, 0, 2, 1.9F}, {5, 5, 7, 8}};
    static float scores[BOXES] = {0.5F, 0.7F, 0.2F};
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
    owned_engine engine = built_bytes(maker_span(model), &options);
    owned_context context = context_on(engine);
    size_t count = 0;
    for (int64_t n = 0; n <= BOXES; n++) {
        int64_t elements = 0;
        bind_tensor(context, "x",
                    KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(n, 4), boxes,
                                     (size_t)n * sizeof boxes[0]));
        bind_tensor(context, "s", floats(scores, n));
        assert_ok(kiln_context_run(context));
        const kiln_tensor y = tensor_in(context, "y");
        assert_ok(kiln_shape_elements(&y.desc.shape, &elements));
        assert_true(count + 1 + (size_t)elements <= TEXT);
        results[count++] = (double)elements;
        assert_ok(kiln_tensor_read(&y, 0, (size_t)elements, results + count));
        count += (size_t)elements;
    }
    return count;
}

TEST_EACH(results_stay, i, KLN_ARRAY_LENGTH(cases))
{
    owned_maker m;
    char text[TEXT];
    double before[TEXT];
    double after[TEXT];
    size_t inlined = 9;
    make(&m, i);
    const size_t count = run(m.model, before);
    assert_true(kln_graph_has(&m.model->graph, "If"));
    assert_ok(kln_inline_branches(m.model, &inlined));
    if (inlined != cases[i].inlined) {
        fail_msg("%s: %zu instead of %zu", cases[i].name, inlined, cases[i].inlined);
    }
    assert_true(kln_graph_has(&m.model->graph, "If") == (inlined == 0));
    assert_int_equal(run(m.model, after), count);
    assert_memory_equal(before, after, count * sizeof *before);
    if (cases[i].graph != NULL) {
        operators_of(&m.model->graph, text);
        assert_string_equal(text, cases[i].graph);
    }
}

static kiln_status inline_each(void *user)
{
    owned_maker m;
    size_t inlined = 0;
    maker_model(&m, 13, "in x float32[n,4]; in s float32[n]");
    maker_text(&m, cases[*(const size_t *)user].nodes);
    maker_output(&m, "y", 1, NULL);
    TRY(m.status);
    const kln_onnx_node *nodes = m.model->graph.nodes;
    const kiln_status status = kln_inline_branches(m.model, &inlined);
    assert_true((m.model->graph.nodes == nodes) == (inlined == 0));
    assert_true(status == KILN_OK || inlined == 0);
    return status;
}

TEST_EACH(every_allocation_may_fail, i, KLN_ARRAY_LENGTH(cases))
{
    kiln_test_each_allocation(inline_each, &i);
}
