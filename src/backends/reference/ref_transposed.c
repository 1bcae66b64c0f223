/* Kernels that add windows into a larger output: ConvTranspose and Col2Im.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

/* The position in the output that kernel element `k` of window `at` is added to, or -1. */
static int64_t landing(const ref_window_shape *w, int64_t at, int64_t k)
{
    int64_t offset = 0;
    int64_t step = 1;
    for (int i = w->rank - 1; i >= 0; i--) {
        const int64_t place =
            at % w->input[i] * w->stride[i] - w->begin[i] + k % w->kernel[i] * w->dilation[i];
        if (place < 0 || place >= w->output[i]) {
            return -1;
        }
        offset += place * step;
        step *= w->output[i];
        at /= w->input[i];
        k /= w->kernel[i];
    }
    return offset;
}

static void pad_for(ref_window_shape *w, int i, int64_t total, bool upper)
{
    /* Negative if the output is longer than what the windows cover. An odd element is then at the
     * end, as in ONNX's test of output_shape: the quotient rounds down. */
    const int64_t half = total / 2 - (total % 2 < 0);
    w->begin[i] = upper ? half : total - half;
    w->end[i] = total - w->begin[i];
}

/* Determines the output sizes: the given ones, or what the windows cover minus the padding. */
static kiln_status place_output(const ref_call *call, ref_window_shape *w)
{
    int64_t pads[2 * REF_RANK];
    int64_t extra[REF_RANK];
    size_t count = 0;
    const int64_t *given = ref_attribute_ints(call, "output_shape", &count);
    const char *automatic = ref_attribute_string(call, "auto_pad", "NOTSET");
    const bool same = strncmp(automatic, "SAME", 4) == 0;
    const bool upper = strcmp(automatic, "SAME_UPPER") == 0;
    KLN_RETURN_IF_ERROR(ref_per_dimension(call, "output_padding", w->rank, 0, extra));
    KLN_RETURN_IF_ERROR(ref_per_dimension(call, "pads", 2 * w->rank, 0, pads));
    KLN_RETURN_IF(given != NULL && count < (size_t)w->rank, KILN_ERROR_INVALID_NETWORK,
                  "output_shape has %zu entries, %d are needed", count, w->rank);
    for (int i = 0; i < w->rank; i++) {
        KLN_RETURN_IF(w->input[i] > REF_LARGEST || w->kernel[i] > REF_LARGEST, KILN_ERROR_LIMIT,
                      "spatial dimension %d is past what is computed", i);
        const kln_window bare = {.stride = w->stride[i], .dilation = w->dilation[i]};
        const int64_t span = kln_window_span(NULL, &bare, KLN_DIM_OF_NUMBER(w->input[i]),
                                             KLN_DIM_OF_NUMBER(w->kernel[i]))
                                 .of.number +
                             extra[i];
        w->begin[i] = pads[i];
        w->end[i] = pads[i + w->rank];
        if (given != NULL || same) {
            w->output[i] = given != NULL ? given[count - (size_t)w->rank + (size_t)i]
                                         : w->input[i] * w->stride[i];
            KLN_RETURN_IF(w->output[i] < 0 || w->output[i] > REF_LARGEST, KILN_ERROR_SHAPE,
                          "spatial dimension %d is to be %lld", i, (long long)w->output[i]);
            pad_for(w, i, span - w->output[i], upper);
        } else {
            w->output[i] = span - w->begin[i] - w->end[i];
        }
        KLN_RETURN_IF(w->output[i] < 0 || w->output[i] > REF_LARGEST || w->stride[i] <= 0 ||
                          w->dilation[i] <= 0 || w->kernel[i] <= 0,
                      KILN_ERROR_SHAPE, "spatial dimension %d comes out as %lld", i,
                      (long long)w->output[i]);
    }
    return KILN_OK;
}

typedef struct spreading {
    int64_t groups, channels, maps; /* channels and maps of one group */
    int64_t volume, in_size, out_size;
} spreading;

/* Lists the output position of each kernel element of each window, ordered by kernel element. */
static kiln_status list_landings(ref_call *call, const ref_window_shape *w, const spreading *s,
                                 int64_t **landings)
{
    const int64_t dims[2] = {s->volume, s->in_size};
    int64_t count = 0;
    KLN_RETURN_IF_ERROR(ref_count(2, dims, &count));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)count, sizeof **landings, landings));
    for (int64_t k = 0; k < s->volume; k++) {
        for (int64_t at = 0; at < s->in_size; at++) {
            (*landings)[k * s->in_size + at] = landing(w, at, k);
        }
    }
    return KILN_OK;
}

/* Computes one map of a group: a matrix product gives the contribution of the kernel at each
 * position, summed over the channels, and then each element is added to its output position. `room`
 * holds a kernel of all channels, and the product. */
static void spread_map(const spreading *s, const int64_t *landings, const double *x,
                       const double *weights, double *room, double *out)
{
    double *kernel = room;
    double *product = room + s->volume * s->channels;
    for (int64_t c = 0; c < s->channels; c++) {
        for (int64_t k = 0; k < s->volume; k++) {
            kernel[k * s->channels + c] = weights[c * s->maps * s->volume + k];
        }
    }
    memset(product, 0, (size_t)(s->volume * s->in_size) * sizeof *product);
    ref_multiply(s->volume, s->channels, s->in_size, kernel, s->channels, x, s->in_size, product,
                 s->in_size);
    for (int64_t i = 0; i < s->volume * s->in_size; i++) {
        if (landings[i] >= 0) {
            out[landings[i]] += product[i];
        }
    }
}

static kiln_status read_shapes(const ref_call *call, const ref_tensor *x, const ref_tensor *w,
                               ref_window_shape *window, spreading *s)
{
    s->groups = ref_attribute_int(call, "group", 1);
    KLN_RETURN_IF(x->rank < 3 || w->rank != x->rank || s->groups <= 0 || x->dims[1] != w->dims[0] ||
                      x->dims[1] % s->groups != 0,
                  KILN_ERROR_SHAPE,
                  "weights of %d dimensions in %lld groups do not fit an input of %d", w->rank,
                  (long long)s->groups, x->rank);
    window->rank = x->rank - 2;
    memcpy(window->input, x->dims + 2, (size_t)window->rank * sizeof(int64_t));
    memcpy(window->kernel, w->dims + 2, (size_t)window->rank * sizeof(int64_t));
    KLN_RETURN_IF_ERROR(ref_per_dimension(call, "strides", window->rank, 1, window->stride));
    KLN_RETURN_IF_ERROR(ref_per_dimension(call, "dilations", window->rank, 1, window->dilation));
    KLN_RETURN_IF_ERROR(place_output(call, window));
    s->channels = x->dims[1] / s->groups;
    s->maps = w->dims[1];
    KLN_RETURN_IF_ERROR(ref_count(window->rank, window->kernel, &s->volume));
    return ref_count(window->rank, window->input, &s->in_size);
}

static kiln_status ref_op_conv_transpose(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const ref_tensor *w = ref_input(call, 1);
    const ref_tensor *bias = ref_input(call, 2);
    ref_tensor *y = NULL;
    ref_window_shape window = {0};
    spreading s = {0};
    double *xs = NULL;
    double *ws = NULL;
    double *out = NULL;
    KLN_RETURN_IF_ERROR(read_shapes(call, x, w, &window, &s));
    int64_t dims[REF_RANK] = {x->dims[0], s.maps * s.groups};
    memcpy(dims + 2, window.output, (size_t)window.rank * sizeof *dims);
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, dims, &y));
    s.out_size = ref_product(dims, 2, x->rank);
    KLN_RETURN_IF(bias != NULL && bias->count != dims[1], KILN_ERROR_SHAPE,
                  "a bias of %lld elements for %lld channels", (long long)bias->count,
                  (long long)dims[1]);
    KLN_RETURN_IF_ERROR(ref_spend(call, (double)x->dims[0] * (double)s.groups * (double)s.in_size *
                                            (double)s.volume *
                                            (1.0 + (double)s.channels * (double)s.maps)));
    KLN_RETURN_IF_ERROR(ref_doubles(call, x, &xs));
    KLN_RETURN_IF_ERROR(ref_doubles(call, w, &ws));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)y->count, sizeof *out, &out));
    for (int64_t i = 0; i < y->count; i += s.out_size) {
        const double first = bias != NULL ? ref_get_float(bias, i / s.out_size % dims[1]) : 0.0;
        for (int64_t k = i; k < i + s.out_size; k++) {
            out[k] = first;
        }
    }
    if (y->count == 0) {
        return KILN_OK;
    }
    int64_t *landings = NULL;
    double *room = NULL;
    KLN_RETURN_IF_ERROR(list_landings(call, &window, &s, &landings));
    KLN_RETURN_IF_ERROR(
        ref_scratch(call, (size_t)(s.volume * (s.channels + s.in_size)), sizeof *room, &room));
    for (int64_t i = 0; i < dims[0] * dims[1]; i++) {
        const int64_t n = i / s.maps; /* index over the batch and the groups */
        spread_map(&s, landings, xs + n * s.channels * s.in_size,
                   ws + (n % s.groups * s.channels * s.maps + i % s.maps) * s.volume, room,
                   out + i * s.out_size);
    }
    ref_store_float(y, 0, 1, y->count, out);
    return KILN_OK;
}

/* Adds each element of `x` to the image position that it comes from. */
static kiln_status add_windows(ref_call *call, const ref_window_shape *w, const ref_tensor *x,
                               int64_t volume, int64_t windows, ref_tensor *y)
{
    const bool whole = ref_domain_of(x->dtype) != REF_DOMAIN_FLOAT;
    double *sums = NULL;
    uint64_t *totals = NULL; /* of integers, which wrap around */
    if (whole) {
        KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)y->count, sizeof *totals, &totals));
        memset(totals, 0, (size_t)y->count * sizeof *totals);
    } else {
        KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)y->count, sizeof *sums, &sums));
        memset(sums, 0, (size_t)y->count * sizeof *sums);
    }
    const int64_t size = ref_product(y->dims, 2, y->rank);
    for (int64_t i = 0; i < x->count; i++) {
        const int64_t place = landing(w, i % windows, i / windows % volume);
        const int64_t to = i / windows / volume * size + place;
        if (place >= 0 && whole) {
            totals[to] += (uint64_t)ref_get_int(x, i);
        } else if (place >= 0) {
            sums[to] += ref_get_float(x, i);
        }
    }
    if (whole) {
        ref_store_int(y, 0, 1, y->count, (const int64_t *)totals);
    } else {
        ref_store_float(y, 0, 1, y->count, sums);
    }
    return KILN_OK;
}

/* x is [N, C * kernel elements, windows]. */
static kiln_status ref_op_col2im(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const int64_t *image = NULL;
    const int64_t *block = NULL;
    size_t rank = 0;
    size_t block_rank = 0;
    ref_tensor *y = NULL;
    ref_window_shape w = {0};
    int64_t pads[2 * REF_RANK];
    KLN_RETURN_IF_ERROR(ref_int_list(call, 1, NULL, &image, &rank));
    KLN_RETURN_IF_ERROR(ref_int_list(call, 2, NULL, &block, &block_rank));
    KLN_RETURN_IF(rank == 0 || rank != block_rank || rank > REF_RANK - 2 || x->rank != 3,
                  KILN_ERROR_SHAPE, "image and block shapes of %zu and %zu dimensions", rank,
                  block_rank);
    w.rank = (int)rank;
    KLN_RETURN_IF_ERROR(ref_per_dimension(call, "strides", w.rank, 1, w.stride));
    KLN_RETURN_IF_ERROR(ref_per_dimension(call, "dilations", w.rank, 1, w.dilation));
    KLN_RETURN_IF_ERROR(ref_per_dimension(call, "pads", 2 * w.rank, 0, pads));
    int64_t dims[REF_RANK] = {x->dims[0], 0};
    for (int i = 0; i < w.rank; i++) {
        KLN_RETURN_IF(
            image[i] < 0 || image[i] > REF_LARGEST || block[i] <= 0 || block[i] > REF_LARGEST,
            KILN_ERROR_SHAPE, "a block of %lld in an image of %lld", (long long)block[i],
            (long long)image[i]);
        w.output[i] = dims[i + 2] = image[i];
        w.kernel[i] = block[i];
        w.begin[i] = pads[i];
        const int64_t room =
            image[i] + pads[i] + pads[i + w.rank] - w.dilation[i] * (block[i] - 1) - 1;
        KLN_RETURN_IF(block[i] <= 0 || w.stride[i] <= 0 || room < 0, KILN_ERROR_SHAPE,
                      "a block is longer than the padded image in dimension %d", i);
        w.input[i] = room / w.stride[i] + 1;
    }
    int64_t volume = 0;
    int64_t windows = 0;
    KLN_RETURN_IF_ERROR(ref_count(w.rank, w.kernel, &volume));
    KLN_RETURN_IF_ERROR(ref_count(w.rank, w.input, &windows));
    KLN_RETURN_IF(x->dims[1] % volume != 0 || x->dims[2] != windows, KILN_ERROR_SHAPE,
                  "%lld x %lld elements are not %lld windows of %lld", (long long)x->dims[1],
                  (long long)x->dims[2], (long long)windows, (long long)volume);
    dims[1] = x->dims[1] / volume;
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, w.rank + 2, dims, &y));
    return add_windows(call, &w, x, volume, windows, y);
}

/* clang-format off */
const ref_kernel ref_kernels_transposed[] = {
    REF_OP("ConvTranspose", 1, conv_transpose, 0, "ff"),
    REF_OP("Col2Im", 18, col2im, 0, "n"),
    REF_KERNELS_END
};
/* clang-format on */
