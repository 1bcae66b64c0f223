/* SPDX-License-Identifier: Apache-2.0 */
/* A saved engine and its manifest are one thing: whoever saves, reads or is killed meanwhile. */
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "engine/kln_engine.h"
#include "graph_maker.h"
#include "kiln_test.h"

/* Two engines that differ in what they compute of 2, and in an option: a model with the manifest of
 * the other one is seen. */
static const struct kind {
    const char *operator;
    float result;
    kiln_optimization optimization;
} kinds[] = {{"Neg", -2, KILN_OPTIMIZATION_BASIC}, {"Abs", 2, KILN_OPTIMIZATION_EXTENDED}};

static void path_of(const char *name, char path[4096])
{
    (void)snprintf(path, 4096, "%s", kiln_test_path(name));
}

/* A small model lies in one place for all threads. */
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;

static kiln_engine *make_engine(size_t kind, const char *backend)
{
    kiln_build_options options = backend_options(backend);
    options.optimization = kinds[kind].optimization;
    (void)pthread_mutex_lock(&making);
    kiln_engine *engine = built_bytes(unary_model(kinds[kind].operator, "1"), &options);
    (void)pthread_mutex_unlock(&making);
    return engine;
}

/* What the engine computes, as a kind. */
static size_t kind_of(kiln_engine *engine)
{
    float two = 2;
    const kiln_named_tensor input = {
        "x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1), &two, sizeof two)};
    kiln_named_tensor output = {"y", {.data = NULL}};
    owned_context context = context_on(engine);
    assert_ok(kiln_context_run_tensors(context, &input, 1, &output, 1));
    return *(const float *)output.tensor.data < 0 ? 0 : 1;
}

/* Loads what lies at `path`, and its manifest speaks of it. */
static void assert_pair(const char *path)
{
    owned_engine engine = loaded_file(path, NULL);
    assert_int_equal(engine->built.optimization, kinds[kind_of(engine)].optimization);
}

/* --- several who save --- */

/* A process of its own that saves, one kind or both in turns, `count` times. */
static pid_t start_saving(const char *path, size_t first, size_t step, int count)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0) {
        return child;
    }
    kiln_engine *engines[] = {make_engine(0, "reference"), make_engine(1, "reference")};
    size_t kind = first;
    for (int i = 0; i < count; i++, kind = (kind + step) % 2) {
        if (kiln_engine_save(engines[kind], path) != KILN_OK) {
            _exit(1);
        }
    }
    _exit(0);
}

TEST(two_processes_save_to_one_path)
{
    const char *path = kiln_test_path("both.saved");
    (void)unlink(path);
    for (int round = 0; round < 3; round++) {
        const pid_t children[] = {start_saving(path, 0, 0, 15), start_saving(path, 1, 0, 15)};
        int ended = 0;
        while (ended < 2) {
            int result = 0;
            const pid_t done = waitpid(-1, &result, WNOHANG);
            if (done > 0) {
                assert_true(done == children[0] || done == children[1]);
                assert_int_equal(result, 0);
                ended++;
            } else if (kln_file_exists(path)) {
                assert_pair(path);
            }
        }
        assert_pair(path);
    }
}

static void *save_often(void *user)
{
    owned_engine engine = make_engine(1, "reference");
    for (int i = 0; i < 5; i++) {
        if (kiln_engine_save(engine, user) != KILN_OK) {
            abort();
        }
    }
    return NULL;
}

TEST(a_process_is_killed_while_it_saves)
{
    const char *path = kiln_test_path("killed.saved");
    kiln_engine *engine = make_engine(0, "reference");
    assert_ok(kiln_engine_save(engine, path));
    kiln_engine_release(engine);
    unsigned seed = 20261;
    for (size_t moment = 0; moment < 100; moment++) {
        const pid_t child = start_saving(path, moment % 2, 1, 1000000);
        seed = seed * 1103515245U + 12345U;
        const struct timespec pause = {.tv_nsec = (long)((seed >> 8) % 20000000U)};
        (void)nanosleep(&pause, NULL);
        (void)kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        assert_pair(path);
    }
}

TEST(threads_save_to_one_path)
{
    static char path[4096];
    path_of("threads.saved", path);
    kiln_test_in_threads(4, save_often, path, 0);
    assert_pair(path);
}

/* A file that was there before and had no manifest is there, or the new pair is. */
TEST(a_file_without_manifest_is_not_lost)
{
    char manifest[4096 + 8];
    const char *path = kiln_test_path("stranger");
    (void)snprintf(manifest, sizeof manifest, "%s.json", path);
    bool stayed = false;
    bool came = false;
    for (long moment = 0; moment < 200 && !(stayed && came && moment >= 20); moment++) {
        const kiln_span model = unary_model("Abs", "1");
        (void)unlink(manifest);
        (void)kiln_test_file("stranger", model.data, model.size);
        const pid_t child = start_saving(path, 0, 0, 1);
        const struct timespec pause = {.tv_nsec = moment * 50000};
        (void)nanosleep(&pause, NULL);
        (void)kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        kiln_engine *engine = loaded_file(path, NULL);
        const bool is_new = engine->built.optimization == kinds[0].optimization;
        assert_int_equal(kind_of(engine), is_new ? 0 : 1);
        kiln_engine_release(engine);
        stayed = stayed || !is_new;
        came = came || is_new;
    }
    assert_true(stayed);
}

/* --- files that are swapped while they are loaded --- */

typedef struct swap {
    char path[4096];
    char from[2][4096];
    atomic_bool stop;
} swap;

/* Links one of two files, then the other, into the place of `path`. */
static void *swap_files(void *user)
{
    swap *self = user;
    char next[4096 + 8];
    (void)snprintf(next, sizeof next, "%s.next", self->path);
    for (size_t i = 0; !atomic_load(&self->stop); i++) {
        if (link(self->from[i % 2], next) != 0 || rename(next, self->path) != 0) {
            abort();
        }
        /* Where both names lead to one file, rename leaves both. */
        (void)unlink(next);
    }
    return NULL;
}

static bool have_the_same(const char *path, const char *other)
{
    kln_mapping files[2];
    assert_ok(kln_mapping_open(path, &files[0]));
    assert_ok(kln_mapping_open(other, &files[1]));
    const bool same = files[0].bytes.size == files[1].bytes.size &&
                      memcmp(files[0].bytes.data, files[1].bytes.data, files[0].bytes.size) == 0;
    kln_mapping_close(&files[0]);
    kln_mapping_close(&files[1]);
    return same;
}

/* The manifest speaks of the first file only, so that the second one may never be loaded. */
static void swap_while_loading(const char *backend)
{
    static swap shared;
    pthread_t swapper;
    path_of("swapped", shared.path);
    path_of("swapped.first", shared.from[0]);
    path_of("swapped.second", shared.from[1]);
    const char *saved = kiln_test_path("swapped.again");
    kiln_engine *engine = make_engine(0, backend);
    assert_ok(kiln_engine_save(engine, shared.path));
    kiln_engine_release(engine);
    (void)unlink(shared.from[0]);
    assert_int_equal(rename(shared.path, shared.from[0]), 0);
    const kiln_span second = unary_model("Abs", "1");
    (void)kiln_test_file("swapped.second", second.data, second.size);
    assert_int_equal(link(shared.from[0], shared.path), 0);
    atomic_store(&shared.stop, false);
    assert_int_equal(pthread_create(&swapper, NULL, swap_files, &shared), 0);
    int loaded = 0;
    /* A refusal takes no time, and on a busy machine many may come between two swaps. */
    for (int i = 0; loaded < 50 && i < 1000000; i++) {
        const kiln_status status = kiln_engine_load(shared.path, NULL, &engine);
        assert_true(status == KILN_OK || status == KILN_ERROR_MISMATCH);
        if (status == KILN_OK) {
            assert_int_equal(kind_of(engine), 0);
            if (loaded++ % 8 == 0) {
                assert_ok(kiln_engine_save(engine, saved));
                assert_true(have_the_same(saved, shared.from[0]));
            }
            kiln_engine_release(engine);
        }
    }
    atomic_store(&shared.stop, true);
    (void)pthread_join(swapper, NULL);
    assert_true(loaded > 0);
}

TEST(what_was_checked_is_what_is_loaded)
{
    swap_while_loading("reference");
}

TEST(what_was_checked_is_what_onnxruntime_loads)
{
    swap_while_loading("onnxruntime");
}

/* --- where no file can be --- */

TEST(an_engine_is_saved_into_a_pipe)
{
    int ends[2];
    char path[64];
    char found[4096];
    const kiln_span model = unary_model("Neg", "1");
    assert_int_equal(pipe(ends), 0);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", ends[1]);
    kiln_engine *engine = make_engine(0, "reference");
    assert_ok(kiln_engine_save(engine, path));
    kiln_engine_release(engine);
    assert_int_equal(read(ends[0], found, sizeof found), model.size);
    assert_memory_equal(found, unary_model("Neg", "1").data, model.size);
    (void)close(ends[0]);
    (void)close(ends[1]);
}
