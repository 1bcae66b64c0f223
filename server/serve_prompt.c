/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "serve_generate.h"

#define LONGEST_ID 1024

typedef struct reader {
    serve_json json;
    serve_arena *arena;
    serve_prompt *prompt;
    serve_problem *problem;
    int64_t length;
    uint64_t seen; /* a bit for each member in the table */
} reader;

typedef enum kind {
    WORD,    /* of at most LONGEST_ID bytes */
    WHOLE,   /* least to most */
    REAL,    /* least to most */
    LIST,    /* of tokens */
    IGNORED, /* always in effect */
    REFUSED  /* `why` completes the message */
} kind;

typedef struct member {
    const char *name;
    kind kind;
    size_t offset; /* in serve_prompt */
    double least, most;
    const char *why;
} member;

#define AT(name) offsetof(serve_prompt, name)
#define NO_TOKENIZER "needs a tokenizer, which this server has none of: give \"input_ids\", the "

/* As in the protocol, options may be in "parameters" or next to it. */
static const member members[] = {
    {"id", WORD, AT(id), 0, 0, NULL},
    {"input_ids", LIST, AT(tokens), 0, 0, NULL},
    {"max_tokens", WHOLE, AT(max_tokens), 1, INT32_MAX, NULL},
    {"temperature", REAL, AT(temperature), 0, 1e6, NULL},
    {"top_k", WHOLE, AT(top_k), 0, INT32_MAX, NULL},
    {"top_p", REAL, AT(top_p), 0, 1, NULL},
    {"repetition_penalty", REAL, AT(repetition_penalty), 0, 1e6, NULL},
    {"seed", WHOLE, AT(seed), 0, 0x1p62, NULL},
    {"stop_token_ids", LIST, AT(stops), 0, 0, NULL},
    {"timeout", WHOLE, AT(timeout), 0, 0x1p53, NULL},
    {"stream", IGNORED, 0, 0, 0, NULL},
    {"triton_enable_empty_final_response", IGNORED, 0, 0, 0, NULL}, /* the last is not empty */
    {"text_input", REFUSED, 0, 0, 0, NO_TOKENIZER "tokens of the text"},
    {"stop_words", REFUSED, 0, 0, 0, NO_TOKENIZER "tokens, and \"stop_token_ids\""},
    {"stop", REFUSED, 0, 0, 0, NO_TOKENIZER "tokens, and \"stop_token_ids\""},
};

static bool broken(reader *self, const char *where)
{
    return serve_refuse_json(self->problem, &self->json, 0, where);
}

static bool read_word(reader *self, const char *name, char **word)
{
    char text[LONGEST_ID];
    if (!serve_json_string(&self->json, text, sizeof text)) {
        return broken(self, name);
    }
    *word = serve_arena_string(self->arena, text);
    return *word != NULL || serve_no_memory(self->problem);
}

/* Limits tokens to what a sequence may have, and memory to what the body can contain. */
static bool read_list(reader *self, const member *row)
{
    const bool stops = row->offset == AT(stops);
    size_t *count = stops ? &self->prompt->stop_count : &self->prompt->count;
    const size_t left = (size_t)(self->json.end - self->json.at) / 2 + 1;
    const size_t most = left < (size_t)self->length ? left : (size_t)self->length;
    int64_t *tokens = serve_arena_take(self->arena, most * sizeof *tokens);
    if (tokens == NULL) {
        return serve_no_memory(self->problem);
    }
    memcpy((char *)self->prompt + row->offset, &tokens, sizeof(int64_t *));
    if (!serve_json_enter(&self->json, '[')) {
        return broken(self, row->name);
    }
    while (serve_json_element(&self->json)) {
        if (*count == (size_t)self->length) {
            return serve_refuse(self->problem, 400,
                                "\"%s\" has more tokens than this model takes, %lld", row->name,
                                (long long)self->length);
        }
        if (!serve_json_integer(&self->json, &tokens[*count])) {
            return broken(self, row->name);
        }
        *count += 1;
    }
    return self->json.reason == NULL || broken(self, row->name);
}

static bool read_number(reader *self, const member *row)
{
    serve_number number;
    uint64_t whole = 0;
    if (!serve_json_number(&self->json, &number)) {
        return broken(self, row->name);
    }
    const double value = serve_number_double(&number);
    if (!(value >= row->least && value <= row->most)) {
        return serve_refuse(self->problem, 400, "\"%s\" is %.*s; %g to %.10g are possible",
                            row->name, (int)(number.length < 40 ? number.length : 40), number.at,
                            row->least, row->most);
    }
    if (row->kind == REAL) {
        memcpy((char *)self->prompt + row->offset, &value, sizeof value);
        return true;
    }
    if (!serve_number_integer(&number, 0, INT64_MAX, &whole)) {
        (void)serve_json_fail(&self->json, "an integer is needed");
        return broken(self, row->name);
    }
    memcpy((char *)self->prompt + row->offset, &whole, sizeof whole);
    self->prompt->has_seed |= row->offset == AT(seed);
    return true;
}

static bool read_value(reader *self, const member *row)
{
    serve_slice value;
    char *word = NULL;
    switch (row->kind) {
        case WORD:
            if (!read_word(self, row->name, &word)) {
                return false;
            }
            self->prompt->id = word;
            return true;
        case LIST: return read_list(self, row);
        case IGNORED: return serve_json_skip(&self->json, &value) || broken(self, row->name);
        case REFUSED: return serve_refuse(self->problem, 400, "\"%s\" %s", row->name, row->why);
        default: return read_number(self, row);
    }
}

/* Refuses unknown members: a text generated without the intended option would be wrong. */
static bool read_member(reader *self, const serve_slice *key)
{
    for (size_t i = 0; i < SERVE_LENGTH(members); i++) {
        if (serve_json_is(key, members[i].name)) {
            if ((self->seen >> i & 1) != 0) {
                return serve_refuse(self->problem, 400,
                                    "the request's JSON gives \"%s\" more than once",
                                    members[i].name);
            }
            self->seen |= UINT64_C(1) << i;
            return read_value(self, &members[i]);
        }
    }
    return serve_refuse(self->problem, 400,
                        "\"%.*s\" is not known here; max_tokens, temperature, top_k, top_p, "
                        "repetition_penalty, seed, stop_token_ids and timeout are",
                        (int)(key->size < 60 ? key->size : 60), key->at);
}

static bool read_members(reader *self, bool inside)
{
    serve_slice key;
    if (!serve_json_enter(&self->json, '{')) {
        return broken(self, inside ? "\"parameters\"" : "");
    }
    while (serve_json_member(&self->json, &key)) {
        const bool nested = !inside && serve_json_is(&key, "parameters");
        if (!(nested ? read_members(self, true) : read_member(self, &key))) {
            return false;
        }
    }
    return self->json.reason == NULL || broken(self, inside ? "\"parameters\"" : "");
}

bool serve_prompt_read(const char *body, size_t size, int64_t length, serve_arena *arena,
                       serve_prompt *prompt, serve_problem *problem)
{
    reader self = {.arena = arena, .prompt = prompt, .problem = problem, .length = length};
    *prompt = (serve_prompt){.id = NULL};
    serve_json_init(&self.json, body, size);
    if (!read_members(&self, false)) {
        return false;
    }
    if (!serve_json_end(&self.json)) {
        return broken(&self, "");
    }
    return prompt->count != 0 ||
           serve_refuse(
               problem, 400, "\"input_ids\", the tokens of the text so far, %s",
               prompt->tokens == NULL ? "is missing" : "is empty: a text has one token at least");
}
