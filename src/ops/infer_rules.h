/* SPDX-License-Identifier: Apache-2.0 */
/* Operators by family, and declarations shared by rules. Private to this module.
 *
 * Each infer_<family>.c ends with the table of its operators. */
#ifndef KLN_INFER_RULES_H
#define KLN_INFER_RULES_H

#include "infer_rule.h"

/* What Kiln knows of an operator beside its schema (op_rows_*.inc). One row serves every version of
 * it; the rule looks at `since` where they differ. An operator of the schema that has none has no
 * closed formula: its outputs have the type that the schema gives, and the shape that the model
 * declares. */
typedef struct kln_op_rule {
    const char *domain, *name;
    kln_rule_function rule; /* what it does to types and shapes */
    kln_rule_function fold; /* to contents that are known; NULL: they are not followed through it */
    /* What the shapes of its inputs must look like, where the rule does not see to it: the first
     * version that this holds for, then one word for each input:
     *
     *     -      anything
     *     ()     a scalar
     *     (1)    a scalar, or one dimension with one element
     *     n_3    three dimensions: named, any, and 3; a name stands for one number in all inputs
     *     nc+    these two dimensions and any number of others */
    const char *form;
    kln_rule_question fit; /* from the form's version on: whether they go together; or NULL */
    bool ranked;           /* the rule is asked only where the first input has a known rank */
    bool random;           /* something else each time, so it is never constant */
} kln_op_rule;

#define OP_OF(domain_, name_, ...)                            \
    {                                                         \
        .domain = domain_, .name = name_, .rule = __VA_ARGS__ \
    }
#define OP(name_, ...) OP_OF("", name_, __VA_ARGS__)
#define OP_MS(name_, ...) OP_OF("com.microsoft", name_, __VA_ARGS__)
#define OP_END OP_OF(NULL, NULL, NULL)

/* infer_elementwise.c: one output like the first input; with an "axis" that must be there. A
 * scalar, of the one type that the schema has for it. */
void kln_rule_scalar_out(kln_rule *rule);
void kln_rule_same(kln_rule *rule);
void kln_rule_same_axis(kln_rule *rule);

/* infer_random.c, infer_cast.c: gives output 0 the type that an attribute names, one of ONNX. */
void kln_rule_named_dtype(kln_rule *rule, const char *attribute, int64_t type);
/* It must be one of these; a fault, and false, where it is not. */
bool kln_rule_names_one(kln_rule *rule, const char *attribute, int64_t type, uint32_t allowed);

/* infer_fold.c: the same elements in the same order; arithmetic, element by element. */
void kln_fold_copy(kln_rule *rule);
void kln_fold_binary(kln_rule *rule);
void kln_fold_variadic(kln_rule *rule);
void kln_fold_compare(kln_rule *rule);
void kln_fold_where(kln_rule *rule);
void kln_fold_unary(kln_rule *rule);
void kln_fold_cast(kln_rule *rule);

/* What a fold is made of. Whether the shape is all numbers. */
bool kln_fold_is_static(const kln_value *value);
/* Contents that fill their shape, which is all numbers, or NULL. */
const kln_dim *kln_fold_whole(kln_rule *rule, size_t input);
/* The output to fill in, with its number of elements, or NULL. */
kln_dim *kln_fold_start(kln_rule *rule, size_t output, size_t *count);
/* Elements of a value whose shape is all numbers, of one dimension, and of dims [first, last). */
size_t kln_fold_elements(const kln_value *value);
size_t kln_fold_dim(const kln_value *value, size_t axis);
size_t kln_fold_span(const kln_value *value, size_t first, size_t last);
bool kln_fold_axis(const kln_rule *rule, int64_t otherwise, const kln_value *value, size_t *axis);
/* Where element `element` of a tensor of that shape lies along each axis. */
void kln_fold_unravel(const kln_value *out, size_t element, size_t *index);

/* infer_forms.c: known and not the same is a fault of `what`. */
bool kln_fit_same(kln_rule *rule, kln_dim a, kln_dim b, const char *what);
bool kln_fit_dim(kln_rule *rule, size_t input, size_t axis, kln_dim wanted, const char *what);
/* `parts` share `count` of `what` in that input equally. */
bool kln_fit_shares(kln_rule *rule, size_t input, kln_dim count, int64_t parts, const char *what);
/* `input` broadcasts to these dimensions, which stay as they are. */
bool kln_fit_broadcast(kln_rule *rule, size_t input, const kln_dim *dims, size_t rank,
                       const char *what);
bool kln_fit_too_small(kln_rule *rule, const char *name, int64_t value, int64_t least);
static inline bool kln_fit_at_least(kln_rule *rule, const char *name, int64_t value, int64_t least)
{
    return value >= least || kln_fit_too_small(rule, name, value, least);
}
/* Dimension `axis` of an input must not be 0. */
bool kln_fit_not_empty(kln_rule *rule, size_t input, size_t axis);

/* infer_gather.c: the indices of input 1 have places to name: dimensions [first, last) of input 0
 * are not 0, if there are indices at all. */
bool kln_fit_places(kln_rule *rule, size_t first, size_t last);

/* infer_ml.c: outputs of ai.onnx.ml's models. Lists among the attributes that belong together,
 * ended by NULL, have one length. */
void kln_rule_ml_classifier(kln_rule *rule);
void kln_rule_ml_regressor(kln_rule *rule);
bool kln_ml_same_lengths(kln_rule *rule, const char *const *names);

/* infer_conv.c: windows that slide over the last dimensions. Lists that are not given are NULL. */
typedef struct kln_windows {
    size_t spatial; /* dimensions that windows slide over */
    const int64_t *kernel, *strides, *dilations, *pads;
    bool ceil, same_upper, same_lower, valid;
} kln_windows;

bool kln_windows_read(kln_rule *rule, size_t rank, kln_windows *w);
/* Places of a window of `kernel` elements along spatial dimension `i`, and back: what windows at
 * `in` places span. */
kln_dim kln_windows_places(kln_rule *rule, const kln_windows *w, size_t i, kln_dim in,
                           kln_dim kernel);
kln_dim kln_windows_span(kln_rule *rule, const kln_windows *w, size_t i, kln_dim in, kln_dim kernel,
                         int64_t output_padding);
/* Whether a list has `needed` numbers that are at least `least`. */
bool kln_rule_list(kln_rule *rule, const char *name, const int64_t *list, size_t count,
                   size_t needed, int64_t least);

/* infer_reshape.c: sets `marks` for these axes; false where one is out of range. */
bool kln_mark_axes(kln_rule *rule, const int64_t *axes, size_t count, size_t rank, bool *marks);

#endif
