/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

/* The type from the attribute, else `otherwise`, else the input's. */
static void type_from(kln_rule *rule, const char *attribute, int32_t otherwise)
{
    if (kln_rule_attribute(rule, attribute) != NULL) {
        kln_rule_named_dtype(rule, attribute, kln_rule_int(rule, attribute, 0));
        return;
    }
    kln_rule_set_dtype(rule, 0, otherwise != 0 ? otherwise : kln_rule_dtype(rule, 0));
}

static void rule_like(kln_rule *rule)
{
    type_from(rule, "dtype", 0);
    kln_rule_same_shape(rule, 0, 0);
}

static void rule_eye_like(kln_rule *rule)
{
    if (kln_rule_need_rank(rule, 0, 2, 2)) {
        rule_like(rule);
    }
}

static void rule_random(kln_rule *rule)
{
    type_from(rule, "dtype", KLN_WIRE_FLOAT);
    size_t rank = 0;
    const int64_t *shape = kln_rule_ints(rule, "shape", &rank);
    kln_dim *dims = shape != NULL ? kln_rule_new_shape(rule, 0, rank) : NULL;
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        dims[i] = shape[i] >= 0 ? KLN_DIM_OF_NUMBER(shape[i]) : KLN_UNKNOWN_DIM;
    }
}

static void rule_multinomial(kln_rule *rule)
{
    kln_rule_named_dtype(rule, "dtype", kln_rule_int(rule, "dtype", KLN_WIRE_INT32));
    kln_rule_give(rule, 0, kln_rule_dim(rule, 0, 0),
                  KLN_DIM_OF_NUMBER(kln_rule_int(rule, "sample_size", 1)));
}

const kln_op_rule kln_rules_random[] = {
    OP("Bernoulli", rule_like, .random = true),
    OP("EyeLike", rule_eye_like),
    OP("Multinomial", rule_multinomial, .form = "7: __", .random = true),
    OP("RandomNormal", rule_random, .random = true),
    OP("RandomNormalLike", rule_like, .random = true),
    OP("RandomUniform", rule_random, .random = true),
    OP("RandomUniformLike", rule_like, .random = true),
    OP_END};
