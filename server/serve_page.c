/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_data.h"
#include "serve_parts.h"

static const char style[] =
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:75em;padding:0 1em;"
    "color:#222;background:#fff}h1{font-size:1.4em}table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.3em .8em .3em 0;border-bottom:1px solid #ddd;"
    "vertical-align:top}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}td.b{white-space:nowrap}"
    ".READY{color:#17692b}"
    ".UNAVAILABLE{color:#a11}.LOADING{color:#8a5a00}code{font-size:.92em}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th,td{border-color:#444}"
    ".READY{color:#6fd08a}.UNAVAILABLE{color:#f88}.LOADING{color:#e8b45a}}";

static void put_bindings(serve_text *text, const serve_binding *bindings, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char shape[256];
        (void)kiln_shape_format(&bindings[i].shape, shape, sizeof shape);
        serve_text_string(text, i > 0 ? "<br><code>" : "<code>");
        serve_text_html(text, bindings[i].name);
        serve_text_printf(text, "</code> %s %s", serve_type_name(bindings[i].dtype), shape);
    }
}

static void put_version(serve_text *text, const serve_model *model, const serve_version *version)
{
    const serve_instance *instance = version->instance;
    serve_figures figures;
    serve_figures_read(version, &figures);
    serve_text_string(text, "<tr><td>");
    serve_text_html(text, model->name);
    serve_text_printf(text, "<td>%s<td class=%s>%s<td>", version->version,
                      serve_states[version->state], serve_states[version->state]);
    if (instance == NULL) {
        serve_text_html(text, version->reason);
        serve_text_string(text, "<td><td>");
    } else {
        serve_text_html(text, instance->backend);
        serve_text_string(text, "<td class=b>");
        put_bindings(text, instance->inputs, instance->input_count);
        serve_text_string(text, "<td class=b>");
        put_bindings(text, instance->outputs, instance->output_count);
    }
    serve_text_printf(
        text,
        "<td class=n>%llu<td class=n>%llu<td class=n>%llu<td class=n>%.2f<td "
        "class=n>%.2f<td class=n>%.2f</tr>\n",
        figures.success, figures.failure, figures.pending,
        figures.executions != 0 ? (double)figures.rows / (double)figures.executions : 0.0,
        figures.median_ns / 1e6, figures.p99_ns / 1e6);
}

serve_result serve_page_run(serve_connection *at)
{
    serve *server = at->server;
    serve_text text = {.data = NULL};
    const size_t sockets = atomic_load(&server->sockets);
    const size_t requests = atomic_load(&server->requests);
    serve_text_printf(
        &text,
        "<!doctype html><html lang=en><meta charset=utf-8><meta "
        "http-equiv=refresh content=5><title>kiln serve</title><style>%s</style>"
        "<h1>kiln %s</h1><p>Up for %.0f s; %zu connection%s, %zu request%s "
        "in flight%s.</p><table><tr><th>model<th>version<th>state<th>backend<th>inputs"
        "<th>outputs<th class=n>answered<th class=n>failed<th class=n>waiting<th "
        "class=n>rows a batch<th class=n>run, ms<th class=n>p99, ms</tr>\n",
        style, kiln_version_string(), (double)(kiln_clock_now() - server->started) / 1e9, sockets,
        sockets == 1 ? "" : "s", requests, requests == 1 ? "" : "s",
        atomic_load(&server->stopping) ? "; it is stopping" : "");
    (void)pthread_rwlock_rdlock(&server->models.lock);
    for (const serve_model *model = server->models.first; model != NULL; model = model->next) {
        for (const serve_version *version = model->versions; version != NULL;
             version = version->next) {
            put_version(&text, model, version);
        }
    }
    (void)pthread_rwlock_unlock(&server->models.lock);
    serve_text_string(&text,
                      "</table><p><a href=/metrics>metrics</a> &middot; <a "
                      "href=/v2/models/stats>statistics</a> &middot; <a href=/v2>server</a></p>");
    (void)serve_answer_text(at, 200, "text/html; charset=utf-8", &text);
    return SERVE_DONE;
}
