/* SPDX-License-Identifier: Apache-2.0 */
#include "cli_statistics.h"

#include <cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define BARS 12
#define BAR_COLUMNS 36

const char *const cli_time_names[CLI_TIME_FIGURES] = {"min", "mean", "median", "p90",
                                                      "p95", "p99",  "p99.9",  "max"};

kiln_histogram *cli_times_create(void)
{
    kiln_histogram *times = NULL;
    if (kiln_histogram_create(&times) != KILN_OK) {
        exit((int)cli_fail());
    }
    return times;
}

kiln_histogram_summary cli_times_summarize(const kiln_histogram *times)
{
    kiln_histogram_summary found = {.struct_size = sizeof found};
    if (kiln_histogram_summarize(times, &found) != KILN_OK) {
        (void)cli_fail();
    }
    return found;
}

void cli_times_figures(const kiln_histogram *times, double figures[CLI_TIME_FIGURES])
{
    const kiln_histogram_summary found = cli_times_summarize(times);
    const double values[CLI_TIME_FIGURES] = {(double)found.minimum,
                                             found.mean,
                                             found.median,
                                             found.p90,
                                             found.p95,
                                             found.p99,
                                             found.p999,
                                             (double)found.maximum};
    memcpy(figures, values, sizeof values);
}

void cli_times_table(cli_table *table, const char *name)
{
    cli_table_init(table, "lrrrrrrrr", NULL);
    cli_table_add(table, name);
    for (size_t i = 0; i < CLI_TIME_FIGURES; i++) {
        cli_table_add(table, cli_time_names[i]);
    }
}

void cli_times_row(cli_table *table, const char *name, const kiln_histogram *times)
{
    double figures[CLI_TIME_FIGURES];
    cli_times_figures(times, figures);
    cli_table_add(table, name);
    for (size_t i = 0; i < CLI_TIME_FIGURES; i++) {
        char text[32];
        cli_duration_format(figures[i], text, sizeof text);
        cli_table_add(table, text);
    }
}

cJSON *cli_times_json(const kiln_histogram *times)
{
    double figures[CLI_TIME_FIGURES];
    cJSON *object = cJSON_CreateObject();
    const kiln_histogram_summary found = cli_times_summarize(times);
    cli_times_figures(times, figures);
    for (size_t i = 0; i < CLI_TIME_FIGURES; i++) {
        (void)cJSON_AddNumberToObject(object, cli_time_names[i], figures[i] / 1e6);
    }
    (void)cJSON_AddNumberToObject(object, "coefficient_of_variation",
                                  found.mean > 0 ? found.deviation / found.mean : 0);
    return object;
}

/* The appropriate unit for a time. */
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

static void bar_text(uint64_t count, uint64_t most, char *text)
{
    const bool unicode = cli_has_unicode();
    const uint64_t length = most > 0 ? (count * BAR_COLUMNS + most - 1) / most : 0;
    *text = '\0';
    for (size_t i = 0; i < length && i < BAR_COLUMNS; i++) {
        strcat(text, unicode ? "\u2588" : "#");
    }
}

/* Where bar `bar` begins: the bars are equally wide, or have equal ratios if times differ more than
 * tenfold and the first bar would contain nearly all of them. */
static double edge(double low, double high, size_t bar)
{
    const double part = (double)bar / BARS;
    return high > low * 10 && low > 0 ? low * pow(high / low, part) : low + (high - low) * part;
}

void cli_histogram_print(const kiln_histogram *times)
{
    const kiln_histogram_summary found = cli_times_summarize(times);
    const double low = (double)found.minimum;
    const double high = found.p99;
    const size_t bars = high > low ? BARS : 1;
    uint64_t counts[BARS + 1] = {0};
    uint64_t most = 0;
    uint64_t counted = 0;
    /* The last bar takes the rest, so that every time is counted once. */
    for (size_t bar = 0; bar < bars; bar++) {
        counts[bar] = kiln_histogram_count(
            times, bar == 0 ? 0 : edge(low, high, bar),
            bar + 1 == bars ? nextafter(high, (double)INFINITY) : edge(low, high, bar + 1));
        counted += counts[bar];
    }
    counts[bars] = found.count - counted;
    for (size_t bar = 0; bar <= bars; bar++) {
        most = counts[bar] > most ? counts[bar] : most;
    }
    double divisor = 1;
    const char *unit = unit_for(found.median, &divisor);
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
        cli_table_printf(&table, "%llu", (unsigned long long)counts[bar]);
        cli_table_add(&table, text);
    }
    cli_table_print(&table, 2);
}
