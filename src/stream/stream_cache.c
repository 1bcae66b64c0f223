/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and values of all rows, in the engine's memory. A step does not copy them, except for the
 * one new column with KILN_CACHE_NEW. Copies are made for rows that join or move, and when there
 * are no columns left. */
#include "stream_parts.h"

#define LEAST_STEP 32 /* columns between widths of KILN_CACHE_NEW, at least */

static size_t align(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

static bool repeats_widths(const kiln_generator *self)
{
    return self->model.layout == KILN_CACHE_NEW;
}

static unsigned char *side(const kiln_generator *self, size_t which)
{
    return kiln_buffer_data(self->cache.sides[which]);
}

static size_t other(const kiln_generator *self)
{
    return 1 - self->cache.current;
}

/* --- make and finish --- */

static kiln_status make_buffer(const kiln_generator *self, size_t bytes, kiln_buffer **buffer)
{
    const kiln_location location =
        self->model.device >= 0 ? KILN_LOCATION_DEVICE : KILN_LOCATION_HOST;
    const kiln_status status =
        kiln_buffer_create(location, self->model.device, bytes != 0 ? bytes : 1, buffer);
    if (status != KILN_OK) {
        return kln_fail_within(status,
                               "the keys and values of %lld sequences of %lld tokens take %zu "
                               "bytes; a smaller max_batch or max_length takes less",
                               (long long)self->model.max_batch, (long long)self->model.max_length,
                               bytes);
    }
    return kiln_buffer_fill(*buffer, 0, NULL);
}

static uint64_t bytes_of_cache(const kiln_generator *self)
{
    const stream_cache *cache = &self->cache;
    return kiln_buffer_bytes(cache->sides[0]) + kiln_buffer_bytes(cache->sides[1]) +
           kiln_buffer_bytes(cache->fresh) + kiln_buffer_bytes(cache->scratch);
}

kiln_status stream_cache_make(kiln_generator *self, bool preallocate)
{
    stream_cache *cache = &self->cache;
    stream_model *model = &self->model;
    const size_t rows = (size_t)model->max_batch;
    size_t bytes = 0;
    size_t fresh = 0;
    size_t before = 0;
    KLN_RETURN_IF(preallocate && model->layout != KILN_CACHE_NEW, KILN_ERROR_UNSUPPORTED,
                  "kiln_generator_options: preallocate is for models whose outputs are the "
                  "new positions alone (kiln_network_prepare_stream)");
    cache->most_width = model->most_columns;
    for (size_t i = 0; i < model->pair_count; i++) {
        stream_pair *pair = &model->pairs[i];
        const size_t row = pair->outer * pair->inner;
        pair->offset = bytes;
        pair->fresh = fresh;
        pair->before = before;
        before += row;
        bytes += align(rows * row * (size_t)cache->most_width);
        fresh += align(rows * row);
    }
    KLN_NEW(cache->pieces, model->pair_count + model->kept_count + 1, "copies of a cache");
    KLN_RETURN_IF_ERROR(make_buffer(self, bytes, &cache->sides[0]));
    if (!preallocate) {
        KLN_RETURN_IF_ERROR(make_buffer(self, bytes, &cache->sides[1]));
    }
    if (model->layout == KILN_CACHE_NEW) {
        KLN_RETURN_IF_ERROR(make_buffer(self, fresh, &cache->fresh));
    }
    cache->width = model->layout == KILN_CACHE_WHOLE || preallocate ? cache->most_width : 0;
    self->counters.cache_bytes = bytes_of_cache(self);
    return KILN_OK;
}

void stream_cache_finish(kiln_generator *self)
{
    stream_cache *cache = &self->cache;
    kiln_buffer_destroy(cache->sides[0]);
    kiln_buffer_destroy(cache->sides[1]);
    kiln_buffer_destroy(cache->fresh);
    kiln_buffer_destroy(cache->scratch);
    kln_free(cache->pieces);
}

/* --- copies --- */

static void copy_on_host(const kln_cuda_rows *piece)
{
    unsigned char *to = piece->to;
    const unsigned char *from = piece->from;
    for (size_t i = 0; i < piece->count; i++) {
        memcpy(to + i * piece->to_step, from + i * piece->from_step, piece->bytes);
    }
}

/* Copies the first `count` pieces. */
static kiln_status copy(kiln_generator *self, size_t count, bool counts)
{
    const kln_cuda_rows *pieces = self->cache.pieces;
    for (size_t i = 0; i < count; i++) {
        self->cache.moved += counts ? pieces[i].bytes * pieces[i].count : 0;
        if (self->stream == NULL) {
            copy_on_host(&pieces[i]);
        }
    }
    return self->stream != NULL ? kln_cuda_copy_rows(self->stream, pieces, count) : KILN_OK;
}

/* Columns of the rows of a pair, as the source or destination of a copy. */
typedef struct span {
    unsigned char *memory; /* of the pair */
    int64_t width;         /* columns per row */
    int64_t row;           /* the first one */
    int64_t column;        /* the first one */
} span;

static kln_cuda_rows piece_of(const stream_pair *pair, span to, span from, int64_t rows,
                              int64_t columns)
{
    const size_t to_step = (size_t)to.width * pair->inner;
    const size_t from_step = (size_t)from.width * pair->inner;
    return (kln_cuda_rows){
        .to = to.memory + (size_t)to.row * pair->outer * to_step + (size_t)to.column * pair->inner,
        .from = from.memory + (size_t)from.row * pair->outer * from_step +
                (size_t)from.column * pair->inner,
        .to_step = to_step,
        .from_step = from_step,
        .bytes = (size_t)columns * pair->inner,
        .count = (size_t)rows * pair->outer};
}

/* --- tensors of a pair --- */

static kiln_tensor tensor_of(const kiln_generator *self, const stream_pair *pair, void *memory,
                             int64_t rows, int64_t columns)
{
    kiln_tensor tensor = {.desc = {.dtype = pair->dtype, .shape = pair->shape}};
    tensor.desc.location = self->model.device >= 0 ? KILN_LOCATION_DEVICE : KILN_LOCATION_HOST;
    tensor.desc.device = self->model.device >= 0 ? self->model.device : 0;
    tensor.desc.shape.dims[0] = rows;
    tensor.desc.shape.dims[pair->axis] = columns;
    tensor.data = memory;
    tensor.bytes = (size_t)rows * pair->outer * (size_t)columns * pair->inner;
    return tensor;
}

kiln_tensor stream_cache_past(const kiln_generator *self, size_t index, int64_t rows,
                              int64_t columns)
{
    const stream_pair *pair = &self->model.pairs[index];
    return tensor_of(self, pair, side(self, self->cache.current) + pair->offset, rows, columns);
}

/* Where a prefill writes a pair, for this many rows times columns. */
static unsigned char *made_at(const kiln_generator *self, size_t index, int64_t cells)
{
    const stream_pair *pair = &self->model.pairs[index];
    if (self->cache.sides[1] != NULL) {
        return side(self, other(self)) + pair->offset;
    }
    unsigned char *scratch = kiln_buffer_data(self->cache.scratch);
    return scratch + align(pair->before * (size_t)cells) + 256 * index;
}

static int64_t made_width(const kiln_generator *self, const stream_made *made)
{
    return self->model.layout == KILN_CACHE_WHOLE ? self->cache.width
           : self->model.layout == KILN_CACHE_NEW ? made->tokens
                                                  : made->past + made->tokens;
}

kiln_status stream_cache_present(kiln_generator *self, size_t index, int64_t rows, int64_t tokens,
                                 int64_t past, bool prefill, kiln_tensor *tensor)
{
    stream_cache *cache = &self->cache;
    const stream_pair *pair = &self->model.pairs[index];
    const stream_made made = {rows, tokens, past};
    const int64_t width = made_width(self, &made);
    unsigned char *memory = NULL;
    if (self->model.layout == KILN_CACHE_NEW && !prefill) {
        memory = (unsigned char *)kiln_buffer_data(cache->fresh) + pair->fresh;
    } else {
        if (cache->sides[1] == NULL) {
            const stream_pair *last = &self->model.pairs[self->model.pair_count - 1];
            const size_t cells = (size_t)(rows * width);
            const size_t bytes = align((last->before + last->outer * last->inner) * cells) +
                                 256 * self->model.pair_count;
            KLN_RETURN_IF_ERROR(generator_grow(
                self, &cache->scratch,
                self->stream != NULL ? KILN_LOCATION_DEVICE : KILN_LOCATION_HOST, bytes));
        }
        memory = made_at(self, index, rows * width);
    }
    *tensor = tensor_of(self, pair, memory, rows, width);
    return KILN_OK;
}

/* --- moving columns --- */

static int64_t longest_row(const kiln_generator *self)
{
    int64_t longest = 0;
    for (int64_t i = 0; i < self->row_count; i++) {
        const int64_t length = self->rows[i] != NULL ? self->lengths[i] : 0;
        longest = length > longest ? length : longest;
    }
    return longest;
}

/* The width for a past with `columns` columns in use, and room for more. If the width exceeds that
 * by `step`, runs read step / 2 columns in vain on average, and after `step` runs all columns are
 * read and written once. The total is least for step * step = 4 * columns. */
static int64_t width_for(const kiln_generator *self, int64_t columns)
{
    const stream_cache *cache = &self->cache;
    if (!repeats_widths(self) || cache->sides[1] == NULL) {
        return cache->sides[1] == NULL || self->model.layout == KILN_CACHE_WHOLE ? cache->most_width
                                                                                 : columns;
    }
    int64_t step = LEAST_STEP;
    while (2 * step * step <= 4 * columns) {
        step *= 2;
    }
    const int64_t width = stream_width_taken(&self->model, (columns + step) / step * step);
    return width < cache->most_width ? width : cache->most_width;
}

/* Without a second side, columns are moved through the memory for prefills. */
static kiln_status shift(kiln_generator *self, int64_t head, int64_t columns)
{
    stream_cache *cache = &self->cache;
    kiln_tensor unused = {.data = NULL};
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < self->model.pair_count; i++) {
            const stream_pair *pair = &self->model.pairs[i];
            if (pass == 0 && i == 0) { /* grows it to the size for all pairs */
                KLN_RETURN_IF_ERROR(
                    stream_cache_present(self, i, self->row_count, columns, 0, true, &unused));
            }
            const span aside = {made_at(self, i, self->row_count * columns), columns, 0, 0};
            const span place = {side(self, 0) + pair->offset, cache->width, 0,
                                (pass == 0 ? cache->head : head) - columns};
            cache->pieces[i] = piece_of(pair, pass == 0 ? aside : place, pass == 0 ? place : aside,
                                        self->row_count, columns);
        }
        KLN_RETURN_IF_ERROR(copy(self, self->model.pair_count, true));
    }
    return KILN_OK;
}

static kiln_status turn(kiln_generator *self, int64_t head, int64_t width, int64_t columns)
{
    stream_cache *cache = &self->cache;
    for (size_t i = 0; i < self->model.pair_count; i++) {
        const stream_pair *pair = &self->model.pairs[i];
        const span from = {side(self, cache->current) + pair->offset, cache->width, 0,
                           cache->head - columns};
        const span to = {side(self, other(self)) + pair->offset, width, 0, head - columns};
        cache->pieces[i] = piece_of(pair, to, from, self->row_count, columns);
    }
    KLN_RETURN_IF_ERROR(copy(self, self->model.pair_count, true));
    cache->current = other(self);
    return KILN_OK;
}

/* Makes all rows end at column `head`, in tensors of `width` columns. */
static kiln_status rebuild(kiln_generator *self, int64_t head, int64_t width)
{
    stream_cache *cache = &self->cache;
    const int64_t columns = longest_row(self);
    KLN_RETURN_IF_ERROR(cache->sides[1] == NULL ? shift(self, head, columns)
                                                : turn(self, head, width, columns));
    cache->wasted = 0;
    cache->head = head;
    cache->width = width;
    return KILN_OK;
}

kiln_status stream_cache_reach(kiln_generator *self, int64_t length)
{
    return length > self->cache.head ? rebuild(self, length, width_for(self, length)) : KILN_OK;
}

static kiln_status fill_zeros(const kiln_generator *self, unsigned char *memory, size_t bytes)
{
    if (self->stream != NULL) {
        return kln_cuda_fill(self->model.device, memory, 0, bytes, self->stream);
    }
    memset(memory, 0, bytes);
    return KILN_OK;
}

kiln_status stream_cache_clear(kiln_generator *self)
{
    const stream_cache *cache = &self->cache;
    if (cache->sides[1] != NULL) {
        KLN_RETURN_IF_ERROR(fill_zeros(self, side(self, other(self)),
                                       kiln_buffer_bytes(cache->sides[other(self)])));
    }
    for (size_t i = 0; i < self->model.pair_count; i++) {
        const stream_pair *pair = &self->model.pairs[i];
        const size_t row = pair->outer * (size_t)cache->width * pair->inner;
        unsigned char *memory = side(self, cache->current) + pair->offset;
        for (int64_t r = 0; r < self->model.max_batch; r++) {
            if (r >= self->row_count || self->rows[r] == NULL) {
                KLN_RETURN_IF_ERROR(fill_zeros(self, memory + (size_t)r * row, row));
            }
        }
    }
    return KILN_OK;
}

kiln_status stream_cache_make_room(kiln_generator *self)
{
    stream_cache *cache = &self->cache;
    const int64_t longest = longest_row(self);
    const int64_t wanted = width_for(self, longest);
    const bool grows = self->model.layout == KILN_CACHE_GROWING;
    const bool full = cache->head == (grows ? cache->most_width - 1 : cache->width);
    /* Moving costs about as much as reading, so it pays once as much has been read in vain. */
    cache->wasted += cache->width > wanted ? cache->width - wanted : 0;
    return full || cache->wasted > longest ? rebuild(self, longest, wanted) : KILN_OK;
}

/* --- rows --- */

static int64_t made_end(const kiln_generator *self, const stream_made *made)
{
    return self->model.layout == KILN_CACHE_GROWING ? made->past + made->tokens : made->tokens;
}

/* Copies the last `columns` of a prefill's rows to the end of the cache's rows. */
static kiln_status take(kiln_generator *self, const stream_made *made, int64_t from, int64_t to,
                        int64_t rows, int64_t columns)
{
    stream_cache *cache = &self->cache;
    const int64_t width = made_width(self, made);
    for (size_t i = 0; i < self->model.pair_count; i++) {
        const stream_pair *pair = &self->model.pairs[i];
        const span source = {made_at(self, i, made->rows * width), width, from,
                             made_end(self, made) - columns};
        const span target = {side(self, cache->current) + pair->offset, cache->width, to,
                             cache->head - columns};
        cache->pieces[i] = piece_of(pair, target, source, rows, columns);
    }
    return copy(self, self->model.pair_count, true);
}

kiln_status stream_cache_place(kiln_generator *self, const stream_made *made, int64_t from,
                               int64_t length, int64_t to)
{
    return take(self, made, from, to, 1, length);
}

kiln_status stream_cache_adopt(kiln_generator *self, const stream_made *made)
{
    stream_cache *cache = &self->cache;
    cache->wasted = 0;
    cache->head = made_end(self, made);
    if (self->model.layout == KILN_CACHE_NEW) {
        cache->width = width_for(self, cache->head);
        return take(self, made, 0, 0, made->rows, made->tokens);
    }
    cache->current = other(self);
    cache->width = self->model.layout == KILN_CACHE_GROWING ? cache->head : cache->width;
    return KILN_OK;
}

kiln_status stream_cache_move(kiln_generator *self, int64_t from, int64_t to)
{
    stream_cache *cache = &self->cache;
    const stream_model *model = &self->model;
    const int64_t columns = self->lengths[from];
    size_t count = 0;
    for (; count < model->pair_count; count++) {
        const stream_pair *pair = &model->pairs[count];
        unsigned char *memory = side(self, cache->current) + pair->offset;
        const span source = {memory, cache->width, from, cache->head - columns};
        const span target = {memory, cache->width, to, cache->head - columns};
        cache->pieces[count] = piece_of(pair, target, source, 1, columns);
    }
    for (size_t i = 0; i < model->kept_count; i++) {
        unsigned char *memory = kiln_buffer_data(model->kept[i].memory);
        const size_t bytes = model->kept[i].row_bytes;
        cache->pieces[count++] = (kln_cuda_rows){.to = memory + (size_t)to * bytes,
                                                 .from = memory + (size_t)from * bytes,
                                                 .to_step = bytes,
                                                 .from_step = bytes,
                                                 .bytes = bytes,
                                                 .count = 1};
    }
    return copy(self, count, true);
}

kiln_status stream_cache_advance(kiln_generator *self, int64_t rows)
{
    stream_cache *cache = &self->cache;
    const int64_t column = cache->head++;
    if (self->model.layout != KILN_CACHE_NEW) {
        cache->current = other(self);
        cache->width = self->model.layout == KILN_CACHE_GROWING ? cache->head : cache->width;
        return KILN_OK;
    }
    for (size_t i = 0; i < self->model.pair_count; i++) {
        const stream_pair *pair = &self->model.pairs[i];
        const span source = {(unsigned char *)kiln_buffer_data(cache->fresh) + pair->fresh, 1, 0,
                             0};
        const span target = {side(self, cache->current) + pair->offset, cache->width, 0, column};
        cache->pieces[i] = piece_of(pair, target, source, rows, 1);
    }
    return copy(self, self->model.pair_count, false);
}
