/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

void kln_rule_scalar_out(kln_rule *rule)
{
    (void)kln_rule_new_shape(rule, 0, 0);
}

/* One output with the type and shape of the first input. */
void kln_rule_same(kln_rule *rule)
{
    kln_rule_same_shape(rule, 0, 0);
}

/* The same, with a valid axis. */
void kln_rule_same_axis(kln_rule *rule)
{
    const kln_onnx_attribute *axis = kln_rule_attribute(rule, "axis");
    size_t place = 0;
    kln_rule_same_shape(rule, 0, 0);
    if (axis != NULL && axis->type == KLN_ONNX_ATTRIBUTE_INT && kln_rule_ranked(rule, 0)) {
        (void)kln_rule_axis(rule, axis->i, kln_rule_rank(rule, 0), &place);
    }
}

static void rule_identity(kln_rule *rule)
{
    kln_rule_same_type(rule, 0, 0);
    kln_rule_same_shape(rule, 0, 0);
    if (rule->in_count > 0 && rule->in[0] != NULL && rule->out_count > 0) {
        rule->out[0].initializer = rule->in[0]->initializer;
    }
}

/* Before version 7 broadcasting had to be requested and was one-way: the result has the first
 * input's shape. */
static void rule_binary(kln_rule *rule)
{
    if (rule->since < 7 && rule->resolved->domain[0] == '\0') {
        kln_rule_same_shape(rule, 0, 0);
    } else {
        kln_rule_broadcast(rule, 0, 0, 1);
    }
}

static void rule_qlinear_binary(kln_rule *rule)
{
    kln_rule_with(rule, (const size_t[]){0, 3}, 2, rule_binary);
}

static void rule_variadic(kln_rule *rule)
{
    if (rule->since < 8) {
        kln_rule_same_shape(rule, 0, 0);
    } else if (rule->in_count > 0) {
        kln_rule_broadcast(rule, 0, 0, rule->in_count - 1);
    }
}

static void rule_where(kln_rule *rule)
{
    kln_rule_broadcast(rule, 0, 0, 2);
}

static void rule_qlinear_where(kln_rule *rule)
{
    kln_rule_with(rule, (const size_t[]){0, 1, 4}, 3, rule_where);
}

static void rule_clip(kln_rule *rule)
{
    kln_rule_same_shape(rule, 0, 0);
    for (size_t i = 1; i <= 2 && rule->since >= 11; i++) {
        (void)kln_rule_need_rank(rule, i, 0, 1);
    }
}

static bool fit_prelu(kln_rule *rule)
{
    return rule->since < 7 || !kln_rule_ranked(rule, 0) ||
           kln_fit_broadcast(rule, 1, rule->in[0]->dims, rule->in[0]->rank,
                             "the slope and the input");
}

/* Two inputs of the same shape, without broadcasting. */
static void rule_swiglu(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1) ||
        !kln_rule_need_rank(rule, 1, rank, rank)) {
        return;
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        dims[i] = kln_rule_unify(rule, kln_rule_dim(rule, 0, i), kln_rule_dim(rule, 1, i),
                                 "the dimensions of both inputs");
    }
}

const kln_op_rule kln_rules_elementwise[] = {
    OP("Abs", kln_rule_same, .fold = kln_fold_unary),
    OP("Acos", kln_rule_same),
    OP("Acosh", kln_rule_same),
    OP("Add", rule_binary, .fold = kln_fold_binary),
    OP("And", rule_binary, .fold = kln_fold_compare),
    OP("Asin", kln_rule_same),
    OP("Asinh", kln_rule_same),
    OP("Atan", kln_rule_same),
    OP("Atanh", kln_rule_same),
    OP("BitShift", rule_binary),
    OP("BitwiseAnd", rule_binary),
    OP("BitwiseNot", kln_rule_same),
    OP("BitwiseOr", rule_binary),
    OP("BitwiseXor", rule_binary),
    OP("Ceil", kln_rule_same, .fold = kln_fold_unary),
    OP("Celu", kln_rule_same),
    OP("Clip", rule_clip, .form = "11: - () ()"),
    OP("Cos", kln_rule_same),
    OP("Cosh", kln_rule_same),
    OP("Div", rule_binary, .fold = kln_fold_binary),
    OP("Elu", kln_rule_same),
    OP("Equal", rule_binary, .fold = kln_fold_compare),
    OP("Erf", kln_rule_same),
    OP("Exp", kln_rule_same),
    OP("Floor", kln_rule_same, .fold = kln_fold_unary),
    OP("Gelu", kln_rule_same),
    OP("Greater", rule_binary, .fold = kln_fold_compare),
    OP("GreaterOrEqual", rule_binary, .fold = kln_fold_compare),
    OP("HardSigmoid", kln_rule_same),
    OP("HardSwish", kln_rule_same),
    OP("Hardmax", kln_rule_same_axis, .form = "1: _+"),
    OP("Identity", rule_identity, .fold = kln_fold_copy),
    OP("IsInf", kln_rule_same),
    OP("IsNaN", kln_rule_same),
    OP("LeakyRelu", kln_rule_same),
    OP("Less", rule_binary, .fold = kln_fold_compare),
    OP("LessOrEqual", rule_binary, .fold = kln_fold_compare),
    OP("Log", kln_rule_same),
    OP("LogSoftmax", kln_rule_same_axis, .form = "1: _+"),
    OP("Max", rule_variadic, .fold = kln_fold_variadic),
    OP("Mean", rule_variadic),
    OP("Min", rule_variadic, .fold = kln_fold_variadic),
    OP("Mish", kln_rule_same),
    OP("Mod", rule_binary, .fold = kln_fold_binary),
    OP("Mul", rule_binary, .fold = kln_fold_binary),
    OP("Neg", kln_rule_same, .fold = kln_fold_unary),
    OP("Not", kln_rule_same, .fold = kln_fold_unary),
    OP("Or", rule_binary, .fold = kln_fold_compare),
    OP("PRelu", kln_rule_same, .form = "1: -", .fit = fit_prelu),
    OP("Pow", rule_binary, .fold = kln_fold_binary),
    OP("Reciprocal", kln_rule_same),
    OP("RegexFullMatch", kln_rule_same),
    OP("Relu", kln_rule_same),
    OP("Round", kln_rule_same, .fold = kln_fold_unary),
    OP("Selu", kln_rule_same),
    OP("Shrink", kln_rule_same),
    OP("Sigmoid", kln_rule_same),
    OP("Sign", kln_rule_same),
    OP("Sin", kln_rule_same),
    OP("Sinh", kln_rule_same),
    OP("Softmax", kln_rule_same_axis, .form = "1: _+"),
    OP("Softplus", kln_rule_same),
    OP("Softsign", kln_rule_same),
    OP("Sqrt", kln_rule_same, .fold = kln_fold_unary),
    OP("StringConcat", rule_binary),
    OP("Sub", rule_binary, .fold = kln_fold_binary),
    OP("Sum", rule_variadic, .fold = kln_fold_variadic),
    OP("SwiGLU", rule_swiglu),
    OP("Swish", kln_rule_same),
    OP("Tan", kln_rule_same),
    OP("Tanh", kln_rule_same),
    OP("ThresholdedRelu", kln_rule_same),
    OP("Trilu", kln_rule_same, .form = "14: __+ (1)"),
    OP("Where", rule_where, .fold = kln_fold_where),
    OP("Xor", rule_binary, .fold = kln_fold_compare),
    OP_OF("ai.onnx.ml", "Binarizer", kln_rule_same),
    OP_OF("ai.onnx.ml", "Imputer", kln_rule_same),
    OP_MS("BiasGelu", kln_rule_same),
    OP_MS("FastGelu", kln_rule_same),
    OP_MS("Gelu", kln_rule_same),
    OP_MS("QLinearAdd", rule_qlinear_binary, .form = "1: - (1) (1) - (1) (1) (1) (1)"),
    OP_MS("QLinearLeakyRelu", kln_rule_same, .form = "1: - (1) (1) (1) (1)"),
    OP_MS("QLinearMul", rule_qlinear_binary, .form = "1: - (1) (1) - (1) (1) (1) (1)"),
    OP_MS("QLinearSigmoid", kln_rule_same, .form = "1: - (1) (1) (1) (1)"),
    OP_MS("QLinearSoftmax", kln_rule_same, .form = "1: - (1) (1) (1) (1)"),
    OP_MS("QLinearWhere", rule_qlinear_where, .form = "1: - - (1) (1) - (1) (1) (1) (1)"),
    OP_MS("QuickGelu", kln_rule_same),
    OP_END};
