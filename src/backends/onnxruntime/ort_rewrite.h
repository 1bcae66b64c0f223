/* SPDX-License-Identifier: Apache-2.0 */
/* Rewriting models to use the operators that ONNX Runtime adds to ONNX. Private to this folder.
 * ONNX Runtime finds such patterns itself only if the model was exported in one of the forms it
 * knows. */
#ifndef KLN_ORT_REWRITE_H
#define KLN_ORT_REWRITE_H

#include "graph/kln_graph.h"
#include "seam/kln_seam.h"

#define ORT_DOMAIN "com.microsoft"

/* Parts of a model that ONNX Runtime has an operator of its own for. */
typedef enum ort_rewrite_kind {
    ORT_REWRITE_ATTENTION, /* heads, scores, softmax and their product with the values in one */
    ORT_REWRITE_PRODUCTS,  /* transposed weights */
    ORT_REWRITE_KINDS
} ort_rewrite_kind;

/* Rewrites those parts of `model`. `profile` (or NULL) tells which dynamic shapes are fixed: those
 * whose min is their max. `*count`: how many parts; with 0, on an error too, the model is as it
 * was. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status ort_rewrite(kln_onnx_model *model, ort_rewrite_kind kind,
                                        const kiln_profile *profile, size_t *count);

/* Attention as it is written out in ONNX becomes MultiHeadAttention. Where query, key and value are
 * the parts of one product with constants (kln_fuse_horizontally), its columns are put in the order
 * that lets the operator read that product whole. `inference` is of the model as it is. */
KILN_MUST_CHECK kiln_status ort_fuse_attention(kln_graph_edit *edit, kln_inference *inference,
                                               size_t *count);

/* The ways to build that tuning tries (ort_tune.c): kiln_backend.variant. */
#define ORT_VARIANTS 8
kiln_status ort_variant(const kiln_model *model, size_t index, const kiln_tune_result *best,
                        kln_variant *variant);

#endif
