/* SPDX-License-Identifier: Apache-2.0 */
#include "base/kln_base.h"
#include "graph_maker.h"
#include "kiln_test.h"

TEST(every_status_has_a_name_and_a_text)
{
    assert_string_equal(kiln_status_name(KILN_OK), "KILN_OK");
    assert_string_equal(kiln_status_name(KILN_ERROR_SHAPE), "KILN_ERROR_SHAPE");
    assert_string_equal(kiln_status_text(KILN_ERROR_NULL_ARGUMENT), "a required pointer is NULL");
    assert_string_equal(kiln_status_name((kiln_status)1234), "KILN_ERROR_?");
}

TEST(a_long_sentence_is_cut_between_characters)
{
    char text[3000];
    for (size_t i = 0; i + 2 < sizeof text; i += 2) {
        memcpy(text + i, "\xc3\xa9", 2);
    }
    text[sizeof text - 2] = '\0';
    assert_status(KILN_ERROR_IO, kln_fail(KILN_ERROR_IO, "x%s", text));
    const size_t length = strlen(kiln_error_message());
    assert_in_range(length, 1018, 1023);
    assert_string_equal(kiln_error_message() + length - 3, "...");
    assert_int_equal((unsigned char)kiln_error_message()[length - 4], 0xa9);
}

TEST(a_sentence_is_utf8_whatever_comes_in)
{
    static const char *const pairs[][2] = {
        {"a\xff"
         "b",
         "a?b"},
        {"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"cut \xe2\x82", "cut ??"},
        {"overlong \xc0\xaf \xe0\x80\xaf", "overlong ?? ???"},
        {"surrogate \xed\xa0\x80", "surrogate ???"},
        {"large \xf4\x90\x80\x80", "large ????"}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(pairs); i++) {
        assert_status(KILN_ERROR_IO, kln_fail(KILN_ERROR_IO, "%s", pairs[i][0]));
        assert_string_equal(kiln_error_message(), pairs[i][1]);
    }
}

/* What stands in quotes, in a range, and numbers that only end in 1, stay. */
TEST(one_is_not_many)
{
    static const char *const rows[][2] = {
        {"1 dimensions (4) are needed, 2 were given (2x3)",
         "1 dimension (4) is needed, 2 were given (2x3)"},
        {"1 bytes were given", "1 byte was given"},
        {"it has 1 inputs, but takes 2", "it has 1 input, but takes 2"},
        {"at most 1 axes, 1 entries and 11 bytes", "at most 1 axis, 1 entry and 11 bytes"},
        {"1 of 1 nodes; a graph of 1 nodes", "1 of 1 nodes; a graph of 1 node"},
        {"0 to 1 inputs; version 1.1 nodes; \"1 inputs\"",
         "0 to 1 inputs; version 1.1 nodes; \"1 inputs\""},
        {"1 of 1", "1 of 1"},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(rows); i++) {
        assert_status(KILN_ERROR_INTERNAL, kln_fail(KILN_ERROR_INTERNAL, "%s", rows[i][0]));
        assert_string_equal(rows[i][1], kiln_error_message());
    }
}

/* What a binding makes an error of: never the sentence of an earlier failure. */
TEST(a_sentence_belongs_to_its_status)
{
    size_t bytes = 0;
    const kiln_status failed = kiln_tensor_bytes(KILN_DTYPE_FLOAT32, &KILN_SHAPE(-7), &bytes);
    assert_status(KILN_ERROR_SHAPE, failed);
    assert_non_null(strstr(kiln_status_message(failed), "-7"));
    assert_string_equal(kiln_status_message(KILN_ERROR_BUSY), kiln_status_text(KILN_ERROR_BUSY));
    assert_ok(kiln_tensor_bytes(KILN_DTYPE_FLOAT32, &KILN_SHAPE(7), &bytes));
    assert_string_equal(kiln_status_message(KILN_OK), "");
    assert_non_null(strstr(kiln_error_message(), "-7"));
    assert_string_equal(kiln_status_message((kiln_status)12345), "unknown status");
}

TEST(a_sentence_can_be_put_in_context)
{
    assert_status(KILN_ERROR_IO, kln_fail(KILN_ERROR_IO, "the disk is full"));
    assert_status(KILN_ERROR_IO, kln_fail_within(KILN_ERROR_IO, "\"%s\"", "a.onnx"));
    assert_string_equal(kiln_error_message(), "\"a.onnx\": the disk is full");
}

/* The values of other implementations of XXH3, and one more byte at a time over all its steps. */
TEST(a_files_hash_is_what_others_say)
{
    static const struct {
        const char *text;
        uint64_t hash;
    } known[] = {{"", UINT64_C(0x2d06800538d394c2)},
                 {"a", UINT64_C(0xe6c632b61e964e1f)},
                 {"abc", UINT64_C(0x78af5f94892f3950)},
                 {"Nobody inspects the spammish repetition", UINT64_C(0x6cb00603b5cc47e9)}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(known); i++) {
        assert_true(kln_hash_bytes(known[i].text, strlen(known[i].text)) == known[i].hash);
    }
    unsigned char bytes[100] = {0};
    for (size_t size = 1; size < sizeof bytes; size++) {
        const uint64_t before = kln_hash_bytes(bytes, size);
        assert_true(kln_hash_bytes(bytes, size + 1) != before);
        bytes[size - 1] ^= 1;
        assert_true(kln_hash_bytes(bytes, size) != before);
    }
}

TEST(the_heap_counts_and_is_replaceable)
{
    kiln_allocation_counters before;
    kiln_allocation_counters after;
    kiln_get_allocation_counters(&before);
    void *memory = kln_alloc_aligned(100, 256);
    assert_non_null(memory);
    assert_int_equal((uintptr_t)memory % 256, 0);
    kiln_get_allocation_counters(&after);
    assert_int_equal(after.allocations - before.allocations, 1);
    assert_int_equal(after.bytes_in_use - before.bytes_in_use, 100);
    assert_fails(KILN_ERROR_STATE, kiln_set_allocator(NULL), "100 bytes");
    kln_free(memory);
    kln_free(NULL);
    assert_null(kln_alloc_zeroed(SIZE_MAX / 2, 4));
    assert_null(kln_alloc(SIZE_MAX));
    assert_ok(kiln_set_allocator(NULL));
}

TEST(realloc_keeps_content)
{
    char *memory = kln_alloc(4);
    memcpy(memory, "abc", 4);
    memory = kln_realloc(memory, 4000);
    assert_string_equal(memory, "abc");
    kln_free(memory);
}

TEST(names_map_strings_to_numbers)
{
    static char keys[5000][8];
    kln_names names = {0};
    assert_int_equal(kln_names_get(&names, "x"), KLN_NAMES_NONE);
    for (uint32_t i = 0; i < 5000; i++) {
        (void)snprintf(keys[i], sizeof keys[i], "k%u", i);
        assert_ok(kln_names_set(&names, keys[i], i));
    }
    for (uint32_t i = 0; i < 5000; i++) {
        assert_int_equal(kln_names_get(&names, keys[i]), i);
    }
    assert_ok(kln_names_set(&names, "k7", 99));
    assert_int_equal(kln_names_get(&names, "k7"), 99);
    assert_int_equal(names.count, 5000);
    kln_names_finish(&names);
}

TEST(a_text_has_a_limit)
{
    owned_text text;
    kln_text_init(&text, 10);
    assert_ok(kln_text_printf(&text, "%d", 12345));
    assert_status(KILN_ERROR_LIMIT, kln_text_append(&text, "abcdef", 6));
    assert_ok(kln_text_append(&text, "abcde", 5));
    assert_string_equal(text.data, "12345abcde");
}

TEST(an_arena_gives_aligned_pieces)
{
    kln_arena arena = {0};
    for (size_t size = 0; size < 20000; size += 777) {
        unsigned char *piece = kln_arena_alloc(&arena, size);
        assert_non_null(piece);
        assert_int_equal((uintptr_t)piece % 16, 0);
        memset(piece, 0xAB, size);
    }
    assert_string_equal(kln_arena_printf(&arena, "%s-%d", "a", 7), "a-7");
    assert_null(kln_arena_alloc(&arena, SIZE_MAX - 3));
    kln_arena_finish(&arena);
}

TEST(a_mapping_says_what_is_wrong)
{
    kln_mapping mapping;
    assert_fails(KILN_ERROR_NOT_FOUND, kln_mapping_open(kiln_test_path("absent"), &mapping),
                 "no such file");
    assert_fails(KILN_ERROR_NOT_A_FILE, kln_mapping_open("/tmp", &mapping), "a directory");
    assert_status(KILN_ERROR_NOT_A_FILE, kln_mapping_open("/dev/null", &mapping));
    assert_status(KILN_ERROR_EMPTY, kln_mapping_open(kiln_test_file("empty", "", 0), &mapping));
    assert_ok(kln_mapping_open(kiln_test_file("three", "abc", 3), &mapping));
    assert_int_equal(mapping.bytes.size, 3);
    assert_memory_equal(mapping.bytes.data, "abc", 3);
    kln_mapping_close(&mapping);
    kln_mapping_close(&mapping);
}

TEST(an_output_appears_whole_or_not_at_all)
{
    const char *path = kiln_test_path("result");
    kln_output output;
    assert_ok(kln_output_open(path, &output));
    assert_ok(kln_output_write(&output, "half", 4));
    assert_false(kln_file_exists(path));
    kln_output_discard(&output);
    assert_false(kln_file_exists(path));
    assert_ok(kln_output_open(path, &output));
    assert_ok(kln_output_write(&output, "whole", 5));
    assert_ok(kln_output_commit(&output));
    kln_output_discard(&output);
    assert_true(kln_file_exists(path));
    assert_status(KILN_ERROR_NOT_FOUND, kln_output_open(kiln_test_path("no/such/folder"), &output));
    kln_output_discard(&output);
}

static char seen[256];

static void remember(void *user, kiln_log_level level, const char *component, const char *message)
{
    (void)snprintf(seen, sizeof seen, "%s %d %s %s", (const char *)user, (int)level, component,
                   message);
}

TEST(the_log_goes_to_one_sink)
{
    char user[] = "me";
    kln_log(KILN_LOG_ERROR, "base", "nobody hears this");
    kiln_log_set_sink(remember, user, KILN_LOG_INFO);
    kln_log(KILN_LOG_DEBUG, "base", "too quiet");
    assert_string_equal(seen, "");
    kln_log(KILN_LOG_INFO, "base", "two\nlines, %d nodes", 1);
    assert_string_equal(seen, "me 3 base two lines, 1 node");
    kiln_log_set_sink(NULL, NULL, KILN_LOG_DEBUG);
    assert_false(kln_log_wants(KILN_LOG_ERROR));
}

typedef struct sized {
    size_t struct_size;
    int32_t first;
    int32_t second;
} sized;

TEST(option_structs_of_other_versions_are_read)
{
    sized copy = {sizeof copy, 1, 2};
    assert_ok(kln_options_read("options", NULL, &copy, sizeof copy));
    assert_int_equal(copy.first, 1);
    struct {
        sized known;
        int32_t unknown[2];
    } newer = {{sizeof newer, 3, 4}, {0, 0}};
    assert_ok(kln_options_read("options", &newer, &copy, sizeof copy));
    assert_int_equal(copy.second, 4);
    newer.unknown[1] = 1;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kln_options_read("options", &newer, &copy, sizeof copy), "newer libkiln");
    const sized smaller = {offsetof(sized, second), 7, 99};
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kln_options_read("options", &smaller, &copy, sizeof copy),
                 "at least 16 is needed");
}

TEST(info_structs_of_other_versions_are_written)
{
    const sized info = {0, 5, 6};
    struct {
        sized known;
        int32_t unknown;
    } out = {{sizeof out, 0, 0}, 42};
    assert_ok(kln_info_write("f", &out, &info, sizeof info));
    assert_int_equal(out.known.second, 6);
    assert_int_equal(out.unknown, 42);
    assert_int_equal(out.known.struct_size, sizeof out);
    out.known.struct_size = sizeof info - 1;
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kln_info_write("f", &out, &info, sizeof info));
    assert_status(KILN_ERROR_NULL_ARGUMENT, kln_info_write("f", NULL, &info, sizeof info));
}

static const char *named(const void *from, size_t index)
{
    return ((const char *const *)from)[index];
}

TEST(names_are_listed_as_far_as_there_is_room)
{
    static const char *const names[] = {"a", NULL, "b", "a name of more than twenty bytes", "c"};
    char text[64];
    assert_string_equal(kln_there_are(text, sizeof text, 0, named, names), "there is none");
    assert_string_equal(kln_there_are(text, sizeof text, 2, named, names), "there is \"a\"");
    assert_string_equal(kln_there_are(text, sizeof text, 3, named, names),
                        "there are \"a\", \"b\"");
    assert_string_equal(kln_there_are(text, sizeof text, 5, named, names),
                        "there are \"a\", \"b\" and 2 more");
    assert_string_equal(kln_there_are(text, sizeof text, 1, named, names + 3), "there is 1 more");
}

TEST(what_lasts_is_not_counted)
{
    kiln_allocation_counters before;
    kiln_allocation_counters after;
    kiln_get_allocation_counters(&before);
    kln_lasting_begin();
    char *memory = kln_alloc_aligned(100, 64);
    kln_lasting_end();
    memory = kln_realloc(memory, 200);
    assert_non_null(memory);
    kiln_get_allocation_counters(&after);
    assert_int_equal(after.bytes_in_use - before.bytes_in_use, 200);
    kln_free(memory);
    kln_lasting_begin();
    memory = kln_alloc(10);
    kln_lasting_end();
    assert_non_null(memory);
    kiln_get_allocation_counters(&after);
    assert_int_equal(after.bytes_in_use, before.bytes_in_use);
    kln_free(memory);
    kiln_get_allocation_counters(&after);
    assert_int_equal(after.bytes_in_use, before.bytes_in_use);
}
