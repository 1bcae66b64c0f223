/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_generate.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* A text being generated. The connection holds a reference, and so does the generator until it has
 * reported the sequence's end, which may be long after the connection is gone. */
struct serve_generate {
    atomic_int references;
    pthread_mutex_t lock;
    serve_connection *at; /* NULL once the request is over */
    serve_instance *instance;
    kiln_sequence *sequence;
    uint64_t submitted;
    bool streams;     /* each token separately */
    bool over;        /* the last one has been taken */
    bool succeeded;   /* and the text ended normally */
    serve_text head;  /* the start of each answer: {"model_name":..,"id":.. */
    serve_text event; /* being sent */
    size_t sent;      /* bytes of it */
};

static void release(serve_generate *self)
{
    if (atomic_fetch_sub(&self->references, 1) == 1) {
        kiln_sequence_release(self->sequence);
        serve_text_finish(&self->head);
        serve_text_finish(&self->event);
        (void)pthread_mutex_destroy(&self->lock);
        free(self);
    }
}

/* Called in the thread that makes the steps, or in one that cancels. */
static void told(void *user, kiln_sequence *sequence, const kiln_token *token)
{
    serve_generate *self = user;
    serve_counts *counts = self->instance->counts;
    (void)sequence;
    if (token->index == 0 && token->token >= 0) {
        (void)atomic_fetch_add(&counts->first_tokens, 1);
        (void)atomic_fetch_add(&counts->first_ns, kiln_clock_now() - self->submitted);
    }
    (void)pthread_mutex_lock(&self->lock);
    if (self->at != NULL && (self->streams || token->finish != KILN_FINISH_NONE)) {
        serve_wake(self->at);
    }
    (void)pthread_mutex_unlock(&self->lock);
    if (token->finish != KILN_FINISH_NONE) {
        release(self);
    }
}

/* --- submitting --- */

static serve_generate *make(serve_connection *at, serve_instance *instance, const char *id)
{
    serve_generate *self = calloc(1, sizeof *self);
    if (self == NULL || pthread_mutex_init(&self->lock, NULL) != 0) {
        free(self);
        return NULL;
    }
    atomic_init(&self->references, 1);
    self->at = at;
    self->instance = instance;
    self->streams = strcmp(at->segments[at->segment_count - 1], "generate_stream") == 0;
    serve_text_string(&self->head, "{\"model_name\":");
    serve_text_json(&self->head, instance->name);
    serve_text_printf(&self->head, ",\"model_version\":\"%s\"", instance->version);
    if (id != NULL) {
        serve_text_string(&self->head, ",\"id\":");
        serve_text_json(&self->head, id);
    }
    if (self->head.failed) {
        release(self);
        return NULL;
    }
    return self;
}

/* A different seed each time, for requests that give none. */
static uint64_t any_seed(void)
{
    static atomic_ullong count;
    uint64_t mixed = kiln_clock_now() + atomic_fetch_add(&count, 0x9e3779b97f4a7c15U);
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9U;
    return mixed ^ mixed >> 27;
}

static bool check_length(const serve_connection *at, const serve_prompt *prompt,
                         serve_problem *problem)
{
    const int64_t limit = at->server->options->max_tokens;
    return limit == 0 || prompt->max_tokens <= limit ||
           serve_refuse(problem, 400, "\"max_tokens\" is %lld; this server takes up to %lld",
                        (long long)prompt->max_tokens, (long long)limit);
}

/* The tokens asked for, or as many as there is room for and the server allows. */
static int64_t most_tokens(const serve_connection *at, const serve_prompt *prompt, int64_t length)
{
    const int64_t limit = at->server->options->max_tokens;
    const int64_t room = length - (int64_t)prompt->count;
    return prompt->max_tokens != 0 ? prompt->max_tokens : limit != 0 && limit < room ? limit : 0;
}

static uint64_t deadline(const serve_connection *at, const serve_prompt *prompt, uint64_t now)
{
    const double limit = at->server->options->generate_seconds * 1e6;
    const double asked = (double)prompt->timeout;
    const uint64_t own = now + (uint64_t)((asked != 0 && asked < limit ? asked : limit) * 1e3);
    return at->deadline != 0 && at->deadline < own ? at->deadline : own;
}

static bool submit(serve_connection *at, serve_generate *self, const serve_prompt *prompt)
{
    const kiln_sampling sampling =
        KILN_SAMPLING(.temperature = (float)prompt->temperature, .top_k = (int32_t)prompt->top_k,
                      .top_p = (float)prompt->top_p,
                      .repetition_penalty = (float)prompt->repetition_penalty,
                      .seed = prompt->has_seed ? (uint64_t)prompt->seed : any_seed());
    kiln_sequence_options options =
        KILN_SEQUENCE_OPTIONS(.sampling = &sampling, .stop_tokens = prompt->stops,
                              .stop_token_count = prompt->stop_count, .told = told,
                              .told_user = self);
    self->submitted = kiln_clock_now();
    options.max_tokens = most_tokens(at, prompt, self->instance->language.max_length);
    options.deadline_nanoseconds = deadline(at, prompt, self->submitted);
    atomic_store(&at->progress, SERVE_PENDING);
    (void)atomic_fetch_add(&self->references, 1);
    /* A hang-up is noticed only once, so a connection seen to generate must have a sequence that
     * can be cancelled. */
    (void)pthread_mutex_lock(&at->lock);
    at->generate = self;
    const kiln_status status =
        kiln_generator_submit(serve_language_choose(self->instance), prompt->tokens, prompt->count,
                              &options, &self->sequence);
    (void)pthread_mutex_unlock(&at->lock);
    if (status != KILN_OK) {
        release(self);
        return status == KILN_ERROR_QUEUE_FULL
                   ? serve_refuse(&at->problem, 503, "as many texts wait as may (--queue)")
                   : serve_refuse_status(&at->problem, status, kiln_error_message());
    }
    return true;
}

static bool ask(serve_connection *at, serve_instance *instance)
{
    const uint64_t begin = kiln_clock_now();
    serve_prompt prompt;
    if (instance->generator_count == 0) {
        return serve_refuse(&at->problem, 400,
                            "model \"%.200s\" is not a language model with a past; ask for infer",
                            instance->name);
    }
    if (!serve_prompt_read(at->body, at->body_size, instance->language.max_length, &at->arena,
                           &prompt, &at->problem) ||
        !check_length(at, &prompt, &at->problem)) {
        return false;
    }
    serve_generate *self = make(at, instance, prompt.id);
    if (self == NULL) {
        return serve_no_memory(&at->problem);
    }
    (void)atomic_fetch_add(&instance->counts->input_ns, kiln_clock_now() - begin);
    return submit(at, self, &prompt);
}

serve_result serve_generate_run(serve_connection *at)
{
    const bool versioned = strcmp(at->segments[3], "versions") == 0;
    serve_instance *instance =
        serve_find(at->server, at->segments[2], versioned ? at->segments[4] : NULL, &at->problem);
    if (instance == NULL) {
        return SERVE_REFUSED;
    }
    at->writes = instance;
    if (!ask(at, instance)) {
        return SERVE_REFUSED;
    }
    (void)serve_sleep(at);
    return SERVE_WAITS;
}

/* --- answering --- */

static const char *reason_of(kiln_finish finish)
{
    return finish == KILN_FINISH_LENGTH ? "length" : "stop";
}

static bool is_done(kiln_finish finish)
{
    return finish == KILN_FINISH_TOKEN || finish == KILN_FINISH_TEXT ||
           finish == KILN_FINISH_LENGTH;
}

/* Explains why a text ended early. */
static void explain(const serve_generate *self, serve_connection *at)
{
    const kiln_status status = kiln_sequence_wait(self->sequence, 0);
    if (atomic_load(&at->gone)) {
        (void)serve_refuse(&at->problem, 499, "the client has gone");
    } else if (status == KILN_ERROR_CANCELLED) {
        (void)serve_refuse(&at->problem, 503,
                           atomic_load(&at->server->stopping) ? "the server is stopping"
                                                              : "the text was cancelled");
    } else if (status == KILN_ERROR_TIMEOUT) {
        (void)serve_refuse(&at->problem, 504, "the text's time is over (\"timeout\", or %g s)",
                           at->server->options->generate_seconds);
    } else if (status == KILN_OK) { /* it ended normally, but its answer could not be made */
        (void)serve_no_memory(&at->problem);
    } else {
        (void)serve_refuse_status(&at->problem, status, kiln_error_message());
    }
}

/* Replaces the event by the next token's, if there is one yet. */
static bool next_event(serve_generate *self, serve_connection *at)
{
    kiln_token token = {.struct_size = sizeof token};
    serve_text *event = &self->event;
    if (kiln_sequence_next(self->sequence, 0, &token) != KILN_OK) {
        return false;
    }
    const bool done = is_done(token.finish);
    event->size = 0;
    self->sent = 0;
    self->over = token.finish != KILN_FINISH_NONE;
    serve_text_string(event, "data: ");
    if (self->over && !done) {
        explain(self, at);
        serve_text_string(event, "{\"error\":");
        serve_text_json(event, at->problem.sentence);
    } else {
        serve_text_append(event, self->head.data, self->head.size);
        serve_text_printf(event, ",\"index\":%llu,\"output_ids\":[%lld]",
                          (unsigned long long)token.index, (long long)token.token);
    }
    if (done) {
        serve_text_printf(event, ",\"finish_reason\":\"%s\"", reason_of(token.finish));
    }
    serve_text_string(event, "}\n\n");
    self->succeeded = done && !event->failed;
    return true;
}

/* Reads as much as is available and fits. If there is nothing, the connection sleeps. */
static ssize_t read_events(void *user, uint64_t position, char *buffer, size_t size)
{
    serve_generate *self = user;
    serve_connection *at = self->at;
    size_t used = 0;
    (void)position;
    for (;;) {
        const size_t left = self->event.failed ? 0 : self->event.size - self->sent;
        const size_t piece = left < size - used ? left : size - used;
        if (piece != 0) {
            memcpy(buffer + used, self->event.data + self->sent, piece);
        }
        self->sent += piece;
        used += piece;
        if (self->event.failed) { /* libmicrohttpd would only close it at the next event */
            (void)shutdown(at->socket, SHUT_RDWR);
            return MHD_CONTENT_READER_END_WITH_ERROR;
        }
        if (used < size && !self->over && next_event(self, at)) {
            continue;
        }
        if (used != 0) {
            serve_enter_phase(at, SERVE_ANSWER);
            at->answer_size += used;
            return (ssize_t)used;
        }
        if (self->over) {
            return MHD_CONTENT_READER_END_OF_STREAM;
        }
        atomic_store(&at->progress, SERVE_PENDING);
        if (!next_event(self, at)) { /* none came before the state was set */
            break;
        }
    }
    serve_enter_phase(at, SERVE_WORK);
    (void)serve_sleep(at);
    return 0;
}

static void forget(void *user)
{
    release(user);
}

static serve_result answer_events(serve_connection *at, serve_generate *self)
{
    (void)atomic_fetch_add(&self->references, 1);
    if (at->transport->stream(at, read_events, forget, self)) {
        return SERVE_DONE;
    }
    release(self);
    (void)serve_no_memory(&at->problem);
    return SERVE_REFUSED;
}

static serve_result answer_whole(serve_connection *at, serve_generate *self)
{
    kiln_sequence_result result = {.struct_size = sizeof result};
    serve_text text = self->head;
    self->head = (serve_text){.data = NULL};
    (void)!kiln_sequence_get_result(self->sequence, &result);
    serve_text_string(&text, ",\"output_ids\":[");
    for (size_t i = 0; i < result.count; i++) {
        serve_text_string(&text, i > 0 ? "," : "");
        serve_text_integer(&text, result.tokens[i]);
    }
    serve_text_printf(&text, "],\"finish_reason\":\"%s\"}", reason_of(result.finish));
    self->over = true;
    self->succeeded = !text.failed;
    (void)serve_answer_text(at, 200, "application/json", &text);
    return SERVE_DONE;
}

/* A text whose first token never comes is refused with the corresponding status. */
serve_result serve_generate_again(serve_connection *at)
{
    serve_generate *self = at->generate;
    const uint64_t begin = kiln_clock_now();
    serve_result result = SERVE_REFUSED;
    atomic_store(&at->progress, SERVE_PENDING);
    const kiln_status status = kiln_sequence_wait(self->sequence, 0);
    if (self->streams ? !next_event(self, at) : status == KILN_ERROR_BUSY) {
        (void)serve_sleep(at);
        return SERVE_WAITS;
    }
    if (self->streams && self->event.failed) {
        (void)serve_no_memory(&at->problem);
    } else if (self->streams && (!self->over || self->succeeded)) {
        result = answer_events(at, self);
    } else if (!self->streams && status == KILN_OK) {
        result = answer_whole(at, self);
    } else {
        self->over = true;
        explain(self, at);
    }
    (void)atomic_fetch_add(&at->writes->counts->output_ns, kiln_clock_now() - begin);
    return result;
}

/* --- closing --- */

bool serve_generate_cancel(serve_connection *at)
{
    const serve_generate *self = at->generate;
    return self != NULL && self->sequence != NULL &&
           kiln_sequence_cancel(self->sequence) == KILN_OK;
}

void serve_generate_finish(serve_connection *at)
{
    (void)pthread_mutex_lock(&at->lock);
    serve_generate *self = at->generate;
    at->generate = NULL;
    (void)pthread_mutex_unlock(&at->lock);
    const bool succeeded = self != NULL && self->succeeded;
    if (self != NULL) {
        (void)pthread_mutex_lock(&self->lock);
        self->at = NULL;
        (void)pthread_mutex_unlock(&self->lock);
        if (self->sequence != NULL && !self->over) {
            (void)!kiln_sequence_cancel(self->sequence); /* the client has gone */
        }
        if (self->sequence != NULL) {
            serve_note_run(at->server, at->writes, kiln_sequence_wait(self->sequence, 0));
        }
        release(self);
    }
    if (at->writes != NULL) {
        serve_count(at, at->writes->counts, succeeded, succeeded);
        serve_instance_release(at->writes);
        at->writes = NULL;
    }
}
