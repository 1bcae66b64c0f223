/* SPDX-License-Identifier: Apache-2.0 */
/* The reader's state and its parts, shared by onnx_read*.c and the layout tables. */
#ifndef ONNX_READ_H
#define ONNX_READ_H

#include "kln_onnx.h"
#include "onnx_layout.h"

/* A tensor whose bytes lie in another file, mapped once the whole message was read. */
typedef struct kln_external {
    kln_onnx_tensor *tensor;
    struct kln_external *next;
} kln_external;

struct kln_onnx_reader;

/* The whole message was read. NULL: nothing is to be done then. */
typedef kiln_status (*kln_read_finish)(struct kln_onnx_reader *reader, kln_wire wire,
                                       void *message);

typedef struct kln_onnx_reader {
    const kln_read_finish *finish; /* by kln_hooks */
    kln_onnx_model *model;
    kln_arena *arena;
    const uint8_t *base; /* where the bytes begin, to say how far a failure is */
    size_t entries;      /* messages and strings so far */
    size_t numbers;      /* decoded numbers so far */
    unsigned graphs;     /* graphs and types around the current message */
    unsigned types;
    kln_external *externals;
    kln_external **externals_end;
    bool is_partial;           /* external files may be missing */
    struct kln_tally *scratch; /* for kln_onnx_release_scratch */
} kln_onnx_reader;

/* The name of that field, or "field" where it is not known. */
const char *kln_onnx_field_name(const kln_layout *layout, uint32_t number);

/* The byte that `at` is, counted from the beginning of the file. */
size_t kln_onnx_byte(const kln_onnx_reader *reader, const void *at);

/* kln_wire_next, with a sentence that names message, field and byte. */
KILN_MUST_CHECK kiln_status kln_onnx_fail_field(const kln_onnx_reader *reader,
                                                const kln_layout *layout,
                                                const kln_wire_field *field, const char *wrong);
KILN_MUST_CHECK static inline kiln_status kln_onnx_next(const kln_onnx_reader *reader,
                                                        const kln_layout *layout, kln_wire *wire,
                                                        kln_wire_field *field)
{
    const char *wrong = kln_wire_next(wire, field);
    return wrong == NULL ? KILN_OK : kln_onnx_fail_field(reader, layout, field, wrong);
}

/* Reads a whole message into `message`, which is zeroed and initialised. */
KILN_MUST_CHECK kiln_status kln_onnx_read_message(kln_onnx_reader *reader, const kln_layout *layout,
                                                  kiln_span bytes, void *message);

/* After the last message. */
void kln_onnx_release_scratch(kln_onnx_reader *reader);

/* Counts against the limits. LIMIT. */
KILN_MUST_CHECK kiln_status kln_onnx_count_numbers(kln_onnx_reader *reader, size_t more);

/* A terminated copy; a zero byte inside is refused, because it would cut the name. */
KILN_MUST_CHECK kiln_status kln_onnx_read_string(kln_onnx_reader *reader, const kln_layout *layout,
                                                 const kln_field *field, kiln_span bytes,
                                                 const char **string);

/* Of tensors (onnx_read_tensor.c). */
kiln_status kln_onnx_finish_tensor(kln_onnx_reader *reader, kln_wire wire, void *message);

/* The field of TensorProto that holds elements of this type when raw_data does not; 0: none. */
uint32_t kln_onnx_data_field(kiln_dtype dtype);

/* Maps every external tensor from `folder` (onnx_external.c). `model_path` may be NULL: the model
 * was no file. */
KILN_MUST_CHECK kiln_status kln_onnx_map_externals(kln_onnx_reader *reader, const char *folder,
                                                   const char *model_path);

#endif
