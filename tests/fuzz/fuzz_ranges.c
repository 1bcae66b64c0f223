/* SPDX-License-Identifier: Apache-2.0 */
/* Range tables from either text: what is accepted is written as both, and read again as the same.
 */
#include "fuzz_parts.h"
#include "precision/kln_precision.h"

static void compare(const kiln_range_table *table, const kln_text *text, bool exact)
{
    kiln_range_table *again = NULL;
    if (kiln_range_table_load_bytes((kiln_span){text->data, text->size}, &again) != KILN_OK ||
        kiln_range_table_count(again) != kiln_range_table_count(table)) {
        abort();
    }
    for (size_t i = 0; exact && i < kiln_range_table_count(table); i++) {
        const kiln_range *range = kiln_range_table_at(table, i);
        const kiln_range *found = kiln_range_table_find(again, range->name);
        FAULT_IF(found == NULL || found->low != range->low || found->high != range->high);
    }
    kiln_range_table_destroy(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kiln_range_table *table = NULL;
    if (kiln_range_table_load_bytes((kiln_span){data, size}, &table) != KILN_OK) {
        FAULT_IF(kiln_error_message()[0] == '\0' || table != NULL);
        return 0;
    }
    kln_text text;
    kln_text_init(&text, KLN_MOST_RANGE_TEXT);
    FAULT_IF(kln_ranges_write_json(table, &text) != KILN_OK);
    compare(table, &text, true);
    text.size = 0;
    if (kln_ranges_write_cache(table, &text) == KILN_OK) {
        compare(table, &text, false);
    }
    kln_text_finish(&text);
    kiln_range_table_destroy(table);
    return 0;
}
