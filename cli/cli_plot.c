/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli_statistics.h"
#include "cli_sweep.h"

#define WIDTH 860.0
#define HEIGHT 540.0
#define LEFT 76.0
#define RIGHT 150.0 /* room for the names of the lines */
#define TOP 88.0
#define BOTTOM 60.0
#define MOST_LINES 64

/* The palette of Okabe and Ito, whose colours are distinguishable with colour blindness, without
 * yellow, which is too light for a line. */
static const char *const colors[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                     "#56b4e9", "#e69f00", "#000000"};

/* One axis: logarithmic, between two round numbers. */
typedef struct axis {
    double low;
    double high;
    double from; /* where `low` and `high` are drawn */
    double to;
} axis;

typedef struct figure {
    axis x; /* items per second */
    axis y; /* milliseconds */
    const cli_sweep *sweep;
    bool by_batch; /* one line per batch size; otherwise all points form one line */
} figure;

bool cli_plot_knows(const char *path)
{
    return cli_ends_with(path, ".svg") || cli_ends_with(path, ".html");
}

/* The number of decimals to show for a rate. */
static int decimals(double rate)
{
    return rate < 100 ? 2 : 0;
}

static void add_label(cli_text *to, double x, double y, const char *extra, const char *label)
{
    cli_text_printf(to, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, extra);
    cli_text_escaped(to, label);
    cli_text_printf(to, "</text>\n");
}

/* --- axes --- */

/* The nearest 1, 2 or 5 times a power of ten, downwards or upwards. */
static double round_number(double value, bool up)
{
    static const double steps[] = {1, 2, 5, 10};
    const double power = pow(10, floor(log10(value)));
    double found = up ? 10 : 1;
    for (size_t i = 0; i < CLI_ARRAY_LENGTH(steps); i++) {
        const double step = steps[up ? CLI_ARRAY_LENGTH(steps) - 1 - i : i];
        if (up ? step * power >= value * (1 - 1e-9) : step * power <= value * (1 + 1e-9)) {
            found = step;
        }
    }
    return found * power;
}

static axis make_axis(double least, double most, double from, double to)
{
    const double floor_of_all = 1e-9;
    least = least > floor_of_all ? least : floor_of_all;
    most = most > least ? most : least;
    axis made = {round_number(least, false), round_number(most, true), from, to};
    if (made.high <= made.low) {
        made.high = round_number(made.low * 2, true);
    }
    return made;
}

static double place(const axis *along, double value)
{
    const double kept = value > along->low ? value : along->low;
    const double part = log(kept / along->low) / log(along->high / along->low);
    return along->from + part * (along->to - along->from);
}

/* For example "200", "1.5k", "20M", "0.05". */
static void tick_text(double value, char text[32])
{
    static const struct {
        double unit;
        const char *name;
    } units[] = {{1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
    for (size_t i = 0; i < CLI_ARRAY_LENGTH(units); i++) {
        if (value >= units[i].unit) {
            (void)snprintf(text, 32, "%g%s", value / units[i].unit, units[i].name);
            return;
        }
    }
    (void)snprintf(text, 32, "%g", value);
}

/* Draws lines at round numbers; only at powers of ten if there would be many. */
static void add_grid(cli_text *svg, const axis *along, bool is_x)
{
    const bool is_long = along->high / along->low > 2000;
    double next = along->low;
    while (next <= along->high * (1 + 1e-9)) {
        const double at = next;
        const double power = log10(at);
        next = round_number(at * 1.5, true);
        if (is_long && fabs(power - round(power)) > 1e-6) {
            continue;
        }
        const double where = place(along, at);
        char text[32];
        tick_text(at, text);
        cli_text_printf(svg, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>",
                        is_x ? where : LEFT, is_x ? TOP : where, is_x ? where : WIDTH - RIGHT,
                        is_x ? HEIGHT - BOTTOM : where);
        add_label(svg, is_x ? where : LEFT - 8, is_x ? HEIGHT - BOTTOM + 18 : where + 4,
                  is_x ? "text-anchor=\"middle\"" : "text-anchor=\"end\"", text);
    }
}

/* --- points and lines --- */

static double p99_of(const cli_point *point)
{
    return kiln_histogram_percentile(point->result.latency, 99) / 1e6;
}

static double median_of(const cli_point *point)
{
    return cli_times_summarize(point->result.latency).median / 1e6;
}

static void point_name(const figure *drawn, const cli_point *point, char text[64])
{
    if (drawn->by_batch) {
        (void)snprintf(text, 64, "%zu", point->load.contexts);
    } else {
        (void)snprintf(text, 64, "%lld", (long long)point->batch);
    }
}

static void line_name(const figure *drawn, const cli_point *point, char text[64])
{
    if (!drawn->by_batch) {
        (void)snprintf(text, 64, "%zu context%s", point->load.contexts,
                       CLI_S(point->load.contexts));
    } else if (point->batch > 0) {
        (void)snprintf(text, 64, "batch %lld", (long long)point->batch);
    } else {
        (void)snprintf(text, 64, "median");
    }
}

static void add_path(cli_text *svg, const figure *drawn, const cli_point *points, size_t count,
                     const char *color, bool is_median)
{
    cli_text_printf(svg, "<path fill=\"none\" stroke=\"%s\" %s d=\"", color,
                    is_median ? "stroke-width=\"2\""
                              : "stroke-width=\"1\" stroke-dasharray=\"4 3\" opacity=\"0.7\"");
    for (size_t i = 0; i < count; i++) {
        cli_text_printf(svg, "%s%.1f %.1f", i == 0 ? "M" : " L",
                        place(&drawn->x, cli_point_items(&points[i])),
                        place(&drawn->y, is_median ? median_of(&points[i]) : p99_of(&points[i])));
    }
    cli_text_printf(svg, "\"/>\n");
}

static void add_point(cli_text *svg, const figure *drawn, const cli_point *point, const char *color)
{
    char name[64];
    const double x = place(&drawn->x, cli_point_items(point));
    const double median = place(&drawn->y, median_of(point));
    const double p99 = place(&drawn->y, p99_of(point));
    point_name(drawn, point, name);
    cli_text_printf(svg,
                    "<g><title>batch %lld, %zu context%s: %.*f items/s, median %.4g ms, p99 %.4g "
                    "ms</title><circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\" fill=\"#fff\" "
                    "stroke=\"%s\"/><circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/></g>\n",
                    (long long)(point->batch > 0 ? point->batch : 1), point->load.contexts,
                    CLI_S(point->load.contexts), decimals(cli_point_items(point)),
                    cli_point_items(point), median_of(point), p99_of(point), x, p99, color, x,
                    median, color);
    add_label(svg, x, median + 16, "text-anchor=\"middle\" fill=\"#555\" font-size=\"10\"", name);
}

/* Writes the names to the right of the ends of their lines, moved apart where they would touch. */
static void add_names(cli_text *svg, const figure *drawn, size_t lines, size_t count)
{
    size_t order[MOST_LINES];
    double heights[MOST_LINES];
    for (size_t i = 0; i < lines; i++) {
        const cli_point *last = &drawn->sweep->points[i * count + count - 1];
        const double height = place(&drawn->y, median_of(last));
        size_t at = i;
        for (; at > 0 && heights[at - 1] > height; at--) {
            heights[at] = heights[at - 1];
            order[at] = order[at - 1];
        }
        heights[at] = height;
        order[at] = i;
    }
    for (size_t i = 0; i < lines; i++) {
        const cli_point *last = &drawn->sweep->points[order[i] * count + count - 1];
        char name[64];
        char extra[96];
        if (i > 0 && heights[i] < heights[i - 1] + 15) {
            heights[i] = heights[i - 1] + 15;
        }
        line_name(drawn, last, name);
        (void)snprintf(extra, sizeof extra, "fill=\"%s\" font-weight=\"600\"",
                       colors[order[i] % CLI_ARRAY_LENGTH(colors)]);
        add_label(svg, WIDTH - RIGHT + 10, heights[i] + 4, extra, name);
    }
}

static void add_lines(cli_text *svg, const figure *drawn)
{
    const cli_sweep *sweep = drawn->sweep;
    const size_t count = drawn->by_batch ? sweep->levels : sweep->count;
    const size_t lines = sweep->count / count;
    for (size_t i = 0; i < lines; i++) {
        const char *color = colors[i % CLI_ARRAY_LENGTH(colors)];
        const cli_point *points = &sweep->points[i * count];
        add_path(svg, drawn, points, count, color, false);
        add_path(svg, drawn, points, count, color, true);
        for (size_t k = 0; k < count; k++) {
            add_point(svg, drawn, &points[k], color);
        }
    }
    add_names(svg, drawn, lines < MOST_LINES ? lines : MOST_LINES, count);
}

/* --- the whole plot --- */

static figure make_figure(const cli_sweep *sweep)
{
    double least[2] = {(double)INFINITY, (double)INFINITY};
    double most[2] = {0, 0};
    for (size_t i = 0; i < sweep->count; i++) {
        const cli_point *point = &sweep->points[i];
        const double items = cli_point_items(point);
        least[0] = items < least[0] ? items : least[0];
        most[0] = items > most[0] ? items : most[0];
        least[1] = median_of(point) < least[1] ? median_of(point) : least[1];
        most[1] = p99_of(point) > most[1] ? p99_of(point) : most[1];
    }
    return (figure){.x = make_axis(least[0], most[0], LEFT, WIDTH - RIGHT),
                    .y = make_axis(least[1], most[1], HEIGHT - BOTTOM, TOP),
                    .sweep = sweep,
                    .by_batch = sweep->levels > 1 || sweep->count == 1};
}

static void add_svg(cli_text *svg, const char *title, const char *subtitle, const cli_sweep *sweep)
{
    const figure drawn = make_figure(sweep);
    cli_text_printf(svg,
                    "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
                    "width=\"%.0f\" height=\"%.0f\" font-family=\"system-ui, sans-serif\" "
                    "font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
                    WIDTH, HEIGHT, WIDTH, HEIGHT);
    add_label(svg, LEFT, 28, "font-size=\"17\" font-weight=\"600\" fill=\"#111\"", title);
    add_label(svg, LEFT, 48, "fill=\"#555\"", subtitle);
    cli_text_printf(svg, "<g stroke=\"#e2e2e2\" fill=\"#444\">\n<g stroke-width=\"1\">\n");
    add_grid(svg, &drawn.x, true);
    add_grid(svg, &drawn.y, false);
    cli_text_printf(svg, "</g>\n</g>\n<style>text { stroke: none }</style>\n");
    add_label(svg, LEFT, TOP - 10, "fill=\"#444\"", "latency, ms");
    add_label(svg, WIDTH - RIGHT, HEIGHT - 16, "text-anchor=\"end\" fill=\"#444\"",
              "throughput, items/s");
    add_label(svg, LEFT, HEIGHT - 16, "fill=\"#444\"",
              drawn.by_batch ? "filled: median, hollow: p99; at each point its contexts"
                             : "filled: median, hollow: p99; at each point its batch size");
    add_lines(svg, &drawn);
    cli_text_printf(svg, "</svg>\n");
}

static void add_rows(cli_text *page, const cli_sweep *sweep)
{
    cli_text_printf(page,
                    "<table>\n<tr><th>batch<th>contexts<th>streams<th>callers<th>inferences/"
                    "s<th>items/s<th>median, ms<th>p99, ms</tr>\n");
    for (size_t i = 0; i < sweep->count; i++) {
        const cli_point *point = &sweep->points[i];
        cli_text_printf(page,
                        "<tr><td>%lld<td>%zu<td>%zu<td>%zu<td>%.*f<td>%.*f<td>%.4g<td>%.4g</tr>\n",
                        (long long)(point->batch > 0 ? point->batch : 1), point->load.contexts,
                        point->load.streams, point->load.callers, decimals(cli_point_rate(point)),
                        cli_point_rate(point), decimals(cli_point_items(point)),
                        cli_point_items(point), median_of(point), p99_of(point));
    }
    cli_text_printf(page, "</table>\n");
}

static void add_page(cli_text *page, const char *title, const char *subtitle,
                     const cli_sweep *sweep)
{
    cli_text_printf(page, "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>");
    cli_text_escaped(page, title);
    cli_text_printf(
        page,
        "</title>\n<style>body { font: 14px system-ui, sans-serif; margin: 2em; max-width: %.0fpx "
        "} svg { max-width: 100%%; height: auto } table { border-collapse: collapse; "
        "font-variant-numeric: tabular-nums } th, td { padding: 0.2em 0.8em; text-align: right; "
        "border-bottom: 1px solid #ddd }</style>\n",
        WIDTH);
    add_svg(page, title, subtitle, sweep);
    add_rows(page, sweep);
    cli_text_printf(page, "</html>\n");
}

cli_exit cli_plot_write(const char *path, const char *title, const char *subtitle,
                        const cli_sweep *sweep)
{
    CLI_TEXT_SCOPED text = {NULL, 0, 0};
    if (cli_ends_with(path, ".html")) {
        add_page(&text, title, subtitle, sweep);
    } else {
        add_svg(&text, title, subtitle, sweep);
    }
    return cli_text_save(&text, path);
}
