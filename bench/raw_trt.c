/* SPDX-License-Identifier: Apache-2.0 */
#include "raw_trt.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/tensorrt/trt_callbacks.h"
#include "bench_times.h"
#include "raw_driver.h"

#define MOST_SIDES 16

const char *const raw_trt_names[RAW_TRT_FORMS] = {
    "raw_pageable",  "raw_pinned",     "raw_copies", "raw_mapped",
    "raw_mapped_in", "raw_mapped_out", "raw_device",
};

struct raw_trt {
    raw_driver cuda;
    trt_abi abi;
    trt_tables tables;
    trt_logger logger;
    trt_Runtime *runtime;
    int32_t version;
};

struct raw_plan {
    raw_trt *trt;
    trt_CudaEngine *engine;
};

typedef struct side {
    raw_tensor what;
    void *host;
    raw_address device; /* 0 where the device works on `host` */
    bool is_pinned;
} side;

struct raw_context {
    raw_trt *trt;
    raw_trt_form form;
    trt_ExecutionContext *object;
    void *stream;
    void *graph;
    side inputs[MOST_SIDES];
    side outputs[MOST_SIDES];
    size_t input_count;
    size_t output_count;
};

static void require(bool worked, const char *what)
{
    if (!worked) {
        (void)fprintf(stderr, "raw TensorRT: %s failed\n", what);
        exit(1);
    }
}

raw_trt *raw_trt_open(const char *path)
{
    raw_trt *trt = bench_allocate(sizeof *trt);
    void *library = raw_open_library(path);
    int32_t (*version)(void) = NULL;
    void *(*create)(void *, int32_t) = NULL;
    void *const symbols[] = {dlsym(library, "getInferLibVersion"),
                             dlsym(library, "createInferRuntime_INTERNAL")};
    require(symbols[0] != NULL && symbols[1] != NULL, path);
    memcpy(&version, &symbols[0], sizeof version);
    memcpy(&create, &symbols[1], sizeof create);
    raw_driver_open(&trt->cuda);
    trt->version = version();
    /* RTX counts from 1, TensorRT from 10. */
    require(trt_abi_resolve(trt->version < 20000, trt->version, &trt->abi) == KILN_OK,
            "finding the layout");
    trt_tables_init(&trt->tables, &trt->abi);
    trt_logger_init(&trt->logger, &trt->tables);
    trt->runtime = create(&trt->logger.object, trt->version);
    require(!trt_is_null(trt->runtime), "createInferRuntime");
    return trt;
}

int32_t raw_trt_version(const raw_trt *trt)
{
    return trt->version;
}

/* The bytes of a file, in memory of its own or mapped. */
static void *open_file(const char *path, bool maps, size_t *size)
{
    struct stat facts;
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    require(file >= 0 && fstat(file, &facts) == 0, path);
    *size = (size_t)facts.st_size;
    void *bytes = maps ? mmap(NULL, *size, PROT_READ, MAP_PRIVATE, file, 0) : malloc(*size);
    require(bytes != NULL && bytes != MAP_FAILED, path);
    for (size_t done = 0; !maps && done < *size;) {
        const ssize_t got = read(file, (char *)bytes + done, *size - done);
        require(got > 0, path);
        done += (size_t)got;
    }
    (void)close(file);
    return bytes;
}

raw_plan *raw_plan_load(raw_trt *trt, const char *path, raw_trt_load way)
{
    raw_plan *plan = bench_allocate(sizeof *plan);
    size_t size = 0;
    void *bytes = open_file(path, way != RAW_TRT_READ, &size);
    plan->trt = trt;
    plan->engine = trt_Runtime_deserializeCudaEngine(&trt->abi, trt->runtime, bytes, size);
    if (way == RAW_TRT_READ) {
        free(bytes);
    } else {
        (void)munmap(bytes, size);
    }
    require(!trt_is_null(plan->engine), "deserializeCudaEngine");
    return plan;
}

void raw_plan_unload(raw_plan *plan)
{
    trt_CudaEngine_destroy(plan->engine);
    free(plan);
}

/* --- contexts --- */

static bool is_mapped(raw_trt_form form, bool is_input)
{
    return form == RAW_TRT_MAPPED || form == (is_input ? RAW_TRT_MAPPED_IN : RAW_TRT_MAPPED_OUT);
}

static void make_side(raw_context *made, side *to, const raw_tensor *from, bool is_input)
{
    const raw_driver *cuda = &made->trt->cuda;
    to->what = *from;
    to->is_pinned = made->form != RAW_TRT_PAGEABLE;
    if (to->is_pinned) {
        raw_check_cuda(cuda->allocate_host(&to->host, from->bytes, RAW_PINNED), "pinned memory");
    } else {
        to->host = bench_allocate(from->bytes);
    }
    if (is_input) {
        memcpy(to->host, from->data, from->bytes);
    }
    if (!is_mapped(made->form, is_input)) {
        raw_check_cuda(cuda->allocate(&to->device, from->bytes), "device memory");
    }
    void *address = to->device != 0 ? (void *)(uintptr_t)to->device : to->host;
    if (is_input) {
        trt_Dims dims = {.nbDims = (int32_t)from->rank};
        memcpy(dims.d, from->dims, sizeof dims.d);
        require(
            trt_ExecutionContext_setInputShape(&made->trt->abi, made->object, from->name, &dims),
            "setInputShape");
    }
    require(
        trt_ExecutionContext_setTensorAddress(&made->trt->abi, made->object, from->name, address),
        "setTensorAddress");
}

static void copy_in(const raw_context *context)
{
    for (size_t i = 0; i < context->input_count; i++) {
        const side *from = &context->inputs[i];
        if (from->device != 0) {
            raw_check_cuda(context->trt->cuda.copy(from->device, RAW_HOST(from->host),
                                                   from->what.bytes, context->stream),
                           "a copy");
        }
    }
}

static void copy_out(const raw_context *context)
{
    for (size_t i = 0; i < context->output_count; i++) {
        const side *from = &context->outputs[i];
        if (from->device != 0) {
            raw_check_cuda(context->trt->cuda.copy(RAW_HOST(from->host), from->device,
                                                   from->what.bytes, context->stream),
                           "a copy");
        }
    }
}

static void enqueue(const raw_context *context, bool with_copies)
{
    if (with_copies) {
        copy_in(context);
    }
    require(trt_ExecutionContext_enqueueV3(&context->trt->abi, context->object, context->stream),
            "enqueueV3");
    if (with_copies) {
        copy_out(context);
    }
}

static void wait_for(const raw_context *context)
{
    raw_check_cuda(context->trt->cuda.stream_wait(context->stream), "waiting");
}

static void capture(raw_context *context)
{
    const raw_driver *cuda = &context->trt->cuda;
    void *graph = NULL;
    /* Once more before it, as TensorRT's own guide has it: a first run may allocate. */
    enqueue(context, true);
    wait_for(context);
    raw_check_cuda(cuda->capture_begin(context->stream, 1), "a capture");
    enqueue(context, context->form != RAW_TRT_DEVICE);
    raw_check_cuda(cuda->capture_end(context->stream, &graph), "a capture");
    raw_check_cuda(cuda->instantiate(&context->graph, graph, 0), "a graph");
    raw_check_cuda(cuda->graph_destroy(graph), "a graph");
}

raw_context *raw_context_create(raw_plan *plan, raw_trt_form form, const raw_tensor *inputs,
                                size_t input_count, const raw_tensor *outputs, size_t output_count)
{
    raw_context *made = bench_allocate(sizeof *made);
    require(input_count <= MOST_SIDES && output_count <= MOST_SIDES, "memory");
    made->trt = plan->trt;
    made->form = form;
    /* ExecutionContextAllocationStrategy: static, the default. */
    made->object = trt_CudaEngine_createExecutionContext(&plan->trt->abi, plan->engine, 0);
    require(!trt_is_null(made->object), "createExecutionContext");
    raw_check_cuda(plan->trt->cuda.stream_create(&made->stream, 1, 0), "a stream");
    made->input_count = input_count;
    made->output_count = output_count;
    for (size_t i = 0; i < input_count; i++) {
        make_side(made, &made->inputs[i], &inputs[i], true);
    }
    for (size_t i = 0; i < output_count; i++) {
        make_side(made, &made->outputs[i], &outputs[i], false);
    }
    enqueue(made, true);
    wait_for(made);
    if (form != RAW_TRT_PAGEABLE && form != RAW_TRT_PINNED) {
        capture(made);
    }
    return made;
}

void raw_context_run(raw_context *context)
{
    if (context->graph != NULL) {
        raw_check_cuda(context->trt->cuda.launch(context->graph, context->stream), "a launch");
    } else {
        enqueue(context, true);
    }
    wait_for(context);
}

const void *raw_context_output(const raw_context *context, size_t index)
{
    return context->outputs[index].host;
}

static void drop_sides(const raw_context *context, side *sides, size_t count)
{
    const raw_driver *cuda = &context->trt->cuda;
    for (size_t i = 0; i < count; i++) {
        if (sides[i].device != 0) {
            raw_check_cuda(cuda->release(sides[i].device), "device memory");
        }
        if (sides[i].is_pinned) {
            raw_check_cuda(cuda->release_host(sides[i].host), "pinned memory");
        } else {
            free(sides[i].host);
        }
    }
}

void raw_context_destroy(raw_context *context)
{
    const raw_driver *cuda = &context->trt->cuda;
    if (context->graph != NULL) {
        raw_check_cuda(cuda->exec_destroy(context->graph), "a graph");
    }
    trt_ExecutionContext_destroy(context->object);
    drop_sides(context, context->inputs, context->input_count);
    drop_sides(context, context->outputs, context->output_count);
    raw_check_cuda(cuda->stream_destroy(context->stream), "a stream");
    free(context);
}
