/* SPDX-License-Identifier: Apache-2.0 */
/* The building blocks of low precision: ranges, and passes over the graph. */
#ifndef KLN_PRECISION_H
#define KLN_PRECISION_H

#include <kiln/calibrate.h>
#include <kiln/precision.h>
#include <kiln/quantize.h>

#include "graph/kln_graph.h"

KLN_SCOPED_POINTER(kiln_range_table, kiln_range_table_destroy)
KLN_SCOPED_POINTER(kiln_precision_report, kiln_precision_report_destroy)

/* --- range tables as text (range_text.c) --- */

/* A longer text is not accepted as a table of ranges. */
#define KLN_MOST_RANGE_TEXT ((size_t)1 << 30)

KILN_MUST_CHECK kiln_status kln_ranges_write_cache(const kiln_range_table *table, kln_text *text);
KILN_MUST_CHECK kiln_status kln_ranges_write_json(const kiln_range_table *table, kln_text *text);

/* --- statistics of a tensor's numbers over batches (observe.c) --- */

/* Bins of magnitudes, on either side of 0. */
#define KLN_OBSERVED_BINS 2048
#define KLN_OBSERVER_BIN_BYTES ((size_t)2 * KLN_OBSERVED_BINS * sizeof(uint64_t))

typedef struct kln_observer {
    double least, greatest; /* of the finite numbers */
    uint64_t count, finite, nans, infinities;
    uint64_t zeros; /* only with bins, which do not count them */
    double reach;   /* magnitudes that the bins cover; 0 until one is above 0 */
    uint64_t *bins; /* first of positive magnitudes, then of negative ones; NULL: only bounds */
} kln_observer;

/* Working memory of one thread. */
typedef struct kln_observer_scratch kln_observer_scratch;
kln_observer_scratch *kln_observer_scratch_create(void); /* for kln_free; NULL: memory is short */

/* `bins` are KLN_OBSERVER_BIN_BYTES of the caller's memory, or NULL. */
void kln_observer_init(kln_observer *observer, uint64_t *bins);
bool kln_observer_takes(kiln_dtype dtype);
/* Adds a dense tensor in host memory. Allocates nothing. DTYPE, and the errors of an invalid
 * view. */
KILN_MUST_CHECK kiln_status kln_observer_add(kln_observer *observer, const kiln_tensor *tensor,
                                             kln_observer_scratch *scratch);

/* The same for numbers counted elsewhere: first the bounds, which may change the scale, and then,
 * if an observer with bins has seen a finite number, the counts that kln_cuda_count_bins makes with
 * the scale. */
typedef struct kln_bounds {
    double least, greatest; /* of the finite numbers, if any */
    uint64_t count, nans, infinities;
} kln_bounds;
void kln_observer_take_bounds(kln_observer *observer, const kln_bounds *bounds);
float kln_observer_scale(kln_observer *observer);
void kln_observer_take_bins(kln_observer *observer, const uint32_t *counts);

/* --- statistics of each channel (observe_channels.c) --- */

typedef struct kln_channel_observer {
    float least, greatest, from;
    uint64_t count;
    double sum, square; /* of differences from `from` */
} kln_channel_observer;

/* Channels are along axis 1, or the last axis. A tensor of another type than float32, or with
 * another number of channels, is skipped. */
void kln_channels_add(kln_channel_observer *channels, size_t count, bool is_last,
                      const kiln_tensor *tensor);
/* False if one saw nothing, or something that is not finite. */
bool kln_channels_read(const kln_channel_observer *channels, size_t count, kiln_channel *to);

/* The tensor over whose channels a convolution or a product with constant weights sums. */
typedef struct kln_summed {
    const char *name;
    size_t count;
    bool is_last; /* the channels are along the last axis; otherwise axis 1 */
} kln_summed;
/* False if the node is neither, or the size is not known. */
bool kln_precision_summed(const kln_onnx_node *node, const kln_graph_inference *known,
                          kln_summed *summed);

/* --- sums of products of the numbers that are summed (products.c) --- */

#define KLN_PATCH_AXES 3

/* The terms of each result of a convolution, or of a product with constant weights: the channels of
 * a group, each with the elements of a window. */
typedef struct kln_patch {
    const char *input;
    size_t groups, channels, elements; /* channels: in a group */
    size_t rank;                       /* 0: a product, along the last axis */
    int64_t kernel[KLN_PATCH_AXES], strides[KLN_PATCH_AXES], dilations[KLN_PATCH_AXES];
    int64_t pads[2 * KLN_PATCH_AXES]; /* before, then after */
} kln_patch;

/* False if the node is neither, or too large for sums of its products. */
bool kln_patch_of(const kln_onnx_node *node, const kln_graph_inference *known, kln_patch *patch);
bool kln_patch_equals(const kln_patch *a, const kln_patch *b);

typedef struct kln_products {
    kln_patch patch;
    size_t size;    /* for a group: 1, and the terms in the order of the weights */
    uint64_t count; /* positions observed */
    float *sums;    /* for each group, over positions: products of each pair of these, the lower
                       triangle */
    float *block;   /* working memory for some positions, and for one row */
    int64_t *places;
    struct kln_products *next;
} kln_products;

KILN_MUST_CHECK kiln_status kln_products_create(const kln_patch *patch, kln_products **products);
void kln_products_destroy(kln_products *products);
/* Adds a dense tensor in host memory; skips one that such a node does not read. Allocates
 * nothing. */
void kln_products_add(kln_products *of, const kiln_tensor *tensor);
/* The means of the products, `size` times `size`, both triangles; false if nothing was observed, or
 * something that is not finite. */
bool kln_products_read(const kln_products *of, size_t group, double *moments);

/* Passes ownership to the table, which keeps it as long as it lives; the name of its window is
 * copied. On an error the caller keeps it. (range_table.c) */
KILN_MUST_CHECK kiln_status kln_ranges_take_products(kiln_range_table *table,
                                                     kln_products *products);
bool kln_ranges_have_channels(const kiln_range_table *table); /* NULL: none */
/* NULL: none. */
const kln_products *kln_ranges_products(const kiln_range_table *table, const kln_patch *patch);

/* --- ranges by method (threshold.c) --- */

/* Sets everything but the name. `percent` is for KILN_CALIBRATE_PERCENTILE. The range is 0 to 0
 * without any finite number. */
void kln_observer_range(const kln_observer *observer, kiln_calibration_method method,
                        double percent, kiln_range *range);

/* kiln_network_split_products on a model. (split_products.c) */
KILN_MUST_CHECK kiln_status kln_split_products(kln_onnx_model *model, bool few_rows, size_t *split);

/* kiln_network_convert on the model itself, which is unchanged on an error. `report` may be NULL.
 * (precise.c) */
KILN_MUST_CHECK kiln_status kln_precision_convert(kln_onnx_model *model,
                                                  const kiln_precision_options *options,
                                                  kiln_precision_report **report);

/* The quantizing passes, on a model with its functions inlined, which may have changed on an error.
 * UNSUPPORTED if nothing can be quantized. (quantize.c) */
KILN_MUST_CHECK kiln_status kln_quantize(kln_onnx_model *model,
                                         const kiln_precision_options *options,
                                         kiln_precision_report *report);
/* Corrects biases for the mean error of rounding weights to a 16-bit type, if the options' ranges
 * have channels. Names that the options keep are replaced by the new names of the nodes.
 * (quantize.c) */
KILN_MUST_CHECK kiln_status kln_even_out(kln_onnx_model *model, kiln_precision_options *options,
                                         kiln_precision_report *report);

/* Whether a conversion to eight bits uses the ranges of the tensors that the node, of an inferred
 * graph, reads. (quantize.c) */
bool kln_precision_reads_ranges(const kln_onnx_node *node, const kln_graph_inference *known);

/* The node; without a name it gets that of its first output, which may change, so that it can be
 * found among a plan's layers. */
static inline kln_onnx_node kln_precision_named(const kln_onnx_node *node)
{
    kln_onnx_node named = *node;
    named.name = node->name[0] == '\0' && node->output_count > 0 ? node->outputs[0] : node->name;
    return named;
}

/* Bytes of the graph's initializers and Constant nodes. */
uint64_t kln_precision_constant_bytes(const kln_onnx_graph *graph);

/* Multiplications of a convolution or a product, at the known sizes; an unknown size counts as 32.
 * 0 for other nodes. (multiplications.c) */
uint64_t kln_precision_multiplications(const kln_onnx_node *node, const kln_graph_inference *known);

/* --- reports (precise_report.c) --- */

KILN_MUST_CHECK kiln_status kln_precision_report_create(kiln_precision_report **report);
/* Copies the texts. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_precision_report_add(kiln_precision_report *report,
                                                     const kiln_precision_node *node);
/* Why the first node that is not converted is not; "" if all are. */
const char *kln_precision_report_first_reason(const kiln_precision_report *report);
struct kiln_layer_types; /* of <kiln/unstable/backend_table.h> */

/* Adds the results of a second pass over what the first one left. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_precision_report_rest(kiln_precision_report *report,
                                                      const kiln_precision_report *rest);
/* Adds the type that a layer of the engine computes in. A report is given all layers, and then
 * counts. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_precision_report_layer(kiln_precision_report *report,
                                                       const struct kiln_layer_types *layer);
void kln_precision_report_count(kiln_precision_report *report);
/* The summary, to be filled in. */
kiln_precision_summary *kln_precision_report_totals(kiln_precision_report *report);

/* Turns small constants that are an Identity of another, and are not to be kept, into constants of
 * their own. (precise_alias.c) */
KILN_MUST_CHECK kiln_status kln_precision_unalias(kln_onnx_model *model,
                                                  const kiln_precision_options *options);

#endif
