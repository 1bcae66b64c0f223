/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/kln_base.h"
#include "kiln_test.h"

static const kiln_span words = {"words", 5};

static void path_of(const char *name, char path[4096])
{
    (void)snprintf(path, 4096, "%s", kiln_test_path(name));
}

static mode_t mode_of(const char *path)
{
    struct stat facts;
    assert_int_equal(stat(path, &facts), 0);
    return facts.st_mode & (mode_t)07777;
}

static void assert_holds(const char *path, const char *expected)
{
    char found[64] = "";
    (void)kiln_test_read(path, found, sizeof found);
    assert_string_equal(found, expected);
}

/* --- the umask is the process's (not its threads'), and Kiln leaves it alone --- */

#define THREADS 8
#define SAVES 100

static atomic_int running;

static void *save_often(void *user)
{
    float value = 1;
    const kiln_tensor tensor = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1), &value, 4);
    for (int i = 0; i < SAVES; i++) {
        char path[4096 + 32];
        (void)snprintf(path, sizeof path, "%s.%d", (const char *)user, i % 4);
        (void)unlink(path);
        if (kiln_tensor_save_npy(&tensor, path) != KILN_OK) {
            abort();
        }
    }
    (void)atomic_fetch_sub(&running, 1);
    return NULL;
}

/* Without changing it, as umask(2) must. */
static unsigned umask_now(void)
{
    char line[128];
    unsigned found = 0xffff;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "Umask:", 6) == 0) {
            found = (unsigned)strtoul(line + 6, NULL, 8);
        }
    }
    assert_non_null(file);
    (void)fclose(file);
    return found;
}

TEST(saving_never_touches_the_umask)
{
    pthread_t threads[THREADS];
    static char paths[THREADS][4096];
    const mode_t before = umask(027);
    atomic_store(&running, THREADS);
    for (size_t i = 0; i < THREADS; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "umask.%zu", i);
        path_of(name, paths[i]);
        assert_int_equal(pthread_create(&threads[i], NULL, save_often, paths[i]), 0);
    }
    bool kept = true;
    while (atomic_load(&running) > 0) {
        kept = kept && umask_now() == 027;
    }
    for (size_t i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    const mode_t after = umask(before);
    char path[4096 + 8];
    (void)snprintf(path, sizeof path, "%s.0", paths[0]);
    assert_true(kept);
    assert_int_equal(after, 027);
    assert_int_equal(mode_of(path), 0640);
}

/* --- what lies at the path --- */

TEST(a_file_that_is_replaced_keeps_its_mode)
{
    const char *path = kiln_test_path("secret");
    (void)unlink(path);
    assert_ok(kln_file_write(path, &words, 1, false));
    static const mode_t modes[] = {0600, 0604, 0755};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(modes); i++) {
        assert_int_equal(chmod(path, modes[i]), 0);
        assert_ok(kln_file_write(path, &words, 1, true));
        assert_int_equal(mode_of(path), modes[i]);
    }
    if (geteuid() == 0) {
        struct stat facts;
        assert_int_equal(chown(path, 1, 2), 0);
        assert_ok(kln_file_write(path, &words, 1, false));
        assert_int_equal(stat(path, &facts), 0);
        assert_int_equal(facts.st_uid, 1);
        assert_int_equal(facts.st_gid, 2);
        assert_int_equal(mode_of(path), 0755);
    }
}

TEST(a_link_stays_and_what_it_leads_to_is_replaced)
{
    struct stat facts;
    const char *link = kiln_test_path("link");
    const char *second = kiln_test_path("second");
    const char *target = kiln_test_path("target");
    (void)unlink(link);
    (void)unlink(second);
    (void)unlink(target);
    assert_int_equal(symlink("second", link), 0); /* relative to the folder of the link */
    assert_int_equal(symlink(target, second), 0);
    assert_ok(kln_file_write(link, &words, 1, false)); /* to what is not there yet */
    assert_holds(target, "words");
    assert_int_equal(chmod(target, 0600), 0);
    assert_ok(kln_file_write(link, (kiln_span[]){{"other", 5}}, 1, false));
    assert_holds(target, "other");
    assert_int_equal(lstat(link, &facts), 0);
    assert_true(S_ISLNK(facts.st_mode));
    assert_int_equal(lstat(second, &facts), 0);
    assert_true(S_ISLNK(facts.st_mode));
    assert_int_equal(mode_of(target), 0600);
    (void)unlink(second);
    assert_int_equal(symlink("link", second), 0);
    assert_fails(KILN_ERROR_IO, kln_file_write(link, &words, 1, false),
                 "Too many levels of symbolic links");
}

static void *read_all(void *user)
{
    static char found[64];
    const int descriptor = open(user, O_RDONLY | O_CLOEXEC);
    const ssize_t size = read(descriptor, found, sizeof found - 1);
    found[size > 0 ? size : 0] = '\0';
    (void)close(descriptor);
    return found;
}

TEST(a_pipe_is_written_to)
{
    struct stat facts;
    pthread_t reader;
    void *found = NULL;
    const char *path = kiln_test_path("pipe");
    (void)unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(pthread_create(&reader, NULL, read_all, (void *)(uintptr_t)path), 0);
    assert_ok(kln_file_write(path, &words, 1, true));
    (void)pthread_join(reader, &found);
    assert_string_equal(found, "words");
    assert_int_equal(lstat(path, &facts), 0);
    assert_true(S_ISFIFO(facts.st_mode));
}

/* A device of our own where we may make one; as root, the old way deleted /dev/null. */
TEST(a_device_is_written_to)
{
    struct stat facts;
    const char *path = kiln_test_path("null");
    (void)unlink(path);
    SKIP_IF(mknod(path, S_IFCHR | 0666, makedev(1, 3)) != 0);
    assert_ok(kln_file_write(path, &words, 1, true));
    assert_int_equal(lstat(path, &facts), 0);
    assert_true(S_ISCHR(facts.st_mode));
    (void)unlink(path);
}

/* /dev/stdout is a link to a link in /proc, whose text is the name of a file: it is not the name
 * that is meant, but the file that is open. */
TEST(a_link_to_an_open_file_is_written_to)
{
    char magic[64];
    const char *path = kiln_test_path("open");
    const int descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(descriptor >= 0);
    (void)snprintf(magic, sizeof magic, "/proc/self/fd/%d", descriptor);
    assert_ok(kln_file_write(magic, &words, 1, true));
    char found[8] = "";
    assert_int_equal(pread(descriptor, found, 7, 0), 5);
    assert_string_equal(found, "words");
    (void)close(descriptor);
}

TEST(nothing_is_left_of_what_is_discarded)
{
    char path[4096];
    kln_output output;
    path_of("discarded", path);
    assert_ok(kln_output_open(path, &output));
    assert_ok(kln_output_write(&output, "half", 4));
    assert_true(kln_file_exists(output.temporary));
    char temporary[4096];
    (void)snprintf(temporary, sizeof temporary, "%s", output.temporary);
    kln_output_discard(&output);
    assert_false(kln_file_exists(temporary));
    assert_false(kln_file_exists(path));
    assert_fails(KILN_ERROR_IO, kln_output_open("/", &output), "a directory is in its place");
    char name[300];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    path_of(name, path);
    assert_ok(kln_output_open(path, &output));
    assert_fails(KILN_ERROR_IO, kln_output_commit(&output), "File name too long");
}

/* --- the lock of a folder --- */

TEST(a_lock_ends_with_its_holder)
{
    int lock = -1;
    const char *path = kiln_test_path("locked");
    assert_ok(kln_folder_lock(path, &lock));
    assert_true(lock >= 0);
    /* As a child has it that was forked meanwhile. */
    const int copy = dup(lock);
    kln_folder_unlock(lock);
    assert_ok(kln_folder_lock(path, &lock));
    kln_folder_unlock(lock);
    (void)close(copy);
    assert_ok(kln_folder_lock("/proc/1/none/such", &lock));
    assert_int_equal(lock, -1);
    kln_folder_unlock(lock);
}
