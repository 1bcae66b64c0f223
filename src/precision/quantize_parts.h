/* SPDX-License-Identifier: Apache-2.0 */
/* Quantization to integers and 8-bit floats: what is quantized, and how. Private to this module. */
#ifndef QUANTIZE_PARTS_H
#define QUANTIZE_PARTS_H

#include "kln_precision.h"

typedef struct quantize_format {
    kiln_precision precision;
    const char *name;
    kiln_dtype storage;
    double most;      /* numbers range from its negative to it */
    double weight;    /* likewise for weights */
    int64_t opset;    /* that the result needs */
    bool activations; /* false: only weights, in blocks */
} quantize_format;

typedef struct quantize_value {
    const char *name;
    const kln_onnx_tensor *weights; /* a float32 constant in memory, or NULL */
    uint32_t producer;              /* KLN_NO_NODE: none */
    uint32_t readers;
    uint32_t group;      /* index of the value whose range it shares: itself, or another */
    double reach;        /* largest magnitude in its group; 0: not known */
    const char *written; /* what quantized nodes read; NULL: not made yet */
    size_t dims;         /* of a tensor; SIZE_MAX: not known */
} quantize_value;

/* The decision about a node. */
typedef struct quantize_node {
    kiln_precision_reason reason;
    const char *detail;
    bool is_quantized;
    bool is_fed;         /* reads its input quantized and dequantized, and computes as before */
    bool is_fed_by_both; /* for both of two inputs */
    size_t input;        /* index of the quantized activations */
    size_t weights;      /* index of the input with the weights; SIZE_MAX: none */
    int64_t axis;        /* of the weights, with a scale for each index */
    int64_t depth;       /* axis of the sum, along which blocks run */
} quantize_node;

/* An index of a graph, made once, for queries at every node. */
typedef struct quantize_index {
    kln_graph_index of;
    kln_names sigmoids; /* a Sigmoid or HardSigmoid that reads the tensor */
    kln_names gelus;    /* inputs of a GELU */
} quantize_index;

typedef struct quantize_pass {
    kln_onnx_model *model;
    kln_arena *arena;
    const kln_onnx_graph *graph;
    const kiln_precision_options *options;
    const quantize_format *format;
    kiln_precision_report *report;
    kln_inference *inference;
    kln_names names; /* name of a value -> its index */
    quantize_value *values;
    size_t value_count;
    quantize_node *nodes;
    quantize_index index;
    kln_onnx_graph made;
} quantize_pass;

/* UNSUPPORTED, with the reason, if nothing was quantized. (quantize_nothing.c) */
KILN_MUST_CHECK kiln_status quantize_check_some(const quantize_pass *pass);

/* --- nodes to keep (quantize_keep.c) --- */

/* The lists of names, checked and sorted, in the model's arena. NAME, OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status quantize_keep(kln_onnx_model *model, kiln_precision_options *options);
KILN_MUST_CHECK kiln_status quantize_sort_kept(kln_arena *arena, const char *const **list,
                                               size_t count);
/* Whether the options, with sorted lists, name the node, its operator or an output. */
bool quantize_is_kept(const kiln_precision_options *options, const kln_onnx_node *node);
/* Turns Constant nodes into initializers, except those that are outputs. OUT_OF_MEMORY.
 * (precise_alias.c) */
KILN_MUST_CHECK kiln_status quantize_hoist_constants(kln_onnx_model *model);

/* Suffixes of tensor names that stand for one of the model: equalized, or computed by a convolution
 * of one pixel. The model's own name, which a caller may list to be kept. And whether a node only
 * gives that name to such a tensor. */
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

/* The Mul that scales the channels of an image by a function of the result of the node, a
 * convolution of one pixel; otherwise NULL. `known` is of the same graph, in any order of its
 * nodes. (quantize_choose.c) */
const kln_onnx_node *quantize_gated(const kln_graph_inference *known, const quantize_index *index,
                                    const kln_onnx_node *node);

/* Whether the node only moves numbers. (quantize_parts.c) */
bool quantize_is_move(const kln_onnx_node *node);

/* A product with weights: what it reads, and how many numbers of it make one result of how many. */
typedef struct quantize_product {
    size_t input;
    int64_t width, depth;
} quantize_product;

/* Whether the node stays because everything else computes in a 16-bit type, and 8 bits would not
 * make the network faster. (quantize_attention.c) */
bool quantize_has_no_gain(const kiln_precision_options *options, const quantize_index *index,
                          const kln_onnx_node *node, const quantize_product *product);

/* A number rounded with that scale, and the scale of a channel of numbers up to `largest`.
 * (quantize_weights.c) */
float quantize_round(const quantize_format *format, float number, float scale);
float quantize_channel_scale(const quantize_format *format, float largest);

/* Equalizes the channels of tensors to be quantized, if the options' ranges have channels.
 * `*ranges` then has those of the resulting tensors, for kiln_range_table_destroy; otherwise NULL.
 * The model's constants must be initializers. (smooth.c) */
KILN_MUST_CHECK kiln_status quantize_smooth(kln_onnx_model *model,
                                            const kiln_precision_options *options,
                                            const quantize_format *format,
                                            kiln_range_table **ranges);

/* Turns the main graph's Constant nodes with a tensor into initializers. Merges normalizations,
 * factors and terms after a convolution into it, and adds them to the report. Names that the
 * options keep are replaced by the new names of the nodes. (quantize_fold.c) */
KILN_MUST_CHECK kiln_status quantize_fold(kln_onnx_model *model, kiln_precision_options *options,
                                          kiln_precision_report *report);

/* Turns a product after a pool of one pixel into a convolution. (quantize_head.c) */
KILN_MUST_CHECK kiln_status quantize_head(kln_onnx_model *model,
                                          const kiln_precision_options *options);

/* Pads the channels of an image that a gate scales to whole blocks. (quantize_pad.c) */
KILN_MUST_CHECK kiln_status quantize_pad(kln_onnx_model *model,
                                         const kiln_precision_options *options);

/* Removes constants that nothing reads, not even branches and bodies of loops. (quantize.c) */
KILN_MUST_CHECK kiln_status quantize_drop_unread(kln_onnx_graph *made);

quantize_value *quantize_find(const quantize_pass *pass, const char *name);

/* Chooses the nodes, and their weights. (quantize_choose.c) */
void quantize_choose(quantize_pass *pass);

/* Weights in the format, with their scales, as initializers and a DequantizeLinear; `*name` is what
 * the node then reads. If `products` of what they are multiplied by are not NULL, blocks are fitted
 * to them. (quantize_weights.c) */
KILN_MUST_CHECK kiln_status quantize_weights(quantize_pass *pass, const quantize_value *value,
                                             const quantize_node *node,
                                             const kln_products *products, const char **name);

/* Quantizes inputs and outputs as the options ask, in a converted model, whose lists stay unchanged
 * until everything is done. (quantize_bindings.c) */
KILN_MUST_CHECK kiln_status quantize_bindings(kln_onnx_model *model,
                                              const kiln_precision_options *options);
/* The requested type. */
kiln_dtype quantize_binding_storage(const kiln_precision_options *options,
                                    const kiln_binding_quantization *asked);
/* The ranges of the options, with those that follow from the bindings' scales; NULL if the options
 * have no bindings. INVALID_ARGUMENT for an invalid scale, zero point or type.
 * (binding_ranges.c) */
KILN_MUST_CHECK kiln_status quantize_binding_ranges(const kiln_precision_options *options,
                                                    kiln_range_table **ranges);

/* Additions to the network. (quantize_parts.c) */
KILN_MUST_CHECK kiln_status quantize_make_node(kln_arena *arena, const char *op,
                                               const char *const inputs[3], const char *output,
                                               int64_t axis, int64_t block, kln_onnx_node *node);
KILN_MUST_CHECK kiln_status quantize_add_node(quantize_pass *pass, const char *op,
                                              const char *const inputs[3], const char *output,
                                              int64_t axis, int64_t block);
/* An initializer "STEM/WHAT", whose bytes are to be written; NULL without memory. */
kln_onnx_tensor *quantize_add_tensor(quantize_pass *pass, const char *stem, const char *what,
                                     kiln_dtype dtype, size_t rank, const int64_t *dims);

#endif
