/* SPDX-License-Identifier: Apache-2.0 */
/* What a report of a conversion names, a caller may ask to stay. */
#ifndef PRECISION_REPORT_H
#define PRECISION_REPORT_H

#include "kiln_test.h"

/* `how` with all nodes kept that the report says are converted; no two have one name. */
static inline kiln_precision_options keep_converted(const kiln_precision_report *report,
                                                    kiln_precision_options how)
{
    static const char *kept[64];
    kiln_precision_summary summary = {.struct_size = sizeof summary};
    assert_ok(kiln_precision_report_summary(report, &summary));
    how.keep_nodes = kept;
    how.keep_node_count = 0;
    for (size_t i = 0; i < summary.node_count; i++) {
        kiln_precision_node node = {.struct_size = sizeof node};
        assert_ok(kiln_precision_report_node(report, i, &node));
        if (node.reason != KILN_PRECISION_CONVERTED) {
            continue;
        }
        for (size_t k = 0; k < how.keep_node_count; k++) {
            assert_string_not_equal(kept[k], node.output);
        }
        assert_true(how.keep_node_count < KLN_ARRAY_LENGTH(kept));
        kept[how.keep_node_count++] = node.output;
    }
    return how;
}

/* Nothing is left to convert, or a half type is all that is. */
static inline void assert_kept(kiln_status status)
{
    if (status != KILN_OK) {
        assert_int_equal(status, KILN_ERROR_UNSUPPORTED);
    }
}

#endif
