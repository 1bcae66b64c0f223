/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_backend.h"

kiln_status kln_node_time_show(const kln_node_time *times, size_t count, size_t index,
                               kiln_layer_time *layer)
{
    if (index >= count) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_context_layer: layer %zu was asked for, %zu were measured", index,
                        count);
    }
    layer->name = times[index].name;
    layer->type = times[index].type;
    layer->milliseconds = (double)times[index].nanoseconds / 1e6;
    layer->runs = times[index].runs;
    return KILN_OK;
}
