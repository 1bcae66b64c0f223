/* SPDX-License-Identifier: Apache-2.0 */
/* Strings as inputs and outputs, on every backend that takes them. */
#include "context_test.h"
#include "graph_maker.h"

static const char *const backends[] = {"mock", "reference", "onnxruntime"};

#define TEXT(text) ((kiln_span){(text), sizeof(text) - 1})

static kiln_tensor strings(kiln_span *spans, int64_t count)
{
    return KILN_HOST_TENSOR(KILN_DTYPE_STRING, KILN_SHAPE(count), spans,
                            (size_t)count * sizeof *spans);
}

static void assert_text(kiln_span found, kiln_span expected)
{
    assert_int_equal(found.size, expected.size);
    assert_true(found.size == 0 || found.data != NULL);
    assert_memory_equal(found.data, expected.data, expected.size);
}

static void assert_texts(const kiln_tensor *found, const kiln_span *expected, int64_t count)
{
    assert_int_equal(found->desc.dtype, KILN_DTYPE_STRING);
    assert_int_equal(found->desc.shape.rank, 1);
    assert_int_equal(found->desc.shape.dims[0], count);
    assert_int_equal(found->bytes, (size_t)count * sizeof(kiln_span));
    for (int64_t i = 0; i < count; i++) {
        assert_text(((const kiln_span *)found->data)[i], expected[i]);
    }
}

/* y is x: what lies in the mock's output is what lies in its input. */
static kiln_status passing(void *user, kiln_mock_run *run, char message[1024])
{
    if (run->inputs[0].bytes != 0) {
        memcpy(run->outputs[0].data, run->inputs[0].data, run->inputs[0].bytes);
    }
    return KILN_OK;
}

static kiln_status open_passing(const char *backend, kiln_engine **engine)
{
    const kiln_binding x = {.struct_size = sizeof x,
                            .name = "x",
                            .dtype = KILN_DTYPE_STRING,
                            .shape = {1, {KILN_DYNAMIC}},
                            .dim_names = {"n"}};
    kiln_binding y = x;
    y.name = "y";
    const kiln_mock_options mock = KILN_MOCK_OPTIONS(.inputs = &x, .input_count = 1, .outputs = &y,
                                                     .output_count = 1, .handler = passing);
    if (strcmp(backend, "mock") == 0) {
        return kiln_engine_create_mock(&mock, engine);
    }
    kiln_test_pause_failures(true);
    const kiln_span model = made_model(17, "in x string[n]; y=Identity(x); out y string[n]");
    kiln_test_pause_failures(false);
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = backend, .threads = 1);
    return kiln_engine_build_bytes(model, &options, engine);
}

static kiln_context *passing_on(const char *backend)
{
    owned_engine engine = NULL;
    assert_ok(open_passing(backend, &engine));
    return context_on(engine);
}

TEST_EACH(any_bytes_pass, i, KLN_ARRAY_LENGTH(backends))
{
    owned_context context = passing_on(backends[i]);
    char many[5000];
    memset(many, 'm', sizeof many);
    kiln_span x[] = {TEXT("one"),
                     {NULL, 0},
                     TEXT("zero \0 inside"),
                     TEXT("gr\xc3\xbc\xc3\x9f"),
                     TEXT("\xff\xfe no UTF-8"),
                     {many, sizeof many}};
    kiln_span y[6] = {{NULL, 0}};
    kiln_tensor found;
    for (int run = 0; run < 4; run++) { /* in the context's memory, and in the caller's */
        const kiln_tensor in = strings(x + run, 6 - run);
        const kiln_tensor out = strings(y, 6 - run);
        bind_tensor(context, "x", in);
        assert_ok(kiln_context_run(context));
        found = tensor_in(context, "y");
        assert_texts(&found, x + run, 6 - run);
        bind_tensor(context, "y", out);
        assert_ok(kiln_context_run(context));
        assert_texts(&out, x + run, 6 - run);
        found = tensor_in(context, "y");
        assert_ptr_equal(found.data, y);
        bind_tensor(context, "y", (kiln_tensor){.data = NULL});
    }
    bind_tensor(context, "x", strings(NULL, 0));
    assert_ok(kiln_context_run(context));
    found = tensor_in(context, "y");
    assert_texts(&found, x, 0);
}

/* What an output shows is the context's: nothing of the caller's memory is looked at any more. */
TEST_EACH(an_output_does_not_need_its_input, i, KLN_ARRAY_LENGTH(backends))
{
    owned_context context = passing_on(backends[i]);
    char text[] = "hello";
    kiln_span x[] = {{text, 5}};
    kiln_named_tensor in = {"x", strings(x, 1)};
    kiln_named_tensor out = {.name = "y"};
    assert_ok(kiln_context_run_once(context, &in, 1, &out, 1));
    memset(text, 'x', 5);
    x[0].data = NULL;
    assert_texts(&out.tensor, &TEXT("hello"), 1);
}

/* Bytes that are read anew in each run, without a bind. */
TEST_EACH(an_input_is_read_in_each_run, i, KLN_ARRAY_LENGTH(backends))
{
    owned_context context = passing_on(backends[i]);
    char text[] = "a";
    kiln_span x[] = {{text, 1}, TEXT("fixed")};
    bind_tensor(context, "x", strings(x, 2));
    for (int run = 0; run < 3; run++) {
        text[0] = (char)('a' + run);
        x[1] = run == 2 ? TEXT("another") : x[1];
        assert_ok(kiln_context_run(context));
        const kiln_tensor found = tensor_in(context, "y");
        assert_texts(&found, x, 2);
    }
}

/* The last result as the next input, as the tensor that was shown, and by its strings alone. */
TEST_EACH(a_result_may_be_fed_back, i, KLN_ARRAY_LENGTH(backends))
{
    owned_context context = passing_on(backends[i]);
    kiln_span x[] = {TEXT("first"), TEXT("second")};
    const kiln_span expected[] = {TEXT("first"), TEXT("second")};
    bind_tensor(context, "x", strings(x, 2));
    assert_ok(kiln_context_run(context));
    for (int run = 0; run < 6; run++) {
        kiln_tensor found = tensor_in(context, "y");
        if (run % 2 == 0) {
            memcpy(x, found.data, sizeof x);
            found = strings(x, 2);
        }
        bind_tensor(context, "x", found);
        assert_ok(kiln_context_run(context));
        found = tensor_in(context, "y");
        assert_texts(&found, expected, 2);
    }
    /* One array as both. */
    bind_tensor(context, "x", strings(x, 2));
    bind_tensor(context, "y", strings(x, 2));
    for (int run = 0; run < 3; run++) {
        assert_ok(kiln_context_run(context));
        const kiln_tensor both = strings(x, 2);
        assert_texts(&both, expected, 2);
    }
}

TEST_EACH(memory_of_the_context_begins_with_empty_strings, i, KLN_ARRAY_LENGTH(backends))
{
    owned_context context = passing_on(backends[i]);
    kiln_tensor x;
    assert_ok(kiln_context_reshape(context, "x", &KILN_SHAPE(2)));
    assert_ok(kiln_context_run(context));
    kiln_tensor found = tensor_in(context, "y");
    assert_texts(&found, (const kiln_span[]){{NULL, 0}, {NULL, 0}}, 2);
    assert_ok(kiln_context_input_tensor(context, "x", &x));
    ((kiln_span *)x.data)[1] = TEXT("filled");
    assert_ok(kiln_context_run(context));
    found = tensor_in(context, "y");
    assert_texts(&found, (const kiln_span[]){{NULL, 0}, TEXT("filled")}, 2);
}

TEST_EACH(what_cannot_be_is_refused, i, KLN_ARRAY_LENGTH(backends))
{
    owned_context context = passing_on(backends[i]);
    kiln_span x[] = {TEXT("fine"), {NULL, 3}};
    kiln_span y[2];
    kiln_tensor tensor = strings(x, 2);
    tensor.desc.location = KILN_LOCATION_PINNED;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_context_bind(context, "x", &tensor),
                 "input \"x\": strings lie in host memory, not in pinned memory");
    tensor = strings(x, 2);
    tensor.bytes -= 1;
    assert_status(KILN_ERROR_SIZE, kiln_context_bind(context, "x", &tensor));
    tensor = strings(x, 2);
    tensor.desc.dtype = KILN_DTYPE_UINT8;
    assert_fails(KILN_ERROR_DTYPE, kiln_context_bind(context, "x", &tensor),
                 "string is needed, uint8 was given");
    bind_tensor(context, "x", strings(x, 2));
    assert_fails(KILN_ERROR_NULL_ARGUMENT, kiln_context_run(context),
                 "input \"x\": the address of string 1, of 3 bytes, is NULL");
    x[1].size = 0;
    assert_ok(kiln_context_run(context));
    if (strcmp(backends[i], "mock") != 0) {
        bind_tensor(context, "y", strings(y, 1));
        assert_status(KILN_ERROR_SHAPE, kiln_context_run(context));
        bind_tensor(context, "y", strings(y, 2));
        assert_ok(kiln_context_run(context));
    }
}

TEST_EACH(the_steady_state_takes_nothing_from_the_heap, i, KLN_ARRAY_LENGTH(backends))
{
    owned_context context = passing_on(backends[i]);
    kiln_span x[] = {TEXT("a string that is too long to lie in an object"), TEXT("short")};
    kiln_span y[2];
    uint64_t before = 0;
    for (int run = 0; run < 40; run++) {
        bind_tensor(context, "x", strings(x, 2));
        bind_tensor(context, "y", run % 2 == 0 ? strings(y, 2) : (kiln_tensor){.data = NULL});
        assert_ok(kiln_context_run(context));
        const kiln_tensor found = tensor_in(context, "y");
        assert_texts(&found, x, 2);
        before = run == 9 ? kiln_test_allocations() : before;
    }
    assert_int_equal(kiln_test_allocations(), before);
}

static kiln_status live(void *user)
{
    owned_engine engine = NULL;
    owned_context context = NULL;
    kiln_span x[] = {TEXT("one"), TEXT("and another")};
    kiln_tensor tensor = strings(x, 2);
    TRY(open_passing(user, &engine));
    TRY(kiln_context_create(engine, NULL, &context));
    TRY(kiln_context_bind(context, "x", &tensor));
    for (int run = 0; run < 2; run++) {
        TRY(kiln_context_run(context));
        TRY(kiln_context_tensor(context, "y", &tensor));
        assert_texts(&tensor, x, 2);
        TRY(kiln_context_bind(context, "x", &tensor));
    }
    return KILN_OK;
}

TEST_EACH(every_allocation_can_fail, i, KLN_ARRAY_LENGTH(backends))
{
    char name[16];
    (void)snprintf(name, sizeof name, "%s", backends[i]);
    kiln_test_each_allocation(live, name);
}

/* Strings beside numbers, an output that is an input, and one whose shape depends on values. */
TEST_EACH(strings_move_among_numbers, i, 2)
{
    static const char text[] =
        "in x string[n]; in k int64[m]; picked=Gather(x,k); same=Equal(x,picked); "
        "two=Concat(x,picked) axis=0; out picked string[m]; out same bool[n]; out two string[w]; "
        "out x string[n]";
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = backends[i + 1]);
    owned_engine engine = built_bytes(made_model(19, text), &options);
    owned_context context = context_on(engine);
    kiln_span x[] = {TEXT("a"), TEXT("b"), TEXT("c")};
    int64_t k[] = {2, 1, 0};
    kiln_span mine[3];
    kiln_tensor out = strings(mine, 3);
    for (int run = 0; run < 3; run++) {
        bind_tensor(context, "x", strings(x, 3));
        bind_tensor(context, "k", KILN_HOST_TENSOR(KILN_DTYPE_INT64, KILN_SHAPE(3), k, sizeof k));
        bind_tensor(context, "picked", run == 2 ? out : (kiln_tensor){.data = NULL});
        assert_ok(kiln_context_run(context));
        const kiln_tensor picked = tensor_in(context, "picked");
        const kiln_tensor two = tensor_in(context, "two");
        const kiln_tensor through = tensor_in(context, "x");
        assert_texts(&picked, (const kiln_span[]){x[2], x[1], x[0]}, 3);
        assert_texts(&two, (const kiln_span[]){x[0], x[1], x[2], x[2], x[1], x[0]}, 6);
        assert_texts(&through, x, 3);
        assert_memory_equal(tensor_in(context, "same").data, ((const char[]){0, 1, 0}), 3);
    }
}

/* What a check says of a border, for a backend that binds strings and one that does not. */
TEST(a_check_says_who_takes_strings)
{
    static const struct {
        const char *model, *backend, *says;
    } cases[] = {
        {"in x string[n]; y=Identity(x); out y string[n]", "reference", NULL},
        {"in x string[n]; y=Identity(x); out y string[n]", "onnxruntime", NULL},
        {"in x string[n]; y=Identity(x); out y string[n]", "tensorrt",
         "input \"x\" is of type string, which the backend tensorrt has no tensors of"},
        {"in x float32[n]; y=SplitToSequence(x); sequence y float32", "onnxruntime",
         "zipmap=False"},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        const kiln_span model = made_model(17, "%s", cases[i].model);
        kiln_check_options options = KILN_CHECK_OPTIONS(.backend = cases[i].backend);
        owned_issue_list issues = NULL;
        bool found = false;
        assert_ok(kiln_check_bytes(model, NULL, &options, &issues));
        for (size_t k = 0; k < kiln_issue_list_count(issues); k++) {
            const char *sentence = kiln_issue_list_get(issues, k)->sentence;
            found |= cases[i].says != NULL && strstr(sentence, cases[i].says) != NULL;
        }
        assert_true(found == (cases[i].says != NULL));
        assert_true((kiln_issue_list_errors(issues) == 0) == (cases[i].says == NULL));
    }
}

TEST(a_pipeline_refuses_strings)
{
    owned_engine engine = NULL;
    kiln_pipeline *pipeline = NULL;
    assert_ok(open_passing("mock", &engine));
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_pipeline_create(engine, NULL, &pipeline),
                 "input \"x\" is of strings");
    assert_null(pipeline);
}

/* --- a scheduler --- */

enum { CALLERS = 4 };

typedef struct caller {
    kiln_span x[3];
    char text[3][24];
    kiln_request *request;
} caller;

static void submit(kiln_scheduler *scheduler, caller *one, int64_t rows, kiln_span *mine)
{
    const kiln_named_tensor in = {"x", strings(one->x, rows)};
    const kiln_named_tensor out = {"y", strings(mine, rows)};
    for (int64_t i = 0; i < rows; i++) {
        const int length = snprintf(one->text[i], sizeof one->text[i], "row %lld of %p",
                                    (long long)i, (void *)one);
        one->x[i] = (kiln_span){one->text[i], (size_t)length * (i != 1)};
    }
    assert_ok(kiln_scheduler_submit(scheduler, &in, 1, &out, mine != NULL, NULL, &one->request));
}

/* Rows of several requests in one batch; what each gets is its own until it is released. */
TEST_EACH(a_scheduler_joins_strings, i, KLN_ARRAY_LENGTH(backends))
{
    owned_engine engine = NULL;
    assert_ok(open_passing(backends[i], &engine));
    const kiln_scheduler_options options =
        KILN_SCHEDULER_OPTIONS(.schedule = KILN_SCHEDULE_THROUGHPUT, .max_batch = 16, .contexts = 1,
                               .delay_nanoseconds = 20000000);
    owned_scheduler scheduler = scheduler_on(&engine, 1, &options);
    for (int round = 0; round < 3; round++) {
        caller all[CALLERS] = {{.request = NULL}};
        kiln_span mine[CALLERS][3];
        for (int k = 0; k < CALLERS; k++) {
            submit(scheduler, &all[k], 1 + k % 3, k % 2 == 0 ? mine[k] : NULL);
        }
        for (int k = 0; k < CALLERS; k++) {
            assert_ok(kiln_request_wait(all[k].request, -1));
        }
        for (int k = 0; k < CALLERS; k++) {
            kiln_tensor found;
            char kept[3][24];
            kiln_span expected[3];
            memcpy(kept, all[k].text, sizeof kept);
            for (int64_t r = 0; r < 1 + k % 3; r++) {
                expected[r] = (kiln_span){kept[r], all[k].x[r].size};
            }
            memset(all[k].text, 'x', sizeof all[k].text);
            assert_ok(kiln_request_output(all[k].request, "y", &found));
            assert_true(k % 2 != 0 || found.data == mine[k]);
            assert_texts(&found, expected, 1 + k % 3);
        }
        for (int k = 0; k < CALLERS; k++) {
            kiln_request_release(all[k].request);
        }
    }
}

TEST(who_waits_for_strings_has_a_request)
{
    owned_engine engine = NULL;
    kiln_span x[] = {TEXT("a")};
    kiln_span y[1];
    const kiln_named_tensor in = {"x", strings(x, 1)};
    const kiln_named_tensor out = {"y", strings(y, 1)};
    assert_ok(open_passing("mock", &engine));
    owned_scheduler scheduler = scheduler_on(&engine, 1, NULL);
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_scheduler_run(scheduler, &in, 1, &out, 1, NULL),
                 "output \"y\" is of strings, whose bytes are a request's");
}

/* --- files, filling and comparing --- */

TEST(files_hold_strings_of_one_width)
{
    const struct {
        kiln_span x[3];
        const char *code;
    } cases[] = {
        {{TEXT("one"), TEXT(""), TEXT("gr\xc3\xbcn \xf0\x9f\x98\x80")}, "'descr': '<U6'"},
        {{TEXT("\xff\x01"), TEXT("in \0 it"), TEXT("")}, "'descr': '|S7'"},
        {{TEXT(""), TEXT(""), TEXT("")}, "'descr': '<U1'"},
    };
    const char *path = kiln_test_path("strings.npy");
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        kiln_span x[3];
        kiln_tensor loaded;
        char header[1000];
        memcpy(x, cases[i].x, sizeof x);
        const kiln_tensor tensor = strings(x, 3);
        assert_ok(kiln_tensor_save_npy(&tensor, path));
        header[kiln_test_read(path, header, sizeof header)] = '\0';
        assert_non_null(strstr(header + 10, cases[i].code));
        assert_ok(kiln_tensor_load_npy(path, &loaded));
        assert_texts(&loaded, cases[i].x, 3);
        kiln_tensor_free(&loaded);
    }
    kiln_span bad[] = {TEXT("zero\0")};
    const kiln_tensor tensor = strings(bad, 1);
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_tensor_save_npy(&tensor, path),
                 "string 0 has a zero byte at its end");
}

TEST(random_strings_are_the_same_everywhere)
{
    kiln_span x[100];
    kiln_span y[100];
    const double range[] = {0, 1};
    const kiln_tensor a = strings(x, 100);
    const kiln_tensor b = strings(y, 100);
    assert_ok(kiln_tensor_fill(&a, "x", 7, NULL));
    assert_ok(kiln_tensor_fill(&b, "x", 7, NULL));
    assert_texts(&b, x, 100);
    for (size_t i = 0; i < 100; i++) {
        assert_in_range(x[i].size, 1, 4);
        assert_true(strspn(x[i].data, "0123456789") >= x[i].size);
    }
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_tensor_fill(&a, "x", 7, range),
                 "\"x\" is of strings");
}

/* Numbers as the shortest text that reads back as they are, in a program's own locale too. */
TEST(numbers_become_the_shortest_text)
{
    static const struct {
        float value;
        const char *text;
    } cases[] = {{100, "100"},
                 {0.1F, "0.1"},
                 {-2.25F, "-2.25"},
                 {16777216, "16777216"},
                 {1e20F, "1e+20"},
                 {0.97676110F, "0.9767611"},
                 {1e-4F, "0.0001"},
                 {3e-7F, "3e-07"},
                 {0, "0"},
                 {(float)INFINITY, "INF"},
                 {-(float)INFINITY, "-INF"},
                 {(float)NAN, "NaN"}};
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
    owned_engine engine =
        built_bytes(made_model(19,
                               "in x float32[n]; t=Cast(x) to=8; y=Cast(t) to=1; out t string[n]; "
                               "out y float32[n]"),
                    &options);
    owned_context context = context_on(engine);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        float x[] = {cases[i].value};
        bind_tensor(context, "x", floats(x, 1));
        assert_ok(kiln_context_run(context));
        const kiln_tensor text = tensor_in(context, "t");
        const float back = *(const float *)tensor_in(context, "y").data;
        assert_text(*(const kiln_span *)text.data,
                    (kiln_span){cases[i].text, strlen(cases[i].text)});
        assert_true(back == cases[i].value || (isnan(back) && isnan(cases[i].value)));
    }
}
