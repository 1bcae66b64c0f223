/* SPDX-License-Identifier: Apache-2.0 */
/* How the callback files of this module fill the virtual tables. */
#ifndef TRT_CALLBACK_TABLES_H
#define TRT_CALLBACK_TABLES_H

#include "backends/tensorrt/trt_callbacks.h"

/* Puts `function`, which must have the type of the method, into its slot; where the layout has none
 * nothing happens. */
#define TRT_PUT(table, c, m, function)                                           \
    do {                                                                         \
        const trt_fn_##c##_##m trt_put_ = (function);                            \
        trt_table_put((table), abi->slots[TRT_M_##c##_##m], (trt_slot)trt_put_); \
    } while (0)

static inline void trt_table_put(trt_table *table, int slot, trt_slot function)
{
    if (slot >= 0 && slot < TRT_TABLE_SLOTS) {
        table->entries[TRT_TABLE_FRONT + slot] = function;
    }
}

/* Where an object's pointer to its virtual table points. */
static inline const trt_slot *trt_table_point(const trt_table *table)
{
    return table->entries + TRT_TABLE_FRONT;
}

void trt_fill_progress_monitor(trt_tables *tables, const trt_abi *abi);
void trt_fill_memory(trt_tables *tables, const trt_abi *abi);
void trt_fill_profiler(trt_tables *tables, const trt_abi *abi);

#endif
