/* SPDX-License-Identifier: Apache-2.0 */
/* Failing with a sentence. Part of kln_base.h. */
#ifndef KLN_FAIL_H
#define KLN_FAIL_H

#include <stdarg.h>
#include <stddef.h>

#include <kiln/status.h>

#define KLN_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))

/* Sets this thread's sentence and returns `status`, so that a failure is one statement:
 *     return kln_fail(KILN_ERROR_RANK, "input \"%s\": %d dimensions were given, %d are needed",
 * ...); Allocates nothing. */
KILN_MUST_CHECK kiln_status kln_fail(kiln_status status, const char *format, ...) KLN_PRINTF(2, 3);

/* Like kln_fail, with a started va_list. */
KILN_MUST_CHECK kiln_status kln_fail_v(kiln_status status, const char *format, va_list arguments)
    KLN_PRINTF(2, 0);

/* Puts "context: " before this thread's sentence and returns `status`, for a caller that knows the
 * file or node that a lower module does not. */
KILN_MUST_CHECK kiln_status kln_fail_within(kiln_status status, const char *format, ...)
    KLN_PRINTF(2, 3);

/* Size of a sentence, with its terminator. */
#define KLN_MESSAGE_SIZE 1024

/* A saved sentence of this thread. A public call that succeeds leaves the sentence unchanged, even
 * if something failed inside it that the caller never sees. */
typedef struct kln_message {
    kiln_status status; /* status of the call that failed */
    char text[KLN_MESSAGE_SIZE];
} kln_message;

void kln_message_keep(kln_message *message);
void kln_message_restore(const kln_message *message);

/* Sentences that every module needs. */
KILN_MUST_CHECK kiln_status kln_fail_null(const char *function, const char *parameter);
KILN_MUST_CHECK kiln_status kln_fail_memory(size_t size, const char *what);

/* Tells clang-tidy what it cannot see: a failing function returns the status that it was given. */
#ifdef __clang_analyzer__
#define kln_fail(status, ...) ((void)(kln_fail)((status), __VA_ARGS__), (status))
#define kln_fail_v(status, format, arguments) \
    ((void)(kln_fail_v)((status), (format), (arguments)), (status))
#define kln_fail_within(status, ...) ((void)(kln_fail_within)((status), __VA_ARGS__), (status))
#define kln_fail_null(function, parameter) \
    ((void)(kln_fail_null)((function), (parameter)), KILN_ERROR_NULL_ARGUMENT)
#define kln_fail_memory(size, what) \
    ((void)(kln_fail_memory)((size), (what)), KILN_ERROR_OUT_OF_MEMORY)
#endif

/* Checks one to four required pointers, and fails with the name of the first that is NULL. These
 * macros are the only checks with a hidden exit; each shows it in its name. */
#define KLN_RETURN_IF_NULL(...)                                                               \
    do {                                                                                      \
        KLN_FIFTH(__VA_ARGS__, KLN_IF_NULL_4, KLN_IF_NULL_3, KLN_IF_NULL_2, KLN_IF_NULL_1, 0) \
        (__VA_ARGS__);                                                                        \
    } while (0)
#define KLN_FIFTH(a, b, c, d, fifth, ...) fifth
#define KLN_IF_NULL_1(a) KLN_FAIL_IF((a) == NULL, kln_fail_null(__func__, #a))
#define KLN_IF_NULL_2(a, b) \
    KLN_IF_NULL_1(a);       \
    KLN_IF_NULL_1(b)
#define KLN_IF_NULL_3(a, b, c) \
    KLN_IF_NULL_2(a, b);       \
    KLN_IF_NULL_1(c)
#define KLN_IF_NULL_4(a, b, c, d) \
    KLN_IF_NULL_2(a, b);          \
    KLN_IF_NULL_2(c, d)

/* The same, with a result as the first pointer, which is set to NULL or 0. */
#define KLN_RETURN_IF_NULL_RESULT(...)                                                    \
    do {                                                                                  \
        KLN_FIFTH(__VA_ARGS__, KLN_RESULT_4, KLN_RESULT_3, KLN_RESULT_2, KLN_RESULT_1, 0) \
        (__VA_ARGS__);                                                                    \
    } while (0)
#define KLN_RESULT_1(result) \
    KLN_IF_NULL_1(result);   \
    *(result) = 0
#define KLN_RESULT_2(result, a) \
    KLN_RESULT_1(result);       \
    KLN_IF_NULL_1(a)
#define KLN_RESULT_3(result, a, b) \
    KLN_RESULT_1(result);          \
    KLN_IF_NULL_2(a, b)
#define KLN_RESULT_4(result, a, b, c) \
    KLN_RESULT_1(result);             \
    KLN_IF_NULL_3(a, b, c)

/* If `condition`, returns the status of a call that fails. */
#define KLN_FAIL_IF(condition, failure) \
    do {                                \
        if (condition) {                \
            return failure;             \
        }                               \
    } while (0)

/* If `condition`, returns kln_fail with these arguments. */
#define KLN_RETURN_IF(condition, ...) KLN_FAIL_IF(condition, kln_fail(__VA_ARGS__))

#define KLN_RETURN_IF_ERROR(expression)               \
    do {                                              \
        const kiln_status kln_status_ = (expression); \
        if (kln_status_ != KILN_OK) {                 \
            return kln_status_;                       \
        }                                             \
    } while (0)

/* The same, with kln_fail_within putting a context before the sentence. */
#define KLN_RETURN_WITHIN(expression, ...)                    \
    do {                                                      \
        const kiln_status kln_status_ = (expression);         \
        if (kln_status_ != KILN_OK) {                         \
            return kln_fail_within(kln_status_, __VA_ARGS__); \
        }                                                     \
    } while (0)

/* Turns "1 dimensions are" in a sentence into "1 dimension is"; quoted text stays (agree.c). */
void kln_agree(char *text);
/* Replaces each byte that is not UTF-8 by "?": names come from files, sentences go to JSON. */
void kln_utf8_clean(char *text);
/* Length in bytes and value of the UTF-8 character at the start of `text`; 0 if it is invalid. */
size_t kln_utf8_read(const char *text, size_t size, uint32_t *point);
/* Writes a character in up to 4 bytes; returns how many. */
size_t kln_utf8_write(uint32_t point, char *to);
static inline bool kln_utf8_is_point(uint32_t point)
{
    return point < 0xD800 || (point > 0xDFFF && point <= 0x10FFFF);
}

/* The next step of a sequence that stops at the first error: sets `status` to the expression. */
#define KLN_THEN(status, expression) \
    do {                             \
        if ((status) == KILN_OK) {   \
            (status) = (expression); \
        }                            \
    } while (0)

#endif
