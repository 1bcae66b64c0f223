/* SPDX-License-Identifier: Apache-2.0 */
/* Calibration of a small network whose tensors are known by heart: on the reference executor, and
 * on ONNX Runtime, where several batches run at the same time. */
#include "base/kln_base.h"
#include "graph_maker.h"
#include "kiln_test.h"
#include "tools/calibrate_parts.h"

#define BATCHES 3
#define ROWS 4
#define COLUMNS 64

/* x -> Relu -> r; x * r -> m; m + x -> y, and a constant that is no tensor to observe. */
static const char *model_path(const char *shape)
{
    static char path[4096];
    const kiln_span bytes = made_model(17,
                                       "in x float32[%s]; two={2.0}; r=Relu(x); m=Mul(x,r); "
                                       "d=Mul(m,two); y=Add(d,x); out y float32[%s]",
                                       shape, shape);
    (void)snprintf(path, sizeof path, "%s", kiln_test_file("c.onnx", bytes.data, bytes.size));
    return path;
}

static float values[BATCHES * ROWS * COLUMNS];

/* Batches of `rows`, `calls` of them, with the largest numbers in the last. */
typedef struct feed {
    const char *name;
    int64_t rows;
    size_t less; /* bytes than the shape takes */
    size_t calls, at;
    kiln_status fails; /* with the second */
    kiln_named_tensor tensor[2];
} feed;

static kiln_status next(void *user, const kiln_named_tensor **inputs, size_t *count)
{
    feed *from = user;
    const size_t size = (size_t)from->rows * COLUMNS;
    if (from->at == 1 && from->fails != KILN_OK) {
        return kln_fail(from->fails, "no more");
    }
    *count = from->at < from->calls ? 1 : 0;
    from->tensor[0] = (kiln_named_tensor){
        from->name, KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(from->rows, COLUMNS),
                                     values + from->at * size, size * sizeof *values - from->less)};
    *inputs = from->tensor;
    from->at++;
    return KILN_OK;
}

static bool begin(void)
{
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(values); i++) {
        values[i] = (float)(sin((double)i * 1.37) * (1 + (double)i / 100));
    }
    return true;
}
TESTS_BEGIN(begin)

static const char *backend;

static kiln_build_options built_so(void)
{
    kiln_build_options build = backend_options(backend);
    build.threads = 1;
    return build;
}

/* On each backend. */
#define TEST_BOTH(name)                                                   \
    static void name##_on_one(void);                                      \
    TEST_EACH(name, on_, 2)                                               \
    {                                                                     \
        backend = (const char *const[]){"reference", "onnxruntime"}[on_]; \
        name##_on_one();                                                  \
    }                                                                     \
    static void name##_on_one(void)

static kiln_status calibrate(const char *shape, feed from, const kiln_calibrate_options *options,
                             kiln_range_table **ranges)
{
    const kiln_build_options build = built_so();
    const kiln_batch_source source = {next, &from};
    return kiln_calibrate_file(model_path(shape), &build, &source, options, ranges);
}

static const feed whole = {.name = "x", .rows = ROWS, .calls = BATCHES};

static void assert_equal_tables(const kiln_range_table *a, const kiln_range_table *b)
{
    assert_int_equal(kiln_range_table_count(a), kiln_range_table_count(b));
    for (size_t i = 0; i < kiln_range_table_count(a); i++) {
        const kiln_range *x = kiln_range_table_at(a, i);
        const kiln_range *y = kiln_range_table_at(b, i);
        assert_string_equal(x->name, y->name);
        assert_true(x->low == y->low && x->high == y->high && x->least == y->least &&
                    x->greatest == y->greatest && x->count == y->count);
    }
}

TEST_BOTH(every_tensor_has_the_range_of_all_batches)
{
    static const char *const names[] = {"x", "r", "m", "d", "y"};
    double least[5] = {0};
    double greatest[5] = {0};
    kiln_calibrate_options options = KILN_CALIBRATE_OPTIONS_INIT;
    owned_range_table ranges = NULL;
    options.method = KILN_CALIBRATE_MINMAX;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(values); i++) {
        const float x = values[i];
        const float r = x > 0 ? x : 0;
        const float of[] = {x, r, x * r, x * r * 2, x * r * 2 + x};
        for (size_t k = 0; k < 5; k++) {
            least[k] = fmin(least[k], (double)of[k]);
            greatest[k] = fmax(greatest[k], (double)of[k]);
        }
    }
    assert_ok(calibrate("n,64", whole, &options, &ranges));
    assert_int_equal(kiln_range_table_count(ranges), 5);
    for (size_t k = 0; k < 5; k++) {
        const kiln_range *range = kiln_range_table_at(ranges, k);
        assert_string_equal(range->name, names[k]);
        assert_true(range->low == least[k] && range->high == greatest[k]);
        assert_int_equal(range->count, KLN_ARRAY_LENGTH(values));
    }
}

/* In one run, or a tensor at a time; in whole batches, or in pieces of them; one thread or many. */
TEST_BOTH(how_it_is_run_changes_nothing)
{
    for (int method = KILN_CALIBRATE_ENTROPY; method <= KILN_CALIBRATE_MSE; method++) {
        kiln_calibrate_options options = KILN_CALIBRATE_OPTIONS_INIT;
        owned_range_table expected = NULL;
        options.method = (kiln_calibration_method)method;
        options.threads = 1;
        assert_ok(calibrate("n,64", whole, &options, &expected));
        const feed large = {.name = "x", .rows = ROWS * BATCHES, .calls = 1};
        const struct {
            const char *shape;
            const feed *from;
            uint64_t memory;
            int64_t size;
            int32_t threads;
        } cases[] = {
            {"n,64", &whole, UINT64_C(5) * 32768 + ROWS * COLUMNS * 4, 0, 3},
            {"n,64", &whole, UINT64_C(5) * 32768 + ROWS * COLUMNS * 4 * 3, 0, 0},
            {"4,64", &large, 0, 0, 0},
            {"n,64", &large, 0, ROWS, 2},
            {"n,64", &large, 0, ROWS, 5},
            {"n,64", &large, UINT64_C(5) * 32768 + ROWS * COLUMNS * 4, ROWS, 5},
        };
        for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
            owned_range_table ranges = NULL;
            options.memory_bytes = cases[i].memory;
            options.batch_size = cases[i].size;
            options.threads = cases[i].threads;
            assert_ok(calibrate(cases[i].shape, *cases[i].from, &options, &ranges));
            assert_equal_tables(expected, ranges);
        }
    }
}

/* Layouts of ONNX Runtime's own cost more than they bring where all tensors are looked at, between
 * many convolutions. */
TEST(layouts_are_kept_between_many_convolutions)
{
    static const struct {
        const char *nodes;
        size_t count; /* of observed tensors */
        bool wants_some;
        kiln_optimization level;
    } cases[] = {
        {"y=Conv(x,w)", 20, false, KILN_OPTIMIZATION_DEFAULT},
        {"y=Relu(x)", 3, false, KILN_OPTIMIZATION_DEFAULT},
        {"a=Conv(x,w); y=Conv(a,w)", 20, false, KILN_OPTIMIZATION_EXTENDED},
        {"a=Conv(x,w); y=Conv(a,w)", 20, true, KILN_OPTIMIZATION_DEFAULT},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        owned_maker m;
        kln_calibration of = {.count = cases[i].count, .wants_some = cases[i].wants_some};
        maker_model(&m, 17, "in x float32[1,4,4,4]; zeros w float32[4,4,1,1]");
        maker_text(&m, cases[i].nodes);
        maker_output(&m, "y", 1, NULL);
        assert_ok(m.status);
        assert_ok(kln_infer(m.model, NULL, &of.inference));
        assert_int_equal(kln_calibration_optimization(&of), cases[i].level);
        kln_inference_destroy(of.inference);
    }
}

static bool stop_after(void *user, const kiln_calibrate_progress *progress)
{
    assert_int_equal(progress->tensors, 5);
    assert_int_equal(progress->parts, 1);
    return progress->batches < *(const uint64_t *)user;
}

TEST_BOTH(a_calibration_is_cancelled_and_limited)
{
    uint64_t most = 2;
    kiln_calibrate_options options = KILN_CALIBRATE_OPTIONS_INIT;
    kiln_range_table *ranges = NULL;
    options.progress = stop_after;
    options.user = &most;
    assert_fails(KILN_ERROR_CANCELLED, calibrate("n,64", whole, &options, &ranges),
                 "after 2 batches");
    assert_null(ranges);
    options.batches = 1;
    assert_ok(calibrate("n,64", whole, &options, &ranges));
    assert_int_equal(kiln_range_table_at(ranges, 0)->count, ROWS * COLUMNS);
    kiln_range_table_destroy(ranges);
    options.batches = 0;
    options.memory_bytes = 1000;
    assert_fails(KILN_ERROR_LIMIT, calibrate("n,64", whole, &options, &ranges), "memory_bytes");
}

TEST_BOTH(only_what_is_named_is_observed)
{
    static const char *const some[] = {"m", "x"};
    static const char *const wrong[] = {"two"};
    kiln_calibrate_options options = KILN_CALIBRATE_OPTIONS_INIT;
    kiln_range_table *ranges = NULL;
    options.tensors = some;
    options.tensor_count = 2;
    assert_ok(calibrate("n,64", whole, &options, &ranges));
    assert_int_equal(kiln_range_table_count(ranges), 2);
    kiln_range_table_destroy(ranges);
    options.tensors = wrong;
    options.tensor_count = 1;
    assert_fails(KILN_ERROR_NAME, calibrate("n,64", whole, &options, &ranges),
                 "\"two\" is no floating-point tensor");
}

/* What the sum reads, and the output; of the products before it nothing is asked. */
TEST_BOTH(only_what_a_precision_looks_at_is_observed)
{
    static const char *const looked_at[] = {"x", "d", "y"};
    owned_range_table all = NULL;
    assert_ok(calibrate("n,64", whole, NULL, &all));
    for (size_t i = 0; i < 3; i++) {
        owned_range_table some = NULL;
        kiln_calibrate_options options = KILN_CALIBRATE_OPTIONS_INIT;
        options.precision = (const kiln_precision[]){KILN_PRECISION_INT8, KILN_PRECISION_FP8,
                                                     KILN_PRECISION_FP16}[i];
        assert_ok(calibrate("n,64", whole, &options, &some));
        assert_int_equal(kiln_range_table_count(some), i < 2 ? 3 : 5);
        for (size_t k = 0; k < 3; k++) {
            const kiln_range *range = kiln_range_table_find(some, looked_at[k]);
            const kiln_range *same = kiln_range_table_find(all, looked_at[k]);
            assert_non_null(range);
            assert_true(range->low == same->low && range->high == same->high);
        }
    }
}

TEST_BOTH(batches_that_do_not_fit_are_refused)
{
    kiln_range_table *ranges = NULL;
    feed from = whole;
    from.name = NULL; /* there is one input only */
    assert_ok(calibrate("n,64", from, NULL, &ranges));
    kiln_range_table_destroy(ranges);
    from.fails = KILN_ERROR_IO;
    assert_fails(KILN_ERROR_IO, calibrate("n,64", from, NULL, &ranges), "batch 2: no more");
    from = whole;
    from.calls = 0;
    assert_status(KILN_ERROR_EMPTY, calibrate("n,64", from, NULL, &ranges));
    assert_fails(KILN_ERROR_SHAPE, calibrate("n,63", whole, NULL, &ranges), "batch 1: ");
    /* Also where pieces of it would have been enough for the first run. */
    from = (feed){.name = "x", .rows = ROWS * BATCHES, .less = 4, .calls = 1};
    assert_status(KILN_ERROR_SIZE, calibrate("4,64", from, NULL, &ranges));
    kiln_calibrate_options options = KILN_CALIBRATE_OPTIONS_INIT;
    options.percentile = 0;
    assert_status(KILN_ERROR_INVALID_ARGUMENT, calibrate("n,64", whole, &options, &ranges));
    assert_null(ranges);
}

/* Eight batches, the fourth of which is of another type. */
static kiln_status next_odd(void *user, const kiln_named_tensor **inputs, size_t *count)
{
    feed *from = user;
    const kiln_dtype dtype = from->at == 3 ? KILN_DTYPE_INT32 : KILN_DTYPE_FLOAT32;
    from->tensor[0] = (kiln_named_tensor){
        "x", KILN_HOST_TENSOR(dtype, KILN_SHAPE(1, COLUMNS), values + from->at * COLUMNS,
                              COLUMNS * sizeof *values)};
    *inputs = from->tensor;
    *count = from->at++ < 8 ? 1 : 0;
    return KILN_OK;
}

/* Of whatever runs beside it. */
TEST_BOTH(the_batch_that_fails_is_told)
{
    const kiln_build_options build = built_so();
    for (int32_t threads = 1; threads <= 8; threads++) {
        kiln_calibrate_options options = KILN_CALIBRATE_OPTIONS_INIT;
        feed from = {.at = 0};
        const kiln_batch_source source = {next_odd, &from};
        kiln_range_table *ranges = NULL;
        options.threads = threads;
        assert_fails(KILN_ERROR_DTYPE,
                     kiln_calibrate_file(model_path("n,64"), &build, &source, &options, &ranges),
                     "batch 4: ");
        assert_null(ranges);
    }
}

/* A histogram depends on the order in which it grows. */
TEST_BOTH(batches_are_counted_in_their_order)
{
    const feed rows = {.name = "x", .rows = 1, .calls = ROWS * BATCHES};
    kiln_calibrate_options options = KILN_CALIBRATE_OPTIONS_INIT;
    owned_range_table expected = NULL;
    options.threads = 1;
    assert_ok(calibrate("n,64", rows, &options, &expected));
    for (int32_t i = 0; i < 14; i++) {
        owned_range_table ranges = NULL;
        options.threads = 2 + i % 7;
        assert_ok(calibrate("n,64", rows, &options, &ranges));
        assert_equal_tables(expected, ranges);
    }
}

/* Names that what watches would take. */
TEST_BOTH(names_of_the_network_stay_its_own)
{
    const kiln_build_options build = built_so();
    feed from = whole;
    const kiln_batch_source source = {next, &from};
    owned_range_table ranges = NULL;
    const kiln_span bytes =
        made_model(17,
                   "in x float32[n,64]; kiln.watch/1=Relu(x); kiln.watch_/run=Abs(x); "
                   "y=Add(kiln.watch/1,kiln.watch_/run); out y float32[n,64]");
    const char *path = kiln_test_file("n.onnx", bytes.data, bytes.size);
    assert_ok(kiln_calibrate_file(path, &build, &source, NULL, &ranges));
    assert_int_equal(kiln_range_table_count(ranges), 4);
    assert_non_null(kiln_range_table_find(ranges, "kiln.watch/1"));
}

/* The first batch has a tensor for an input with a value of its own, the second has not. */
static kiln_status next_optional(void *user, const kiln_named_tensor **inputs, size_t *count)
{
    feed *from = user;
    static float *given;
    free(given);
    given = from->at == 0 ? malloc(sizeof *given) : NULL;
    if (given != NULL) {
        *given = 100;
        from->tensor[1] = (kiln_named_tensor){
            "b", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1), given, sizeof *given)};
    }
    from->tensor[0] = (kiln_named_tensor){
        "x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(4), values, 4 * sizeof *values)};
    *inputs = from->tensor;
    *count = from->at == 0 ? 2 : from->at < 3 ? 1 : 0;
    from->at++;
    return KILN_OK;
}

TEST_BOTH(an_input_that_is_not_given_again_has_its_own_value)
{
    const kiln_build_options build = built_so();
    feed from = {.at = 0};
    const kiln_batch_source source = {next_optional, &from};
    owned_range_table ranges = NULL;
    const kiln_span bytes =
        made_model(17, "in x float32[4]; in b float32[1]; b={-50.0}; y=Mul(x,b); out y float32[4]");
    const char *path = kiln_test_file("o.onnx", bytes.data, bytes.size);
    kiln_calibrate_options options = KILN_CALIBRATE_OPTIONS_INIT;
    options.method = KILN_CALIBRATE_MINMAX;
    assert_ok(kiln_calibrate_file(path, &build, &source, &options, &ranges));
    const kiln_range *range = kiln_range_table_find(ranges, "y");
    double least = 0;
    double greatest = 0;
    for (size_t i = 0; i < 4; i++) {
        least = fmin(least, (double)fminf(values[i] * 100, values[i] * -50));
        greatest = fmax(greatest, (double)fmaxf(values[i] * 100, values[i] * -50));
    }
    assert_true(range->least == least && range->greatest == greatest);
    assert_int_equal(range->count, 12);
}

TEST_BOTH(a_network_is_whole_again)
{
    const kiln_build_options build = built_so();
    feed from = whole;
    const kiln_batch_source source = {next, &from};
    owned_range_table ranges = NULL;
    owned_network network = network_file(model_path("n,64"));
    assert_ok(kiln_calibrate(network, &build, &source, NULL, &ranges));
    owned_engine engine = built_network(network, &build);
    assert_int_equal(kiln_engine_output_count(engine), 1);
}

/* --- a folder --- */

static void save(const char *name, size_t at)
{
    const kiln_tensor tensor =
        KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(ROWS, COLUMNS),
                         values + at * ROWS * COLUMNS, ROWS * COLUMNS * sizeof *values);
    assert_ok(kiln_tensor_save_npy(&tensor, kiln_test_path(name)));
}

TEST_BOTH(a_folder_is_a_source)
{
    const kiln_build_options build = built_so();
    kiln_batch_folder *folder = NULL;
    kiln_range_table *ranges = NULL;
    kiln_range_table *expected = NULL;
    assert_ok(calibrate("n,64", whole, NULL, &expected));
    save("b10.npy", 1);
    save("b1.npy", 0);
    save("b2.npy", 2);
    (void)kiln_test_file("b0.txt", "no batch", 8);
    const char *path = kiln_test_path("");
    assert_ok(kiln_batch_folder_open(path, &folder));
    assert_int_equal(kiln_batch_folder_count(folder), BATCHES);
    const kiln_batch_source source = kiln_batch_folder_source(folder);
    assert_ok(kiln_calibrate_file(model_path("n,64"), &build, &source, NULL, &ranges));
    assert_equal_tables(expected, ranges);
    kiln_range_table_destroy(ranges);
    kiln_range_table_destroy(expected);
    kiln_batch_folder_close(folder);
    assert_ok(kiln_batch_folder_open(kiln_test_path("b1.npy"), &folder));
    assert_int_equal(kiln_batch_folder_count(folder), 1);
    kiln_batch_folder_close(folder);
    assert_status(KILN_ERROR_NOT_FOUND, kiln_batch_folder_open(kiln_test_path("none"), &folder));
    assert_null(folder);
    assert_status(KILN_ERROR_EMPTY, kiln_batch_folder_open("/proc/self/fdinfo", &folder));
}

static kiln_status live(void *user)
{
    owned_range_table ranges = NULL;
    owned_batch_folder folder = NULL;
    kiln_calibrate_options options = KILN_CALIBRATE_OPTIONS_INIT;
    const kiln_build_options build = built_so();
    options.threads = backend[0] == 'r' ? 2 : 1;
    TRY(kiln_batch_folder_open(user, &folder));
    const kiln_batch_source source = kiln_batch_folder_source(folder);
    return kiln_calibrate_file(model_path("n,64"), &build, &source, &options, &ranges);
}

TEST_BOTH(every_allocation_may_fail)
{
    save("b1.npy", 0);
    save("b2.npy", 1);
    char *path = strdup(kiln_test_path(""));
    kiln_test_each_allocation(live, path);
    free(path);
}
