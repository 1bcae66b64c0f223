/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests share says of a program that skipped, failed or was killed. */
#include "kiln_test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char folder[4096];

static void passes(void **state)
{
}

static void skips(void **state)
{
    skip();
}

static void fails(void **state)
{
    fail();
}

static void writes(void **state)
{
    (void)kiln_test_file("a file", "x", 1);
    assert_int_equal(mkdir(kiln_test_path("inner"), 0700), 0);
    (void)kiln_test_file("inner/another", "x", 1);
    assert_int_equal(symlink("/nowhere", kiln_test_path("inner/link")), 0);
}

static void is_killed(void **state)
{
    writes(state);
    (void)raise(SIGKILL);
}

static int run_all_pass(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(passes), cmocka_unit_test(writes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

static int run_one_skips(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(passes), cmocka_unit_test(skips)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

static int run_one_fails(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(skips), cmocka_unit_test(fails)};
    return cmocka_run_group_tests_name("named", tests, NULL, NULL);
}

static int run_one_is_killed(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(is_killed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Runs it in a process of its own and returns how that ended; its scratch folder is in `folder`. */
static int ending(int (*run)(void))
{
    (void)fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        const int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
        (void)dup2(nothing, STDOUT_FILENO);
        (void)dup2(nothing, STDERR_FILENO);
        _exit(run());
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        return -1;
    }
    (void)snprintf(folder, sizeof folder, "%s/scratch.%ld", kiln_test_binary_folder, (long)child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int expect(const char *what, int expected, int found)
{
    if (expected != found) {
        (void)fprintf(stderr, "%s: %d was expected, %d was found\n", what, expected, found);
    }
    return expected != found;
}

/* Not a cmocka program itself: it judges what cmocka is made to say. */
int main(void)
{
    int wrong = expect("all pass", 0, ending(run_all_pass));
    wrong += expect("the scratch folder is gone", -1, access(folder, F_OK));
    wrong += expect("one skips", KILN_TEST_SKIPPED, ending(run_one_skips));
    wrong += expect("one fails", 1, ending(run_one_fails));
    wrong += expect("one is killed", -SIGKILL, ending(run_one_is_killed));
    char left[sizeof folder];
    memcpy(left, folder, sizeof left);
    wrong += expect("its scratch folder is left", 0, access(left, F_OK));
    wrong += expect("all pass again", 0, ending(run_all_pass));
    wrong += expect("what was left is gone", -1, access(left, F_OK));
    return wrong != 0;
}
