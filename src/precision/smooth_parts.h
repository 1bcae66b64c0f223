/* SPDX-License-Identifier: Apache-2.0 */
/* Equalizing the channels of tensors to be quantized. Private to this module.
 *
 * One scale serves all channels of a tensor, so a channel of small numbers gets few of its 255
 * steps. But y = W x = (W S) (x / S): each channel is divided by its own factor, and the weights
 * that sum over it are multiplied by the same factor ("SmoothQuant",
 * https://arxiv.org/abs/2211.10438; for convolutions "Data-Free Quantization Through Weight
 * Equalization and Bias Correction", https://arxiv.org/abs/1906.04721). A channel whose numbers are
 * not centred on 0 is shifted there, and the bias compensates ("Outlier Suppression+",
 * https://arxiv.org/abs/2304.09145). The rounding error of the weights, times the mean of each
 * channel, is subtracted from the bias. */
#ifndef SMOOTH_PARTS_H
#define SMOOTH_PARTS_H

#include "quantize_parts.h"

/* A convolution or product with constant weights. Element i of them is of output channel
 * (i / out_stride) % outs, and of the input channel that smooth_channel says. */
typedef struct smooth_node {
    bool is_candidate; /* is to be quantized, and its weights are known */
    kln_summed input;
    float *weights; /* a copy; NULL: as they were */
    float *bias;    /* likewise, of `outs` */
    size_t count, outs, out_stride, ins, in_stride, groups;
    uint32_t adder; /* the Add whose constant is the bias of a MatMul; KLN_NO_NODE: none */
    bool takes_bias;
    bool is_padded; /* with zeros, which a moved tensor would not have there */
    bool is_changed;
    bool is_shared;               /* other nodes have the same weights, which stay one tensor */
    const kln_products *products; /* of what it read in the model, or NULL */
    const float *scale, *shift;   /* what became of these channels; NULL: nothing */
} smooth_node;

/* What becomes of a tensor. */
typedef struct smooth_value {
    const char *name;
    size_t channels;
    const kiln_range *range;
    float *scale, *shift; /* of each channel; NULL: none */
    double gain;          /* in decibels, by the estimate */
    double plain_gain;    /* of scales alone */
    float *plain_scale;
} smooth_value;

typedef struct smooth_insertion {
    size_t before;
    kln_onnx_node node;
} smooth_insertion;

typedef struct smooth_pass {
    kln_onnx_model *model;
    kln_arena *arena;
    const kiln_precision_options *options;
    const quantize_format *format;
    kln_inference *inference;
    kln_onnx_graph graph; /* that is made: copied nodes, more initializers */
    quantize_index index; /* by the names that the tensors had at first; constants as they are */
    smooth_node *nodes;
    smooth_insertion *insertions;
    size_t insertion_count, insertion_capacity;
    kiln_range_table *ranges; /* those of the options, and those of new tensors */
} smooth_pass;

static inline size_t smooth_channel(const smooth_node *node, size_t i)
{
    const size_t group = (i / node->out_stride) % node->outs / (node->outs / node->groups);
    return group * node->ins + (i / node->in_stride) % node->ins;
}

/* Finds scales and a shift that lose less, for the tensor that these nodes read. OUT_OF_MEMORY.
 * (smooth_choose.c) */
KILN_MUST_CHECK kiln_status smooth_choose(const smooth_pass *pass, const uint32_t *readers,
                                          size_t count, smooth_value *value);
/* Writes them. OUT_OF_MEMORY. (smooth_write.c) */
KILN_MUST_CHECK kiln_status smooth_apply(smooth_pass *pass, const uint32_t *readers, size_t count,
                                         smooth_value *value);

KILN_MUST_CHECK kiln_status smooth_no_memory(void);

/* --- constants (smooth_parts.c) --- */

/* A constant of float32 as `*count` numbers, or NULL. */
const float *smooth_constant(const smooth_pass *pass, const char *name, size_t *count);
/* A new initializer "STEM/WHAT", whose numbers stay the caller's; its name. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status smooth_add(smooth_pass *pass, const char *stem, const char *what,
                                       const float *numbers, size_t rank, const int64_t *dims,
                                       const char **name);
/* Copies of a node's weights, and of its bias, that may be changed. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status smooth_own(smooth_pass *pass, size_t index);
KILN_MUST_CHECK kiln_status smooth_own_bias(smooth_pass *pass, size_t index);
/* Takes from the bias what rounding the weights adds to the mean. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status smooth_correct(smooth_pass *pass, size_t index,
                                           const kiln_range *range);
bool smooth_has_bias(const smooth_pass *pass, size_t index);
/* Rounds the weights of a node whose products are known, so that they make up for each other.
 * OUT_OF_MEMORY. (smooth_fit.c) */
KILN_MUST_CHECK kiln_status smooth_fit(smooth_pass *pass, size_t index);
/* Makes changed weights and biases initializers. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status smooth_store(smooth_pass *pass, size_t index);

#endif
