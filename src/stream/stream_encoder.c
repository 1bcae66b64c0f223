/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors that stay the same while sequences run: the encoder's outputs, and the keys and values of
 * cross-attention. They are in the engine's memory, with one row per sequence. */
#include "stream_parts.h"

static kiln_location location_of(const kiln_generator *self)
{
    return self->stream != NULL ? KILN_LOCATION_DEVICE : KILN_LOCATION_HOST;
}

/* --- inputs of sequences --- */

kiln_status stream_check_given(const kiln_binding *given, const kiln_tensor *tensor)
{
    const kiln_shape *shape = &tensor->desc.shape;
    KLN_RETURN_IF(tensor->desc.dtype != given->dtype, KILN_ERROR_DTYPE,
                  "kiln_generator_submit: input \"%s\" is of type %s, %s is needed", given->name,
                  kiln_dtype_name(tensor->desc.dtype), kiln_dtype_name(given->dtype));
    KLN_RETURN_IF(shape->rank != given->shape.rank, KILN_ERROR_RANK,
                  "kiln_generator_submit: input \"%s\" has %d dimensions, %d are needed",
                  given->name, shape->rank, given->shape.rank);
    bool fits = shape->rank > 0 && shape->dims[0] == 1;
    for (int32_t d = 1; d < shape->rank; d++) {
        fits &= shape->dims[d] >= 0 &&
                (given->shape.dims[d] < 0 || given->shape.dims[d] == shape->dims[d]);
    }
    if (!fits) {
        return kln_fail(KILN_ERROR_SHAPE,
                        "kiln_generator_submit: input \"%s\" is %s; the model has %s, and a "
                        "sequence is one row",
                        given->name, KLN_SHAPE_PRINTED(shape), KLN_SHAPE_PRINTED(&given->shape));
    }
    size_t bytes = 0;
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(given->dtype, shape, &bytes));
    KLN_RETURN_IF(
        tensor->data == NULL || tensor->bytes < bytes ||
            tensor->desc.location == KILN_LOCATION_DEVICE || tensor->desc.strides.rank != 0,
        tensor->data != NULL && tensor->bytes < bytes ? KILN_ERROR_SIZE : KILN_ERROR_UNSUPPORTED,
        "kiln_generator_submit: input \"%s\": %zu bytes of dense memory of the "
        "host are needed, %zu in %s memory were given",
        given->name, bytes, tensor->bytes, kiln_location_name(tensor->desc.location));
    return KILN_OK;
}

bool stream_alike(const kiln_generator *self, const kiln_sequence *a, const kiln_sequence *b)
{
    bool alike = a->prompt_count == b->prompt_count;
    for (size_t i = 0; alike && i < self->model.given_count; i++) {
        alike = kiln_shape_equal(&a->inputs[i].tensor.desc.shape, &b->inputs[i].tensor.desc.shape);
    }
    return alike;
}

/* Stacks the rows of input `index`. Rows without a sequence repeat the first one. */
static kiln_status join(kiln_generator *self, size_t index, kiln_sequence *const *group,
                        int64_t count, int64_t rows, kiln_tensor *joined)
{
    const kiln_tensor *first = &group[0]->inputs[index].tensor;
    size_t bytes = 0;
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(first->desc.dtype, &first->desc.shape, &bytes));
    KLN_RETURN_IF_ERROR(generator_grow(
        self, &self->given[index], self->stream != NULL ? KILN_LOCATION_PINNED : KILN_LOCATION_HOST,
        bytes * (size_t)rows));
    unsigned char *memory = kiln_buffer_data(self->given[index]);
    for (int64_t i = 0; i < rows; i++) {
        memcpy(memory + (size_t)i * bytes, group[i < count ? i : 0]->inputs[index].tensor.data,
               bytes);
    }
    kiln_shape shape = first->desc.shape;
    shape.dims[0] = rows;
    return kiln_buffer_tensor(self->given[index], 0, first->desc.dtype, &shape, joined);
}

/* --- memory --- */

/* Makes room for all possible rows. The first sequences determine the size of a row, and later ones
 * of the batch have the same. */
static kiln_status make_room(kiln_generator *self, stream_kept *kept, const kiln_shape *shape,
                             int64_t first_row)
{
    kiln_shape one = *shape;
    one.dims[0] = 1;
    size_t bytes = 0;
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(kept->dtype, &one, &bytes));
    KLN_RETURN_IF(first_row != 0 && bytes != kept->row_bytes, KILN_ERROR_SHAPE,
                  "\"%s\": a row has %zu bytes, and those of the batch have %zu", kept->name, bytes,
                  kept->row_bytes);
    kept->shape = one;
    kept->row_bytes = bytes;
    const int64_t rows = self->model.max_batch + self->model.prefill.limits.least_rows;
    return generator_grow(self, &kept->memory, location_of(self), bytes * (size_t)rows);
}

static kiln_tensor rows_of(const kiln_generator *self, const stream_kept *kept, int64_t first_row,
                           int64_t rows)
{
    kiln_tensor tensor = {.desc = {.dtype = kept->dtype, .shape = kept->shape}};
    tensor.desc.shape.dims[0] = rows;
    tensor.desc.location = location_of(self);
    tensor.desc.device = self->model.device >= 0 ? self->model.device : 0;
    tensor.data =
        (unsigned char *)kiln_buffer_data(kept->memory) + (size_t)first_row * kept->row_bytes;
    tensor.bytes = (size_t)rows * kept->row_bytes;
    return tensor;
}

/* --- outputs of runs --- */

/* The size of the named dimension in the sequence's inputs; KILN_DYNAMIC if unknown. */
static int64_t dim_of_given(const kiln_generator *self, const kiln_sequence *sequence,
                            const char *name)
{
    for (size_t i = 0; name != NULL && i < self->model.given_count; i++) {
        const kiln_binding *binding = &self->model.given[i];
        for (int32_t d = 1; d < binding->shape.rank; d++) {
            if (binding->dim_names[d] != NULL && strcmp(binding->dim_names[d], name) == 0) {
                return sequence->inputs[i].tensor.desc.shape.dims[d];
            }
        }
    }
    return KILN_DYNAMIC;
}

/* The length of the encoder's output, over which cross-attention goes. */
static int64_t encoded_length(const kiln_generator *self)
{
    for (size_t i = 0; i < self->model.kept_count; i++) {
        const stream_kept *kept = &self->model.kept[i];
        if (kept->source != SOURCE_PREFILL && kept->memory != NULL && kept->shape.rank == 3) {
            return kept->shape.dims[1];
        }
    }
    return KILN_DYNAMIC;
}

/* Whether the shape of a kept output is known before the run, which can then write it in place. */
static bool know_shape(const kiln_generator *self, const kiln_sequence *sequence,
                       const stream_end *end, kiln_shape *shape)
{
    const stream_kept *kept = &self->model.kept[end->index];
    int32_t open = 0;
    *shape = end->binding.shape;
    for (int32_t d = 1; d < shape->rank; d++) {
        if (shape->dims[d] < 0) {
            shape->dims[d] = dim_of_given(self, sequence, end->binding.dim_names[d]);
        }
        if (shape->dims[d] < 0 && kept->asked.rank == shape->rank) {
            shape->dims[d] = kept->asked.dims[d];
        }
        open += shape->dims[d] < 0;
    }
    for (int32_t d = 1; open == 1 && d < shape->rank; d++) {
        if (shape->dims[d] < 0 && kept->source == SOURCE_PREFILL) {
            shape->dims[d] = encoded_length(self);
            open = shape->dims[d] < 0 ? 1 : 0;
        }
    }
    if (open != 0) {
        return false;
    }
    return shape->rank > 0;
}

kiln_status stream_bind_kept(kiln_generator *self, const stream_part *part, const stream_end *end,
                             const kiln_sequence *sequence, int64_t rows)
{
    stream_kept *kept = &self->model.kept[end->index];
    kiln_shape shape;
    kiln_tensor tensor = {.data = NULL};
    kept->bound = know_shape(self, sequence, end, &shape);
    if (kept->bound) {
        KLN_RETURN_IF_ERROR(make_room(self, kept, &shape, self->row_count));
        tensor = rows_of(self, kept, self->row_count, rows);
    }
    return kiln_context_bind(part->context, end->binding.name, &tensor);
}

/* If the shape was unknown, the output is in the context's memory and has to be copied. */
static kiln_status keep_output(kiln_generator *self, const stream_part *part, const stream_end *end,
                               int64_t rows)
{
    stream_kept *kept = &self->model.kept[end->index];
    kiln_tensor made;
    KLN_RETURN_IF_ERROR(kiln_context_tensor(part->context, end->binding.name, &made));
    KLN_RETURN_IF_ERROR(make_room(self, kept, &made.desc.shape, self->row_count));
    const kiln_tensor to = rows_of(self, kept, self->row_count, rows);
    if (self->stream == NULL) {
        memcpy(to.data, made.data, to.bytes);
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(
        kln_cuda_copy(self->model.device, to.data, made.data, to.bytes, self->stream));
    return kiln_stream_synchronize(self->stream);
}

kiln_status stream_keep(kiln_generator *self, const stream_part *part, int64_t rows)
{
    for (size_t i = part->input_count; i < part->count; i++) {
        const stream_end *end = &part->ends[i];
        if (end->role == ROLE_KEPT && !self->model.kept[end->index].bound) {
            KLN_RETURN_IF_ERROR(keep_output(self, part, end, rows));
        }
    }
    return KILN_OK;
}

kiln_status stream_bind_nothing(const stream_part *part, const stream_end *end, int64_t rows)
{
    static int64_t nothing;
    kiln_tensor tensor = KILN_HOST_TENSOR(end->binding.dtype, end->binding.shape, &nothing, 0);
    tensor.desc.shape.dims[0] = rows;
    for (int32_t d = 1; d < tensor.desc.shape.rank; d++) {
        tensor.desc.shape.dims[d] = tensor.desc.shape.dims[d] < 0 ? 0 : tensor.desc.shape.dims[d];
    }
    return kiln_context_bind(part->context, end->binding.name, &tensor);
}

/* --- the encoder --- */

static kiln_status run_encoder(kiln_generator *self, kiln_sequence *const *group, int64_t count,
                               int64_t rows)
{
    stream_part *encoder = &self->model.encoder;
    for (size_t i = 0; i < encoder->input_count; i++) {
        kiln_tensor joined;
        const stream_end *end = &encoder->ends[i];
        KLN_RETURN_IF_ERROR(join(self, end->index, group, count, rows, &joined));
        KLN_RETURN_IF_ERROR(kiln_context_bind(encoder->context, end->binding.name, &joined));
    }
    for (size_t i = encoder->input_count; i < encoder->count; i++) {
        if (encoder->ends[i].role == ROLE_KEPT) {
            KLN_RETURN_IF_ERROR(stream_bind_kept(self, encoder, &encoder->ends[i], group[0], rows));
        }
    }
    KLN_RETURN_IF_ERROR(kiln_context_run(encoder->context));
    return stream_keep(self, encoder, rows);
}

kiln_status stream_encode(kiln_generator *self, kiln_sequence *const *group, int64_t count,
                          int64_t rows)
{
    const int64_t first_row = self->row_count;
    if (self->model.encoder.engine != NULL) {
        KLN_RETURN_IF_ERROR(run_encoder(self, group, count, rows));
    }
    for (size_t i = 0; i < self->model.kept_count; i++) {
        stream_kept *kept = &self->model.kept[i];
        if (kept->source == SOURCE_SEQUENCE) {
            kiln_tensor joined;
            KLN_RETURN_IF_ERROR(join(self, kept->index, group, count, rows, &joined));
            KLN_RETURN_IF_ERROR(make_room(self, kept, &joined.desc.shape, first_row));
            const kiln_tensor to = rows_of(self, kept, first_row, rows);
            if (self->stream == NULL) {
                memcpy(to.data, joined.data, to.bytes);
            } else {
                KLN_RETURN_IF_ERROR(kln_cuda_copy(self->model.device, to.data, joined.data,
                                                  to.bytes, self->stream));
            }
        }
    }
    return KILN_OK;
}
