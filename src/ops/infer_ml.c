/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "infer_rules.h"

static void rule_ml_extract(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0)) {
        return;
    }
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

static void rule_ml_map(kln_rule *rule)
{
    kln_rule_same_shape(rule, 0, 0);
    const bool text =
        rule->in_count > 0 && rule->in[0] != NULL && rule->in[0]->wire_dtype == KLN_WIRE_STRING;
    if (strcmp(rule->node->op_type, "CategoryMapper") == 0 && rule->in_count > 0 &&
        rule->in[0] != NULL && rule->in[0]->wire_dtype != 0) {
        kln_rule_set_dtype(rule, 0, text ? KLN_WIRE_INT64 : KLN_WIRE_STRING);
    }
}

/* Lists among the attributes that belong together, ended by NULL, have one length. */
static bool same_lengths(kln_rule *rule, const char *const *names)
{
    const char *first = NULL;
    size_t length = 0;
    for (size_t i = 0; names[i] != NULL; i++) {
        const kln_onnx_attribute *a = kln_rule_attribute(rule, names[i]);
        if (a != NULL && first != NULL && a->count != length) {
            char expected[32];
            char found[32];
            (void)snprintf(expected, sizeof expected, "%zu", length);
            (void)snprintf(found, sizeof found, "%zu", a->count);
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

/* Keys of the input's type, as many as there are values. */
static void check_labels(kln_rule *rule)
{
    static const char *const lists[] = {
        "keys_strings",  "keys_int64s",   "keys_floats", "values_strings",
        "values_int64s", "values_floats", NULL};
    static const int32_t types[] = {KLN_WIRE_STRING, KLN_WIRE_INT64, KLN_WIRE_FLOAT};
    const int32_t type = rule->in_count > 0 && rule->in[0] != NULL ? rule->in[0]->wire_dtype : 0;
    if (rule->since < 2) {
        return;
    }
    (void)same_lengths(rule, lists);
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
    if (rule->since < 2 && rule->in_count > 0 && rule->in[0] != NULL) {
        const bool text = rule->in[0]->wire_dtype == KLN_WIRE_STRING;
        kln_rule_set_dtype(rule, 0, text ? KLN_WIRE_INT64 : KLN_WIRE_STRING);
    }
    kln_rule_same_shape(rule, 0, 0);
}

static void rule_ml_one_hot(kln_rule *rule)
{
    const kln_onnx_attribute *ints = kln_rule_attribute(rule, "cats_int64s");
    const kln_onnx_attribute *texts = kln_rule_attribute(rule, "cats_strings");
    const size_t count = ints != NULL ? ints->count : texts != NULL ? texts->count : 0;
    if (!kln_rule_ranked(rule, 0)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank + 1);
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        dims[i] = kln_rule_dim(rule, 0, i);
    }
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

static void rule_ml_classifier(kln_rule *rule)
{
    const kln_onnx_attribute *texts = kln_rule_attribute(rule, "classlabels_strings");
    const bool text = texts != NULL && texts->count > 0;
    kln_rule_set_dtype(rule, 0, text ? KLN_WIRE_STRING : KLN_WIRE_INT64);
    kln_rule_set_dtype(rule, 1, KLN_WIRE_FLOAT);
    kln_dim *labels = kln_rule_new_shape(rule, 0, 1);
    if (labels != NULL) {
        labels[0] = rows(rule);
    }
    kln_dim *scores = kln_rule_new_shape(rule, 1, 2);
    if (scores != NULL) {
        scores[0] = rows(rule);
    }
}

static void rule_ml_regressor(kln_rule *rule)
{
    const kln_onnx_attribute *targets = kln_rule_attribute(rule, "n_targets");
    kln_dim *dims = kln_rule_ranked(rule, 0) ? kln_rule_new_shape(rule, 0, 2) : NULL;
    if (dims != NULL) {
        dims[0] = rows(rule);
        dims[1] = targets != NULL ? KLN_DIM_OF_NUMBER(targets->i) : KLN_UNKNOWN_DIM;
    }
}

/* --- trees --- */

typedef struct trees {
    const int64_t *trues, *falses; /* the two children of each node */
    const int64_t *true_leafs, *false_leafs;
    const int64_t *roots;
    size_t root_count;
    size_t count;  /* of nodes */
    size_t leaves; /* 0 where their list is missing */
} trees;

/* An element of a list, or an attribute of one number (`at` SIZE_MAX), past its ends. */
static bool is_within(kln_rule *rule, const char *name, size_t at, int64_t value, int64_t least,
                      int64_t most)
{
    char place[32] = "";
    char expected[64];
    char found[32];
    if (value >= least && value <= most) {
        return true;
    }
    if (at != SIZE_MAX) {
        (void)snprintf(place, sizeof place, "[%zu]", at);
    }
    (void)snprintf(expected, sizeof expected, "%lld to %lld", (long long)least, (long long)most);
    (void)snprintf(found, sizeof found, "%lld", (long long)value);
    kln_rule_fault(rule, KILN_ISSUE_VALUE, name, expected, found, "\"%s\"%s is %s; it must be %s",
                   name, place, found, expected);
    return false;
}

static bool are_within(kln_rule *rule, const char *name, int64_t least, int64_t most)
{
    size_t count = 0;
    const int64_t *values = kln_rule_ints(rule, name, &count);
    for (size_t i = 0; i < count; i++) {
        if (!is_within(rule, name, i, values[i], least, most)) {
            return false;
        }
    }
    return true;
}

static bool children_fit(kln_rule *rule, const trees *t, const char *name, const int64_t *children,
                         const int64_t *leafs)
{
    for (size_t i = 0; i < t->count && children != NULL && leafs != NULL; i++) {
        const size_t most = leafs[i] != 0 ? t->leaves : t->count;
        if (!is_within(rule, name, i, children[i], 0, (int64_t)most - 1)) {
            return false;
        }
    }
    return children != NULL && leafs != NULL;
}

/* A node that is reached twice: by two others, by itself, or as a root too. */
static void reach(kln_rule *rule, bool *reached, int64_t node, const char *name, size_t at)
{
    if (reached[node]) {
        kln_rule_fault(
            rule, KILN_ISSUE_VALUE, name, "each node once", "one twice",
            "\"%s\"[%zu] leads to node %lld, which is reached before; trees share no node "
            "and have no circle",
            name, at, (long long)node);
    }
    reached[node] = true;
}

static void check_reach(kln_rule *rule, const trees *t)
{
    bool *reached = kln_rule_alloc(rule, t->count, sizeof *reached);
    if (reached == NULL) {
        return;
    }
    memset(reached, 0, t->count * sizeof *reached);
    for (size_t i = 0; i < t->root_count; i++) {
        reach(rule, reached, t->roots[i], "tree_roots", i);
    }
    for (size_t i = 0; i < t->count; i++) {
        if (t->true_leafs[i] == 0) {
            reach(rule, reached, t->trues[i], "nodes_truenodeids", i);
        }
        if (t->false_leafs[i] == 0) {
            reach(rule, reached, t->falses[i], "nodes_falsenodeids", i);
        }
    }
}

static void check_trees(kln_rule *rule)
{
    trees t = {.count = 0};
    size_t features = 0;
    const int64_t targets = kln_rule_int(rule, "n_targets", 1);
    const kln_dim wide = kln_rule_dim(rule, 0, 1);
    (void)kln_rule_ints(rule, "nodes_featureids", &t.count);
    (void)kln_rule_ints(rule, "leaf_targetids", &t.leaves);
    t.roots = kln_rule_ints(rule, "tree_roots", &t.root_count);
    t.trues = kln_rule_ints(rule, "nodes_truenodeids", &features);
    t.falses = kln_rule_ints(rule, "nodes_falsenodeids", &features);
    t.true_leafs = kln_rule_ints(rule, "nodes_trueleafs", &features);
    t.false_leafs = kln_rule_ints(rule, "nodes_falseleafs", &features);
    const bool fit = is_within(rule, "n_targets", SIZE_MAX, targets, 1, INT32_MAX) &&
                     is_within(rule, "aggregate_function", SIZE_MAX,
                               kln_rule_int(rule, "aggregate_function", 1), 0, 3) &&
                     is_within(rule, "post_transform", SIZE_MAX,
                               kln_rule_int(rule, "post_transform", 0), 0, 4) &&
                     are_within(rule, "nodes_featureids", 0,
                                wide.kind == KLN_DIM_NUMBER ? wide.of.number - 1 : INT32_MAX) &&
                     are_within(rule, "nodes_trueleafs", 0, 1) &&
                     are_within(rule, "nodes_falseleafs", 0, 1) &&
                     are_within(rule, "leaf_targetids", 0, targets - 1) &&
                     are_within(rule, "tree_roots", 0, (int64_t)t.count - 1) &&
                     children_fit(rule, &t, "nodes_truenodeids", t.trues, t.true_leafs) &&
                     children_fit(rule, &t, "nodes_falsenodeids", t.falses, t.false_leafs);
    if (fit) {
        check_reach(rule, &t);
    }
}

/* A tensor among the attributes: one element for each node or leaf, of the input's type. */
static bool tensor_fits(kln_rule *rule, const char *name, const char *list, bool typed)
{
    size_t count = 0;
    const kln_onnx_attribute *a = kln_rule_attribute(rule, name);
    const kln_onnx_tensor *tensor = a != NULL ? a->tensor : NULL;
    const int32_t type = rule->in_count > 0 && rule->in[0] != NULL ? rule->in[0]->wire_dtype : 0;
    (void)kln_rule_ints(rule, list, &count);
    if (tensor != NULL && tensor->rank == 1 && (int64_t)count != tensor->dims[0]) {
        kln_rule_fault(rule, KILN_ISSUE_VALUE, list, "one for each", "another number",
                       "\"%s\" has %zu elements, \"%s\" %lld", list, count, name,
                       (long long)tensor->dims[0]);
        return false;
    }
    if (typed && tensor != NULL && type != 0 && tensor->wire_dtype != type) {
        kln_rule_fault(rule, KILN_ISSUE_DTYPE, name, "the input's type", "another type",
                       "\"%s\" is of another type than the input", name);
        return false;
    }
    return true;
}

static void rule_ml_trees(kln_rule *rule)
{
    static const char *const lists[] = {"nodes_featureids",   "nodes_falseleafs",
                                        "nodes_falsenodeids", "nodes_trueleafs",
                                        "nodes_truenodeids",  NULL};
    if (same_lengths(rule, lists) && tensor_fits(rule, "leaf_weights", "leaf_targetids", true) &&
        tensor_fits(rule, "nodes_splits", "nodes_featureids", true) &&
        tensor_fits(rule, "nodes_modes", "nodes_featureids", false)) {
        check_trees(rule);
    }
    rule_ml_regressor(rule);
}

static void rule_ml_features(kln_rule *rule)
{
    kln_rule_set_dtype(rule, 0, KLN_WIRE_FLOAT);
}

/* Inputs: two scalars, then n tensors of each kind; outputs: n of the first kind, then the states,
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
    OP_OF("ai.onnx.ml", "ArrayFeatureExtractor", rule_ml_extract),
    OP_OF("ai.onnx.ml", "CategoryMapper", rule_ml_map),
    OP_OF("ai.onnx.ml", "LabelEncoder", rule_ml_labels),
    OP_OF("ai.onnx.ml", "LinearClassifier", rule_ml_classifier),
    OP_OF("ai.onnx.ml", "LinearRegressor", rule_ml_regressor),
    OP_OF("ai.onnx.ml", "Normalizer", rule_ml_features),
    OP_OF("ai.onnx.ml", "OneHotEncoder", rule_ml_one_hot),
    OP_OF("ai.onnx.ml", "SVMClassifier", rule_ml_classifier),
    OP_OF("ai.onnx.ml", "SVMRegressor", rule_ml_regressor),
    OP_OF("ai.onnx.ml", "Scaler", rule_ml_features),
    OP_OF("ai.onnx.ml", "TreeEnsemble", rule_ml_trees, .form = "5: __"),
    OP_OF("ai.onnx.ml", "TreeEnsembleClassifier", rule_ml_classifier),
    OP_OF("ai.onnx.ml", "TreeEnsembleRegressor", rule_ml_regressor),
    OP_OF("ai.onnx.preview.training", "Adagrad", rule_training),
    OP_OF("ai.onnx.preview.training", "Adam", rule_training),
    OP_OF("ai.onnx.preview.training", "Momentum", rule_training),
    OP_END};
