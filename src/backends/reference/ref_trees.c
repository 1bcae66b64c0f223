/* Tree ensembles, in the form of ai.onnx.ml 5.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

enum { LEQ, LT, GTE, GT, EQ, NEQ, MEMBER };
enum { AVERAGE, SUM, MIN, MAX };
enum { NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO, PROBIT };

/* Nodes and leaves, by their index in the lists of attributes; the second element of a pair is the
 * true branch. */
typedef struct forest {
    size_t nodes, leaves, roots, columns;
    const int64_t *features, *missing, *targets, *root;
    const int64_t *children[2], *ends[2];
    double *modes, *splits, *weights;
    double *members; /* the sets of nodes that test for members, each terminated by NaN */
    int64_t *sets;   /* where each node's set starts */
    size_t member_count;
    int64_t aggregate, outputs;
} forest;

/* Reads a tensor attribute as doubles, whatever the alignment of its data; NULL if there is
 * none. */
static kiln_status read_tensor(ref_call *call, const char *name, double **values, size_t *count)
{
    const kln_onnx_attribute *attribute = ref_attribute(call, name);
    const kln_onnx_tensor *from = attribute != NULL ? attribute->tensor : NULL;
    const size_t size = from != NULL ? ref_element_size(from->dtype) : 0;
    *values = NULL;
    *count = 0;
    if (from == NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF(from->data.data == NULL || ref_domain_of(from->dtype) == REF_DOMAIN_NONE ||
                      ref_is_packed(from->dtype),
                  KILN_ERROR_UNSUPPORTED, "\"%s\" holds no numbers that are read here", name);
    *count = from->data.size / size;
    ref_tensor copy = {.dtype = from->dtype, .count = (int64_t)*count};
    KLN_RETURN_IF_ERROR(ref_scratch(call, *count, size, &copy.data));
    memcpy(copy.data, from->data.data, *count * size);
    return ref_doubles(call, &copy, values);
}

static kiln_status read_list(const ref_call *call, const char *name, size_t wanted,
                             const int64_t **values)
{
    size_t count = 0;
    *values = ref_attribute_ints(call, name, &count);
    KLN_RETURN_IF(count != wanted, KILN_ERROR_INVALID_NETWORK,
                  "\"%s\" has %zu elements; %zu are needed", name, count, wanted);
    return KILN_OK;
}

static kiln_status read_numbers(ref_call *call, const char *name, size_t wanted, double **values)
{
    size_t count = 0;
    KLN_RETURN_IF_ERROR(read_tensor(call, name, values, &count));
    KLN_RETURN_IF(count != wanted, KILN_ERROR_INVALID_NETWORK,
                  "\"%s\" has %zu elements; %zu are needed", name, count, wanted);
    return KILN_OK;
}

static kiln_status find_sets(ref_call *call, forest *f)
{
    KLN_RETURN_IF_ERROR(read_tensor(call, "membership_values", &f->members, &f->member_count));
    KLN_RETURN_IF_ERROR(ref_scratch(call, f->nodes, sizeof *f->sets, &f->sets));
    size_t next = 0;
    for (size_t i = 0; i < f->nodes; i++) {
        f->sets[i] = (int64_t)next;
        while (f->modes[i] == (double)MEMBER && next < f->member_count &&
               !isnan(f->members[next++])) {
        }
    }
    return KILN_OK;
}

static bool is_within(int64_t value, size_t end)
{
    return value >= 0 && (uint64_t)value < end;
}

static kiln_status read_forest(ref_call *call, forest *f)
{
    (void)ref_attribute_ints(call, "nodes_featureids", &f->nodes);
    (void)ref_attribute_ints(call, "leaf_targetids", &f->leaves);
    f->root = ref_attribute_ints(call, "tree_roots", &f->roots);
    f->missing = NULL;
    if (ref_attribute(call, "nodes_missing_value_tracks_true") != NULL) {
        KLN_RETURN_IF_ERROR(
            read_list(call, "nodes_missing_value_tracks_true", f->nodes, &f->missing));
    }
    KLN_RETURN_IF_ERROR(read_list(call, "nodes_featureids", f->nodes, &f->features));
    KLN_RETURN_IF_ERROR(read_list(call, "leaf_targetids", f->leaves, &f->targets));
    KLN_RETURN_IF_ERROR(read_list(call, "nodes_falsenodeids", f->nodes, &f->children[0]));
    KLN_RETURN_IF_ERROR(read_list(call, "nodes_truenodeids", f->nodes, &f->children[1]));
    KLN_RETURN_IF_ERROR(read_list(call, "nodes_falseleafs", f->nodes, &f->ends[0]));
    KLN_RETURN_IF_ERROR(read_list(call, "nodes_trueleafs", f->nodes, &f->ends[1]));
    KLN_RETURN_IF_ERROR(read_numbers(call, "nodes_modes", f->nodes, &f->modes));
    KLN_RETURN_IF_ERROR(read_numbers(call, "nodes_splits", f->nodes, &f->splits));
    KLN_RETURN_IF_ERROR(read_numbers(call, "leaf_weights", f->leaves, &f->weights));
    f->outputs = ref_attribute_int(call, "n_targets", 1);
    f->aggregate = ref_attribute_int(call, "aggregate_function", SUM);
    return find_sets(call, f);
}

/* --- a row --- */

static bool goes_true(const forest *f, int64_t node, double value)
{
    const double split = f->splits[node];
    if (isnan(value) && f->missing != NULL && f->missing[node] != 0) {
        return true;
    }
    switch (ref_to_int(f->modes[node])) {
        case LEQ: return value <= split;
        case LT: return value < split;
        case GTE: return value >= split;
        case GT: return value > split;
        case EQ: return value == split;
        case NEQ: return value != split;
        default: break;
    }
    for (size_t i = (size_t)f->sets[node]; i < f->member_count && !isnan(f->members[i]); i++) {
        if (f->members[i] == value) {
            return true;
        }
    }
    return false;
}

static kiln_status fail_place(int64_t place, const char *what)
{
    return kln_fail(KILN_ERROR_INVALID_NETWORK, "a tree leads to %s %lld, which is not there", what,
                    (long long)place);
}

/* Finds the leaf that a row reaches. Every index is checked, because the model may not have
 * been. */
static kiln_status find_leaf(const forest *f, int64_t root, const double *row, int64_t *leaf)
{
    int64_t node = root;
    for (size_t steps = 0; steps < f->nodes; steps++) {
        KLN_FAIL_IF(!is_within(node, f->nodes), fail_place(node, "node"));
        const int64_t feature = f->features[node];
        KLN_FAIL_IF(!is_within(feature, f->columns), fail_place(feature, "feature"));
        const int side = goes_true(f, node, row[feature]) ? 1 : 0;
        const int64_t next = f->children[side][node];
        if (f->ends[side][node] != 0) {
            KLN_FAIL_IF(!is_within(next, f->leaves), fail_place(next, "leaf"));
            KLN_FAIL_IF(!is_within(f->targets[next], (size_t)f->outputs),
                        fail_place(f->targets[next], "target"));
            *leaf = next;
            return KILN_OK;
        }
        node = next;
    }
    return kln_fail(KILN_ERROR_INVALID_NETWORK, "the tree from node %lld on goes in a circle",
                    (long long)root);
}

/* The inverse of the cumulative normal distribution, by Newton's method. */
static double probit(double share)
{
    double x = 0.0;
    if (!(share > 0.0 && share < 1.0)) {
        return share == 0.0 ? -HUGE_VAL : share == 1.0 ? HUGE_VAL : (double)NAN;
    }
    for (int i = 0; i < 200; i++) {
        const double off = 0.5 * erfc(-x * 0x1.6a09e667f3bcdp-1) - share;
        const double slope = 0x1.9884533d43651p-2 * exp(-0.5 * x * x);
        /* Limit the step, so that the slope does not vanish. */
        const double step = ref_clamp(off / slope, -1.0, 1.0);
        x -= step;
        if (fabs(step) <= 0x1p-52 * fabs(x)) {
            break;
        }
    }
    return x;
}

static void transform(int64_t kind, int64_t n, double *values)
{
    double most = -HUGE_VAL;
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        most = ref_greater(values[i], most);
    }
    for (int64_t i = 0; i < n; i++) {
        const double v = values[i];
        switch (kind) {
            case SOFTMAX: values[i] = exp(v - most); break;
            case SOFTMAX_ZERO: values[i] = v != 0.0 ? exp(v - most) : 0.0; break;
            case LOGISTIC: values[i] = 1.0 / (1.0 + exp(-v)); break;
            case PROBIT: values[i] = probit(v); break;
            default: break;
        }
        sum += values[i];
    }
    for (int64_t i = 0; i < n && sum != 0.0 && (kind == SOFTMAX || kind == SOFTMAX_ZERO); i++) {
        values[i] /= sum;
    }
}

/* Aggregates the leaves of all trees; 0 if no leaf has the target. */
static kiln_status sum_trees(const forest *f, const double *row, double *totals, bool *some)
{
    memset(totals, 0, (size_t)f->outputs * sizeof *totals);
    memset(some, 0, (size_t)f->outputs * sizeof *some);
    for (size_t t = 0; t < f->roots; t++) {
        int64_t leaf = 0;
        KLN_RETURN_IF_ERROR(find_leaf(f, f->root[t], row, &leaf));
        const int64_t target = f->targets[leaf];
        const double v = f->weights[leaf];
        double *total = &totals[target];
        *total = f->aggregate == SUM || f->aggregate == AVERAGE ? *total + v
                 : !some[target]                                ? v
                 : f->aggregate == MIN                          ? fmin(*total, v)
                                                                : fmax(*total, v);
        some[target] = true;
    }
    for (int64_t i = 0; f->aggregate == AVERAGE && i < f->outputs; i++) {
        totals[i] /= (double)f->roots;
    }
    return KILN_OK;
}

static kiln_status ref_op_tree_ensemble(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const int64_t kind = ref_attribute_int(call, "post_transform", NONE);
    forest f = {.columns = 0};
    double *rows = NULL;
    double *totals = NULL;
    bool *some = NULL;
    ref_tensor *y = NULL;
    KLN_RETURN_IF(x->rank != 2, KILN_ERROR_RANK, "rows of features are needed, rank %d is given",
                  x->rank);
    KLN_RETURN_IF_ERROR(read_forest(call, &f));
    KLN_RETURN_IF(f.outputs < 1, KILN_ERROR_INVALID_NETWORK, "%lld targets are asked for",
                  (long long)f.outputs);
    f.columns = (size_t)x->dims[1];
    const int64_t dims[2] = {x->dims[0], f.outputs};
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, 2, dims, &y));
    KLN_RETURN_IF_ERROR(ref_doubles(call, x, &rows));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)f.outputs, sizeof *totals, &totals));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)f.outputs, sizeof *some, &some));
    for (int64_t i = 0; i < dims[0]; i++) {
        KLN_RETURN_IF_ERROR(ref_spend(call, (double)f.roots + (double)f.outputs));
        KLN_RETURN_IF_ERROR(sum_trees(&f, rows + i * x->dims[1], totals, some));
        transform(kind, f.outputs, totals);
        ref_store_float(y, i * f.outputs, 1, f.outputs, totals);
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_trees[] = {
    REF_OP_OF("ai.onnx.ml", "TreeEnsemble", 5, tree_ensemble, 0, "f"),
    REF_KERNELS_END
};
/* clang-format on */
