/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens a second of a language model.
 *
 *     bench_stream prepare MODEL.onnx OUT.onnx CANDIDATES [keep] [few|many]
 *     bench_stream run MODEL BATCH LENGTH SEQUENCES TOKENS SPREAD OUT.json [PREFILL]
 *     bench_stream speech ENCODER FIRST CROSS BATCH LENGTH SEQUENCES TOKENS OUT.json
 *
 * The first makes an exported decoder ready for steps (kiln_network_prepare_stream); with `keep`
 * its outputs `present` stay, as one without a mask needs them; with `few` or `many` its products
 * are those of TF32's numbers, for steps or for prompts (kiln_network_split_products). The second
 * loads a plan, or two, or builds an ONNX model for the CPU, and lets SEQUENCES with prompts of 16
 * to 128 tokens (from a seed, as bench/stream_peers.py has them) generate TOKENS each, or from
 * TOKENS / SPREAD to TOKENS where SPREAD is above 1: greedily, once to warm up and then again and
 * again for 5 s at most. It prints JSON, with all tokens in OUT.json; and it compares the last
 * token of each sequence with what a prefill of all before it gives.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kiln/kiln.h>

#include "bench_times.h"

#define SHORTEST 16
#define LONGEST 128
#define MOST 1024
#define MOST_ROUNDS 20
#define ENOUGH UINT64_C(5000000000)

typedef struct workload {
    kiln_generator *generator;
    size_t sequences;
    int64_t tokens, spread, vocabulary;
    int64_t prompts[MOST][LONGEST];
    size_t lengths[MOST];
    int64_t *made[MOST]; /* of the last round */
    size_t made_counts[MOST];
    double first_milliseconds[MOST_ROUNDS], seconds[MOST_ROUNDS];
    uint64_t generated;
    size_t rounds;
    kiln_tensor features; /* of one sequence, without memory; rank 0: none */
    void *memory[MOST];
} workload;

/* The generator of numbers that bench/stream_peers.py has, too. */
static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525U + 1013904223U;
    return *state >> 8;
}

static void make_prompts(workload *work)
{
    uint32_t state = 1;
    for (size_t i = 0; i < work->sequences; i++) {
        work->lengths[i] = SHORTEST + next_random(&state) % (LONGEST - SHORTEST + 1);
        for (size_t k = 0; k < work->lengths[i]; k++) {
            work->prompts[i][k] = next_random(&state) % (uint32_t)work->vocabulary;
        }
    }
}

/* As bench/speech_peers.py makes them. */
static void make_features(workload *work, const kiln_engine *encoder)
{
    kiln_binding binding = {.struct_size = sizeof binding};
    bench_require(kiln_engine_input(encoder, 0, &binding));
    binding.shape.dims[0] = 1;
    size_t bytes = 0;
    int64_t elements = 0;
    bench_require(kiln_tensor_bytes(binding.dtype, &binding.shape, &bytes));
    bench_require(kiln_shape_elements(&binding.shape, &elements));
    work->features = KILN_HOST_TENSOR(binding.dtype, binding.shape, NULL, bytes);
    double *values = bench_allocate((size_t)elements * sizeof *values);
    for (size_t i = 0; i < work->sequences; i++) {
        const int64_t frames = binding.shape.dims[2];
        for (int64_t k = 0; k < elements; k++) {
            const int64_t value =
                (int64_t)i * 131 + k / frames * 31 + k % frames * 17 * (1 + (int64_t)i % 3);
            values[k] = (double)(value % 256) / 128 - 1;
        }
        kiln_tensor tensor = work->features;
        tensor.data = work->memory[i] = bench_allocate(bytes);
        bench_require(kiln_tensor_write(&tensor, 0, (size_t)elements, values));
        work->lengths[i] = 4;
        for (int64_t k = 0; k < 4; k++) {
            work->prompts[i][k] = k + 1;
        }
    }
    free(values);
}

static int64_t wanted(const workload *work, size_t index)
{
    const int64_t least = work->spread > 1 ? work->tokens / work->spread : work->tokens;
    return least + (int64_t)(index * 37 % (size_t)(work->tokens - least + 1));
}

static void run_round(workload *work)
{
    kiln_sequence *sequences[MOST];
    const uint64_t begin = kiln_clock_now();
    uint64_t first = 0;
    size_t active = 0;
    work->generated = 0;
    for (size_t i = 0; i < work->sequences; i++) {
        kiln_named_tensor features = {"input_features", work->features};
        features.tensor.data = work->memory[i];
        const bool speech = work->memory[i] != NULL;
        const kiln_sequence_options how =
            KILN_SEQUENCE_OPTIONS(.max_tokens = wanted(work, i), .input_count = speech ? 1 : 0,
                                  .inputs = speech ? &features : NULL);
        bench_require(kiln_generator_submit(work->generator, work->prompts[i], work->lengths[i],
                                            &how, &sequences[i]));
    }
    do {
        bench_require(kiln_generator_step(work->generator, &active));
        first = first != 0 ? first : kiln_clock_now();
    } while (active != 0);
    const uint64_t end = kiln_clock_now();
    for (size_t i = 0; i < work->sequences; i++) {
        kiln_sequence_result result = {.struct_size = sizeof result};
        bench_require(kiln_sequence_wait(sequences[i], -1));
        bench_require(kiln_sequence_get_result(sequences[i], &result));
        free(work->made[i]);
        work->made[i] = bench_allocate(result.count * sizeof(int64_t));
        memcpy(work->made[i], result.tokens, result.count * sizeof(int64_t));
        work->made_counts[i] = result.count;
        work->generated += result.count;
        kiln_sequence_release(sequences[i]);
    }
    work->first_milliseconds[work->rounds] = (double)(first - begin) / 1e6;
    work->seconds[work->rounds++] = (double)(end - begin) / 1e9;
}

/* How many of the last tokens a prefill of all before gives, too. */
static size_t recompute(workload *work)
{
    kiln_sequence *sequences[MOST];
    size_t equal = 0;
    for (size_t i = 0; i < work->sequences; i++) {
        int64_t all[LONGEST + MOST];
        const size_t made = work->made_counts[i] - 1;
        const size_t room = LONGEST - work->lengths[i];
        const size_t used = made < room ? made : room; /* as long as the longest prompt */
        const kiln_sequence_options how = KILN_SEQUENCE_OPTIONS(.max_tokens = 1);
        memcpy(all, work->prompts[i], work->lengths[i] * sizeof *all);
        memcpy(all + work->lengths[i], work->made[i], used * sizeof *all);
        bench_require(kiln_generator_submit(work->generator, all, work->lengths[i] + used, &how,
                                            &sequences[i]));
    }
    for (size_t i = 0; i < work->sequences; i++) {
        kiln_sequence_result result = {.struct_size = sizeof result};
        const size_t made = work->made_counts[i] - 1;
        const size_t room = LONGEST - work->lengths[i];
        bench_require(kiln_sequence_wait(sequences[i], -1));
        bench_require(kiln_sequence_get_result(sequences[i], &result));
        equal += result.tokens[0] == work->made[i][made < room ? made : room];
        kiln_sequence_release(sequences[i]);
    }
    return equal;
}

static void write_tokens(const workload *work, const char *path)
{
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    (void)fprintf(file, "[");
    for (size_t i = 0; i < work->sequences; i++) {
        (void)fprintf(file, "%s[", i == 0 ? "" : ",\n");
        for (size_t k = 0; k < work->made_counts[i]; k++) {
            (void)fprintf(file, "%s%lld", k == 0 ? "" : ",", (long long)work->made[i][k]);
        }
        (void)fprintf(file, "]");
    }
    (void)fprintf(file, "]\n");
    (void)fclose(file);
}

static size_t free_bytes(const kiln_engine *engine)
{
    size_t left = 0;
    size_t total = 0;
    const int32_t device = kiln_engine_device(engine);
    return device >= 0 && kiln_device_memory(device, &left, &total) == KILN_OK ? left : 0;
}

static void report(workload *work, const kiln_engine *engine, size_t before)
{
    kiln_generator_counters all = {.struct_size = sizeof all};
    kiln_generator_info info = {.struct_size = sizeof info};
    const size_t after = free_bytes(engine);
    const double first = bench_median(work->first_milliseconds + 1, work->rounds - 1);
    const double seconds = bench_median(work->seconds + 1, work->rounds - 1);
    bench_require(kiln_generator_get_counters(work->generator, &all));
    bench_require(kiln_generator_get_info(work->generator, &info));
    const double steps = (double)(all.steps + all.prefills);
    (void)printf(
        "{\"layout\": %d, \"rounds\": %zu, \"sequences\": %zu, \"tokens\": %llu, "
        "\"seconds\": %.4f, \"tokens_per_second\": %.0f, \"first_step_ms\": %.2f, "
        "\"run_us_per_step\": %.1f, \"sample_us_per_step\": %.1f, \"moved_mb\": %.1f, "
        "\"cache_mb\": %.1f, \"rows_per_step\": %.1f, \"padding_per_step\": %.1f, "
        "\"gpu_mb_grown\": %.1f",
        (int)info.layout, work->rounds - 1, work->sequences, (unsigned long long)work->generated,
        seconds, (double)work->generated / seconds, first,
        (double)all.run_nanoseconds / 1e3 / steps, (double)all.sample_nanoseconds / 1e3 / steps,
        (double)all.moved_bytes / 1e6, (double)all.cache_bytes / 1e6,
        (double)all.rows / (double)all.steps, (double)all.padding / (double)all.steps,
        before > after ? (double)(before - after) / 1e6 : 0);
}

static kiln_engine *open_engine(const char *path)
{
    kiln_engine *engine = NULL;
    const char *end = strrchr(path, '.');
    const bool plan = end == NULL || strcmp(end, ".onnx") != 0;
    bench_require(plan ? kiln_engine_load(path, NULL, &engine)
                       : kiln_engine_build_file(path, NULL, &engine));
    return engine;
}

/* BATCH LENGTH SEQUENCES TOKENS, over an engine, with these others. */
static void begin(workload *work, kiln_engine *engine, char **arguments,
                  kiln_generator_options options)
{
    kiln_generator_info info = {.struct_size = sizeof info};
    options.max_batch = strtoll(arguments[0], NULL, 10);
    options.max_length = strtoll(arguments[1], NULL, 10);
    work->sequences = (size_t)strtoull(arguments[2], NULL, 10);
    work->tokens = strtoll(arguments[3], NULL, 10);
    if (work->sequences == 0 || work->sequences > MOST || work->tokens < 1 || work->tokens > MOST) {
        (void)fprintf(stderr, "bench_stream: 1 to %d sequences and tokens\n", MOST);
        exit(2);
    }
    bench_require(kiln_generator_create(engine, &options, &work->generator));
    bench_require(kiln_generator_get_info(work->generator, &info));
    work->vocabulary = info.vocabulary;
}

static void measure(workload *work, const kiln_engine *engine, const char *path)
{
    run_round(work);
    run_round(work);
    const size_t before = free_bytes(engine);
    const uint64_t start = kiln_clock_now();
    do {
        run_round(work);
    } while (work->rounds < MOST_ROUNDS && kiln_clock_now() - start < ENOUGH);
    report(work, engine, before);
    write_tokens(work, path);
}

static int run(char **arguments, const char *prefill)
{
    static workload work;
    kiln_engine *engine = open_engine(arguments[0]);
    kiln_engine *first = prefill != NULL ? open_engine(prefill) : NULL;
    begin(&work, engine, arguments + 1, KILN_GENERATOR_OPTIONS(.prefill = first));
    work.spread = strtoll(arguments[5], NULL, 10);
    make_prompts(&work);
    measure(&work, engine, arguments[6]);
    (void)printf(", \"recomputed_equal\": %zu}\n", recompute(&work));
    kiln_generator_destroy(work.generator);
    kiln_engine_release(first);
    kiln_engine_release(engine);
    return 0;
}

static int run_speech(char **arguments)
{
    static workload work;
    kiln_engine *encoder = open_engine(arguments[0]);
    kiln_engine *first = open_engine(arguments[1]);
    kiln_engine *cross = open_engine(arguments[2]);
    begin(&work, cross, arguments + 3,
          KILN_GENERATOR_OPTIONS(.encoder = encoder, .prefill = first));
    make_features(&work, encoder);
    measure(&work, cross, arguments[7]);
    (void)printf("}\n");
    kiln_generator_destroy(work.generator);
    kiln_engine_release(cross);
    kiln_engine_release(first);
    kiln_engine_release(encoder);
    return 0;
}

/* IN OUT CANDIDATES, and words. */
static int prepare(char **arguments, int count)
{
    kiln_network *network = NULL;
    bool keeps = false;
    bool few = false;
    bool many = false;
    for (int i = 3; i < count; i++) {
        keeps |= strcmp(arguments[i], "keep") == 0;
        few |= strcmp(arguments[i], "few") == 0;
        many |= strcmp(arguments[i], "many") == 0;
    }
    const kiln_stream_network_options options =
        KILN_STREAM_NETWORK_OPTIONS(.candidates = (int32_t)strtol(arguments[2], NULL, 10),
                                    .keep_present = keeps);
    bench_require(kiln_network_from_onnx(arguments[0], &network));
    bench_require(kiln_network_prepare_stream(network, &options));
    if (few || many) {
        bench_require(kiln_network_split_products(network, few, NULL));
    }
    bench_require(kiln_network_save_onnx(network, arguments[1], KILN_WEIGHTS_EXTERNAL));
    kiln_network_destroy(network);
    return 0;
}

int main(int count, char **arguments)
{
    if (count >= 5 && count <= 7 && strcmp(arguments[1], "prepare") == 0) {
        return prepare(arguments + 2, count - 2);
    }
    if ((count == 9 || count == 10) && strcmp(arguments[1], "run") == 0) {
        return run(arguments + 2, count == 10 ? arguments[9] : NULL);
    }
    if (count == 10 && strcmp(arguments[1], "speech") == 0) {
        return run_speech(arguments + 2);
    }
    (void)fprintf(stderr,
                  "usage: bench_stream prepare MODEL.onnx OUT.onnx CANDIDATES [keep] [few|many]\n"
                  "       bench_stream speech ENCODER FIRST CROSS BATCH LENGTH SEQUENCES TOKENS "
                  "OUT.json\n"
                  "       bench_stream run MODEL BATCH LENGTH SEQUENCES TOKENS SPREAD OUT.json "
                  "[PREFILL]\n");
    return 2;
}
