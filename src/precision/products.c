/* SPDX-License-Identifier: Apache-2.0 */
/* Second moments of the inputs that a convolution or matrix product sums over: the sums of the
 * products of each pair. With them, one weight's rounding error can be compensated by the
 * others. */
#include <math.h>

#include "kln_precision.h"

/* Positions sampled per batch: enough that thirty batches describe a thousand inputs, and few
 * enough to cost less than the network itself. */
#define MOST_POSITIONS 512
/* Sampled positions that are gathered into one contiguous block. */
#define BLOCK 64
/* Beyond this the sums take more memory (21 MB) than they are worth. */
#define MOST_SUMMED 2304
#define MOST_WINDOW 1024

#define WIDE KLN_CLONES("avx512f", "avx2", "default")

/* --- which inputs --- */

static int64_t int_at(const kln_onnx_node *node, const char *name, size_t index, int64_t missing)
{
    const kln_onnx_attribute *list = kln_onnx_find_attribute(node, name);
    return list != NULL && index < list->count ? list->ints[index] : missing;
}

/* The window of a convolution; false if it is unknown or auto_pad is SAME_UPPER or SAME_LOWER. */
static bool read_window(const kln_onnx_node *node, const kln_value *weights, kln_patch *patch)
{
    const kln_onnx_attribute *automatic = kln_onnx_find_attribute(node, "auto_pad");
    const size_t rank = weights->rank - 2;
    size_t count = 1;
    if ((automatic != NULL &&
         (automatic->s.size < 4 || memcmp(automatic->s.data, "SAME", 4) == 0)) ||
        weights->rank < 3 || rank > KLN_PATCH_AXES) {
        return false;
    }
    patch->rank = rank;
    for (size_t i = 0; i < rank; i++) {
        const kln_dim dim = weights->dims[i + 2];
        patch->kernel[i] = dim.kind == KLN_DIM_NUMBER ? dim.of.number : 0;
        patch->strides[i] = int_at(node, "strides", i, 1);
        patch->dilations[i] = int_at(node, "dilations", i, 1);
        patch->pads[i] = int_at(node, "pads", i, 0);
        patch->pads[KLN_PATCH_AXES + i] = int_at(node, "pads", rank + i, 0);
        if (patch->kernel[i] <= 0 || patch->kernel[i] > MOST_WINDOW || patch->strides[i] <= 0 ||
            patch->dilations[i] <= 0 || patch->pads[i] < 0 || patch->pads[KLN_PATCH_AXES + i] < 0) {
            return false;
        }
        count *= (size_t)patch->kernel[i];
    }
    patch->elements = count;
    return count <= MOST_WINDOW;
}

bool kln_patch_of(const kln_onnx_node *node, const kln_graph_inference *known, kln_patch *patch)
{
    kln_summed summed;
    memset(patch, 0, sizeof *patch);
    patch->elements = patch->groups = 1;
    if (kln_onnx_node_is(node, "ConvTranspose") || !kln_precision_summed(node, known, &summed)) {
        return false;
    }
    const kln_value *weights = kln_inference_find(known, node->inputs[1]);
    const kln_onnx_attribute *group = kln_onnx_find_attribute(node, "group");
    patch->input = summed.name;
    if (kln_onnx_node_is(node, "Conv")) {
        patch->groups = group != NULL ? (size_t)group->i : 1;
        if (!read_window(node, weights, patch)) {
            return false;
        }
    } else if (weights->rank != 2) {
        return false;
    }
    patch->channels = summed.count / patch->groups;
    return patch->channels > 0 && patch->channels * patch->elements <= MOST_SUMMED;
}

bool kln_patch_equals(const kln_patch *a, const kln_patch *b)
{
    kln_patch first = *a;
    kln_patch second = *b;
    first.input = second.input = NULL;
    return memcmp(&first, &second, sizeof first) == 0 && strcmp(a->input, b->input) == 0;
}

/* --- their sums --- */

kiln_status kln_products_create(const kln_patch *patch, kln_products **made)
{
    const size_t size = patch->channels * patch->elements + 1;
    kln_products *products = kln_alloc_zeroed(1, sizeof *products);
    *made = products;
    if (products != NULL) {
        products->patch = *patch;
        products->size = size;
        products->sums = kln_alloc_zeroed(patch->groups * size * size, sizeof *products->sums);
        products->block = kln_alloc_zeroed((BLOCK + 1) * size, sizeof *products->block);
        products->places = kln_alloc_zeroed(BLOCK * patch->elements, sizeof *products->places);
    }
    if (products == NULL || products->sums == NULL || products->block == NULL ||
        products->places == NULL) {
        kln_products_destroy(products);
        *made = NULL;
        return kln_fail_memory(patch->groups * size * size * sizeof(float), "sums of products");
    }
    return KILN_OK;
}

void kln_products_destroy(kln_products *products)
{
    if (products != NULL) {
        kln_free(products->sums);
        kln_free(products->block);
        kln_free(products->places);
        kln_free(products);
    }
}

/* Adds the products within each row of `block` to the lower triangle; `count` is a multiple of
 * four. */
WIDE static void add_block(float *restrict sums, float *restrict row, const float *restrict block,
                           size_t size, size_t count)
{
    for (size_t i = 0; i < size; i++) {
        memset(row, 0, (i + 1) * sizeof *row);
        for (size_t p = 0; p < count; p += 4) {
            const float *a = block + p * size;
            const float *b = a + size;
            const float *c = b + size;
            const float *d = c + size;
            for (size_t k = 0; k <= i; k++) {
                row[k] += a[i] * a[k] + b[i] * b[k] + (c[i] * c[k] + d[i] * d[k]);
            }
        }
        for (size_t k = 0; k <= i; k++) {
            sums[i * size + k] += row[k];
        }
    }
}

/* A tensor's layout while its positions are visited. */
typedef struct walk {
    const float *values;
    int64_t images, channels, plane;
    int64_t sizes[KLN_PATCH_AXES], results[KLN_PATCH_AXES];
    size_t positions;
} walk;

static bool begin_walk(const kln_products *of, const kiln_tensor *tensor, walk *to)
{
    const kln_patch *w = &of->patch;
    const kiln_shape *shape = &tensor->desc.shape;
    const int64_t all = (int64_t)(w->channels * w->groups);
    *to = (walk){.values = tensor->data, .images = 1, .channels = all, .plane = 1};
    if (tensor->desc.dtype != KILN_DTYPE_FLOAT32 || shape->rank < 1) {
        return false;
    }
    if (w->rank == 0) {
        for (int32_t i = 0; i + 1 < shape->rank; i++) {
            to->images *= shape->dims[i];
        }
        to->positions = (size_t)to->images;
        return shape->dims[shape->rank - 1] == all;
    }
    if ((size_t)shape->rank != w->rank + 2 || shape->dims[1] != all) {
        return false;
    }
    to->images = shape->dims[0];
    to->positions = (size_t)to->images;
    for (size_t i = 0; i < w->rank; i++) {
        const int64_t reach = w->dilations[i] * (w->kernel[i] - 1) + 1;
        const int64_t room = shape->dims[i + 2] + w->pads[i] + w->pads[KLN_PATCH_AXES + i] - reach;
        to->sizes[i] = shape->dims[i + 2];
        to->results[i] = room >= 0 ? room / w->strides[i] + 1 : 0;
        to->plane *= to->sizes[i];
        to->positions *= (size_t)to->results[i];
    }
    return true;
}

/* The offsets of the window's elements in the first channel; -1 in the padding. */
static void place_window(const kln_products *of, const walk *on, size_t position, int64_t *places)
{
    const kln_patch *w = &of->patch;
    int64_t begin[KLN_PATCH_AXES] = {0};
    for (size_t i = w->rank; i-- > 0;) {
        begin[i] = (int64_t)(position % (size_t)on->results[i]) * w->strides[i] - w->pads[i];
        position /= (size_t)on->results[i];
    }
    const int64_t image = (int64_t)position * on->channels * on->plane;
    for (size_t e = 0; e < w->elements; e++) {
        size_t left = e;
        int64_t place = 0;
        int64_t step = 1;
        for (size_t i = w->rank; i-- > 0;) {
            const int64_t at = begin[i] + (int64_t)(left % (size_t)w->kernel[i]) * w->dilations[i];
            left /= (size_t)w->kernel[i];
            place = at < 0 || at >= on->sizes[i] || place < 0 ? -1 : place + at * step;
            step *= on->sizes[i];
        }
        places[e] = place < 0 ? -1 : image + place;
    }
}

/* One row: 1, then the inputs that are summed at that position. */
static void fill_row(const kln_products *of, const walk *on, size_t group, const int64_t *places,
                     float *row)
{
    const kln_patch *w = &of->patch;
    const float *first = on->values + (int64_t)(group * w->channels) * on->plane;
    row[0] = 1;
    for (size_t c = 0; c < w->channels; c++) {
        const float *channel = first + (int64_t)c * on->plane;
        for (size_t e = 0; e < w->elements; e++) {
            row[1 + c * w->elements + e] = places[e] < 0 ? 0 : channel[places[e]];
        }
    }
}

void kln_products_add(kln_products *of, const kiln_tensor *tensor)
{
    walk on;
    if (!begin_walk(of, tensor, &on) || on.positions == 0) {
        return;
    }
    const size_t size = of->size;
    const size_t looked_at = on.positions < MOST_POSITIONS ? on.positions : MOST_POSITIONS;
    for (size_t begin = 0; begin < looked_at; begin += BLOCK) {
        const size_t count = looked_at - begin < BLOCK ? looked_at - begin : BLOCK;
        const size_t even = (count + 3) / 4 * 4;
        for (size_t p = 0; p < count; p++) {
            /* Evenly spread, with a jitter so that the samples do not always fall into the same
             * columns of an image. */
            const double wander = (double)(begin + p) * 0.618033988749895;
            const double at = ((double)(begin + p) + (wander - floor(wander))) *
                              (double)on.positions / (double)looked_at;
            const size_t position = (size_t)at < on.positions ? (size_t)at : on.positions - 1;
            place_window(of, &on, position, of->places + p * of->patch.elements);
        }
        for (size_t g = 0; g < of->patch.groups; g++) {
            for (size_t p = 0; p < even; p++) {
                float *row = of->block + p * size;
                if (p < count) {
                    fill_row(of, &on, g, of->places + p * of->patch.elements, row);
                } else {
                    memset(row, 0, size * sizeof *row);
                }
            }
            add_block(of->sums + g * size * size, of->block + BLOCK * size, of->block, size, even);
        }
    }
    of->count += looked_at;
}

bool kln_products_read(const kln_products *of, size_t group, double *moments)
{
    const float *sums = of->sums + group * of->size * of->size;
    bool finite = of->count != 0;
    for (size_t i = 0; i < of->size; i++) {
        for (size_t k = 0; k <= i; k++) {
            const double moment = (double)sums[i * of->size + k] / (double)of->count;
            moments[i * of->size + k] = moments[k * of->size + i] = moment;
            finite = finite && isfinite(moment);
        }
    }
    return finite;
}
