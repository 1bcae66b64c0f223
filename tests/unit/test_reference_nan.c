/* SPDX-License-Identifier: Apache-2.0 */
/* What is no number stays so on the reference executor, as the standard's functions have it. */
#include "base/kln_base.h"
#include "context_test.h"

/* Runs a network with the one input "x" and frees it; the first element of output "y". */
static float run(kiln_network *network, const float *x, size_t count)
{
    owned_engine engine = NULL;
    owned_context context = open_reference(network, &engine);
    kiln_tensor tensor = tensor_in(context, "x");
    assert_int_equal(tensor.bytes, count * sizeof(float));
    memcpy(tensor.data, x, tensor.bytes);
    assert_ok(kiln_context_run(context));
    assert_ok(kiln_context_tensor(context, "y", &tensor));
    const float first = ((const float *)tensor.data)[0];
    kiln_network_destroy(network);
    return first;
}

static kiln_network *begin(kiln_shape shape, kiln_tensor_id *x)
{
    kiln_network *network = new_network();
    assert_ok(kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32, &shape, NULL, x));
    return network;
}

TEST(functions)
{
    static const char *const names[] = {
        "Abs",  "Acos",        "Acosh",     "Asin",     "Asinh",      "Atan",      "Atanh",
        "Ceil", "Celu",        "Clip",      "Cos",      "Cosh",       "Elu",       "Erf",
        "Exp",  "Floor",       "Gelu",      "Identity", "LeakyRelu",  "Log",       "LogSoftmax",
        "Mish", "HardSigmoid", "HardSwish", "Neg",      "Reciprocal", "Relu",      "Round",
        "Selu", "Sigmoid",     "Sign",      "Sin",      "Sinh",       "Softmax",   "Softplus",
        "Sqrt", "Softsign",    "Tan",       "Tanh",     "ReduceMax",  "ReduceMin", "ReduceSum"};
    const float x[] = {NAN, 0.5F};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(names); i++) {
        kiln_tensor_id in = 0;
        kiln_tensor_id y = 0;
        kiln_network *network = begin(KILN_SHAPE(2), &in);
        assert_ok(kiln_network_add_node(network, "y", NULL, 0, names[i], &in, 1, NULL, 0, &y, 1));
        assert_ok(kiln_network_mark_output(network, y));
        const float first = run(network, x, 2);
        if (!isnan(first)) {
            fail_msg("%s of NaN is %g", names[i], (double)first);
        }
    }
}

TEST(gates)
{
    static const float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    for (int kind = KILN_RECURRENT_RNN; kind <= KILN_RECURRENT_LSTM; kind++) {
        static const int64_t rows[] = {1, 3, 4};
        const kiln_weights all = {KILN_DTYPE_FLOAT32,
                                  KILN_SHAPE(1, rows[kind], 1),
                                  {ones, (size_t)rows[kind] * sizeof(float)}};
        kiln_recurrent_options options = KILN_RECURRENT_OPTIONS_INIT;
        const float x = NAN;
        kiln_tensor_id in, w, y;
        kiln_network *network = begin(KILN_SHAPE(1, 1, 1), &in);
        options.hidden_size = 1;
        assert_ok(kiln_network_add_constant(network, "w", &all, &w));
        assert_ok(kiln_network_add_recurrent(network, "y", (kiln_recurrent)kind, in, w, w, &options,
                                             &y, NULL, NULL));
        assert_ok(kiln_network_mark_output(network, y));
        assert_true(isnan(run(network, &x, 1)));
    }
}

TEST(regions)
{
    static const float box[] = {0, 0, 0, 1, 1};
    const kiln_weights boxes = {KILN_DTYPE_FLOAT32, KILN_SHAPE(1, 5), {box, sizeof box}};
    const int64_t one[] = {1, 1};
    const kiln_attribute attributes[] = {{.struct_size = sizeof(kiln_attribute),
                                          .name = "pooled_shape",
                                          .kind = KILN_ATTRIBUTE_INTS,
                                          .ints = one,
                                          .count = 2},
                                         {.struct_size = sizeof(kiln_attribute),
                                          .name = "spatial_scale",
                                          .kind = KILN_ATTRIBUTE_FLOAT,
                                          .f = 1.0F}};
    const float x[] = {NAN, 1, 2, 3};
    kiln_tensor_id in[2], y;
    kiln_network *network = begin(KILN_SHAPE(1, 1, 2, 2), &in[0]);
    assert_ok(kiln_network_add_constant(network, "boxes", &boxes, &in[1]));
    assert_ok(
        kiln_network_add_node(network, "y", NULL, 0, "MaxRoiPool", in, 2, attributes, 2, &y, 1));
    assert_ok(kiln_network_mark_output(network, y));
    assert_true(isnan(run(network, x, 4)));
}
