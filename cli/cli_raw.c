/* SPDX-License-Identifier: Apache-2.0 */
#include "cli_raw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_statistics.h"

#define WARMUP_PAIRS 5

static kiln_status run_kiln(kiln_context *context, uint64_t *took)
{
    const uint64_t begin = cli_now();
    const kiln_status status = kiln_context_run(context);
    *took = cli_now() - begin;
    return status;
}

static kiln_status run_pair(kiln_context *context, bool raw_first, uint64_t *kiln, uint64_t *raw)
{
    kiln_status status = raw_first ? kiln_context_run_raw(context, raw) : run_kiln(context, kiln);
    if (status == KILN_OK) {
        status = raw_first ? run_kiln(context, kiln) : kiln_context_run_raw(context, raw);
    }
    return status;
}

static void make_room(cli_raw_times *found)
{
    if (found->count == found->capacity) {
        const size_t old = found->capacity;
        found->capacity = old == 0 ? (size_t)1 << 17 : old * 2;
        const size_t bytes = (found->capacity - old) * sizeof(uint64_t);
        found->kiln = cli_grow(found->kiln, found->capacity * sizeof(uint64_t));
        found->raw = cli_grow(found->raw, found->capacity * sizeof(uint64_t));
        memset(found->kiln + old, 0, bytes);
        memset(found->raw + old, 0, bytes);
    }
}

kiln_status cli_raw_measure(kiln_context *context, double seconds, size_t least,
                            cli_raw_times *found)
{
    uint64_t kiln = 0;
    uint64_t raw = 0;
    kiln_status status = KILN_OK;
    for (size_t i = 0; i < WARMUP_PAIRS && status == KILN_OK; i++) {
        status = run_pair(context, false, &kiln, &raw);
    }
    const uint64_t start = cli_now();
    while (status == KILN_OK &&
           (found->count < least || (double)(cli_now() - start) < seconds * 1e9)) {
        make_room(found);
        status = run_pair(context, found->count % 2 == 1, &kiln, &raw);
        found->kiln[found->count] = kiln;
        found->raw[found->count] = raw;
        found->count++;
        cli_progress_set(seconds > 0 ? (double)(cli_now() - start) / (seconds * 1e9)
                                     : (double)found->count / (double)least);
    }
    return status;
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

void cli_raw_between(const cli_raw_times *found, double *ratio, double *difference)
{
    double *values = cli_allocate(found->count * sizeof *values);
    for (size_t i = 0; i < found->count; i++) {
        values[i] = (double)found->kiln[i] / (double)(found->raw[i] != 0 ? found->raw[i] : 1);
    }
    *ratio = median(values, found->count);
    for (size_t i = 0; i < found->count; i++) {
        values[i] = (double)found->kiln[i] - (double)found->raw[i];
    }
    *difference = median(values, found->count);
    free(values);
}

static void add_row(cli_table *table, const char *name, uint64_t *times, size_t count)
{
    cli_statistics found;
    cli_statistics_make(times, count, &found);
    const double values[] = {found.minimum, found.mean, found.median, found.p90,
                             found.p95,     found.p99,  found.maximum};
    cli_table_add(table, name);
    for (size_t i = 0; i < CLI_ARRAY_LENGTH(values); i++) {
        char text[32];
        cli_duration_format(values[i], text, sizeof text);
        cli_table_add(table, text);
    }
}

void cli_raw_print(cli_raw_times *found, const char *library)
{
    static const char *const headings[] = {"latency", "min", "mean", "median",
                                           "p90",     "p95", "p99",  "max"};
    double ratio = 0;
    double difference = 0;
    char text[32];
    cli_table table;
    cli_raw_between(found, &ratio, &difference);
    cli_table_init(&table, "lrrrrrrr", headings);
    add_row(&table, "kiln", found->kiln, found->count);
    add_row(&table, library, found->raw, found->count);
    (void)puts("");
    cli_table_print(&table, 0);
    cli_duration_format(difference < 0 ? -difference : difference, text, sizeof text);
    (void)printf("\ncompared    %zu pairs: ratio %.4f, difference %s%s (medians)\n", found->count,
                 ratio, difference < 0 ? "-" : "+", text);
}

void cli_raw_finish(cli_raw_times *found)
{
    free(found->kiln);
    free(found->raw);
    *found = (cli_raw_times){.count = 0};
}
