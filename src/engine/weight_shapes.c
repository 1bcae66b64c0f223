/* SPDX-License-Identifier: Apache-2.0 */
/* The shapes of weights that a refit may replace. A plan knows how many elements each has and no
 * more: its model says the rest, and its manifest later. */
#include <cJSON.h>

#include "kln_engine.h"
#include "onnx/kln_onnx.h"

/* Elements of at most one dimension that counts lie in one order, whatever the shape. */
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

static kiln_status add(kiln_engine *engine, const char *name, const kiln_shape *shape)
{
    kln_weight_shape *made = &engine->weight_shapes[engine->weight_shape_count];
    *made = (kln_weight_shape){kln_arena_strdup(&engine->arena, name), *shape};
    KLN_RETURN_IF_NO_MEMORY(made->name, strlen(name), "the shapes of weights");
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
        if (weight.shape.rank > 1 && without_ones(&weight.shape, dims) > 1) {
            KLN_RETURN_IF_ERROR(add(engine, weight.name, &weight.shape));
        }
    }
    return KILN_OK;
}

void kln_weight_shapes_tell(const kiln_engine *engine, kiln_refit_weight *weight)
{
    const uint32_t place = weight->shape.rank < 0
                               ? kln_names_get(&engine->weight_places, weight->name)
                               : KLN_NAMES_NONE;
    if (place != KLN_NAMES_NONE) {
        weight->shape = engine->weight_shapes[place].shape;
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
        written =
            cJSON_AddStringToObject(object, one->name, KLN_SHAPE_PRINTED(&one->shape)) != NULL;
    }
    return written;
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
        kiln_shape shape;
        const char *text = cJSON_GetStringValue(item);
        KLN_RETURN_IF(text == NULL || kiln_shape_parse(text, &shape) != KILN_OK ||
                          !kiln_shape_is_static(&shape),
                      KILN_ERROR_MALFORMED,
                      "\"" KLN_MANIFEST_WEIGHT_SHAPES
                      "\": the entry of \"%.200s\" is no shape like 64x32" KLN_MANIFEST_ADVICE,
                      item->string);
        KLN_RETURN_IF_ERROR(add(engine, item->string, &shape));
    }
    return KILN_OK;
}
