/*
 * ort_rewrite.h - models rewritten into operators that ONNX Runtime adds to ONNX, inside this
 * folder. ONNX Runtime finds such parts itself where a model was exported in one of the forms it
 * knows.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KLN_ORT_REWRITE_H
#define KLN_ORT_REWRITE_H

#include "backends/kln_backend.h"
#include "network/kln_network.h"

#define ORT_DOMAIN "com.microsoft"

kiln_status ort_rewrite(kln_onnx_model *model, kln_rewrite kind, const kiln_profile *profile,
                        size_t *count);

/* Attention as it is written out in ONNX becomes MultiHeadAttention. Where query, key and value are
 * the parts of one product with constants (kln_merge_products), its columns are put in the order
 * that lets the operator read that product whole. `inference` is of the model as it is. */
KILN_MUST_CHECK kiln_status ort_fuse_attention(kln_graph_edit *edit, kln_inference *inference,
                                               size_t *count);

#endif
