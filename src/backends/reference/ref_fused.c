/* Operators of com.microsoft that ONNX Runtime's optimizer substitutes for several nodes.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ref_step.h"

typedef enum fused { GELU, GELU_BY_TANH, CONV, GEMM, LAYER_NORM, RMS_NORM } fused;

#define NUMBER(name_, value)                                                   \
    {                                                                          \
        .name = (name_), .type = KLN_ONNX_ATTRIBUTE_FLOAT, .f = (float)(value) \
    }

/* Adds input `index` if it exists. An input that does not fit would broadcast to more elements. */
static kiln_status add_input(ref_call *call, size_t index, const ref_value **x)
{
    const ref_value *sum = NULL;
    if (ref_input(call, index) == NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(REF_STEP_OF_TWO(call, "Add", *x, call->inputs[index], &sum));
    KLN_RETURN_IF(!ref_same_shape(&sum->tensor, &(*x)->tensor), KILN_ERROR_SHAPE,
                  "input %zu has %lld elements, which do not fit the %lld it is added to", index,
                  (long long)ref_input(call, index)->count, (long long)(*x)->tensor.count);
    *x = sum;
    return KILN_OK;
}

/* Gelu, after adding a bias if there is one. */
static kiln_status ref_op_fused_gelu(ref_call *call)
{
    const bool by_tanh = call->variant == GELU_BY_TANH;
    const char *way = by_tanh ? "tanh" : "none";
    const kln_onnx_attribute attribute = {.name = "approximate",
                                          .type = KLN_ONNX_ATTRIBUTE_STRING,
                                          .s = {.data = way, .size = strlen(way)}};
    const ref_value *x = call->inputs[0];
    KLN_RETURN_IF_ERROR(add_input(call, 1, &x));
    KLN_RETURN_IF_ERROR(ref_step(call, &(ref_operator){"Gelu", 0, &attribute, 1}, &x, 1, &x));
    return ref_give(call, 0, x);
}

/* --- activations --- */

/* Parameter `index` of the activation, from a list or from separate attributes. */
static double parameter(const ref_call *call, size_t index, double otherwise)
{
    static const char *const names[] = {"activation_alpha", "activation_beta"};
    const kln_onnx_attribute *list = ref_attribute(call, "activation_params");
    if (list == NULL) {
        return ref_attribute_float(call, names[index], otherwise);
    }
    return index < list->count ? (double)list->floats[index] : otherwise;
}

static kiln_status clip(ref_call *call, const ref_value **x)
{
    const kiln_dtype dtype = (*x)->tensor.dtype;
    const ref_value *inputs[3] = {*x};
    KLN_RETURN_IF_ERROR(ref_step_number(call, dtype, parameter(call, 0, -HUGE_VAL), &inputs[1]));
    KLN_RETURN_IF_ERROR(ref_step_number(call, dtype, parameter(call, 1, HUGE_VAL), &inputs[2]));
    return ref_step(call, &(ref_operator){.name = "Clip"}, inputs, 3, x);
}

static kiln_status activate(ref_call *call, const ref_value **x)
{
    static const struct {
        const char *name;
        double alpha, beta;
    } functions[] = {{"Relu", 0.0, 0.0},       {"Sigmoid", 0.0, 0.0},     {"Tanh", 0.0, 0.0},
                     {"LeakyRelu", 0.01, 0.0}, {"HardSigmoid", 0.2, 0.5}, {"HardSwish", 0.0, 0.0},
                     {"Elu", 1.0, 0.0},        {"Softplus", 0.0, 0.0},    {"Softsign", 0.0, 0.0}};
    const char *name = ref_attribute_string(call, "activation", "");
    if (strcmp(name, "Clip") == 0) {
        return clip(call, x);
    }
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(functions); i++) {
        if (strcmp(functions[i].name, name) == 0) {
            const kln_onnx_attribute attributes[] = {
                NUMBER("alpha", parameter(call, 0, functions[i].alpha)),
                NUMBER("beta", parameter(call, 1, functions[i].beta))};
            return ref_step(call, &(ref_operator){name, 0, attributes, 2}, x, 1, x);
        }
    }
    KLN_RETURN_IF(name[0] != '\0', KILN_ERROR_UNSUPPORTED,
                  "the activation \"%.40s\" is not known; Relu, Sigmoid, Tanh, LeakyRelu, Clip, "
                  "HardSigmoid, HardSwish, Elu, Softplus and Softsign are",
                  name);
    return KILN_OK;
}

static kiln_status ref_op_fused_activation(ref_call *call)
{
    const ref_value *x = NULL;
    const char *name = call->variant == CONV ? "Conv" : "Gemm";
    const size_t count = call->node->input_count < 3 ? call->node->input_count : 3;
    KLN_RETURN_IF_ERROR(ref_step(call, &(ref_operator){.name = name}, call->inputs, count, &x));
    KLN_RETURN_IF_ERROR(add_input(call, 3, &x)); /* a convolution's summand */
    KLN_RETURN_IF_ERROR(activate(call, &x));
    return ref_give(call, 0, x);
}

/* --- products --- */

/* With `batch` the first dimension moves to the last but one position; then `flip` swaps the last
 * two. */
static kiln_status turned(ref_call *call, size_t index, bool flip, bool batch,
                          const ref_value **value)
{
    int64_t order[REF_RANK];
    *value = call->inputs[index];
    const int rank = (*value)->tensor.rank;
    if (rank < 2 || (!flip && !batch)) {
        return KILN_OK;
    }
    for (int i = 0; i < rank; i++) {
        order[i] = !batch || i == rank - 1 ? i : i == rank - 2 ? 0 : i + 1;
    }
    if (flip) {
        const int64_t last = order[rank - 1];
        order[rank - 1] = order[rank - 2];
        order[rank - 2] = last;
    }
    return ref_step_turn(call, order, value);
}

static kiln_status ref_op_fused_matmul(ref_call *call)
{
    const ref_value *a = NULL;
    const ref_value *b = NULL;
    const ref_value *y = NULL;
    KLN_RETURN_IF_ERROR(turned(call, 0, ref_attribute_int(call, "transA", 0) != 0,
                               ref_attribute_int(call, "transBatchA", 0) != 0, &a));
    KLN_RETURN_IF_ERROR(turned(call, 1, ref_attribute_int(call, "transB", 0) != 0,
                               ref_attribute_int(call, "transBatchB", 0) != 0, &b));
    KLN_RETURN_IF_ERROR(REF_STEP_OF_TWO(call, "MatMul", a, b, &y));
    const double alpha = ref_attribute_float(call, "alpha", 1.0);
    if (alpha != 1.0) {
        const ref_value *factor = NULL;
        KLN_RETURN_IF_ERROR(ref_step_number(call, y->tensor.dtype, alpha, &factor));
        KLN_RETURN_IF_ERROR(REF_STEP_OF_TWO(call, "Mul", y, factor, &y));
    }
    return ref_give(call, 0, y);
}

/* --- normalization after an addition --- */

static kiln_status ref_op_skip_norm(ref_call *call)
{
    const bool rms = call->variant == RMS_NORM;
    const size_t bias = rms ? 3 : 4;
    const kln_onnx_attribute epsilon =
        NUMBER("epsilon", ref_attribute_float(call, "epsilon", 1e-12));
    const ref_value *x = call->inputs[0];
    const ref_value *y = NULL;
    KLN_RETURN_IF(ref_wants(call, 1) || ref_wants(call, 2), KILN_ERROR_UNSUPPORTED,
                  "outputs 1 and 2, mean and deviation, are those of a training run, which is not "
                  "computed here; leave them out");
    KLN_RETURN_IF_ERROR(add_input(call, 1, &x));
    KLN_RETURN_IF_ERROR(add_input(call, bias, &x));
    const ref_value *inputs[3] = {x, call->inputs[2]};
    inputs[2] = !rms && ref_input(call, 3) != NULL ? call->inputs[3] : NULL;
    KLN_RETURN_IF_ERROR(ref_step(
        call, &(ref_operator){rms ? "RMSNormalization" : "LayerNormalization", 0, &epsilon, 1},
        inputs, rms ? 2 : 3, &y));
    KLN_RETURN_IF_ERROR(ref_give(call, 0, y));
    return ref_wants(call, 3) ? ref_give(call, 3, x) : KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_fused[] = {
    REF_OP_MS("BiasGelu", fused_gelu, GELU, "ff"),
    REF_OP_MS("FastGelu", fused_gelu, GELU_BY_TANH, "f"),
    REF_OP_MS("FusedConv", fused_activation, CONV, "ff"),
    REF_OP_MS("FusedGemm", fused_activation, GEMM, "nn"),
    REF_OP_MS("FusedMatMul", fused_matmul, 0, "ff"),
    REF_OP_MS("Gelu", fused_gelu, GELU, "f"),
    REF_OP_MS("SkipLayerNormalization", skip_norm, LAYER_NORM, "fff"),
    REF_OP_MS("SkipSimplifiedLayerNormalization", skip_norm, RMS_NORM, "fff"),
    REF_OP_MS("TransposeMatMul", fused_matmul, 0, "ff"),
    REF_KERNELS_END
};
/* clang-format on */
