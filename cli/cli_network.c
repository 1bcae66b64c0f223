/* SPDX-License-Identifier: Apache-2.0 */
#include "cli_network.h"

#include <cJSON.h>
#include <stdio.h>
#include <stdlib.h>

bool cli_network_open(const char *path, bool layers, cli_network *network, cli_exit *result)
{
    *network = (cli_network){.info = {.struct_size = sizeof network->info}};
    *result = CLI_DONE;
    if (kiln_inspect_file(path, layers, &network->inspection) != KILN_OK) {
        return false;
    }
    const kiln_issue_list *issues = kiln_inspection_issues(network->inspection);
    for (size_t i = 0; i < kiln_issue_list_count(issues); i++) {
        cli_error("warning: %s", kiln_issue_list_get(issues, i)->sentence);
    }
    if (kiln_inspection_summary(network->inspection, &network->info) != KILN_OK) {
        *result = cli_fail();
    }
    return true;
}

void cli_network_close(cli_network *network)
{
    kiln_inspection_destroy(network->inspection);
    *network = (cli_network){.inspection = NULL};
}

static cli_exit opset_at(const cli_network *network, size_t index, kiln_inspection_opset *opset)
{
    *opset = (kiln_inspection_opset){.struct_size = sizeof *opset};
    return kiln_inspection_get_opset(network->inspection, index, opset) == KILN_OK ? CLI_DONE
                                                                                   : cli_fail();
}

static cli_exit node_at(const cli_network *network, size_t index, kiln_inspection_node *node)
{
    *node = (kiln_inspection_node){.struct_size = sizeof *node};
    return kiln_inspection_get_node(network->inspection, index, node) == KILN_OK ? CLI_DONE
                                                                                 : cli_fail();
}

/* --- text --- */

static void append_count(cli_text *text, const char *before, size_t count, const char *what)
{
    cli_text_printf(text, "%s%zu %s%s", before, count, what, CLI_S(count));
}

cli_exit cli_network_print_head(const char *path, const cli_network *network)
{
    const kiln_inspection_info *info = &network->info;
    CLI_TEXT_SCOPED text = {NULL, 0, 0};
    SCOPED_HEAP char *printable = cli_printable(path);
    cli_text_printf(&text, "%s\nONNX: IR version %lld", printable, (long long)info->ir_version);
    for (size_t i = 0; i < info->opset_count; i++) {
        kiln_inspection_opset opset;
        CLI_RETURN_UNLESS_DONE(opset_at(network, i, &opset));
        SCOPED_HEAP char *domain = cli_printable(opset.domain);
        cli_text_printf(&text, "%s%s %lld", i == 0 ? "; operator sets " : ", ", domain,
                        (long long)opset.version);
    }
    append_count(&text, "\n", info->node_count, "node");
    append_count(&text, ", ", info->initializer_count, "initializer");
    if (info->initializer_count > 0) {
        cli_text_printf(&text, " of %llu byte%s", (unsigned long long)info->initializer_bytes,
                        CLI_S(info->initializer_bytes));
    }
    if (info->function_count > 0) {
        append_count(&text, ", ", info->function_count, "function");
    }
    (void)printf("%s\n\n", text.data);
    return CLI_DONE;
}

static void add_rows(cli_table *table, const kiln_inspection_node *node)
{
    CLI_TEXT_SCOPED name = {NULL, 0, 0};
    CLI_TEXT_SCOPED operator_name = {NULL, 0, 0};
    cli_text_append(&name, "", 0);
    cli_text_printf(&name, "%*s%s%s%s", (int)node->depth * 2, "", node->graph,
                    node->depth > 0 ? ": " : "", node->name);
    /* For example "com.microsoft::Gelu". */
    cli_text_printf(&operator_name, "%s%s%s", node->domain, node->domain[0] != '\0' ? "::" : "",
                    node->operator_type);
    const size_t count = node->input_count + node->output_count;
    for (size_t i = 0; i < count || i == 0; i++) {
        const bool is_input = i < node->input_count;
        const size_t at = is_input ? i : i - node->input_count;
        CLI_TABLE_ADD(table, i == 0 ? name.data : "", i == 0 ? operator_name.data : "");
        if (count > 0) {
            CLI_TABLE_ADD(table, is_input ? "input" : "output",
                          is_input ? node->inputs[at] : node->outputs[at],
                          is_input ? node->input_types[at] : node->output_types[at]);
        } else {
            CLI_TABLE_ADD(table, "", "", "");
        }
    }
}

cli_exit cli_network_print_layers(const cli_network *network)
{
    static const char *const headings[] = {"layer", "operator", "", "tensor", "type"};
    cli_table table;
    cli_exit result = CLI_DONE;
    cli_table_init(&table, "lllll", headings);
    for (size_t i = 0; i < network->info.node_count && result == CLI_DONE; i++) {
        kiln_inspection_node node;
        result = node_at(network, i, &node);
        if (result == CLI_DONE) {
            add_rows(&table, &node);
        }
    }
    (void)fputs("\n", stdout);
    cli_table_print(&table, 0);
    return result;
}

/* --- JSON --- */

cli_exit cli_network_add_head(cJSON *document, const cli_network *network)
{
    const kiln_inspection_info *info = &network->info;
    (void)cJSON_AddNumberToObject(document, "ir_version", (double)info->ir_version);
    cJSON *opsets = cJSON_AddArrayToObject(document, "opsets");
    for (size_t i = 0; i < info->opset_count; i++) {
        kiln_inspection_opset opset;
        CLI_RETURN_UNLESS_DONE(opset_at(network, i, &opset));
        cJSON *object = cJSON_CreateObject();
        cli_json_add_text(object, "domain", opset.domain);
        (void)cJSON_AddNumberToObject(object, "version", (double)opset.version);
        (void)cJSON_AddItemToArray(opsets, object);
    }
    (void)cJSON_AddNumberToObject(document, "nodes", (double)info->node_count);
    cJSON *initializers = cJSON_AddObjectToObject(document, "initializers");
    (void)cJSON_AddNumberToObject(initializers, "count", (double)info->initializer_count);
    (void)cJSON_AddNumberToObject(initializers, "bytes", (double)info->initializer_bytes);
    (void)cJSON_AddNumberToObject(document, "functions", (double)info->function_count);
    cJSON *list = cJSON_AddArrayToObject(document, "issues");
    const kiln_issue_list *issues = kiln_inspection_issues(network->inspection);
    for (size_t i = 0; i < kiln_issue_list_count(issues); i++) {
        const kiln_issue *issue = kiln_issue_list_get(issues, i);
        cJSON *item = cJSON_CreateObject();
        cli_json_add_text(item, "file", issue->found);
        cli_json_add_text(item, "tensor", issue->tensor);
        cli_json_add_text(item, "sentence", issue->sentence);
        (void)cJSON_AddItemToArray(list, item);
    }
    return CLI_DONE;
}

static void add_tensors(cJSON *object, const char *key, const char *const *names,
                        const char *const *types, size_t count)
{
    cJSON *array = cJSON_AddArrayToObject(object, key);
    for (size_t i = 0; i < count; i++) {
        cJSON *tensor = cJSON_CreateObject();
        cli_json_add_text(tensor, "name", names[i]);
        cli_json_add_text(tensor, "type", types[i]);
        (void)cJSON_AddItemToArray(array, tensor);
    }
}

cli_exit cli_network_add_layers(cJSON *document, const cli_network *network)
{
    cJSON *layers = cJSON_AddArrayToObject(document, "layers");
    for (size_t i = 0; i < network->info.node_count; i++) {
        kiln_inspection_node node;
        CLI_RETURN_UNLESS_DONE(node_at(network, i, &node));
        cJSON *object = cJSON_CreateObject();
        cli_json_add_text(object, "name", node.name);
        cli_json_add_text(object, "operator", node.operator_type);
        cli_json_add_text(object, "domain", node.domain);
        if (node.depth > 0) {
            (void)cJSON_AddNumberToObject(object, "depth", (double)node.depth);
            cli_json_add_text(object, "graph", node.graph);
        }
        add_tensors(object, "inputs", node.inputs, node.input_types, node.input_count);
        add_tensors(object, "outputs", node.outputs, node.output_types, node.output_count);
        (void)cJSON_AddItemToArray(layers, object);
    }
    return CLI_DONE;
}
