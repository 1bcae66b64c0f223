/* Tree ensembles: their validity, in the form of ai.onnx.ml 5 and in the earlier ones.
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>

#include "infer_trees.h"

#define MEMBER 6 /* of TreeEnsemble's modes */
/* The most node visits: trees may share nodes, and beyond this limit they are not checked. */
#define VISITS_MOST ((size_t)1 << 26)

enum { FALSE_SIDE, TRUE_SIDE, LEFT = 3 };

/* --- values --- */

/* Checks that an element of a list, or a single-number attribute (`at` SIZE_MAX), is within the
 * limits. */
bool kln_tree_within(kln_rule *rule, const char *name, size_t at, int64_t value, int64_t least,
                     int64_t most)
{
    char place[32] = "";
    if (value >= least && value <= most) {
        return true;
    }
    if (at != SIZE_MAX) {
        (void)snprintf(place, sizeof place, "[%zu]", at);
    }
    const char *expected = KLN_PRINTED("%lld to %lld", (long long)least, (long long)most);
    const char *found = KLN_PRINTED("%lld", (long long)value);
    kln_rule_fault(rule, KILN_ISSUE_VALUE, name, expected, found, "\"%s\"%s is %s; it must be %s",
                   name, place, found, expected);
    return false;
}

static bool is_number_within(kln_rule *rule, const char *name, int64_t otherwise, int64_t least,
                             int64_t most)
{
    return kln_tree_within(rule, name, SIZE_MAX, kln_rule_int(rule, name, otherwise), least, most);
}

/* Checks an element of a list, if it exists. */
bool kln_tree_element(const kln_forest *f, const char *name, size_t at, int64_t least, int64_t most)
{
    size_t count = 0;
    const int64_t *values = kln_rule_ints(f->rule, name, &count);
    return at >= count || kln_tree_within(f->rule, name, at, values[at], least, most);
}

/* The feature is one that the input has, if that is known. */
bool kln_tree_feature(const kln_forest *f, uint32_t node)
{
    const kln_dim wide = kln_rule_dim(f->rule, 0, 1);
    return kln_tree_element(f, "nodes_featureids", node, 0,
                            wide.kind == KLN_DIM_NUMBER ? wide.of.number - 1 : INT32_MAX);
}

/* --- traversal --- */

static bool go_to(kln_forest *f, uint32_t node, uint32_t tree)
{
    f->stamp[node] = tree;
    f->stage[node] = FALSE_SIDE;
    f->visits++;
    return f->enter(f, node);
}

/* Traverses the tree from its root; no node may occur twice. */
bool kln_tree_check(kln_forest *f, uint32_t root, uint32_t tree)
{
    size_t depth = 0;
    if (!go_to(f, root, tree)) {
        return false;
    }
    f->stack[depth++] = root;
    while (depth > 0 && f->visits < VISITS_MOST) {
        const uint32_t node = f->stack[depth - 1];
        const unsigned side = f->stage[node]++;
        if (side > TRUE_SIDE) {
            depth--;
            continue;
        }
        const uint32_t child = f->children[side][node];
        if (child == KLN_TREE_LEAF) {
            continue;
        }
        if (f->stamp[child] == tree) {
            if (f->shares && side == TRUE_SIDE && f->stage[child] == LEFT) {
                continue;
            }
            kln_rule_fault(f->rule, KILN_ISSUE_VALUE, kln_tree_sides[side], "each node once",
                           "one twice",
                           "\"%s\"[%u] leads to node %u, which the tree reached before; nodes are "
                           "not shared, and there are no circles",
                           kln_tree_sides[side], node, child);
            return false;
        }
        if (!go_to(f, child, tree)) {
            return false;
        }
        f->stack[depth++] = child;
    }
    return true;
}

bool kln_tree_make(kln_forest *f)
{
    f->children[0] = kln_rule_alloc(f->rule, f->count, sizeof *f->children[0]);
    f->children[1] = kln_rule_alloc(f->rule, f->count, sizeof *f->children[1]);
    f->stamp = kln_rule_alloc(f->rule, f->count, sizeof *f->stamp);
    f->stack = kln_rule_alloc(f->rule, f->count, sizeof *f->stack);
    f->stage = kln_rule_alloc(f->rule, f->count, sizeof *f->stage);
    return f->count > 0 && f->count < KLN_TREE_LEAF && f->children[0] != NULL &&
           f->children[1] != NULL && f->stamp != NULL && f->stack != NULL && f->stage != NULL;
}

/* --- ai.onnx.ml 5 --- */

const char *const kln_tree_sides[2] = {"nodes_falsenodeids", "nodes_truenodeids"};
static const char *const leafs[2] = {"nodes_falseleafs", "nodes_trueleafs"};

static bool enter_node(kln_forest *f, uint32_t node)
{
    for (size_t side = 0; side < 2; side++) {
        size_t count = 0;
        const int64_t *children = kln_rule_ints(f->rule, kln_tree_sides[side], &count);
        const int64_t *leaf = kln_rule_ints(f->rule, leafs[side], &count);
        const bool ends = leaf[node] != 0;
        if (!kln_tree_within(f->rule, kln_tree_sides[side], node, children[node], 0,
                             ends ? f->leaves - 1 : (int64_t)f->count - 1) ||
            (ends &&
             !kln_tree_element(f, "leaf_targetids", (size_t)children[node], 0, f->targets - 1))) {
            return false;
        }
        f->children[side][node] = ends ? KLN_TREE_LEAF : (uint32_t)children[node];
    }
    if (f->finds != NULL && !f->finds[node]) {
        kln_rule_fault(f->rule, KILN_ISSUE_VALUE, "membership_values", "at least 1", "none",
                       "\"membership_values\" has none for node %u, which looks for members", node);
        return false;
    }
    return kln_tree_feature(f, node);
}

static bool is_nan(const unsigned char *at, int32_t type)
{
    float real = 0;
    double large = 0;
    uint16_t half = 0;
    if (type == KLN_WIRE_FLOAT16) {
        memcpy(&half, at, sizeof half);
        return (half & 0x7fffU) > 0x7c00U;
    }
    if (type == KLN_WIRE_DOUBLE) {
        memcpy(&large, at, sizeof large);
        return isnan(large);
    }
    memcpy(&real, at, sizeof real);
    return isnan(real);
}

static const kln_onnx_tensor *tensor_of(kln_rule *rule, const char *name)
{
    const kln_onnx_attribute *a = kln_rule_attribute(rule, name);
    return a != NULL ? a->tensor : NULL;
}

/* Nodes of mode 6 have a set of members each, in the order of nodes, terminated by NaN. */
static bool find_members(kln_forest *f)
{
    const kln_onnx_tensor *modes = tensor_of(f->rule, "nodes_modes");
    const kln_onnx_tensor *sets = tensor_of(f->rule, "membership_values");
    bool *finds = kln_rule_alloc(f->rule, f->count, sizeof *finds);
    const unsigned char *mode = modes != NULL ? modes->data.data : NULL;
    const unsigned char *at = sets != NULL ? sets->data.data : NULL;
    if (mode == NULL || modes->data.size != f->count || finds == NULL ||
        (at == NULL && sets != NULL && sets->is_external)) {
        return true;
    }
    const int32_t type = sets != NULL ? sets->wire_dtype : 0;
    const size_t width = type == KLN_WIRE_DOUBLE ? 8 : type == KLN_WIRE_FLOAT16 ? 2 : 4;
    const size_t values = at != NULL ? sets->data.size / width : 0;
    for (size_t i = 0, next = 0; i < f->count; i++) {
        if (!kln_tree_within(f->rule, "nodes_modes", i, mode[i], 0, MEMBER)) {
            return false;
        }
        finds[i] = mode[i] != MEMBER || (next < values && !is_nan(at + next * width, type));
        while (mode[i] == MEMBER && next < values && !is_nan(at + next++ * width, type)) {
        }
    }
    f->finds = finds;
    return true;
}

/* A tensor attribute has that type, and one element for each of `list` unless it is NULL. */
static bool tensor_fits(kln_rule *rule, const char *name, const char *list, int32_t type)
{
    size_t count = 0;
    const kln_onnx_tensor *tensor = tensor_of(rule, name);
    if (list != NULL) {
        (void)kln_rule_ints(rule, list, &count);
    }
    if (list != NULL && tensor != NULL &&
        (tensor->rank != 1 || (int64_t)count != tensor->dims[0])) {
        kln_rule_fault(rule, KILN_ISSUE_VALUE, list, "one for each", "another number",
                       "\"%s\" has %zu elements, \"%s\" %lld in %zu dimensions", list, count, name,
                       (long long)(tensor->rank > 0 ? tensor->dims[0] : 1), tensor->rank);
        return false;
    }
    if (tensor != NULL && type != 0 && tensor->wire_dtype != type) {
        kln_rule_fault(rule, KILN_ISSUE_DTYPE, name, kln_onnx_dtype_name(type),
                       kln_onnx_dtype_name(tensor->wire_dtype), "\"%s\" is %s; it must be %s", name,
                       kln_onnx_dtype_name(tensor->wire_dtype), kln_onnx_dtype_name(type));
        return false;
    }
    return true;
}

static void check_trees(kln_rule *rule)
{
    static const char *const lists[] = {"nodes_featureids",
                                        "nodes_falseleafs",
                                        "nodes_falsenodeids",
                                        "nodes_trueleafs",
                                        "nodes_truenodeids",
                                        "nodes_missing_value_tracks_true",
                                        NULL};
    kln_forest f = {
        .rule = rule, .enter = enter_node, .targets = kln_rule_int(rule, "n_targets", 1)};
    const int32_t type = kln_rule_dtype(rule, 0);
    if (!kln_ml_same_lengths(rule, lists) ||
        !tensor_fits(rule, "leaf_weights", "leaf_targetids", type) ||
        !tensor_fits(rule, "nodes_splits", "nodes_featureids", type) ||
        !tensor_fits(rule, "nodes_modes", "nodes_featureids", KLN_WIRE_UINT8) ||
        !tensor_fits(rule, "nodes_hitrates", "nodes_featureids", type) ||
        !tensor_fits(rule, "membership_values", NULL, type) ||
        !kln_tree_within(rule, "n_targets", SIZE_MAX, f.targets, 1, INT32_MAX) ||
        !is_number_within(rule, "aggregate_function", 1, 0, 3) ||
        !is_number_within(rule, "post_transform", 0, 0, 4)) {
        return;
    }
    size_t roots = 0;
    size_t leaves = 0;
    (void)kln_rule_ints(rule, "nodes_featureids", &f.count);
    (void)kln_rule_ints(rule, "leaf_targetids", &leaves);
    const int64_t *root = kln_rule_ints(rule, "tree_roots", &roots);
    f.leaves = (int64_t)leaves;
    for (size_t i = 0; i < 5; i++) {
        if (kln_rule_attribute(rule, lists[i]) == NULL) {
            return; /* the schema reports it */
        }
    }
    bool fits = kln_tree_make(&f) && find_members(&f);
    for (size_t i = 0; fits && i < roots && i < KLN_TREE_LEAF; i++) {
        fits = kln_tree_within(rule, "tree_roots", i, root[i], 0, (int64_t)f.count - 1) &&
               kln_tree_check(&f, (uint32_t)root[i], (uint32_t)i + 1);
    }
}

static void rule_trees(kln_rule *rule)
{
    check_trees(rule);
    kln_rule_ml_regressor(rule);
}

const kln_op_rule kln_rules_trees[] = {
    OP_OF("ai.onnx.ml", "TreeEnsemble", rule_trees, .form = "5: __"), OP_END};
