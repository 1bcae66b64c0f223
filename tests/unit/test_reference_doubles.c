/* SPDX-License-Identifier: Apache-2.0 */
/* Operators of floats that are computed in forms of their own, to the bit: each gives what the same
 * operator gives of the same numbers as doubles, which is the definition, rounded once. */
#include "drawn_test.h"
#include "graph_maker.h"

#define INPUTS 4
#define MOST 32768

static const char *const names[INPUTS] = {"a", "b", "c", "d"};

typedef struct scene {
    int64_t opset;
    const char *constants;
    const char *node;         /* whose inputs are A, B, C and D */
    const char *dims[INPUTS]; /* of each: numbers, sizes, numbers of times a size */
    int rounds;
} scene;

static const scene scenes[] = {
    {20, "axis=1; ", "DFT(A,,axis)", {"r,n,1"}, 40},
    {20, "axis=1; ", "DFT(A,,axis) inverse=1", {"r,n,2"}, 40},
    {20, "axis=1; ", "DFT(A,,axis) onesided=1", {"r,n,1"}, 40},
    {20, "axis=0; ", "DFT(A,,axis) inverse=1 onesided=1", {"n,r,2"}, 40},
    {20, "axis=0; length=96; ", "DFT(A,length,axis)", {"n,r,2"}, 20},
    {20, "axis=1; length=2048; ", "DFT(A,length,axis)", {"1,N,1"}, 4},
    {20, "axis=1; length=331; ", "DFT(A,length,axis)", {"2,N,1"}, 4},
    {20, "axis=1; length=65537; ", "DFT(A,length,axis)", {"1,N,1"}, 1},
    {17, "step=7; frame=60; ", "STFT(A,step,B,frame)", {"2,N,1", "60"}, 20},
    {17, "step=30; frame=64; ", "STFT(A,step,,frame) onesided=0", {"1,N,2"}, 20},
    {23, "", "Attention(A,B,C)", {"2,4,q,s", "2,2,k,s", "2,2,k,w"}, 40},
    {23, "", "Attention(A,B,C) is_causal=1", {"1,2,q,s", "1,2,k,s", "1,2,k,s"}, 40},
    {23, "", "Attention(A,B,C,D)", {"2,2,q,s", "2,2,k,s", "2,2,k,w", "q,k"}, 40},
    {23, "", "Attention(A,B,C) q_num_heads=3 kv_num_heads=3", {"1,q,3s", "1,k,3s", "1,k,3s"}, 40},
    {22, "", "RNN(A,B,C) hidden_size=20", {"s,r,w", "1,20,w", "1,20,20"}, 20},
    {22, "", "GRU(A,B,C,D) hidden_size=20", {"s,r,w", "1,60,w", "1,60,20", "1,120"}, 20},
    {22, "", "LSTM(A,B,C,D) hidden_size=20", {"s,r,w", "1,80,w", "1,80,20", "1,160"}, 20},
};

/* The size that a letter stands for, drawn once a round. */
static int64_t size_of(char letter, int64_t sizes[128])
{
    static const struct {
        char letter;
        int64_t least, more;
    } ranges[] = {{'n', 1, 300}, {'N', 100, 200}, {'q', 1, 70}, {'k', 1, 90},
                  {'s', 1, 30},  {'w', 1, 30},    {'r', 1, 9}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(ranges) && sizes[(int)letter] == 0; i++) {
        if (ranges[i].letter == letter) {
            sizes[(int)letter] = ranges[i].least + draw(ranges[i].more);
        }
    }
    return sizes[(int)letter];
}

static kiln_shape shape_of(const char *dims, int64_t sizes[128])
{
    kiln_shape shape = {.rank = 0};
    for (const char *at = dims; *at != '\0'; at += *at == ',' ? 1 : 0) {
        char *end = NULL;
        const long long number = strtoll(at, &end, 10);
        const int64_t times = end == at ? 1 : number;
        const bool named = *end != ',' && *end != '\0';
        shape.dims[shape.rank++] = times * (named ? size_of(*end, sizes) : 1);
        at = end + (named ? 1 : 0);
    }
    return shape;
}

/* The node's text with its output and with inputs by the names that begin with `prefix`. */
static void name_node(char *text, size_t size, const char *output, const char *node,
                      const char *prefix)
{
    size_t used = (size_t)snprintf(text, size, "%s=", output);
    const char *open = strchr(node, '(');
    for (const char *at = node; *at != '\0' && used + 4 < size; at++) {
        const bool input = at > open && *at >= 'A' && *at <= 'D' && (at[1] == ',' || at[1] == ')');
        used += (size_t)snprintf(text + used, size - used, "%s%c", input ? prefix : "",
                                 input ? *at - 'A' + 'a' : *at);
    }
}

/* y: of floats; z: of doubles, made floats. */
static kiln_context *open_both(const scene *s)
{
    char node[200];
    owned_maker m;
    maker_model(&m, s->opset, s->constants[0] != '\0' ? s->constants : "none=1");
    for (int i = 0; i < INPUTS && s->dims[i] != NULL; i++) {
        maker_input(&m, names[i], 1, NULL);
        (void)snprintf(node, sizeof node, "d%s=Cast(%s) to=11", names[i], names[i]);
        maker_text(&m, node);
    }
    name_node(node, sizeof node, "y", s->node, "");
    maker_text(&m, node);
    name_node(node, sizeof node, "dz", s->node, "d");
    maker_text(&m, node);
    maker_text(&m, "z=Cast(dz) to=1");
    maker_output(&m, "y", 1, NULL);
    maker_output(&m, "z", 1, NULL);
    assert_ok(m.status);
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
    owned_engine engine = built_bytes(maker_span(m.model), &options);
    kiln_context *context = context_on(engine);
    return context;
}

/* Ordinary numbers, whole ones, one number over and over, a cosine, or some strange ones. */
static void fill(float *values, int64_t count, int64_t kind)
{
    float *drawn = numbers(count, kind == 4 ? 3 : 0);
    for (int64_t i = 0; i < count; i++) {
        values[i] = kind == 1   ? rintf(3.0F * drawn[i])
                    : kind == 2 ? drawn[0]
                    : kind == 3 ? cosf(0.39269908F * (float)i)
                                : drawn[i];
    }
    free(drawn);
}

static void expect_same(const scene *s, kiln_context *context)
{
    int64_t count = 0;
    assert_ok(kiln_context_run(context));
    const kiln_tensor found = tensor_in(context, "y");
    const kiln_tensor expected = tensor_in(context, "z");
    assert_true(kiln_shape_equal(&found.desc.shape, &expected.desc.shape));
    assert_ok(kiln_shape_elements(&found.desc.shape, &count));
    for (int64_t i = 0; i < count; i++) {
        const float *y = (const float *)found.data + i;
        const float *z = (const float *)expected.data + i;
        if (memcmp(y, z, sizeof *y) != 0 && !(isnan(*y) && isnan(*z))) {
            fail_msg("%s: element %lld is %a, in doubles %a", s->node, (long long)i, (double)*y,
                     (double)*z);
        }
    }
}

TEST(floats_give_what_doubles_give)
{
    static float values[INPUTS][MOST];
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(scenes); i++) {
        const scene *s = &scenes[i];
        owned_context context = open_both(s);
        for (int round = 0; round < s->rounds; round++) {
            int64_t sizes[128] = {0};
            for (int k = 0; k < INPUTS && s->dims[k] != NULL; k++) {
                const kiln_shape shape = shape_of(s->dims[k], sizes);
                size_t bytes = 0;
                assert_ok(kiln_tensor_bytes(KILN_DTYPE_FLOAT32, &shape, &bytes));
                assert_true(bytes <= sizeof values[k]);
                fill(values[k], (int64_t)(bytes / sizeof(float)), round % 5);
                assert_ok(kiln_context_bind(
                    context, names[k],
                    &KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, shape, values[k], bytes)));
            }
            expect_same(s, context);
        }
    }
}

/* --- transforms --- */

#define POINTS 512

/* Random numbers, one over and over, or of very different size. */
static double point(int64_t kind)
{
    const double drawn = (double)draw(2000001) / 1000000.0 - 1.0;
    return kind == 1 ? 0.3 : kind == 2 ? ldexp(drawn, (int)draw(60) - 30) : drawn;
}

/* y is the transform of n complex points, within some roundings of the definition's, which is
 * summed in long double. */
static void expect_transform(int64_t n, bool inverse, const double *x, const double *y)
{
    static long double c[POINTS];
    static long double s[POINTS];
    const long double scale = inverse ? 1 / (long double)n : 1;
    double square = 0.0;
    for (int64_t i = 0; i < n; i++) {
        const long double angle = 6.28318530717958647692528676655900577L * i / n;
        c[i] = cosl(angle) * scale;
        s[i] = sinl(inverse ? angle : -angle) * scale;
        square += x[2 * i] * x[2 * i] + x[2 * i + 1] * x[2 * i + 1];
    }
    const double bound = 0x1p-53 * sqrt(square) * (double)scale * (8.0 + 8.0 * log2((double)n));
    for (int64_t k = 0; k < n; k++) {
        long double sums[2] = {0, 0};
        for (int64_t i = 0; i < n; i++) {
            const int64_t turn = i * k % n;
            const long double real = (long double)x[2 * i];
            const long double imaginary = (long double)x[2 * i + 1];
            sums[0] += real * c[turn] - imaginary * s[turn];
            sums[1] += real * s[turn] + imaginary * c[turn];
        }
        for (int part = 0; part < 2; part++) {
            const double found = y[2 * k + part];
            if (!(fabsl((long double)found - sums[part]) <= (long double)bound)) {
                fail_msg("%lld points, bin %lld: %a, %a is right", (long long)n, (long long)k,
                         found, (double)sums[part]);
            }
        }
    }
}

static void transform_once(int64_t rows, int64_t n, bool inverse, int64_t kind)
{
    static double x[6 * POINTS * 2];
    for (int64_t i = 0; i < rows * n * 2; i++) {
        x[i] = point(kind);
    }
    owned_maker m;
    maker_model(&m, 20, "in x float64[r,n,2]; axis=1");
    maker_text(&m, inverse ? "y=DFT(x,,axis) inverse=1" : "y=DFT(x,,axis)");
    maker_output(&m, "y", 11, NULL);
    assert_ok(m.status);
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
    owned_engine engine = built_bytes(maker_span(m.model), &options);
    owned_context context = context_on(engine);
    const kiln_shape shape = {.rank = 3, .dims = {rows, n, 2}};
    assert_ok(
        kiln_context_bind(context, "x", &KILN_HOST_TENSOR(KILN_DTYPE_FLOAT64, shape, x, sizeof x)));
    assert_ok(kiln_context_run(context));
    kiln_tensor y;
    assert_ok(kiln_context_tensor(context, "y", &y));
    for (int64_t r = 0; r < rows; r++) {
        expect_transform(n, inverse, x + r * n * 2, (const double *)y.data + r * n * 2);
    }
}

/* A sum by the definition rounds n times. */
TEST(transforms_round_as_often_as_their_length_has_digits)
{
    static const int64_t lengths[] = {1, 2, 3, 8, 31, 37, 96, 100, 101, 211, 256, 331, 512, 509};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(lengths); i++) {
        for (int64_t kind = 0; kind < 3; kind++) {
            transform_once(1 + (int64_t)i % 6, lengths[i], i % 2 != 0, kind);
        }
    }
}
