/* SPDX-License-Identifier: Apache-2.0 */

#include <sched.h>

#include "calibrate_parts.h"

#define DEFAULT_BYTES (UINT64_C(1) << 30)
#define MOST_BY_ITSELF 16
#define UNKNOWN_BYTES (UINT64_C(1) << 20) /* assumed for a tensor of unknown shape */

/* --- tensors --- */

/* Lists the tensors asked for by name, or those that the precision needs; if there are none, all
 * are wanted. */
static kiln_status list_wanted(kln_calibration *of)
{
    const kln_graph_inference *known = of->inference->graph;
    const kln_onnx_graph *graph = known->graph;
    const kiln_calibrate_options *options = &of->options;
    for (size_t i = 0; i < options->tensor_count; i++) {
        KLN_RETURN_IF(options->tensors[i] == NULL, KILN_ERROR_NAME,
                      "kiln_calibrate_options.tensors: tensor %zu has no name", i);
        KLN_RETURN_IF_ERROR(kln_names_set(&of->wanted, options->tensors[i], 0));
    }
    of->wants_some = options->tensors != NULL || options->precision == KILN_PRECISION_INT8 ||
                     options->precision == KILN_PRECISION_FP8;
    for (size_t i = 0; options->tensors == NULL && of->wants_some && i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        for (size_t k = 0; kln_precision_reads_ranges(node, known) && k < node->input_count; k++) {
            KLN_RETURN_IF_ERROR(kln_names_set(&of->wanted, node->inputs[k], 0));
        }
        for (size_t k = 0; kln_onnx_node_is(node, "Concat") && k < node->output_count; k++) {
            KLN_RETURN_IF_ERROR(kln_names_set(&of->wanted, node->outputs[k], 0));
        }
    }
    for (size_t i = 0; options->tensors == NULL && of->wants_some && i < of->whole.output_count;
         i++) {
        KLN_RETURN_IF_ERROR(kln_names_set(&of->wanted, of->whole.outputs[i].name, 0));
    }
    return KILN_OK;
}

static kiln_status add(kln_calibration *of, uint32_t index)
{
    const kln_value *value = index != KLN_NO_VALUE ? of->inference->graph->values[index] : NULL;
    if (value == NULL || value->kind != KLN_ONNX_KIND_TENSOR || value->is_constant ||
        !kln_observer_takes(value->dtype) ||
        (of->wants_some && kln_names_get(&of->wanted, value->name) == KLN_NAMES_NONE)) {
        return KILN_OK;
    }
    of->observed[of->count++] = (kln_observed){.name = value->name, .value = index};
    return of->wants_some ? kln_names_set(&of->wanted, value->name, 1) : KILN_OK;
}

static kiln_status check_wanted(const kln_calibration *of)
{
    for (size_t i = 0; of->options.tensors != NULL && i < of->options.tensor_count; i++) {
        KLN_RETURN_IF(kln_names_get(&of->wanted, of->options.tensors[i]) != 1, KILN_ERROR_NAME,
                      "kiln_calibrate_options.tensors: \"%s\" is no floating-point tensor of "
                      "the main graph, or a constant",
                      of->options.tensors[i]);
    }
    return of->count > 0 ? KILN_OK
                         : kln_fail(KILN_ERROR_UNSUPPORTED,
                                    "the network has no floating-point tensor to calibrate; only "
                                    "those have ranges");
}

static kiln_status make_observers(kln_calibration *of)
{
    if (of->options.method != KILN_CALIBRATE_MINMAX) {
        of->bins = kln_alloc_zeroed(of->count, KLN_OBSERVER_BIN_BYTES);
        KLN_RETURN_IF_NO_MEMORY(of->bins, of->count * KLN_OBSERVER_BIN_BYTES, "histograms");
    }
    for (size_t i = 0; i < of->count; i++) {
        const size_t at = i * (KLN_OBSERVER_BIN_BYTES / sizeof *of->bins);
        kln_observer_init(&of->observed[i].observer, of->bins != NULL ? of->bins + at : NULL);
    }
    return KILN_OK;
}

static kiln_status make_products(kln_observed *observed, const kln_patch *patch)
{
    kln_products *made = NULL;
    for (const kln_products *p = observed->products; p != NULL; p = p->next) {
        if (kln_patch_equals(&p->patch, patch)) {
            return KILN_OK;
        }
    }
    KLN_RETURN_IF_ERROR(kln_products_create(patch, &made));
    made->next = observed->products;
    observed->products = made;
    return KILN_OK;
}

static kiln_status make_channels_of(kln_calibration *of, const kln_summed *summed,
                                    kln_observed *observed)
{
    observed->channels =
        kln_arena_alloc_zeroed(&of->arena, summed->count, sizeof *observed->channels);
    observed->channel_count = summed->count;
    observed->channels_are_last = summed->is_last;
    return observed->channels != NULL
               ? KILN_OK
               : kln_fail_memory(summed->count * sizeof *observed->channels, "channels");
}

/* Sets up channels for the inputs of convolutions and products with constant weights, according to
 * the first that reads each. */
static kiln_status make_channels(kln_calibration *of)
{
    const kln_graph_inference *graph = of->inference->graph;
    KLN_SCOPED(kln_names_finish) kln_names places = {0};
    for (size_t i = 0; i < of->count; i++) {
        KLN_RETURN_IF_ERROR(kln_names_set(&places, of->observed[i].name, (uint32_t)i));
    }
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->graph->nodes[i];
        kln_summed summed;
        kln_patch patch;
        const uint32_t place = kln_precision_summed(node, graph, &summed)
                                   ? kln_names_get(&places, summed.name)
                                   : KLN_NAMES_NONE;
        if (place == KLN_NAMES_NONE) {
            continue;
        }
        kln_observed *observed = &of->observed[place];
        if (of->options.channels && observed->channels == NULL) {
            KLN_RETURN_IF_ERROR(make_channels_of(of, &summed, observed));
        }
        if (of->options.products && kln_patch_of(node, graph, &patch)) {
            KLN_RETURN_IF_ERROR(make_products(observed, &patch));
        }
    }
    return KILN_OK;
}

kiln_status kln_calibration_list(kln_calibration *of)
{
    KLN_RETURN_IF_ERROR(kln_infer(of->model, NULL, &of->inference));
    const kln_graph_inference *graph = of->inference->graph;
    size_t most = graph->input_count;
    for (size_t i = 0; i < graph->node_count; i++) {
        most += graph->graph->nodes[i].output_count;
    }
    of->observed = kln_arena_alloc_zeroed(&of->arena, most + 1, sizeof *of->observed);
    of->outputs = kln_arena_alloc_zeroed(&of->arena, most + 1, sizeof *of->outputs);
    of->part_begins = kln_arena_alloc_zeroed(&of->arena, most + 2, sizeof *of->part_begins);
    of->engines = kln_arena_alloc_zeroed(&of->arena, most + 1, sizeof(kiln_engine *));
    KLN_FAIL_IF(of->observed == NULL || of->outputs == NULL || of->part_begins == NULL ||
                    of->engines == NULL,
                kln_fail_memory(most * sizeof *of->observed, "the tensors of a network"));
    KLN_RETURN_IF_ERROR(list_wanted(of));
    for (size_t i = 0; i < graph->input_count; i++) {
        KLN_RETURN_IF_ERROR(add(of, graph->inputs[i]));
    }
    of->input_count = of->count;
    for (size_t i = 0; i < graph->node_count; i++) {
        const uint32_t node = graph->order != NULL ? graph->order[i] : (uint32_t)i;
        for (size_t k = 0; k < graph->graph->nodes[node].output_count; k++) {
            KLN_RETURN_IF_ERROR(add(of, graph->nodes[node].outputs[k]));
        }
    }
    KLN_RETURN_IF_ERROR(check_wanted(of));
    KLN_RETURN_IF_ERROR(of->options.channels || of->options.products ? make_channels(of) : KILN_OK);
    return make_observers(of);
}

/* --- parts --- */

static void size_of(const kln_value *value, kln_observed *each)
{
    kiln_tensor *tensor = &each->tensor;
    size_t bytes = 0;
    *tensor = (kiln_tensor){.desc = {.shape = {.rank = -1}}};
    each->bytes = UNKNOWN_BYTES;
    if (value != NULL && kiln_dtype_bits(value->dtype) != 0 &&
        kln_value_shape(value, &tensor->desc.shape) && kiln_shape_is_static(&tensor->desc.shape) &&
        kiln_tensor_bytes(value->dtype, &tensor->desc.shape, &bytes) == KILN_OK) {
        each->bytes = bytes;
        tensor->desc.dtype = value->dtype;
    } else {
        tensor->desc.shape.rank = -1;
    }
}

/* The size of each tensor for the shapes of the batch. */
static kiln_status measure(kln_calibration *of)
{
    const kln_infer_options options = {.inputs = of->shapes, .input_count = of->shape_count};
    KLN_SCOPED(kln_inference_destroy_at) kln_inference *inference = NULL;
    KLN_RETURN_IF_ERROR(kln_infer(of->model, &options, &inference));
    for (size_t i = 0; i < of->count; i++) {
        size_of(kln_inference_find(inference->graph, of->observed[i].name), &of->observed[i]);
    }
    return KILN_OK;
}

static kiln_status divide(kln_calibration *of)
{
    const uint64_t limit = of->options.memory_bytes > 0 ? of->options.memory_bytes : DEFAULT_BYTES;
    const uint64_t kept = of->bins != NULL ? of->count * KLN_OBSERVER_BIN_BYTES : 0;
    uint64_t bytes = 0;
    of->part_count = 0;
    for (size_t i = of->input_count; i < of->count; i++) {
        const kln_observed *each = &of->observed[i];
        KLN_RETURN_IF(kept >= limit || each->bytes > limit - kept, KILN_ERROR_LIMIT,
                      "tensor \"%s\" takes %llu bytes and the histograms %llu; %llu are "
                      "allowed (kiln_calibrate_options.memory_bytes)",
                      each->name, (unsigned long long)each->bytes, (unsigned long long)kept,
                      (unsigned long long)limit);
        if (i == of->input_count || (of->crowd.count == 0 && bytes + each->bytes > limit - kept)) {
            of->part_begins[of->part_count++] = i;
            bytes = 0;
        }
        bytes += each->bytes;
    }
    if (of->crowd.count > 0) {
        const uint64_t most = bytes > 0 ? (limit - kept) / bytes : of->crowd.count;
        of->crowd.width = most >= of->crowd.count ? of->crowd.count : most > 0 ? (size_t)most : 1;
    }
    of->part_begins[of->part_count] = of->count;
    return KILN_OK;
}

static bool same_shapes(const kln_calibration *of)
{
    bool same = of->shape_count == of->bound_count;
    for (size_t i = 0; same && i < of->bound_count; i++) {
        same = of->shapes[i].name == of->bound[i].name &&
               kiln_shape_equal(&of->shapes[i].shape, &of->bound[i].tensor.desc.shape);
    }
    return same;
}

kiln_status kln_calibration_plan(kln_calibration *of)
{
    if (of->part_count > 0 && same_shapes(of)) {
        return KILN_OK;
    }
    /* Memory of the last batch that it has bound may be gone, and not everything is bound again. */
    kiln_context_destroy(of->context);
    of->context = NULL;
    for (size_t i = 0; i < of->bound_count; i++) {
        of->shapes[i] = (kln_input_shape){of->bound[i].name, of->bound[i].tensor.desc.shape};
        of->hints[i] = (kiln_shape_hint){of->bound[i].name, of->bound[i].tensor.desc.shape};
    }
    of->shape_count = of->bound_count;
    const size_t parts = of->part_count;
    const bool has_profile =
        of->engines[0] != NULL && kiln_engine_profile_count(of->engines[0]) > 0;
    KLN_RETURN_IF_ERROR(measure(of));
    KLN_RETURN_IF_ERROR(divide(of));
    /* A profile for one shape does not cover another. */
    if (of->part_count != parts || parts > 1 || (has_profile && of->build.profile_count == 0)) {
        kln_calibration_release_engines(of);
    }
    return KILN_OK;
}

void kln_calibration_release_engines(kln_calibration *of)
{
    kiln_context_destroy(of->context);
    of->context = NULL;
    for (size_t i = 0; of->engines != NULL && i < of->count; i++) {
        kiln_engine_release(of->engines[i]);
        of->engines[i] = NULL;
    }
}

/* Measured: with 177 tensors around 53 convolutions the full optimization, with its layouts, takes
 * as long and twice the memory; with 81 around one it takes two thirds of the time. */
#define MOST_LAYOUTS 16

kiln_optimization kln_calibration_optimization(const kln_calibration *of)
{
    const kln_onnx_graph *graph = of->inference->graph->graph;
    size_t convolutions = 0;
    for (size_t i = 0; i < graph->node_count; i++) {
        convolutions += kln_onnx_node_is(&graph->nodes[i], "Conv");
    }
    return of->wants_some || convolutions * MOST_LAYOUTS < of->count ? KILN_OPTIMIZATION_DEFAULT
                                                                     : KILN_OPTIMIZATION_EXTENDED;
}

static bool is_on(const kiln_build_options *build, uint32_t options)
{
    const kiln_backend *backend = NULL;
    kiln_backend_info info = {.struct_size = sizeof info};
    return kln_backend_select(build->backend, build->library, &backend, &info) == KILN_OK &&
           (backend->options & options) != 0;
}

static bool is_ort_on_cpu(const kiln_build_options *build)
{
    return build->provider != KILN_PROVIDER_CUDA && is_on(build, KLN_OPTIONS_ONNXRUNTIME);
}

size_t kln_calibration_threads(const kln_calibration *of)
{
    cpu_set_t allowed;
    const int processors =
        sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : MOST_BY_ITSELF;
    const size_t most = processors < MOST_BY_ITSELF ? (size_t)processors : MOST_BY_ITSELF;
    return of->options.threads > 0 ? (size_t)of->options.threads : most;
}

/* With parallel nodes, those that wait for an earlier batch would occupy the threads that it
 * needs. */
size_t kln_calibration_crowd(const kln_calibration *of)
{
    const kiln_build_options *build = &of->build;
    const size_t each = build->threads > 0 ? (size_t)build->threads : 1;
    const size_t count = kln_calibration_threads(of) / each;
    if (!is_ort_on_cpu(build) || build->parallel_nodes > 1 ||
        build->precision != KILN_PRECISION_DEFAULT || of->count == of->input_count) {
        return 0;
    }
    return count > 0 ? count : 1;
}

/* A network that runs a few hundred times is done sooner without a search for the fastest kernels.
 * Ranges should be those of float32, not of TF32 products. And ONNX Runtime's threads would spin
 * while others observe. */
static void settle(const kln_calibration *of, kiln_build_options *build)
{
    const bool on_cuda = build->provider == KILN_PROVIDER_CUDA;
    const bool on_tensorrt = is_on(build, KLN_OPTIONS_TENSORRT);
    const bool on_cpu = is_ort_on_cpu(build);
    if (on_cuda && build->conv_search == KILN_CONV_SEARCH_DEFAULT) {
        build->conv_search = KILN_CONV_SEARCH_HEURISTIC;
    }
    if (on_cpu && build->optimization == KILN_OPTIMIZATION_DEFAULT) {
        build->optimization = kln_calibration_optimization(of);
    }
    if (on_cpu && build->spinning == KILN_SWITCH_DEFAULT) {
        build->spinning = KILN_SWITCH_OFF;
    }
    if (of->crowd.count > 0 && build->threads == 0) {
        build->threads = 1;
    }
    if (on_tensorrt && build->builder_optimization_level == 0) {
        build->builder_optimization_level = -1;
    }
    if ((on_cuda || on_tensorrt) && build->tf32 == KILN_SWITCH_DEFAULT) {
        build->tf32 = KILN_SWITCH_OFF;
    }
}

static kiln_status build_watched(kln_calibration *of, const kiln_build_options *build)
{
    KLN_SCOPED(kln_onnx_model_destroy_at) kln_onnx_model *watched = NULL;
    KLN_RETURN_IF_ERROR(kln_calibration_watch(of, &watched));
    const kiln_model model = {.graph = watched, .watch = &of->crowd.watch};
    return kln_engine_make(&model, build, false, NULL, &of->engines[0]);
}

/* A part's graph is the whole one with other outputs: backends drop what those do not need. */
kiln_status kln_calibration_build(kln_calibration *of, size_t part)
{
    kln_onnx_graph *graph = &of->model->graph;
    const kiln_model model = {.graph = of->model};
    kiln_build_options build = of->build;
    size_t count = 0;
    if (build.profile_count == 0 && build.shape_hint_count == 0) {
        build.shape_hints = of->hints;
        build.shape_hint_count = of->shape_count;
    }
    settle(of, &build);
    if (of->crowd.count > 0) {
        return build_watched(of, &build);
    }
    for (size_t i = of->part_begins[part]; i < of->part_begins[part + 1]; i++) {
        const kln_value *value = of->inference->graph->values[of->observed[i].value];
        of->outputs[count++] = (kln_onnx_value){.name = value->name,
                                                .type = {.kind = KLN_ONNX_KIND_TENSOR,
                                                         .dtype = value->dtype,
                                                         .wire_dtype = value->wire_dtype}};
    }
    graph->outputs = of->outputs;
    graph->output_count = count;
    graph->output_capacity = 0;
    const kiln_status status = kln_engine_make(&model, &build, false, NULL, &of->engines[part]);
    *graph = of->whole;
    return status;
}
