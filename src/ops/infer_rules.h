/*
 * infer_rules.h - the rules by family. Private to the module.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KLN_INFER_RULES_H
#define KLN_INFER_RULES_H

#include "infer_rule.h"

/* Every rule and folding that a row names. */
#define RULE(domain, name, rule_, fold_)   \
    void kln_rule_##rule_(kln_rule *rule); \
    void kln_fold_##fold_(kln_rule *rule);
#define FORMED(domain, name, rule_, fold_, form) RULE(domain, name, rule_, fold_)
#define RANDOM(domain, name, rule_) RULE(domain, name, rule_, none)
#include "infer_rows.inc"
#undef RULE
#undef FORMED
#undef RANDOM
/* Contents are not followed through the operator. */
#define kln_fold_none NULL

/* What Slice takes of one axis. */
typedef struct kln_slice_range {
    bool given;
    kln_dim start, end, step;
} kln_slice_range;

/* The ranges of a Slice in any version, by axis; false when they are not known. */
bool kln_slice_ranges(kln_rule *rule, kln_slice_range *ranges, size_t rank);

/* The dimensions that a Shape reads: [first, last). */
void kln_shape_bounds(const kln_rule *rule, size_t *first, size_t *last);

/* The axes that a reduction takes out, `gone` for each; false when they are not known. */
bool kln_reduced_axes(kln_rule *rule, bool *gone, size_t rank);

#endif
