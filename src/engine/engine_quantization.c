/* SPDX-License-Identifier: Apache-2.0 */
/* How the bindings of an engine are quantized. The model says so; for a plan, which no longer has a
 * model, the manifest does. */
#include <cJSON.h>
#include <float.h>
#include <math.h>

#include "graph/kln_graph.h"
#include "kln_engine.h"

/* The most scales and zero points of one binding that a manifest stores. */
#define MOST_IN_TEXT 65536

static kiln_status no_memory(void)
{
    return kln_fail_memory(sizeof(kiln_binding), "the scales of inputs and outputs");
}

static size_t count_of(const kiln_engine *engine)
{
    const kiln_description *description = &engine->shared.description;
    return description->input_count + description->output_count + description->optional_count;
}

/* Gives the engine its own list of bindings, because the backend's may be shared between
 * engines. */
static kiln_status own_bindings(kiln_engine *engine)
{
    const size_t count = count_of(engine);
    kiln_binding *copy = kln_arena_alloc_zeroed(&engine->arena, count + 1, sizeof *copy);
    if (copy == NULL) {
        return no_memory();
    }
    if (count != 0) {
        memcpy(copy, engine->shared.description.bindings, count * sizeof *copy);
    }
    engine->shared.description.bindings = copy;
    return KILN_OK;
}

static kiln_status read_graph(kiln_engine *engine, const kln_onnx_model *model)
{
    KLN_RETURN_IF_ERROR(kln_weight_shapes_keep(engine, model));
    KLN_RETURN_IF_ERROR(own_bindings(engine));
    return kln_graph_read_quantization(&model->graph, &engine->arena,
                                       engine->shared.description.bindings, count_of(engine));
}

kiln_status kln_engine_read_model(kiln_engine *engine, const kiln_model *model)
{
    const char *what = NULL;
    KLN_SCOPED(kln_onnx_model_destroy_at) kln_onnx_model *read = NULL;
    if (model->graph != NULL) {
        return read_graph(engine, model->graph);
    }
    if (kln_backend_of(model->bytes, &what) != NULL) {
        return KILN_OK; /* a plan */
    }
    kln_message before;
    kln_message_keep(&before);
    kiln_status status = kln_model_read(model, &read);
    if (status != KILN_OK && status != KILN_ERROR_OUT_OF_MEMORY) {
        kln_message_restore(&before); /* a backend of the caller's may take other formats than
                                       * ONNX */
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(status);
    return read_graph(engine, read);
}

/* --- in the manifest --- */

static bool add_numbers(cJSON *object, const char *key, const kiln_quantization *q, bool scales)
{
    cJSON *list = cJSON_AddArrayToObject(object, key);
    for (int64_t i = 0; list != NULL && i < q->count; i++) {
        cJSON *number =
            cJSON_CreateNumber(scales ? (double)q->scales[i] : (double)q->zero_points[i]);
        if (number == NULL || cJSON_AddItemToArray(list, number) == 0) {
            cJSON_Delete(number);
            return false;
        }
    }
    return list != NULL;
}

static bool add_binding(cJSON *list, const kiln_binding *binding)
{
    const kiln_quantization *q = &binding->quantization;
    cJSON *object = cJSON_CreateObject();
    if (object == NULL || cJSON_AddItemToArray(list, object) == 0) {
        cJSON_Delete(object);
        return false;
    }
    return cJSON_AddStringToObject(object, "binding", binding->name) != NULL &&
           cJSON_AddBoolToObject(object, "input", binding->is_input) != NULL &&
           cJSON_AddStringToObject(object, "type", kiln_dtype_name(q->storage)) != NULL &&
           cJSON_AddNumberToObject(object, "axis", q->axis) != NULL &&
           cJSON_AddNumberToObject(object, "block", (double)q->block_size) != NULL &&
           add_numbers(object, "scales", q, true) &&
           (q->zero_points == NULL || add_numbers(object, "zero_points", q, false));
}

bool kln_quantization_write(const kiln_engine *engine, cJSON *root)
{
    cJSON *list = NULL;
    bool written = true;
    for (size_t i = 0; written && i < count_of(engine); i++) {
        const kiln_binding *binding = &engine->shared.description.bindings[i];
        if (binding->quantization.storage == KILN_DTYPE_UNDEFINED) {
            continue;
        }
        if (binding->quantization.count > MOST_IN_TEXT) {
            kln_log(KILN_LOG_WARNING, "engine",
                    "\"%s\" has %lld scales, too many for a manifest: a plan loses them",
                    binding->name, (long long)binding->quantization.count);
            continue;
        }
        list = list != NULL ? list : cJSON_AddArrayToObject(root, KLN_MANIFEST_QUANTIZATION);
        written = list != NULL && add_binding(list, binding);
    }
    return written;
}

/* Reads `count` numbers; false if the list has more, fewer, or anything else. */
static bool read_numbers(const cJSON *list, int64_t count, float *scales, int32_t *zeros)
{
    const cJSON *item = NULL;
    int64_t read = 0;
    cJSON_ArrayForEach(item, list)
    {
        const double number = cJSON_IsNumber(item) ? item->valuedouble : (double)NAN;
        const bool fits = scales != NULL ? number >= 0 && number <= (double)FLT_MAX
                                         : number >= INT32_MIN && number <= INT32_MAX;
        if (!fits || read == count) {
            return false;
        }
        if (scales != NULL) {
            scales[read++] = (float)number;
        } else {
            zeros[read++] = (int32_t)number;
        }
    }
    return read == count;
}

static bool read_integer(const cJSON *object, const char *key, double least, double most,
                         int64_t *number)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    const bool fits =
        cJSON_IsNumber(item) && item->valuedouble >= least && item->valuedouble <= most;
    *number = fits ? (int64_t)item->valuedouble : 0;
    return fits;
}

/* Reads one entry into `*made`; `*sense` tells whether it is complete and valid. Fails only with
 * OUT_OF_MEMORY. */
static kiln_status read_entry(const cJSON *object, kln_arena *arena, kiln_quantization *made,
                              bool *sense)
{
    const cJSON *scales = cJSON_GetObjectItemCaseSensitive(object, "scales");
    const cJSON *zeros = cJSON_GetObjectItemCaseSensitive(object, "zero_points");
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, "type"));
    const int64_t count = cJSON_GetArraySize(scales);
    int64_t axis = -1;
    int64_t block = 0;
    made->storage = type != NULL ? kiln_dtype_from_name(type) : KILN_DTYPE_UNDEFINED;
    *sense = made->storage != KILN_DTYPE_UNDEFINED && count > 0 &&
             read_integer(object, "axis", -1, KILN_MAX_RANK - 1, &axis) &&
             read_integer(object, "block", 0, INT32_MAX, &block);
    if (!*sense) {
        return KILN_OK;
    }
    float *read = kln_arena_alloc_zeroed(arena, (size_t)count, sizeof *read);
    int32_t *read_zeros =
        zeros != NULL ? kln_arena_alloc_zeroed(arena, (size_t)count, sizeof *read_zeros) : NULL;
    if (read == NULL || (zeros != NULL && read_zeros == NULL)) {
        return no_memory();
    }
    *sense = read_numbers(scales, count, read, NULL) &&
             (zeros == NULL || read_numbers(zeros, count, NULL, read_zeros));
    made->axis = (int32_t)axis;
    made->block_size = block;
    made->count = count;
    made->scales = read;
    made->zero_points = read_zeros;
    return KILN_OK;
}

static kiln_binding *find(const kiln_engine *engine, const char *name, bool is_input)
{
    const uint32_t place = kln_names_get(is_input ? &engine->inputs : &engine->outputs, name);
    return place != KLN_NAMES_NONE ? &engine->shared.description.bindings[place] : NULL;
}

kiln_status kln_quantization_restore(kiln_engine *engine, const cJSON *list)
{
    const cJSON *item = NULL;
    if (list == NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(own_bindings(engine));
    cJSON_ArrayForEach(item, list)
    {
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "binding"));
        const cJSON *is_input = cJSON_GetObjectItemCaseSensitive(item, "input");
        kiln_binding *binding =
            name != NULL ? find(engine, name, cJSON_IsTrue(is_input) != 0) : NULL;
        kiln_quantization made = {.storage = KILN_DTYPE_UNDEFINED};
        bool sense = false;
        KLN_RETURN_IF_ERROR(read_entry(item, &engine->arena, &made, &sense));
        KLN_RETURN_IF(!sense || binding == NULL, KILN_ERROR_MALFORMED,
                      "\"" KLN_MANIFEST_QUANTIZATION
                      "\": the entry of \"%.200s\" is not a binding of the engine with "
                      "type, axis, block and scales" KLN_MANIFEST_ADVICE,
                      name != NULL ? name : "");
        binding->quantization = made;
    }
    return KILN_OK;
}
