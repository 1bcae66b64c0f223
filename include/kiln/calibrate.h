/*
 * calibrate.h - the ranges of a network's tensors, found by running it.
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
 * Every floating-point tensor of the main graph that is no constant is observed: inputs, what nodes
 * give to each other, and outputs. Batches are in memory only while they run; what is kept of a
 * tensor is a histogram of 32 KiB, whose bins double their width when larger numbers come. So a
 * batch is read once, whatever comes after it: a second pass would want it twice, and bins that are
 * added at the end would grow with the largest number that is ever seen.
 *
 * How a range is found:
 *
 *  - entropy: the threshold T, at a border of 2,048 bins, for which the numbers, clipped to -T to T
 *    and rounded to 128 steps on a side, have the smallest Kullback-Leibler divergence from the
 *    distribution. "8-bit Inference with TensorRT", GTC 2017; what IInt8EntropyCalibrator2 and
 *    trtexec --int8 do.
 *  - min-max: the least and the greatest number; IInt8MinMaxCalibrator takes the larger magnitude.
 *  - percentile: what is left when half of (100 - percentile) % of the numbers are put aside at
 *    either end.
 *  - MSE: the threshold with the least mean square error of 8-bit numbers.
 *
 * NaN and infinities are counted (kiln_range.nans, infinities) and have no part in a range. The
 * range of a tensor that had no finite number is 0 to 0.
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

/* Where batches come from. `next` points `*inputs` at the tensors of the next batch, dense and in
 * host memory, which stay as they are until it is called again, and says how many they are; none is
 * the end. A tensor that no input has the name of is ignored; a single tensor, and one whose name
 * is NULL, is that of the only input. What `next` returns, if not KILN_OK, becomes the
 * calibration's status. Called in the thread that calibrates. */
typedef struct kiln_batch_source {
    kiln_status (*next)(void *user, const kiln_named_tensor **inputs, size_t *count);
    void *user;
} kiln_batch_source;

/* Batches in a folder, in the order of their names: each .npz file is a batch, and each .npy file
 * one of a network with a single input. */
typedef struct kiln_batch_folder kiln_batch_folder;

/* Lists the folder. Errors: NULL_ARGUMENT; NOT_FOUND; IO; EMPTY where it has no .npy and no .npz
 * file; OUT_OF_MEMORY. `*folder` is NULL then. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_batch_folder_open(const char *path,
                                                            kiln_batch_folder **folder);

/* How many files there are; 0 for NULL. Since 0.1. */
KILN_API size_t kiln_batch_folder_count(const kiln_batch_folder *folder);

/* The folder as a source, which goes through it once; it fails as kiln_tensor_load_npy and
 * kiln_tensors_load_npz do. Valid as long as the folder is open. Since 0.1. */
KILN_API kiln_batch_source kiln_batch_folder_source(kiln_batch_folder *folder);

/* Releases it and the last batch. NULL is allowed. Since 0.1. */
KILN_API void kiln_batch_folder_close(kiln_batch_folder *folder);

/* --- calibrating --- */

/* How far a calibration is. A later version may append members. */
typedef struct kiln_calibrate_progress {
    uint64_t batches;     /* done */
    uint64_t most;        /* of the options; 0: as many as there are */
    size_t tensors;       /* that are observed */
    size_t parts;         /* that each batch is run in, for the limit of memory */
    uint64_t nanoseconds; /* since the start */
} kiln_calibrate_progress;

typedef struct kiln_calibrate_options {
    size_t struct_size; /* set by KILN_CALIBRATE_OPTIONS_INIT */
    kiln_calibration_method method;
    double percentile;  /* of numbers that lie within: above 0, at most 100 */
    uint64_t batches;   /* at most; 0: as many as there are */
    int64_t batch_size; /* a batch is run in pieces of so many along its first dimension; 0: of as
                           many as the network's inputs have there, where that is fixed, else
                           whole. The last piece is left out where it is smaller and the network
                           wants more */
    /* Of observed tensors at once (the device's memory, where they are counted on a GPU), with what
     * histograms take, beside what the network's own run takes; past it the network is run once for
     * each part of them. 0: 1 GiB. LIMIT where a single tensor and the histograms do not fit. */
    uint64_t memory_bytes;
    /* That count, beside the backend's. With ONNX Runtime on the CPU each runs a batch of its own,
     * on one thread unless the build options say so, and counts tensors on the way, in the order of
     * the batches; as many as have room for all of their tensors in memory_bytes. 0: one for each
     * processor, 16 at most */
    int32_t threads;
    const char *const *tensors; /* only these are observed; NULL: all */
    size_t tensor_count;
    bool channels; /* what each channel of a tensor is seen to be goes into the table as well, where
                      a convolution or a product with constant weights reads it: quantization then
                      evens them out (kiln_precision_options) */
    bool products; /* and sums of products of each two numbers that such a node sums over, up to
                      2,304 of them, at 512 positions of each batch: rounded weights then make up
                      for each other (kiln_precision_options). They stay in memory: no file has
                      them. Counted on the CPU */
    /* With INT8 and FP8, and no `tensors`: only those are observed whose ranges a conversion to it
     * looks at (kiln_precision_options): what products, sums, pools and Concat read, and outputs.
     * The network may be run with nodes in one that lie between them. DEFAULT: all. */
    kiln_precision precision;
    /* Called after each batch, in the thread that calibrates; false ends it with CANCELLED. NULL:
     * nobody. */
    bool (*progress)(void *user, const kiln_calibrate_progress *progress);
    void *user;
} kiln_calibrate_options;

#define KILN_CALIBRATE_OPTIONS_INIT KILN_INIT_WITH_(kiln_calibrate_options, .percentile = 99.99)

/* Builds the network as `build` says (NULL: the best backend here), with the observed tensors as
 * outputs besides, runs it on every batch and hands out the ranges, in the order of the graph. The
 * shapes of the batches may differ; a backend that needs an optimization profile and is given none
 * gets one of each batch's shapes, which builds anew where they change. While this goes on, the
 * network has other outputs; it is whole again when it returns. `options` may be NULL. Errors:
 * NULL_ARGUMENT; INVALID_ARGUMENT for options out of range; NAME for a tensor that is not there;
 * EMPTY where there is no batch, or no number in them; CANCELLED; LIMIT (memory_bytes); those of
 * kiln_engine_build, kiln_context_bind, kiln_context_run and the source, with the number of the
 * batch. `*ranges` is NULL then. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_calibrate(kiln_network *network,
                                                    const kiln_build_options *build,
                                                    const kiln_batch_source *source,
                                                    const kiln_calibrate_options *options,
                                                    kiln_range_table **ranges);

/* The same for an ONNX file. Errors: also those of kiln_network_from_onnx. Any thread. Since 0.1.
 */
KILN_API KILN_MUST_CHECK kiln_status kiln_calibrate_file(const char *path,
                                                         const kiln_build_options *build,
                                                         const kiln_batch_source *source,
                                                         const kiln_calibrate_options *options,
                                                         kiln_range_table **ranges);

#ifdef __cplusplus
}
#endif

#endif
