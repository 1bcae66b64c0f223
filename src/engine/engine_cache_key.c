/* SPDX-License-Identifier: Apache-2.0 */
/* The key of a plan in the engine cache. */
#include <inttypes.h>
#include <stdio.h>

#include "cuda/kln_cuda.h"
#include "engine_cache.h"
#include "onnx/kln_look.h"

/* Increase it when the layout or meaning of entries changes, so that older ones are not found. */
#define FORMAT 1

/* The text that is hashed into a key has a line for each option, and profiles may be long. */
#define LONGEST_TEXT ((size_t)16 << 20)

static void write_key(const kln_hasher *hasher, char key[KLN_CACHE_KEY])
{
    uint64_t digest[2];
    kln_hasher_digest(hasher, digest);
    (void)snprintf(key, KLN_CACHE_KEY, "%016" PRIx64 "%016" PRIx64, digest[0], digest[1]);
}

/* --- the model --- */

/* Adds external data, with the name of its tensor. */
static bool add_outside(void *user, const kln_onnx_tensor *tensor)
{
    if (tensor->is_external) {
        kln_hasher_add(user, tensor->name, strlen(tensor->name) + 1);
        kln_hasher_add(user, &tensor->data.size, sizeof tensor->data.size);
        kln_hasher_add(user, tensor->data.data, tensor->data.size);
    }
    return true;
}

static bool add_left_out(void *user, const kln_onnx_tensor *tensor)
{
    if (!tensor->is_external && kln_onnx_is_left_out(tensor)) {
        kln_hasher_add(user, tensor->data.data, tensor->data.size);
    }
    return add_outside(user, tensor);
}

static void add_tensors(kln_hasher *hasher, const kln_onnx_model *model, kln_onnx_visit visit)
{
    (void)kln_onnx_visit_tensors(&model->graph, visit, hasher);
    for (size_t i = 0; i < model->function_count; i++) {
        (void)kln_onnx_visit_tensors(&model->functions[i].body, visit, hasher);
    }
}

/* A network's message is written without its weights, which are hashed in place. */
static kiln_status add_network(kln_hasher *hasher, const kln_onnx_model *network)
{
    KLN_SCOPED(kln_text_finish) kln_text message = {0};
    kln_text_init(&message, SIZE_MAX / 2);
    KLN_RETURN_IF_ERROR(kln_onnx_write_bytes(network, KLN_ONNX_WEIGHTS_LEFT_OUT, &message));
    kln_hasher_add(hasher, message.data, message.size);
    add_tensors(hasher, network, add_left_out);
    return KILN_OK;
}

static kiln_status hash_model(const kiln_model *model, const kln_onnx_model *read,
                              char hash[KLN_CACHE_KEY])
{
    KLN_SCOPED_FREE kln_hasher *hasher = kln_hasher_create();
    KLN_RETURN_IF_NO_MEMORY(hasher, KLN_CACHE_KEY, "the hash of a model");
    if (model->graph != NULL) {
        KLN_RETURN_IF_ERROR(add_network(hasher, model->graph));
    } else {
        kln_hasher_add(hasher, model->bytes.data, model->bytes.size);
        add_tensors(hasher, read, add_outside);
    }
    write_key(hasher, hash);
    return KILN_OK;
}

/* --- the key --- */

/* Whether a shape hint for this input repeats what the model says: the shape is static and the
 * input is not an initializer. A hint would turn an initializer into an input. */
static bool is_said(const kln_onnx_graph *graph, const char *name)
{
    const kln_onnx_value *input = kln_onnx_find_value(graph->inputs, graph->input_count, name);
    if (input == NULL || kln_onnx_find_initializer(graph, name) != NULL) {
        return false;
    }
    for (size_t d = 0; d < input->type.rank; d++) {
        if (input->type.dims[d].value < 0) {
            return false;
        }
    }
    return input->type.has_shape;
}

static kiln_status add_option(kln_text *text, const kln_option *option,
                              const kiln_build_options *options)
{
    KLN_RETURN_IF_ERROR(kln_text_printf(text, "%s ", option->shown.name));
    KLN_RETURN_IF_ERROR(kln_option_format(option, options, text));
    return kln_text_printf(text, "\n");
}

static kiln_status add_hints(kln_text *text, const kln_option *option, const kln_onnx_graph *graph,
                             const kiln_build_options *options)
{
    for (size_t i = 0; i < options->shape_hint_count; i++) {
        kiln_build_options one = *options;
        one.shape_hints = &options->shape_hints[i];
        one.shape_hint_count = 1;
        if (!is_said(graph, one.shape_hints->name)) {
            KLN_RETURN_IF_ERROR(add_option(text, option, &one));
        }
    }
    return KILN_OK;
}

static kiln_status add_options(kln_text *text, const kln_onnx_graph *graph,
                               const kiln_build_options *options)
{
    for (const kln_option *option = kln_options; option->groups != 0; option++) {
        if (option->shapes && kln_option_is_set(option, options)) {
            KLN_RETURN_IF_ERROR(option->shown.kind == KILN_OPTION_SHAPES
                                    ? add_hints(text, option, graph, options)
                                    : add_option(text, option, options));
        }
    }
    return KILN_OK;
}

/* The part that does not depend on the model: versions, backend and GPU. */
static kiln_status add_place(kln_text *text, const kiln_backend_info *info, int32_t device)
{
    kiln_device_info gpu = {.struct_size = sizeof gpu};
    KLN_RETURN_IF_ERROR(kln_cuda_device_info(device, &gpu));
    return kln_text_printf(text, "kiln %s %d\nbackend %s %s\ngpu %s %d.%d\n", kiln_version_string(),
                           FORMAT, info->name, info->version, gpu.name, gpu.compute_major,
                           gpu.compute_minor);
}

static kiln_status hash_text(const kln_text *text, char key[KLN_CACHE_KEY])
{
    KLN_SCOPED_FREE kln_hasher *hasher = kln_hasher_create();
    KLN_RETURN_IF_NO_MEMORY(hasher, KLN_CACHE_KEY, "the hash of a text");
    kln_hasher_add(hasher, text->data, text->size);
    write_key(hasher, key);
    return KILN_OK;
}

kiln_status kln_engine_cache_key(const kiln_backend_info *info, const kiln_model *model,
                                 const kln_onnx_model *read, const kiln_build_options *options,
                                 char key[KLN_CACHE_KEY])
{
    KLN_SCOPED(kln_text_finish) kln_text text = {.limit = LONGEST_TEXT};
    char hash[KLN_CACHE_KEY];
    KLN_RETURN_IF_ERROR(hash_model(model, read, hash));
    KLN_RETURN_IF_ERROR(add_place(&text, info, options->device));
    KLN_RETURN_IF_ERROR(kln_text_printf(&text, "model %s\n", hash));
    KLN_RETURN_IF_ERROR(
        add_options(&text, model->graph != NULL ? &model->graph->graph : &read->graph, options));
    return hash_text(&text, key);
}

kiln_status kln_engine_timings_key(const kiln_backend_info *info, int32_t device,
                                   char key[KLN_CACHE_KEY])
{
    KLN_SCOPED(kln_text_finish) kln_text text = {.limit = LONGEST_TEXT};
    KLN_RETURN_IF_ERROR(add_place(&text, info, device));
    KLN_RETURN_IF_ERROR(kln_text_printf(&text, "timings\n"));
    return hash_text(&text, key);
}
