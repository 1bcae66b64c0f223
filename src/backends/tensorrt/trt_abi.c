/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/tensorrt/trt_abi.h"

#include <stdio.h>

static const trt_cell method_cells[TRT_METHOD_COUNT][TRT_LAYOUT_COUNT] = {
#define TRT_ROW(c, m, s0, s1, s2, s3, r, p) {s0, s1, s2, s3},
#include "backends/tensorrt/trt_slots.inc"
};

static const char *const method_names[TRT_METHOD_COUNT] = {
#define TRT_ROW(c, m, s0, s1, s2, s3, r, p) #c "." #m,
#include "backends/tensorrt/trt_slots.inc"
};

static const trt_cell value_cells[TRT_ENUMERATOR_COUNT][TRT_LAYOUT_COUNT] = {
#define VALUE(e, k, v0, v1, v2, v3) {v0, v1, v2, v3},
#include "backends/tensorrt/trt_values.inc"
};

static const char *const enumerator_names[TRT_ENUMERATOR_COUNT] = {
#define VALUE(e, k, v0, v1, v2, v3) #e "." #k,
#include "backends/tensorrt/trt_values.inc"
};

void trt_version_text(bool is_rtx, int32_t version, char text[32])
{
    (void)snprintf(text, 32, "%s %d.%d.%d", is_rtx ? "TensorRT-RTX" : "TensorRT", version / 10000,
                   version / 100 % 100, version % 100);
}

const char *trt_method_name(trt_method method)
{
    return method_names[method];
}

const char *trt_enumerator_name(trt_enumerator enumerator)
{
    return enumerator_names[enumerator];
}

static void where(const trt_cell cells[TRT_LAYOUT_COUNT], char text[TRT_WHERE_TEXT])
{
    static const char *const families[TRT_LAYOUT_COUNT] = {
        "TensorRT 10", "TensorRT 11", "TensorRT-RTX 1.3 and 1.4", "TensorRT-RTX from 1.5 on"};
    static const char *const bare[TRT_LAYOUT_COUNT] = {"TensorRT 10", "TensorRT 11", "TensorRT-RTX",
                                                       "TensorRT-RTX"};
    size_t used = 0;
    (void)snprintf(text, TRT_WHERE_TEXT, "no version");
    for (int i = 0; i < TRT_LAYOUT_COUNT; i++) {
        if (cells[i] < 0) {
            continue;
        }
        const int since = (int)(cells[i] % TRT_CELL_MARK / 1000);
        const char *comma = used > 0 ? ", " : "";
        char *end = text + used;
        const size_t room = TRT_WHERE_TEXT - used;
        const int size = since <= trt_ranges[i].first
                             ? snprintf(end, room, "%s%s", comma, families[i])
                             : snprintf(end, room, "%s%s from %d.%d on", comma, bare[i],
                                        since / 10000, since / 100 % 100);
        used += size > 0 && (size_t)size < room ? (size_t)size : 0;
    }
}

void trt_method_where(trt_method method, char text[TRT_WHERE_TEXT])
{
    where(method_cells[method], text);
}

void trt_enumerator_where(trt_enumerator enumerator, char text[TRT_WHERE_TEXT])
{
    where(value_cells[enumerator], text);
}

kiln_status trt_abi_resolve(bool is_rtx, int32_t version, trt_abi *abi)
{
    const trt_layout layout = trt_layout_find(is_rtx, version);
    if (layout == TRT_LAYOUT_COUNT) {
        char text[32];
        trt_version_text(is_rtx, version, text);
        return kln_fail(KILN_ERROR_LIBRARY_VERSION,
                        "%s: the binary interface of this version is not known; the known ones are "
                        "TensorRT 10.0 to 10.16, TensorRT 11.0 to 11.4 and TensorRT-RTX 1.3 to 1.7",
                        text);
    }
    abi->layout = layout;
    abi->version = version;
    abi->is_rtx = is_rtx;
    for (size_t i = 0; i < TRT_METHOD_COUNT; i++) {
        abi->slots[i] = (int16_t)trt_cell_at(method_cells[i][layout], version);
    }
    for (size_t i = 0; i < TRT_ENUMERATOR_COUNT; i++) {
        abi->values[i] = (int16_t)trt_cell_at(value_cells[i][layout], version);
    }
    return KILN_OK;
}
