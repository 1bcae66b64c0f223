/* SPDX-License-Identifier: Apache-2.0 */
#include "small_models.h"

#include "kiln_test.h"

/* --- the wire format: https://protobuf.dev/programming-guides/encoding/ --- */

static void put(small_message *to, const void *data, size_t size)
{
    if (size > sizeof to->bytes - to->size) {
        fail_msg("a small model has more than %zu bytes", sizeof to->bytes);
    }
    memcpy(to->bytes + to->size, data, size);
    to->size += size;
}

static void put_varint(small_message *to, uint64_t value)
{
    unsigned char byte = 0;
    for (; value >= 0x80; value >>= 7) {
        byte = (unsigned char)(value | 0x80);
        put(to, &byte, 1);
    }
    byte = (unsigned char)value;
    put(to, &byte, 1);
}

static void put_number(small_message *to, unsigned field, uint64_t value)
{
    put_varint(to, (uint64_t)field << 3);
    put_varint(to, value);
}

static void put_bytes(small_message *to, unsigned field, const void *data, size_t size)
{
    put_varint(to, (uint64_t)field << 3 | 2);
    put_varint(to, size);
    put(to, data, size);
}

static void put_text(small_message *to, unsigned field, const char *text)
{
    put_bytes(to, field, text, strlen(text));
}

static void put_message(small_message *to, unsigned field, const small_message *inner)
{
    put_bytes(to, field, inner->bytes, inner->size);
}

/* Calls for each piece between commas. */
static void put_each(small_message *to, unsigned field, const char *list)
{
    for (;;) {
        const size_t length = strcspn(list, ",");
        put_bytes(to, field, list, length);
        if (list[length] == '\0') {
            return;
        }
        list += length + 1;
    }
}

/* --- onnx.proto --- */

static small_message node_of(const char *op, const char *inputs, const char *outputs)
{
    small_message node = {.size = 0};
    put_each(&node, 1, inputs);
    put_each(&node, 2, outputs);
    put_text(&node, 4, op);
    return node;
}

void small_node(small_graph *graph, const char *op, const char *inputs, const char *outputs)
{
    const small_message node = node_of(op, inputs, outputs);
    put_message(&graph->message, 1, &node);
}

void small_cast(small_graph *graph, const char *input, const char *output, int type)
{
    small_message node = node_of("Cast", input, output);
    small_message attribute = {.size = 0};
    put_text(&attribute, 1, "to");
    put_number(&attribute, 3, (uint64_t)type);
    put_number(&attribute, 20, 2);
    put_message(&node, 5, &attribute);
    put_message(&graph->message, 1, &node);
}

static void put_branch(small_message *node, const char *name, const small_graph *branch)
{
    small_message graph = branch->message;
    put_text(&graph, 2, name);
    small_message attribute = {.size = 0};
    put_text(&attribute, 1, name);
    put_message(&attribute, 6, &graph);
    put_number(&attribute, 20, 5);
    put_message(node, 5, &attribute);
}

void small_if(small_graph *graph, const char *inputs, const char *outputs,
              const small_graph *then_branch, const small_graph *else_branch)
{
    small_message node = node_of("If", inputs, outputs);
    put_branch(&node, "then_branch", then_branch);
    put_branch(&node, "else_branch", else_branch);
    put_message(&graph->message, 1, &node);
}

static small_message shape_of(const char *text)
{
    small_message shape = {.size = 0};
    while (text[0] != '\0') {
        const size_t length = strcspn(text, ",");
        small_message dim = {.size = 0};
        if (text[0] >= '0' && text[0] <= '9') {
            put_number(&dim, 1, strtoull(text, NULL, 10));
        } else if (text[0] != '?') {
            put_bytes(&dim, 2, text, length);
        }
        put_message(&shape, 1, &dim);
        text += length;
        text += text[0] == ',' ? 1 : 0;
    }
    return shape;
}

static void put_value(small_graph *graph, unsigned field, const char *name, int type,
                      const char *shape)
{
    small_message tensor = {.size = 0};
    put_number(&tensor, 1, (uint64_t)type);
    if (shape != NULL) {
        const small_message dims = shape_of(shape);
        put_message(&tensor, 2, &dims);
    }
    small_message kind = {.size = 0};
    put_message(&kind, 1, &tensor);
    small_message value = {.size = 0};
    put_text(&value, 1, name);
    put_message(&value, 2, &kind);
    put_message(&graph->message, field, &value);
}

void small_input(small_graph *graph, const char *name, int type, const char *shape)
{
    put_value(graph, 11, name, type, shape);
}

void small_output(small_graph *graph, const char *name, int type, const char *shape)
{
    put_value(graph, 12, name, type, shape);
}

void small_sequence_output(small_graph *graph, const char *name)
{
    small_message tensor = {.size = 0};
    put_number(&tensor, 1, SMALL_FLOAT);
    small_message element = {.size = 0};
    put_message(&element, 1, &tensor);
    small_message sequence = {.size = 0};
    put_message(&sequence, 1, &element);
    small_message kind = {.size = 0};
    put_message(&kind, 4, &sequence);
    small_message value = {.size = 0};
    put_text(&value, 1, name);
    put_message(&value, 2, &kind);
    put_message(&graph->message, 12, &value);
}

static small_message tensor_of(const char *name, size_t count)
{
    small_message tensor = {.size = 0};
    put_number(&tensor, 1, count);
    put_number(&tensor, 2, SMALL_FLOAT);
    put_text(&tensor, 8, name);
    return tensor;
}

void small_floats(small_graph *graph, const char *name, const float *values, size_t count)
{
    small_message tensor = tensor_of(name, count);
    put_bytes(&tensor, 9, values, count * sizeof *values);
    put_message(&graph->message, 5, &tensor);
}

void small_external(small_graph *graph, const char *name, size_t count, const char *location)
{
    small_message entry = {.size = 0};
    put_text(&entry, 1, "location");
    put_text(&entry, 2, location);
    small_message tensor = tensor_of(name, count);
    put_message(&tensor, 13, &entry);
    put_number(&tensor, 14, 1);
    put_message(&graph->message, 5, &tensor);
}

kiln_span small_model(const small_graph *graph)
{
    static small_message model;
    small_message body = graph->message;
    small_message opset = {.size = 0};
    small_message entry = {.size = 0};
    model.size = 0;
    put_text(&body, 2, "the graph");
    put_number(&opset, 2, 17);
    put_text(&entry, 1, "greeting");
    put_text(&entry, 2, "hello");
    put_number(&model, 1, 8);
    put_text(&model, 2, "a test");
    put_text(&model, 4, "example");
    put_number(&model, 5, 42);
    put_text(&model, 6, "what it is");
    put_message(&model, 7, &body);
    put_message(&model, 8, &opset);
    put_message(&model, 14, &entry);
    return (kiln_span){model.bytes, model.size};
}

kiln_span small_unary(const char *op, int type, const char *shape)
{
    small_graph graph = {.message = {.size = 0}};
    small_node(&graph, op, "x", "y");
    small_input(&graph, "x", type, shape);
    small_output(&graph, "y", type, shape);
    return small_model(&graph);
}
