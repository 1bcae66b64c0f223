/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pads channels to whole blocks. TensorRT's eight-bit convolutions store channels in blocks of 32
 * and fill up the last one. The kernel that scales an image by a gate takes whole blocks only;
 * otherwise the image is reformatted twice, which takes twice as long as the scaling. So the
 * surrounding convolutions get additional channels with zero weights, which leave the results the
 * same.
 */
#include "quantize_parts.h"

#define BLOCK 32
/* At most one channel in so many is added: backends other than TensorRT do compute them. */
#define LEAST_SHARE 8

enum { EXPAND, DEPTHWISE, SQUEEZE, EXCITE, PROJECT, PLACES };

typedef struct padding {
    size_t convs[PLACES];
    int64_t channels, added;
    const char *names[12]; /* tensors with these channels */
    size_t name_count;
} padding;

/* The convolution that makes `name`, through activations (x sigmoid(x) included) that nothing else
 * reads; SIZE_MAX if none. The tensors on the way are added to the names. */
static size_t conv_behind(const kln_graph_edit *edit, const char *name, padding *of)
{
    for (int steps = 0; steps < 3 && of->name_count + 2 < KLN_ARRAY_LENGTH(of->names); steps++) {
        size_t index = 0;
        size_t other = 0;
        const kln_onnx_node *node = kln_graph_edit_producer(edit, name, NULL, &index);
        of->names[of->name_count++] = name;
        if (node == NULL || kln_onnx_node_is(node, "Conv")) {
            return node != NULL ? index : SIZE_MAX;
        }
        const char *before = node->inputs[0];
        if (kln_onnx_node_is(node, "Mul")) {
            const kln_onnx_node *sigmoid =
                kln_graph_edit_producer(edit, node->inputs[1], "Sigmoid", &other);
            if (sigmoid == NULL) {
                sigmoid = kln_graph_edit_producer(edit, before, "Sigmoid", &other);
                before = node->inputs[1];
            }
            if (sigmoid == NULL || strcmp(sigmoid->inputs[0], before) != 0 ||
                kln_graph_edit_readers(edit, sigmoid->outputs[0]) != 1 ||
                kln_graph_edit_readers(edit, before) != 2) {
                return SIZE_MAX;
            }
            of->names[of->name_count++] = sigmoid->outputs[0];
        } else if (!KLN_ONNX_NODE_IS_ANY(node, "Relu", "Sigmoid", "HardSigmoid") ||
                   kln_graph_edit_readers(edit, before) != 1) {
            return SIZE_MAX;
        }
        name = before;
    }
    return SIZE_MAX;
}

/* Whether the weights of the convolution at `place` have these channels along `axis`, in one group
 * or, if depthwise, in one group per channel. */
static bool has_channels(const kln_graph_edit *edit, const padding *of, size_t place, size_t axis)
{
    const size_t index = of->convs[place];
    if (index == SIZE_MAX) {
        return false;
    }
    const kln_onnx_node *node = &edit->graph->nodes[index];
    const kln_onnx_attribute *group = kln_onnx_find_attribute(node, "group");
    const kln_onnx_tensor *weights = kln_graph_edit_constant(edit, node->inputs[1], 4);
    const bool has_bias = node->input_count > 2 && node->inputs[2][0] != '\0';
    return weights != NULL && weights->dtype == KILN_DTYPE_FLOAT32 &&
           weights->dims[axis] == of->channels &&
           node->attribute_count < KLN_GRAPH_EDIT_ATTRIBUTES &&
           (group != NULL ? group->i : 1) == (place == DEPTHWISE ? of->channels : 1) &&
           (!has_bias || axis == 1 || kln_graph_edit_constant(edit, node->inputs[2], 1) != NULL);
}

/* The only reader of `name`, if that is a convolution; else SIZE_MAX. */
static size_t conv_before(const kln_graph_edit *edit, const char *name)
{
    size_t index = 0;
    return kln_graph_edit_consumer(edit, name, "Conv", &index) != NULL ? index : SIZE_MAX;
}

/* The pool of an image that has one more reader, the Mul that scales it; or NULL. */
static const kln_onnx_node *pool_of(const kln_graph_edit *edit, const char *image)
{
    for (size_t i = 0; kln_graph_edit_readers(edit, image) == 2 && i < edit->graph->node_count;
         i++) {
        const kln_onnx_node *node = &edit->graph->nodes[i];
        if (kln_onnx_node_is(node, "GlobalAveragePool") && strcmp(node->inputs[0], image) == 0) {
            return node;
        }
    }
    return NULL;
}

static bool find_padding(const kln_graph_edit *edit, const kln_graph_inference *known,
                         const kln_onnx_node *scaled, padding *found)
{
    if (!kln_onnx_node_is(scaled, "Mul") || scaled->input_count != 2) {
        return false;
    }
    const bool turned = quantize_is_one_pixel(kln_inference_find(known, scaled->inputs[1]));
    const char *image = scaled->inputs[!turned];
    const char *gate = scaled->inputs[turned];
    const kln_value *value = kln_inference_find(known, image);
    const kln_onnx_node *pool = pool_of(edit, image);
    if (pool == NULL || !quantize_is_one_pixel(kln_inference_find(known, gate)) ||
        kln_graph_edit_readers(edit, gate) != 1 || value == NULL || !value->has_shape ||
        value->rank != 4 || value->dims[1].kind != KLN_DIM_NUMBER) {
        return false;
    }
    *found = (padding){.channels = value->dims[1].of.number};
    found->added = (BLOCK - found->channels % BLOCK) % BLOCK;
    found->names[found->name_count++] = scaled->outputs[0];
    found->names[found->name_count++] = pool->outputs[0];
    found->convs[SQUEEZE] = conv_before(edit, pool->outputs[0]);
    found->convs[PROJECT] = conv_before(edit, scaled->outputs[0]);
    found->convs[EXCITE] = conv_behind(edit, gate, found);
    found->convs[DEPTHWISE] = conv_behind(edit, image, found);
    if (found->added == 0 || found->added * LEAST_SHARE > found->channels ||
        !has_channels(edit, found, DEPTHWISE, 0)) {
        return false;
    }
    const char *input = edit->graph->nodes[found->convs[DEPTHWISE]].inputs[0];
    found->convs[EXPAND] =
        kln_graph_edit_readers(edit, input) == 1 ? conv_behind(edit, input, found) : SIZE_MAX;
    return has_channels(edit, found, EXPAND, 0) && has_channels(edit, found, SQUEEZE, 1) &&
           has_channels(edit, found, EXCITE, 0) && has_channels(edit, found, PROJECT, 1);
}

/* A copy of a constant, extended by zeros along `axis`; NULL without memory. */
static const char *grown(kln_graph_edit *edit, const kln_onnx_tensor *from, size_t axis,
                         int64_t added)
{
    int64_t dims[4];
    size_t outer = 1;
    size_t inner = sizeof(float);
    memcpy(dims, from->dims, from->rank * sizeof *dims);
    dims[axis] += added;
    for (size_t i = 0; i < from->rank; i++) {
        outer *= i < axis ? (size_t)dims[i] : 1;
        inner *= i > axis ? (size_t)dims[i] : 1;
    }
    kln_onnx_tensor *made = kln_graph_edit_add_weights(edit, from->name, "padded",
                                                       KILN_DTYPE_FLOAT32, from->rank, dims);
    char *to = made != NULL ? (char *)(uintptr_t)made->data.data : NULL;
    const size_t before = (size_t)from->dims[axis] * inner;
    const size_t after = (size_t)dims[axis] * inner;
    for (size_t i = 0; to != NULL && i < outer; i++) {
        memcpy(to + i * after, (const char *)from->data.data + i * before, before);
        memset(to + i * after + before, 0, after - before);
    }
    return made != NULL ? made->name : NULL;
}

static bool pad(kln_graph_edit *edit, const padding *of, size_t place)
{
    const size_t index = of->convs[place];
    const kln_onnx_node node = edit->graph->nodes[index];
    const size_t axis = place == SQUEEZE || place == PROJECT;
    const char *inputs[3] = {node.inputs[0]};
    const size_t count = node.input_count < 3 ? node.input_count : 3;
    for (size_t k = 1; k < count; k++) {
        const kln_onnx_tensor *constant =
            kln_graph_edit_constant(edit, node.inputs[k], k == 1 ? 4 : 1);
        const bool grows = k == 1 || (axis == 0 && constant != NULL);
        inputs[k] = grows ? grown(edit, constant, axis, of->added) : node.inputs[k];
        if (inputs[k] == NULL) {
            return false;
        }
    }
    kln_onnx_node *made =
        kln_graph_edit_add_node(edit, index, "", "Conv", inputs, count, node.outputs, 1);
    if (made == NULL) {
        return false;
    }
    made->name = node.name;
    for (size_t i = 0; i < node.attribute_count; i++) {
        kln_onnx_attribute *attribute = &made->attributes[made->attribute_count++];
        *attribute = node.attributes[i];
        if (place == DEPTHWISE && strcmp(attribute->name, "group") == 0) {
            attribute->i += of->added;
        }
    }
    kln_graph_edit_drop(edit, index);
    return true;
}

/* Drops the shapes that the model declares for them: they no longer hold. */
static void forget_values(kln_onnx_graph *graph, const padding *of)
{
    size_t kept = 0;
    for (size_t i = 0; i < graph->value_count; i++) {
        bool is_padded = false;
        for (size_t k = 0; k < of->name_count; k++) {
            is_padded = is_padded || strcmp(of->names[k], graph->values[i].name) == 0;
        }
        if (!is_padded) {
            graph->values[kept++] = graph->values[i];
        }
    }
    graph->value_count = kept;
}

static kiln_status pad_all(kln_graph_edit *edit, const kiln_precision_options *options)
{
    kln_inference *inference = NULL;
    bool any = false;
    KLN_RETURN_IF_ERROR(kln_infer(edit->model, NULL, &inference));
    kiln_status status = KILN_OK;
    for (size_t i = 0; status == KILN_OK && i < edit->graph->node_count; i++) {
        padding found;
        bool is_kept = !find_padding(edit, inference->graph, &edit->graph->nodes[i], &found);
        for (size_t place = 0; !is_kept && place < PLACES; place++) {
            is_kept = quantize_is_kept(options, &edit->graph->nodes[found.convs[place]]);
        }
        for (size_t place = 0; status == KILN_OK && !is_kept && place < PLACES; place++) {
            any = true;
            status = pad(edit, &found, place)
                         ? KILN_OK
                         : kln_fail_memory(sizeof(kln_onnx_node), "channels in whole blocks");
        }
        if (status == KILN_OK && !is_kept) {
            forget_values(edit->graph, &found);
        }
    }
    kln_inference_destroy(inference);
    return status == KILN_OK && any ? kln_graph_edit_commit(edit) : status;
}

kiln_status quantize_pad(kln_onnx_model *model, const kiln_precision_options *options)
{
    kln_graph_edit edit;
    if (!kln_graph_edit_suits(model)) {
        return KILN_OK;
    }
    kiln_status status = kln_graph_edit_begin(model, &edit);
    KLN_THEN(status, pad_all(&edit, options));
    kln_graph_edit_end(&edit);
    return status;
}
