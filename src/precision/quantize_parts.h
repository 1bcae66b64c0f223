/* SPDX-License-Identifier: Apache-2.0 */
/* Quantization to integers and 8-bit floats: what is quantized, and how. Private to this module. */
#ifndef QUANTIZE_PARTS_H
#define QUANTIZE_PARTS_H

#include "kln_precision.h"

typedef struct quantize_format {
    kiln_precision precision;
    const char *name;
    kiln_dtype storage;
    double most;      /* numbers go from its negative to it */
    double weight;    /* likewise those of weights */
    int64_t opset;    /* that the result needs */
    bool activations; /* else weights alone, in blocks */
} quantize_format;

typedef struct quantize_value {
    const char *name;
    const kln_onnx_tensor *weights; /* a constant of float32 in memory, or NULL */
    uint32_t producer;              /* KLN_NO_NODE: none */
    uint32_t readers;
    uint32_t group;      /* whose range is shared: the place of a value; itself, or another */
    double reach;        /* largest magnitude of its group; 0: not known */
    const char *written; /* what the quantized nodes read; NULL: not made yet */
    size_t dims;         /* of a tensor; SIZE_MAX: not known */
} quantize_value;

/* What becomes of a node. */
typedef struct quantize_node {
    kiln_precision_reason reason;
    const char *detail;
    bool is_quantized;
    bool is_fed;         /* reads its input quantized and back, and computes as it did */
    bool is_fed_by_both; /* of two inputs */
    size_t input;        /* of the activations that are quantized */
    size_t weights;      /* the input with the weights; SIZE_MAX: none */
    int64_t axis;        /* of the weights, with a scale for each index */
    int64_t depth;       /* the axis that is summed over, along which blocks lie */
} quantize_node;

/* What is in a graph, made once, for what asks of every node. */
typedef struct quantize_index {
    kln_graph_index of;
    kln_names sigmoids; /* a Sigmoid or HardSigmoid that reads it */
    kln_names gelus;    /* what goes into a GELU */
} quantize_index;

typedef struct quantize_pass {
    kln_onnx_model *model;
    kln_arena *arena;
    const kln_onnx_graph *graph;
    const kiln_precision_options *options;
    const quantize_format *format;
    kiln_precision_report *report;
    kln_inference *inference;
    kln_names names; /* of values, to their place */
    quantize_value *values;
    size_t value_count;
    quantize_node *nodes;
    quantize_index index;
    kln_onnx_graph made;
} quantize_pass;

/* UNSUPPORTED, with the reason, where nothing was quantized. (quantize_nothing.c) */
KILN_MUST_CHECK kiln_status quantize_check_some(const quantize_pass *pass);

/* --- what is asked to stay (quantize_keep.c) --- */

/* The lists of names, checked and sorted, in the model's arena. NAME, OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status quantize_keep(kln_onnx_model *model, kiln_precision_options *options);
KILN_MUST_CHECK kiln_status quantize_sort_kept(kln_arena *arena, const char *const **list,
                                               size_t count);
/* Whether the options, with their lists sorted, name the node, its operator or an output. */
bool quantize_is_kept(const kiln_precision_options *options, const kln_onnx_node *node);
/* Constant nodes become initializers, but for outputs. OUT_OF_MEMORY. (precise_alias.c) */
KILN_MUST_CHECK kiln_status quantize_hoist_constants(kln_onnx_model *model);

/* How names of tensors end that stand for one of the model, evened out or given by a convolution of
 * one pixel; the model's own name, which a caller may name as one to stay; whether the node only
 * gives that name to what stands for it. */
#define QUANTIZE_EVENED "/evened"
#define QUANTIZE_PIXEL "/pixel"
const char *quantize_first_name(kln_arena *arena, const char *name);
bool quantize_is_added(const kln_onnx_node *node);

/* [batch, channels, 1, ...]; false for NULL. (quantize_choose.c) */
bool quantize_is_one_pixel(const kln_value *value);

/* (quantize_index.c) */
KILN_MUST_CHECK kiln_status quantize_index_make(const kln_onnx_graph *graph, quantize_index *index);
void quantize_index_finish(quantize_index *index);
static inline const kln_onnx_node *quantize_producer(const quantize_index *index, const char *name)
{
    return kln_graph_index_node(&index->of, &index->of.producers, name);
}

/* The Mul that scales the channels of an image by what becomes of the node, a convolution of one
 * pixel; else NULL. `known` is of the same graph, whatever the order of its nodes.
 * (quantize_choose.c) */
const kln_onnx_node *quantize_gated(const kln_graph_inference *known, const quantize_index *index,
                                    const kln_onnx_node *node);

/* Whether the node only moves numbers. (quantize_parts.c) */
bool quantize_is_move(const kln_onnx_node *node);

/* A product with weights: what it reads, and how many numbers of it make one of as many. */
typedef struct quantize_product {
    size_t input;
    int64_t width, depth;
} quantize_product;

/* Whether the node stays because the rest computes in a half type, and eight bits would make no
 * faster network of it. (quantize_attention.c) */
bool quantize_has_no_gain(const kiln_precision_options *options, const quantize_index *index,
                          const kln_onnx_node *node, const quantize_product *product);

/* What becomes of a number with that scale, and the scale of a channel of numbers up to `largest`.
 * (quantize_weights.c) */
float quantize_round(const quantize_format *format, float number, float scale);
float quantize_channel_scale(const quantize_format *format, float largest);

/* Evens out the channels of what is quantized, where the options' ranges speak of channels:
 * `*ranges` has those of the tensors by then, and is for kiln_range_table_destroy; else NULL. The
 * model's constants are initializers. (smooth.c) */
KILN_MUST_CHECK kiln_status quantize_smooth(kln_onnx_model *model,
                                            const kiln_precision_options *options,
                                            const quantize_format *format,
                                            kiln_range_table **ranges);

/* Constant nodes with a tensor of the main graph become initializers; normalizations, factors and
 * terms behind a convolution are made part of it, and told in the report. Names that the options
 * keep become those of the nodes by then. (quantize_fold.c) */
KILN_MUST_CHECK kiln_status quantize_fold(kln_onnx_model *model, kiln_precision_options *options,
                                          kiln_precision_report *report);

/* A product behind a pool of one pixel becomes a convolution. (quantize_head.c) */
KILN_MUST_CHECK kiln_status quantize_head(kln_onnx_model *model,
                                          const kiln_precision_options *options);

/* An image that a gate scales gets channels in whole blocks. (quantize_pad.c) */
KILN_MUST_CHECK kiln_status quantize_pad(kln_onnx_model *model,
                                         const kiln_precision_options *options);

/* Leaves out constants that nobody reads, branches and bodies of loops included. (quantize.c) */
KILN_MUST_CHECK kiln_status quantize_drop_unread(kln_onnx_graph *made);

quantize_value *quantize_find(const quantize_pass *pass, const char *name);

/* Which nodes, and with which weights. (quantize_choose.c) */
void quantize_choose(quantize_pass *pass);

/* Weights in the format, with their scales, as initializers and a DequantizeLinear; `*name` is what
 * the node reads then. Blocks are fitted to `products` of what they are multiplied by, where these
 * are not NULL. (quantize_weights.c) */
KILN_MUST_CHECK kiln_status quantize_weights(quantize_pass *pass, const quantize_value *value,
                                             const quantize_node *node,
                                             const kln_products *products, const char **name);

/* Inputs and outputs as the options ask, in a model that is converted already, whose lists stay as
 * they are until all is done. (quantize_bindings.c) */
KILN_MUST_CHECK kiln_status quantize_bindings(kln_onnx_model *model,
                                              const kiln_precision_options *options);
/* The type that is asked for. */
kiln_dtype quantize_binding_storage(const kiln_precision_options *options,
                                    const kiln_binding_quantization *asked);
/* The ranges of the options, with those that the bindings' scales come to; NULL where the options
 * have no bindings. INVALID_ARGUMENT for a scale, zero point or type that cannot be.
 * (binding_ranges.c) */
KILN_MUST_CHECK kiln_status quantize_binding_ranges(const kiln_precision_options *options,
                                                    kiln_range_table **ranges);

/* What is added to the network. (quantize_parts.c) */
KILN_MUST_CHECK kiln_status quantize_make_node(kln_arena *arena, const char *op,
                                               const char *const inputs[3], const char *output,
                                               int64_t axis, int64_t block, kln_onnx_node *node);
KILN_MUST_CHECK kiln_status quantize_add_node(quantize_pass *pass, const char *op,
                                              const char *const inputs[3], const char *output,
                                              int64_t axis, int64_t block);
/* An initializer "STEM/WHAT" whose bytes are to be written; NULL without memory. */
kln_onnx_tensor *quantize_add_tensor(quantize_pass *pass, const char *stem, const char *what,
                                     kiln_dtype dtype, size_t rank, const int64_t *dims);

#endif
