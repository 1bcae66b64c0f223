/*
 * kiln_test.h - what Kiln's cmocka tests share.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_TEST_H
#define KILN_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <kiln/memory.h>
#include <kiln/status.h>

/* cmocka counts a skipped test as one that passed. Here the program then ends with the status that
 * CTest shows as skipped, unless one failed. What is left out by design calls cmocka's _skip. */
#undef skip
#define skip() kiln_test_skip(__FILE__, __LINE__)
#undef cmocka_run_group_tests
#define cmocka_run_group_tests(tests, setup, teardown) \
    cmocka_run_group_tests_name(#tests, tests, setup, teardown)
#undef cmocka_run_group_tests_name
#define cmocka_run_group_tests_name(name, tests, setup, teardown)                              \
    kiln_test_end(_cmocka_run_group_tests((name), (tests), sizeof(tests) / sizeof((tests)[0]), \
                                          (setup), (teardown)))
#define KILN_TEST_SKIPPED 77

void kiln_test_skip(const char *file, int line);
/* What main returns where `failures` tests failed; removes the scratch folder. */
int kiln_test_end(int failures);

/* The call returns `expected`, or the test fails and prints both names and the sentence. */
#define assert_status(expected, call) \
    kiln_test_status((expected), (call), #call, __FILE__, __LINE__)
#define assert_ok(call) assert_status(KILN_OK, (call))

/* This thread's sentence contains `words`. */
#define assert_message(words) kiln_test_message((words), __FILE__, __LINE__)

void kiln_test_status(kiln_status expected, kiln_status found, const char *call, const char *file,
                      int line);
void kiln_test_message(const char *words, const char *file, int line);

/* From now on allocation number `which` (from 0) fails, once; a negative number: none. Only while
 * nothing of Kiln's is alive. */
void kiln_test_fail_allocation(long which);
/* Whether the allocation that was to fail was reached. */
bool kiln_test_allocation_failed(void);
/* Back to the C library's heap. */
void kiln_test_restore_allocator(void);

/* Calls `body` once for each allocation it makes, letting that one fail, until it gets through
 * without. `body` returns the status of what it did and leaves nothing allocated; a failure must be
 * OUT_OF_MEMORY and nothing may stay behind. */
void kiln_test_each_allocation(kiln_status (*body)(void *user), void *user);

/* A file of this content in the test's scratch folder; returns its path, valid until the next call.
 */
const char *kiln_test_file(const char *name, const void *data, size_t size);
/* The path of `name` in the scratch folder. */
const char *kiln_test_path(const char *name);

#endif
