/* SPDX-License-Identifier: Apache-2.0 */
#include "kiln_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static long allocation_to_fail = -1;
static long allocations_seen;
static bool allocation_failed;

void kiln_test_status(kiln_status expected, kiln_status found, const char *call, const char *file,
                      int line)
{
    if (expected != found) {
        print_error("%s\n  expected %s, found %s: %s\n", call, kiln_status_name(expected),
                    kiln_status_name(found), found == KILN_OK ? "" : kiln_error_message());
        _fail(file, line);
    }
    if (found != KILN_OK && kiln_error_message()[0] == '\0') {
        print_error("%s\n  %s came without a sentence\n", call, kiln_status_name(found));
        _fail(file, line);
    }
}

void kiln_test_message(const char *words, const char *file, int line)
{
    if (strstr(kiln_error_message(), words) == NULL) {
        print_error("the sentence lacks \"%s\":\n  %s\n", words, kiln_error_message());
        _fail(file, line);
    }
}

static void *failing_allocate(void *user, size_t size, size_t alignment)
{
    (void)user;
    if (allocations_seen++ == allocation_to_fail) {
        allocation_failed = true;
        return NULL;
    }
    void *memory = NULL;
    return posix_memalign(&memory, alignment, size) == 0 ? memory : NULL;
}

static void failing_release(void *user, void *memory, size_t size, size_t alignment)
{
    (void)user;
    (void)size;
    (void)alignment;
    free(memory);
}

void kiln_test_fail_allocation(long which)
{
    static const kiln_allocator allocator = {sizeof(kiln_allocator), NULL, failing_allocate,
                                             failing_release};
    allocation_to_fail = which;
    allocations_seen = 0;
    allocation_failed = false;
    assert_ok(kiln_set_allocator(&allocator));
}

bool kiln_test_allocation_failed(void)
{
    return allocation_failed;
}

void kiln_test_restore_allocator(void)
{
    allocation_to_fail = -1;
    assert_ok(kiln_set_allocator(NULL));
}

void kiln_test_each_allocation(kiln_status (*body)(void *user), void *user)
{
    for (long which = 0;; which++) {
        kiln_test_fail_allocation(which);
        const kiln_status status = body(user);
        kiln_allocation_counters counters;
        kiln_get_allocation_counters(&counters);
        if (counters.bytes_in_use != 0) {
            print_error("allocation %ld failed and %zu bytes stayed behind\n", which,
                        counters.bytes_in_use);
            fail();
        }
        if (!kiln_test_allocation_failed()) {
            assert_status(KILN_OK, status);
            break;
        }
        if (status != KILN_ERROR_OUT_OF_MEMORY) {
            print_error("allocation %ld failed\n", which);
        }
        assert_status(KILN_ERROR_OUT_OF_MEMORY, status);
    }
    kiln_test_restore_allocator();
}

const char *kiln_test_path(const char *name)
{
    static char path[4096];
    static char folder[2048];
    if (folder[0] == '\0') {
        /* A program may run where it was not built. */
        const char *place = getenv("KILN_TEST_SCRATCH");
        place = place != NULL ? place : KILN_TEST_BINARY_DIR;
        (void)snprintf(folder, sizeof folder, "%s/scratch.%ld", place, (long)getpid());
        (void)mkdir(place, 0777);
        (void)mkdir(folder, 0777);
    }
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

const char *kiln_test_file(const char *name, const void *data, size_t size)
{
    const char *path = kiln_test_path(name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return path;
}
