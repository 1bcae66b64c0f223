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
#define FITTED(domain, name, rule_, fold_, form, fit_) \
    RULE(domain, name, rule_, fold_)                   \
    bool kln_fit_##fit_(kln_rule *rule);
#define RANDOM(domain, name, rule_) RULE(domain, name, rule_, none)
#include "infer_rows.inc"
#undef RULE
#undef FORMED
#undef FITTED
#undef RANDOM
/* Contents are not followed through the operator. */
#define kln_fold_none NULL

/* infer_fit.c: known and not the same is a fault of `what`. */
bool kln_fit_same(kln_rule *rule, kln_dim a, kln_dim b, const char *what);
bool kln_fit_dim(kln_rule *rule, size_t input, size_t axis, kln_dim wanted, const char *what);
/* `parts` share `count` of `what` in that input equally. */
bool kln_fit_shares(kln_rule *rule, size_t input, kln_dim count, int64_t parts, const char *what);
/* infer_conv.c: places of a window of `kernel` elements along spatial dimension `i` of input 0. */
kln_dim kln_fit_places(kln_rule *rule, size_t i, kln_dim kernel);

/* What Slice takes of one axis. */
typedef struct kln_slice_range {
    bool given;
    kln_dim start, end, step;
} kln_slice_range;

/* The ranges of a Slice in any version, by axis; false when they are not known. */
bool kln_slice_ranges(kln_rule *rule, kln_slice_range *ranges, size_t rank);

/* The dimensions that a Shape reads: [first, last). */
void kln_shape_bounds(const kln_rule *rule, size_t *first, size_t *last);

/* Sets `marks` for these axes; false where one is out of range. */
bool kln_mark_axes(kln_rule *rule, const int64_t *axes, size_t count, size_t rank, bool *marks);

/* The axes that a reduction takes out, `gone` for each; false when they are not known. */
bool kln_reduced_axes(kln_rule *rule, bool *gone, size_t rank);

#endif
