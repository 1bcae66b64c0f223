/* SPDX-License-Identifier: Apache-2.0 */
#include "language_model.h"

#include "graph_maker.h"

#define MOST_WEIGHTS 65536
#define MOST_NAMES 512

typedef struct maker {
    graph_maker graph;
    const language_options *options;
    int layer;
    bool masked;
    int count; /* of names, and of pieces of text */
    char names[MOST_NAMES][64];
} maker;

static float weights[MOST_WEIGHTS];

static const float *all_weights(void)
{
    uint32_t state = 12345;
    for (size_t i = 0; weights[0] == 0 && i < MOST_WEIGHTS; i++) {
        state = state * 1664525 + 1013904223;
        weights[i] = ((float)(state >> 8) / (float)(1 << 24) - 0.5F) * 0.7F;
    }
    return weights;
}

/* A name that lasts as long as the maker. */
__attribute__((format(printf, 2, 3))) static const char *name_of(maker *self, const char *format,
                                                                 ...)
{
    va_list arguments;
    assert_true(self->count < MOST_NAMES);
    char *name = self->names[self->count++];
    va_start(arguments, format);
    (void)vsnprintf(name, sizeof self->names[0], format, arguments);
    va_end(arguments);
    return name;
}

/* Adds a text of graph_maker.h, in which "@" is a number of this text's own and "#" the name of its
 * result, which it returns: `result`, or one of its own. */
__attribute__((format(printf, 3, 4))) static const char *add(maker *self, const char *result,
                                                             const char *format, ...)
{
    char written[1024];
    char text[1024];
    va_list arguments;
    size_t used = 0;
    va_start(arguments, format);
    (void)vsnprintf(written, sizeof written, format, arguments);
    va_end(arguments);
    const char *name = result != NULL ? result : name_of(self, "y%d", self->count);
    const char *own = name_of(self, "_%d", self->count);
    for (const char *at = written; *at != '\0'; at++) {
        const char one[2] = {*at, '\0'};
        used += (size_t)snprintf(text + used, sizeof text - used, "%s",
                                 *at == '@'   ? own
                                 : *at == '#' ? name
                                              : one);
        assert_true(used < sizeof text);
    }
    maker_text(&self->graph, text);
    return name;
}

static const char *weight(maker *self, int rows, int columns)
{
    assert_true(self->graph.floats + rows * columns <= weights + MOST_WEIGHTS);
    return rows == 1 ? add(self, NULL, "floats # float32[%d]", columns)
                     : add(self, NULL, "floats # float32[%d,%d]", rows, columns);
}

static const char *multiply(maker *self, const char *result, const char *x, int rows, int columns)
{
    return add(self, result, "#=MatMul(%s,%s)", x, weight(self, rows, columns));
}

static const char *normalize(maker *self, const char *x)
{
    const char *scale = weight(self, 1, WIDTH);
    const char *bias = weight(self, 1, WIDTH);
    return add(self, NULL, "#=LayerNormalization(%s,%s,%s) axis=-1 epsilon=0.00001", x, scale,
               bias);
}

/* --- attention --- */

/* x times weights, as rows x heads x positions x HEAD. */
static const char *project(maker *self, const char *name, const char *x)
{
    const char *flat = multiply(self, NULL, x, WIDTH, WIDTH);
    return add(self, name, "r@=Reshape(%s,to_heads); #=Transpose(r@) perm=[0,2,1,3]", flat);
}

/* "past_key_values.0.decoder.key" */
static const char *layers(maker *self, const char *first, const char *part, const char *what)
{
    return name_of(self, "%s.%d.%s%s", first, self->layer, part, what);
}

static const char *past_input(maker *self, const char *part, const char *what, const char *length)
{
    return add(self, layers(self, "past_key_values", part, what), "in # float32[batch,%d,%s,%d]",
               HEADS, length, HEAD);
}

static bool has_cross(language_form form)
{
    return form == MODEL_FIRST || form == MODEL_CROSS || form == MODEL_MERGED;
}

static const char *decoder_part(const maker *self)
{
    return has_cross(self->options->form) ? "decoder." : "";
}

/* The keys or values that attention goes over, of past and of x. */
static const char *remember(maker *self, const char *what, const char *x)
{
    const language_form form = self->options->form;
    const char *part = decoder_part(self);
    const char *present = layers(self, form == MODEL_NEW ? "new.present" : "present", part, what);
    const char *past = layers(self, "past_key_values", part, what);
    const bool is_put_out = form == MODEL_FIRST || form == MODEL_NEW;
    const bool is_there = self->layer == 0 && what[0] == 'k' && form != MODEL_WHOLE;
    if (form != MODEL_FIRST && !is_there) {
        (void)past_input(self, part, what, form == MODEL_WHOLE ? "96" : "past");
    }
    const char *made = project(self, is_put_out ? present : NULL, x);
    const char *all = made;
    if (form == MODEL_WHOLE) {
        all = add(self, present,
                  "s@=Shape(%s); i@=Expand(whole_index,s@); #=ScatterElements(%s,i@,%s) axis=2",
                  made, past, made);
    } else if (form != MODEL_FIRST) {
        all = add(self, is_put_out ? NULL : present, "#=Concat(%s,%s) axis=2", past, made);
    }
    (void)add(self, present, "out #");
    return all;
}

static const char *attend(maker *self, const char *query, const char *keys, const char *values,
                          bool masked)
{
    const char *scores =
        add(self, NULL, "t@=Transpose(%s) perm=[0,1,3,2]; s@=MatMul(%s,t@); #=Mul(s@,scale)", keys,
            query);
    scores = masked ? add(self, NULL, "#=Add(%s,mask)", scores) : scores;
    const char *mixed = add(self, NULL,
                            "p@=Softmax(%s) axis=-1; m@=MatMul(p@,%s); "
                            "t@=Transpose(m@) perm=[0,2,1,3]; #=Reshape(t@,joined)",
                            scores, values);
    return multiply(self, NULL, mixed, WIDTH, WIDTH);
}

/* Keys or values of what the encoder made: of it, or of what an earlier run made of it. */
static const char *cross_key(maker *self, const char *what)
{
    const char *present = layers(self, "present", "encoder.", what);
    if (self->options->form == MODEL_CROSS) {
        self->graph.floats += WIDTH * WIDTH;
        return past_input(self, "encoder.", what, "encoded");
    }
    if (self->options->form == MODEL_FIRST) {
        (void)project(self, present, "encoder_hidden_states");
    } else {
        const char *past = past_input(self, "encoder.", what, "encoded");
        const char *made = project(self, NULL, "encoder_hidden_states");
        (void)add(self, present,
                  "#=If(is_later) then_branch={out t@; t@=Identity(%s)} "
                  "else_branch={out e@; e@=Identity(%s)}",
                  past, made);
    }
    return add(self, present, "out #");
}

static const char *add_layer(maker *self, const char *x)
{
    const char *normal = normalize(self, x);
    const char *query = project(self, NULL, normal);
    const char *keys = remember(self, "key", normal);
    const char *values = remember(self, "value", normal);
    const char *seen = attend(self, query, keys, values, self->masked);
    x = add(self, NULL, "#=Add(%s,%s)", x, seen);
    if (has_cross(self->options->form)) {
        query = project(self, NULL, normalize(self, x));
        keys = cross_key(self, "key");
        values = cross_key(self, "value");
        seen = attend(self, query, keys, values, false);
        x = add(self, NULL, "#=Add(%s,%s)", x, seen);
    }
    const char *inner = multiply(self, NULL, normalize(self, x), WIDTH, 2 * WIDTH);
    inner = multiply(self, NULL, add(self, NULL, "#=Tanh(%s)", inner), 2 * WIDTH, WIDTH);
    return add(self, NULL, "#=Add(%s,%s)", x, inner);
}

/* --- the whole --- */

static const char *or_int64(kiln_dtype dtype)
{
    return kiln_dtype_name(dtype != KILN_DTYPE_UNDEFINED ? dtype : KILN_DTYPE_INT64);
}

static const char *embed(maker *self, const char *positions)
{
    const char *words = weight(self, VOCABULARY, WIDTH);
    if (self->options->poison != 0) {
        const kln_onnx_graph *graph = self->graph.graph;
        const kiln_span data = graph->initializers[graph->initializer_count - 1].data;
        for (size_t i = (VOCABULARY - 1) * WIDTH; i < (size_t)VOCABULARY * WIDTH; i++) {
            ((float *)(uintptr_t)data.data)[i] = self->options->poison;
        }
    }
    const char *places = weight(self, POSITIONS, WIDTH);
    return add(self, NULL, "w@=Gather(%s,input_ids) axis=0; p@=Gather(%s,%s) axis=0; #=Add(w@,p@)",
               words, places, positions);
}

static void add_encoder(maker *self)
{
    self->graph.floats = weights + MOST_WEIGHTS - WIDTH * WIDTH;
    (void)add(self, NULL, "in input_features float32[batch,encoded,%d]", WIDTH);
    const char *x = multiply(self, NULL, "input_features", WIDTH, WIDTH);
    (void)add(self, "last_hidden_state", "#=Tanh(%s); out #", x);
}

/* The column of each new position; and how many there are with the past, "total". */
static const char *add_places(maker *self)
{
    (void)add(self, NULL, "s@=Shape(input_ids); length=Gather(s@,second) axis=0");
    if (self->options->form == MODEL_WHOLE) {
        return add(self, "cache_position",
                   "in # int64[?]; whole_index=Reshape(#,as_index); total={%d}", POSITIONS);
    }
    if (self->options->form == MODEL_FIRST) {
        (void)add(self, NULL, "past={0}");
    } else {
        const char *keys = past_input(self, decoder_part(self), "key", "past");
        (void)add(self, NULL, "s@=Shape(%s); past=Gather(s@,third) axis=0", keys);
    }
    return add(self, NULL,
               "total=Add(past,length); p@=Reshape(past,none); t@=Reshape(total,none); "
               "#=Range(p@,t@,one)");
}

/* 0 where a position may look, far below elsewhere. */
static void add_mask(maker *self, const char *rows, bool is_padded)
{
    const char *open = add(self, NULL,
                           "t@=Reshape(total,none); c@=Range(zero,t@,one); "
                           "r@=Reshape(%s,column); #=LessOrEqual(c@,r@)",
                           rows);
    if (is_padded) {
        open = add(self, NULL, "c@=Cast(attention_mask) to=9; p@=Reshape(c@,between); #=And(%s,p@)",
                   open);
    }
    (void)add(self, "mask", "#=Where(%s,yes,no)", open);
    self->masked = true;
}

static void add_decoder(maker *self)
{
    const language_options *how = self->options;
    const bool cross = has_cross(how->form);
    const bool is_padded = !how->no_mask && !cross;
    const bool has_positions = !how->no_positions && !cross;
    (void)add(self, NULL,
              "to_heads={0,0,%d,%d}; joined={0,0,%d}; scale={0.35355339}; zeros none int64[0]; "
              "zero=0; one=1; second={1}; third={2}; last={-1}; column={-1,1}; "
              "as_index={1,1,-1,1}; between={0,1,1,-1}; yes={0.0}; no={-10000.0}; "
              "in input_ids %s[batch,length]",
              HEADS, HEAD, WIDTH, or_int64(how->tokens));
    if (is_padded) {
        (void)add(self, NULL, "in attention_mask %s[batch,%s]", or_int64(how->mask),
                  how->form == MODEL_WHOLE ? "96" : "total");
    }
    if (has_positions) {
        (void)add(self, NULL, "in position_ids %s[batch,length]", or_int64(how->tokens));
    }
    const char *rows = add_places(self);
    add_mask(self, rows, is_padded);
    if (how->form == MODEL_MERGED) {
        (void)add(self, NULL,
                  "in use_cache_branch bool[1]; is_later=Reshape(use_cache_branch,none)");
    }
    if (how->form == MODEL_FIRST || how->form == MODEL_MERGED) {
        (void)add(self, NULL, "in encoder_hidden_states float32[batch,encoded,%d]", WIDTH);
    }
    const char *x = embed(self, has_positions ? "position_ids" : rows);
    for (self->layer = 0; self->layer < LAYERS; self->layer++) {
        x = add_layer(self, x);
    }
    x = normalize(self, x);
    x = how->last_only ? add(self, NULL, "#=Gather(%s,last) axis=1", x) : x;
    x = multiply(self, "logits", x, WIDTH, VOCABULARY);
    (void)add(self, x, "out #");
}

kiln_network *language_network(const language_options *options)
{
    static maker self;
    self = (maker){.options = options};
    maker_begin(&self.graph, KILN_OPSET_DEFAULT);
    self.graph.floats = all_weights();
    if (options->form == MODEL_ENCODER) {
        add_encoder(&self);
    } else {
        add_decoder(&self);
    }
    kiln_network *network = maker_network(&self.graph);
    maker_end(&self.graph);
    return network;
}
