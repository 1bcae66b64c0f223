/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_engine.h"

#define DEFAULT_WARMUP_RUNS 10
/* How many of the latest times the percentiles use; older ones are overwritten. */
#define WARMUP_LATEST ((size_t)1024)
/* The search for the fastest graph may take 1/SEARCH_SHARE of the warmup's time, or
 * SEARCH_NANOSECONDS if no time was given. */
#define SEARCH_SHARE 2
#define SEARCH_NANOSECONDS UINT64_C(1000000000)

/* A ring buffer of the latest times. */
typedef struct latest_times {
    uint64_t times[WARMUP_LATEST];
    uint64_t sorted[WARMUP_LATEST];
} latest_times;

static void keep_time(kiln_warmup_summary *summary, latest_times *latest, uint64_t took)
{
    latest->times[summary->runs % WARMUP_LATEST] = took;
    if (summary->sample_count < summary->sample_capacity) {
        summary->samples[summary->sample_count++] = took;
    }
    if (summary->runs == 0) {
        summary->first_nanoseconds = took;
        summary->minimum_nanoseconds = took;
    }
    if (took < summary->minimum_nanoseconds) {
        summary->minimum_nanoseconds = took;
    }
    if (took > summary->maximum_nanoseconds) {
        summary->maximum_nanoseconds = took;
    }
    summary->runs++;
}

/* The percentiles cover the second half of the runs, or the whole ring if it holds less than
 * that. */
static void look_ahead(kiln_warmup_summary *summary, latest_times *latest)
{
    const uint64_t late = summary->runs - summary->runs / 2;
    const size_t count = late < WARMUP_LATEST ? (size_t)late : WARMUP_LATEST;
    for (size_t i = 0; i < count; i++) {
        latest->sorted[i] = latest->times[(summary->runs - 1 - i) % WARMUP_LATEST];
    }
    summary->median_nanoseconds = kln_median(latest->sorted, count);
    summary->p90_nanoseconds = latest->sorted[kln_percentile_rank(count, 90)];
    summary->p95_nanoseconds = latest->sorted[kln_percentile_rank(count, 95)];
    summary->p99_nanoseconds = latest->sorted[kln_percentile_rank(count, 99)];
}

static kiln_status warm_up(kiln_context *context, uint64_t runs, uint64_t milliseconds,
                           latest_times *latest, kiln_warmup_summary *summary)
{
    const uint64_t begin = kln_now();
    const uint64_t search =
        milliseconds != 0 ? milliseconds * 1000000 / SEARCH_SHARE : SEARCH_NANOSECONDS;
    if (runs == 0 && milliseconds == 0) {
        runs = DEFAULT_WARMUP_RUNS;
    }
    uint64_t now = begin;
    while (summary->runs == 0 || ((runs == 0 || summary->runs < runs) &&
                                  (milliseconds == 0 || (now - begin) / 1000000 < milliseconds))) {
        const uint64_t start = now;
        KLN_RETURN_IF_ERROR(kln_exec_run(context->exec, NULL, true));
        now = kln_now();
        keep_time(summary, latest, now - start);
        KLN_RETURN_IF_ERROR(kln_exec_search(context->exec, search));
        now = kln_now();
    }
    kln_exec_spend(context->exec);
    summary->total_nanoseconds = now - begin;
    look_ahead(summary, latest);
    return KILN_OK;
}

/* The caller's struct may be of an older version, with only the first fields. */
static kiln_status read_summary(const kiln_warmup_summary *summary, kiln_warmup_summary *made)
{
    if (summary == NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_context_warmup", summary, made, sizeof *made));
    *made =
        (kiln_warmup_summary){.struct_size = made->struct_size,
                              .samples = made->samples,
                              .sample_capacity = made->samples != NULL ? made->sample_capacity : 0};
    return KILN_OK;
}

kiln_status kiln_context_warmup(kiln_context *context, uint64_t runs, uint64_t milliseconds,
                                kiln_warmup_summary *summary)
{
    KLN_RETURN_IF_NULL(context);
    kiln_warmup_summary made = {.struct_size = sizeof made};
    KLN_RETURN_IF_ERROR(read_summary(summary, &made));
    latest_times *latest = kln_alloc(sizeof *latest);
    KLN_RETURN_IF_NO_MEMORY(latest, sizeof *latest, "a warmup's times");
    kiln_status status = kln_context_enter(context, __func__);
    if (status == KILN_OK) {
        status = kln_context_leave(context, warm_up(context, runs, milliseconds, latest, &made));
        kln_engine_cache_note(context->engine);
    }
    kln_free(latest);
    if (summary != NULL) {
        summary->sample_count = made.sample_count;
    }
    if (status == KILN_OK && summary != NULL) {
        status = kln_info_write(__func__, summary, &made, sizeof made);
    }
    return status;
}
