/* SPDX-License-Identifier: Apache-2.0 */
/* Many threads, one engine: a scheduler joins what they ask into batches.
 *
 *     06_scheduler [MODEL [REQUESTS]]
 *
 * The lesson: each of eight threads calls kiln_scheduler_run as if the engine were its own, and
 * the scheduler runs what came meanwhile as one batch. The answers are those that a context of
 * one's own gives one after the other: the program ends with 1 if they are not. MODEL is Google's
 * magika, from lesson 1, or another with one input of int32, the batch first, and one output of
 * floats. */
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <kiln/kiln.h>

enum { THREADS = 8, FEATURES = 2048, MOST_LABELS = 1024 };

typedef struct lesson {
    kiln_engine *engine;
    kiln_scheduler *scheduler;
    const char *input;
    const char *output;
    int64_t labels;
    unsigned requests; /* of each thread */
    float *direct;     /* what a context answered, labels of each request of each thread */
} lesson;

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, kiln_error_message());
    return 1;
}

/* Numbers that stand for the bytes of a file, others for each request. */
static kiln_named_tensor make_input(const lesson *self, unsigned number, int32_t *features)
{
    for (unsigned i = 0; i < FEATURES; i++) {
        features[i] = (int32_t)((i * 31 + number * 17) % 256);
    }
    return (kiln_named_tensor){self->input,
                               KILN_HOST_TENSOR(KILN_DTYPE_INT32, KILN_SHAPE(1, FEATURES), features,
                                                FEATURES * sizeof *features)};
}

static kiln_named_tensor make_output(const lesson *self, float *scores)
{
    return (kiln_named_tensor){
        self->output, KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1, self->labels), scores,
                                       (size_t)self->labels * sizeof *scores)};
}

/* One after the other, on a context of one's own. */
static int run_directly(const lesson *self)
{
    kiln_context *context = NULL;
    if (kiln_context_create(self->engine, NULL, &context) != KILN_OK) {
        return fail("a context");
    }
    int failed = 0;
    for (unsigned i = 0; i < THREADS * self->requests && !failed; i++) {
        int32_t features[FEATURES];
        const kiln_named_tensor input = make_input(self, i, features);
        kiln_named_tensor output = make_output(self, self->direct + i * (size_t)self->labels);
        failed = kiln_context_run_tensors(context, &input, 1, &output, 1) != KILN_OK;
    }
    failed = failed ? fail("a run") : 0;
    kiln_context_destroy(context);
    return failed;
}

typedef struct client {
    const lesson *self;
    unsigned first; /* of its requests */
    int failed;
} client;

static void *ask(void *user)
{
    client *caller = user;
    const lesson *self = caller->self;
    for (unsigned i = 0; i < self->requests && !caller->failed; i++) {
        int32_t features[FEATURES];
        float scores[MOST_LABELS];
        const kiln_named_tensor input = make_input(self, caller->first + i, features);
        const kiln_named_tensor output = make_output(self, scores);
        const float *direct = self->direct + (caller->first + i) * (size_t)self->labels;
        if (kiln_scheduler_run(self->scheduler, &input, 1, &output, 1, NULL) != KILN_OK) {
            caller->failed = fail("a request");
        }
        for (int64_t k = 0; k < self->labels && !caller->failed; k++) {
            caller->failed = fabsf(scores[k] - direct[k]) > 1e-5F;
        }
    }
    return NULL;
}

static int run_on_threads(const lesson *self)
{
    client clients[THREADS];
    pthread_t threads[THREADS];
    unsigned started = 0;
    int failed = 0;
    for (; started < THREADS; started++) {
        clients[started] = (client){self, started * self->requests, 0};
        if (pthread_create(&threads[started], NULL, ask, &clients[started]) != 0) {
            failed = 1;
            break;
        }
    }
    for (unsigned i = 0; i < started; i++) {
        (void)pthread_join(threads[i], NULL);
        failed = failed || clients[i].failed;
    }
    return failed;
}

static int run_scheduled(lesson *self)
{
    kiln_scheduler_counters counted = {.struct_size = sizeof counted};
    kiln_scheduler_options options =
        KILN_SCHEDULER_OPTIONS(.schedule = KILN_SCHEDULE_THROUGHPUT, .max_batch = THREADS,
                               .delay_nanoseconds = 2000000);
    if (kiln_scheduler_create(&self->engine, 1, &options, &self->scheduler) != KILN_OK) {
        return fail("a scheduler");
    }
    int failed = run_on_threads(self);
    if (kiln_scheduler_get_counters(self->scheduler, &counted) != KILN_OK) {
        failed = fail("its counters");
    }
    printf("%llu requests of %d threads in %llu batches\n", (unsigned long long)counted.done,
           THREADS, (unsigned long long)counted.batches);
    kiln_scheduler_destroy(self->scheduler);
    return failed;
}

int main(int count, char **arguments)
{
    const char *path = count > 1 ? arguments[1] : KILN_MODELS_DIR "/magika/model.onnx";
    lesson self = {.requests = count > 2 ? (unsigned)strtoul(arguments[2], NULL, 10) : 20};
    kiln_binding input = {.struct_size = sizeof input};
    kiln_binding output = {.struct_size = sizeof output};
    /* TensorRT, where it is, wants to know how large a batch gets. */
    const kiln_profile_input range = {.name = "bytes",
                                      .min = KILN_SHAPE(1, FEATURES),
                                      .opt = KILN_SHAPE(THREADS, FEATURES),
                                      .max = KILN_SHAPE(THREADS, FEATURES)};
    const kiln_profile profile = {.inputs = &range, .input_count = 1};
    const kiln_build_options options =
        KILN_BUILD_OPTIONS(.profiles = &profile, .profile_count = count > 1 ? 0 : 1);
    if (kiln_engine_load(path, &options, &self.engine) != KILN_OK ||
        kiln_engine_input(self.engine, 0, &input) != KILN_OK ||
        kiln_engine_output(self.engine, 0, &output) != KILN_OK) {
        return fail(path);
    }
    self.input = input.name;
    self.output = output.name;
    self.labels = output.shape.dims[1];
    if (self.labels < 1 || self.labels > MOST_LABELS) {
        fprintf(stderr, "%s has %lld labels, 1 to %d are possible here\n", path,
                (long long)self.labels, MOST_LABELS);
        return 1;
    }
    self.direct = calloc((size_t)self.labels * THREADS * self.requests, sizeof *self.direct);
    int failed = self.direct == NULL || run_directly(&self) || run_scheduled(&self);
    printf("the results are %s\n", failed ? "not the same" : "the same");
    free(self.direct);
    kiln_engine_release(self.engine);
    return failed;
}
