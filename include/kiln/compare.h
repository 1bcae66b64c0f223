/*
 * compare.h - comparing two backends on the same input, and finding where their results first
 * differ.
 *
 *     kiln_build_options fast = KILN_BUILD_OPTIONS_INIT, exact = KILN_BUILD_OPTIONS_INIT;
 *     kiln_compare_options options = KILN_COMPARE_OPTIONS_INIT;
 *     kiln_comparison *comparison = NULL;
 *     fast.backend = "onnxruntime";
 *     exact.backend = "reference";
 *     options.first_difference = true;
 *     if (kiln_compare_file("model.onnx", &fast, &exact, &options, &comparison) == KILN_OK &&
 *         !kiln_comparison_passes(comparison)) {
 *         const kiln_tensor_difference *first = kiln_comparison_first(comparison);
 *         ...
 *     }
 *     kiln_comparison_destroy(comparison);
 *
 * An element passes if |found - expected| <= absolute + relative * |expected|. NaN equals NaN, and
 * an infinity equals only itself. If the options give no tolerance, it depends on the data type:
 *
 *     type        relative  absolute   source
 *     float32     1e-3      1e-5       relative: ONNX's own backend tests; absolute: PyTorch's
 *                                      torch.testing.assert_close
 *     float64     1e-7      1e-7       torch.testing.assert_close
 *     complex     as their parts
 *     float16     2^-8      1e-5       four steps of the type: sums are kept in float32 and rounded
 *     bfloat16    2^-5      1e-5       now and then; absolute: torch.testing.assert_close, and four
 *                                      steps of the expected tensor's root mean square, because
 *                                      terms that cancel out were rounded at their own magnitude
 *     float8e4m3  2^-3      2^-9       one step, and the smallest number above 0
 *     float8e5m2  2^-2      2^-16      likewise
 *     float4e2m1  2^-1      0.5        likewise
 *     all others  0         0          integers and bool must be equal
 *
 * Quantized outputs may be one step off, because two backends may round a number between two steps
 * to different sides. The network's own nodes determine which outputs are quantized, and their
 * step:
 *
 * - the result of a DequantizeLinear with constant scales, whose step is its scale;
 * - 8-bit and other small integers from a QuantizeLinear or an operator with quantized output,
 *   whose step is 1;
 * - the results of operators that only move or clip numbers of such tensors.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_COMPARE_H
#define KILN_COMPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kiln/engine.h>
#include <kiln/export.h>
#include <kiln/network.h>
#include <kiln/status.h>
#include <kiln/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How inputs that are not given are filled. */
typedef enum kiln_compare_fill {
    KILN_FILL_RANDOM = 0, /* the numbers that `kiln run` generates from the same seed
                             (docs/cli.md) */
    KILN_FILL_ZEROS = 1
} kiln_compare_fill;

/* A tolerance that depends on the data type. */
#define KILN_BY_DTYPE (-1.0)

typedef struct kiln_compare_options {
    size_t struct_size; /* set by KILN_COMPARE_OPTIONS_INIT */
    /* Inputs by name; those not given are filled. A tensor with data NULL and bytes 0 is filled in
     * the shape of its descriptor, which an input with a dynamic dimension needs. */
    const kiln_named_tensor *inputs;
    size_t input_count;
    kiln_compare_fill fill;
    uint64_t seed;   /* of the random numbers */
    double absolute; /* KILN_BY_DTYPE: the table above; otherwise 0 or more, for all outputs */
    double relative;
    bool first_difference; /* if an output does not pass, find the first node that differs */
    /* Limit on intermediate tensors compared at once in that search; 0: 256 MiB. Tensors that later
     * nodes read are held in addition. */
    uint64_t intermediate_bytes;
    /* Quantization steps that an element of a quantized output may be off, in addition to the
     * tolerance. KILN_BY_DTYPE: 1, or 0 if `absolute` is given. */
    double steps;
    /* For kiln_compare_engines: the network that both engines were made from, which determines what
     * is quantized; NULL: nothing is. For kiln_compare_file: the network that
     * kiln_network_from_onnx read from that file, so that the file is not read again; NULL: it is
     * read. kiln_compare has the network and needs none here. */
    kiln_network *network;
    /* Called when both engines are ready, before any input is set, in the thread that compares. It
     * receives these options and may set their inputs, whose memory remains its own. It may retain
     * the engines. A return value other than KILN_OK ends the comparison. NULL: not called. */
    kiln_status (*built)(void *user, kiln_engine *found, kiln_engine *expected,
                         struct kiln_compare_options *options);
    void *user; /* passed to `built` */
} kiln_compare_options;

#define KILN_COMPARE_OPTIONS_INIT                                                               \
    KILN_INIT_WITH_(kiln_compare_options, .absolute = KILN_BY_DTYPE, .relative = KILN_BY_DTYPE, \
                    .steps = KILN_BY_DTYPE)

/* The difference between two results of one tensor. "Found" is the first engine's, "expected" the
 * second's. Each part of a complex element counts as an element. A later version may append
 * members. */
typedef struct kiln_tensor_difference {
    const char *name;      /* of the tensor */
    const char *node;      /* the node that computes it, or "#12 Relu" if it has no name; "" for an
                              output */
    const char *operation; /* that node's operator; "" for an output */
    kiln_dtype found_dtype, expected_dtype;
    kiln_shape found_shape, expected_shape;
    bool is_comparable; /* both are tensors of the same type and shape; otherwise all that follows
                           is 0. A string counts as 1, and as 0 if a different one was found, which
                           no tolerance allows */
    bool passes;
    double absolute, relative; /* the tolerance */
    int64_t count;             /* number of elements */
    int64_t different;         /* elements that do not pass */
    double largest_absolute;   /* largest absolute error; infinite if only one of the two is NaN or
                                  infinite */
    int64_t largest_at;        /* its element, in row-major order; -1 if the tensor is empty */
    double found, expected;    /* the values there; rounded beyond 2^53 */
    double largest_relative;   /* largest relative error, over elements whose expected value is not
                                  0 */
    double mean_absolute;      /* mean absolute error, over elements that are finite in both */
    double cosine;             /* cosine similarity, over the same elements; 1 if both are all
                                  zeros, NaN if no element is finite in both */
    int64_t found_nans, expected_nans;
    int64_t found_infinities, expected_infinities;
    double step;          /* quantization step, the largest in the tensor; 0: not quantized */
    double steps;         /* steps that an element may be off */
    double largest_steps; /* largest error in steps */
    int64_t stepped;      /* elements that are half a step or more off, including those that pass */
} kiln_tensor_difference;

typedef struct kiln_comparison kiln_comparison;

/* Builds the network twice, with the options `found` and `expected` (mainly their `backend`; NULL:
 * the best one here), runs both on the same inputs and compares every output. `options` may be
 * NULL. Differing results are not an error: see kiln_comparison_passes. The search for a first
 * difference splits the network into parts during the call, and restores it before it returns.
 *
 * Errors: those of kiln_engine_build, kiln_context_bind and kiln_context_run; NAME for an input
 * that does not exist; SHAPE for one with a dynamic dimension and no given shape; DTYPE for an
 * input that is not a tensor; MISMATCH if the engines have different inputs or outputs;
 * INVALID_ARGUMENT for a tolerance that is not a number. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_compare(kiln_network *network,
                                                  const kiln_build_options *found,
                                                  const kiln_build_options *expected,
                                                  const kiln_compare_options *options,
                                                  kiln_comparison **comparison);

/* Like kiln_compare, for a file, which is built as kiln_engine_load does. The search for a first
 * difference needs ONNX. Errors: also those of kiln_engine_load. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_compare_file(const char *path,
                                                       const kiln_build_options *found,
                                                       const kiln_build_options *expected,
                                                       const kiln_compare_options *options,
                                                       kiln_comparison **comparison);

/* Like kiln_compare, for two engines of any origin: a plan and the model it was built from, two
 * precisions, a mock. They have the same names. Errors: also UNSUPPORTED with `first_difference`,
 * which needs the network. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_compare_engines(kiln_engine *found, kiln_engine *expected,
                                                          const kiln_compare_options *options,
                                                          kiln_comparison **comparison);

/* Compares existing tensors: found[i] with expected[i], for each i from 0 to `count` - 1, under the
 * name of the latter; the name of the former is used in sentences. The tensors are dense, in memory
 * that the host can read, and needed during the call only. Only the tolerance of the options
 * applies, and nothing is treated as quantized. Tensors of different types or shapes do not pass.
 * Errors: NULL_ARGUMENT, for a name too; INVALID_ARGUMENT for a tolerance that is not a number;
 * OUT_OF_MEMORY; DTYPE, RANK, SHAPE, SIZE, ALIGNMENT or UNSUPPORTED for an unsuitable tensor. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_compare_tensors(const kiln_named_tensor *found,
                                                          const kiln_named_tensor *expected,
                                                          size_t count,
                                                          const kiln_compare_options *options,
                                                          kiln_comparison **comparison);

/* --- the result: immutable; several threads may read it at once --- */

/* Whether every output passes. False for NULL. Since 0.1. */
KILN_API bool kiln_comparison_passes(const kiln_comparison *comparison);

/* The number of outputs, or tensors, compared; 0 for NULL. Since 0.1. */
KILN_API size_t kiln_comparison_count(const kiln_comparison *comparison);

/* The difference of output `index`, from 0, in the order of the second engine, or of tensor
 * `index`; NULL past the end. Valid as long as the comparison. Since 0.1. */
KILN_API const kiln_tensor_difference *kiln_comparison_get(const kiln_comparison *comparison,
                                                           size_t index);

/* The first intermediate tensor, in an execution order of the nodes, that does not pass. NULL if it
 * was not searched for, or none was found: a backend that exposes its intermediate tensors may fuse
 * fewer nodes, and the difference may disappear with that. Since 0.1. */
KILN_API const kiln_tensor_difference *kiln_comparison_first(const kiln_comparison *comparison);

/* The number of intermediate tensors compared in the search; 0 if none was needed. Since 0.1. */
KILN_API size_t kiln_comparison_intermediate_count(const kiln_comparison *comparison);

/* Destroys a comparison. NULL is allowed. Since 0.1. */
KILN_API void kiln_comparison_destroy(kiln_comparison *comparison);

#ifdef __cplusplus
}
#endif

#endif
