/* SPDX-License-Identifier: Apache-2.0 */
/* What the reference executor refuses. */
#include "reference_test.h"

/* A loop that would go on for ever ends where its context says. */
TEST(test_work_has_an_end)
{
    const kiln_model model = {.bytes = looped()};
    void *engine = NULL;
    void *context = NULL;
    float x[2] = {1.0F, 2.0F};
    int64_t times = INT64_C(1) << 40;
    const kiln_tensor values = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(2), x, sizeof x);
    const kiln_tensor count = KILN_HOST_TENSOR(KILN_DTYPE_INT64, KILN_SHAPE_SCALAR, &times, 8);
    assert_ok(kln_backend_reference.engine.build(&model, NULL, NULL, &engine));
    assert_ok(kln_backend_reference.context.create(engine, NULL, &context));
    assert_ok(kln_backend_reference.context.bind(context, 0, &values));
    assert_ok(kln_backend_reference.context.bind(context, 1, &count));
    ((ref_context *)context)->work_limit = 1e5;
    assert_fails(KILN_ERROR_LIMIT, kln_backend_reference.context.run(context),
                 "more than the 100000 steps it may take");
    times = 3;
    assert_ok(kln_backend_reference.context.run(context));
    kln_backend_reference.context.destroy(context);
    kln_backend_reference.engine.destroy(engine);
}

static void refuse(graph_maker *m, kiln_status status, const char *words)
{
    kiln_engine *engine = NULL;
    assert_status(status, build(bytes_of(m), &engine));
    assert_null(engine);
    assert_message(words);
}

TEST(test_unsupported_operators_are_listed)
{
    graph_maker m;
    maker_model(&m, 21,
                "in x float32[n]; a=Frobnicate(x); b=Bernoulli(a); y=Frobnicate(b); "
                "out y float32[n]");
    refuse(&m, KILN_ERROR_UNSUPPORTED,
           "lacks 2 operators of this network: Frobnicate of ai.onnx (node \"a\"), Bernoulli");
    maker_model(&m, 99, "in x float32[n]; y=Abs(x); out y float32[n]");
    refuse(&m, KILN_ERROR_UNSUPPORTED, "operator set 99");
}

/* A kernel would read a list that is not there. */
TEST(test_attributes_of_another_type)
{
    static const struct {
        const char *text, *words;
    } wrong[] = {
        {"y=Elu(x) alpha=1",
         "node \"y\" (Elu): attribute \"alpha\" is an integer, but must be a float"},
        {"y=Transpose(x) perm='a'", "\"perm\" is a string, but must be a list of integers"},
    };
    graph_maker m;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(wrong); i++) {
        maker_model(&m, 21, "in x float32[n]");
        maker_text(&m, wrong[i].text);
        maker_output(&m, "y", FLOAT, "n");
        refuse(&m, KILN_ERROR_INVALID_NETWORK, wrong[i].words);
    }
    maker_model(&m, 21,
                "in x float32[1,1,1]; in w float32[1,4,1]; in r float32[1,4,1]; y=LSTM(x,w,r)");
    maker_attribute_ints(&m, "activations", 3, (int64_t[]){1, 2, 3});
    maker_output(&m, "y", FLOAT, "k");
    refuse(&m, KILN_ERROR_INVALID_NETWORK,
           "\"activations\" is a list of integers, but must be a list of strings");
}

TEST(test_graphs_that_do_not_hold_together)
{
    graph_maker m;
    maker_model(&m, 21, "in x float32[n]; y=Add(x,late); late=Abs(x); out y float32[n]");
    refuse(&m, KILN_ERROR_INVALID_NETWORK, "reads \"late\"");
    maker_model(&m, 21, "in x float32[n]; y=Abs(x); y=Neg(x); out y float32[n]");
    refuse(&m, KILN_ERROR_INVALID_NETWORK, "\"y\" is defined twice");
    maker_model(&m, 21, "in x float32[n]; out nowhere float32[n]");
    refuse(&m, KILN_ERROR_INVALID_NETWORK, "\"nowhere\"");
}

TEST(test_runs_that_fail_name_the_node)
{
    graph_maker m;
    maker_model(&m, 21, "in a float32[n]; in b float32[k]; sum=Add(a,b); out sum float32[m]");
    owned_context context = context_of(bytes_of(&m));
    float values[6] = {0};
    bind_floats(context, "a", 3, values);
    bind_floats(context, "b", 2, values);
    assert_fails(KILN_ERROR_SHAPE, kiln_context_run(context),
                 "\"sum\" (Add of float32 3, float32 2): dimensions 3 and 2 cannot be");
    bind_floats(context, "b", 3, values);
    assert_ok(kiln_context_run(context));
}

/* y = OP(x), run with x = 1 to 6: the sentence must have `words`. */
static void refuse_run(graph_maker *m, kiln_status status, const char *words)
{
    float x[6] = {1.0F, 2.0F, 3.0F, 4.0F, 5.0F, 6.0F};
    owned_context context = context_of(bytes_of(m));
    bind_floats(context, "x", 6, x);
    assert_fails(status, kiln_context_run(context), words);
}

static void begin_ngrams(graph_maker *m, int64_t longest, size_t columns, int64_t second)
{
    maker_model(m, 21, "in x float32[n]; whole=Cast(x)");
    maker_attribute_int(m, "to", INT64);
    maker_text(m, "y=TfIdfVectorizer(whole) mode='TFIDF' min_gram_length=1");
    maker_attribute_int(m, "max_gram_length", longest);
    maker_attribute_int(m, "max_skip_count", 1);
    maker_attribute_ints(m, "ngram_counts", 2, (int64_t[]){0, second});
    maker_attribute_ints(m, "pool_int64s", 5, (int64_t[]){6, 2, 3, 4, 6});
    maker_attribute_ints(m, "ngram_indexes", columns, (int64_t[]){1, 0, 2});
    maker_output(m, "y", FLOAT, "k");
}

TEST(test_ngrams)
{
    graph_maker m;
    float x[6] = {2.0F, 3.0F, 2.0F, 4.0F, 3.0F, 6.0F};
    begin_ngrams(&m, 2, 3, 1);
    owned_context context = context_of(bytes_of(&m));
    bind_floats(context, "x", 6, x);
    assert_ok(kiln_context_run(context));
    /* 2,3 side by side and with one between; 6; 4,6 with one between. */
    expect_floats(context, "y", 3, (float[]){2.0F, 1.0F, 1.0F});
    begin_ngrams(&m, 2, 3, 2);
    refuse_run(&m, KILN_ERROR_INVALID_NETWORK, "ngram_counts does not divide it");
    begin_ngrams(&m, 3, 3, 1);
    refuse_run(&m, KILN_ERROR_INVALID_NETWORK, "the lengths are outside it");
    begin_ngrams(&m, 2, 2, 1);
    refuse_run(&m, KILN_ERROR_INVALID_NETWORK, "not one entry for each n-gram");
}

TEST(test_deform_conv_refuses)
{
    graph_maker m;
    maker_model(&m, 21,
                "in x float32[n]; zeros w float32[1,1,1,1]; zeros offset float32[1,2,2,2]; "
                "shape={1,1,2,3}; image=Reshape(x,shape); y=DeformConv(image,w,offset); "
                "out y float32[?,?,?,?]");
    refuse_run(&m, KILN_ERROR_SHAPE, "do not fit an input of 1 channel and an output of 2 x 3");
    maker_model(&m, 21,
                "in x float32[n]; zeros w float32[1,1,1,1]; y=DeformConv(x,w,w); "
                "out y float32[?,?,?,?]");
    refuse_run(&m, KILN_ERROR_UNSUPPORTED, "the input has 1 dimension, the weights 4");
}

/* `b` = OP(...) of what has no elements, or several: a Loop would have no end, and others would
 * take what their default is, or the first. */
TEST(test_one_number_is_one)
{
    static const char *const texts[] = {
        "y=Loop(k,,x) body={in i int64[]; in go bool[]; in a float32[?,?,?]; go_on=Identity(go); "
        "b=Neg(a); out go_on bool[]; out b float32[?,?,?]}",
        "y=Loop(,yes,x) body={in i int64[]; in go bool[]; in a float32[?,?,?]; go_on=Identity(go); "
        "b=Neg(a); out go_on bool[]; out b float32[?,?,?]}",
        "y=If(yes) then_branch={t=Neg(x); out t float32[?,?,?]} "
        "else_branch={e=Abs(x); out e float32[?,?,?]}",
        "y=Clip(x,f)",
        "y=Clip(x,,f)",
        "pads={0,0,0,0,0,1}; y=Pad(x,pads,f)",
        "y=Trilu(x,k)",
        "y,at=TopK(x,k) axis=1",
        "y=CumSum(x,k)",
        "y=Range(two,k,two)",
        "y=Dropout(x,f)",
        "y=Dropout(x,,yes)",
        "y=DFT(x,k)",
        "y=DFT(x,,k)",
        "y=STFT(x,k,,two)",
        "y=STFT(x,two,,k)",
        "y=HannWindow(k)",
        "y=MelWeightMatrix(two,two,two,f,f)",
        "y=OneHot(x,k,x)",
        "s=SequenceConstruct(x,x); y=SequenceAt(s,k)",
        "s=SequenceConstruct(x,x); t=SequenceErase(s,k); y=SequenceLength(t)",
        "s=SequenceConstruct(x,x); t=SequenceInsert(s,x,k); y=SequenceLength(t)",
        "zeros a float32[1,2,4]; zeros c float32[1,1,2]; y=NonMaxSuppression(a,c,k)",
        "zeros a float32[1,2,4]; zeros c float32[1,1,2]; y=NonMaxSuppression(a,c,,f)",
        "zeros a int8[1,1,4]; zeros c int8[1,1,2]; z=Cast(k) to=3; y=ConvInteger(a,c,z)",
    };
    float x[4] = {1.0F, 2.0F, 3.0F, 4.0F};
    int64_t numbers[2] = {1, 1};
    for (size_t i = 0; i < 2 * KLN_ARRAY_LENGTH(texts); i++) {
        const int64_t count = i % 2 == 0 ? 0 : 2;
        print_message("%s, %lld\n", texts[i / 2], (long long)count);
        owned_context context =
            context_of(made_model(20,
                                  "in x float32[1,4,1]; in k int64[m]; yes=Cast(k) to=9; "
                                  "f=Cast(k) to=1; two=2; %s; out y",
                                  texts[i / 2]));
        bind_tensor(context, "x",
                    KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1, 4, 1), x, sizeof x));
        bind_tensor(context, "k",
                    KILN_HOST_TENSOR(KILN_DTYPE_INT64, KILN_SHAPE(count), numbers,
                                     (size_t)count * sizeof *numbers));
        assert_fails(
            KILN_ERROR_SHAPE, kiln_context_run(context),
            count == 0 ? "has 0 elements; one is needed" : "has 2 elements; one is needed");
    }
}

/* An input that may be left out, and is there as texts: they would be read as zeros. */
TEST(test_texts_are_no_numbers)
{
    static const char *const texts[] = {
        "zeros w float32[1,4,1]; y=Conv(x,w,s)",
        "a=Flatten(x); zeros b float32[4,1]; y=Gemm(a,b,s)",
        "y=ms.MultiHeadAttention(x,x,x,,s) num_heads=1",
        "y=ms.GroupQueryAttention(x,x,x,,,s,two) num_heads=1 kv_num_heads=1",
        "i=Cast(two) to=6; y=ms.GroupQueryAttention(x,x,x,,,i,i,,,s) num_heads=1 kv_num_heads=1",
        "i=Cast(two) to=6; y=ms.GroupQueryAttention(x,x,x,,,i,i,,,,s) num_heads=1 kv_num_heads=1",
        "y=ms.RotaryEmbedding(x,s,x,x)",
        "y=ms.RotaryEmbedding(x,two,s,x)",
        "q=Cast(x) to=2; one=Cast(two) to=1; y=ms.QAttention(q,q,x,one,x,s) num_heads=1",
        "y=SimplifiedLayerNormalization(x,s)",
        "q=Cast(x) to=2; one=Cast(two) to=1; y=ms.QLinearSigmoid(q,one,s,one)",
        "zeros w float32[1,4,1]; zeros r float32[1,4,1]; y=LSTM(x,w,r,s) hidden_size=1",
    };
    float x[4] = {1.0F, 2.0F, 3.0F, 4.0F};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(texts); i++) {
        print_message("%s\n", texts[i]);
        owned_context context = context_of(
            made_model(20, "in x float32[1,4,1]; s=Cast(x) to=8; two=2; %s; out y", texts[i]));
        bind_tensor(context, "x",
                    KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1, 4, 1), x, sizeof x));
        assert_fails(KILN_ERROR_UNSUPPORTED, kiln_context_run(context), "on string is not defined");
    }
}
