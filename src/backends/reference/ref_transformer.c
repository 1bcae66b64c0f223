/* The operators of com.microsoft that ONNX Runtime's optimizer makes of the layers of a
 * transformer. Their attention is computed as ONNX's, with masks made in this file.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ref_transformer.h"

/* --- attention --- */

kiln_status ref_take_columns(const ref_attending *a, const ref_columns *from, int64_t heads,
                             const void *past, const ref_value **value)
{
    ref_call *call = a->call;
    const ref_tensor *x = from->x;
    const int64_t size = from->width / (heads > 0 ? heads : 1);
    const int64_t length = x->dims[1];
    const int64_t old = past != NULL ? a->past : 0;
    const int64_t dims[4] = {x->dims[0], heads, old + length, size};
    const int64_t flat[3] = {x->dims[0], length, size};
    const size_t bytes = ref_element_size(x->dtype) * (size_t)size;
    ref_value *made = NULL;
    double *row = NULL;
    double *added = NULL;
    KLN_RETURN_IF_ERROR(
        ref_step_tensor(call, x->dtype, heads > 0 ? 4 : 3, heads > 0 ? dims : flat, &made));
    KLN_RETURN_IF_ERROR(ref_scratch(call, 2 * (size_t)size, sizeof *row, &row));
    added = row + size;
    for (int64_t i = 0; i < x->dims[0] * (heads > 0 ? heads : 1); i++) {
        const int64_t batch = heads > 0 ? i / heads : i;
        const int64_t at = heads > 0 ? i % heads * size : 0;
        if (from->bias != NULL) {
            ref_load_float(from->bias, from->bias_begin + at, 1, size, added);
        }
        if (old > 0) {
            memcpy((char *)made->tensor.data + (size_t)(i * (old + length)) * bytes,
                   (const char *)past + (size_t)(i * old) * bytes, (size_t)old * bytes);
        }
        for (int64_t r = 0; r < length; r++) {
            ref_load_float(x, (batch * length + r) * x->dims[2] + from->begin + at, 1, size, row);
            for (int64_t c = 0; from->bias != NULL && c < size; c++) {
                row[c] += added[c];
            }
            ref_store_float(&made->tensor, (i * (old + length) + old + r) * size, 1, size, row);
        }
    }
    *value = made;
    return KILN_OK;
}

/* Checks the dimensions of a mask. */
static kiln_status check_mask(const ref_attending *a)
{
    const ref_tensor *m = a->mask;
    const int64_t *d = m->dims;
    const bool fits =
        m->rank == 1   ? d[0] == a->batch || d[0] == 2 * a->batch
        : m->rank == 2 ? d[0] == a->batch && d[1] == a->keys
                       : m->rank == 3 && d[0] == a->batch && d[1] == a->queries && d[2] == a->keys;
    return fits ? KILN_OK
                : kln_fail(KILN_ERROR_SHAPE,
                           "a mask of %lld batches, %lld queries and %lld keys is needed, in 1 to "
                           "3 dimensions",
                           (long long)a->batch, (long long)a->queries, (long long)a->keys);
}

static bool is_hidden(const ref_attending *a, int64_t batch, int64_t query, int64_t key)
{
    const ref_tensor *m = a->mask;
    if (m == NULL) {
        return false;
    }
    if (m->rank == 1) {
        return key >= ref_get_int(m, batch) ||
               (m->dims[0] == 2 * a->batch && key < ref_get_int(m, a->batch + batch));
    }
    const int64_t row = m->rank == 2 ? batch : batch * a->queries + query;
    return ref_get_int(m, row * a->keys + key) == 0;
}

static kiln_status check_bias(const ref_attending *a)
{
    const ref_tensor *b = a->bias;
    KLN_RETURN_IF(b != NULL && (b->rank != 4 || (b->dims[0] != 1 && b->dims[0] != a->batch) ||
                                (b->dims[1] != 1 && b->dims[1] != a->heads) ||
                                b->dims[2] != a->queries || b->dims[3] != a->biased),
                  KILN_ERROR_SHAPE, "a bias of scores must be batches x heads x queries x keys");
    return a->mask != NULL ? check_mask(a) : KILN_OK;
}

/* Computes what is added to the scores of a query. */
static void bias_row(const ref_attending *a, int64_t batch, int64_t head, int64_t query,
                     double *row)
{
    const ref_tensor *b = a->bias;
    const int64_t *seen = a->seen != NULL ? a->seen + 2 * (batch * a->queries + query) : NULL;
    const int64_t begin = seen != NULL ? seen[0] : 0;
    const int64_t end = seen != NULL ? seen[1] : a->causal ? a->past + query + 1 : a->keys;
    memset(row, 0, (size_t)a->keys * sizeof *row);
    if (b != NULL) {
        const int64_t of_batch = b->dims[0] == 1 ? 0 : batch;
        const int64_t of_head = b->dims[1] == 1 ? 0 : head;
        const int64_t from = (of_batch * b->dims[1] + of_head) * a->queries + query;
        ref_load_float(b, from * a->biased, 1, a->biased, row);
    }
    for (int64_t k = 0; k < a->keys; k++) {
        row[k] += is_hidden(a, batch, query, k) ? a->filter : 0.0;
        row[k] = k < begin || k >= end ? -HUGE_VAL : row[k];
    }
    if (a->sinks != NULL) {
        row[a->keys - 1] = a->sinks[head];
    }
}

/* Computes what is added to all scores, [batch, 1 or heads, queries, keys]; NULL if nothing is. */
static kiln_status make_bias(const ref_attending *a, kiln_dtype dtype, const ref_value **value)
{
    const int64_t heads = a->sinks != NULL ? a->heads : a->bias != NULL ? a->bias->dims[1] : 1;
    const int64_t dims[4] = {a->batch, heads, a->queries, a->keys};
    ref_value *made = NULL;
    double *row = NULL;
    *value = NULL;
    if (a->mask == NULL && a->bias == NULL && !a->causal && a->seen == NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(ref_step_tensor(a->call, dtype, 4, dims, &made));
    KLN_RETURN_IF_ERROR(ref_scratch(a->call, (size_t)a->keys, sizeof *row, &row));
    for (int64_t i = 0; i < a->batch * heads * a->queries; i++) {
        bias_row(a, i / a->queries / heads, i / a->queries % heads, i % a->queries, row);
        ref_store_float(&made->tensor, i * a->keys, 1, a->keys, row);
    }
    *value = made;
    return KILN_OK;
}

kiln_status ref_attend(const ref_attending *a, const ref_value *q, const ref_value *k,
                       const ref_value *v)
{
    ref_call *call = a->call;
    const ref_value *inputs[4] = {q, k, v};
    const ref_value *y = NULL;
    const double usual = 1.0 / sqrt((double)q->tensor.dims[2] / (double)a->heads);
    const double scale = ref_attribute_float(call, "scale", 0.0);
    const kln_onnx_attribute attributes[] = {
        {.name = "q_num_heads", .type = KLN_ONNX_ATTRIBUTE_INT, .i = a->heads},
        {.name = "scale",
         .type = KLN_ONNX_ATTRIBUTE_FLOAT,
         .f = (float)(scale != 0.0 ? scale : usual)}};
    KLN_RETURN_IF_ERROR(check_bias(a));
    KLN_RETURN_IF_ERROR(make_bias(a, q->tensor.dtype, &inputs[3]));
    KLN_RETURN_IF_ERROR(
        ref_step(call, &(ref_operator){"Attention", 23, attributes, 2}, inputs, 4, &y));
    return ref_give(call, 0, y);
}

kiln_status ref_begin_attention(ref_call *call, const ref_tensor *x, ref_attending *a)
{
    *a = (ref_attending){.call = call,
                         .heads = ref_attribute_int(call, "num_heads", 0),
                         .filter = ref_attribute_float(call, "mask_filter_value", -10000.0),
                         .causal = ref_attribute_int(call, "unidirectional", 0) != 0};
    KLN_RETURN_IF(x->rank != 3 || a->heads < 1, KILN_ERROR_UNSUPPORTED,
                  "input 0 has %d dimensions, for %lld heads; batches x tokens x numbers are "
                  "needed: queries that lie among keys and values are not computed here",
                  x->rank, (long long)a->heads);
    a->batch = x->dims[0];
    a->queries = x->dims[1];
    return KILN_OK;
}

static kiln_status check_heads(const ref_attending *a, int64_t width)
{
    KLN_RETURN_IF(width < 1 || width % a->heads != 0, KILN_ERROR_SHAPE,
                  "%lld heads cannot share %lld numbers equally", (long long)a->heads,
                  (long long)width);
    return KILN_OK;
}

/* Reads the widths of the queries, keys and values among the columns of the product. */
static kiln_status read_widths(const ref_attending *a, int64_t all, int64_t widths[3])
{
    size_t count = 0;
    const int64_t *given = ref_attribute_ints(a->call, "qkv_hidden_sizes", &count);
    for (size_t i = 0; i < 3; i++) {
        widths[i] = count == 3 ? given[i] : all / 3;
        KLN_RETURN_IF_ERROR(check_heads(a, widths[i]));
    }
    KLN_RETURN_IF(widths[0] != widths[1] || widths[0] > all || widths[2] > all ||
                      widths[0] + widths[1] + widths[2] != all,
                  KILN_ERROR_SHAPE,
                  "queries, keys and values of %lld, %lld and %lld numbers are not %lld",
                  (long long)widths[0], (long long)widths[1], (long long)widths[2], (long long)all);
    return KILN_OK;
}

/* Outputs the keys followed by the values, in the form in which the next call takes them as its
 * past. */
static kiln_status give_present(ref_call *call, const ref_tensor *k, const ref_tensor *v)
{
    ref_tensor *y = NULL;
    const int64_t dims[5] = {2, k->dims[0], k->dims[1], k->dims[2], k->dims[3]};
    const size_t bytes = (size_t)k->count * ref_element_size(k->dtype);
    KLN_RETURN_IF(k->count != v->count, KILN_ERROR_SHAPE,
                  "keys and values of %lld and %lld numbers cannot be kept in one tensor",
                  (long long)k->count, (long long)v->count);
    KLN_RETURN_IF_ERROR(ref_output(call, 1, k->dtype, 5, dims, &y));
    memcpy(y->data, k->data, bytes);
    memcpy((char *)y->data + bytes, v->data, bytes);
    return KILN_OK;
}

/* Attention over the columns of a product. */
static kiln_status attend_columns(ref_attending *a, const ref_value *x, const ref_tensor *bias,
                                  const ref_tensor *past)
{
    ref_call *call = a->call;
    const ref_value *parts[3];
    int64_t widths[3];
    KLN_RETURN_IF(ref_attribute_int(call, "do_rotary", 0) != 0 ||
                      ref_attribute_int(call, "past_present_share_buffer", 0) != 0,
                  KILN_ERROR_UNSUPPORTED,
                  "do_rotary and past_present_share_buffer are not computed here");
    KLN_RETURN_IF_ERROR(read_widths(a, x->tensor.dims[2], widths));
    KLN_RETURN_IF(bias != NULL && bias->count != x->tensor.dims[2], KILN_ERROR_SHAPE,
                  "a bias of %lld numbers is given for %lld", (long long)bias->count,
                  (long long)x->tensor.dims[2]);
    KLN_RETURN_IF(
        past != NULL && (past->dtype != x->tensor.dtype || past->rank != 5 || past->dims[0] != 2 ||
                         past->dims[1] != a->batch || past->dims[2] != a->heads ||
                         past->dims[4] * a->heads != widths[1] || widths[1] != widths[2]),
        KILN_ERROR_SHAPE, "the past does not fit the keys and values");
    a->past = past != NULL ? past->dims[3] : 0;
    a->keys = a->past + a->queries;
    a->biased = a->keys;
    ref_columns from = {.x = &x->tensor, .bias = bias};
    for (size_t i = 0; i < 3; i++) {
        const size_t half =
            past != NULL && i == 2 ? (size_t)past->count / 2 * ref_element_size(past->dtype) : 0;
        from.width = widths[i];
        from.bias_begin = from.begin;
        KLN_RETURN_IF_ERROR(ref_take_columns(
            a, &from, i > 0 ? a->heads : 0,
            past != NULL && i > 0 ? (const char *)past->data + half : NULL, &parts[i]));
        from.begin += widths[i];
    }
    KLN_RETURN_IF_ERROR(ref_attend(a, parts[0], parts[1], parts[2]));
    return ref_wants(call, 1) ? give_present(call, &parts[1]->tensor, &parts[2]->tensor) : KILN_OK;
}

static kiln_status ref_op_joined_attention(ref_call *call)
{
    ref_attending a;
    const ref_value *x = NULL;
    KLN_RETURN_IF_ERROR(ref_begin_attention(call, ref_input(call, 0), &a));
    KLN_RETURN_IF_ERROR(REF_STEP_OF_TWO(call, "MatMul", call->inputs[0], call->inputs[1], &x));
    a.mask = ref_input(call, 3);
    a.bias = ref_input(call, 5);
    return attend_columns(&a, x, ref_input(call, 2), ref_input(call, 4));
}

/* The same for 8-bit inputs. */
static kiln_status ref_op_quantized_attention(ref_call *call)
{
    static const size_t places[7] = {0, 1, 3, 4, 6, 7, 2};
    ref_attending a;
    const ref_value *inputs[7];
    const ref_value *x = NULL;
    KLN_RETURN_IF_ERROR(ref_begin_attention(call, ref_input(call, 0), &a));
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(places); i++) {
        inputs[i] = ref_input(call, places[i]) != NULL ? call->inputs[places[i]] : NULL;
    }
    KLN_RETURN_IF_ERROR(ref_step(call, &(ref_operator){.name = "MatMulIntegerToFloat"}, inputs,
                                 KLN_ARRAY_LENGTH(places), &x));
    a.mask = ref_input(call, 5);
    return attend_columns(&a, x, NULL, ref_input(call, 8));
}

/* Keys or values, input `index`, after those of the past. */
static kiln_status read_side(const ref_attending *a, size_t index, int64_t bias_begin,
                             const ref_value **value)
{
    ref_call *call = a->call;
    const ref_tensor *x = ref_input(call, index);
    const ref_tensor *past = ref_input(call, index + 5);
    if (x->rank == 4 && past == NULL && ref_input(call, 3) == NULL && x->dims[1] == a->heads) {
        *value = call->inputs[index];
        return KILN_OK;
    }
    KLN_RETURN_IF(x->rank != 3, KILN_ERROR_UNSUPPORTED,
                  "input %zu has %d dimensions: keys and values in one, and those of other heads, "
                  "or with a bias or a past, are not computed here",
                  index, x->rank);
    KLN_RETURN_IF_ERROR(check_heads(a, x->dims[2]));
    KLN_RETURN_IF(
        x->dims[0] != a->batch ||
            (past != NULL && (past->dtype != x->dtype || past->rank != 4 ||
                              past->dims[0] != a->batch || past->dims[1] != a->heads ||
                              past->dims[2] != a->past || past->dims[3] * a->heads != x->dims[2])),
        KILN_ERROR_SHAPE, "input %zu and its past do not fit the queries", index);
    const ref_columns from = {x, 0, x->dims[2], ref_input(call, 3), bias_begin};
    return ref_take_columns(a, &from, a->heads, past != NULL ? past->data : NULL, value);
}

static kiln_status ref_op_multi_head_attention(ref_call *call)
{
    ref_attending a;
    const ref_value *q = call->inputs[0];
    const ref_value *k = NULL;
    const ref_value *v = NULL;
    const ref_tensor *x = ref_input(call, 0);
    const ref_tensor *bias = ref_input(call, 3);
    const ref_tensor *key = ref_input(call, 1);
    const ref_tensor *value = ref_input(call, 2);
    KLN_RETURN_IF_ERROR(ref_begin_attention(call, x, &a));
    KLN_RETURN_IF(ref_wants(call, 3) || ref_input(call, 8) != NULL || ref_input(call, 9) != NULL,
                  KILN_ERROR_UNSUPPORTED,
                  "the shared buffer of a past, and scores as an output, are not computed here");
    KLN_RETURN_IF_ERROR(check_heads(&a, x->dims[2]));
    KLN_RETURN_IF(
        bias != NULL && (key->rank != 3 || key->dims[2] != x->dims[2] || value->rank != 3 ||
                         bias->count != 2 * x->dims[2] + value->dims[2]),
        KILN_ERROR_SHAPE, "a bias of %lld numbers does not fit queries, keys and values",
        (long long)bias->count);
    const ref_tensor *past = ref_input(call, 6);
    a.past = past != NULL && past->rank == 4 ? past->dims[2] : 0;
    KLN_RETURN_IF_ERROR(read_side(&a, 1, x->dims[2], &k));
    KLN_RETURN_IF_ERROR(read_side(&a, 2, 2 * x->dims[2], &v));
    a.keys = k->tensor.dims[2];
    a.biased = a.keys;
    a.mask = ref_input(call, 4);
    a.bias = ref_input(call, 5);
    if (bias != NULL) {
        const ref_columns from = {x, 0, x->dims[2], bias, 0};
        KLN_RETURN_IF_ERROR(ref_take_columns(&a, &from, 0, NULL, &q));
    }
    KLN_RETURN_IF_ERROR(ref_attend(&a, q, k, v));
    KLN_RETURN_IF_ERROR(ref_wants(call, 1) ? ref_give(call, 1, k) : KILN_OK);
    return ref_wants(call, 2) ? ref_give(call, 2, v) : KILN_OK;
}

/* --- embeddings --- */

/* Adds a row of a table to each token. */
static kiln_status add_rows(const ref_tensor *table, const ref_tensor *numbers, int64_t tokens,
                            int64_t length, int64_t width, double *sums)
{
    for (int64_t i = 0; i < tokens; i++) {
        const int64_t number = numbers == NULL            ? i % length
                               : numbers->count == tokens ? ref_get_int(numbers, i)
                                                          : ref_get_int(numbers, i % length);
        KLN_RETURN_IF(number < 0 || number >= table->dims[0], KILN_ERROR_INVALID_NETWORK,
                      "row %lld of a table of %lld is asked for", (long long)number,
                      (long long)table->dims[0]);
        double row[REF_CHUNK];
        for (int64_t c = 0; c < width; c += REF_CHUNK) {
            const int64_t n = width - c < REF_CHUNK ? width - c : REF_CHUNK;
            ref_load_float(table, number * width + c, 1, n, row);
            for (int64_t k = 0; k < n; k++) {
                sums[i * width + c + k] += row[k];
            }
        }
    }
    return KILN_OK;
}

/* Counts how many tokens of each row are present. */
static kiln_status count_tokens(ref_call *call, int64_t batch, int64_t length)
{
    const ref_tensor *mask = ref_input(call, 7);
    ref_tensor *y = NULL;
    KLN_RETURN_IF(mask != NULL && !ref_same_shape(mask, ref_input(call, 0)), KILN_ERROR_SHAPE,
                  "the mask has %lld elements for %lld tokens", (long long)mask->count,
                  (long long)(batch * length));
    KLN_RETURN_IF_ERROR(ref_output(call, 1, KILN_DTYPE_INT32, 1, &batch, &y));
    for (int64_t i = 0; i < batch; i++) {
        int64_t count = 0;
        for (int64_t k = 0; mask != NULL && k < length; k++) {
            count += ref_get_int(mask, i * length + k) == 1 ? 1 : 0;
        }
        ref_put_int(y, i, count);
    }
    return KILN_OK;
}

static kiln_status ref_op_embed_norm(ref_call *call)
{
    static const size_t tables[3] = {2, 3, 4};
    static const size_t numbers[3] = {0, 8, 1};
    const ref_tensor *ids = ref_input(call, 0);
    ref_value *sum = NULL;
    double *sums = NULL;
    const ref_tensor *words = ref_input(call, 2);
    KLN_RETURN_IF(ids->rank != 2 || words->rank != 2, KILN_ERROR_RANK,
                  "batches x tokens and a table of two dimensions are needed");
    const int64_t dims[3] = {ids->dims[0], ids->dims[1], words->dims[1]};
    KLN_RETURN_IF_ERROR(ref_step_tensor(call, words->dtype, 3, dims, &sum));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)sum->tensor.count, sizeof *sums, &sums));
    memset(sums, 0, (size_t)sum->tensor.count * sizeof *sums);
    for (size_t i = 0; i < 3; i++) {
        const ref_tensor *table = ref_input(call, tables[i]);
        const ref_tensor *rows = ref_input(call, numbers[i]);
        if (i == 2 && (table == NULL || rows == NULL)) {
            break;
        }
        KLN_RETURN_IF(
            table->rank != 2 || table->dims[1] != dims[2] ||
                (rows != NULL && !ref_same_shape(rows, ids) &&
                 (i != 1 || rows->rank != 2 || rows->dims[0] != 1 || rows->dims[1] != dims[1])),
            KILN_ERROR_SHAPE, "input %zu or its rows' numbers do not fit the tokens", tables[i]);
        KLN_RETURN_IF_ERROR(add_rows(table, rows, ids->count, dims[1], dims[2], sums));
    }
    ref_store_float(&sum->tensor, 0, 1, sum->tensor.count, sums);
    const kln_onnx_attribute epsilon = {.name = "epsilon",
                                        .type = KLN_ONNX_ATTRIBUTE_FLOAT,
                                        .f = (float)ref_attribute_float(call, "epsilon", 1e-12)};
    const ref_value *inputs[3] = {sum, call->inputs[5], call->inputs[6]};
    const ref_value *y = NULL;
    KLN_RETURN_IF_ERROR(
        ref_step(call, &(ref_operator){"LayerNormalization", 0, &epsilon, 1}, inputs, 3, &y));
    KLN_RETURN_IF_ERROR(ref_give(call, 0, y));
    KLN_RETURN_IF_ERROR(ref_wants(call, 1) ? count_tokens(call, dims[0], dims[1]) : KILN_OK);
    return ref_wants(call, 2) ? ref_give(call, 2, sum) : KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_transformer[] = {
    REF_OP_MS("Attention", joined_attention, 0, "ff"),
    REF_OP_MS("EmbedLayerNormalization", embed_norm, 0, "noffoff"),
    REF_OP_MS("MultiHeadAttention", multi_head_attention, 0, "fff"),
    REF_OP_MS("QAttention", quantized_attention, 0, "nnf1fo?oo"),
    REF_KERNELS_END
};
/* clang-format on */
