/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <sys/mman.h>

#include "backends/tensorrt/trt_builder.h"
#include "graph/kln_graph.h"
#include "ops/kln_ops.h"

/* One protobuf message holds at most this much:
 * https://protobuf.dev/programming-guides/proto-limits/ */
#define LARGEST_MESSAGE ((size_t)INT32_MAX)

/* --- errors --- */

static const struct {
    trt_enumerator code;
    const char *text;
    kiln_status status;
} codes[] = {
    {TRT_V_ParserErrorCode_INTERNAL_ERROR, "internal error", KILN_ERROR_BACKEND},
    {TRT_V_ParserErrorCode_MEM_ALLOC_FAILED, "out of memory", KILN_ERROR_OUT_OF_MEMORY},
    {TRT_V_ParserErrorCode_MODEL_DESERIALIZE_FAILED, "not a readable model", KILN_ERROR_MALFORMED},
    {TRT_V_ParserErrorCode_INVALID_VALUE, "invalid value", KILN_ERROR_INVALID_NETWORK},
    {TRT_V_ParserErrorCode_INVALID_GRAPH, "invalid graph", KILN_ERROR_INVALID_NETWORK},
    {TRT_V_ParserErrorCode_INVALID_NODE, "invalid node", KILN_ERROR_INVALID_NETWORK},
    {TRT_V_ParserErrorCode_UNSUPPORTED_GRAPH, "unsupported graph", KILN_ERROR_UNSUPPORTED},
    {TRT_V_ParserErrorCode_UNSUPPORTED_NODE, "unsupported node", KILN_ERROR_UNSUPPORTED},
    {TRT_V_ParserErrorCode_UNSUPPORTED_NODE_ATTR, "unsupported attribute", KILN_ERROR_UNSUPPORTED},
    {TRT_V_ParserErrorCode_UNSUPPORTED_NODE_INPUT, "unsupported input", KILN_ERROR_UNSUPPORTED},
    {TRT_V_ParserErrorCode_UNSUPPORTED_NODE_DATATYPE, "unsupported data type",
     KILN_ERROR_UNSUPPORTED},
    {TRT_V_ParserErrorCode_UNSUPPORTED_NODE_DYNAMIC, "unsupported dynamic shape",
     KILN_ERROR_UNSUPPORTED},
    {TRT_V_ParserErrorCode_UNSUPPORTED_NODE_SHAPE, "unsupported shape", KILN_ERROR_UNSUPPORTED},
};

static const char *or_empty(const char *text)
{
    return text != NULL ? text : "";
}

/* "node 12 "conv1" (Conv): unsupported node: ... [importConv, onnxOpImporters.cpp:123]" */
kiln_status trt_parser_explain(const trt_abi *abi, trt_ParserError *error,
                               char text[TRT_PARSER_TEXT])
{
    const int32_t code = trt_ParserError_code(abi, error);
    const char *kind = "error";
    kiln_status status = KILN_ERROR_BACKEND;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(codes); i++) {
        if (trt_value(abi, codes[i].code) == code) {
            kind = codes[i].text;
            status = codes[i].status;
        }
    }
    const char *name = or_empty(trt_ParserError_nodeName(abi, error));
    const char *type = or_empty(trt_ParserError_nodeOperator(abi, error));
    const char *file = or_empty(trt_ParserError_file(abi, error));
    const char *slash = strrchr(file, '/');
    char node[256] = "";
    if (name[0] != '\0' || type[0] != '\0') {
        (void)snprintf(node, sizeof node, "node %d \"%s\" (%s): ", trt_ParserError_node(abi, error),
                       name, type);
    }
    (void)snprintf(text, 768, "%s%s: %s [%s, %s:%d]", node, kind,
                   or_empty(trt_ParserError_desc(abi, error)),
                   or_empty(trt_ParserError_func(abi, error)), slash != NULL ? slash + 1 : file,
                   trt_ParserError_line(abi, error));
    return status;
}

/* For whoever wants all of what the parser said, not only the first sentence. */
static kiln_status add_issue(trt_build *build, trt_ParserError *error, kiln_status status,
                             const char *text)
{
    const trt_abi *abi = &build->library->abi;
    kiln_issue_list **list = build->options->issues;
    if (list == NULL) {
        return KILN_OK;
    }
    if (*list == NULL) {
        KLN_RETURN_IF_ERROR(kln_issues_create(list));
    }
    const kiln_issue issue = {
        .severity = KILN_SEVERITY_ERROR,
        .kind = status == KILN_ERROR_UNSUPPORTED ? KILN_ISSUE_UNSUPPORTED : KILN_ISSUE_MODEL,
        .node = trt_ParserError_nodeName(abi, error),
        .found = trt_ParserError_nodeOperator(abi, error),
        .sentence = text,
    };
    return kln_issues_add(*list, &issue);
}

static kiln_status fail_parser(trt_build *build)
{
    const trt_abi *abi = &build->library->abi;
    const int32_t count = trt_Parser_getNbErrors(abi, build->parser);
    char first[768] = "";
    kiln_status status = KILN_ERROR_BACKEND;
    for (int32_t i = 0; i < count; i++) {
        const trt_ParserError *constant = trt_Parser_getError(abi, build->parser, i);
        if (trt_is_null(constant)) {
            continue;
        }
        union { /* its methods are const in C++ */
            const trt_ParserError *in;
            trt_ParserError *out;
        } error = {.in = constant};
        char text[768];
        const kiln_status found = trt_parser_explain(abi, error.out, text);
        kln_log(KILN_LOG_ERROR, "tensorrt", "%s: %s", build->source, text);
        KLN_RETURN_IF_ERROR(add_issue(build, error.out, found, text));
        if (first[0] == '\0') {
            memcpy(first, text, sizeof first);
            status = found;
        }
    }
    KLN_FAIL_IF(first[0] == '\0',
                trt_fail(KILN_ERROR_BACKEND, &build->recorder,
                         "%s: the model was not accepted by the ONNX parser", build->source));
    char more[32] = "";
    if (count > 1) {
        (void)snprintf(more, sizeof more, " (and %d more errors)", count - 1);
    }
    const trt_library *library = build->library;
    KLN_RETURN_IF(strstr(first, "lugin") != NULL && library->plugin_found.status != KILN_OK, status,
                  "%s: %s%s; of its own plugins: %s", build->source, first, more,
                  library->plugin_found.reason);
    return kln_fail(status, "%s: %s%s", build->source, first, more);
}

/* --- weights that are handed over where they lie --- */

/* Weights that were copied need not stay in memory twice: the pages of a file come back when they
 * are read again. Memory of a caller's is left alone. */
static void let_go(const trt_build *build, const void *data, size_t size)
{
    const size_t page = kln_page_size();
    if (build->model->file == NULL || kln_mapping_is_copy(build->model->file) || size < 2 * page) {
        return;
    }
    const kiln_span file = build->model->bytes;
    const unsigned char *begin = data;
    const unsigned char *end = begin + size;
    const unsigned char *base = file.data; /* a mapping begins at a page */
    if (base == NULL || begin < base || end > base + file.size) {
        return; /* of an external file, or decoded */
    }
    const size_t first = ((size_t)(begin - base) + page - 1) / page;
    const size_t past = (size_t)(end - base) / page;
    union {
        const unsigned char *in;
        void *out;
    } address = {.in = base + first * page};
    if (past > first) {
        (void)madvise(address.out, (past - first) * page, MADV_DONTNEED);
    }
}

kiln_status trt_align(const kln_onnx_tensor *tensor, kln_arena *copies, const void **data)
{
    *data = tensor->data.data;
    const size_t alignment = kiln_dtype_alignment(tensor->dtype);
    if ((uintptr_t)*data % (alignment > 0 ? alignment : 1) == 0) {
        return KILN_OK;
    }
    void *copy = kln_arena_alloc(copies, tensor->data.size);
    KLN_RETURN_IF_NO_MEMORY(copy, tensor->data.size, "aligned weights");
    *data = memcpy(copy, tensor->data.data, tensor->data.size);
    return KILN_OK;
}

bool trt_has_left_out(const kln_onnx_graph *graph)
{
    for (size_t i = 0; i < graph->initializer_count; i++) {
        if (kln_onnx_is_left_out(&graph->initializers[i])) {
            return true;
        }
    }
    return false;
}

static kiln_status load_weights(trt_build *build, const kln_onnx_graph *graph)
{
    const trt_abi *abi = &build->library->abi;
    for (size_t i = 0; i < graph->initializer_count; i++) {
        const kln_onnx_tensor *tensor = &graph->initializers[i];
        if (!kln_onnx_is_left_out(tensor)) {
            continue;
        }
        const void *data = NULL;
        KLN_RETURN_IF_ERROR(trt_align(tensor, &build->copies, &data));
        if (data != tensor->data.data) {
            let_go(build, tensor->data.data, tensor->data.size);
        }
        KLN_FAIL_IF(
            !trt_Parser_loadInitializer(abi, build->parser, tensor->name, data, tensor->data.size),
            fail_parser(build));
    }
    return KILN_OK;
}

static kiln_span proto_of(const trt_build *build)
{
    return (kiln_span){build->proto.data, build->proto.size};
}

/* TensorRT takes dynamic dimensions of one name for equal ones, "?" too. */
static kiln_status write_proto(trt_build *build, const kln_onnx_model *onnx,
                               kln_onnx_weights weights)
{
    KLN_RETURN_IF_ERROR(kln_onnx_write_bytes(onnx, weights, &build->proto));
    (void)kln_onnx_unname_dims(proto_of(build), (unsigned char *)build->proto.data);
    return KILN_OK;
}

/* The model without its weights, then each of them as a span. */
static kiln_status parse_spans(trt_build *build, const kln_onnx_model *onnx)
{
    const trt_abi *abi = &build->library->abi;
    KLN_RETURN_IF_ERROR(write_proto(build, onnx, KLN_ONNX_WEIGHTS_LEFT_OUT));
    KLN_FAIL_IF(!trt_Parser_loadModelProto(abi, build->parser, build->proto.data, build->proto.size,
                                           build->place),
                fail_parser(build));
    /* The parser has its own copy of the message now, and the weights alone are still needed. */
    kln_text_finish(&build->proto);
    kln_text_init(&build->proto, LARGEST_MESSAGE);
    let_go(build, build->model->bytes.data, build->model->bytes.size);
    KLN_RETURN_IF_ERROR(load_weights(build, &onnx->graph));
    return trt_Parser_parseModelProto(abi, build->parser) ? KILN_OK : fail_parser(build);
}

static kiln_status parse_bytes(trt_build *build, kiln_span bytes)
{
    KLN_RETURN_IF(bytes.size > LARGEST_MESSAGE, KILN_ERROR_LIMIT,
                  "%s: the model has %zu bytes, one protobuf message holds at most %zu; save "
                  "it with its weights in an external file",
                  build->source, bytes.size, LARGEST_MESSAGE);
    return trt_Parser_parse(&build->library->abi, build->parser, bytes.data, bytes.size,
                            build->place)
               ? KILN_OK
               : fail_parser(build);
}

static kiln_status parse_model(trt_build *build)
{
    const kiln_span bytes = build->model->bytes;
    if (kln_onnx_unname_dims(bytes, NULL) == 0) {
        return parse_bytes(build, bytes);
    }
    build->changed = kln_alloc(bytes.size);
    KLN_RETURN_IF_NO_MEMORY(build->changed, bytes.size, "a changed copy of a model");
    memcpy(build->changed, bytes.data, bytes.size);
    (void)kln_onnx_unname_dims(bytes, build->changed);
    return parse_bytes(build, (kiln_span){build->changed, bytes.size});
}

/* The library's parser makes an empty network of bytes that are no model. */
static kiln_status check_outputs(trt_build *build)
{
    if (trt_NetworkDefinition_getNbOutputs(&build->library->abi, build->network) > 0) {
        return KILN_OK;
    }
    if (build->model->graph == NULL && build->onnx == NULL) {
        const kiln_status status = kln_model_read(build->model, &build->onnx);
        if (status == KILN_ERROR_OUT_OF_MEMORY) {
            return status;
        }
        KLN_FAIL_IF(status == KILN_ERROR_MALFORMED, kln_fail_within(status, "%s", build->source));
    }
    return kln_fail(KILN_ERROR_INVALID_NETWORK,
                    "%s: the network has no output, so there is nothing to compute; mark or "
                    "declare one",
                    build->source);
}

/* Of a model that cannot be read the library has its own words, unless it gets the weights apart
 * from the rest. */
static kiln_status read_model(trt_build *build, bool spans)
{
    const kiln_status status = kln_model_read(build->model, &build->onnx);
    if (status == KILN_ERROR_OUT_OF_MEMORY) {
        return status;
    }
    KLN_FAIL_IF(status == KILN_ERROR_MALFORMED && spans,
                kln_fail_within(status, "%s", build->source));
    if (status != KILN_OK && spans) {
        kln_log(KILN_LOG_INFO, "tensorrt", "%s: handed over whole: %s", build->source,
                kiln_error_message());
    }
    return KILN_OK;
}

/* NVIDIA's parser says of such a tensor that its number is not known, and not what to do. */
static kiln_status check_zero_points(const trt_build *build, const kln_onnx_graph *graph)
{
    for (size_t i = 0; i < graph->initializer_count; i++) {
        KLN_RETURN_IF(graph->initializers[i].dtype == KILN_DTYPE_UINT4, KILN_ERROR_UNSUPPORTED,
                      "%s: the weights \"%s\" are of uint4, with zero points; TensorRT takes int4 "
                      "without: convert the model without kiln_precision_options.zero_points",
                      build->source, graph->initializers[i].name);
    }
    return KILN_OK;
}

static kiln_status parse(trt_build *build)
{
    const bool spans = trt_has(&build->library->abi, TRT_M_Parser_loadModelProto);
    const kln_onnx_model *onnx = build->model->graph;
    if (onnx == NULL) {
        KLN_RETURN_IF_ERROR(read_model(build, spans));
        /* Some exporters keep weights in Constant nodes: there is nothing to leave out then. */
        if (spans && build->onnx != NULL && trt_has_left_out(&build->onnx->graph)) {
            onnx = build->onnx;
        }
    }
    const kln_onnx_model *known = onnx != NULL ? onnx : build->onnx;
    KLN_RETURN_IF_ERROR(known != NULL ? check_zero_points(build, &known->graph) : KILN_OK);
    if (known != NULL) {
        KLN_RETURN_IF_ERROR(trt_rewrite(build->source, known, &build->rewritten));
        onnx = build->rewritten != NULL ? build->rewritten : onnx;
    }
    KLN_RETURN_IF_ERROR(trt_feed(build, &onnx));
    if (onnx == NULL) {
        return parse_model(build);
    }
    if (spans) {
        return parse_spans(build, onnx);
    }
    KLN_RETURN_IF_ERROR(write_proto(build, onnx, KLN_ONNX_WEIGHTS_INLINE));
    return parse_bytes(build, proto_of(build));
}

kiln_status trt_parse(trt_build *build)
{
    trt_library *library = build->library;
    kln_text_init(&build->proto, LARGEST_MESSAGE);
    KLN_RETURN_IF_ERROR(trt_library_offer_plugins(library));
    build->parser = library->parser.createNvOnnxParser_INTERNAL(build->network, &library->logger,
                                                                library->abi.version);
    if (trt_is_null(build->parser)) {
        build->parser = NULL;
        return trt_fail(KILN_ERROR_BACKEND, &build->recorder, "%s: an ONNX parser", build->source);
    }
    KLN_RETURN_IF_ERROR(parse(build));
    return check_outputs(build);
}

void trt_parse_finish(trt_build *build)
{
    if (build->parser != NULL) {
        trt_Parser_D0(&build->library->abi, build->parser);
    }
    kln_text_finish(&build->proto);
    kln_arena_finish(&build->copies);
    kln_free(build->changed);
    kln_onnx_model_destroy(build->rewritten);
    kln_onnx_model_destroy(build->onnx);
}
