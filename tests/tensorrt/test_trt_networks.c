/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks of Kiln's builder in every precision, built by the real libraries.
 */
#include "base/kln_base.h"

#include "trt_test.h"

#define CHANNELS 16
#define FEATURES 64

/* Weights of one network; they stay until the engine is there. */
static unsigned char kernel_data[CHANNELS * CHANNELS * 3 * 3 * 4];
static unsigned char matrix_data[FEATURES * FEATURES * 4];
static unsigned char scale_data[2 * FEATURES * 4];
static unsigned char zero_data[FEATURES];

/* `count` numbers from -0.5 to 0.5 in `dtype`. */
static void fill(unsigned char *to, kiln_dtype dtype, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const float number = (float)(i * 37 % 101) / 101.0F - 0.5F;
        uint32_t bits;
        memcpy(&bits, &number, sizeof bits);
        if (dtype == KILN_DTYPE_FLOAT32) {
            memcpy(to + i * 4, &bits, 4);
        } else if (dtype == KILN_DTYPE_BFLOAT16) {
            const uint16_t half = (uint16_t)(bits >> 16);
            memcpy(to + i * 2, &half, 2);
        } else if (dtype == KILN_DTYPE_FLOAT16) {
            /* No number here is tiny: the exponent is moved, the fraction cut. */
            const uint32_t exponent = bits >> 23 & 0xff;
            const uint16_t half =
                (uint16_t)((bits >> 16 & 0x8000) |
                           (exponent < 113 ? 0 : (exponent - 112) << 10 | (bits >> 13 & 0x3ff)));
            memcpy(to + i * 2, &half, 2);
        } else {
            to[i] = (unsigned char)(i * 37);
        }
    }
}

static kiln_tensor_id constant(kiln_network *network, const char *name, kiln_dtype dtype,
                               kiln_shape shape, unsigned char *data)
{
    size_t count = 1;
    for (int32_t i = 0; i < shape.rank; i++) {
        count *= (size_t)shape.dims[i];
    }
    const bool packed = dtype == KILN_DTYPE_INT4;
    fill(data, dtype, packed ? count / 2 : count);
    const size_t size = packed                        ? count / 2
                        : dtype == KILN_DTYPE_FLOAT32 ? count * 4
                        : dtype == KILN_DTYPE_INT8    ? count
                                                      : count * 2;
    const kiln_weights weights = {dtype, shape, {data, size}};
    kiln_tensor_id id = KILN_NO_TENSOR;
    assert_ok(kiln_network_add_constant(network, name, &weights, &id));
    return id;
}

/* Every scale is 1/64. */
static kiln_tensor_id scales(kiln_network *network, const char *name, kiln_shape shape)
{
    kiln_tensor_id id = KILN_NO_TENSOR;
    size_t count = 1;
    for (int32_t i = 0; i < shape.rank; i++) {
        count *= (size_t)shape.dims[i];
    }
    const float scale = 1.0F / 64.0F;
    for (size_t i = 0; i < count; i++) {
        memcpy(scale_data + i * 4, &scale, 4);
    }
    const kiln_weights weights = {KILN_DTYPE_FLOAT32, shape, {scale_data, count * 4}};
    assert_ok(kiln_network_add_constant(network, name, &weights, &id));
    return id;
}

/* Convolution, ReLU, global average, softmax, all in `dtype`, over any batch. */
static kiln_network *plain(kiln_dtype dtype)
{
    /* ONNX's Conv knows bfloat16 from operator set 22 on. */
    kiln_network *network = network_of_opset(dtype == KILN_DTYPE_BFLOAT16 ? 22 : 0);
    kiln_tensor_id x = add_input(network, "x", dtype, KILN_SHAPE(KILN_DYNAMIC, CHANNELS, 32, 32));
    kiln_tensor_id y = KILN_NO_TENSOR;
    const kiln_tensor_id kernel =
        constant(network, "kernel", dtype, KILN_SHAPE(CHANNELS, CHANNELS, 3, 3), kernel_data);
    assert_ok(kiln_network_add_convolution(network, "conv", x, kernel, KILN_NO_TENSOR, NULL, &y));
    assert_ok(
        kiln_network_add_activation(network, "relu", KILN_ACTIVATION_RELU, y, 0.0F, 0.0F, &y));
    assert_ok(kiln_network_add_global_pooling(network, "pool", KILN_POOLING_AVERAGE, y, &y));
    assert_ok(kiln_network_add_softmax(network, "y", y, 1, false, &y));
    assert_ok(kiln_network_mark_output(network, y));
    return network;
}

/* The convolution again, with input and kernel quantized to int8. */
static kiln_network *int8(void)
{
    kiln_network *network = network_of_opset(0);
    kiln_tensor_id x =
        add_input(network, "x", KILN_DTYPE_FLOAT32, KILN_SHAPE(KILN_DYNAMIC, CHANNELS, 32, 32));
    kiln_tensor_id y = KILN_NO_TENSOR;
    kiln_tensor_id kernel = KILN_NO_TENSOR;
    const kiln_tensor_id scale = scales(network, "scale", KILN_SHAPE(CHANNELS));
    const kiln_weights one = {KILN_DTYPE_FLOAT32, {0, {0}}, {scale_data, 4}};
    kiln_tensor_id scalar = KILN_NO_TENSOR;
    assert_ok(kiln_network_add_constant(network, "scalar", &one, &scalar));
    const kiln_weights nil = {KILN_DTYPE_INT8, {0, {0}}, {zero_data, 1}};
    kiln_tensor_id zero = KILN_NO_TENSOR;
    assert_ok(kiln_network_add_constant(network, "zero", &nil, &zero));
    const kiln_weights nils = {KILN_DTYPE_INT8, KILN_SHAPE(CHANNELS), {zero_data, CHANNELS}};
    kiln_tensor_id zeros = KILN_NO_TENSOR;
    assert_ok(kiln_network_add_constant(network, "zeros", &nils, &zeros));
    assert_ok(kiln_network_add_quantize(network, "q", x, scalar, zero, KILN_DTYPE_INT8, 1, 0, &x));
    assert_ok(kiln_network_add_dequantize(network, "dq", x, scalar, zero, 1, 0, &x));
    kernel = constant(network, "kernel", KILN_DTYPE_INT8, KILN_SHAPE(CHANNELS, CHANNELS, 3, 3),
                      kernel_data);
    assert_ok(kiln_network_add_dequantize(network, "dqk", kernel, scale, zeros, 0, 0, &kernel));
    assert_ok(kiln_network_add_convolution(network, "y", x, kernel, KILN_NO_TENSOR, NULL, &y));
    assert_ok(kiln_network_mark_output(network, y));
    return network;
}

/* A product with weights of int4 in blocks of 32. */
static kiln_network *int4(void)
{
    kiln_network *network = network_of_opset(0);
    kiln_tensor_id x =
        add_input(network, "x", KILN_DTYPE_FLOAT32, KILN_SHAPE(KILN_DYNAMIC, FEATURES));
    kiln_tensor_id matrix =
        constant(network, "matrix", KILN_DTYPE_INT4, KILN_SHAPE(FEATURES, FEATURES), matrix_data);
    const kiln_tensor_id scale = scales(network, "scale", KILN_SHAPE(2, FEATURES));
    assert_ok(kiln_network_add_dequantize(network, "dq", matrix, scale, KILN_NO_TENSOR, 0,
                                          FEATURES / 2, &matrix));
    kiln_tensor_id y = KILN_NO_TENSOR;
    assert_ok(kiln_network_add_matrix_multiply(network, "y", x, matrix, &y));
    assert_ok(kiln_network_mark_output(network, y));
    return network;
}

static kiln_status build_with(kiln_network *network, kiln_build_options *options, kiln_dtype output)
{
    static const kiln_profile_input image[] = {{.name = "x",
                                                .min = {4, {1, CHANNELS, 32, 32}},
                                                .opt = {4, {4, CHANNELS, 32, 32}},
                                                .max = {4, {8, CHANNELS, 32, 32}}}};
    static const kiln_profile_input row[] = {{.name = "x",
                                              .min = {2, {1, FEATURES}},
                                              .opt = {2, {4, FEATURES}},
                                              .max = {2, {8, FEATURES}}}};
    kiln_tensor_id found = KILN_NO_TENSOR;
    const bool is_row = kiln_network_find(network, "matrix", &found) == KILN_OK;
    const kiln_profile profile = {.inputs = is_row ? row : image, .input_count = 1};
    options->profiles = &profile;
    options->profile_count = 1;
    owned_engine engine = NULL;
    const kiln_status status = kiln_engine_build(network, options, &engine);
    if (status == KILN_OK) {
        const kiln_binding binding = output_at(engine, 0);
        assert_string_equal(binding.name, "y");
        assert_int_equal(binding.dtype, output);
        assert_int_equal(binding.shape.dims[0], KILN_DYNAMIC);
    }
    kiln_network_destroy(network);
    return status;
}

static kiln_status build(kiln_network *network, const char *library, kiln_dtype output)
{
    kiln_build_options options = trt_test_options(library);
    return build_with(network, &options, output);
}

TEST(float_networks_build_with_each_version)
{
    static const kiln_dtype dtypes[] = {KILN_DTYPE_FLOAT32, KILN_DTYPE_FLOAT16,
                                        KILN_DTYPE_BFLOAT16};
    int built = 0;
    for (size_t v = 0; trt_test_rtx[v] != NULL; v++) {
        const char *library = trt_test_library("rtx", trt_test_rtx[v]);
        for (size_t d = 0; library != NULL && d < 3; d++) {
            assert_ok(build(plain(dtypes[d]), library, dtypes[d]));
            built++;
        }
    }
    SKIP_IF(built == 0);
}

TEST(quantized_networks_build)
{
    const char *library = trt_test_newest();
    assert_ok(build(int8(), library, KILN_DTYPE_FLOAT32));
    assert_ok(build(int4(), library, KILN_DTYPE_FLOAT32));
}

/* RTX 1.4 quantizes only where the GPU is: it is told with the library's own words. */
TEST(what_an_old_version_cannot_quantize_is_explained)
{
    const char *library = trt_test_library("rtx", "1.4.0.76");
    SKIP_IF(library == NULL);
    SKIP_IF(kiln_device_count() > 0);
    assert_fails(KILN_ERROR_BACKEND, build(int8(), library, KILN_DTYPE_FLOAT32),
                 "TensorRT-RTX 1.4.0 builds no plan: TensorRT says: ");
}

/* Without a GPU a plan can be built whose weights may stay on the host; the others are told what
 * they lack. */
TEST(weights_that_may_be_replaced_need_a_gpu)
{
    static const struct {
        kiln_refit_mode refit;
        bool strip, streaming;
        bool built;
    } all[] = {{KILN_REFIT_ALL, false, false, false},
               {KILN_REFIT_IDENTICAL, false, false, false},
               {KILN_REFIT_ALL, true, false, false},
               {KILN_REFIT_NONE, true, false, false},
               {KILN_REFIT_NONE, false, true, true}};
    int built = 0;
    SKIP_IF(kiln_device_count() > 0);
    for (size_t v = 0; trt_test_rtx[v] != NULL; v++) {
        const char *library = trt_test_library("rtx", trt_test_rtx[v]);
        for (size_t i = 0; library != NULL && i < KLN_ARRAY_LENGTH(all); i++) {
            kiln_build_options options = trt_test_options(library);
            options.refit = all[i].refit;
            options.strip_plan = all[i].strip;
            options.weight_streaming = all[i].streaming;
            const kiln_status status =
                build_with(plain(KILN_DTYPE_FLOAT32), &options, KILN_DTYPE_FLOAT32);
            assert_int_equal(status, all[i].built ? KILN_OK : KILN_ERROR_NO_DEVICE);
            if (!all[i].built) {
                assert_message(
                    "for most networks it needs a GPU to build one whose weights can be "
                    "replaced, and ");
                assert_message("TensorRT says: ");
            }
            built++;
        }
    }
    SKIP_IF(built == 0);
}

TESTS_BEGIN(trt_test_begin)
