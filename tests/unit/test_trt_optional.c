/* SPDX-License-Identifier: Apache-2.0 */
/* Every option over every version that the table of TensorRT's interface tells apart: it is there,
 * or refused by its name, with the version and the versions that have it. The stand-in counts each
 * call of a method that its version lacks; one fails the test. */
#include "fake_tensorrt_test.h"

#ifdef KILN_TEST_REAL_TENSORRT
#define FOLDER_OF(version) fake_folder(0)
#define NAME_OF(version) fake_layouts[0].name
#else
#define FOLDER_OF(version) fake_place(versions[version].folder)
#define NAME_OF(version) versions[version].name
#endif

static const struct {
    const char *folder; /* another spelling for each, for a library is looked at once a path */
    const char *version;
    const char *name;
} versions[] = {
    {"10/./.", "100000", "TensorRT 10.0.0"},
    {"10/././.", "100100", "TensorRT 10.1.0"},
    {"10/./././.", "100200", "TensorRT 10.2.0"},
    {"10/././././.", "100600", "TensorRT 10.6.0"},
    {"10/./././././.", "100803", "TensorRT 10.8.3"},
    {"10/././././././.", "101100", "TensorRT 10.11.0"},
    {"10/./././././././.", "101601", "TensorRT 10.16.1"},
    {"11/./.", "110000", "TensorRT 11.0.0"},
    {"11/././.", "110400", "TensorRT 11.4.0"},
    {"rtx14/./.", "10300", "TensorRT-RTX 1.3.0"},
    {"rtx14/././.", "10400", "TensorRT-RTX 1.4.0"},
    {"rtx15/./.", "10500", "TensorRT-RTX 1.5.0"},
    {"rtx15/././.", "10701", "TensorRT-RTX 1.7.1"},
};

#define VERSIONS KLN_ARRAY_LENGTH(versions)

#ifdef KILN_TEST_REAL_TENSORRT
/* A real library is like the newest of its family that is no newer. */
static bool is_played(size_t version)
{
    const int32_t real = real_library->abi.version;
    size_t like = VERSIONS;
    for (size_t v = 0; v < VERSIONS; v++) {
        const int32_t number = atoi(versions[v].version);
        like = number / 10000 == real / 10000 && number <= real ? v : like;
    }
    return version == like;
}
#else
static bool is_played(size_t version)
{
    return version < VERSIONS;
}
#endif

/* `absent`: in which of `versions` it must be refused, a letter each: "x" absent, "." there. A real
 * library can still build within these limits. */
static const struct {
    const char *absent;
    const char *texts[4]; /* names and values */
} options_of_builds[] = {
    {".............", {"workspace_bytes", "268435456"}},
    {".............", {"builder_optimization_level", "2"}},
    {".............", {"tf32", "off"}},
    {".............", {"sparse_weights", "true"}},
    {".............", {"weight_streaming", "true"}},
    {".............", {"direct_io", "true"}},
    {".............", {"disable_timing_cache", "true"}},
    {".............", {"disable_compilation_cache", "true"}},
    {".............", {"profiling_verbosity", "detailed"}},
    {".............", {"max_aux_streams", "2"}},
    {".............", {"average_timing_iterations", "2"}},
    {".............", {"strip_plan", "true", "refit", "all"}},
    {".............", {"refit", "identical"}},
    {"xx..x........", {"refit", "individual", "refit_weights", "w"}},
    {".............", {"version_compatible", "true"}},
    {".............", {"exclude_lean_runtime", "true", "version_compatible", "true"}},
    {"xxxxxx.......", {"distributive_independence", "true"}},
    {"xxx..........", {"strict_nans", "true"}},
    {"xxxxx........", {"hardware_compatibility", "same-capability"}},
    {".............", {"tactic_sources", "+JIT_CONVOLUTIONS"}},
    {"xxxx.........", {"tiling_optimization_level", "1"}},
    {"xxxx.........", {"l2_limit_for_tiling", "4096"}},
    {"xxx..........", {"max_tactics", "2"}},
    {"xx...........", {"windows_runtime", "true"}},
    {"xxxxxxxxx....", {"compute_capabilities", "89"}},
    {".............", {"dla_sram_bytes", "4096"}},
    {".............", {"dla_local_dram_bytes", "4096"}},
    {".............", {"dla_global_dram_bytes", "4096"}},
    {".............", {"tactic_dram_bytes", "268435456"}},
    {".............", {"tactic_shared_bytes", "49152"}},
};

static kiln_status build_in(size_t version, const char *const texts[4])
{
    kiln_build_options *options = NULL;
    assert_ok(kiln_build_options_create(&options));
    options->backend = "tensorrt";
    options->library = FOLDER_OF(version);
    options->builder_optimization_level = ON_STAND_IN ? 0 : -1; /* a real one takes its time */
    set("KILN_FAKE_TENSORRT", versions[version].version);
    for (size_t i = 0; i < 4 && texts[i] != NULL; i += 2) {
        assert_ok(kiln_build_options_set(options, texts[i], texts[i + 1]));
    }
    owned_network network = conv_network();
    kiln_engine *engine = NULL;
    const kiln_status status = kiln_engine_build(network, options, &engine);
    kiln_engine_release(engine);
    kiln_build_options_destroy(options);
    return status;
}

/* It begins with the option that is missing. */
static void check_sentence(const char *option, const char *version)
{
    const char *sentence = kiln_error_message();
    if (strncmp(sentence, option, strlen(option)) != 0) {
        fail_msg("\"%s\" does not begin with %s", sentence, option);
    }
    assert_message(version);
    assert_message("does not have; leave it out, or use one that has: TensorRT");
}

TENSORRT_TEST(an_option_is_there_or_refused_by_name)
{
    bool good = true;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(options_of_builds); i++) {
        char found[VERSIONS + 1] = "";
        for (size_t v = 0; v < VERSIONS; v++) {
            if (!is_played(v)) {
                found[v] = options_of_builds[i].absent[v];
                continue;
            }
            const kiln_status status = build_in(v, options_of_builds[i].texts);
            found[v] = status == KILN_OK ? '.' : status == KILN_ERROR_UNSUPPORTED ? 'x' : '?';
            if (!ON_STAND_IN && status == KILN_ERROR_NOT_FOUND) {
                assert_message("not beside"); /* it has the option, and lacks a library */
                found[v] = '.';
            } else if (!ON_STAND_IN && strstr(kiln_error_message(), "were asked for") != NULL) {
                found[v] = '.'; /* it has the option, for devices that are not here */
            } else if (status != KILN_OK) {
                check_sentence(options_of_builds[i].texts[0], NAME_OF(v));
            }
        }
        if (strcmp(found, options_of_builds[i].absent) != 0) {
            print_message("    {\"%s\", {\"%s\"}},\n", found, options_of_builds[i].texts[0]);
            good = false;
        }
    }
    assert_true(good);
}

static void count_levels(void *user, kiln_log_level level, const char *source, const char *message)
{
    *(int *)user += strstr(message, "level 1, above which") != NULL;
}

/* Above level 1 TensorRT 10.6 ends the process, on a Hopper. */
STAND_IN_TEST(int4_beside_halves_is_built_at_a_level_that_lives, "a GPU that is another one")
{
    static const struct {
        size_t version;
        const char *capability;
        int32_t level;
        kiln_precision rest;
        kiln_status status;
        int told;
    } builds[] = {
        {3, "90", 0, KILN_PRECISION_FP16, KILN_OK, 1},
        {3, "90", 0, KILN_PRECISION_BF16, KILN_OK, 1},
        {3, "90", 1, KILN_PRECISION_FP16, KILN_OK, 0},
        {3, "90", 2, KILN_PRECISION_FP16, KILN_ERROR_UNSUPPORTED, 0},
        {3, "90", 5, KILN_PRECISION_DEFAULT, KILN_OK, 0},
        {3, "86", 5, KILN_PRECISION_FP16, KILN_OK, 0},
        {6, "90", 5, KILN_PRECISION_FP16, KILN_OK, 0},
    };
    static float numbers[64 * 64];
    int told = 0;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(numbers); i++) {
        numbers[i] = (float)(i % 15) - 7.0F;
    }
    kiln_log_set_sink(count_levels, &told, KILN_LOG_INFO);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(builds); i++) {
        kiln_build_options options =
            KILN_BUILD_OPTIONS(.backend = "tensorrt", .library = FOLDER_OF(builds[i].version),
                               .builder_optimization_level = builds[i].level,
                               .precision = KILN_PRECISION_INT4, .precision_rest = builds[i].rest);
        owned_engine engine = NULL;
        owned_network network = new_network();
        const kiln_tensor_id x = add_input(network, "x", KILN_DTYPE_FLOAT32, KILN_SHAPE(4, 64));
        const kiln_tensor_id w = add_floats(network, "w", KILN_SHAPE(64, 64), numbers);
        kiln_tensor_id y;
        assert_ok(kiln_network_add_matrix_multiply(network, "y", x, w, &y));
        assert_ok(kiln_network_mark_output(network, y));
        set("KILN_FAKE_TENSORRT", versions[builds[i].version].version);
        set("FAKE_CUDA_CAPABILITY", builds[i].capability);
        kln_cuda_close();
        told = 0;
        const kiln_status status = kiln_engine_build(network, &options, &engine);
        if (status != builds[i].status) {
            fail_msg("build %zu: %s", i, kiln_error_message());
        }
        assert_int_equal(told, builds[i].told);
        if (builds[i].status != KILN_OK) {
            assert_message("builder_optimization_level: 2 was asked for");
        }
    }
    set("FAKE_CUDA_CAPABILITY", NULL);
    kln_cuda_close();
    kiln_log_set_sink(NULL, NULL, KILN_LOG_OFF);
}

static void set_runtime_cache(kiln_context_options *options)
{
    options->runtime_cache = "no.cache";
}

static void set_kernels(kiln_context_options *options)
{
    options->kernel_specialization = KILN_KERNELS_EAGER;
}

static void set_graphs(kiln_context_options *options)
{
    options->rtx_graphs = KILN_SWITCH_ON;
}

TENSORRT_TEST(what_only_rtx_runs_is_refused_by_name)
{
    static const struct {
        const char *name;
        void (*set)(kiln_context_options *options);
    } all[] = {{"runtime_cache", set_runtime_cache},
               {"kernel_specialization", set_kernels},
               {"rtx_graphs", set_graphs}};
    for (size_t v = 0; v < FAKE_LAYOUTS; v++) {
        const kiln_build_options options = fake_options(v);
        owned_engine engine = build_network(conv_network(), &options);
        for (size_t i = 0; i < KLN_ARRAY_LENGTH(all); i++) {
            kiln_context_options how = KILN_CONTEXT_OPTIONS_INIT;
            all[i].set(&how);
            owned_context context = NULL;
            const kiln_status status = kiln_context_create(engine, &how, &context);
            assert_int_equal(status, is_rtx(v) ? KILN_OK : KILN_ERROR_UNSUPPORTED);
            if (status != KILN_OK) {
                check_sentence(all[i].name, fake_layouts[v].name);
                assert_message("TensorRT-RTX 1.3 and 1.4, TensorRT-RTX from 1.5 on");
            }
        }
    }
}
