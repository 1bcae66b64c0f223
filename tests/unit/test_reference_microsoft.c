/* SPDX-License-Identifier: Apache-2.0 */
/* ONNX Runtime's own operators on the reference executor, by their schemas: small cases whose
 * numbers a double holds. */
#include "reference_test.h"

/* Scales and zero points that the texts name. */
#define GIVEN                                                                                  \
    "const quarter float32[]={0.25}; const half float32[]={0.5}; const one float32[]={1}; "    \
    "const two float32[]={2}; const least float32[]={0.00390625}; const u0 uint8[]={0}; "      \
    "const u1 uint8[]={1}; const u2 uint8[]={2}; const u3 uint8[]={3}; const u5 uint8[]={5}; " \
    "const i0 int8[]={0}; const i1 int8[]={1}; "

typedef struct definition {
    const char *text; /* what makes y of constants */
    int64_t count;
    float y[6];
} definition;

static void expect_each(const definition *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        print_message("%s\n", cases[i].text);
        owned_context context = context_of(made_model(
            21,
            GIVEN
            "%s; line={-1}; flat=Reshape(y,line); found=Cast(flat) to=1; out found float32[n]",
            cases[i].text));
        assert_ok(kiln_context_run(context));
        expect_floats(context, "found", cases[i].count, cases[i].y);
    }
}

/* Reals by scale and zero point, their result rounded once, half to even, and held by the ends. */
TEST(quantized_elements)
{
    static const definition cases[] = {
        {"const a uint8[4]={10,3,200,255}; const b uint8[4]={6,3,100,255}; "
         "y=ms.QLinearAdd(a,half,u2,b,quarter,u2,half,u1)",
         4,
         {11, 3, 248, 255}},
        {"const a uint8[2]={6,3}; const b uint8[2]={6,4}; "
         "y=ms.QLinearMul(a,half,u2,b,quarter,u2,half,u1)",
         2,
         {5, 1}},
        {"const x int8[3]={-4,4,127}; "
         "y=ms.QLinearLeakyRelu(x,half,i0,quarter,i1) alpha=0.5",
         3,
         {-3, 9, 127}},
        {"const x uint8[2]={5,255}; y=ms.QLinearSigmoid(x,one,u5,least,u0)", 2, {128, 255}},
        {"const a uint8[1]={4}; const b uint8[1]={10}; "
         "y=ms.QLinearConcat(one,u3,a,half,u0,b,two,u5) axis=0",
         2,
         {5, 13}},
        {"const c bool[2]={1,0}; const a uint8[2]={4,4}; const b uint8[2]={10,10}; "
         "y=ms.QLinearWhere(c,a,half,u0,b,two,u5,one,u3)",
         2,
         {5, 13}},
        {"const x float32[2]={-1,0.3}; y=ms.QuantizeLinear(x,quarter,u5)", 2, {1, 6}},
        {"const x uint8[2]={1,6}; y=ms.DequantizeLinear(x,quarter,u5)", 2, {-1, 0.25F}},
    };
    expect_each(cases, KLN_ARRAY_LENGTH(cases));
}

TEST(quantized_averages)
{
    static const definition cases[] = {
        {"const x uint8[1,1,2,2]={1,2,3,6}; "
         "y=ms.QLinearAveragePool(x,half,u0,quarter,u1) kernel_shape=[2,2]",
         1,
         {7}},
        {"const x uint8[1,2,2,1]={1,2,3,6}; "
         "y=ms.QLinearAveragePool(x,half,u0,quarter,u1) kernel_shape=[2,2] channels_last=1",
         1,
         {7}},
        {"const x uint8[1,1,2,2]={1,2,3,6}; "
         "y=ms.QLinearGlobalAveragePool(x,half,u0,quarter,u1)",
         1,
         {7}},
        {"const x uint8[2,2]={1,3,2,6}; "
         "y=ms.QLinearReduceMean(x,half,u0,quarter,u1) axes=[1] keepdims=0",
         2,
         {5, 9}},
        {"const x uint8[1,4]={7,7,7,7}; "
         "y=ms.QLinearSoftmax(x,half,u0,least,u0) axis=-1 opset=13",
         4,
         {64, 64, 64, 64}},
    };
    expect_each(cases, KLN_ARRAY_LENGTH(cases));
}

TEST(products_of_bytes)
{
#define FACTORS "const a uint8[1,2]={3,5}; const b int8[2,1]={2,-3}; " /* 2 * 2 - 4 * 3 */
    static const definition cases[] = {
        {FACTORS "const c int32[1]={4}; y=ms.QGemm(a,half,u1,b,quarter,i0,c)", 1, {-0.5F}},
        {FACTORS "const c int32[1]={4}; y=ms.QGemm(a,half,u1,b,quarter,i0,c,quarter,u5)", 1, {3}},
        {FACTORS "const c float32[1]={0.5}; "
                 "y=ms.MatMulIntegerToFloat(a,b,half,quarter,u1,i0,c)",
         1,
         {-0.5F}},
        {"const a float32[1,2]={0,255}; const b uint8[2,1]={1,2}; const c float32[1]={1}; "
         "y=ms.DynamicQuantizeMatMul(a,b,half,u0,c)",
         1,
         {256}},
        /* Nibbles 9 and 10, less 8 or 1. */
        {"const a float32[1,16]={1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}; "
         "const b uint8[1,1,8]={169,169,169,169,169,169,169,169}; const s float32[1]={0.5}; "
         "y=ms.MatMulNBits(a,b,s) K=16 N=1 bits=4 block_size=16",
         1,
         {12}},
        {"const a float32[1,16]={1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}; "
         "const b uint8[1,1,8]={169,169,169,169,169,169,169,169}; const s float32[1]={0.5}; "
         "const z uint8[1]={1}; y=ms.MatMulNBits(a,b,s,z) K=16 N=1 bits=4 block_size=16",
         1,
         {68}},
        /* Bits of 0, 1, 2 and 3, less 2. */
        {"const a float32[1,16]={1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}; "
         "const b uint8[1,1,4]={228,228,228,228}; const s float32[1]={0.5}; "
         "y=ms.MatMulNBits(a,b,s) K=16 N=1 bits=2 block_size=16",
         1,
         {-4}},
    };
    expect_each(cases, KLN_ARRAY_LENGTH(cases));
}

/* Weights and states of 0: only the cell's bias is left, whose tanh is 1. */
TEST(a_recurrence_of_bytes)
{
    static const definition cases[] = {
        {"const x float32[1,1,1]={1}; const w uint8[1,1,4]={5,5,5,5}; "
         "const b float32[1,8]={0,0,0,100,0,0,0,0}; const s float32[1]={0.5}; "
         "const z uint8[1]={5}; y=ms.DynamicQuantizeLSTM(x,w,w,b,,,,,s,z,s,z) hidden_size=1",
         1,
         {0.23105858F}},
    };
    expect_each(cases, KLN_ARRAY_LENGTH(cases));
}

TEST(what_stands_for_several)
{
    static const definition cases[] = {
        {"const x float32[3]={0,1,-100}; y=ms.Gelu(x)", 3, {0, 0.84134475F, 0}},
        {"const x float32[1,1]={0.5}; const b float32[1]={0.5}; y=ms.BiasGelu(x,b)",
         1,
         {0.84134475F}},
        {"const x float32[1,1]={0.5}; const b float32[1]={0.5}; y=ms.FastGelu(x,b)",
         1,
         {0.84119199F}},
        {"const x float32[1]={1}; y=ms.QuickGelu(x) alpha=1.0", 1, {0.73105858F}},
        {"const x float32[1,1,2]={1,2}; const w float32[1,1,1]={-2}; const b float32[1]={1}; "
         "const z float32[1,1,2]={0,5}; y=ms.FusedConv(x,w,b,z) activation='Relu'",
         2,
         {0, 2}},
        {"const a float32[1,2]={1,2}; const b float32[2,1]={3,-4}; const c float32[1]={1}; "
         "y=ms.FusedGemm(a,b,c) alpha=0.5 activation='LeakyRelu' activation_alpha=0.5",
         1,
         {-0.75F}},
        {"const a float32[1,2]={1,2}; const b float32[1,2]={3,-4}; "
         "y=ms.FusedMatMul(a,b) alpha=0.5 transB=1",
         1,
         {-2.5F}},
        {"const a float32[1,2,2]={1,2,3,4}; const b float32[2,2,1]={1,1,1,1}; "
         "y=ms.FusedMatMul(a,b) transBatchA=1",
         2,
         {3, 7}},
        {"const a float32[2,1]={1,2}; const b float32[2,1]={3,4}; "
         "y=ms.TransposeMatMul(a,b) transA=1",
         1,
         {11}},
        {"const a float32[1,1,2]={1,3}; const b float32[1,1,2]={1,1}; const g float32[2]={2,2}; "
         "const h float32[2]={1,1}; y=ms.SkipLayerNormalization(a,b,g,h) epsilon=0.0",
         2,
         {-1, 3}},
        {"const a float32[1,1,2]={1,3}; const b float32[1,1,2]={1,1}; const g float32[2]={2,2}; "
         "const h float32[2]={1,2}; n,,,y=ms.SkipLayerNormalization(a,b,g,g,h) epsilon=0.0",
         2,
         {3, 6}},
        {"const a float32[1,1,2]={1,2}; const b float32[1,1,2]={2,2}; const g float32[2]={1,1}; "
         "y=ms.SkipSimplifiedLayerNormalization(a,b,g) epsilon=0.0",
         2,
         {0.84852814F, 1.13137085F}},
        {"const x float32[2]={3,4}; const g float32[2]={1,2}; "
         "y=SimplifiedLayerNormalization(x,g) epsilon=0.0",
         2,
         {0.84852814F, 2.26274170F}},
        {"const x float32[2]={3,4}; const g float32[2]={1,2}; "
         "n,y=SimplifiedLayerNormalization(x,g) epsilon=0.0",
         1,
         {0.28284271F}},
        {"const x float32[2]={1,2}; h=Cast(x) to=10; const g float32[2]={1,1}; "
         "y=SimplifiedLayerNormalization(h,g) epsilon=0.0",
         2,
         {0.63245553F, 1.26491106F}},
    };
    expect_each(cases, KLN_ARRAY_LENGTH(cases));
}

/* Queries and keys of 0 see all alike: what comes out is the mean of the values that are seen. */
TEST(attentions)
{
#define JOINED                                                                        \
    "const x float32[1,2,1]={0,1}; const w float32[1,3]={0,0,2}; const b float32[3]=" \
    "{0,0,1}; "
#define APART "const q float32[1,2,1]={0,0}; const v float32[1,2,1]={1,3}; "
    static const definition cases[] = {
        {JOINED "y=ms.Attention(x,w,b) num_heads=1", 2, {2, 2}},
        {JOINED "y=ms.Attention(x,w,b) num_heads=1 unidirectional=1", 2, {1, 2}},
        {JOINED "const m int32[1]={1}; y=ms.Attention(x,w,b,m) num_heads=1", 2, {1, 1}},
        {JOINED "const m int32[2]={2,1}; y=ms.Attention(x,w,b,m) num_heads=1", 2, {3, 3}},
        {JOINED "const m int32[1,2]={0,1}; y=ms.Attention(x,w,b,m) num_heads=1", 2, {3, 3}},
        {JOINED "const p float32[2,1,1,1,1]={0,5}; y=ms.Attention(x,w,b,,p) num_heads=1",
         2,
         {3, 3}},
        {JOINED "const p float32[2,1,1,1,1]={0,5}; n,y=ms.Attention(x,w,b,,p) num_heads=1",
         6,
         {0, 0, 0, 5, 1, 3}},
        {APART "y=ms.MultiHeadAttention(q,q,v) num_heads=1", 2, {2, 2}},
        {APART "const m int32[1,2]={1,0}; y=ms.MultiHeadAttention(q,q,v,,m) num_heads=1",
         2,
         {1, 1}},
        {APART "const a float32[1,1,2,2]={0,-200,-200,0}; "
               "y=ms.MultiHeadAttention(q,q,v,,,a) num_heads=1",
         2,
         {1, 3}},
        {APART "const b float32[3]={0,0,4}; const k float32[1,1,1,1]={0}; "
               "const p float32[1,1,1,1]={9}; "
               "y=ms.MultiHeadAttention(q,q,v,b,,,k,p) num_heads=1",
         2,
         {7, 7}},
        {APART "const k float32[1,1,2,1]={0,0}; const u float32[1,1,2,1]={2,8}; "
               "y=ms.MultiHeadAttention(q,k,u) num_heads=1",
         2,
         {5, 5}},
    };
    expect_each(cases, KLN_ARRAY_LENGTH(cases));
}

/* Bytes less their zero points by the scales, which are the columns of JOINED's product. */
TEST(attention_of_bytes)
{
#define BYTES                                                                     \
    "const x uint8[1,2,1]={2,4}; const w uint8[1,3]={5,5,9}; const b float32[3]=" \
    "{0,0,1}; "
    static const definition cases[] = {
        {BYTES "y=ms.QAttention(x,w,b,half,half,,u2,u5) num_heads=1", 2, {2, 2}},
        {BYTES "y=ms.QAttention(x,w,b,half,half,,u2,u5) num_heads=1 unidirectional=1", 2, {1, 2}},
        {BYTES "const m int32[1]={1}; y=ms.QAttention(x,w,b,half,half,m,u2,u5) num_heads=1",
         2,
         {1, 1}},
        {BYTES "const p float32[2,1,1,1,1]={0,5}; "
               "n,y=ms.QAttention(x,w,b,half,half,,u2,u5,p) num_heads=1",
         6,
         {0, 0, 0, 5, 1, 3}},
    };
    expect_each(cases, KLN_ARRAY_LENGTH(cases));
}

/* Queries of 0 again; of a past there is room for more keys than it has. */
TEST(grouped_attention)
{
#define TOKENS                                                                                     \
    "const q float32[1,2,2]={0,0,0,0}; const v float32[1,2,1]={1,3}; const l int32[1]={1}; const " \
    "t int32[]={2}; "
#define NEXT_TOKEN                                                                             \
    "const q float32[1,1,1]={0}; const v float32[1,1,1]={4}; const l int32[1,1]={1}; const t " \
    "int32[1]={2}; const p float32[1,1,3,1]={2,9,9}; "
#define HEADS " num_heads=2 kv_num_heads=1"
#define HEAD " num_heads=1 kv_num_heads=1"
    static const definition cases[] = {
        {TOKENS "y=ms.GroupQueryAttention(q,v,v,,,l,t)" HEADS, 4, {1, 1, 2, 2}},
        {TOKENS "y=ms.GroupQueryAttention(q,v,v,,,l,t) causal=0" HEADS, 4, {2, 2, 2, 2}},
        {TOKENS "y=ms.GroupQueryAttention(q,v,v,,,l,t) local_window_size=1" HEADS, 4, {1, 1, 3, 3}},
        {TOKENS "const s int32[1]={0}; y=ms.GroupQueryAttention(q,v,v,,,s,t)" HEADS,
         4,
         {1, 1, 1, 1}},
        {TOKENS "y=ms.GroupQueryAttention(q,v,v,,,l,t) smooth_softmax=1" HEADS,
         4,
         {0.5F, 0.5F, 4 / 3.0F, 4 / 3.0F}},
        {TOKENS "const s float32[2]={-200,0}; y=ms.GroupQueryAttention(q,v,v,,,l,t,,,,,s)" HEADS,
         4,
         {1, 0.5F, 2, 4 / 3.0F}},
        {TOKENS "const a float32[1,1,2,2]={0,0,-200,0}; "
                "y=ms.GroupQueryAttention(q,v,v,,,l,t,,,,a)" HEADS,
         4,
         {1, 1, 3, 3}},
        {"const q float32[1,2,3]={0,0,1,0,0,3}; const l int32[1]={1}; const t int32[]={2}; "
         "y=ms.GroupQueryAttention(q,,,,,l,t)" HEAD,
         2,
         {1, 2}},
        {NEXT_TOKEN "y=ms.GroupQueryAttention(q,v,v,p,p,l,t)" HEAD, 1, {3}},
        {NEXT_TOKEN "n,y=ms.GroupQueryAttention(q,v,v,p,p,l,t)" HEAD, 3, {2, 4, 0}},
        {NEXT_TOKEN "zeros e float32[1,0,1]; y=ms.GroupQueryAttention(q,e,e,p,p,l,t)" HEAD,
         1,
         {5.5F}},
        {"const q float32[1,1,2]={1,0}; const v float32[1,1,2]={1,2}; const l int32[1]={1}; const "
         "t "
         "int32[]={2}; const p float32[1,1,1,2]={0,0}; const c float32[2,1]={1,0}; const s "
         "float32[2,1]={0,1}; n,y=ms.GroupQueryAttention(q,v,v,p,p,l,t,c,s) do_rotary=1" HEAD,
         4,
         {0, 0, -2, 1}},
        {"const q float32[1,1,2]={1,0}; const v float32[1,1,2]={1,2}; const l int32[1]={1}; const "
         "t "
         "int32[]={2}; const p float32[1,1,1,2]={0,0}; const c float32[2,1]={1,0}; const s "
         "float32[2,1]={0,1}; const at int64[1,1]={0}; "
         "n,y=ms.GroupQueryAttention(q,v,v,p,p,l,t,c,s,at) do_rotary=1" HEAD,
         4,
         {0, 0, 1, 2}},
    };
    expect_each(cases, KLN_ARRAY_LENGTH(cases));
}

/* Quarters of a turn. */
TEST(rotation)
{
#define QUARTERS                                                                             \
    "const x float32[1,2,2]={1,2,3,4}; const c float32[3,1]={1,0,-1}; const s float32[3,1]=" \
    "{0,1,0}; "
    static const definition cases[] = {
        {QUARTERS "const p int64[1,2]={0,1}; y=ms.RotaryEmbedding(x,p,c,s)", 4, {1, 2, -4, 3}},
        {QUARTERS "const p int64[1]={1}; y=ms.RotaryEmbedding(x,p,c,s)", 4, {-2, 1, -3, -4}},
        {QUARTERS "const p int64[]={1}; y=ms.RotaryEmbedding(x,p,c,s) num_heads=1",
         4,
         {-2, 1, -3, -4}},
        {"const x float32[1,1,4]={1,2,3,4}; const c float32[1,2]={0,0}; const s "
         "float32[1,2]={1,1}; "
         "const p int64[1]={0}; y=ms.RotaryEmbedding(x,p,c,s) interleaved=1",
         4,
         {-2, 1, -4, 3}},
    };
    expect_each(cases, KLN_ARRAY_LENGTH(cases));
}

TEST(embeddings)
{
#define TABLES                                                                         \
    "const i int32[1,2]={1,0}; const t float32[2,2]={1,3,2,6}; const p float32[2,2]={" \
    "1,1,0,0}; const g float32[2]={1,1}; const h float32[2]={0,1}; "
    static const definition cases[] = {
        {TABLES "y=ms.EmbedLayerNormalization(i,,t,p,,g,h) epsilon=0.0", 4, {-1, 2, -1, 2}},
        {TABLES "n,c,y=ms.EmbedLayerNormalization(i,,t,p,,g,h) epsilon=0.0", 4, {3, 7, 1, 3}},
        {TABLES "n,c,y=ms.EmbedLayerNormalization(i,i,t,p,t,g,h) epsilon=0.0", 4, {5, 13, 2, 6}},
        {TABLES "n,c,y=ms.EmbedLayerNormalization(i,,t,p,,g,h,,i) epsilon=0.0", 4, {2, 6, 2, 4}},
        {TABLES "n,y=ms.EmbedLayerNormalization(i,,t,p,,g,h,i) epsilon=0.0", 1, {1}},
    };
    expect_each(cases, KLN_ARRAY_LENGTH(cases));
}

/* Zero points, scales and biases that inference cannot count. */
TEST(what_does_not_fit)
{
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"const a uint8[1,2]={3,5}; const b int8[2,2]={2,-3,1,1}; z=Cast(k) to=3; "
         "y=ms.MatMulIntegerToFloat(a,b,half,half,,z)",
         "has 3 elements; one is needed, or one for each of 2 columns"},
        {"const a uint8[1,2]={3,5}; const b uint8[2,2]={2,3,1,1}; f=Cast(k) to=1; "
         "y=QLinearMatMul(a,half,u0,b,f,u0,half,u0)",
         "has 3 elements; one is needed, or one for each of 2 columns"},
        {"const a uint8[1,2]={3,5}; const b int8[2,2]={2,-3,1,1}; f=Cast(k) to=1; "
         "y=ms.QGemm(a,f,u0,b,half,i0)",
         "input 1 has 3 elements; one is needed"},
        {"const x float32[2,1]={1,2}; f=Cast(k) to=1; y=ms.BiasGelu(x,f)",
         "input 1 has 3 elements, which do not fit the 2 it is added to"},
        {APART "m=Cast(k) to=6; y=ms.MultiHeadAttention(q,q,v,,m) num_heads=1",
         "a mask of 1 batch, 2 queries and 2 keys is needed"},
        {NEXT_TOKEN "i=Cast(v) to=7; y=ms.GroupQueryAttention(q,i,i,p,p,l,t)" HEAD,
         "input 1 needs the type of the queries"},
        {NEXT_TOKEN "h=Cast(p) to=11; y=ms.GroupQueryAttention(q,v,v,h,h,l,t)" HEAD,
         "input 3, of the past, needs the type of the queries"},
        {NEXT_TOKEN "f=Cast(k) to=1; y=ms.GroupQueryAttention(q,v,v,p,p,l,t,,,,,f)" HEAD,
         "3 numbers are given as sinks of 1 head"},
        {NEXT_TOKEN "i=Cast(k) to=6; y=ms.GroupQueryAttention(q,v,v,p,p,i,t)" HEAD,
         "3 lengths are given for 1 batch"},
        {"const x float32[1,1,2]={1,2}; f=Cast(k) to=1; const p int64[1]={0}; "
         "y=ms.RotaryEmbedding(x,p,f,f) num_heads=1",
         "a row for each position"},
        {APART "f=Cast(k) to=1; y=ms.MultiHeadAttention(q,q,v,f) num_heads=2",
         "2 heads cannot share 1 number equally"},
    };
    int64_t numbers[3] = {1, 1, 1};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        owned_context context =
            context_of(made_model(21, "in k int64[m]; " GIVEN "%s; out y", cases[i].text));
        bind_tensor(context, "k",
                    KILN_HOST_TENSOR(KILN_DTYPE_INT64, KILN_SHAPE(3), numbers, sizeof numbers));
        assert_fails(KILN_ERROR_SHAPE, kiln_context_run(context), cases[i].words);
    }
}
