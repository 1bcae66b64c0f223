/*
 * compare.h - the same input on two backends, and where the results first differ.
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
 * An element passes where |found - expected| <= absolute + relative * |expected|. NaN equals NaN,
 * an infinity equals itself and nothing else. Where the options name no tolerance, it goes by the
 * data type:
 *
 *     type        relative  absolute   where it is from
 *     float32     1e-3      1e-5       relative: ONNX's own backend tests; absolute: PyTorch's
 *                                      torch.testing.assert_close
 *     float64     1e-7      1e-7       torch.testing.assert_close
 *     complex     as their parts
 *     float16     2^-8      1e-5       four steps of the type: sums are kept in float32 and rounded
 *     bfloat16    2^-5      1e-5       now and then; absolute: torch.testing.assert_close, and four
 *                                      steps of the expected tensor's root mean square, because
 *                                      what cancels out was rounded as large as the rest
 *     float8e4m3  2^-3      2^-9       one step, and the smallest number above 0
 *     float8e5m2  2^-2      2^-16      likewise
 *     float4e2m1  2^-1      0.5        likewise
 *     all others  0         0          integers and bool are the same or they are not
 *
 * A quantized output may be a step off: two backends round a number that lies between two steps to
 * either. It is one where the network's own nodes say so: what a DequantizeLinear with constant
 * scales gives, whose step is its scale; 8-bit and other small integers that a QuantizeLinear or an
 * operator with quantized output gives, whose step is 1; and what operators that only move or clip
 * numbers make of such.
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

/* What inputs get that are not given. */
typedef enum kiln_compare_fill {
    KILN_FILL_RANDOM = 0, /* the numbers that `kiln run` makes of the same seed (docs/cli.md) */
    KILN_FILL_ZEROS = 1
} kiln_compare_fill;

/* A tolerance that goes by the data type. */
#define KILN_BY_DTYPE (-1.0)

typedef struct kiln_compare_options {
    size_t struct_size; /* set by KILN_COMPARE_OPTIONS_INIT */
    /* Inputs by name; those left out are filled. One with data NULL and bytes 0 is filled in the
     * shape that its descriptor has, which an input with a dynamic dimension needs. */
    const kiln_named_tensor *inputs;
    size_t input_count;
    kiln_compare_fill fill;
    uint64_t seed;   /* of the random numbers */
    double absolute; /* KILN_BY_DTYPE: the table above; else 0 or more, for all outputs */
    double relative;
    bool first_difference; /* where an output does not pass: find the first node that differs */
    /* Of intermediate tensors that are compared at once for that; 0: 256 MiB. What later nodes read
     * is held besides. */
    uint64_t intermediate_bytes;
    /* How many steps of quantization an element may be off where its output is quantized, beside
     * the tolerance. KILN_BY_DTYPE: 1, or 0 where `absolute` is given. */
    double steps;
    /* kiln_compare_engines: the network that both engines were made of, which says what is
     * quantized; NULL: nothing is. kiln_compare_file: what kiln_network_from_onnx read of that
     * file, which is then not read again; NULL: it is read. kiln_compare knows it. */
    kiln_network *network;
    /* Called once both engines are there and before anything is fed, in the thread that compares,
     * with these options, whose inputs it may set; they stay its own. It may retain the engines.
     * What it returns but KILN_OK ends the comparison. NULL: nothing is called. */
    kiln_status (*built)(void *user, kiln_engine *found, kiln_engine *expected,
                         struct kiln_compare_options *options);
    void *user; /* for `built` */
} kiln_compare_options;

#define KILN_COMPARE_OPTIONS_INIT                                                               \
    KILN_INIT_WITH_(kiln_compare_options, .absolute = KILN_BY_DTYPE, .relative = KILN_BY_DTYPE, \
                    .steps = KILN_BY_DTYPE)

/* How far apart two results of one tensor are. "Found" is the first engine's, "expected" the
 * second's. Of complex elements each part counts as an element. A later version may append members.
 */
typedef struct kiln_tensor_difference {
    const char *name; /* of the tensor */
    const char *node; /* that computes it, or "#12 Relu" where it has no name; "" for an output */
    const char *operation; /* its operator; "" for an output */
    kiln_dtype found_dtype, expected_dtype;
    kiln_shape found_shape, expected_shape;
    bool is_comparable; /* both are tensors of one type and shape; else what follows is 0. A string
                           counts as 1, and as 0 where another one was found, which no tolerance
                           allows */
    bool passes;
    double absolute, relative; /* the tolerance */
    int64_t count;             /* elements */
    int64_t different;         /* that do not pass */
    double largest_absolute;   /* error; infinite where one is NaN or infinite and the other not */
    int64_t largest_at;        /* its element, row by row; -1 where the tensor is empty */
    double found, expected;    /* there; past 2^53 rounded */
    double largest_relative;   /* error, of elements whose expected number is not 0 */
    double mean_absolute;      /* error, of elements that are finite in both */
    double cosine;             /* similarity, of the same elements; 1 where both are all zeros, NaN
                                  where none is finite in both */
    int64_t found_nans, expected_nans;
    int64_t found_infinities, expected_infinities;
    double step;          /* of quantization, the largest of the tensor; 0: it is not quantized */
    double steps;         /* that an element may be off */
    double largest_steps; /* error in steps */
    int64_t stepped; /* elements that are half a step or more off, those that pass among them */
} kiln_tensor_difference;

typedef struct kiln_comparison kiln_comparison;

/* Builds the network twice, as `found` and as `expected` say (their `backend` above all; NULL: the
 * best one here), runs both on the same inputs and compares every output. `options` may be NULL.
 * That results differ is not an error here: kiln_comparison_passes. While this looks for a first
 * difference, the network is cut into parts; it is whole again when it returns. Errors: those of
 * kiln_engine_build, kiln_context_bind and kiln_context_run; NAME for an input that is not there;
 * SHAPE for one with a dynamic dimension whose shape is not given; DTYPE for an input that is no
 * tensor; MISMATCH where the engines have different inputs or outputs; INVALID_ARGUMENT for a
 * tolerance that is no number. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_compare(kiln_network *network,
                                                  const kiln_build_options *found,
                                                  const kiln_build_options *expected,
                                                  const kiln_compare_options *options,
                                                  kiln_comparison **comparison);

/* The same for a file, which is built as kiln_engine_load does it. Looking for a first difference
 * needs ONNX. Errors: also those of kiln_engine_load. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_compare_file(const char *path,
                                                       const kiln_build_options *found,
                                                       const kiln_build_options *expected,
                                                       const kiln_compare_options *options,
                                                       kiln_comparison **comparison);

/* The same for two engines, whatever they were made of: a plan and the model that it was built of,
 * two precisions, a mock. They have the same names. UNSUPPORTED with `first_difference`, which
 * needs the network. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_compare_engines(kiln_engine *found, kiln_engine *expected,
                                                          const kiln_compare_options *options,
                                                          kiln_comparison **comparison);

/* The same for tensors that are there: found[i] with expected[i], for each i from 0 to `count` - 1,
 * under the name of the latter; that of the former is for sentences. They are dense, in memory that
 * the host reads, and needed during the call only. Of the options the tolerance alone counts, and
 * nothing is taken for quantized. Two of different types or shapes do not pass. Errors:
 * NULL_ARGUMENT, for a name too; INVALID_ARGUMENT for a tolerance that is no number; OUT_OF_MEMORY;
 * for what is no such tensor DTYPE, RANK, SHAPE, SIZE, ALIGNMENT or UNSUPPORTED. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_compare_tensors(const kiln_named_tensor *found,
                                                          const kiln_named_tensor *expected,
                                                          size_t count,
                                                          const kiln_compare_options *options,
                                                          kiln_comparison **comparison);

/* --- the result: immutable; may be read by several threads at once --- */

/* Whether every output passes. False for NULL. Since 0.1. */
KILN_API bool kiln_comparison_passes(const kiln_comparison *comparison);

/* How many outputs, or tensors, were compared; 0 for NULL. Since 0.1. */
KILN_API size_t kiln_comparison_count(const kiln_comparison *comparison);

/* Output `index`, from 0, in the order of the second engine, or tensor `index`; NULL past the end.
 * Valid as long as the comparison. Since 0.1. */
KILN_API const kiln_tensor_difference *kiln_comparison_get(const kiln_comparison *comparison,
                                                           size_t index);

/* The first intermediate tensor, in an order that the nodes can run in, that does not pass. NULL
 * where it was not looked for, or where none is: a backend that shows its intermediate tensors may
 * not fuse what it fuses otherwise, and the difference may go with that. Since 0.1. */
KILN_API const kiln_tensor_difference *kiln_comparison_first(const kiln_comparison *comparison);

/* Intermediate tensors that were compared on the way; 0 where there was no need to. Since 0.1. */
KILN_API size_t kiln_comparison_intermediate_count(const kiln_comparison *comparison);

/* NULL is allowed. Since 0.1. */
KILN_API void kiln_comparison_destroy(kiln_comparison *comparison);

#ifdef __cplusplus
}
#endif

#endif
