/* SPDX-License-Identifier: Apache-2.0 */
/* The table of build options, and what is made of it: checks, copies and texts. */
#include "kiln_test.h"
#include "options/kln_options.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static kiln_build_options rich_options(void)
{
    static const int64_t values[] = {1, 2, 3};
    static const kiln_profile_input inputs[] = {
        {.name = "a", .min = {1, {1}}, .opt = {1, {2}}, .max = {1, {3}}},
        {.name = "b",
         .min_values = values,
         .opt_values = values,
         .max_values = values,
         .value_count = 3}};
    static const kiln_profile profiles[] = {{.inputs = inputs, .input_count = 2},
                                            {.inputs = inputs, .input_count = 1},
                                            {.inputs = NULL, .input_count = 0}};
    static const kiln_shape_hint hints[] = {{"a", {1, {2}}}};
    static const char *const names[] = {"w1", "w2"};
    static const int32_t capabilities[] = {80, 89};
    kiln_build_options options = backend_options("tensorrt");
    options.library = "rtx";
    options.profiles = profiles;
    options.profile_count = 3;
    options.timing_cache = "cache";
    options.timing_cache_bytes = (kiln_span){"xyz", 3};
    options.refit = KILN_REFIT_INDIVIDUAL;
    options.refit_weights = names;
    options.refit_weight_count = 2;
    options.shape_hints = hints;
    options.shape_hint_count = 1;
    options.tactic_sources = "-CUDNN";
    options.compute_capabilities = capabilities;
    options.compute_capability_count = 2;
    options.plugins = names;
    options.plugin_count = 2;
    return options;
}

static kiln_status copy_rich(void *user)
{
    kln_arena arena = {0};
    *(kiln_build_options *)user = rich_options();
    const kiln_status status = kln_build_options_copy(&arena, user);
    kln_arena_finish(&arena);
    return status;
}

TEST(options_are_copied_whole)
{
    kln_arena arena = {0};
    const kiln_build_options from = rich_options();
    kiln_build_options to = from;
    assert_ok(kln_build_options_copy(&arena, &to));
    assert_true(to.backend != from.backend);
    assert_string_equal(to.backend, "tensorrt");
    assert_string_equal(to.library, "rtx");
    assert_true(to.profiles != from.profiles && to.profiles[0].inputs != from.profiles[0].inputs);
    assert_string_equal(to.profiles[0].inputs[1].name, "b");
    assert_int_equal(to.profiles[0].inputs[1].opt_values[2], 3);
    assert_int_equal(to.profiles[0].inputs[0].max.dims[0], 3);
    assert_null(to.profiles[2].inputs);
    assert_memory_equal(to.timing_cache_bytes.data, "xyz", 3);
    assert_string_equal(to.refit_weights[1], "w2");
    assert_string_equal(to.tactic_sources, "-CUDNN");
    assert_int_equal(to.compute_capabilities[1], 89);
    assert_string_equal(to.shape_hints[0].name, "a");
    /* A job may run when the process is in another folder. */
    assert_true(to.plugins[1][0] == '/' && strcmp(strrchr(to.plugins[1], '/'), "/w2") == 0);
    assert_true(to.timing_cache[0] == '/');
    kln_arena_finish(&arena);
    kiln_build_options scratch;
    kiln_test_each_allocation(copy_rich, &scratch);
}

/* Each byte of the struct belongs to one row, or pads. */
TEST(no_member_lacks_a_row)
{
    const size_t head = offsetof(kiln_build_options, backend);
    size_t of_rows = 0;
    for (const kln_option *option = kln_options; option->groups != 0; option++) {
        of_rows += option->size + (option->count_offset != 0 ? sizeof(size_t) : 0);
        assert_true(option->offset >= head && option->shown.help[0] != '\0');
    }
    assert_in_range(sizeof(kiln_build_options) - head - of_rows, 0, 64);
    size_t known = 0;
    for (size_t i = head; i < sizeof(kiln_build_options); i++) {
        kiln_build_options one = KILN_BUILD_OPTIONS_INIT;
        ((unsigned char *)&one)[i] = 1;
        known += kln_options_beyond(&one, 0) != NULL;
    }
    assert_int_equal(known, of_rows);
}

TEST(a_backend_refuses_what_is_not_its_own)
{
    kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
    assert_null(kln_options_beyond(&options, 0));
    options.serialize_plugins = true;
    options.profile_nodes = true;
    assert_string_equal(kln_options_beyond(&options, 0)->shown.name, "profile_nodes");
    assert_string_equal(kln_options_beyond(&options, KLN_OPTIONS_ANY)->shown.name,
                        "serialize_plugins");
    options.tf32 = KILN_SWITCH_OFF;
    assert_null(kln_options_beyond(&options, KLN_OPTIONS_ANY | KLN_OPTIONS_TENSORRT));
    options.serialize_plugins = false;
    assert_null(kln_options_beyond(&options, KLN_OPTIONS_ANY | KLN_OPTIONS_CUDA));
}

/* Options that the members make are refused with these words. */
#define REFUSED(status, words, ...)                                              \
    do {                                                                         \
        const kiln_build_options one = {.struct_size = sizeof one, __VA_ARGS__}; \
        assert_status((status), kln_build_options_read(&one, &copy));            \
        assert_message(words);                                                   \
    } while (0)

TEST(what_is_out_of_range_is_refused_by_name)
{
    static const int32_t many[65] = {80};
    static const char *const holes[] = {"a", NULL};
    kiln_build_options copy;
    assert_ok(kln_build_options_read(NULL, &copy));
    REFUSED(KILN_ERROR_INVALID_ARGUMENT,
            "kiln_build_options: device is -1; it must be 0 to 2147483647", .device = -1);
    REFUSED(KILN_ERROR_INVALID_ARGUMENT,
            "conv_search is 4; it must be default (0), exhaustive (1), heuristic (2) or none (3)",
            .conv_search = (kiln_conv_search)4);
    REFUSED(KILN_ERROR_INVALID_ARGUMENT, "builder_optimization_level is 6; it must be -1 to 5",
            .builder_optimization_level = 6);
    REFUSED(KILN_ERROR_INVALID_ARGUMENT,
            "workspace_bytes is -1; it must be 0 to 9223372036854775807",
            .workspace_bytes = UINT64_MAX);
    REFUSED(KILN_ERROR_NULL_ARGUMENT, "1 profile is promised, and the pointer to them is NULL",
            .profile_count = 1);
    REFUSED(KILN_ERROR_INVALID_ARGUMENT, "65 compute_capabilities are given, 64 are the limit",
            .compute_capabilities = many, .compute_capability_count = 65);
    REFUSED(KILN_ERROR_NULL_ARGUMENT, "plugins[1] is NULL", .plugins = holes, .plugin_count = 2);
    const kiln_build_options smaller = {.struct_size = sizeof smaller - 1};
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kln_build_options_read(&smaller, &copy));
}

/* --- by name --- */

static void assert_text(const kiln_build_options *options, const char *name, const char *expected)
{
    char text[300];
    size_t length = 0;
    assert_ok(kiln_build_options_get(options, name, text, sizeof text, &length));
    assert_string_equal(text, expected);
    assert_int_equal(length, strlen(expected));
}

static const struct {
    const char *name, *value;
} texts[] = {
    {"backend", "tensorrt"},
    {"device", "3"},
    {"optimization", "extended"},
    {"gpu_memory_bytes", "1073741824"},
    {"builder_optimization_level", "-1"},
    {"strip_plan", "true"},
    {"weights_folder", "/some/folder"},
    {"library", "rtx"},
    {"compute_capabilities", "80\n120"},
    {"plugins", "/a.so\n/b.so"},
    {"profiles",
     "x=1x8:4x8:8x8 s=v1,64:v1,128:v1,-256\ny=scalar:scalar:scalar\n"
     "two words=1:2:3 a=b=1:2:3"},
    {"refit_weights", "w"},
    {"shape_hints", "a=b=2x3"},
};

/* A list takes one line at a time. */
static kiln_status set_lines(kiln_build_options *options, const char *name, const char *value)
{
    char copy[300];
    (void)snprintf(copy, sizeof copy, "%s", value);
    char *rest = NULL;
    kiln_status status = KILN_OK;
    for (char *line = strtok_r(copy, "\n", &rest); line != NULL && status == KILN_OK;
         line = strtok_r(NULL, "\n", &rest)) {
        status = kiln_build_options_set(options, name, line);
    }
    return status;
}

TEST(each_text_comes_back)
{
    kiln_build_options *options = NULL;
    assert_ok(kiln_build_options_create(&options));
    for (size_t i = 0; i < COUNT(texts); i++) {
        assert_ok(set_lines(options, texts[i].name, texts[i].value));
    }
    for (size_t i = 0; i < COUNT(texts); i++) {
        assert_text(options, texts[i].name, texts[i].value);
    }
    assert_int_equal(options->gpu_memory_bytes, 1 << 30);
    assert_int_equal(options->profile_count, 3);
    assert_int_equal(options->profiles[0].inputs[1].max_values[1], -256);
    assert_int_equal(options->profiles[0].inputs[0].opt.dims[0], 4);
    assert_string_equal(options->shape_hints[0].name, "a=b");
    kiln_build_options copy = *options;
    kiln_build_options_destroy(&copy); /* owns nothing */
    for (size_t i = 0; i < COUNT(texts); i++) {
        assert_ok(kiln_build_options_set(options, texts[i].name, NULL));
    }
    assert_null(kln_options_beyond(options, 0));
    assert_text(options, "optimization", "default");
    assert_text(options, "profiles", "");
    assert_ok(kiln_build_options_set(options, "profiles", "x=2x2"));
    assert_text(options, "profiles", "x=2x2:2x2:2x2");
    kiln_build_options_destroy(options);
    kiln_build_options_destroy(NULL);
}

static kiln_status set_and_get(void *user)
{
    kiln_build_options *options = NULL;
    char text[300];
    size_t length = 0;
    KLN_RETURN_IF_ERROR(kiln_build_options_create(&options));
    kiln_status status = KILN_OK;
    for (size_t i = 0; i < COUNT(texts) && status == KILN_OK; i++) {
        status = set_lines(options, texts[i].name, texts[i].value);
        if (status == KILN_OK) {
            status = kiln_build_options_get(options, texts[i].name, text, sizeof text, &length);
        }
    }
    kiln_build_options_destroy(options);
    return status;
}

TEST(what_cannot_be_set_says_why)
{
    static const struct {
        const char *name, *value;
        kiln_status status;
        const char *words;
    } wrong[] = {
        {"gpu_memory_byte", "1", KILN_ERROR_NAME, "did you mean gpu_memory_bytes?"},
        {"zzz", "1", KILN_ERROR_NAME, "no build option \"zzz\"; kiln_build_option_get lists"},
        {"device", "-1", KILN_ERROR_INVALID_ARGUMENT,
         "device: \"-1\" was given; it must be 0 to 2147483647"},
        {"device", "", KILN_ERROR_INVALID_ARGUMENT, "device: \"\" was given"},
        {"device", "1 ", KILN_ERROR_INVALID_ARGUMENT, "device: \"1 \" was given"},
        {"gpu_memory_bytes", "99999999999999999999", KILN_ERROR_INVALID_ARGUMENT, "0 to 9223"},
        {"refit", "al", KILN_ERROR_INVALID_ARGUMENT,
         "refit: \"al\" was given; it must be none (0), all (1), identical (2) or individual (3)"},
        {"direct_io", "1", KILN_ERROR_INVALID_ARGUMENT, "it must be false (0) or true (1)"},
        {"compute_capabilities", "80,", KILN_ERROR_INVALID_ARGUMENT, "numbers such as 80,89,120"},
        {"compute_capabilities", "80,x", KILN_ERROR_INVALID_ARGUMENT, "numbers such as 80,89,120"},
        {"profiles", "x=1x8:4x8", KILN_ERROR_INVALID_ARGUMENT, "NAME=MIN:OPT:MAX for each"},
        {"profiles", "=1:1:1", KILN_ERROR_INVALID_ARGUMENT, "cannot be read"},
        {"profiles", "x=1:1:1:1", KILN_ERROR_INVALID_ARGUMENT, "cannot be read"},
        {"profiles", "", KILN_ERROR_INVALID_ARGUMENT, "cannot be read"},
        {"profiles", "x=v1:v1,2:v1", KILN_ERROR_INVALID_ARGUMENT, "cannot be read"},
        {"profiles", "x=v1:v:v1", KILN_ERROR_INVALID_ARGUMENT, "cannot be read"},
        {"profiles", "x=v1:2:v1", KILN_ERROR_INVALID_ARGUMENT, "cannot be read"},
        {"shape_hints", "x", KILN_ERROR_INVALID_ARGUMENT, "NAME=SHAPE is needed"},
        {"gpu_pool", "x", KILN_ERROR_UNSUPPORTED, "it is something in memory"},
    };
    kiln_build_options *options = NULL;
    assert_ok(kiln_build_options_create(&options));
    for (size_t i = 0; i < COUNT(wrong); i++) {
        assert_fails(wrong[i].status,
                     kiln_build_options_set(options, wrong[i].name, wrong[i].value),
                     wrong[i].words);
        assert_null(kln_options_beyond(options, 0));
    }
    size_t length = 0;
    char text[4] = "";
    assert_status(KILN_ERROR_UNSUPPORTED,
                  kiln_build_options_get(options, "issues", text, sizeof text, &length));
    assert_ok(kiln_build_options_set(options, "backend", "reference"));
    assert_ok(kiln_build_options_get(options, "backend", text, sizeof text, &length));
    assert_string_equal(text, "ref");
    assert_int_equal(length, 9);
    kiln_build_options_destroy(options);
    kiln_build_options own = KILN_BUILD_OPTIONS_INIT;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_build_options_set(&own, "device", "0"),
                 "kiln_build_options_create");
    kiln_test_each_allocation(set_and_get, NULL);
}

TEST(the_list_tells_all)
{
    kiln_build_option option = {.struct_size = sizeof option};
    size_t choices = 0;
    for (size_t i = 0; i < kiln_build_option_count(); i++) {
        assert_ok(kiln_build_option_get(i, &option));
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(option.name, kln_options[k].shown.name);
        }
        assert_true((option.kind == KILN_OPTION_CHOICE || strcmp(option.name, "cache") == 0) ==
                    (option.choices != NULL));
        for (choices = 0; option.choices != NULL && option.choices[choices] != NULL; choices++) {
        }
        assert_true(option.kind != KILN_OPTION_CHOICE || (int64_t)choices == option.most + 1);
        assert_true((option.flag != NULL && option.value == NULL) ==
                    (option.flag != NULL && option.kind == KILN_OPTION_FLAG));
    }
    assert_status(KILN_ERROR_INVALID_ARGUMENT,
                  kiln_build_option_get(kiln_build_option_count(), &option));
    /* The words stand in the order of the enumeration. */
    assert_string_equal(kln_option_find("optimization")->shown.choices[KILN_OPTIMIZATION_ALL],
                        "all");
    assert_string_equal(kln_option_find("refit")->shown.choices[KILN_REFIT_INDIVIDUAL],
                        "individual");
    assert_string_equal(
        kln_option_find("profiling_verbosity")->shown.choices[KILN_PROFILING_DETAILED], "detailed");
    assert_string_equal(kln_option_find("provider")->shown.choices[KILN_PROVIDER_CUDA], "cuda");
    assert_string_equal(kln_option_find("tf32")->shown.choices[KILN_SWITCH_OFF], "off");
}
