/* SPDX-License-Identifier: Apache-2.0 */
/* What only a real TensorRT on a real GPU can show: damaged plans, a GPU that is full, plugins,
 * threads, two libraries in one process, builds that are stopped.
 *
 *     gpu_tensorrt [PATTERN]     all tests but those whose name fits PATTERN
 *     gpu_tensorrt only PATTERN  those alone
 *     gpu_tensorrt load PLAN     loads and runs a plan: a child for damaged ones
 */
#include "fake_tensorrt_test.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILDREN 8
#define CHILD_SECONDS 40

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

/* --- damaged plans --- */

enum { LOADED = 0, REFUSED = 10, NOT_RUN = 11, WRONG = 12 };

/* In a child: what becomes of a plan, as the exit status. */
static int load_plan(const char *path)
{
    const struct rlimit seconds = {CHILD_SECONDS, CHILD_SECONDS};
    const struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CPU, &seconds);
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)alarm(CHILD_SECONDS);
    kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
    options.backend = "tensorrt";
    kiln_engine *engine = NULL;
    kiln_context *context = NULL;
    const kiln_status status = kiln_engine_load(path, &options, &engine);
    if (status != KILN_OK) {
        printf("%s: %s\n", kiln_status_name(status), kiln_error_message());
        return kiln_error_message()[0] != '\0' ? REFUSED : WRONG;
    }
    int result = LOADED;
    kiln_tensor x;
    if (kiln_context_create(engine, NULL, &context) != KILN_OK ||
        kiln_context_tensor(context, "x", &x) != KILN_OK || kiln_context_run(context) != KILN_OK) {
        printf("loaded, then %s\n", kiln_error_message());
        result = NOT_RUN;
    }
    kiln_context_destroy(context);
    kiln_engine_release(engine);
    return result;
}

static pid_t start_child(const char *plan)
{
    const pid_t child = fork();
    if (child == 0) {
        const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
        (void)dup2(nowhere, STDOUT_FILENO);
        (void)dup2(nowhere, STDERR_FILENO);
        (void)execl("/proc/self/exe", "gpu_tensorrt", "load", plan, (char *)NULL);
        _exit(WRONG);
    }
    assert_true(child > 0);
    return child;
}

typedef struct outcomes {
    int loaded, refused, not_run, wrong, crashed, late;
} outcomes;

static void wait_child(pid_t child, outcomes *counts)
{
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) {
        const bool late = WTERMSIG(status) == SIGALRM || WTERMSIG(status) == SIGXCPU;
        counts->late += late;
        counts->crashed += !late;
        return;
    }
    counts->loaded += WEXITSTATUS(status) == LOADED;
    counts->refused += WEXITSTATUS(status) == REFUSED;
    counts->not_run += WEXITSTATUS(status) == NOT_RUN;
    counts->wrong += WEXITSTATUS(status) != LOADED && WEXITSTATUS(status) != REFUSED &&
                     WEXITSTATUS(status) != NOT_RUN;
}

static unsigned char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    unsigned char *bytes = malloc(1 << 20);
    assert_non_null(file);
    assert_non_null(bytes);
    *size = fread(bytes, 1, 1 << 20, file);
    assert_int_equal(fclose(file), 0);
    assert_true(*size > 100 && *size < 1 << 20);
    return bytes;
}

/* Damage `number`: the first third are cut short, the rest has one bit flipped. */
static void write_damaged(const char *path, const unsigned char *bytes, size_t size, size_t number,
                          size_t count)
{
    unsigned char *copy = malloc(size);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    size_t length = size;
    if (number < count / 3) {
        length = 8 + (size - 8) * number / (count / 3);
    } else {
        const size_t at = 8 + (size - 8) * (number - count / 3) / (count - count / 3);
        copy[at] ^= (unsigned char)(1U << (number % 8));
    }
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(copy, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
    free(copy);
}

#define DAMAGES 36

/* With its manifest a damaged plan is refused before the library sees it, every time. Without one
 * the library decides, and may crash: that is counted, in children. */
static void damaged_plans_do_no_harm_with_a_manifest(void **state)
{
    (void)state;
    char plan[4096];
    (void)snprintf(plan, sizeof plan, "%s", kiln_test_path("whole.plan"));
    kiln_engine *engine = conv_engine();
    assert_ok(kiln_engine_save(engine, plan));
    kiln_engine_release(engine);
    size_t size = 0;
    unsigned char *bytes = read_file(plan, &size);
    char manifest[sizeof plan + 8];
    (void)snprintf(manifest, sizeof manifest, "%s.json", plan);
    const kiln_build_options options = fake_options(SOME_LAYOUT);
    for (size_t i = 0; i < DAMAGES; i++) {
        write_damaged(plan, bytes, size, i, DAMAGES);
        assert_int_not_equal(kiln_engine_load(plan, &options, &engine), KILN_OK);
        assert_null(engine);
        assert_message("whole.plan");
    }
    outcomes counts = {0};
    pid_t children[CHILDREN] = {0};
    for (size_t i = 0; i < DAMAGES + CHILDREN; i++) {
        if (i >= CHILDREN) {
            wait_child(children[i % CHILDREN], &counts);
        }
        if (i < DAMAGES) {
            char name[32];
            (void)snprintf(name, sizeof name, "damaged%zu.plan", i);
            char path[4096];
            (void)snprintf(path, sizeof path, "%s", kiln_test_path(name));
            write_damaged(path, bytes, size, i, DAMAGES);
            children[i % CHILDREN] = start_child(path);
        }
    }
    free(bytes);
    print_message(
        "  without a manifest, of %d: %d refused, %d loaded and ran, %d did not run, "
        "%d crashed the library, %d were late\n",
        DAMAGES, counts.refused, counts.loaded, counts.not_run, counts.crashed, counts.late);
    assert_int_equal(counts.wrong, 0);
    assert_true(counts.refused > 0);
}

/* --- a GPU without free memory --- */

#define BLOCKS 4096

static size_t free_memory(void)
{
    size_t free_bytes = 0;
    size_t total = 0;
    assert_ok(kiln_device_memory(0, &free_bytes, &total));
    return free_bytes;
}

/* Takes what there is, down to pieces of 2 MiB. */
static size_t take_all(void **blocks)
{
    size_t count = 0;
    for (size_t size = (size_t)16 << 30; size >= (size_t)2 << 20; size /= 2) {
        while (count < BLOCKS &&
               kln_cuda_allocate(KILN_LOCATION_DEVICE, 0, size, &blocks[count]) == KILN_OK) {
            count++;
        }
    }
    return count;
}

static void give_all(void **blocks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        kln_cuda_release(KILN_LOCATION_DEVICE, 0, blocks[i]);
    }
}

/* y = x [1, n] times [n, n], whose weights alone take more than what take_all leaves. */
static kiln_network *large_network(int64_t n, float *weights)
{
    kiln_network *network = new_network();
    const kiln_tensor_id x = add_input(network, "x", KILN_DTYPE_FLOAT32, KILN_SHAPE(1, n));
    const kiln_tensor_id m = add_floats(network, "m", KILN_SHAPE(n, n), weights);
    kiln_tensor_id y;
    assert_ok(kiln_network_add_matrix_multiply(network, "y", x, m, &y));
    assert_ok(kiln_network_mark_output(network, y));
    return network;
}

static void a_full_gpu_is_told_and_nothing_is_lost(void **state)
{
    (void)state;
    enum { WIDE = 2048 };
    static void *blocks[BLOCKS];
    float *weights = calloc((size_t)WIDE * WIDE, sizeof *weights);
    assert_non_null(weights);
    const kiln_build_options options = fake_options(SOME_LAYOUT);
    kiln_network *network = large_network(WIDE, weights);
    kiln_engine *engine = NULL;
    kiln_engine *second = NULL;
    kiln_context *context = NULL;
    assert_ok(kiln_engine_build(network, &options, &engine));
    char plan[4096];
    (void)snprintf(plan, sizeof plan, "%s", kiln_test_path("large.plan"));
    assert_ok(kiln_engine_save(engine, plan));
    assert_ok(kiln_context_create(engine, NULL, &context));
    kiln_tensor x;
    assert_ok(kiln_context_tensor(context, "x", &x)); /* zeros, in memory of its own */
    assert_ok(kiln_context_run(context));
    size_t before = 0;
    for (int round = 0; round < 4; round++) {
        const size_t count = take_all(blocks);
        print_message("  %zu blocks taken, %zu KiB are left\n", count, free_memory() >> 10);
        const kiln_status loading = kiln_engine_load(plan, &options, &second);
        print_message("  load: %s: %.200s\n", kiln_status_name(loading), kiln_error_message());
        const kiln_status building = kiln_engine_build(network, &options, &second);
        print_message("  build: %s: %.200s\n", kiln_status_name(building), kiln_error_message());
        /* What has its memory runs on. */
        const kiln_status running = kiln_context_run(context);
        give_all(blocks, count);
        assert_int_equal(loading, KILN_ERROR_OUT_OF_MEMORY);
        assert_int_equal(building, KILN_ERROR_OUT_OF_MEMORY);
        assert_int_equal(running, KILN_OK);
        assert_ok(kiln_engine_load(plan, &options, &second));
        kiln_engine_release(second);
        /* The first round leaves what the driver keeps for the process. */
        if (round == 1) {
            before = free_memory();
        }
    }
    print_message("  %lld bytes less free than two rounds ago\n",
                  (long long)before - (long long)free_memory());
    assert_true(free_memory() + ((size_t)4 << 20) >= before);
    kiln_context_destroy(context);
    kiln_engine_release(engine);
    kiln_network_destroy(network);
    free(weights);
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
    kiln_context *context = NULL;
    if (kiln_context_create(self->engine, NULL, &context) != KILN_OK) {
        self->wrong++;
        return NULL;
    }
    for (int run = 0; run < self->runs; run++) {
        self->wrong += self->is_relu ? wrong_relu(context, run) : wrong_conv(context, run);
    }
    kiln_context_destroy(context);
    return NULL;
}

static void eight_threads_run_two_engines(void **state)
{
    (void)state;
    kiln_engine *engines[2] = {conv_engine(), build_relu(SOME_LAYOUT)};
    job jobs[8];
    pthread_t threads[8];
    for (size_t i = 0; i < 8; i++) {
        jobs[i] = (job){engines[i % 2], i % 2 != 0, 2000, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, run_job, &jobs[i]), 0);
    }
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
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
static void builds_and_runs_go_side_by_side(void **state)
{
    (void)state;
    kiln_engine *engine = conv_engine();
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
        kiln_context *context = NULL;
        assert_non_null(built[i]);
        assert_ok(kiln_context_create(built[i], NULL, &context));
        check_conv(context);
        kiln_context_destroy(context);
        kiln_engine_release(built[i]);
    }
    kiln_engine_release(engine);
}

/* KILN_TENSORRT_OTHER: another version, or a lean runtime, in the same process. */
static void two_libraries_live_in_one_process(void **state)
{
    (void)state;
    const char *other = getenv("KILN_TENSORRT_OTHER");
    if (other == NULL) {
        print_message("  KILN_TENSORRT_OTHER names no second library\n");
        skip();
    }
    char plan[4096];
    (void)snprintf(plan, sizeof plan, "%s", kiln_test_path("mine.plan"));
    kiln_engine *engine = conv_engine();
    kiln_engine *refused = NULL;
    assert_ok(kiln_engine_save(engine, plan));
    kiln_build_options options = fake_options(SOME_LAYOUT);
    for (int round = 0; round < 3; round++) {
        kiln_context *context = NULL;
        options.library = other;
        assert_int_not_equal(kiln_engine_load(plan, &options, &refused), KILN_OK);
        if (round == 0) {
            print_message("  %.300s\n", kiln_error_message());
        }
        assert_ok(kiln_context_create(engine, NULL, &context));
        check_conv(context);
        kiln_context_destroy(context);
    }
    kiln_engine_release(engine);
}

/* --- streams --- */

static void enqueue_orders_into_the_callers_stream(void **state)
{
    (void)state;
    kiln_engine *engine = build_relu(SOME_LAYOUT);
    kiln_context *contexts[2] = {NULL};
    kiln_stream *stream = NULL;
    kiln_buffer *buffers[3];
    kiln_tensor tensors[3];
    float x[32];
    float y[32];
    assert_ok(kiln_stream_create(0, 0, &stream));
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
    kiln_stream_destroy(stream);
    kiln_engine_release(engine);
}

/* --- shapes --- */

static void empty_tensors_run(void **state)
{
    (void)state;
    const kiln_profile_input input = rows(0, 2, 8);
    const kiln_profile profile = {&input, 1};
    kiln_build_options options = fake_options(SOME_LAYOUT);
    options.profiles = &profile;
    options.profile_count = 1;
    kiln_engine *engine = build_network(relu_network(), &options);
    kiln_context *context = NULL;
    assert_ok(kiln_context_create(engine, NULL, &context));
    float x[32] = {-1, 2, -3, 4};
    for (int run = 0; run < 12; run++) {
        const int64_t count = run % 3 == 0 ? 0 : run % 3;
        const kiln_tensor y = run_floats(context, KILN_SHAPE(count, 4), x);
        assert_true(kiln_shape_equal(&y.desc.shape, &KILN_SHAPE(count, 4)));
        assert_true(count == 0 || ((const float *)y.data)[3] == 4.0F);
    }
    kiln_context_destroy(context);
    kiln_engine_release(engine);
}

/* Boxes 0 and 1 overlap, 2 lies apart, 3 scores too little: 0 and 2 are kept. */
static float boxes[16] = {0, 0, 10, 10, 1, 0, 11, 10, 20, 20, 30, 30, 40, 40, 50, 50};
static float scores[4] = {0.9F, 0.8F, 0.7F, 0.1F};

static void suppression_gives_as_many_as_there_are(void **state)
{
    (void)state;
    kiln_network *network = new_network();
    kiln_nms_options how = KILN_NMS_OPTIONS_INIT;
    how.max_boxes = 10;
    how.iou_threshold = 0.5F;
    how.score_threshold = 0.25F;
    const kiln_tensor_id b = add_input(network, "boxes", KILN_DTYPE_FLOAT32, KILN_SHAPE(1, 4, 4));
    const kiln_tensor_id s = add_input(network, "scores", KILN_DTYPE_FLOAT32, KILN_SHAPE(1, 1, 4));
    kiln_tensor_id y;
    assert_ok(kiln_network_add_nms(network, "y", b, s, &how, &y));
    assert_ok(kiln_network_mark_output(network, y));
    const kiln_build_options options = fake_options(SOME_LAYOUT);
    kiln_engine *engine = build_network(network, &options);
    kiln_context *context = NULL;
    assert_ok(kiln_context_create(engine, NULL, &context));
    for (int run = 0; run < 6; run++) {
        float mine[4];
        memcpy(mine, scores, sizeof mine);
        mine[2] = run % 2 == 0 ? 0.7F : 0.2F;
        const kiln_tensor where = host_floats(boxes, KILN_SHAPE(1, 4, 4));
        const kiln_tensor given = host_floats(mine, KILN_SHAPE(1, 1, 4));
        kiln_tensor found;
        assert_ok(kiln_context_bind(context, "boxes", &where));
        assert_ok(kiln_context_bind(context, "scores", &given));
        assert_ok(kiln_context_run(context));
        assert_ok(kiln_context_tensor(context, "y", &found));
        assert_int_equal(found.desc.shape.dims[0], run % 2 == 0 ? 2 : 1);
        assert_int_equal(((const int64_t *)found.data)[2], 0);
        assert_true(run % 2 != 0 || ((const int64_t *)found.data)[5] == 2);
    }
    kiln_context_destroy(context);
    kiln_engine_release(engine);
}

/* --- plugins --- */

static void nvidias_plugins_are_there(void **state)
{
    (void)state;
    const char *library = fake_layouts[0].folder;
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

static kiln_network *plugin_network(void)
{
    static const kiln_attribute attributes[] = {
        {.name = "background_class", .kind = KILN_ATTRIBUTE_INT, .i = -1},
        {.name = "box_coding", .kind = KILN_ATTRIBUTE_INT, .i = 0},
        {.name = "iou_threshold", .kind = KILN_ATTRIBUTE_FLOAT, .f = 0.5F},
        {.name = "max_output_boxes", .kind = KILN_ATTRIBUTE_INT, .i = 3},
        {.name = "plugin_version", .kind = KILN_ATTRIBUTE_STRING, .s = "1"},
        {.name = "score_activation", .kind = KILN_ATTRIBUTE_INT, .i = 0},
        {.name = "score_threshold", .kind = KILN_ATTRIBUTE_FLOAT, .f = 0.25F}};
    kiln_network *network = new_network();
    const kiln_tensor_id inputs[2] = {
        add_input(network, "boxes", KILN_DTYPE_FLOAT32, KILN_SHAPE(1, 4, 4)),
        add_input(network, "scores", KILN_DTYPE_FLOAT32, KILN_SHAPE(1, 4, 1))};
    kiln_tensor_id outputs[4];
    assert_ok(kiln_network_add_plugin(network, "nms", NULL, 0, "EfficientNMS_TRT", inputs, 2,
                                      attributes, KLN_ARRAY_LENGTH(attributes), outputs, 4));
    for (size_t i = 0; i < 4; i++) {
        assert_ok(kiln_network_mark_output(network, outputs[i]));
    }
    return network;
}

static void check_plugin(kiln_engine *engine)
{
    kiln_context *context = NULL;
    kiln_binding binding = {.struct_size = sizeof binding};
    const kiln_tensor where = host_floats(boxes, KILN_SHAPE(1, 4, 4));
    const kiln_tensor given = host_floats(scores, KILN_SHAPE(1, 4, 1));
    assert_ok(kiln_context_create(engine, NULL, &context));
    assert_ok(kiln_context_bind(context, "boxes", &where));
    assert_ok(kiln_context_bind(context, "scores", &given));
    for (int run = 0; run < 3; run++) {
        kiln_tensor count;
        assert_ok(kiln_context_run(context));
        assert_ok(kiln_engine_output(engine, 0, &binding));
        assert_ok(kiln_context_tensor(context, binding.name, &count));
        assert_int_equal(count.desc.dtype, KILN_DTYPE_INT32);
        assert_int_equal(((const int32_t *)count.data)[0], 2);
        assert_ok(kiln_engine_output(engine, 2, &binding));
        assert_ok(kiln_context_tensor(context, binding.name, &count));
        assert_true(((const float *)count.data)[1] == 0.7F);
    }
    kiln_context_destroy(context);
}

static void a_plugin_of_nvidias_runs(void **state)
{
    (void)state;
    const kiln_build_options options = fake_options(SOME_LAYOUT);
    char plan[4096];
    (void)snprintf(plan, sizeof plan, "%s", kiln_test_path("plugin.onnx"));
    kiln_network *network = plugin_network();
    assert_ok(kiln_network_save_onnx(network, plan, KILN_WEIGHTS_INLINE));
    kiln_network_destroy(network);
    kiln_engine *engine = NULL;
    assert_ok(kiln_engine_build_file(plan, &options, &engine));
    check_plugin(engine);
    (void)snprintf(plan, sizeof plan, "%s", kiln_test_path("plugin.plan"));
    assert_ok(kiln_engine_save(engine, plan));
    kiln_engine_release(engine);
    assert_ok(kiln_engine_load(plan, &options, &engine));
    check_plugin(engine);
    kiln_engine_release(engine);
}

/* --- jobs --- */

#define DEPTH 12

/* A model that takes a while: convolutions of 64 channels, one after the other. */
static const char *deep_model(void)
{
    static float weights[64 * 64 * 9];
    static char path[4096];
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(weights); i++) {
        weights[i] = (float)(i % 7) * 0.01F;
    }
    kiln_network *network = new_network();
    kiln_tensor_id t = add_input(network, "x", KILN_DTYPE_FLOAT32, KILN_SHAPE(8, 64, 56, 56));
    for (int i = 0; i < DEPTH; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "w%d", i);
        const kiln_tensor_id w = add_floats(network, name, KILN_SHAPE(64, 64, 3, 3), weights);
        (void)snprintf(name, sizeof name, "c%d", i);
        assert_ok(kiln_network_add_convolution(network, name, t, w, KILN_NO_TENSOR, NULL, &t));
        (void)snprintf(name, sizeof name, "r%d", i);
        assert_ok(
            kiln_network_add_activation(network, name, KILN_ACTIVATION_TANH, t, 0.0F, 0.0F, &t));
    }
    assert_ok(kiln_network_mark_output(network, t));
    (void)snprintf(path, sizeof path, "%s", kiln_test_path("deep.onnx"));
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
    kiln_network_destroy(network);
    return path;
}

static void a_job_tells_how_far_it_is(void **state)
{
    (void)state;
    const kiln_build_options options = fake_options(SOME_LAYOUT);
    kiln_build *build = NULL;
    kiln_engine *engine = NULL;
    kiln_build_progress progress = {.struct_size = sizeof progress};
    assert_ok(kiln_build_start_file(deep_model(), &options, NULL, &build));
    double last = 0;
    double widest = 0;
    kiln_status status = KILN_ERROR_BUSY;
    while (status == KILN_ERROR_BUSY) {
        status = kiln_build_wait(build, 50, &engine);
        assert_ok(kiln_build_get_progress(build, &progress));
        assert_true(progress.fraction >= last && progress.fraction <= 1);
        widest = progress.fraction - last > widest ? progress.fraction - last : widest;
        last = progress.fraction;
    }
    assert_ok(status);
    print_message("  %.2f s, %llu reports, the widest step was %.0f %%\n",
                  (double)progress.nanoseconds * 1e-9, (unsigned long long)progress.reports,
                  widest * 100);
    assert_int_equal(progress.state, KILN_BUILD_DONE);
    assert_true(progress.reports > 10);
    kiln_build_destroy(build);
    kiln_engine_release(engine);
}

static void a_job_is_cancelled_and_limited(void **state)
{
    (void)state;
    const kiln_build_options options = fake_options(SOME_LAYOUT);
    const char *model = deep_model();
    kiln_build *build = NULL;
    kiln_engine *engine = NULL;
    kiln_build_progress progress = {.struct_size = sizeof progress};
    assert_ok(kiln_build_start_file(model, &options, NULL, &build));
    do {
        assert_status(KILN_ERROR_BUSY, kiln_build_wait(build, 1, &engine));
        assert_ok(kiln_build_get_progress(build, &progress));
    } while (progress.reports < 3);
    const uint64_t asked = progress.nanoseconds;
    kiln_build_cancel(build);
    assert_status(KILN_ERROR_CANCELLED, kiln_build_wait(build, UINT64_MAX, &engine));
    assert_ok(kiln_build_get_progress(build, &progress));
    print_message("  cancelled after %.0f ms\n", (double)(progress.nanoseconds - asked) * 1e-6);
    kiln_build_destroy(build);
    kiln_build_limits limits = KILN_BUILD_LIMITS_INIT;
    limits.milliseconds = 100;
    assert_ok(kiln_build_start_file(model, &options, &limits, &build));
    assert_status(KILN_ERROR_TIMEOUT, kiln_build_wait(build, UINT64_MAX, &engine));
    assert_ok(kiln_build_get_progress(build, &progress));
    print_message("  a limit of 100 ms ended it after %.0f ms\n",
                  (double)progress.nanoseconds * 1e-6);
    kiln_build_destroy(build);
    /* And the next one is as good as ever. */
    engine = conv_engine();
    kiln_engine_release(engine);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "load") == 0) {
        return load_plan(argv[2]);
    }
    if (argc == 2) {
        cmocka_set_skip_filter(argv[1]);
    } else if (argc == 3) {
        cmocka_set_test_filter(argv[2]);
    }
    const struct CMUnitTest tests[] = {
        tensorrt_test(damaged_plans_do_no_harm_with_a_manifest),
        tensorrt_test(eight_threads_run_two_engines),
        tensorrt_test(builds_and_runs_go_side_by_side),
        tensorrt_test(two_libraries_live_in_one_process),
        tensorrt_test(enqueue_orders_into_the_callers_stream),
        tensorrt_test(empty_tensors_run),
        tensorrt_test(suppression_gives_as_many_as_there_are),
        tensorrt_test(nvidias_plugins_are_there),
        tensorrt_test(a_plugin_of_nvidias_runs),
        tensorrt_test(a_job_tells_how_far_it_is),
        tensorrt_test(a_job_is_cancelled_and_limited),
        tensorrt_test(a_full_gpu_is_told_and_nothing_is_lost),
    };
    return run_tensorrt_tests(tests);
}
