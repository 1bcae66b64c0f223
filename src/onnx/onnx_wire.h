/* SPDX-License-Identifier: Apache-2.0 */
/* Protobuf's wire format: https://protobuf.dev/programming-guides/encoding/ */
#ifndef ONNX_WIRE_H
#define ONNX_WIRE_H

#include "base/kln_base.h"

typedef enum kln_wire_type {
    KLN_WIRE_VARINT = 0,
    KLN_WIRE_FIXED64 = 1,
    KLN_WIRE_BYTES = 2,
    KLN_WIRE_FIXED32 = 5
} kln_wire_type;

/* The longest varint: 64 bits in groups of 7. */
#define KLN_WIRE_VARINT_BYTES 10

/* A message being read: what is left of it. */
typedef struct kln_wire {
    const uint8_t *at;
    const uint8_t *end;
} kln_wire;

/* One field as it stands in a message. */
typedef struct kln_wire_field {
    uint32_t number;
    kln_wire_type type;
    uint64_t value;       /* VARINT, FIXED32, FIXED64 */
    kiln_span bytes;      /* BYTES: the payload */
    const uint8_t *start; /* of the tag */
} kln_wire_field;

/* Reads a varint. False: it runs past the end, or has more than 64 bits. */
bool kln_wire_varint(kln_wire *wire, uint64_t *value);

/* Reads the next field. NULL when it worked, else what is wrong with it, as half a sentence; then
 * `field` holds the number as far as it is known (0: not). `wire` must not be at its end. */
const char *kln_wire_next(kln_wire *wire, kln_wire_field *field);

/* How many varints a packed field holds; SIZE_MAX when the last one is cut off. */
size_t kln_wire_count_varints(kiln_span packed);

/* Writes a varint to `bytes` (room for KLN_WIRE_VARINT_BYTES); returns its length. */
size_t kln_wire_put_varint(uint8_t *bytes, uint64_t value);
size_t kln_wire_varint_size(uint64_t value);

#endif
