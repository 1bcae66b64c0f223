/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests share that run over the stand-in for TensorRT
 * (tests/fake/tensorrt/fake_tensorrt.hpp), which in turn runs over the stand-in for CUDA. The same
 * files are compiled once more for a real library and a GPU, with KILN_TEST_REAL_TENSORRT
 * (tests/gpu/real_tensorrt_test.h): what only a stand-in can show is a STAND_IN_TEST, or behind
 * ON_STAND_IN. */
#ifndef FAKE_TENSORRT_TEST_H
#define FAKE_TENSORRT_TEST_H

#include "graph_maker.h"

#ifdef KILN_TEST_REAL_TENSORRT
#include "real_tensorrt_test.h"
#else
#include "fake_cuda_test.h"

#define ON_STAND_IN true
/* Where one does for all. */
#define SOME_LAYOUT LAYOUT_11

/* Each layout, and the oldest version of one, where many methods have their first names. */
static const struct fake_layout {
    const char *folder;
    const char *file;
    const char *version; /* what KILN_FAKE_TENSORRT says, or NULL */
    const char *name;
} fake_layouts[] = {
    {"10", "libnvinfer.so.10", NULL, "TensorRT 10.16.1"},
    {"11", "libnvinfer.so.11", NULL, "TensorRT 11.4.0"},
    {"rtx14", "libtensorrt_rtx.so.1", NULL, "TensorRT-RTX 1.4.0"},
    {"rtx15", "libtensorrt_rtx.so.1", NULL, "TensorRT-RTX 1.7.1"},
    {"10/.", "libnvinfer.so.10", "100000", "TensorRT 10.0.0"},
};
#define FAKE_LAYOUTS KLN_ARRAY_LENGTH(fake_layouts)
#define LAYOUT_10 0
#define LAYOUT_11 1
#define LAYOUT_RTX_14 2
#define LAYOUT_RTX_15 3
#define LAYOUT_OLDEST 4

/* One of the stand-in's folders: "10". */
static inline const char *fake_place(const char *name)
{
    char below[64];
    (void)snprintf(below, sizeof below, "fake/tensorrt/%s", name);
    return kiln_test_built(below);
}

static inline const char *fake_folder(size_t layout)
{
    return fake_place(fake_layouts[layout].folder);
}

static inline bool is_rtx(size_t layout)
{
    return layout == LAYOUT_RTX_14 || layout == LAYOUT_RTX_15;
}

/* Whether what came with TensorRT `version` (101200) is there. */
static inline bool has_since(size_t layout, int32_t version)
{
    return layout != LAYOUT_OLDEST;
}

/* The library of a layout stays open as long as the process. */
static inline void *fake_function(size_t layout, const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", fake_folder(layout), fake_layouts[layout].file);
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(handle);
    void *address = dlsym(handle, name);
    assert_non_null(address);
    return address;
}

/* "calls", "stray", "live", "fault", "compilations", "streamed", "loads", "measured". */
static inline long trt_number(size_t layout, const char *what)
{
    void *address = fake_function(layout, "fake_tensorrt_number");
    long (*call)(const char *) = NULL;
    memcpy(&call, &address, sizeof call);
    return call(what);
}

/* Call `which` from now on fails and gives `null`; 0: none. */
static inline void trt_fail_at(size_t layout, long which, long null)
{
    void *address = fake_function(layout, "fake_tensorrt_fail");
    void (*call)(long, long) = NULL;
    memcpy(&call, &address, sizeof call);
    call(which, null);
}

static inline kiln_build_options fake_options(size_t layout)
{
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = "tensorrt", .library = fake_folder(layout));
    set("KILN_FAKE_TENSORRT", fake_layouts[layout].version);
    return options;
}

/* Nothing of the stand-ins' is left, and nothing was called that they do not have. */
static inline int end_fake_tensorrt(void **state)
{
    (void)kiln_build_release_builders();
    for (size_t i = 0; i < FAKE_LAYOUTS; i++) {
        assert_int_equal(trt_number(i, "live"), 0);
        assert_int_equal(trt_number(i, "stray"), 0);
    }
    set("KILN_FAKE_TENSORRT", NULL);
    return end_fake(state);
}

#define TENSORRT_TEST(name) TEST_WITH(name, begin_fake, end_fake_tensorrt)
/* A test that a real library cannot run, and why. */
#define STAND_IN_TEST(name, why) TENSORRT_TEST(name)
#endif

/* Tests of one layout `i`, called for each. */
#define LAYOUTS_TEST(name) EACH_OF(TENSORRT_TEST(name), name, i, FAKE_LAYOUTS)
#define STAND_IN_LAYOUTS_TEST(name, why) EACH_OF(STAND_IN_TEST(name, why), name, i, FAKE_LAYOUTS)
/* One profile of these inputs for these options, as long as the block. */
#define ONE_PROFILE(options, inputs_, count) \
    ((options).profile_count = 1,            \
     (void)((options).profiles = &(kiln_profile){.inputs = (inputs_), .input_count = (count)}))

/* --- networks; each has the input x and the output y --- */

static inline kiln_tensor_id add_floats(kiln_network *network, const char *name, kiln_shape shape,
                                        const float *values)
{
    kiln_weights weights = {KILN_DTYPE_FLOAT32, shape, {values, 0}};
    kiln_tensor_id tensor;
    assert_ok(kiln_tensor_bytes(weights.dtype, &shape, &weights.data.size));
    assert_ok(kiln_network_add_constant(network, name, &weights, &tensor));
    return tensor;
}

/* y = relu(x), x [n, 4]. */
static inline kiln_network *relu_network(void)
{
    return made_network(NULL, "in x float32[?,4]; y=Relu(x); out y");
}

/* Of a plan for one of these small networks; those of a real library are larger. */
#define PLAN_ROOM (ON_STAND_IN ? 8192 : 1 << 20)

static const float fake_kernel[18] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0};
static const float fake_bias[2] = {10, 20};

/* y = convolution of x [1, 1, 4, 4] with "w" [2, 1, 3, 3] and "b" [2]. */
static inline kiln_network *conv_network(void)
{
    return made_network(fake_kernel,
                        "in x float32[1,1,4,4]; floats w float32[2,1,3,3]; "
                        "b={10.0,20.0}; y=Conv(x,w,b); out y");
}

/* y = x [n, 4] reshaped to "shape", two numbers that lie on the host; s = the shape of y. */
static inline kiln_network *reshape_network(void)
{
    return made_network(NULL,
                        "in x float32[?,4]; in shape int64[2]; y=Reshape(x,shape); "
                        "s=Shape(y); out y; out s");
}

/* y = the places in x [n] that are not 0. */
static inline kiln_span nonzero_model(void)
{
    return made_model(17, "in x float32[n]; y=NonZero(x); out y int64[1,k]");
}

static inline kiln_profile_input rows(int64_t least, int64_t usual, int64_t most)
{
    return (kiln_profile_input){.name = "x",
                                .min = KILN_SHAPE(least, 4),
                                .opt = KILN_SHAPE(usual, 4),
                                .max = KILN_SHAPE(most, 4)};
}

static inline kiln_engine *build_network(kiln_network *network, const kiln_build_options *options)
{
    kiln_engine *engine = built_network(network, options);
    kiln_network_destroy(network);
    return engine;
}

/* relu over profiles of 1 to 2 and of 3 to 8 rows. */
static inline kiln_engine *build_relu(size_t layout)
{
    const kiln_profile_input few = rows(1, 2, 2);
    const kiln_profile_input many = rows(3, 4, 8);
    const kiln_profile profiles[] = {{.inputs = &few, .input_count = 1},
                                     {.inputs = &many, .input_count = 1}};
    kiln_build_options options = fake_options(layout);
    options.profiles = profiles;
    options.profile_count = 2;
    return build_network(relu_network(), &options);
}

static inline kiln_tensor host_floats(float *data, kiln_shape shape)
{
    size_t bytes = 0;
    assert_ok(kiln_tensor_bytes(KILN_DTYPE_FLOAT32, &shape, &bytes));
    return KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, shape, data, bytes);
}

/* One run with x = these values; y is the context's. */
static inline kiln_tensor run_floats(kiln_context *context, kiln_shape shape, float *values)
{
    const kiln_tensor x = host_floats(values, shape);
    assert_ok(kiln_context_bind(context, "x", &x));
    assert_ok(kiln_context_run(context));
    const kiln_tensor y = tensor_in(context, "y");
    return y;
}

#endif
