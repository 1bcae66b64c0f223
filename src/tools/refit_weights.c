/* SPDX-License-Identifier: Apache-2.0 */
/* Prepares new weights in the form that the engine takes. */
#include <inttypes.h>
#include <math.h>

#include "cuda/kln_cuda.h"
#include "onnx/kln_onnx.h"
#include "refit_parts.h"

#define CHUNK 1024

/* The engine's weights, as known to one refit. */
typedef struct known_weights {
    kiln_refit_weight *list;
    size_t count;
    kln_names places;
} known_weights;

static kiln_status look(kiln_engine *engine, kln_arena *arena, known_weights *known)
{
    const kiln_refit_table *table = engine->shared.backend->refit;
    KLN_RETURN_IF_ERROR(table->count(engine->shared.state, &known->count));
    KLN_ARENA_NEW(arena, known->list, known->count + 1, "the list of weights");
    for (size_t i = 0; i < known->count; i++) {
        known->list[i].struct_size = sizeof known->list[i];
        KLN_RETURN_IF_ERROR(table->get(engine->shared.state, i, &known->list[i]));
        kln_weight_shapes_tell(engine, &known->list[i]);
        KLN_RETURN_IF_ERROR(kln_names_set(&known->places, known->list[i].name, (uint32_t)i));
    }
    return KILN_OK;
}

static const char *weight_name(const void *from, size_t index)
{
    return ((const known_weights *)from)->list[index].name;
}

/* --- types --- */

static bool is_float(kiln_dtype dtype)
{
    return dtype == KILN_DTYPE_FLOAT16 || dtype == KILN_DTYPE_BFLOAT16 ||
           dtype == KILN_DTYPE_FLOAT32 || dtype == KILN_DTYPE_FLOAT64;
}

/* Counts the elements that have changed; UINT64_MAX if one is out of the type's range. */
static uint64_t count_changed(const double *before, const double *after, size_t count)
{
    uint64_t changed = 0;
    for (size_t i = 0; i < count; i++) {
        if (isfinite(before[i]) && !isfinite(after[i])) {
            return UINT64_MAX;
        }
        changed += !(before[i] == after[i] || (isnan(before[i]) && isnan(after[i])));
    }
    return changed;
}

static kiln_status convert_chunk(const kiln_tensor *from, const kiln_tensor *to, int64_t first,
                                 size_t count, uint64_t *changed)
{
    double before[CHUNK];
    double after[CHUNK];
    KLN_RETURN_IF_ERROR(kiln_tensor_read(from, first, count, before));
    KLN_RETURN_IF_ERROR(kiln_tensor_write(to, first, count, before));
    KLN_RETURN_IF_ERROR(kiln_tensor_read(to, first, count, after));
    *changed = count_changed(before, after, count);
    return KILN_OK;
}

static kiln_status convert(const char *name, const kiln_tensor *from, kiln_dtype dtype,
                           const kiln_refit_options *options, kln_arena *arena,
                           kiln_refit_report *report, kiln_tensor *to)
{
    int64_t elements = 0;
    uint64_t rounded = 0;
    *to = (kiln_tensor){.desc = {.dtype = dtype, .shape = from->desc.shape}};
    KLN_RETURN_IF_ERROR(kiln_shape_elements(&from->desc.shape, &elements));
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(dtype, &to->desc.shape, &to->bytes));
    to->data = kln_arena_alloc(arena, to->bytes > 0 ? to->bytes : 1);
    KLN_RETURN_IF_NO_MEMORY(to->data, to->bytes, "converted weights");
    for (int64_t first = 0; first < elements; first += CHUNK) {
        uint64_t changed = 0;
        const size_t count = elements - first < CHUNK ? (size_t)(elements - first) : CHUNK;
        KLN_RETURN_IF_ERROR(convert_chunk(from, to, first, count, &changed));
        KLN_RETURN_IF(changed == UINT64_MAX, KILN_ERROR_DTYPE,
                      "refit: weights \"%s\" are %s in the engine, and among elements %" PRId64
                      " to %" PRId64 " of the %s that were given is one past that type's largest",
                      name, kiln_dtype_name(dtype), first, first + (int64_t)count - 1,
                      kiln_dtype_name(from->desc.dtype));
        rounded += changed;
    }
    KLN_RETURN_IF(rounded > 0 && !options->allow_rounding, KILN_ERROR_DTYPE,
                  "refit: weights \"%s\" are %s in the engine, and %" PRIu64 " of %" PRId64
                  " elements of the %s that were given would be rounded; set "
                  "kiln_refit_options.allow_rounding where that is wanted",
                  name, kiln_dtype_name(dtype), rounded, elements,
                  kiln_dtype_name(from->desc.dtype));
    report->converted++;
    report->rounded += rounded;
    return KILN_OK;
}

/* Data in a file may be unaligned. */
static kiln_status align(kiln_tensor *tensor, kln_arena *arena)
{
    const size_t alignment = kiln_dtype_alignment(tensor->desc.dtype);
    if (tensor->desc.location == KILN_LOCATION_DEVICE || alignment <= 1 || tensor->bytes == 0 ||
        (uintptr_t)tensor->data % alignment == 0) {
        return KILN_OK;
    }
    void *copy = kln_arena_alloc(arena, tensor->bytes);
    KLN_RETURN_IF_NO_MEMORY(copy, tensor->bytes, "aligned weights");
    memcpy(copy, tensor->data, tensor->bytes);
    tensor->data = copy;
    return KILN_OK;
}

/* --- one tensor --- */

static kiln_status check_shape(const kiln_refit_weight *known, const kiln_shape *given)
{
    KLN_RETURN_IF(known->shape.rank >= 0 && kln_weight_shapes_differ(&known->shape, given),
                  KILN_ERROR_SHAPE,
                  "refit: weights \"%s\" are %s in the engine, and %s were given: their elements "
                  "lie in another order",
                  known->name, KLN_SHAPE_PRINTED(&known->shape), KLN_SHAPE_PRINTED(given));
    return KILN_OK;
}

/* --- non-finite values --- */

static kiln_status odd_of(const kiln_tensor *tensor, int64_t elements, kln_odd *odd)
{
    KLN_SCOPED_FREE void *copy = NULL;
    const void *data = tensor->data;
    if (tensor->desc.location == KILN_LOCATION_DEVICE) {
        data = copy = kln_alloc(tensor->bytes + 1);
        KLN_RETURN_IF_NO_MEMORY(copy, tensor->bytes, "weights that lie on a device");
        KLN_RETURN_IF_ERROR(
            kln_cuda_copy(tensor->desc.device, copy, tensor->data, tensor->bytes, NULL));
    }
    *odd = kln_odd_numbers(tensor->desc.dtype, data, (size_t)elements);
    return KILN_OK;
}

/* A failed training shows here first. Infinities in masks are intended. */
static kiln_status check_finite(const kiln_engine *engine, const kiln_refit_weight *known,
                                const kln_odd *odd)
{
    if (odd->nans == 0 && odd->infinities == 0) {
        return KILN_OK;
    }
    const kln_weight_shape *kept = kln_weight_shapes_find(engine, known->name);
    const kln_odd before = kln_refit_weight_odd(known);
    const bool new_nan = odd->nans > 0 && before.nans == 0 && (kept == NULL || !kept->has_nan);
    const bool new_infinity =
        odd->infinities > 0 && before.infinities == 0 && (kept == NULL || !kept->has_infinity);
    KLN_RETURN_IF(new_nan || new_infinity, KILN_ERROR_INVALID_ARGUMENT,
                  "refit: of the elements given for weights \"%s\" %" PRIu64 " are NaN and %" PRIu64
                  " infinite, and the engine's are not known to have %s; set "
                  "kiln_refit_options.allow_nonfinite where that is wanted",
                  known->name, odd->nans, odd->infinities, new_nan ? "NaN" : "infinities");
    return KILN_OK;
}

static kiln_status fit(const kiln_engine *engine, const kiln_refit_weight *known,
                       const kiln_refit_options *options, kln_arena *arena,
                       kiln_refit_report *report, kiln_named_tensor *weight)
{
    const bool takes_device = engine->shared.backend->refit->in_place != NULL;
    kiln_tensor *tensor = &weight->tensor;
    int64_t elements = 0;
    KLN_RETURN_IF_ERROR(align(tensor, arena));
    KLN_RETURN_IF_ERROR(kln_tensor_check(weight->name, tensor));
    KLN_RETURN_IF(!kln_strides_are_dense(&tensor->desc.shape, &tensor->desc.strides),
                  KILN_ERROR_UNSUPPORTED, "weights \"%s\": they must be dense", weight->name);
    KLN_RETURN_IF_ERROR(kiln_shape_elements(&tensor->desc.shape, &elements));
    KLN_RETURN_IF(elements != known->elements, KILN_ERROR_SIZE,
                  "refit: weights \"%s\" have %" PRId64 " elements, %" PRId64 " were given",
                  weight->name, known->elements, elements);
    KLN_RETURN_IF_ERROR(check_shape(known, &tensor->desc.shape));
    const bool on_device = tensor->desc.location == KILN_LOCATION_DEVICE;
    KLN_RETURN_IF(
        on_device && !takes_device, KILN_ERROR_UNSUPPORTED,
        "refit: weights \"%s\" lie in device memory; this backend takes those of the host's",
        weight->name);
    if (!options->allow_nonfinite) {
        kln_odd odd = {0, 0};
        KLN_RETURN_IF_ERROR(odd_of(tensor, elements, &odd));
        KLN_RETURN_IF_ERROR(check_finite(engine, known, &odd));
    }
    if (tensor->desc.dtype == known->dtype) {
        return KILN_OK;
    }
    KLN_RETURN_IF(on_device || !is_float(tensor->desc.dtype) || !is_float(known->dtype),
                  KILN_ERROR_DTYPE, "refit: weights \"%s\" are %s, %s was given", weight->name,
                  kiln_dtype_name(known->dtype), kiln_dtype_name(tensor->desc.dtype));
    const kiln_tensor given = *tensor;
    return convert(weight->name, &given, known->dtype, options, arena, report, tensor);
}

static kiln_status check_twice(const kiln_named_tensor *given, size_t count)
{
    KLN_SCOPED(kln_names_finish) kln_names names = {0};
    for (size_t i = 0; i < count; i++) {
        const uint32_t other = kln_names_get(&names, given[i].name);
        KLN_RETURN_IF_ERROR(
            other == KLN_NAMES_NONE
                ? kln_names_set(&names, given[i].name, (uint32_t)i)
                : kln_fail(KILN_ERROR_NAME,
                           "kiln_engine_refit: weights \"%s\" are given twice, at %u and %zu",
                           given[i].name, other, i));
    }
    return KILN_OK;
}

static kiln_status fit_all(kiln_engine *engine, const kiln_named_tensor *given, size_t count,
                           const kiln_refit_options *options, kiln_refit_report *report,
                           kln_refit_weights *weights, const known_weights *known)
{
    KLN_RETURN_IF_ERROR(check_twice(given, count));
    KLN_ARENA_NEW(&weights->arena, weights->items, count + 1, "the list of weights");
    for (size_t i = 0; i < count; i++) {
        const uint32_t place = kln_names_get(&known->places, given[i].name);
        if (place == KLN_NAMES_NONE && options->ignore_unknown) {
            report->ignored++;
            continue;
        }
        if (place == KLN_NAMES_NONE) {
            char names[600];
            return kln_fail(KILN_ERROR_NAME,
                            "refit: there are no weights \"%s\" that can be replaced; %s",
                            given[i].name,
                            kln_there_are(names, sizeof names, known->count, weight_name, known));
        }
        kiln_named_tensor *weight = &weights->items[weights->count];
        *weight = (kiln_named_tensor){known->list[place].name, given[i].tensor};
        KLN_RETURN_IF_ERROR(
            fit(engine, &known->list[place], options, &weights->arena, report, weight));
        weights->count++;
    }
    report->replaced = weights->count;
    return weights->count > 0
               ? KILN_OK
               : kln_fail(KILN_ERROR_EMPTY,
                          "refit: none of the %zu weights that were given are the engine's", count);
}

/* --- files --- */

static kiln_status list_initializers(kln_refit_weights *weights, kiln_named_tensor **given,
                                     size_t *count)
{
    const size_t most = kln_onnx_weight_count(weights->model);
    KLN_ARENA_NEW(&weights->arena, *given, most + 1, "the list of weights");
    for (size_t i = 0; i < most; i++) {
        const kln_onnx_tensor *tensor = kln_onnx_weight_at(weights->model, i);
        kiln_named_tensor *one = &(*given)[i];
        kiln_refit_weight facts = {.struct_size = sizeof facts};
        KLN_RETURN_IF_ERROR(kln_refit_weight_of(tensor, &facts));
        one->name = tensor->name;
        one->tensor = (kiln_tensor){
            .desc = {.dtype = tensor->dtype,
                     .shape = facts.shape.rank >= 0 ? facts.shape : KILN_SHAPE(facts.elements)},
            .data = (void *)(uintptr_t)tensor->data.data,
            .bytes = tensor->data.size};
    }
    *count = most;
    return KILN_OK;
}

static kiln_status read_source(const kln_refit_source *source, kln_refit_weights *weights,
                               kiln_named_tensor **given, size_t *count)
{
    const kiln_model *model = source->model;
    kiln_status status = KILN_OK;
    if (kln_safetensors_is(model->bytes)) {
        status = kln_safetensors_read(model->bytes, &weights->arena, given, count);
    } else {
        status = kln_model_read(model, &weights->model);
        KLN_THEN(status, list_initializers(weights, given, count));
    }
    return status == KILN_OK ? KILN_OK
                             : kln_fail_within(status, "refit: %s", kln_model_name(model));
}

kiln_status kln_refit_weights_make(kiln_engine *engine, const kln_refit_source *source,
                                   const kiln_refit_options *options, kiln_refit_report *report,
                                   kln_refit_weights *weights)
{
    known_weights known = {.count = 0};
    kiln_named_tensor *read = NULL;
    size_t count = source->count;
    weights->model = NULL;
    weights->items = NULL;
    weights->count = 0;
    if (source->model != NULL) {
        KLN_RETURN_IF_ERROR(read_source(source, weights, &read, &count));
    }
    kiln_status status = look(engine, &weights->arena, &known);
    KLN_THEN(status, fit_all(engine, read != NULL ? read : source->weights, count, options, report,
                             weights, &known));
    kln_names_finish(&known.places);
    return status;
}

kiln_status kln_refit_check_model(const kiln_engine *engine, const kiln_model *model,
                                  const kiln_refit_options *options)
{
    KLN_SCOPED(kln_onnx_model_destroy_at) kln_onnx_model *read = NULL;
    const kiln_status status = kln_model_read(model, &read);
    if (status != KILN_OK) {
        /* The library may read models that Kiln does not, and reports its own errors. */
        return status == KILN_ERROR_OUT_OF_MEMORY ? status : KILN_OK;
    }
    for (size_t i = 0; i < read->graph.initializer_count; i++) {
        kiln_refit_weight given = {.struct_size = sizeof given};
        KLN_RETURN_IF_ERROR(kln_refit_weight_of(&read->graph.initializers[i], &given));
        kiln_refit_weight known = {.name = given.name, .shape = {.rank = -1}};
        kln_weight_shapes_tell(engine, &known);
        if (given.shape.rank >= 0) {
            KLN_RETURN_IF_ERROR(check_shape(&known, &given.shape));
        }
        const kln_odd odd =
            options->allow_nonfinite ? (kln_odd){0, 0} : kln_refit_weight_odd(&given);
        KLN_RETURN_IF_ERROR(check_finite(engine, &known, &odd));
    }
    return KILN_OK;
}

void kln_refit_weights_finish(kln_refit_weights *weights)
{
    kln_arena_finish(&weights->arena);
    kln_onnx_model_destroy(weights->model);
}
