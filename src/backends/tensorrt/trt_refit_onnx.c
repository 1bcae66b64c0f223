/* SPDX-License-Identifier: Apache-2.0 */
/* Refits an engine from an ONNX model, with the refitter of the library's ONNX parser. */
#include "backends/tensorrt/trt_builder.h"
#include "backends/tensorrt/trt_engine.h"
#include "backends/tensorrt/trt_plan.h"

typedef struct onnx_refit {
    trt_engine *engine;
    const kiln_model *model;
    const char *source; /* for messages */
    const char *place;  /* a path in the folder of external weights, or NULL */
    trt_ParserRefitter *parser;
    kln_onnx_model *onnx;
    kln_text proto;
    kln_arena copies; /* of weights that are not aligned */
} onnx_refit;

/* Fails with the parser's message, or else the library's. */
static kiln_status fail_refitter(onnx_refit *self)
{
    const trt_abi *abi = &self->engine->library->abi;
    if (trt_ParserRefitter_getNbErrors(abi, self->parser) > 0) {
        union { /* its methods are const in C++ */
            const trt_ParserError *in;
            trt_ParserError *out;
        } error = {.in = trt_ParserRefitter_getError(abi, self->parser, 0)};
        if (!trt_is_null(error.in)) {
            char text[TRT_PARSER_TEXT];
            const kiln_status status = trt_parser_explain(abi, error.out, text);
            return kln_fail(status, "refit: the weights of %s were not accepted: %s", self->source,
                            text);
        }
    }
    return trt_fail(KILN_ERROR_MALFORMED, &self->engine->recorder,
                    "refit: the weights of %s were not accepted", self->source);
}

/* Passes the model without its weights, then each of them in place. */
static kiln_status take_spans(onnx_refit *self)
{
    const trt_abi *abi = &self->engine->library->abi;
    const kln_onnx_graph *graph = &self->onnx->graph;
    KLN_RETURN_IF_ERROR(kln_onnx_write_bytes(self->onnx, KLN_ONNX_WEIGHTS_LEFT_OUT, &self->proto));
    KLN_FAIL_IF(!trt_ParserRefitter_loadModelProto(abi, self->parser, self->proto.data,
                                                   self->proto.size, self->place),
                fail_refitter(self));
    for (size_t i = 0; i < graph->initializer_count; i++) {
        const kln_onnx_tensor *tensor = &graph->initializers[i];
        const void *data = NULL;
        if (!kln_onnx_is_left_out(tensor)) {
            continue;
        }
        KLN_RETURN_IF_ERROR(trt_align(tensor, &self->copies, &data));
        KLN_FAIL_IF(!trt_ParserRefitter_loadInitializer(abi, self->parser, tensor->name, data,
                                                        tensor->data.size),
                    fail_refitter(self));
    }
    return trt_ParserRefitter_refitModelProto(abi, self->parser) ? KILN_OK : fail_refitter(self);
}

static kiln_status take_weights(onnx_refit *self)
{
    const trt_abi *abi = &self->engine->library->abi;
    kln_onnx_model *rewritten = NULL;
    KLN_RETURN_WITHIN(kln_model_read(self->model, &self->onnx), "refit: %s", self->source);
    /* The plan has the weights that the build gave the parser. */
    KLN_RETURN_IF_ERROR(trt_rewrite(self->source, self->onnx, &rewritten));
    if (rewritten != NULL) {
        kln_onnx_model_destroy(self->onnx);
        self->onnx = rewritten;
    }
    if (trt_has(abi, TRT_M_ParserRefitter_loadModelProto) && trt_has_left_out(&self->onnx->graph)) {
        return take_spans(self);
    }
    kiln_span bytes = self->model->bytes;
    if (rewritten != NULL) {
        KLN_RETURN_IF_ERROR(kln_onnx_write_bytes(rewritten, KLN_ONNX_WEIGHTS_INLINE, &self->proto));
        bytes = (kiln_span){self->proto.data, self->proto.size};
    }
    return trt_ParserRefitter_refitFromBytes(abi, self->parser, bytes.data, bytes.size, self->place)
               ? KILN_OK
               : fail_refitter(self);
}

static kiln_status refit_from(onnx_refit *self)
{
    trt_engine *engine = self->engine;
    trt_library *library = engine->library;
    const trt_abi *abi = &library->abi;
    KLN_RETURN_IF_ERROR(trt_refit_need(engine));
    KLN_RETURN_IF_ERROR(trt_library_need_parser(library));
    KLN_RETURN_IF(library->parser.createNvOnnxParserRefitter_INTERNAL == NULL,
                  KILN_ERROR_UNSUPPORTED,
                  "refit: the ONNX parser of %s has no refitter; give the weights by name "
                  "(kiln_engine_refit)",
                  library->name);
    self->parser = library->parser.createNvOnnxParserRefitter_INTERNAL(
        engine->refitter, &library->logger, abi->version);
    if (trt_is_null(self->parser)) {
        self->parser = NULL;
        return trt_fail(KILN_ERROR_BACKEND, &engine->recorder, "refit: no refitter of ONNX");
    }
    kiln_status status = take_weights(self);
    KLN_THEN(status, trt_refit_commit(engine, false));
    if (status != KILN_OK) {
        trt_refit_unset(engine);
    }
    return status;
}

static kiln_status refit_locked(onnx_refit *self)
{
    TRT_REFITTING(self->engine);
    const kiln_status status = refit_from(self);
    if (self->parser != NULL) {
        trt_ParserRefitter_D0(&self->engine->library->abi, self->parser);
    }
    return status;
}

kiln_status trt_refit_model(void *state, const kiln_model *model)
{
    onnx_refit self = {.engine = state, .model = model};
    char made[PATH_MAX];
    KLN_RETURN_IF_ERROR(kln_model_place(model, made, &self.place));
    self.source = kln_model_name(model);
    kln_text_init(&self.proto, (size_t)INT32_MAX);
    const kiln_status status = refit_locked(&self);
    kln_text_finish(&self.proto);
    kln_arena_finish(&self.copies);
    kln_onnx_model_destroy(self.onnx);
    return status;
}
