/*
 * kln_precision.h - what low precisions are made of: ranges, and passes over the graph.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KLN_PRECISION_H
#define KLN_PRECISION_H

#include <kiln/quantize.h>

#include "base/kln_base.h"

/* --- the texts of a range table (range_text.c) --- */

/* Past this it is no table of ranges. */
#define KLN_MOST_RANGE_TEXT ((size_t)1 << 30)

/* Both read into an empty table. MALFORMED, OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_ranges_read_cache(kiln_span text, kiln_range_table *table);
KILN_MUST_CHECK kiln_status kln_ranges_read_json(kiln_span text, kiln_range_table *table);
KILN_MUST_CHECK kiln_status kln_ranges_write_cache(const kiln_range_table *table, kln_text *text);
KILN_MUST_CHECK kiln_status kln_ranges_write_json(const kiln_range_table *table, kln_text *text);

#endif
