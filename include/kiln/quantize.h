/*
 * quantize.h - tables of tensor ranges, from which quantization scales are computed.
 *
 *     kiln_range_table *ranges = NULL;
 *     if (kiln_range_table_load("calib.cache", &ranges) == KILN_OK) {
 *         const kiln_range *logits = kiln_range_table_find(ranges, "logits");
 *         ...
 *         kiln_range_table_save(ranges, "ranges.json");
 *     }
 *     kiln_range_table_destroy(ranges);
 *
 * A table comes from calibration or a file, or is filled by hand. Two file formats are read and
 * written:
 *
 * TensorRT's calibration cache, which trtexec --calib accepts and
 * IInt8Calibrator::readCalibrationCache returns. It has a header line such as
 * "TRT-100600-EntropyCalibration2" and one line for each tensor, "name: 3c010a14", with the bits of
 * the float32 scale in hexadecimal. The range is -127 to 127 times the scale.
 *
 * JSON, which keeps everything in a kiln_range:
 *     {"header": "TRT-100600-EntropyCalibration2",
 *      "ranges": {"logits": {"low": -4, "high": 4, "least": -6.5, "greatest": 3, "count": 1000}}}
 * and, if the channels of a tensor are known, its "channels": a list of [least, greatest, mean,
 * deviation].
 *
 * Threads: one thread at a time uses a table; several may read it while none changes it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_QUANTIZE_H
#define KILN_QUANTIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kiln/export.h>
#include <kiln/status.h>
#include <kiln/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Statistics of one channel of a tensor: an index along the axis that a convolution or product sums
 * over. */
typedef struct kiln_channel {
    double least, greatest; /* of the finite numbers observed */
    double mean, deviation; /* their mean and standard deviation (root of the mean square
                               distance) */
} kiln_channel;

/* The range of one tensor. A later version may append members. */
typedef struct kiln_range {
    size_t struct_size; /* set by KILN_RANGE */
    const char *name;   /* of the tensor; owned by the table */
    double low, high;   /* range to represent; numbers outside are clipped. Doubles, which hold 127
                           times a float32 scale exactly */
    double least, greatest;       /* of the finite numbers observed, clipped ones included */
    uint64_t count;               /* numbers observed; 0: not known */
    uint64_t nans, infinities;    /* of those; they do not affect the range */
    const kiln_channel *channels; /* owned by the table; NULL: not known */
    size_t channel_count;
} kiln_range;

#define KILN_RANGE(...) KILN_INIT_OF_(kiln_range, __VA_ARGS__)
#define KILN_RANGE_INIT KILN_INIT_(kiln_range)

typedef struct kiln_range_table kiln_range_table;

/* Creates an empty table. Errors: NULL_ARGUMENT; OUT_OF_MEMORY. On an error `*table` is NULL. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_range_table_create(kiln_range_table **table);

/* Destroys a table. NULL is allowed. Since 0.1. */
KILN_API void kiln_range_table_destroy(kiln_range_table *table);

/* Sets the range of tensor `name`, and takes it as the observed one too. An existing range is
 * replaced and keeps its position. Errors: NULL_ARGUMENT; NAME for an empty name; INVALID_ARGUMENT
 * if a bound is not finite or `low` is above `high`; OUT_OF_MEMORY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_range_table_set(kiln_range_table *table, const char *name,
                                                          double low, double high);

/* Sets a range with all its members, which are copied, name and channels included. Errors: as
 * kiln_range_table_set, for `least` and `greatest` likewise, and for channels whose numbers are not
 * finite or whose `deviation` is negative. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_range_table_put(kiln_range_table *table,
                                                          const kiln_range *range);

/* The range of tensor `name`, or NULL. Valid until the table is changed or destroyed. Since 0.1. */
KILN_API const kiln_range *kiln_range_table_find(const kiln_range_table *table, const char *name);

/* The number of ranges; 0 for NULL. Since 0.1. */
KILN_API size_t kiln_range_table_count(const kiln_range_table *table);

/* Range `index`, from 0, in the order in which they were first set; NULL past the end. Valid until
 * the table is changed or destroyed. Since 0.1. */
KILN_API const kiln_range *kiln_range_table_at(const kiln_range_table *table, size_t index);

/* Widens the ranges of `table` to include those of `other`, and adds those that it lacks, so that
 * the numbers observed for either fit. Counts are added. Channels are merged if both have the same
 * number of channels and a count; otherwise those of `other` replace them. Errors: NULL_ARGUMENT;
 * OUT_OF_MEMORY, after which some ranges may be merged. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_range_table_merge(kiln_range_table *table,
                                                            const kiln_range_table *other);

/* The header line of a calibration cache: "TRT-", the version of TensorRT, "-" and the calibrator
 * that accepts the cache: EntropyCalibration2 (required by trtexec --calib), MinMaxCalibration,
 * EntropyCalibration or LegacyCalibration. A new table has KILN_CACHE_HEADER; a loaded table has
 * the header of its file. NULL for NULL. Valid until it is set or the table is destroyed. Since
 * 0.1. */
KILN_API const char *kiln_range_table_header(const kiln_range_table *table);
#define KILN_CACHE_HEADER "TRT-100600-EntropyCalibration2"
#define KILN_CACHE_HEADER_MINMAX "TRT-100600-MinMaxCalibration"

/* Sets the header line. Errors: NULL_ARGUMENT; INVALID_ARGUMENT for text that is not of this form;
 * OUT_OF_MEMORY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_range_table_set_header(kiln_range_table *table,
                                                                 const char *header);

/* Loads the calibration cache or JSON file at `path`, detecting the format. Errors: NOT_FOUND,
 * NOT_A_FILE, EMPTY, IO; MALFORMED with the line of a cache, or the tensor of a JSON file, that is
 * invalid; LIMIT above a gigabyte; OUT_OF_MEMORY. On an error `*table` is NULL. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_range_table_load(const char *path,
                                                           kiln_range_table **table);

/* Like kiln_range_table_load, from bytes in memory, which are needed during the call only. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_range_table_load_bytes(kiln_span bytes,
                                                                 kiln_range_table **table);

/* Saves the table as JSON if `path` ends in ".json", and as a calibration cache otherwise. In a
 * cache, a range that is not symmetric gets the scale of its larger side. The file appears whole or
 * not at all. Errors: NULL_ARGUMENT; for a cache, NAME for a name with a line break and
 * INVALID_ARGUMENT for a scale that no float32 holds; IO; OUT_OF_MEMORY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_range_table_save(const kiln_range_table *table,
                                                           const char *path);

#ifdef __cplusplus
}
#endif

#endif
