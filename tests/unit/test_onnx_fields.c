/* SPDX-License-Identifier: Apache-2.0 */
/* Fields of every sort, those that are unknown, malformed or too much. */
#include "onnx_message.h"

TEST(elements_in_every_field)
{
    const uint8_t packed[] = {0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
    kln_onnx_model *model = NULL;
    message tensor = {.size = 0};
    put_number(&tensor, 1, 3);
    put_number(&tensor, 5, 7); /* one that is not packed, before the type is known */
    put_number(&tensor, 2, 3); /* int8 */
    put_bytes(&tensor, 5, packed, sizeof packed);
    message bytes = model_of_tensor(&tensor);
    assert_ok(read_message(&bytes, &model));
    const int8_t expected[] = {7, 1, -1};
    assert_int_equal(model->graph.initializers[0].storage, KLN_ONNX_STORAGE_INT32);
    assert_int_equal(model->graph.initializers[0].data.size, 3);
    assert_memory_equal(model->graph.initializers[0].data.data, expected, 3);
    kln_onnx_model_destroy(model);

    tensor.bytes[3] = 0xff; /* 7 becomes a number of two bytes: 2,047 */
    memmove(tensor.bytes + 5, tensor.bytes + 4, tensor.size - 4);
    tensor.bytes[4] = 0x0f;
    tensor.size++;
    bytes = model_of_tensor(&tensor);
    assert_refused(KILN_ERROR_MALFORMED, "does not fit the tensor's data type", &bytes);

    const float pair[] = {1.5F, -2.5F};
    tensor.size = 0;
    put_number(&tensor, 2, 1);
    put_number(&tensor, 1, 2);
    put_bytes(&tensor, 4, pair, sizeof pair);
    bytes = model_of_tensor(&tensor);
    assert_ok(read_message(&bytes, &model));
    const uint8_t *data = model->graph.initializers[0].data.data;
    assert_true(data > bytes.bytes && data < bytes.bytes + bytes.size);
    assert_memory_equal(data, pair, sizeof pair);
    kln_onnx_model_destroy(model);

    put_bytes(&tensor, 9, pair, sizeof pair);
    bytes = model_of_tensor(&tensor);
    assert_refused(KILN_ERROR_MALFORMED, "raw_data and another field", &bytes);
}

TEST(unknown_fields_survive)
{
    owned_model model = NULL;
    owned_text text;
    message graph = {.size = 0};
    message node = {.size = 0};
    put_text(&node, 4, "Later");
    put_text(&node, 77, "from the future");
    put_message(&graph, 1, &node);
    put_text(&graph, 2, "g");
    message bytes = model_of(&graph);
    put_number(&bytes, 99, 5);
    assert_ok(read_message(&bytes, &model));
    assert_int_equal(model->graph.nodes[0].unknown.count, 1);
    kln_text_init(&text, 4096);
    assert_ok(kln_onnx_write_bytes(model, KLN_ONNX_WEIGHTS_INLINE, &text));
    assert_int_equal(text.size, bytes.size);
    assert_memory_equal(text.data, bytes.bytes, bytes.size);
}

TEST(malformed_messages)
{
    kln_onnx_model *model = NULL;
    message bytes = {.size = 0};
    message graph = {.size = 0};
    message tensor = {.size = 0};
    assert_status(KILN_ERROR_EMPTY, read_message(&bytes, &model));
    put_number(&bytes, 1, 8);
    assert_refused(KILN_ERROR_MALFORMED, "ModelProto.graph is missing", &bytes);
    bytes.size = 0;
    put_message(&bytes, 7, &graph);
    assert_refused(KILN_ERROR_MALFORMED, "ir_version is missing", &bytes);
    put_number(&bytes, 1, 15);
    assert_refused(KILN_ERROR_UNSUPPORTED, "version 15; versions 3 to 14", &bytes);
    bytes.size = 0;
    put_number(&bytes, 7, 1);
    assert_refused(KILN_ERROR_MALFORMED, "byte 0, ModelProto.graph (field 7): its wire type is 0",
                   &bytes);
    bytes = model_of(&graph);
    put_message(&bytes, 7, &graph);
    assert_refused(KILN_ERROR_MALFORMED, "given twice", &bytes);
    put_varint(&graph, 2 << 3 | 2);
    put_varint(&graph, 9);
    bytes = model_of(&graph);
    assert_refused(KILN_ERROR_MALFORMED,
                   "byte 4, GraphProto.name (field 2): it is longer than the message", &bytes);
    graph.size = 0;
    put_bytes(&graph, 2, "a\0b", 3);
    bytes = model_of(&graph);
    assert_refused(KILN_ERROR_MALFORMED, "a text holds a zero byte", &bytes);
    memcpy(bytes.bytes, "\x0b", 1);
    assert_refused(KILN_ERROR_MALFORMED, "nor 5: the file was cut short", &bytes);
    memcpy(bytes.bytes, "\x02", 1);
    assert_refused(KILN_ERROR_MALFORMED, "number is 0", &bytes);
    put_number(&tensor, 1, (uint64_t)-3);
    put_number(&tensor, 2, 1);
    bytes = model_of_tensor(&tensor);
    assert_refused(KILN_ERROR_MALFORMED, "a dimension is negative", &bytes);
    tensor.size = 0;
    put_number(&tensor, 1, UINT64_C(1) << 40);
    put_number(&tensor, 1, UINT64_C(1) << 40);
    put_number(&tensor, 2, 1);
    bytes = model_of_tensor(&tensor);
    assert_refused(KILN_ERROR_MALFORMED, "more than 64 bits", &bytes);
    tensor.size = 0;
    put_number(&tensor, 1, 3);
    put_number(&tensor, 2, 1);
    put_bytes(&tensor, 9, "12345678", 8);
    bytes = model_of_tensor(&tensor);
    assert_refused(KILN_ERROR_MALFORMED, "need 12 bytes, its data has 8", &bytes);
    /* One packed number of 70 bits; it would be a 0, and all of them after it. */
    tensor.size = 0;
    put_bytes(&tensor, 1, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x7f\x02", 11);
    put_number(&tensor, 2, 1);
    bytes = model_of_tensor(&tensor);
    assert_refused(KILN_ERROR_MALFORMED, "TensorProto.dims: a packed number has more than 64 bits",
                   &bytes);
}

/* `depth` graphs, each in an attribute of a node of the one around it. */
static void nested_graphs(unsigned depth, message *graph)
{
    graph->size = 0;
    for (unsigned i = 1; i < depth; i++) {
        message attribute = {.size = 0};
        message node = {.size = 0};
        put_message(&attribute, 6, graph);
        put_number(&attribute, 20, KLN_ONNX_ATTRIBUTE_GRAPH);
        put_message(&node, 5, &attribute);
        graph->size = 0;
        put_message(graph, 1, &node);
    }
}

TEST(limits)
{
    kln_onnx_model *model = NULL;
    message graph;
    nested_graphs(KLN_ONNX_MAX_GRAPH_DEPTH, &graph);
    message bytes = model_of(&graph);
    assert_ok(read_message(&bytes, &model));
    kln_onnx_model_destroy(model);
    nested_graphs(KLN_ONNX_MAX_GRAPH_DEPTH + 1, &graph);
    bytes = model_of(&graph);
    assert_refused(KILN_ERROR_LIMIT, "GraphProto lies inside 64 others", &bytes);
    message type = {.size = 0};
    for (unsigned i = 0; i <= KLN_ONNX_MAX_TYPE_DEPTH; i++) {
        message sequence = {.size = 0};
        put_message(&sequence, 1, &type);
        type.size = 0;
        put_message(&type, 4, &sequence);
    }
    message value = {.size = 0};
    put_message(&value, 2, &type);
    graph.size = 0;
    put_message(&graph, 11, &value);
    bytes = model_of(&graph);
    assert_refused(KILN_ERROR_LIMIT, "TypeProto lies inside 32 others", &bytes);
    /* 16,777,217 nodes of two bytes each. */
    const size_t count = KLN_ONNX_MAX_ENTRIES + 1;
    uint8_t *many = calloc(count, 2);
    assert_non_null(many);
    for (size_t i = 0; i < count; i++) {
        many[2 * i] = 1 << 3 | 2;
    }
    message head = {.size = 0};
    put_number(&head, 1, 8);
    put_varint(&head, 7 << 3 | 2);
    put_varint(&head, 2 * count);
    uint8_t *whole = malloc(head.size + 2 * count);
    assert_non_null(whole);
    memcpy(whole, head.bytes, head.size);
    memcpy(whole + head.size, many, 2 * count);
    assert_fails(KILN_ERROR_LIMIT,
                 kln_onnx_read_bytes((kiln_span){whole, head.size + 2 * count}, NULL, &model),
                 "more than 16777216 messages");
    free(whole);
    free(many);
}

/* Whatever is cut off or turned over, the reader says so or reads it; the sanitizers watch. */
