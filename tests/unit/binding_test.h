/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of quantized bindings share. */
#ifndef BINDING_TEST_H
#define BINDING_TEST_H

#include "context_test.h"
#include "graph_maker.h"
#include "precision/kln_precision.h"

/* TensorProto.DataType. */
enum { FLOAT = 1, UINT8 = 2, INT8 = 3, HALF = 10, FLOAT8 = 17 };

static const float scales[3] = {0.5F, 0.25F, 0.125F};

static inline void constant(graph_maker *m, const char *name, int32_t wire, const char *dims,
                            const void *data)
{
    maker_weights(m, name, wire, dims);
    assert_ok(m->status);
    m->graph->initializers[m->graph->initializer_count - 1].data.data = data;
}

static inline const char *text_of(const kiln_quantization *q, char text[256])
{
    size_t used = 0;
    if (q->storage == KILN_DTYPE_UNDEFINED) {
        return NULL;
    }
    used += (size_t)snprintf(text, 256, "%s %d %d:", kiln_dtype_name(q->storage), (int)q->axis,
                             (int)q->block_size);
    for (int64_t i = 0; i < q->count; i++) {
        used += (size_t)snprintf(text + used, 256 - used, " %g@%d", (double)q->scales[i],
                                 q->zero_points != NULL ? (int)q->zero_points[i] : 0);
    }
    return text;
}

#endif
