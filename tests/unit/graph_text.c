/* SPDX-License-Identifier: Apache-2.0 */
/* The texts that graph_maker.h describes. */
#include "graph_maker.h"

#include "kiln_test.h"

static void add_external(graph_maker *m, const char *name, int32_t wire, const char *dims)
{
    kln_onnx_tensor *tensor = maker_tensor(m, name, wire, dims);
    if (tensor != NULL) {
        tensor->is_external = true;
        tensor->data.data = NULL;
    }
}

static void add_floats(graph_maker *m, const char *name, int32_t wire, const char *dims)
{
    kln_onnx_tensor *tensor = maker_tensor(m, name, wire, dims);
    if (tensor != NULL) {
        memcpy((void *)(uintptr_t)tensor->data.data, m->floats, tensor->data.size);
        m->floats += tensor->data.size / sizeof *m->floats;
    }
}

/* An output, a sequence of such tensors. */
static void add_sequence(graph_maker *m, const char *name, int32_t wire, const char *dims)
{
    maker_output(m, name, wire, dims);
    kln_onnx_type *element = maker_take(m, 1, sizeof *element);
    if (element != NULL) {
        kln_onnx_type *type = &m->graph->outputs[m->graph->output_count - 1].type;
        *element = *type;
        *type = (kln_onnx_type){.kind = KLN_ONNX_KIND_SEQUENCE, .element = element};
    }
}

enum { MOST_NUMBERS = 32 };

typedef struct number_list {
    size_t count;
    bool are_floats; /* one has a point */
    int64_t ints[MOST_NUMBERS];
    float floats[MOST_NUMBERS];
} number_list;

static number_list read_numbers(const char **at)
{
    number_list list = {.are_floats = memchr(*at, '.', strcspn(*at, "]}; ")) != NULL};
    for (char *end = NULL;; *at = end + 1) {
        assert_true(list.count < MOST_NUMBERS);
        list.ints[list.count] = strtoll(*at, NULL, 10);
        list.floats[list.count++] = strtof(*at, &end);
        if (*end != ',') {
            *at = end + (*end == ']' || *end == '}' ? 1 : 0);
            return list;
        }
    }
}

/* What stands before one of `ends`, which is left, or passed where there is only one. */
static const char *read_word(graph_maker *m, const char **at, const char *ends)
{
    const size_t length = strcspn(*at, ends);
    const char *word = maker_word(m, *at, length);
    *at += length + (ends[1] == '\0' ? 1 : 0);
    return word != NULL ? word : "";
}

static const char *read_statements(graph_maker *m, const char *at);

static void read_attribute(graph_maker *m, const char **at)
{
    const char *name = read_word(m, at, "=");
    const char kind = **at;
    *at += strchr("'[{", kind) != NULL ? 1 : 0;
    if (kind == '\'') {
        maker_attribute_string(m, name, read_word(m, at, "'"));
    } else if (kind == '{') {
        kln_onnx_graph *outer = NULL;
        maker_enter(m, name, &outer);
        *at = read_statements(m, *at) + 1;
        maker_leave(m, outer);
    } else {
        const number_list list = read_numbers(at);
        if (kind == '[') {
            maker_attribute_ints(m, name, list.count, list.ints);
        } else if (list.are_floats) {
            maker_attribute_float(m, name, list.floats[0]);
        } else {
            maker_attribute_int(m, name, list.ints[0]);
        }
    }
}

/* After "outputs=": weights or a node. */
static void read_right(graph_maker *m, const char *outputs, const char **at)
{
    if (**at == '{' || **at == '-' || (**at >= '0' && **at <= '9')) {
        const bool is_scalar = **at != '{';
        *at += is_scalar ? 0 : 1;
        const number_list list = read_numbers(at);
        if (is_scalar) {
            maker_int(m, outputs, list.ints[0]);
        } else if (list.are_floats) {
            maker_floats(m, outputs, list.count, list.floats);
        } else {
            maker_ints(m, outputs, list.count, list.ints);
        }
        return;
    }
    const char *op = read_word(m, at, "(");
    const bool is_microsoft = strncmp(op, "ms.", 3) == 0;
    maker_node(m, op + (is_microsoft ? 3 : 0), read_word(m, at, ")"), outputs);
    if (is_microsoft) {
        maker_domain(m, "com.microsoft");
    }
    while (**at == ' ') {
        (*at)++;
        read_attribute(m, at);
    }
}

/* Behind weights: "={1,2}", what they hold. */
static void read_contents(graph_maker *m, const char **at)
{
    *at += 2;
    const number_list list = read_numbers(at);
    if (m->status == KILN_OK) {
        const kln_onnx_tensor *made = &m->graph->initializers[m->graph->initializer_count - 1];
        kiln_tensor tensor = KILN_HOST_TENSOR(made->dtype, KILN_SHAPE((int64_t)list.count),
                                              (void *)(uintptr_t)made->data.data, made->data.size);
        double values[MOST_NUMBERS];
        for (size_t i = 0; i < list.count; i++) {
            values[i] = (double)list.floats[i];
        }
        assert_ok(kiln_tensor_write(&tensor, 0, list.count, values));
    }
}

static void read_statement(graph_maker *m, const char **at)
{
    static const struct {
        const char *word;
        void (*add)(graph_maker *m, const char *name, int32_t wire, const char *dims);
    } kinds[] = {{"in ", maker_input},        {"out ", maker_output},  {"value ", maker_value},
                 {"sequence ", add_sequence}, {"file ", add_external}, {"const ", maker_weights},
                 {"zeros ", maker_weights},   {"floats ", add_floats}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(kinds); i++) {
        if (strncmp(*at, kinds[i].word, strlen(kinds[i].word)) == 0) {
            *at += strlen(kinds[i].word);
            const char *name = read_word(m, at, " ;}");
            *at += **at == ' ' ? 1 : 0;
            const char *type = read_word(m, at, "[;}");
            *at += **at == '[' ? 1 : 0;
            const char *dims = (*at)[-1] == '[' ? read_word(m, at, "]") : NULL;
            kinds[i].add(m, name,
                         type[0] >= '0' && type[0] <= '9'
                             ? (int32_t)strtol(type, NULL, 10)
                             : kln_onnx_wire_dtype(kiln_dtype_from_name(type)),
                         dims);
            if (kinds[i].add == add_external && **at == ' ') {
                (*at)++;
                const char *location = read_word(m, at, ";}");
                m->graph->initializers[m->graph->initializer_count - 1].location = location;
            } else if (**at == '=') {
                read_contents(m, at);
            }
            return;
        }
    }
    const char *outputs = read_word(m, at, "=");
    read_right(m, outputs, at);
}

/* Up to the end of the text or of a subgraph. */
static const char *read_statements(graph_maker *m, const char *at)
{
    while (*at != '\0' && *at != '}') {
        read_statement(m, &at);
        at += strspn(at, "; ");
    }
    return at;
}

void maker_text(graph_maker *m, const char *text)
{
    if (*read_statements(m, text) != '\0') {
        fail_msg("a \"}\" too many: %s", text);
    }
}

void maker_model(graph_maker *m, int64_t opset, const char *text)
{
    maker_begin(m, opset);
    maker_text(m, text);
}
