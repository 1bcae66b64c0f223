/* SPDX-License-Identifier: Apache-2.0 */
/* Layers that work element by element. */
#include "build_layer.h"

typedef struct function {
    const char *op_type;
    int since;         /* before this operator set it is composed of others; 0: always available */
    const char *alpha; /* attribute names; NULL: the function has none */
    const char *beta;
} function;

static const function activations[] = {
    [KILN_ACTIVATION_IDENTITY] = {"Identity", 0, NULL, NULL},
    [KILN_ACTIVATION_RELU] = {"Relu", 0, NULL, NULL},
    [KILN_ACTIVATION_LEAKY_RELU] = {"LeakyRelu", 0, "alpha", NULL},
    [KILN_ACTIVATION_SIGMOID] = {"Sigmoid", 0, NULL, NULL},
    [KILN_ACTIVATION_TANH] = {"Tanh", 0, NULL, NULL},
    [KILN_ACTIVATION_SWISH] = {"Mul", 0, NULL, NULL},
    [KILN_ACTIVATION_GELU] = {"Gelu", 20, NULL, NULL},
    [KILN_ACTIVATION_GELU_TANH] = {"Gelu", 20, NULL, NULL},
    [KILN_ACTIVATION_ELU] = {"Elu", 0, "alpha", NULL},
    [KILN_ACTIVATION_SELU] = {"Selu", 0, "alpha", "gamma"},
    [KILN_ACTIVATION_SOFTPLUS] = {"Softplus", 0, NULL, NULL},
    [KILN_ACTIVATION_SOFTSIGN] = {"Softsign", 0, NULL, NULL},
    [KILN_ACTIVATION_HARD_SIGMOID] = {"HardSigmoid", 0, "alpha", "beta"},
    [KILN_ACTIVATION_HARD_SWISH] = {"HardSwish", 0, NULL, NULL},
    [KILN_ACTIVATION_CLIP] = {"Clip", 0, NULL, NULL},
    [KILN_ACTIVATION_MISH] = {"Mish", 0, NULL, NULL},
    [KILN_ACTIVATION_THRESHOLDED_RELU] = {"ThresholdedRelu", 0, "alpha", NULL},
    [KILN_ACTIVATION_CELU] = {"Celu", 0, "alpha", NULL},
};

/* Gelu before operator set 20: x * 0.5 * (1 + erf(x / sqrt 2)), or with the hyperbolic tangent. */
static void compose_gelu(kln_layer *layer, kiln_tensor_id x, bool with_tanh)
{
    const kiln_dtype type = kln_layer_tensor(layer, x).dtype;
    const kiln_tensor_id half = kln_layer_scalar(layer, "half", type, 0.5F);
    const kiln_tensor_id one = kln_layer_scalar(layer, "one", type, 1.0F);
    kiln_tensor_id inner = x;
    if (with_tanh) {
        const kiln_tensor_id a = kln_layer_scalar(layer, "cubic", type, 0.044715F);
        const kiln_tensor_id b = kln_layer_scalar(layer, "scale", type, 0.7978845608F);
        kiln_tensor_id cube = kln_layer_simple(layer, "square", "Mul", x, x);
        cube = kln_layer_simple(layer, "cube", "Mul", cube, x);
        cube = kln_layer_simple(layer, "term", "Mul", cube, a);
        inner = kln_layer_simple(layer, "sum", "Add", x, cube);
        inner = kln_layer_simple(layer, "scaled", "Mul", inner, b);
        inner = kln_layer_simple(layer, "tanh", "Tanh", inner, KILN_NO_TENSOR);
    } else {
        const kiln_tensor_id b = kln_layer_scalar(layer, "scale", type, 0.7071067812F);
        inner = kln_layer_simple(layer, "scaled", "Mul", x, b);
        inner = kln_layer_simple(layer, "erf", "Erf", inner, KILN_NO_TENSOR);
    }
    inner = kln_layer_simple(layer, "plus", "Add", inner, one);
    inner = kln_layer_simple(layer, "product", "Mul", inner, x);
    kln_layer_node(layer, "Mul", inner, half);
}

static void compose_activation(kln_layer *layer, kiln_activation kind, kiln_tensor_id input,
                               float alpha, float beta)
{
    const function *row = &activations[kind];
    if (kind == KILN_ACTIVATION_SWISH) {
        const kiln_tensor_id gate =
            kln_layer_simple(layer, "sigmoid", "Sigmoid", input, KILN_NO_TENSOR);
        kln_layer_node(layer, "Mul", input, gate);
        return;
    }
    if (kln_network_opset_of(layer->network) < row->since) {
        compose_gelu(layer, input, kind == KILN_ACTIVATION_GELU_TANH);
        return;
    }
    kln_layer_node(layer, row->op_type, input);
    if (kind == KILN_ACTIVATION_CLIP) {
        kln_layer_need(layer, alpha <= beta, "it clips to at least %g and at most %g",
                       (double)alpha, (double)beta);
        const kiln_dtype type = kln_layer_tensor(layer, input).dtype;
        kln_layer_input(layer, kln_layer_scalar(layer, "least", type, alpha));
        kln_layer_input(layer, kln_layer_scalar(layer, "most", type, beta));
    } else if (kind == KILN_ACTIVATION_GELU_TANH) {
        kln_layer_string(layer, "approximate", "tanh");
    }
    if (row->alpha != NULL) {
        kln_layer_float(layer, row->alpha, alpha);
    }
    if (row->beta != NULL) {
        kln_layer_float(layer, row->beta, beta);
    }
}

kiln_status kiln_network_add_activation(kiln_network *network, const char *name,
                                        kiln_activation kind, kiln_tensor_id input, float alpha,
                                        float beta, kiln_tensor_id *output)
{
    kln_layer layer;
    const bool is_known = (size_t)kind < KLN_ARRAY_LENGTH(activations);
    kln_layer_begin(&layer, network, __func__, name,
                    is_known ? activations[kind].op_type : "Activation");
    kln_layer_need(&layer, is_known, "kind is %d, which is none of kiln_activation", (int)kind);
    if (layer.status == KILN_OK) {
        compose_activation(&layer, kind, input, alpha, beta);
    }
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_prelu(kiln_network *network, const char *name, kiln_tensor_id input,
                                   kiln_tensor_id slope, kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "PRelu", input, slope);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_unary(kiln_network *network, const char *name, kiln_unary kind,
                                   kiln_tensor_id input, kiln_tensor_id *output)
{
    static const char *const names[] = {
        [KILN_UNARY_ABS] = "Abs",      [KILN_UNARY_NEG] = "Neg",
        [KILN_UNARY_EXP] = "Exp",      [KILN_UNARY_LOG] = "Log",
        [KILN_UNARY_SQRT] = "Sqrt",    [KILN_UNARY_RECIPROCAL] = "Reciprocal",
        [KILN_UNARY_FLOOR] = "Floor",  [KILN_UNARY_CEIL] = "Ceil",
        [KILN_UNARY_ROUND] = "Round",  [KILN_UNARY_SIGN] = "Sign",
        [KILN_UNARY_SIN] = "Sin",      [KILN_UNARY_COS] = "Cos",
        [KILN_UNARY_TAN] = "Tan",      [KILN_UNARY_ASIN] = "Asin",
        [KILN_UNARY_ACOS] = "Acos",    [KILN_UNARY_ATAN] = "Atan",
        [KILN_UNARY_SINH] = "Sinh",    [KILN_UNARY_COSH] = "Cosh",
        [KILN_UNARY_ASINH] = "Asinh",  [KILN_UNARY_ACOSH] = "Acosh",
        [KILN_UNARY_ATANH] = "Atanh",  [KILN_UNARY_ERF] = "Erf",
        [KILN_UNARY_NOT] = "Not",      [KILN_UNARY_BITWISE_NOT] = "BitwiseNot",
        [KILN_UNARY_IS_NAN] = "IsNaN", [KILN_UNARY_IS_INF] = "IsInf",
    };
    kln_layer layer;
    kln_layer_begin_kind(&layer, network, __func__, name, KLN_NAMES(names), (size_t)kind,
                         "kiln_unary");
    kln_layer_input(&layer, input);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_elementwise(kiln_network *network, const char *name,
                                         kiln_elementwise kind, kiln_tensor_id a, kiln_tensor_id b,
                                         kiln_tensor_id *output)
{
    static const char *const names[] = {
        [KILN_ELEMENTWISE_ADD] = "Add",
        [KILN_ELEMENTWISE_SUB] = "Sub",
        [KILN_ELEMENTWISE_MUL] = "Mul",
        [KILN_ELEMENTWISE_DIV] = "Div",
        [KILN_ELEMENTWISE_POW] = "Pow",
        [KILN_ELEMENTWISE_MIN] = "Min",
        [KILN_ELEMENTWISE_MAX] = "Max",
        [KILN_ELEMENTWISE_MOD] = "Mod",
        [KILN_ELEMENTWISE_FMOD] = "Mod",
        [KILN_ELEMENTWISE_AND] = "And",
        [KILN_ELEMENTWISE_OR] = "Or",
        [KILN_ELEMENTWISE_XOR] = "Xor",
        [KILN_ELEMENTWISE_EQUAL] = "Equal",
        [KILN_ELEMENTWISE_LESS] = "Less",
        [KILN_ELEMENTWISE_LESS_OR_EQUAL] = "LessOrEqual",
        [KILN_ELEMENTWISE_GREATER] = "Greater",
        [KILN_ELEMENTWISE_GREATER_OR_EQUAL] = "GreaterOrEqual",
        [KILN_ELEMENTWISE_BITWISE_AND] = "BitwiseAnd",
        [KILN_ELEMENTWISE_BITWISE_OR] = "BitwiseOr",
        [KILN_ELEMENTWISE_BITWISE_XOR] = "BitwiseXor",
    };
    kln_layer layer;
    kln_layer_begin_kind(&layer, network, __func__, name, KLN_NAMES(names), (size_t)kind,
                         "kiln_elementwise");
    kln_layer_inputs(&layer, a, b);
    if (kind == KILN_ELEMENTWISE_FMOD) {
        kln_layer_int(&layer, "fmod", 1);
    }
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_where(kiln_network *network, const char *name,
                                   kiln_tensor_id condition, kiln_tensor_id a, kiln_tensor_id b,
                                   kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "Where", condition, a, b);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_cast(kiln_network *network, const char *name, kiln_tensor_id input,
                                  kiln_dtype dtype, kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "Cast", input);
    kln_layer_dtype(&layer, "to", dtype);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_softmax(kiln_network *network, const char *name, kiln_tensor_id input,
                                     int64_t axis, bool logarithm, kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, logarithm ? "LogSoftmax" : "Softmax", input);
    kln_layer_int(&layer, "axis", axis);
    return kln_layer_finish_one(&layer, output);
}

kiln_status kiln_network_add_cumulative_sum(kiln_network *network, const char *name,
                                            kiln_tensor_id input, int64_t axis, bool exclusive,
                                            bool reverse, kiln_tensor_id *output)
{
    KLN_LAYER(layer, network, name, "CumSum", input);
    kln_layer_input_ints(&layer, "axis", &axis, 1, true);
    kln_layer_int(&layer, "exclusive", exclusive);
    kln_layer_int(&layer, "reverse", reverse);
    return kln_layer_finish_one(&layer, output);
}
