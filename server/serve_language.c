/* SPDX-License-Identifier: Apache-2.0 */
/* The generators of a language model. */
#include <string.h>

#include "serve_generate.h"

/* The length of a sequence with its prompt, if neither the model nor an option gives one. */
#define USUAL_LENGTH 1024

/* Whether it looks like a language model: it reads tokens and a past, as a generator requires. */
static bool is_language(const serve_instance *instance)
{
    bool tokens = false;
    bool past = false;
    for (size_t i = 0; i < instance->input_count; i++) {
        const char *name = instance->inputs[i].name;
        tokens |= strcmp(name, "input_ids") == 0 || strcmp(name, "decoder_input_ids") == 0;
        past |= strncmp(name, "past", 4) == 0;
    }
    return tokens && past;
}

static kiln_status make(const serve_instance *instance, const serve_tuning *tuning,
                        kiln_engine *engine, kiln_generator **generator)
{
    const serve_options *wanted = instance->server->options;
    kiln_context_options context = KILN_CONTEXT_OPTIONS_INIT;
    kiln_generator_options options = KILN_GENERATOR_OPTIONS(.thread = true, .context = &context);
    context.graphs = tuning->graphs >= 0 ? (kiln_graph_policy)tuning->graphs : wanted->graphs;
    options.max_batch = wanted->sequences != 0 ? wanted->sequences : instance->row_limit;
    options.max_length = wanted->max_length != 0 ? wanted->max_length : tuning->max_length;
    options.queue_limit =
        tuning->queue_limit != 0 ? tuning->queue_limit : (size_t)wanted->queue_limit;
    options.vocabulary = tuning->vocabulary;
    options.relative = tuning->relative;
    const kiln_status status = kiln_generator_create(engine, &options, generator);
    if (status != KILN_ERROR_INVALID_ARGUMENT || options.max_length != 0) {
        return status;
    }
    options.max_length = USUAL_LENGTH; /* the shapes do not give one */
    return kiln_generator_create(engine, &options, generator);
}

bool serve_language_open(serve_instance *instance, const serve_tuning *tuning,
                         serve_problem *problem)
{
    if (tuning->generate == SERVE_NO ||
        (tuning->generate == SERVE_MAYBE && !is_language(instance))) {
        return true;
    }
    for (size_t i = 0; i < instance->engine_count; i++) {
        const kiln_status status =
            make(instance, tuning, instance->engines[i], &instance->generators[i]);
        if (status == KILN_OK) {
            instance->generator_count = i + 1;
            continue;
        }
        (void)serve_refuse_status(problem, status, kiln_error_message());
        if (tuning->generate == SERVE_YES) {
            return false;
        }
        serve_say(instance->server, "%s: no texts are generated: %s", instance->name,
                  problem->sentence);
        serve_language_close(instance);
        return true;
    }
    instance->language.struct_size = sizeof instance->language;
    return kiln_generator_get_info(instance->generators[0], &instance->language) == KILN_OK ||
           serve_refuse(problem, 500, "%s", kiln_error_message());
}

void serve_language_close(serve_instance *instance)
{
    for (size_t i = 0; i < instance->generator_count; i++) {
        kiln_generator_destroy(instance->generators[i]);
        instance->generators[i] = NULL;
    }
    instance->generator_count = 0;
}

kiln_generator *serve_language_choose(const serve_instance *instance)
{
    kiln_generator *chosen = NULL;
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < instance->generator_count; i++) {
        kiln_generator_counters counters = {.struct_size = sizeof counters};
        (void)!kiln_generator_get_counters(instance->generators[i], &counters);
        if (counters.waiting + counters.running < least) {
            least = counters.waiting + counters.running;
            chosen = instance->generators[i];
        }
    }
    return chosen;
}
