/* SPDX-License-Identifier: Apache-2.0 */
#include "ort_handover.h"

/* The alignment that ONNX Runtime's kernels may expect of arrays they did not allocate. */
#define COPY_ALIGNMENT ((size_t)64)

/* From this size on, an array is used in place even if it is not aligned for its type: ONNX Runtime
 * itself maps external files at any offset, and these processors read elements at any address.
 * Smaller arrays are copied, which costs next to nothing. */
#if defined(__x86_64__) || defined(__aarch64__)
#define LEAST_IN_PLACE ((size_t)65536)
#else
#define LEAST_IN_PLACE SIZE_MAX
#endif

static size_t count_left_out(const kln_onnx_graph *graph)
{
    size_t count = 0;
    for (size_t i = 0; i < graph->initializer_count; i++) {
        count += kln_onnx_is_left_out(&graph->initializers[i]);
    }
    return count;
}

static kiln_status make_lists(ort_handover *handover)
{
    const size_t count = handover->count;
    handover->names = kln_alloc_zeroed(count, sizeof *handover->names);
    handover->buffers = kln_alloc_zeroed(count, sizeof *handover->buffers);
    handover->sizes = kln_alloc_zeroed(count, sizeof *handover->sizes);
    handover->copies = kln_alloc_zeroed(count, sizeof *handover->copies);
    return handover->names != NULL && handover->buffers != NULL && handover->sizes != NULL &&
                   handover->copies != NULL
               ? KILN_OK
               : kln_fail_memory(count * sizeof(void *), "the list of weights");
}

/* Finds the elements: raw_data in a protobuf message may begin at any byte. */
static kiln_status place(ort_handover *handover, const kln_onnx_tensor *tensor, size_t index)
{
    const size_t alignment = kiln_dtype_alignment(tensor->dtype);
    const void *data = tensor->data.data;
    if (alignment > 1 && (uintptr_t)data % alignment != 0 && tensor->data.size < LEAST_IN_PLACE) {
        void *copy = kln_alloc_aligned(tensor->data.size, COPY_ALIGNMENT);
        KLN_RETURN_IF_NO_MEMORY(copy, tensor->data.size, "weights at an aligned address");
        memcpy(copy, data, tensor->data.size);
        handover->copies[handover->copy_count++] = copy;
        data = copy;
    }
    char location[KLN_ONNX_LEFT_OUT_TEXT];
    kln_onnx_left_out_location(index, location);
    handover->names[index] = kln_strdup(location);
    handover->buffers[index] = (char *)(uintptr_t)data;
    handover->sizes[index] = tensor->data.size;
    return handover->names[index] != NULL ? KILN_OK
                                          : kln_fail_memory(sizeof location, "a file's name");
}

kiln_status ort_handover_init(ort_handover *handover, const kln_onnx_model *model)
{
    const kln_onnx_graph *graph = &model->graph;
    size_t index = 0;
    handover->model = kln_onnx_model_retain(model);
    kln_text_init(&handover->message, (size_t)INT32_MAX);
    handover->count = count_left_out(graph);
    KLN_RETURN_IF_ERROR(make_lists(handover));
    for (size_t i = 0; i < graph->initializer_count; i++) {
        if (kln_onnx_is_left_out(&graph->initializers[i])) {
            KLN_RETURN_IF_ERROR(place(handover, &graph->initializers[i], index++));
        }
    }
    return kln_onnx_write_bytes(model, KLN_ONNX_WEIGHTS_LEFT_OUT, &handover->message);
}

kiln_status ort_handover_apply(const ort_handover *handover, const ort_runtime *runtime,
                               OrtSessionOptions *options)
{
    const ort_api *api = &runtime->api;
    if (handover->count == 0) {
        return KILN_OK;
    }
    /* A release that does not know this key copies the weights, and works, too. */
    KLN_RETURN_IF_ERROR(
        ort_check(runtime,
                  api->AddSessionConfigEntry(
                      options, "session.use_external_initializer_file_buffers_directly", "1"),
                  "weights used where they lie"));
    return ort_check(runtime,
                     api->AddExternalInitializersFromFilesInMemory(
                         options, (const char *const *)(void *)handover->names, handover->buffers,
                         handover->sizes, handover->count),
                     "weights");
}

void ort_handover_rest(const ort_handover *handover)
{
    for (size_t i = 0; i < handover->model->mapping_count; i++) {
        kln_mapping_rest(&handover->model->mappings[i]);
    }
}

void ort_handover_trim(ort_handover *handover)
{
    for (size_t i = 0; handover->names != NULL && i < handover->count; i++) {
        kln_free(handover->names[i]);
    }
    kln_free(handover->names);
    handover->names = NULL;
}

static bool is_copy(const ort_handover *handover, const void *data)
{
    for (size_t i = 0; i < handover->copy_count; i++) {
        if (handover->copies[i] == data) {
            return true;
        }
    }
    return false;
}

/* Gives `tensor` weights `index`, for a model that may outlive the handover's own copies. */
static kiln_status show(const ort_handover *handover, size_t index, kln_onnx_model *model,
                        kln_onnx_tensor *tensor)
{
    const void *data = handover->buffers[index];
    const size_t size = handover->sizes[index];
    if (is_copy(handover, data)) {
        void *copy = kln_arena_alloc(&model->arena, size);
        KLN_RETURN_IF_NO_MEMORY(copy, size, "weights");
        memcpy(copy, data, size);
        data = copy;
    }
    tensor->data = (kiln_span){data, size};
    return KILN_OK;
}

static kiln_status fill(const ort_handover *handover, kln_onnx_model *model)
{
    size_t index = 0;
    for (size_t i = 0; i < model->graph.initializer_count && index < handover->count; i++) {
        kln_onnx_tensor *tensor = &model->graph.initializers[i];
        char location[KLN_ONNX_LEFT_OUT_TEXT];
        kln_onnx_left_out_location(index, location);
        if (tensor->is_external && strcmp(tensor->location, location) == 0) {
            KLN_RETURN_IF_ERROR(show(handover, index, model, tensor));
            index++;
        }
    }
    return KILN_OK;
}

kiln_status ort_handover_read(const ort_handover *handover, kln_onnx_model **model)
{
    const size_t size = handover->message.size;
    KLN_SCOPED_FREE void *message = kln_alloc(size);
    KLN_SCOPED(kln_onnx_model_destroy_at) kln_onnx_model *made = NULL;
    *model = NULL;
    KLN_RETURN_IF_NO_MEMORY(message, size, "a copy of the network");
    memcpy(message, handover->message.data, size);
    KLN_RETURN_IF_ERROR(kln_onnx_read_bytes((kiln_span){message, size}, NULL, &made));
    made->kept = KLN_TAKE(message);
    made->origin = kln_onnx_model_retain(handover->model);
    KLN_RETURN_IF_ERROR(fill(handover, made));
    *model = KLN_TAKE(made);
    return KILN_OK;
}

kiln_status ort_handover_write(const ort_handover *handover, kln_text *bytes)
{
    KLN_SCOPED(kln_onnx_model_destroy_at) kln_onnx_model *model = NULL;
    KLN_RETURN_IF_ERROR(ort_handover_read(handover, &model));
    return kln_onnx_write_bytes(model, KLN_ONNX_WEIGHTS_INLINE, bytes);
}

void ort_handover_finish(ort_handover *handover)
{
    ort_handover_trim(handover);
    kln_free(handover->buffers);
    kln_free(handover->sizes);
    kln_text_finish(&handover->message);
    for (size_t i = 0; i < handover->copy_count; i++) {
        kln_free(handover->copies[i]);
    }
    kln_free(handover->copies);
    kln_onnx_model_destroy(handover->model);
    *handover = (ort_handover){.model = NULL};
}
