/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

bool kln_rule_names_one(kln_rule *rule, const char *attribute, int64_t type, uint32_t allowed)
{
    const bool known = type >= KLN_WIRE_FLOAT && type <= KLN_WIRE_NEWEST;
    if (known && kln_type_is_among(allowed, (int32_t)type)) {
        return true;
    }
    char expected[256];
    kln_type_set_format(&(kln_type_set){.tensor = allowed}, expected, sizeof expected);
    const char *found = known ? kln_onnx_dtype_name((int32_t)type)
                              : KLN_PRINTED("%lld, which is no data type of ONNX", (long long)type);
    kln_rule_fault(rule, KILN_ISSUE_VALUE, attribute, expected, found,
                   "attribute \"%s\" is %s; allowed are %s", attribute, found, expected);
    return false;
}

void kln_rule_check_precisions(kln_rule *rule)
{
    static const char *const names[] = {"stash_type", "softmax_precision", "precision"};
    static const uint32_t reals = UINT32_C(1) << KLN_WIRE_FLOAT | UINT32_C(1) << KLN_WIRE_FLOAT16 |
                                  UINT32_C(1) << KLN_WIRE_DOUBLE | UINT32_C(1) << KLN_WIRE_BFLOAT16;
    for (size_t i = 0; rule->node->attribute_count > 0 && i < KLN_ARRAY_LENGTH(names); i++) {
        const kln_onnx_attribute *attribute = kln_rule_attribute(rule, names[i]);
        if (attribute != NULL && attribute->type == KLN_ONNX_ATTRIBUTE_INT &&
            (attribute->i != 0 || i < 2) && /* the default of QuantizeLinear */
            kln_operator_attribute(rule->resolved->schema->row, names[i]) !=
                KLN_ONNX_ATTRIBUTE_UNDEFINED) {
            (void)kln_rule_names_one(rule, names[i], attribute->i, reals);
        }
    }
}

void kln_rule_named_dtype(kln_rule *rule, const char *attribute, int64_t type)
{
    if (type > KLN_WIRE_NEWEST || type < KLN_WIRE_FLOAT) {
        const char *found = KLN_PRINTED("%lld", (long long)type);
        kln_rule_fault(rule, KILN_ISSUE_VALUE, attribute, "a data type of ONNX", found,
                       "attribute \"%s\" is %s, which is no data type of ONNX", attribute, found);
        return;
    }
    const kln_type_set *allowed = &rule->resolved->schema->outputs->types;
    if (!kln_type_is_among(allowed->tensor, (int32_t)type)) {
        kln_rule_wrong_type(rule, true, 0, (int32_t)type, attribute,
                            KLN_PRINTED("attribute \"%s\"", attribute),
                            kln_onnx_dtype_name((int32_t)type));
    }
    kln_rule_set_dtype(rule, 0, (int32_t)type);
}

static int64_t cast_target(kln_rule *rule, const char *name)
{
    const char *text = kln_rule_string(rule, name, NULL);
    if (text == NULL) {
        return kln_rule_int(rule, name, 0);
    }
    /* Version 1 spelled the type out, as in "FLOAT16". */
    static const char *const names[] = {"",        "FLOAT",  "UINT8",  "INT8",   "UINT16",
                                        "INT16",   "INT32",  "INT64",  "STRING", "BOOL",
                                        "FLOAT16", "DOUBLE", "UINT32", "UINT64"};
    for (size_t i = 1; i < KLN_ARRAY_LENGTH(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            return (int64_t)i;
        }
    }
    return 0;
}

static void rule_cast(kln_rule *rule)
{
    if (kln_rule_attribute(rule, "to") != NULL) {
        kln_rule_named_dtype(rule, "to", cast_target(rule, "to"));
    }
    kln_rule_same_shape(rule, 0, 0);
}

static void rule_bit_cast(kln_rule *rule)
{
    if (kln_rule_attribute(rule, "to") != NULL) {
        const int64_t to = kln_rule_int(rule, "to", 0);
        kln_rule_named_dtype(rule, "to", to);
        const kiln_dtype from =
            rule->in_count > 0 && rule->in[0] != NULL ? rule->in[0]->dtype : KILN_DTYPE_UNDEFINED;
        const unsigned given = kiln_dtype_bits(from);
        const unsigned wanted =
            to > 0 && to < 1000 ? kiln_dtype_bits(kln_onnx_dtype((int32_t)to)) : 0;
        if (given != wanted && given != 0 && wanted != 0) {
            const char *expected = KLN_PRINTED("%u bits", wanted);
            const char *found = KLN_PRINTED("%u bits", given);
            kln_rule_fault(
                rule, KILN_ISSUE_DTYPE, rule->node->inputs[0], expected, found,
                "\"%.100s\" is %s, %s an element; they cannot be read as %s, which has %s",
                rule->node->inputs[0], kiln_dtype_name(from), found,
                kiln_dtype_name(kln_onnx_dtype((int32_t)to)), expected);
        }
    }
    kln_rule_same_shape(rule, 0, 0);
}

const kln_op_rule kln_rules_cast[] = {OP("BitCast", rule_bit_cast),
                                      OP("Cast", rule_cast, .fold = kln_fold_cast),
                                      OP("CastLike", kln_rule_same, .fold = kln_fold_cast), OP_END};
