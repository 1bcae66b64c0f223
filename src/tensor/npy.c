/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NumPy's format for one array:
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 *
 * Ten or twelve bytes (magic, version, length of the header), a header that is a Python dictionary
 * in text, and the elements. The parser accepts the small grammar that NumPy and other known
 * writers produce; no Python is evaluated.
 */
#include <inttypes.h>
#include <stdio.h>

#include "npy_strings.h"

static const unsigned char magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NATIVE_ORDER '<'
#else
#define NATIVE_ORDER '>'
#endif

/* NumPy aligns the elements in the file to this. */
#define HEADER_ALIGNMENT 64
/* Enough for a header of KILN_MAX_RANK dimensions of 19 digits each. */
#define HEADER_LIMIT 512

typedef struct type_code {
    const char *code; /* kind and size, as NumPy writes them after the byte order */
    kiln_dtype dtype;
    size_t part; /* the unit of byte swapping: one of the two floats of a complex number */
} type_code;

static const type_code type_codes[] = {
    {"f2", KILN_DTYPE_FLOAT16, 2},   {"f4", KILN_DTYPE_FLOAT32, 4},
    {"f8", KILN_DTYPE_FLOAT64, 8},   {"i1", KILN_DTYPE_INT8, 1},
    {"i2", KILN_DTYPE_INT16, 2},     {"i4", KILN_DTYPE_INT32, 4},
    {"i8", KILN_DTYPE_INT64, 8},     {"u1", KILN_DTYPE_UINT8, 1},
    {"u2", KILN_DTYPE_UINT16, 2},    {"u4", KILN_DTYPE_UINT32, 4},
    {"u8", KILN_DTYPE_UINT64, 8},    {"b1", KILN_DTYPE_BOOL, 1},
    {"c8", KILN_DTYPE_COMPLEX64, 4}, {"c16", KILN_DTYPE_COMPLEX128, 8},
};

/* The header's text; positions are byte offsets in the file. */
typedef struct reader {
    const unsigned char *data;
    size_t at;
    size_t end;
} reader;

typedef struct header {
    const type_code *type; /* NULL until it is read, and for strings */
    npy_strings strings;   /* if `type` is NULL */
    bool swapped;
    bool has_order;
    bool is_fortran;
    bool has_shape;
    kiln_shape shape;
} header;

static bool has_type(const header *found)
{
    return found->type != NULL || found->strings.part != 0;
}

static kiln_status fail_header(const reader *text, const char *needed)
{
    KLN_RETURN_IF(text->at >= text->end, KILN_ERROR_MALFORMED,
                  "the .npy header ends at byte %zu, where %s is needed", text->at, needed);
    const unsigned char found = text->data[text->at];
    const bool printable = found >= ' ' && found < 0x7f;
    return kln_fail(KILN_ERROR_MALFORMED,
                    printable ? "byte %zu of the .npy header: %s is needed, this is %c"
                              : "byte %zu of the .npy header: %s is needed, this is \\x%02x",
                    text->at, needed, found);
}

static void skip_spaces(reader *text)
{
    while (text->at < text->end && strchr(" \t\r\n", text->data[text->at]) != NULL &&
           text->data[text->at] != '\0') {
        text->at++;
    }
}

static bool take(reader *text, char wanted)
{
    skip_spaces(text);
    if (text->at < text->end && text->data[text->at] == (unsigned char)wanted) {
        text->at++;
        return true;
    }
    return false;
}

static bool take_word(reader *text, const char *word)
{
    skip_spaces(text);
    const size_t length = strlen(word);
    if (text->end - text->at < length || memcmp(text->data + text->at, word, length) != 0) {
        return false;
    }
    text->at += length;
    return true;
}

/* Reads a quoted string without escapes, as a span of the file. */
static kiln_status take_string(reader *text, const char *needed, kiln_span *string)
{
    skip_spaces(text);
    KLN_FAIL_IF(
        text->at >= text->end || (text->data[text->at] != '\'' && text->data[text->at] != '"'),
        fail_header(text, needed));
    const unsigned char quote = text->data[text->at];
    const size_t begin = text->at + 1;
    for (size_t at = begin; at < text->end && text->data[at] != '\n'; at++) {
        if (text->data[at] == quote) {
            *string = (kiln_span){text->data + begin, at - begin};
            text->at = at + 1;
            return KILN_OK;
        }
    }
    return kln_fail(KILN_ERROR_MALFORMED,
                    "byte %zu of the .npy header: the string that begins here has no end",
                    text->at);
}

static bool span_is(kiln_span span, const char *text)
{
    return span.size == strlen(text) && memcmp(span.data, text, span.size) == 0;
}

static kiln_status fail_type(kiln_span code, char kind)
{
    static const struct {
        char kind;
        const char *what;
    } kinds[] = {
        {'O', "Python objects"},
        {'V', "records or raw bytes"},
        {'M', "dates"},
        {'m', "time spans"},
        {'T', "strings of variable width (StringDType)"},
        {'f', "floats of a size that no tensor has"},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(kinds); i++) {
        KLN_RETURN_IF(kind == kinds[i].kind, KILN_ERROR_UNSUPPORTED,
                      "the array holds %s (\"%.*s\"), a tensor holds numbers or "
                      "strings; convert it with astype() before it is saved",
                      kinds[i].what, (int)(code.size < 40 ? code.size : 40),
                      (const char *)code.data);
    }
    return kln_fail(KILN_ERROR_UNSUPPORTED, "the array's type \"%.*s\" is not known",
                    (int)(code.size < 40 ? code.size : 40), (const char *)code.data);
}

static kiln_status read_type(reader *text, header *found)
{
    skip_spaces(text);
    KLN_RETURN_IF(text->at < text->end && text->data[text->at] == '[', KILN_ERROR_UNSUPPORTED,
                  "the array holds records (a list of fields at byte %zu), a tensor holds "
                  "numbers; save each field by itself",
                  text->at);
    KLN_RETURN_IF(text->at < text->end && text->data[text->at] == '(', KILN_ERROR_UNSUPPORTED,
                  "the array holds arrays (a type with a shape at byte %zu), a tensor holds "
                  "numbers",
                  text->at);
    kiln_span code = {NULL, 0};
    KLN_RETURN_IF_ERROR(take_string(text, "a type like '<f4'", &code));
    const char *letters = code.data;
    const bool has_order = code.size > 0 && strchr("<>=|", letters[0]) != NULL && letters[0] != 0;
    const char order = has_order ? letters[0] : '=';
    const size_t skipped = has_order ? 1 : 0;
    const kiln_span kind = {letters + skipped, code.size - skipped};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(type_codes); i++) {
        if (span_is(kind, type_codes[i].code)) {
            found->type = &type_codes[i];
            found->swapped = (order == '<' || order == '>') && order != NATIVE_ORDER;
            return KILN_OK;
        }
    }
    if (npy_strings_code(kind, &found->strings)) {
        found->strings.is_big = order == '>' || (order != '<' && NATIVE_ORDER == '>');
        return KILN_OK;
    }
    return fail_type(code, kind.size > 0 ? *(const char *)kind.data : '\0');
}

static kiln_status read_order(reader *text, header *found)
{
    if (take_word(text, "True")) {
        found->is_fortran = true;
    } else if (!take_word(text, "False")) {
        return fail_header(text, "True or False");
    }
    found->has_order = true;
    return KILN_OK;
}

static kiln_status read_dimension(reader *text, int64_t *dimension)
{
    skip_spaces(text);
    const size_t begin = text->at;
    int64_t value = 0;
    for (; text->at < text->end; text->at++) {
        const unsigned char letter = text->data[text->at];
        if (letter < '0' || letter > '9') {
            break;
        }
        KLN_RETURN_IF(value > (INT64_MAX - (letter - '0')) / 10, KILN_ERROR_MALFORMED,
                      "byte %zu of the .npy header: the dimension passes %" PRId64, begin,
                      INT64_MAX);
        value = value * 10 + (letter - '0');
    }
    KLN_FAIL_IF(text->at == begin, fail_header(text, "a dimension"));
    /* Python 2 wrote a long integer as "3L". */
    if (text->at < text->end && text->data[text->at] == 'L') {
        text->at++;
    }
    *dimension = value;
    return KILN_OK;
}

static kiln_status read_shape(reader *text, header *found)
{
    if (!take(text, '(')) {
        return fail_header(text, "the ( of a shape");
    }
    found->has_shape = true;
    bool comma = true;
    while (!take(text, ')')) {
        KLN_FAIL_IF(!comma, fail_header(text, ", or )"));
        int64_t dimension = 0;
        KLN_RETURN_IF_ERROR(read_dimension(text, &dimension));
        KLN_RETURN_IF(found->shape.rank == KILN_MAX_RANK, KILN_ERROR_RANK,
                      "the array has more than %d dimensions", KILN_MAX_RANK);
        found->shape.dims[found->shape.rank++] = dimension;
        comma = take(text, ',');
    }
    if (found->shape.rank == 1 && !comma) {
        text->at--;
        return fail_header(text, "the comma of a shape of one dimension, as in (3,)");
    }
    return KILN_OK;
}

static kiln_status read_entry(reader *text, header *found)
{
    kiln_span key = {NULL, 0};
    skip_spaces(text);
    const size_t begin = text->at;
    KLN_RETURN_IF_ERROR(take_string(text, "a key of the dictionary", &key));
    const bool is_type = span_is(key, "descr");
    const bool is_order = span_is(key, "fortran_order");
    KLN_RETURN_IF(!is_type && !is_order && !span_is(key, "shape"), KILN_ERROR_MALFORMED,
                  "byte %zu of the .npy header: the key is not descr, fortran_order or shape",
                  begin);
    KLN_RETURN_IF(is_type    ? has_type(found)
                  : is_order ? found->has_order
                             : found->has_shape,
                  KILN_ERROR_MALFORMED,
                  "byte %zu of the .npy header: the key \"%.*s\" stands there twice", begin,
                  (int)key.size, (const char *)key.data);
    KLN_FAIL_IF(!take(text, ':'), fail_header(text, "a colon"));
    if (is_type) {
        return read_type(text, found);
    }
    return is_order ? read_order(text, found) : read_shape(text, found);
}

static kiln_status read_dictionary(reader *text, header *found)
{
    if (!take(text, '{')) {
        return fail_header(text, "the { of a dictionary");
    }
    bool comma = true;
    while (!take(text, '}')) {
        if (!comma) {
            return fail_header(text, ", or }");
        }
        KLN_RETURN_IF_ERROR(read_entry(text, found));
        comma = take(text, ',');
    }
    skip_spaces(text);
    KLN_FAIL_IF(text->at != text->end, fail_header(text, "the end of the header"));
    const char *missing = !has_type(found)    ? "descr"
                          : !found->has_order ? "fortran_order"
                          : !found->has_shape ? "shape"
                                              : NULL;
    KLN_RETURN_IF(missing != NULL, KILN_ERROR_MALFORMED,
                  "the .npy header ends at byte %zu without \"%s\"", text->end, missing);
    KLN_RETURN_IF(found->is_fortran, KILN_ERROR_UNSUPPORTED,
                  "the array lies in Fortran order; save numpy.ascontiguousarray() of it");
    return KILN_OK;
}

/* Reads the part before the dictionary and finds where that begins and ends. */
static kiln_status read_preamble(kiln_span file, reader *text)
{
    const unsigned char *data = file.data;
    for (size_t i = 0; i < sizeof magic; i++) {
        KLN_RETURN_IF(i >= file.size || data[i] != magic[i], KILN_ERROR_MALFORMED,
                      "byte %zu: this is not a .npy file, which begins with \\x93NUMPY", i);
    }
    KLN_RETURN_IF(file.size < 8, KILN_ERROR_MALFORMED, "the .npy header ends at byte %zu",
                  file.size);
    KLN_RETURN_IF(data[6] < 1 || data[6] > 3 || data[7] != 0, KILN_ERROR_UNSUPPORTED,
                  "byte 6: version %u.%u of the .npy format is not known, 1.0 to 3.0 are", data[6],
                  data[7]);
    const size_t begin = data[6] == 1 ? 10 : 12;
    KLN_RETURN_IF(file.size < begin, KILN_ERROR_MALFORMED, "the .npy header ends at byte %zu",
                  file.size);
    size_t length = (size_t)data[8] | (size_t)data[9] << 8;
    if (data[6] != 1) {
        length |= (size_t)data[10] << 16 | (size_t)data[11] << 24;
    }
    KLN_RETURN_IF(
        length > file.size - begin, KILN_ERROR_MALFORMED,
        "byte 8: the .npy header is %zu bytes long, as it says, and the file has %zu more", length,
        file.size - begin);
    *text = (reader){data, begin, begin + length};
    return KILN_OK;
}

/* Copies `size` bytes and reverses the bytes of each part. */
static void copy_swapped(unsigned char *to, const unsigned char *from, size_t size, size_t part)
{
    for (size_t begin = 0; begin < size; begin += part) {
        for (size_t i = 0; i < part; i++) {
            to[begin + i] = from[begin + part - 1 - i];
        }
    }
}

kiln_status kln_npy_read(kiln_span file, kiln_tensor *tensor)
{
    reader text = {NULL, 0, 0};
    header found = {.type = NULL};
    KLN_RETURN_IF_ERROR(read_preamble(file, &text));
    KLN_RETURN_IF_ERROR(read_dictionary(&text, &found));
    size_t bytes = 0;
    const size_t left = file.size - text.end;
    if (found.type == NULL) {
        return npy_strings_read(&found.strings, &found.shape,
                                (kiln_span){text.data + text.end, left}, tensor);
    }
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(found.type->dtype, &found.shape, &bytes));
    if (left != bytes) {
        char shape[KLN_SHAPE_TEXT];
        (void)kiln_shape_format(&found.shape, shape, sizeof shape);
        return kln_fail(KILN_ERROR_MALFORMED,
                        "%s elements in the shape %s take %zu bytes, %zu stand after the header at "
                        "byte %zu",
                        kiln_dtype_name(found.type->dtype), shape, bytes, left, text.end);
    }
    unsigned char *data = kln_alloc(bytes);
    KLN_RETURN_IF_NO_MEMORY(data, bytes, "the array");
    if (found.swapped) {
        copy_swapped(data, text.data + text.end, bytes, found.type->part);
    } else {
        memcpy(data, text.data + text.end, bytes);
    }
    *tensor = KILN_HOST_TENSOR(found.type->dtype, found.shape, data, bytes);
    return KILN_OK;
}

kiln_status kiln_tensor_load_npy(const char *path, kiln_tensor *tensor)
{
    KLN_RETURN_IF_NULL(path, tensor);
    KLN_SCOPED(kln_mapping_close) kln_mapping mapping = {0};
    KLN_RETURN_IF_ERROR(kln_mapping_open(path, &mapping));
    kiln_status status = kln_npy_read(mapping.bytes, tensor);
    if (status != KILN_OK) {
        status = kln_fail_within(status, "\"%s\"", path);
    }
    return status;
}

void kiln_tensor_free(kiln_tensor *tensor)
{
    if (tensor == NULL) {
        return;
    }
    kln_free(tensor->data);
    memset(tensor, 0, sizeof *tensor);
}

/* NumPy's code for the type; types that NumPy lacks are written as unsigned integers of the same
 * size. */
static const char *code_for(kiln_dtype dtype)
{
    if (dtype == KILN_DTYPE_BFLOAT16) {
        return "u2";
    }
    if (dtype == KILN_DTYPE_FLOAT8E4M3 || dtype == KILN_DTYPE_FLOAT8E5M2) {
        return "u1";
    }
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(type_codes); i++) {
        if (type_codes[i].dtype == dtype) {
            return type_codes[i].code;
        }
    }
    return NULL;
}

static kiln_status check_saved(const kiln_tensor *tensor, const char *path)
{
    const kiln_tensor_desc *desc = &tensor->desc;
    KLN_RETURN_IF(kiln_dtype_bits(desc->dtype) == 4, KILN_ERROR_UNSUPPORTED,
                  "\"%s\": a .npy file cannot hold %s elements", path,
                  kiln_dtype_name(desc->dtype));
    KLN_RETURN_IF_ERROR(kln_tensor_check("the tensor to be saved", tensor));
    KLN_RETURN_IF(desc->location != KILN_LOCATION_HOST || desc->format != KILN_FORMAT_LINEAR,
                  KILN_ERROR_UNSUPPORTED,
                  "\"%s\": a tensor in host memory and linear format is needed, this is in "
                  "%s memory and format %d",
                  path, kiln_location_name(desc->location), (int)desc->format);
    KLN_RETURN_IF(!kln_strides_are_dense(&desc->shape, &desc->strides), KILN_ERROR_UNSUPPORTED,
                  "\"%s\": a dense tensor is needed, this has strides of its own", path);
    return KILN_OK;
}

/* Writes the whole header into `text` and returns its length, a multiple of HEADER_ALIGNMENT. */
static size_t format_header(const kiln_tensor_desc *desc, const char *code,
                            unsigned char text[HEADER_LIMIT])
{
    char *words = (char *)text;
    size_t length = 10;
    length += (size_t)snprintf(
        words + length, HEADER_LIMIT - length,
        "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
        kiln_dtype_bits(desc->dtype) == 8 || code[0] == 'S' ? '|' : NATIVE_ORDER, code);
    for (int32_t i = 0; i < desc->shape.rank; i++) {
        length += (size_t)snprintf(words + length, HEADER_LIMIT - length, "%s%" PRId64,
                                   i == 0 ? "" : ", ", desc->shape.dims[i]);
    }
    length += (size_t)snprintf(words + length, HEADER_LIMIT - length, "%s), }",
                               desc->shape.rank == 1 ? "," : "");
    const size_t whole = (length + 1 + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT;
    memset(words + length, ' ', whole - length - 1);
    words[whole - 1] = '\n';
    memcpy(text, magic, sizeof magic);
    text[6] = 1;
    text[7] = 0;
    text[8] = (unsigned char)((whole - 10) & 0xff);
    text[9] = (unsigned char)((whole - 10) >> 8);
    return whole;
}

kiln_status kiln_tensor_save_npy(const kiln_tensor *tensor, const char *path)
{
    KLN_RETURN_IF_NULL(tensor, path);
    KLN_RETURN_IF_ERROR(check_saved(tensor, path));
    unsigned char text[HEADER_LIMIT];
    char code[32];
    kiln_span data = {tensor->data, 0};
    void *filled = NULL;
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(tensor->desc.dtype, &tensor->desc.shape, &data.size));
    if (tensor->desc.dtype == KILN_DTYPE_STRING) {
        KLN_RETURN_WITHIN(npy_strings_fill(tensor->data, data.size / sizeof(kiln_span), code,
                                           &filled, &data.size),
                          "\"%s\"", path);
        data.data = filled;
    } else {
        (void)snprintf(code, sizeof code, "%s", code_for(tensor->desc.dtype));
    }
    const kiln_span parts[] = {{text, format_header(&tensor->desc, code, text)}, data};
    const kiln_status status = kln_file_write(path, parts, KLN_ARRAY_LENGTH(parts), false);
    kln_free(filled);
    return status;
}
