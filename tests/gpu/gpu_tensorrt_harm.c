/* SPDX-License-Identifier: Apache-2.0 */
/* What does harm: damaged plans, and a GPU that is full.
 *
 *     gpu_tensorrt_harm [damaged|full]
 *     gpu_tensorrt_harm load PLAN       loads and runs a plan: a child for damaged ones
 */
#include "fake_tensorrt_test.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define CHILDREN 8
#define CHILD_SECONDS 40

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
    kiln_build_options options = backend_options("tensorrt");
    owned_engine engine = NULL;
    owned_context context = NULL;
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
    return result;
}

static pid_t start_child(const char *plan)
{
    const pid_t child = fork();
    if (child == 0) {
        const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
        (void)dup2(nowhere, STDOUT_FILENO);
        (void)dup2(nowhere, STDERR_FILENO);
        (void)execl("/proc/self/exe", "gpu_tensorrt_harm", "load", plan, (char *)NULL);
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
    unsigned char *bytes = malloc(1 << 20);
    assert_non_null(bytes);
    *size = kiln_test_read(path, bytes, 1 << 20);
    assert_true(*size > 100);
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
    kiln_test_write(path, copy, length);
    free(copy);
}

#define DAMAGES 36

/* With its manifest a damaged plan is refused before the library sees it, every time. Without one
 * the library decides, and may crash: that is counted, in children. */
TENSORRT_TEST(damaged_plans_do_no_harm_with_a_manifest)
{
    const char *plan = kiln_test_path("whole.plan");
    const kiln_build_options options = fake_options(SOME_LAYOUT);
    kiln_engine *engine = build_network(conv_network(), &options);
    assert_ok(kiln_engine_save(engine, plan));
    kiln_engine_release(engine);
    size_t size = 0;
    unsigned char *bytes = read_file(plan, &size);
    char manifest[sizeof plan + 8];
    (void)snprintf(manifest, sizeof manifest, "%s.json", plan);
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
            const char *path = kiln_test_path(name);
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

TENSORRT_TEST(a_full_gpu_is_told_and_nothing_is_lost)
{
    enum { WIDE = 2048 };
    static void *blocks[BLOCKS];
    float *weights = calloc((size_t)WIDE * WIDE, sizeof *weights);
    assert_non_null(weights);
    const kiln_build_options options = fake_options(SOME_LAYOUT);
    owned_network network = large_network(WIDE, weights);
    kiln_engine *second = NULL;
    owned_engine engine = built_network(network, &options);
    const char *plan = kiln_test_path("large.plan");
    assert_ok(kiln_engine_save(engine, plan));
    owned_context context = context_on(engine);
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
    free(weights);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "load") == 0) {
        return load_plan(argv[2]);
    }
    if (argc == 2) {
        cmocka_set_test_filter(argv[1][0] == 'd' ? "damaged_*" : "*_full_*");
    }
    return kiln_test_run();
}
