/* SPDX-License-Identifier: Apache-2.0 */
/* What the reference executor computes of floats in forms of its own, to the bit: each is what
 * doubles give, rounded once. The network computes both ways. */
#include "base/kln_base.h"
#include "drawn_test.h"
#include "graph_maker.h"

#define MOST 4096

/* Of `strange` in a hundred, what is at the edges of the type; few numbers, so that ties occur. */
static void fill(float *values, int64_t count, int strange)
{
    static const float edges[] = {0.0F,   -0.0F,   INFINITY, -INFINITY, NAN,
                                  1e-45F, -1e-42F, 3e38F,    -3e38F,    1.17549435e-38F};
    for (int64_t i = 0; i < count; i++) {
        values[i] = draw(100) < strange ? edges[draw(KLN_ARRAY_LENGTH(edges))]
                    : draw(3) == 0      ? (float)(draw(9) - 4)
                                        : (float)draw(2000001) / 1000000.0F - 1.0F;
    }
}

/* One operator, and how its operands and attributes look. */
typedef struct scene {
    const char *op;
    const char *attribute;
    int64_t value;
    bool binary;
    bool numbers; /* the result is of integers or truth values: compared as it is */
} scene;

static kiln_context *open_made(graph_maker *m)
{
    assert_ok(m->status);
    const kiln_span bytes = maker_span(m->model);
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
    owned_engine engine = built_bytes(bytes, &options);
    kiln_context *context = context_on(engine);
    maker_end(m);
    return context;
}

static int64_t opset_of(const char *op)
{
    return strcmp(op, "Mish") == 0     ? 18
           : strcmp(op, "Swish") == 0  ? 24
           : strcmp(op, "SwiGLU") == 0 ? 28
                                       : 17;
}

/* y: the operator on floats; z: on the same numbers as doubles, made floats. */
static kiln_context *open_both(const scene *s, const char *a, const char *b)
{
    graph_maker m;
    maker_begin(&m, opset_of(s->op));
    maker_input(&m, "a", 1, a);
    maker_text(&m, "da=Cast(a) to=11");
    if (s->binary) {
        maker_input(&m, "b", 1, b);
        maker_text(&m, "db=Cast(b) to=11");
    }
    for (int wide = 0; wide < 2; wide++) {
        const char *ins = s->binary ? (wide != 0 ? "da,db" : "a,b") : wide != 0 ? "da" : "a";
        maker_node(&m, s->op, ins, wide != 0 ? "dz" : "y");
        if (s->attribute != NULL && strcmp(s->attribute, "axes") == 0) {
            maker_attribute_ints(&m, "axes", 1, &s->value);
        } else if (s->attribute != NULL) {
            maker_attribute_int(&m, s->attribute, s->value);
        }
    }
    maker_node(&m, s->numbers ? "Identity" : "Cast", "dz", "z");
    if (!s->numbers) {
        maker_attribute_int(&m, "to", 1);
    }
    const int type = !s->numbers ? 1 : strncmp(s->op, "Arg", 3) == 0 ? 7 : 9;
    maker_output(&m, "y", type, NULL);
    maker_output(&m, "z", type, NULL);
    return open_made(&m);
}

static void expect_same(const scene *s, kiln_context *context)
{
    size_t bytes = 0;
    assert_ok(kiln_context_run(context));
    const kiln_tensor y = tensor_in(context, "y");
    const kiln_tensor z = tensor_in(context, "z");
    assert_true(kiln_shape_equal(&y.desc.shape, &z.desc.shape));
    assert_ok(kiln_tensor_bytes(y.desc.dtype, &y.desc.shape, &bytes));
    if (s->numbers) {
        assert_memory_equal(y.data, z.data, bytes);
        return;
    }
    for (size_t i = 0; i < bytes / sizeof(float); i++) {
        const float *found = (const float *)y.data + i;
        const float *expected = (const float *)z.data + i;
        if (memcmp(found, expected, sizeof *found) != 0 && !(isnan(*found) && isnan(*expected))) {
            fail_msg("%s: element %zu is %a, in doubles %a", s->op, i, (double)*found,
                     (double)*expected);
        }
    }
}

static void bind(kiln_context *context, const char *name, float *data, kiln_shape shape)
{
    size_t bytes = 0;
    assert_ok(kiln_tensor_bytes(KILN_DTYPE_FLOAT32, &shape, &bytes));
    assert_true(bytes <= MOST * sizeof(float));
    assert_ok(kiln_context_bind(context, name,
                                &KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, shape, data, bytes)));
}

TEST(elements_are_exact)
{
    static const scene scenes[] = {
        {.op = "Add", .binary = true},
        {.op = "Sub", .binary = true},
        {.op = "Mul", .binary = true},
        {.op = "Div", .binary = true},
        {.op = "Max", .binary = true},
        {.op = "Min", .binary = true},
        {.op = "PRelu", .binary = true},
        {.op = "Greater", .binary = true, .numbers = true},
        {.op = "GreaterOrEqual", .binary = true, .numbers = true},
        {.op = "Less", .binary = true, .numbers = true},
        {.op = "LessOrEqual", .binary = true, .numbers = true},
        {.op = "Equal", .binary = true, .numbers = true},
        {.op = "Abs"},
        {.op = "Neg"},
        {.op = "Sign"},
        {.op = "Ceil"},
        {.op = "Floor"},
        {.op = "Round"},
        {.op = "Sum", .binary = true},
        {.op = "Mean", .binary = true},
        {.op = "IsNaN", .numbers = true},
        {.op = "IsInf", .numbers = true},
        {.op = "IsInf", .attribute = "detect_negative", .numbers = true},
        {.op = "Relu"},
        {.op = "LeakyRelu"},
        {.op = "ThresholdedRelu"},
        {.op = "HardSigmoid"},
        {.op = "HardSwish"},
        {.op = "Softsign"},
        {.op = "Sqrt"},
        {.op = "Reciprocal"},
        {.op = "Exp"},
        {.op = "Sigmoid"},
        {.op = "Tanh"},
        {.op = "GlobalAveragePool"},
    };
    static float a[MOST];
    static float b[MOST];
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(scenes); i++) {
        owned_context context = open_both(&scenes[i], "p,q,r", "s,t,u");
        for (int round = 0; round < 40; round++) {
            const int64_t p = 1 + draw(4), q = 1 + draw(5), r = 1 + draw(70);
            fill(a, MOST, round % 4 == 0 ? 20 : 0);
            fill(b, MOST, round % 4 == 0 ? 20 : 0);
            bind(context, "a", a, KILN_SHAPE(p, q, r));
            /* PRelu's slopes are laid over the first operand, never the reverse. */
            const bool one_way = strcmp(scenes[i].op, "PRelu") == 0;
            if (scenes[i].binary && (round % 2 == 0 || one_way)) {
                bind(context, "b", b,
                     KILN_SHAPE(draw(2) != 0 ? p : 1, draw(2) != 0 ? q : 1, draw(2) != 0 ? r : 1));
            } else if (scenes[i].binary) {
                bind(context, "a", a, KILN_SHAPE(p, 1, draw(2) != 0 ? r : 1));
                bind(context, "b", b, KILN_SHAPE(p, q, r));
            }
            expect_same(&scenes[i], context);
        }
    }
}

TEST(squares_are_exact)
{
    static const float exponents[] = {2.0F, 3.0F, 0.5F};
    const scene s = {.op = "Pow", .binary = true};
    static float a[MOST];
    owned_context context = open_both(&s, "p,q,r", "s");
    for (int round = 0; round < 30; round++) {
        float exponent = exponents[round % 3];
        fill(a, MOST, 10);
        bind(context, "a", a, KILN_SHAPE(2, 3, 1 + draw(300)));
        bind(context, "b", &exponent, KILN_SHAPE(1));
        expect_same(&s, context);
    }
}

TEST(reductions_are_exact)
{
    static const char *const ops[] = {"ReduceMax",       "ReduceMin",    "ReduceMean",
                                      "ReduceL1",        "ReduceL2",     "ReduceProd",
                                      "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"};
    static float a[MOST];
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(ops); i++) {
        for (int64_t axis = 0; axis < 3; axis++) {
            const scene s = {.op = ops[i], .attribute = "axes", .value = axis};
            owned_context context = open_both(&s, "p,q,r", NULL);
            for (int round = 0; round < 24; round++) {
                fill(a, MOST, round % 3 == 0 ? 3 : 0);
                bind(context, "a", a, KILN_SHAPE(1 + draw(9), 1 + draw(6), 1 + draw(75)));
                expect_same(&s, context);
            }
        }
    }
}

/* Rows that are so long, and so few, that their terms are added in another order first. */
TEST(long_rows_are_exact)
{
    static const char *const ops[] = {"ReduceMean",      "ReduceL1",     "ReduceL2",
                                      "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"};
    static float a[MOST];
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(ops); i++) {
        const scene s = {.op = ops[i], .attribute = "axes", .value = 1};
        owned_context context = open_both(&s, "p,q", NULL);
        for (int round = 0; round < 300; round++) {
            const int64_t rows = 1 + draw(3);
            fill(a, MOST, round % 50 == 0 ? 1 : 0);
            for (int64_t k = 0; round % 3 == 1 && k < MOST; k++) {
                a[k] *= k % 2 == 0 ? 1e6F : 1e-3F;
            }
            for (int64_t k = 1; round % 3 == 2 && k < MOST; k += 2) {
                a[k] = -a[k - 1]; /* sums of 0, or nearly so */
            }
            bind(context, "a", a, KILN_SHAPE(rows, 500 + draw(800)));
            expect_same(&s, context);
        }
    }
}

/* Rows, and columns side by side. */
TEST(rows_are_exact)
{
    static const scene scenes[] = {
        {.op = "Softmax", .attribute = "axis", .value = 2},
        {.op = "Softmax", .attribute = "axis", .value = 1},
        {.op = "LogSoftmax", .attribute = "axis", .value = 2},
        {.op = "LogSoftmax", .attribute = "axis", .value = 0},
        {.op = "Hardmax", .attribute = "axis", .value = 2},
        {.op = "LRN", .attribute = "size", .value = 3},
        {.op = "MeanVarianceNormalization", .attribute = "axes", .value = 2},
        {.op = "MeanVarianceNormalization", .attribute = "axes", .value = 0},
        {.op = "LayerNormalization", .binary = true}};
    static float a[MOST];
    static float b[MOST];
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(scenes); i++) {
        owned_context context = open_both(&scenes[i], "p,q,r", "r");
        for (int round = 0; round < 60; round++) {
            const kiln_shape shape = KILN_SHAPE(1 + draw(9), 1 + draw(6), 1 + draw(75));
            fill(a, MOST, round % 3 == 0 ? 1 : 0);
            fill(b, MOST, 0);
            for (int64_t k = 0; round % 4 == 1 && k < MOST; k++) {
                a[k] *= 90.0F; /* results below the least normal float */
            }
            bind(context, "a", a, shape);
            if (scenes[i].binary) {
                bind(context, "b", b, KILN_SHAPE(shape.dims[2]));
            }
            expect_same(&scenes[i], context);
        }
    }
}

/* Of all floats one of 16411, with KILN_EVERY_FLOAT set one of 257, and all that lie about the
 * points where a form ends. */
TEST(functions_are_those_of_doubles)
{
    static const char *const ops[] = {"Acos", "Acosh", "Asin", "Asinh",    "Atan",  "Atanh",
                                      "Celu", "Cos",   "Cosh", "Elu",      "Log",   "Mish",
                                      "Selu", "Sin",   "Sinh", "Softplus", "Swish", "Tan"};
    static const float points[] = {0.0F,        1e-45F,     0.3466F,  0.4142136F,  0.5F,
                                   0.70710678F, 0.7853982F, 1.0F,     1.41421356F, 1.5707964F,
                                   2.4142136F,  3.1415927F, 22.0F,    80.0F,       88.7F,
                                   103.9F,      300.0F,     32768.0F, 3e38F};
    static float a[MOST];
    const uint64_t step = getenv("KILN_EVERY_FLOAT") != NULL ? 257 : 16411;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(ops); i++) {
        const scene s = {.op = ops[i]};
        owned_context context = open_both(&s, "n", NULL);
        bind(context, "a", a, KILN_SHAPE(MOST));
        for (uint64_t bits = 0; bits < UINT64_C(1) << 32;) {
            for (size_t k = 0; k < MOST; k++, bits += step) {
                const uint32_t low = (uint32_t)bits;
                memcpy(&a[k], &low, sizeof low);
            }
            expect_same(&s, context);
        }
        for (size_t p = 0; p < 2 * KLN_ARRAY_LENGTH(points); p++) {
            a[0] = p % 2 == 0 ? points[p / 2] : -points[p / 2];
            for (size_t k = 1; k < MOST; k++) {
                a[k] = nextafterf(a[k - 1], k < MOST / 2 ? INFINITY : -INFINITY);
            }
            expect_same(&s, context);
        }
    }
}

/* Any floats, and such as give results that are no limits; with KILN_EVERY_FLOAT set many. */
TEST(functions_of_two_are_those_of_doubles)
{
    static const char *const ops[] = {"Pow", "SwiGLU"};
    static float a[MOST];
    static float b[MOST];
    const int rounds = getenv("KILN_EVERY_FLOAT") != NULL ? 20000 : 100;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(ops); i++) {
        const scene s = {.op = ops[i], .binary = true};
        owned_context context = open_both(&s, "n", "n");
        for (int round = 0; round < rounds; round++) {
            for (size_t k = 0; k < MOST; k++) {
                const uint32_t bits[2] = {(uint32_t)draw(1 << 16) << 16 | (uint32_t)draw(1 << 16),
                                          (uint32_t)draw(1 << 16) << 16 | (uint32_t)draw(1 << 16)};
                const float x = (float)bits[0] * 0x1p-31F;
                const float y = (float)bits[1] * 0x1p-31F - 1.0F;
                memcpy(&a[k], &bits[0], sizeof a[k]);
                memcpy(&b[k], &bits[1], sizeof b[k]);
                a[k] = round % 4 == 0 ? a[k] : round % 4 == 1 ? x : 1.0F + x * 0x1p-10F;
                b[k] = round % 4 == 0 ? b[k] : y * (round % 4 == 1 ? 3.0F : 40000.0F);
                if (round % 4 == 3) {
                    a[k] = (float)(draw(41) - 20) * 0.5F;
                    b[k] = (float)(draw(25) - 12) * 0.5F;
                }
            }
            const int64_t n = MOST - draw(20);
            bind(context, "a", a, KILN_SHAPE(n));
            bind(context, "b", b, KILN_SHAPE(n));
            expect_same(&s, context);
        }
    }
}

TEST(extremes_are_found_where_they_are)
{
    static const char *const ops[] = {"ArgMax", "ArgMin"};
    static float a[MOST];
    for (size_t i = 0; i < 4; i++) {
        const scene s = {.op = ops[i / 2],
                         .attribute = i % 2 == 0 ? "axis" : "select_last_index",
                         .value = i % 2 == 0 ? 2 : 1,
                         .numbers = true};
        owned_context context = open_both(&s, "p,q,r", NULL);
        for (int round = 0; round < 60; round++) {
            fill(a, MOST, round % 3 == 0 ? 10 : 0);
            for (int64_t k = 0; round % 5 == 0 && k < MOST; k++) {
                a[k] = k % 3 == 0 ? -0.0F : 0.0F;
            }
            bind(context, "a", a, KILN_SHAPE(1 + draw(18), 1 + draw(2), 1 + draw(110)));
            expect_same(&s, context);
        }
    }
}

/* y[c, r] = x[r, c], whatever block it falls into. */
TEST(transposition_moves_each_element)
{
    static float a[MOST];
    static const int64_t orders[][3] = {{0, 2, 1}, {2, 1, 0}, {1, 2, 0}, {2, 0, 1}, {1, 0, 2}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(orders); i++) {
        for (int round = 0; round < 20; round++) {
            const int64_t dims[3] = {1 + draw(24), 1 + draw(8), 1 + draw(21)};
            const int64_t strides[3] = {dims[1] * dims[2], dims[2], 1};
            const int64_t *o = orders[i];
            graph_maker m;
            kiln_tensor y;
            maker_model(&m, 17, "in a float32[p,q,r]; y=Transpose(a)");
            maker_attribute_ints(&m, "perm", 3, o);
            maker_output(&m, "y", 1, "s,t,u");
            owned_context context = open_made(&m);
            for (int64_t k = 0; k < MOST; k++) {
                a[k] = (float)k;
            }
            bind(context, "a", a, KILN_SHAPE(dims[0], dims[1], dims[2]));
            assert_ok(kiln_context_run(context));
            assert_ok(kiln_context_tensor(context, "y", &y));
            const float *found = y.data;
            for (int64_t p = 0; p < dims[o[0]]; p++) {
                for (int64_t q = 0; q < dims[o[1]]; q++) {
                    for (int64_t r = 0; r < dims[o[2]]; r++) {
                        assert_true(*found++ == (float)(p * strides[o[0]] + q * strides[o[1]] +
                                                        r * strides[o[2]]));
                    }
                }
            }
        }
    }
}
