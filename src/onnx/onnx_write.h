/* SPDX-License-Identifier: Apache-2.0 */
/* The writer's state and its parts, shared by onnx_write*.c.
 *
 * The same code walks a model twice: first to measure, because protobuf puts the length of a
 * message before it, then to write. The lengths from the first walk are kept in the order in which
 * the second needs them, so nested messages are not measured again. */
#ifndef ONNX_WRITE_H
#define ONNX_WRITE_H

#include "kln_onnx.h"
#include "onnx_layout.h"

#define KLN_WRITER_BUFFER ((size_t)65536)

typedef struct kln_onnx_writer {
    /* kln_onnx_write_tensor_field, which writes messages in turn */
    kiln_status (*tensor_field)(struct kln_onnx_writer *writer, uint32_t number,
                                const kln_onnx_tensor *tensor);
    kln_onnx_weights weights;
    const char *location; /* what an external tensor's location will be */
    bool measures;        /* the first walk */
    uint64_t total;       /* bytes of the message so far, in either walk */
    uint64_t *lengths;
    size_t length_count, length_capacity, length_next;
    unsigned graphs; /* around the current message: 1 is the main graph */
    unsigned attributes;
    size_t left_out;      /* tensors so far */
    uint64_t data_offset; /* in the file of weights so far */
    kln_hasher *hasher;   /* of that file, in the first walk */
    bool refers;          /* a tensor lies in a file that was not read, and stays there */
    kln_output *file;     /* the message goes there, or to `text` */
    kln_text *text;
    kln_output *data; /* the weights */
    uint8_t *buffer;  /* KLN_WRITER_BUFFER bytes before `file` */
    size_t buffered;
} kln_onnx_writer;

KILN_MUST_CHECK kiln_status kln_onnx_put_varint(kln_onnx_writer *writer, uint64_t value);
KILN_MUST_CHECK kiln_status kln_onnx_put_tag(kln_onnx_writer *writer, uint32_t number,
                                             kln_wire_type type);
/* Tag, length, bytes. */
KILN_MUST_CHECK kiln_status kln_onnx_put_bytes(kln_onnx_writer *writer, uint32_t number,
                                               kiln_span bytes);
KILN_MUST_CHECK kiln_status kln_onnx_put_message(kln_onnx_writer *writer, uint32_t number,
                                                 const kln_layout *layout, const void *message);

/* The two walks over a whole model. LIMIT where the message is too long. */
KILN_MUST_CHECK kiln_status kln_onnx_measure(kln_onnx_writer *writer, const kln_onnx_model *model);
KILN_MUST_CHECK kiln_status kln_onnx_write_again(kln_onnx_writer *writer,
                                                 const kln_onnx_model *model);
KILN_MUST_CHECK kiln_status kln_onnx_check_weights(kln_onnx_weights weights);

KILN_MUST_CHECK kiln_status kln_onnx_put_model(kln_onnx_writer *writer,
                                               const kln_onnx_model *model);

/* A length that only the first walk finds out: `*length` is kept there and given back here. */
KILN_MUST_CHECK kiln_status kln_onnx_keep_length(kln_onnx_writer *writer, uint64_t *length);

/* Of a tensor, what depends on where its bytes lie. */
KILN_MUST_CHECK kiln_status kln_onnx_write_tensor_field(kln_onnx_writer *writer, uint32_t number,
                                                        const kln_onnx_tensor *tensor);

#endif
