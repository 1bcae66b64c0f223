/* SPDX-License-Identifier: Apache-2.0 */
/* Runs ONNX node tests on a backend and compares with what they expect.
 *
 *     node_test BACKEND EXPECTED_FAILURES FOLDER...
 *     node_test operators
 *
 * Each FOLDER holds tests: folders with a model.onnx and test_data_set_N/input_M.pb and
 * output_M.pb. EXPECTED_FAILURES lists "TEST: reason" line by line ("-": none); a test that is
 * listed and passes is a failure too. Of the tests whose values can be bound at all, 95 % must
 * pass. `operators` prints the reference backend's table. */
#include <dirent.h>
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kiln/kiln.h>

#include "backends/reference/ref_internal.h"
#include "base/kln_base.h"
#include "onnx/kln_onnx.h"

#define MOST_TENSORS 64

/* The bounds of onnx.backend.test for float32 and wider; the narrow types by their own precision.
 */
static double relative_bound(kiln_dtype dtype)
{
    switch (dtype) {
        case KILN_DTYPE_BFLOAT16: return 1.0 / 64;
        case KILN_DTYPE_FLOAT16: return 1.0 / 512;
        case KILN_DTYPE_FLOAT8E4M3:
        case KILN_DTYPE_FLOAT8E5M2: return 0.0;
        default: return 1e-3;
    }
}

static double absolute_bound(kiln_dtype dtype)
{
    return dtype == KILN_DTYPE_FLOAT16 || dtype == KILN_DTYPE_BFLOAT16 ? 1e-3 : 1e-7;
}

typedef struct protobuf_tensor {
    unsigned char *bytes; /* a model that holds the tensor as its one initializer */
    kln_onnx_model *model;
    void *aligned; /* a copy of its elements */
    kiln_tensor tensor;
} protobuf_tensor;

static void release_tensor(protobuf_tensor *t)
{
    kln_onnx_model_destroy(t->model);
    free(t->bytes);
    free(t->aligned);
    memset(t, 0, sizeof *t);
}

static size_t put_varint(unsigned char *to, size_t value)
{
    size_t used = 0;
    for (; value >= 128; value >>= 7) {
        to[used++] = (unsigned char)((value & 127) | 128);
    }
    to[used++] = (unsigned char)value;
    return used;
}

/* Wraps the TensorProto of a file in ModelProto.graph.initializer. */
static bool wrap(const char *path, protobuf_tensor *t, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return false;
    }
    (void)fseek(file, 0, SEEK_END);
    const long length = ftell(file);
    rewind(file);
    unsigned char inner[24];
    size_t used = 0;
    inner[used++] = 0x2a;
    used += put_varint(inner + used, (size_t)length);
    unsigned char outer[24] = {0x08, 0x08, 0x3a};
    const size_t outer_used = 3 + put_varint(outer + 3, used + (size_t)length);
    *size = outer_used + used + (size_t)length;
    t->bytes = malloc(*size);
    bool whole = t->bytes != NULL;
    if (whole) {
        memcpy(t->bytes, outer, outer_used);
        memcpy(t->bytes + outer_used, inner, used);
        whole = fread(t->bytes + outer_used + used, 1, (size_t)length, file) == (size_t)length;
    }
    (void)fclose(file);
    return whole;
}

static bool read_tensor(const char *path, protobuf_tensor *t, const char **why)
{
    size_t size = 0;
    memset(t, 0, sizeof *t);
    if (!wrap(path, t, &size)) {
        *why = "a file cannot be read";
        return false;
    }
    if (kln_onnx_read_bytes((kiln_span){t->bytes, size}, NULL, &t->model) != KILN_OK ||
        t->model->graph.initializer_count != 1) {
        *why = "a value is no tensor";
        return false;
    }
    const kln_onnx_tensor *tensor = &t->model->graph.initializers[0];
    if (tensor->dtype == KILN_DTYPE_UNDEFINED || tensor->rank > KILN_MAX_RANK) {
        *why = "a value is of a type that cannot be bound";
        return false;
    }
    t->tensor.desc.dtype = tensor->dtype;
    t->tensor.desc.shape.rank = (int32_t)tensor->rank;
    if (tensor->rank > 0) {
        memcpy(t->tensor.desc.shape.dims, tensor->dims, tensor->rank * sizeof(int64_t));
    }
    /* Strings lie in the model, which stays. */
    const bool is_string = tensor->dtype == KILN_DTYPE_STRING;
    const size_t bytes =
        is_string ? tensor->string_count * sizeof *tensor->strings : tensor->data.size;
    t->aligned = malloc(bytes + 16);
    if (t->aligned == NULL) {
        return false;
    }
    if (bytes > 0) {
        memcpy(t->aligned, is_string ? (const void *)tensor->strings : tensor->data.data, bytes);
    }
    t->tensor.data = t->aligned;
    t->tensor.bytes = bytes;
    return true;
}

/* --- comparing --- */

static double element(const kiln_tensor *t, int64_t i)
{
    switch (t->desc.dtype) {
        case KILN_DTYPE_FLOAT32: return (double)((const float *)t->data)[i];
        case KILN_DTYPE_FLOAT64: return ((const double *)t->data)[i];
        case KILN_DTYPE_FLOAT16: return (double)kln_float_from_half(((const uint16_t *)t->data)[i]);
        case KILN_DTYPE_BFLOAT16:
            return (double)kln_float_from_bfloat16(((const uint16_t *)t->data)[i]);
        case KILN_DTYPE_FLOAT8E4M3:
            return (double)kln_float_from_e4m3(((const uint8_t *)t->data)[i]);
        case KILN_DTYPE_FLOAT8E5M2:
            return (double)kln_float_from_e5m2(((const uint8_t *)t->data)[i]);
        default: return (double)NAN;
    }
}

static bool is_float(kiln_dtype dtype)
{
    return dtype == KILN_DTYPE_FLOAT32 || dtype == KILN_DTYPE_FLOAT64 ||
           dtype == KILN_DTYPE_FLOAT16 || dtype == KILN_DTYPE_BFLOAT16 ||
           dtype == KILN_DTYPE_FLOAT8E4M3 || dtype == KILN_DTYPE_FLOAT8E5M2;
}

static bool same_strings(const kiln_tensor *expected, const kiln_tensor *found, int64_t count,
                         char *why, size_t room)
{
    for (int64_t i = 0; i < count; i++) {
        const kiln_span a = ((const kiln_span *)expected->data)[i];
        const kiln_span b = ((const kiln_span *)found->data)[i];
        if (a.size != b.size || (a.size > 0 && memcmp(a.data, b.data, a.size) != 0)) {
            (void)snprintf(why, room, "string %lld is \"%.*s\", expected \"%.*s\"", (long long)i,
                           (int)b.size, (const char *)b.data, (int)a.size, (const char *)a.data);
            return false;
        }
    }
    return true;
}

static bool same(const kiln_tensor *expected, const kiln_tensor *found, char *why, size_t room)
{
    int64_t count = 0;
    if (expected->desc.dtype != found->desc.dtype ||
        !kiln_shape_equal(&expected->desc.shape, &found->desc.shape)) {
        char a[200];
        char b[200];
        (void)kiln_shape_format(&expected->desc.shape, a, sizeof a);
        (void)kiln_shape_format(&found->desc.shape, b, sizeof b);
        (void)snprintf(why, room, "%s %s is expected, %s %s was found",
                       kiln_dtype_name(expected->desc.dtype), a, kiln_dtype_name(found->desc.dtype),
                       b);
        return false;
    }
    if (kiln_shape_elements(&expected->desc.shape, &count) != KILN_OK) {
        return false;
    }
    if (expected->desc.dtype == KILN_DTYPE_STRING) {
        return same_strings(expected, found, count, why, room);
    }
    if (!is_float(expected->desc.dtype)) {
        size_t bytes = 0;
        if (kiln_tensor_bytes(expected->desc.dtype, &expected->desc.shape, &bytes) != KILN_OK) {
            return false;
        }
        for (size_t i = 0; i < bytes; i++) {
            if (((const uint8_t *)expected->data)[i] != ((const uint8_t *)found->data)[i]) {
                (void)snprintf(why, room, "byte %zu of %zu is %u, expected %u", i, bytes,
                               ((const uint8_t *)found->data)[i],
                               ((const uint8_t *)expected->data)[i]);
                return false;
            }
        }
        return true;
    }
    for (int64_t i = 0; i < count; i++) {
        const double a = element(expected, i);
        const double b = element(found, i);
        const double bound =
            absolute_bound(expected->desc.dtype) + relative_bound(expected->desc.dtype) * fabs(a);
        if (!((isnan(a) && isnan(b)) || a == b || fabs(a - b) <= bound)) {
            (void)snprintf(why, room, "element %lld is %.9g, expected %.9g", (long long)i, b, a);
            return false;
        }
    }
    return true;
}

/* --- one test --- */

static bool check_outputs(kiln_engine *engine, kiln_context *context, const char *folder, char *why,
                          size_t room)
{
    for (size_t i = 0; i < kiln_engine_output_count(engine); i++) {
        char path[8192];
        kiln_binding binding = {.struct_size = sizeof binding};
        protobuf_tensor expected;
        kiln_tensor found;
        const char *reason = "";
        (void)snprintf(path, sizeof path, "%s/output_%zu.pb", folder, i);
        bool good = read_tensor(path, &expected, &reason);
        if (!good) {
            (void)snprintf(why, room, "output %zu: %s", i, reason);
        } else if (kiln_engine_output(engine, i, &binding) != KILN_OK ||
                   kiln_context_tensor(context, binding.name, &found) != KILN_OK) {
            (void)snprintf(why, room, "%s", kiln_error_message());
            good = false;
        } else {
            char detail[512] = "";
            good = same(&expected.tensor, &found, detail, sizeof detail);
            (void)snprintf(why, room, "output %zu: %s", i, detail);
        }
        release_tensor(&expected);
        if (!good) {
            return false;
        }
    }
    return true;
}

static bool run_data(kiln_engine *engine, const char *folder, char *why, size_t room)
{
    kiln_context *context = NULL;
    protobuf_tensor inputs[MOST_TENSORS] = {{0}};
    bool good = kiln_context_create(engine, NULL, &context) == KILN_OK;
    const size_t count = kiln_engine_input_count(engine);
    for (size_t i = 0; good && i < count && i < MOST_TENSORS; i++) {
        char path[8192];
        kiln_binding binding = {.struct_size = sizeof binding};
        const char *reason = "";
        (void)snprintf(path, sizeof path, "%s/input_%zu.pb", folder, i);
        if (!read_tensor(path, &inputs[i], &reason)) {
            (void)snprintf(why, room, "input %zu: %s", i, reason);
            good = false;
        } else if (kiln_engine_input(engine, i, &binding) != KILN_OK ||
                   kiln_context_bind(context, binding.name, &inputs[i].tensor) != KILN_OK) {
            (void)snprintf(why, room, "%s", kiln_error_message());
            good = false;
        }
    }
    /* The second run is without allocation and must give the same. */
    for (int run = 0; good && run < 2; run++) {
        good = kiln_context_run(context) == KILN_OK;
        if (!good) {
            (void)snprintf(why, room, "%s", kiln_error_message());
        } else {
            good = check_outputs(engine, context, folder, why, room);
        }
    }
    kiln_context_destroy(context);
    for (size_t i = 0; i < MOST_TENSORS; i++) {
        release_tensor(&inputs[i]);
    }
    return good;
}

static bool run_test(const char *backend, const char *folder, char *why, size_t room)
{
    char path[4096];
    kiln_engine *engine = NULL;
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = backend);
    (void)snprintf(path, sizeof path, "%s/model.onnx", folder);
    if (kiln_engine_build_file(path, &options, &engine) != KILN_OK) {
        (void)snprintf(why, room, "%s", kiln_error_message());
        return false;
    }
    bool good = true;
    int sets = 0;
    for (int i = 0; good && i < 100; i++) {
        (void)snprintf(path, sizeof path, "%s/test_data_set_%d", folder, i);
        DIR *directory = opendir(path);
        if (directory == NULL) {
            break;
        }
        (void)closedir(directory);
        good = run_data(engine, path, why, room);
        sets++;
    }
    kiln_engine_release(engine);
    if (sets == 0) {
        (void)snprintf(why, room, "there is no data");
    }
    return good && sets > 0;
}

/* --- all tests --- */

static char *read_text(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text = calloc(1, 1 << 20);
    if (file != NULL && text != NULL) {
        const size_t used = fread(text, 1, (1 << 20) - 1, file);
        text[used] = '\0';
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return text;
}

/* The reason that the list (listed.py) gives for a test, up to the end of its line; NULL: none. */
static const char *listed_reason(const char *list, const char *name)
{
    const char *reason = NULL;
    char pattern[256];
    for (const char *line = list; line != NULL && *line != '\0';) {
        const char *end = strstr(line, ": ");
        if (*line != '#' && end != NULL && (size_t)(end - line) < sizeof pattern) {
            (void)snprintf(pattern, sizeof pattern, "%.*s", (int)(end - line), line);
            reason = fnmatch(pattern, name, 0) == 0 ? end + 2 : reason;
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return reason != NULL && strncmp(reason, "right\n", 6) != 0 ? reason : NULL;
}

/* Reasons that lie in a type, which no executor behind kiln_tensor can help. */
static bool is_of_type(const char *reason)
{
    static const char *const beginnings[] = {"a value of a type", "a sequence or optional",
                                             "ONNX type", "the test data stores"};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(beginnings); i++) {
        if (strncmp(reason, beginnings[i], strlen(beginnings[i])) == 0) {
            return true;
        }
    }
    return false;
}

static int only_folders(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

typedef struct tally {
    int passed, failed, surprises;
    int unbindable; /* of those that failed */
} tally;

static void run_folder(const char *backend, const char *list, const char *folder, tally *counts)
{
    struct dirent **names = NULL;
    const int count = scandir(folder, &names, only_folders, alphasort);
    for (int i = 0; i < count; i++) {
        char path[2048];
        char why[2048] = "";
        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        const bool good = run_test(backend, path, why, sizeof why);
        const char *reason = listed_reason(list, names[i]->d_name);
        const bool listed = reason != NULL;
        counts->passed += good;
        counts->failed += !good;
        counts->unbindable += !good && listed && is_of_type(reason);
        if (good == listed) {
            counts->surprises++;
            (void)printf("%s: %s\n", names[i]->d_name,
                         good ? "passes, but is listed as a failure" : why);
        } else if (!good && getenv("NODE_TEST_VERBOSE") != NULL) {
            (void)printf("(listed) %s: %s\n", names[i]->d_name, why);
        }
        free(names[i]);
    }
    free(names);
}

static int print_operators(void)
{
    for (size_t i = 0; i < ref_kernel_count(); i++) {
        const ref_kernel *kernel = ref_kernel_get(i);
        if (kernel->domain[0] == '\0') {
            (void)printf("%s %d\n", kernel->op, kernel->since);
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "operators") == 0) {
        return print_operators();
    }
    if (argc < 4) {
        (void)fprintf(stderr, "usage: node_test BACKEND EXPECTED_FAILURES FOLDER...\n");
        return 2;
    }
    char *list = read_text(argv[2]);
    tally counts = {0};
    for (int i = 3; i < argc; i++) {
        run_folder(argv[1], list, argv[i], &counts);
    }
    (void)printf("%s: %d passed, %d failed, %d of them not as listed\n", argv[1], counts.passed,
                 counts.failed, counts.surprises);
    const int bindable = counts.passed + counts.failed - counts.unbindable;
    const double share = bindable > 0 ? 100.0 * counts.passed / bindable : 0.0;
    const bool judged = strcmp(argv[2], "-") != 0;
    if (judged) {
        (void)printf("%d have values that can be bound; %.1f %% of those pass\n", bindable, share);
    }
    free(list);
    return counts.surprises == 0 && counts.passed > 0 && (!judged || share >= 95.0) ? 0 : 1;
}
