/* Tree ensembles before ai.onnx.ml 5: nodes have ids that are unique in their tree.
 * SPDX-License-Identifier: Apache-2.0 */
#include "infer_trees.h"

static bool is_text(kiln_span span, const char *text)
{
    return span.size == strlen(text) && memcmp(span.data, text, span.size) == 0;
}

/* The word is in the list, which ends with NULL. */
static bool is_word(kln_rule *rule, const char *name, kiln_span word, const char *const *words)
{
    for (size_t i = 0; words[i] != NULL; i++) {
        if (is_text(word, words[i])) {
            return true;
        }
    }
    kln_rule_fault(rule, KILN_ISSUE_VALUE, name, "a word of the specification", "another",
                   "\"%s\" is \"%.*s\", which is none of the specification's words", name,
                   (int)(word.size < 40 ? word.size : 40), (const char *)word.data);
    return false;
}

/* What differs between the two operators. */
typedef struct old_form {
    bool classifies;
    const char *trees, *nodes, *targets, *weights, *weight_tensor;
} old_form;

static kln_key key_of(int64_t tree, int64_t node)
{
    return (kln_key){{"", "", ""}, (int64_t)((uint64_t)tree << 32 | (uint32_t)node)};
}

static bool no_such_node(kln_rule *rule, const char *name, size_t at, int64_t tree, int64_t node)
{
    kln_rule_fault(rule, KILN_ISSUE_VALUE, name, "a node of its tree", "none",
                   "\"%s\"[%zu] names node %lld of tree %lld, which is not there", name, at,
                   (long long)node, (long long)tree);
    return false;
}

/* Finds the position of each node; none may occur twice. */
static bool find_nodes(kln_forest *f, kln_keys *places)
{
    size_t count = 0;
    const int64_t *trees = kln_rule_ints(f->rule, "nodes_treeids", &count);
    const int64_t *nodes = kln_rule_ints(f->rule, "nodes_nodeids", &count);
    for (size_t i = 0; i < f->count; i++) {
        const kln_key key = key_of(trees[i], nodes[i]);
        if (kln_keys_get(places, &key) != KLN_NAMES_NONE) {
            kln_rule_fault(f->rule, KILN_ISSUE_VALUE, "nodes_nodeids", "each once", "one twice",
                           "node %lld of tree %lld is there twice", (long long)nodes[i],
                           (long long)trees[i]);
            return false;
        }
        const kiln_status status = kln_keys_set(places, &key, (uint32_t)i);
        if (status != KILN_OK) {
            kln_state_status(f->rule->state, status);
            return false;
        }
    }
    return true;
}

static bool find_children(kln_forest *f, const kln_keys *places, const bool *is_leaf)
{
    size_t count = 0;
    const int64_t *trees = kln_rule_ints(f->rule, "nodes_treeids", &count);
    for (size_t side = 0; side < 2; side++) {
        const int64_t *children = kln_rule_ints(f->rule, kln_tree_sides[side], &count);
        for (size_t i = 0; i < f->count; i++) {
            const kln_key key = key_of(trees[i], children[i]);
            f->children[side][i] = is_leaf[i] ? KLN_TREE_LEAF : kln_keys_get(places, &key);
            if (is_leaf[i]) {
                continue;
            }
            if (!kln_tree_within(f->rule, kln_tree_sides[side], i, children[i], 0,
                                 (int64_t)f->count - 1)) {
                return false;
            }
            if (f->children[side][i] == KLN_NAMES_NONE || f->children[side][i] == i) {
                return no_such_node(f->rule, kln_tree_sides[side], i, trees[i], children[i]);
            }
        }
    }
    return true;
}

/* Checks the outputs of leaves. */
static bool check_targets(const kln_forest *f, const kln_keys *places, const old_form *form)
{
    size_t count = 0;
    const int64_t *trees = kln_rule_ints(f->rule, form->trees, &count);
    const int64_t *nodes = kln_rule_ints(f->rule, form->nodes, &count);
    for (size_t i = 0; i < count; i++) {
        const kln_key key = key_of(trees[i], nodes[i]);
        if (kln_keys_get(places, &key) == KLN_NAMES_NONE) {
            return no_such_node(f->rule, form->nodes, i, trees[i], nodes[i]);
        }
        if (!kln_tree_element(f, form->targets, i, 0, f->targets - 1)) {
            return false;
        }
    }
    return true;
}

static bool enter_old_node(kln_forest *f, uint32_t node)
{
    return f->children[0][node] == KLN_TREE_LEAF || kln_tree_feature(f, node);
}

/* A new tree starts where the tree number changes. */
static bool check_old_nodes(kln_forest *f, const old_form *form, const bool *is_leaf)
{
    size_t count = 0;
    const int64_t *trees = kln_rule_ints(f->rule, "nodes_treeids", &count);
    kln_keys places = {0};
    bool fits = find_nodes(f, &places) && find_children(f, &places, is_leaf) &&
                check_targets(f, &places, form);
    kln_keys_finish(&places);
    for (size_t i = 0; fits && i < f->count; i++) {
        if ((i == 0 || trees[i] != trees[i - 1]) && f->stamp[i] == 0) {
            fits = kln_tree_check(f, (uint32_t)i, 1);
        }
    }
    return fits;
}

/* The number of elements of a list, or of the tensor given in its place; SIZE_MAX if both are
 * given, or the tensor has the wrong type. */
static size_t length_of(kln_rule *rule, const char *list, const char *tensor)
{
    const kln_onnx_attribute *plain = kln_rule_attribute(rule, list);
    const kln_onnx_attribute *other = kln_rule_attribute(rule, tensor);
    const kln_onnx_tensor *in = other != NULL ? other->tensor : NULL;
    if (plain != NULL && in != NULL) {
        kln_rule_fault(rule, KILN_ISSUE_ATTRIBUTE, tensor, "one of them", "both",
                       "both \"%s\" and \"%s\" are given", list, tensor);
        return SIZE_MAX;
    }
    const int32_t input = kln_rule_dtype(rule, 0);
    const int32_t wanted = input == KLN_WIRE_DOUBLE ? KLN_WIRE_DOUBLE : KLN_WIRE_FLOAT;
    if (in != NULL && input != 0 && in->wire_dtype != wanted) {
        kln_rule_fault(rule, KILN_ISSUE_DTYPE, tensor, kln_onnx_dtype_name(wanted),
                       kln_onnx_dtype_name(in->wire_dtype), "\"%s\" is %s; it must be %s", tensor,
                       kln_onnx_dtype_name(in->wire_dtype), kln_onnx_dtype_name(wanted));
        return SIZE_MAX;
    }
    size_t count = in != NULL ? 1 : 0;
    for (size_t i = 0; in != NULL && i < in->rank; i++) {
        count *= (size_t)in->dims[i]; /* the bytes fit, or the tensor would have been refused */
    }
    return plain != NULL ? plain->count : count;
}

/* A list that is not given counts as empty. */
static bool has_length(kln_rule *rule, const char *name, size_t length, size_t wanted)
{
    if (length != wanted && length != SIZE_MAX) {
        const char *expected = KLN_PRINTED("%zu", wanted);
        const char *found = KLN_PRINTED("%zu", length);
        kln_rule_fault(rule, KILN_ISSUE_VALUE, name, expected, found,
                       "\"%s\" has %s elements; %s are needed", name, found, expected);
    }
    return length == wanted;
}

static size_t count_of(kln_rule *rule, const char *name)
{
    const kln_onnx_attribute *a = kln_rule_attribute(rule, name);
    return a != NULL ? a->count : 0;
}

static bool lists_fit(kln_forest *f, const old_form *form)
{
    kln_rule *rule = f->rule;
    const char *const nodes[] = {"nodes_treeids", "nodes_nodeids", kln_tree_sides[0],
                                 kln_tree_sides[1], "nodes_modes"};
    const char *const targets[] = {form->trees, form->nodes};
    const size_t count = count_of(rule, form->targets);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(nodes); i++) {
        if (!has_length(rule, nodes[i], count_of(rule, nodes[i]), f->count)) {
            return false;
        }
    }
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(targets); i++) {
        if (!has_length(rule, targets[i], count_of(rule, targets[i]), count)) {
            return false;
        }
    }
    const size_t base = length_of(rule, "base_values", "base_values_as_tensor");
    const bool few = form->classifies && f->targets <= 2 && base <= 2;
    return has_length(rule, "nodes_values",
                      length_of(rule, "nodes_values", "nodes_values_as_tensor"), f->count) &&
           has_length(rule, form->weights, length_of(rule, form->weights, form->weight_tensor),
                      count) &&
           length_of(rule, "nodes_hitrates", "nodes_hitrates_as_tensor") != SIZE_MAX &&
           (base == 0 || few || has_length(rule, "base_values", base, (size_t)f->targets));
}

static bool words_fit(kln_forest *f, bool *is_leaf)
{
    static const char *const modes[] = {"BRANCH_LEQ", "BRANCH_LT",  "BRANCH_GTE", "BRANCH_GT",
                                        "BRANCH_EQ",  "BRANCH_NEQ", "LEAF",       NULL};
    static const char *const ends[] = {"NONE",         "SOFTMAX", "LOGISTIC",
                                       "SOFTMAX_ZERO", "PROBIT",  NULL};
    static const char *const sums[] = {"SUM", "AVERAGE", "MIN", "MAX", NULL};
    const kln_onnx_attribute *words = kln_rule_attribute(f->rule, "nodes_modes");
    for (size_t i = 0; i < f->count; i++) {
        if (!is_word(f->rule, "nodes_modes", words->strings[i], modes)) {
            return false;
        }
        is_leaf[i] = is_text(words->strings[i], "LEAF");
    }
    const char *end = kln_rule_string(f->rule, "post_transform", "NONE");
    const char *sum = kln_rule_string(f->rule, "aggregate_function", "SUM");
    return is_word(f->rule, "post_transform", (kiln_span){end, strlen(end)}, ends) &&
           is_word(f->rule, "aggregate_function", (kiln_span){sum, strlen(sum)}, sums);
}

static void check_old_trees(kln_rule *rule)
{
    static const old_form forms[2] = {{false, "target_treeids", "target_nodeids", "target_ids",
                                       "target_weights", "target_weights_as_tensor"},
                                      {true, "class_treeids", "class_nodeids", "class_ids",
                                       "class_weights", "class_weights_as_tensor"}};
    const bool classifies = strcmp(rule->node->op_type, "TreeEnsembleClassifier") == 0;
    const size_t labels = count_of(rule, "classlabels_strings");
    kln_forest f = {.rule = rule,
                    .count = count_of(rule, "nodes_featureids"),
                    .enter = enter_old_node,
                    .shares = true};
    f.targets = !classifies  ? kln_rule_int(rule, "n_targets", 0)
                : labels > 0 ? (int64_t)labels
                             : (int64_t)count_of(rule, "classlabels_int64s");
    if (!kln_tree_within(rule, classifies ? "classlabels_int64s" : "n_targets", SIZE_MAX, f.targets,
                         1, INT32_MAX) ||
        !lists_fit(&f, &forms[classifies]) || f.count == 0) {
        return;
    }
    bool *is_leaf = kln_rule_alloc(rule, f.count, sizeof *is_leaf);
    if (is_leaf != NULL && words_fit(&f, is_leaf) && kln_tree_make(&f)) {
        (void)check_old_nodes(&f, &forms[classifies], is_leaf);
    }
}

static void rule_old_classifier(kln_rule *rule)
{
    check_old_trees(rule);
    kln_rule_ml_classifier(rule);
}

static void rule_old_regressor(kln_rule *rule)
{
    check_old_trees(rule);
    kln_rule_ml_regressor(rule);
}

const kln_op_rule kln_rules_trees_old[] = {
    OP_OF("ai.onnx.ml", "TreeEnsembleClassifier", rule_old_classifier),
    OP_OF("ai.onnx.ml", "TreeEnsembleRegressor", rule_old_regressor), OP_END};
