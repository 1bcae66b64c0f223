/*
 * precision.h - converting networks to lower precision: fp16, bf16, int8, fp8, or int4 weights.
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
 * The result is an ordinary ONNX network that gives the type of each tensor explicitly. TensorRT
 * (strongly typed), ONNX Runtime, the reference executor and any other tool accept it.
 * kiln_build_options.precision converts a network the same way during a build.
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

/* A quantization for an input or output of floats, which overrides its range. */
typedef struct kiln_binding_quantization {
    const char *name; /* of the input or output */
    /* Scales and zero points: a single one for the whole tensor, or as many as `axis` and
     * `block_size` require for a known shape. With `count` 0 they are those with which the model
     * already quantizes the tensor, or follow from `ranges`: symmetric, except for an unsigned
     * type. `storage` is an integer type of 4, 8 or 16 bits, or float8; UNDEFINED: the type that
     * `precision` stores, or int8. */
    kiln_quantization quantization;
    /* true: the input or output itself has that type. The caller passes or receives integers, whose
     * meaning kiln_binding.quantization gives. false: it keeps its type, and its numbers are
     * rounded to the same steps as they enter or leave. */
    bool stored;
} kiln_binding_quantization;

typedef struct kiln_precision_options {
    size_t struct_size; /* set by KILN_PRECISION_OPTIONS_INIT */
    kiln_precision precision;
    /* Operators ("Softmax") and nodes that stay in fp32, or compute in `rest` if that is set. A
     * node is given by its name or the name of an output. In node names, * stands for any text
     * ("/encoder/layer.0/" and a *). */
    const char *const *keep_operators;
    size_t keep_operator_count;
    const char *const *keep_nodes;
    size_t keep_node_count;
    /* Ranges of tensors, or NULL.
     *
     * - INT8 and FP8 need them. Nodes that read a tensor without a range in the table are not
     *   converted.
     * - If the table has channels (kiln_calibrate_options), INT8 equalizes their ranges, in
     *   neighbouring constants or with added operators, and corrects each bias for the average
     *   error of rounding the weights.
     * - With FP16 and BF16, a node stays in fp32 if one of its tensors has numbers beyond half of
     *   the type's largest number (fp16: 32,752). */
    const kiln_range_table *ranges;
    /* With INT4: consecutive weights that share a scale: 16, 32, 64 or 128; 0: 64. */
    int32_t block_size;
    /* With INT4: also give each block a zero point, with uint4 weights. More accurate, but TensorRT
     * does not accept it. */
    bool zero_points;
    /* With INT8, FP8 and INT4: the type of everything else, FP16 or BF16; DEFAULT: unchanged. */
    kiln_precision rest;
    /* With FP16 and BF16, or `rest`: also convert float32 inputs and outputs to the 16-bit type,
     * instead of keeping their types. */
    bool convert_bindings;
    /* Inputs and outputs with a quantization of their own. With INT8 and FP8, the nodes that read
     * such an input compute with it directly if it has one symmetric scale in the type of the
     * computation (as TensorRT requires); otherwise the input is quantized once more inside. With
     * `precision` DEFAULT nothing else is changed. */
    const kiln_binding_quantization *bindings;
    size_t binding_count;
    /* With INT8: restrict weights to -64 to 64, which take 7 bits. Outside of Kiln, ONNX Runtime
     * saturates sums of 8-bit products on x86 processors without VNNI. Weights of 7 bits avoid
     * that, at the price of quantization steps twice as large (docs/precision.md#seven-bits). */
    bool reduce_range;
} kiln_precision_options;

#define KILN_PRECISION_OPTIONS(...) KILN_INIT_OF_(kiln_precision_options, __VA_ARGS__)
#define KILN_PRECISION_OPTIONS_INIT KILN_INIT_(kiln_precision_options)

/* Why a node has its type. */
typedef enum kiln_precision_reason {
    KILN_PRECISION_CONVERTED = 0, /* converted as requested */
    KILN_PRECISION_NO_FLOATS = 1, /* it has no float32 tensor, or takes any type */
    KILN_PRECISION_LACKING = 2,   /* its operator does not accept the type in this operator set */
    KILN_PRECISION_UNKNOWN = 3,   /* its operator is not ONNX's, or a type is not known */
    KILN_PRECISION_LOSSY = 4,     /* its operator, or its scales, would lose too much accuracy */
    KILN_PRECISION_KEPT = 5,      /* listed in `keep_operators` or `keep_nodes` */
    KILN_PRECISION_RANGE = 6,     /* a tensor's range is too wide; `detail` names it */
    KILN_PRECISION_WHOLE_NUMBERS = 7, /* positions or sizes, which the type cannot hold exactly */
    KILN_PRECISION_SQUARES = 8,       /* a variance: squares and their root */
    KILN_PRECISION_CARRIED = 9,       /* a loop that carries float32 tensors */
    KILN_PRECISION_NO_RANGE = 10,     /* the range of a tensor is not known; `detail` names it */
    KILN_PRECISION_NO_WEIGHTS = 11,   /* its weights are not constants */
    KILN_PRECISION_FOLDED = 12,       /* it was merged into the convolution before it */
    KILN_PRECISION_GATE = 13,         /* a gate: a convolution of a single pixel whose result scales
                                         channels */
    KILN_PRECISION_NO_GAIN = 14,      /* quantizing its inputs costs more than it saves */
    KILN_PRECISION_BYTES = 15,        /* it lies between 8-bit tensors, or an 8-bit tensor and an
                                         output */
    KILN_PRECISION_NOT_QUANTIZED = 16 /* INT8, FP8, INT4: its operator is not one that is
                                         quantized */
} kiln_precision_reason;

/* The reason as text, such as "stays: sums squares"; "?" for any other value. Static storage. Any
 * thread. Since 0.1. */
KILN_API const char *kiln_precision_reason_text(kiln_precision_reason reason);

typedef struct kiln_precision_report kiln_precision_report;

typedef struct kiln_precision_summary {
    size_t struct_size; /* sizeof(kiln_precision_summary), set by the caller */
    kiln_precision precision;
    size_t node_count;                  /* nodes of the original network, with local functions
                                           inlined */
    size_t converted_count;             /* of those, nodes in the requested precision */
    size_t rest_count;                  /* nodes in `rest` */
    size_t kept_count;                  /* nodes that compute in float32 */
    size_t cast_count;                  /* casts added */
    uint64_t bytes_before, bytes_after; /* size of the constants */
    uint64_t saturated; /* finite elements of constants beyond the type's range, set to its largest
                           number */
    uint64_t vanished;  /* non-zero elements of constants that became zero */
    /* For a build with a backend that reports the types of its layers: nodes that compute in the
     * type they have here, and nodes that do not. Nodes absorbed by a layer without a trace are in
     * neither. */
    size_t achieved_count, missed_count;
    /* Multiplications of convolutions, products and recurrent layers in one run, at the known
     * sizes, an unknown one counting as 32; and those of nodes in the requested precision. */
    uint64_t multiplications, converted_multiplications;
} kiln_precision_summary;

/* The outcome for one node. Texts are owned by the report. */
typedef struct kiln_precision_node {
    size_t struct_size; /* sizeof(kiln_precision_node), set by the caller */
    const char *name;   /* "" if the model has none */
    const char *operator_type;
    const char *graph;  /* "" for the main graph, otherwise its subgraph: "node/then_branch" */
    const char *output; /* its first output; "" for none */
    kiln_dtype dtype;   /* type it computes in; UNDEFINED if it involves no floating-point type */
    kiln_precision_reason reason;
    const char *detail; /* "", or the tensor that the reason is about */
    /* The layer of the backend that computes the node, and the layer's type; "" and UNDEFINED if
     * the backend does not report it. If the type differs from `dtype`, the requested type was
     * missed. */
    kiln_dtype achieved;
    const char *layer;
    uint64_t multiplications; /* as in the summary; 0 for other operators */
} kiln_precision_node;

/* Converts the network in place, and inlines its local functions. Tensor ids become invalid: find
 * the tensors again by name. Inputs and outputs keep their names, and keep their types unless the
 * options say otherwise. `report` may be NULL; destroy it with kiln_precision_report_destroy. On an
 * error the network is unchanged.
 *
 * Errors: NULL_ARGUMENT; INVALID_ARGUMENT for options out of range, and for an input or output
 * whose scales do not match its shape or are not known; STATE for a branch or a network with one;
 * NAME for a node or operator to keep, or an input or output, that does not exist; DTYPE for an
 * input or output that is not of floats; UNSUPPORTED if no node accepts the type, with the reason,
 * or if a branch reads an input that is to be quantized; LIMIT; OUT_OF_MEMORY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_convert(kiln_network *network,
                                                          const kiln_precision_options *options,
                                                          kiln_precision_report **report);

/* Splits products of float32 (MatMul, and Gemm with a constant matrix) into sums of products of
 * numbers that TF32 holds exactly. Built with tf32 on, tensor cores compute them. The result has
 * about five times the error of products in float32, and a three-hundredth of the error of TF32
 * alone (768 products on an H200). Any other backend computes the same.
 *
 * Each product becomes three, and constants take three times their memory. With `few_rows`, for a
 * step of a language model, each becomes four, constants take twice their memory and are read once,
 * and products of two computed tensors are left unchanged. The latter is as exact if the GPU
 * computes those in float32 in any case, as TensorRT does attention for one position.
 *
 * Numbers beyond 2^115 give NaN; a product with such a constant is left unchanged. `split` (may be
 * NULL) receives the number of products split. Tensor ids become invalid. On an error the network
 * is unchanged.
 *
 * Errors: NULL_ARGUMENT; UNSUPPORTED for a network that is empty or has nodes with subgraphs; STATE
 * for a branch; LIMIT; OUT_OF_MEMORY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_split_products(kiln_network *network,
                                                                 bool few_rows, size_t *split);

/* The report of the conversion of `engine`'s network, with the types that its layers achieved.
 * Owned by the engine. NULL for an engine that was loaded, or built without a precision, and for
 * NULL. Any thread. Since 0.1. */
KILN_API const kiln_precision_report *kiln_engine_precision(const kiln_engine *engine);

/* Destroys a report. NULL is allowed. Since 0.1. */
KILN_API void kiln_precision_report_destroy(kiln_precision_report *report);

/* Gives the summary, and node `index`, of a report. Errors: NULL_ARGUMENT; INVALID_ARGUMENT if
 * `index` is past the end or struct_size is too small. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_precision_report_summary(const kiln_precision_report *report, kiln_precision_summary *summary);
KILN_API KILN_MUST_CHECK kiln_status kiln_precision_report_node(const kiln_precision_report *report,
                                                                size_t index,
                                                                kiln_precision_node *node);

#ifdef __cplusplus
}
#endif

#endif
