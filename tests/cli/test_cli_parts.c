/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the program that figures and file names depend on. */
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cJSON.h>

#include "cli_gpu.h"
#include "cli_model.h"
#include "cli_statistics.h"
#include "kiln_test.h"

TEST(figures_have_their_order)
{
    owned_histogram times = cli_times_create();
    for (uint64_t i = 1000; i > 0; i--) {
        kiln_histogram_record(times, i);
    }
    static const double expected[CLI_TIME_FIGURES] = {1, 500.5, 500.5, 900, 950, 990, 999, 1000};
    double figures[CLI_TIME_FIGURES];
    cli_times_figures(times, figures);
    assert_memory_equal(figures, expected, sizeof expected);
    cJSON *found = cli_times_json(times);
    for (size_t i = 0; i < CLI_TIME_FIGURES; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(found, cli_time_names[i]);
        assert_true(item != NULL && fabs(item->valuedouble - expected[i] / 1e6) < 1e-12);
    }
    cJSON_Delete(found);
}

TEST(durations_have_units)
{
    static const struct {
        double nanoseconds;
        const char *text;
    } cases[] = {{0, "0.00 ns"},     {812, "812 ns"},    {1500, "1.50 us"},  {81234, "81.2 us"},
                 {812345, "812 us"}, {8.5e6, "8.50 ms"}, {1.25e9, "1.25 s"}, {1e11, "100 s"}};
    for (size_t i = 0; i < CLI_ARRAY_LENGTH(cases); i++) {
        char text[32];
        cli_duration_format(cases[i].nanoseconds, text, sizeof text);
        assert_string_equal(text, cases[i].text);
    }
}

TEST(words_are_guessed)
{
    static const char *const names[] = {"threads", "runs", "rtol", "atol", "output"};
    static const struct {
        const char *word;
        const char *meant;
    } cases[] = {{"thread", "threads"}, {"htreads", "threads"},
                 {"tol", "rtol"},       {"ruins", "runs"},
                 {"xyz", NULL},         {"", NULL},
                 {"outptu", "output"},  {"o", NULL}};
    for (size_t i = 0; i < CLI_ARRAY_LENGTH(cases); i++) {
        const char *found = cli_closest(cases[i].word, names, CLI_ARRAY_LENGTH(names));
        if (cases[i].meant == NULL) {
            assert_null(found);
        } else {
            assert_non_null(found);
            assert_string_equal(found, cases[i].meant);
        }
    }
    char longest[300];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_null(cli_closest(longest, names, CLI_ARRAY_LENGTH(names)));
}

TEST(numbers_fill_the_argument)
{
    double number = 0;
    assert_true(cli_number("1.5e3", &number) && number == 1500);
    assert_true(cli_number("-0x10", &number) && number == -16);
    assert_false(cli_number("", &number));
    assert_false(cli_number(" 1", &number));
    assert_false(cli_number("1 ", &number));
    assert_false(cli_number("1x", &number));
    assert_false(cli_number("1e999", &number));
}

TEST(what_steers_a_terminal_is_written_out)
{
    static const struct {
        const char *source;
        const char *text;
        size_t columns;
    } cases[] = {
        {"plain", "plain", 5},
        {"\u00fcber \u20ac \U0001d11e", "\u00fcber \u20ac \U0001d11e", 8},
        {"a\x1b[2Jb\x7f", "a\\x1b[2Jb\\x7f", 13},
        {"two\nlines", "two\\nlines", 10},
        {"\xc2\x9b"
         "31m",
         "\\xc2\\x9b31m", 11},
        {"\xff\xc3", "\\xff\\xc3", 8},
        {"\xe0\x80\xaf", "\\xe0\\x80\\xaf", 12},
        {"\xed\xa0\x80", "\\xed\\xa0\\x80", 12},
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80", 16},
    };
    for (size_t i = 0; i < CLI_ARRAY_LENGTH(cases); i++) {
        char *text = cli_printable(cases[i].source);
        assert_string_equal(text, cases[i].text);
        assert_int_equal(cli_columns(text), cases[i].columns);
        free(text);
    }
}

TEST(text_is_wrapped)
{
    cli_text text = {NULL, 0, 0};
    cli_text_append(&text, "a: ", 3);
    cli_text_wrap(&text, "one two  three fourfourfour five", 3, 13);
    assert_string_equal(text.data, "a: one two\n   three\n   fourfourfour\n   five");
    cli_text_finish(&text);
}

static void check_path(const char *name, const char *expected)
{
    char *path = cli_tensor_path("dir", name);
    assert_string_equal(path, expected);
    free(path);
}

TEST(names_become_file_names)
{
    check_path("plain_Name-1.0", "dir/plain_Name-1.0.npy");
    check_path("a/b:0", "dir/a%2Fb%3A0.npy");
    check_path("..", "dir/%2E..npy");
    check_path("../../x", "dir/%2E.%2F..%2Fx.npy");
    check_path("100%", "dir/100%25.npy");
    check_path("", "dir/%.npy");
    check_path("\u00fc\xff\n", "dir/\u00fc%FF%0A.npy");
    char a[400];
    char b[400];
    memset(a, 'a', sizeof a - 1);
    a[sizeof a - 1] = '\0';
    memcpy(b, a, sizeof b);
    b[300] = 'b';
    char *path_a = cli_tensor_path("d", a);
    char *path_b = cli_tensor_path("d", b);
    assert_string_not_equal(path_a, path_b);
    assert_true(strlen(path_a) <= 2 + 220);
    free(path_a);
    free(path_b);
}

TEST(types_without_a_name_in_npy_come_back)
{
    static const kiln_dtype dtypes[] = {KILN_DTYPE_BFLOAT16, KILN_DTYPE_FLOAT8E4M3,
                                        KILN_DTYPE_FLOAT8E5M2, KILN_DTYPE_UINT8};
    uint16_t bits[] = {0x3c00, 0x4000};
    for (size_t i = 0; i < CLI_ARRAY_LENGTH(dtypes); i++) {
        const size_t size = kiln_dtype_bits(dtypes[i]) / 4;
        const kiln_tensor saved = KILN_HOST_TENSOR(dtypes[i], KILN_SHAPE(2), bits, size);
        kiln_tensor loaded;
        assert_int_equal(kiln_tensor_save_npy(&saved, "cli_parts.npy"), KILN_OK);
        assert_int_equal(cli_tensor_load("cli_parts.npy", dtypes[i], &loaded), KILN_OK);
        assert_int_equal(loaded.desc.dtype, dtypes[i]);
        kiln_tensor_free(&loaded);
        assert_int_equal(remove("cli_parts.npy"), 0);
    }
}

TEST(places_are_written)
{
    const kiln_shape shape = KILN_SHAPE(2, 3, 4);
    char text[64];
    cli_index_format(&shape, 23, text, sizeof text);
    assert_string_equal(text, "[1,2,3]");
    cli_index_format(&KILN_SHAPE_SCALAR, 0, text, sizeof text);
    assert_string_equal(text, "[]");
}

TEST(complex_numbers_are_compared)
{
    float a[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    float b[8] = {1, 2, 3, 4, 5, 6, 7, 9};
    const kiln_tensor x = KILN_HOST_TENSOR(KILN_DTYPE_COMPLEX64, KILN_SHAPE(2, 2), a, sizeof a);
    const kiln_tensor y = KILN_HOST_TENSOR(KILN_DTYPE_COMPLEX64, KILN_SHAPE(2, 2), b, sizeof b);
    cli_difference difference;
    assert_int_equal(cli_tensor_compare("x", &x, &y, 0, 0, &difference), CLI_DONE);
    assert_true(difference.different == 1 && difference.largest == 1);
    assert_int_equal(difference.where, 3);
    assert_string_equal(difference.found, "8");
    assert_string_equal(difference.expected, "9");
    assert_int_equal(cli_tensor_compare("x", &x, &y, 1, 0, &difference), CLI_DONE);
    assert_int_equal(difference.different, 0);
}

TEST(nibbles_are_compared)
{
    unsigned char a[2] = {0x21, 0x0f};
    unsigned char b[2] = {0x21, 0x01};
    const kiln_tensor x = KILN_HOST_TENSOR(KILN_DTYPE_INT4, KILN_SHAPE(3), a, sizeof a);
    const kiln_tensor y = KILN_HOST_TENSOR(KILN_DTYPE_INT4, KILN_SHAPE(3), b, sizeof b);
    cli_difference difference;
    assert_int_equal(cli_tensor_compare("x", &x, &y, 0, 0, &difference), CLI_DONE);
    assert_true(difference.different == 1 && difference.largest == 2);
    assert_string_equal(difference.found, "-1");
    cli_summary summary;
    assert_int_equal(cli_tensor_summarize(&x, &summary), CLI_DONE);
    assert_true(summary.minimum == -1 && summary.maximum == 2 && summary.count == 3);
}

static kiln_status enqueue_nothing(void *user, kiln_mock_run *run, kiln_stream *stream,
                                   char message[1024])
{
    ++*(int *)user;
    return KILN_OK;
}

static kiln_status run_nothing(void *user, kiln_mock_run *run, char message[1024])
{
    return enqueue_nothing(user, run, NULL, message);
}

/* Over the driver that tests/fake plays: its clock takes one step, a millisecond, for each copy and
 * for each event. */
TEST(the_parts_of_a_gpus_time_add_up)
{
    int runs = 0;
    const kiln_binding bindings[] = {binding_of("x", KILN_DTYPE_FLOAT32, KILN_SHAPE(8), NULL),
                                     binding_of("y", KILN_DTYPE_FLOAT32, KILN_SHAPE(8), NULL)};
    kiln_engine *engine = NULL;
    kiln_context *context = NULL;
    kiln_tensor x;
    cli_gpu_times found = {.count = 0};
    assert_int_equal(setenv("KILN_CUDA_DRIVER", kiln_test_built("fake/cuda/libcuda.so.1"), 1), 0);
    kiln_mock_options options =
        KILN_MOCK_OPTIONS(.inputs = bindings, .input_count = 1, .outputs = bindings + 1,
                          .output_count = 1, .handler = run_nothing, .enqueue = enqueue_nothing,
                          .user = &runs, .device = 1);
    assert_int_equal(kiln_engine_create_mock(&options, &engine), KILN_OK);
    assert_int_equal(kiln_context_create(engine, NULL, &context), KILN_OK);
    assert_int_equal(cli_gpu_measure(engine, context, KILN_GRAPH_OFF, 0, 20, &found),
                     KILN_ERROR_STATE);
    assert_int_equal(kiln_context_tensor(context, "x", &x), KILN_OK);
    assert_int_equal(kiln_context_run(context), KILN_OK);
    assert_int_equal(cli_gpu_measure(engine, context, KILN_GRAPH_OFF, 0, 20, &found), KILN_OK);
    assert_int_equal(found.count, 20);
    assert_int_equal(runs, 26);
    kiln_histogram_summary parts[CLI_GPU_PARTS];
    for (size_t i = 0; i < CLI_GPU_PARTS; i++) {
        parts[i] = cli_times_summarize(found.times[i]);
        assert_int_equal(parts[i].count, 20);
        assert_true(parts[i].minimum > 0);
    }
    assert_int_equal(parts[CLI_GPU_H2D].minimum, 2000000);
    assert_int_equal(parts[CLI_GPU_H2D].maximum, 2000000);
    assert_int_equal(parts[CLI_GPU_D2H].maximum, 2000000);
    assert_true(parts[CLI_GPU_COMPUTE].minimum >= 1000000);
    const double sum =
        parts[CLI_GPU_H2D].mean + parts[CLI_GPU_COMPUTE].mean + parts[CLI_GPU_D2H].mean;
    assert_true(fabs(parts[CLI_GPU_LATENCY].mean - sum) < 1);
    cli_gpu_finish(&found);
    kiln_context_destroy(context);
    kiln_engine_release(engine);
    (void)unsetenv("KILN_CUDA_DRIVER");
}

/* The library speaks of functions and members, a shell has options. */
TEST(sentences_speak_of_options)
{
    static const char *const pairs[][2] = {
        {"kiln_build_options: \"provider\" is set, which the backend reference does not have",
         "--provider is set, which the backend reference does not have"},
        {"gpu_fallback: it goes with dla_core, which is not set",
         "--gpu-fallback: it goes with --dla-core, which is not set"},
        {"refit: the plan was built without kiln_build_options.refit, so its weights stay",
         "new weights: the plan was built without --refit of `kiln build`, so its weights stay"},
        {"give them first (kiln_engine_refit_file)", "give them first (--refit-from)"},
        {"a.onnx: kiln_engine_tune_file: input \"x\" has a dynamic dimension",
         "a.onnx: input \"x\" has a dynamic dimension"},
        /* Names of tensors and files are theirs. */
        {"there is no input \"weight_streaming\"", "there is no input \"weight_streaming\""},
        {"\"dla_core.onnx\": there is no such file", "\"dla_core.onnx\": there is no such file"},
        {"/tmp/timing_cache.onnx: the provider has plugins, and a refit: no",
         "/tmp/timing_cache.onnx: the provider has plugins, and a new weights: no"},
        {"", ""},
    };
    for (size_t i = 0; i < CLI_ARRAY_LENGTH(pairs); i++) {
        char *shown = cli_in_shell(pairs[i][0]);
        assert_string_equal(shown, pairs[i][1]);
        free(shown);
    }
}

/* A page is there whole or as it was, and nothing lies beside it. */
TEST(a_text_is_saved_whole_or_not_at_all)
{
    static const char *const texts[] = {"old", "a page that is much too long"};
    const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    char *path = strdup(kiln_test_file("page.html", "", 0));
    char part[4096];
    (void)signal(SIGXFSZ, SIG_IGN);
    for (size_t i = 0; i < 2; i++) {
        const struct rlimit few = {i == 0 ? RLIM_INFINITY : 8, RLIM_INFINITY};
        const cli_text text = {(char *)(uintptr_t)texts[i], strlen(texts[i]), 0};
        char found[64] = "";
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &few), 0);
        const cli_exit done = cli_text_save(&text, path);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &all), 0);
        assert_int_equal(done, i == 0 ? CLI_DONE : CLI_FAILED);
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        assert_non_null(fgets(found, sizeof found, file));
        (void)fclose(file);
        assert_string_equal(found, "old");
        (void)snprintf(part, sizeof part, "%s.%ld.part", path, (long)getpid());
        assert_int_not_equal(access(part, F_OK), 0);
    }
    free(path);
}
