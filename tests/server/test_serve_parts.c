/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the server that know no socket: JSON, tensors as text, the body of a
 * request. */
#include <float.h>

#include "kiln_test.h"
#include "serve_data.h"
#include "serve_infer.h"

static bool is_json(const char *text)
{
    serve_json json;
    serve_slice value;
    serve_json_init(&json, text, strlen(text));
    return serve_json_skip(&json, &value) && serve_json_end(&json);
}

TEST(json_is_rfc_8259)
{
    static const char *const good[] = {"0",
                                       "-0",
                                       "1.5e-3",
                                       "\"\"",
                                       "true",
                                       " [ ] ",
                                       "{}",
                                       "[1,[2,{\"a\":null}],\"\\u00e9\\ud83d\\ude00\\n\"]",
                                       "{\"a\":{\"b\":[]},\"c\":1}",
                                       "\"\xc3\xa9\xf0\x9f\x98\x80\""};
    static const char *const bad[] = {"",
                                      " ",
                                      "01",
                                      "1.",
                                      ".5",
                                      "+1",
                                      "-",
                                      "1e",
                                      "NaN",
                                      "Infinity",
                                      "tru",
                                      "truee",
                                      "[1,]",
                                      "[,1]",
                                      "[1 2]",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "{a:1}",
                                      "{\"a\":1,}",
                                      "[",
                                      "{",
                                      "[}",
                                      "{]",
                                      "\"",
                                      "\"\\x\"",
                                      "\"\\u12\"",
                                      "\"\\ud800\"",
                                      "\"\\udc00\"",
                                      "\"\n\"",
                                      "\"\xff\"",
                                      "\"\xc0\xaf\"",
                                      "\"\xed\xa0\x80\"",
                                      "\"\xf4\x90\x80\x80\"",
                                      "1 2",
                                      "'a'",
                                      "/**/1",
                                      "nul"};
    for (size_t i = 0; i < SERVE_LENGTH(good); i++) {
        assert_true(is_json(good[i]));
    }
    for (size_t i = 0; i < SERVE_LENGTH(bad); i++) {
        if (is_json(bad[i])) {
            fail_msg("taken for JSON: %s", bad[i]);
        }
    }
    char deep[3 * SERVE_JSON_DEPTH];
    for (size_t depth = SERVE_JSON_DEPTH; depth <= SERVE_JSON_DEPTH + 1; depth++) {
        memset(deep, '[', depth);
        memset(deep + depth, ']', depth);
        deep[2 * depth] = '\0';
        assert_true(is_json(deep) == (depth == SERVE_JSON_DEPTH));
    }
}

TEST(strings_lose_their_escapes)
{
    static const char text[] = "{\"n\\u0061me\":\"\\u00e9\\ud83d\\ude00\\\\\\\"\\t/\"}";
    serve_json json;
    serve_slice key;
    char value[32];
    serve_json_init(&json, text, sizeof text - 1);
    assert_true(serve_json_enter(&json, '{') && serve_json_member(&json, &key));
    assert_true(serve_json_is(&key, "name") && !serve_json_is(&key, "nam"));
    assert_true(serve_json_string(&json, value, sizeof value));
    assert_string_equal(value, "\xc3\xa9\xf0\x9f\x98\x80\\\"\t/");
    static const char *const refused[] = {"\"a\\u0000b\"", "\"0123456789012345678901234567890123\"",
                                          "1"};
    for (size_t i = 0; i < SERVE_LENGTH(refused); i++) {
        serve_json_init(&json, refused[i], strlen(refused[i]));
        assert_false(serve_json_string(&json, value, sizeof value));
    }
}

TEST(text_is_escaped)
{
    serve_text text = {.data = NULL};
    serve_text_json(&text, "a\"\\\n\x7f\xc3\xa9\xff.");
    serve_text_html(&text, "<a&\">");
    serve_text_integer(&text, INT64_MIN);
    assert_string_equal(text.data,
                        "\"a\\\"\\\\\\u000a\\u007f\xc3\xa9\\ufffd.\""
                        "&lt;a&amp;&quot;&gt;-9223372036854775808");
    serve_text_finish(&text);
}

static bool data_read(serve_slice text, kiln_tensor *tensor, char *sentence, size_t size)
{
    serve_json json;
    serve_numbers numbers;
    serve_json_init(&json, text.at, text.size);
    return serve_numbers_begin(&numbers, &json, tensor, NULL, sentence, size) &&
           serve_numbers_read(&numbers, &json, sentence, size) && serve_json_end(&json);
}

/* All halves, and floats of every size, come back from JSON as they were; others read the text by
 * strtod. */
TEST(reals_survive_json)
{
    static const struct {
        kiln_dtype dtype;
        uint32_t count, step; /* of the bits that are tried */
    } rows[] = {{KILN_DTYPE_FLOAT16, 65536, 1},
                {KILN_DTYPE_BFLOAT16, 65536, 1},
                {KILN_DTYPE_FLOAT32, 300000, 2654435761U}};
    for (size_t r = 0; r < SERVE_LENGTH(rows); r++) {
        for (uint32_t i = 0; i < rows[r].count; i++) {
            const uint32_t bits = i * rows[r].step;
            uint32_t back = 0;
            double value = 0;
            char sentence[200];
            const size_t size = kiln_dtype_bits(rows[r].dtype) / 8;
            const kiln_tensor from =
                KILN_HOST_TENSOR(rows[r].dtype, KILN_SHAPE(1), (void *)(uintptr_t)&bits, size);
            kiln_tensor to = KILN_HOST_TENSOR(rows[r].dtype, KILN_SHAPE(1), &back, size);
            serve_text text = {.data = NULL};
            assert_int_equal(kiln_tensor_read(&from, 0, 1, &value), KILN_OK);
            if (isfinite(value)) {
                assert_true(serve_data_write(&from, &text, sentence, sizeof sentence));
                assert_true(
                    data_read((serve_slice){text.data, text.size}, &to, sentence, sizeof sentence));
                assert_memory_equal(&bits, &back, size);
                const double other = strtod(text.data + 1, NULL);
                assert_int_equal(kiln_tensor_write(&to, 0, 1, &other), KILN_OK);
                assert_memory_equal(&bits, &back, size);
            }
            serve_text_finish(&text);
        }
    }
}

/* Every float of a random thousand goes through JSON and back as it was. */
TEST(tensors_survive_json)
{
    float given[1000];
    float back[1000];
    char sentence[200];
    serve_text text = {.data = NULL};
    uint32_t seed = 7;
    for (size_t i = 0; i < SERVE_LENGTH(given); i++) {
        do {
            seed = seed * 1664525 + 1013904223;
            memcpy(&given[i], &seed, sizeof seed);
        } while (!isfinite(given[i]));
    }
    given[0] = -0.0F;
    given[1] = FLT_MAX;
    given[2] = FLT_TRUE_MIN;
    const kiln_tensor from =
        KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1000), given, sizeof given);
    kiln_tensor to = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1000), back, sizeof back);
    assert_true(serve_data_write(&from, &text, sentence, sizeof sentence));
    assert_true(data_read((serve_slice){text.data, text.size}, &to, sentence, sizeof sentence));
    assert_memory_equal(given, back, sizeof given);
    given[7] = NAN;
    assert_false(serve_data_write(&from, &text, sentence, sizeof sentence));
    assert_non_null(strstr(sentence, "element 7 is NaN"));
    serve_text_finish(&text);
}

TEST(numbers_past_the_type_are_refused)
{
    static const struct {
        kiln_dtype dtype;
        const char *fits, *does_not;
    } rows[] = {{KILN_DTYPE_FLOAT32, "[3.4e38]", "[3.5e38]"},
                {KILN_DTYPE_FLOAT64, "[-1.7e308]", "[-1e309]"},
                {KILN_DTYPE_FLOAT16, "[65504]", "[65520]"},
                {KILN_DTYPE_BFLOAT16, "[-3.3e38]", "[-3.4e38]"},
                {KILN_DTYPE_INT8, "[-128]", "[128]"},
                {KILN_DTYPE_UINT64, "[18446744073709551615]", "[-1]"},
                {KILN_DTYPE_BOOL, "[true]", "[2]"}};
    for (size_t i = 0; i < SERVE_LENGTH(rows); i++) {
        double data = 0;
        char sentence[200];
        kiln_tensor tensor = KILN_HOST_TENSOR(rows[i].dtype, KILN_SHAPE(1), &data,
                                              kiln_dtype_bits(rows[i].dtype) / 8);
        const serve_slice fits = {rows[i].fits, strlen(rows[i].fits)};
        const serve_slice does_not = {rows[i].does_not, strlen(rows[i].does_not)};
        assert_true(data_read(fits, &tensor, sentence, sizeof sentence));
        assert_false(data_read(does_not, &tensor, sentence, sizeof sentence));
        assert_non_null(strstr(sentence, "does not fit"));
    }
}

TEST(an_arena_keeps_little)
{
    serve_arena arena = {.first = NULL};
    for (int round = 0; round < 3; round++) {
        for (size_t size = 0; size < 100000; size = size * 3 + 1) {
            char *memory = serve_arena_take(&arena, size);
            assert_true(memory != NULL && (uintptr_t)memory % 64 == 0);
            memset(memory, 1, size);
        }
        serve_arena_reset(&arena);
        assert_true(arena.first != NULL && arena.first->next == NULL && arena.first->used == 0);
    }
    assert_null(serve_arena_take(&arena, SIZE_MAX - 10));
    serve_arena_finish(&arena);
}

/* A model of two inputs and an output that is nowhere but here. */
static serve_binding inputs[] = {
    {"flags", KILN_DTYPE_BOOL, {2, {KILN_DYNAMIC, 3}}},
    {"x", KILN_DTYPE_FLOAT32, {2, {KILN_DYNAMIC, 2}}},
};
static serve_binding outputs[] = {{"y", KILN_DTYPE_FLOAT32, {1, {KILN_DYNAMIC}}}};
static serve_instance model = {
    .inputs = inputs, .outputs = outputs, .input_count = 2, .output_count = 1};

/* The JSON, then three flags and two floats, from an address with such a remainder. */
static bool read_body(const char *json, size_t shift, serve_infer *infer, serve_arena *arena,
                      serve_problem *problem)
{
    static _Alignas(64) char body[4096];
    static const char tail[] = "\0\1\1\0\0\x80\x3f\0\0\0\x40";
    const size_t head = strlen(json);
    memcpy(body + shift, json, head);
    memcpy(body + shift + head, tail, sizeof tail - 1);
    *infer = (serve_infer){.instance = &model};
    *problem = (serve_problem){.code = 0};
    return serve_infer_read(body + shift, head + sizeof tail - 1, head, NULL, arena, infer,
                            problem);
}

TEST(binary_tensors_are_bound_where_they_lie)
{
    static const char json[] =
        "{\"inputs\":[{\"name\":\"flags\",\"shape\":[1,3],\"datatype\":\"BOOL\",\"parameters\":"
        "{\"binary_data_size\":3}},{\"name\":\"x\",\"shape\":[1,2],\"datatype\":\"FP32\","
        "\"parameters\":{\"binary_data_size\":8}}],\"id\":\"7\","
        "\"parameters\":{\"binary_data_output\":true,\"priority\":2,\"timeout\":5}}";
    serve_arena arena = {.first = NULL};
    serve_infer infer;
    serve_problem problem;
    int bound = 0;
    for (size_t shift = 0; shift < 8; shift++) {
        assert_true(read_body(json, shift, &infer, &arena, &problem));
        const char *flags = infer.inputs[0].tensor.data;
        const char *x = infer.inputs[1].tensor.data;
        const float expected[] = {1, 2};
        assert_memory_equal(flags, "\0\1\1", 3);
        assert_memory_equal(x, expected, sizeof expected);
        assert_int_equal((uintptr_t)x % 4, 0);
        bound += x == flags + 3;
        assert_true(infer.wish_count == 1 && infer.wishes[0].binary && infer.timeout == 5);
        assert_int_equal(infer.priority, KILN_MAX_PRIORITY - 1);
        assert_string_equal(infer.id, "7");
        serve_arena_reset(&arena);
    }
    assert_int_equal(bound, 2); /* of eight addresses two suit a float */
    serve_arena_finish(&arena);
}

TEST(bodies_that_are_wrong_say_why)
{
#define FLAGS                                                                                  \
    "{\"name\":\"flags\",\"shape\":[1,3],\"datatype\":\"BOOL\",\"parameters\":{\"binary_data_" \
    "size\":"
#define NONE                                                                    \
    "{\"name\":\"flags\",\"shape\":[0,3],\"datatype\":\"BOOL\",\"parameters\":" \
    "{\"binary_data_size\":0}}"
    static const struct {
        const char *json;
        const char *words;
    } rows[] = {
        {"{\"inputs\":[" FLAGS "4}}]}", "take 3 bytes"},
        {"{\"inputs\":[" FLAGS "3}}]}", "8 bytes of the body belong to no input"},
        {"{\"inputs\":[" FLAGS "-3}}]}", "0 to"},
        {"{\"inputs\":[" FLAGS "3},\"data\":[1,0,1]}]}", "both"},
        {"{\"inputs\":[" NONE "," NONE "," NONE "]}", "more inputs"},
        {"{\"inputs\":[{\"shape\":[1]}]}", "has no name"},
        {"{\"inputs\":[{\"name\":\"x\"}]}", "has no shape"},
        {"{\"inputs\":[{\"name\":\"x\",\"shape\":[1,2,3,4,5,6,7,8,9]}]}", "more than 8"},
        {"{\"parameters\":{\"sequence_id\":7}}", "sequences"},
        {"{\"id\":\"a\",\"id\":\"b\"}", "more than once"},
        {"{\"outputs\":[{\"name\":\"y\"},{\"name\":\"y\"}]}", "more outputs"},
        {"[]", "an object is needed"},
        {"{\"inputs\":{}}", "an array is needed"},
    };
    serve_arena arena = {.first = NULL};
    serve_infer infer;
    serve_problem problem;
    for (size_t i = 0; i < SERVE_LENGTH(rows); i++) {
        assert_false(read_body(rows[i].json, 0, &infer, &arena, &problem));
        if (problem.code != 400 || strstr(problem.sentence, rows[i].words) == NULL) {
            fail_msg("%s: %d %s", rows[i].json, problem.code, problem.sentence);
        }
        serve_arena_reset(&arena);
    }
    serve_arena_finish(&arena);
}

TEST(classes_are_ranked)
{
    float scores[] = {0.5F, NAN, 2, 0.5F, -1};
    char cat[] = "cat";
    char dog[] = "dog";
    char *labels[] = {cat, dog, dog};
    const kiln_tensor tensor =
        KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(5), scores, sizeof scores);
    serve_text text = {.data = NULL};
    assert_true(serve_data_classes(&tensor, 0, 5, 5, false, labels, 3, &text));
    assert_string_equal(text.data,
                        "\"2.000000:2:dog\",\"0.500000:0:cat\",\"0.500000:3\","
                        "\"-1.000000:4\",\"nan:1:dog\"");
    serve_text_finish(&text);
}
