/* SPDX-License-Identifier: Apache-2.0 */
/* What Kiln's cmocka tests share. */
#ifndef KILN_TEST_H
#define KILN_TEST_H

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <kiln/kiln.h>

#include "kiln_owned.h"

/* What a callback is given and does not need is no fault of a test. */
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* cmocka counts a skipped test as one that passed. Here the program then ends with the status that
 * CTest shows as skipped, unless one failed. What is left out by design calls cmocka's _skip. */
#undef skip
#define skip() kiln_test_skip(__FILE__, __LINE__)
#define SKIP_IF(condition) \
    do {                   \
        if (condition) {   \
            skip();        \
        }                  \
    } while (0)
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

/* A test, and a test with a function before it and one after it, as cmocka knows them:
 *
 *     TEST(what_holds)
 *     {
 *         assert_true(...);
 *     }
 *
 * It is run by being there, in the order of the lines. kiln_test.c has a main; a program with one
 * of its own calls kiln_test_run(), which returns what main does. */
#define TEST(name) TEST_WITH(name, NULL, NULL)
#define TEST_WITH(name, before, after) KILN_TEST_AS(name, name, before, after, NULL)
#define KILN_TEST_AS(name, run, before, after, argument)                                   \
    static void name(void **state);                                                        \
    __attribute__((constructor)) static void kiln_adds_##name(void)                        \
    {                                                                                      \
        kiln_test_add(__LINE__, (struct CMUnitTest){#name, run, before, after, argument}); \
    }                                                                                      \
    static void name(__attribute__((unused)) void **state)

/* A test of each row of a table, or of each of what else is counted: its body has the index `i`. */
#define TEST_EACH(name, i, count) EACH_OF(TEST(name), name, i, count)
#define EACH_OF(test, name, i, count)          \
    static void name##_of(size_t i);           \
    test                                       \
    {                                          \
        for (size_t i = 0; i < (count); i++) { \
            name##_of(i);                      \
        }                                      \
    }                                          \
    static void name##_of(size_t i)

/* Called before the first test; where it returns false, which it explains, all are skipped. */
#define TESTS_BEGIN(function)                                             \
    __attribute__((constructor)) static void kiln_begins_##function(void) \
    {                                                                     \
        kiln_test_begin_with(function);                                   \
    }

void kiln_test_add(int line, struct CMUnitTest test);
void kiln_test_begin_with(bool (*function)(void));
int kiln_test_run(void);

/* The call returns `expected`, or the test fails and prints both names and the sentence. */
#define assert_status(expected, call) \
    kiln_test_status((expected), (call), #call, __FILE__, __LINE__)
#define assert_ok(call) assert_status(KILN_OK, (call))

/* This thread's sentence contains `words`. */
#define assert_message(words) kiln_test_message((words), __FILE__, __LINE__)

/* Both: the call fails in this way and its sentence contains each of the words. */
#define assert_fails(expected, call, ...)                          \
    kiln_test_fails((expected), (call), #call, __FILE__, __LINE__, \
                    (const char *const[]){__VA_ARGS__, NULL})

void kiln_test_message(const char *words, const char *file, int line);
void kiln_test_fails(kiln_status expected, kiln_status found, const char *call, const char *file,
                     int line, const char *const *words);

/* From now on allocation number `which` (from 0) fails, once; a negative number: none. Only while
 * nothing of Kiln's is alive. */
void kiln_test_fail_allocation(long which);
/* What is allocated meanwhile does not fail and is not counted: a test's model. */
void kiln_test_pause_failures(bool pause);
/* Whether the allocation that was to fail was reached. */
bool kiln_test_allocation_failed(void);
/* Back to the C library's heap. */
void kiln_test_restore_allocator(void);

/* Calls `body` once for each allocation it makes, letting that one fail, until it gets through
 * without. `body` returns the status of what it did and leaves nothing allocated; a failure must be
 * OUT_OF_MEMORY and nothing may stay behind. */
void kiln_test_each_allocation(kiln_status (*body)(void *user), void *user);
/* A test of this kind (TEST) that does so; what follows it is the body. */
#define ALLOCATIONS(kind, name)                       \
    static kiln_status name##_once(void *user);       \
    kind(name)                                        \
    {                                                 \
        kiln_test_each_allocation(name##_once, NULL); \
    }                                                 \
    static kiln_status name##_once(__attribute__((unused)) void *user)
/* In such a body, whose objects are owned: returns what failed. */
#define TRY(call)                          \
    do {                                   \
        const kiln_status tried_ = (call); \
        if (tried_ != KILN_OK) {           \
            return tried_;                 \
        }                                  \
    } while (0)

/* So many threads of this body, which returns NULL where all went well, each with the user `size`
 * bytes behind the last one's (0: all with one), up to 64; and their end. */
typedef struct kiln_test_crew {
    size_t count;
    pthread_t threads[64];
} kiln_test_crew;
kiln_test_crew kiln_test_start(size_t count, void *(*body)(void *user), void *users, size_t size);
void kiln_test_join(const kiln_test_crew *crew);
void kiln_test_in_threads(size_t count, void *(*body)(void *user), void *users, size_t size);
/* Cancels a context's runs from so many threads, again and again, so many microseconds apart, until
 * it is ended: one that comes before a run begins is for nobody. */
typedef struct kiln_test_canceller {
    kiln_context *context;
    unsigned pause;
    atomic_bool over;
    kiln_test_crew crew;
} kiln_test_canceller;
void kiln_test_begin_cancelling(kiln_test_canceller *self, size_t threads);
void kiln_test_end_cancelling(kiln_test_canceller *self);
/* A mock's handler that does nothing. */
kiln_status kiln_test_idle(void *user, kiln_mock_run *run, char message[1024]);

/* Time of the processor that this process took. */
double kiln_test_seconds(void);
/* How many allocations of Kiln's there were. */
uint64_t kiln_test_allocations(void);

/* The build's folder of tests and the one of what was downloaded; a path in each, valid until the
 * program ends. */
extern const char *const kiln_test_binary_folder, *const kiln_test_deps_folder;
const char *kiln_test_built(const char *name);
const char *kiln_test_deps(const char *name);

/* The path of `name` in the test's scratch folder, valid until the program ends. */
const char *kiln_test_path(const char *name);
/* The same of a file of this content, which it writes. */
const char *kiln_test_file(const char *name, const void *data, size_t size);
/* Writes a whole file; reads one, which must leave room for a zero after it, and gives its size. */
void kiln_test_write(const char *path, const void *data, size_t size);
size_t kiln_test_read(const char *path, void *data, size_t room);
/* Memory of this process that is resident, in bytes. */
double kiln_test_resident(void);

#endif
