/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls Kiln's callbacks as TensorRT does, through their virtual tables, in each layout.
 */
#include "backends/tensorrt/trt_callbacks.h"
#include "backends/tensorrt/trt_progress.h"
#include "kiln_test.h"

static const struct {
    bool is_rtx;
    int32_t version;
} layouts[] = {{false, 101601}, {false, 110400}, {true, 10400}, {true, 10701}};

typedef struct fixture {
    trt_abi abi;
    trt_tables tables;
} fixture;

static void set_up(fixture *f, size_t layout)
{
    assert_ok(trt_abi_resolve(layouts[layout].is_rtx, layouts[layout].version, &f->abi));
    trt_tables_init(&f->tables, &f->abi);
}

/* Of each layout, made anew. */
#define CALLBACKS_TEST(name)                      \
    static void name##_in(fixture f, size_t i);   \
    TEST_EACH(name, i, KLN_ARRAY_LENGTH(layouts)) \
    {                                             \
        fixture f;                                \
        set_up(&f, i);                            \
        name##_in(f, i);                          \
    }                                             \
    static void name##_in(fixture f, __attribute__((unused)) size_t i)

CALLBACKS_TEST(the_tables_have_their_destructors)
{
    trt_logger logger;
    trt_logger_init(&logger, &f.tables);
    const int d1 = f.abi.slots[TRT_M_Logger_D1];
    const int log = f.abi.slots[TRT_M_Logger_log];
    assert_int_equal(d1, layouts[i].version == 101601 || layouts[i].version == 10400 ? 1 : 2);
    assert_non_null(logger.object.vtable[log]);
    trt_Logger_D1(&f.abi, &logger.object);
    trt_Logger_D0(&f.abi, &logger.object);
    trt_error_recorder recorder;
    trt_error_recorder_init(&recorder, &f.tables);
    assert_int_equal(trt_ErrorRecorder_getAPILanguage(&f.abi, &recorder.object), 0);
    const trt_InterfaceInfo info = trt_ErrorRecorder_getInterfaceInfo(&f.abi, &recorder.object);
    assert_string_equal(info.kind, "IErrorRecorder");
    assert_int_equal(info.major, 1);
    assert_int_equal(info.minor, 0);
    trt_error_recorder_finish(&recorder);
}

static char seen[512];

static void remember(void *user, kiln_log_level level, const char *component, const char *message)
{
    (void)snprintf(seen, sizeof seen, "%d %s %s", (int)level, component, message);
}

TEST(the_logger_keeps_the_first_error)
{
    kiln_log_set_sink(remember, NULL, KILN_LOG_DEBUG);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(layouts); i++) {
        fixture f;
        set_up(&f, i);
        trt_logger logger;
        trt_logger_init(&logger, &f.tables);
        trt_logged_clear();
        assert_string_equal(trt_logged_error(), "");
        trt_Logger_log(&f.abi, &logger.object, trt_value(&f.abi, TRT_V_Severity_WARNING), "warm");
        assert_string_equal(seen, "2 tensorrt warm");
        assert_string_equal(trt_logged_error(), "");
        trt_Logger_log(&f.abi, &logger.object, trt_value(&f.abi, TRT_V_Severity_ERROR), "first");
        trt_Logger_log(&f.abi, &logger.object, trt_value(&f.abi, TRT_V_Severity_INTERNAL_ERROR),
                       "second");
        assert_string_equal(seen, "1 tensorrt second");
        assert_string_equal(trt_logged_error(), "first");
        trt_Logger_log(&f.abi, &logger.object, 77, NULL);
        trt_Logger_log(&f.abi, &logger.object, -1, "odd");
        assert_status(KILN_ERROR_BACKEND, trt_fail(KILN_ERROR_BACKEND, NULL, "it %s", "failed"));
        assert_string_equal(kiln_error_message(), "it failed: TensorRT says: first");
        trt_logged_clear();
        assert_fails(KILN_ERROR_BACKEND, trt_fail(KILN_ERROR_BACKEND, NULL, "it"),
                     "gave no reason");
    }
    kiln_log_set_sink(NULL, NULL, KILN_LOG_ERROR);
}

CALLBACKS_TEST(the_recorder_keeps_what_it_has_room_for)
{
    trt_error_recorder *recorder = malloc(sizeof *recorder);
    assert_non_null(recorder);
    trt_error_recorder_init(recorder, &f.tables);
    trt_ErrorRecorder *object = &recorder->object;
    assert_int_equal(trt_ErrorRecorder_incRefCount(&f.abi, object), 1);
    assert_int_equal(trt_ErrorRecorder_incRefCount(&f.abi, object), 2);
    assert_int_equal(trt_ErrorRecorder_decRefCount(&f.abi, object), 1);
    for (int n = 0; n < TRT_RECORDED_ERRORS + 4; n++) {
        char text[32];
        (void)snprintf(text, sizeof text, "error %d", n);
        assert_false(trt_ErrorRecorder_reportError(&f.abi, object, 3, text));
    }
    assert_int_equal(trt_ErrorRecorder_getNbErrors(&f.abi, object), TRT_RECORDED_ERRORS);
    assert_true(trt_ErrorRecorder_hasOverflowed(&f.abi, object));
    assert_int_equal(trt_ErrorRecorder_getErrorCode(&f.abi, object, 2), 3);
    assert_string_equal(trt_ErrorRecorder_getErrorDesc(&f.abi, object, 2), "error 2");
    assert_string_equal(trt_ErrorRecorder_getErrorDesc(&f.abi, object, -1), "");
    assert_string_equal(trt_ErrorRecorder_getErrorDesc(&f.abi, object, 99), "");
    assert_status(KILN_ERROR_SHAPE, trt_fail(KILN_ERROR_SHAPE, recorder, "a build"));
    assert_string_equal(kiln_error_message(),
                        "a build: TensorRT says: error 0 (and 19 more errors)");
    trt_ErrorRecorder_clear(&f.abi, object);
    assert_int_equal(trt_ErrorRecorder_getNbErrors(&f.abi, object), 0);
    (void)trt_ErrorRecorder_reportError(
        &f.abi, object, trt_value(&f.abi, TRT_V_ErrorCode_FAILED_ALLOCATION), "no room");
    assert_status(KILN_ERROR_OUT_OF_MEMORY, trt_fail(KILN_ERROR_BACKEND, recorder, "it"));
    /* As TensorRT 10.6 says it. */
    trt_ErrorRecorder_clear(&f.abi, object);
    (void)trt_ErrorRecorder_reportError(
        &f.abi, object, trt_value(&f.abi, TRT_V_ErrorCode_FAILED_ALLOCATION) - 3,
        "[engine.cpp::readEngineFromArchive::1113] Error Code 2: OutOfMemory (Requested size");
    assert_status(KILN_ERROR_OUT_OF_MEMORY, trt_fail(KILN_ERROR_MALFORMED, recorder, "it"));
    trt_error_recorder_finish(recorder);
    free(recorder);
}

static char trail[512];
static int allowed;

static bool on_progress(void *user, const kiln_phase *now)
{
    const size_t used = strlen(trail);
    (void)snprintf(trail + used, sizeof trail - used, "%s%d:%lld/%lld ", now->phase, now->depth,
                   (long long)now->step, (long long)now->steps);
    return allowed-- > 0;
}

CALLBACKS_TEST(the_progress_monitor_knows_what_lies_in_what)
{
    const kiln_monitor monitor = {NULL, on_progress};
    trt_progress_monitor progress;
    trt_progress_monitor_init(&progress, &f.tables, &monitor);
    trt_ProgressMonitor *object = &progress.object;
    trail[0] = '\0';
    allowed = 5;
    trt_ProgressMonitor_phaseStart(&f.abi, object, "a", NULL, 2);
    trt_ProgressMonitor_phaseStart(&f.abi, object, "b", "a", 3);
    assert_true(trt_ProgressMonitor_stepComplete(&f.abi, object, "b", 0));
    trt_ProgressMonitor_phaseFinish(&f.abi, object, "b");
    assert_true(trt_ProgressMonitor_stepComplete(&f.abi, object, "a", 0));
    trt_ProgressMonitor_phaseStart(&f.abi, object, "c", "gone", 1);
    assert_false(trt_ProgressMonitor_stepComplete(&f.abi, object, "a", 1));
    assert_true(progress.stopped);
    allowed = 9;
    assert_false(trt_ProgressMonitor_stepComplete(&f.abi, object, "a", 1));
    assert_string_equal(trail, "a0:0/2 b1:0/3 b1:1/3 a0:1/2 c0:0/1 a0:2/2 ");
    trt_progress_monitor_finish(&progress);
}

static long heard;
static double heard_fraction;

static bool hear(void *user, const kiln_phase *now)
{
    heard++;
    assert_true(now->fraction >= heard_fraction);
    heard_fraction = now->fraction;
    return heard < TRT_FIRST_REPORTS + 8;
}

/* 40,000 events, as of a build of a second: what listens hears few of them, and each is counted. */
TEST(a_flood_of_progress_is_held_back)
{
    fixture f;
    set_up(&f, 0);
    const kiln_monitor monitor = {NULL, hear};
    trt_progress_monitor progress;
    trt_progress_monitor_init(&progress, &f.tables, &monitor);
    progress.pause = UINT64_C(3600) * 1000000000;
    trt_ProgressMonitor *object = &progress.object;
    assert_true(trt_progress_stage(&progress, "building", 0.5));
    trt_ProgressMonitor_phaseStart(&f.abi, object, "Building engine", NULL, 1);
    trt_ProgressMonitor_phaseStart(&f.abi, object, "Timing graph nodes", "Building engine", 10000);
    for (int32_t i = 0; i < 10000; i++) {
        trt_ProgressMonitor_phaseStart(&f.abi, object, "Measuring", "Timing graph nodes", 1);
        assert_true(trt_ProgressMonitor_stepComplete(&f.abi, object, "Measuring", 0));
        trt_ProgressMonitor_phaseFinish(&f.abi, object, "Measuring");
        assert_true(trt_ProgressMonitor_stepComplete(&f.abi, object, "Timing graph nodes", i));
        if (i == 5000) {
            assert_true(progress.fraction > 0.2 && progress.fraction < 0.3);
        }
    }
    assert_int_equal(heard, TRT_FIRST_REPORTS);
    assert_true(progress.fraction > 0.45 && progress.fraction < 0.5);
    trt_ProgressMonitor_phaseFinish(&f.abi, object, "Timing graph nodes");
    /* A new stage is always told; once it was asked to stop, nothing goes on. */
    for (long i = heard; i < TRT_FIRST_REPORTS + 7; i++) {
        assert_true(trt_progress_stage(&progress, "more", 0.0));
    }
    assert_false(trt_progress_stage(&progress, "too much", 0.0));
    assert_false(trt_ProgressMonitor_stepComplete(&f.abi, object, "Building engine", 0));
    assert_int_equal(heard, TRT_FIRST_REPORTS + 8);
    trt_progress_monitor_finish(&progress);
}

/* --- memory --- */

static long live;

static void *allocate(void *user, size_t size, void *stream, kiln_block *piece)
{
    live++;
    return malloc(size);
}

static bool release(void *user, void *memory, void *stream, const kiln_block *piece)
{
    live--;
    free(memory);
    return true;
}

static const trt_memory plain_memory = {.allocate = allocate, .release = release};

CALLBACKS_TEST(the_allocator_counts_and_keeps_its_limit)
{
    trt_gpu_allocator allocator;
    trt_gpu_allocator_init(&allocator, &f.tables, &plain_memory, 1000);
    trt_GpuAllocator *object = &allocator.object;
    void *a = trt_GpuAllocator_allocate(&f.abi, object, 600, 256, 0);
    void *b = trt_GpuAllocator_allocateAsync(&f.abi, object, 400, 256, 0, NULL);
    assert_non_null(a);
    assert_non_null(b);
    assert_null(trt_GpuAllocator_allocate(&f.abi, object, 1, 256, 0));
    assert_null(trt_GpuAllocator_allocate(&f.abi, object, UINT64_MAX, 256, 0));
    assert_null(trt_GpuAllocator_reallocate(&f.abi, object, a, 256, 700));
    assert_int_equal(allocator.refused, 2);
    assert_int_equal(allocator.peak, 1000);
    assert_true(trt_GpuAllocator_deallocate(&f.abi, object, a));
    assert_false(trt_GpuAllocator_deallocate(&f.abi, object, a));
    assert_true(trt_GpuAllocator_deallocate(&f.abi, object, NULL));
    assert_int_equal(allocator.in_use, 400);
    assert_int_equal(allocator.made, 2);
    assert_int_equal(allocator.released, 1);
    assert_int_equal(allocator.failed, 0);
    trt_gpu_allocator_finish(&allocator); /* b was forgotten */
    assert_int_equal(live, 0);
}

/* Memory that lies wrong: at odd addresses, with a guard behind what was asked for. */
static void *allocate_odd(void *user, size_t size, void *stream, kiln_block *piece)
{
    unsigned char *made = malloc(size + 17);
    assert_non_null(made);
    memset(made + 1 + size, 0xA5, 16);
    *piece = (kiln_block){.data = made + 1, .bytes = size};
    live++;
    return made + 1;
}

static bool release_odd(void *user, void *memory, void *stream, const kiln_block *piece)
{
    assert_ptr_equal(piece->data, memory); /* what was given, not what it was aligned to */
    const unsigned char *guard = (const unsigned char *)memory + piece->bytes;
    for (int i = 0; i < 16; i++) {
        assert_int_equal(guard[i], 0xA5);
    }
    free((unsigned char *)memory - 1);
    live--;
    return true;
}

static const trt_memory odd_memory = {.allocate = allocate_odd, .release = release_odd};

static void *write_to(void *memory, size_t size, uint64_t alignment)
{
    assert_non_null(memory);
    assert_int_equal((uintptr_t)memory % alignment, 0);
    memset(memory, 0x5A, size);
    return memory;
}

CALLBACKS_TEST(every_alignment_is_served)
{
    trt_gpu_allocator allocator;
    trt_gpu_allocator_init(&allocator, &f.tables, &odd_memory, 0);
    trt_GpuAllocator *object = &allocator.object;
    trt_output_allocator output;
    trt_output_allocator_init(&output, &f.tables, &odd_memory);
    for (uint64_t alignment = 1; alignment <= (1U << 21); alignment *= 2) {
        void *a =
            write_to(trt_GpuAllocator_allocate(&f.abi, object, 700, alignment, 0), 700, alignment);
        void *b = write_to(trt_GpuAllocator_allocateAsync(&f.abi, object, 1, alignment, 0, NULL), 1,
                           alignment);
        assert_null(trt_GpuAllocator_reallocate(&f.abi, object, a, alignment, 1400));
        assert_true(trt_GpuAllocator_deallocate(&f.abi, object, a));
        assert_true(trt_GpuAllocator_deallocateAsync(&f.abi, object, b, NULL));
        void *y = trt_OutputAllocator_reallocateOutputAsync(
            &f.abi, &output.object, "y", output.made.memory, 90, alignment, NULL);
        (void)write_to(y, 90, alignment);
    }
    assert_null(trt_GpuAllocator_allocate(&f.abi, object, 16, 768, 0)); /* no power of two */
    assert_null(trt_GpuAllocator_allocate(&f.abi, object, UINT64_MAX - 100, 512, 0));
    assert_int_equal(allocator.in_use, 0);
    assert_int_equal(allocator.failed, 2);
    trt_output_allocator_finish(&output);
    trt_gpu_allocator_finish(&allocator);
    assert_int_equal(live, 0);
}

CALLBACKS_TEST(an_output_grows)
{
    trt_output_allocator allocator;
    trt_output_allocator_init(&allocator, &f.tables, &plain_memory);
    trt_OutputAllocator *object = &allocator.object;
    void *first =
        trt_OutputAllocator_reallocateOutputAsync(&f.abi, object, "y", NULL, 100, 256, NULL);
    assert_non_null(first);
    assert_ptr_equal(
        trt_OutputAllocator_reallocateOutputAsync(&f.abi, object, "y", first, 50, 256, NULL),
        first);
    assert_non_null(
        trt_OutputAllocator_reallocateOutputAsync(&f.abi, object, "y", first, 0, 256, NULL));
    if (trt_has(&f.abi, TRT_M_OutputAllocator_reallocateOutput)) {
        assert_non_null(trt_OutputAllocator_reallocateOutput(&f.abi, object, "y", first, 500, 256));
        assert_int_equal(allocator.made.size, 500);
    }
    const trt_Dims dims = {2, {3, 4}};
    trt_OutputAllocator_notifyShape(&f.abi, object, "y", &dims);
    assert_true(allocator.known);
    assert_int_equal(allocator.shape.d[1], 4);
    trt_output_allocator_finish(&allocator);
    assert_int_equal(live, 0);
}

CALLBACKS_TEST(the_profiler_sums_each_layer)
{
    trt_profiler profiler;
    trt_profiler_init(&profiler, &f.tables);
    for (int pass = 0; pass < 3; pass++) {
        for (int layer = 0; layer < 100; layer++) {
            char name[16];
            (void)snprintf(name, sizeof name, "layer %d", layer);
            trt_Profiler_reportLayerTime(&f.abi, &profiler.object, name, 0.5F);
        }
    }
    assert_int_equal(profiler.count, 100);
    assert_string_equal(profiler.layers[42].name, "layer 42");
    assert_int_equal(profiler.layers[42].runs, 3);
    assert_true(profiler.layers[42].milliseconds == 1.5);
    assert_false(profiler.incomplete);
    trt_profiler_finish(&profiler);
}
