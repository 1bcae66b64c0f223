/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of ONNX that ONNX Runtime's CPU provider does not run, or that end the process in it.
 * Decided from a node alone, before any library is opened. */
#ifndef KLN_ORT_LACKS_H
#define KLN_ORT_LACKS_H

#include "ops/kln_schema.h"

/* The release that the tables are from. */
#define ORT_LACKS_RELEASE "1.31"
#define ORT_LACKS_MINOR 31
#define ORT_NEWEST_IR 13
#define ORT_NEWEST_OPSET 26

/* What is to be said of a node that is not taken, or KLN_LACK_NONE. */
typedef struct ort_refusal {
    kln_lack lack;
    const char *words;
} ort_refusal;

typedef ort_refusal (*ort_refuses)(const kln_node_view *view);

static const ort_refusal ort_takes = {KLN_LACK_NONE, ""};
static inline ort_refusal ort_no_build(const char *words)
{
    return (ort_refusal){KLN_LACK_BUILD, words};
}
static inline ort_refusal ort_no_run(const char *words)
{
    return (ort_refusal){KLN_LACK_RUN, words};
}

/* All of it, as kln_backend has it. Of a build on a GPU, and where a newer release is open, only
 * what ends the process. */
kln_lack ort_lacks(const kln_node_view *view, char *why, size_t size);

/* A kernel for the types of the node, by the library's own list (ort_kernels.c). */
kln_lack ort_lacks_kernel(const kln_node_view *view, char *why, size_t size);

/* What ends the process (ort_ends.c). */
kln_lack ort_ends(const kln_node_view *view, char *why, size_t size);
/* Whether nodes of this operator may. */
bool ort_may_end(const kln_onnx_node *node);

#endif
