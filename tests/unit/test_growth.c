/* SPDX-License-Identifier: Apache-2.0 */
/* What a model has four times as much of takes about four times the work; what grows with the
 * square takes sixteen times. Work is counted, so that a machine that is busy with other things
 * changes nothing: names that are compared, and what is moved, cleared and allocated in pieces of a
 * cache line. Time is printed. */
#include "graph/kln_graph.h"
#include "kiln_test.h"

#include "base/kln_base.h"
#include "graph_maker.h"

#define MOST_GROWTH 6.0

/* --- work: calls in this program and in the Kiln that is linked into it (CMakeLists.txt) --- */

#define LINE ((size_t)64)

static atomic_ullong work;

static void count_work(size_t bytes)
{
    atomic_fetch_add_explicit(&work, 1 + bytes / LINE, memory_order_relaxed);
}

#define COUNTED(result, name, parameters, arguments, bytes) \
    result __real_##name parameters;                        \
    result __wrap_##name parameters;                        \
    result __wrap_##name parameters                         \
    {                                                       \
        count_work(bytes);                                  \
        return __real_##name arguments;                     \
    }

COUNTED(int, strcmp, (const char *a, const char *b), (a, b), 0)
COUNTED(int, strncmp, (const char *a, const char *b, size_t most), (a, b, most), 0)
COUNTED(size_t, strlen, (const char *text), (text), 0)
COUNTED(int, memcmp, (const void *a, const void *b, size_t size), (a, b, size), size)
COUNTED(void *, memcpy, (void *to, const void *from, size_t size), (to, from, size), size)
COUNTED(void *, memmove, (void *to, const void *from, size_t size), (to, from, size), size)
COUNTED(void *, memset, (void *to, int byte, size_t size), (to, byte, size), size)
COUNTED(void *, malloc, (size_t size), (size), size)
COUNTED(void *, calloc, (size_t number, size_t size), (number, size), number *size)
COUNTED(void *, realloc, (void *old, size_t size), (old, size), size)

/* What a piece of work took. */
typedef struct cost {
    unsigned long long work;
    double seconds;
} cost;

static cost begin(void)
{
    return (cost){atomic_load(&work), kiln_test_seconds()};
}

static cost since(cost start)
{
    return (cost){atomic_load(&work) - start.work, kiln_test_seconds() - start.seconds};
}

static bool grows_evenly(const char *verb, const char *what, cost few, cost many)
{
    const bool even = (double)many.work < (double)few.work * MOST_GROWTH && few.work != 0;
    printf("%s %s: %llu (%.1f ms), four times as many %llu (%.1f ms)%s\n", verb, what, few.work,
           few.seconds * 1e3, many.work, many.seconds * 1e3,
           even ? "" : "  <-- grows worse than evenly");
    return even;
}

/* --- models that have many of something --- */

typedef void (*maker)(graph_maker *m, size_t count);

static char *named(graph_maker *m, const char *prefix, size_t index)
{
    char *name = kln_arena_printf(&m->model->arena, "%s%zu", prefix, index);
    assert_non_null(name);
    return name;
}

static void *room(graph_maker *m, size_t count, size_t size)
{
    void *memory = kln_arena_alloc_zeroed(&m->model->arena, count, size);
    assert_non_null(memory);
    return memory;
}

static void many_inputs(graph_maker *m, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        maker_input(m, named(m, "input_", i), 1, "2");
    }
    maker_text(m, "y=Identity(input_0); out y float32[2]");
}

static void many_outputs(graph_maker *m, size_t count)
{
    maker_input(m, "x", 1, "2");
    for (size_t i = 0; i < count; i++) {
        char *name = named(m, "output_", i);
        maker_node(m, "Identity", "x", name);
        maker_output(m, name, 1, "2");
    }
}

static void many_initializers(graph_maker *m, size_t count)
{
    maker_text(m, "in x float32[2]; zeros w_0 float32[2]");
    for (size_t i = 1; i < count; i++) {
        maker_weights(m, named(m, "w_", i), 1, "2");
    }
    maker_text(m, "y=Add(x,w_0); out y float32[2]");
}

static void many_nodes(graph_maker *m, size_t count)
{
    maker_input(m, "n_0", 1, "a,b");
    char *last = NULL;
    for (size_t i = 1; i <= count; i++) {
        char *from = named(m, "n_", i - 1);
        last = named(m, "n_", i);
        maker_node(m, "Relu", from, last);
        maker_value(m, last, 1, "a,b");
    }
    maker_output(m, last, 1, "a,b");
}

static void many_names_of_dimensions(graph_maker *m, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *name = named(m, "input_", i);
        maker_input(m, name, 1, named(m, "2,d", i));
        maker_node(m, "Concat", name, named(m, "joined_", i));
        maker_attribute_int(m, "axis", 0);
    }
    maker_output(m, "joined_0", 1, NULL);
}

static void many_metadata(graph_maker *m, size_t count)
{
    m->model->metadata = room(m, count, sizeof *m->model->metadata);
    m->model->metadata_count = count;
    for (size_t i = 0; i < count; i++) {
        m->model->metadata[i].key = named(m, "key_", i);
        m->model->metadata[i].value = "value";
    }
    many_inputs(m, 1);
}

/* Each function's body is one Identity; what differs is a name or a domain. */
static void add_functions(graph_maker *m, size_t count, bool by_domain)
{
    kln_onnx_function *functions = room(m, count, sizeof *functions);
    kln_onnx_opset *opsets = room(m, count + 1, sizeof *opsets);
    static const char *input = "a";
    static const char *output = "b";
    opsets[0] = m->model->opsets[0];
    for (size_t i = 0; i < count; i++) {
        kln_onnx_function *f = &functions[i];
        f->domain = by_domain ? named(m, "domain_", i) : "local";
        f->name = by_domain ? "Same" : named(m, "Function_", i);
        f->overload = "";
        f->inputs = &input;
        f->outputs = &output;
        f->input_count = f->output_count = 1;
        f->opsets = &opsets[0];
        f->opset_count = 1;
        f->body.name = "";
        kln_onnx_node *node = room(m, 1, sizeof *node);
        *node = (kln_onnx_node){.name = "", .op_type = "Identity", .domain = "", .overload = ""};
        node->inputs = &input;
        node->outputs = &output;
        node->input_count = node->output_count = 1;
        f->body.nodes = node;
        f->body.node_count = 1;
        opsets[i + 1] = (kln_onnx_opset){.domain = f->domain, .version = 1};
    }
    m->model->functions = functions;
    m->model->function_count = count;
    m->model->opsets = opsets;
    m->model->opset_count = by_domain ? count + 1 : 2;
}

static void call_functions(graph_maker *m, size_t count, bool by_domain)
{
    add_functions(m, count, by_domain);
    maker_input(m, "x", 1, "2");
    for (size_t i = 0; i < count; i++) {
        maker_node(m, m->model->functions[i].name, "x", named(m, "y_", i));
        m->node->domain = m->model->functions[i].domain;
    }
    maker_output(m, "y_0", 1, "2");
}

static void many_functions(graph_maker *m, size_t count)
{
    call_functions(m, count, false);
}

static void many_domains(graph_maker *m, size_t count)
{
    call_functions(m, count, true);
}

/* One function that imports many operator sets and has as many nodes, called once. */
static void many_imports_of_a_function(graph_maker *m, size_t count)
{
    add_functions(m, 1, false);
    kln_onnx_function *f = m->model->functions;
    kln_onnx_opset *opsets = room(m, count + 1, sizeof *opsets);
    kln_onnx_node *nodes = room(m, count, sizeof *nodes);
    for (size_t i = 0; i < count; i++) {
        opsets[i] = (kln_onnx_opset){.domain = named(m, "domain_", i), .version = 1};
        const char **output = room(m, 1, sizeof *output);
        *output = i == 0 ? "b" : named(m, "b_", i);
        nodes[i] = f->body.nodes[0];
        nodes[i].outputs = output;
    }
    opsets[count] = m->model->opsets[0];
    f->opsets = opsets;
    f->opset_count = count + 1;
    f->body.nodes = nodes;
    f->body.node_count = count;
    maker_input(m, "x", 1, "2");
    maker_node(m, f->name, "x", "y");
    m->node->domain = f->domain;
    maker_output(m, "y", 1, "2");
}

static void build(kiln_span bytes)
{
    kiln_build_options options = backend_options("reference");
    owned_engine engine = built_bytes(bytes, &options);
}

static void infer_and_validate(kiln_span bytes)
{
    owned_model model = NULL;
    owned_issue_list issues = NULL;
    assert_ok(kln_onnx_read_bytes(bytes, NULL, &model));
    assert_ok(kln_validate(model, NULL, &issues));
}

static cost cost_of(maker make, size_t number, void (*use)(kiln_span bytes))
{
    graph_maker m;
    maker_begin(&m, 21);
    make(&m, number);
    assert_ok(m.status);
    const kiln_span bytes = maker_span(m.model);
    maker_end(&m);
    const cost start = begin();
    use(bytes);
    return since(start);
}

TEST(models_grow_evenly)
{
    static const struct {
        const char *name;
        maker make;
        size_t count; /* so that a square is seen */
    } cases[] = {{"inputs", many_inputs, 4000},
                 {"outputs", many_outputs, 4000},
                 {"initializers", many_initializers, 4000},
                 {"nodes", many_nodes, 4000},
                 {"names of dimensions", many_names_of_dimensions, 4000},
                 {"metadata", many_metadata, 4000},
                 {"functions", many_functions, 4000},
                 {"domains", many_domains, 4000},
                 {"imports of a function", many_imports_of_a_function, 4000}};
    static void (*const uses[])(kiln_span bytes) = {infer_and_validate, build};
    static const char *const words[] = {"validating", "building"};
    bool even = true;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        for (size_t k = 0; k < KLN_ARRAY_LENGTH(uses); k++) {
            even &= grows_evenly(words[k], cases[i].name,
                                 cost_of(cases[i].make, cases[i].count, uses[k]),
                                 cost_of(cases[i].make, cases[i].count * 4, uses[k]));
        }
    }
    assert_true(even);
}

/* --- networks that are built layer by layer --- */

/* Each layer is inferred as it is added, after many as after few. */
static void add_layers(kiln_network *network, kiln_tensor_id x, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_ok(kiln_network_add_elementwise(network, NULL, KILN_ELEMENTWISE_ADD, x, x, &x));
    }
}

static void add_inputs_between(kiln_network *network, kiln_tensor_id x, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char name[32];
        kiln_tensor_id y = KILN_NO_TENSOR;
        (void)snprintf(name, sizeof name, "y%zu", i);
        assert_ok(
            kiln_network_add_input(network, name, KILN_DTYPE_FLOAT32, &KILN_SHAPE(2, 3), NULL, &y));
        assert_ok(kiln_network_add_elementwise(network, NULL, KILN_ELEMENTWISE_ADD, x, y, &x));
    }
}

static void mark_outputs_between(kiln_network *network, kiln_tensor_id x, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        kiln_dtype dtype = KILN_DTYPE_UNDEFINED;
        kiln_shape shape = KILN_SHAPE_SCALAR;
        assert_ok(kiln_network_add_unary(network, NULL, KILN_UNARY_ABS, x, &x));
        assert_ok(kiln_network_mark_output(network, x));
        assert_ok(kiln_network_tensor_type(network, x, &dtype, &shape));
    }
}

static void fail_between(kiln_network *network, kiln_tensor_id x, size_t count)
{
    kiln_tensor_id y = KILN_NO_TENSOR;
    for (size_t i = 0; i < count; i++) {
        assert_status(KILN_ERROR_INVALID_ARGUMENT,
                      kiln_network_add_softmax(network, "bad", x, 2, false, &y));
        assert_ok(kiln_network_add_unary(network, NULL, KILN_UNARY_ABS, x, &x));
    }
}

static void in_a_branch(kiln_network *network, kiln_tensor_id x, size_t count)
{
    kiln_network *branch = new_branch(network, NULL);
    assert_ok(kiln_network_capture(branch, x, &x));
    add_layers(branch, x, count);
}

/* A file whose nodes stand in the wrong order takes more layers. */
static void after_a_file(kiln_network *network, kiln_tensor_id x, size_t count)
{
    graph_maker m;
    maker_model(&m, 21, "in x float32[2,3]; z=Abs(y); y=Abs(x); out z float32[2,3]");
    const kiln_span bytes = maker_span(m.model);
    maker_end(&m);
    owned_network read = network_in(bytes, NULL);
    assert_ok(kiln_network_find(read, "z", &x));
    add_layers(read, x, count);
}

static cost cost_of_layers(void (*add)(kiln_network *, kiln_tensor_id, size_t), size_t number)
{
    kiln_tensor_id x = KILN_NO_TENSOR;
    const cost start = begin();
    owned_network network = new_network();
    assert_ok(
        kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32, &KILN_SHAPE(2, 3), NULL, &x));
    add(network, x, number);
    return since(start);
}

TEST(networks_grow_evenly)
{
    static const struct {
        const char *name;
        void (*add)(kiln_network *network, kiln_tensor_id x, size_t count);
    } cases[] = {{"layers", add_layers},
                 {"layers and inputs", add_inputs_between},
                 {"layers and outputs", mark_outputs_between},
                 {"layers and failures", fail_between},
                 {"layers of a branch", in_a_branch},
                 {"layers after a file", after_a_file}};
    bool even = true;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        even &= grows_evenly("adding", cases[i].name, cost_of_layers(cases[i].add, 4000),
                             cost_of_layers(cases[i].add, 16000));
    }
    assert_true(even);
}

/* --- calls that name many tensors --- */

static cost run_tensors(kiln_engine *engine, const kiln_named_tensor *inputs, size_t number)
{
    owned_context context = context_on(engine);
    const cost start = begin();
    assert_ok(kiln_context_run_tensors(context, inputs, number, NULL, 0));
    return since(start);
}

static cost push_tensors(kiln_engine *engine, const kiln_named_tensor *inputs, size_t number)
{
    owned_pipeline pipeline = pipeline_on(engine, NULL);
    const cost start = begin();
    assert_ok(kiln_pipeline_push(pipeline, inputs, number));
    return since(start);
}

typedef cost (*call)(kiln_engine *engine, const kiln_named_tensor *inputs, size_t number);

static cost cost_of_call(call use, size_t number)
{
    kiln_binding *bindings = calloc(number, sizeof *bindings);
    kiln_named_tensor *inputs = calloc(number, sizeof *inputs);
    char(*names)[32] = calloc(number, sizeof *names);
    assert_true(bindings != NULL && inputs != NULL && names != NULL);
    float one = 1;
    const kiln_shape scalar = KILN_SHAPE_SCALAR;
    for (size_t i = 0; i < number; i++) {
        (void)snprintf(names[i], sizeof names[i], "input_%zu", i);
        bindings[i] = (kiln_binding){.struct_size = sizeof bindings[i],
                                     .name = names[i],
                                     .is_input = true,
                                     .dtype = KILN_DTYPE_FLOAT32};
        inputs[number - 1 - i] = (kiln_named_tensor){
            names[i], KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, scalar, &one, sizeof one)};
    }
    kiln_mock_options options =
        KILN_MOCK_OPTIONS(.inputs = bindings, .input_count = number, .handler = kiln_test_idle);
    kiln_engine *engine = new_mock(&options);
    const cost taken = use(engine, inputs, number);
    kiln_engine_release(engine);
    free(names);
    free(inputs);
    free(bindings);
    return taken;
}

TEST(calls_grow_evenly)
{
    static const call calls[] = {run_tensors, push_tensors};
    static const char *const words[] = {"a run", "a push"};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(calls); i++) {
        assert_true(grows_evenly(words[i], "of 2,000 tensors", cost_of_call(calls[i], 2000),
                                 cost_of_call(calls[i], 8000)));
    }
}
