/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/tensorrt/trt_builder.h"
#include "graph/kln_graph.h"

/* The parser divides by a float32 in Celu, which a strongly typed network refuses for half types.
 *
 * TensorRT 10.6 does not build an If around a NonMaxSuppression, whose number of rows depends on
 * values: "Assertion !scopedOp failed", or it takes the result for empty ("reshape wildcard -1 has
 * infinite number of solutions"). TensorRT-RTX fails on some conditions that are constant. */
kiln_status trt_rewrite(const char *source, const kln_onnx_model *from, kln_onnx_model **rewritten)
{
    size_t expanded = 0;
    size_t inlined = 0;
    *rewritten = NULL;
    if (!kln_graph_has(&from->graph, "Celu") && !kln_graph_has(&from->graph, "If")) {
        return KILN_OK;
    }
    kln_onnx_model *made = NULL;
    kiln_status status = kln_onnx_model_share(from, &made);
    KLN_THEN(status, kln_inline_branches(made, &inlined));
    KLN_THEN(status, kln_expand_celu(made, &expanded));
    if (status != KILN_OK || expanded + inlined == 0) {
        kln_onnx_model_destroy(made);
        return status;
    }
    if (inlined != 0) {
        kln_log(KILN_LOG_INFO, "tensorrt",
                "%s: %zu If replaced by the nodes of one branch: the condition is known, or only "
                "guards against an empty tensor",
                source, inlined);
    }
    *rewritten = made;
    return KILN_OK;
}
