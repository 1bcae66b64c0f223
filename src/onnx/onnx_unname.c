/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_onnx.h"
#include "onnx_wire.h"

/* "?" or a negative number. */
static bool is_unknown(const char *text, size_t size)
{
    if (size == 1 && text[0] == '?') {
        return true;
    }
    size_t digits = 1;
    while (digits < size && text[digits] >= '0' && text[digits] <= '9') {
        digits++;
    }
    return size > 1 && text[0] == '-' && digits == size;
}

bool kln_onnx_names_dim(const char *text)
{
    return text != NULL && text[0] != '\0' && !is_unknown(text, strlen(text));
}

/* ModelProto.graph, GraphProto.input, ValueInfoProto.type, TypeProto.tensor_type,
 * Tensor.shape, TensorShapeProto.dim, Dimension.dim_param */
static const uint32_t path[] = {7, 11, 2, 1, 2, 1, 2};
#define DEEPEST (KLN_ARRAY_LENGTH(path) - 1)
#define DIM_PARAM_TAG 0x12  /* field 2, bytes */
#define DENOTATION_TAG 0x1A /* field 3, bytes */

typedef struct search {
    const unsigned char *base;
    unsigned char *image;
    size_t found;
} search;

static void look(search *self, kiln_span message, size_t depth) /* NOLINT(misc-no-recursion) */
{
    kln_wire wire = {message.data, (const uint8_t *)message.data + message.size};
    while (wire.at < wire.end) {
        kln_wire_field field;
        if (kln_wire_next(&wire, &field) != NULL) {
            return;
        }
        if (field.number != path[depth] || field.type != KLN_WIRE_BYTES) {
            continue;
        }
        if (depth < DEEPEST) {
            look(self, field.bytes, depth + 1);
        } else if (*field.start == DIM_PARAM_TAG &&
                   is_unknown(field.bytes.data, field.bytes.size)) {
            self->found++;
            if (self->image != NULL) {
                self->image[field.start - self->base] = DENOTATION_TAG;
            }
        }
    }
}

/* NOLINTNEXTLINE(readability-non-const-parameter): it is written to through `search` */
size_t kln_onnx_unname_dims(kiln_span model, unsigned char *image)
{
    search self = {.base = model.data, .image = image};
    if (model.size > 0) {
        look(&self, model, 0);
    }
    return self.found;
}
