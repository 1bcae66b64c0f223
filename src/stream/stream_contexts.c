/* SPDX-License-Identifier: Apache-2.0 */
/* The contexts of a generator: of prompts, of an encoder, and of steps for each profile and each of
 * those that are under way together. */
#include "stream_parts.h"

/* The contexts of all engines work on one stream, so that their work and the copies between are in
 * order. Shapes of prompts are many: their runs are not captured; nor are those of a cache that
 * grows with each step. */
static kiln_status make_context(const kiln_generator *self, const stream_part *part,
                                const stream_limits *limits, kiln_context_options own,
                                kiln_context **context)
{
    const bool repeats = part == &self->model.decode && self->model.layout != KILN_CACHE_GROWING;
    own.stream = self->stream;
    own.graphs = repeats || self->stream == NULL ? own.graphs : KILN_GRAPH_OFF;
    KLN_RETURN_IF_ERROR(kiln_context_create(part->engine, &own, context));
    return limits->profile >= 0 ? kiln_context_set_profile(*context, limits->profile) : KILN_OK;
}

/* What one step needs between inputs and outputs no other one does at that time. */
static kiln_status make_steps(kiln_generator *self, kiln_context_options own)
{
    stream_model *model = &self->model;
    const size_t turns = self->goes_ahead ? STREAM_TURNS : 1;
    own.share_device_memory |= turns * model->step_count > 1 && self->stream != NULL &&
                               model->decode.engine->shared.backend->plan != NULL;
    for (size_t i = 0; i < model->step_count * turns; i++) {
        stream_step *step = &model->steps[i / turns];
        KLN_RETURN_IF_ERROR(
            make_context(self, &model->decode, &step->limits, own, &step->contexts[i % turns]));
    }
    return KILN_OK;
}

static bool reads_wide_tokens(const stream_part *part)
{
    bool wide = false;
    for (size_t i = 0; i < part->input_count; i++) {
        const stream_end *end = &part->ends[i];
        wide |= end->role == ROLE_TOKENS && end->binding.dtype == KILN_DTYPE_INT64;
    }
    return wide;
}

/* The device has to choose the tokens itself, and what is bound to stay. */
static bool can_go_ahead(const kiln_generator *self)
{
    const stream_model *model = &self->model;
    return self->stream != NULL && model->layout == KILN_CACHE_NEW && model->kept_count == 0 &&
           model->decode.candidates != 0 && kln_cuda_has(KLN_CUDA_KERNELS, model->device);
}

kiln_status stream_make_contexts(kiln_generator *self, const kiln_generator_options *options)
{
    stream_model *model = &self->model;
    kiln_context_options own = KILN_CONTEXT_OPTIONS_INIT;
    if (options->context != NULL) {
        KLN_RETURN_IF_ERROR(
            kln_options_read("kiln_context_options", options->context, &own, sizeof own));
    }
    KLN_RETURN_IF(own.stream != NULL, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_generator_options: context: contexts of a generator work on a stream "
                  "of its own");
    if (model->device >= 0) {
        KLN_RETURN_IF_ERROR(kiln_stream_create(model->device, 0, &self->stream));
    }
    self->goes_ahead = !options->no_ahead && can_go_ahead(self);
    model->decode.wide_tokens = reads_wide_tokens(&model->decode);
    KLN_RETURN_IF_ERROR(make_steps(self, own));
    KLN_RETURN_IF_ERROR(
        make_context(self, &model->prefill, &model->prefill.limits, own, &model->prefill.context));
    return model->encoder.engine != NULL
               ? make_context(self, &model->encoder, &model->encoder.limits, own,
                              &model->encoder.context)
               : KILN_OK;
}
