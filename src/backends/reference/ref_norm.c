/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"
#include "ref_rows.h"

static void moments(const double *v, int64_t n, double *mean, double *variance)
{
    double sum = 0.0;
    double squares = 0.0;
    for (int64_t i = 0; i < n; i++) {
        sum += v[i];
    }
    *mean = n > 0 ? sum / (double)n : 0.0;
    for (int64_t i = 0; i < n; i++) {
        squares += (v[i] - *mean) * (v[i] - *mean);
    }
    *variance = n > 0 ? squares / (double)n : 0.0;
}

static kiln_status channel_values(ref_call *call, size_t index, int64_t channels, double **values)
{
    const ref_tensor *tensor = NULL;
    KLN_RETURN_IF_ERROR(ref_need_float(call, index, &tensor));
    KLN_RETURN_IF(tensor->count != channels, KILN_ERROR_SHAPE,
                  "input %zu has %lld elements for %lld channels", index, (long long)tensor->count,
                  (long long)channels);
    return ref_doubles(call, tensor, values);
}

/* Training: the moments of the batch, and running ones that follow them. */
static kiln_status batch_moments(ref_call *call, const ref_tensor *x, double *mean, double *var)
{
    const double momentum = (double)ref_attribute_float(call, "momentum", (double)0.9F);
    const int64_t channels = x->dims[1];
    const int64_t inner = ref_product(x->dims, 2, x->rank);
    ref_tensor *running[2] = {NULL, NULL};
    double *row = NULL;
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)(x->dims[0] * inner), sizeof *row, &row));
    for (size_t i = 0; i < 2; i++) {
        if (ref_wants(call, i + 1)) {
            KLN_RETURN_IF_ERROR(
                ref_output(call, i + 1, ref_input(call, i + 3)->dtype, 1, &channels, &running[i]));
        }
    }
    for (int64_t c = 0; c < channels; c++) {
        const double before[2] = {mean[c], var[c]};
        for (int64_t n = 0; n < x->dims[0]; n++) {
            ref_load_float(x, (n * channels + c) * inner, 1, inner, row + n * inner);
        }
        moments(row, x->dims[0] * inner, &mean[c], &var[c]);
        const double now[2] = {mean[c], var[c]};
        for (int i = 0; i < 2; i++) {
            if (running[i] != NULL) {
                ref_put_float(running[i], c, before[i] * momentum + now[i] * (1.0 - momentum));
            }
        }
    }
    return KILN_OK;
}

static kiln_status ref_op_batch_normalization(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    double *p[4]; /* scale, bias, mean, variance */
    KLN_RETURN_IF(x->rank < 1, KILN_ERROR_RANK, "a batch is needed");
    const int64_t channels = x->rank > 1 ? x->dims[1] : 1;
    for (size_t i = 0; i < 4; i++) {
        KLN_RETURN_IF_ERROR(channel_values(call, i + 1, channels, &p[i]));
    }
    const bool training = ref_attribute_int(call, "training_mode", 0) != 0 ||
                          (call->node->version < 7 && ref_attribute_int(call, "is_test", 0) == 0);
    if (training && x->rank > 1) {
        KLN_RETURN_IF_ERROR(batch_moments(call, x, p[2], p[3]));
    }
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, x->dims, &y));
    const double epsilon = (double)ref_attribute_float(call, "epsilon", (double)1e-5F);
    const int64_t inner = x->rank > 1 ? ref_product(x->dims, 2, x->rank) : 1;
    double chunk[REF_CHUNK];
    for (int64_t i = 0; inner > 0 && i < x->count / inner; i++) {
        const int64_t c = i % channels;
        const double scale = p[0][c] / sqrt(p[3][c] + epsilon);
        for (int64_t j = 0; j < inner; j += REF_CHUNK) {
            const int64_t n = inner - j < REF_CHUNK ? inner - j : REF_CHUNK;
            ref_load_float(x, i * inner + j, 1, n, chunk);
            for (int64_t k = 0; k < n; k++) {
                chunk[k] = (chunk[k] - p[2][c]) * scale + p[1][c];
            }
            ref_store_float(y, i * inner + j, 1, n, chunk);
        }
    }
    return KILN_OK;
}

/* Expands scale or bias to the dimensions from `axis` on; without the input all are `otherwise`. */
static kiln_status spread_over(ref_call *call, const ref_tensor *tensor, const ref_tensor *x,
                               int axis, double otherwise, double **values)
{
    if (tensor != NULL) {
        return ref_spread(call, tensor, x->rank - axis, x->dims + axis, values);
    }
    const int64_t n = ref_product(x->dims, axis, x->rank);
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)n, sizeof **values, values));
    for (int64_t i = 0; i < n; i++) {
        (*values)[i] = otherwise;
    }
    return KILN_OK;
}

/* Means and variances of up to REF_BESIDE rows of `n` elements, from row `row` on; if not centred,
 * 0 and the mean square. */
static void moments_beside(const ref_tensor *x, int64_t row, int64_t n, bool centred, double *means,
                           double *variances)
{
    const int64_t left = x->count / n - row;
    const int64_t rows = left < REF_BESIDE ? left : REF_BESIDE;
    memset(means, 0, REF_BESIDE * sizeof *means);
    if (centred) {
        ref_sum_rows(x, row * n, n, rows, n, NULL, means);
    }
    for (int64_t r = 0; r < rows; r++) {
        means[r] /= (double)n;
    }
    ref_sum_rows(x, row * n, n, rows, n, means, variances);
    for (int64_t r = 0; r < rows; r++) {
        variances[r] /= (double)n;
    }
}

REF_WIDE static void normalize(int64_t n, double mean, double factor, const double *scale,
                               const double *bias, double *v)
{
    for (int64_t i = 0; i < n; i++) {
        v[i] = (v[i] - mean) * factor * scale[i] + bias[i];
    }
}

/* Normalizes consecutive elements with the same scale and bias. */
REF_WIDE static void normalize_run(int64_t n, double mean, double factor, double scale, double bias,
                                   double *v)
{
    for (int64_t i = 0; i < n; i++) {
        v[i] = (v[i] - mean) * factor * scale + bias;
    }
}

/* LayerNormalization, which is centred, and RMSNormalization, whose result has the scale's type. */
static kiln_status normalize_rows(ref_call *call, bool centred)
{
    const ref_tensor *x = NULL;
    ref_tensor *y = NULL;
    const ref_tensor *factors = ref_input(call, 1);
    ref_tensor *kept[2] = {NULL, NULL}; /* mean, if there is one, and 1 / deviation */
    double *scale = NULL;
    double *bias = NULL;
    double *row = NULL;
    int axis = 0;
    KLN_RETURN_IF_ERROR(ref_need_float(call, 0, &x));
    KLN_RETURN_IF_ERROR(ref_axis(call, ref_attribute_int(call, "axis", -1), x->rank, &axis));
    KLN_RETURN_IF_ERROR(spread_over(call, factors, x, axis, 1.0, &scale));
    KLN_RETURN_IF_ERROR(
        spread_over(call, centred ? ref_input(call, 2) : NULL, x, axis, 0.0, &bias));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, centred || factors == NULL ? x->dtype : factors->dtype,
                                   x->rank, x->dims, &y));
    int64_t dims[REF_RANK];
    for (int i = 0; i < x->rank; i++) {
        dims[i] = i < axis ? x->dims[i] : 1;
    }
    for (size_t i = centred ? 0 : 1; i < 2; i++) {
        const size_t output = centred ? i + 1 : i;
        const kiln_dtype stash = kln_onnx_dtype((int32_t)ref_attribute_int(call, "stash_type", 1));
        if (ref_wants(call, output)) {
            KLN_RETURN_IF_ERROR(ref_output(
                call, output, ref_domain_of(stash) == REF_DOMAIN_FLOAT ? stash : KILN_DTYPE_FLOAT32,
                x->rank, dims, &kept[i]));
        }
    }
    const int64_t n = ref_product(x->dims, axis, x->rank);
    const double epsilon = (double)ref_attribute_float(call, "epsilon", (double)1e-5F);
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)n, sizeof *row, &row));
    double means[REF_BESIDE];
    double variances[REF_BESIDE];
    for (int64_t i = 0; n > 0 && i < x->count / n; i++) {
        const int64_t r = i % REF_BESIDE;
        if (r == 0) {
            moments_beside(x, i, n, centred, means, variances);
        }
        const double factor = 1.0 / sqrt(variances[r] + epsilon);
        ref_load_float(x, i * n, 1, n, row);
        normalize(n, means[r], factor, scale, bias, row);
        ref_store_float(y, i * n, 1, n, row);
        for (int k = 0; k < 2; k++) {
            if (kept[k] != NULL) {
                ref_put_float(kept[k], i, k == 0 ? means[r] : factor);
            }
        }
    }
    return KILN_OK;
}

static kiln_status ref_op_layer_normalization(ref_call *call)
{
    return normalize_rows(call, true);
}

static kiln_status ref_op_rms_normalization(ref_call *call)
{
    return normalize_rows(call, false);
}

/* Groups of channels are rows; scale and bias are per channel, or before version 21 per group. */
static kiln_status normalize_groups(ref_call *call, int64_t groups, bool by_group)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    double *scale = NULL;
    double *bias = NULL;
    double *row = NULL;
    const int64_t channels = x->dims[1];
    KLN_RETURN_IF(groups <= 0 || channels % groups != 0, KILN_ERROR_SHAPE,
                  "%lld channels do not make %lld groups", (long long)channels, (long long)groups);
    KLN_RETURN_IF_ERROR(channel_values(call, 1, by_group ? groups : channels, &scale));
    KLN_RETURN_IF_ERROR(channel_values(call, 2, by_group ? groups : channels, &bias));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, x->dims, &y));
    const int64_t inner = ref_product(x->dims, 2, x->rank);
    const int64_t n = channels / groups * inner;
    const double epsilon = (double)ref_attribute_float(call, "epsilon", (double)1e-5F);
    const int64_t run = by_group ? n : inner;
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)n, sizeof *row, &row));
    double means[REF_BESIDE];
    double variances[REF_BESIDE];
    for (int64_t i = 0; n > 0 && i < x->count / n; i++) {
        const int64_t r = i % REF_BESIDE;
        if (r == 0) {
            moments_beside(x, i, n, true, means, variances);
        }
        const double factor = 1.0 / sqrt(variances[r] + epsilon);
        ref_load_float(x, i * n, 1, n, row);
        for (int64_t j = 0; j < n; j += run) {
            const int64_t c = by_group ? i % groups : (i * n + j) / inner % channels;
            normalize_run(run, means[r], factor, scale[c], bias[c], row + j);
        }
        ref_store_float(y, i * n, 1, n, row);
    }
    return KILN_OK;
}

static kiln_status need_channels(const ref_call *call, const ref_tensor **x)
{
    KLN_RETURN_IF_ERROR(ref_need_float(call, 0, x));
    return (*x)->rank >= 2
               ? KILN_OK
               : kln_fail(KILN_ERROR_RANK, "2 dimensions or more are needed, batch and channels");
}

static kiln_status ref_op_group_normalization(ref_call *call)
{
    const ref_tensor *x = NULL;
    KLN_RETURN_IF_ERROR(need_channels(call, &x));
    return normalize_groups(call, ref_attribute_int(call, "num_groups", 0),
                            call->node->version < 21);
}

static kiln_status ref_op_instance_normalization(ref_call *call)
{
    const ref_tensor *x = NULL;
    KLN_RETURN_IF_ERROR(need_channels(call, &x));
    return normalize_groups(call, x->dims[1], false);
}

/* Processes rows of elements of as many sets from `set` on, with their means and mean squares in
 * `sets`: each a sum of quotients, in order. */
static void take_rows(const ref_block *block, int pass, double each, double *sets, ref_tensor *y)
{
    double means[REF_BESIDE] = {0};
    double totals[REF_BESIDE] = {0};
    double chunk[REF_CHUNK];
    for (int64_t r = 0; pass < 2 && r < block->rows; r++) {
        means[r] = pass > 0 ? sets[2 * r] : 0.0;
        totals[r] = sets[2 * r + pass];
    }
    if (pass < 2) {
        ref_fold_rows(block, pass == 0 ? REF_TERM_SHARE : REF_TERM_SQUARE_SHARE, means, each,
                      totals);
    }
    for (int64_t r = 0; pass < 2 && r < block->rows; r++) {
        sets[2 * r + pass] = totals[r];
    }
    for (int64_t at = 0; pass == 2 && at < block->rows * block->n;) {
        const int64_t r = at / block->n;
        const int64_t left = block->n - at % block->n;
        const int64_t count = left < REF_CHUNK ? left : REF_CHUNK;
        const double divisor = sqrt(sets[2 * r + 1]) + 1e-9;
        ref_load_float(block->x, block->start + at, 1, count, chunk);
        for (int64_t i = 0; i < count; i++) {
            chunk[i] = (chunk[i] - sets[2 * r]) / divisor;
        }
        ref_store_float(y, block->start + at, 1, count, chunk);
        at += count;
    }
}

static kiln_status ref_op_mean_variance(ref_call *call)
{
    static const int64_t usual[3] = {0, 2, 3};
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    size_t count = 0;
    uint32_t mask = 0;
    const int64_t *axes = ref_attribute_ints(call, "axes", &count);
    KLN_RETURN_IF_ERROR(
        ref_axes(call, axes != NULL ? axes : usual, axes != NULL ? count : 3, x->rank, &mask));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, x->dims, &y));
    /* The mean and the mean square of each set, indexed by the remaining dimensions. */
    int64_t dense[REF_RANK];
    int64_t sets[REF_RANK];
    int64_t set_count = 1;
    for (int i = x->rank - 1; i >= 0; i--) {
        const bool stays = (mask >> i & 1U) == 0;
        sets[i] = stays ? set_count : 0;
        set_count *= stays ? x->dims[i] : 1;
    }
    ref_dense_strides(x->rank, x->dims, dense);
    double *sums = NULL;
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)set_count * 2, sizeof *sums, &sums));
    memset(sums, 0, (size_t)set_count * 2 * sizeof *sums);
    const double each = (double)x->count / (double)(set_count > 0 ? set_count : 1);
    for (int pass = 0; pass < 3; pass++) {
        ref_block block = {.rows = 0}; /* rows of neighbouring sets, still to be processed */
        int64_t set = 0;
        ref_walk walk;
        ref_walk_init(&walk, x->rank, x->dims);
        ref_walk_add(&walk, dense);
        ref_walk_add(&walk, sets);
        ref_walk_begin(&walk);
        while (ref_walk_next(&walk)) {
            const bool is_run = walk.step[0] == 1 && walk.step[1] == 0;
            if (block.rows > 0 && (!is_run || block.rows == REF_BESIDE ||
                                   walk.offset[0] != block.start + block.rows * block.n ||
                                   walk.offset[1] != set + block.rows)) {
                take_rows(&block, pass, each, sums + 2 * set, y);
                block.rows = 0;
            }
            if (is_run && block.rows++ == 0) {
                block = (ref_block){x, walk.offset[0], walk.length, 1, walk.length};
                set = walk.offset[1];
            }
            for (int64_t i = 0; !is_run && i < walk.length; i++) {
                const int64_t at = walk.offset[0] + i * walk.step[0];
                double *s = sums + 2 * (walk.offset[1] + i * walk.step[1]);
                const double v = ref_get_float(x, at) - (pass > 0 ? s[0] : 0.0);
                if (pass == 2) {
                    ref_put_float(y, at, v / (sqrt(s[1]) + 1e-9));
                } else {
                    s[pass] += (pass == 0 ? v : v * v) / each;
                }
            }
        }
        take_rows(&block, pass, each, sums + 2 * set, y);
    }
    return KILN_OK;
}

/* Divides rows or columns by their norms: `step` is 0 or 1. */
REF_WIDE static void divide_all(int64_t n, const double *norms, int64_t step, double *v)
{
    for (int64_t i = 0; i < n; i++) {
        const double norm = norms[i * step];
        v[i] = norm == 0.0 ? 0.0 : v[i] / norm;
    }
}

static kiln_status ref_op_lp_normalization(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    double *row = NULL;
    int axis = 0;
    KLN_RETURN_IF_ERROR(ref_axis(call, ref_attribute_int(call, "axis", -1), x->rank, &axis));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, x->dims, &y));
    const bool first = ref_attribute_int(call, "p", 2) == 1;
    const ref_term term = first ? REF_TERM_MAGNITUDE : REF_TERM_SQUARE;
    const int64_t n = x->dims[axis];
    const int64_t inner = ref_product(x->dims, axis + 1, x->rank);
    const int64_t length = inner > 1 ? REF_COLUMNS : n;
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)length, sizeof *row, &row));
    for (int64_t i = 0; x->count > 0 && i < x->count / n;) {
        const int64_t start = i / inner * n * inner + i % inner;
        const int64_t most = inner > 1 ? REF_COLUMNS : REF_BESIDE;
        const int64_t left = inner > 1 ? inner - i % inner : x->count / n - i;
        const int64_t some = left < most ? left : most;
        double norms[REF_COLUMNS] = {0};
        if (inner > 1) {
            ref_fold_columns(x, start, inner, n, some, term, norms);
        } else {
            const ref_block block = {x, start, n, some, n};
            ref_fold_rows(&block, term, NULL, 1.0, norms);
        }
        for (int64_t k = 0; !first && k < some; k++) {
            norms[k] = sqrt(norms[k]);
        }
        for (int64_t k = 0; k < (inner > 1 ? n : some); k++) {
            const int64_t at = inner > 1 ? start + k * inner : start + k * n;
            const int64_t count = inner > 1 ? some : n;
            ref_load_float(x, at, 1, count, row);
            divide_all(count, inner > 1 ? norms : norms + k, inner > 1, row);
            ref_store_float(y, at, 1, count, row);
        }
        i += some;
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_norm[] = {
    REF_OP("BatchNormalization", 6, batch_normalization, 0, "f"),
    REF_OP("LayerNormalization", 17, layer_normalization, 0),
    REF_OP("RMSNormalization", 23, rms_normalization, 0),
    REF_OP("GroupNormalization", 18, group_normalization, 0),
    REF_OP("InstanceNormalization", 6, instance_normalization, 0),
    REF_OP("MeanVarianceNormalization", 9, mean_variance, 0, "f"),
    REF_OP("LpNormalization", 1, lp_normalization, 0, "f"),
    REF_OP("SimplifiedLayerNormalization", 1, rms_normalization, 0, "ff"),
    REF_KERNELS_END
};
/* clang-format on */
