/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_accuracy.h"

/* The range of the bars, in decibels: 8-bit noise is at about 50. */
#define WIDEST 80.0

static void put_decibels(cli_text *page, double decibels)
{
    const double shown = fmax(0, fmin(WIDEST, decibels));
    cli_text_printf(page,
                    "<td class=n>%s%.1f dB</td><td><div class=bar style=\"width:%.0fpx;"
                    "background:%s\"></div></td>",
                    !isinf(decibels) ? ""
                    : decibels > 0   ? "over "
                                     : "under ",
                    fmax(-WIDEST * 2, fmin(WIDEST * 2, decibels)), shown * 3,
                    shown < 20   ? "#c0392b"
                    : shown < 35 ? "#e0a030"
                                 : "#3a8a5a");
}

static void put_head(cli_text *page, const cli_accuracy *accuracy, const kiln_precision_summary *s,
                     const char *output)
{
    cli_text_add(page, "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>");
    cli_text_escaped(page, output);
    cli_text_add(page,
                 "</title><style>body{font:15px/1.4 sans-serif;margin:2em auto;max-width:70em;"
                 "padding:0 1em;color:#222}table{border-collapse:collapse;margin:.5em 0 2em}"
                 "th,td{padding:.2em .8em;text-align:left;border-bottom:1px solid #ddd;"
                 "vertical-align:middle}.n{text-align:right;white-space:nowrap;"
                 "font-variant-numeric:tabular-nums}.bar{height:.8em;border-radius:2px}"
                 "h1,h2{overflow-wrap:anywhere}h1{font-size:1.5em}h2{font-size:1.15em}"
                 ".kept{color:#c0392b}"
                 "</style><h1>");
    cli_text_escaped(page, accuracy->path);
    cli_text_add(page, " &rarr; ");
    cli_text_escaped(page, output);
    cli_text_printf(
        page,
        "</h1><p>%zu of %zu nodes converted, %zu stay%s in float32, %zu node%s added. "
        "Weights: %.2f MiB, before %.2f MiB. %.1f %% of the multiplications were converted.",
        s->converted_count, s->node_count, s->kept_count, s->kept_count == 1 ? "s" : "",
        s->cast_count, CLI_S(s->cast_count), (double)s->bytes_after / CLI_MIB,
        (double)s->bytes_before / CLI_MIB,
        100 * (double)s->converted_multiplications /
            (double)(s->multiplications != 0 ? s->multiplications : 1));
    if (s->saturated + s->vanished != 0) {
        cli_text_printf(
            page, " Of their numbers %" PRIu64 " were beyond the type and %" PRIu64 " became zero.",
            s->saturated, s->vanished);
    }
    cli_text_printf(page, "</p><h2>Outputs, on %zu batch%s of ", accuracy->batch_count,
                    CLI_ES(accuracy->batch_count));
    cli_text_escaped(page, accuracy->batches);
    cli_text_add(page,
                 "</h2><table><tr><th>output<th class=n>largest number<th class=n>largest "
                 "difference<th class=n>rows alike<th class=n>signal to noise<th></tr>");
    for (size_t i = 0; i < accuracy->output_count; i++) {
        const cli_output_error *o = &accuracy->outputs[i];
        cli_text_add(page, "<tr><td>");
        cli_text_escaped(page, o->name);
        cli_text_printf(page, "</td><td class=n>%.4g</td><td class=n>%.4g</td><td class=n>",
                        o->of.largest, o->of.worst);
        cli_text_printf(page, o->rows != 0 ? "%.2f %%</td>" : "-</td>",
                        100 * (double)o->alike / (double)(o->rows != 0 ? o->rows : 1));
        put_decibels(page, cli_decibels(&o->of));
        cli_text_add(page, "</tr>");
    }
    cli_text_add(page, "</table>");
}

static void put_costs(cli_text *page, const cli_accuracy *accuracy)
{
    if (accuracy->node_count == 0) {
        return;
    }
    cli_text_add(page,
                 "<h2>What each node costs</h2><p>The signal to noise of the worst output where "
                 "this node alone is converted; those that hurt most first.</p><table><tr><th>node"
                 "<th>operator<th class=n>signal to noise<th><th></tr>");
    for (size_t i = 0; i < accuracy->node_count; i++) {
        const cli_node_cost *node = &accuracy->nodes[i];
        cli_text_add(page, "<tr><td>");
        cli_text_escaped(page, node->name);
        cli_text_add(page, "</td><td>");
        cli_text_escaped(page, node->operator_type);
        cli_text_add(page, "</td>");
        put_decibels(page, node->decibels);
        cli_text_printf(page, "<td class=kept>%s</td></tr>", node->is_kept ? "kept" : "");
    }
    cli_text_add(page, "</table>");
}

#define CHART_HEIGHT 220.0
#define CHART_WIDTH 960.0

/* A curve over the tensors in graph order, and the tensors after which most is lost. */
static void put_layers(cli_text *page, const cli_accuracy *accuracy)
{
    if (accuracy->layer_count < 2) {
        return;
    }
    cli_text_printf(
        page,
        "<h2>Signal to noise by layer</h2><p>Of each tensor that both networks have, in "
        "the order of the graph.</p><svg width=%.0f height=%.0f "
        "style=\"background:#f7f7f7\">",
        CHART_WIDTH + 60, CHART_HEIGHT + 20);
    for (int mark = 0; mark <= (int)WIDEST; mark += 20) {
        const double decibels = mark;
        const double y = 10 + CHART_HEIGHT * (1 - decibels / WIDEST);
        cli_text_printf(page,
                        "<line x1=50 x2=%.0f y1=%.1f y2=%.1f stroke=\"#ccc\" /><text x=0 y=%.1f "
                        "font-size=11>%.0f dB</text>",
                        CHART_WIDTH + 50, y, y, y + 4, decibels);
    }
    cli_text_add(page, "<polyline fill=none stroke=\"#3a6a9a\" stroke-width=1.5 points=\"");
    for (size_t i = 0; i < accuracy->layer_count; i++) {
        const cli_layer_error *layer = &accuracy->layers[i];
        const double shown = fmax(0, fmin(WIDEST, cli_decibels(&layer->of)));
        cli_text_printf(page, "%.1f,%.1f ",
                        50 + CHART_WIDTH * (double)i / (double)(accuracy->layer_count - 1),
                        10 + CHART_HEIGHT * (1 - shown / WIDEST));
    }
    cli_text_add(page,
                 "\" /></svg><details><summary>Every tensor</summary><table><tr><th>tensor"
                 "<th>operator<th class=n>signal to noise<th></tr>");
    for (size_t i = 0; i < accuracy->layer_count; i++) {
        const cli_layer_error *layer = &accuracy->layers[i];
        cli_text_add(page, "<tr><td>");
        cli_text_escaped(page, layer->name);
        cli_text_add(page, "</td><td>");
        cli_text_escaped(page, layer->operator_type);
        cli_text_add(page, "</td>");
        put_decibels(page, cli_decibels(&layer->of));
        cli_text_add(page, "</tr>");
    }
    cli_text_add(page, "</table></details>");
}

static void put_nodes(cli_text *page, const kiln_precision_report *report, size_t count)
{
    cli_text_add(page,
                 "<h2>Every node</h2><table><tr><th>node<th>operator<th>computes in<th>why</tr>");
    for (size_t i = 0; i < count; i++) {
        kiln_precision_node node = {.struct_size = sizeof node};
        if (kiln_precision_report_node(report, i, &node) != KILN_OK) {
            continue;
        }
        cli_text_add(page, "<tr><td>");
        cli_text_escaped(page, node.name[0] != '\0' ? node.name : node.output);
        cli_text_add(page, "</td><td>");
        cli_text_escaped(page, node.operator_type);
        cli_text_printf(page, "</td><td>%s</td><td>%s%s",
                        node.dtype == KILN_DTYPE_UNDEFINED ? "-" : kiln_dtype_name(node.dtype),
                        kiln_precision_reason_text(node.reason),
                        node.detail[0] != '\0' ? ": " : "");
        cli_text_escaped(page, node.detail);
        cli_text_add(page, "</td></tr>");
    }
    cli_text_add(page, "</table></html>\n");
}

cli_exit cli_accuracy_page(const cli_accuracy *accuracy, const kiln_precision_report *report,
                           const char *model, const char *output)
{
    kiln_precision_summary summary = {.struct_size = sizeof summary};
    if (kiln_precision_report_summary(report, &summary) != KILN_OK) {
        return cli_fail();
    }
    CLI_TEXT_SCOPED page = {NULL, 0, 0};
    put_head(&page, accuracy, &summary, model);
    put_layers(&page, accuracy);
    put_costs(&page, accuracy);
    put_nodes(&page, report, summary.node_count);
    return cli_text_save(&page, output);
}
