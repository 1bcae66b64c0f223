/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as JSON writes them: the C library reads the same. */
#include <inttypes.h>

#include "kiln_test.h"
#include "serve_number.h"
#include "serve_text.h"

/* Number `i` of those that are tried: known ones first, then drawn. */
static const char *draw(int i, uint64_t *seed, char *text, size_t size)
{
    static const char *const known[] = {"0",
                                        "-0",
                                        "1",
                                        "9007199254740993",
                                        "123456789012345678",
                                        "0.1",
                                        "1e22",
                                        "1e23",
                                        "4.9e-324",
                                        "2.2250738585072011e-308",
                                        "1.7976931348623157e308",
                                        "1e400",
                                        "-1e400",
                                        "1e-400",
                                        "0.000000000000000000000000000001",
                                        "8.98846567431158e307",
                                        "7.2057594037927933e16",
                                        "1e0000000000001",
                                        "9007199254740993.00000000000000000000",
                                        "9007199254740993.00000000000000000001",
                                        "18446744073709551615",
                                        "18446744073709551616",
                                        "1.00000000000000011102230246251565404",
                                        "1.00000000000000011102230246251565405",
                                        "100000000000000000000000000000000000"};
    if (i < (int)SERVE_LENGTH(known)) {
        return known[i];
    }
    *seed = *seed * 6364136223846793005U + 1442695040888963407U;
    const double any = (double)(*seed >> 11) * 0x1p-53 + (double)(*seed & 7) * 1e3;
    const char *sign = *seed >> 63 != 0 ? "-" : "";
    if (i % 2 == 0) {
        (void)snprintf(text, size, "%s%" PRIu64 ".%" PRIu64 "e%d", sign, (*seed >> 32) % 100000,
                       (*seed >> 8) % 1000000, (int)(*seed % 61) - 30);
    } else if (i % 16 == 1) { /* half way between two doubles, and beside it */
        const double next = nextafter(any, 1e9);
        (void)snprintf(text, size, "%s%.30f%s", sign, (double)(next - any) * 0.5 + any,
                       i % 32 == 1 ? "" : "1");
    } else { /* as programs write floats and doubles, and with more digits than count */
        (void)snprintf(text, size, "%s%.*f", sign, i / 2 % 26,
                       i % 4 == 1 ? (double)(float)any : any);
    }
    return text;
}

/* What strtod makes of it is what must come. */
TEST(numbers_are_the_nearest)
{
    uint64_t seed = 1;
    char text[64];
    for (int i = 0; i < 200000; i++) {
        const char *digits = draw(i, &seed, text, sizeof text);
        const size_t length = strlen(digits);
        serve_number number;
        assert_true(serve_number_read(digits, digits + length, &number));
        assert_int_equal(number.length, length);
        const double found = serve_number_double(&number);
        const double expected = strtod(digits, NULL);
        assert_memory_equal(&found, &expected, sizeof found);
    }
}

/* Many in a row, however they are divided, come as each by itself would; none past the end is
 * looked at, which a sanitizer sees. */
TEST(rows_of_numbers_are_the_nearest)
{
    static const char *const commas[] = {", ", ",", " ,\n\t", ",   "};
    enum { LENGTH = 50 };
    uint64_t seed = 3;
    int drawn = 0;
    for (int row = 0; row < 20000; row++) {
        char text[LENGTH * 72];
        char one[64];
        double expected[LENGTH];
        double found[LENGTH];
        size_t size = 0;
        const size_t count = 1 + seed / 3 % LENGTH;
        for (size_t i = 0; i < count; i++) {
            const char *digits = draw(drawn++ % 200000, &seed, one, sizeof one);
            const char *comma = commas[row % 8 < 4 ? row % 4 : drawn % 4];
            expected[i] = strtod(digits, NULL);
            size += (size_t)snprintf(text + size, sizeof text - size, "%s%s", digits,
                                     i + 1 < count ? comma : "");
        }
        char *exact = malloc(size);
        assert_non_null(exact);
        memcpy(exact, text, size);
        const char *at = exact;
        size_t read = 0;
        while (read < count) {
            const size_t most = 1 + (size_t)row % count;
            const size_t more = serve_number_run(&at, exact + size, found + read,
                                                 most < count - read ? most : count - read);
            assert_true(more > 0);
            read += more;
            while (read < count && strchr(", \n\t", *at) != NULL) {
                at++;
            }
        }
        assert_ptr_equal(at, exact + size);
        assert_memory_equal(found, expected, count * sizeof *found);
        free(exact);
    }
}

/* A row ends at what is no number, with those before it. */
TEST(rows_of_numbers_end_where_they_break)
{
    static const char *const broken[] = {
        "1.",   ".5",    "01.5",  "-",       "--1.5",     "1.5.5", "1.5-",   "+1.5",
        "1,,2", "NaN",   "1.5x",  "\"1.5\"", "1e",        "]",     "-01.25", "1.25 1.5",
        "1.-5", "[1.5]", "1:5.0", "0x1",     "1.0000000", ""};
    for (size_t i = 0; i < SERVE_LENGTH(broken); i++) {
        for (int before = 0; before < 12; before++) {
            char text[400];
            double found[40];
            int size = 0;
            for (int k = 0; k < before; k++) {
                size += snprintf(text + size, sizeof text - (size_t)size, "%d.%d,", k, 25 + k);
            }
            const int begin = size;
            size += snprintf(text + size, sizeof text - (size_t)size,
                             "%s,2.25,3.5,1.0625,2.25,3.5,1.0625,2.25,3.5,1.0625,2.25,3.5,1.06,2.2",
                             broken[i]);
            serve_number number;
            const char *at = text;
            const bool is_one = serve_number_read(text + begin, text + size, &number);
            const char *behind = text + begin + (is_one ? (int)number.length : -1);
            const size_t count = serve_number_run(&at, text + size, found, 40);
            if (!is_one || *behind != ',') {
                assert_int_equal(count, before + is_one);
                assert_ptr_equal(at, is_one || before > 0 ? behind : text);
            } else {
                assert_true(count > (size_t)before);
            }
        }
    }
}

/* More digits than decide, and zeros that only an exponent makes up for. */
TEST(long_numbers_are_the_nearest)
{
    static const struct {
        const char *begin;
        char filling;
        int times;
        const char *end;
    } rows[] = {{"0.", '0', 700, "123e705"},
                {"1.", '0', 3000, "1"},
                {"-1.00000000000000011102230246251565404236316680908203125", '0', 2000, "1"},
                {"1.00000000000000011102230246251565404236316680908203125", '0', 2000, ""},
                {"17976931348623157", '0', 292, ".00"},
                {"1", '0', 200000, "e-200000"},
                {"0.", '0', 200000, "1e200001"},
                {"4.9406564584124654", '4', 900, "e-324"},
                {"", '9', 400, ""},
                {"0.", '0', 500, ""},
                {"-0.", '0', 500, "e5"}};
    static char text[200100];
    for (size_t i = 0; i < SERVE_LENGTH(rows); i++) {
        serve_number number;
        size_t length = strlen(rows[i].begin);
        memcpy(text, rows[i].begin, length);
        memset(text + length, rows[i].filling, (size_t)rows[i].times);
        length += (size_t)rows[i].times;
        memcpy(text + length, rows[i].end, strlen(rows[i].end) + 1);
        length += strlen(rows[i].end);
        assert_true(serve_number_read(text, text + length, &number));
        assert_int_equal(number.length, length);
        const double found = serve_number_double(&number);
        const double expected = strtod(text, NULL);
        assert_memory_equal(&found, &expected, sizeof found);
    }
}

TEST(integers_are_exact)
{
    static const struct {
        const char *text;
        int64_t least;
        uint64_t most;
        bool fits;
        uint64_t value;
    } rows[] = {
        {"18446744073709551615", 0, UINT64_MAX, true, UINT64_MAX},
        {"18446744073709551616", 0, UINT64_MAX, false, 0},
        {"-9223372036854775808", INT64_MIN, INT64_MAX, true, (uint64_t)INT64_MIN},
        {"-9223372036854775809", INT64_MIN, INT64_MAX, false, 0},
        {"9223372036854775808", INT64_MIN, INT64_MAX, false, 0},
        {"9007199254740993", INT64_MIN, INT64_MAX, true, 9007199254740993},
        {"-1", 0, UINT8_MAX, false, 0},
        {"-0", 0, UINT8_MAX, true, 0},
        {"256", 0, UINT8_MAX, false, 0},
        {"-128", INT8_MIN, INT8_MAX, true, (uint64_t)-128},
        {"1.5", INT8_MIN, INT8_MAX, false, 0},
        {"3.0", INT8_MIN, INT8_MAX, true, 3},
        {"1e2", INT8_MIN, INT8_MAX, true, 100},
        {"1e3", INT8_MIN, INT8_MAX, false, 0},
        {"18446744073709551610", 0, UINT64_MAX, true, UINT64_MAX - 5},
        {"99999999999999999999", 0, UINT64_MAX, false, 0},
        {"184467440737095516150", 0, UINT64_MAX, false, 0},
        {"1000000000000000000000000", 0, UINT64_MAX, false, 0},
        {"10000000000000000000", 0, UINT64_MAX, true, 10000000000000000000U},
        {"10000000000000000000.0", 0, UINT64_MAX, false, 0},
        {"100000000000000000000e-20", 0, UINT64_MAX, true, 1},
    };
    for (size_t i = 0; i < SERVE_LENGTH(rows); i++) {
        uint64_t value = 0;
        serve_number number;
        assert_true(serve_number_read(rows[i].text, rows[i].text + strlen(rows[i].text), &number));
        assert_true(serve_number_integer(&number, rows[i].least, rows[i].most, &value) ==
                    rows[i].fits);
        assert_true(!rows[i].fits || value == rows[i].value);
    }
}
