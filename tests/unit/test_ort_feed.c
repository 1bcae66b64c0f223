/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/onnxruntime/ort_feed.h"
#include "base/kln_base.h"
#include "graph_maker.h"
#include "kiln_test.h"

#define MOST 8

/* Calls of snprintf in this program and in the Kiln that is linked into it: the linker leads them
 * here (CMakeLists.txt). */
static atomic_int formatted;

__attribute__((format(printf, 3, 4))) int __wrap_snprintf(char *text, size_t size,
                                                          const char *format, ...);

int __wrap_snprintf(char *text, size_t size, const char *format, ...)
{
    va_list arguments;
    atomic_fetch_add(&formatted, 1);
    va_start(arguments, format);
    const int length = vsnprintf(text, size, format, arguments);
    va_end(arguments);
    return length;
}

/* y: a and b, one after the other, in a length that is open. */
static kiln_context *make_context(void)
{
    owned_network network =
        made_network(NULL, "in a float32[?]; in b float32[?]; y=Concat(a,b) axis=0; out y");
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "onnxruntime");
    owned_engine engine = built_network(network, &options);
    return context_on(engine);
}

static kiln_named_tensor view(const char *name, float *data, int64_t length)
{
    return (kiln_named_tensor){name, KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(length), data,
                                                      (size_t)length * sizeof(float))};
}

static void expect(const kiln_tensor *y, const float *a, int64_t a_length, const float *b,
                   int64_t b_length)
{
    assert_int_equal(1, y->desc.shape.rank);
    assert_int_equal(a_length + b_length, y->desc.shape.dims[0]);
    assert_memory_equal(a, y->data, (size_t)a_length * sizeof(float));
    assert_memory_equal(b, (const float *)y->data + a_length, (size_t)b_length * sizeof(float));
}

/* Memory, lengths and who has the output's memory stay or change in every order of four runs. */
TEST(whatever_changes_the_result_is_right)
{
    owned_context context = make_context();
    static float a[2][MOST] = {{1, 2, 3, 4, 5, 6, 7, 8}, {-1, -2, -3, -4, -5, -6, -7, -8}};
    static float b[2][MOST] = {{11, 12, 13, 14, 15, 16, 17, 18}, {21, 22, 23, 24, 25, 26, 27, 28}};
    float y[2][2 * MOST];
    for (unsigned way = 0; way < 1U << 16; way += 7) {
        for (unsigned step = 0; step < 4; step++) {
            const unsigned now = way >> (4 * step);
            const size_t place = now & 1U;
            const int64_t length = (now & 2U) != 0 ? 3 : MOST;
            const kiln_named_tensor inputs[] = {view("a", a[place], length), view("b", b[0], MOST)};
            kiln_named_tensor output = {.name = "y"};
            if ((now & 4U) != 0) {
                output = view("y", y[(now >> 3) & 1U], length + MOST);
            }
            memset(y, 0, sizeof y);
            assert_ok(kiln_context_run_tensors(context, inputs, 2, &output, 1));
            expect(&output.tensor, a[place], length, b[0], MOST);
            /* In place, with what is bound. */
            b[0][0] += 1;
            assert_ok(kiln_context_run(context));
            kiln_tensor again = tensor_in(context, "y");
            expect(&again, a[place], length, b[0], MOST);
        }
    }
}

TEST(a_wrong_length_is_refused_and_forgotten)
{
    owned_context context = make_context();
    float a[MOST] = {1, 2, 3, 4, 5, 6, 7, 8};
    float y[2 * MOST];
    for (int round = 0; round < 3; round++) {
        const kiln_named_tensor inputs[] = {view("b", a, 2 + round), view("a", a, MOST)};
        kiln_named_tensor wrong = view("y", y, 3);
        kiln_named_tensor right = {.name = "y"};
        assert_true(kiln_context_run_tensors(context, inputs, 2, &wrong, 1) != KILN_OK);
        assert_ok(kiln_context_run_tensors(context, inputs, 2, &right, 1));
        expect(&right.tensor, a, MOST, a, 2 + round);
    }
}

/* What the model promises of its output is found not to be so when memory of the context was given
 * for it already. */
TEST(a_broken_promise_is_survived)
{
    float a[MOST] = {1, 2, 3, 4, 5, 6, 7, 8};
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "onnxruntime");
    owned_engine engine =
        built_bytes(made_model(17, "in a float32[n]; y=Neg(a); out y float32[4]"), &options);
    owned_context context = context_on(engine);
    for (int round = 0; round < 3; round++) {
        static const int64_t lengths[] = {4, 4, 5, 6, 4};
        for (size_t i = 0; i < KLN_ARRAY_LENGTH(lengths); i++) {
            const kiln_named_tensor input = view("a", a, lengths[i]);
            kiln_named_tensor output = {.name = "y"};
            assert_ok(kiln_context_run_tensors(context, &input, 1, &output, 1));
            assert_int_equal(output.tensor.desc.shape.dims[0], lengths[i]);
            assert_true(((const float *)output.tensor.data)[lengths[i] - 1] == -(float)lengths[i]);
        }
    }
}

TEST(nothing_is_allocated_once_it_runs)
{
    owned_context context = make_context();
    float a[MOST] = {1, 2, 3, 4, 5, 6, 7, 8};
    kiln_allocation_counters before, after;
    for (int i = 0; i < 20; i++) {
        const kiln_named_tensor inputs[] = {view("a", a, 1 + i % 7), view("b", a, MOST)};
        kiln_named_tensor output = {.name = "y"};
        if (i == 3) {
            kiln_get_allocation_counters(&before);
        }
        assert_ok(kiln_context_run_tensors(context, inputs, 2, &output, 1));
    }
    kiln_get_allocation_counters(&after);
    assert_true(before.allocations == after.allocations);
}

/* Sentences are made where they are needed: what is in order is looked at without one. */
TEST(nothing_is_formatted_where_all_is_well)
{
    owned_context context = make_context();
    float a[2][MOST] = {{1, 2, 3, 4, 5, 6, 7, 8}, {9}};
    for (int i = 0; i < 12; i++) {
        const kiln_named_tensor inputs[] = {view("a", a[i % 2], 1 + i % 7), view("b", a[0], MOST)};
        kiln_named_tensor output = {.name = "y"};
        atomic_store(&formatted, 0);
        assert_ok(kiln_context_run_tensors(context, inputs, 2, &output, 1));
        assert_int_equal(atomic_load(&formatted), 0);
    }
    kiln_named_tensor wrong = view("a", a[0], MOST);
    kiln_named_tensor output = {.name = "y"};
    wrong.tensor.bytes = 1;
    assert_fails(KILN_ERROR_SIZE, kiln_context_run_tensors(context, &wrong, 1, &output, 1),
                 "input \"a\": 1 byte was given");
    assert_true(atomic_load(&formatted) > 0);
}

TEST(names_are_found_wherever_they_stand)
{
    owned_context context = make_context();
    float a[MOST] = {1, 2, 3, 4, 5, 6, 7, 8};
    kiln_named_tensor output = {.name = "y"};
    const kiln_named_tensor twice[] = {view("b", a, 2), view("b", a, 2)};
    const kiln_named_tensor three[] = {view("a", a, 2), view("b", a, 2), view("a", a, 2)};
    const kiln_named_tensor wrong[] = {view("a", a, 2), view("y", a, 2)};
    kiln_named_tensor outputs[] = {{.name = "y"}, {.name = "y"}};
    assert_fails(KILN_ERROR_NAME, kiln_context_run_tensors(context, twice, 2, &output, 1),
                 "\"b\" is given twice");
    assert_status(KILN_ERROR_NAME, kiln_context_run_tensors(context, three, 3, &output, 1));
    assert_status(KILN_ERROR_NAME, kiln_context_run_tensors(context, wrong, 2, &output, 1));
    assert_status(KILN_ERROR_NAME, kiln_context_run_tensors(context, three, 2, outputs, 2));
    assert_ok(kiln_context_run_tensors(context, three + 1, 2, &output, 1));
    expect(&output.tensor, a, 2, a, 2);
}

static OrtStatus *(*make_value)(const OrtMemoryInfo *, void *, size_t, const int64_t *, size_t,
                                ort_element_type, OrtValue **);
static size_t made_values;

static OrtStatus *count_value(const OrtMemoryInfo *place, void *data, size_t bytes,
                              const int64_t *dims, size_t rank, ort_element_type type,
                              OrtValue **value)
{
    made_values++;
    return make_value(place, data, bytes, dims, rank, type, value);
}

/* Values that are made while "a" lies in one place after the other. */
static size_t values_of_moves(int64_t length)
{
    enum { PLACES = 40, LONG = 100 };
    static float places[PLACES][LONG];
    const ort_runtime *runtime = NULL;
    owned_context context = make_context();
    float b[MOST] = {1, 2, 3, 4, 5, 6, 7, 8};
    assert_ok(ort_runtime_open(NULL, &runtime));
    ort_api *api = (ort_api *)(uintptr_t)&runtime->api; /* it is this process's copy */
    make_value = api->CreateTensorWithDataAsOrtValue;
    api->CreateTensorWithDataAsOrtValue = count_value;
    made_values = 0;
    for (size_t i = 0; i < PLACES; i++) {
        places[i][0] = (float)i;
        places[i][length - 1] = -(float)i;
        const kiln_named_tensor inputs[] = {view("a", places[i], length), view("b", b, MOST)};
        kiln_named_tensor output = {.name = "y"};
        assert_ok(kiln_context_run_tensors(context, inputs, 2, &output, 1));
        expect(&output.tensor, places[i], length, b, MOST);
        places[i][0] += 100; /* what is bound is read by each run */
        assert_ok(kiln_context_run(context));
        assert_ok(kiln_context_tensor(context, "y", &output.tensor));
        expect(&output.tensor, places[i], length, b, MOST);
    }
    api->CreateTensorWithDataAsOrtValue = make_value;
    return made_values;
}

TEST(a_small_input_that_moves_has_one_value)
{
    assert_true(values_of_moves(MOST) <= 4);
    assert_true(values_of_moves(100) >= 40);
}

static size_t alive;

static void release(OrtValue *value)
{
    alive -= value != NULL;
}

/* How many values are made in `rounds` over so many memories in turn. */
static size_t values_made(size_t memories, size_t rounds)
{
    static char places[16][16];
    static char values[16];
    static ort_runtime runtime;
    kiln_binding binding = {.name = "x"};
    ort_engine engine = {.runtime = &runtime, .bindings = &binding, .input_count = 1};
    ort_feed *feed = NULL;
    size_t made = 0;
    runtime.api.ReleaseValue = release;
    assert_ok(ort_feed_create(&engine, &feed));
    for (size_t i = 0; i < rounds * memories; i++) {
        const size_t turn = i % memories;
        const kiln_tensor tensor =
            KILN_HOST_TENSOR(KILN_DTYPE_UINT8, KILN_SHAPE(16), places[turn], 16);
        if (!ort_feed_return(feed, 0, &tensor)) {
            ort_feed_make_room(&engine, feed, 0);
            ort_feed_set(feed, 0, (OrtValue *)&values[turn], &tensor);
            made++;
            alive++;
        }
        assert_ptr_equal(feed->values[0], &values[turn]);
        assert_true(alive <= ORT_FEED_KEPT);
    }
    ort_feed_destroy(&engine, feed);
    assert_int_equal(alive, 0);
    return made;
}

TEST(memories_in_turn_have_their_values_kept)
{
    for (size_t memories = 1; memories <= ORT_FEED_KEPT; memories++) {
        assert_int_equal(values_made(memories, 5), memories);
    }
    assert_true(values_made(ORT_FEED_KEPT + 1, 5) <= 5 * (ORT_FEED_KEPT + 1));
}
