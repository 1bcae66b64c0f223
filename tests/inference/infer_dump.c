/* SPDX-License-Identifier: Apache-2.0 */
/* Prints what Kiln infers of each model named on standard input, one line of JSON a model, for
 * compare_onnx.py. */
#include <stdio.h>
#include <string.h>

#include "graph/kln_graph.h"
#include "ops/kln_schema.h"

static void print_string(const char *text)
{
    (void)putchar('"');
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\') {
            (void)printf("\\%c", *c);
        } else if (*c < 0x20) {
            (void)printf("\\u%04x", *c);
        } else {
            (void)putchar(*c);
        }
    }
    (void)putchar('"');
}

static void print_type(const kln_value *value)
{
    (void)printf("{\"k\":%d,\"t\":%d", (int)value->kind, (int)value->wire_dtype);
    if (value->has_shape) {
        (void)printf(",\"s\":[");
        for (size_t i = 0; i < value->rank; i++) {
            char text[512];
            (void)kln_dim_format(value->dims[i], text, sizeof text);
            (void)printf("%s", i > 0 ? "," : "");
            if (value->dims[i].kind == KLN_DIM_NUMBER) {
                (void)printf("%s", text);
            } else if (value->dims[i].kind == KLN_DIM_UNKNOWN) {
                (void)printf("null");
            } else {
                print_string(text);
            }
        }
        (void)printf("]");
    }
    if (value->element != NULL) {
        (void)printf(",\"e\":");
        print_type(value->element);
    }
    (void)printf("}");
}

static void print_graph(const kln_graph_inference *graph)
{
    (void)printf("{\"values\":{");
    bool first = true;
    for (size_t i = 0; i < graph->value_count; i++) {
        (void)printf("%s", first ? "" : ",");
        first = false;
        print_string(graph->values[i]->name);
        (void)printf(":");
        print_type(graph->values[i]);
    }
    (void)printf("},\"inner\":{");
    first = true;
    for (size_t n = 0; n < graph->node_count; n++) {
        const kln_resolved *resolved = graph->nodes[n].resolved;
        const bool function = resolved != NULL && resolved->function != NULL;
        for (size_t k = 0; !function && k < graph->nodes[n].graph_count; k++) {
            (void)printf("%s\"%zu.%zu\":", first ? "" : ",", n, k);
            first = false;
            print_graph(graph->nodes[n].graphs[k]);
        }
    }
    (void)printf("}}");
}

static void print_issues(const kiln_issue_list *issues)
{
    (void)printf("[");
    for (size_t i = 0; i < kiln_issue_list_count(issues); i++) {
        const kiln_issue *issue = kiln_issue_list_get(issues, i);
        (void)printf("%s{\"severity\":%d,\"kind\":\"%s\",\"sentence\":", i > 0 ? "," : "",
                     (int)issue->severity, kiln_issue_kind_name(issue->kind));
        print_string(issue->sentence);
        (void)printf("}");
    }
    (void)printf("]");
}

static void print_model(const char *path)
{
    kln_onnx_model *model = NULL;
    kln_inference *inference = NULL;
    kiln_issue_list *issues = NULL;
    (void)printf("{\"path\":");
    print_string(path);
    kiln_status status = kln_onnx_read_file(path, &model);
    if (status == KILN_OK) {
        status = kln_infer(model, NULL, &inference);
    }
    if (status == KILN_OK) {
        status = kln_validate(model, NULL, &issues);
    }
    if (status != KILN_OK) {
        (void)printf(",\"error\":");
        print_string(kiln_error_message());
    } else {
        (void)printf(",\"graph\":");
        print_graph(inference->graph);
        (void)printf(",\"inference\":");
        print_issues(inference->issues);
        (void)printf(",\"issues\":");
        print_issues(issues);
    }
    (void)printf("}\n");
    kiln_issue_list_destroy(issues);
    kln_inference_destroy(inference);
    kln_onnx_model_destroy(model);
}

int main(void)
{
    char path[4096];
    while (fgets(path, sizeof path, stdin) != NULL) {
        path[strcspn(path, "\n")] = '\0';
        if (path[0] != '\0') {
            print_model(path);
            (void)fflush(stdout);
        }
    }
    return 0;
}
