/* SPDX-License-Identifier: Apache-2.0 */
/* The largest logits of a row, found in chunks, are those that a sort of the row finds. */
#include "graph_maker.h"
#include "kiln_test.h"
#include "stream/stream_parts.h"

enum { ROWS = 3, MOST = 5000 };

static const struct {
    int64_t vocabulary, count;
    int64_t chunk; /* 0: none */
} cases[] = {
    {5, 5, 0},      {61, 5, 0},    {100, 1, 10},  {128, 8, 0},   {5000, 256, 0},
    {512, 8, 8},    {1024, 8, 8},  {4096, 1, 64}, {4999, 8, 32}, {5000, 8, 25},
    {4097, 20, 17}, {5000, 63, 8}, {2003, 8, 16}, {999, 4, 27},
};

/* The newest of the older form of a reduction, the usual one, and one without GatherND by rows. */
static const int32_t opsets[] = {17, 21, 11};

static kiln_engine *engine_of(const char *backend, size_t i, int32_t opset, int64_t *chunk)
{
    const long long length = (long long)cases[i].vocabulary;
    const kiln_span model = made_model(
        opset, "in x float32[n,1,%lld]; logits=Identity(x); out logits float32[n,1,%lld]", length,
        length);
    owned_network network = network_in(model, NULL);
    kiln_tensor_id id = KILN_NO_TENSOR;
    const kiln_build_options options = backend_options(backend);
    assert_ok(stream_add_candidates(network, "logits", cases[i].count));
    *chunk = 0;
    if (kiln_network_find(network, STREAM_TOP_LOGITS "/parts", &id) == KILN_OK) {
        kiln_dtype dtype;
        kiln_shape shape;
        assert_ok(kiln_network_tensor_type(network, id, &dtype, &shape));
        *chunk = shape.dims[2];
    }
    return built_network(network, &options);
}

static void fill(float *logits, int64_t count, unsigned kind)
{
    uint32_t state = kind + 1;
    for (int64_t i = 0; i < count; i++) {
        state = state * 1664525U + 1013904223U;
        const float value = (float)(int32_t)state / 1e8F;
        logits[i] = kind == 0   ? value
                    : kind == 1 ? roundf(value) /* many are equal */
                    : kind == 2 ? (state >> 8) % 50 == 0 ? value : -INFINITY
                                : -(float)i; /* all of the largest in one chunk */
    }
}

/* That many are no smaller than the last of `found`, no two are one, and each has its logit. */
static void expect_largest(const float *logits, int64_t vocabulary, const float *found,
                           const int64_t *tokens, int64_t count)
{
    bool seen[MOST + 1024] = {false};
    int64_t above = 0;
    for (int64_t k = 0; k < count; k++) {
        assert_in_range(tokens[k], 0, MOST + 1023);
        assert_false(seen[tokens[k]]);
        seen[tokens[k]] = true;
        assert_true(k == 0 || found[k] <= found[k - 1]);
        assert_true(tokens[k] < vocabulary ? found[k] == logits[tokens[k]] : found[k] == -INFINITY);
    }
    for (int64_t i = 0; i < vocabulary; i++) {
        above += logits[i] > found[count - 1];
        assert_true(seen[i] || logits[i] <= found[count - 1]);
    }
    assert_true(above < count);
}

static void look_at(const char *backend, size_t i, int32_t opset)
{
    static float logits[ROWS * MOST];
    const int64_t vocabulary = cases[i].vocabulary;
    const int64_t count = cases[i].count;
    int64_t chunk = 0;
    owned_engine engine = engine_of(backend, i, opset, &chunk);
    owned_context context = context_on(engine);
    assert_int_equal(chunk, opset >= 12 ? cases[i].chunk : 0);
    for (unsigned kind = 0; kind < 4; kind++) {
        const kiln_tensor input =
            KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(ROWS, 1, vocabulary), logits,
                             (size_t)(ROWS * vocabulary) * sizeof(float));
        for (int64_t row = 0; row < ROWS; row++) {
            fill(logits + row * vocabulary, vocabulary, (kind + (unsigned)row) % 4);
        }
        assert_ok(kiln_context_bind(context, "x", &input));
        assert_ok(kiln_context_run(context));
        const kiln_tensor top = tensor_in(context, STREAM_TOP_LOGITS);
        const kiln_tensor tokens = tensor_in(context, STREAM_TOP_TOKENS);
        const kiln_shape shape = KILN_SHAPE(ROWS, 1, count);
        assert_true(kiln_shape_equal(&top.desc.shape, &shape));
        assert_true(kiln_shape_equal(&tokens.desc.shape, &shape));
        for (int64_t row = 0; row < ROWS; row++) {
            expect_largest(logits + row * vocabulary, vocabulary,
                           (const float *)top.data + row * count,
                           (const int64_t *)tokens.data + row * count, count);
        }
    }
}

TEST_EACH(the_largest_of_a_row_are_found, i, KLN_ARRAY_LENGTH(cases))
{
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(opsets); k++) {
        look_at("reference", i, opsets[k]);
        look_at("onnxruntime", i, opsets[k]);
    }
}
