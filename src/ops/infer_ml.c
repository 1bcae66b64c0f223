/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

static void rule_ml_extract(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    if (!kln_rule_need_rank(rule, 0, 1, SIZE_MAX)) {
        return;
    }
    const size_t out = rank > 1 ? rank : 2;
    kln_dim *dims = kln_rule_new_shape(rule, 0, out);
    if (dims == NULL) {
        return;
    }
    dims[0] = KLN_DIM_OF_NUMBER(1);
    for (size_t i = 0; rank > 1 && i + 1 < rank; i++) {
        dims[i] = kln_rule_dim(rule, 0, i);
    }
    const size_t indices = kln_rule_rank(rule, 1);
    dims[out - 1] = kln_rule_ranked(rule, 1) && indices > 0
                        ? kln_rule_product(rule, rule->in[1]->dims, 0, indices)
                        : KLN_UNKNOWN_DIM;
}

static bool fit_ml_extract(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    return rank == 0 || kln_fit_places(rule, rank - 1, rank);
}

static void rule_ml_map(kln_rule *rule)
{
    const int32_t type = kln_rule_dtype(rule, 0);
    kln_rule_same_shape(rule, 0, 0);
    if (type != 0) {
        kln_rule_set_dtype(rule, 0, type == KLN_WIRE_STRING ? KLN_WIRE_INT64 : KLN_WIRE_STRING);
    }
}

bool kln_ml_same_lengths(kln_rule *rule, const char *const *names)
{
    const char *first = NULL;
    size_t length = 0;
    for (size_t i = 0; names[i] != NULL; i++) {
        const kln_onnx_attribute *a = kln_rule_attribute(rule, names[i]);
        if (a != NULL && first != NULL && a->count != length) {
            const char *expected = KLN_PRINTED("%zu", length);
            const char *found = KLN_PRINTED("%zu", a->count);
            kln_rule_fault(rule, KILN_ISSUE_VALUE, names[i], expected, found,
                           "\"%s\" has %s elements, and \"%s\" has %s", names[i], found, first,
                           expected);
            return false;
        }
        if (a != NULL && first == NULL) {
            first = names[i];
            length = a->count;
        }
    }
    return true;
}

/* Keys have the input's type, and there are as many as values. */
static void check_labels(kln_rule *rule)
{
    static const char *const lists[] = {
        "keys_strings",  "keys_int64s",   "keys_floats", "values_strings",
        "values_int64s", "values_floats", NULL};
    static const int32_t types[] = {KLN_WIRE_STRING, KLN_WIRE_INT64, KLN_WIRE_FLOAT};
    const int32_t type = kln_rule_dtype(rule, 0);
    if (rule->since < 2) {
        return;
    }
    (void)kln_ml_same_lengths(rule, lists);
    const kln_onnx_attribute *tensor = kln_rule_attribute(rule, "keys_tensor");
    int32_t keys = tensor != NULL && tensor->tensor != NULL ? tensor->tensor->wire_dtype : 0;
    for (size_t i = 0; i < 3; i++) {
        keys = kln_rule_attribute(rule, lists[i]) != NULL ? types[i] : keys;
    }
    if (keys != 0 && type != 0 && keys != type) {
        kln_rule_fault(rule, KILN_ISSUE_DTYPE, rule->node->inputs[0], kln_onnx_dtype_name(keys),
                       kln_onnx_dtype_name(type), "\"%.100s\" is %s, but the keys are %s",
                       rule->node->inputs[0], kln_onnx_dtype_name(type), kln_onnx_dtype_name(keys));
    }
}

static void rule_ml_labels(kln_rule *rule)
{
    static const struct {
        const char *attribute;
        int32_t type;
    } values[] = {{"values_strings", KLN_WIRE_STRING},
                  {"values_int64s", KLN_WIRE_INT64},
                  {"values_floats", KLN_WIRE_FLOAT}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(values); i++) {
        if (kln_rule_attribute(rule, values[i].attribute) != NULL) {
            kln_rule_set_dtype(rule, 0, values[i].type);
        }
    }
    check_labels(rule);
    const kln_onnx_attribute *tensor = kln_rule_attribute(rule, "values_tensor");
    if (tensor != NULL && tensor->tensor != NULL) {
        kln_rule_set_dtype(rule, 0, tensor->tensor->wire_dtype);
    }
    if (rule->since < 2) {
        rule_ml_map(rule);
    }
    kln_rule_same_shape(rule, 0, 0);
}

static void rule_ml_one_hot(kln_rule *rule)
{
    const kln_onnx_attribute *ints = kln_rule_attribute(rule, "cats_int64s");
    const kln_onnx_attribute *texts = kln_rule_attribute(rule, "cats_strings");
    const size_t count = ints != NULL ? ints->count : texts != NULL ? texts->count : 0;
    const size_t rank = kln_rule_rank(rule, 0);
    kln_dim *dims = kln_rule_shape_like(rule, 0, rank + 1);
    if (dims != NULL) {
        dims[rank] = KLN_DIM_OF_NUMBER((int64_t)count);
    }
}

static kln_dim rows(const kln_rule *rule)
{
    return kln_rule_rank(rule, 0) > 1 ? kln_rule_dim(rule, 0, 0)
           : kln_rule_ranked(rule, 0) ? KLN_DIM_OF_NUMBER(1)
                                      : KLN_UNKNOWN_DIM;
}

void kln_rule_ml_classifier(kln_rule *rule)
{
    const kln_onnx_attribute *texts = kln_rule_attribute(rule, "classlabels_strings");
    const bool text = texts != NULL && texts->count > 0;
    kln_rule_set_dtype(rule, 0, text ? KLN_WIRE_STRING : KLN_WIRE_INT64);
    kln_rule_give(rule, 0, rows(rule));
    kln_rule_give(rule, 1, rows(rule), KLN_UNKNOWN_DIM);
}

void kln_rule_ml_regressor(kln_rule *rule)
{
    const kln_onnx_attribute *targets = kln_rule_attribute(rule, "n_targets");
    if (kln_rule_ranked(rule, 0)) {
        kln_rule_give(rule, 0, rows(rule),
                      targets != NULL ? KLN_DIM_OF_NUMBER(targets->i) : KLN_UNKNOWN_DIM);
    }
}

/* Inputs: two scalars, then n tensors of each kind. Outputs: n of the first kind, then the states,
 * in the order of the inputs without the gradients. */
static void rule_training(kln_rule *rule)
{
    const bool adam = strcmp(rule->node->op_type, "Adam") == 0;
    const size_t kinds = adam ? 4 : 3;
    if (rule->in_count < 2 || (rule->in_count - 2) % kinds != 0) {
        return;
    }
    const size_t n = (rule->in_count - 2) / kinds;
    for (size_t o = 0; o < rule->out_count; o++) {
        const size_t from = 2 + (o < n ? o : o + n);
        kln_rule_same_type(rule, from, o);
        kln_rule_same_shape(rule, from, o);
    }
}

const kln_op_rule kln_rules_ml[] = {
    OP_OF("ai.onnx.ml", "ArrayFeatureExtractor", rule_ml_extract, .ranked = true, .form = "1: -",
          .fit = fit_ml_extract),
    OP_OF("ai.onnx.ml", "CategoryMapper", rule_ml_map),
    OP_OF("ai.onnx.ml", "LabelEncoder", rule_ml_labels),
    OP_OF("ai.onnx.ml", "LinearClassifier", kln_rule_ml_classifier),
    OP_OF("ai.onnx.ml", "LinearRegressor", kln_rule_ml_regressor),
    OP_OF("ai.onnx.ml", "OneHotEncoder", rule_ml_one_hot, .ranked = true),
    OP_OF("ai.onnx.ml", "SVMClassifier", kln_rule_ml_classifier),
    OP_OF("ai.onnx.ml", "SVMRegressor", kln_rule_ml_regressor),
    OP_OF("ai.onnx.preview.training", "Adagrad", rule_training),
    OP_OF("ai.onnx.preview.training", "Adam", rule_training),
    OP_OF("ai.onnx.preview.training", "Momentum", rule_training),
    OP_END};
