/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "calibrate_parts.h"
#include "tensor/kln_tensor.h"

/* --- options --- */

static kiln_status read_options(const kiln_calibrate_options *options, kiln_calibrate_options *read)
{
    *read = KILN_CALIBRATE_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_calibrate_options", options, read, sizeof *read));
    KLN_FAIL_IF(read->tensors == NULL && read->tensor_count > 0,
                kln_fail_null("kiln_calibrate_options", "tensors"));
    KLN_RETURN_IF((unsigned)read->method > KILN_CALIBRATE_MSE || !(read->percentile > 0) ||
                      (unsigned)read->precision > KILN_PRECISION_INT4 || read->percentile > 100 ||
                      read->batch_size < 0 || read->threads < 0 || read->threads > 4096,
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_calibrate_options: method is %d, percentile %g, batch_size %lld, "
                  "threads %d, precision %d; 0 to 3, above 0 to 100, 0 or more, 0 to 4096, and 0 "
                  "to 5 are allowed",
                  (int)read->method, read->percentile, (long long)read->batch_size,
                  (int)read->threads, (int)read->precision);
    return KILN_OK;
}

/* --- matching tensors to inputs --- */

/* The graph's name for the input that the tensor is for; NULL if there is none. */
static const char *input_for(const kln_calibration *of, const kiln_named_tensor *tensor, bool alone)
{
    const kln_graph_inference *graph = of->inference->graph;
    const char *only = NULL;
    size_t count = 0;
    for (size_t i = 0; i < graph->input_count; i++) {
        const kln_value *input = graph->values[graph->inputs[i]];
        if (tensor->name != NULL && strcmp(input->name, tensor->name) == 0) {
            return input->name;
        }
        if (input->initializer == NULL) { /* else it has a default */
            only = input->name;
            count++;
        }
    }
    return count == 1 && (alone || tensor->name == NULL) ? only : NULL;
}

static kiln_status check(const char *name, const kiln_tensor *tensor)
{
    char what[128];
    (void)snprintf(what, sizeof what, "input \"%.100s\"", name);
    KLN_RETURN_IF_ERROR(kln_tensor_check(what, tensor));
    KLN_RETURN_IF(tensor->desc.location == KILN_LOCATION_DEVICE ||
                      tensor->desc.format != KILN_FORMAT_LINEAR ||
                      !kln_strides_are_dense(&tensor->desc.shape, &tensor->desc.strides),
                  KILN_ERROR_UNSUPPORTED,
                  "%s: a batch is dense, row by row, and in memory that the CPU reads", what);
    return KILN_OK;
}

static kiln_status bind_all(kln_calibration *of, const kiln_named_tensor *inputs, size_t count)
{
    const size_t most = of->inference->graph->input_count;
    of->bound_count = 0;
    for (size_t i = 0; i < count; i++) {
        const char *name = input_for(of, &inputs[i], count == 1);
        for (size_t k = 0; name != NULL && k < of->bound_count; k++) {
            KLN_RETURN_IF(of->bound[k].name == name, KILN_ERROR_NAME, "input \"%s\" is given twice",
                          name);
        }
        if (name != NULL && of->bound_count < most) {
            KLN_RETURN_IF_ERROR(check(name, &inputs[i].tensor));
            of->bound[of->bound_count++] = (kiln_named_tensor){name, inputs[i].tensor};
        }
    }
    KLN_RETURN_IF(of->bound_count == 0 && most > 0, KILN_ERROR_NAME,
                  "none of the %zu tensors has the name of an input; the first input is "
                  "\"%s\"",
                  count, of->inference->graph->values[of->inference->graph->inputs[0]]->name);
    return KILN_OK;
}

/* --- running one batch --- */

static kiln_status open_part(kln_calibration *of, size_t part, kiln_context **context)
{
    *context = of->context;
    of->context = NULL;
    if (*context != NULL) {
        return KILN_OK;
    }
    if (of->engines[part] == NULL) {
        KLN_RETURN_IF_ERROR(kln_calibration_build(of, part));
    }
    return kiln_context_create(of->engines[part], NULL, context);
}

static kiln_status bind_and_run(const kln_calibration *of, const kiln_engine *engine,
                                kiln_context *context)
{
    for (size_t i = 0; i < of->bound_count; i++) {
        /* A backend may drop inputs that a part does not read. */
        if (kln_names_get(&engine->inputs, of->bound[i].name) != KLN_NAMES_NONE) {
            KLN_RETURN_IF_ERROR(
                kiln_context_bind(context, of->bound[i].name, &of->bound[i].tensor));
        }
    }
    return kiln_context_run(context);
}

static kiln_status observe_outputs(kln_calibration *of, size_t part, kiln_context *context)
{
    const size_t first = of->part_begins[part];
    const size_t count = of->part_begins[part + 1] - first;
    KLN_SCOPED_FREE kiln_tensor *tensors = kln_alloc_zeroed(count, sizeof *tensors);
    KLN_RETURN_IF_NO_MEMORY(tensors, count * sizeof *tensors, "the tensors of a network");
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(
            kiln_context_tensor(context, of->observed[first + i].name, &tensors[i]));
    }
    return kln_calibration_observe(of, first, tensors, count);
}

static kiln_status run_part(kln_calibration *of, size_t part)
{
    kiln_context *context = NULL;
    kiln_status status = open_part(of, part, &context);
    const bool on_gpu = status == KILN_OK && kln_calibration_is_on_gpu(of, part);
    if (on_gpu) {
        status = kln_calibration_bind_on_gpu(of, part, context);
    }
    KLN_THEN(status, bind_and_run(of, of->engines[part], context));
    KLN_THEN(status, on_gpu ? kln_calibration_observe_on_gpu(of, part)
                            : observe_outputs(of, part, context));
    if (status == KILN_OK && of->part_count == 1) {
        of->context = context;
        return KILN_OK;
    }
    /* The tensors of a part are freed with its context. Its engine is freed too, unless it is a
     * plan, which takes long to build: each engine would hold its own packed weights, and the
     * memory limit would mean little. */
    kiln_backend_info info = {.struct_size = sizeof info};
    kiln_context_destroy(context);
    if (of->engines[part] != NULL && kiln_engine_backend(of->engines[part], &info) == KILN_OK &&
        (info.capabilities & KILN_CAPABILITY_NATIVE_PLAN) == 0) {
        kiln_engine_release(of->engines[part]);
        of->engines[part] = NULL;
    }
    return status;
}

static kiln_status observe_inputs(kln_calibration *of)
{
    for (size_t i = 0; i < of->input_count; i++) {
        for (size_t k = 0; k < of->bound_count; k++) {
            if (strcmp(of->bound[k].name, of->observed[i].name) == 0) {
                KLN_RETURN_IF_ERROR(kln_calibration_observe(of, i, &of->bound[k].tensor, 1));
            }
        }
    }
    return KILN_OK;
}

static kiln_status run_batch(kln_calibration *of)
{
    KLN_RETURN_IF_ERROR(kln_calibration_plan(of));
    if (of->crowd.count > 0) {
        KLN_RETURN_IF_ERROR(observe_inputs(of));
        return kln_calibration_start_run(of);
    }
    of->started++;
    for (size_t part = 0; part < of->part_count; part++) {
        KLN_RETURN_IF_ERROR(run_part(of, part));
    }
    KLN_RETURN_IF_ERROR(observe_inputs(of));
    return kln_calibration_tell(of);
}

/* --- batches in pieces --- */

static int64_t rows_of(const kiln_tensor *tensor)
{
    return tensor->desc.shape.rank > 0 ? tensor->desc.shape.dims[0] : 0;
}

/* The size of the inputs' first dimension, if it is static and the same for all; else 0. */
static int64_t rows_wanted(const kln_calibration *of)
{
    int64_t rows = 0;
    for (size_t i = 0; i < of->bound_count; i++) {
        const kln_value *input = kln_inference_find(of->inference->graph, of->bound[i].name);
        const bool fixed = input != NULL && input->has_shape && input->rank > 0 &&
                           input->dims[0].kind == KLN_DIM_NUMBER;
        if (!fixed || (rows != 0 && rows != input->dims[0].of.number)) {
            return 0;
        }
        rows = input->dims[0].of.number;
    }
    return rows;
}

static void take_rows(const kln_calibration *of, const kiln_named_tensor *whole, int64_t all,
                      int64_t first, int64_t rows)
{
    for (size_t i = 0; i < of->bound_count; i++) {
        of->bound[i] = whole[i];
        kiln_tensor *piece = &of->bound[i].tensor;
        kiln_shape row = piece->desc.shape;
        size_t bytes = 0;
        row.dims[0] = 1;
        if (rows_of(piece) == all &&
            kiln_tensor_bytes(piece->desc.dtype, &row, &bytes) == KILN_OK) {
            piece->data = (char *)piece->data + (size_t)first * bytes;
            piece->bytes = (size_t)rows * bytes;
            piece->desc.shape.dims[0] = rows;
        }
    }
}

static bool is_over(const kln_calibration *of)
{
    return of->options.batches > 0 && of->started >= of->options.batches;
}

static kiln_status run_pieces(kln_calibration *of, int64_t all, int64_t wanted, int64_t rows)
{
    KLN_SCOPED_FREE kiln_named_tensor *whole = kln_alloc(of->bound_count * sizeof *whole);
    KLN_RETURN_IF_NO_MEMORY(whole, of->bound_count * sizeof *whole, "a batch");
    memcpy(whole, of->bound, of->bound_count * sizeof *whole);
    for (int64_t first = 0; first < all && !is_over(of); first += rows) {
        const int64_t size = all - first < rows ? all - first : rows;
        if (wanted > 0 && size != wanted && first > 0) {
            kln_log(KILN_LOG_WARNING, "calibrate",
                    "the last %lld of %lld rows are left out: the network wants %lld at once",
                    (long long)size, (long long)all, (long long)wanted);
            break;
        }
        take_rows(of, whole, all, first, size);
        KLN_RETURN_IF_ERROR(run_batch(of));
    }
    return KILN_OK;
}

static kiln_status run_whole(kln_calibration *of, const kiln_named_tensor *inputs, size_t count)
{
    KLN_RETURN_IF_ERROR(bind_all(of, inputs, count));
    const int64_t all = of->bound_count > 0 ? rows_of(&of->bound[0].tensor) : 0;
    const int64_t wanted = rows_wanted(of);
    const int64_t rows = of->options.batch_size > 0 ? of->options.batch_size : wanted;
    if (rows > 0 && rows < all) {
        return run_pieces(of, all, wanted, rows);
    }
    return run_batch(of);
}

/* --- all batches --- */

static kiln_status run_each(kln_calibration *of, const kiln_batch_source *source)
{
    for (uint64_t batch = 1; !is_over(of); batch++) {
        const kiln_named_tensor *inputs = NULL;
        size_t count = 0;
        of->source_batch = batch;
        KLN_RETURN_IF_ERROR(source->next(source->user, &inputs, &count));
        if (count == 0) {
            break;
        }
        KLN_RETURN_IF_ERROR(run_whole(of, inputs, count));
    }
    return kln_calibration_finish_runs(of);
}

static kiln_status run_all(kln_calibration *of, const kiln_batch_source *source)
{
    const kiln_status status = run_each(of, source);
    KLN_RETURN_IF(status == KILN_OK && of->batches == 0, KILN_ERROR_EMPTY,
                  "there is no batch to calibrate with; one or more is needed");
    return status == KILN_OK || status == KILN_ERROR_CANCELLED
               ? status
               : kln_fail_within(status, "batch %llu", (unsigned long long)of->source_batch);
}

static kiln_status start(kln_calibration *of)
{
    KLN_RETURN_IF_ERROR(kln_calibration_list(of));
    const size_t most = of->inference->graph->input_count + 1;
    of->bound = kln_arena_alloc_zeroed(&of->arena, most, sizeof *of->bound);
    of->shapes = kln_arena_alloc_zeroed(&of->arena, most, sizeof *of->shapes);
    of->hints = kln_arena_alloc_zeroed(&of->arena, most, sizeof *of->hints);
    KLN_FAIL_IF(of->bound == NULL || of->shapes == NULL || of->hints == NULL,
                kln_fail_memory(most * sizeof *of->bound, "a batch"));
    const size_t crowd = kln_calibration_crowd(of);
    KLN_RETURN_IF_ERROR(crowd > 0 ? kln_calibration_gather(of, crowd) : KILN_OK);
    return kln_calibration_start(of);
}

static kiln_status put_range(const kln_calibration *of, const kln_observed *observed,
                             kiln_range_table *table)
{
    kiln_range range;
    kln_observer_range(&observed->observer, of->options.method, of->options.percentile, &range);
    if (range.count == 0) {
        return KILN_OK; /* always empty, so its range is unknown */
    }
    range.name = observed->name;
    if (observed->channels == NULL) {
        return kiln_range_table_put(table, &range);
    }
    KLN_SCOPED_FREE kiln_channel *channels = NULL;
    KLN_NEW(channels, observed->channel_count, "channels");
    if (kln_channels_read(observed->channels, observed->channel_count, channels)) {
        range.channels = channels;
        range.channel_count = observed->channel_count;
    }
    return kiln_range_table_put(table, &range);
}

static kiln_status put_products(kln_observed *observed, kiln_range_table *table)
{
    while (observed->products != NULL) {
        kln_products *next = observed->products->next;
        KLN_RETURN_IF_ERROR(kln_ranges_take_products(table, observed->products));
        observed->products = next;
    }
    return KILN_OK;
}

static void drop_products(kln_calibration *of)
{
    for (size_t i = 0; i < of->count; i++) {
        while (of->observed[i].products != NULL) {
            kln_products *next = of->observed[i].products->next;
            kln_products_destroy(of->observed[i].products);
            of->observed[i].products = next;
        }
    }
}

static kiln_status make_table(kln_calibration *of, kiln_range_table *table)
{
    for (size_t i = 0; i < of->count; i++) {
        KLN_RETURN_IF_ERROR(put_range(of, &of->observed[i], table));
        KLN_RETURN_IF_ERROR(put_products(&of->observed[i], table));
    }
    KLN_RETURN_IF(of->count > 0 && kiln_range_table_count(table) == 0, KILN_ERROR_EMPTY,
                  "the batches hold no numbers: every tensor that is looked at was empty; give "
                  "batches with a row or more");
    return of->options.method == KILN_CALIBRATE_MINMAX
               ? kiln_range_table_set_header(table, KILN_CACHE_HEADER_MINMAX)
               : KILN_OK;
}

/* Inlines function calls, as a conversion does, in a copy of the model. */
static kiln_status inline_calls(kln_calibration *of, kln_onnx_model **inlined)
{
    size_t count = 0;
    if (of->model->function_count == 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(kln_onnx_model_share(of->model, inlined));
    of->model = *inlined;
    return kln_inline_functions(of->model, &count);
}

static kiln_status calibrate(kln_calibration *of, const kiln_batch_source *source,
                             kiln_range_table **ranges)
{
    kiln_range_table *made = NULL;
    KLN_SCOPED(kln_onnx_model_destroy_at) kln_onnx_model *inlined = NULL;
    KLN_RETURN_IF_ERROR(inline_calls(of, &inlined));
    of->whole = of->model->graph;
    of->begin = kln_now();
    kiln_status status = start(of);
    KLN_THEN(status, run_all(of, source));
    KLN_THEN(status, kiln_range_table_create(&made));
    KLN_THEN(status, make_table(of, made));
    if (status == KILN_OK) {
        *ranges = made;
    } else {
        kiln_range_table_destroy(made);
    }
    kln_calibration_disperse(of);
    kln_calibration_release_engines(of);
    kln_calibration_leave_gpu(of);
    kln_calibration_stop(of);
    drop_products(of);
    kln_inference_destroy(of->inference);
    kln_names_finish(&of->wanted);
    kln_free(of->bins);
    kln_arena_finish(&of->arena);
    return status;
}

static kiln_status read_all(const char *function, const kiln_build_options *build,
                            const kiln_batch_source *source, const kiln_calibrate_options *options,
                            kln_calibration *of)
{
    *of = (kln_calibration){.batches = 0};
    KLN_FAIL_IF(source == NULL || source->next == NULL,
                kln_fail_null(function, source == NULL ? "source" : "source->next"));
    KLN_RETURN_IF_ERROR(read_options(options, &of->options));
    return kln_build_options_read(build, &of->build);
}

kiln_status kiln_calibrate(kiln_network *network, const kiln_build_options *build,
                           const kiln_batch_source *source, const kiln_calibrate_options *options,
                           kiln_range_table **ranges)
{
    kln_calibration of;
    KLN_RETURN_IF_NULL_RESULT(ranges, network);
    KLN_RETURN_IF_ERROR(read_all(__func__, build, source, options, &of));
    KLN_RETURN_IF_ERROR(kln_network_edit(network, &of.model));
    return calibrate(&of, source, ranges);
}

kiln_status kiln_calibrate_file(const char *path, const kiln_build_options *build,
                                const kiln_batch_source *source,
                                const kiln_calibrate_options *options, kiln_range_table **ranges)
{
    kln_calibration of;
    KLN_RETURN_IF_NULL_RESULT(ranges, path);
    KLN_RETURN_IF_ERROR(read_all(__func__, build, source, options, &of));
    KLN_SCOPED(kln_onnx_model_destroy_at) kln_onnx_model *read = NULL;
    KLN_RETURN_IF_ERROR(kln_onnx_read_file(path, &read));
    of.model = read;
    return calibrate(&of, source, ranges);
}
