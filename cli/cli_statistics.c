/* SPDX-License-Identifier: Apache-2.0 */
#include "cli_statistics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define BARS 12
#define BAR_COLUMNS 36

static int compare_times(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

double cli_percentile(const uint64_t *sorted, size_t count, unsigned thousandths)
{
    const size_t aside = (size_t)((uint64_t)count * (1000 - thousandths) / 1000);
    return (double)sorted[aside < count ? count - 1 - aside : 0];
}

void cli_statistics_make(uint64_t *times, size_t count, cli_statistics *statistics)
{
    qsort(times, count, sizeof *times, compare_times);
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)times[i];
    }
    const double mean = sum / (double)count;
    double squares = 0;
    for (size_t i = 0; i < count; i++) {
        squares += ((double)times[i] - mean) * ((double)times[i] - mean);
    }
    const size_t middle = count / 2;
    *statistics = (cli_statistics){
        .count = count,
        .minimum = (double)times[0],
        .mean = mean,
        .median = count % 2 == 1 ? (double)times[middle]
                                 : ((double)times[middle - 1] + (double)times[middle]) / 2,
        .p90 = cli_percentile(times, count, 900),
        .p95 = cli_percentile(times, count, 950),
        .p99 = cli_percentile(times, count, 990),
        .p999 = cli_percentile(times, count, 999),
        .maximum = (double)times[count - 1],
        .deviation = mean > 0 ? sqrt(squares / (double)count) / mean : 0,
    };
}

/* The unit that fits a time. */
static const char *unit_for(double nanoseconds, double *divisor)
{
    static const struct {
        double limit;
        const char *name;
    } units[] = {{1e3, "ns"}, {1e6, "us"}, {1e9, "ms"}};
    *divisor = 1;
    for (size_t i = 0; i < CLI_ARRAY_LENGTH(units); i++) {
        if (nanoseconds < units[i].limit) {
            return units[i].name;
        }
        *divisor *= 1e3;
    }
    return "s";
}

static int decimals_for(double value)
{
    return value < 10 ? 2 : value < 100 ? 1 : 0;
}

void cli_duration_format(double nanoseconds, char *text, size_t size)
{
    double divisor = 1;
    const char *unit = unit_for(nanoseconds, &divisor);
    const double value = nanoseconds / divisor;
    (void)snprintf(text, size, "%.*f %s", decimals_for(value), value, unit);
}

static void bar_text(size_t count, size_t most, char *text)
{
    const bool unicode = cli_has_unicode();
    const size_t length = most > 0 ? (count * BAR_COLUMNS + most - 1) / most : 0;
    *text = '\0';
    for (size_t i = 0; i < length && i < BAR_COLUMNS; i++) {
        strcat(text, unicode ? "\u2588" : "#");
    }
}

/* Where bar `bar` begins: at equal distances, or at equal ratios where times differ tenfold and the
 * first bar would hold nearly all. */
static double edge(double low, double high, size_t bar)
{
    const double part = (double)bar / BARS;
    return high > low * 10 && low > 0 ? low * pow(high / low, part) : low + (high - low) * part;
}

static void count_bars(const uint64_t *sorted, size_t count, double high, size_t bars,
                       size_t counts[BARS + 1])
{
    size_t bar = 0;
    for (size_t i = 0; i < count; i++) {
        const double time = (double)sorted[i];
        while (bar + 1 < bars && time >= edge((double)sorted[0], high, bar + 1)) {
            bar++;
        }
        counts[time > high ? bars : bar]++;
    }
}

void cli_histogram_print(const uint64_t *sorted, size_t count)
{
    const double low = (double)sorted[0];
    const double high = cli_percentile(sorted, count, 990);
    const size_t bars = high > low ? BARS : 1;
    size_t counts[BARS + 1] = {0};
    size_t most = 0;
    count_bars(sorted, count, high, bars, counts);
    for (size_t bar = 0; bar <= bars; bar++) {
        most = counts[bar] > most ? counts[bar] : most;
    }
    double divisor = 1;
    const size_t middle = count / 2;
    const char *unit = unit_for((double)sorted[middle], &divisor);
    const double step = (edge(low, high, 1) - low) / divisor;
    const int decimals = step < 0.05 ? 3 : step < 0.5 ? 2 : 1;
    char heading[32];
    (void)snprintf(heading, sizeof heading, "from, %s", unit);
    const char *const headings[] = {heading, "runs", ""};
    cli_table table;
    cli_table_init(&table, "rrl", headings);
    for (size_t bar = 0; bar <= bars; bar++) {
        char text[BAR_COLUMNS * 3 + 1];
        if (bar == bars && counts[bar] == 0) {
            break;
        }
        bar_text(counts[bar], most, text);
        cli_table_printf(&table, "%s%.*f", bar == bars ? "> " : "", decimals,
                         (bar == bars ? high : edge(low, high, bar)) / divisor);
        cli_table_printf(&table, "%zu", counts[bar]);
        cli_table_add(&table, text);
    }
    cli_table_print(&table, 2);
}
