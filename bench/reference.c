/* SPDX-License-Identifier: Apache-2.0 */
/* The reference executor against ONNX Runtime with one thread, in processor time:
 *
 *     bench_reference [--range LEAST GREATEST] MODEL[@SHAPE]...
 *
 * Numbers are from -1 to 1 where no range is given.
 * With --bits as its first argument it runs the reference executor alone and prints a hash of every
 * output's bytes: two builds of the library that print the same compute the same, to the bit.
 *
 *     bench_reference --bits MODEL[@SHAPE]... > now
 *     LD_LIBRARY_PATH=other/build bench_reference --bits MODEL[@SHAPE]... | diff - now
 *
 * What a loop over COUNT doubles takes that calls a function of the C library for each:
 *
 *     bench_reference [--range LEAST GREATEST] --library FUNCTION COUNT
 */
#include <inttypes.h>
#include <kiln/kiln.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_times.h"

static uint64_t random_state;

static uint64_t draw(void)
{
    return bench_random(&random_state) >> 33;
}

static double least = -1.0;
static double greatest = 1.0;

/* Numbers from least to greatest, small whole ones; where `strange`, zeros of either sign and
 * infinities. */
static void fill(const kiln_tensor *tensor, bool strange)
{
    int64_t count = 0;
    if (kiln_shape_elements(&tensor->desc.shape, &count) != KILN_OK) {
        return;
    }
    const bool is_float =
        tensor->desc.dtype == KILN_DTYPE_FLOAT32 || tensor->desc.dtype == KILN_DTYPE_FLOAT64 ||
        tensor->desc.dtype == KILN_DTYPE_FLOAT16 || tensor->desc.dtype == KILN_DTYPE_BFLOAT16;
    for (int64_t i = 0; i < count; i++) {
        double value = least + (greatest - least) * ((double)draw() / 2147483648.0);
        if (!is_float) {
            value = tensor->desc.dtype == KILN_DTYPE_BOOL ? (double)(draw() % 2)
                                                          : (double)(draw() % 100);
        } else if (strange && draw() % 97 == 0) {
            value = draw() % 8 == 0 ? (double)INFINITY : -0.0;
        }
        if (kiln_tensor_write(tensor, i, 1, &value) != KILN_OK) {
            return;
        }
    }
}

/* Dynamic dimensions are 2 where no shape is given. False where an input cannot be fed. */
static bool feed(kiln_engine *engine, kiln_context *context, const char *shape, bool strange)
{
    random_state = 1;
    for (size_t i = 0; i < kiln_engine_input_count(engine); i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        kiln_tensor tensor;
        if (kiln_engine_input(engine, i, &binding) != KILN_OK || binding.shape.rank < 0 ||
            (shape != NULL && kiln_shape_parse(shape, &binding.shape) != KILN_OK)) {
            return false;
        }
        for (int32_t k = 0; k < binding.shape.rank; k++) {
            binding.shape.dims[k] = binding.shape.dims[k] < 0 ? 2 : binding.shape.dims[k];
        }
        if (kiln_context_reshape(context, binding.name, &binding.shape) != KILN_OK ||
            kiln_context_tensor(context, binding.name, &tensor) != KILN_OK) {
            return false;
        }
        fill(&tensor, strange);
    }
    return true;
}

static bool open_model(const char *path, const char *backend, kiln_engine **engine,
                       kiln_context **context)
{
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = backend, .threads = 1);
    *context = NULL;
    return kiln_engine_build_file(path, &options, engine) == KILN_OK &&
           kiln_context_create(*engine, NULL, context) == KILN_OK;
}

/* The fastest of some runs, in seconds; 0 where it does not run. */
static double time_of(const char *path, const char *shape, const char *backend)
{
    kiln_engine *engine = NULL;
    kiln_context *context = NULL;
    double best = 0;
    if (open_model(path, backend, &engine, &context) && feed(engine, context, shape, false)) {
        double total = 0;
        for (int run = 0; run < 200 && (total < 1 || run < 3); run++) {
            const double begin = bench_processor(CLOCK_THREAD_CPUTIME_ID);
            if (kiln_context_run(context) != KILN_OK) {
                best = 0;
                break;
            }
            const double took = (bench_processor(CLOCK_THREAD_CPUTIME_ID) - begin) / 1e9;
            total += took;
            best = run == 0 || took < best ? took : best;
        }
    }
    if (!(best > 0)) {
        (void)fprintf(stderr, "%s on %s: %s\n", path, backend, kiln_error_message());
    }
    kiln_context_destroy(context);
    kiln_engine_release(engine);
    return best;
}

static void print_hash(kiln_context *context, const char *name)
{
    kiln_tensor tensor;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    if (kiln_context_tensor(context, name, &tensor) != KILN_OK) {
        (void)printf(" ?");
        return;
    }
    for (size_t i = 0; i < tensor.bytes; i++) {
        hash = (hash ^ ((const unsigned char *)tensor.data)[i]) * UINT64_C(0x100000001b3);
    }
    (void)printf(" %016" PRIx64, hash);
}

static void print_bits(const char *path, const char *shape, bool strange)
{
    kiln_engine *engine = NULL;
    kiln_context *context = NULL;
    (void)printf("%s%s", path, strange ? " strange" : "");
    if (!open_model(path, "reference", &engine, &context) ||
        !feed(engine, context, shape, strange)) {
        (void)printf(" unfed");
    } else if (kiln_context_run(context) != KILN_OK) {
        (void)printf(" failed");
    } else {
        for (size_t i = 0; i < kiln_engine_output_count(engine); i++) {
            kiln_binding binding = {.struct_size = sizeof binding};
            if (kiln_engine_output(engine, i, &binding) == KILN_OK) {
                print_hash(context, binding.name);
            }
        }
    }
    (void)printf("\n");
    kiln_context_destroy(context);
    kiln_engine_release(engine);
}

/* The fastest of some runs, in milliseconds; NaN where the function is not known here. */
static double library_time(const char *name, size_t count)
{
    static const struct {
        const char *name;
        double (*function)(double);
    } functions[] = {{"asin", asin}, {"acos", acos},   {"atan", atan},   {"sinh", sinh},
                     {"cosh", cosh}, {"tanh", tanh},   {"asinh", asinh}, {"acosh", acosh},
                     {"sin", sin},   {"atanh", atanh}, {"cos", cos},     {"tan", tan},
                     {"exp", exp},   {"expm1", expm1}, {"log", log}};
    double (*function)(double) = NULL;
    double best = (double)NAN;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        function = strcmp(functions[i].name, name) == 0 ? functions[i].function : function;
    }
    double *x = bench_allocate(count * sizeof *x);
    double *y = bench_allocate(count * sizeof *y);
    random_state = 1;
    for (size_t i = 0; i < count; i++) {
        x[i] = least + (greatest - least) * ((double)draw() / 2147483648.0);
    }
    for (int run = 0; function != NULL && run < 50; run++) {
        const double begin = bench_processor(CLOCK_THREAD_CPUTIME_ID);
        for (size_t i = 0; i < count; i++) {
            y[i] = function(x[i]);
        }
        const double took = (bench_processor(CLOCK_THREAD_CPUTIME_ID) - begin) / 1e6;
        best = run == 0 || took < best ? took : best;
    }
    free(x);
    free(y);
    return best;
}

int main(int count, char **arguments)
{
    const bool bits = count > 1 && strcmp(arguments[1], "--bits") == 0;
    const bool ranged = count > 3 && strcmp(arguments[1], "--range") == 0;
    if (ranged) {
        least = strtod(arguments[2], NULL);
        greatest = strtod(arguments[3], NULL);
    }
    const int first = ranged ? 4 : bits ? 2 : 1;
    if (count > first + 2 && strcmp(arguments[first], "--library") == 0) {
        (void)printf("%.3f\n", library_time(arguments[first + 1],
                                            (size_t)strtoull(arguments[first + 2], NULL, 10)));
        return 0;
    }
    for (int i = first; i < count; i++) {
        char *shape = strchr(arguments[i], '@');
        if (shape != NULL) {
            *shape++ = '\0';
        }
        if (bits) {
            print_bits(arguments[i], shape, false);
            print_bits(arguments[i], shape, true);
            continue;
        }
        const double reference = time_of(arguments[i], shape, "reference");
        const double peer = time_of(arguments[i], shape, "onnxruntime");
        if (reference > 0) {
            const char *name = strrchr(arguments[i], '/');
            (void)printf("%-28s reference %9.3f ms   onnxruntime %9.3f ms   ratio %5.1f\n",
                         name != NULL ? name + 1 : arguments[i], reference * 1e3,
                         peer > 0 ? peer * 1e3 : (double)NAN,
                         peer > 0 ? reference / peer : (double)NAN);
        }
    }
    return 0;
}
