/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of every half and bfloat there is: what the same numbers give as doubles, rounded once,
 * though many are looked up in a table. */
#include "drawn_test.h"
#include "graph_maker.h"

#define EVERY 65536
#define FEW 1000 /* that no table is made for */

static const char *const functions[] = {"Acos",
                                        "Acosh",
                                        "Asin",
                                        "Asinh",
                                        "Atan",
                                        "Atanh",
                                        "Celu",
                                        "Cos",
                                        "Cosh",
                                        "Elu",
                                        "Erf",
                                        "Exp",
                                        "Floor",
                                        "HardSigmoid",
                                        "Log",
                                        "LeakyRelu",
                                        "HardSwish",
                                        "Mish",
                                        "Round",
                                        "Reciprocal",
                                        "Selu",
                                        "Sigmoid",
                                        "Sin",
                                        "Sinh",
                                        "Softplus",
                                        "Sqrt",
                                        "Swish alpha=1.5",
                                        "Tan",
                                        "Tanh",
                                        "Softsign",
                                        "Ceil",
                                        "ThresholdedRelu",
                                        "Abs",
                                        "Neg",
                                        "Sign"};

static bool is_nan(kiln_dtype dtype, uint16_t bits)
{
    return (bits & 0x7fff) > (dtype == KILN_DTYPE_FLOAT16 ? 0x7c00 : 0x7f80);
}

/* y and z of `count` numbers from `x` on. */
static void expect_same(kiln_context *context, const char *function, kiln_dtype dtype, uint16_t *x,
                        int64_t count)
{
    kiln_tensor y;
    kiln_tensor z;
    assert_ok(kiln_context_bind(
        context, "x", &KILN_HOST_TENSOR(dtype, KILN_SHAPE(count), x, (size_t)count * sizeof *x)));
    assert_ok(kiln_context_run(context));
    assert_ok(kiln_context_tensor(context, "y", &y));
    assert_ok(kiln_context_tensor(context, "z", &z));
    for (int64_t i = 0; i < count; i++) {
        const uint16_t found = ((const uint16_t *)y.data)[i];
        const uint16_t right = ((const uint16_t *)z.data)[i];
        if (found != right && !(is_nan(dtype, found) && is_nan(dtype, right))) {
            fail_msg("%s of %s %04x: %04x, %04x is right", function, kiln_dtype_name(dtype), x[i],
                     found, right);
        }
    }
}

static void try_function(const char *function, kiln_dtype dtype)
{
    static uint16_t every[EVERY];
    for (int i = 0; i < EVERY; i++) {
        every[i] = (uint16_t)i;
    }
    char text[100];
    owned_maker m;
    (void)snprintf(text, sizeof text, "in x %s[n]; w=Cast(x) to=11", kiln_dtype_name(dtype));
    maker_model(&m, 24, text);
    const size_t name = strcspn(function, " ");
    (void)snprintf(text, sizeof text, "y=%.*s(x)%s", (int)name, function, function + name);
    maker_text(&m, text);
    (void)snprintf(text, sizeof text, "v=%.*s(w)%s", (int)name, function, function + name);
    maker_text(&m, text);
    (void)snprintf(text, sizeof text, "z=Cast(v) to=%d", (int)kln_onnx_wire_dtype(dtype));
    maker_text(&m, text);
    maker_output(&m, "y", kln_onnx_wire_dtype(dtype), NULL);
    maker_output(&m, "z", kln_onnx_wire_dtype(dtype), NULL);
    assert_ok(m.status);
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
    owned_engine engine = built_bytes(maker_span(m.model), &options);
    owned_context context = context_on(engine);
    expect_same(context, function, dtype, every + 31000, FEW);
    expect_same(context, function, dtype, every, EVERY);
}

TEST(functions_of_every_half_round_once)
{
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(functions); i++) {
        try_function(functions[i], KILN_DTYPE_FLOAT16);
        try_function(functions[i], KILN_DTYPE_BFLOAT16);
    }
}

/* More functions than a context keeps tables of: each gives its own. */
TEST(functions_with_other_attributes_have_other_tables)
{
    static uint16_t halves[EVERY / 2];
    char text[100];
    owned_maker m;
    for (int i = 0; i < EVERY / 2; i++) {
        halves[i] = (uint16_t)(i * 2);
    }
    maker_model(&m, 24, "in x float16[n]; w=Cast(x) to=1");
    for (int i = 0; i < 40; i++) {
        (void)snprintf(text, sizeof text, "y%d=LeakyRelu(x) alpha=%g", i, 0.25 + i % 36);
        maker_text(&m, text);
        (void)snprintf(text, sizeof text, "v%d=LeakyRelu(w) alpha=%g; z%d=Cast(v%d) to=10", i,
                       0.25 + i % 36, i, i);
        maker_text(&m, text);
        (void)snprintf(text, sizeof text, "e%d=Equal(y%d,z%d); out e%d bool[n]", i, i, i, i);
        maker_text(&m, text);
    }
    assert_ok(m.status);
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
    owned_engine engine = built_bytes(maker_span(m.model), &options);
    owned_context context = context_on(engine);
    assert_ok(kiln_context_bind(
        context, "x",
        &KILN_HOST_TENSOR(KILN_DTYPE_FLOAT16, KILN_SHAPE(EVERY / 2), halves, sizeof halves)));
    assert_ok(kiln_context_run(context));
    for (int i = 0; i < 40; i++) {
        kiln_tensor same;
        (void)snprintf(text, sizeof text, "e%d", i);
        assert_ok(kiln_context_tensor(context, text, &same));
        for (int k = 0; k < EVERY / 2; k++) {
            if (!((const bool *)same.data)[k] && !is_nan(KILN_DTYPE_FLOAT16, halves[k])) {
                fail_msg("LeakyRelu %d of %04x", i, halves[k]);
            }
        }
    }
}
