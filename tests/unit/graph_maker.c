/* SPDX-License-Identifier: Apache-2.0 */
#include "graph_maker.h"

#include "kiln_test.h"

void *maker_take(graph_maker *m, size_t count, size_t size)
{
    if (m->status != KILN_OK) {
        return NULL;
    }
    void *memory = kln_arena_alloc_zeroed(&m->model->arena, count, size);
    if (memory == NULL) {
        m->status = kln_fail_memory(count * size, "a test's model");
    }
    return memory;
}

const char *maker_word(graph_maker *m, const char *text, size_t size)
{
    char *copy = maker_take(m, size + 1, 1);
    if (copy != NULL) {
        memcpy(copy, text, size);
    }
    return copy;
}

/* One more at the end of an array of the graph. */
static void *grow(graph_maker *m, void *array, size_t *count, size_t *capacity, size_t size)
{
    if (*count == *capacity) {
        const size_t wider = *capacity == 0 ? 4 : *capacity * 2;
        void *fresh = maker_take(m, wider, size);
        if (fresh == NULL) {
            return NULL;
        }
        if (*count > 0) {
            memcpy(fresh, array, *count * size);
        }
        *capacity = wider;
        array = fresh;
    }
    memset((char *)array + *count * size, 0, size);
    (*count)++;
    return array;
}

void maker_begin(graph_maker *m, int64_t opset)
{
    *m = (graph_maker){.status = KILN_OK};
    m->status = kln_onnx_model_create(&m->model);
    if (m->status != KILN_OK) {
        return;
    }
    m->graph = &m->model->graph;
    m->graph->name = "test";
    m->model->ir_version = 10;
    kln_onnx_opset *import = maker_take(m, 1, sizeof *import);
    if (import != NULL) {
        *import = (kln_onnx_opset){.domain = "", .version = opset};
        m->model->opsets = import;
        m->model->opset_count = 1;
    }
}

kln_text maker_bytes(const kln_onnx_model *model)
{
    kln_text bytes;
    kln_text_init(&bytes, (size_t)INT32_MAX);
    assert_ok(kln_onnx_write_bytes(model, KLN_ONNX_WEIGHTS_INLINE, &bytes));
    return bytes;
}

#define KEPT_SPANS 64

kiln_span maker_span(const kln_onnx_model *model)
{
    static unsigned char *kept[KEPT_SPANS];
    static size_t next;
    owned_text text = maker_bytes(model);
    unsigned char **place = &kept[next++ % KEPT_SPANS];
    free(*place);
    *place = malloc(text.size);
    assert_non_null(*place);
    memcpy(*place, text.data, text.size);
    return (kiln_span){*place, text.size};
}

kiln_span made_model(int64_t opset, const char *format, ...)
{
    static kln_onnx_entry greeting = {.key = "greeting", .value = "hello"};
    char text[16384];
    owned_maker m;
    va_list list;
    va_start(list, format);
    assert_true(vsnprintf(text, sizeof text, format, list) < (int)sizeof text);
    va_end(list);
    kiln_test_pause_failures(true);
    maker_model(&m, opset, text);
    m.model->ir_version = 8;
    m.model->producer_name = "a test";
    m.model->domain = "example";
    m.model->model_version = 42;
    m.model->doc = "what it is";
    m.model->graph.name = "the graph";
    m.model->metadata = &greeting;
    m.model->metadata_count = 1;
    assert_ok(m.status);
    const kiln_span span = maker_span(m.model);
    kiln_test_pause_failures(false);
    return span;
}

kiln_network *maker_network(graph_maker *m)
{
    assert_ok(m->status);
    const size_t count = m->model->graph.output_count;
    m->model->graph.output_count = 0;
    kiln_network *network = network_in(maker_span(m->model), NULL);
    for (size_t i = 0; i < count; i++) {
        kiln_tensor_id id = KILN_NO_TENSOR;
        assert_ok(kiln_network_find(network, m->model->graph.outputs[i].name, &id));
        assert_ok(kiln_network_mark_output(network, id));
    }
    return network;
}

kiln_network *made_network(const float *floats, const char *format, ...)
{
    char text[4096];
    owned_maker m;
    va_list list;
    va_start(list, format);
    assert_true(vsnprintf(text, sizeof text, format, list) < (int)sizeof text);
    va_end(list);
    maker_begin(&m, KILN_OPSET_DEFAULT);
    m.floats = floats;
    maker_text(&m, text);
    return maker_network(&m);
}

kiln_span unary_model(const char *op, const char *dims)
{
    return made_model(17, "in x float32[%s]; y=%s(x); out y float32[%s]", dims, op, dims);
}

void maker_end(graph_maker *m)
{
    kln_onnx_model_destroy(m->model);
    *m = (graph_maker){.status = KILN_OK};
}

static size_t count_parts(const char *list)
{
    size_t count = list[0] != '\0' ? 1 : 0;
    for (const char *c = list; *c != '\0'; c++) {
        count += *c == ',' ? 1 : 0;
    }
    return count;
}

static void set_type(graph_maker *m, kln_onnx_type *type, int32_t wire, const char *dims)
{
    if (wire == 0) {
        return;
    }
    type->kind = KLN_ONNX_KIND_TENSOR;
    type->wire_dtype = wire;
    type->dtype = kln_onnx_dtype(wire);
    if (dims == NULL) {
        return;
    }
    type->has_shape = true;
    type->rank = count_parts(dims);
    type->dims = maker_take(m, type->rank, sizeof *type->dims);
    for (size_t i = 0; type->dims != NULL && i < type->rank; i++) {
        const size_t length = strcspn(dims, ",");
        kln_onnx_dim *dim = &type->dims[i];
        dim->value = KILN_DYNAMIC;
        if (dims[0] >= '0' && dims[0] <= '9') {
            dim->value = strtoll(dims, NULL, 10);
        } else if (dims[0] != '?') {
            dim->parameter = maker_word(m, dims, length);
        }
        dims += length + (dims[length] == ',' ? 1 : 0);
    }
}

static void set_value(graph_maker *m, kln_onnx_value *values, size_t count, const char *name,
                      int32_t wire, const char *dims)
{
    if (values != NULL) {
        values[count - 1].name = name;
        set_type(m, &values[count - 1].type, wire, dims);
    }
}

void maker_input(graph_maker *m, const char *name, int32_t wire, const char *dims)
{
    kln_onnx_graph *g = m->graph;
    if (m->status == KILN_OK) {
        void *fresh = grow(m, g->inputs, &g->input_count, &g->input_capacity, sizeof *g->inputs);
        g->inputs = fresh != NULL ? fresh : g->inputs;
        set_value(m, fresh, g->input_count, name, wire, dims);
    }
}

void maker_output(graph_maker *m, const char *name, int32_t wire, const char *dims)
{
    kln_onnx_graph *g = m->graph;
    if (m->status == KILN_OK) {
        void *fresh =
            grow(m, g->outputs, &g->output_count, &g->output_capacity, sizeof *g->outputs);
        g->outputs = fresh != NULL ? fresh : g->outputs;
        set_value(m, fresh, g->output_count, name, wire, dims);
    }
}

void maker_value(graph_maker *m, const char *name, int32_t wire, const char *dims)
{
    kln_onnx_graph *g = m->graph;
    if (m->status == KILN_OK) {
        void *fresh = grow(m, g->values, &g->value_count, &g->value_capacity, sizeof *g->values);
        g->values = fresh != NULL ? fresh : g->values;
        set_value(m, fresh, g->value_count, name, wire, dims);
    }
}

kln_onnx_tensor *maker_tensor(graph_maker *m, const char *name, int32_t wire, const char *dims)
{
    kln_onnx_graph *g = m->graph;
    if (m->status != KILN_OK) {
        return NULL;
    }
    kln_onnx_tensor *fresh = grow(m, g->initializers, &g->initializer_count,
                                  &g->initializer_capacity, sizeof *g->initializers);
    if (fresh == NULL) {
        return NULL;
    }
    g->initializers = fresh;
    kln_onnx_tensor *tensor = &fresh[g->initializer_count - 1];
    tensor->name = name;
    tensor->wire_dtype = wire;
    tensor->dtype = kln_onnx_dtype(wire);
    tensor->rank = count_parts(dims);
    tensor->dims = maker_take(m, tensor->rank, sizeof *tensor->dims);
    int64_t elements = 1;
    for (size_t i = 0; tensor->dims != NULL && i < tensor->rank; i++) {
        tensor->dims[i] = strtoll(dims, NULL, 10);
        elements *= tensor->dims[i];
        dims += strcspn(dims, ",");
        dims += dims[0] == ',' ? 1 : 0;
    }
    const size_t bytes = ((size_t)elements * kiln_dtype_bits(kln_onnx_dtype(wire)) + 7) / 8;
    tensor->data = (kiln_span){maker_take(m, bytes, 1), bytes};
    return m->status == KILN_OK ? tensor : NULL;
}

void maker_weights(graph_maker *m, const char *name, int32_t wire, const char *dims)
{
    (void)maker_tensor(m, name, wire, dims);
}

static void set_elements(graph_maker *m, const char *name, int32_t wire, size_t count,
                         const void *elements, size_t size)
{
    kln_onnx_tensor *tensor = maker_tensor(m, name, wire, "0");
    void *copy = tensor != NULL ? maker_take(m, count, size) : NULL;
    if (copy != NULL) {
        memcpy(copy, elements, count * size);
        tensor->dims[0] = (int64_t)count;
        tensor->data = (kiln_span){copy, count * size};
    }
}

void maker_ints(graph_maker *m, const char *name, size_t count, const int64_t *elements)
{
    set_elements(m, name, 7, count, elements, sizeof *elements);
}

void maker_floats(graph_maker *m, const char *name, size_t count, const float *elements)
{
    set_elements(m, name, 1, count, elements, sizeof *elements);
}

void maker_int(graph_maker *m, const char *name, int64_t element)
{
    maker_ints(m, name, 1, &element);
    if (m->status == KILN_OK) {
        m->graph->initializers[m->graph->initializer_count - 1].rank = 0;
    }
}

static const char **names_of(graph_maker *m, const char *list, size_t *count)
{
    *count = count_parts(list);
    const char **names = maker_take(m, *count, sizeof(char *));
    for (size_t i = 0; names != NULL && i < *count; i++) {
        const size_t length = strcspn(list, ",");
        names[i] = maker_word(m, list, length);
        list += length + (list[length] == ',' ? 1 : 0);
    }
    return names;
}

void maker_node(graph_maker *m, const char *op, const char *inputs, const char *outputs)
{
    kln_onnx_graph *g = m->graph;
    if (m->status != KILN_OK) {
        return;
    }
    kln_onnx_node *fresh = grow(m, g->nodes, &g->node_count, &g->node_capacity, sizeof *g->nodes);
    if (fresh == NULL) {
        return;
    }
    g->nodes = fresh;
    m->node = &fresh[g->node_count - 1];
    *m->node = (kln_onnx_node){.name = "", .op_type = op, .domain = "", .overload = ""};
    m->node->inputs = names_of(m, inputs, &m->node->input_count);
    m->node->outputs = names_of(m, outputs, &m->node->output_count);
    if (m->status == KILN_OK && m->node->output_count > 0) {
        m->node->name = m->node->outputs[0];
    } else if (m->status != KILN_OK) {
        m->node->input_count = 0;
        m->node->output_count = 0;
    }
}

void maker_domain(graph_maker *m, const char *domain)
{
    kln_onnx_opset *imports = m->status == KILN_OK ? maker_take(m, 2, sizeof *imports) : NULL;
    if (imports != NULL) {
        imports[0] = m->model->opsets[0];
        imports[1] = (kln_onnx_opset){.domain = domain, .version = 1};
        m->model->opsets = imports;
        m->model->opset_count = 2;
        m->node->domain = domain;
    }
}

static kln_onnx_attribute *add_attribute(graph_maker *m, const char *name,
                                         kln_onnx_attribute_type type)
{
    if (m->status != KILN_OK) {
        return NULL;
    }
    kln_onnx_node *node = m->node;
    kln_onnx_attribute *fresh = maker_take(m, node->attribute_count + 1, sizeof *fresh);
    if (fresh == NULL) {
        return NULL;
    }
    if (node->attribute_count > 0) {
        memcpy(fresh, node->attributes, node->attribute_count * sizeof *fresh);
    }
    node->attributes = fresh;
    fresh[node->attribute_count].name = name;
    fresh[node->attribute_count].type = type;
    return &fresh[node->attribute_count++];
}

void maker_attribute_int(graph_maker *m, const char *name, int64_t value)
{
    kln_onnx_attribute *attribute = add_attribute(m, name, KLN_ONNX_ATTRIBUTE_INT);
    if (attribute != NULL) {
        attribute->i = value;
    }
}

void maker_attribute_float(graph_maker *m, const char *name, float value)
{
    kln_onnx_attribute *attribute = add_attribute(m, name, KLN_ONNX_ATTRIBUTE_FLOAT);
    if (attribute != NULL) {
        attribute->f = value;
    }
}

void maker_attribute_ints(graph_maker *m, const char *name, size_t count, const int64_t *values)
{
    kln_onnx_attribute *attribute = add_attribute(m, name, KLN_ONNX_ATTRIBUTE_INTS);
    int64_t *copy = attribute != NULL ? maker_take(m, count, sizeof *copy) : NULL;
    if (copy != NULL) {
        memcpy(copy, values, count * sizeof *copy);
        attribute->ints = copy;
        attribute->count = count;
    }
}

void maker_attribute_string(graph_maker *m, const char *name, const char *value)
{
    kln_onnx_attribute *attribute = add_attribute(m, name, KLN_ONNX_ATTRIBUTE_STRING);
    if (attribute != NULL) {
        attribute->s = (kiln_span){value, strlen(value)};
    }
}

void operators_of(const kln_onnx_graph *graph, char text[1024])
{
    text[0] = '\0';
    for (size_t i = 0, used = 0; i < graph->node_count; i++) {
        used += (size_t)snprintf(text + used, 1024 - used, "%s%s", i == 0 ? "" : " ",
                                 graph->nodes[i].op_type);
    }
}

void maker_enter(graph_maker *m, const char *name, kln_onnx_graph **outer)
{
    kln_onnx_attribute *attribute = add_attribute(m, name, KLN_ONNX_ATTRIBUTE_GRAPH);
    kln_onnx_graph *inner = attribute != NULL ? maker_take(m, 1, sizeof *inner) : NULL;
    *outer = m->graph;
    if (inner != NULL) {
        inner->name = "inner";
        attribute->graph = inner;
        m->graph = inner;
    }
}

void maker_leave(graph_maker *m, kln_onnx_graph *outer)
{
    m->graph = outer;
    m->node = outer != NULL && outer->node_count > 0 ? &outer->nodes[outer->node_count - 1] : NULL;
}
