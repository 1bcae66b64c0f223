/* SPDX-License-Identifier: Apache-2.0 */
/* Chooses the tensors to even out; only a table of ranges with channels makes any candidates. */
#include "smooth_parts.h"

/* The least estimated gain, in decibels, that is worth a change. */
#define WORTH_IT 0.5

/* --- constants --- */

static kiln_status align_constants(smooth_pass *pass)
{
    for (size_t i = 0; i < pass->graph.initializer_count; i++) {
        kln_onnx_tensor *tensor = &pass->graph.initializers[i];
        if (tensor->dtype == KILN_DTYPE_FLOAT32 && tensor->data.data != NULL &&
            (uintptr_t)tensor->data.data % _Alignof(float) != 0) { /* files may not align it */
            float *copy = kln_arena_alloc(pass->arena, tensor->data.size + 1);
            KLN_FAIL_IF(copy == NULL, smooth_no_memory());
            tensor->data.data = memcpy(copy, tensor->data.data, tensor->data.size);
        }
    }
    return KILN_OK;
}

/* --- nodes --- */

static void set_strides(const kln_onnx_node *node, const kln_value *weights, smooth_node *of)
{
    const size_t first = (size_t)weights->dims[0].of.number;
    const size_t second = (size_t)weights->dims[1].of.number;
    const size_t window = of->count / (first * second);
    const bool outs_first =
        kln_onnx_node_is(node, "Conv") ||
        (kln_onnx_node_is(node, "Gemm") && kln_onnx_int(node, "transB", 0) != 0);
    of->outs = outs_first ? first : second;
    of->ins = outs_first ? second : first;
    of->out_stride = outs_first ? second * window : window;
    of->in_stride = outs_first ? window : second * window;
    of->groups = kln_onnx_node_is(node, "Conv") ? (size_t)kln_onnx_int(node, "group", 1) : 1;
}

static bool pads(const kln_onnx_node *node)
{
    const kln_onnx_attribute *list = kln_onnx_find_attribute(node, "pads");
    const kln_onnx_attribute *automatic = kln_onnx_find_attribute(node, "auto_pad");
    bool found =
        automatic != NULL && automatic->s.size > 4 && memcmp(automatic->s.data, "SAME", 4) == 0;
    for (size_t i = 0; list != NULL && i < list->count; i++) {
        found = found || list->ints[i] != 0;
    }
    return found;
}

/* The Add that alone reads a MatMul's output and adds a bias to it. */
static uint32_t find_adder(const smooth_pass *pass, const kln_onnx_node *node, size_t outs)
{
    const kln_value *out = kln_inference_find(pass->inference->graph, node->outputs[0]);
    if (out == NULL || out->consumers != 1) {
        return KLN_NO_NODE;
    }
    const uint32_t place = kln_names_get(&pass->index.of.consumers, out->name);
    const kln_onnx_node *next = place != KLN_NAMES_NONE ? &pass->graph.nodes[place] : NULL;
    size_t count = 0;
    if (next == NULL || !kln_onnx_node_is(next, "Add")) {
        return KLN_NO_NODE;
    }
    const char *other = next->inputs[strcmp(next->inputs[0], out->name) == 0];
    const kln_value *bias = kln_inference_find(pass->inference->graph, other);
    return smooth_constant(pass, other, &count) != NULL && count == outs && bias != NULL &&
                   bias->rank == 1
               ? place
               : KLN_NO_NODE;
}

static void look_at_bias(const smooth_pass *pass, const kln_onnx_node *node, smooth_node *of)
{
    size_t count = 0;
    of->adder = KLN_NO_NODE;
    if (kln_onnx_node_is(node, "MatMul")) {
        of->adder = find_adder(pass, node, of->outs);
        of->takes_bias = of->adder != KLN_NO_NODE;
    } else {
        const kln_onnx_attribute *beta = kln_onnx_find_attribute(node, "beta");
        const kln_onnx_attribute *alpha = kln_onnx_find_attribute(node, "alpha");
        const bool scaled =
            (beta != NULL && beta->f != 1.0F) || (alpha != NULL && alpha->f != 1.0F);
        const bool has_none = node->input_count < 3 || node->inputs[2][0] == '\0';
        of->takes_bias =
            !scaled && (has_none || (smooth_constant(pass, node->inputs[2], &count) != NULL &&
                                     count == of->outs));
    }
}

static void look_at_node(const smooth_pass *pass, size_t index)
{
    const kln_onnx_node *node = &pass->graph.nodes[index];
    smooth_node *of = &pass->nodes[index];
    const kln_graph_inference *known = pass->inference->graph;
    if (quantize_is_kept(pass->options, node) || !kln_precision_summed(node, known, &of->input) ||
        quantize_gated(known, &pass->index, node) != NULL) {
        return;
    }
    const kln_value *weights = kln_inference_find(known, node->inputs[1]);
    const float *numbers = smooth_constant(pass, node->inputs[1], &of->count);
    const kln_value *input = kln_inference_find(known, node->inputs[0]);
    if (numbers == NULL || weights == NULL || weights->dims[0].kind != KLN_DIM_NUMBER ||
        weights->dims[1].kind != KLN_DIM_NUMBER || of->count == 0 ||
        (of->input.is_last && weights->rank != 2) || input == NULL || !input->has_shape ||
        (kln_onnx_node_is(node, "ConvTranspose") && kln_onnx_int(node, "group", 1) != 1)) {
        return;
    }
    of->weights = (float *)(uintptr_t)numbers; /* copied before it is written to */
    set_strides(node, weights, of);
    of->is_padded = pads(node) || kln_onnx_node_is(node, "ConvTranspose");
    look_at_bias(pass, node, of);
    kln_patch patch;
    of->is_shared = weights->consumers != 1;
    of->products = !of->is_shared && kln_patch_of(node, known, &patch)
                       ? kln_ranges_products(pass->options->ranges, &patch)
                       : NULL;
    of->is_candidate =
        !quantize_has_no_gain(pass->options, &pass->index, node,
                              &(quantize_product){0, (int64_t)of->outs, (int64_t)of->ins}) &&
        of->groups > 0 && of->outs % of->groups == 0 && of->ins * of->groups == of->input.count;
}

/* --- tensors --- */

/* A binding keeps its values: the caller's scale is for them. */
static bool is_bound(const smooth_pass *pass, const char *name)
{
    for (size_t i = 0; i < pass->options->binding_count; i++) {
        if (strcmp(pass->options->bindings[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static kiln_status even_out(smooth_pass *pass, const char *name, const uint32_t *readers,
                            size_t count)
{
    const kiln_range *range = kiln_range_table_find(pass->options->ranges, name);
    const smooth_node *first = &pass->nodes[readers[0]];
    smooth_value value = {.name = name, .channels = first->input.count, .range = range};
    if (range == NULL || range->channel_count != value.channels ||
        !(range->greatest > range->least) || is_bound(pass, name)) {
        return KILN_OK;
    }
    for (size_t r = 0; r < count; r++) {
        const smooth_node *other = &pass->nodes[readers[r]];
        if (other->is_shared || other->input.count != first->input.count ||
            other->input.is_last != first->input.is_last) {
            return KILN_OK;
        }
    }
    KLN_RETURN_IF_ERROR(smooth_choose(pass, readers, count, &value));
    if (value.gain >= WORTH_IT) {
        return smooth_apply(pass, readers, count, &value);
    }
    return KILN_OK;
}

/* Goes through each tensor that candidates read once, in the order of the graph. The candidates
 * that read the same tensor form a list, starting with the first. */
static kiln_status even_out_all(smooth_pass *pass)
{
    const size_t count = pass->graph.node_count;
    KLN_SCOPED_FREE uint32_t *next = kln_alloc_zeroed(2 * count + 1, sizeof *next);
    KLN_SCOPED(kln_names_finish) kln_names firsts = {0};
    KLN_FAIL_IF(next == NULL, smooth_no_memory());
    uint32_t *readers = next + count;
    for (size_t i = count; i-- > 0;) {
        if (pass->nodes[i].is_candidate) {
            KLN_RETURN_IF_ERROR(
                kln_names_swap(&firsts, pass->nodes[i].input.name, (uint32_t)i, &next[i]));
        }
    }
    for (size_t i = 0; i < count; i++) {
        const smooth_node *node = &pass->nodes[i];
        size_t reader_count = 0;
        if (!node->is_candidate || kln_names_get(&firsts, node->input.name) != i) {
            continue;
        }
        for (uint32_t k = (uint32_t)i; k != KLN_NAMES_NONE; k = next[k]) {
            readers[reader_count++] = k;
        }
        KLN_RETURN_IF_ERROR(even_out(pass, node->input.name, readers, reader_count));
    }
    return KILN_OK;
}

/* --- the whole graph --- */

static kiln_status begin(smooth_pass *pass)
{
    const kln_onnx_graph *graph = &pass->model->graph;
    pass->graph = *graph;
    pass->graph.nodes =
        kln_arena_alloc_zeroed(pass->arena, graph->node_count + 1, sizeof *graph->nodes);
    pass->nodes = kln_arena_alloc_zeroed(pass->arena, graph->node_count + 1, sizeof *pass->nodes);
    KLN_FAIL_IF(pass->graph.nodes == NULL || pass->nodes == NULL, smooth_no_memory());
    KLN_RETURN_IF_ERROR(kln_onnx_copy_initializers(pass->arena, &pass->graph));
    /* Own copies, because names of inputs and outputs are changed. */
    for (size_t i = 0; i < graph->node_count; i++) {
        const uint32_t *order = pass->inference->graph->order;
        kln_onnx_node *node = &pass->graph.nodes[i];
        *node = graph->nodes[order != NULL ? order[i] : i];
        const char **names = kln_arena_alloc_zeroed(
            pass->arena, node->input_count + node->output_count + 1, sizeof *names);
        KLN_FAIL_IF(names == NULL, smooth_no_memory());
        memcpy(names, node->inputs, node->input_count * sizeof *names);
        memcpy(names + node->input_count, node->outputs, node->output_count * sizeof *names);
        node->inputs = names;
        node->outputs = names + node->input_count;
    }
    return align_constants(pass);
}

static kiln_status end(smooth_pass *pass)
{
    const size_t count = pass->graph.node_count + pass->insertion_count;
    kln_onnx_node *nodes = kln_arena_alloc_zeroed(pass->arena, count + 1, sizeof *nodes);
    size_t *before = kln_alloc_zeroed(pass->graph.node_count + 1, sizeof *before);
    if (nodes == NULL || before == NULL) {
        kln_free(before);
        return smooth_no_memory();
    }
    for (size_t k = 0; k < pass->insertion_count; k++) {
        before[pass->insertions[k].before]++;
    }
    /* For each node, first where its insertions start, then where the next one goes. */
    for (size_t i = 0, at = 0; i < pass->graph.node_count; i++) {
        const size_t inserted = before[i];
        before[i] = at;
        at += inserted;
        nodes[at++] = pass->graph.nodes[i];
    }
    for (size_t k = 0; k < pass->insertion_count; k++) {
        nodes[before[pass->insertions[k].before]++] = pass->insertions[k].node;
    }
    kln_free(before);
    pass->graph.nodes = nodes;
    pass->graph.node_count = pass->graph.node_capacity = count;
    pass->model->graph = pass->graph;
    return KILN_OK;
}

static kiln_status run(smooth_pass *pass)
{
    KLN_RETURN_IF_ERROR(kln_infer(pass->model, NULL, &pass->inference));
    KLN_RETURN_IF_ERROR(begin(pass));
    KLN_RETURN_IF_ERROR(quantize_index_make(&pass->graph, &pass->index));
    for (size_t i = 0; i < pass->graph.node_count; i++) {
        look_at_node(pass, i);
    }
    if (pass->format->storage == KILN_DTYPE_INT8) {
        KLN_RETURN_IF_ERROR(even_out_all(pass));
    }
    for (size_t i = 0; i < pass->graph.node_count; i++) {
        const kiln_range *range =
            pass->nodes[i].is_candidate
                ? kiln_range_table_find(pass->ranges, pass->graph.nodes[i].inputs[0])
                : NULL;
        if (pass->nodes[i].is_candidate && pass->nodes[i].products != NULL) {
            KLN_RETURN_IF_ERROR(smooth_fit(pass, i));
        } else if (range != NULL && range->channel_count == pass->nodes[i].input.count) {
            KLN_RETURN_IF_ERROR(smooth_correct(pass, i, range));
        }
        KLN_RETURN_IF_ERROR(smooth_store(pass, i));
    }
    return end(pass);
}

kiln_status quantize_smooth(kln_onnx_model *model, const kiln_precision_options *options,
                            const quantize_format *format, kiln_range_table **ranges)
{
    *ranges = NULL;
    if (!kln_ranges_have_channels(options->ranges)) {
        return KILN_OK;
    }
    smooth_pass pass = {
        .model = model, .arena = &model->arena, .options = options, .format = format};
    KLN_RETURN_IF_ERROR(kiln_range_table_create(&pass.ranges));
    kiln_status status = kiln_range_table_merge(pass.ranges, options->ranges);
    KLN_THEN(status, run(&pass));
    quantize_index_finish(&pass.index);
    kln_inference_destroy(pass.inference);
    if (status != KILN_OK) {
        kiln_range_table_destroy(pass.ranges);
        return status;
    }
    *ranges = pass.ranges;
    return KILN_OK;
}
