/*
 * precision.h - a network in another precision: fp16, bf16, int8, fp8, or int4 weights.
 *
 *     kiln_network *network = NULL;
 *     kiln_precision_options how = KILN_PRECISION_OPTIONS_INIT;
 *     kiln_precision_report *report = NULL;
 *     how.precision = KILN_PRECISION_FP16;
 *     if (kiln_network_from_onnx("model.onnx", &network) == KILN_OK &&
 *         kiln_network_convert(network, &how, &report) == KILN_OK) {
 *         status = kiln_network_save_onnx(network, "model.fp16.onnx", KILN_WEIGHTS_INLINE);
 *     }
 *
 * What comes out is an ordinary ONNX network, which says of each tensor what type it has: TensorRT
 * (strongly typed), ONNX Runtime, the reference executor and any other tool take it. The member
 * `precision` of kiln_build_options does the same on the way to an engine.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_PRECISION_H
#define KILN_PRECISION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kiln/engine.h>
#include <kiln/export.h>
#include <kiln/network.h>
#include <kiln/options.h>
#include <kiln/quantize.h>
#include <kiln/status.h>
#include <kiln/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How an input or output of floats is to be quantized, whatever its range says. */
typedef struct kiln_binding_quantization {
    const char *name; /* of the input or output */
    /* Scales and zero points, as many as `axis` and `block_size` take in a shape that is known; a
     * single one serves the whole tensor. None (`count` 0): those that the model quantizes it with
     * already, or what `ranges` come to: symmetric, but for an unsigned type. `storage` may be an
     * integer of 4, 8 or 16 bits or float8; UNDEFINED: what `precision` stores, or int8. */
    kiln_quantization quantization;
    /* The binding itself is of that type: a caller feeds or gets the integers, which
     * kiln_binding.quantization tells the meaning of. Else it keeps its type, and its numbers are
     * rounded to the same steps where they come in or go out. */
    bool stored;
} kiln_binding_quantization;

typedef struct kiln_precision_options {
    size_t struct_size; /* set by KILN_PRECISION_OPTIONS_INIT */
    kiln_precision precision;
    /* Operators ("Softmax") and nodes, by their name or that of an output, in which * stands for
     * any text ("/encoder/layer.0/" and a *), that stay in fp32; with `rest`, such nodes compute in
     * that. */
    const char *const *keep_operators;
    size_t keep_operator_count;
    const char *const *keep_nodes;
    size_t keep_node_count;
    /* Ranges of tensors, or NULL. INT8 and FP8 need them: where the range of a tensor is not in the
     * table, the nodes that read it stay; where a table has channels (kiln_calibrate_options), INT8
     * evens them out, in the constants around or by operators of its own, and takes from each bias
     * what rounding the weights adds on average. With FP16 and BF16, a node with a tensor whose
     * numbers go beyond half of the largest number of the type (fp16: 32,752) stays in fp32. */
    const kiln_range_table *ranges;
    /* With INT4: weights in a row that share a scale: 16, 32, 64 or 128; 0: 64. */
    int32_t block_size;
    /* With INT4: each block has a zero point as well, weights are uint4: nearer to the weights, but
     * TensorRT takes none. */
    bool zero_points;
    /* With INT8, FP8 and INT4: what the rest computes in, FP16 or BF16; DEFAULT: as it did. */
    kiln_precision rest;
    /* With FP16 and BF16, or `rest`: inputs and outputs of float32 become half ones too, instead of
     * keeping their types. */
    bool convert_bindings;
    /* Inputs and outputs with a quantization of their own. With INT8 and FP8, what reads such an
     * input computes with it, where it is one symmetric scale in the type that is computed in (as
     * TensorRT wants it); another is quantized once more inside. With `precision` DEFAULT nothing
     * else is changed. */
    const kiln_binding_quantization *bindings;
    size_t binding_count;
    /* With INT8: weights go from -64 to 64 only, which 7 bits hold. ONNX Runtime outside of Kiln
     * cuts off sums of 8-bit products on x86 processors without VNNI, and with these there is
     * nothing to cut off; their steps are twice as large (docs/precision.md#seven-bits). */
    bool reduce_range;
} kiln_precision_options;

#define KILN_PRECISION_OPTIONS(...) KILN_INIT_OF_(kiln_precision_options, __VA_ARGS__)
#define KILN_PRECISION_OPTIONS_INIT KILN_INIT_(kiln_precision_options)

/* Why a node has the type it has. */
typedef enum kiln_precision_reason {
    KILN_PRECISION_CONVERTED = 0, /* as asked */
    KILN_PRECISION_NO_FLOATS = 1, /* no tensor of float32 is involved, or it takes any type */
    KILN_PRECISION_LACKING = 2,   /* its operator does not take the type, in this operator set */
    KILN_PRECISION_UNKNOWN = 3,   /* ONNX does not have its operator, or a type is not known */
    KILN_PRECISION_LOSSY = 4,     /* its operator loses too much by nature, or its scales do */
    KILN_PRECISION_KEPT = 5,      /* `keep_operators` or `keep_nodes` */
    KILN_PRECISION_RANGE = 6,     /* a tensor's range is too wide; `detail` names it */
    KILN_PRECISION_WHOLE_NUMBERS = 7, /* positions or sizes, which the type does not hold */
    KILN_PRECISION_SQUARES = 8,       /* a variance: squares and their root */
    KILN_PRECISION_CARRIED = 9,       /* a loop, which carries tensors in float32 */
    KILN_PRECISION_NO_RANGE = 10,     /* the range of a tensor is not known; `detail` names it */
    KILN_PRECISION_NO_WEIGHTS = 11,   /* its weights are no constants */
    KILN_PRECISION_FOLDED = 12,       /* it became part of the convolution before it */
    KILN_PRECISION_GATE = 13,         /* a convolution of one pixel whose result scales channels */
    KILN_PRECISION_NO_GAIN = 14,      /* feeding it eight bits costs more than they save */
    KILN_PRECISION_BYTES = 15,        /* it lies between eight bits and eight bits or an output */
    KILN_PRECISION_NOT_QUANTIZED = 16 /* INT8, FP8, INT4: its operator is none that is quantized */
} kiln_precision_reason;

/* "stays: sums squares"; "?" for another value. Static storage. Any thread. Since 0.1. */
KILN_API const char *kiln_precision_reason_text(kiln_precision_reason reason);

typedef struct kiln_precision_report kiln_precision_report;

typedef struct kiln_precision_summary {
    size_t struct_size; /* sizeof(kiln_precision_summary), set by the caller */
    kiln_precision precision;
    size_t node_count;                  /* of the network as it was, local functions inlined */
    size_t converted_count;             /* of them, in the precision that was asked for */
    size_t rest_count;                  /* in `rest` */
    size_t kept_count;                  /* that compute in float32 */
    size_t cast_count;                  /* casts that were added */
    uint64_t bytes_before, bytes_after; /* of constants */
    uint64_t saturated; /* finite elements of constants beyond the type, now its largest number */
    uint64_t vanished;  /* elements of constants that were not zero, and are now */
    /* Of a build whose backend tells what its layers compute in: nodes that do in the type that
     * they have here, and nodes that do not. What a layer absorbed without a trace is neither. */
    size_t achieved_count, missed_count;
    /* Of convolutions, products and recurrent layers, for one run at the sizes that are known, one
     * that is not counting as 32; and those of nodes in the precision that was asked for. */
    uint64_t multiplications, converted_multiplications;
} kiln_precision_summary;

/* What became of one node. Texts are the report's. */
typedef struct kiln_precision_node {
    size_t struct_size; /* sizeof(kiln_precision_node), set by the caller */
    const char *name;   /* "" where the model gives none */
    const char *operator_type;
    const char *graph;  /* "" for the main one, else where it lies: "node/then_branch" */
    const char *output; /* its first output, "" for none */
    kiln_dtype dtype; /* that it computes in; UNDEFINED where no floating-point type is involved */
    kiln_precision_reason reason;
    const char *detail; /* "" or the tensor the reason is about */
    /* What the backend's layer for it computes in, and that layer; UNDEFINED and "" where it does
     * not tell. A node that misses has another type here than in `dtype`. */
    kiln_dtype achieved;
    const char *layer;
    uint64_t multiplications; /* as in the summary; 0 for other operators */
} kiln_precision_node;

/* Converts the network in its place. Its local functions are inlined. Tensor ids of it are not
 * valid any more: find them by name. Inputs and outputs keep their names, and their types unless
 * asked otherwise. `report` may be NULL; it is for kiln_precision_report_destroy. On an error the
 * network is as it was. Errors: NULL_ARGUMENT; INVALID_ARGUMENT for options out of range, and for
 * a binding with scales that do not fit it or without any that are known; STATE for a branch or a
 * network with one; NAME for a node or operator to keep, or a binding, that is not there; DTYPE for
 * a binding that is of no floats; UNSUPPORTED where no node takes the type, with why, or where a
 * branch reads an input that is to be quantized; LIMIT; OUT_OF_MEMORY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_convert(kiln_network *network,
                                                          const kiln_precision_options *options,
                                                          kiln_precision_report **report);

/* Products of float32 (MatMul, and Gemm with a matrix of constants) become sums of products of
 * numbers that TF32 holds. Built with tf32 on, tensor cores compute them, and what comes out has
 * some five times the error of products in float32, a three-hundredth of that in TF32 alone (768
 * products on an H200); any other backend computes the same.
 *
 * Each becomes three products, and constants take three times their memory. With `few_rows`, for a
 * step of a language model, each becomes four, constants take twice their memory and are read once;
 * products of two computed tensors stay as they are then, which is as exact where the GPU computes
 * them in float32 all the same, as TensorRT does attention of one position.
 *
 * Numbers beyond 2^115 come out as NaN; a product with such a constant stays. `split` (which may be
 * NULL): how many. Tensor ids are not valid any more. On an error the network is as it was. Errors:
 * NULL_ARGUMENT; UNSUPPORTED for a network that is empty or has graphs inside nodes; STATE for a
 * branch; LIMIT; OUT_OF_MEMORY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_split_products(kiln_network *network,
                                                                 bool few_rows, size_t *split);

/* What became of the network that `engine` was built of with a precision, and what its layers
 * achieved: the engine's own. NULL for an engine that was loaded, or built without a precision, and
 * for NULL. Any thread. Since 0.1. */
KILN_API const kiln_precision_report *kiln_engine_precision(const kiln_engine *engine);

/* NULL is allowed. Since 0.1. */
KILN_API void kiln_precision_report_destroy(kiln_precision_report *report);

/* Errors: NULL_ARGUMENT; INVALID_ARGUMENT past the end or for a struct_size that is too small.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_precision_report_summary(const kiln_precision_report *report, kiln_precision_summary *summary);
KILN_API KILN_MUST_CHECK kiln_status kiln_precision_report_node(const kiln_precision_report *report,
                                                                size_t index,
                                                                kiln_precision_node *node);

#ifdef __cplusplus
}
#endif

#endif
