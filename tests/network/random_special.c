/* SPDX-License-Identifier: Apache-2.0 */
/* Loops, einsum, and what else is of its own kind. */
#include <math.h>
#include <stdio.h>

#include "random_parts.h"

/* The body of a loop that carries v on as v + outer, and stacks up what is below 0 of it. */
static kiln_network *loop_body(random_network *r, const random_tensor *t, bool stops)
{
    static const int64_t one = 1;
    static const kiln_weights limit = {KILN_DTYPE_INT64, {0, {0}}, {&one, sizeof one}};
    kiln_network *body = NULL;
    kiln_tensor_id i = 0;
    kiln_tensor_id c = 0;
    kiln_tensor_id v = 0;
    kiln_tensor_id outer = 0;
    kiln_tensor_id end = 0;
    char names[3][32];
    for (size_t k = 0; k < 3; k++) {
        (void)snprintf(names[k], sizeof names[k], "%c%zu", "icv"[k], r -> count);
    }
    DO(kiln_network_create_branch(r->network, NULL, &body));
    DO(kiln_network_add_input(body, names[0], KILN_DTYPE_INT64, &KILN_SHAPE_SCALAR, NULL, &i));
    DO(kiln_network_add_input(body, names[1], KILN_DTYPE_BOOL, &KILN_SHAPE_SCALAR, NULL, &c));
    DO(kiln_network_add_input(body, names[2], t->dtype, &t->shape, NULL, &v));
    DO(kiln_network_capture(body, t->id, &outer));
    DO(kiln_network_add_elementwise(body, NULL, KILN_ELEMENTWISE_ADD, v, outer, &v));
    if (stops) {
        DO(kiln_network_add_constant(body, NULL, &limit, &end));
        DO(kiln_network_add_elementwise(body, NULL, KILN_ELEMENTWISE_LESS, i, end, &c));
    } else {
        DO(kiln_network_add_activation(body, NULL, KILN_ACTIVATION_IDENTITY, c, 0, 0, &c));
    }
    DO(kiln_network_mark_output(body, c));
    DO(kiln_network_mark_output(body, v));
    DO(kiln_network_add_unary(body, NULL, KILN_UNARY_NEG, v, &v));
    DO(kiln_network_mark_output(body, v));
    return body;
}

bool random_loop(random_network *r, const random_tensor *t)
{
    static const int64_t trips[] = {1, 2, 3};
    static const uint8_t yes = 1;
    kiln_tensor_id outputs[2] = {0, 0};
    kiln_network *body = loop_body(r, t, random_upto(r, 3) == 0);
    const kiln_tensor_id count =
        random_constant(r, KILN_DTYPE_INT64, KILN_SHAPE_SCALAR, trips + random_upto(r, 3));
    const kiln_tensor_id begin = random_upto(r, 2) == 0
                                     ? KILN_NO_TENSOR
                                     : random_constant(r, KILN_DTYPE_BOOL, KILN_SHAPE_SCALAR, &yes);
    DO(kiln_network_add_loop(r->network, NULL, count, begin, &t->id, 1, body, outputs, 2));
    const double most = 4 * t->most;
    const double error = 4 * t->error + 4 * random_unit(t->dtype) * most;
    random_add(r, outputs[0], most, random_is_int(t->dtype) ? 0 : error);
    random_add(r, outputs[1], most, random_is_int(t->dtype) ? 0 : error);
    return true;
}

bool random_einsum(random_network *r, const random_tensor *t)
{
    /* Of one tensor, then of the tensor twice. */
    static const char *const forms[3][4] = {
        {"ij->ji", "ij->", "ij,kj->ik", "ij,ij->i"},
        {"bij->bi", "...ij->...ji", "bij,bkj->bik", "bij,bij->bj"},
        {"abcd->dcba", "abcd->ac", "abcd,abed->abce", "...d,...d->..."},
    };
    kiln_tensor_id y = 0;
    const kiln_tensor_id twice[] = {t->id, t->id};
    const size_t form = (size_t)random_upto(r, 4);
    const double count = (double)random_elements(t);
    const double sum = form < 2 ? count * t->most : count * t->most * t->most;
    const double error = form < 2 ? count * t->error : 2.5 * count * t->error * (t->most + 1);
    DO(kiln_network_add_einsum(r->network, NULL, forms[t->shape.rank - 2][form], twice,
                               form < 2 ? 1 : 2, &y));
    random_add(r, y, sum, error + random_unit(t->dtype) * (count + 2) * sum);
    return true;
}

/* What makes a tensor of numbers alone, or of a shape. */
bool random_making(random_network *r, const random_tensor *t)
{
    static const int64_t whole[] = {1, 12, 3};
    static const float real[] = {0.5F, 4.0F, 0.75F};
    kiln_tensor_id y = 0;
    kiln_tensor_id ends[3] = {0, 0, 0};
    const int64_t which = random_upto(r, 4);
    if (which > 1 && t->shape.rank > 4) {
        return false;
    }
    if (which == 0) {
        const bool is_real = random_upto(r, 2) == 0;
        for (size_t i = 0; i < 3; i++) {
            ends[i] = is_real ? random_constant(r, F, KILN_SHAPE_SCALAR, real + i)
                              : random_constant(r, KILN_DTYPE_INT64, KILN_SHAPE_SCALAR, whole + i);
        }
        DO(kiln_network_add_range(r->network, NULL, ends[0], ends[1], ends[2], &y));
        random_add(r, y, 12, 0);
    } else if (which == 1) {
        DO(kiln_network_add_shape(r->network, NULL, t->id, &y));
        random_add(r, y, 4096, 0);
    } else if (which == 2) { /* one more dimension, and those of 1 wider */
        kiln_shape shape = {t->shape.rank + 1, {2}};
        for (int32_t i = 0; i < t->shape.rank; i++) {
            shape.dims[i + 1] = t->shape.dims[i] == 1 ? 2 : t->shape.dims[i];
        }
        DO(kiln_network_add_expand(r->network, NULL, t->id, &shape, &y));
        random_add(r, y, t->most, t->error);
    } else {
        kiln_tensor_id shape = 0;
        DO(kiln_network_add_shape(r->network, NULL, t->id, &shape));
        DO(kiln_network_add_reshape_to(r->network, NULL, t->id, shape, &y));
        random_add(r, y, t->most, t->error);
    }
    return true;
}

/* Slopes and given statistics. */
bool random_scaling(random_network *r, const random_tensor *t)
{
    kiln_tensor_id y = 0;
    if (random_upto(r, 2) == 0) {
        const kiln_tensor_id slope = random_weights(
            r, KILN_SHAPE(random_upto(r, 2) == 0 ? 1 : t->shape.dims[t->shape.rank - 1]));
        DO(kiln_network_add_prelu(r->network, NULL, t->id, slope, &y));
        random_add(r, y, t->most, t->error + 0x1p-23 * t->most);
        return true;
    }
    const kiln_shape channels = KILN_SHAPE(t->shape.dims[1]);
    const kiln_tensor_id scale = random_weights(r, channels);
    const kiln_tensor_id bias = random_weights(r, channels);
    const kiln_tensor_id mean = random_weights(r, channels);
    const kiln_tensor_id variance =
        random_constant(r, F, channels, random_scales + random_upto(r, 2048));
    DO(kiln_network_add_batch_normalization(r->network, NULL, t->id, scale, bias, mean, variance,
                                            0.125F, &y));
    const double most = 2 * (t->most + 1) + 1;
    random_add(r, y, most, 2 * t->error + 16 * 0x1p-23 * most);
    return true;
}

static bool integers(const random_tensor *t)
{
    return random_is_int(t->dtype);
}

bool random_integers(random_network *r, const random_tensor *none)
{
    static const int64_t three = 3;
    static const int32_t short_three = 3;
    static const float part = 0.75F;
    random_tensor *t = random_pick(r, integers);
    random_tensor *f = random_pick(r, random_f32_exact);
    kiln_tensor_id y = 0;
    if (f != NULL && random_upto(r, 4) == 0) {
        const kiln_tensor_id d = random_constant(r, F, KILN_SHAPE_SCALAR, &part);
        DO(kiln_network_add_elementwise(r->network, NULL, KILN_ELEMENTWISE_FMOD, f->id, d, &y));
        random_add(r, y, 1, 0);
        DO(kiln_network_add_unary(r->network, NULL, KILN_UNARY_IS_INF, f->id, &y));
        random_add(r, y, 1, 0);
        return true;
    }
    if (t == NULL) {
        return false;
    }
    static const kiln_elementwise kinds[] = {
        KILN_ELEMENTWISE_MOD,         KILN_ELEMENTWISE_FMOD,       KILN_ELEMENTWISE_DIV,
        KILN_ELEMENTWISE_BITWISE_AND, KILN_ELEMENTWISE_BITWISE_OR, KILN_ELEMENTWISE_BITWISE_XOR};
    const double most = 2 * t->most + 4;
    const int64_t which = random_upto(r, 7);
    if (which == 6) {
        DO(kiln_network_add_unary(r->network, NULL, KILN_UNARY_BITWISE_NOT, t->id, &y));
    } else {
        const kiln_tensor_id d =
            random_constant(r, t->dtype, KILN_SHAPE_SCALAR,
                            t->dtype == KILN_DTYPE_INT64 ? (const void *)&three : &short_three);
        DO(kiln_network_add_elementwise(r->network, NULL, kinds[which], t->id, d, &y));
    }
    random_add(r, y, most, 0);
    return true;
}

/* Quantized along an axis or in blocks, and back. Scales are powers of two, so that both executors
 * round the same number. */
bool random_storage(random_network *r, const random_tensor *t)
{
    static const int8_t zeros[8] = {3, -3, 0, 5, -1, 7, 2, -8};
    static const kiln_dtype types[] = {KILN_DTYPE_INT8,   KILN_DTYPE_UINT8, KILN_DTYPE_INT16,
                                       KILN_DTYPE_UINT16, KILN_DTYPE_INT4,  KILN_DTYPE_UINT4};
    kiln_tensor_id zero = KILN_NO_TENSOR;
    kiln_tensor_id y = 0;
    const int64_t axis = random_upto(r, t->shape.rank);
    const int64_t size = t->shape.dims[axis];
    const bool in_blocks =
        kiln_network_opset(r->network) >= 21 && size % 2 == 0 && random_elements(t) > 2 &&
        random_upto(r, 2) == 0; /* with one scale, ONNX Runtime takes no blocks */
    kiln_shape shape = KILN_SHAPE(size);
    kiln_dtype dtype = KILN_DTYPE_UNDEFINED;
    if (in_blocks) {
        shape = t->shape;
        shape.dims[axis] = size / 2;
        dtype = types[random_upto(r, 6)];
    } else if (size > 8 || size == 1) {
        return false; /* ONNX Runtime 1.31 moves one of a single scale behind a Slice, as uint8 */
    } else {
        zero = random_constant(r, KILN_DTYPE_INT8, shape, zeros);
    }
    const kiln_tensor_id scale = random_constant(r, F, shape, random_scales + random_upto(r, 2048));
    const int64_t block = in_blocks ? 2 : 0;
    DO(kiln_network_add_quantize(r->network, NULL, t->id, scale, zero, dtype, axis, block, &y));
    DO(kiln_network_add_dequantize(r->network, NULL, y, scale, zero, axis, block, &y));
    random_add(r, y, t->most + 16, 0);
    return true;
}

/* Queries of all heads over the keys of one, with a mask, past keys, both or neither. */
bool random_attention(random_network *r, const random_tensor *t)
{
    static uint8_t seen[1024];
    kiln_tensor_id y = 0;
    kiln_tensor_id key = 0;
    kiln_tensor_id value = 0;
    kiln_attention_options options = KILN_ATTENTION_OPTIONS_INIT;
    static const int64_t from = 0;
    static const int64_t to = 1;
    static const int64_t axis = 1;
    const double most = t->most + 1;
    const double error = t->error;
    const int64_t size = t->shape.dims[3];
    const int64_t past = random_upto(r, 3);
    const kiln_tensor_id query = t->id;
    for (size_t i = 0; i < sizeof seen; i++) { /* one key at least is seen of 2, of 3, and so on */
        seen[i] = i % 7 != 1 && i % 5 != 2;
    }
    options.heads = t->shape.dims[1];
    options.kv_heads = 1;
    options.causal = random_upto(r, 2) == 0;
    options.scale = 0.125F;
    options.softcap = random_upto(r, 3) == 0 ? 8.0F : 0.0F;
    const kiln_shape old = KILN_SHAPE(t->shape.dims[0], 1, past, size);
    const int64_t keys = t->shape.dims[2] + past;
    DO(kiln_network_add_slice(r->network, NULL, query, &from, &to, &axis, NULL, 1, &key));
    if (past > 0) {
        options.past_key = random_weights(r, old);
        options.past_value = random_weights(r, old);
    }
    const int64_t masks = random_upto(r, 3);
    const int64_t tokens = t->shape.dims[2];
    if (masks == 1) {
        options.mask = random_weights(r, KILN_SHAPE(t->shape.dims[2], keys));
    } else if (masks == 2 && !options.causal && tokens * keys <= 1024) {
        options.mask = random_constant(r, KILN_DTYPE_BOOL, KILN_SHAPE(tokens, keys), seen);
    }
    DO(kiln_network_add_attention(r->network, NULL, query, key, key, &options, &y,
                                  past > 0 ? &key : NULL, past > 0 ? &value : NULL));
    random_add(r, y, most, (4 + most * most * (double)size) * (error + 4e-6));
    return true;
}
