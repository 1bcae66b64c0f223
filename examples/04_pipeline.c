/* SPDX-License-Identifier: Apache-2.0 */
/* Many batches through a pipeline, compared with one after the other.
 *
 *     04_pipeline [MODEL [BATCHES]]
 *
 * The lesson: kiln_pipeline_push hands a batch over and returns; kiln_pipeline_pop brings the
 * oldest result. On a GPU batch n + 1 travels there while batch n is computed. On the CPU both
 * ways take the same time, and the results are the same everywhere: the program ends with 1 if
 * they are not. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <kiln/kiln.h>

#define INPUTS 8
#define WARMUP 8 /* runs that are not timed: each of two contexts captures its CUDA graph */

/* One batch after the other has these inputs; only the numbers change. */
typedef struct batch {
    kiln_named_tensor inputs[INPUTS];
    size_t count;
} batch;

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, kiln_error_message());
    return 1;
}

static double now(void)
{
    return (double)kiln_clock_now() / 1e9;
}

static void free_batch(const batch *made)
{
    for (size_t i = 0; i < made->count; i++) {
        free(made->inputs[i].tensor.data);
    }
}

/* Memory for each input; a dynamic dimension is taken as 1. */
static int make_batch(const kiln_engine *engine, batch *made)
{
    made->count = kiln_engine_input_count(engine);
    if (made->count > INPUTS) {
        fprintf(stderr, "the model has %zu inputs, %d are possible here\n", made->count, INPUTS);
        made->count = 0;
        return 1;
    }
    for (size_t i = 0; i < made->count; i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        size_t bytes = 0;
        if (kiln_engine_input(engine, i, &binding) != KILN_OK) {
            return fail("the model's inputs");
        }
        for (int32_t d = 0; d < binding.shape.rank; d++) {
            binding.shape.dims[d] = binding.shape.dims[d] < 0 ? 1 : binding.shape.dims[d];
        }
        if (kiln_tensor_bytes(binding.dtype, &binding.shape, &bytes) != KILN_OK) {
            return fail(binding.name);
        }
        void *memory = calloc(1, bytes + 1);
        if (memory == NULL) {
            fprintf(stderr, "%zu bytes of memory are missing for input \"%s\"\n", bytes,
                    binding.name);
            return 1;
        }
        made->inputs[i].name = binding.name;
        made->inputs[i].tensor = KILN_HOST_TENSOR(binding.dtype, binding.shape, memory, bytes);
    }
    return 0;
}

/* Small numbers that every type takes, others for each batch. */
static void fill(const batch *made, size_t number)
{
    for (size_t i = 0; i < made->count; i++) {
        const kiln_tensor *tensor = &made->inputs[i].tensor;
        const size_t step = kiln_dtype_bits(tensor->desc.dtype) / 8;
        for (size_t at = 0; step != 0 && at + step <= tensor->bytes; at += step) {
            const size_t value = (at / step * 7 + number * 13) % 100;
            const float real = (float)value / 100;
            unsigned char *place = (unsigned char *)tensor->data + at;
            if (tensor->desc.dtype == KILN_DTYPE_FLOAT32) {
                memcpy(place, &real, sizeof real);
            } else {
                place[0] = (unsigned char)(value % 2);
            }
        }
    }
}

/* A number that stands for the bytes of a result. */
static uint64_t sum(const kiln_tensor *tensor)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    size_t bytes = 0;
    if (kiln_tensor_bytes(tensor->desc.dtype, &tensor->desc.shape, &bytes) == KILN_OK) {
        for (size_t i = 0; i < bytes; i++) {
            hash = (hash ^ ((const unsigned char *)tensor->data)[i]) * UINT64_C(0x100000001b3);
        }
    }
    return hash;
}

/* One batch after the other; returns the seconds, or less than 0. */
static double run_serially(kiln_engine *engine, const batch *made, kiln_named_tensor *output,
                           uint64_t *sums, size_t batches)
{
    kiln_context *context = NULL;
    double begin = 0;
    if (kiln_context_create(engine, NULL, &context) != KILN_OK) {
        return -1;
    }
    for (size_t n = 0; n < batches + WARMUP; n++) {
        begin = n == WARMUP ? now() : begin;
        fill(made, n);
        output->tensor.data = NULL;
        if (kiln_context_run_tensors(context, made->inputs, made->count, output, 1) != KILN_OK) {
            return -1;
        }
        sums[n] = sum(&output->tensor);
    }
    const double seconds = now() - begin;
    kiln_context_destroy(context);
    return seconds;
}

/* The same with two runs under way. */
static double run_pipelined(kiln_engine *engine, const batch *made, kiln_named_tensor *output,
                            uint64_t *sums, size_t batches)
{
    kiln_pipeline *pipeline = NULL;
    double begin = 0;
    if (kiln_pipeline_create(engine, NULL, &pipeline) != KILN_OK) {
        return -1;
    }
    for (size_t n = 0; n < batches + WARMUP + 1; n++) {
        begin = n == WARMUP ? now() : begin;
        if (n < batches + WARMUP) {
            fill(made, n); /* copied by the push: it may be written again at once */
            if (kiln_pipeline_push(pipeline, made->inputs, made->count) != KILN_OK) {
                return -1;
            }
        }
        if (n > 0) {
            output->tensor.data = NULL;
            if (kiln_pipeline_pop(pipeline, output, 1) != KILN_OK) {
                return -1;
            }
            sums[n - 1] = sum(&output->tensor);
        }
    }
    const double seconds = now() - begin;
    kiln_pipeline_destroy(pipeline);
    return seconds;
}

int main(int count, char **arguments)
{
    const char *path = count > 1 ? arguments[1] : KILN_MODELS_DIR "/magika/model.onnx";
    const size_t batches = count > 2 ? strtoul(arguments[2], NULL, 10) : 40;
    kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
    kiln_backend_info info = {.struct_size = sizeof info};
    const kiln_shape_hint hint = {"bytes", KILN_SHAPE(1, 2048)}; /* magika's input, for TensorRT */
    kiln_engine *engine = NULL;
    kiln_binding binding = {.struct_size = sizeof binding};
    batch made = {.count = 0};
    uint64_t *sums = calloc(2 * (batches + WARMUP), sizeof *sums);
    if (kiln_device_count() > 0 && kiln_backend_choose(NULL, &info) == KILN_OK &&
        strcmp(info.name, "onnxruntime") == 0) {
        options.provider = KILN_PROVIDER_CUDA; /* TensorRT needs no word */
    }
    if (count <= 1) {
        options.shape_hints = &hint;
        options.shape_hint_count = 1;
    }
    if (sums == NULL) {
        fprintf(stderr, "no memory for %zu batches\n", batches);
        return 1;
    }
    if (kiln_engine_load(path, &options, &engine) != KILN_OK) {
        free(sums);
        return fail(path);
    }
    if (make_batch(engine, &made) != 0 || kiln_engine_output(engine, 0, &binding) != KILN_OK) {
        free_batch(&made);
        free(sums);
        return fail(path);
    }
    kiln_named_tensor output = {.name = binding.name};
    const double serial = run_serially(engine, &made, &output, sums, batches);
    const double piped =
        serial < 0 ? -1 : run_pipelined(engine, &made, &output, sums + batches + WARMUP, batches);
    if (piped < 0) {
        free_batch(&made);
        free(sums);
        return fail("running");
    }
    const int same = memcmp(sums, sums + batches + WARMUP, (batches + WARMUP) * sizeof *sums) == 0;
    printf("%s, %s\n", path, kiln_engine_device(engine) < 0 ? "on the CPU" : "on a GPU");
    printf("one after the other  %8.3f ms a batch\n", serial / (double)batches * 1e3);
    printf("two under way        %8.3f ms a batch\n", piped / (double)batches * 1e3);
    printf("the results are %s\n", same ? "the same" : "not the same");
    free_batch(&made);
    free(sums);
    kiln_engine_release(engine);
    return same ? 0 : 1;
}
