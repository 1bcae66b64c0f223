/* SPDX-License-Identifier: Apache-2.0 */
/* What Kiln leaves of the process that it is a guest in, and what it makes of a process that is
 * short of something. Each test has a process of its own: libraries stay once they are open. */
#include <dirent.h>
#include <dlfcn.h>
#include <glob.h>
#include <locale.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/kln_base.h"
#include "graph_maker.h"
#include "kiln_test.h"

extern char **environ;

/* Runs `body` in a child, which says what it does not like and ends with 1. */
static void in_a_child(void (*body)(void))
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        body();
        _exit(0);
    }
    int result = 0;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
}

#define REQUIRE(condition)                                                           \
    do {                                                                             \
        if (!(condition)) {                                                          \
            (void)fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, \
                          kiln_error_message());                                     \
            _exit(1);                                                                \
        }                                                                            \
    } while (0)

/* Builds, runs, saves and loads on ONNX Runtime. */
static void use(const char *path)
{
    owned_engine engine = NULL;
    owned_context context = NULL;
    float two = 2;
    const kiln_named_tensor input = {
        "x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1), &two, sizeof two)};
    kiln_named_tensor output = {"y", {.data = NULL}};
    REQUIRE(kiln_engine_build_bytes(unary_model("Neg", "1"), NULL, &engine) == KILN_OK);
    kiln_backend_info info = {.struct_size = sizeof info};
    REQUIRE(kiln_engine_backend(engine, &info) == KILN_OK);
    REQUIRE(strcmp(info.name, "onnxruntime") == 0);
    REQUIRE(kiln_engine_save(engine, path) == KILN_OK);
    kiln_engine_release(engine);
    REQUIRE(kiln_engine_load(path, NULL, &engine) == KILN_OK);
    REQUIRE(kiln_context_create(engine, NULL, &context) == KILN_OK);
    REQUIRE(kiln_context_run_tensors(context, &input, 1, &output, 1) == KILN_OK);
    REQUIRE(*(const float *)output.tensor.data == -2);
}

/* ONNX Runtime is silent by itself where it believes that it is tested. */
static void pretend_to_be_a_user(const char *home)
{
    static const char *const names[] = {"CI",
                                        "TF_BUILD",
                                        "GITHUB_ACTIONS",
                                        "GITLAB_CI",
                                        "CIRCLECI",
                                        "TRAVIS",
                                        "JENKINS_URL",
                                        "BUILDKITE",
                                        "CODEBUILD_BUILD_ID",
                                        "APPVEYOR",
                                        "TEAMCITY_VERSION",
                                        "KILN_ONNXRUNTIME",
                                        "XDG_CACHE_HOME",
                                        "ORT_DISABLE_TELEMETRY"};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(names); i++) {
        (void)unsetenv(names[i]);
    }
    (void)mkdir(home, 0755);
    (void)setenv("HOME", home, 1);
}

static bool is_empty(const char *folder)
{
    DIR *open = opendir(folder);
    bool empty = open != NULL;
    for (struct dirent *each = NULL; open != NULL && (each = readdir(open)) != NULL;) {
        empty = empty && each->d_name[0] == '.' &&
                (each->d_name[1] == '\0' || strcmp(each->d_name, "..") == 0);
    }
    if (open != NULL) {
        (void)closedir(open);
    }
    return empty;
}

static void nothing_changes_body(void)
{
    char before[4096];
    char after[4096];
    sigset_t masks[2];
    struct sigaction actions[2][32];
    const char *home = kiln_test_path("home");
    const char *path = kiln_test_path("process.saved");
    pretend_to_be_a_user(home);
    char **const variables = environ;
    size_t count = 0;
    while (environ[count] != NULL) {
        count++;
    }
    const mode_t mask = umask(033);
    REQUIRE(getcwd(before, sizeof before) != NULL);
    REQUIRE(sigprocmask(SIG_SETMASK, NULL, &masks[0]) == 0);
    for (int i = 1; i < 32; i++) {
        (void)sigaction(i, NULL, &actions[0][i]);
    }
    const char *locale = setlocale(LC_ALL, NULL);
    use(path);
    REQUIRE(strcmp(locale, setlocale(LC_ALL, NULL)) == 0);
    for (int i = 1; i < 32; i++) {
        (void)sigaction(i, NULL, &actions[1][i]);
        REQUIRE(actions[0][i].sa_handler == actions[1][i].sa_handler);
    }
    REQUIRE(sigprocmask(SIG_SETMASK, NULL, &masks[1]) == 0);
    REQUIRE(memcmp(&masks[0], &masks[1], sizeof masks[0]) == 0);
    REQUIRE(getcwd(after, sizeof after) != NULL && strcmp(before, after) == 0);
    REQUIRE(umask(mask) == 033);
    REQUIRE(environ == variables && environ[count] == NULL);
    REQUIRE(getenv("ORT_DISABLE_TELEMETRY") == NULL);
    REQUIRE(is_empty(home));
}

/* Environment, umask, folder, signals and locale are as they were, and HOME is as empty: what
 * prevents ONNX Runtime's telemetry is not done to the process. */
TEST(nothing_of_the_process_changes)
{
    in_a_child(nothing_changes_body);
}

/* --- one ONNX Runtime for all --- */

/* A copy that the host has open, which no look-up by name or by file leads to. */
static void loaded_body(void)
{
    glob_t found;
    pretend_to_be_a_user(kiln_test_path("home"));
    (void)setenv("ORT_DISABLE_TELEMETRY", "1", 1); /* the host's, who opens the library */
    REQUIRE(glob(kiln_test_deps("onnxruntime/libonnxruntime.so.*"), 0, NULL, &found) == 0);
    const char *copy = kiln_test_path("libonnxruntime.so.1");
    kln_mapping whole;
    REQUIRE(kln_mapping_open(found.gl_pathv[0], &whole) == KILN_OK);
    REQUIRE(strcmp(kiln_test_file("libonnxruntime.so.1", whole.bytes.data, whole.bytes.size),
                   copy) == 0);
    kln_mapping_close(&whole);
    globfree(&found);
    REQUIRE(dlopen(copy, RTLD_NOW | RTLD_LOCAL) != NULL);
    kiln_backend_info info = {.struct_size = sizeof info};
    REQUIRE(kiln_backend_choose("onnxruntime", &info) == KILN_OK);
    char resolved[4096];
    REQUIRE(realpath(copy, resolved) != NULL);
    REQUIRE(strcmp(info.library, resolved) == 0);
    use(kiln_test_path("loaded.saved"));
}

TEST(a_library_that_is_open_already_is_taken)
{
    in_a_child(loaded_body);
}

static void too_old_body(void)
{
    REQUIRE(dlopen(kiln_test_built("fake/oldort/libonnxruntime.so"), RTLD_NOW | RTLD_LOCAL) !=
            NULL);
    pretend_to_be_a_user(kiln_test_path("home"));
    use(kiln_test_path("old.saved"));
}

TEST(one_that_is_too_old_is_passed_over)
{
    in_a_child(too_old_body);
}

/* --- shortages pass --- */

static void descriptors_body(void)
{
    struct rlimit limit;
    struct rlimit none;
    kiln_engine *engine = NULL;
    const kiln_span model = unary_model("Neg", "1");
    pretend_to_be_a_user(kiln_test_path("home"));
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none = limit;
    none.rlim_cur = 0;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
    REQUIRE(kiln_engine_build_bytes(model, NULL, &engine) == KILN_ERROR_OUT_OF_MEMORY);
    REQUIRE(strstr(kiln_error_message(), "can open no more files") != NULL);
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    use(kiln_test_path("descriptors.saved"));
}

static void memory_body(void)
{
    struct rlimit limit;
    struct rlimit little;
    kiln_engine *engine = NULL;
    const kiln_span model = unary_model("Neg", "1");
    unsigned long pages = 0;
    pretend_to_be_a_user(kiln_test_path("home"));
    FILE *file = fopen("/proc/self/statm", "r");
    REQUIRE(file != NULL && fscanf(file, "%lu", &pages) == 1);
    (void)fclose(file);
    REQUIRE(getrlimit(RLIMIT_AS, &limit) == 0);
    little = limit;
    /* Enough for everything but a library of 29 MB. */
    little.rlim_cur = pages * 4096 + ((rlim_t)16 << 20);
    REQUIRE(setrlimit(RLIMIT_AS, &little) == 0);
    REQUIRE(kiln_engine_build_bytes(model, NULL, &engine) == KILN_ERROR_OUT_OF_MEMORY);
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    use(kiln_test_path("memory.saved"));
}

/* A default build fails while something is short, and takes ONNX Runtime when it no longer is: not
 * the reference executor, and not that for ever. */
TEST(a_shortage_at_first_use_passes)
{
    in_a_child(descriptors_body);
    in_a_child(memory_body);
}
