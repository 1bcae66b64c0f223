/* SPDX-License-Identifier: Apache-2.0 */
/* The shapes of weights that a refit may replace, and which of them have NaN or infinities. A plan
 * only knows how many elements each has; the rest comes from the model, and after loading from the
 * manifest. */
#include <stdio.h>

#include <cJSON.h>

#include "kln_engine.h"
#include "onnx/kln_onnx.h"

/* The suffix of a shape in the manifest: bit 0 is NaN, bit 1 infinities. */
#define KINDS 4
static const char *const kinds[KINDS] = {"", " nan", " infinity", " nan infinity"};

/* Removes dimensions of 1. If at most one dimension remains, the elements have the same order in
 * any shape. */
static size_t without_ones(const kiln_shape *shape, int64_t dims[KILN_MAX_RANK])
{
    size_t count = 0;
    for (int32_t i = 0; i < shape->rank; i++) {
        if (shape->dims[i] != 1) {
            dims[count++] = shape->dims[i];
        }
    }
    return count;
}

bool kln_weight_shapes_differ(const kiln_shape *one, const kiln_shape *other)
{
    int64_t a[KILN_MAX_RANK];
    int64_t b[KILN_MAX_RANK];
    const size_t count_a = without_ones(one, a);
    const size_t count_b = without_ones(other, b);
    return count_a > 1 && count_b > 1 &&
           (count_a != count_b || memcmp(a, b, count_a * sizeof *a) != 0);
}

static kiln_status begin(kiln_engine *engine, size_t most)
{
    KLN_ARENA_NEW(&engine->arena, engine->weight_shapes, most + 1, "the shapes of weights");
    engine->weight_shape_count = 0;
    kln_names_finish(&engine->weight_places);
    return KILN_OK;
}

static kiln_status add(kiln_engine *engine, const kln_weight_shape *one)
{
    kln_weight_shape *made = &engine->weight_shapes[engine->weight_shape_count];
    *made = *one;
    made->name = kln_arena_strdup(&engine->arena, one->name);
    KLN_RETURN_IF_NO_MEMORY(made->name, strlen(one->name), "the shapes of weights");
    return kln_names_set(&engine->weight_places, made->name,
                         (uint32_t)engine->weight_shape_count++);
}

kiln_status kln_weight_shapes_keep(kiln_engine *engine, const kln_onnx_model *model)
{
    const bool may_change = engine->built.refit != KILN_REFIT_NONE || engine->built.strip_plan;
    const size_t count = may_change ? model->graph.initializer_count : 0;
    if (count == 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(begin(engine, count));
    for (size_t i = 0; i < count; i++) {
        int64_t dims[KILN_MAX_RANK];
        kiln_refit_weight weight = {.struct_size = sizeof weight};
        KLN_RETURN_IF_ERROR(kln_refit_weight_of(&model->graph.initializers[i], &weight));
        const kln_odd odd = kln_refit_weight_odd(&weight);
        const kln_weight_shape one = {weight.name, weight.shape, odd.nans > 0, odd.infinities > 0};
        if (weight.shape.rank >= 0 &&
            (without_ones(&weight.shape, dims) > 1 || one.has_nan || one.has_infinity)) {
            KLN_RETURN_IF_ERROR(add(engine, &one));
        }
    }
    return KILN_OK;
}

const kln_weight_shape *kln_weight_shapes_find(const kiln_engine *engine, const char *name)
{
    const uint32_t place = kln_names_get(&engine->weight_places, name);
    return place != KLN_NAMES_NONE ? &engine->weight_shapes[place] : NULL;
}

void kln_weight_shapes_tell(const kiln_engine *engine, kiln_refit_weight *weight)
{
    const kln_weight_shape *kept = kln_weight_shapes_find(engine, weight->name);
    if (kept != NULL && weight->shape.rank < 0) {
        weight->shape = kept->shape;
    }
}

/* --- in the manifest --- */

bool kln_weight_shapes_write(const kiln_engine *engine, cJSON *root)
{
    cJSON *object = engine->weight_shape_count > 0
                        ? cJSON_AddObjectToObject(root, KLN_MANIFEST_WEIGHT_SHAPES)
                        : NULL;
    bool written = engine->weight_shape_count == 0 || object != NULL;
    for (size_t i = 0; written && i < engine->weight_shape_count; i++) {
        const kln_weight_shape *one = &engine->weight_shapes[i];
        char text[KLN_SHAPE_TEXT + 16];
        (void)snprintf(text, sizeof text, "%s%s", KLN_SHAPE_PRINTED(&one->shape),
                       kinds[one->has_nan + 2 * one->has_infinity]);
        written = cJSON_AddStringToObject(object, one->name, text) != NULL;
    }
    return written;
}

/* Parses what kln_weight_shapes_write wrote. */
static bool read_one(const cJSON *item, kln_weight_shape *one)
{
    char shape[KLN_SHAPE_TEXT];
    const char *text = cJSON_GetStringValue(item);
    const size_t length = text != NULL ? strcspn(text, " ") : sizeof shape;
    if (length >= sizeof shape) {
        return false;
    }
    unsigned kind = 0;
    while (kind < KINDS && strcmp(text + length, kinds[kind]) != 0) {
        kind++;
    }
    (void)snprintf(shape, sizeof shape, "%.*s", (int)length, text);
    *one = (kln_weight_shape){.name = item->string, .has_nan = kind & 1, .has_infinity = kind & 2};
    return kind < KINDS && kiln_shape_parse(shape, &one->shape) == KILN_OK &&
           kiln_shape_is_static(&one->shape);
}

kiln_status kln_weight_shapes_restore(kiln_engine *engine, const cJSON *object)
{
    const cJSON *item = NULL;
    if (object == NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(begin(engine, (size_t)cJSON_GetArraySize(object)));
    cJSON_ArrayForEach(item, object)
    {
        kln_weight_shape one;
        KLN_RETURN_IF(!read_one(item, &one), KILN_ERROR_MALFORMED,
                      "\"" KLN_MANIFEST_WEIGHT_SHAPES
                      "\": the entry of \"%.200s\" is no shape like 64x32" KLN_MANIFEST_ADVICE,
                      item->string);
        KLN_RETURN_IF_ERROR(add(engine, &one));
    }
    return KILN_OK;
}
