/* SPDX-License-Identifier: Apache-2.0 */
/* The checks of a model. Private to this module. */
#ifndef KLN_VALIDATE_RULES_H
#define KLN_VALIDATE_RULES_H

#include "kln_graph.h"
#include "ops/kln_schema.h"

typedef struct kln_validation {
    kln_inference *inference;
    const kln_onnx_model *model;
    const kln_validate_options *options;
    bool *functions;    /* of each of the model's: its body was gone through already */
    kiln_status status; /* the first failure, or OK */
} kln_validation;

/* Each adds issues to inference->issues and remembers a failure in `status`. `function` is the one
 * whose body the graph is, or NULL. */
void kln_validate_doubts(kln_validation *v); /* before the others, which add what is certain */
void kln_validate_header(kln_validation *v);
void kln_validate_graph(kln_validation *v, const kln_graph_inference *graph,
                        const kln_onnx_function *function);
void kln_validate_node(kln_validation *v, const kln_graph_inference *graph, uint32_t index);
void kln_validate_ranges(kln_validation *v);

/* The first issue of `list`, at least so severe, that is not among the model's own; or NULL. */
const kiln_issue *kln_validate_news(const kln_validation *v, const kiln_issue_list *list,
                                    kiln_severity least);

void kln_validate_issue(kln_validation *v, kiln_severity severity, kiln_issue_kind kind,
                        const char *node, const char *tensor, const char *expected,
                        const char *found, const char *format, ...) KLN_PRINTF(8, 9);

#endif
