/* SPDX-License-Identifier: Apache-2.0 */
/* Large rows of a batch go to a GPU one by one, from wherever requests have them. */
#include "scheduler_rows_test.h"

static void share_batches(bool one_stream, kiln_context_options context)
{
    static const struct {
        kiln_location places[CALLERS];
        int64_t counts[CALLERS];
        bool by_host; /* some go by way of the host's pinned memory */
    } cases[] = {
        {{KILN_LOCATION_PINNED, KILN_LOCATION_PINNED, KILN_LOCATION_PINNED, KILN_LOCATION_PINNED},
         {2, 2, 3, 1},
         false},
        {{KILN_LOCATION_PINNED, KILN_LOCATION_PINNED, KILN_LOCATION_PINNED, KILN_LOCATION_PINNED},
         {1, 1, 1, 2}, /* filled up with zeros */
         false},
        {{KILN_LOCATION_HOST, KILN_LOCATION_PINNED, KILN_LOCATION_MANAGED, KILN_LOCATION_HOST},
         {2, 2, 1, 1},
         true},
        {{KILN_LOCATION_PINNED, KILN_LOCATION_HOST, KILN_LOCATION_PINNED, KILN_LOCATION_PINNED},
         {1, 5, 1, 1}, /* one is joined in several parts */
         true},
    };
    for (size_t c = 0; c < KLN_ARRAY_LENGTH(cases); c++) {
        behaviour how = {.drifts = false};
        owned_engine engine = NULL;
        kiln_scheduler_options options = GATHERS;
        options.context = &context;
        all_on_one_stream = one_stream;
        owned_scheduler scheduler = open_rows(&how, options, &engine);
        all_on_one_stream = false;
        rows all[CALLERS];
        for (size_t i = 0; i < CALLERS; i++) {
            make_rows(&all[i], cases[c].places[i], cases[c].counts[i], (float)i);
        }
        for (int round = 0; round < 4; round++) {
            run_together(scheduler, all, CALLERS, KILN_OK);
            for (size_t i = 0; i < CALLERS; i++) {
                check_rows(&all[i]);
                memset(all[i].y.tensor.data, 0, all[i].y.tensor.bytes);
            }
        }
        assert_int_equal(count_runs(scheduler).graphs, context.graphs != KILN_GRAPH_OFF);
        assert_non_null(scheduler->pool->seats[0]->rows[0]);
        assert_int_equal(scheduler->pool->seats[0]->inputs[0] != NULL, cases[c].by_host);
        for (size_t i = 0; i < CALLERS; i++) {
            free_rows(&all[i]);
        }
    }
}

FAKE_TEST(rows_of_all_kinds_of_memory_share_a_batch)
{
    const unsigned long before = calls("cuMemcpyBatchAsync");
    share_batches(false, KILN_CONTEXT_OPTIONS_INIT);
    assert_true(calls("cuMemcpyBatchAsync") >= before + 16);
}

/* Wherever a context's work goes, its rows come before it. */
FAKE_TEST(rows_go_where_the_work_goes)
{
    share_batches(true, KILN_CONTEXT_OPTIONS_INIT);
    share_batches(false, KILN_CONTEXT_OPTIONS(.overlap_copies = true));
    share_batches(false, KILN_CONTEXT_OPTIONS(.graphs = KILN_GRAPH_OFF));
}

FAKE_TEST(a_driver_that_knows_no_batches_of_copies_does_each)
{
    const unsigned long before = calls("cuMemcpyBatchAsync");
    kln_cuda_close();
    set("KILN_CUDA_DRIVER", FAKE_CUDA_PLAIN);
    share_batches(false, KILN_CONTEXT_OPTIONS_INIT);
    assert_int_equal(calls("cuMemcpyBatchAsync"), before);
}

/* The requests of a batch that failed may free their memory: nothing reads it any more. */
FAKE_TEST(a_batch_that_fails_reads_its_rows_no_more)
{
    behaviour how = {.drifts = false};
    owned_engine engine = NULL;
    owned_scheduler scheduler = open_rows(&how, GATHERS, &engine);
    rows all[2];
    for (size_t i = 0; i < 2; i++) {
        make_rows(&all[i], KILN_LOCATION_PINNED, 4, (float)i);
    }
    run_together(scheduler, all, 2, KILN_OK);
    set("FAKE_CUDA_LOST", "719");
    run_together(scheduler, all, 2, KILN_ERROR_DEVICE);
    set("FAKE_CUDA_LOST", NULL);
    run_together(scheduler, all, 2, KILN_OK);
    check_rows(&all[1]);
    free_rows(&all[0]);
    free_rows(&all[1]);
}

/* A run that was not waited for may still read what the next one's rows would replace. */
FAKE_TEST(a_run_that_was_left_keeps_its_rows)
{
    behaviour how = {.drifts = false};
    owned_engine engine = NULL;
    const kiln_context_options leaves =
        KILN_CONTEXT_OPTIONS(.stop_waiting = true, .run_milliseconds = 20);
    kiln_scheduler_options options = GATHERS;
    options.context = &leaves;
    owned_scheduler scheduler = open_rows(&how, options, &engine);
    rows all[3];
    for (size_t i = 0; i < 3; i++) {
        make_rows(&all[i], KILN_LOCATION_PINNED, i == 0 ? 1 : 4, (float)i);
    }
    for (int round = 0; round < 3; round++) {
        run_together(scheduler, all, 1, KILN_OK);
        run_together(scheduler, all + 1, 2, KILN_OK);
    }
    const unsigned long before = calls("cuMemcpyBatchAsync");
    set("FAKE_CUDA_BUSY", "1");
    run_together(scheduler, all, 1, KILN_ERROR_TIMEOUT);
    run_together(scheduler, all + 1, 2, KILN_ERROR_STATE);
    assert_int_equal(calls("cuMemcpyBatchAsync"), before);
    set("FAKE_CUDA_BUSY", NULL);
    run_together(scheduler, all + 1, 2, KILN_OK);
    for (size_t i = 0; i < 3; i++) {
        check_rows(&all[i]);
        free_rows(&all[i]);
    }
}

/* Outputs that nobody has memory for lie in one block of pinned memory, which goes when the last of
 * those is released who see a part of it, and is used again. */
FAKE_TEST(outputs_are_shown_where_the_gpu_wrote_them)
{
    behaviour how = {.drifts = false};
    owned_engine engine = NULL;
    owned_scheduler scheduler = open_rows(&how, GATHERS, &engine);
    unsigned long once = 0;
    rows all[2];
    for (size_t i = 0; i < 2; i++) {
        make_rows(&all[i], KILN_LOCATION_PINNED, 4, (float)i);
    }
    for (int round = 0; round < 30; round++) {
        kiln_request *requests[2];
        kiln_tensor seen[2];
        for (size_t i = 0; i < 2; i++) {
            assert_ok(kiln_scheduler_submit(scheduler, &all[i].x, 1, NULL, 0, NULL, &requests[i]));
        }
        for (size_t i = 0; i < 2; i++) {
            assert_ok(kiln_request_wait(requests[i], -1));
            assert_ok(kiln_request_output(requests[i], "y", &seen[i]));
            assert_int_equal(seen[i].desc.location, KILN_LOCATION_PINNED);
            memcpy(all[i].y.tensor.data, seen[i].data, seen[i].bytes);
            check_rows(&all[i]);
        }
        assert_ptr_equal((unsigned char *)seen[0].data + seen[0].bytes, seen[1].data);
        once = round == 0 ? fake_number("fake_cuda_bytes", "") : once;
        kiln_request_release(requests[0]);
        kiln_request_release(requests[1]);
    }
    /* The scheduler may be late to let the last one go; a graph has memory, too. */
    const unsigned long block = (unsigned long)MOST_ROWS * COLUMNS * sizeof(float);
    assert_true(fake_number("fake_cuda_bytes", "") <= once + 3 * block);
    assert_int_equal(count_runs(scheduler).graphs, 1);
    free_rows(&all[0]);
    free_rows(&all[1]);
}

/* Rows of the outputs are not those of the inputs: nothing is joined from then on. */
static kiln_status drop_a_row(void *user, kiln_mock_run *run, char message[1024])
{
    const kiln_status status = compute_rows(user, run, message);
    run->outputs[0].desc.shape.dims[0] = 1;
    return status;
}

FAKE_TEST(outputs_of_other_rows_end_the_joining)
{
    behaviour how = {.drifts = false};
    owned_engine engine = NULL;
    const kiln_context_options plain = KILN_CONTEXT_OPTIONS(.graphs = KILN_GRAPH_OFF);
    kiln_scheduler_options options = GATHERS;
    options.context = &plain;
    handler_of_rows = drop_a_row;
    owned_scheduler scheduler = open_rows(&how, options, &engine);
    handler_of_rows = compute_rows;
    rows all[2];
    for (size_t i = 0; i < 2; i++) {
        make_rows(&all[i], KILN_LOCATION_PINNED, 1, (float)i);
    }
    for (int round = 0; round < 2; round++) {
        run_together(scheduler, all, 2, KILN_OK);
        check_rows(&all[0]);
        check_rows(&all[1]);
    }
    assert_true(scheduler->pool->seats[0]->unbound);
    assert_true(scheduler->apart);
    free_rows(&all[0]);
    free_rows(&all[1]);
}

/* Beyond two, contexts of an engine go behind those, whose streams and copies they share; a batch
 * goes where the least is before it. */
FAKE_TEST(contexts_beyond_two_go_behind_those)
{
    behaviour how = {.drifts = false};
    kiln_scheduler_options options = GATHERS;
    rows all[2];
    for (size_t i = 0; i < 2; i++) {
        make_rows(&all[i], KILN_LOCATION_PINNED, 4, (float)i);
    }
    for (int32_t contexts = 2; contexts <= 5; contexts++) {
        owned_engine engine = NULL;
        options.contexts = contexts;
        owned_scheduler scheduler = open_rows(&how, options, &engine);
        seat **seats = scheduler->pool->seats;
        for (int32_t k = 0; k < contexts; k++) {
            assert_ptr_equal(kiln_context_stream(seats[k]->context),
                             kiln_context_stream(seats[k % 2]->context));
        }
        assert_ptr_not_equal(kiln_context_stream(seats[0]->context),
                             kiln_context_stream(seats[1]->context));
        for (int32_t round = 0; round < 4 * contexts; round++) {
            seat *taken = seats[round % contexts];
            const seat *next = seats[round % contexts % 2 == 0];
            const uint64_t runs = counters_of(next->context).runs;
            taken->busy = true; /* as if it had work */
            run_together(scheduler, all, 2, KILN_OK);
            taken->busy = false;
            assert_true(counters_of(next->context).runs > runs);
            check_rows(&all[0]);
            check_rows(&all[1]);
            memset(all[0].y.tensor.data, 0, all[0].y.tensor.bytes);
        }
    }
    free_rows(&all[0]);
    free_rows(&all[1]);
}

/* Where the work of all goes to one stream, it stays there. */
FAKE_TEST(the_stream_of_an_engine_is_kept)
{
    behaviour how = {.drifts = false};
    owned_engine engine = NULL;
    kiln_scheduler_options options = GATHERS;
    options.contexts = 4;
    all_on_one_stream = true;
    owned_scheduler scheduler = open_rows(&how, options, &engine);
    all_on_one_stream = false;
    for (size_t k = 0; k < 4; k++) {
        assert_ptr_equal(kiln_context_stream(scheduler->pool->seats[k]->context),
                         engine->shared.stream);
    }
}

/* One queue before two GPUs: a batch goes where a context is free, with its rows. */
FAKE_TEST(each_gpu_serves_its_part)
{
    behaviour how = {.drifts = false};
    owned_engine first = make_row_engine(&how, 0);
    owned_engine second = make_row_engine(&how, 1);
    kiln_engine *const engines[] = {first, second};
    kiln_scheduler_options options = GATHERS;
    kiln_scheduler_engine_counters found[2];
    rows all[2];
    options.struct_size = sizeof options;
    options.max_batch = MOST_ROWS;
    options.contexts = 1;
    owned_scheduler scheduler = scheduler_on(engines, 2, &options);
    for (size_t i = 0; i < 2; i++) {
        make_rows(&all[i], KILN_LOCATION_PINNED, 4, (float)i);
    }
    for (size_t i = 0; i < 12; i++) {
        seat *other = scheduler->pool->seats[i % 3 == 0];
        other->busy = true; /* as if it had work */
        run_together(scheduler, all, 2, KILN_OK);
        check_rows(&all[0]);
        check_rows(&all[1]);
        other->busy = false;
    }
    for (size_t i = 0; i < 2; i++) {
        found[i] = (kiln_scheduler_engine_counters){.struct_size = sizeof found[i]};
        assert_ok(kiln_scheduler_get_engine_counters(scheduler, i, &found[i]));
        assert_int_equal(found[i].device, i);
        assert_int_equal(found[i].rows, found[i].batches * 8);
        assert_int_equal(found[i].running, 0);
        assert_true(found[i].run_nanoseconds > 0);
    }
    assert_int_equal(found[0].batches, 4);
    assert_int_equal(found[1].batches, 8);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_scheduler_get_engine_counters(scheduler, 2, &found[0]),
                 "index is 2, the scheduler has 2 engines");
    free_rows(&all[0]);
    free_rows(&all[1]);
}
