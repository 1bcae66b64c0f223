/* SPDX-License-Identifier: Apache-2.0 */
/* Explains why nothing in a network was quantized. */
#include "quantize_parts.h"

static kiln_status tell_of_range(const quantize_pass *pass, const char *name)
{
    const kiln_range *seen = kiln_range_table_find(pass->options->ranges, name);
    const uint64_t odd = seen != NULL ? seen->nans + seen->infinities : 0;
    KLN_RETURN_IF(odd > 0 && odd == seen->count, KILN_ERROR_UNSUPPORTED,
                  "nothing can be quantized: all %llu numbers of tensor \"%s\" that were seen are "
                  "NaN or infinite; look at the batches, and at the network in front of it",
                  (unsigned long long)odd, name);
    KLN_RETURN_IF(seen != NULL, KILN_ERROR_UNSUPPORTED,
                  "nothing can be quantized: tensor \"%s\" is 0 in all that was seen, and so are "
                  "those like it; give batches in which it is not",
                  name);
    return kln_fail(KILN_ERROR_UNSUPPORTED,
                    "nothing can be quantized: the range of tensor \"%s\" and of those like it is "
                    "not known; give a table of ranges (kiln_calibrate)",
                    name);
}

/* The type that a product computes in, unless that is float32. */
static kiln_dtype other_type(const quantize_pass *pass, const kln_onnx_node *node)
{
    static const char *const products[] = {"Conv", "ConvTranspose", "MatMul", "Gemm"};
    const kln_value *out = node->output_count != 0
                               ? kln_inference_find(pass->inference->graph, node->outputs[0])
                               : NULL;
    bool is_product = false;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(products); i++) {
        is_product = is_product || kln_onnx_node_is(node, products[i]);
    }
    return is_product && out != NULL && out->dtype != KILN_DTYPE_FLOAT32 ? out->dtype
                                                                         : KILN_DTYPE_UNDEFINED;
}

kiln_status quantize_check_some(const quantize_pass *pass)
{
    const kiln_precision_summary *totals = kln_precision_report_totals(pass->report);
    if (totals->converted_count != 0) {
        return KILN_OK;
    }
    for (size_t i = 0; i < pass->graph->node_count; i++) {
        const kln_onnx_node *node = &pass->graph->nodes[i];
        const kiln_dtype other = other_type(pass, node);
        KLN_RETURN_IF(
            other != KILN_DTYPE_UNDEFINED, KILN_ERROR_UNSUPPORTED,
            "nothing can be quantized: node \"%s\" (%s) computes in %s; what is quantized "
            "is a network in float32",
            KLN_NODE_LABEL(node, (uint32_t)i), node->op_type, kiln_dtype_name(other));
        if (pass->nodes[i].reason == KILN_PRECISION_NO_RANGE) {
            return tell_of_range(pass, pass->nodes[i].detail);
        }
    }
    KLN_RETURN_IF(!pass->format->activations, KILN_ERROR_UNSUPPORTED,
                  "nothing can be quantized: of %zu nodes none is a product with constant weights "
                  "that is not asked to stay; weights alone (int4) are those of products, "
                  "convolutions take int8, fp8 and half types",
                  pass->graph->node_count);
    return kln_fail(KILN_ERROR_UNSUPPORTED,
                    "nothing can be quantized: of %zu nodes none is a convolution or a product "
                    "with constant weights that is not asked to stay",
                    pass->graph->node_count);
}
