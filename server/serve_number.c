/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- digits --- */

/* This many digits always fit into 64 bits. */
#define SAFE_DIGITS 19
#define MOST_EXPONENT INT64_C(1000000000000000) /* more than any fraction can compensate */

#define TOPS 0x8080808080808080U
#define ONES 0x0101010101010101U

/* How many of eight bytes, starting with the lowest, are digits: the top bit is set in each that is
 * not. Without branches, as the number of digits is unpredictable. */
static unsigned count_digits(uint64_t eight)
{
    const uint64_t off = eight ^ 0x3030303030303030U;
    const uint64_t none = (((off & ~TOPS) + 0x76 * ONES) | off) & TOPS;
    return none != 0 ? (unsigned)__builtin_ctzll(none) / 8 : 8;
}

/* The value of eight digits, the first in the lowest byte: combines pairs, fours and all, with a
 * product each. */
static uint64_t value_of(uint64_t eight)
{
    eight = (eight & 0x0f0f0f0f0f0f0f0fU) * 2561 >> 8;
    eight = (eight & 0x00ff00ff00ff00ffU) * 6553601 >> 16;
    return (eight & 0x0000ffff0000ffffU) * 42949672960001U >> 32;
}

/* Takes digits one at a time and appends them to `*value`, which is meaningless after more than
 * 19. */
static inline const char *take_few(const char *at, const char *end, uint64_t *value)
{
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        *value = *value * 10 + (uint64_t)(*at - '0');
    }
    return at;
}

/* The same, eight at a time. */
static inline const char *take_many(const char *at, const char *end, uint64_t *value)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    static const uint64_t powers[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000};
    while (end - at >= 8) {
        uint64_t eight = 0;
        memcpy(&eight, at, sizeof eight);
        const unsigned count = count_digits(eight);
        if (count == 8) {
            *value = *value * 100000000 + value_of(eight);
            at += 8;
            continue;
        }
        /* Shifts the digits to the end of the eight, with zeros before them. */
        *value = *value * powers[count] + value_of(eight << 8 << (56 - 8 * count));
        return at + count;
    }
#endif
    return take_few(at, end, value);
}

static int64_t leading_zeros(const char *at, const char *end)
{
    int64_t zeros = 0;
    for (; at < end && (*at == '0' || *at == '.'); at++) {
        zeros += *at == '0';
    }
    return zeros;
}

/* Reads the first 19 of many digits, without leading zeros. */
static void read_many(const char *at, const char *end, serve_number *number)
{
    bool fraction = false;
    number->mantissa = 0;
    number->exponent = 0;
    for (; at < end; at++) {
        if (*at == '.') {
            fraction = true;
        } else if (number->mantissa < UINT64_C(1000000000000000000)) {
            number->mantissa = number->mantissa * 10 + (uint64_t)(*at - '0');
            number->exponent -= fraction ? 1 : 0;
        } else {
            number->cut = number->cut || *at != '0';
            number->exponent += fraction ? 0 : 1;
        }
    }
}

/* Reads the exponent after the e; NULL if it is not a number. */
static const char *read_exponent(const char *at, const char *end, int64_t *exponent)
{
    const bool down = at < end && *at == '-';
    at += at < end && (*at == '+' || *at == '-') ? 1 : 0;
    const char *digits = at;
    *exponent = 0;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        *exponent = *exponent < MOST_EXPONENT ? *exponent * 10 + (*at - '0') : *exponent;
    }
    *exponent = down ? -*exponent : *exponent;
    return at != digits ? at : NULL;
}

static inline bool read_number(const char *at, const char *end, serve_number *number)
{
    uint64_t mantissa = 0;
    int64_t written = 0;
    const bool negative = at < end && *at == '-';
    const char *const whole = at + (negative ? 1 : 0);
    const char *here = take_few(whole, end, &mantissa);
    int64_t count = here - whole;
    *number = (serve_number){.at = at, .negative = negative, .whole = true};
    if (count == 0 || (*whole == '0' && count > 1)) {
        return false;
    }
    if (here < end && *here == '.') {
        const char *const fraction = here + 1;
        here = take_many(fraction, end, &mantissa);
        if (here == fraction) {
            return false;
        }
        number->whole = false;
        number->exponent = fraction - here;
        count += here - fraction;
    }
    number->mantissa = mantissa;
    if (count > SAFE_DIGITS && count - leading_zeros(whole, here) > SAFE_DIGITS) {
        read_many(whole, here, number);
    }
    if (here < end && (*here == 'e' || *here == 'E')) {
        here = read_exponent(here + 1, end, &written);
        if (here == NULL) {
            return false;
        }
        number->whole = false;
        number->exponent += written;
    }
    number->length = (size_t)(here - at);
    return true;
}

/* --- conversion to double --- */

#define DECISIVE 800 /* digits; the midpoint of two doubles has at most 768 significant ones */

/* Writes the number as digits and an exponent. Digits after the decisive ones become a 1, or
 * nothing. */
static void write_short(const serve_number *number, char *text, size_t size)
{
    const char *at = number->at + (number->negative ? 1 : 0);
    const char *end = number->at + number->length;
    int64_t exponent = 0;
    int64_t written = 0;
    size_t used = 0;
    bool fraction = false;
    bool rest = false;
    for (; at < end && *at != 'e' && *at != 'E'; at++) {
        if (*at == '.') {
            fraction = true;
        } else if (used == DECISIVE) {
            rest = rest || *at != '0';
            exponent += fraction ? 0 : 1;
        } else {
            text[used] = *at;
            used += used != 0 || *at != '0';
            exponent -= fraction ? 1 : 0;
        }
    }
    if (at < end) {
        (void)read_exponent(at + 1, end, &written);
    }
    (void)snprintf(text + used, size - used, "%se%lld",
                   rest        ? "1"
                   : used == 0 ? "0"
                               : "",
                   (long long)(exponent + written - (rest ? 1 : 0)));
}

/* Uses the C library, without a decimal point because of the locale. */
static double slow_double(const serve_number *number)
{
    char text[DECISIVE + 40];
    write_short(number, text, sizeof text);
    const double value = strtod(text, NULL);
    return number->negative ? -value : value;
}

/* Uses a product instead of a quotient, which takes several times as long: the mantissa times
 * 2^(63 + length) / 5^k, of which 64 bits are kept. The truncation error is less than 4 units of
 * the last bit, or 23 if digits were left out. Close to the midpoint of two doubles that would
 * matter, so another method decides (the idea is D. Lemire's, Number parsing at a gigabyte per
 * second, 2021). */
static inline bool scaled_double(const serve_number *read, double *value)
{
#if defined(__SIZEOF_INT128__)
    __extension__ typedef unsigned __int128 wide;
    static const uint64_t reciprocals[] = {
        0xccccccccccccccccU, 0xa3d70a3d70a3d70aU, 0x83126e978d4fdf3bU, 0xd1b71758e219652bU,
        0xa7c5ac471b478423U, 0x8637bd05af6c69b5U, 0xd6bf94d5e57a42bcU, 0xabcc77118461cefcU,
        0x89705f4136b4a597U, 0xdbe6fecebdedd5beU, 0xafebff0bcb24aafeU, 0x8cbccc096f5088cbU,
        0xe12e13424bb40e13U, 0xb424dc35095cd80fU, 0x901d7cf73ab0acd9U, 0xe69594bec44de15bU,
        0xb877aa3236a4b449U, 0x9392ee8e921d5d07U, 0xec1e4a7db69561a5U, 0xbce5086492111aeaU,
        0x971da05074da7beeU, 0xf1c90080baf72cb1U, 0xc16d9a0095928a27U, 0x9abe14cd44753b52U,
        0xf79687aed3eec551U, 0xc612062576589ddaU, 0x9e74d1b791e07e48U};
    if (read->mantissa == 0 || read->exponent >= 0 || read->exponent < -27) {
        return false;
    }
    const int power = (int)-read->exponent;
    const int length = (power * 152170 >> 16) + 1; /* bits of 5^power */
    const int left = __builtin_clzll(read->mantissa);
    const wide product = (wide)(read->mantissa << left) * reciprocals[power - 1];
    const int more = (int)(product >> 127 ^ 1);
    const uint64_t kept = (uint64_t)(product >> 64) << more;
    const unsigned rest = kept & 2047;
    const unsigned least = read->cut ? 1000 : 1021;
    if (rest - least <= 1024 - least) { /* a single branch for both sides */
        return false;
    }
    const double whole = (double)((kept >> 11) + (rest > 1024 ? 1 : 0));
    const uint64_t scale =
        (uint64_t)(1023 + 12 - length - power - left - more) << 52 | (uint64_t)read->negative << 63;
    double factor = 0;
    memcpy(&factor, &scale, sizeof factor);
    *value = whole * factor;
    return true;
#else
    (void)read;
    (void)value;
    return false;
#endif
}

/* An integer with one digit more than is safe, if it fits into 64 bits. */
static bool twenty_digits(const serve_number *number, uint64_t *magnitude)
{
    const uint64_t last = (uint64_t)(number->at[number->length - 1] - '0');
    if (number->exponent != 1 || number->mantissa > (UINT64_MAX - last) / 10) {
        return false;
    }
    *magnitude = number->mantissa * 10 + last;
    return true;
}

/* An integer up to 2^53, multiplied or divided by a power of ten that a double represents exactly,
 * is rounded once and therefore correctly: W. D. Clinger, How to read floating point numbers
 * accurately, 1990. */
static double other_double(const serve_number *number)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (number->cut || number->mantissa > UINT64_C(1) << 53 || number->exponent < -22 ||
        number->exponent > 22) {
        return slow_double(number);
    }
    const double value = number->exponent < 0 ? (double)number->mantissa / powers[-number->exponent]
                                              : (double)number->mantissa * powers[number->exponent];
    return number->negative ? -value : value;
}

bool serve_number_read(const char *at, const char *end, serve_number *number)
{
    return read_number(at, end, number);
}

double serve_number_double(const serve_number *number)
{
    double value = 0;
    return scaled_double(number, &value) ? value : other_double(number);
}

static inline const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) {
        at++;
    }
    return at;
}

/* Reads one number of a list; returns its end, or NULL if it is not a number. */
static inline const char *run_one(const char *at, const char *end, double *value)
{
    serve_number number;
    if (!read_number(at, end, &number)) {
        return NULL;
    }
    if (!scaled_double(&number, value)) {
        *value = other_double(&number);
    }
    return at + number.length;
}

/* --- many numbers --- */

#if defined(__x86_64__) && defined(__SIZEOF_INT128__)
#include <immintrin.h>

#define WIDE __attribute__((target("avx2,bmi,bmi2,lzcnt")))

/* A mask of the commas among 64 bytes. */
WIDE static uint64_t find_commas(const char *at)
{
    const __m256i comma = _mm256_set1_epi8(',');
    const __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)at);
    const __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(at + 32));
    return (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(low, comma)) |
           (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(high, comma)) << 32;
}

/* A mask of the last `count` of 32 bytes. */
WIDE static inline __m256i last_bytes(unsigned count)
{
    static const _Alignas(64)
        uint64_t bits[8] = {0, 0, 0, 0, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};
    return _mm256_loadu_si256((const __m256i *)(const void *)((const char *)bits + count));
}

/* The value of the last `count` of 32 digits, of which 24 are used, combining two, four and eight
 * in a product each. False if it may not fit into 64 bits. */
WIDE static inline bool sum_digits(__m256i digits, unsigned count, uint64_t *sum)
{
    const __m256i tens = _mm256_set1_epi16(0x010a);
    const __m256i hundreds = _mm256_set1_epi32(0x00010064);
    const __m256i myriads = _mm256_set1_epi32(0x00012710);
    const __m256i kept = _mm256_and_si256(digits, last_bytes(count));
    const __m256i fours = _mm256_madd_epi16(_mm256_maddubs_epi16(kept, tens), hundreds);
    const __m256i eights = _mm256_madd_epi16(_mm256_packus_epi32(fours, fours), myriads);
    const uint64_t first = (uint64_t)_mm256_extract_epi64(eights, 0) >> 32;
    const uint64_t rest = (uint64_t)_mm256_extract_epi64(eights, 2);
    *sum = first * 10000000000000000U + (rest & UINT32_MAX) * 100000000 + (rest >> 32);
    return first < 1844 && count <= 24;
}

/* Reads a number with a point and without an exponent that ends before `stop`; the 33 bytes before
 * that must be readable. False if it is anything else. */
WIDE static inline bool read_wide(const char *at, const char *stop, double *value)
{
    const __m256i zero = _mm256_set1_epi8('0');
    const __m256i nine = _mm256_set1_epi8(9);
    const __m256i window = _mm256_loadu_si256((const __m256i *)(const void *)(stop - 32));
    const __m256i before = _mm256_loadu_si256((const __m256i *)(const void *)(stop - 33));
    const __m256i digits = _mm256_sub_epi8(window, zero);
    const __m256i is_digit = _mm256_cmpeq_epi8(_mm256_min_epu8(digits, nine), digits);
    const ptrdiff_t length = stop - at;
    if (length < 3 || length > 32) {
        return false;
    }
    /* The only non-digits are the point and a leading sign. */
    const uint32_t inside = UINT32_MAX << (32 - length);
    const uint32_t other = ~(uint32_t)_mm256_movemask_epi8(is_digit) & inside;
    const unsigned after = _lzcnt_u32(other); /* digits after the point */
    const bool negative = *at == '-';
    const unsigned count = (unsigned)length - negative - 1;
    const uint32_t expected =
        (0x80000000U >> (after & 31)) | (inside & -inside & -(uint32_t)negative);
    serve_number number = {.exponent = -(int64_t)after, .negative = negative};
    if (other != expected || after == 0 || after >= count || stop[-1 - (int)after] != '.' ||
        (count - after != 1 && at[negative] == '0')) {
        return false;
    }
    /* Closes the gap of the point with the digits before it. */
    const __m256i joined =
        _mm256_blendv_epi8(_mm256_sub_epi8(before, zero), digits, last_bytes(after));
    if (!sum_digits(joined, count, &number.mantissa)) {
        return false;
    }
    if (number.mantissa == 0) {
        *value = negative ? -0.0 : 0.0;
        return true;
    }
    return scaled_double(&number, value);
}

/* Like serve_number_run. The ends of numbers are found in advance, 64 bytes at a time, so that
 * numbers do not wait for each other (the idea is G. Langdale's and D. Lemire's, Parsing gigabytes
 * of JSON per second, 2019). */
WIDE static size_t run_wide(const char **at, const char *end, double *values, size_t most)
{
    const char *const begin = *at;
    const char *block = begin;
    const char *next = begin;
    size_t count = 0;
    while (count < most && end - block > 64) {
        for (uint64_t commas = find_commas(block); commas != 0 && count < most;
             commas &= commas - 1) {
            const char *const stop = block + __builtin_ctzll(commas);
            if (stop - begin < 33 || !read_wide(next, stop, &values[count])) {
                const char *const behind = run_one(skip_blanks(next, stop), stop, &values[count]);
                if (behind == NULL) {
                    return count;
                }
                if (skip_blanks(behind, stop) != stop) {
                    *at = behind;
                    return count + 1;
                }
            }
            count++;
            *at = stop;
            next = stop + 1 + (stop[1] == ' ');
        }
        block += 64;
    }
    return count;
}

static bool is_wide(void)
{
    /* Every processor with BMI2 has BMI and LZCNT, a name that some compilers do not know. */
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
}
#endif

size_t serve_number_run(const char **at, const char *end, double *values, size_t most)
{
    size_t count = 0;
    const char *next = *at;
#if defined(__x86_64__) && defined(__SIZEOF_INT128__)
    if (end - next > 64 && is_wide()) {
        count = run_wide(at, end, values, most);
        next = skip_blanks(*at, end);
        if (count != 0 && (next == end || *next != ',')) {
            return count;
        }
        next = count != 0 ? skip_blanks(next + 1, end) : next;
    }
#endif
    while (count < most && (next = run_one(next, end, &values[count])) != NULL) {
        *at = next;
        count++;
        next = skip_blanks(next, end);
        if (next == end || *next != ',') {
            break;
        }
        next = skip_blanks(next + 1, end);
    }
    return count;
}

bool serve_number_integer(const serve_number *number, int64_t least, uint64_t most, uint64_t *value)
{
    const uint64_t limit = number->negative ? 0 - (uint64_t)least : most;
    uint64_t magnitude = number->mantissa;
    if (number->exponent != 0 || number->cut) {
        if (!number->whole) { /* 3.0 and 1e3 are integers too */
            const double real = fabs(serve_number_double(number));
            if (!(real < 9007199254740992.0) || real != floor(real)) {
                return false;
            }
            magnitude = (uint64_t)real;
        } else if (!twenty_digits(number, &magnitude)) {
            return false;
        }
    }
    *value = number->negative ? 0 - magnitude : magnitude;
    return magnitude <= limit;
}
