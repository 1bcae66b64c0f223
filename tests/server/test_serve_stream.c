/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies in pieces: what is read of their numbers as they come is what is read of the whole, and so
 * is the reason where they are wrong. */
#include <inttypes.h>

#include "kiln_test.h"
#include "serve_pieces.h"

static serve_binding inputs[] = {
    {"x", KILN_DTYPE_FLOAT32, {2, {KILN_DYNAMIC, 4}}},
    {"i", KILN_DTYPE_INT64, {1, {KILN_DYNAMIC}}},
    {"b", KILN_DTYPE_BOOL, {1, {KILN_DYNAMIC}}},
    {"h", KILN_DTYPE_FLOAT16, {1, {KILN_DYNAMIC}}},
};
static serve_binding outputs[] = {{"y", KILN_DTYPE_FLOAT32, {1, {KILN_DYNAMIC}}}};
static serve_instance model = {.inputs = inputs,
                               .outputs = outputs,
                               .input_count = SERVE_LENGTH(inputs),
                               .output_count = SERVE_LENGTH(outputs)};

/* Numbers as programs write them, in rows of four where that is asked for. */
static void put_numbers(serve_text *text, int input, int count, bool nested, uint64_t seed)
{
    static const char *const commas[] = {",", ", ", " ,\n  "};
    for (int k = 0; k < count; k++) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        const double real = ((double)(seed >> 11) * 0x1p-53 - 0.5) * 100;
        serve_text_string(text, k > 0 ? commas[seed % 3] : "");
        serve_text_string(text, nested && k % 4 == 0 ? "[" : "");
        if (input == 0) {
            serve_text_printf(text, "%.*g", 1 + (int)(seed >> 5) % 20, real);
        } else if (input == 1) {
            serve_text_printf(text, "%" PRId64, (int64_t)seed >> (seed % 60));
        } else {
            serve_text_string(text, input == 2 ? (seed >> 40 & 1) != 0 ? "true" : "0" : "-1.5e-1");
        }
        serve_text_string(text, nested && k % 4 == 3 ? "]" : "");
    }
}

/* An input with so many numbers; what it has is in the order that clients write, or data first. */
static void put_input(serve_text *text, int input, int count, int given, bool late, uint64_t seed)
{
    const serve_binding *binding = &inputs[input];
    serve_text_printf(text, "{\"name\":\"%s\",", binding->name);
    for (int part = 0; part < 2; part++) {
        if ((part == 0) == late) {
            serve_text_string(text, input == 0 ? "\"data\" : [" : "\"data\":[");
            put_numbers(text, input, given, input == 0 && seed % 2 == 0, seed);
            serve_text_string(text, part == 0 ? "]," : "]");
        } else {
            static const char *const types[] = {"FP32", "INT64", "BOOL", "FP16"};
            serve_text_printf(text, "\"datatype\":\"%s\",\"shape\":[%d%s]%s", types[input],
                              input == 0 ? count / 4 : count, input == 0 ? ",4" : "",
                              part == 0 ? "," : "");
        }
    }
    serve_text_string(text, "}");
}

enum { LARGE = 12000, SMALL = 8 };

/* Body `kind`: of one large tensor or several, right or of the wrong length. */
static serve_text make_body(size_t kind, uint64_t seed)
{
    static const struct row {
        int input, count, given;
        bool late;
    } rows[][2] = {
        {{0, LARGE, LARGE, false}, {-1, 0, 0, false}},
        {{0, SMALL, SMALL, false}, {1, LARGE, LARGE, false}},
        {{0, LARGE, LARGE, false}, {1, LARGE, LARGE, false}},
        {{2, LARGE, LARGE, false}, {3, LARGE, LARGE, false}},
        {{0, LARGE, LARGE, true}, {1, LARGE, LARGE, false}},
        {{1, LARGE, LARGE, false}, {0, LARGE, LARGE, true}},
        {{0, LARGE, LARGE - 4, false}, {1, SMALL, SMALL, false}},
        {{0, LARGE, LARGE + 1, false}, {1, SMALL, SMALL, false}},
        {{1, LARGE, LARGE, false}, {2, SMALL, SMALL - 1, false}},
        {{1, 1000000000, LARGE, false}, {-1, 0, 0, false}},
    };
    serve_text text = {.data = NULL};
    serve_text_string(&text, "{\"id\":\"a,b\",\"inputs\":[");
    for (size_t k = 0; k < 2; k++) {
        const struct row *row = &rows[kind % SERVE_LENGTH(rows)][k];
        if (row->input >= 0) {
            serve_text_string(&text, k > 0 ? ", " : "");
            put_input(&text, row->input, row->count, row->given, row->late, seed + k);
        }
    }
    serve_text_string(&text,
                      "],\"outputs\":[{\"name\":\"y\",\"parameters\":{\"binary_data\":true,"
                      "\"classification\":3}}],\"parameters\":{\"timeout\":7}}");
    assert_false(text.failed);
    return text;
}

static const size_t mosts[] = {40, 1000, 33000, 1000000};

TEST(pieces_are_read_as_the_whole)
{
    size_t read_early = 0;
    for (int i = 0; i < 120; i++) {
        serve_text body = make_body((size_t)i, (uint64_t)i / 10);
        pieces_read read = {.reads = false};
        const size_t most = mosts[i / 10 % 4];
        if (!pieces_agree(&model, body.data, body.size, 2000, most, (uint64_t)i, &read)) {
            fail_msg("body %d: %d %s", i, read.reads, read.problem.sentence);
        }
        if (read.reads != (i % 10 < 6)) {
            fail_msg("body %d: %d %s", i, read.reads, read.problem.sentence);
        }
        if (i % 10 < 2 && most < body.size) {
            assert_true(read.taken + 2 * most + 200 > body.size);
        }
        read_early += read.taken;
        serve_text_finish(&body);
    }
    assert_true(read_early > 0);
}

/* A byte or two are others: what is wrong then, or is not, is the same. */
TEST(broken_pieces_are_refused_as_the_whole)
{
    static const char others[] = ",,,[]{}\"\\ -+.eE0159x\n:tn";
    uint64_t seed = 11;
    int refused = 0;
    for (int i = 0; i < 56; i++) {
        serve_text body = make_body((size_t)i % 8, (uint64_t)i);
        for (int k = 0; k < 8; k++) {
            char kept[2];
            size_t where[2];
            for (int m = 0; m < 2; m++) {
                seed = seed * 6364136223846793005U + 1442695040888963407U;
                where[m] = (seed >> 20) % (k % 3 == 0 ? 200 : body.size);
                kept[m] = body.data[where[m]];
                body.data[where[m]] = others[(seed >> 50) % (sizeof others - 1)];
            }
            pieces_read read = {.reads = false};
            if (!pieces_agree(&model, body.data, body.size, k % 2 == 0 ? 2000 : 0,
                              mosts[(seed >> 10) % 4], seed, &read)) {
                fail_msg("body %d, change %d: %d %s", i, k, read.reads, read.problem.sentence);
            }
            refused += !read.reads;
            body.data[where[1]] = kept[1];
            body.data[where[0]] = kept[0];
        }
        serve_text_finish(&body);
    }
    assert_in_range(refused, 110, 445);
}
