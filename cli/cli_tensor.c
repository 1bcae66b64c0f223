/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_model.h"

#define CHUNK 1024
/* A file name has at most 255 bytes, of which ".npy" and a temporary ending take some. */
#define NAME_LIMIT 200

static bool is_complex(kiln_dtype dtype)
{
    return dtype == KILN_DTYPE_COMPLEX64 || dtype == KILN_DTYPE_COMPLEX128;
}

kiln_status cli_tensor_of(kiln_context *context, const kiln_binding *binding, kiln_tensor *tensor)
{
    return binding->is_input ? kiln_context_input_tensor(context, binding->name, tensor)
                             : kiln_context_tensor(context, binding->name, tensor);
}

cli_exit cli_tensor_summarize(const kiln_tensor *tensor, cli_summary *summary)
{
    *summary = (cli_summary){false, (double)INFINITY, 0, -(double)INFINITY, 0, 0};
    if (is_complex(tensor->desc.dtype) || tensor->desc.dtype == KILN_DTYPE_STRING) {
        return CLI_DONE;
    }
    CLI_FAIL_IF_ERROR(kiln_shape_elements(&tensor->desc.shape, &summary->count));
    double sum = 0;
    for (int64_t first = 0; first < summary->count; first += CHUNK) {
        double values[CHUNK];
        const int64_t left = summary->count - first;
        const size_t size = left < CHUNK ? (size_t)left : CHUNK;
        CLI_FAIL_IF_ERROR(kiln_tensor_read(tensor, first, size, values));
        for (size_t i = 0; i < size; i++) {
            if (isnan(values[i])) {
                summary->nans++;
                continue;
            }
            summary->minimum = values[i] < summary->minimum ? values[i] : summary->minimum;
            summary->maximum = values[i] > summary->maximum ? values[i] : summary->maximum;
            sum += values[i];
        }
    }
    summary->has_numbers = summary->count > summary->nans;
    summary->mean = sum / (double)(summary->count - summary->nans);
    return CLI_DONE;
}

/* In quotes, and cut where it is long. */
void cli_string_append(cli_text *text, const kiln_span *string, size_t most)
{
    CLI_TEXT_SCOPED copy = {NULL, 0, 0};
    const size_t kept = cli_utf8_cut(string->data, string->size, most);
    cli_text_append(&copy, string->data, kept);
    for (size_t i = 0; i < copy.size; i++) {
        copy.data[i] = copy.data[i] != '\0' ? copy.data[i] : '\1';
    }
    SCOPED_HEAP char *printable = cli_printable(copy.size > 0 ? copy.data : "");
    cli_text_printf(text, "\"%s%s\"", printable, kept < string->size ? "..." : "");
}

void cli_number_format(double number, char text[32])
{
    if (floor(number) == number && fabs(number) < 1e9) {
        (void)snprintf(text, 32, "%.0f", number == 0 ? 0.0 : number);
    } else {
        (void)snprintf(text, 32, "%.4g", number);
    }
}

char *cli_tensor_path(const char *folder, const char *name)
{
    CLI_TEXT_SCOPED file = {NULL, 0, 0};
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (const char *at = name; *at != '\0';) {
        const size_t length = cli_utf8_length(at);
        const bool is_plain = length > 1 || (*at >= 'a' && *at <= 'z') ||
                              (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9') ||
                              *at == '_' || *at == '-' || (*at == '.' && at != name);
        for (size_t i = 0; i < (length > 0 ? length : 1); i++, at++) {
            hash = (hash ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
            cli_text_printf(&file, is_plain ? "%c" : "%%%02X", (unsigned char)*at);
        }
    }
    if (file.size > NAME_LIMIT) {
        /* Cut between characters, and told apart from others that begin alike. */
        file.size = cli_utf8_cut(file.data, file.size, NAME_LIMIT - 20);
        cli_text_printf(&file, "%%~%016" PRIx64, hash);
    }
    cli_text path = {NULL, 0, 0};
    cli_text_printf(&path, "%s/%s.npy", folder, file.size > 0 ? file.data : "%");
    return path.data;
}

kiln_status cli_tensor_load(const char *path, kiln_dtype dtype, kiln_tensor *tensor)
{
    KLN_RETURN_IF_ERROR(kiln_tensor_load_npy(path, tensor));
    const kiln_dtype stored = tensor->desc.dtype;
    if ((stored == KILN_DTYPE_UINT16 && dtype == KILN_DTYPE_BFLOAT16) ||
        (stored == KILN_DTYPE_UINT8 &&
         (dtype == KILN_DTYPE_FLOAT8E4M3 || dtype == KILN_DTYPE_FLOAT8E5M2))) {
        tensor->desc.dtype = dtype;
    }
    return KILN_OK;
}

void cli_index_format(const kiln_shape *shape, int64_t index, char *text, size_t size)
{
    int64_t places[KILN_MAX_RANK] = {0};
    for (int32_t i = shape->rank - 1; i >= 0; i--) {
        const int64_t dimension = shape->dims[i] > 0 ? shape->dims[i] : 1;
        places[i] = index % dimension;
        index /= dimension;
    }
    CLI_TEXT_SCOPED joined = {NULL, 0, 0};
    cli_text_append(&joined, "[", 1);
    for (int32_t i = 0; i < shape->rank; i++) {
        cli_text_printf(&joined, "%s%" PRId64, i > 0 ? "," : "", places[i]);
    }
    cli_text_append(&joined, "]", 1);
    (void)snprintf(text, size, "%s", joined.data);
}

/* --- comparing --- */

/* Elements as numbers one after the other: two for each of a complex tensor. */
static kiln_tensor flat(const kiln_tensor *tensor)
{
    kiln_tensor view = *tensor;
    const unsigned bits = kiln_dtype_bits(tensor->desc.dtype);
    if (is_complex(tensor->desc.dtype)) {
        view.desc.dtype = bits == 64 ? KILN_DTYPE_FLOAT32 : KILN_DTYPE_FLOAT64;
        int64_t count = 0;
        if (kiln_shape_elements(&tensor->desc.shape, &count) == KILN_OK) {
            view.desc.shape = KILN_SHAPE(count * 2);
        }
    }
    return view;
}

/* Integers of 64 bits differ by what a double may not show. */
static double exact_difference(const kiln_tensor *a, const kiln_tensor *b, int64_t index,
                               double difference)
{
    if (a->desc.dtype != KILN_DTYPE_INT64 && a->desc.dtype != KILN_DTYPE_UINT64) {
        return difference;
    }
    const uint64_t x = ((const uint64_t *)a->data)[index];
    const uint64_t y = ((const uint64_t *)b->data)[index];
    const bool is_signed = a->desc.dtype == KILN_DTYPE_INT64;
    const bool is_less = is_signed ? (int64_t)x < (int64_t)y : x < y;
    return (double)(is_less ? y - x : x - y);
}

static double difference_of(double found, double expected)
{
    if (isnan(found) && isnan(expected)) {
        return 0;
    }
    if (isnan(found) || isnan(expected)) {
        return (double)INFINITY;
    }
    return found == expected ? 0 : fabs(found - expected);
}

/* An element with all its digits. */
static void element_format(const kiln_tensor *tensor, int64_t index, char text[32])
{
    double number = 0;
    if (tensor->desc.dtype == KILN_DTYPE_INT64) {
        (void)snprintf(text, 32, "%" PRId64, ((const int64_t *)tensor->data)[index]);
    } else if (tensor->desc.dtype == KILN_DTYPE_UINT64) {
        (void)snprintf(text, 32, "%" PRIu64, ((const uint64_t *)tensor->data)[index]);
    } else if (tensor->desc.dtype == KILN_DTYPE_STRING) {
        CLI_TEXT_SCOPED quoted = {NULL, 0, 0};
        cli_string_append(&quoted, &((const kiln_span *)tensor->data)[index], 20);
        (void)snprintf(text, 32, "%s", quoted.data);
    } else if (kiln_tensor_read(tensor, index, 1, &number) == KILN_OK && !isnan(number)) {
        (void)snprintf(text, 32, "%.*g", tensor->desc.dtype == KILN_DTYPE_FLOAT64 ? 17 : 9, number);
    } else {
        (void)snprintf(text, 32, "NaN");
    }
}

static void compare_strings(const kiln_tensor *a, const kiln_tensor *b, cli_difference *result)
{
    const kiln_span *found = a->data;
    const kiln_span *expected = b->data;
    for (int64_t i = 0; i < result->count; i++) {
        const bool same =
            found[i].size == expected[i].size &&
            (found[i].size == 0 || memcmp(found[i].data, expected[i].data, found[i].size) == 0);
        result->different += !same;
        if (!same && result->where < 0) {
            result->largest = 1;
            result->where = i;
        }
    }
}

static void compare_chunk(const kiln_tensor *a, const kiln_tensor *b, const double *found,
                          const double *expected, int64_t first, size_t size, double absolute,
                          double relative, cli_difference *result)
{
    for (size_t i = 0; i < size; i++) {
        const int64_t index = first + (int64_t)i;
        const double difference =
            exact_difference(a, b, index, difference_of(found[i], expected[i]));
        const double allowed = absolute + relative * fabs(expected[i]);
        /* An infinite expectation would allow everything. */
        const bool fits = difference == 0 || (difference <= allowed && isfinite(difference));
        result->different += !fits;
        if (difference > result->largest || result->where < 0) {
            result->largest = difference;
            result->where = index;
        }
    }
}

cli_exit cli_tensor_compare(const char *name, const kiln_tensor *tensor,
                            const kiln_tensor *reference, double absolute, double relative,
                            cli_difference *difference)
{
    *difference = (cli_difference){.where = -1};
    char found_shape[256];
    char expected_shape[256];
    (void)kiln_shape_format(&tensor->desc.shape, found_shape, sizeof found_shape);
    (void)kiln_shape_format(&reference->desc.shape, expected_shape, sizeof expected_shape);
    if (tensor->desc.dtype != reference->desc.dtype ||
        !kiln_shape_equal(&tensor->desc.shape, &reference->desc.shape)) {
        cli_error("output \"%.200s\": %s %s was expected, %s %s was found", name,
                  kiln_dtype_name(reference->desc.dtype), expected_shape,
                  kiln_dtype_name(tensor->desc.dtype), found_shape);
        return CLI_FAILED;
    }
    const kiln_tensor a = flat(tensor);
    const kiln_tensor b = flat(reference);
    CLI_FAIL_IF_ERROR(kiln_shape_elements(&a.desc.shape, &difference->count));
    if (a.desc.dtype == KILN_DTYPE_STRING) {
        compare_strings(&a, &b, difference);
    }
    for (int64_t first = 0; a.desc.dtype != KILN_DTYPE_STRING && first < difference->count;
         first += CHUNK) {
        double found[CHUNK];
        double expected[CHUNK];
        const int64_t left = difference->count - first;
        const size_t size = left < CHUNK ? (size_t)left : CHUNK;
        CLI_FAIL_IF_ERROR(kiln_tensor_read(&a, first, size, found));
        CLI_FAIL_IF_ERROR(kiln_tensor_read(&b, first, size, expected));
        compare_chunk(&a, &b, found, expected, first, size, absolute, relative, difference);
    }
    if (difference->where >= 0) {
        element_format(&a, difference->where, difference->found);
        element_format(&b, difference->where, difference->expected);
        difference->where /= is_complex(tensor->desc.dtype) ? 2 : 1;
    }
    return CLI_DONE;
}
