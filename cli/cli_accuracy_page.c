/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_accuracy.h"

#define MIB 1048576.0
/* The scale of the bars, in decibels: eight bits of noise are about 50. */
#define WIDEST 80.0

static void put_text(FILE *page, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
            case '<': (void)fputs("&lt;", page); break;
            case '>': (void)fputs("&gt;", page); break;
            case '&': (void)fputs("&amp;", page); break;
            case '"': (void)fputs("&quot;", page); break;
            default: (void)fputc((unsigned char)*text < 0x20 ? '?' : *text, page);
        }
    }
}

static void put_decibels(FILE *page, double decibels)
{
    const double shown = fmax(0, fmin(WIDEST, decibels));
    (void)fprintf(page,
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

static void put_head(FILE *page, const cli_accuracy *accuracy, const kiln_precision_summary *s,
                     const char *output)
{
    (void)fputs("<!DOCTYPE html><html lang=en><meta charset=utf-8><title>", page);
    put_text(page, output);
    (void)fputs(
        "</title><style>body{font:15px/1.4 sans-serif;margin:2em auto;max-width:70em;"
        "color:#222}table{border-collapse:collapse;margin:.5em 0 2em}th,td{padding:.2em "
        ".8em;text-align:left;border-bottom:1px solid #ddd;vertical-align:middle}"
        ".n{text-align:right;font-variant-numeric:tabular-nums}.bar{height:.8em;border-"
        "radius:2px}h1{font-size:1.5em}h2{font-size:1.15em}.kept{color:#c0392b}"
        "</style><h1>",
        page);
    put_text(page, accuracy->path);
    (void)fputs(" &rarr; ", page);
    put_text(page, output);
    (void)fprintf(
        page,
        "</h1><p>%zu of %zu nodes converted, %zu stay%s in float32, %zu node%s added. "
        "Weights: %.2f MiB, before %.2f MiB. %.1f %% of the multiplications were converted.",
        s->converted_count, s->node_count, s->kept_count, s->kept_count == 1 ? "s" : "",
        s->cast_count, CLI_S(s->cast_count), (double)s->bytes_after / MIB,
        (double)s->bytes_before / MIB,
        100 * (double)s->converted_multiplications /
            (double)(s->multiplications != 0 ? s->multiplications : 1));
    if (s->saturated + s->vanished != 0) {
        (void)fprintf(
            page, " Of their numbers %" PRIu64 " were beyond the type and %" PRIu64 " became zero.",
            s->saturated, s->vanished);
    }
    (void)fprintf(page, "</p><h2>Outputs, on %zu batch%s of ", accuracy->batch_count,
                  accuracy->batch_count == 1 ? "" : "es");
    put_text(page, accuracy->batches);
    (void)fputs(
        "</h2><table><tr><th>output<th class=n>largest number<th class=n>largest "
        "difference<th class=n>rows alike<th class=n>signal to noise<th></tr>",
        page);
    for (size_t i = 0; i < accuracy->output_count; i++) {
        const cli_output_error *o = &accuracy->outputs[i];
        (void)fputs("<tr><td>", page);
        put_text(page, o->name);
        (void)fprintf(page, "</td><td class=n>%.4g</td><td class=n>%.4g</td><td class=n>",
                      o->of.largest, o->of.worst);
        (void)fprintf(page, o->rows != 0 ? "%.2f %%</td>" : "-</td>",
                      100 * (double)o->alike / (double)(o->rows != 0 ? o->rows : 1));
        put_decibels(page, cli_decibels(&o->of));
        (void)fputs("</tr>", page);
    }
    (void)fputs("</table>", page);
}

static void put_costs(FILE *page, const cli_accuracy *accuracy)
{
    if (accuracy->node_count == 0) {
        return;
    }
    (void)fputs(
        "<h2>What each node costs</h2><p>The signal to noise of the worst output where "
        "this node alone is converted; those that hurt most first.</p><table><tr><th>node"
        "<th>operator<th class=n>signal to noise<th><th></tr>",
        page);
    for (size_t i = 0; i < accuracy->node_count; i++) {
        const cli_node_cost *node = &accuracy->nodes[i];
        (void)fputs("<tr><td>", page);
        put_text(page, node->name);
        (void)fputs("</td><td>", page);
        put_text(page, node->operator_type);
        (void)fputs("</td>", page);
        put_decibels(page, node->decibels);
        (void)fprintf(page, "<td class=kept>%s</td></tr>", node->is_kept ? "kept" : "");
    }
    (void)fputs("</table>", page);
}

#define CHART_HEIGHT 220.0
#define CHART_WIDTH 960.0

/* A line through the tensors in the order of the graph, and those behind which most is lost. */
static void put_layers(FILE *page, const cli_accuracy *accuracy)
{
    if (accuracy->layer_count < 2) {
        return;
    }
    (void)fprintf(page,
                  "<h2>Signal to noise by layer</h2><p>Of each tensor that both networks have, in "
                  "the order of the graph.</p><svg width=%.0f height=%.0f "
                  "style=\"background:#f7f7f7\">",
                  CHART_WIDTH + 60, CHART_HEIGHT + 20);
    for (int mark = 0; mark <= (int)WIDEST; mark += 20) {
        const double decibels = mark;
        const double y = 10 + CHART_HEIGHT * (1 - decibels / WIDEST);
        (void)fprintf(page,
                      "<line x1=50 x2=%.0f y1=%.1f y2=%.1f stroke=\"#ccc\" /><text x=0 y=%.1f "
                      "font-size=11>%.0f dB</text>",
                      CHART_WIDTH + 50, y, y, y + 4, decibels);
    }
    (void)fputs("<polyline fill=none stroke=\"#3a6a9a\" stroke-width=1.5 points=\"", page);
    for (size_t i = 0; i < accuracy->layer_count; i++) {
        const cli_layer_error *layer = &accuracy->layers[i];
        const double shown = fmax(0, fmin(WIDEST, cli_decibels(&layer->of)));
        (void)fprintf(page, "%.1f,%.1f ",
                      50 + CHART_WIDTH * (double)i / (double)(accuracy->layer_count - 1),
                      10 + CHART_HEIGHT * (1 - shown / WIDEST));
    }
    (void)fputs(
        "\" /></svg><details><summary>Every tensor</summary><table><tr><th>tensor"
        "<th>operator<th class=n>signal to noise<th></tr>",
        page);
    for (size_t i = 0; i < accuracy->layer_count; i++) {
        const cli_layer_error *layer = &accuracy->layers[i];
        (void)fputs("<tr><td>", page);
        put_text(page, layer->name);
        (void)fputs("</td><td>", page);
        put_text(page, layer->operator_type);
        (void)fputs("</td>", page);
        put_decibels(page, cli_decibels(&layer->of));
        (void)fputs("</tr>", page);
    }
    (void)fputs("</table></details>", page);
}

static void put_nodes(FILE *page, const kiln_precision_report *report, size_t count)
{
    (void)fputs("<h2>Every node</h2><table><tr><th>node<th>operator<th>computes in<th>why</tr>",
                page);
    for (size_t i = 0; i < count; i++) {
        kiln_precision_node node = {.struct_size = sizeof node};
        if (kiln_precision_report_node(report, i, &node) != KILN_OK) {
            continue;
        }
        (void)fputs("<tr><td>", page);
        put_text(page, node.name[0] != '\0' ? node.name : node.output);
        (void)fputs("</td><td>", page);
        put_text(page, node.operator_type);
        (void)fprintf(page, "</td><td>%s</td><td>%s%s",
                      node.dtype == KILN_DTYPE_UNDEFINED ? "-" : kiln_dtype_name(node.dtype),
                      kiln_precision_reason_text(node.reason), node.detail[0] != '\0' ? ": " : "");
        put_text(page, node.detail);
        (void)fputs("</td></tr>", page);
    }
    (void)fputs("</table></html>\n", page);
}

cli_exit cli_accuracy_page(const cli_accuracy *accuracy, const kiln_precision_report *report,
                           const char *model, const char *output)
{
    kiln_precision_summary summary = {.struct_size = sizeof summary};
    if (kiln_precision_report_summary(report, &summary) != KILN_OK) {
        return cli_fail();
    }
    cli_text text = {NULL, 0, 0};
    FILE *page = open_memstream(&text.data, &text.size);
    if (page == NULL) {
        cli_error("\"%s\" cannot be written: %s", output, strerror(errno));
        return CLI_FAILED;
    }
    put_head(page, accuracy, &summary, model);
    put_layers(page, accuracy);
    put_costs(page, accuracy);
    put_nodes(page, report, summary.node_count);
    const bool failed = ferror(page) != 0;
    const bool is_whole = fclose(page) == 0 && !failed;
    if (!is_whole) {
        cli_error("\"%s\" cannot be written: memory is short", output);
    }
    const cli_exit done = is_whole ? cli_text_save(&text, output) : CLI_FAILED;
    free(text.data);
    return done;
}
