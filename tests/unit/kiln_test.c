/* SPDX-License-Identifier: Apache-2.0 */
#include "kiln_test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

#define SCRATCH_DEPTH 8

static long allocation_to_fail = -1;
static long allocations_seen;
static bool allocation_failed;
static bool allocations_pause;

void kiln_test_status(kiln_status expected, kiln_status found, const char *call, const char *file,
                      int line)
{
    if (expected != found) {
        print_error("%s\n  expected %s, found %s: %s\n", call, kiln_status_name(expected),
                    kiln_status_name(found), found == KILN_OK ? "" : kiln_error_message());
        _fail(file, line);
    }
    if (strcmp(kiln_status_message(found), found == KILN_OK ? "" : kiln_error_message()) != 0 ||
        (found != KILN_OK && kiln_error_message()[0] == '\0')) {
        print_error("%s\n  %s came without a sentence of its own; the last is \"%s\"\n", call,
                    kiln_status_name(found), kiln_error_message());
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

void kiln_test_fails(kiln_status expected, kiln_status found, const char *call, const char *file,
                     int line, const char *const *words)
{
    kiln_test_status(expected, found, call, file, line);
    for (; *words != NULL; words++) {
        kiln_test_message(*words, file, line);
    }
}

void kiln_test_bind(const char *file, int line, kiln_context *context, const char *name,
                    kiln_tensor tensor)
{
    kiln_test_status(KILN_OK, kiln_context_bind(context, name, &tensor), name, file, line);
}

static void *failing_allocate(void *user, size_t size, size_t alignment)
{
    if (!allocations_pause && allocations_seen++ == allocation_to_fail) {
        allocation_failed = true;
        return NULL;
    }
    void *memory = NULL;
    return posix_memalign(&memory, alignment, size) == 0 ? memory : NULL;
}

static void failing_release(void *user, void *memory, size_t size, size_t alignment)
{
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

void kiln_test_pause_failures(bool pause)
{
    allocations_pause = pause;
}

bool kiln_test_allocation_failed(void)
{
    return allocation_failed;
}

kiln_test_crew kiln_test_start(size_t count, void *(*body)(void *user), void *users, size_t size)
{
    kiln_test_crew crew = {.count = count};
    assert_true(count <= sizeof crew.threads / sizeof crew.threads[0]);
    for (size_t i = 0; i < count; i++) {
        void *user = (char *)users + i * size;
        assert_int_equal(pthread_create(&crew.threads[i], NULL, body, user), 0);
    }
    return crew;
}

void kiln_test_join(const kiln_test_crew *crew)
{
    for (size_t i = 0; i < crew->count; i++) {
        void *failed = NULL;
        assert_int_equal(pthread_join(crew->threads[i], &failed), 0);
        assert_null(failed);
    }
}

void kiln_test_in_threads(size_t count, void *(*body)(void *user), void *users, size_t size)
{
    const kiln_test_crew crew = kiln_test_start(count, body, users, size);
    kiln_test_join(&crew);
}

static void *cancel_again(void *user)
{
    kiln_test_canceller *self = user;
    while (!atomic_load(&self->over)) {
        (void)usleep(self->pause);
        if (kiln_context_cancel(self->context) != KILN_OK) {
            return self;
        }
    }
    return NULL;
}

void kiln_test_begin_cancelling(kiln_test_canceller *self, size_t threads)
{
    atomic_init(&self->over, false);
    self->crew = kiln_test_start(threads, cancel_again, self, 0);
}

void kiln_test_end_cancelling(kiln_test_canceller *self)
{
    atomic_store(&self->over, true);
    kiln_test_join(&self->crew);
}

kiln_status kiln_test_idle(void *user, kiln_mock_run *run, char message[1024])
{
    return KILN_OK;
}

double kiln_test_seconds(void)
{
    struct timespec now;
    assert_int_equal(0, clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now));
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

uint64_t kiln_test_allocations(void)
{
    kiln_allocation_counters counters;
    kiln_get_allocation_counters(&counters);
    return counters.allocations;
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
        if (status != KILN_ERROR_OUT_OF_MEMORY) { /* the sentence may be of what came after it */
            fail_msg("allocation %ld failed, and what came of it is %s: %s", which,
                     kiln_status_name(status), kiln_error_message());
        }
    }
    kiln_test_restore_allocator();
}

static unsigned skipped;
static char scratch[32]; /* the name of the scratch folder, once it is there */

/* A program may run where it was not built. */
static const char *scratch_place(void)
{
    const char *place = getenv("KILN_TEST_SCRATCH");
    return place != NULL ? place : kiln_test_binary_folder;
}

/* Removes what is in the open folder; takes the descriptor. */
static void empty_folder(int folder, int depth)
{
    DIR *entries = fdopendir(folder);
    if (entries == NULL) {
        (void)close(folder);
        return;
    }
    const struct dirent *entry = NULL;
    while ((entry = readdir(entries)) != NULL) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || unlinkat(folder, name, 0) == 0) {
            continue;
        }
        (void)fchmodat(folder, name, 0700, 0);
        const int inner = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (inner >= 0 && depth > 0) {
            empty_folder(inner, depth - 1);
        } else if (inner >= 0) {
            (void)close(inner);
        }
        (void)unlinkat(folder, name, AT_REMOVEDIR);
    }
    (void)closedir(entries);
}

static void remove_scratch(int tests, const char *name)
{
    const int folder = openat(tests, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder >= 0) {
        empty_folder(folder, SCRATCH_DEPTH);
        (void)unlinkat(tests, name, AT_REMOVEDIR);
    }
}

/* What a test that was killed left behind. */
static void sweep_scratch(void)
{
    DIR *tests = opendir(scratch_place());
    const struct dirent *entry = NULL;
    while (tests != NULL && (entry = readdir(tests)) != NULL) {
        const char *number = entry->d_name + strlen("scratch.");
        if (strncmp(entry->d_name, "scratch.", strlen("scratch.")) != 0) {
            continue;
        }
        char *end = NULL;
        const long process = strtol(number, &end, 10);
        if (process > 0 && *end == '\0' && kill((pid_t)process, 0) != 0 && errno == ESRCH) {
            remove_scratch(dirfd(tests), entry->d_name);
        }
    }
    if (tests != NULL) {
        (void)closedir(tests);
    }
}

void kiln_test_skip(const char *file, int line)
{
    skipped++;
    _skip(file, line);
}

int kiln_test_end(int failures)
{
    if (scratch[0] != '\0') {
        const int tests = open(scratch_place(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (tests >= 0) {
            remove_scratch(tests, scratch);
            (void)close(tests);
            (void)rmdir(scratch_place()); /* where it was made for this and is empty */
        }
    }
    if (failures != 0) {
        return 1;
    }
    return skipped > 0 ? KILN_TEST_SKIPPED : 0;
}

static struct {
    int line;
    struct CMUnitTest test;
} added[128];
static size_t added_count;
static bool (*begin_with)(void);

void kiln_test_add(int line, struct CMUnitTest test)
{
    size_t at = added_count++;
    if (at == sizeof added / sizeof added[0]) {
        abort();
    }
    for (; at > 0 && added[at - 1].line > line; at--) {
        added[at] = added[at - 1];
    }
    added[at].line = line;
    added[at].test = test;
}

void kiln_test_begin_with(bool (*function)(void))
{
    begin_with = function;
}

int kiln_test_run(void)
{
    struct CMUnitTest tests[sizeof added / sizeof added[0]];
    if (begin_with != NULL && !begin_with()) {
        return KILN_TEST_SKIPPED;
    }
    for (size_t i = 0; i < added_count; i++) {
        tests[i] = added[i].test;
    }
    return kiln_test_end(_cmocka_run_group_tests("tests", tests, added_count, NULL, NULL));
}

__attribute__((weak)) int main(void)
{
    return kiln_test_run();
}

/* The one copy of a path of these parts. */
static const char *kept_path(const char *folder, const char *inner, const char *name)
{
    static char *paths[4096];
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s%s", folder, inner, name);
    size_t at = 0;
    while (paths[at] != NULL && strcmp(paths[at], path) != 0) {
        at++;
        assert_true(at < sizeof paths / sizeof paths[0]);
    }
    if (paths[at] == NULL) {
        paths[at] = strdup(path);
        assert_non_null(paths[at]);
    }
    return paths[at];
}

const char *kiln_test_built(const char *name)
{
    return kept_path(kiln_test_binary_folder, "", name);
}

const char *kiln_test_deps(const char *name)
{
    return kept_path(kiln_test_deps_folder, "", name);
}

const char *kiln_test_path(const char *name)
{
    if (scratch[0] == '\0') {
        sweep_scratch();
        (void)snprintf(scratch, sizeof scratch, "scratch.%ld/", (long)getpid());
        (void)mkdir(scratch_place(), 0777);
        (void)mkdir(kept_path(scratch_place(), scratch, ""), 0777);
    }
    return kept_path(scratch_place(), scratch, name);
}

const char *kiln_test_file(const char *name, const void *data, size_t size)
{
    const char *path = kiln_test_path(name);
    kiln_test_write(path, data, size);
    return path;
}

void kiln_test_write(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

size_t kiln_test_read(const char *path, void *data, size_t room)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    const size_t size = fread(data, 1, room, file);
    assert_int_equal(fclose(file), 0);
    assert_true(size < room);
    ((char *)data)[size] = '\0';
    return size;
}

double kiln_test_resident(void)
{
    char text[256];
    (void)kiln_test_read("/proc/self/statm", text, sizeof text);
    return strtod(strchr(text, ' '), NULL) * (double)sysconf(_SC_PAGESIZE);
}
