/* SPDX-License-Identifier: Apache-2.0 */
/* Rewrites a decoder, as exporters write it, into one with cheaper steps. */
#include <kiln/layers.h>

#include "graph/kln_graph.h"
#include "stream_parts.h"

typedef struct prepare_pass {
    kln_graph_edit edit;
    const kiln_stream_network_options *options;
    const char *logits;
    const char **renamed;  /* new name of each graph output, or NULL */
    int64_t *axes;         /* the dimension whose size changes, or -1 */
    kln_onnx_node *source; /* produces the logits, and will output `all` instead; or NULL */
    const char *all;
} prepare_pass;

static kiln_status fail_memory(void)
{
    return kln_fail_memory(sizeof(kln_onnx_node), "a network for steps");
}

static kln_onnx_node *add(prepare_pass *pass, size_t before, const char *op, const char *a,
                          const char *b, const char *output)
{
    const char *const inputs[] = {a, b};
    return kln_graph_edit_add_node(&pass->edit, before, "", op, inputs, b != NULL ? 2 : 1, &output,
                                   1);
}

static const char *number(prepare_pass *pass, const char *stem, const char *what, int64_t value)
{
    static const int64_t one = 1;
    kln_onnx_tensor *made =
        kln_graph_edit_add_weights(&pass->edit, stem, what, KILN_DTYPE_INT64, 1, &one);
    if (made == NULL) {
        return NULL;
    }
    memcpy((void *)(uintptr_t)made->data.data, &value, sizeof value);
    return made->name;
}

/* --- present --- */

static bool is_present(const char *name)
{
    return strncmp(name, "present", 7) == 0;
}

/* Whether the graph has an input of that name. */
static bool is_input(const kln_onnx_graph *graph, const char *name)
{
    bool is = false;
    for (size_t i = 0; i < graph->input_count; i++) {
        is |= strcmp(graph->inputs[i].name, name) == 0;
    }
    return is;
}

static int64_t axis_of(const kln_onnx_node *node)
{
    for (size_t i = 0; i < node->attribute_count; i++) {
        if (strcmp(node->attributes[i].name, "axis") == 0) {
            return node->attributes[i].i;
        }
    }
    return 0;
}

static kiln_status cut_present(prepare_pass *pass, size_t output)
{
    const kln_onnx_graph *graph = pass->edit.graph;
    const kln_onnx_value *value = &graph->outputs[output];
    size_t index = 0;
    const kln_onnx_node *join = kln_graph_edit_producer(&pass->edit, value->name, "Concat", &index);
    if (join == NULL || join->input_count != 2 || !is_input(graph, join->inputs[0])) {
        return kln_fail(KILN_ERROR_UNSUPPORTED,
                        "kiln_network_prepare_stream: output \"%s\" is not made by a Concat of an "
                        "input and the new positions; keep it as it is (keep_present)",
                        value->name);
    }
    const char *name =
        kln_arena_printf(&pass->edit.model->arena, STREAM_NEW_PREFIX "%s", value->name);
    KLN_FAIL_IF(name == NULL || add(pass, index, "Identity", join->inputs[1], NULL, name) == NULL,
                fail_memory());
    const int64_t axis = axis_of(join);
    pass->renamed[output] = name;
    pass->axes[output] = axis >= 0 ? axis : axis + (int64_t)value->type.rank;
    return KILN_OK;
}

/* --- logits --- */

/* Takes the last position of `name` as `output`, before node `before`. */
static kiln_status add_last(prepare_pass *pass, size_t before, const char *name, const char *output)
{
    kln_arena *arena = &pass->edit.model->arena;
    const char *sizes = kln_arena_printf(arena, "%s/sizes", output);
    const char *length = kln_arena_printf(arena, "%s/length", output);
    const char *place = kln_arena_printf(arena, "%s/place", output);
    const char *one = number(pass, output, "one", 1);
    KLN_FAIL_IF(sizes == NULL || length == NULL || place == NULL || one == NULL ||
                    add(pass, before, "Shape", name, NULL, sizes) == NULL ||
                    add(pass, before, "Gather", sizes, one, length) == NULL ||
                    add(pass, before, "Sub", length, one, place) == NULL,
                fail_memory());
    kln_onnx_node *gather = add(pass, before, "Gather", name, place, output);
    KLN_FAIL_IF(gather == NULL, fail_memory());
    kln_graph_edit_set_int(gather, "axis", 1);
    return KILN_OK;
}

/* The MatMul that produces the logits, with at most casts after it; or NULL. */
static const kln_onnx_node *find_product(const prepare_pass *pass, size_t *index)
{
    const char *name = pass->logits;
    const kln_onnx_node *node = NULL;
    while (kln_graph_edit_readers(&pass->edit, name) == 1 &&
           (node = kln_graph_edit_producer(&pass->edit, name, NULL, index)) != NULL &&
           kln_onnx_node_is(node, "Cast")) {
        name = node->inputs[0];
    }
    return node != NULL && kln_graph_edit_readers(&pass->edit, name) == 1 &&
                   kln_onnx_node_is(node, "MatMul")
               ? node
               : NULL;
}

static kiln_status cut_logits(prepare_pass *pass)
{
    kln_arena *arena = &pass->edit.model->arena;
    size_t index = 0;
    const kln_onnx_node *product = find_product(pass, &index);
    const char *name = kln_arena_printf(arena, "%s/last", pass->logits);
    KLN_FAIL_IF(name == NULL, fail_memory());
    if (product != NULL) {
        KLN_RETURN_IF_ERROR(add_last(pass, index, product->inputs[0], name));
        KLN_FAIL_IF(
            add(pass, index, "MatMul", name, product->inputs[1], product->outputs[0]) == NULL,
            fail_memory());
        kln_graph_edit_drop(&pass->edit, index);
        return KILN_OK;
    }
    /* Otherwise the logits themselves are cut, and their producer's output is renamed. */
    const kln_onnx_node *source = kln_graph_edit_producer(&pass->edit, pass->logits, NULL, &index);
    if (source == NULL || kln_graph_edit_readers(&pass->edit, pass->logits) != 1) {
        return kln_fail(KILN_ERROR_UNSUPPORTED,
                        "kiln_network_prepare_stream: output \"%s\" is read inside the network, or "
                        "made by no node; keep it as it is (keep_all_logits)",
                        pass->logits);
    }
    const char *all = kln_arena_printf(arena, "%s/all", pass->logits);
    KLN_FAIL_IF(all == NULL, fail_memory());
    KLN_RETURN_IF_ERROR(add_last(pass, index + 1, all, pass->logits));
    pass->source = &pass->edit.graph->nodes[index];
    pass->all = all;
    return KILN_OK;
}

/* --- the whole network --- */

static kiln_status find_logits(const prepare_pass *pass, size_t *output)
{
    const kln_onnx_graph *graph = pass->edit.graph;
    for (size_t i = 0; i < graph->output_count; i++) {
        if (strcmp(graph->outputs[i].name, pass->logits) == 0) {
            *output = i;
            return graph->outputs[i].type.rank == 3 || !graph->outputs[i].type.has_shape
                       ? KILN_OK
                       : kln_fail(KILN_ERROR_RANK,
                                  "kiln_network_prepare_stream: output \"%s\" has %zu dimensions; "
                                  "rows, positions and a vocabulary are needed",
                                  pass->logits, graph->outputs[i].type.rank);
        }
    }
    return kln_fail(KILN_ERROR_NAME,
                    "kiln_network_prepare_stream: the network has no output \"%s\"", pass->logits);
}

static kiln_status rewrite(prepare_pass *pass)
{
    const kln_onnx_graph *graph = pass->edit.graph;
    size_t logits = 0;
    KLN_RETURN_IF_ERROR(find_logits(pass, &logits));
    for (size_t i = 0; i < graph->output_count && !pass->options->keep_present; i++) {
        if (is_present(graph->outputs[i].name)) {
            KLN_RETURN_IF_ERROR(cut_present(pass, i));
        }
    }
    if (!pass->options->keep_all_logits) {
        KLN_RETURN_IF_ERROR(cut_logits(pass));
        pass->axes[logits] = 1;
    }
    return kln_graph_edit_commit(&pass->edit);
}

static void *copy(prepare_pass *pass, const void *list, size_t bytes)
{
    void *made = kln_arena_alloc(&pass->edit.model->arena, bytes != 0 ? bytes : 1);
    if (made != NULL && bytes != 0) {
        memcpy(made, list, bytes);
    }
    return made;
}

static kiln_status rename_source(prepare_pass *pass)
{
    kln_onnx_node *source = pass->source;
    if (source == NULL) {
        return KILN_OK;
    }
    const char **names = copy(pass, source->outputs, source->output_count * sizeof *names);
    KLN_FAIL_IF(names == NULL, fail_memory());
    source->outputs = names;
    for (size_t k = 0; k < source->output_count; k++) {
        names[k] = strcmp(names[k], pass->logits) == 0 ? pass->all : names[k];
    }
    return KILN_OK;
}

/* Updates the names and sizes of outputs. The old lists are copied, as another network may share
 * them. */
static kiln_status rename_outputs(prepare_pass *pass)
{
    kln_onnx_graph *graph = pass->edit.graph;
    kln_onnx_value *values = copy(pass, graph->outputs, graph->output_count * sizeof *values);
    KLN_FAIL_IF(values == NULL, fail_memory());
    graph->outputs = values;
    graph->value_count = 0; /* declared types of intermediate tensors may no longer hold */
    for (size_t i = 0; i < graph->output_count; i++) {
        kln_onnx_type *type = &values[i].type;
        if (pass->axes[i] >= 0 && type->has_shape && (size_t)pass->axes[i] < type->rank) {
            type->dims = copy(pass, type->dims, type->rank * sizeof *type->dims);
            KLN_FAIL_IF(type->dims == NULL, fail_memory());
            kln_onnx_dim *dim = &type->dims[pass->axes[i]];
            dim->value = pass->renamed[i] != NULL ? KILN_DYNAMIC : 1;
            dim->parameter = NULL;
            dim->present = 0;
        }
        values[i].name = pass->renamed[i] != NULL ? pass->renamed[i] : values[i].name;
    }
    return rename_source(pass);
}

static kiln_status run_pass(kln_onnx_model *model, const kiln_stream_network_options *options)
{
    prepare_pass pass = {.options = options,
                         .logits = options->logits != NULL ? options->logits : "logits"};
    const size_t outputs = model->graph.output_count;
    KLN_RETURN_IF(!kln_graph_edit_suits(model), KILN_ERROR_UNSUPPORTED,
                  "kiln_network_prepare_stream: the network is empty, or has graphs inside "
                  "nodes");
    KLN_SCOPED_FREE const char **renamed = kln_alloc_zeroed(outputs, sizeof *renamed);
    KLN_SCOPED_FREE int64_t *axes = kln_alloc_zeroed(outputs, sizeof *axes);
    KLN_FAIL_IF(renamed == NULL || axes == NULL, fail_memory());
    for (size_t i = 0; i < outputs; i++) {
        axes[i] = -1;
    }
    pass.renamed = renamed;
    pass.axes = axes;
    kiln_status status = kln_graph_edit_begin(model, &pass.edit);
    KLN_THEN(status, rewrite(&pass));
    KLN_THEN(status, rename_outputs(&pass));
    kln_graph_edit_end(&pass.edit);
    return status;
}

kiln_status kiln_network_prepare_stream(kiln_network *network,
                                        const kiln_stream_network_options *options)
{
    kiln_stream_network_options own = KILN_STREAM_NETWORK_OPTIONS_INIT;
    KLN_SCOPED(kiln_network_destroy_at) kiln_network *changed = NULL;
    kln_onnx_model *model = NULL;
    KLN_RETURN_IF_NULL(network);
    if (options != NULL) {
        KLN_RETURN_IF_ERROR(
            kln_options_read("kiln_stream_network_options", options, &own, sizeof own));
    }
    if (own.candidates < 0 || own.candidates > STREAM_MOST_CANDIDATES ||
        (own.candidates != 0 && own.keep_all_logits)) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_stream_network_options: candidates is %d; it is 0 to %d, and 0 with "
                        "keep_all_logits",
                        own.candidates, STREAM_MOST_CANDIDATES);
    }
    KLN_RETURN_IF_ERROR(kln_network_fork(network, &changed));
    KLN_RETURN_IF_ERROR(kln_network_rewrite(changed, &model));
    KLN_RETURN_IF_ERROR(run_pass(model, &own));
    KLN_RETURN_IF_ERROR(kln_network_rewritten(changed));
    if (own.candidates != 0) {
        const char *logits = own.logits != NULL ? own.logits : "logits";
        KLN_RETURN_IF_ERROR(stream_add_candidates(changed, logits, own.candidates));
    }
    kln_network_take(network, KLN_TAKE(changed));
    return KILN_OK;
}
