/* SPDX-License-Identifier: Apache-2.0 */
#include "cli_raw.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli_statistics.h"

#define WARMUP_PAIRS 5
#define MOST_KEPT ((size_t)1 << 17)

static kiln_status run_kiln(kiln_context *context, uint64_t *took)
{
    const uint64_t begin = kiln_clock_now();
    const kiln_status status = kiln_context_run(context);
    *took = kiln_clock_now() - begin;
    return status;
}

static kiln_status run_pair(kiln_context *context, bool raw_first, uint64_t *kiln, uint64_t *raw)
{
    KLN_RETURN_IF_ERROR(raw_first ? kiln_context_run_raw(context, raw) : run_kiln(context, kiln));
    return raw_first ? run_kiln(context, kiln) : kiln_context_run_raw(context, raw);
}

static void make_room(cli_raw_times *found)
{
    found->kiln = cli_times_create();
    found->raw = cli_times_create();
    found->ratios = cli_allocate(MOST_KEPT * sizeof *found->ratios);
    found->differences = cli_allocate(MOST_KEPT * sizeof *found->differences);
    found->step = 1;
}

/* Once there is no more room, every second pair is dropped. */
static void keep_pair(cli_raw_times *found, uint64_t kiln, uint64_t raw)
{
    kiln_histogram_record(found->kiln, kiln);
    kiln_histogram_record(found->raw, raw);
    if (found->count++ % found->step != 0) {
        return;
    }
    if (found->kept == MOST_KEPT) {
        found->kept /= 2;
        found->step *= 2;
        for (size_t i = 0; i < found->kept; i++) {
            found->ratios[i] = found->ratios[2 * i];
            found->differences[i] = found->differences[2 * i];
        }
    }
    found->ratios[found->kept] = (double)kiln / (double)(raw != 0 ? raw : 1);
    found->differences[found->kept++] = (double)kiln - (double)raw;
}

kiln_status cli_raw_measure(kiln_context *context, double seconds, size_t least,
                            cli_raw_times *found)
{
    uint64_t kiln = 0;
    uint64_t raw = 0;
    make_room(found);
    for (size_t i = 0; i < WARMUP_PAIRS; i++) {
        KLN_RETURN_IF_ERROR(run_pair(context, false, &kiln, &raw));
    }
    const uint64_t start = kiln_clock_now();
    while (found->count < least || (double)(kiln_clock_now() - start) < seconds * 1e9) {
        KLN_RETURN_IF_ERROR(run_pair(context, found->count % 2 == 1, &kiln, &raw));
        keep_pair(found, kiln, raw);
        cli_progress_set(seconds > 0 ? (double)(kiln_clock_now() - start) / (seconds * 1e9)
                                     : (double)found->count / (double)least);
    }
    return KILN_OK;
}

static int compare(const void *left, const void *right)
{
    const double a = *(const double *)left;
    const double b = *(const double *)right;
    return a < b ? -1 : a > b;
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare);
    return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

void cli_raw_between(cli_raw_times *found, double *ratio, double *difference)
{
    *ratio = median(found->ratios, found->kept);
    *difference = median(found->differences, found->kept);
}

void cli_raw_print(cli_raw_times *found, const char *library)
{
    double ratio = 0;
    double difference = 0;
    char text[32];
    cli_table table;
    cli_raw_between(found, &ratio, &difference);
    cli_times_table(&table, "latency");
    cli_times_row(&table, "kiln", found->kiln);
    cli_times_row(&table, library, found->raw);
    (void)puts("");
    cli_table_print(&table, 0);
    cli_duration_format(difference < 0 ? -difference : difference, text, sizeof text);
    (void)printf("\ncompared    %zu pair%s: ratio %.4f, difference %s%s (medians)\n", found->count,
                 CLI_S(found->count), ratio, difference < 0 ? "-" : "+", text);
}

void cli_raw_finish(cli_raw_times *found)
{
    kiln_histogram_destroy(found->kiln);
    kiln_histogram_destroy(found->raw);
    free(found->ratios);
    free(found->differences);
    *found = (cli_raw_times){.count = 0};
}
