/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>

#include "compare_parts.h"
#include "engine/kln_engine.h"
#include "graph/kln_graph.h"

static kiln_status read_options(const kiln_compare_options *options, kiln_compare_options *read)
{
    *read = KILN_COMPARE_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_compare_options", options, read, sizeof *read));
    KLN_FAIL_IF(read->inputs == NULL && read->input_count > 0,
                kln_fail_null("kiln_compare_options", "inputs"));
    KLN_RETURN_IF(isnan(read->absolute) || isnan(read->relative) || isnan(read->steps),
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_compare_options: the tolerance is %g, %g of the expected number and %g "
                  "steps; 0 or more is needed, or KILN_BY_DTYPE",
                  read->absolute, read->relative, read->steps);
    KLN_RETURN_IF(read->fill != KILN_FILL_RANDOM && read->fill != KILN_FILL_ZEROS,
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_compare_options: fill is %d, one of kiln_compare_fill (0 or 1) is needed",
                  (int)read->fill);
    return KILN_OK;
}

/* --- running both --- */

/* Checks that both have inputs and outputs of the same names. */
static kiln_status check_names(const kiln_engine *a, const kiln_engine *b)
{
    const kiln_engine *const of[2] = {a, b};
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < kiln_engine_input_count(of[k]); i++) {
            const char *name = of[k]->shared.description.bindings[i].name;
            KLN_RETURN_IF(kln_names_get(&of[1 - k]->inputs, name) == KLN_NAMES_NONE,
                          KILN_ERROR_MISMATCH,
                          "input \"%s\" is one of the %s engine's alone; both engines must have "
                          "the same inputs and outputs",
                          name, k == 0 ? "first" : "second");
        }
        for (size_t i = 0; i < kiln_engine_output_count(of[k]); i++) {
            const char *name =
                of[k]->shared.description.bindings[of[k]->shared.description.input_count + i].name;
            KLN_RETURN_IF(kln_names_get(&of[1 - k]->outputs, name) == KLN_NAMES_NONE,
                          KILN_ERROR_MISMATCH,
                          "output \"%s\" is one of the %s engine's alone; both engines must have "
                          "the same inputs and outputs",
                          name, k == 0 ? "first" : "second");
        }
    }
    return KILN_OK;
}

/* --- the comparison --- */

KLN_SCOPED_POINTER(kiln_comparison, kiln_comparison_destroy)

void kiln_comparison_destroy(kiln_comparison *comparison)
{
    if (comparison != NULL) {
        kln_arena_finish(&comparison->arena);
        kln_free(comparison);
    }
}

/* Allocates results for `count` tensors. */
static kiln_status begin(kiln_comparison *comparison, size_t count)
{
    comparison->passes = true;
    KLN_ARENA_NEW(&comparison->arena, comparison->outputs, count + 1, "a comparison");
    return KILN_OK;
}

/* Starts the next result. */
static kiln_status name_next(kiln_comparison *comparison, const char *name,
                             kiln_tensor_difference **next)
{
    *next = &comparison->outputs[comparison->count];
    (*next)->node = "";
    (*next)->operation = "";
    (*next)->name = kln_arena_strdup(&comparison->arena, name);
    KLN_RETURN_IF_NO_MEMORY((*next)->name, strlen(name), "a comparison");
    return KILN_OK;
}

static void count_next(kiln_comparison *comparison)
{
    comparison->passes = comparison->passes && comparison->outputs[comparison->count].passes;
    comparison->count++;
}

static kiln_status compare_outputs(const kiln_engine *engine, kiln_context *const contexts[2],
                                   const kln_graph_inference *graph,
                                   const kiln_compare_options *options, kiln_comparison *comparison)
{
    const size_t count = kiln_engine_output_count(engine);
    KLN_RETURN_IF_ERROR(begin(comparison, count));
    for (size_t i = 0; i < count; i++) {
        const char *name =
            engine->shared.description.bindings[engine->shared.description.input_count + i].name;
        kiln_tensor_difference *difference = NULL;
        KLN_RETURN_IF_ERROR(name_next(comparison, name, &difference));
        kln_compare_steps steps = {.count = 0};
        const uint32_t value = graph != NULL ? kln_names_get(&graph->names, name) : KLN_NO_VALUE;
        if (value != KLN_NO_VALUE) {
            KLN_RETURN_IF_ERROR(kln_compare_steps_of(graph, value, &comparison->arena, &steps));
        }
        KLN_RETURN_IF_ERROR(kln_compare_output(contexts, name, options, &steps, difference));
        count_next(comparison);
    }
    return KILN_OK;
}

static kiln_status compare_engines(kiln_engine *found, kiln_engine *expected,
                                   const kln_graph_inference *graph,
                                   const kiln_compare_options *options,
                                   const kln_compare_inputs *inputs, kiln_comparison *comparison)
{
    kiln_engine *const engines[2] = {found, expected};
    kiln_context *contexts[2] = {NULL, NULL};
    const kln_compare_inputs *const both[2] = {inputs, inputs};
    KLN_RETURN_IF_ERROR(kln_compare_run(engines, both, contexts));
    const kiln_status status = compare_outputs(expected, contexts, graph, options, comparison);
    kiln_context_destroy(contexts[0]);
    kiln_context_destroy(contexts[1]);
    return status;
}

/* What the two engines are built from. */
typedef struct origin {
    const char *path;      /* or NULL */
    kln_mapping file;      /* with `path` */
    kln_onnx_model *model; /* NULL: only engines, or a file that is not an ONNX model */
    kln_compare_builds builds;
    kiln_shape_hint *hints;
    kiln_engine *engines[2];
} origin;

static void finish(origin *from)
{
    kln_free(from->hints);
    kiln_engine_release(from->engines[0]);
    kiln_engine_release(from->engines[1]);
    kln_onnx_model_destroy(from->model);
    kln_mapping_close(&from->file);
}

/* What is quantized is only known if there is a network, and shapes can be inferred. */
static kiln_status infer(const origin *from, kln_inference **inference)
{
    *inference = NULL;
    if (from->model == NULL || !kln_compare_has_steps(from->model)) {
        return KILN_OK;
    }
    const kiln_status status = kln_infer(from->model, NULL, inference);
    return status == KILN_ERROR_OUT_OF_MEMORY ? status : KILN_OK;
}

static kiln_status search(origin *from, const kln_compare_inputs *inputs,
                          const kiln_compare_options *options, kiln_comparison *comparison)
{
    if (from->model == NULL) {
        KLN_RETURN_IF_ERROR(kln_onnx_read_mapping(&from->file, from->path, &from->model));
    }
    return kln_compare_nodes(from->model, &from->builds, inputs, options, comparison);
}

static kiln_status compare(kiln_engine *found, kiln_engine *expected, origin *from,
                           kiln_compare_options *options, kiln_comparison **comparison)
{
    KLN_SCOPED(kln_compare_inputs_finish) kln_compare_inputs inputs = {NULL, NULL, 0};
    KLN_SCOPED(kln_inference_destroy_at) kln_inference *inference = NULL;
    KLN_SCOPED(kiln_comparison_destroy_at) kiln_comparison *made = NULL;
    kiln_engine *const engines[2] = {found, expected};
    if (options->built != NULL) {
        KLN_RETURN_IF_ERROR(options->built(options->user, found, expected, options));
    }
    KLN_RETURN_IF_ERROR(check_names(found, expected));
    KLN_RETURN_IF_ERROR(kln_compare_inputs_make(engines, options, &inputs));
    KLN_NEW(made, 1, "a comparison");
    KLN_RETURN_IF_ERROR(infer(from, &inference));
    KLN_RETURN_IF_ERROR(compare_engines(
        found, expected, inference != NULL ? inference->graph : NULL, options, &inputs, made));
    if (options->first_difference && !made->passes) {
        KLN_RETURN_IF_ERROR(search(from, &inputs, options, made));
    }
    *comparison = KLN_TAKE(made);
    return KILN_OK;
}

kiln_status kiln_compare_engines(kiln_engine *found, kiln_engine *expected,
                                 const kiln_compare_options *options, kiln_comparison **comparison)
{
    kiln_compare_options read;
    KLN_RETURN_IF_NULL_RESULT(comparison, found, expected);
    KLN_RETURN_IF_ERROR(read_options(options, &read));
    KLN_RETURN_IF(read.first_difference, KILN_ERROR_UNSUPPORTED,
                  "kiln_compare_engines: an engine does not show its intermediate tensors; ask "
                  "kiln_compare or kiln_compare_file for the first difference");
    origin from = {.path = NULL};
    if (read.network != NULL) {
        KLN_RETURN_IF_ERROR(kln_network_edit(read.network, &from.model));
    }
    return compare(found, expected, &from, &read, comparison);
}

/* A build that needs a profile but is not given one uses the shapes of the inputs. */
static kiln_status hint_shapes(origin *from, const kiln_compare_options *options)
{
    kiln_build_options *const builds[2] = {&from->builds.found, &from->builds.expected};
    size_t count = 0;
    KLN_NEW(from->hints, options->input_count + 1, "shape hints");
    for (size_t i = 0; i < options->input_count; i++) {
        const kiln_named_tensor *input = &options->inputs[i];
        if (input->name != NULL && input->tensor.desc.shape.rank >= 0 &&
            kiln_shape_is_static(&input->tensor.desc.shape)) {
            from->hints[count++] = (kiln_shape_hint){input->name, input->tensor.desc.shape};
        }
    }
    for (size_t i = 0; i < 2 && count > 0; i++) {
        if (builds[i]->profile_count == 0 && builds[i]->shape_hint_count == 0) {
            builds[i]->shape_hints = from->hints;
            builds[i]->shape_hint_count = count;
        }
    }
    return KILN_OK;
}

/* The caller now owns the lists of issues: later builds must not write them again. */
static void keep_lists(kln_compare_builds *builds)
{
    builds->found.issues = NULL;
    builds->expected.issues = NULL;
    /* The inputs of a part have other names than those of the whole, and no dynamic dimensions. */
    builds->found.profiles = builds->expected.profiles = NULL;
    builds->found.profile_count = builds->expected.profile_count = 0;
    builds->found.shape_hints = builds->expected.shape_hints = NULL;
    builds->found.shape_hint_count = builds->expected.shape_hint_count = 0;
}

kiln_status kiln_compare(kiln_network *network, const kiln_build_options *found,
                         const kiln_build_options *expected, const kiln_compare_options *options,
                         kiln_comparison **comparison)
{
    kiln_compare_options read;
    kln_onnx_model *model = NULL;
    KLN_SCOPED(finish) origin from = {.path = NULL};
    KLN_RETURN_IF_NULL_RESULT(comparison, network);
    KLN_RETURN_IF_ERROR(read_options(options, &read));
    KLN_RETURN_IF_ERROR(kln_build_options_read(found, &from.builds.found));
    KLN_RETURN_IF_ERROR(kln_build_options_read(expected, &from.builds.expected));
    KLN_RETURN_IF_ERROR(kln_network_edit(network, &model));
    from.model = kln_onnx_model_retain(model);
    KLN_RETURN_IF_ERROR(hint_shapes(&from, &read));
    KLN_RETURN_IF_ERROR(kiln_engine_build(network, &from.builds.found, &from.engines[0]));
    KLN_RETURN_IF_ERROR(kiln_engine_build(network, &from.builds.expected, &from.engines[1]));
    keep_lists(&from.builds);
    return compare(from.engines[0], from.engines[1], &from, &read, comparison);
}

/* Uses the file that the network was read from, or opens it. */
static kiln_status open_origin(origin *from, const kiln_compare_options *options)
{
    if (options->network == NULL) {
        return kln_mapping_open(from->path, &from->file);
    }
    kln_onnx_model *model = NULL;
    KLN_RETURN_IF_ERROR(kln_network_edit(options->network, &model));
    if (!model->is_mapped) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_compare_options: network was not read from a file, and \"%s\" is to "
                        "be compared; give kiln_compare the network, or leave it out",
                        from->path);
    }
    from->file = kln_mapping_share(&model->mappings[0]);
    from->model = kln_onnx_model_retain(model);
    return KILN_OK;
}

kiln_status kiln_compare_file(const char *path, const kiln_build_options *found,
                              const kiln_build_options *expected,
                              const kiln_compare_options *options, kiln_comparison **comparison)
{
    kiln_compare_options read;
    KLN_SCOPED(finish) origin from = {.path = path};
    KLN_RETURN_IF_NULL_RESULT(comparison, path);
    KLN_RETURN_IF_ERROR(read_options(options, &read));
    KLN_RETURN_IF_ERROR(kln_build_options_read(found, &from.builds.found));
    KLN_RETURN_IF_ERROR(kln_build_options_read(expected, &from.builds.expected));
    KLN_RETURN_IF_ERROR(open_origin(&from, &read));
    const kiln_model model = {
        .path = path, .file = &from.file, .bytes = from.file.bytes, .read = &from.model};
    KLN_RETURN_IF_ERROR(hint_shapes(&from, &read));
    KLN_RETURN_IF_ERROR(kln_engine_load(&model, &from.builds.found, &from.engines[0]));
    KLN_RETURN_IF_ERROR(kln_engine_load(&model, &from.builds.expected, &from.engines[1]));
    keep_lists(&from.builds);
    if (from.model == NULL) {
        /* A plan can be compared too, only without what its network would tell. */
        const kiln_status status = kln_onnx_read_mapping(&from.file, path, &from.model);
        KLN_FAIL_IF(status == KILN_ERROR_OUT_OF_MEMORY, status);
    }
    return compare(from.engines[0], from.engines[1], &from, &read, comparison);
}

/* --- tensors only --- */

static kiln_status check_one(const char *side, const kiln_named_tensor *one)
{
    char what[KLN_MESSAGE_SIZE / 2];
    KLN_FAIL_IF(one->name == NULL, kln_fail_null(side, "name"));
    (void)snprintf(what, sizeof what, "%s \"%s\"", side, one->name);
    KLN_RETURN_IF_ERROR(kln_tensor_check(what, &one->tensor));
    KLN_RETURN_IF(!kln_strides_are_dense(&one->tensor.desc.shape, &one->tensor.desc.strides),
                  KILN_ERROR_UNSUPPORTED, "%s: a dense tensor is needed, this one has strides",
                  what);
    return KILN_OK;
}

kiln_status kiln_compare_tensors(const kiln_named_tensor *found, const kiln_named_tensor *expected,
                                 size_t count, const kiln_compare_options *options,
                                 kiln_comparison **comparison)
{
    kiln_compare_options read;
    KLN_SCOPED(kiln_comparison_destroy_at) kiln_comparison *made = NULL;
    KLN_RETURN_IF_NULL_RESULT(comparison, found, expected);
    KLN_RETURN_IF_ERROR(read_options(options, &read));
    KLN_NEW(made, 1, "a comparison");
    KLN_RETURN_IF_ERROR(begin(made, count));
    for (size_t i = 0; i < count; i++) {
        kln_compare_steps none = {.count = 0};
        kiln_tensor_difference *difference = NULL;
        KLN_RETURN_IF_ERROR(check_one("found", &found[i]));
        KLN_RETURN_IF_ERROR(check_one("expected", &expected[i]));
        KLN_RETURN_IF_ERROR(name_next(made, expected[i].name, &difference));
        KLN_RETURN_WITHIN(
            kln_compare_tensor(&found[i].tensor, &expected[i].tensor, &read, &none, difference),
            "\"%s\"", expected[i].name);
        count_next(made);
    }
    *comparison = KLN_TAKE(made);
    return KILN_OK;
}

/* --- reading the result --- */

bool kiln_comparison_passes(const kiln_comparison *comparison)
{
    return comparison != NULL && comparison->passes;
}

size_t kiln_comparison_count(const kiln_comparison *comparison)
{
    return comparison != NULL ? comparison->count : 0;
}

const kiln_tensor_difference *kiln_comparison_get(const kiln_comparison *comparison, size_t index)
{
    return comparison != NULL && index < comparison->count ? &comparison->outputs[index] : NULL;
}

const kiln_tensor_difference *kiln_comparison_first(const kiln_comparison *comparison)
{
    return comparison != NULL ? comparison->first : NULL;
}

size_t kiln_comparison_intermediate_count(const kiln_comparison *comparison)
{
    return comparison != NULL ? comparison->intermediate_count : 0;
}
