/* SPDX-License-Identifier: Apache-2.0 */
/* A network made in C, with weights of its own: which way do the stripes run?
 *
 *     03_build_network [FILE.onnx]
 *
 * The lesson, in the order of main:
 *
 *   1. make      layers, one call each; weights stay where they are and are never copied
 *   2. check     everything that is wrong with it, before any backend sees it
 *   3. save      as an ONNX file, which Netron and every other tool opens
 *   4. build     an engine, on the best backend that is here
 *   5. run       four pictures in one batch
 *
 * The network is a small convolutional classifier: a convolution that looks for lines in four
 * directions, a depthwise-separable block, the average over the picture, a linear layer and a
 * softmax. Its weights are thought out instead of trained, so that they fit on this page. The
 * program ends with 1 if a picture is taken for another. */
#include <stdio.h>

#include <kiln/kiln.h>

#define CLASSES 4
#define SIZE 16 /* pixels along one side */

/* --- the weights: static, so they outlive network and engine --- */

/* A line of its own direction gives 6, a flat area gives 0: [filters, 1, 3, 3]. */
static const float line_kernel[CLASSES][3][3] = {
    {{-1, -1, -1}, {2, 2, 2}, {-1, -1, -1}}, /* horizontal */
    {{-1, 2, -1}, {-1, 2, -1}, {-1, 2, -1}}, /* vertical */
    {{-1, -1, 2}, {-1, 2, -1}, {2, -1, -1}}, /* rising */
    {{2, -1, -1}, {-1, 2, -1}, {-1, -1, 2}}, /* falling */
};

/* Depthwise: each channel is blurred by itself: [channels, 1, 3, 3]. */
#define NINTH (1.0F / 9.0F)
#define BLUR                                          \
    {                                                 \
        {NINTH, NINTH, NINTH}, {NINTH, NINTH, NINTH}, \
        {                                             \
            NINTH, NINTH, NINTH                       \
        }                                             \
    }
static const float blur_kernel[CLASSES][3][3] = {BLUR, BLUR, BLUR, BLUR};

/* Pointwise: each direction holds the others down: [outputs, inputs, 1, 1]. */
static const float mix_kernel[CLASSES][CLASSES] = {
    {1.0F, -0.2F, -0.2F, -0.2F},
    {-0.2F, 1.0F, -0.2F, -0.2F},
    {-0.2F, -0.2F, 1.0F, -0.2F},
    {-0.2F, -0.2F, -0.2F, 1.0F},
};

/* The linear layer makes the differences clear: [inputs, outputs], and [outputs]. */
static const float head_weight[CLASSES][CLASSES] = {
    {8, 0, 0, 0}, {0, 8, 0, 0}, {0, 0, 8, 0}, {0, 0, 0, 8}};
static const float head_bias[CLASSES] = {0, 0, 0, 0};

static const char *const class_names[CLASSES] = {"horizontal", "vertical", "rising", "falling"};

/* --- 1. make --- */

/* Every call that can fail returns a kiln_status; the sentence waits in kiln_error_message. */
#define TRY(call)                           \
    do {                                    \
        const kiln_status status_ = (call); \
        if (status_ != KILN_OK) {           \
            return status_;                 \
        }                                   \
    } while (0)

static kiln_status add_weights(kiln_network *network, const char *name, kiln_shape shape,
                               const void *data, size_t size, kiln_tensor_id *id)
{
    const kiln_weights weights = {KILN_DTYPE_FLOAT32, shape, {data, size}};
    return kiln_network_add_constant(network, name, &weights, id);
}

/* A convolution that keeps the picture's size, and a ReLU after it. */
static kiln_status add_convolution(kiln_network *network, const char *name, kiln_tensor_id input,
                                   kiln_tensor_id kernel, int64_t groups, kiln_tensor_id *output)
{
    kiln_tensor_id sum;
    kiln_convolution_options options =
        KILN_CONVOLUTION_OPTIONS(.padding_mode = KILN_PADDING_SAME_UPPER, .groups = groups);
    TRY(kiln_network_add_convolution(network, name, input, kernel, KILN_NO_TENSOR, &options, &sum));
    /* Without a name, Kiln makes one up. */
    return kiln_network_add_activation(network, NULL, KILN_ACTIVATION_RELU, sum, 0.0F, 0.0F,
                                       output);
}

static kiln_status add_layers(kiln_network *network)
{
    const kiln_shape pictures = KILN_SHAPE(KILN_DYNAMIC, 1, SIZE, SIZE);
    const char *const dimensions[] = {"batch", NULL, NULL, NULL};
    kiln_tensor_id x, lines, blur, mix, weight, bias, y;
    TRY(kiln_network_add_input(network, "pictures", KILN_DTYPE_FLOAT32, &pictures, dimensions, &x));

    TRY(add_weights(network, "line.kernel", KILN_SHAPE(CLASSES, 1, 3, 3), line_kernel,
                    sizeof line_kernel, &lines));
    TRY(add_convolution(network, "line", x, lines, 1, &y));

    TRY(add_weights(network, "blur.kernel", KILN_SHAPE(CLASSES, 1, 3, 3), blur_kernel,
                    sizeof blur_kernel, &blur));
    TRY(add_convolution(network, "blur", y, blur, CLASSES, &y));
    TRY(add_weights(network, "mix.kernel", KILN_SHAPE(CLASSES, CLASSES, 1, 1), mix_kernel,
                    sizeof mix_kernel, &mix));
    TRY(add_convolution(network, "mix", y, mix, 1, &y));

    TRY(kiln_network_add_global_pooling(network, "mean", KILN_POOLING_AVERAGE, y, &y));
    TRY(kiln_network_add_flatten(network, "features", y, 1, &y));
    TRY(add_weights(network, "head.weight", KILN_SHAPE(CLASSES, CLASSES), head_weight,
                    sizeof head_weight, &weight));
    TRY(add_weights(network, "head.bias", KILN_SHAPE(CLASSES), head_bias, sizeof head_bias, &bias));
    TRY(kiln_network_add_gemm(network, "scores", y, weight, bias, NULL, &y));
    TRY(kiln_network_add_softmax(network, "probabilities", y, 1, false, &y));
    return kiln_network_mark_output(network, y);
}

/* --- 2. check --- */

static void print_issues(const kiln_issue_list *issues)
{
    for (size_t i = 0; i < kiln_issue_list_count(issues); i++) {
        fprintf(stderr, "  %s\n", kiln_issue_list_get(issues, i)->sentence);
    }
}

static kiln_status check(const kiln_network *network)
{
    kiln_issue_list *issues = NULL;
    TRY(kiln_network_validate(network, NULL, &issues));
    printf("check: %zu problems\n", kiln_issue_list_count(issues));
    print_issues(issues);
    kiln_issue_list_destroy(issues);
    return KILN_OK;
}

/* --- 4. build --- */

static kiln_status build(const kiln_network *network, kiln_engine **engine)
{
    /* The batch is dynamic. Some backends (TensorRT) want to know how large it will be; the others
     * run any. */
    const kiln_profile_input range = {.name = "pictures",
                                      .min = KILN_SHAPE(1, 1, SIZE, SIZE),
                                      .opt = KILN_SHAPE(CLASSES, 1, SIZE, SIZE),
                                      .max = KILN_SHAPE(32, 1, SIZE, SIZE)};
    const kiln_profile profile = {.inputs = &range, .input_count = 1};
    kiln_issue_list *issues = NULL;
    kiln_backend_info info = {.struct_size = sizeof info};
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.profiles = &profile, .profile_count = 1, .issues = &issues);
    const kiln_status status = kiln_engine_build(network, &options, engine);
    print_issues(issues); /* where the network is why it failed, all that is wrong with it */
    kiln_issue_list_destroy(issues);
    if (status == KILN_OK) {
        TRY(kiln_engine_backend(*engine, &info));
        printf("build: %s %s\n", info.name, info.version);
    }
    return status;
}

/* --- 5. run --- */

/* One line in five: picture k has the stripes of class k. */
static void draw(float pictures[CLASSES][SIZE][SIZE])
{
    for (int row = 0; row < SIZE; row++) {
        for (int column = 0; column < SIZE; column++) {
            pictures[0][row][column] = row % 5 == 2 ? 1.0F : 0.0F;
            pictures[1][row][column] = column % 5 == 2 ? 1.0F : 0.0F;
            pictures[2][row][column] = (row + column) % 5 == 2 ? 1.0F : 0.0F;
            pictures[3][row][column] = (row - column + 5 * SIZE) % 5 == 2 ? 1.0F : 0.0F;
        }
    }
}

/* Prints what each picture is taken for; `*right` counts those that are what they are. */
static void tell(const float *probabilities, int *right)
{
    for (int picture = 0; picture < CLASSES; picture++) {
        const float *row = probabilities + (ptrdiff_t)picture * CLASSES;
        int best = 0;
        for (int k = 1; k < CLASSES; k++) {
            best = row[k] > row[best] ? k : best;
        }
        printf("run:   %-10s is %-10s %5.1f %%\n", class_names[picture], class_names[best],
               (double)row[best] * 100.0);
        *right += best == picture;
    }
}

static kiln_status run(kiln_engine *engine, int *right)
{
    static float pictures[CLASSES][SIZE][SIZE];
    kiln_named_tensor input = {
        "pictures", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(CLASSES, 1, SIZE, SIZE),
                                     pictures, sizeof pictures)};
    /* Without memory of ours, the output shows the context's own. */
    kiln_named_tensor output = {.name = "probabilities"};
    kiln_context *context = NULL;
    draw(pictures);
    TRY(kiln_context_create(engine, NULL, &context));
    const kiln_status status = kiln_context_run_tensors(context, &input, 1, &output, 1);
    if (status == KILN_OK) {
        tell(output.tensor.data, right);
    }
    kiln_context_destroy(context);
    return status;
}

int main(int count, char **arguments)
{
    const char *path = count > 1 ? arguments[1] : "stripes.onnx";
    kiln_network *network = NULL;
    kiln_engine *engine = NULL;
    int right = 0;
    kiln_status status = kiln_network_create(NULL, &network);
    if (status == KILN_OK) {
        status = add_layers(network);
    }
    if (status == KILN_OK) {
        status = check(network);
    }
    if (status == KILN_OK) {
        status = kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE); /* 3. */
    }
    if (status == KILN_OK) {
        printf("save:  %s\n", path);
        status = build(network, &engine);
    }
    if (status == KILN_OK) {
        status = run(engine, &right);
    }
    if (status != KILN_OK) {
        fprintf(stderr, "%s\n", kiln_error_message());
    }
    kiln_engine_release(engine);
    kiln_network_destroy(network);
    return status == KILN_OK && right == CLASSES ? 0 : 1;
}
