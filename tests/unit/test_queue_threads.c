/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts over an engine on a GPU when memory is short, and several at once. */
#include "mock_gpu_test.h"

static kiln_status whole_life(void *user)
{
    kiln_engine *engine = user;
    owned_context context = NULL;
    float x[8] = {1};
    const kiln_tensor input = floats(x, 8);
    kiln_status status = kiln_context_create(engine, NULL, &context);
    if (status == KILN_OK) {
        status = kiln_context_bind(context, "x", &input);
    }
    for (int i = 0; status == KILN_OK && i < 3; i++) {
        status = kiln_context_run(context);
    }
    /* A capture that finds no memory is a reason, not a failure: ask for it all the same. */
    if (status == KILN_OK && kiln_test_allocation_failed()) {
        status = KILN_ERROR_OUT_OF_MEMORY;
    }
    return status;
}

static kiln_status life_of_all(void *user)
{
    behaviour how = {.drifts = false};
    owned_engine engine = NULL;
    kiln_mock_options options = options_of(&how);
    options.one_stream = true;
    TRY(create_engine(options, &engine));
    return whole_life(engine);
}

FAKE_TEST(every_allocation_may_fail)
{
    assert_ok(kln_cuda_open());
    kiln_test_each_allocation(life_of_all, NULL);
}

typedef struct job {
    kiln_context *context;
    float base;
    int wrong;
    char message[300]; /* of a run that failed */
} job;

static void *work_hard(void *user)
{
    job *mine = user;
    float x[8] = {0};
    float y[8] = {0};
    const kiln_tensor input = floats(x, 8);
    const kiln_tensor output = floats(y, 8);
    mine->wrong += kiln_context_bind(mine->context, "x", &input) != KILN_OK;
    mine->wrong += kiln_context_bind(mine->context, "y", &output) != KILN_OK;
    for (int i = 0; i < 200; i++) {
        x[3] = mine->base + (float)i;
        if (kiln_context_run(mine->context) != KILN_OK) {
            mine->wrong++;
            (void)snprintf(mine->message, sizeof mine->message, "%s", kiln_error_message());
        }
        mine->wrong += !(y[3] == 2 * x[3]);
    }
    return NULL;
}

/* The stream is the engine's, or the caller's, which each context is given. */
FAKE_TEST(contexts_of_one_stream_keep_out_of_each_others_graphs)
{
    for (int is_callers = 0; is_callers < 2; is_callers++) {
        behaviour how = {.drifts = false};
        owned_engine engine = make_engine(&how, !is_callers, 0);
        job jobs[4];
        owned_stream stream = stream_on(0);
        kiln_context_options options = KILN_CONTEXT_OPTIONS(.stream = is_callers ? stream : NULL);
        for (size_t i = 0; i < 4; i++) {
            jobs[i] = (job){.base = (float)(1000 * i)};
            assert_ok(kiln_context_create(engine, &options, &jobs[i].context));
        }
        kiln_test_in_threads(4, work_hard, jobs, sizeof *jobs);
        for (size_t i = 0; i < 4; i++) {
            assert_string_equal(jobs[i].message, "");
            assert_int_equal(jobs[i].wrong, 0);
            assert_int_equal(counters_of(jobs[i].context).graph_hits, 198);
            kiln_context_destroy(jobs[i].context);
        }
    }
}
