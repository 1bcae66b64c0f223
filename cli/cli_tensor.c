/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_model.h"

#define CHUNK 1024
/* A file name has at most 255 bytes, some of which are needed for ".npy" and a temporary suffix. */
#define NAME_LIMIT 200

kiln_status cli_tensor_of(kiln_context *context, const kiln_binding *binding, kiln_tensor *tensor)
{
    return binding->is_input ? kiln_context_input_tensor(context, binding->name, tensor)
                             : kiln_context_tensor(context, binding->name, tensor);
}

cli_exit cli_tensor_summarize(const kiln_tensor *tensor, cli_summary *summary)
{
    *summary = (cli_summary){false, (double)INFINITY, 0, -(double)INFINITY, 0, 0};
    const kiln_dtype dtype = tensor->desc.dtype;
    if (dtype == KILN_DTYPE_COMPLEX64 || dtype == KILN_DTYPE_COMPLEX128 ||
        dtype == KILN_DTYPE_STRING) {
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

/* Appends the string in quotes, truncated if it is long. */
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
        /* Truncated between characters; the hash distinguishes names that begin alike. */
        file.size = cli_utf8_cut(file.data, file.size, NAME_LIMIT - 20);
        cli_text_printf(&file, "%%~%016" PRIx64, hash);
    }
    cli_text path = {NULL, 0, 0};
    cli_text_printf(&path, "%s/%s.npy", folder, file.size > 0 ? file.data : "%");
    return path.data;
}

static void take_as(kiln_tensor *tensor, kiln_dtype dtype)
{
    const kiln_dtype stored = tensor->desc.dtype;
    if ((stored == KILN_DTYPE_UINT16 && dtype == KILN_DTYPE_BFLOAT16) ||
        (stored == KILN_DTYPE_UINT8 &&
         (dtype == KILN_DTYPE_FLOAT8E4M3 || dtype == KILN_DTYPE_FLOAT8E5M2))) {
        tensor->desc.dtype = dtype;
    }
}

/* Takes array `name` out of an archive. */
static cli_exit load_member(const char *path, const char *name, kiln_tensor *tensor)
{
    kiln_named_tensor *arrays = NULL;
    size_t count = 0;
    CLI_TEXT_SCOPED known = {NULL, 0, 0};
    bool found = false;
    CLI_FAIL_IF_ERROR(kiln_tensors_load_npz(path, &arrays, &count));
    for (size_t i = 0; i < count && !found; i++) {
        cli_text_printf(&known, "%s\"%s\"", i > 0 ? ", " : "", arrays[i].name);
        found = strcmp(arrays[i].name, name) == 0;
        if (found) {
            *tensor = arrays[i].tensor;
            arrays[i].tensor = (kiln_tensor){.data = NULL};
        }
    }
    kiln_tensors_free(arrays, count);
    if (!found) {
        cli_error("\"%s\" has no array \"%.200s\"; it has %.1000s", path, name,
                  count > 0 ? known.data : "none");
        return CLI_FAILED;
    }
    return CLI_DONE;
}

bool cli_is_array(const char *path)
{
    return cli_ends_with(path, ".npy") || cli_ends_with(path, ".npz");
}

cli_exit cli_array_load(const char *path, const char *name, kiln_dtype dtype, kiln_tensor *tensor)
{
    if (!cli_ends_with(path, ".npz")) {
        CLI_FAIL_IF_ERROR(cli_tensor_load(path, dtype, tensor));
        return CLI_DONE;
    }
    CLI_RETURN_UNLESS_DONE(load_member(path, name, tensor));
    take_as(tensor, dtype);
    return CLI_DONE;
}

kiln_status cli_tensor_load(const char *path, kiln_dtype dtype, kiln_tensor *tensor)
{
    KLN_RETURN_IF_ERROR(kiln_tensor_load_npy(path, tensor));
    take_as(tensor, dtype);
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

/* Formats an element with all its digits; `number` is its value as a double. */
static void element_format(const kiln_tensor *tensor, int64_t index, double number, char text[32])
{
    const kiln_dtype dtype = tensor->desc.dtype;
    const bool is_double = dtype == KILN_DTYPE_FLOAT64 || dtype == KILN_DTYPE_COMPLEX128;
    if (dtype == KILN_DTYPE_INT64) {
        (void)snprintf(text, 32, "%" PRId64, ((const int64_t *)tensor->data)[index]);
    } else if (dtype == KILN_DTYPE_UINT64) {
        (void)snprintf(text, 32, "%" PRIu64, ((const uint64_t *)tensor->data)[index]);
    } else if (dtype == KILN_DTYPE_STRING) {
        CLI_TEXT_SCOPED quoted = {NULL, 0, 0};
        cli_string_append(&quoted, &((const kiln_span *)tensor->data)[index], 20);
        (void)snprintf(text, 32, "%s", quoted.data);
    } else if (isnan(number)) {
        (void)snprintf(text, 32, "NaN");
    } else {
        (void)snprintf(text, 32, "%.*g", is_double ? 17 : 9, number);
    }
}

cli_exit cli_tensor_compare(const char *name, const kiln_tensor *tensor,
                            const kiln_tensor *reference, double absolute, double relative,
                            cli_difference *difference)
{
    kiln_compare_options options = KILN_COMPARE_OPTIONS_INIT;
    CLI_OWNED(comparison) comparison = NULL;
    const kiln_named_tensor found = {name, *tensor};
    const kiln_named_tensor expected = {name, *reference};
    *difference = (cli_difference){.where = -1};
    options.absolute = absolute;
    options.relative = relative;
    CLI_FAIL_IF_ERROR(kiln_compare_tensors(&found, &expected, 1, &options, &comparison));
    const kiln_tensor_difference *of = kiln_comparison_get(comparison, 0);
    if (of->found_dtype != of->expected_dtype || !of->is_comparable) {
        char shapes[2][256];
        (void)kiln_shape_format(&of->expected_shape, shapes[0], sizeof shapes[0]);
        (void)kiln_shape_format(&of->found_shape, shapes[1], sizeof shapes[1]);
        cli_error("output \"%.200s\": %s %s was expected, %s %s was found", name,
                  kiln_dtype_name(of->expected_dtype), shapes[0], kiln_dtype_name(of->found_dtype),
                  shapes[1]);
        return CLI_FAILED;
    }
    *difference = (cli_difference){.different = of->different,
                                   .count = of->count,
                                   .largest = of->largest_absolute,
                                   .where = of->largest_at};
    if (of->largest_at >= 0) {
        element_format(tensor, of->largest_at, of->found, difference->found);
        element_format(reference, of->largest_at, of->expected, difference->expected);
    }
    return CLI_DONE;
}
