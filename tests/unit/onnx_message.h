/* SPDX-License-Identifier: Apache-2.0 */
/* ONNX models written field by field, for tests of the reader. */
#ifndef ONNX_MESSAGE_H
#define ONNX_MESSAGE_H

#include "graph_maker.h"
#include "kiln_test.h"

typedef struct message {
    uint8_t bytes[4096];
    size_t size;
} message;

static inline void put_varint(message *to, uint64_t value)
{
    for (; value >= 0x80; value >>= 7) {
        to->bytes[to->size++] = (uint8_t)(value | 0x80);
    }
    to->bytes[to->size++] = (uint8_t)value;
}

static inline void put_number(message *to, uint32_t number, uint64_t value)
{
    put_varint(to, number << 3);
    put_varint(to, value);
}

static inline void put_bytes(message *to, uint32_t number, const void *data, size_t size)
{
    put_varint(to, number << 3 | 2);
    put_varint(to, size);
    memcpy(to->bytes + to->size, data, size);
    to->size += size;
}

static inline void put_text(message *to, uint32_t number, const char *text)
{
    put_bytes(to, number, text, strlen(text));
}

static inline void put_message(message *to, uint32_t number, const message *inner)
{
    put_bytes(to, number, inner->bytes, inner->size);
}

/* A model whose graph is `graph`. */
static inline message model_of(const message *graph)
{
    message model = {.size = 0};
    put_number(&model, 1, 8);
    put_message(&model, 7, graph);
    return model;
}

static inline message model_of_tensor(const message *tensor)
{
    message graph = {.size = 0};
    put_message(&graph, 5, tensor);
    return model_of(&graph);
}

static inline kiln_status read_message(const message *from, kln_onnx_model **model)
{
    return kln_onnx_read_bytes((kiln_span){from->bytes, from->size}, NULL, model);
}

static inline void assert_refused(kiln_status status, const char *words, const message *from)
{
    kln_onnx_model *model = NULL;
    assert_status(status, read_message(from, &model));
    assert_null(model);
    assert_message(words);
}

#endif
