/* SPDX-License-Identifier: Apache-2.0 */
/* Range tables, and the two texts that they are read from and written to. */
#include "base/kln_base.h"
#include "graph_maker.h"
#include "kiln_test.h"

static kiln_range_table *table_of(const char *text)
{
    kiln_range_table *table = NULL;
    assert_ok(kiln_range_table_load_bytes((kiln_span){text, strlen(text)}, &table));
    return table;
}

static void assert_range(const kiln_range_table *table, const char *name, double low, double high)
{
    const kiln_range *range = kiln_range_table_find(table, name);
    assert_non_null(range);
    assert_string_equal(range->name, name);
    assert_true(range->low == low && range->high == high);
}

static char *text_of(const char *path)
{
    static char text[4096];
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    (void)fclose(file);
    return text;
}

TEST(a_table_keeps_order_and_replaces)
{
    owned_range_table table = NULL;
    char name[16];
    assert_ok(kiln_range_table_create(&table));
    assert_string_equal(kiln_range_table_header(table), KILN_CACHE_HEADER);
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(name, sizeof name, "t%d", i);
        assert_ok(kiln_range_table_set(table, name, -i, i));
    }
    assert_ok(kiln_range_table_set(table, "t7", 1, 2));
    assert_int_equal(kiln_range_table_count(table), 1000);
    assert_string_equal(kiln_range_table_at(table, 7)->name, "t7");
    assert_range(table, "t7", 1, 2);
    assert_range(table, "t999", -999, 999);
    assert_null(kiln_range_table_at(table, 1000));
    assert_null(kiln_range_table_find(table, "t1000"));
    assert_status(KILN_ERROR_NAME, kiln_range_table_set(table, "", 0, 1));
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_range_table_set(table, "a", 1, 0));
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_range_table_set(table, "a", (double)NAN, 0));
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_range_table_set(table, "a", 0, HUGE_VAL));
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_range_table_set_header(table, "TRT-8601-"));
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_range_table_set_header(table, "TRT-1-A\n"));
    assert_int_equal(kiln_range_table_count(table), 1000);
    kiln_range_table_destroy(NULL);
}

/* What TensorRT writes, and what a text editor may make of it. */
TEST(a_cache_is_read)
{
    owned_range_table table = table_of(
        "TRT-8601-MinMaxCalibration\r\n"
        "input:0: 3c010a14\r\n"
        "(Unnamed Layer* 1) [Convolution]_output: 3F800000\n"
        "zeros: 0\n\nlast: 3d000000");
    assert_string_equal(kiln_range_table_header(table), "TRT-8601-MinMaxCalibration");
    assert_int_equal(kiln_range_table_count(table), 4);
    assert_range(table, "input:0", -127 * (double)0x1.021428p-7F, 127 * (double)0x1.021428p-7F);
    assert_range(table, "(Unnamed Layer* 1) [Convolution]_output", -127, 127);
    assert_range(table, "zeros", 0, 0);
    assert_range(table, "last", -127.0 / 32, 127.0 / 32);
}

/* The scales come back bit for bit, over JSON too, whatever they are. */
TEST(every_scale_comes_back)
{
    owned_text text;
    kln_text_init(&text, 1 << 20);
    assert_ok(kln_text_printf(&text, "TRT-100600-EntropyCalibration2\n"));
    uint32_t bits = 0;
    for (uint32_t i = 0; i < 100; i++) {
        assert_ok(kln_text_printf(&text, "t/%u: %x\n", i, bits));
        bits = (bits * UINT32_C(1664525) + UINT32_C(1013904223)) % UINT32_C(0x7f800000);
    }
    const char *json = kiln_test_path("r.json");
    const char *cache = kiln_test_path("r.cache");
    kiln_range_table *table = table_of(text.data);
    assert_ok(kiln_range_table_save(table, json));
    kiln_range_table_destroy(table);
    assert_ok(kiln_range_table_load(json, &table));
    assert_ok(kiln_range_table_save(table, cache));
    kiln_range_table_destroy(table);
    assert_string_equal(text_of(cache), text.data);
}

TEST(json_keeps_all)
{
    owned_range_table table = NULL;
    static const kiln_channel channels[] = {{-7, 3, 0.1, 1.0 / 3}, {0, 1e30, 1e29, 0}};
    const kiln_range range = {
        sizeof range, "a \"b\"\n\xc3\xa9", -0.1, 3, -7, 1e30, 12345678901234, 3, 4, channels, 2};
    const char *path = kiln_test_path("all.json");
    assert_ok(kiln_range_table_create(&table));
    assert_ok(kiln_range_table_put(table, &range));
    assert_ok(kiln_range_table_save(table, path));
    assert_status(KILN_ERROR_NAME, kiln_range_table_save(table, kiln_test_path("x.cache")));
    kiln_range_table_destroy(table);
    assert_ok(kiln_range_table_load(path, &table));
    const kiln_range *found = kiln_range_table_find(table, range.name);
    assert_non_null(found);
    assert_true(found->low == range.low && found->high == range.high &&
                found->least == range.least && found->greatest == range.greatest &&
                found->count == range.count && found->nans == 3 && found->infinities == 4);
    assert_int_equal(found->channel_count, 2);
    assert_memory_equal(found->channels, channels, sizeof channels);
}

/* Of {0, 2} and {4, 6, 8}: what all five say together. */
TEST(channels_are_merged)
{
    static const kiln_channel mine = {0, 2, 1, 1};
    const kiln_channel other = {4, 8, 6, sqrt(8.0 / 3)};
    owned_range_table table = NULL;
    owned_range_table second = NULL;
    assert_ok(kiln_range_table_create(&table));
    assert_ok(kiln_range_table_create(&second));
    const kiln_range a = {sizeof a, "a", 0, 2, 0, 2, 2, 0, 0, &mine, 1};
    const kiln_range b = {sizeof b, "a", 4, 8, 4, 8, 3, 0, 0, &other, 1};
    assert_ok(kiln_range_table_put(table, &a));
    assert_ok(kiln_range_table_put(second, &b));
    assert_ok(kiln_range_table_merge(table, second));
    const kiln_channel *merged = kiln_range_table_find(table, "a")->channels;
    assert_true(merged->least == 0 && merged->greatest == 8);
    assert_float_equal(merged->mean, 4, 1e-12);
    assert_float_equal(merged->deviation, sqrt(8), 1e-12);
    const kiln_channel odd = {0, 1, (double)NAN, 1};
    const kiln_range small = {8, "a", 0, 2, 0, 2, 2, 0, 0, NULL, 0};
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_range_table_put(table, &small), "struct_size");
    const kiln_range refused = {sizeof refused, "a", 0, 2, 0, 2, 2, 0, 0, &odd, 1};
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_range_table_put(table, &refused));
}

TEST(a_cache_has_no_room_for_a_wide_range)
{
    owned_range_table table = table_of("{\"ranges\": {\"a\": {\"low\": 0, \"high\": 1e300}}}");
    assert_status(KILN_ERROR_INVALID_ARGUMENT,
                  kiln_range_table_save(table, kiln_test_path("wide.cache")));
}

TEST(tables_merge)
{
    owned_range_table a = table_of(
        "{\"ranges\": {\"x\": {\"low\": -1, \"high\": 2, \"count\": 5},"
        "\"y\": {\"low\": 0, \"high\": 0}}}");
    owned_range_table b = table_of(
        "{\"ranges\": {\"z\": {\"low\": 4, \"high\": 5}, \"x\": "
        "{\"low\": 0, \"high\": 3, \"least\": -9, \"count\": 7}}}");
    assert_ok(kiln_range_table_merge(a, b));
    assert_ok(kiln_range_table_merge(b, b));
    assert_int_equal(kiln_range_table_count(a), 3);
    assert_range(a, "x", -1, 3);
    assert_range(a, "z", 4, 5);
    assert_true(kiln_range_table_find(a, "x")->least == -9);
    assert_int_equal(kiln_range_table_find(a, "x")->count, 12);
}

TEST(what_makes_no_sense_is_refused)
{
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"hello\n", "line 1 of a calibration cache"},
        {"TRT-8601-EntropyCalibration2\na: 3c010a14\nb: 3c010a14 \n", "line 3"},
        {"TRT-8601-EntropyCalibration2\na 3c010a14\n", "line 2"},
        {"TRT-8601-EntropyCalibration2\n: 3c010a14\n", "line 2"},
        {"TRT-8601-EntropyCalibration2\na: 3c010a141\n", "line 2"},
        {"TRT-8601-EntropyCalibration2\na:\n", "line 2"},
        {"TRT-8601-EntropyCalibration2\na: 7fc00000\n", "line 2"},
        {"TRT-8601-EntropyCalibration2\na: bc010a14\n", "line 2"},
        {"TRT-8601-EntropyCalibration2\na: 0\na: 0\n", "has a scale already"},
        {"{", "no JSON"},
        {"{}", "an object \"ranges\""},
        {"{\"header\": \"TRT\", \"ranges\": {}}", "\"header\""},
        {"{\"ranges\": {\"a\": 1}}", "tensor \"a\""},
        {"{\"ranges\": {\"a\": {\"low\": 1}}}", "tensor \"a\""},
        {"{\"ranges\": {\"a\": {\"low\": 1, \"high\": 0}}}", "the lower one first"},
        {"{\"ranges\": {\"a\": {\"low\": 0, \"high\": 0, \"nans\": -1}}}", "tensor \"a\""},
        {"{\"ranges\": {\"\": {\"low\": 0, \"high\": 0}}}", "needs the name"},
        {"{\"ranges\": {\"a\": {\"low\": 0, \"high\": 0}, \"a\": {\"low\": 0, \"high\": 0}}}",
         "tensor \"a\""},
        {"{\"ranges\": {\"a\": {\"low\": 0, \"high\": 1, \"channels\": [[0, 1, 2]]}}}", "four"},
        {"{\"ranges\": {\"a\": {\"low\": 0, \"high\": 1, \"channels\": 7}}}", "four numbers"},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        kiln_range_table *table = (void *)&table;
        const kiln_span bytes = {cases[i].text, strlen(cases[i].text)};
        assert_fails(KILN_ERROR_MALFORMED, kiln_range_table_load_bytes(bytes, &table),
                     cases[i].words);
        assert_null(table);
    }
    kiln_range_table *table = NULL;
    assert_status(KILN_ERROR_EMPTY, kiln_range_table_load_bytes((kiln_span){"", 0}, &table));
    assert_status(KILN_ERROR_NOT_FOUND, kiln_range_table_load("/nowhere/r.json", &table));
}

static kiln_status live(void *user)
{
    kiln_range_table *table = NULL;
    owned_range_table all = NULL;
    const char *const *texts = user;
    kiln_status status = kiln_range_table_create(&all);
    for (size_t i = 0; i < 2 && status == KILN_OK; i++) {
        status = kiln_range_table_load_bytes((kiln_span){texts[i], strlen(texts[i])}, &table);
        status = status == KILN_OK ? kiln_range_table_merge(all, table) : status;
        status = status == KILN_OK ? kiln_range_table_save(table, texts[2 + i]) : status;
        kiln_range_table_destroy(table);
        table = NULL;
    }
    return status;
}

TEST(every_allocation_may_fail)
{
    char *paths[2] = {strdup(kiln_test_path("f.json")), strdup(kiln_test_path("f.cache"))};
    const char *texts[] = {
        "{\"header\": \"TRT-1-A\", \"ranges\": {\"a\": {\"low\": 0, \"high\": 1},"
        "\"b\": {\"low\": 0, \"high\": 1, \"count\": 1}}}",
        "TRT-100600-EntropyCalibration2\na: 3c010a14\n", paths[0], paths[1]};
    kiln_test_each_allocation(live, texts);
    free(paths[0]);
    free(paths[1]);
}
