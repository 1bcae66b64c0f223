/* SPDX-License-Identifier: Apache-2.0 */
#include "language_model.h"

#include <math.h>

#define MOST_WEIGHTS 65536

typedef kiln_tensor_id id;

typedef struct maker {
    kiln_network *network;
    const language_options *options;
    float *next; /* weight */
    int layer;
    id mask;        /* what scores are added to */
    id first_past;  /* of the first layer's keys */
    id whole_index; /* where a past of fixed length is written */
    id encoded;
    id is_later; /* whether there is a past */
} maker;

static float weights[MOST_WEIGHTS];

static float *all_weights(void)
{
    uint32_t state = 12345;
    for (size_t i = 0; weights[0] == 0 && i < MOST_WEIGHTS; i++) {
        state = state * 1664525 + 1013904223;
        weights[i] = ((float)(state >> 8) / (float)(1 << 24) - 0.5F) * 0.7F;
    }
    return weights;
}

/* --- nodes --- */

static id node(maker *self, const char *name, const char *op, id a, id b)
{
    const id inputs[] = {a, b};
    id out = KILN_NO_TENSOR;
    assert_ok(kiln_network_add_node(self->network, name, NULL, 0, op, inputs,
                                    b == KILN_NO_TENSOR ? 1 : 2, NULL, 0, &out, 1));
    return out;
}

static id node3(maker *self, const char *name, const char *op, id a, id b, id c)
{
    const id inputs[] = {a, b, c};
    id out = KILN_NO_TENSOR;
    assert_ok(kiln_network_add_node(self->network, name, NULL, 0, op, inputs, 3, NULL, 0, &out, 1));
    return out;
}

static id constant(maker *self, kiln_dtype dtype, kiln_shape shape, const void *data)
{
    id out = KILN_NO_TENSOR;
    kiln_weights made = {dtype, shape, {data, 0}};
    assert_ok(kiln_tensor_bytes(dtype, &shape, &made.data.size));
    assert_ok(kiln_network_add_constant(self->network, NULL, &made, &out));
    return out;
}

static id ints(maker *self, const int64_t *values, int64_t count)
{
    return constant(self, KILN_DTYPE_INT64, KILN_SHAPE(count), values);
}

static id weight(maker *self, int64_t rows, int64_t columns)
{
    float *data = self->next;
    self->next += rows * columns;
    assert_true(self->next <= weights + MOST_WEIGHTS);
    return constant(self, KILN_DTYPE_FLOAT32,
                    rows == 1 ? KILN_SHAPE(columns) : KILN_SHAPE(rows, columns), data);
}

static id number(maker *self, const float *value)
{
    return constant(self, KILN_DTYPE_FLOAT32, KILN_SHAPE_SCALAR, value);
}

static id reshape(maker *self, id x, const int64_t *shape, int64_t rank)
{
    return node(self, NULL, "Reshape", x, ints(self, shape, rank));
}

static id transpose(maker *self, const char *name, id x, const int64_t *order)
{
    id out = KILN_NO_TENSOR;
    assert_ok(kiln_network_add_transpose(self->network, name, x, order, 4, &out));
    return out;
}

static id normalize(maker *self, id x)
{
    id out = KILN_NO_TENSOR;
    const id scale = weight(self, 1, WIDTH);
    const id bias = weight(self, 1, WIDTH);
    assert_ok(
        kiln_network_add_layer_normalization(self->network, NULL, x, scale, bias, -1, 1e-5F, &out));
    return out;
}

static id input(maker *self, const char *name, kiln_dtype dtype, kiln_shape shape,
                const char *const *names)
{
    id out = KILN_NO_TENSOR;
    assert_ok(kiln_network_add_input(self->network, name, dtype, &shape, names, &out));
    return out;
}

static void output(maker *self, id tensor)
{
    assert_ok(kiln_network_mark_output(self->network, tensor));
}

/* Dimension `axis` of x, a vector of one. */
static id dimension(maker *self, id x, int64_t axis)
{
    static const int64_t axes[] = {0, 1, 2, 3};
    id shape = KILN_NO_TENSOR;
    id out = KILN_NO_TENSOR;
    assert_ok(kiln_network_add_shape(self->network, NULL, x, &shape));
    assert_ok(
        kiln_network_add_gather(self->network, NULL, shape, ints(self, axes + axis, 1), 0, &out));
    return out;
}

static id range(maker *self, id from, id to)
{
    static const int64_t one = 1;
    id out = KILN_NO_TENSOR;
    assert_ok(kiln_network_add_range(
        self->network, NULL, reshape(self, from, NULL, 0), reshape(self, to, NULL, 0),
        constant(self, KILN_DTYPE_INT64, KILN_SHAPE_SCALAR, &one), &out));
    return out;
}

/* --- attention --- */

static const int64_t to_heads[] = {0, 2, 1, 3};

/* "past_key_values.0.decoder.key": valid until the next one. */
static const char *text(const maker *self, const char *first, const char *part, const char *what)
{
    static char name[64];
    (void)snprintf(name, sizeof name, "%s.%d.%s%s", first, self->layer, part, what);
    return name;
}

/* x times weights, as rows x heads x positions x HEAD. */
static id project(maker *self, const char *name, id x)
{
    static const int64_t split[] = {0, 0, HEADS, HEAD};
    const id flat = node(self, NULL, "MatMul", x, weight(self, WIDTH, WIDTH));
    return transpose(self, name, reshape(self, flat, split, 4), to_heads);
}

static id past_input(maker *self, const char *part, const char *what, const char *length,
                     int64_t columns)
{
    const char *const names[] = {"batch", NULL, columns < 0 ? length : NULL, NULL};
    return input(self, text(self, "past_key_values", part, what), KILN_DTYPE_FLOAT32,
                 KILN_SHAPE(KILN_DYNAMIC, HEADS, columns, HEAD), names);
}

static bool has_cross(language_form form)
{
    return form == MODEL_FIRST || form == MODEL_CROSS || form == MODEL_MERGED;
}

/* The keys or values that attention goes over, of past and of x. */
static id remember(maker *self, const char *what, id x)
{
    const language_form form = self->options->form;
    const bool cross = has_cross(form);
    const char *part = cross ? "decoder." : "";
    if (form == MODEL_FIRST) {
        const id made = project(self, text(self, "present", part, what), x);
        output(self, made);
        return made;
    }
    const bool is_there = self->first_past != KILN_NO_TENSOR;
    const id before = is_there ? self->first_past
                               : past_input(self, part, what, "past",
                                            form == MODEL_WHOLE ? POSITIONS : KILN_DYNAMIC);
    self->first_past = KILN_NO_TENSOR;
    id all = KILN_NO_TENSOR;
    if (form == MODEL_NEW) {
        const id made = project(self, text(self, "new.present", part, what), x);
        const id both[] = {before, made};
        output(self, made);
        assert_ok(kiln_network_add_concat(self->network, NULL, both, 2, 2, &all));
        return all;
    }
    const id made = project(self, NULL, x);
    const char *name = text(self, "present", part, what);
    if (form == MODEL_WHOLE) {
        const id index = node(self, NULL, "Expand", self->whole_index,
                              node(self, NULL, "Shape", made, KILN_NO_TENSOR));
        kiln_attribute axis = KILN_ATTRIBUTE_INIT;
        axis.name = "axis";
        axis.i = 2;
        const id three[] = {before, index, made};
        assert_ok(kiln_network_add_node(self->network, text(self, "present", part, what), NULL, 0,
                                        "ScatterElements", three, 3, &axis, 1, &all, 1));
    } else {
        const id both[] = {before, made};
        assert_ok(kiln_network_add_concat(self->network, name, both, 2, 2, &all));
    }
    output(self, all);
    return all;
}

static id attend(maker *self, id query, id keys, id values, bool masked)
{
    static const int64_t flip[] = {0, 1, 3, 2};
    static const int64_t join[] = {0, 0, WIDTH};
    static const float scale = 0.35355339F; /* 1 / sqrt(HEAD) */
    id scores = node(self, NULL, "MatMul", query, transpose(self, NULL, keys, flip));
    id soft = KILN_NO_TENSOR;
    scores = node(self, NULL, "Mul", scores, number(self, &scale));
    scores = masked ? node(self, NULL, "Add", scores, self->mask) : scores;
    assert_ok(kiln_network_add_softmax(self->network, NULL, scores, -1, false, &soft));
    const id mixed = transpose(self, NULL, node(self, NULL, "MatMul", soft, values), to_heads);
    return node(self, NULL, "MatMul", reshape(self, mixed, join, 3), weight(self, WIDTH, WIDTH));
}

/* Over what the encoder made: of it, or of what an earlier run made of it. */
static kiln_network *branch_of(maker *self, const char *name, id x)
{
    kiln_network *branch = NULL;
    id inner = KILN_NO_TENSOR;
    id out = KILN_NO_TENSOR;
    assert_ok(kiln_network_create_branch(self->network, NULL, &branch));
    assert_ok(kiln_network_capture(branch, x, &inner));
    assert_ok(
        kiln_network_add_node(branch, name, NULL, 0, "Identity", &inner, 1, NULL, 0, &out, 1));
    assert_ok(kiln_network_mark_output(branch, out));
    return branch;
}

/* The past where there is one, else what is made here, and that is put out. */
static id either(maker *self, const char *what, id past, id made)
{
    char then_name[64];
    char else_name[64];
    id out = KILN_NO_TENSOR;
    (void)snprintf(then_name, sizeof then_name, "then_%d_%s", self->layer, what);
    (void)snprintf(else_name, sizeof else_name, "else_%d_%s", self->layer, what);
    kiln_network *then = branch_of(self, then_name, past);
    kiln_network *otherwise = branch_of(self, else_name, made);
    assert_ok(kiln_network_add_if(self->network, text(self, "present", "encoder.", what),
                                  self->is_later, then, otherwise, &out, 1));
    output(self, out);
    return out;
}

static id cross_key(maker *self, const char *what)
{
    if (self->options->form == MODEL_MERGED) {
        const id past = past_input(self, "encoder.", what, "encoded", KILN_DYNAMIC);
        return either(self, what, past, project(self, NULL, self->encoded));
    }
    if (self->options->form == MODEL_CROSS) {
        self->next += WIDTH * WIDTH;
        return past_input(self, "encoder.", what, "encoded", KILN_DYNAMIC);
    }
    const id made = project(self, text(self, "present", "encoder.", what), self->encoded);
    output(self, made);
    return made;
}

static id layer(maker *self, id x)
{
    const id normal = normalize(self, x);
    const id query = project(self, NULL, normal);
    const id keys = remember(self, "key", normal);
    const id values = remember(self, "value", normal);
    x = node(self, NULL, "Add", x, attend(self, query, keys, values, self->mask != KILN_NO_TENSOR));
    if (has_cross(self->options->form)) {
        const id asked = project(self, NULL, normalize(self, x));
        const id cross_keys = cross_key(self, "key");
        const id cross_values = cross_key(self, "value");
        x = node(self, NULL, "Add", x, attend(self, asked, cross_keys, cross_values, false));
    }
    const id inner =
        node(self, NULL, "Tanh",
             node(self, NULL, "MatMul", normalize(self, x), weight(self, WIDTH, 2 * WIDTH)),
             KILN_NO_TENSOR);
    return node(self, NULL, "Add", x,
                node(self, NULL, "MatMul", inner, weight(self, 2 * WIDTH, WIDTH)));
}

/* --- the whole --- */

static id cast(maker *self, id x, kiln_dtype dtype)
{
    id out = KILN_NO_TENSOR;
    assert_ok(kiln_network_add_cast(self->network, NULL, x, dtype, &out));
    return out;
}

/* 0 where a position may look, far below elsewhere. `rows` are its column, `total` how many there
 * are. */
static id make_mask(maker *self, id rows, id total, id padding)
{
    static const int64_t zero[] = {0};
    static const int64_t column[] = {-1, 1};
    static const int64_t between[] = {0, 1, 1, -1};
    static const float yes = 0;
    static const float no = -10000;
    const id columns = range(self, ints(self, zero, 1), total);
    id open = node(self, NULL, "LessOrEqual", columns, reshape(self, rows, column, 2));
    if (padding != KILN_NO_TENSOR) {
        open = node(self, NULL, "And", open,
                    reshape(self, cast(self, padding, KILN_DTYPE_BOOL), between, 4));
    }
    return node3(self, NULL, "Where", open, number(self, &yes), number(self, &no));
}

static kiln_dtype or_int64(kiln_dtype dtype)
{
    return dtype != KILN_DTYPE_UNDEFINED ? dtype : KILN_DTYPE_INT64;
}

static id embed(maker *self, id tokens, id positions)
{
    static float poisoned[VOCABULARY * WIDTH];
    id words = KILN_NO_TENSOR;
    id places = KILN_NO_TENSOR;
    const float *table = self->next;
    id embedding = weight(self, VOCABULARY, WIDTH);
    if (self->options->poison != 0) {
        memcpy(poisoned, table, sizeof poisoned);
        for (size_t i = 0; i < WIDTH; i++) {
            poisoned[(VOCABULARY - 1) * WIDTH + i] = self->options->poison;
        }
        embedding = constant(self, KILN_DTYPE_FLOAT32, KILN_SHAPE(VOCABULARY, WIDTH), poisoned);
    }
    const id table_of_places = weight(self, POSITIONS, WIDTH);
    assert_ok(kiln_network_add_gather(self->network, NULL, embedding, tokens, 0, &words));
    assert_ok(kiln_network_add_gather(self->network, NULL, table_of_places, positions, 0, &places));
    return node(self, NULL, "Add", words, places);
}

static kiln_network *encoder(maker *self)
{
    const char *const names[] = {"batch", "encoded", NULL};
    const id x = input(self, "input_features", KILN_DTYPE_FLOAT32,
                       KILN_SHAPE(KILN_DYNAMIC, KILN_DYNAMIC, WIDTH), names);
    self->next = weights + MOST_WEIGHTS - WIDTH * WIDTH;
    output(self, node(self, "last_hidden_state", "Tanh",
                      node(self, NULL, "MatMul", x, weight(self, WIDTH, WIDTH)), KILN_NO_TENSOR));
    return self->network;
}

static kiln_network *decoder(maker *self)
{
    const language_options *how = self->options;
    const char *const by_length[] = {"batch", "length"};
    const char *const by_total[] = {"batch", how->form == MODEL_WHOLE ? NULL : "total"};
    const bool cross = has_cross(how->form);
    static const int64_t column[] = {1, 1, -1, 1};
    const id tokens = input(self, "input_ids", or_int64(how->tokens),
                            KILN_SHAPE(KILN_DYNAMIC, KILN_DYNAMIC), by_length);
    const id padding =
        how->no_mask || cross
            ? KILN_NO_TENSOR
            : input(self, "attention_mask", or_int64(how->mask),
                    KILN_SHAPE(KILN_DYNAMIC, how->form == MODEL_WHOLE ? POSITIONS : KILN_DYNAMIC),
                    by_total);
    id positions = KILN_NO_TENSOR;
    if (!how->no_positions && !cross) {
        positions = input(self, "position_ids", or_int64(how->tokens),
                          KILN_SHAPE(KILN_DYNAMIC, KILN_DYNAMIC), by_length);
    }
    const id length = dimension(self, tokens, 1);
    id rows = KILN_NO_TENSOR;
    id total = KILN_NO_TENSOR;
    if (how->form == MODEL_WHOLE) {
        static const int64_t all[] = {POSITIONS};
        rows = input(self, "cache_position", KILN_DTYPE_INT64, KILN_SHAPE(KILN_DYNAMIC), NULL);
        self->whole_index = reshape(self, rows, column, 4);
        total = ints(self, all, 1);
    } else {
        static const int64_t none[] = {0};
        id past = ints(self, none, 1);
        if (how->form != MODEL_FIRST) {
            self->first_past =
                past_input(self, cross ? "decoder." : "", "key", "past", KILN_DYNAMIC);
            past = dimension(self, self->first_past, 2);
        }
        total = node(self, NULL, "Add", past, length);
        rows = range(self, past, total);
    }
    positions = positions != KILN_NO_TENSOR ? positions : rows;
    self->mask = make_mask(self, rows, total, padding);
    if (how->form == MODEL_MERGED) {
        const id flag = input(self, "use_cache_branch", KILN_DTYPE_BOOL, KILN_SHAPE(1), NULL);
        self->is_later = reshape(self, flag, NULL, 0);
    }
    if (how->form == MODEL_FIRST || how->form == MODEL_MERGED) {
        const char *const names[] = {"batch", "encoded", NULL};
        self->encoded = input(self, "encoder_hidden_states", KILN_DTYPE_FLOAT32,
                              KILN_SHAPE(KILN_DYNAMIC, KILN_DYNAMIC, WIDTH), names);
    }
    id x = embed(self, tokens, positions);
    for (self->layer = 0; self->layer < LAYERS; self->layer++) {
        x = layer(self, x);
    }
    x = normalize(self, x);
    if (how->last_only) {
        static const int64_t last[] = {-1};
        assert_ok(kiln_network_add_gather(self->network, NULL, x, ints(self, last, 1), 1, &x));
    }
    output(self, node(self, "logits", "MatMul", x, weight(self, WIDTH, VOCABULARY)));
    return self->network;
}

kiln_network *language_network(const language_options *options)
{
    maker self = {.options = options,
                  .next = all_weights(),
                  .mask = KILN_NO_TENSOR,
                  .first_past = KILN_NO_TENSOR};
    assert_ok(kiln_network_create(NULL, &self.network));
    return options->form == MODEL_ENCODER ? encoder(&self) : decoder(&self);
}
