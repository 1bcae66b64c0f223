/* SPDX-License-Identifier: Apache-2.0 */
/* Adds outputs with the largest logits of each row to a network.
 *
 * TensorRT sorts a row with one thread block. On an H200, the product followed by such a sort takes
 * 0.65 ms for 64 rows of 50,257, and 0.18 ms in chunks, 0.15 of which are the product; a step of
 * GPT-2 became 0.1 ms shorter. So each row is cut into chunks. The `count` largest elements are all
 * in the `count` chunks with the largest maximum, and only those are sorted. */
#include <math.h>

#include <kiln/layers.h>

#include "graph/kln_graph.h"
#include "stream_parts.h"

/* The number of elements that the two steps sort, for chunks of that size. */
static int64_t sorted(int64_t vocabulary, int64_t count, int64_t chunk)
{
    return (vocabulary + chunk - 1) / chunk + count * chunk;
}

/* The first operator set whose GatherND has batch dimensions, to gather the chunks of each row. */
#define LEAST_OPSET 12

/* Two small sorts, and the nodes that connect them, pay from this reduction of elements on. */
#define WORTHWHILE 4

/* A row that is not a whole number of chunks has to be padded, and so copied, which costs more than
 * sorting this many times the elements. */
#define WORTH_NO_COPY 2

enum { LEAST_CHUNK = 2, MOST_CHUNK = 1024 };

/* The best chunk size; 0 if a row is too short. */
static int64_t choose_chunk(int64_t vocabulary, int64_t count)
{
    int64_t best = LEAST_CHUNK; /* the best power of two */
    int64_t whole = 0;          /* the best that divides a row */
    for (int64_t chunk = LEAST_CHUNK; chunk <= MOST_CHUNK; chunk++) {
        const int64_t elements = sorted(vocabulary, count, chunk);
        const bool power = (chunk & (chunk - 1)) == 0;
        best = power && elements < sorted(vocabulary, count, best) ? chunk : best;
        whole =
            vocabulary % chunk == 0 && (whole == 0 || elements < sorted(vocabulary, count, whole))
                ? chunk
                : whole;
    }
    best = whole != 0 && sorted(vocabulary, count, whole) <=
                             WORTH_NO_COPY * sorted(vocabulary, count, best)
               ? whole
               : best;
    return sorted(vocabulary, count, best) <= vocabulary / WORTHWHILE ? best : 0;
}

typedef struct pass {
    kiln_network *network;
    int64_t vocabulary, count;
    const int64_t *chunk; /* owned by the network */
    kiln_tensor_id size;
    kiln_tensor_id parts, chosen, values, places, tokens;
} pass;

#define NAME(what) STREAM_TOP_LOGITS "/" what

/* The network refers to the memory of its weights, so the number is kept there. */
static kiln_status keep_chunk(pass *self, int64_t chunk)
{
    kln_onnx_model *model = NULL;
    KLN_RETURN_IF_ERROR(kln_network_edit(self->network, &model));
    int64_t *kept = kln_arena_alloc(&model->arena, sizeof *kept);
    KLN_RETURN_IF_NO_MEMORY(kept, sizeof *kept, "the size of a chunk");
    *kept = chunk;
    self->chunk = kept;
    return KILN_OK;
}

static kiln_status cut(pass *self, kiln_tensor_id logits)
{
    const int64_t pieces = (self->vocabulary + *self->chunk - 1) / *self->chunk;
    const int64_t before[3] = {0, 0, 0};
    const int64_t after[3] = {0, 0, pieces * *self->chunk - self->vocabulary};
    const kiln_shape shape = KILN_SHAPE(-1, pieces, *self->chunk);
    const kiln_weights size = {KILN_DTYPE_INT64, KILN_SHAPE(1), {self->chunk, sizeof *self->chunk}};
    KLN_RETURN_IF_ERROR(
        kiln_network_add_constant(self->network, NAME("chunk"), &size, &self->size));
    if (after[2] != 0) {
        KLN_RETURN_IF_ERROR(kiln_network_add_pad(self->network, NAME("padded"), logits, before,
                                                 after, 3, KILN_PAD_CONSTANT, -INFINITY, &logits));
    }
    return kiln_network_add_reshape(self->network, NAME("parts"), logits, &shape, &self->parts);
}

/* The axes of a reduction are an attribute and, from operator set 18 on, an input. */
static kiln_status find_peaks(const pass *self, kiln_tensor_id *peaks)
{
    static const int64_t last[] = {2};
    const kiln_attribute attributes[] = {
        KILN_ATTRIBUTE(.name = "axes", .kind = KILN_ATTRIBUTE_INTS, .ints = last, .count = 1),
        KILN_ATTRIBUTE(.name = "keepdims", .kind = KILN_ATTRIBUTE_INT, .i = 0)};
    return kiln_network_opset(self->network) >= 18
               ? kiln_network_add_reduce(self->network, NAME("peaks"), KILN_REDUCE_MAX, self->parts,
                                         last, 1, false, peaks)
               : kiln_network_add_node(self->network, NAME("peaks"), NULL, 0, "ReduceMax",
                                       &self->parts, 1, attributes, 2, peaks, 1);
}

/* Rows x `count`: the indices of the chunks with the largest maximum. */
static kiln_status choose(pass *self)
{
    kiln_tensor_id peaks = KILN_NO_TENSOR;
    kiln_tensor_id unused = KILN_NO_TENSOR;
    KLN_RETURN_IF_ERROR(find_peaks(self, &peaks));
    return kiln_network_add_top_k(self->network, NAME("chosen"), peaks, self->count, 1, true,
                                  &unused, &self->chosen);
}

static kiln_status sort_chosen(pass *self)
{
    const kiln_shape each = KILN_SHAPE(-1, self->count, 1);
    const kiln_shape shape = KILN_SHAPE(-1, 1, self->count * *self->chunk);
    kiln_tensor_id rows = KILN_NO_TENSOR;
    kiln_tensor_id near = KILN_NO_TENSOR;
    KLN_RETURN_IF_ERROR(
        kiln_network_add_reshape(self->network, NAME("rows"), self->chosen, &each, &rows));
    KLN_RETURN_IF_ERROR(
        kiln_network_add_gather_nd(self->network, NAME("near"), self->parts, rows, 1, &near));
    KLN_RETURN_IF_ERROR(
        kiln_network_add_reshape(self->network, NAME("candidates"), near, &shape, &near));
    return kiln_network_add_top_k(self->network, STREAM_TOP_LOGITS, near, self->count, 2, true,
                                  &self->values, &self->places);
}

/* Turns positions within the chosen chunks into tokens. */
static kiln_status find_tokens(pass *self)
{
    const kiln_shape row = KILN_SHAPE(-1, 1, self->count);
    kiln_network *network = self->network;
    kiln_tensor_id which = KILN_NO_TENSOR;
    kiln_tensor_id begin = KILN_NO_TENSOR;
    kiln_tensor_id within = KILN_NO_TENSOR;
    kiln_tensor_id chosen = KILN_NO_TENSOR;
    KLN_RETURN_IF_ERROR(
        kiln_network_add_reshape(network, NAME("chunks"), self->chosen, &row, &chosen));
    KLN_RETURN_IF_ERROR(kiln_network_add_elementwise(network, NAME("which"), KILN_ELEMENTWISE_DIV,
                                                     self->places, self->size, &which));
    KLN_RETURN_IF_ERROR(kiln_network_add_elementwise(network, NAME("begin"), KILN_ELEMENTWISE_MUL,
                                                     which, self->size, &begin));
    KLN_RETURN_IF_ERROR(kiln_network_add_elementwise(network, NAME("within"), KILN_ELEMENTWISE_SUB,
                                                     self->places, begin, &within));
    KLN_RETURN_IF_ERROR(
        kiln_network_add_gather_elements(network, NAME("of"), chosen, which, 2, &chosen));
    KLN_RETURN_IF_ERROR(kiln_network_add_elementwise(network, NAME("first"), KILN_ELEMENTWISE_MUL,
                                                     chosen, self->size, &chosen));
    return kiln_network_add_elementwise(network, STREAM_TOP_TOKENS, KILN_ELEMENTWISE_ADD, chosen,
                                        within, &self->tokens);
}

static kiln_status sort_all(pass *self, kiln_tensor_id logits)
{
    kiln_tensor_id tokens = KILN_NO_TENSOR;
    KLN_RETURN_IF_ERROR(kiln_network_add_top_k(self->network, STREAM_TOP_LOGITS, logits,
                                               self->count, -1, true, &self->values, &tokens));
    return kiln_network_add_node(self->network, STREAM_TOP_TOKENS, NULL, 0, "Identity", &tokens, 1,
                                 NULL, 0, &self->tokens, 1);
}

kiln_status stream_add_candidates(kiln_network *network, const char *name, int64_t count)
{
    pass self = {.network = network, .count = count};
    kiln_tensor_id logits = KILN_NO_TENSOR;
    kiln_dtype dtype = KILN_DTYPE_UNDEFINED;
    kiln_shape shape = {.rank = -1};
    KLN_RETURN_IF_ERROR(kiln_network_find(network, name, &logits));
    KLN_RETURN_IF_ERROR(kiln_network_tensor_type(network, logits, &dtype, &shape));
    self.vocabulary = shape.rank == 3 ? shape.dims[2] : KILN_DYNAMIC;
    const int64_t chunk = self.vocabulary > 0 && kiln_network_opset(network) >= LEAST_OPSET
                              ? choose_chunk(self.vocabulary, count)
                              : 0;
    if (chunk == 0) {
        KLN_RETURN_IF_ERROR(sort_all(&self, logits));
    } else {
        KLN_RETURN_IF_ERROR(keep_chunk(&self, chunk));
        KLN_RETURN_IF_ERROR(cut(&self, logits));
        KLN_RETURN_IF_ERROR(choose(&self));
        KLN_RETURN_IF_ERROR(sort_chosen(&self));
        KLN_RETURN_IF_ERROR(find_tokens(&self));
    }
    KLN_RETURN_IF_ERROR(kiln_network_mark_output(network, self.values));
    return kiln_network_mark_output(network, self.tokens);
}
