/* SPDX-License-Identifier: Apache-2.0 */
/* The types that a plan's layers compute in, from its inspector's JSON. In 10.6, a layer has
 * "Inputs" and "Outputs" with "Format/Datatype" ("Half", or "Row major linear FP16" in earlier
 * versions), "Weights" with "Type", and "Metadata" with the nodes that it came from, as the ONNX
 * parser names them: "[ONNX Layer: NAME]", separated by a control character. */
#include <cJSON.h>
#include <strings.h>

#include "backends/tensorrt/trt_engine.h"

#define NODE "[ONNX Layer: "

/* Words in a format; a word comes before those that it contains. */
static const struct {
    const char *word;
    kiln_dtype dtype;
} words[] = {{"uint8", KILN_DTYPE_UINT8},       {"int8", KILN_DTYPE_INT8},
             {"int4", KILN_DTYPE_INT4},         {"fp8", KILN_DTYPE_FLOAT8E4M3},
             {"float8", KILN_DTYPE_FLOAT8E4M3}, {"bfloat16", KILN_DTYPE_BFLOAT16},
             {"bf16", KILN_DTYPE_BFLOAT16},     {"half", KILN_DTYPE_FLOAT16},
             {"float16", KILN_DTYPE_FLOAT16},   {"fp16", KILN_DTYPE_FLOAT16},
             {"float", KILN_DTYPE_FLOAT32},     {"fp32", KILN_DTYPE_FLOAT32}};

/* Returns 0 for a type that is not listed. */
static uint64_t bit_of(const cJSON *text)
{
    const char *format = cJSON_GetStringValue(text);
    for (size_t i = 0; format != NULL && i < KLN_ARRAY_LENGTH(words); i++) {
        if (strcasestr(format, words[i].word) != NULL) {
            return UINT64_C(1) << words[i].dtype;
        }
    }
    return 0;
}

static uint64_t types_of(const cJSON *layer, const char *key)
{
    uint64_t types = 0;
    const cJSON *tensor = NULL;
    cJSON_ArrayForEach(tensor, cJSON_GetObjectItemCaseSensitive(layer, key))
    {
        types |= bit_of(cJSON_GetObjectItemCaseSensitive(tensor, "Format/Datatype"));
    }
    return types;
}

/* The weights of a fused layer may be called "ConvWeights". */
static uint64_t type_of_weights(const cJSON *layer)
{
    uint64_t types = 0;
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, layer)
    {
        const size_t length = item->string != NULL ? strlen(item->string) : 0;
        if (length >= 7 && strcmp(item->string + length - 7, "Weights") == 0) {
            types |= bit_of(cJSON_GetObjectItemCaseSensitive(item, "Type"));
        }
    }
    return types;
}

/* Finds the node names in `text`, terminates each of them in place, and counts them. */
static size_t cut_nodes(char *text, const char **nodes)
{
    size_t count = 0;
    for (char *at = strstr(text, NODE); at != NULL;) {
        char *name = at + strlen(NODE);
        char *end = name;
        while (*end != '\0' && !(*end == ']' && (unsigned char)end[1] < ' ')) {
            end++;
        }
        at = *end != '\0' ? strstr(end + 1, NODE) : NULL;
        *end = '\0';
        nodes[count++] = name;
    }
    return count;
}

static kiln_status tell_layer(const cJSON *layer, const kiln_layer_listener *listener)
{
    char *metadata = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(layer, "Metadata"));
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(layer, "Name"));
    if (metadata == NULL) {
        return KILN_OK;
    }
    KLN_SCOPED_FREE const char **nodes = NULL;
    KLN_NEW(nodes, strlen(metadata) / strlen(NODE) + 1, "the layers of an engine");
    const kiln_layer_types types = {.name = name != NULL ? name : "",
                                    .node_count = cut_nodes(metadata, nodes),
                                    .nodes = nodes,
                                    .reads = types_of(layer, "Inputs") | type_of_weights(layer),
                                    .gives = types_of(layer, "Outputs")};
    return listener->layer(listener->user, &types);
}

kiln_status trt_layer_types(void *state, const kiln_layer_listener *listener)
{
    KLN_SCOPED_FREE char *json = NULL;
    KLN_RETURN_IF_ERROR(trt_engine_inspect(state, -1, &json));
    cJSON *document = cJSON_Parse(json);
    const cJSON *layers = cJSON_GetObjectItemCaseSensitive(document, "Layers");
    const cJSON *layer = NULL;
    kiln_status status =
        document != NULL && cJSON_IsObject(cJSON_GetArrayItem(layers, 0))
            ? KILN_OK
            : kln_fail(KILN_ERROR_UNSUPPORTED,
                       "the plan does not tell the types of its layers: profiling_verbosity "
                       "\"detailed\" makes it");
    cJSON_ArrayForEach(layer, layers)
    {
        KLN_THEN(status, tell_layer(layer, listener));
    }
    cJSON_Delete(document);
    return status;
}
