/* SPDX-License-Identifier: Apache-2.0 */
/* An operator that shows its input to a callback. So a tensor that another node reads need not
 * become an output, which ONNX Runtime would keep to the end of a run. */
#include "ort_engine.h"

struct ort_watch {
    ort_custom_op op; /* first member: the library passes its address back */
    const ort_runtime *runtime;
    kln_watch of;
    OrtCustomOpDomain *domain;
};

typedef struct watch_node {
    const ort_watch *watch;
    int64_t index;
} watch_node;

static const char *name(const OrtCustomOp *op)
{
    (void)op;
    return "Watch";
}

static const char *provider(const OrtCustomOp *op)
{
    (void)op;
    return NULL;
}

static ort_element_type input_type(const OrtCustomOp *op, size_t index)
{
    (void)op;
    return index == 0 ? 0 : ort_element(KILN_DTYPE_INT64);
}

static ort_element_type output_type(const OrtCustomOp *op, size_t index)
{
    (void)op;
    (void)index;
    return ort_element(KILN_DTYPE_INT64);
}

static size_t two(const OrtCustomOp *op)
{
    (void)op;
    return 2;
}

static size_t one(const OrtCustomOp *op)
{
    (void)op;
    return 1;
}

static unsigned int required(const OrtCustomOp *op, size_t index)
{
    (void)op;
    (void)index;
    return 0;
}

static ort_memory_kind in_memory(const OrtCustomOp *op, size_t index)
{
    (void)op;
    (void)index;
    return ORT_MEMORY_DEFAULT;
}

static int nothing(const OrtCustomOp *op)
{
    (void)op;
    return 0;
}

static OrtStatus *make_node(const OrtCustomOp *op, const void *api, const OrtKernelInfo *info,
                            void **kernel)
{
    const ort_watch *watch = (const ort_watch *)(const void *)op;
    watch_node *node = kln_alloc_zeroed(1, sizeof *node);
    (void)api;
    if (node == NULL) {
        return watch->runtime->api.CreateStatus(ORT_CODE_FAIL, "bad allocation");
    }
    node->watch = watch;
    OrtStatus *failed =
        watch->runtime->api.KernelInfoGetAttribute_int64(info, "index", &node->index);
    if (failed != NULL) {
        kln_free(node);
        return failed;
    }
    *kernel = node;
    return NULL;
}

/* Views a value in host memory as a tensor. */
static OrtStatus *view(const ort_api *api, const OrtValue *value, kiln_tensor *tensor)
{
    *tensor = (kiln_tensor){.data = NULL};
    OrtStatus *failed = ort_describe_value(api, value, &tensor->desc);
    if (failed == NULL && tensor->desc.shape.rank > KILN_MAX_RANK) {
        failed = api->CreateStatus(ORT_CODE_FAIL, "a tensor has more than 8 dimensions");
    }
    if (failed == NULL) {
        failed = api->GetTensorMutableData((OrtValue *)(uintptr_t)value, &tensor->data);
    }
    if (failed == NULL &&
        kiln_tensor_bytes(tensor->desc.dtype, &tensor->desc.shape, &tensor->bytes) != KILN_OK) {
        failed = api->CreateStatus(ORT_CODE_FAIL, kiln_error_message());
    }
    return failed;
}

static OrtStatus *show(void *kernel, OrtKernelContext *context)
{
    const watch_node *node = kernel;
    const ort_api *api = &node->watch->runtime->api;
    const OrtValue *inputs[2] = {NULL, NULL};
    OrtValue *output = NULL;
    kiln_tensor tensor;
    kiln_tensor run;
    void *result = NULL;
    OrtStatus *failed = NULL;
    for (size_t i = 0; failed == NULL && i < 2; i++) {
        failed = api->KernelContext_GetInput(context, i, &inputs[i]);
        failed = failed == NULL ? view(api, inputs[i], i == 0 ? &tensor : &run) : failed;
    }
    failed = failed == NULL ? api->KernelContext_GetOutput(context, 0, NULL, 0, &output) : failed;
    failed = failed == NULL ? api->GetTensorMutableData(output, &result) : failed;
    if (failed != NULL) {
        return failed;
    }
    *(int64_t *)result = 0;
    return node->watch->of.see(node->watch->of.user, (size_t)node->index, *(int64_t *)run.data,
                               &tensor) == KILN_OK
               ? NULL
               : api->CreateStatus(ORT_CODE_FAIL, kiln_error_message());
}

kiln_status ort_watch_begin(ort_engine *engine, const kln_watch *watch,
                            OrtSessionOptions *session_options)
{
    const ort_runtime *runtime = engine->runtime;
    ort_watch *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "a watch");
    *made = (ort_watch){.op = {.version = ORT_CUSTOM_OP_LEVEL,
                               .GetName = name,
                               .GetExecutionProviderType = provider,
                               .GetInputType = input_type,
                               .GetInputTypeCount = two,
                               .GetOutputType = output_type,
                               .GetOutputTypeCount = one,
                               .KernelDestroy = kln_free,
                               .GetInputCharacteristic = required,
                               .GetOutputCharacteristic = required,
                               .GetInputMemoryType = in_memory,
                               .GetVariadicInputMinArity = nothing,
                               .GetVariadicInputHomogeneity = nothing,
                               .GetVariadicOutputMinArity = nothing,
                               .GetVariadicOutputHomogeneity = nothing,
                               .CreateKernelV2 = make_node,
                               .KernelComputeV2 = show},
                        .runtime = runtime,
                        .of = *watch};
    engine->watch = made;
    const ort_api *api = &runtime->api;
    KLN_RETURN_IF_ERROR(
        ort_check(runtime, api->CreateCustomOpDomain(KLN_WATCH_DOMAIN, &made->domain), "a watch"));
    KLN_RETURN_IF_ERROR(ort_check(
        runtime, api->CustomOpDomain_Add(made->domain, (const OrtCustomOp *)(const void *)made),
        "a watch"));
    return ort_check(runtime, api->AddCustomOpDomain(session_options, made->domain), "a watch");
}

void ort_watch_finish(ort_engine *engine)
{
    if (engine->watch != NULL) {
        engine->runtime->api.ReleaseCustomOpDomain(engine->watch->domain);
        kln_free(engine->watch);
    }
}
