/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of the model: fills in their inputs and binds their outputs. */
#include <math.h>

#include "stream_parts.h"

/* --- inputs --- */

/* The parameters of one run. */
typedef struct stream_run {
    stream_part *part;
    kiln_context *context;
    int64_t rows, tokens; /* of each input */
    int64_t past;         /* columns of the bound past */
    int64_t mask_width;
    int64_t first_row; /* in kept tensors */
    bool prefill;
    const kiln_sequence *sequence;          /* any of its sequences */
    kiln_dtype ids, positions, mask, place; /* types of the inputs, set by begin_inputs */
} stream_run;

#define WRITE(type, number)                             \
    for (int64_t i = first; i < first + count; i++) {   \
        ((type *)kiln_buffer_data(buffer))[i] = number; \
    }

/* Writes `count` equal elements from index `first` on. */
static void write_run(kiln_buffer *buffer, kiln_dtype dtype, int64_t first, int64_t count,
                      int64_t value)
{
    void *memory = kiln_buffer_data(buffer);
    switch (dtype) {
        case KILN_DTYPE_INT64: WRITE(int64_t, value); break;
        case KILN_DTYPE_INT32: WRITE(int32_t, (int32_t)value); break;
        case KILN_DTYPE_FLOAT32: WRITE(float, (float)value); break;
        default: memset((uint8_t *)memory + first, value != 0, (size_t)count);
    }
}

static kiln_dtype dtype_of(const stream_part *part, stream_role role)
{
    for (size_t i = 0; i < part->input_count; i++) {
        if (part->ends[i].role == role) {
            return part->ends[i].binding.dtype;
        }
    }
    return KILN_DTYPE_UNDEFINED;
}

/* Called once the sizes are known, before the rows are written. */
static void begin_inputs(kiln_generator *self, stream_run *run)
{
    stream_masked *masked = &self->masked;
    run->ids = dtype_of(run->part, ROLE_TOKENS);
    run->positions = dtype_of(run->part, ROLE_POSITIONS);
    run->mask = dtype_of(run->part, ROLE_MASK);
    run->place = dtype_of(run->part, ROLE_COLUMNS);
    if (masked->part != run->part || masked->width != run->mask_width) {
        for (int64_t i = 0; i < self->model.max_batch; i++) {
            masked->rows[i] = (stream_masked_row){.first = -1};
        }
        masked->part = run->part;
        masked->width = run->mask_width;
    }
}

/* Writes one row of the inputs, right-aligned. */
static void write_row(kiln_generator *self, const stream_run *run, int64_t row,
                      const int64_t *tokens, int64_t count, int64_t position)
{
    const int64_t first = row * run->tokens;
    const int64_t begin = first + run->tokens - count;
    write_run(self->tokens, run->ids, first, run->tokens - count, 0);
    for (int64_t i = 0; i < count; i++) {
        write_run(self->tokens, run->ids, begin + i, 1, tokens[i]);
    }
    if (run->positions != KILN_DTYPE_UNDEFINED) {
        write_run(self->positions, run->positions, first, run->tokens - count, 0);
        for (int64_t i = 0; i < count; i++) {
            write_run(self->positions, run->positions, begin + i, 1, position + i);
        }
    }
}

/* Sets columns `first` to `end` and column `also` of a row in the mask. If the row has only grown
 * since the last run, just the new columns are written. */
static void write_mask(kiln_generator *self, const stream_run *run, int64_t row, int64_t first,
                       int64_t end, int64_t also)
{
    stream_masked_row *was = &self->masked.rows[row];
    const int64_t begin = row * run->mask_width;
    const bool grows = was->first == first && was->end <= end && was->also == also;
    if (run->mask == KILN_DTYPE_UNDEFINED) {
        return;
    }
    if (!grows) {
        write_run(self->mask, run->mask, begin, run->mask_width, 0);
        write_run(self->mask, run->mask, begin + also, 1, 1);
    }
    const int64_t from = grows ? was->end : first;
    write_run(self->mask, run->mask, begin + from, end - from, 1);
    *was = (stream_masked_row){first, end, also};
}

/* --- bindings --- */

static kiln_tensor staged(const kiln_generator *self, kiln_buffer *buffer, const stream_end *end,
                          kiln_shape shape)
{
    kiln_tensor tensor = {.desc = {.dtype = end->binding.dtype, .shape = shape}};
    tensor.desc.location = kiln_buffer_location(buffer);
    tensor.desc.device = self->model.device >= 0 ? self->model.device : 0;
    tensor.data = kiln_buffer_data(buffer);
    tensor.bytes = kiln_buffer_bytes(buffer);
    return tensor;
}

static kiln_tensor kept_tensor(const kiln_generator *self, const stream_run *run,
                               const stream_end *end)
{
    const stream_kept *kept = &self->model.kept[end->index];
    kiln_shape shape = kept->shape;
    shape.dims[0] = run->rows;
    kiln_tensor tensor = staged(self, kept->memory, end, shape);
    const size_t skipped = (size_t)run->first_row * kept->row_bytes;
    tensor.data = (unsigned char *)tensor.data + skipped;
    tensor.bytes -= skipped;
    return tensor;
}

static kiln_status bind_input(kiln_generator *self, const stream_run *run, const stream_end *end)
{
    kiln_tensor tensor = {.data = NULL};
    switch (end->role) {
        case ROLE_TOKENS:
            tensor = staged(self, self->tokens, end, KILN_SHAPE(run->rows, run->tokens));
            break;
        case ROLE_POSITIONS:
            tensor = staged(self, self->positions, end, KILN_SHAPE(run->rows, run->tokens));
            break;
        case ROLE_MASK:
            tensor = staged(self, self->mask, end, KILN_SHAPE(run->rows, run->mask_width));
            break;
        case ROLE_COLUMNS:
            tensor = staged(self, self->columns, end, KILN_SHAPE(run->tokens));
            break;
        case ROLE_BRANCH: tensor = staged(self, self->branch, end, KILN_SHAPE(1)); break;
        case ROLE_PAST: tensor = stream_cache_past(self, end->index, run->rows, run->past); break;
        default:
            if (run->prefill && self->model.kept[end->index].source == SOURCE_PREFILL) {
                /* The prefill's branch does not read it. */
                return stream_bind_nothing(run->part, end, run->rows);
            }
            tensor = kept_tensor(self, run, end);
    }
    return kiln_context_bind(run->context, end->binding.name, &tensor);
}

static kiln_location device_location(const kiln_generator *self)
{
    return self->stream != NULL ? KILN_LOCATION_DEVICE : KILN_LOCATION_HOST;
}

static kiln_location host_location(const kiln_generator *self)
{
    return self->stream != NULL ? KILN_LOCATION_PINNED : KILN_LOCATION_HOST;
}

static size_t row_of_logits(const kiln_generator *self)
{
    return (size_t)self->model.vocabulary * kiln_dtype_bits(self->model.logits_dtype) / 8;
}

/* Logits that will be looked at go directly to host memory, if they are few. */
static kiln_status bind_logits(kiln_generator *self, const stream_run *run, const stream_end *end)
{
    const stream_model *model = &self->model;
    const int64_t positions = run->part->last_only ? 1 : run->tokens;
    const size_t row = row_of_logits(self);
    const size_t bytes = row * (size_t)(run->rows * positions);
    const bool looked_at = self->stream == NULL || (positions == 1 && run->part->candidates == 0);
    kiln_buffer **buffer = looked_at ? &self->last : &self->logits;
    kiln_shape shape = KILN_SHAPE(run->rows, positions, model->vocabulary);
    if (end->binding.shape.rank == 2) {
        shape = KILN_SHAPE(run->rows, model->vocabulary);
    }
    KLN_RETURN_IF_ERROR(generator_grow(
        self, buffer, looked_at ? host_location(self) : device_location(self), bytes));
    const kiln_tensor tensor = staged(self, *buffer, end, shape);
    self->shown = (stream_logits){.part = run->part,
                                  .first = looked_at ? tensor.data : NULL,
                                  .step = row * (size_t)positions,
                                  .skipped = row * (size_t)(positions - 1)};
    return kiln_context_bind(run->context, end->binding.name, &tensor);
}

static kiln_status bind_candidates(kiln_generator *self, const stream_run *run,
                                   const stream_end *end)
{
    kiln_buffer **buffer = end->role == ROLE_TOP_TOKENS ? &self->top_tokens : &self->top_logits;
    const size_t count = run->part->candidates;
    KLN_RETURN_IF_ERROR(generator_grow(self, buffer, host_location(self),
                                       (size_t)run->rows * count * sizeof(int64_t)));
    const kiln_shape shape = end->binding.shape.rank == 3 ? KILN_SHAPE(run->rows, 1, (int64_t)count)
                                                          : KILN_SHAPE(run->rows, (int64_t)count);
    const kiln_tensor tensor = staged(self, *buffer, end, shape);
    return kiln_context_bind(run->context, end->binding.name, &tensor);
}

static kiln_status bind_output(kiln_generator *self, const stream_run *run, const stream_end *end)
{
    kiln_tensor tensor = {.data = NULL};
    switch (end->role) {
        case ROLE_LOGITS: return bind_logits(self, run, end);
        case ROLE_TOP_TOKENS:
        case ROLE_TOP_LOGITS: return bind_candidates(self, run, end);
        case ROLE_PRESENT:
            KLN_RETURN_IF_ERROR(stream_cache_present(self, end->index, run->rows, run->tokens,
                                                     run->past, run->prefill, &tensor));
            break;
        case ROLE_KEPT: /* in a step the other branch's output is not needed */
            return run->prefill ? stream_bind_kept(self, run->part, end, run->sequence, run->rows)
                                : KILN_OK;
        default: return KILN_OK;
    }
    return kiln_context_bind(run->context, end->binding.name, &tensor);
}

static kiln_status bind_all(kiln_generator *self, const stream_run *run)
{
    const stream_part *part = run->part;
    for (size_t i = 0; i < part->count; i++) {
        KLN_RETURN_IF_ERROR(i < part->input_count ? bind_input(self, run, &part->ends[i])
                                                  : bind_output(self, run, &part->ends[i]));
    }
    return KILN_OK;
}

/* A step often uses the same memory and sizes as the one before it, and then keeps its bindings. */
static kiln_status bind_step(kiln_generator *self, const stream_run *run)
{
    stream_bound *bound = &stream_step_for(&self->model, run->past)->bound;
    const bool is = bound->side == self->cache.current && bound->rows == run->rows &&
                    bound->past == run->past && bound->mask_width == run->mask_width;
    if (is) {
        self->shown = bound->shown;
        return KILN_OK;
    }
    bound->rows = 0;
    KLN_RETURN_IF_ERROR(bind_all(self, run));
    if (self->model.layout == KILN_CACHE_NEW && self->model.kept_count == 0) {
        *bound =
            (stream_bound){run->rows, run->past, run->mask_width, self->cache.current, self->shown};
    }
    return KILN_OK;
}

static kiln_status run_model(kiln_generator *self, const stream_run *run)
{
    KLN_RETURN_IF_ERROR(run->prefill ? bind_all(self, run) : bind_step(self, run));
    const uint64_t begin = kln_now();
    const kiln_status status = kiln_context_run(run->context);
    const uint64_t took = kln_now() - begin;
    if (status == KILN_OK) {
        prompt_groups_note(&self->pace, run->prefill ? run->rows * run->tokens : 0, took);
    }
    KLN_LOCKED(&self->lock);
    self->counters.run_nanoseconds += took;
    return status;
}

/* Copies the logits to the host if they will be looked at. */
static kiln_status fetch_logits(kiln_generator *self, int64_t rows)
{
    stream_logits *shown = &self->shown;
    const size_t row = row_of_logits(self);
    if (shown->first != NULL) {
        shown->first += shown->skipped;
        return KILN_OK;
    }
    if (shown->part->candidates != 0) {
        return KILN_OK; /* rows are fetched one by one when needed */
    }
    KLN_RETURN_IF_ERROR(
        generator_grow(self, &self->last, KILN_LOCATION_PINNED, row * (size_t)rows));
    const kln_cuda_rows piece = {
        .to = kiln_buffer_data(self->last),
        .from = (unsigned char *)kiln_buffer_data(self->logits) + shown->skipped,
        .to_step = row,
        .from_step = shown->step,
        .bytes = row,
        .count = (size_t)rows};
    KLN_RETURN_IF_ERROR(kln_cuda_copy_rows(self->stream, &piece, 1));
    KLN_RETURN_IF_ERROR(kiln_stream_synchronize(self->stream));
    *shown = (stream_logits){.part = shown->part, .first = piece.to, .step = row};
    return KILN_OK;
}

/* --- a prefill --- */

int64_t stream_run_fits(const kiln_generator *self, int64_t tokens)
{
    const stream_model *model = &self->model;
    const uint64_t bytes =
        (uint64_t)row_of_logits(self) * (uint64_t)(model->prefill.last_only ? 1 : tokens);
    const uint64_t fits = self->logits_bytes / bytes;
    const int64_t most = model->prefill.limits.most_rows < model->max_batch
                             ? model->prefill.limits.most_rows
                             : model->max_batch;
    return fits == 0 ? 1 : fits > (uint64_t)most ? most : (int64_t)fits;
}

static int64_t longest_prompt(kiln_sequence *const *group, int64_t count)
{
    int64_t longest = 1;
    for (int64_t i = 0; i < count; i++) {
        const int64_t length = (int64_t)group[i]->prompt_count;
        longest = length > longest ? length : longest;
    }
    return longest;
}

kiln_status stream_run_prefill(kiln_generator *self, kiln_sequence *const *group, int64_t count,
                               stream_made *made)
{
    stream_model *model = &self->model;
    const bool whole = model->layout == KILN_CACHE_WHOLE;
    stream_run run = {.part = &model->prefill,
                      .context = model->prefill.context,
                      .prefill = true,
                      .first_row = self->row_count,
                      .sequence = group[0]};
    const int64_t least = run.part->limits.least_rows;
    run.rows = count > least ? count : least;
    const int64_t longest = longest_prompt(group, count);
    const int64_t shortest = run.part->limits.least_tokens; /* of the engine */
    run.tokens = longest > shortest ? longest : shortest;
    run.past = whole ? self->cache.width : run.part->limits.least_past;
    run.mask_width = whole ? run.past : run.past + run.tokens;
    const int64_t end = whole ? run.tokens : run.mask_width;
    if (self->row_count != 0) {
        KLN_RETURN_IF_ERROR(stream_cache_reach(self, longest));
    }
    begin_inputs(self, &run);
    uint64_t prompt_tokens = 0;
    for (int64_t i = 0; i < run.rows; i++) {
        static const int64_t nothing = 0;
        const int64_t length = i < count ? (int64_t)group[i]->prompt_count : 1;
        write_row(self, &run, i, i < count ? group[i]->tokens : &nothing, length, 0);
        write_mask(self, &run, i, end - length, end, end - 1);
        prompt_tokens += i < count ? (uint64_t)length : 0;
    }
    for (int64_t i = 0; i < run.tokens; i++) {
        write_run(self->columns, run.place, i, 1, i);
    }
    *(uint8_t *)kiln_buffer_data(self->branch) = 0;
    if (model->kept_count != 0) {
        KLN_RETURN_IF_ERROR(stream_encode(self, group, count, run.rows));
    }
    KLN_RETURN_IF_ERROR(run_model(self, &run));
    KLN_RETURN_IF_ERROR(stream_keep(self, run.part, run.rows));
    *made = (stream_made){run.rows, run.tokens, run.past};
    (void)pthread_mutex_lock(&self->lock);
    self->counters.prefills++;
    self->counters.prompt_tokens += prompt_tokens;
    (void)pthread_mutex_unlock(&self->lock);
    return fetch_logits(self, run.rows);
}

/* --- a step --- */

/* On a GPU the number of rows is rounded up to a power of two, so that few graphs cover all; and an
 * engine may require more rows than there are. */
static int64_t fill_up(const kiln_generator *self, int64_t rows)
{
    const stream_limits *limits = &self->model.decode.limits;
    int64_t filled = rows > limits->least_rows ? rows : limits->least_rows;
    if (self->stream != NULL && self->model.layout != KILN_CACHE_GROWING) {
        int64_t power = 1;
        while (power < filled) {
            power *= 2;
        }
        filled = power < self->model.max_batch ? power : self->model.max_batch;
    }
    return filled;
}

kiln_status stream_run_decode(kiln_generator *self)
{
    stream_model *model = &self->model;
    const bool whole = model->layout == KILN_CACHE_WHOLE;
    const int64_t head = self->cache.head;
    stream_run run = {.part = &model->decode,
                      .context = stream_step_for(model, self->cache.width)->context,
                      .tokens = 1,
                      .past = self->cache.width};
    run.rows = fill_up(self, self->row_count);
    run.mask_width = whole ? run.past : run.past + 1;
    const int64_t own = whole ? head : run.past; /* the new token's column */
    begin_inputs(self, &run);
    for (int64_t i = 0; i < run.rows; i++) {
        const bool live = i < self->row_count;
        const int64_t length = live ? self->lengths[i] : 0;
        const int64_t token = live ? self->rows[i]->tokens[self->rows[i]->count - 1] : 0;
        write_row(self, &run, i, &token, 1, length);
        write_mask(self, &run, i, live ? head - length : 0, live ? head : 0, own);
    }
    write_run(self->columns, run.place, 0, 1, head);
    *(uint8_t *)kiln_buffer_data(self->branch) = 1;
    KLN_RETURN_IF_ERROR(run_model(self, &run));
    (void)pthread_mutex_lock(&self->lock);
    self->counters.steps++;
    self->counters.padding += (uint64_t)(run.rows - self->row_count);
    (void)pthread_mutex_unlock(&self->lock);
    return fetch_logits(self, self->row_count);
}

/* --- results --- */

static kiln_status read_scores(kiln_generator *self, int64_t row)
{
    const stream_logits *shown = &self->shown;
    const unsigned char *from =
        shown->first != NULL ? shown->first + (size_t)row * shown->step : NULL;
    if (from == NULL) {
        const size_t bytes = row_of_logits(self);
        KLN_RETURN_IF_ERROR(generator_grow(self, &self->last, KILN_LOCATION_PINNED, bytes));
        from = kiln_buffer_data(self->last);
        KLN_RETURN_IF_ERROR(
            kiln_buffer_read(self->logits, (size_t)row * shown->step + shown->skipped,
                             (kiln_mutable_span){kiln_buffer_data(self->last), bytes}, NULL));
    }
    sampler_load(&self->sampler, self->model.logits_dtype, from);
    return KILN_OK;
}

/* Chooses from a prepared model's candidates where they suffice; the other logits then stay on the
 * device. */
static bool choose_of_candidates(kiln_generator *self, int64_t row, const kiln_sequence *sequence,
                                 uint64_t index, int64_t *token)
{
    const stream_model *model = &self->model;
    const stream_part *part = self->shown.part;
    const size_t count = part->candidates;
    candidate list[STREAM_MOST_CANDIDATES];
    const size_t first = (size_t)row * count;
    for (size_t i = 0; i < count; i++) {
        const void *tokens = kiln_buffer_data(self->top_tokens);
        const void *logits = kiln_buffer_data(self->top_logits);
        const int64_t at = part->wide_candidates ? ((const int64_t *)tokens)[first + i]
                                                 : ((const int32_t *)tokens)[first + i];
        const uint16_t *halves = logits;
        list[i].token = at >= 0 && at < model->vocabulary ? (uint32_t)at : UINT32_MAX;
        list[i].score = model->logits_dtype == KILN_DTYPE_FLOAT32
                            ? ((const float *)logits)[first + i]
                        : model->logits_dtype == KILN_DTYPE_FLOAT16
                            ? kln_float_from_half(halves[first + i])
                            : kln_float_from_bfloat16(halves[first + i]);
    }
    return sampler_choose_of(&self->sampler, list, count, sequence->tokens, sequence->count,
                             &sequence->sampling, index, token);
}

static kiln_status check_token(const kiln_generator *self, int64_t token)
{
    return token >= 0 && token < self->model.vocabulary
               ? KILN_OK
               : kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                          "`sample` chose token %lld, and the vocabulary has %lld",
                          (long long)token, (long long)self->model.vocabulary);
}

kiln_status stream_run_choose(kiln_generator *self, int64_t row, const kiln_sequence *sequence,
                              int64_t *token)
{
    const kiln_sequence_options *options = &sequence->options;
    const uint64_t index = sequence->count - sequence->prompt_count;
    if (options->sample == NULL && self->shown.part->candidates != 0 &&
        choose_of_candidates(self, row, sequence, index, token)) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(read_scores(self, row));
    if (options->sample != NULL) {
        const kiln_status status =
            options->sample(options->sample_user, self->sampler.scores, self->sampler.vocabulary,
                            sequence->tokens, sequence->count, token);
        return status == KILN_OK
                   ? check_token(self, *token)
                   : kln_fail(status, "`sample` failed: %s", kiln_status_text(status));
    }
    const kiln_status status = sampler_choose(&self->sampler, sequence->tokens, sequence->count,
                                              &sequence->sampling, index, token);
    self->poisoned |= status != KILN_OK;
    return status == KILN_OK ? KILN_OK : kln_fail_within(status, "the model's output");
}
