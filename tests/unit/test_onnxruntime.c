/* SPDX-License-Identifier: Apache-2.0 */
#include "base/kln_base.h"
#include "ort_test.h"

/* --- what an engine says of itself --- */

TEST(an_engine_is_described)
{
    owned_engine engine =
        build(made_model(17,
                         "in x float32[batch,?,3]; y=Neg(x); parts=SplitToSequence(x); "
                         "out y float32[batch,?,3]; sequence parts float32"));
    assert_int_equal(kiln_engine_input_count(engine), 1);
    assert_int_equal(kiln_engine_output_count(engine), 2);
    kiln_binding binding = input_at(engine, 0);
    assert_string_equal(binding.name, "x");
    assert_int_equal(binding.dtype, KILN_DTYPE_FLOAT32);
    const kiln_shape expected = {3, {KILN_DYNAMIC, KILN_DYNAMIC, 3}};
    assert_true(kiln_shape_equal(&binding.shape, &expected));
    assert_string_equal(binding.dim_names[0], "batch");
    assert_null(binding.dim_names[1]);
    assert_null(binding.dim_names[2]);
    assert_ok(kiln_engine_output(engine, 1, &binding));
    assert_string_equal(binding.name, "parts");
    assert_int_equal(binding.dtype, KILN_DTYPE_UNDEFINED);
    assert_int_equal(binding.shape.rank, -1);

    static const char *const lines[][2] = {{"producer", "a test"}, {"graph", "the graph"},
                                           {"domain", "example"},  {"description", "what it is"},
                                           {"version", "42"},      {"metadata.greeting", "hello"}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(lines); i++) {
        bool found = false;
        for (size_t line = 0; line < kiln_engine_metadata_count(engine); line++) {
            const kiln_metadata metadata = metadata_line(engine, line);
            found = found || (strcmp(metadata.key, lines[i][0]) == 0 &&
                              strcmp(metadata.value, lines[i][1]) == 0);
        }
        if (!found) {
            fail_msg("no metadata %s = %s", lines[i][0], lines[i][1]);
        }
    }
}

TEST(an_open_rank_differs_from_a_scalar)
{
    kiln_engine *engine = build(made_model(17, "in x float32; y=Neg(x); out y float32"));
    kiln_binding binding = input_at(engine, 0);
    assert_int_equal(binding.shape.rank, -1);
    kiln_engine_release(engine);
    engine = build(unary_model("Neg", ""));
    assert_ok(kiln_engine_input(engine, 0, &binding));
    assert_int_equal(binding.shape.rank, 0);
    kiln_engine_release(engine);

    owned_context context = open_context(unary_model("Neg", ""));
    float x = 2;
    bind(context, "x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE_SCALAR, &x, sizeof x));
    assert_ok(kiln_context_run(context));
    const kiln_tensor y = tensor_in(context, "y");
    assert_int_equal(y.desc.shape.rank, 0);
    assert_true(*(float *)y.data < -1.9F && *(float *)y.data > -2.1F);
}

/* --- data types --- */

/* `type` is TensorProto.DataType. */
static kiln_span identity(int type)
{
    return made_model(17, "in x %d[n]; y=Identity(x); out y %d[n]", type, type);
}

/* TensorProto.DataType for what Identity takes in opset 17, and what it moves untouched. */
TEST(every_data_type_is_bound_where_it_lies)
{
    static const struct {
        int type;
        kiln_dtype dtype;
    } types[] = {{1, KILN_DTYPE_FLOAT32},  {2, KILN_DTYPE_UINT8},   {3, KILN_DTYPE_INT8},
                 {4, KILN_DTYPE_UINT16},   {5, KILN_DTYPE_INT16},   {6, KILN_DTYPE_INT32},
                 {7, KILN_DTYPE_INT64},    {9, KILN_DTYPE_BOOL},    {10, KILN_DTYPE_FLOAT16},
                 {11, KILN_DTYPE_FLOAT64}, {12, KILN_DTYPE_UINT32}, {13, KILN_DTYPE_UINT64},
                 {16, KILN_DTYPE_BFLOAT16}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(types); i++) {
        owned_context context = open_context(identity(types[i].type));
        _Alignas(16) unsigned char x[5 * 8];
        _Alignas(16) unsigned char y[5 * 8];
        for (size_t byte = 0; byte < sizeof x; byte++) {
            x[byte] = types[i].dtype == KILN_DTYPE_BOOL ? byte % 2 : (unsigned char)(byte * 7 + 1);
        }
        memset(y, 0, sizeof y);
        const size_t bytes = 5 * kiln_dtype_bits(types[i].dtype) / 8;
        bind(context, "x", KILN_HOST_TENSOR(types[i].dtype, KILN_SHAPE(5), x, bytes));
        assert_ok(kiln_context_run(context));
        kiln_tensor found = tensor_in(context, "y");
        assert_int_equal(found.desc.dtype, types[i].dtype);
        assert_int_equal(found.bytes, bytes);
        assert_memory_equal(found.data, x, bytes);
        bind(context, "y", KILN_HOST_TENSOR(types[i].dtype, KILN_SHAPE(5), y, bytes));
        assert_ok(kiln_context_run(context));
        assert_memory_equal(y, x, bytes);
        assert_ok(kiln_context_tensor(context, "y", &found));
        assert_ptr_equal(found.data, y);
    }
}

/* ONNX's types that the opset or the library has no tensors of. */
TEST(every_other_type_is_refused_by_name)
{
    static const struct {
        int type;
        kiln_status status;
        const char *name;
    } types[] = {
        {17, KILN_ERROR_INVALID_NETWORK, "tensor(float8e4m3fn)"},
        {19, KILN_ERROR_INVALID_NETWORK, "tensor(float8e5m2)"},
        {21, KILN_ERROR_INVALID_NETWORK, "tensor(uint4)"},
        {22, KILN_ERROR_INVALID_NETWORK, "tensor(int4)"},
        {14, KILN_ERROR_UNSUPPORTED, "tensor(complex64)"},
        {15, KILN_ERROR_UNSUPPORTED, "tensor(complex128)"},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(types); i++) {
        kiln_engine *engine = NULL;
        assert_fails(types[i].status,
                     kiln_engine_build_bytes(identity(types[i].type), &options, &engine),
                     types[i].name);
        assert_null(engine);
    }
}

TEST(what_does_not_fit_is_refused_by_kind)
{
    owned_context context = open_context(unary_model("Neg", "2,n"));
    float x[16] = {0};
    const kiln_tensor right =
        KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(2, 4), x, 8 * sizeof(float));
    kiln_tensor wrong = right;
    assert_fails(KILN_ERROR_NAME, kiln_context_bind(context, "X", &wrong),
                 "there is no input or output \"X\"; there are \"x\", \"y\"");
    wrong.desc.dtype = KILN_DTYPE_FLOAT16;
    assert_fails(KILN_ERROR_DTYPE, kiln_context_bind(context, "x", &wrong),
                 "float32 is needed, float16 was given");
    wrong = right;
    wrong.desc.shape = KILN_SHAPE(8);
    assert_fails(KILN_ERROR_RANK, kiln_context_bind(context, "x", &wrong),
                 "2 dimensions (2x?) are needed, 1 were given (8)");
    wrong.desc.shape = KILN_SHAPE(4, 2);
    assert_fails(KILN_ERROR_SHAPE, kiln_context_bind(context, "x", &wrong),
                 "dimension 0 must be 2, it is 4");
    wrong.desc.shape = KILN_SHAPE(2, INT64_MAX / 2);
    assert_status(KILN_ERROR_LIMIT, kiln_context_bind(context, "x", &wrong));
    wrong = right;
    wrong.bytes -= 1;
    assert_fails(KILN_ERROR_SIZE, kiln_context_bind(context, "x", &wrong), "31");
    wrong = right;
    wrong.data = (char *)x + 2;
    assert_status(KILN_ERROR_ALIGNMENT, kiln_context_bind(context, "x", &wrong));
    wrong = right;
    wrong.data = NULL;
    assert_status(KILN_ERROR_NULL_ARGUMENT, kiln_context_bind(context, "x", &wrong));

    /* In one call nothing of it is bound, and what was bound before stays. */
    bind(context, "x", right);
    wrong.data = (char *)x + 2;
    const kiln_named_tensor inputs[] = {{"x", wrong}};
    assert_status(KILN_ERROR_ALIGNMENT, kiln_context_run_tensors(context, inputs, 1, NULL, 0));
    assert_ok(kiln_context_run(context));
}

/* The library alone, on memory of the caller's and where ONNX Runtime found it. */
TEST(a_raw_run_computes_the_same)
{
    owned_context context = open_context(unary_model("Neg", "n"));
    float x[] = {1, 2};
    float y[] = {0, 0};
    uint64_t took = 0;
    bind(context, "x", floats(x, 2));
    assert_fails(KILN_ERROR_STATE, kiln_context_run_raw(context, &took), "was not run yet");
    assert_ok(kiln_context_run(context));
    assert_ok(kiln_context_run_raw(context, &took));
    assert_true(took > 0);
    kiln_tensor found;
    assert_status(KILN_ERROR_STATE, kiln_context_tensor(context, "y", &found));
    bind(context, "y", floats(y, 2));
    assert_status(KILN_ERROR_STATE, kiln_context_run_raw(context, NULL));
    assert_ok(kiln_context_run(context));
    x[0] = 5;
    assert_ok(kiln_context_run_raw(context, NULL));
    assert_true(y[0] == -5 && y[1] == -2);
}

TEST(a_sequence_beside_a_tensor_does_not_stop_a_run)
{
    owned_context context =
        open_context(made_model(17,
                                "in x float32[2]; y=Neg(x); parts=SplitToSequence(x); "
                                "sequence parts float32; out y float32[n]"));
    float x[] = {1, -2};
    const float y[] = {-1, 2};
    kiln_tensor tensor;
    bind(context, "x", floats(x, 2));
    for (int run = 0; run < 3; run++) {
        assert_ok(kiln_context_run(context));
        expect(context, "y", y, 2);
        assert_fails(KILN_ERROR_DTYPE, kiln_context_tensor(context, "parts", &tensor), "parts",
                     "zipmap=False");
    }
}

/* --- outputs --- */

TEST(an_output_may_change_its_shape_each_run)
{
    owned_context context =
        open_context(made_model(17, "in x float32[6]; y=NonZero(x); out y int64[1,k]"));
    float x[6] = {0};
    bind(context, "x", floats(x, 6));
    for (int64_t count = 0; count <= 6; count++) {
        if (count > 0) {
            x[count - 1] = 1;
        }
        assert_ok(kiln_context_run(context));
        const kiln_tensor y = tensor_in(context, "y");
        const kiln_shape shape = KILN_SHAPE(1, count);
        assert_true(kiln_shape_equal(&y.desc.shape, &shape));
        for (int64_t i = 0; i < count; i++) {
            assert_int_equal(((const int64_t *)y.data)[i], i);
        }
    }
}

TEST(a_shape_that_a_model_does_not_keep_is_noticed)
{
    owned_context context =
        open_context(made_model(17, "in x float32[6]; y=NonZero(x); out y int64[1,2]"));
    float x[6] = {1, 1};
    int64_t mine[2] = {7, 7};
    bind(context, "x", floats(x, 6));
    assert_ok(kiln_context_run(context));
    kiln_tensor y = tensor_in(context, "y");
    assert_int_equal(y.desc.shape.dims[1], 2);
    x[4] = 1;
    for (int run = 0; run < 2; run++) {
        assert_ok(kiln_context_run(context));
        assert_ok(kiln_context_tensor(context, "y", &y));
        assert_int_equal(y.desc.shape.dims[1], 3);
        assert_int_equal(((const int64_t *)y.data)[2], 4);
    }
    bind(context, "y", KILN_HOST_TENSOR(KILN_DTYPE_INT64, KILN_SHAPE(1, 2), mine, sizeof mine));
    assert_fails(KILN_ERROR_SHAPE, kiln_context_run(context), "ONNX Runtime");
    x[4] = 0;
    assert_ok(kiln_context_run(context));
    assert_int_equal(mine[1], 1);
}

/* ONNX Runtime would leave memory that is bound to such an output unwritten. */
TEST(an_output_may_be_an_input)
{
    static const char *const shapes[] = {"3", "n"};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(shapes); i++) {
        const char *dims = shapes[i];
        owned_engine engine =
            build(made_model(17, "in x float32[%s]; y=Neg(x); out y float32[%s]; out x float32[%s]",
                             dims, dims, dims));
        owned_context context = context_on(engine);
        float first[] = {1, 2, 3};
        float second[] = {4, 5, 6};
        bind(context, "x", floats(first, 3));
        assert_ok(kiln_context_run(context));
        expect(context, "x", first, 3);
        bind(context, "x", floats(second, 3));
        assert_ok(kiln_context_run(context));
        expect(context, "x", (const float[]){4, 5, 6}, 3);
        expect(context, "y", (const float[]){-4, -5, -6}, 3);
        assert_memory_equal(first, ((const float[]){1, 2, 3}), sizeof first);
        kiln_context_destroy(context);

        assert_ok(kiln_context_create(engine, NULL, &context));
        float copy[3] = {0};
        kiln_named_tensor inputs[] = {{"x", floats(first, 3)}};
        kiln_named_tensor outputs[] = {{"x", floats(copy, 3)}};
        assert_ok(kiln_context_run_tensors(context, inputs, 1, outputs, 1));
        assert_memory_equal(copy, first, sizeof copy);
    }
}

/* An output that shows a constant must not become memory that the next run writes to. */
TEST(a_constant_stays_what_it_is)
{
    static const float one[] = {1, 2, 3, 4};
    static const float two[] = {5, 6, 7, 8};
    static const char *const shapes[] = {"4", "n"};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(shapes); i++) {
        owned_context context =
            open_context(made_model(17,
                                    "in c bool[]; w={5.0,6.0,7.0,8.0}; "
                                    "y=If(c) then_branch={a={1.0,2.0,3.0,4.0}; out a float32[4]} "
                                    "else_branch={b={5.0,6.0,7.0,8.0}; out b float32[4]}; "
                                    "out y float32[%s]; out w float32[%s]",
                                    shapes[i], shapes[i]));
        bool condition = false;
        bind(context, "c",
             KILN_HOST_TENSOR(KILN_DTYPE_BOOL, KILN_SHAPE_SCALAR, &condition, sizeof condition));
        for (int run = 0; run < 6; run++) {
            condition = run % 2 == 0;
            assert_ok(kiln_context_run(context));
            expect(context, "y", condition ? one : two, 4);
            expect(context, "w", two, 4);
            const kiln_tensor y = tensor_in(context, "y");
            memset(y.data, 0, y.bytes);
        }
    }
}

TEST(an_empty_tensor_needs_no_address)
{
    owned_context context = open_context(unary_model("Neg", "n"));
    bind(context, "x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(0), NULL, 0));
    assert_ok(kiln_context_run(context));
    const kiln_tensor y = tensor_in(context, "y");
    assert_int_equal(y.desc.shape.dims[0], 0);
    assert_int_equal(y.bytes, 0);
}

TEST(the_steady_state_takes_nothing_from_the_heap)
{
    static const char *const shapes[] = {"4", "n"};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(shapes); i++) {
        owned_context context = open_context(unary_model("Neg", shapes[i]));
        float x[] = {1, 2, 3, 4};
        kiln_tensor y;
        bind(context, "x", floats(x, 4));
        assert_ok(kiln_context_run(context));
        const uint64_t before = kiln_test_allocations();
        for (int run = 0; run < 100; run++) {
            assert_ok(kiln_context_run(context));
            assert_ok(kiln_context_tensor(context, "y", &y));
        }
        assert_int_equal(kiln_test_allocations(), before);
    }
}

/* --- threads --- */

typedef struct runner {
    kiln_engine *engine;
    float offset;
    bool right;
} runner;

static void *run_many(void *argument)
{
    runner *self = argument;
    owned_context context = NULL;
    float x[3] = {0};
    kiln_tensor tensor = floats(x, 3);
    self->right = kiln_context_create(self->engine, NULL, &context) == KILN_OK &&
                  kiln_context_bind(context, "x", &tensor) == KILN_OK;
    for (int run = 0; run < 200 && self->right; run++) {
        kiln_tensor y;
        x[0] = self->offset + (float)run;
        self->right = kiln_context_run(context) == KILN_OK &&
                      kiln_context_tensor(context, "y", &y) == KILN_OK &&
                      *(const int32_t *)y.data == -(int32_t)x[0];
        kiln_backend_info info = {.struct_size = sizeof info};
        self->right = self->right && kiln_backend_choose("onnxruntime", &info) == KILN_OK;
    }
    return NULL;
}

TEST(contexts_of_one_engine_run_in_threads)
{
    owned_engine engine =
        build(made_model(17, "in x float32[n]; n=Neg(x); y=Cast(n) to=6; out y int32[n]"));
    runner runners[4];
    for (size_t i = 0; i < 4; i++) {
        runners[i] = (runner){engine, 1000.0F * (float)i, false};
    }
    kiln_test_in_threads(4, run_many, runners, sizeof *runners);
    for (size_t i = 0; i < 4; i++) {
        assert_true(runners[i].right);
    }
}

/* --- memory that runs out --- */

static kiln_status one_life(void *user)
{
    const kiln_span *model = user;
    owned_engine engine = NULL;
    owned_context context = NULL;
    float x[] = {1, 2};
    kiln_tensor tensor = floats(x, 2);
    TRY(kiln_engine_build_bytes(*model, &options, &engine));
    TRY(kiln_context_create(engine, NULL, &context));
    TRY(kiln_context_bind(context, "x", &tensor));
    TRY(kiln_context_run(context));
    return kiln_context_tensor(context, "y", &tensor);
}

TEST(every_allocation_may_fail)
{
    kiln_span model = unary_model("Neg", "2");
    kiln_test_each_allocation(one_life, &model);
    model = unary_model("Neg", "n");
    kiln_test_each_allocation(one_life, &model);
}

int main(void)
{
    options = KILN_BUILD_OPTIONS(.backend = "onnxruntime", .threads = 1);
    return kiln_test_run();
}
