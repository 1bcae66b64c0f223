/* Operators on strings. An element is a span; bytes created during a run remain until it ends.
 * SPDX-License-Identifier: Apache-2.0 */
#include <wchar.h>
#include <wctype.h>

#include "ref_ops.h"

struct ref_text {
    ref_buffer *buffer; /* which contains this structure */
    ref_text *next;
};

kiln_status ref_text_take(ref_call *call, size_t size, char **bytes)
{
    ref_context *context = call->context;
    ref_buffer *buffer = NULL;
    KLN_RETURN_IF_ERROR(ref_memory_take(&context->memory, sizeof(ref_text) + size, &buffer));
    ref_text *text = ref_buffer_data(buffer);
    *text = (ref_text){buffer, context->texts};
    context->texts = text;
    *bytes = (char *)(text + 1);
    return KILN_OK;
}

void ref_text_release(ref_context *context)
{
    while (context->texts != NULL) {
        ref_text *text = context->texts;
        context->texts = text->next;
        ref_buffer_release(&context->memory, text->buffer);
    }
}

static bool same(kiln_span a, kiln_span b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* --- StringConcat --- */

static size_t joined(kiln_span a, kiln_span b, char *to, kiln_span *out)
{
    if (a.size > 0) {
        memcpy(to, a.data, a.size);
    }
    if (b.size > 0) {
        memcpy(to + a.size, b.data, b.size);
    }
    *out = (kiln_span){to, a.size + b.size};
    return out->size;
}

static kiln_status ref_op_string_concat(ref_call *call)
{
    const ref_tensor *a = ref_input(call, 0);
    const ref_tensor *b = ref_input(call, 1);
    int rank = 0;
    int64_t dims[REF_RANK];
    ref_tensor *y = NULL;
    ref_walk whole;
    char *to = NULL;
    KLN_RETURN_IF_ERROR(ref_broadcast(call, a->rank, a->dims, b->rank, b->dims, &rank, dims));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, KILN_DTYPE_STRING, rank, dims, &y));
    ref_walk_init(&whole, rank, dims);
    ref_walk_add_broadcast(&whole, y);
    ref_walk_add_broadcast(&whole, a);
    ref_walk_add_broadcast(&whole, b);
    ref_walk_begin(&whole);
    /* The sizes come first. */
    for (int pass = 0; pass < 2; pass++) {
        size_t total = 0;
        ref_walk walk = whole;
        while (ref_walk_next(&walk)) {
            for (int64_t i = 0; i < walk.length; i++) {
                const kiln_span left =
                    ((const kiln_span *)a->data)[walk.offset[1] + i * walk.step[1]];
                const kiln_span right =
                    ((const kiln_span *)b->data)[walk.offset[2] + i * walk.step[2]];
                kiln_span *out = &((kiln_span *)y->data)[walk.offset[0] + i * walk.step[0]];
                total += pass == 0 ? left.size + right.size : joined(left, right, to + total, out);
            }
        }
        KLN_RETURN_IF_ERROR(ref_spend(call, (double)total));
        KLN_RETURN_IF_ERROR(pass == 0 ? ref_text_take(call, total, &to) : KILN_OK);
    }
    return KILN_OK;
}

/* --- StringSplit --- */

typedef struct splitter {
    kiln_span delimiter; /* empty: split at white space */
    int64_t most;        /* splits; negative: no limit */
} splitter;

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static size_t past_spaces(kiln_span text, size_t at)
{
    while (at < text.size && is_space(((const char *)text.data)[at])) {
        at++;
    }
    return at;
}

/* Finds the next delimiter at or after `at` and sets `*past` to the position after it; returns the
 * end of the text if there is none. */
static size_t next_split(const splitter *by, kiln_span text, size_t at, size_t *past)
{
    const char *bytes = text.data;
    for (; at < text.size; at++) {
        if (by->delimiter.size == 0 && is_space(bytes[at])) {
            *past = past_spaces(text, at);
            return at;
        }
        if (by->delimiter.size > 0 && text.size - at >= by->delimiter.size &&
            memcmp(bytes + at, by->delimiter.data, by->delimiter.size) == 0) {
            *past = at + by->delimiter.size;
            return at;
        }
    }
    *past = SIZE_MAX;
    return text.size;
}

/* Splits the text and returns the number of parts, which are stored in `parts` if it is not
 * NULL. */
static int64_t split(const splitter *by, kiln_span text, kiln_span *parts)
{
    const bool by_space = by->delimiter.size == 0;
    int64_t count = 0;
    size_t at = by_space ? past_spaces(text, 0) : 0;
    if (by_space && at == text.size) {
        return 0;
    }
    for (size_t past = 0; past != SIZE_MAX; at = past) {
        size_t end = text.size;
        past = SIZE_MAX;
        if (by->most < 0 || count < by->most) {
            end = next_split(by, text, at, &past);
        }
        if (parts != NULL) {
            parts[count] = (kiln_span){(const char *)text.data + at, end - at};
        }
        count++;
        if (by_space && past == text.size) {
            break;
        }
    }
    return count;
}

static kiln_status ref_op_string_split(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const kln_onnx_attribute *delimiter = ref_attribute(call, "delimiter");
    const splitter by = {.delimiter = delimiter != NULL ? delimiter->s : (kiln_span){NULL, 0},
                         .most = ref_attribute_int(call, "maxsplit", -1)};
    const kiln_span *texts = x->data;
    int64_t dims[REF_RANK];
    ref_tensor *y = NULL;
    ref_tensor *counts = NULL;
    int64_t most = 0;
    KLN_RETURN_IF(x->rank >= REF_RANK, KILN_ERROR_RANK,
                  "%d dimensions and one more are past the %d that are possible", x->rank,
                  REF_RANK);
    KLN_RETURN_IF_ERROR(ref_output(call, 1, KILN_DTYPE_INT64, x->rank, x->dims, &counts));
    for (int64_t i = 0; i < x->count; i++) {
        KLN_RETURN_IF_ERROR(ref_spend(call, 2.0 * (double)texts[i].size));
        const int64_t count = split(&by, texts[i], NULL);
        ((int64_t *)counts->data)[i] = count;
        most = count > most ? count : most;
    }
    memcpy(dims, x->dims, (size_t)x->rank * sizeof *dims);
    dims[x->rank] = most;
    KLN_RETURN_IF_ERROR(ref_output(call, 0, KILN_DTYPE_STRING, x->rank + 1, dims, &y));
    KLN_RETURN_IF_ERROR(ref_spend(call, (double)y->count));
    kiln_span *parts = y->data;
    for (int64_t i = 0; i < x->count; i++) {
        for (int64_t k = split(&by, texts[i], &parts[i * most]); k < most; k++) {
            parts[i * most + k] = (kiln_span){"", 0};
        }
    }
    return KILN_OK;
}

/* --- StringNormalizer --- */

typedef enum letter_case { CASE_LOWER, CASE_UPPER } letter_case;

static locale_t unicode;

static void find_unicode(void)
{
    const int mask = LC_CTYPE_MASK | LC_NUMERIC_MASK;
    unicode = newlocale(mask, "C.UTF-8", (locale_t)0);
    if (unicode == (locale_t)0) {
        unicode = newlocale(mask, "C", (locale_t)0); /* only ASCII letters count then */
    }
}

locale_t ref_locale(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, find_unicode);
    return unicode;
}

static uint32_t in_case(uint32_t point, letter_case wanted)
{
    const locale_t letters = ref_locale();
    return letters == (locale_t)0 ? point
           : wanted == CASE_LOWER ? (uint32_t)towlower_l((wint_t)point, letters)
                                  : (uint32_t)towupper_l((wint_t)point, letters);
}

/* Bytes that are not UTF-8 are kept. No code point needs more than twice as many bytes in the other
 * case. */
static size_t to_case(kiln_span text, letter_case wanted, char *to)
{
    size_t used = 0;
    const char *bytes = text.data;
    for (size_t at = 0; at < text.size;) {
        uint32_t point = 0;
        const size_t size = kln_utf8_read(bytes + at, text.size - at, &point);
        if (size != 0) {
            used += kln_utf8_write(in_case(point, wanted), to + used);
        } else {
            to[used++] = bytes[at];
        }
        at += size != 0 ? size : 1;
    }
    return used;
}

/* Converts `count` strings to the given case, in memory of the run. */
static kiln_status change_case(ref_call *call, const kiln_span *texts, size_t count,
                               letter_case wanted, kiln_span *changed)
{
    size_t total = 0;
    char *to = NULL;
    for (size_t i = 0; i < count; i++) {
        total += 2 * texts[i].size;
    }
    KLN_RETURN_IF_ERROR(ref_spend(call, (double)total));
    KLN_RETURN_IF_ERROR(ref_text_take(call, total, &to));
    for (size_t i = 0; i < count; i++) {
        changed[i] = (kiln_span){to, to_case(texts[i], wanted, to)};
        to += changed[i].size;
    }
    return KILN_OK;
}

static bool is_among(kiln_span text, const kiln_span *texts, size_t count)
{
    bool found = false;
    for (size_t i = 0; i < count && !found; i++) {
        found = same(text, texts[i]);
    }
    return found;
}

/* The strings to compare with the stop words: the strings themselves or, if case is ignored, in
 * lower case. The stop words are treated the same way. */
static kiln_status compared_by(ref_call *call, const kiln_span *texts, size_t count,
                               const kiln_span **compared)
{
    kiln_span *lower = NULL;
    *compared = texts;
    if (ref_attribute_int(call, "is_case_sensitive", 0) != 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(ref_scratch(call, count, sizeof *lower, &lower));
    *compared = lower;
    return change_case(call, texts, count, CASE_LOWER, lower);
}

static kiln_status keep_others(ref_call *call, const ref_tensor *x, kiln_span *kept, size_t *count)
{
    const kln_onnx_attribute *words = ref_attribute(call, "stopwords");
    const kiln_span *texts = x->data;
    const kiln_span *compared = texts;
    const kiln_span *stops = NULL;
    const size_t stop_count = words != NULL ? words->count : 0;
    *count = 0;
    if (stop_count > 0) {
        KLN_RETURN_IF_ERROR(compared_by(call, texts, (size_t)x->count, &compared));
        KLN_RETURN_IF_ERROR(compared_by(call, words->strings, stop_count, &stops));
        KLN_RETURN_IF_ERROR(ref_spend(call, (double)x->count * (double)stop_count));
    }
    for (int64_t i = 0; i < x->count; i++) {
        if (!is_among(compared[i], stops, stop_count)) {
            kept[(*count)++] = texts[i];
        }
    }
    if (*count == 0) {
        kept[(*count)++] = (kiln_span){"", 0};
    }
    return KILN_OK;
}

static kiln_status ref_op_string_normalizer(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const char *action = ref_attribute_string(call, "case_change_action", "NONE");
    kiln_span *kept = NULL;
    size_t count = 0;
    ref_tensor *y = NULL;
    KLN_RETURN_IF(x->rank < 1 || x->rank > 2 || (x->rank == 2 && x->dims[0] != 1), KILN_ERROR_SHAPE,
                  "strings of the shape [n] or [1,n] are needed");
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)x->count + 1, sizeof *kept, &kept));
    KLN_RETURN_IF_ERROR(keep_others(call, x, kept, &count));
    const int64_t dims[2] = {x->rank == 2 ? 1 : (int64_t)count, (int64_t)count};
    KLN_RETURN_IF_ERROR(ref_output(call, 0, KILN_DTYPE_STRING, x->rank, dims, &y));
    if (strcmp(action, "NONE") == 0) {
        memcpy(y->data, kept, count * sizeof *kept);
        return KILN_OK;
    }
    return change_case(call, kept, count, strcmp(action, "LOWER") == 0 ? CASE_LOWER : CASE_UPPER,
                       y->data);
}

/* clang-format off */
const ref_kernel ref_kernels_text[] = {
    REF_OP("StringConcat", 20, string_concat, 0, "ss"),
    REF_OP("StringNormalizer", 10, string_normalizer, 0, "s"),
    REF_OP("StringSplit", 20, string_split, 0, "s"),
    REF_KERNELS_END
};
/* clang-format on */
