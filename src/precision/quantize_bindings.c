/* SPDX-License-Identifier: Apache-2.0 */
/* Inputs and outputs that are quantized as the caller says: with a QuantizeLinear and
 * DequantizeLinear pair at the edge of the graph, or with one of the two and integers outside. The
 * inside has been converted before. */
#include <math.h>

#include "quantize_parts.h"
#include "tensor/kln_tensor.h"

typedef struct bindings_pass {
    kln_onnx_model *model;
    kln_arena *arena;
    const kiln_precision_options *options;
    kln_onnx_graph graph; /* the new graph, with its own lists */
    kln_onnx_graph first; /* nodes to put before all others */
    kln_onnx_graph last;  /* nodes to put after all others */
    kiln_binding *own;    /* the quantization that the model already has */
} bindings_pass;

/* The binding being converted. */
typedef struct edge {
    const char *name, *inside; /* the tensor's name inside */
    kln_onnx_value *value;
    bool is_input, is_stored;
    kiln_quantization how;
    const char *scales[2]; /* names of its scales and zero points */
} edge;

static kiln_status no_memory(void)
{
    return kln_fail_memory(sizeof(kln_onnx_node), "a quantized binding");
}

/* The first operator set in which QuantizeLinear produces the type. */
static int64_t opset_of(kiln_dtype storage)
{
    return storage == KILN_DTYPE_INT8 || storage == KILN_DTYPE_UINT8 ? 13
           : kiln_dtype_bits(storage) == 8                           ? 19
                                                                     : 21;
}

/* --- parameters --- */

/* Scale and zero point for a range: symmetric for signed types. */
static kiln_status fit_range(const bindings_pass *pass, const char *name, kiln_quantization *how)
{
    const kiln_range *range = kiln_range_table_find(pass->options->ranges, name);
    double least = 0;
    double most = 0;
    (void)kln_quantized_limits(how->storage, &least, &most);
    const double low = range != NULL ? fmin(range->low, 0) : 0;
    const double high = range != NULL ? fmax(range->high, 0) : 0;
    KLN_RETURN_IF(!(high > low), KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_precision_options.bindings: \"%s\" is to be %s, but has no scale, is not "
                  "quantized in the model, and "
                  "the ranges do not have it; give a scale or a range",
                  name, kiln_dtype_name(how->storage));
    float *scale = kln_arena_alloc(pass->arena, sizeof *scale);
    int32_t *zero = kln_arena_alloc_zeroed(pass->arena, 1, sizeof *zero);
    if (scale == NULL || zero == NULL) {
        return no_memory();
    }
    const bool has_sign = least < 0;
    *scale = (float)((has_sign ? fmax(-low, high) : high - low) / most);
    *zero = has_sign ? 0 : (int32_t)fmin(most, rint(-low / (double)*scale));
    how->axis = -1;
    how->block_size = 0;
    how->count = 1;
    how->scales = scale;
    how->zero_points = *zero != 0 ? zero : NULL;
    return KILN_OK;
}

/* The caller's quantization comes first, then the one the model already has, then one from the
 * ranges. */
static kiln_status settle(const bindings_pass *pass, size_t index, edge *e)
{
    const kiln_binding_quantization *asked = &pass->options->bindings[index];
    const kiln_quantization *own = &pass->own[index].quantization;
    const bool has_type = asked->quantization.storage != KILN_DTYPE_UNDEFINED;
    if (asked->quantization.count == 0 && own->storage != KILN_DTYPE_UNDEFINED &&
        (!has_type || own->storage == asked->quantization.storage)) {
        e->how = *own;
        return KILN_OK;
    }
    e->how = asked->quantization;
    e->how.storage = quantize_binding_storage(pass->options, asked);
    e->how.axis = e->how.count == 1 && e->how.block_size == 0 ? -1 : e->how.axis;
    return e->how.count != 0 ? KILN_OK : fit_range(pass, e->name, &e->how);
}

/* Looks the binding up in the graph. */
static kiln_status find_edge(const bindings_pass *pass, const kiln_binding_quantization *asked,
                             edge *e)
{
    kln_onnx_value *input =
        kln_onnx_find_value(pass->graph.inputs, pass->graph.input_count, asked->name);
    kln_onnx_value *output =
        kln_onnx_find_value(pass->graph.outputs, pass->graph.output_count, asked->name);
    *e = (edge){.name = asked->name,
                .value = input != NULL ? input : output,
                .is_input = input != NULL,
                .is_stored = asked->stored};
    KLN_RETURN_IF(e->value == NULL, KILN_ERROR_NAME,
                  "kiln_precision_options.bindings: \"%s\" is no input and no output of the model",
                  asked->name);
    KLN_RETURN_IF((input != NULL && output != NULL) ||
                      kln_onnx_find_initializer(&pass->graph, asked->name) != NULL,
                  KILN_ERROR_UNSUPPORTED,
                  "kiln_precision_options.bindings: \"%s\" cannot be quantized: it %s", asked->name,
                  output != NULL ? "is input and output at once" : "has a value of its own");
    return KILN_OK;
}

static bool is_made(const kln_onnx_graph *graph, const char *name)
{
    bool is_it = kln_onnx_find_initializer(graph, name) != NULL;
    for (size_t i = 0; !is_it && i < graph->node_count; i++) {
        for (size_t k = 0; !is_it && k < graph->nodes[i].output_count; k++) {
            is_it = strcmp(graph->nodes[i].outputs[k], name) == 0;
        }
    }
    return is_it;
}

/* "NAME/WHAT", numbered if the model already has such a tensor, as it may have been quantized
 * before. NULL without memory. */
static const char *new_name(const bindings_pass *pass, const edge *e, const char *what)
{
    const char *made = kln_arena_printf(pass->arena, "%s/%s", e->name, what);
    for (unsigned i = 2;
         made != NULL &&
         (is_made(&pass->graph, made) || is_made(&pass->first, made) || is_made(&pass->last, made));
         i++) {
        made = kln_arena_printf(pass->arena, "%s/%s%u", e->name, what, i);
    }
    return made;
}

/* --- scales as constants --- */

static kiln_status scale_dims(const edge *e, size_t *rank, int64_t *dims)
{
    const kiln_quantization *how = &e->how;
    const kln_onnx_type *type = &e->value->type;
    int64_t count = 1;
    *rank = 0;
    KLN_RETURN_IF(how->axis >= 0 && (!type->has_shape || (size_t)how->axis >= type->rank ||
                                     type->rank > KILN_MAX_RANK),
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_precision_options.bindings: \"%s\" is to have scales along axis %d, which "
                  "it does not have",
                  e->name, (int)how->axis);
    for (size_t i = 0; how->axis >= 0 && i < type->rank; i++) {
        const int64_t size = type->dims[i].value;
        const bool is_axis = i == (size_t)how->axis;
        if (!is_axis && how->block_size == 0) {
            continue;
        }
        KLN_RETURN_IF(size <= 0, KILN_ERROR_INVALID_ARGUMENT,
                      "kiln_precision_options.bindings: dimension %zu of \"%s\" is dynamic: how "
                      "many scales it takes is not "
                      "known",
                      i, e->name);
        dims[*rank] =
            how->block_size > 0 && is_axis ? (size + how->block_size - 1) / how->block_size : size;
        count *= dims[(*rank)++];
    }
    KLN_RETURN_IF(count != how->count, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_precision_options.bindings: \"%s\" takes %lld scales, %lld are given",
                  e->name, (long long)count, (long long)how->count);
    return KILN_OK;
}

static kiln_status add_numbers(bindings_pass *pass, const edge *e, const char *name,
                               kiln_dtype dtype, bool are_scales)
{
    const kiln_quantization *how = &e->how;
    const size_t count = (size_t)how->count;
    const size_t bytes = (count * kiln_dtype_bits(dtype) + 7) / 8;
    int64_t *dims = kln_arena_alloc_zeroed(pass->arena, KILN_MAX_RANK, sizeof *dims);
    void *data = kln_arena_alloc_zeroed(pass->arena, bytes, 1);
    size_t rank = 0;
    kiln_tensor made;
    if (dims == NULL || data == NULL) {
        return no_memory();
    }
    KLN_RETURN_IF_ERROR(scale_dims(e, &rank, dims));
    KLN_RETURN_IF_ERROR(
        kiln_tensor_make(dtype, &how->count, 1, KILN_LOCATION_HOST, 0, data, bytes, &made));
    for (size_t i = 0; i < count; i++) {
        const double number = are_scales                 ? (double)how->scales[i]
                              : how->zero_points != NULL ? (double)how->zero_points[i]
                                                         : 0;
        KLN_RETURN_IF_ERROR(kiln_tensor_write(&made, (int64_t)i, 1, &number));
    }
    const kln_onnx_tensor tensor = {.name = name,
                                    .dtype = dtype,
                                    .wire_dtype = kln_onnx_wire_dtype(dtype),
                                    .rank = rank,
                                    .dims = dims,
                                    .data = {data, bytes}};
    return kln_onnx_add_initializer(pass->arena, &pass->graph, &tensor);
}

static kiln_status add_scales(bindings_pass *pass, edge *e, kiln_dtype real)
{
    e->scales[0] = new_name(pass, e, "binding_scale");
    e->scales[1] = new_name(pass, e, "binding_zero_point");
    if (e->scales[0] == NULL || e->scales[1] == NULL) {
        return no_memory();
    }
    KLN_RETURN_IF_ERROR(add_numbers(pass, e, e->scales[0], real, true));
    return add_numbers(pass, e, e->scales[1], e->how.storage, false);
}

/* --- nodes --- */

static kiln_status add_node(bindings_pass *pass, const edge *e, const char *op, const char *input,
                            const char *output)
{
    const char *const inputs[] = {input, e->scales[0], e->scales[1]};
    kln_onnx_node node;
    KLN_RETURN_IF_ERROR(
        quantize_make_node(pass->arena, op, inputs, output, e->how.axis, e->how.block_size, &node));
    return kln_onnx_add_node(pass->arena, e->is_input ? &pass->first : &pass->last, &node);
}

/* Adds the pair, or only the inner node of it if the binding is stored as integers. */
static kiln_status add_pair(bindings_pass *pass, const edge *e)
{
    const char *between = e->is_stored ? e->name : new_name(pass, e, "quantized");
    if (between == NULL) {
        return no_memory();
    }
    if (!e->is_stored || !e->is_input) {
        KLN_RETURN_IF_ERROR(
            add_node(pass, e, "QuantizeLinear", e->is_input ? e->name : e->inside, between));
    }
    return e->is_stored && !e->is_input
               ? KILN_OK
               : add_node(pass, e, "DequantizeLinear", between, e->is_input ? e->inside : e->name);
}

static bool attribute_reads(const kln_onnx_node *node, const char *name);

/* Loop bodies and branches see the names around them. */
static bool graph_reads(const kln_onnx_graph *graph, const char *name)
{
    bool reads = false;
    for (size_t i = 0; !reads && i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        for (size_t k = 0; !reads && k < node->input_count; k++) {
            reads = strcmp(node->inputs[k], name) == 0;
        }
        reads = reads || attribute_reads(node, name);
    }
    return reads || kln_onnx_find_value(graph->outputs, graph->output_count, name) != NULL;
}

static bool attribute_reads(const kln_onnx_node *node, const char *name)
{
    bool reads = false;
    for (size_t k = 0; !reads && k < node->attribute_count; k++) {
        kln_onnx_graph *const *inside = NULL;
        const size_t count = kln_onnx_graphs_of(&node->attributes[k], &inside);
        for (size_t g = 0; !reads && g < count; g++) {
            reads = graph_reads(inside[g], name);
        }
    }
    return reads;
}

static bool names(const kln_onnx_node *node, const char *name)
{
    bool is_named = false;
    for (size_t k = 0; k < node->input_count + node->output_count; k++) {
        const bool is_in = k < node->input_count;
        is_named =
            is_named ||
            strcmp(is_in ? node->inputs[k] : node->outputs[k - node->input_count], name) == 0;
    }
    return is_named;
}

/* Renames the tensor in every node of the main graph. */
static kiln_status rename_tensor(bindings_pass *pass, const char *from, const char *to)
{
    for (size_t i = 0; i < pass->graph.node_count; i++) {
        kln_onnx_node *node = &pass->graph.nodes[i];
        KLN_RETURN_IF(attribute_reads(node, from), KILN_ERROR_UNSUPPORTED,
                      "kiln_precision_options.bindings: \"%s\" cannot be quantized: it is read "
                      "inside node \"%s\"",
                      from, node->name);
        if (!names(node, from)) {
            continue;
        }
        const size_t all = node->input_count + node->output_count;
        const char **changed = kln_arena_alloc_zeroed(pass->arena, all, sizeof *changed);
        if (changed == NULL) {
            return no_memory();
        }
        for (size_t k = 0; k < all; k++) {
            const char *name =
                k < node->input_count ? node->inputs[k] : node->outputs[k - node->input_count];
            changed[k] = strcmp(name, from) == 0 ? to : name;
        }
        node->inputs = changed;
        node->outputs = changed + node->input_count;
    }
    return KILN_OK;
}

static void drop_node(bindings_pass *pass, size_t index)
{
    memmove(&pass->graph.nodes[index], &pass->graph.nodes[index + 1],
            (pass->graph.node_count - index - 1) * sizeof *pass->graph.nodes);
    pass->graph.node_count--;
}

/* If the model already quantizes the binding in the same way, drops that node: the binding takes
 * the place of its output, or of its input. `*done`: nothing needs to be added. */
static kiln_status leave_out(bindings_pass *pass, const edge *e, bool *done)
{
    const char *op = e->is_input ? "QuantizeLinear" : "DequantizeLinear";
    for (size_t i = pass->graph.node_count; i-- > 0;) {
        const kln_onnx_node *node = &pass->graph.nodes[i];
        if (!kln_onnx_node_is(node, op) ||
            strcmp(e->is_input ? node->inputs[0] : node->outputs[0], e->inside) != 0) {
            continue;
        }
        const char *inner = e->is_input ? node->outputs[0] : node->inputs[0];
        if (kln_onnx_find_value(pass->graph.inputs, pass->graph.input_count, inner) == NULL &&
            kln_onnx_find_value(pass->graph.outputs, pass->graph.output_count, inner) == NULL &&
            kln_onnx_find_initializer(&pass->graph, inner) == NULL) {
            if (e->is_input || !graph_reads(&pass->graph, e->inside)) {
                drop_node(pass, i);
            }
            KLN_RETURN_IF_ERROR(rename_tensor(pass, inner, e->name));
            *done = *done || !e->is_input;
        }
    }
    *done = *done || (e->is_input && !graph_reads(&pass->graph, e->inside));
    return KILN_OK;
}

static kiln_status convert(bindings_pass *pass, size_t index)
{
    edge e;
    bool done = false;
    KLN_RETURN_IF_ERROR(find_edge(pass, &pass->options->bindings[index], &e));
    KLN_RETURN_IF_ERROR(settle(pass, index, &e));
    const kiln_dtype real = e.value->type.dtype;
    const bool is_alike = kln_quantization_equal(&e.how, &pass->own[index].quantization);
    if (is_alike && (!e.is_stored || real == e.how.storage)) {
        return KILN_OK;
    }
    KLN_RETURN_IF(
        real != KILN_DTYPE_FLOAT32 && real != KILN_DTYPE_FLOAT16 && real != KILN_DTYPE_BFLOAT16,
        KILN_ERROR_DTYPE,
        "kiln_precision_options.bindings: \"%s\" is %s; float32, float16 or bfloat16 is needed",
        e.name, kiln_dtype_name(real));
    e.inside = new_name(pass, &e, "real");
    if (e.inside == NULL) {
        return no_memory();
    }
    KLN_RETURN_IF_ERROR(rename_tensor(pass, e.name, e.inside));
    if (is_alike) {
        KLN_RETURN_IF_ERROR(leave_out(pass, &e, &done));
    }
    if (!done) {
        KLN_RETURN_IF_ERROR(add_scales(pass, &e, real));
        KLN_RETURN_IF_ERROR(add_pair(pass, &e));
    }
    if (e.is_stored) {
        e.value->type.dtype = e.how.storage;
        e.value->type.wire_dtype = kln_onnx_wire_dtype(e.how.storage);
    }
    return KILN_OK;
}

/* --- all bindings --- */

/* Scales of half types need operator set 19, blocks 21. */
static kiln_status raise_opset(kln_onnx_model *model, const kiln_precision_options *options)
{
    int64_t needed = 0;
    for (size_t i = 0; i < options->binding_count; i++) {
        const kiln_binding_quantization *asked = &options->bindings[i];
        kln_onnx_graph *graph = &model->graph;
        const kln_onnx_value *input =
            kln_onnx_find_value(graph->inputs, graph->input_count, asked->name);
        const kln_onnx_value *value =
            input != NULL ? input
                          : kln_onnx_find_value(graph->outputs, graph->output_count, asked->name);
        const int64_t opset = opset_of(quantize_binding_storage(options, asked));
        const bool is_half = value != NULL && (value->type.dtype == KILN_DTYPE_FLOAT16 ||
                                               value->type.dtype == KILN_DTYPE_BFLOAT16);
        const int64_t least = asked->quantization.block_size > 0 ? 21 : is_half ? 19 : 13;
        needed = opset > needed ? opset : needed;
        needed = least > needed ? least : needed;
    }
    return kln_raise_opset(model, needed);
}

/* Copies the lists of the graph, which are changed. */
static kiln_status begin(bindings_pass *pass)
{
    const kln_onnx_graph *from = &pass->model->graph;
    kln_onnx_graph *made = &pass->graph;
    const size_t edges = from->input_count + from->output_count;
    *made = *from;
    made->nodes = kln_arena_alloc_zeroed(pass->arena, from->node_count + 1, sizeof *made->nodes);
    made->inputs = kln_arena_alloc_zeroed(pass->arena, edges + 1, sizeof *made->inputs);
    pass->own =
        kln_arena_alloc_zeroed(pass->arena, pass->options->binding_count, sizeof *pass->own);
    if (made->nodes == NULL || made->inputs == NULL || pass->own == NULL) {
        return no_memory();
    }
    if (from->node_count != 0) {
        memcpy(made->nodes, from->nodes, from->node_count * sizeof *made->nodes);
    }
    made->outputs = made->inputs + from->input_count;
    for (size_t i = 0; i < edges; i++) {
        made->inputs[i] =
            i < from->input_count ? from->inputs[i] : from->outputs[i - from->input_count];
    }
    made->node_capacity = made->input_capacity = made->output_capacity = 0;
    KLN_RETURN_IF_ERROR(kln_onnx_copy_initializers(pass->arena, made));
    for (size_t i = 0; i < pass->options->binding_count; i++) {
        const char *name = pass->options->bindings[i].name;
        const kln_onnx_value *input = kln_onnx_find_value(made->inputs, made->input_count, name);
        const kln_onnx_value *value =
            input != NULL ? input : kln_onnx_find_value(made->outputs, made->output_count, name);
        pass->own[i] = (kiln_binding){
            .name = name,
            .is_input = input != NULL,
            .dtype = value != NULL ? value->type.dtype : KILN_DTYPE_UNDEFINED,
            .shape = {.rank =
                          value != NULL && value->type.has_shape ? (int32_t)value->type.rank : -1}};
    }
    return kln_graph_read_quantization(made, pass->arena, pass->own, pass->options->binding_count);
}

static kiln_status end(bindings_pass *pass)
{
    const kln_onnx_graph *parts[] = {&pass->first, &pass->graph, &pass->last};
    kln_onnx_graph made = pass->graph;
    made.nodes = NULL;
    made.node_count = made.node_capacity = 0;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(parts); i++) {
        for (size_t k = 0; k < parts[i]->node_count; k++) {
            KLN_RETURN_IF_ERROR(kln_onnx_add_node(pass->arena, &made, &parts[i]->nodes[k]));
        }
    }
    KLN_RETURN_IF_ERROR(quantize_drop_unread(&made));
    pass->model->graph = made;
    return KILN_OK;
}

kiln_status quantize_bindings(kln_onnx_model *model, const kiln_precision_options *options)
{
    bindings_pass pass = {.model = model, .arena = &model->arena, .options = options};
    if (options->binding_count == 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(raise_opset(model, options));
    KLN_RETURN_IF_ERROR(begin(&pass));
    for (size_t i = 0; i < options->binding_count; i++) {
        KLN_RETURN_IF_ERROR(convert(&pass, i));
    }
    return end(&pass);
}
