/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>
#include <sys/stat.h>

#include "kiln_test.h"
#include "loader/kln_loader.h"

#define FAKE(name) kiln_test_built("fake/" name)

typedef struct part {
    int (*version)(void);
    int (*extra)(void);
} part;

static const kln_symbol symbols[] = {
    {"fake_version", offsetof(part, version), NULL},
    {"fake_extra", offsetof(part, extra), "extra work"},
    {NULL, 0, NULL},
};

static bool accept_three(const void *table, char version[KLN_LIBRARY_VERSION],
                         char reason[KLN_LIBRARY_REASON])
{
    const part *functions = table;
    const int found = functions->version();
    (void)snprintf(version, KLN_LIBRARY_VERSION, "%d.0", found);
    (void)snprintf(reason, KLN_LIBRARY_REASON, "version %d.0 is too old, 3.0 is needed", found);
    return found >= 3;
}

static const char *const files[] = {"libfakepart.so", "libfakepart.so.*", NULL};
static const char *const packages[] = {"fakepart/lib", NULL};
static const char *folders[] = {NULL, NULL};

static const kln_library_spec spec = {
    .name = "Fake Part",
    .purpose = "is looked for",
    .environment = "KILN_FAKEPART",
    .files = files,
    .packages = packages,
    .folders = folders,
    .symbols = symbols,
    .table_size = sizeof(part),
    .advice = "build the tests",
    .accept = accept_three,
};

static part table;
static kln_library *library;

static kiln_status open_at(const char *path)
{
    kln_library_close(library);
    library = NULL;
    memset(&table, 0xA5, sizeof table);
    return kln_library_open(&spec, path, &table, &library);
}

static bool has_place(const char *words)
{
    for (size_t i = 0; i < kln_library_place_count(library); i++) {
        if (strstr(kln_library_place(library, i), words) != NULL) {
            return true;
        }
    }
    return false;
}

static void assert_place(const char *words)
{
    if (!has_place(words)) {
        print_error("no place says \"%s\":\n", words);
        for (size_t i = 0; i < kln_library_place_count(library); i++) {
            print_error("  %s\n", kln_library_place(library, i));
        }
        fail();
    }
}

TEST(a_file_opens_and_fills_the_table)
{
    assert_ok(open_at(FAKE("part/libfakepart.so")));
    assert_int_equal(table.version(), 3);
    assert_null(table.extra);
    assert_int_equal(kln_library_state(library), KILN_LIBRARY_FOUND);
    assert_string_equal(kln_library_version(library), "3.0");
    assert_non_null(strstr(kln_library_path(library), "/fake/part/libfakepart.so"));
    assert_int_equal(kln_library_place_count(library), 1);
    assert_place("/fake/part/libfakepart.so: opened, version 3.0");
    assert_null(kln_library_place(library, 1));
    kln_library_refuse(library, "the tests do not like it");
    assert_int_equal(kln_library_state(library), KILN_LIBRARY_REFUSED);
    assert_place("libfakepart.so: the tests do not like it");
}

TEST(a_folder_stands_for_its_files)
{
    assert_ok(open_at(FAKE("part")));
    assert_place("/fake/part/libfakepart.so: opened, version 3.0");
    assert_fails(KILN_ERROR_LIBRARY_ABSENT, open_at(FAKE("hidden")), "Fake Part: it is not at");
    assert_place("/fake/hidden/libfakepart.so: not there");
    assert_place("/fake/hidden/libfakepart.so.*: nothing matches");
}

TEST(absent_differs_from_broken)
{
    assert_status(KILN_ERROR_LIBRARY_ABSENT, open_at(FAKE("nowhere/libfakepart.so")));
    assert_int_equal(kln_library_state(library), KILN_LIBRARY_ABSENT);
    assert_message("which kiln_build_options.library names");
    assert_place("/fake/nowhere/libfakepart.so: not there");
    assert_null(table.version);

    static const char words[] = "this is a text, not a library, although it is long enough for one";
    assert_status(KILN_ERROR_LIBRARY_BROKEN,
                  open_at(kiln_test_file("libtext.so", words, sizeof words)));
    assert_int_equal(kln_library_state(library), KILN_LIBRARY_BROKEN);
    assert_message("libtext.so: not a library: it has no ELF header");
    assert_status(KILN_ERROR_LIBRARY_BROKEN, open_at(kiln_test_file("libempty.so", "", 0)));
    assert_fails(KILN_ERROR_LIBRARY_BROKEN, open_at("/dev/null"), "not a regular file");

    assert_fails(KILN_ERROR_LIBRARY_BROKEN, open_at(FAKE("needy/libfakepart.so")),
                 "it needs libfakeabsent.so, which is not there");
    assert_fails(KILN_ERROR_LIBRARY_SYMBOL, open_at(FAKE("bare")),
                 "it lacks the function fake_version");
    assert_int_equal(kln_library_state(library), KILN_LIBRARY_BROKEN);
    assert_null(table.version);
    assert_fails(KILN_ERROR_LIBRARY_VERSION, open_at(FAKE("old")),
                 "version 1.0 is too old, 3.0 is needed");
    assert_int_equal(kln_library_state(library), KILN_LIBRARY_REFUSED);
    assert_string_equal(kln_library_path(library), "");
}

/* The dynamic linker would die of SIGBUS on most of these. */
TEST(a_library_cut_short_is_never_opened)
{
    static unsigned char bytes[1 << 20];
    const size_t size = kiln_test_read(FAKE("part/libfakepart.so"), bytes, sizeof bytes);
    assert_true(size >= 4096);
    for (size_t step = 0; step < 40; step++) {
        /* Past the loaded segments only tables for debuggers lie. */
        const size_t part_size = size / 2 * step / 40;
        assert_status(KILN_ERROR_LIBRARY_BROKEN,
                      open_at(kiln_test_file("libcut.so", bytes, part_size)));
    }
    assert_message("cut short");
}

TEST(a_link_is_followed)
{
    const char *path = kiln_test_path("liblink.so");
    (void)unlink(path);
    assert_int_equal(symlink(FAKE("part/libfakepart.so"), path), 0);
    assert_ok(open_at(path));
    assert_non_null(strstr(kln_library_path(library), "/fake/part/libfakepart.so"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/no/such/target.so", path), 0);
    assert_fails(KILN_ERROR_LIBRARY_BROKEN, open_at(path), "a link to something that is not there");
    assert_int_equal(unlink(path), 0);
}

TEST(the_environment_is_looked_at_alone)
{
    assert_int_equal(setenv("KILN_FAKEPART", FAKE("nowhere"), 1), 0);
    folders[0] = FAKE("part");
    assert_fails(KILN_ERROR_LIBRARY_ABSENT, open_at(NULL), "which KILN_FAKEPART names");
    assert_int_equal(kln_library_place_count(library), 1);
    assert_ok(open_at(FAKE("part")));
    assert_int_equal(setenv("KILN_FAKEPART", "", 1), 0);
    assert_ok(open_at(NULL));
    assert_int_equal(unsetenv("KILN_FAKEPART"), 0);
    folders[0] = NULL;
}

static void copy_file(const char *from, const char *to)
{
    static char bytes[1 << 20];
    (void)unlink(to);
    kiln_test_write(to, bytes, kiln_test_read(from, bytes, sizeof bytes));
}

/* Who can write a library, or rename what lies beside it, decides what the process does. */
TEST(what_everybody_can_write_is_refused)
{
    char path[4400];
    const char *folder = kiln_test_path("trusted");
    (void)snprintf(path, sizeof path, "%s/libfakepart.so", folder);
    (void)mkdir(folder, 0755);
    copy_file(FAKE("part/libfakepart.so"), path);
    assert_int_equal(chmod(folder, 0775), 0);
    assert_int_equal(chmod(path, 0664), 0);
    assert_ok(open_at(path));
    assert_int_equal(chmod(path, 0646), 0);
    assert_fails(KILN_ERROR_LIBRARY_BROKEN, open_at(path),
                 "it was not opened: everybody may write to it");
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(chmod(folder, 0757), 0);
    assert_fails(KILN_ERROR_LIBRARY_BROKEN, open_at(path),
                 "everybody may write to its folder or to one above");
    assert_int_equal(chmod(folder, 01777), 0);
    assert_ok(open_at(path));
    if (geteuid() == 0) {
        assert_int_equal(chown(path, 65534, 65534), 0);
        assert_fails(KILN_ERROR_LIBRARY_BROKEN, open_at(path), "belongs to another user");
        assert_int_equal(chmod(folder, 0755), 0);
        assert_ok(open_at(path));
    }
}

TEST(the_newest_version_comes_first)
{
    char path[4400];
    const char *root = kiln_test_path("versions");
    (void)mkdir(root, 0777);
    static const char *const versions[] = {"1.9.0", "1.10.2", "1.10.10", "0.99.99"};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(versions); i++) {
        (void)snprintf(path, sizeof path, "%s/libfakepart.so.%s", root, versions[i]);
        (void)unlink(path);
        assert_int_equal(symlink(FAKE("part/libfakepart.so"), path), 0);
    }
    assert_ok(open_at(root));
    assert_int_equal(kln_library_place_count(library), 2);
    assert_place("/versions/libfakepart.so: not there");
    assert_place("/versions/libfakepart.so.1.10.10: opened");
}

/* A folder that is too old is passed over for one that is not, and stays on record. */
TEST(the_search_goes_on_after_a_failure)
{
    char path[4400];
    const char *home = kiln_test_path("home [*]");
    (void)mkdir(home, 0777);
    static const char *const below[] = {"/.local", "/.local/lib", "/.local/lib/python3.11",
                                        "/.local/lib/python3.11/site-packages",
                                        "/.local/lib/python3.11/site-packages/fakepart"};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(below); i++) {
        (void)snprintf(path, sizeof path, "%s%s", home, below[i]);
        (void)mkdir(path, 0777);
    }
    (void)snprintf(path, sizeof path, "%s%s/lib", home, below[KLN_ARRAY_LENGTH(below) - 1]);
    (void)unlink(path);
    assert_int_equal(symlink(FAKE("old"), path), 0);
    char *old_home = getenv("HOME");
    char *kept = old_home != NULL ? strdup(old_home) : NULL;
    assert_int_equal(setenv("HOME", home, 1), 0);

    folders[0] = FAKE("pa*");
    assert_ok(open_at(NULL));
    assert_place("site-packages/fakepart/lib/libfakepart.so: version 1.0 is too old");
    assert_place("/fake/part/libfakepart.so: opened, version 3.0");
    folders[0] = FAKE("nowhere-*");
    assert_fails(KILN_ERROR_LIBRARY_VERSION, open_at(NULL),
                 "site-packages/fakepart/lib/libfakepart.so: version 1.0 is too old");
    assert_place("/fake/nowhere-*: nothing matches");
    assert_place("libfakepart.so (the system's own search): not there");

    assert_int_equal(unlink(path), 0);
    assert_fails(KILN_ERROR_LIBRARY_ABSENT, open_at(NULL),
                 "Fake Part is not installed: it is in none of ", "build the tests");
    folders[0] = NULL;
    if (kept != NULL) {
        (void)setenv("HOME", kept, 1);
        free(kept);
    }
}

TEST(the_system_search_finds_by_name)
{
    static const char *const names[] = {"libm.so.6", NULL};
    static const kln_symbol cosine[] = {{"cos", 0, NULL}, {NULL, 0, NULL}};
    const kln_library_spec math = {.name = "libm",
                                   .files = names,
                                   .symbols = cosine,
                                   .table_size = sizeof(void *),
                                   .advice = "install a C library"};
    double (*function)(double) = NULL;
    kln_library *found = NULL;
    assert_ok(kln_library_open(&math, NULL, &function, &found));
    assert_true(function(0.0) > 0.999);
    assert_int_equal(kln_library_path(found)[0], '/');
    assert_string_equal(kln_library_version(found), "");
    kln_library_forget(found);
    kln_library_forget(NULL);
    kln_library_close(NULL);
}

TEST(the_system_goes_first_where_the_spec_says_so)
{
    static const char *const names[] = {"libm.so.6", NULL};
    const char *const places[] = {FAKE("part"), NULL};
    static const kln_symbol cosine[] = {{"cos", 0, NULL}, {NULL, 0, NULL}};
    const kln_library_spec math = {.name = "libm",
                                   .files = names,
                                   .folders = places,
                                   .symbols = cosine,
                                   .table_size = sizeof(void *),
                                   .system_first = true,
                                   .advice = "install a C library"};
    double (*function)(double) = NULL;
    kln_library *found = NULL;
    assert_ok(kln_library_open(&math, NULL, &function, &found));
    /* Where the process has it open already, as under a sanitizer, it is that one. */
    const char *place = kln_library_place(found, 0);
    assert_true(strcmp(place, "libm.so.6 (the system's own search): opened") == 0 ||
                strstr(place, "/libm.so.6: opened") != NULL);
    assert_null(kln_library_place(found, 1));
    kln_library_forget(found);

    static const char *const other[] = {"libfakepart.so", NULL};
    kln_library_spec fake = spec;
    fake.files = other;
    fake.folders = places;
    fake.system_first = true;
    assert_ok(kln_library_open(&fake, NULL, &table, &found));
    assert_string_equal(kln_library_place(found, 0),
                        "libfakepart.so (the system's own search): not there");
    kln_library_close(found);
}

TEST(what_a_library_needs_is_read)
{
    const char *needy = FAKE("needy/libfakepart.so");
    assert_true(kln_library_needs(needy, "libfakeabsent.so"));
    assert_false(kln_library_needs(needy, "libfakeabsent"));
    assert_false(kln_library_needs(needy, "libm.so.6"));
    assert_false(kln_library_needs(FAKE("part/libfakepart.so"), "libfakeabsent.so"));
    assert_false(kln_library_needs(FAKE("part"), "libc.so.6"));
    assert_false(kln_library_needs(FAKE("part/nowhere.so"), "libc.so.6"));

    /* Cut short or changed anywhere: an answer, and nothing else. */
    static unsigned char bytes[65536];
    const size_t size = kiln_test_read(needy, bytes, sizeof bytes);
    const char *path = kiln_test_path("needy.so");
    for (size_t i = 0; i < 400; i++) {
        const size_t at = i * 7919 % (i % 2 == 0 ? size : 1024);
        const unsigned char kept = bytes[at];
        bytes[at] = (unsigned char)(kept ^ (1u << (i % 8)));
        kiln_test_write(path, bytes, i % 3 == 0 ? at : size);
        (void)kln_library_needs(path, "libfakeabsent.so");
        bytes[at] = kept;
    }
}

TEST(a_look_opens_nothing)
{
    char folder[] = "/tmp/kiln_look_XXXXXX";
    char path[PATH_MAX];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/libfakepart.so", folder);
    static const char *const names[] = {"libfakepart.so", NULL};
    kln_library_spec looked = spec;
    looked.files = names;
    kln_library_close(library);

    assert_ok(kln_library_look(&looked, NULL, &library));
    assert_int_equal(kln_library_state(library), KILN_LIBRARY_ABSENT);
    assert_place("libfakepart.so: not looked for");
    kln_library_close(library);

    assert_ok(kln_library_look(&looked, folder, &library));
    assert_int_equal(kln_library_state(library), KILN_LIBRARY_ABSENT);
    assert_place("/libfakepart.so: not there");
    kln_library_close(library);

    kiln_test_write(path, "no library", 10);
    assert_ok(kln_library_look(&looked, folder, &library));
    assert_int_equal(kln_library_state(library), KILN_LIBRARY_BROKEN);
    assert_string_equal(kln_library_path(library), "");
    assert_place("it has no ELF header");
    kln_library_close(library);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);

    assert_ok(kln_library_look(&looked, FAKE("part"), &library));
    assert_int_equal(kln_library_state(library), KILN_LIBRARY_FOUND);
    assert_non_null(strstr(kln_library_path(library), "/libfakepart.so"));
    assert_place("/libfakepart.so: there");
    kln_library_close(library);
    library = NULL;
}

/* A room may keep a record for good, and the heap can still be replaced. */
TEST(a_record_takes_nothing_from_the_heap)
{
    const uint64_t before = kiln_test_allocations();
    assert_ok(open_at(FAKE("part")));
    assert_status(KILN_ERROR_LIBRARY_ABSENT, open_at(NULL));
    assert_int_equal(kiln_test_allocations(), before);
    assert_ok(kiln_set_allocator(NULL));
}

int main(void)
{
    (void)unsetenv("VIRTUAL_ENV");
    (void)unsetenv("CONDA_PREFIX");
    return kiln_test_run();
}
