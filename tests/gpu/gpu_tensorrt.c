/* SPDX-License-Identifier: Apache-2.0 */
/* What only a real TensorRT on a real GPU can show: threads, two libraries in one process, streams,
 * shapes, plugins. */
#include "fake_tensorrt_test.h"
#include "graph_maker.h"

static kiln_engine *conv_engine(void)
{
    const kiln_build_options options = fake_options(SOME_LAYOUT);
    return build_network(conv_network(), &options);
}

static void check_conv(kiln_context *context)
{
    float x[16];
    for (int i = 0; i < 16; i++) {
        x[i] = 1;
    }
    const kiln_tensor y = run_floats(context, KILN_SHAPE(1, 1, 4, 4), x);
    assert_true(((const float *)y.data)[0] == 19 && ((const float *)y.data)[4] == 22);
    /* The input lies on this stack. */
    const kiln_tensor none = {.data = NULL};
    assert_ok(kiln_context_bind(context, "x", &none));
}

/* --- several at once --- */

typedef struct job {
    kiln_engine *engine;
    bool is_relu;
    int runs;
    int wrong;
} job;

static int wrong_relu(kiln_context *context, int run)
{
    float x[32];
    kiln_tensor y;
    const int64_t count = 1 + run % 8;
    for (int i = 0; i < 32; i++) {
        x[i] = (float)((i + run) % 5 - 2);
    }
    const kiln_tensor input = host_floats(x, KILN_SHAPE(count, 4));
    if (kiln_context_bind(context, "x", &input) != KILN_OK ||
        kiln_context_run(context) != KILN_OK || kiln_context_tensor(context, "y", &y) != KILN_OK ||
        y.desc.shape.dims[0] != count) {
        return 1;
    }
    int wrong = 0;
    for (int64_t i = 0; i < count * 4; i++) {
        wrong += ((const float *)y.data)[i] != (x[i] > 0 ? x[i] : 0);
    }
    return wrong;
}

static int wrong_conv(kiln_context *context, int run)
{
    float x[16];
    kiln_tensor y;
    for (int i = 0; i < 16; i++) {
        x[i] = (float)(run % 9);
    }
    const kiln_tensor input = host_floats(x, KILN_SHAPE(1, 1, 4, 4));
    if (kiln_context_bind(context, "x", &input) != KILN_OK ||
        kiln_context_run(context) != KILN_OK || kiln_context_tensor(context, "y", &y) != KILN_OK) {
        return 1;
    }
    const float *values = y.data;
    return (values[0] != (float)(10 + 9 * (run % 9))) + (values[4] != (float)(20 + 2 * (run % 9)));
}

static void *run_job(void *user)
{
    job *self = user;
    owned_context context = NULL;
    if (kiln_context_create(self->engine, NULL, &context) != KILN_OK) {
        self->wrong++;
        return NULL;
    }
    for (int run = 0; run < self->runs; run++) {
        self->wrong += self->is_relu ? wrong_relu(context, run) : wrong_conv(context, run);
    }
    return NULL;
}

TENSORRT_TEST(eight_threads_run_two_engines)
{
    kiln_engine *engines[2] = {conv_engine(), build_relu(SOME_LAYOUT)};
    job jobs[8];
    for (size_t i = 0; i < 8; i++) {
        jobs[i] = (job){engines[i % 2], i % 2 != 0, 2000, 0};
    }
    kiln_test_in_threads(8, run_job, jobs, sizeof *jobs);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(jobs[i].wrong, 0);
    }
    kiln_engine_release(engines[0]);
    kiln_engine_release(engines[1]);
}

static void *build_job(void *user)
{
    kiln_engine **engine = user;
    const kiln_build_options options = fake_options(SOME_LAYOUT);
    kiln_network *network = conv_network();
    const kiln_status status = kiln_engine_build(network, &options, engine);
    kiln_network_destroy(network);
    return status == KILN_OK ? NULL : user; /* *engine is NULL then */
}

/* Builds in several threads, while others run. */
TENSORRT_TEST(builds_and_runs_go_side_by_side)
{
    owned_engine engine = conv_engine();
    kiln_engine *built[3] = {NULL};
    job running = {engine, false, 3000, 0};
    pthread_t threads[4];
    assert_int_equal(pthread_create(&threads[3], NULL, run_job, &running), 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, build_job, &built[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(running.wrong, 0);
    for (size_t i = 0; i < 3; i++) {
        assert_non_null(built[i]);
        kiln_context *context = context_on(built[i]);
        check_conv(context);
        kiln_context_destroy(context);
        kiln_engine_release(built[i]);
    }
}

/* KILN_TENSORRT_OTHER: another version, or a lean runtime, in the same process. */
TENSORRT_TEST(two_libraries_live_in_one_process)
{
    const char *other = getenv("KILN_TENSORRT_OTHER");
    if (other == NULL) {
        print_message("  KILN_TENSORRT_OTHER names no second library\n");
        skip();
    }
    const char *plan = kiln_test_path("mine.plan");
    owned_engine engine = conv_engine();
    kiln_engine *refused = NULL;
    assert_ok(kiln_engine_save(engine, plan));
    kiln_build_options options = fake_options(SOME_LAYOUT);
    for (int round = 0; round < 3; round++) {
        options.library = other;
        assert_int_not_equal(kiln_engine_load(plan, &options, &refused), KILN_OK);
        if (round == 0) {
            print_message("  %.300s\n", kiln_error_message());
        }
        owned_context context = context_on(engine);
        check_conv(context);
    }
}

/* --- streams --- */

TENSORRT_TEST(enqueue_orders_into_the_callers_stream)
{
    owned_engine engine = build_relu(SOME_LAYOUT);
    kiln_context *contexts[2] = {NULL};
    kiln_buffer *buffers[3];
    kiln_tensor tensors[3];
    float x[32];
    float y[32];
    owned_stream stream = stream_on(0);
    for (size_t i = 0; i < 3; i++) {
        assert_ok(kiln_buffer_create(KILN_LOCATION_DEVICE, 0, sizeof x, &buffers[i]));
        assert_ok(
            kiln_buffer_tensor(buffers[i], 0, KILN_DTYPE_FLOAT32, &KILN_SHAPE(8, 4), &tensors[i]));
    }
    for (size_t i = 0; i < 2; i++) {
        assert_ok(kiln_context_create(engine, NULL, &contexts[i]));
        assert_ok(kiln_context_bind(contexts[i], "x", &tensors[i]));
        assert_ok(kiln_context_bind(contexts[i], "y", &tensors[i + 1]));
    }
    for (int run = 0; run < 200; run++) {
        for (int i = 0; i < 32; i++) {
            x[i] = (float)((i * 7 + run) % 11 - 5);
        }
        assert_ok(kiln_buffer_write(buffers[0], 0, (kiln_span){x, sizeof x}, stream));
        assert_ok(kiln_context_enqueue(contexts[0], stream));
        assert_ok(kiln_context_enqueue(contexts[1], stream));
        assert_ok(kiln_buffer_read(buffers[2], 0, (kiln_mutable_span){y, sizeof y}, stream));
        assert_ok(kiln_stream_synchronize(stream));
        for (int i = 0; i < 32; i++) {
            assert_true(y[i] == (x[i] > 0 ? x[i] : 0));
        }
    }
    for (size_t i = 0; i < 2; i++) {
        kiln_context_destroy(contexts[i]);
    }
    for (size_t i = 0; i < 3; i++) {
        kiln_buffer_destroy(buffers[i]);
    }
}

/* --- shapes --- */

static kiln_engine *relu_of(kiln_profile_input input)
{
    kiln_build_options options = fake_options(SOME_LAYOUT);
    ONE_PROFILE(options, &input, 1);
    return build_network(relu_network(), &options);
}

TENSORRT_TEST(empty_tensors_run)
{
    owned_engine engine = relu_of(rows(0, 2, 8));
    owned_context context = context_on(engine);
    float x[32] = {-1, 2, -3, 4};
    for (int run = 0; run < 12; run++) {
        const int64_t count = run % 3 == 0 ? 0 : run % 3;
        const kiln_tensor y = run_floats(context, KILN_SHAPE(count, 4), x);
        assert_true(kiln_shape_equal(&y.desc.shape, &KILN_SHAPE(count, 4)));
        assert_true(count == 0 || ((const float *)y.data)[3] == 4.0F);
    }
}

/* Each run's outputs are there when it ends, however they travel and however that is known. */
TENSORRT_TEST(what_a_run_writes_is_there_when_it_ends)
{
    static const int64_t counts[] = {8, 4096, 65536};
    static float x[65536 * 4];
    owned_engine engine = relu_of(rows(8, 4096, 65536));
    for (size_t i = 0; i < 2 * KLN_ARRAY_LENGTH(counts); i++) {
        const size_t last = (size_t)counts[i / 2] * 4 - 1;
        owned_context context = context_on(engine);
        int wrong = 0;
        for (int run = 1; run < 3000; run++) {
            const float value = (float)run;
            x[0] = x[last / 2] = x[last] = value;
            if (run == 3 && i % 2 != 0) {
                assert_ok(kiln_context_warmup(context, 3, 0, NULL));
            }
            const kiln_tensor y = run_floats(context, KILN_SHAPE(counts[i / 2], 4), x);
            const float *found = y.data;
            wrong += found[0] != value || found[last / 2] != value || found[last] != value;
        }
        assert_int_equal(wrong, 0);
    }
}

static double processor_seconds(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* 64 MiB there and back take some 2.5 ms, most of which the waiting thread sleeps through. */
TENSORRT_TEST(a_run_that_is_slept_through_is_whole)
{
    enum { ROWS = 4 << 20, LAST = ROWS * 4 - 1, RUNS = 200 };
    owned_engine engine = relu_of(rows(8, 4096, ROWS));
    owned_context context = context_on(engine);
    kiln_tensor x;
    kiln_tensor y;
    int wrong = 0;
    assert_ok(kiln_context_reshape(context, "x", &KILN_SHAPE(ROWS, 4)));
    assert_ok(kiln_context_tensor(context, "x", &x));
    memset(x.data, 0, x.bytes);
    assert_ok(kiln_context_warmup(context, 3, 0, NULL));
    const uint64_t begin = kln_now();
    const double before = processor_seconds();
    for (int run = 1; run <= RUNS; run++) {
        assert_ok(kiln_context_tensor(context, "x", &x));
        float *given = x.data;
        given[0] = given[LAST / 2] = given[LAST] = (float)run;
        assert_ok(kiln_context_run(context));
        assert_ok(kiln_context_tensor(context, "y", &y));
        const float *found = y.data;
        wrong +=
            found[0] != (float)run || found[LAST / 2] != (float)run || found[LAST] != (float)run;
    }
    print_message("a run took %.2f ms, %.2f ms of a processor\n",
                  (double)(kln_now() - begin) / 1e6 / RUNS,
                  (processor_seconds() - before) * 1e3 / RUNS);
    assert_int_equal(wrong, 0);
}

/* Boxes 0 and 1 overlap, 2 lies apart, 3 scores too little: 0 and 2 are kept. */
static float boxes[16] = {0, 0, 10, 10, 1, 0, 11, 10, 20, 20, 30, 30, 40, 40, 50, 50};
static float scores[4] = {0.9F, 0.8F, 0.7F, 0.1F};

TENSORRT_TEST(suppression_gives_as_many_as_there_are)
{
    kiln_network *network = new_network();
    kiln_nms_options how =
        KILN_NMS_OPTIONS(.max_boxes = 10, .iou_threshold = 0.5F, .score_threshold = 0.25F);
    const kiln_tensor_id b = add_input(network, "boxes", KILN_DTYPE_FLOAT32, KILN_SHAPE(1, 4, 4));
    const kiln_tensor_id s = add_input(network, "scores", KILN_DTYPE_FLOAT32, KILN_SHAPE(1, 1, 4));
    kiln_tensor_id y;
    assert_ok(kiln_network_add_nms(network, "y", b, s, &how, &y));
    assert_ok(kiln_network_mark_output(network, y));
    const kiln_build_options options = fake_options(SOME_LAYOUT);
    owned_engine engine = build_network(network, &options);
    owned_context context = context_on(engine);
    for (int run = 0; run < 6; run++) {
        float mine[4];
        memcpy(mine, scores, sizeof mine);
        mine[2] = run % 2 == 0 ? 0.7F : 0.2F;
        bind_tensor(context, "boxes", host_floats(boxes, KILN_SHAPE(1, 4, 4)));
        bind_tensor(context, "scores", host_floats(mine, KILN_SHAPE(1, 1, 4)));
        assert_ok(kiln_context_run(context));
        const kiln_tensor found = tensor_in(context, "y");
        assert_int_equal(found.desc.shape.dims[0], run % 2 == 0 ? 2 : 1);
        assert_int_equal(((const int64_t *)found.data)[2], 0);
        assert_true(run % 2 != 0 || ((const int64_t *)found.data)[5] == 2);
    }
}

/* As torchvision's detectors have it: TensorRT 10.6 builds no plan of the If. */
TENSORRT_TEST(suppression_may_be_guarded)
{
    static const struct {
        float scores[4];
        int64_t rows;
    } runs[] = {{{0.9F, 0.8F, 0.7F, 0.1F}, 2},
                {{0.1F, 0.1F, 0.1F, 0.1F}, 0},
                {{0.1F, 0.1F, 0.7F, 0.1F}, 1}};
    owned_network network = made_network(
        NULL,
        "in boxes float32[4,4]; in scores float32[4]; quarter={0.25}; at={0}; null=0; "
        "over=Greater(scores,quarter); places=NonZero(over); i=Squeeze(places,at); "
        "x=Gather(boxes,i); s=Gather(scores,i); n=Shape(x); product=ReduceProd(n) keepdims=0; "
        "e=Equal(product,null); k=If(e) then_branch={zeros none int64[0]; out none int64} "
        "else_branch={b=Unsqueeze(x,at); r=Unsqueeze(s,at); p=Unsqueeze(r,at); all={10}; "
        "half={0.5}; q=NonMaxSuppression(b,p,all,half); two={2}; g=Gather(q,two) axis=1; "
        "one={1}; keep=Squeeze(g,one); out keep int64}; y=Gather(x,k); out y float32[m,4]");
    const kiln_build_options options = fake_options(SOME_LAYOUT);
    owned_engine engine = NULL;
    assert_ok(kiln_engine_build(network, &options, &engine));
    owned_context context = context_on(engine);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(runs); i++) {
        float mine[4];
        memcpy(mine, runs[i].scores, sizeof mine);
        bind_tensor(context, "boxes", host_floats(boxes, KILN_SHAPE(4, 4)));
        bind_tensor(context, "scores", host_floats(mine, KILN_SHAPE(4)));
        assert_ok(kiln_context_run(context));
        const kiln_tensor y = tensor_in(context, "y");
        assert_int_equal(y.desc.shape.dims[0], runs[i].rows);
        assert_true(runs[i].rows != 1 || ((const float *)y.data)[0] == 20);
    }
}

/* --- plugins --- */

TENSORRT_TEST(nvidias_plugins_are_there)
{
    const char *library = fake_folder(0);
    size_t count = 0;
    bool found = false;
    assert_ok(kiln_plugin_count(library, &count));
    for (size_t i = 0; i < count; i++) {
        kiln_plugin plugin = {.struct_size = sizeof plugin};
        assert_ok(kiln_plugin_get(library, i, &plugin));
        found = found || strcmp(plugin.name, "EfficientNMS_TRT") == 0;
    }
    print_message("  %zu plugins\n", count);
    assert_true(found);
}

/* Nobody but TensorRT knows what the plugin gives, and its parser wants to be told of outputs: by a
 * layer that has a type, or in so many words. */
static kiln_network *plugin_network(bool is_stated)
{
    const kiln_attribute attributes[] = {
        KILN_ATTRIBUTE(.name = "background_class", .kind = KILN_ATTRIBUTE_INT, .i = -1),
        KILN_ATTRIBUTE(.name = "box_coding", .kind = KILN_ATTRIBUTE_INT, .i = 0),
        KILN_ATTRIBUTE(.name = "iou_threshold", .kind = KILN_ATTRIBUTE_FLOAT, .f = 0.5F),
        KILN_ATTRIBUTE(.name = "max_output_boxes", .kind = KILN_ATTRIBUTE_INT, .i = 3),
        KILN_ATTRIBUTE(.name = "plugin_version", .kind = KILN_ATTRIBUTE_STRING, .s = "1"),
        KILN_ATTRIBUTE(.name = "score_activation", .kind = KILN_ATTRIBUTE_INT, .i = 0),
        KILN_ATTRIBUTE(.name = "score_threshold", .kind = KILN_ATTRIBUTE_FLOAT, .f = 0.25F)};
    kiln_network *network = new_network();
    const kiln_tensor_id inputs[2] = {
        add_input(network, "boxes", KILN_DTYPE_FLOAT32, KILN_SHAPE(1, 4, 4)),
        add_input(network, "scores", KILN_DTYPE_FLOAT32, KILN_SHAPE(1, 4, 1))};
    kiln_tensor_id outputs[4];
    assert_ok(kiln_network_add_node(network, "nms", NULL, 0, "EfficientNMS_TRT", inputs, 2,
                                    attributes, KLN_ARRAY_LENGTH(attributes), outputs, 4));
    static const kiln_dtype types[] = {KILN_DTYPE_INT32, KILN_DTYPE_FLOAT32, KILN_DTYPE_FLOAT32,
                                       KILN_DTYPE_INT32};
    const kiln_shape shapes[] = {KILN_SHAPE(1, 1), KILN_SHAPE(1, 3, 4), KILN_SHAPE(1, 3),
                                 KILN_SHAPE(1, 3)};
    static const char *const names[] = {"count", "kept", "kept_scores", "classes"};
    for (size_t i = 0; i < 4; i++) {
        kiln_tensor_id typed;
        if (is_stated) {
            assert_ok(kiln_network_mark_output_as(network, outputs[i], types[i], &shapes[i]));
            continue;
        }
        assert_ok(kiln_network_add_cast(network, names[i], outputs[i], types[i], &typed));
        assert_ok(kiln_network_mark_output(network, typed));
    }
    return network;
}

static void check_plugin(kiln_engine *engine)
{
    kiln_binding binding = {.struct_size = sizeof binding};
    owned_context context = context_on(engine);
    bind_tensor(context, "boxes", host_floats(boxes, KILN_SHAPE(1, 4, 4)));
    bind_tensor(context, "scores", host_floats(scores, KILN_SHAPE(1, 4, 1)));
    for (int run = 0; run < 3; run++) {
        assert_ok(kiln_context_run(context));
        assert_ok(kiln_engine_output(engine, 0, &binding));
        kiln_tensor count = tensor_in(context, binding.name);
        assert_int_equal(count.desc.dtype, KILN_DTYPE_INT32);
        assert_int_equal(((const int32_t *)count.data)[0], 2);
        assert_ok(kiln_engine_output(engine, 2, &binding));
        assert_ok(kiln_context_tensor(context, binding.name, &count));
        assert_true(((const float *)count.data)[1] == 0.7F);
    }
}

static void run_plugin(bool is_stated)
{
    const kiln_build_options options = fake_options(SOME_LAYOUT);
    char plan[4096];
    (void)snprintf(plan, sizeof plan, "%s", kiln_test_path("plugin.onnx"));
    kiln_network *network = plugin_network(is_stated);
    assert_ok(kiln_network_save_onnx(network, plan, KILN_WEIGHTS_INLINE));
    kiln_network_destroy(network);
    owned_engine engine = built_file(plan, &options);
    check_plugin(engine);
    (void)snprintf(plan, sizeof plan, "%s", kiln_test_path("plugin.plan"));
    assert_ok(kiln_engine_save(engine, plan));
    kiln_engine_release(engine);
    assert_ok(kiln_engine_load(plan, &options, &engine));
    check_plugin(engine);
}

TENSORRT_TEST(a_plugin_of_nvidias_runs)
{
    run_plugin(false);
}

TENSORRT_TEST(outputs_of_a_plugin_are_stated)
{
    run_plugin(true);
}
