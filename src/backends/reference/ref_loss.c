/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

/* Losses by class: x is [N, C, ...], the targets [N, ...]. */
typedef struct loss {
    const ref_tensor *x;
    const ref_tensor *target;
    const ref_tensor *weight; /* for each class, or NULL */
    const double *log_prob;   /* NULL: x holds it */
    int64_t classes, inner;
    int64_t ignored;
    bool ignores;
} loss;

static kiln_status read_loss(const ref_call *call, loss *l)
{
    KLN_RETURN_IF_ERROR(ref_need_float(call, 0, &l->x));
    KLN_RETURN_IF_ERROR(ref_need_number(call, 1, &l->target));
    l->weight = ref_input(call, 2);
    KLN_RETURN_IF(l->x->rank < 2 || l->target->rank != l->x->rank - 1 ||
                      (l->weight != NULL && l->weight->count != l->x->dims[1]),
                  KILN_ERROR_SHAPE,
                  "a target for each row of scores and a weight for each class are needed");
    l->classes = l->x->dims[1];
    l->inner = ref_product(l->x->dims, 2, l->x->rank);
    l->ignores = ref_attribute(call, "ignore_index") != NULL;
    l->ignored = ref_attribute_int(call, "ignore_index", 0);
    bool fits = l->classes > 0 && l->target->dims[0] == l->x->dims[0];
    for (int i = 1; i < l->target->rank; i++) {
        fits = fits && l->target->dims[i] == l->x->dims[i + 1];
    }
    return fits ? KILN_OK
                : kln_fail(KILN_ERROR_SHAPE, "%lld targets do not fit %lld scores of %lld classes",
                           (long long)l->target->count, (long long)l->x->count,
                           (long long)l->classes);
}

/* The loss for target `i`, multiplied by its weight. */
static kiln_status one_loss(const loss *l, int64_t i, double *value, double *weight)
{
    const int64_t target = ref_get_int(l->target, i);
    *value = 0.0;
    *weight = 0.0;
    if (l->ignores && target == l->ignored) {
        return KILN_OK;
    }
    KLN_RETURN_IF(target < 0 || target >= l->classes, KILN_ERROR_INVALID_NETWORK,
                  "target %lld of %lld classes", (long long)target, (long long)l->classes);
    const int64_t at = (i / l->inner * l->classes + target) * l->inner + i % l->inner;
    *weight = l->weight != NULL ? ref_get_float(l->weight, target) : 1.0;
    *value = -(l->log_prob != NULL ? l->log_prob[at] : ref_get_float(l->x, at)) * *weight;
    return KILN_OK;
}

static kiln_status compute(ref_call *call, const loss *l)
{
    const char *reduction = ref_attribute_string(call, "reduction", "mean");
    const bool each = strcmp(reduction, "none") == 0;
    ref_tensor *y = NULL;
    double sum = 0.0;
    double weights = 0.0;
    KLN_RETURN_IF_ERROR(
        ref_output(call, 0, l->x->dtype, each ? l->target->rank : 0, l->target->dims, &y));
    for (int64_t i = 0; i < l->target->count; i++) {
        double value = 0.0;
        double weight = 0.0;
        KLN_RETURN_IF_ERROR(one_loss(l, i, &value, &weight));
        if (each) {
            ref_put_float(y, i, value);
        }
        sum += value;
        weights += weight;
    }
    if (!each) {
        ref_put_float(y, 0, strcmp(reduction, "mean") == 0 ? sum / weights : sum);
    }
    return KILN_OK;
}

static kiln_status ref_op_nll_loss(ref_call *call)
{
    loss l = {.x = NULL};
    KLN_RETURN_IF_ERROR(read_loss(call, &l));
    return compute(call, &l);
}

static kiln_status ref_op_cross_entropy(ref_call *call)
{
    loss l = {.x = NULL};
    double *v = NULL;
    KLN_RETURN_IF_ERROR(read_loss(call, &l));
    KLN_RETURN_IF_ERROR(ref_doubles(call, l.x, &v));
    for (int64_t i = 0; i < l.target->count; i++) {
        double *row = v + i / l.inner * l.classes * l.inner + i % l.inner;
        double most = row[0];
        double sum = 0.0;
        for (int64_t c = 0; c < l.classes; c++) {
            most = fmax(most, row[c * l.inner]);
        }
        for (int64_t c = 0; c < l.classes; c++) {
            sum += exp(row[c * l.inner] - most);
        }
        for (int64_t c = 0; c < l.classes; c++) {
            row[c * l.inner] -= most + log(sum);
        }
    }
    l.log_prob = v;
    if (ref_wants(call, 1)) {
        ref_tensor *kept = NULL;
        KLN_RETURN_IF_ERROR(ref_output(call, 1, l.x->dtype, l.x->rank, l.x->dims, &kept));
        ref_store_float(kept, 0, 1, kept->count, v);
    }
    return compute(call, &l);
}

/* clang-format off */
const ref_kernel ref_kernels_loss[] = {
    REF_OP("NegativeLogLikelihoodLoss", 12, nll_loss, 0),
    REF_OP("SoftmaxCrossEntropyLoss", 12, cross_entropy, 0),
    REF_KERNELS_END
};
/* clang-format on */
