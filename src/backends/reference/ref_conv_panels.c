/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_conv.h"
#include "ref_product.h"

/* Convolutions over a zero-padded input: many output channels at a time or, if there are few, many
 * pixels of a row. Adding a product with a padding zero leaves a sum bitwise unchanged, unless the
 * weight is not finite, or the sum is -0, which requires that all terms before it and the bias are
 * -0. In these cases this code is not used. */

#define DEPTH 128 /* products per pass over the outputs */
#define PARTS 16

/* Columns are grouped by their index modulo `phases`, so that those a kernel column reads are
 * contiguous. */
typedef struct padded {
    int64_t dims[3];
    int64_t phases, row; /* elements per row */
    double *values;      /* of all channels of one group */
} padded;

REF_WIDE static bool all_finite(int64_t count, const double *values)
{
    double sums[PARTS] = {0.0};
    for (int64_t i = 0; i < count - count % PARTS; i += PARTS) {
        for (int k = 0; k < PARTS; k++) {
            sums[k] += values[i + k] * 0.0; /* stays NaN from then on */
        }
    }
    for (int64_t i = count - count % PARTS; i < count; i++) {
        sums[0] += values[i] * 0.0;
    }
    for (int k = 1; k < PARTS; k++) {
        sums[0] += sums[k];
    }
    return sums[0] == 0.0;
}

bool ref_conv_may_pad(int64_t weights, const double *w, int64_t maps, const double *bias)
{
    bool may = all_finite(weights, w);
    for (int64_t i = 0; may && bias != NULL && i < maps; i++) {
        may = bias[i] != 0.0 || !signbit(bias[i]);
    }
    return may;
}

static int64_t place_of(const padded *p, int64_t column)
{
    return column % p->phases * (p->row / p->phases) + column / p->phases;
}

static void pad(const geometry *g, int64_t channels, const double *x, const padded *p)
{
    const int64_t size = p->dims[0] * p->dims[1] * p->row;
    memset(p->values, 0, (size_t)(channels * size) * sizeof *p->values);
    const int64_t rows = g->in[0] * g->in[1];
    /* Input columns that are inside the padded row. */
    const int64_t skip = g->begin[2] < 0 ? -g->begin[2] : 0;
    const int64_t room = p->dims[2] - g->begin[2];
    const int64_t end = g->in[2] < room ? g->in[2] : room;
    for (int64_t i = 0; i < channels * rows && end > skip; i++) {
        const int64_t z = i % rows / g->in[1] + g->begin[0];
        const int64_t y = i % g->in[1] + g->begin[1];
        if (z < 0 || z >= p->dims[0] || y < 0 || y >= p->dims[1]) {
            continue;
        }
        double *to = p->values + i / rows * size + (z * p->dims[1] + y) * p->row;
        const double *from = x + i * g->in[2];
        for (int64_t first = skip; first < end && first < skip + p->phases; first++) {
            const int64_t count = (end - first + p->phases - 1) / p->phases;
            ref_copy_elements(sizeof *to, count, to + place_of(p, g->begin[2] + first), 1,
                              from + first, p->phases);
        }
    }
}

/* The offsets of an output's products in the padded input, relative to the first. */
static void find_offsets(const geometry *g, int64_t channels, const padded *p, int64_t *offsets)
{
    int64_t k = 0;
    for (int64_t c = 0; c < channels; c++) {
        for (int64_t z = 0; z < g->kernel[0]; z++) {
            for (int64_t y = 0; y < g->kernel[1]; y++) {
                const int64_t depth = c * p->dims[0] + z * g->dilation[0];
                const int64_t row = depth * p->dims[1] + y * g->dilation[1];
                for (int64_t x = 0; x < g->kernel[2]; x++) {
                    offsets[k++] = row * p->row + place_of(p, x * g->dilation[2]);
                }
            }
        }
    }
}

/* Makes a padded input, and room for the offsets of one output's products and of the outputs. */
static kiln_status make_padded(ref_call *call, const geometry *g, int64_t channels, int64_t phases,
                               ref_conv_room *room, const double *x, padded *p)
{
    const int64_t volume = channels * g->kernel[0] * g->kernel[1] * g->kernel[2];
    const int64_t out_size = g->out[0] * g->out[1] * g->out[2];
    for (int i = 0; i < 3; i++) {
        p->dims[i] = (g->out[i] - 1) * g->stride[i] + (g->kernel[i] - 1) * g->dilation[i] + 1;
    }
    p->phases = phases;
    p->row = (p->dims[2] + phases - 1) / phases * phases;
    if (room->padded == NULL) {
        int64_t size = 0;
        const int64_t dims[4] = {channels, p->dims[0], p->dims[1], p->row};
        KLN_RETURN_IF_ERROR(ref_count(4, dims, &size));
        KLN_RETURN_IF_ERROR(
            ref_scratch(call, (size_t)(size + REF_PIXELS), sizeof(double), &room->padded));
        memset(room->padded + size, 0, REF_PIXELS * sizeof(double));
        KLN_RETURN_IF_ERROR(
            ref_scratch(call, (size_t)(volume + out_size), sizeof(int64_t), &room->places));
        p->values = room->padded;
        find_offsets(g, channels, p, room->places);
    }
    p->values = room->padded;
    pad(g, channels, x, p);
    return KILN_OK;
}

/* --- many output channels --- */

static void pack(const double *w, int64_t volume, int64_t k, int64_t count, int64_t maps,
                 double *panel)
{
    if (maps < REF_SIDE) {
        memset(panel, 0, (size_t)count * REF_SIDE * sizeof *panel);
    }
    for (int64_t m = 0; m < maps; m++) {
        for (int64_t i = 0; i < count; i++) {
            panel[i * REF_SIDE + m] = w[m * volume + k + i];
        }
    }
}

/* Transposes REF_SIDE channels of the pixels from `first` to `end` - 1, from or to rows of
 * `out`. */
static void turn_pixels(int64_t first, int64_t end, int64_t maps, int64_t out_size, double *tiles,
                        double *out, bool back)
{
    enum { BESIDE = 8 };
    for (int64_t i = first; i < end; i += BESIDE) {
        const int64_t count = end - i < BESIDE ? end - i : BESIDE;
        for (int64_t m = 0; m < maps; m++) {
            for (int64_t k = 0; k < count; k++) {
                double *tile = tiles + (i + k) * REF_SIDE + m;
                double *row = out + m * out_size + i + k;
                if (back) {
                    *row = *tile;
                } else {
                    *tile = *row;
                }
            }
        }
    }
}

static void find_starts(const geometry *g, const padded *p, int64_t *starts)
{
    int64_t pixel = 0;
    for (int64_t z = 0; z < g->out[0]; z++) {
        for (int64_t y = 0; y < g->out[1]; y++) {
            for (int64_t x = 0; x < g->out[2]; x++) {
                starts[pixel++] =
                    (z * g->stride[0] * p->dims[1] + y * g->stride[1]) * p->row + x * g->stride[2];
            }
        }
    }
}

kiln_status ref_conv_panels(ref_call *call, const geometry *g, int64_t channels, int64_t maps,
                            ref_conv_room *room, const double *w, const double *x, double *out)
{
    const int64_t volume = channels * g->kernel[0] * g->kernel[1] * g->kernel[2];
    const int64_t out_size = g->out[0] * g->out[1] * g->out[2];
    const ref_sum_function sum = ref_sum_kernel(room->exact);
    double panel[DEPTH * REF_SIDE];
    padded p;
    KLN_RETURN_IF_ERROR(make_padded(call, g, channels, 1, room, x, &p));
    if (room->tiles == NULL) {
        const int64_t dims[2] = {out_size, REF_SIDE};
        int64_t size = 0;
        KLN_RETURN_IF_ERROR(ref_count(2, dims, &size));
        KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)size, sizeof(double), &room->tiles));
        memset(room->tiles, 0, (size_t)size * sizeof(double));
        find_starts(g, &p, room->places + volume);
    }
    const int64_t *starts = room->places + volume;
    for (int64_t m = 0; m < maps; m += REF_SIDE) {
        const int64_t width = maps - m < REF_SIDE ? maps - m : REF_SIDE;
        turn_pixels(0, out_size, width, out_size, room->tiles, out + m * out_size, false);
        for (int64_t k = 0; k < volume; k += DEPTH) {
            KLN_RETURN_IF_ERROR(ref_spend(call, 0));
            const int64_t count = volume - k < DEPTH ? volume - k : DEPTH;
            pack(w + m * volume, volume, k, count, width, panel);
            for (int64_t i = 0; i < out_size; i += REF_ROWS) {
                const int pixels = out_size - i < REF_ROWS ? (int)(out_size - i) : REF_ROWS;
                const double *rows[REF_ROWS];
                for (int r = 0; r < REF_ROWS; r++) {
                    rows[r] = p.values + starts[i + (r < pixels ? r : 0)];
                }
                sum(count, room->places + k, rows, panel, (int)width, room->tiles + i * REF_SIDE,
                    REF_SIDE, pixels);
            }
        }
        turn_pixels(0, out_size, width, out_size, room->tiles, out + m * out_size, true);
    }
    return KILN_OK;
}

/* --- few output channels --- */

/* Computes one output channel for `count` pixels of a row. */
static void add_pixels(ref_pixel_function add, int64_t volume, const int64_t *offsets,
                       const double *w, const double *x, int64_t count, double *out)
{
    double tile[REF_PIXELS] = {0.0};
    int64_t i = 0;
    for (; i + REF_PIXELS <= count; i += REF_PIXELS) {
        add(volume, offsets, w, x + i, out + i);
    }
    if (i < count) {
        memcpy(tile, out + i, (size_t)(count - i) * sizeof *tile);
        add(volume, offsets, w, x + i, tile);
        memcpy(out + i, tile, (size_t)(count - i) * sizeof *tile);
    }
}

kiln_status ref_conv_rows(ref_call *call, const geometry *g, int64_t channels, int64_t maps,
                          ref_conv_room *room, const double *w, const double *x, double *out)
{
    const int64_t volume = channels * g->kernel[0] * g->kernel[1] * g->kernel[2];
    const ref_pixel_function add = ref_pixel_kernel(room->exact);
    padded p;
    KLN_RETURN_IF_ERROR(make_padded(call, g, channels, g->stride[2], room, x, &p));
    for (int64_t i = 0; i < maps * g->out[0] * g->out[1]; i++) {
        const int64_t row = i % (g->out[0] * g->out[1]);
        const int64_t z = row / g->out[1] * g->stride[0];
        const int64_t y = row % g->out[1] * g->stride[1];
        add_pixels(add, volume, room->places, w + i / (g->out[0] * g->out[1]) * volume,
                   p.values + (z * p.dims[1] + y) * p.row, g->out[2], out + i * g->out[2]);
    }
    return KILN_OK;
}
