/* SPDX-License-Identifier: Apache-2.0 */
/* The quantization of a model's inputs and outputs, read from the nodes next to them. */
#include "kln_graph.h"
#include "tensor/kln_tensor.h"

/* The places of a value, its scale and its zero point among a node's inputs; OUT is its output. */
#define OUT SIZE_MAX
static const struct {
    const char *op;
    size_t value, scale, zero_point;
    bool is_real; /* the value is the real number; the node's output has the type */
} sides[] = {
    {"QuantizeLinear", 0, 1, 2, true},    {"QuantizeLinear", OUT, 1, 2, false},
    {"DequantizeLinear", 0, 1, 2, false}, {"DequantizeLinear", OUT, 1, 2, true},
    {"QLinearConv", 0, 1, 2, false},      {"QLinearConv", OUT, 6, 7, false},
    {"QLinearMatMul", 0, 1, 2, false},    {"QLinearMatMul", 3, 4, 5, false},
    {"QLinearMatMul", OUT, 6, 7, false},
};

typedef struct seeking {
    const kln_onnx_graph *graph;
    kln_arena *arena;
    kiln_binding *bindings;
    size_t count;
    bool *is_otherwise;        /* for each binding: whether a node without scales reads it */
    kln_names inputs, outputs; /* names of tensors that are bindings, to the binding's place */
    kln_names constants;       /* initializers, then nodes that are constants */
} seeking;

static kiln_status no_memory(void)
{
    return kln_fail_memory(sizeof(kiln_quantization), "the scales of inputs and outputs");
}

static bool is_quantizing(const kln_onnx_node *node)
{
    /* The first letter rules out almost all operators. */
    if (node->op_type[0] != 'Q' && node->op_type[0] != 'D') {
        return false;
    }
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(sides); i++) {
        if (kln_onnx_node_is(node, sides[i].op)) {
            return true;
        }
    }
    return false;
}

/* Operators that leave each number as it is. */
static bool is_passing(const kln_onnx_node *node)
{
    return node->output_count == 1 && node->input_count > 0 &&
           KLN_ONNX_NODE_IS_ANY(node, "Identity", "Cast");
}

static bool stores_integers(kiln_dtype dtype)
{
    double limit = 0;
    return kln_quantized_limits(dtype, &limit, &limit);
}

/* --- constants --- */

static kiln_status list_constants(seeking *s)
{
    const kln_onnx_graph *graph = s->graph;
    KLN_RETURN_IF_ERROR(kln_onnx_name_initializers(graph, &s->constants));
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        if (kln_onnx_node_is(node, "Constant") && node->output_count == 1) {
            KLN_RETURN_IF_ERROR(kln_names_set(&s->constants, node->outputs[0],
                                              (uint32_t)(graph->initializer_count + i)));
        }
    }
    return KILN_OK;
}

/* The constant of a name, with its numbers; NULL where there is none. A number that a Constant has
 * as an attribute is put into `made`. */
static const kln_onnx_tensor *find_constant(const seeking *s, const char *name,
                                            kln_onnx_tensor *made)
{
    const uint32_t place = name[0] != '\0' ? kln_names_get(&s->constants, name) : KLN_NAMES_NONE;
    if (place == KLN_NAMES_NONE) {
        return NULL;
    }
    if (place < s->graph->initializer_count) {
        return &s->graph->initializers[place];
    }
    const kln_onnx_node *node = &s->graph->nodes[place - s->graph->initializer_count];
    const kln_onnx_attribute *value = kln_onnx_find_attribute(node, "value");
    const kln_onnx_attribute *number = kln_onnx_find_attribute(node, "value_float");
    if (value != NULL || number == NULL) {
        return value != NULL ? value->tensor : NULL;
    }
    *made = (kln_onnx_tensor){.dtype = KILN_DTYPE_FLOAT32, .data = {&number->f, sizeof number->f}};
    return made;
}

/* Its elements as doubles, to be freed with kln_free; NULL in `*numbers` if it has none. */
static kiln_status read_numbers(const kln_onnx_tensor *tensor, double **numbers, int64_t *count)
{
    kiln_tensor view;
    *numbers = NULL;
    *count = 1;
    for (size_t i = 0; tensor != NULL && i < tensor->rank; i++) {
        *count *= tensor->dims[i];
    }
    if (tensor == NULL || tensor->data.data == NULL || *count < 1 ||
        kiln_dtype_bits(tensor->dtype) == 0) {
        return KILN_OK;
    }
    /* In a mapped file they may be misaligned. */
    KLN_SCOPED_FREE void *bytes = kln_alloc(tensor->data.size + 1);
    KLN_SCOPED_FREE double *read = kln_alloc((size_t)*count * sizeof *read);
    KLN_FAIL_IF(bytes == NULL || read == NULL, no_memory());
    memcpy(bytes, tensor->data.data, tensor->data.size);
    KLN_RETURN_IF_ERROR(kiln_tensor_make(tensor->dtype, count, 1, KILN_LOCATION_HOST, 0, bytes,
                                         tensor->data.size, &view));
    KLN_RETURN_IF_ERROR(kiln_tensor_read(&view, 0, (size_t)*count, read));
    *numbers = read;
    read = NULL;
    return KILN_OK;
}

/* --- what a node says about a binding --- */

static const char *input_of(const kln_onnx_node *node, size_t place)
{
    return place < node->input_count ? node->inputs[place] : "";
}

static kiln_status fill(const seeking *s, const kln_onnx_tensor *scale, int64_t axis, int64_t block,
                        const kln_onnx_tensor *zero, kiln_quantization *made)
{
    KLN_SCOPED_FREE double *scales = NULL;
    KLN_SCOPED_FREE double *zeros = NULL;
    int64_t count = 0;
    int64_t zero_count = 0;
    bool has_zeros = false;
    kiln_status status = read_numbers(scale, &scales, &count);
    status = status == KILN_OK && scales != NULL ? read_numbers(zero, &zeros, &zero_count) : status;
    if (status == KILN_OK && scales != NULL && (zero == NULL || zeros != NULL) &&
        (zeros == NULL || zero_count == count)) {
        float *kept = kln_arena_alloc(s->arena, (size_t)count * sizeof *kept);
        int32_t *kept_zeros = kln_arena_alloc(s->arena, (size_t)count * sizeof *kept_zeros);
        status = kept != NULL && kept_zeros != NULL ? KILN_OK : no_memory();
        for (int64_t i = 0; status == KILN_OK && i < count; i++) {
            kept[i] = (float)scales[i];
            kept_zeros[i] = zeros != NULL ? (int32_t)zeros[i] : 0;
            has_zeros = has_zeros || kept_zeros[i] != 0;
        }
        made->axis = count > 1 || block > 0 ? (int32_t)axis : -1;
        made->block_size = block;
        made->count = count;
        made->scales = kept;
        made->zero_points = has_zeros ? kept_zeros : NULL;
    } else {
        made->storage = KILN_DTYPE_UNDEFINED;
    }
    return status;
}

/* The type that the numbers of a binding of floats are rounded to: the zero point's, or what a
 * QuantizeLinear gives without one. */
static kiln_dtype storage_of(const seeking *s, const kln_onnx_node *node,
                             const kln_onnx_tensor *zero)
{
    const kln_onnx_node *maker = kln_onnx_node_is(node, "QuantizeLinear") ? node : NULL;
    for (size_t i = 0; zero == NULL && maker == NULL && i < s->graph->node_count; i++) {
        const kln_onnx_node *other = &s->graph->nodes[i];
        if (other->output_count != 0 && strcmp(other->outputs[0], node->inputs[0]) == 0 &&
            kln_onnx_node_is(other, "QuantizeLinear")) {
            kln_onnx_tensor made;
            maker = other;
            zero = find_constant(s, input_of(other, 2), &made);
        }
    }
    const int64_t wire = maker != NULL ? kln_onnx_int(maker, "output_dtype", 0) : 0;
    return zero != NULL    ? zero->dtype
           : maker == NULL ? KILN_DTYPE_UNDEFINED
           : wire != 0     ? kln_onnx_dtype((int32_t)wire)
                           : KILN_DTYPE_UINT8;
}

/* Contradicting nodes count as none. */
static kiln_status take(const seeking *s, const kln_onnx_node *node, size_t side, uint32_t place)
{
    kiln_binding *binding = &s->bindings[place];
    kln_onnx_tensor numbers[2];
    const kln_onnx_tensor *scale = find_constant(s, input_of(node, sides[side].scale), &numbers[0]);
    const char *zero_name = input_of(node, sides[side].zero_point);
    const kln_onnx_tensor *zero = find_constant(s, zero_name, &numbers[1]);
    const int64_t axis = kln_onnx_int(node, "axis", 1);
    const int32_t rank = binding->shape.rank;
    kiln_quantization made = {.storage =
                                  sides[side].is_real ? storage_of(s, node, zero) : binding->dtype};
    if (scale == NULL || (zero == NULL && zero_name[0] != '\0') || !stores_integers(made.storage) ||
        (axis < 0 && rank < 0)) {
        s->is_otherwise[place] = true;
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(fill(s, scale, axis < 0 ? axis + rank : axis,
                             kln_onnx_int(node, "block_size", 0), zero, &made));
    if (made.storage == KILN_DTYPE_UNDEFINED ||
        (binding->quantization.storage != KILN_DTYPE_UNDEFINED &&
         !kln_quantization_equal(&made, &binding->quantization))) {
        s->is_otherwise[place] = true;
        return KILN_OK;
    }
    binding->quantization = made;
    return KILN_OK;
}

/* --- the graph --- */

static kiln_status look_at_input(seeking *s, const kln_onnx_node *node, size_t input,
                                 uint32_t place)
{
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(sides); k++) {
        if (sides[k].value == input && kln_onnx_node_is(node, sides[k].op)) {
            return take(s, node, k, place);
        }
    }
    if (is_passing(node)) {
        return kln_names_set(&s->inputs, node->outputs[0], place);
    }
    s->is_otherwise[place] =
        s->is_otherwise[place] || (!KLN_ONNX_NODE_IS_ANY(node, "Shape", "Size") &&
                                   !stores_integers(s->bindings[place].dtype));
    return KILN_OK;
}

static kiln_status look_forward(seeking *s)
{
    for (size_t i = 0; i < s->graph->node_count; i++) {
        const kln_onnx_node *node = &s->graph->nodes[i];
        for (size_t k = 0; k < node->input_count; k++) {
            const uint32_t place = node->inputs[k][0] != '\0'
                                       ? kln_names_get(&s->inputs, node->inputs[k])
                                       : KLN_NAMES_NONE;
            if (place != KLN_NAMES_NONE) {
                KLN_RETURN_IF_ERROR(look_at_input(s, node, k, place));
            }
        }
    }
    return KILN_OK;
}

static kiln_status look_backward(seeking *s)
{
    for (size_t i = s->graph->node_count; i-- > 0;) {
        const kln_onnx_node *node = &s->graph->nodes[i];
        const uint32_t place =
            node->output_count == 1 ? kln_names_get(&s->outputs, node->outputs[0]) : KLN_NAMES_NONE;
        for (size_t k = 0; place != KLN_NAMES_NONE && k < KLN_ARRAY_LENGTH(sides); k++) {
            if (sides[k].value == OUT && kln_onnx_node_is(node, sides[k].op)) {
                KLN_RETURN_IF_ERROR(take(s, node, k, place));
            }
        }
        if (place != KLN_NAMES_NONE && is_passing(node)) {
            KLN_RETURN_IF_ERROR(kln_names_set(&s->outputs, node->inputs[0], place));
        }
    }
    return KILN_OK;
}

static kiln_status look(seeking *s)
{
    KLN_SCOPED_FREE bool *otherwise = kln_alloc_zeroed(s->count + 1, sizeof *otherwise);
    s->is_otherwise = otherwise;
    KLN_RETURN_IF_ERROR(otherwise != NULL ? list_constants(s) : no_memory());
    for (size_t i = 0; i < s->count; i++) {
        /* What the backend already reported takes precedence. */
        if (s->bindings[i].quantization.storage == KILN_DTYPE_UNDEFINED) {
            KLN_RETURN_IF_ERROR(kln_names_set(s->bindings[i].is_input ? &s->inputs : &s->outputs,
                                              s->bindings[i].name, (uint32_t)i));
        }
    }
    KLN_RETURN_IF_ERROR(look_forward(s));
    KLN_RETURN_IF_ERROR(look_backward(s));
    for (size_t i = 0; i < s->count; i++) {
        if (otherwise[i]) {
            s->bindings[i].quantization = (kiln_quantization){.storage = KILN_DTYPE_UNDEFINED};
        }
    }
    return KILN_OK;
}

kiln_status kln_graph_read_quantization(const kln_onnx_graph *graph, kln_arena *arena,
                                        kiln_binding *bindings, size_t count)
{
    bool any = false;
    for (size_t i = 0; !any && i < graph->node_count; i++) {
        any = is_quantizing(&graph->nodes[i]);
    }
    if (!any) {
        return KILN_OK;
    }
    seeking s = {.graph = graph, .arena = arena, .bindings = bindings, .count = count};
    const kiln_status status = look(&s);
    kln_names_finish(&s.inputs);
    kln_names_finish(&s.outputs);
    kln_names_finish(&s.constants);
    return status;
}
