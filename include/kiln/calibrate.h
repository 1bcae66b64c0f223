/*
 * calibrate.h - calibration: measuring the ranges of a network's tensors by running it.
 *
 *     kiln_batch_folder *folder = NULL;
 *     kiln_range_table *ranges = NULL;
 *     if (kiln_batch_folder_open("batches", &folder) == KILN_OK) {
 *         const kiln_batch_source source = kiln_batch_folder_source(folder);
 *         if (kiln_calibrate_file("model.onnx", NULL, &source, NULL, &ranges) == KILN_OK) {
 *             kiln_range_table_save(ranges, "calib.cache");     // for trtexec --calib
 *         }
 *     }
 *     kiln_range_table_destroy(ranges);
 *     kiln_batch_folder_close(folder);
 *
 * Calibration observes every floating-point tensor of the main graph that is not constant: inputs,
 * intermediate tensors and outputs. Each batch is read once and is in memory only while it runs.
 * For each tensor a histogram of 32 KiB is kept, whose bins double their width when larger numbers
 * arrive. Hence no second pass over the batches is needed, and memory does not grow with the
 * largest number.
 *
 * Methods to derive a range from a histogram:
 *
 * - entropy: the threshold T, at a border of 2,048 bins, that minimizes the Kullback-Leibler
 *   divergence between the distribution and the numbers clipped to -T to T and rounded to 128 steps
 *   on a side. "8-bit Inference with TensorRT", GTC 2017; the method of IInt8EntropyCalibrator2 and
 *   trtexec --int8.
 * - min-max: the least and the greatest number. IInt8MinMaxCalibrator uses the larger magnitude.
 * - percentile: what remains after discarding half of (100 - percentile) % of the numbers at either
 *   end.
 * - MSE: the threshold with the least mean square error of 8-bit numbers.
 *
 * NaN and infinities are counted (kiln_range.nans, infinities) but do not affect a range. A tensor
 * without any finite number has the range 0 to 0.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_CALIBRATE_H
#define KILN_CALIBRATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kiln/engine.h>
#include <kiln/export.h>
#include <kiln/network.h>
#include <kiln/quantize.h>
#include <kiln/status.h>
#include <kiln/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kiln_calibration_method {
    KILN_CALIBRATE_ENTROPY = 0,
    KILN_CALIBRATE_MINMAX = 1,
    KILN_CALIBRATE_PERCENTILE = 2,
    KILN_CALIBRATE_MSE = 3
} kiln_calibration_method;

/* --- batches --- */

/* A source of batches. `next` points `*inputs` to the tensors of the next batch and sets `*count`
 * to their number; 0 means the end. The tensors are dense, in host memory, and stay unchanged until
 * the next call. A tensor whose name matches no input is ignored. For a network with one input, a
 * single tensor, or one whose name is NULL, is that input. A return value other than KILN_OK
 * becomes the status of the calibration. Called in the thread that calibrates. */
typedef struct kiln_batch_source {
    kiln_status (*next)(void *user, const kiln_named_tensor **inputs, size_t *count);
    void *user;
} kiln_batch_source;

/* The batches in a folder, in the order of their names. Each .npz file is a batch; for a network
 * with a single input, so is each .npy file. */
typedef struct kiln_batch_folder kiln_batch_folder;

/* Lists the folder. Errors: NULL_ARGUMENT; NOT_FOUND; IO; EMPTY if it has no .npy or .npz file;
 * OUT_OF_MEMORY. On an error `*folder` is NULL. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_batch_folder_open(const char *path,
                                                            kiln_batch_folder **folder);

/* The number of files; 0 for NULL. Since 0.1. */
KILN_API size_t kiln_batch_folder_count(const kiln_batch_folder *folder);

/* The folder as a batch source, which passes through it once. Its errors are those of
 * kiln_tensor_load_npy and kiln_tensors_load_npz. Valid as long as the folder is open. Since
 * 0.1. */
KILN_API kiln_batch_source kiln_batch_folder_source(kiln_batch_folder *folder);

/* Closes the folder and frees the last batch. NULL is allowed. Since 0.1. */
KILN_API void kiln_batch_folder_close(kiln_batch_folder *folder);

/* --- calibration --- */

/* Progress of a calibration. A later version may append members. */
typedef struct kiln_calibrate_progress {
    uint64_t batches;     /* batches done */
    uint64_t most;        /* batches to do, from the options; 0: all that there are */
    size_t tensors;       /* tensors observed */
    size_t parts;         /* parts that each batch is run in, because of memory_bytes */
    uint64_t nanoseconds; /* since the start */
} kiln_calibrate_progress;

typedef struct kiln_calibrate_options {
    size_t struct_size; /* set by KILN_CALIBRATE_OPTIONS_INIT */
    kiln_calibration_method method;
    double percentile;  /* percentage of the numbers within the range: above 0, at most 100 */
    uint64_t batches;   /* most batches to run; 0: all that there are */
    int64_t batch_size; /* run a batch in pieces of this many along its first dimension; 0: the size
                           of that dimension in the network's inputs if it is fixed, otherwise the
                           whole batch. The last piece is dropped if it is smaller and the network
                           has a fixed size */
    /* Memory for the tensors observed at once, histograms included, in addition to that of the
     * network's own run. It is device memory if tensors are counted on a GPU. If they need more,
     * the network runs once for each part of them. 0: 1 GiB. LIMIT if a single tensor and the
     * histograms exceed it. */
    uint64_t memory_bytes;
    /* Threads that count, in addition to those of the backend. With ONNX Runtime on the CPU, each
     * thread runs a batch of its own, on one thread unless the build options say otherwise, and
     * counts its tensors, in the order of the batches; as many threads work as have room for all
     * their tensors in memory_bytes. 0: one for each processor, at most 16. */
    int32_t threads;
    const char *const *tensors; /* observe only these; NULL: all */
    size_t tensor_count;
    bool channels; /* also record statistics of each channel of tensors that a convolution or a
                      product with constant weights reads, so that quantization can equalize them
                      (kiln_precision_options) */
    bool products; /* also record, for tensors that such a node reads, sums of products of each pair
                      of the numbers it sums over, for up to 2,304 of them, at 512 positions of each
                      batch, so that rounded weights compensate for each other
                      (kiln_precision_options). Kept in memory only, not in files. Counted on the
                      CPU */
    /* With INT8 and FP8, and no `tensors`: observe only the tensors whose ranges a conversion to
     * that precision uses (kiln_precision_options): inputs of products, sums, pools and Concat, and
     * outputs. Nodes in between may then run fused. DEFAULT: all. */
    kiln_precision precision;
    /* Called after each batch, in the thread that calibrates; returning false ends the calibration
     * with CANCELLED. NULL: not called. */
    bool (*progress)(void *user, const kiln_calibrate_progress *progress);
    void *user;
} kiln_calibrate_options;

#define KILN_CALIBRATE_OPTIONS_INIT KILN_INIT_WITH_(kiln_calibrate_options, .percentile = 99.99)

/* Builds the network with the options `build` (NULL: the best backend here) and the observed
 * tensors as additional outputs, runs it on every batch and returns the ranges, in the order of the
 * graph. Batches may differ in shape. A backend that needs an optimization profile and is not given
 * one gets one with the shapes of the batch, and the network is built again when they change. The
 * network has the additional outputs during the call, and is restored before it returns. `options`
 * may be NULL.
 *
 * Errors: NULL_ARGUMENT; INVALID_ARGUMENT for options out of range; NAME for a tensor that does not
 * exist; EMPTY if there is no batch, or no number in them; CANCELLED; LIMIT (memory_bytes); those
 * of kiln_engine_build, kiln_context_bind, kiln_context_run and the source, with the number of the
 * batch. On an error `*ranges` is NULL. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_calibrate(kiln_network *network,
                                                    const kiln_build_options *build,
                                                    const kiln_batch_source *source,
                                                    const kiln_calibrate_options *options,
                                                    kiln_range_table **ranges);

/* Like kiln_calibrate, for an ONNX file. Errors: also those of kiln_network_from_onnx. Any thread.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_calibrate_file(const char *path,
                                                         const kiln_build_options *build,
                                                         const kiln_batch_source *source,
                                                         const kiln_calibrate_options *options,
                                                         kiln_range_table **ranges);

#ifdef __cplusplus
}
#endif

#endif
