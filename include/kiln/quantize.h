/*
 * quantize.h - the range of each tensor of a network: what low precisions are fitted to.
 *
 *     kiln_range_table *ranges = NULL;
 *     if (kiln_range_table_load("calib.cache", &ranges) == KILN_OK) {
 *         const kiln_range *logits = kiln_range_table_find(ranges, "logits");
 *         ...
 *         kiln_range_table_save(ranges, "ranges.json");
 *     }
 *     kiln_range_table_destroy(ranges);
 *
 * A table comes from calibration, from a file, or is written by hand. Two kinds of file are read
 * and written:
 *
 * TensorRT's calibration cache, which trtexec --calib takes and
 * IInt8Calibrator::readCalibrationCache returns: a header line such as
 * "TRT-100600-EntropyCalibration2" and one line for each tensor, "name: 3c010a14", the bits of the
 * float32 scale in hexadecimal. The range is -127 to 127 scales.
 *
 * JSON, which keeps all that a kiln_range holds:
 *     {"header": "TRT-100600-EntropyCalibration2",
 *      "ranges": {"logits": {"low": -4, "high": 4, "least": -6.5, "greatest": 3, "count": 1000}}}
 * and, where its channels are known, "channels": a list of [least, greatest, mean, deviation].
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

/* Of one channel of a tensor: an index along the axis that a convolution or product sums over. */
typedef struct kiln_channel {
    double least, greatest; /* finite numbers that were seen */
    double mean, deviation; /* their mean, and the root of their mean square distance from it */
} kiln_channel;

/* What one tensor's numbers lie within. A later version may append members. */
typedef struct kiln_range {
    size_t struct_size; /* set by KILN_RANGE */
    const char *name;   /* of the tensor; the table's */
    double low, high;   /* to be represented; what lies outside is clipped. Doubles, because they
                           then hold 127 times a float32 scale exactly */
    double least, greatest;       /* the finite numbers that were seen, clipped ones too */
    uint64_t count;               /* numbers that were seen; 0: not known */
    uint64_t nans, infinities;    /* of them; they have no part in the range */
    const kiln_channel *channels; /* the table's, or NULL where not known */
    size_t channel_count;
} kiln_range;

#define KILN_RANGE(...) KILN_INIT_OF_(kiln_range, __VA_ARGS__)
#define KILN_RANGE_INIT KILN_INIT_(kiln_range)

typedef struct kiln_range_table kiln_range_table;

/* An empty table. One thread at a time uses it; several may read it while none changes it. Errors:
 * NULL_ARGUMENT; OUT_OF_MEMORY, `*table` is NULL then. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_range_table_create(kiln_range_table **table);

/* NULL is allowed. Since 0.1. */
KILN_API void kiln_range_table_destroy(kiln_range_table *table);

/* Sets the range of tensor `name`, which was seen to be the same; one that is there is replaced in
 * its place. Errors: NULL_ARGUMENT; NAME for an empty name; INVALID_ARGUMENT where a bound is not
 * finite or `low` is above `high`; OUT_OF_MEMORY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_range_table_set(kiln_range_table *table, const char *name,
                                                          double low, double high);

/* The same with all that a range holds, which is copied, its name and channels too. Errors: as
 * kiln_range_table_set, for `least` and `greatest` likewise, and for channels whose numbers are not
 * finite or whose `deviation` is negative. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_range_table_put(kiln_range_table *table,
                                                          const kiln_range *range);

/* The range of tensor `name`, or NULL. Valid until the table is changed or destroyed. Since 0.1. */
KILN_API const kiln_range *kiln_range_table_find(const kiln_range_table *table, const char *name);

/* How many there are; 0 for NULL. Since 0.1. */
KILN_API size_t kiln_range_table_count(const kiln_range_table *table);

/* Range `index`, from 0, in the order they were first set; NULL past the end. Valid until the table
 * is changed or destroyed. Since 0.1. */
KILN_API const kiln_range *kiln_range_table_at(const kiln_range_table *table, size_t index);

/* Widens the ranges of `table` to those of `other`, and adds those that it lacks: what was seen in
 * either then fits. Counts are added; channels are merged where both have as many and a count, and
 * else those of `other` are taken. Errors: NULL_ARGUMENT; OUT_OF_MEMORY, some may be merged
 * then. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_range_table_merge(kiln_range_table *table,
                                                            const kiln_range_table *other);

/* The header line of a calibration cache: "TRT-", the version of TensorRT, "-" and which of its
 * calibrators takes the cache: EntropyCalibration2 (which trtexec --calib wants),
 * MinMaxCalibration, EntropyCalibration, LegacyCalibration. A new table has KILN_CACHE_HEADER; a
 * table that was loaded has what its file says. NULL for NULL. Valid until it is set or the table
 * is destroyed. Since 0.1. */
KILN_API const char *kiln_range_table_header(const kiln_range_table *table);
#define KILN_CACHE_HEADER "TRT-100600-EntropyCalibration2"
#define KILN_CACHE_HEADER_MINMAX "TRT-100600-MinMaxCalibration"

/* Errors: NULL_ARGUMENT; INVALID_ARGUMENT for one that is not of this form; OUT_OF_MEMORY. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_range_table_set_header(kiln_range_table *table,
                                                                 const char *header);

/* Reads a calibration cache or JSON, whichever the file at `path` holds. Errors: NOT_FOUND,
 * NOT_A_FILE, EMPTY, IO; MALFORMED with the line of a cache, or the tensor of a JSON file, that
 * is not as above; LIMIT past a gigabyte; OUT_OF_MEMORY. `*table` is NULL then. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_range_table_load(const char *path,
                                                           kiln_range_table **table);

/* The same from bytes in memory, which are needed during the call only. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_range_table_load_bytes(kiln_span bytes,
                                                                 kiln_range_table **table);

/* Writes JSON where `path` ends in ".json", else a calibration cache, in which a range that is not
 * symmetric gets the scale of its larger side. The file appears whole or not at all. Errors:
 * NULL_ARGUMENT; of a cache, NAME for a name with a line break and INVALID_ARGUMENT for a scale
 * that no float32 holds; IO; OUT_OF_MEMORY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_range_table_save(const kiln_range_table *table,
                                                           const char *path);

#ifdef __cplusplus
}
#endif

#endif
