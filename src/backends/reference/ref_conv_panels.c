/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_conv.h"
#include "ref_product.h"

/* Many output channels side by side, over an input that zeros surround. A product with such a zero
 * leaves a sum as it is, to the bit, unless the weight is no finite number or the sum is -0, which
 * it is only where all before it was and the bias is: then this way is not taken. */

#define DEPTH 128 /* products of one pass over the outputs */
#define FEWEST_MAPS 8

typedef struct padded {
    int64_t dims[3];
    double *values; /* of the channels of one group, one after the other */
} padded;

static bool all_finite(int64_t count, const double *values)
{
    double sum = 0.0;
    for (int64_t i = 0; i < count; i++) {
        sum += values[i] * 0.0; /* NaN from then on */
    }
    return sum == 0.0;
}

bool ref_conv_panels_fit(const geometry *g, int64_t channels, int64_t maps, int64_t all_maps,
                         const double *w, const double *bias)
{
    const int64_t volume = channels * g->kernel[0] * g->kernel[1] * g->kernel[2];
    bool fits = maps >= FEWEST_MAPS && all_finite(all_maps * volume, w);
    for (int64_t i = 0; fits && bias != NULL && i < all_maps; i++) {
        fits = bias[i] != 0.0 || !signbit(bias[i]);
    }
    return fits;
}

static void pad(const geometry *g, int64_t channels, const double *x, padded *p)
{
    const int64_t size = p->dims[0] * p->dims[1] * p->dims[2];
    memset(p->values, 0, (size_t)(channels * size) * sizeof *p->values);
    const int64_t rows = g->in[0] * g->in[1];
    /* Input columns that fall into the padded row. */
    const int64_t skip = g->begin[2] < 0 ? -g->begin[2] : 0;
    const int64_t room = p->dims[2] - g->begin[2];
    const int64_t end = g->in[2] < room ? g->in[2] : room;
    for (int64_t i = 0; i < channels * rows && end > skip; i++) {
        const int64_t z = i % rows / g->in[1] + g->begin[0];
        const int64_t y = i % g->in[1] + g->begin[1];
        if (z >= 0 && z < p->dims[0] && y >= 0 && y < p->dims[1]) {
            double *to = p->values + i / rows * size + (z * p->dims[1] + y) * p->dims[2];
            memcpy(to + g->begin[2] + skip, x + i * g->in[2] + skip,
                   (size_t)(end - skip) * sizeof *x);
        }
    }
}

/* Where product k of an output lies in the padded input, from the output's first one. */
static void find_offsets(const geometry *g, int64_t channels, const padded *p, int64_t *offsets)
{
    const int64_t size = p->dims[0] * p->dims[1] * p->dims[2];
    int64_t k = 0;
    for (int64_t c = 0; c < channels; c++) {
        for (int64_t z = 0; z < g->kernel[0]; z++) {
            for (int64_t y = 0; y < g->kernel[1]; y++) {
                for (int64_t x = 0; x < g->kernel[2]; x++) {
                    offsets[k++] =
                        c * size +
                        (z * g->dilation[0] * p->dims[1] + y * g->dilation[1]) * p->dims[2] +
                        x * g->dilation[2];
                }
            }
        }
    }
}

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

typedef struct pass {
    ref_sum_function sum;
    const double *panel;
    const int64_t *offsets;
    const int64_t *starts; /* of each output in the padded input */
    int64_t count, maps, out_size;
} pass;

/* Adds the products of one pass to `pixels` neighbouring outputs of each map. */
static void add_pixels(const pass *p, const double *x, int64_t pixel, int pixels, double *out)
{
    double tile[REF_ROWS * REF_SIDE] = {0};
    const double *rows[REF_ROWS];
    for (int r = 0; r < REF_ROWS; r++) {
        rows[r] = x + p->starts[pixel + (r < pixels ? r : 0)];
    }
    for (int64_t m = 0; m < p->maps; m++) {
        for (int r = 0; r < pixels; r++) {
            tile[(int64_t)r * REF_SIDE + m] = out[m * p->out_size + pixel + r];
        }
    }
    p->sum(p->count, p->offsets, rows, p->panel, (int)p->maps, tile, REF_SIDE, pixels);
    for (int64_t m = 0; m < p->maps; m++) {
        for (int r = 0; r < pixels; r++) {
            out[m * p->out_size + pixel + r] = tile[(int64_t)r * REF_SIDE + m];
        }
    }
}

static void find_starts(const geometry *g, const padded *p, int64_t *starts)
{
    int64_t pixel = 0;
    for (int64_t z = 0; z < g->out[0]; z++) {
        for (int64_t y = 0; y < g->out[1]; y++) {
            for (int64_t x = 0; x < g->out[2]; x++) {
                starts[pixel++] = (z * g->stride[0] * p->dims[1] + y * g->stride[1]) * p->dims[2] +
                                  x * g->stride[2];
            }
        }
    }
}

kiln_status ref_conv_panels(ref_call *call, const geometry *g, int64_t channels, int64_t maps,
                            ref_conv_room *room, const double *w, const double *x, double *out)
{
    const int64_t volume = channels * g->kernel[0] * g->kernel[1] * g->kernel[2];
    const int64_t out_size = g->out[0] * g->out[1] * g->out[2];
    padded p;
    for (int i = 0; i < 3; i++) {
        p.dims[i] = (g->out[i] - 1) * g->stride[i] + (g->kernel[i] - 1) * g->dilation[i] + 1;
    }
    if (room->padded == NULL) {
        int64_t size = 0;
        const int64_t dims[4] = {channels, p.dims[0], p.dims[1], p.dims[2]};
        KLN_RETURN_IF_ERROR(ref_count(4, dims, &size));
        KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)size, sizeof(double), &room->padded));
        KLN_RETURN_IF_ERROR(
            ref_scratch(call, (size_t)(volume + out_size), sizeof(int64_t), &room->places));
    }
    p.values = room->padded;
    int64_t *offsets = room->places;
    int64_t *starts = room->places + volume;
    pad(g, channels, x, &p);
    find_offsets(g, channels, &p, offsets);
    find_starts(g, &p, starts);
    double panel[DEPTH * REF_SIDE];
    pass now = {
        .sum = ref_sum_kernel(room->exact), .panel = panel, .starts = starts, .out_size = out_size};
    for (int64_t m = 0; m < maps; m += REF_SIDE) {
        now.maps = maps - m < REF_SIDE ? maps - m : REF_SIDE;
        for (int64_t k = 0; k < volume; k += DEPTH) {
            KLN_RETURN_IF_ERROR(ref_spend(call, 0));
            now.count = volume - k < DEPTH ? volume - k : DEPTH;
            now.offsets = offsets + k;
            pack(w + m * volume, volume, k, now.count, now.maps, panel);
            for (int64_t i = 0; i < out_size; i += REF_ROWS) {
                const int pixels = out_size - i < REF_ROWS ? (int)(out_size - i) : REF_ROWS;
                add_pixels(&now, p.values, i, pixels, out + m * out_size);
            }
        }
    }
    return KILN_OK;
}
