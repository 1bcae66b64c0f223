/* SPDX-License-Identifier: Apache-2.0 */
/* What a conversion says, and leaves: what its report names, a caller may ask to stay. */
#ifndef PRECISION_REPORT_H
#define PRECISION_REPORT_H

#include "graph_maker.h"
#include "ops/kln_ops.h"

/* `how` with all nodes kept that the report says are converted; no two have one name. */
static inline kiln_precision_options keep_converted(const kiln_precision_report *report,
                                                    kiln_precision_options how)
{
    static const char *kept[64];
    kiln_precision_summary summary = {.struct_size = sizeof summary};
    assert_ok(kiln_precision_report_summary(report, &summary));
    how.keep_nodes = kept;
    how.keep_node_count = 0;
    for (size_t i = 0; i < summary.node_count; i++) {
        kiln_precision_node node = {.struct_size = sizeof node};
        assert_ok(kiln_precision_report_node(report, i, &node));
        if (node.reason != KILN_PRECISION_CONVERTED) {
            continue;
        }
        for (size_t k = 0; k < how.keep_node_count; k++) {
            assert_string_not_equal(kept[k], node.output);
        }
        assert_true(how.keep_node_count < KLN_ARRAY_LENGTH(kept));
        kept[how.keep_node_count++] = node.output;
    }
    return how;
}

/* Nothing is left to convert, or a half type is all that is. */
static inline void assert_kept(kiln_status status)
{
    if (status != KILN_OK) {
        assert_int_equal(status, KILN_ERROR_UNSUPPORTED);
    }
}

/* No weight or scale stays in a type in which nobody reads it. */
static inline void assert_constants_are_read(const kln_onnx_model *model)
{
    kln_inference *known = NULL;
    assert_ok(kln_infer(model, NULL, &known));
    for (size_t i = 0; i < model->graph.initializer_count; i++) {
        const char *name = model->graph.initializers[i].name;
        if (kln_inference_find(known->graph, name)->consumers == 0) {
            fail_msg("nobody reads \"%s\"", name);
        }
    }
    kln_inference_destroy(known);
}

#endif
