/* SPDX-License-Identifier: Apache-2.0 */
/* Weights in four bits, in blocks with a scale and perhaps a zero point. */
#include "context_test.h"
#include "graph_maker.h"
#include "precision/kln_precision.h"

static void product(graph_maker *m)
{
    maker_model(m, 13, "in x float32[1,64]");
    maker_weights(m, "w", 1, "64,8");
    maker_text(m, "y=MatMul(x,w)");
    maker_output(m, "y", 1, NULL);
}

/* An initializer's numbers; zeros where there is none. */
static void read_constant(const kln_onnx_graph *graph, const char *name, size_t count,
                          double *numbers)
{
    memset(numbers, 0, count * sizeof *numbers);
    for (size_t i = 0; i < graph->initializer_count; i++) {
        const kln_onnx_tensor *from = &graph->initializers[i];
        if (strcmp(from->name, name) == 0) {
            kiln_tensor tensor =
                KILN_HOST_TENSOR(from->dtype, KILN_SHAPE((int64_t)count),
                                 (void *)(uintptr_t)from->data.data, from->data.size);
            assert_ok(kiln_tensor_read(&tensor, 0, count, numbers));
        }
    }
}

/* Weights that lie on one side of 0 use all 16 numbers only about a zero point. */
TEST(zero_points_are_nearer)
{
    static float aside[64 * 8];
    double errors[2] = {0};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(aside); i++) {
        aside[i] = sinf((float)i * 1.7F) * (1 + (float)(i % 5)) + 4;
    }
    for (int has_zeros = 0; has_zeros < 2; has_zeros++) {
        owned_maker m;
        double whole[64 * 8];
        double scales[4 * 8];
        double zeros[4 * 8];
        const kiln_precision_options how =
            KILN_PRECISION_OPTIONS(.precision = KILN_PRECISION_INT4, .block_size = 16,
                                   .zero_points = has_zeros != 0);
        product(&m);
        m.model->graph.initializers[0].data.data = aside;
        assert_ok(kln_precision_convert(m.model, &how, NULL));
        const kln_onnx_graph *graph = &m.model->graph;
        read_constant(graph, has_zeros != 0 ? "w/uint4" : "w/int4", 64 * 8, whole);
        read_constant(graph, "w/scale", 4 * 8, scales);
        read_constant(graph, "w/zero_point", 4 * 8, zeros);
        for (size_t i = 0; i < KLN_ARRAY_LENGTH(aside); i++) {
            const size_t block = i / 8 / 16 * 8 + i % 8;
            errors[has_zeros] +=
                pow((double)aside[i] - (whole[i] - zeros[block]) * scales[block], 2);
        }
    }
    if (!(errors[1] < errors[0] / 2)) {
        fail_msg("error %g with zero points, %g without", errors[1], errors[0]);
    }
    owned_maker m;
    const kiln_precision_options wrong =
        KILN_PRECISION_OPTIONS(.precision = KILN_PRECISION_INT8, .zero_points = true);
    product(&m);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kln_precision_convert(m.model, &wrong, NULL),
                 "kiln_precision_options.zero_points");
    const kiln_precision_options no_bytes =
        KILN_PRECISION_OPTIONS(.precision = KILN_PRECISION_FP8, .reduce_range = true);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kln_precision_convert(m.model, &no_bytes, NULL),
                 "kiln_precision_options.reduce_range");
    const kiln_precision_options blocks =
        KILN_PRECISION_OPTIONS(.precision = KILN_PRECISION_FP16, .block_size = 32);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kln_precision_convert(m.model, &blocks, NULL),
                 "kiln_precision_options.block_size");
}
