/* Sampling at positions given by a tensor, and determinants.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

#define MOST_SPATIAL 3

/* --- GridSample --- */

typedef struct sampling {
    int rank; /* number of spatial dimensions */
    int64_t dims[MOST_SPATIAL];
    char mode;    /* nearest, linear, cubic */
    char padding; /* zeros, border, reflection */
    bool aligned;
} sampling;

static double reflect(double x, double low, double high)
{
    const double range = high - low;
    if (range <= 0.0 || (x >= low && x <= high)) {
        return range <= 0.0 ? low : x;
    }
    const double past = x < low ? low - x : x - high;
    const double turns = floor(past / range);
    const double rest = past - turns * range;
    const bool even = fmod(turns, 2.0) == 0.0;
    return even == (x < low) ? low + rest : high - rest;
}

/* Maps an index outside the image to one inside, or to -1 for a zero. */
static int64_t sample_index(const sampling *s, int axis, double at)
{
    const int64_t size = s->dims[axis];
    const double last = (double)(size - 1);
    if (at >= 0.0 && at <= last) {
        return (int64_t)at;
    }
    if (s->padding == 'b') {
        return at < 0.0 ? 0 : size - 1;
    }
    if (s->padding == 'r') {
        const double margin = s->aligned ? 0.0 : 0.5;
        const int64_t turned = (int64_t)reflect(at, -margin, last + margin);
        return turned < 0 ? 0 : turned >= size ? size - 1 : turned;
    }
    return -1;
}

/* Converts a normalized coordinate to pixels. */
static double pixel_of(const sampling *s, int axis, double v)
{
    const double size = (double)s->dims[axis];
    const double margin = s->aligned ? 0.0 : 0.5;
    double x = s->aligned ? (v + 1.0) / 2.0 * (size - 1.0) : ((v + 1.0) * size - 1.0) / 2.0;
    x = s->mode == 'n' ? ref_round_even(x) : x;
    if (x < -margin || x > size - 1.0 + margin) {
        if (s->padding == 'b') {
            x = fmin(fmax(x, 0.0), size - 1.0);
        } else if (s->padding == 'r') {
            x = reflect(x, -margin, size - 1.0 + margin);
        }
    }
    return x;
}

/* Computes the indices and weights around `x` along one axis. */
static int make_taps(const sampling *s, int axis, double x, int64_t index[4], double weight[4])
{
    const double base = s->mode == 'n' ? x : floor(x);
    const int count = s->mode == 'n' ? 1 : s->mode == 'c' ? 4 : 2;
    const int before = s->mode == 'c' ? 1 : 0;
    for (int i = 0; i < count; i++) {
        const double at = base + (double)(i - before);
        index[i] = sample_index(s, axis, at);
        weight[i] = s->mode == 'n'   ? 1.0
                    : s->mode == 'c' ? ref_cubic_weight(x - at, -0.75)
                                     : 1.0 - fabs(x - at);
    }
    return count;
}

/* The value at one position in each of `channels` planes. */
static void sample(const sampling *s, const double *place, const double *x, int64_t channels,
                   int64_t plane, double *out)
{
    int64_t index[MOST_SPATIAL][4];
    double weight[MOST_SPATIAL][4];
    int count = 1;
    int all = 1;
    for (int i = 0; i < s->rank; i++) {
        count = make_taps(s, i, pixel_of(s, i, place[s->rank - 1 - i]), index[i], weight[i]);
        all *= count;
    }
    for (int64_t c = 0; c < channels; c++) {
        out[c] = 0.0;
    }
    for (int k = 0; k < all; k++) {
        int64_t at = 0;
        double product = 1.0;
        int rest = k;
        for (int i = 0; i < s->rank && at >= 0; i++) {
            const int tap = rest % count;
            rest /= count;
            at = index[i][tap] < 0 ? -1 : at * s->dims[i] + index[i][tap];
            product *= weight[i][tap];
        }
        /* Terms with a factor of 0 are skipped, because the element may be infinite. */
        for (int64_t c = 0; at >= 0 && product != 0.0 && c < channels; c++) {
            out[c] += product * x[c * plane + at];
        }
    }
}

static kiln_status read_sampling(const ref_call *call, const ref_tensor *x, const ref_tensor *grid,
                                 sampling *s)
{
    s->rank = x->rank - 2;
    bool fits = s->rank >= 1 && s->rank <= MOST_SPATIAL && grid->rank == x->rank &&
                grid->dims[0] == x->dims[0] && grid->dims[grid->rank - 1] == s->rank;
    for (int i = 0; fits && i < s->rank; i++) {
        s->dims[i] = x->dims[i + 2];
        fits = s->dims[i] > 0;
    }
    const char *mode = ref_attribute_string(call, "mode", "linear");
    s->mode = strcmp(mode, "bilinear") == 0 ? 'l' : strcmp(mode, "bicubic") == 0 ? 'c' : mode[0];
    s->padding = ref_attribute_string(call, "padding_mode", "zeros")[0];
    s->aligned = ref_attribute_int(call, "align_corners", 0) != 0;
    return fits ? KILN_OK
                : kln_fail(KILN_ERROR_SHAPE,
                           "the grid needs the input's rank and batches, and a number for each of "
                           "its 1 to 3 spatial "
                           "dimensions, none of which is empty");
}

static kiln_status ref_op_grid_sample(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const ref_tensor *grid = ref_input(call, 1);
    ref_tensor *y = NULL;
    sampling s = {0};
    double *values = NULL;
    double *out = NULL;
    KLN_RETURN_IF_ERROR(read_sampling(call, x, grid, &s));
    int64_t dims[REF_RANK] = {x->dims[0], x->dims[1]};
    memcpy(dims + 2, grid->dims + 1, (size_t)s.rank * sizeof *dims);
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, dims, &y));
    KLN_RETURN_IF_ERROR(ref_doubles(call, x, &values));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)x->dims[1], sizeof *out, &out));
    const int64_t places = ref_product(dims, 2, x->rank);
    const int64_t plane = ref_product(x->dims, 2, x->rank);
    for (int64_t i = 0; i < x->dims[0] * places; i++) {
        double place[MOST_SPATIAL];
        const int64_t n = i / places;
        ref_load_float(grid, i * s.rank, 1, s.rank, place);
        bool finite = true;
        for (int k = 0; k < s.rank; k++) {
            finite = finite && isfinite(place[k]) && fabs(place[k]) < 1e12;
        }
        memset(out, 0, (size_t)dims[1] * sizeof *out);
        if (finite) {
            sample(&s, place, values + n * dims[1] * plane, dims[1], plane, out);
        }
        ref_store_float(y, n * dims[1] * places + i % places, places, dims[1], out);
    }
    return KILN_OK;
}

/* --- AffineGrid --- */

static double grid_point(int64_t i, int64_t size, bool aligned)
{
    if (aligned) {
        return size > 1 ? -1.0 + 2.0 * (double)i / (double)(size - 1) : -1.0;
    }
    return (2.0 * (double)i + 1.0) / (double)size - 1.0;
}

static kiln_status ref_op_affine_grid(ref_call *call)
{
    const ref_tensor *theta = ref_input(call, 0);
    const int64_t *size = NULL;
    size_t count = 0;
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(ref_int_list(call, 1, NULL, &size, &count));
    const int rank = (int)count - 2;
    KLN_RETURN_IF(
        rank < 2 || rank > MOST_SPATIAL || theta->rank != 3 || theta->dims[0] != size[0] ||
            theta->dims[1] != rank || theta->dims[2] != rank + 1,
        KILN_ERROR_SHAPE,
        "theta must be batches x n x n + 1, where the size is batches, channels and n numbers, 2 "
        "or 3; it has %zu",
        count);
    int64_t dims[MOST_SPATIAL + 2] = {size[0]};
    memcpy(dims + 1, size + 2, (size_t)rank * sizeof *dims);
    dims[rank + 1] = rank;
    KLN_RETURN_IF_ERROR(ref_output(call, 0, theta->dtype, rank + 2, dims, &y));
    const bool aligned = ref_attribute_int(call, "align_corners", 0) != 0;
    double *matrix = NULL;
    double *points[MOST_SPATIAL] = {NULL}; /* for each dimension; x varies fastest */
    KLN_RETURN_IF_ERROR(ref_doubles(call, theta, &matrix));
    for (int k = 0; k < rank; k++) {
        const int64_t dim = dims[rank - k];
        KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)dim, sizeof *points[k], &points[k]));
        for (int64_t i = 0; i < dim; i++) {
            points[k][i] = grid_point(i, dim, aligned);
        }
    }
    int64_t index[MOST_SPATIAL + 1] = {0};
    for (int64_t i = 0; i < y->count; i += rank) {
        double place[MOST_SPATIAL];
        for (int row = 0; row < rank; row++) {
            const double *m = matrix + (index[rank] * rank + row) * (rank + 1);
            place[row] = m[rank];
            for (int k = 0; k < rank; k++) {
                place[row] += m[k] * points[k][index[k]];
            }
        }
        ref_store_float(y, i, 1, rank, place);
        for (int k = 0; k <= rank && ++index[k] == dims[rank - k]; k++) {
            index[k] = 0;
        }
    }
    return KILN_OK;
}

/* --- Det --- */

/* Gaussian elimination with the largest pivot of each column. */
static double determinant(double *m, int64_t n)
{
    double result = 1.0;
    for (int64_t c = 0; c < n; c++) {
        int64_t pivot = c;
        for (int64_t r = c + 1; r < n; r++) {
            pivot = fabs(m[r * n + c]) > fabs(m[pivot * n + c]) ? r : pivot;
        }
        if (m[pivot * n + c] == 0.0) {
            return 0.0;
        }
        for (int64_t k = 0; pivot != c && k < n; k++) {
            const double held = m[c * n + k];
            m[c * n + k] = m[pivot * n + k];
            m[pivot * n + k] = held;
        }
        result *= pivot != c ? -m[c * n + c] : m[c * n + c];
        for (int64_t r = c + 1; r < n; r++) {
            const double factor = m[r * n + c] / m[c * n + c];
            for (int64_t k = c; k < n; k++) {
                m[r * n + k] -= factor * m[c * n + k];
            }
        }
    }
    return result;
}

static kiln_status ref_op_det(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    double *values = NULL;
    KLN_RETURN_IF(x->rank < 2 || x->dims[x->rank - 1] != x->dims[x->rank - 2], KILN_ERROR_SHAPE,
                  "square matrices are needed");
    const int64_t n = x->dims[x->rank - 1];
    KLN_RETURN_IF_ERROR(ref_spend(call, (double)x->count * (double)n));
    KLN_RETURN_IF_ERROR(ref_doubles(call, x, &values));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank - 2, x->dims, &y));
    for (int64_t i = 0; i < y->count; i++) {
        ref_put_float(y, i, determinant(values + i * n * n, n));
    }
    return KILN_OK;
}

/* --- regions --- */

typedef struct regions {
    const ref_tensor *x;
    const ref_tensor *rois;
    int64_t height, width;
    double scale;
    double offset; /* half a pixel, or 0 */
    int64_t ratio; /* samples along a bin's edge; 0: one per pixel */
    bool max;
} regions;

/* Adds up the four weighted neighbours of a position, or takes their maximum. */
static double neighbours(const regions *r, const double *plane, double y, double x)
{
    if (y < -1.0 || y > (double)r->height || x < -1.0 || x > (double)r->width) {
        return 0.0;
    }
    y = fmin(fmax(y, 0.0), (double)(r->height - 1));
    x = fmin(fmax(x, 0.0), (double)(r->width - 1));
    const int64_t top = (int64_t)y;
    const int64_t left = (int64_t)x;
    const int64_t bottom = top + 1 < r->height ? top + 1 : top;
    const int64_t right = left + 1 < r->width ? left + 1 : left;
    const double v = y - (double)top;
    const double u = x - (double)left;
    const double parts[4] = {(1.0 - v) * (1.0 - u) * plane[top * r->width + left],
                             (1.0 - v) * u * plane[top * r->width + right],
                             v * (1.0 - u) * plane[bottom * r->width + left],
                             v * u * plane[bottom * r->width + right]};
    return r->max ? ref_greater(ref_greater(parts[0], parts[1]), ref_greater(parts[2], parts[3]))
                  : parts[0] + parts[1] + parts[2] + parts[3];
}

static double align_bin(const regions *r, const double *plane, const double corner[2],
                        const double bin[2], const int64_t samples[2])
{
    double result = 0.0;
    const double count = (double)(samples[0] * samples[1] > 1 ? samples[0] * samples[1] : 1);
    for (int64_t i = 0; i < samples[0]; i++) {
        for (int64_t j = 0; j < samples[1]; j++) {
            const double y = corner[0] + ((double)i + 0.5) * bin[0] / (double)samples[0];
            const double x = corner[1] + ((double)j + 0.5) * bin[1] / (double)samples[1];
            const double v = neighbours(r, plane, y, x);
            result = !r->max ? result + v / count : i + j == 0 ? v : ref_greater(result, v);
        }
    }
    return result;
}

static kiln_status check_regions(const regions *r, const ref_tensor *batches, int64_t columns)
{
    const bool fits = r->x->rank == 4 && r->rois->rank == 2 && r->rois->dims[1] == columns &&
                      (batches == NULL || batches->count == r->rois->dims[0]);
    return fits && r->x->count > 0 ? KILN_OK
                                   : kln_fail(KILN_ERROR_SHAPE,
                                              "an input of 4 dimensions and, for each region, a "
                                              "row of its corners and a batch are "
                                              "needed");
}

static kiln_status region_batch(const regions *r, double value, int64_t *batch)
{
    *batch = value >= 0.0 && value < (double)r->x->dims[0] ? (int64_t)value : -1;
    return *batch >= 0 ? KILN_OK
                       : kln_fail(KILN_ERROR_INVALID_NETWORK, "a region lies in batch %g", value);
}

static kiln_status ref_op_roi_align(ref_call *call)
{
    regions r = {.x = NULL};
    const ref_tensor *batches = ref_input(call, 2);
    ref_tensor *y = NULL;
    double *values = NULL;
    KLN_RETURN_IF_ERROR(ref_need_float(call, 0, &r.x));
    KLN_RETURN_IF_ERROR(ref_need_float(call, 1, &r.rois));
    KLN_RETURN_IF_ERROR(check_regions(&r, batches, 4));
    const char *place =
        ref_attribute_string(call, "coordinate_transformation_mode",
                             call->node->version < 16 ? "output_half_pixel" : "half_pixel");
    r.offset = strcmp(place, "half_pixel") == 0 ? 0.5 : 0.0;
    r.max = strcmp(ref_attribute_string(call, "mode", "avg"), "max") == 0;
    r.scale = ref_attribute_float(call, "spatial_scale", 1.0);
    r.ratio = ref_attribute_int(call, "sampling_ratio", 0);
    r.height = r.x->dims[2];
    r.width = r.x->dims[3];
    const int64_t dims[4] = {r.rois->dims[0], r.x->dims[1],
                             ref_attribute_int(call, "output_height", 1),
                             ref_attribute_int(call, "output_width", 1)};
    KLN_RETURN_IF_ERROR(ref_output(call, 0, r.x->dtype, 4, dims, &y));
    KLN_RETURN_IF_ERROR(ref_doubles(call, r.x, &values));
    for (int64_t i = 0; i < y->count; i++) {
        const int64_t cell = i % (dims[2] * dims[3]);
        const int64_t channel = i / (dims[2] * dims[3]) % dims[1];
        const int64_t roi = i / (dims[2] * dims[3]) / dims[1];
        double box[4]; /* left, top, right, bottom */
        int64_t batch = 0;
        int64_t samples[2];
        double corner[2];
        double bin[2];
        KLN_RETURN_IF_ERROR(region_batch(&r, ref_get_float(batches, roi), &batch));
        ref_load_float(r.rois, roi * 4, 1, 4, box);
        for (int k = 0; k < 2; k++) {
            const double start = box[1 - k] * r.scale - r.offset;
            double size = box[3 - k] * r.scale - r.offset - start;
            size = r.offset == 0.0 ? fmax(size, 1.0) : size;
            bin[k] = size / (double)dims[2 + k];
            samples[k] = r.ratio > 0 ? r.ratio : (int64_t)fmin(fmax(ceil(bin[k]), 0.0), 65536.0);
            corner[k] = start + bin[k] * (double)(k == 0 ? cell / dims[3] : cell % dims[3]);
        }
        KLN_RETURN_IF_ERROR(ref_spend(call, (double)samples[0] * (double)samples[1]));
        const double *plane = values + (batch * dims[1] + channel) * r.height * r.width;
        ref_put_float(y, i, align_bin(&r, plane, corner, bin, samples));
    }
    return KILN_OK;
}

/* The pixels along one edge of bin `i`: `*begin` to `*end` - 1. */
static void bin_pixels(double low, double high, double scale, int64_t i, int64_t bins,
                       int64_t limit, int64_t *begin, int64_t *end)
{
    const double start = floor(low * scale + 0.5);
    const double size = fmax(floor(high * scale + 0.5) - start + 1.0, 1.0) / (double)bins;
    const double from = floor((double)i * size) + start;
    const double to = ceil((double)(i + 1) * size) + start;
    *begin = (int64_t)fmin(fmax(from, 0.0), (double)limit);
    *end = (int64_t)fmin(fmax(to, 0.0), (double)limit);
}

static kiln_status ref_op_max_roi_pool(ref_call *call)
{
    regions r = {.x = NULL};
    ref_tensor *y = NULL;
    int64_t shape[2];
    KLN_RETURN_IF_ERROR(ref_need_float(call, 0, &r.x));
    KLN_RETURN_IF_ERROR(ref_need_float(call, 1, &r.rois));
    KLN_RETURN_IF_ERROR(check_regions(&r, NULL, 5));
    KLN_RETURN_IF_ERROR(ref_per_dimension(call, "pooled_shape", 2, 1, shape));
    r.scale = ref_attribute_float(call, "spatial_scale", 1.0);
    const int64_t dims[4] = {r.rois->dims[0], r.x->dims[1], shape[0], shape[1]};
    KLN_RETURN_IF_ERROR(ref_output(call, 0, r.x->dtype, 4, dims, &y));
    for (int64_t i = 0; i < y->count; i++) {
        double box[5];
        int64_t batch = 0;
        int64_t span[4];
        ref_load_float(r.rois, i / (dims[1] * dims[2] * dims[3]) * 5, 1, 5, box);
        KLN_RETURN_IF_ERROR(region_batch(&r, box[0], &batch));
        bin_pixels(box[2], box[4], r.scale, i / dims[3] % dims[2], dims[2], r.x->dims[2], &span[0],
                   &span[1]);
        bin_pixels(box[1], box[3], r.scale, i % dims[3], dims[3], r.x->dims[3], &span[2], &span[3]);
        const int64_t plane = batch * dims[1] + i / (dims[2] * dims[3]) % dims[1];
        KLN_RETURN_IF_ERROR(
            ref_spend(call, fabs((double)(span[1] - span[0]) * (double)(span[3] - span[2]))));
        double best = span[0] < span[1] && span[2] < span[3] ? -HUGE_VAL : 0.0;
        for (int64_t row = span[0]; row < span[1]; row++) {
            for (int64_t column = span[2]; column < span[3]; column++) {
                best = ref_greater(
                    best, ref_get_float(r.x, (plane * r.x->dims[2] + row) * r.x->dims[3] + column));
            }
        }
        ref_put_float(y, i, best);
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_spatial[] = {
    REF_OP("GridSample", 16, grid_sample, 0, "nf"),
    REF_OP("AffineGrid", 20, affine_grid, 0, "f"),
    REF_OP("Det", 11, det, 0, "f"),
    REF_OP("RoiAlign", 10, roi_align, 0, "--n"),
    REF_OP("MaxRoiPool", 1, max_roi_pool, 0),
    REF_KERNELS_END
};
/* clang-format on */
