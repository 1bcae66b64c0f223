/* SPDX-License-Identifier: Apache-2.0 */
/* kiln_context_run_tensors against ONNX Runtime's Run with a value made for each tensor of each
 * call: inputs, run and outputs in one call, as many inputs as the columns say, in memory that
 * stays or moves and in shapes that stay or change. One process, the same library, one thread each,
 * in alternating blocks.
 *
 *     bench_feeds
 *     bench_feeds kiln|raw same|memory|memories|away|shape|shapes INPUTS RUNS
 *
 * The second form runs one side of one row so many times, for a tool that counts instructions: on a
 * machine that is busy with other things times mean nothing, and the difference between two counts
 * of runs does (bench/feeds_instructions.sh).
 */
#include <kiln/kiln.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_times.h"
#include "raw_ort.h"

#define MOST ((size_t)200)
#define LENGTH ((size_t)16)

#define TURNS ((size_t)16)

static float memory[TURNS][MOST][LENGTH];
static float result[MOST * LENGTH];

typedef enum kind { STAYS, MOVES, MOVES_ON, MOVES_AWAY, CHANGES, CHANGES_ON, KINDS } kind;

static const struct {
    const char *word;
    const char *text;
    size_t turns;
    bool changes;
} kinds[KINDS] = {
    {"same", "the same memory", 1, false}, {"memory", "2 memories", 2, false},
    {"memories", "8 memories", 8, false},  {"away", "16 memories", TURNS, false},
    {"shape", "2 shapes", 2, true},        {"shapes", "8 shapes", 8, true},
};

typedef struct scene {
    kind what;
    size_t count;
    char names[MOST][32];
    kiln_context *context;
    raw_ort *raw;
    kiln_named_tensor inputs[TURNS][MOST]; /* in turns */
    raw_tensor feeds[TURNS][MOST];
} scene;

static int64_t length_of(const scene *s, size_t turn)
{
    return (int64_t)(kinds[s->what].changes ? LENGTH - turn % kinds[s->what].turns : LENGTH);
}

/* y: the inputs, one after the other. */
static void save_model(scene *s, const char *path)
{
    kiln_network *network = NULL;
    kiln_tensor_id ids[MOST];
    kiln_tensor_id y = KILN_NO_TENSOR;
    const kiln_shape shape = KILN_SHAPE(kinds[s->what].changes ? KILN_DYNAMIC : (int64_t)LENGTH);
    bench_require(kiln_network_create(NULL, &network));
    for (size_t i = 0; i < s->count; i++) {
        (void)snprintf(s->names[i], sizeof s->names[i], "input_%zu", i);
        bench_require(kiln_network_add_input(network, s->names[i], KILN_DTYPE_FLOAT32, &shape, NULL,
                                             &ids[i]));
    }
    bench_require(kiln_network_add_concat(network, "y", ids, s->count, 0, &y));
    bench_require(kiln_network_mark_output(network, y));
    bench_require(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
    kiln_network_destroy(network);
}

static void fill(scene *s)
{
    for (size_t turn = 0; turn < kinds[s->what].turns; turn++) {
        const size_t place = kinds[s->what].changes ? 0 : turn;
        const int64_t length = length_of(s, turn);
        const size_t bytes = (size_t)length * sizeof(float);
        for (size_t i = 0; i < s->count; i++) {
            s->inputs[turn][i] = (kiln_named_tensor){
                s->names[i],
                KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(length), memory[place][i], bytes)};
            s->feeds[turn][i] = (raw_tensor){.name = s->names[i],
                                             .data = memory[place][i],
                                             .bytes = bytes,
                                             .dims = {length},
                                             .rank = 1,
                                             .type = RAW_FLOAT32};
        }
    }
}

static void run_kiln(void *user, size_t turn)
{
    const scene *s = user;
    const size_t count = s->count * LENGTH;
    kiln_named_tensor output = {.name = "y"};
    if (!kinds[s->what].changes) {
        output.tensor = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE((int64_t)count), result,
                                         count * sizeof(float));
    }
    bench_require(kiln_context_run_tensors(s->context, s->inputs[turn % kinds[s->what].turns],
                                           s->count, &output, 1));
}

static void run_raw(void *user, size_t turn)
{
    const scene *s = user;
    const size_t count = s->count * LENGTH;
    raw_tensor output = {.name = "y", .type = RAW_FLOAT32};
    if (!kinds[s->what].changes) {
        output.data = result;
        output.bytes = count * sizeof(float);
        output.dims[0] = (int64_t)count;
        output.rank = 1;
    }
    raw_run_feeds(s->raw, s->feeds[turn % kinds[s->what].turns], s->count, &output, 1);
}

static void (*const sides[])(void *, size_t) = {run_kiln, run_raw};

static void compare(scene *s)
{
    double medians[3];
    bench_alternate(sides, s, 100, medians);
    (void)printf("%4zu inputs, %-16s kiln %9.0f ns   raw %9.0f ns   ratio %.2f\n", s->count,
                 kinds[s->what].text, medians[0], medians[1], medians[0] / medians[1]);
}

/* Compares, or where `runs` is not 0 runs `side` alone. */
static void measure(scene *s, kind what, size_t count, size_t side, size_t runs)
{
    static const char path[] = "bench_feeds.onnx";
    kiln_engine *engine = NULL;
    s->what = what;
    s->count = count;
    save_model(s, path);
    fill(s);
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "onnxruntime", .threads = 1);
    bench_require(kiln_engine_build_file(path, &options, &engine));
    bench_require(kiln_context_create(engine, NULL, &s->context));
    raw_load(s->raw, path, NULL, 0);
    for (size_t i = 0; i < runs; i++) {
        sides[side](s, i);
    }
    if (runs == 0) {
        compare(s);
    }
    raw_unload(s->raw);
    kiln_context_destroy(s->context);
    kiln_engine_release(engine);
    (void)remove(path);
}

static int measure_one(scene *s, char **words)
{
    const size_t side = strcmp(words[0], "kiln") == 0 ? 0 : 1;
    const size_t count = strtoul(words[2], NULL, 10);
    for (kind what = STAYS; what < KINDS; what++) {
        if (strcmp(words[1], kinds[what].word) == 0 && count > 0 && count <= MOST) {
            measure(s, what, count, side, strtoul(words[3], NULL, 10));
            return 0;
        }
    }
    (void)fprintf(
        stderr,
        "usage: bench_feeds [kiln|raw same|memory|memories|away|shape|shapes INPUTS RUNS]\n");
    return 2;
}

int main(int argc, char **argv)
{
    static scene s;
    static const size_t counts[] = {1, 10, 100, 200};
    kiln_backend_info info = {.struct_size = sizeof info};
    bench_require(kiln_backend_choose("onnxruntime", &info));
    s.raw = raw_open(info.library);
    if (argc == 5) {
        return measure_one(&s, argv + 1);
    }
    (void)printf("Kiln %s against ONNX Runtime %s, Run, one thread, medians\n",
                 kiln_version_string(), info.version);
    for (kind what = STAYS; what < KINDS; what++) {
        for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
            measure(&s, what, counts[i], 0, 0);
        }
    }
    return 0;
}
