/* SPDX-License-Identifier: Apache-2.0 */
#include "reference_test.h"

/* --- running --- */

TEST(test_runs_and_then_allocates_nothing)
{
    owned_context context = context_of(looped());
    float x[3] = {1.0F, -2.0F, 0.5F};
    int64_t times = 4;
    bind_floats(context, "x", 3, x);
    bind_tensor(context, "times", KILN_HOST_TENSOR(KILN_DTYPE_INT64, KILN_SHAPE_SCALAR, &times, 8));
    assert_ok(kiln_context_run(context));
    expect_floats(context, "total", 3, (float[]){4.0F, -8.0F, 2.0F});
    kiln_allocation_counters before;
    kiln_allocation_counters after;
    kiln_get_allocation_counters(&before);
    for (int i = 0; i < 5; i++) {
        x[0] = (float)i;
        assert_ok(kiln_context_run(context));
    }
    kiln_get_allocation_counters(&after);
    assert_int_equal(before.allocations, after.allocations);
    assert_int_equal(before.releases, after.releases);
    expect_floats(context, "total", 3, (float[]){16.0F, -8.0F, 2.0F});
    const kiln_tensor steps = tensor_in(context, "steps");
    assert_true(kiln_shape_equal(&steps.desc.shape, &KILN_SHAPE(4, 3)));
    assert_float_equal(((const float *)steps.data)[3], 8.0F, 0.0F);
}

TEST(test_shapes_change_between_runs)
{
    owned_context context = context_of(chain());
    float x[1000];
    for (int i = 0; i < 1000; i++) {
        x[i] = (float)i;
    }
    for (int64_t n = 1; n <= 1000; n *= 10) {
        bind_floats(context, "x", n, x);
        assert_ok(kiln_context_run(context));
        const kiln_tensor y = tensor_in(context, "y");
        assert_int_equal(y.desc.shape.dims[0], n);
        assert_float_equal(((const float *)y.data)[n - 1], (float)n, 0.0F);
    }
}

TEST(test_branches)
{
    owned_context context = context_of(branched());
    float x[2] = {-3.0F, 1.0F};
    bind_floats(context, "x", 2, x);
    assert_ok(kiln_context_run(context));
    expect_floats(context, "y", 2, (float[]){3.0F, 1.0F});
    x[1] = 4.0F;
    assert_ok(kiln_context_run(context));
    expect_floats(context, "y", 2, (float[]){9.0F, 16.0F});
}

TEST(test_output_is_written_where_it_is_bound)
{
    owned_context context = context_of(chain());
    float x[2] = {5.0F, 6.0F};
    float y[3] = {0.0F, 0.0F, -1.0F};
    bind_floats(context, "x", 2, x);
    bind_floats(context, "y", 2, y);
    assert_ok(kiln_context_run(context));
    assert_float_equal(y[0], 6.0F, 0.0F);
    assert_float_equal(y[1], 7.0F, 0.0F);
    assert_float_equal(y[2], -1.0F, 0.0F);
    /* A state that is input and output at once. */
    bind_floats(context, "y", 2, x);
    assert_ok(kiln_context_run(context));
    assert_float_equal(x[0], 6.0F, 0.0F);
    bind_floats(context, "y", 3, y);
    assert_fails(KILN_ERROR_SHAPE, kiln_context_run(context), "output 0 came out as float32 2");
}

/* Packed types: the identity of an odd number of elements. */
TEST(test_four_bits)
{
    graph_maker m;
    maker_model(&m, 21, "in x int4[5]; y=Identity(x); out y int4[5]");
    owned_context context = context_of(bytes_of(&m));
    uint8_t x[3] = {0x21, 0xF8, 0x07};
    bind_tensor(context, "x", KILN_HOST_TENSOR(KILN_DTYPE_INT4, KILN_SHAPE(5), x, sizeof x));
    assert_ok(kiln_context_run(context));
    const kiln_tensor y = tensor_in(context, "y");
    assert_int_equal(y.bytes, 3);
    assert_memory_equal(y.data, x, 3);
}

/* --- functions --- */

/* Adds a function twice(v) = v * factor + v, whose factor is an attribute of the call. */
static void add_function(graph_maker *m)
{
    static const char *input = "v", *output = "w", *attribute = "factor";
    static kln_onnx_function function;
    function = (kln_onnx_function){.name = "Twice",
                                   .domain = "custom",
                                   .inputs = &input,
                                   .input_count = 1,
                                   .outputs = &output,
                                   .output_count = 1,
                                   .attribute_names = &attribute,
                                   .attribute_name_count = 1,
                                   .opsets = m->model->opsets,
                                   .opset_count = 1,
                                   .body = {.name = ""}};
    m->graph = &function.body;
    maker_text(m, "f=Constant() value_float=0.0; p=Mul(v,f); w=Add(p,v)");
    function.body.nodes[0].attributes[0].reference = attribute;
    m->graph = &m->model->graph;
    m->model->functions = &function;
    m->model->function_count = 1;
}

TEST(test_functions)
{
    graph_maker m;
    maker_model(&m, 21, "in x float32[n]; a=Twice(x) factor=2.0");
    m.node->domain = "custom";
    maker_text(&m, "y=Twice(a) factor=0.5");
    m.node->domain = "custom";
    maker_output(&m, "y", FLOAT, "n");
    add_function(&m);
    owned_context context = context_of(bytes_of(&m));
    float x[2] = {1.0F, 2.0F};
    bind_floats(context, "x", 2, x);
    assert_ok(kiln_context_run(context));
    expect_floats(context, "y", 2, (float[]){4.5F, 9.0F});
}

/* --- memory --- */

/* A long chain of large tensors takes what two or three of them take: a buffer is used again when
 * nothing reads it any more. */
TEST(test_buffers_are_used_again)
{
    enum { LENGTH = 20, COUNT = 1 << 18 };
    graph_maker m;
    char names[2][16] = {"x", ""};
    maker_model(&m, 21, "in x float32[n]");
    for (int i = 1; i <= LENGTH; i++) {
        (void)snprintf(names[i % 2], sizeof names[0], "%s%d", i == LENGTH ? "y" : "t", i);
        maker_node(&m, i % 2 != 0 ? "Neg" : "Abs", names[(i + 1) % 2], names[i % 2]);
    }
    maker_output(&m, "y20", FLOAT, "n");
    owned_context context = context_of(bytes_of(&m));
    float *x = calloc(COUNT, sizeof *x);
    assert_non_null(x);
    x[7] = -2.5F;
    bind_floats(context, "x", COUNT, x);
    kiln_allocation_counters before;
    kiln_allocation_counters after;
    kiln_get_allocation_counters(&before);
    assert_ok(kiln_context_run(context));
    kiln_get_allocation_counters(&after);
    /* What a context took it keeps, so this is the most that was in use. */
    const size_t peak = after.bytes_in_use - before.bytes_in_use;
    const size_t sum = (size_t)LENGTH * COUNT * sizeof *x;
    print_message("%zu bytes for tensors of %zu\n", peak, sum);
    assert_true(peak > COUNT * sizeof *x && peak < sum / 6);
    const kiln_tensor y = tensor_in(context, "y20");
    assert_float_equal(((const float *)y.data)[7], 2.5F, 0.0F);
    free(x);
}

/* --- data types --- */

/* y = x as another type, z = y as float32. */
static kiln_span cast_to(int32_t wire)
{
    graph_maker m;
    maker_model(&m, 24, "in x float32[n]; y=Cast(x)");
    maker_attribute_int(&m, "to", wire);
    maker_node(&m, "Cast", "y", "z");
    maker_attribute_int(&m, "to", FLOAT);
    maker_output(&m, "y", wire, "n");
    maker_output(&m, "z", FLOAT, "n");
    return bytes_of(&m);
}

/* z = a copy of y, as float32. */
static kiln_span cast_from(int32_t wire)
{
    graph_maker m;
    maker_begin(&m, 24);
    maker_input(&m, "y", wire, "n");
    maker_text(&m, "copy=Reshape(y,shape); shape={-1}; z=Cast(copy)");
    maker_attribute_int(&m, "to", FLOAT);
    maker_output(&m, "z", FLOAT, "n");
    return bytes_of(&m);
}

/* Out in every type, and in again. */
TEST(test_every_data_type)
{
    float numbers[7] = {0.0F, 1.0F, 2.0F, 3.0F, 4.0F, 6.0F, 1.0F};
    const float truths[7] = {0.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F};
    int types = 0;
    for (int dtype = KILN_DTYPE_FLOAT32; dtype < KILN_DTYPE_STRING; dtype++) {
        const int32_t wire = kln_onnx_wire_dtype((kiln_dtype)dtype);
        const float *expected = dtype == KILN_DTYPE_BOOL ? truths : numbers;
        if (ref_domain_of((kiln_dtype)dtype) == REF_DOMAIN_NONE) {
            continue;
        }
        unsigned char copy[64];
        owned_context context = context_of(cast_to(wire));
        bind_floats(context, "x", 7, numbers);
        assert_ok(kiln_context_run(context));
        expect_floats(context, "z", 7, expected);
        kiln_tensor y = tensor_in(context, "y");
        assert_int_equal(y.desc.dtype, dtype);
        assert_int_equal(y.bytes, (7 * kiln_dtype_bits((kiln_dtype)dtype) + 7) / 8);
        memcpy(copy, y.data, y.bytes);
        y.data = copy;
        owned_context back = context_of(cast_from(wire));
        assert_ok(kiln_context_bind(back, "y", &y));
        assert_ok(kiln_context_run(back));
        expect_floats(back, "z", 7, expected);
        types++;
    }
    assert_int_equal(types, 18);
}

/* --- describing and saving --- */

TEST(test_description)
{
    owned_engine engine = NULL;
    assert_ok(build(chain(), &engine));
    assert_int_equal(kiln_engine_input_count(engine), 1);
    assert_int_equal(kiln_engine_output_count(engine), 1);
    const kiln_binding binding = input_at(engine, 0);
    assert_string_equal(binding.name, "x");
    assert_int_equal(binding.dtype, KILN_DTYPE_FLOAT32);
    assert_int_equal(binding.shape.rank, 1);
    assert_int_equal(binding.shape.dims[0], KILN_DYNAMIC);
    assert_string_equal(binding.dim_names[0], "n");
    bool found = false;
    for (size_t i = 0; i < kiln_engine_metadata_count(engine); i++) {
        const kiln_metadata line = metadata_line(engine, i);
        found = found || (strcmp(line.key, "opset") == 0 && strcmp(line.value, "21") == 0);
    }
    assert_true(found);
    const char *path = kiln_test_path("chain.onnx");
    assert_ok(kiln_engine_save(engine, path));
    kiln_engine_release(engine);
    kiln_build_options options = backend_options("reference");
    assert_ok(kiln_engine_build_file(path, &options, &engine));
}

/* --- allocation --- */

static kiln_status build_and_run(void *user)
{
    const kiln_span *bytes = user;
    owned_engine engine = NULL;
    owned_context context = NULL;
    float x[3] = {1.0F, 2.0F, 3.0F};
    int64_t times = 3;
    const kiln_tensor values = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(3), x, sizeof x);
    const kiln_tensor count = KILN_HOST_TENSOR(KILN_DTYPE_INT64, KILN_SHAPE_SCALAR, &times, 8);
    TRY(build(*bytes, &engine));
    TRY(kiln_context_create(engine, NULL, &context));
    TRY(kiln_context_bind(context, "x", &values));
    if (kiln_engine_input_count(engine) > 1) {
        TRY(kiln_context_bind(context, "times", &count));
    }
    return kiln_context_run(context);
}

TEST(test_each_allocation_can_fail)
{
    kiln_span (*const models[])(void) = {chain, looped, branched};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        kiln_span bytes = models[i]();
        kiln_test_each_allocation(build_and_run, &bytes);
    }
}
