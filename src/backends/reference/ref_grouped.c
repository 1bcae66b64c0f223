/* GroupQueryAttention of com.microsoft: queries and keys with rotary embeddings, and a cache in
 * which each sequence has its own length.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ref_transformer.h"

typedef struct grouped {
    ref_attending a;
    int64_t kv_heads, size; /* size of a head */
    int64_t added;   /* keys of this call: as many as queries, or none if a cache has them all */
    int64_t room;    /* positions in the past */
    int64_t present; /* positions in the output */
    bool is_first;   /* the past's contents are not read */
    bool is_packed;  /* queries, keys and values in one input */
    const ref_tensor *lasts; /* position of the last key of each sequence */
} grouped;

static kiln_status refuse_others(const ref_call *call)
{
    static const char *const numbers[] = {"kv_cache_bit_width", "qk_output",
                                          "sliding_window_cache"};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(numbers); i++) {
        const int64_t found = ref_attribute_int(call, numbers[i], 0);
        KLN_RETURN_IF(found != 0, KILN_ERROR_UNSUPPORTED,
                      "\"%s\" is %lld, which is not computed here; 0 is", numbers[i],
                      (long long)found);
    }
    for (size_t i = 12; i < 16; i++) {
        KLN_RETURN_IF(ref_input(call, i) != NULL, KILN_ERROR_UNSUPPORTED,
                      "input %zu is given, but neither a quantized cache (inputs 12 and 13) nor "
                      "normalized queries and keys (14 and 15) are computed here",
                      i);
    }
    KLN_RETURN_IF(ref_wants(call, 3), KILN_ERROR_UNSUPPORTED,
                  "scores as an output are not computed here");
    return KILN_OK;
}

/* Checks the keys or values of this call. */
static kiln_status check_side(const grouped *g, size_t index)
{
    const ref_tensor *x = ref_input(g->a.call, index);
    KLN_RETURN_IF(x->dtype != ref_input(g->a.call, 0)->dtype || x->rank != 3 ||
                      x->dims[0] != g->a.batch || x->dims[1] != g->added ||
                      x->dims[2] != g->kv_heads * g->size,
                  KILN_ERROR_SHAPE,
                  "input %zu needs the type of the queries, and %lld batches of %lld tokens with "
                  "%lld heads of %lld numbers",
                  index, (long long)g->a.batch, (long long)g->added, (long long)g->kv_heads,
                  (long long)g->size);
    return KILN_OK;
}

static kiln_status check_past(const grouped *g, size_t index)
{
    const ref_tensor *x = ref_input(g->a.call, index);
    KLN_RETURN_IF(x->dtype != ref_input(g->a.call, 0)->dtype || x->rank != 4 ||
                      x->dims[0] != g->a.batch || x->dims[1] != g->kv_heads ||
                      x->dims[2] != g->room || x->dims[3] != g->size,
                  KILN_ERROR_SHAPE,
                  "input %zu, of the past, needs the type of the queries, %lld batches and %lld "
                  "heads of %lld x %lld numbers",
                  index, (long long)g->a.batch, (long long)g->kv_heads, (long long)g->room,
                  (long long)g->size);
    return KILN_OK;
}

static kiln_status read_heads(ref_call *call, grouped *g)
{
    const ref_tensor *x = ref_input(call, 0);
    const ref_tensor *key = ref_input(call, 1);
    const ref_tensor *past = ref_input(call, 3);
    KLN_RETURN_IF_ERROR(ref_begin_attention(call, x, &g->a));
    g->kv_heads = ref_attribute_int(call, "kv_num_heads", 0);
    KLN_RETURN_IF(g->kv_heads < 1 || g->a.heads > x->dims[2] || g->a.heads % g->kv_heads != 0,
                  KILN_ERROR_SHAPE,
                  "%lld heads of queries in %lld numbers cannot share %lld of keys",
                  (long long)g->a.heads, (long long)x->dims[2], (long long)g->kv_heads);
    KLN_RETURN_IF((key == NULL) != (ref_input(call, 2) == NULL) ||
                      (past == NULL) != (ref_input(call, 4) == NULL),
                  KILN_ERROR_INVALID_NETWORK,
                  "keys and values go together, and so do those of the past; one is left out");
    g->is_packed = key == NULL;
    const int64_t parts = g->a.heads + (g->is_packed ? 2 * g->kv_heads : 0);
    KLN_RETURN_IF(x->dims[2] % parts != 0, KILN_ERROR_SHAPE,
                  "%lld heads cannot share %lld numbers equally", (long long)parts,
                  (long long)x->dims[2]);
    g->size = x->dims[2] / parts;
    g->added =
        g->is_packed || past == NULL || key->rank != 3 || key->dims[1] != 0 ? g->a.queries : 0;
    g->room = past != NULL && past->rank == 4 ? past->dims[2] : 0;
    for (size_t i = 0; i < 2; i++) {
        KLN_RETURN_IF_ERROR(key != NULL ? check_side(g, 1 + i) : KILN_OK);
        KLN_RETURN_IF_ERROR(past != NULL ? check_past(g, 3 + i) : KILN_OK);
    }
    return KILN_OK;
}

/* The number of keys of each sequence, and of the longest one. */
static kiln_status read_lengths(ref_call *call, grouped *g)
{
    const int64_t total = ref_get_int(ref_input(call, 6), 0);
    g->lasts = ref_input(call, 5);
    g->is_first = total == g->a.queries;
    g->present = total > g->room ? total : g->room;
    KLN_RETURN_IF(total < 1 || total < g->added || (total > g->room && total - g->room != g->added),
                  KILN_ERROR_INVALID_NETWORK,
                  "a total length of %lld is neither that of the past's %lld places with %lld "
                  "more, nor does it lie within them",
                  (long long)total, (long long)g->room, (long long)g->added);
    KLN_RETURN_IF(!g->is_first && g->a.queries > 1 && g->a.batch > 1, KILN_ERROR_INVALID_NETWORK,
                  "%lld batches of %lld tokens each continue a past; only one batch, or one token "
                  "of each, can",
                  (long long)g->a.batch, (long long)g->a.queries);
    KLN_RETURN_IF(g->lasts->count != g->a.batch, KILN_ERROR_SHAPE,
                  "%lld lengths are given for %lld batches", (long long)g->lasts->count,
                  (long long)g->a.batch);
    for (int64_t i = 0; i < g->a.batch; i++) {
        const int64_t last = ref_get_int(g->lasts, i);
        const int64_t least = g->is_first ? 0 : g->a.queries - 1;
        KLN_RETURN_IF(last < least || last >= total, KILN_ERROR_INVALID_NETWORK,
                      "the last key of sequence %lld is %lld; it must be %lld to %lld",
                      (long long)i, (long long)last, (long long)least, (long long)total - 1);
    }
    return KILN_OK;
}

static int64_t count_past(const grouped *g, int64_t batch)
{
    const int64_t length = ref_get_int(g->lasts, batch) + 1;
    return g->added == 0 ? length : g->is_first ? 0 : length - g->added;
}

/* The range of keys that each query sees. */
static kiln_status find_seen(grouped *g)
{
    const ref_call *call = g->a.call;
    const int64_t window = ref_attribute_int(call, "local_window_size", -1);
    const int64_t causal = ref_attribute_int(call, "causal", 1);
    int64_t *seen = NULL;
    KLN_RETURN_IF((causal != 0 && causal != 1) || (causal == 0 && window != -1),
                  KILN_ERROR_INVALID_NETWORK,
                  "\"causal\" is %lld with a window of %lld; it must be 0 or 1, and 0 needs -1",
                  (long long)causal, (long long)window);
    KLN_RETURN_IF_ERROR(
        ref_scratch(g->a.call, 2 * (size_t)(g->a.batch * g->a.queries), sizeof *seen, &seen));
    g->a.seen = seen;
    for (int64_t i = 0; i < g->a.batch * g->a.queries; i++) {
        const int64_t length = ref_get_int(g->lasts, i / g->a.queries) + 1;
        const int64_t place = i % g->a.queries + (g->is_first ? 0 : length - g->a.queries);
        const int64_t end = causal == 0 || place >= length ? length : place + 1;
        seen[2 * i] = window >= 0 && place >= window ? place + 1 - window : 0;
        seen[2 * i + 1] = end;
    }
    return KILN_OK;
}

/* --- rotary embedding --- */

/* The position of each query: as given, or after those before it. */
static kiln_status find_places(const grouped *g, const ref_value **value)
{
    const ref_tensor *given = ref_input(g->a.call, 9);
    const int64_t dims[2] = {g->a.batch, g->a.queries};
    ref_value *made = NULL;
    /* In a first call the first position counts, so more may follow. */
    KLN_RETURN_IF(
        given != NULL &&
            (given->rank != 2 || given->dims[0] != g->a.batch || given->dims[1] < g->a.queries ||
             (given->dims[1] > g->a.queries && !g->is_first && g->a.batch > 1)),
        KILN_ERROR_SHAPE, "places of %lld x %lld tokens are needed", (long long)g->a.batch,
        (long long)g->a.queries);
    KLN_RETURN_IF_ERROR(ref_step_tensor(g->a.call, KILN_DTYPE_INT64, 2, dims, &made));
    for (int64_t i = 0; i < made->tensor.count; i++) {
        const int64_t step = i % g->a.queries;
        const int64_t before =
            g->is_first ? 0 : ref_get_int(g->lasts, i / g->a.queries) + 1 - g->a.queries;
        const int64_t base =
            given != NULL ? ref_clamp_int(ref_get_int(given, g->is_first ? 0 : i), -1, INT32_MAX)
                          : before;
        ref_put_int(&made->tensor, i, given != NULL && !g->is_first ? base : base + step);
    }
    *value = made;
    return KILN_OK;
}

static kiln_status turn(const grouped *g, const ref_value *places, const ref_value **value)
{
    ref_call *call = g->a.call;
    const ref_tensor *cosine = ref_input(call, 7);
    const ref_value *inputs[4] = {*value, call->inputs[7], call->inputs[8], places};
    KLN_RETURN_IF(cosine->rank != 2 || cosine->dims[1] < 1 || cosine->dims[1] > g->size / 2,
                  KILN_ERROR_SHAPE, "cosines need two dimensions, of which the second is 1 to %lld",
                  (long long)g->size / 2);
    const kln_onnx_attribute attributes[] = {
        {.name = "interleaved",
         .type = KLN_ONNX_ATTRIBUTE_INT,
         .i = ref_attribute_int(call, "rotary_interleaved", 0)},
        {.name = "rotary_embedding_dim", .type = KLN_ONNX_ATTRIBUTE_INT, .i = 2 * cosine->dims[1]}};
    return ref_step(call, &(ref_operator){"RotaryEmbedding", 23, attributes, 2}, inputs, 4, value);
}

/* Queries with three dimensions, and this call's keys and values with four. */
static kiln_status read_parts(const grouped *g, const ref_value *parts[3])
{
    ref_call *call = g->a.call;
    ref_columns from = {.x = ref_input(call, 0)};
    const ref_value *places = NULL;
    for (size_t i = 0; i < 3; i++) {
        const int64_t heads = i == 0 ? g->a.heads : g->kv_heads;
        from.x = ref_input(call, g->is_packed ? 0 : i);
        from.width = heads * g->size;
        KLN_RETURN_IF_ERROR(ref_take_columns(&g->a, &from, i == 0 ? 0 : heads, NULL, &parts[i]));
        from.begin += g->is_packed ? from.width : 0;
    }
    if (ref_attribute_int(call, "do_rotary", 0) == 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF(ref_input(call, 7) == NULL || ref_input(call, 8) == NULL,
                  KILN_ERROR_INVALID_NETWORK,
                  "\"do_rotary\" needs inputs 7 and 8, cosines and sines; one is left out");
    KLN_RETURN_IF_ERROR(find_places(g, &places));
    KLN_RETURN_IF_ERROR(turn(g, places, &parts[0]));
    return g->added > 0 ? turn(g, places, &parts[1]) : KILN_OK;
}

/* --- the cache --- */

/* Puts this call's keys or values after the past of each sequence, followed by zeros, in `places`
 * positions. */
static kiln_status join(const grouped *g, size_t past_index, const ref_value *now, int64_t places,
                        const ref_value **value)
{
    const ref_tensor *past = ref_input(g->a.call, past_index);
    const int64_t dims[4] = {g->a.batch, g->kv_heads, places, g->size};
    const size_t bytes = (size_t)g->size * ref_element_size(now->tensor.dtype);
    ref_value *made = NULL;
    KLN_RETURN_IF_ERROR(ref_step_tensor(g->a.call, now->tensor.dtype, 4, dims, &made));
    KLN_RETURN_IF_ERROR(ref_spend(g->a.call, (double)made->tensor.count));
    memset(made->tensor.data, 0, (size_t)made->tensor.count * ref_element_size(made->tensor.dtype));
    for (int64_t i = 0; i < g->a.batch * g->kv_heads; i++) {
        const size_t before = (size_t)count_past(g, i / g->kv_heads) * bytes;
        const size_t added = (size_t)g->added * bytes;
        char *to = (char *)made->tensor.data + (size_t)(i * places) * bytes;
        if (before > 0) {
            memcpy(to, (const char *)past->data + (size_t)(i * g->room) * bytes, before);
        }
        if (added > 0) {
            memcpy(to + before, (const char *)now->tensor.data + (size_t)i * added, added);
        }
    }
    *value = made;
    return KILN_OK;
}

/* Keys or values for attention, including a zero one for a sink; and as outputs. */
static kiln_status join_side(const grouped *g, size_t side, const ref_value *now,
                             const ref_value **value)
{
    const ref_value *present = NULL;
    KLN_RETURN_IF_ERROR(join(g, 3 + side, now, g->a.keys, value));
    present = *value;
    if (!ref_wants(g->a.call, 1 + side)) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(g->a.keys != g->present ? join(g, 3 + side, now, g->present, &present)
                                                : KILN_OK);
    return ref_give(g->a.call, 1 + side, present);
}

/* The sinks: scores that take a share of each softmax and contribute nothing. */
static kiln_status read_sinks(grouped *g)
{
    ref_call *call = g->a.call;
    const ref_tensor *given = ref_input(call, 11);
    double *sinks = NULL;
    if (given == NULL && ref_attribute_int(call, "smooth_softmax", 0) != 1) {
        return KILN_OK;
    }
    KLN_RETURN_IF(given != NULL && given->count != g->a.heads, KILN_ERROR_SHAPE,
                  "%lld numbers are given as sinks of %lld heads", (long long)given->count,
                  (long long)g->a.heads);
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)g->a.heads, sizeof *sinks, &sinks));
    memset(sinks, 0, (size_t)g->a.heads * sizeof *sinks);
    if (given != NULL) {
        ref_load_float(given, 0, 1, g->a.heads, sinks);
    }
    g->a.sinks = sinks;
    g->a.keys++;
    return KILN_OK;
}

static kiln_status ref_op_grouped_attention(ref_call *call)
{
    grouped g = {.room = 0};
    const ref_value *parts[3];
    const ref_value *keys = NULL;
    const ref_value *values = NULL;
    KLN_RETURN_IF_ERROR(refuse_others(call));
    KLN_RETURN_IF_ERROR(read_heads(call, &g));
    KLN_RETURN_IF_ERROR(read_lengths(call, &g));
    KLN_RETURN_IF_ERROR(find_seen(&g));
    g.a.bias = ref_input(call, 10);
    g.a.biased = ref_get_int(ref_input(call, 6), 0);
    g.a.keys = g.present;
    KLN_RETURN_IF_ERROR(read_sinks(&g));
    KLN_RETURN_IF_ERROR(read_parts(&g, parts));
    KLN_RETURN_IF_ERROR(join_side(&g, 0, parts[1], &keys));
    KLN_RETURN_IF_ERROR(join_side(&g, 1, parts[2], &values));
    return ref_attend(&g.a, parts[0], keys, values);
}

/* clang-format off */
const ref_kernel ref_kernels_grouped[] = {
    REF_OP_MS("GroupQueryAttention", grouped_attention, 0, "foooon1o"),
    REF_KERNELS_END
};
/* clang-format on */
