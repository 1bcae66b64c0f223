/* SPDX-License-Identifier: Apache-2.0 */
/* One cache and many processes: this program calls itself, as a child that builds. */
#include "fake_tensorrt_test.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#define PROCESSES 16
#define KILLS 100
#define MODELS 4 /* that a killed process was at */

static char folder[4096];

/* --- the child --- */

static int build_one(const char *in, int32_t level)
{
    kiln_build_options options = fake_options(LAYOUT_10);
    options.cache = in;
    options.builder_optimization_level = level;
    owned_engine engine = build_network(conv_network(), &options);
    return (int)kiln_engine_cache_use(engine);
}

/* Makes all entries, throws all away, and so on until it is killed. */
static int build_for_ever(const char *in)
{
    for (;;) {
        for (int32_t level = 1; level <= MODELS; level++) {
            (void)build_one(in, level);
            if (level == 1 && write(STDOUT_FILENO, "x", 1) != 1) {
                return 1;
            }
        }
        assert_ok(kiln_cache_clear(in, 0, NULL));
    }
}

/* argv: "child", what to do, the folder. Ends with a kiln_cache_use. */
static int child(char **argv)
{
    char byte;
    kiln_log_set_sink(NULL, NULL, KILN_LOG_OFF);
    if (strcmp(argv[1], "forever") == 0) {
        return build_for_ever(argv[2]);
    }
    if (strcmp(argv[1], "full") == 0) {
        (void)signal(SIGXFSZ, SIG_IGN);
        const struct rlimit limit = {64, 64};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    }
    /* All begin when the parent closes the pipe. */
    (void)!read(STDIN_FILENO, &byte, 1);
    return build_one(argv[2], 1);
}

/* --- the parent --- */

typedef struct started {
    pid_t pid;
    int in;  /* to be closed, for it to begin */
    int out; /* what it writes */
} started;

static started start(const char *what)
{
    int in[2];
    int out[2];
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)dup2(in[0], STDIN_FILENO);
        (void)dup2(out[1], STDOUT_FILENO);
        for (int i = 3; i < 256; i++) {
            (void)close(i);
        }
        (void)execl("/proc/self/exe", "child", what, folder, (char *)NULL);
        _exit(99);
    }
    assert_int_equal(close(in[0]), 0);
    assert_int_equal(close(out[1]), 0);
    return (started){pid, in[1], out[0]};
}

static int end_of(started *process)
{
    int status = 0;
    assert_int_equal(waitpid(process->pid, &status, 0), process->pid);
    assert_int_equal(close(process->out), 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void begin_folder(const char *name)
{
    (void)snprintf(folder, sizeof folder, "%s", kiln_test_path(name));
    assert_ok(kiln_cache_clear(folder, 0, NULL));
}

TENSORRT_TEST(many_processes_build_once)
{
    started processes[PROCESSES];
    begin_folder("many");
    set("FAKE_TENSORRT_LOADING", "100"); /* so that a build is worth waiting for */
    for (size_t i = 0; i < PROCESSES; i++) {
        processes[i] = start("once");
    }
    for (size_t i = 0; i < PROCESSES; i++) {
        assert_int_equal(close(processes[i].in), 0);
    }
    size_t uses[4] = {0};
    for (size_t i = 0; i < PROCESSES; i++) {
        const int use = end_of(&processes[i]);
        assert_true(use >= 0 && use < 4);
        uses[use]++;
    }
    set("FAKE_TENSORRT_LOADING", NULL);
    assert_int_equal(uses[KILN_CACHE_STORED], 1);
    assert_int_equal(uses[KILN_CACHE_FOUND], PROCESSES - 1);
}

/* Whatever moment it is, nothing that is damaged is left, and what is left is right. */
TENSORRT_TEST(a_killed_process_leaves_the_cache_usable)
{
    size_t unfinished = 0;
    size_t found = 0;
    uint64_t random = 88172645463325252ULL;
    begin_folder("killed");
    for (int i = 0; i < KILLS; i++) {
        char byte = 0;
        started process = start("forever");
        assert_int_equal(close(process.in), 0);
        /* It is at work from here on. Xorshift: Marsaglia, "Xorshift RNGs", 2003. */
        assert_int_equal(read(process.out, &byte, 1), 1);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (void)nanosleep(&(struct timespec){.tv_nsec = (long)(random % 4000000)}, NULL);
        assert_int_equal(kill(process.pid, SIGKILL), 0);
        assert_int_equal(end_of(&process), -SIGKILL);
        kiln_cache_list *list = cache_entries(folder, true);
        for (size_t k = 0; k < kiln_cache_list_count(list); k++) {
            const kiln_cache_entry entry = entry_at(list, k);
            unfinished += entry.problem != NULL;
            /* Half an entry is none, never one of other bytes. */
            assert_true(entry.problem == NULL || strstr(entry.problem, "its hash is") == NULL);
        }
        kiln_cache_list_destroy(list);
        const int use = build_one(folder, i % MODELS + 1);
        assert_true(use == KILN_CACHE_STORED || use == KILN_CACHE_FOUND);
        found += use == KILN_CACHE_FOUND;
    }
    print_message("  %zu entries were cut short, %zu of %d plans were found\n", unfinished, found,
                  KILLS);
    for (int32_t level = 1; level <= MODELS; level++) {
        (void)build_one(folder, level);
        assert_int_equal(build_one(folder, level), KILN_CACHE_FOUND);
    }
    owned_cache_list list = cache_entries(folder, true);
    /* The plans, and the timings, of which a kill may have left nothing: they are written where
     * something new was measured. */
    assert_in_range(kiln_cache_list_count(list), MODELS, MODELS + 1);
}

TENSORRT_TEST(a_full_disk_costs_no_engine)
{
    begin_folder("full");
    started process = start("full");
    assert_int_equal(close(process.in), 0);
    assert_int_equal(end_of(&process), KILN_CACHE_NOT_STORED);
    kiln_cache_list *list = cache_entries(folder, false);
    for (size_t i = 0; i < kiln_cache_list_count(list); i++) {
        const kiln_cache_entry entry = entry_at(list, i);
        assert_int_equal(entry.bytes, 0);
    }
    kiln_cache_list_destroy(list);
    assert_int_equal(build_one(folder, 1), KILN_CACHE_STORED);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[0], "child") == 0) {
        return child(argv);
    }
    kiln_log_set_sink(NULL, NULL, KILN_LOG_OFF);
    return kiln_test_run();
}
