/* SPDX-License-Identifier: Apache-2.0 */
/* What came of a run: where its logits are, and which token is chosen of them. */
#include "stream_parts.h"

size_t stream_logits_row(const kiln_generator *self)
{
    return (size_t)self->model.vocabulary * kiln_dtype_bits(self->model.logits_dtype) / 8;
}

kiln_status stream_fetch_logits(kiln_generator *self, stream_turn *turn, int64_t rows)
{
    stream_logits *shown = &turn->shown;
    const size_t row = stream_logits_row(self);
    if (shown->first != NULL) {
        shown->first += shown->skipped;
        return KILN_OK;
    }
    if (shown->part->candidates != 0) {
        return KILN_OK; /* each row when somebody asks for it */
    }
    KLN_RETURN_IF_ERROR(
        generator_grow(self, &turn->last, KILN_LOCATION_PINNED, row * (size_t)rows));
    const kln_cuda_rows piece = {
        .to = kiln_buffer_data(turn->last),
        .from = (unsigned char *)kiln_buffer_data(turn->logits) + shown->skipped,
        .to_step = row,
        .from_step = shown->step,
        .bytes = row,
        .count = (size_t)rows};
    KLN_RETURN_IF_ERROR(kln_cuda_copy_rows(self->stream, &piece, 1));
    KLN_RETURN_IF_ERROR(kiln_stream_synchronize(self->stream));
    *shown = (stream_logits){.part = shown->part, .first = piece.to, .step = row};
    return KILN_OK;
}

kiln_status stream_choose_ahead(kiln_generator *self)
{
    const stream_model *model = &self->model;
    const stream_turn *turn = &self->turns[stream_next_turn(self)];
    const kln_cuda_choice choice = {.scores = kiln_buffer_data(turn->top_logits),
                                    .dtype = model->logits_dtype,
                                    .tokens = kiln_buffer_data(turn->top_tokens),
                                    .wide_tokens = model->decode.wide_candidates,
                                    .chosen = kiln_buffer_data(self->next_tokens),
                                    .wide_chosen = model->decode.wide_tokens,
                                    .rows = (uint32_t)self->row_count,
                                    .count = (uint32_t)model->decode.candidates,
                                    .limit = (uint32_t)model->vocabulary};
    return kln_cuda_choose(self->stream, &choice);
}

/* --- a token --- */

static kiln_status read_scores(kiln_generator *self, int64_t row)
{
    stream_turn *done = self->done;
    const stream_logits *shown = &done->shown;
    const unsigned char *from =
        shown->first != NULL ? shown->first + (size_t)row * shown->step : NULL;
    if (from == NULL) {
        const size_t bytes = stream_logits_row(self);
        KLN_RETURN_IF_ERROR(generator_grow(self, &done->last, KILN_LOCATION_PINNED, bytes));
        from = kiln_buffer_data(done->last);
        KLN_RETURN_IF_ERROR(
            kiln_buffer_read(done->logits, (size_t)row * shown->step + shown->skipped,
                             (kiln_mutable_span){kiln_buffer_data(done->last), bytes}, NULL));
    }
    sampler_load(&self->sampler, self->model.logits_dtype, from);
    return KILN_OK;
}

/* Where a prepared model's candidates tell, the rest stays where it is. */
static bool choose_of_candidates(kiln_generator *self, int64_t row, const kiln_sequence *sequence,
                                 uint64_t index, int64_t *token)
{
    const stream_model *model = &self->model;
    const stream_part *part = self->done->shown.part;
    const size_t count = part->candidates;
    candidate list[STREAM_MOST_CANDIDATES];
    const size_t first = (size_t)row * count;
    for (size_t i = 0; i < count; i++) {
        const void *tokens = kiln_buffer_data(self->done->top_tokens);
        const void *logits = kiln_buffer_data(self->done->top_logits);
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
    if (options->sample == NULL && self->done->shown.part->candidates != 0 &&
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
    self->strays |= status == KILN_OK && self->under_way != 0; /* the device has chosen already */
    return status == KILN_OK ? KILN_OK : kln_fail_within(status, "the model's output");
}
