/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model in a newer operator set, for types that the older one does not have. Most operators only
 * got more types and optional inputs meanwhile; those whose meaning changed are rewritten, or stand
 * in the way: https://github.com/onnx/onnx/blob/main/docs/Changelog.md
 */
#include "kln_graph.h"

#define OLDEST 7

/* How an operator changed in version `since` of the operator set. */
typedef enum change {
    AXES_TO_INPUT,  /* its attribute "axes" is input 1 */
    SIZES_TO_INPUT, /* its attribute "split" is input 1 */
    LAST_AXIS,      /* works on one axis instead of all from it on: the same for the last axis */
    COUNT_NAMED,    /* without sizes, the number of outputs must be given */
    ONE_OUTPUT,     /* only without the outputs for training */
    WORDS,          /* its modes were renamed */
    MODE_LOST,      /* coordinate_transformation_mode "tf_half_pixel_for_nn" is gone */
    DEFAULT_MODE,   /* coordinate_transformation_mode has another default */
    RATIO_LOST,     /* its ratio, which matters only in training, is an input */
    UNLIKE          /* it is another operator */
} change;

static const struct {
    const char *op;
    int64_t since;
    change change;
} changes[] = {{"Squeeze", 13, AXES_TO_INPUT},
               {"Unsqueeze", 13, AXES_TO_INPUT},
               {"ReduceSum", 13, AXES_TO_INPUT},
               {"Split", 13, SIZES_TO_INPUT},
               {"Softmax", 13, LAST_AXIS},
               {"LogSoftmax", 13, LAST_AXIS},
               {"Hardmax", 13, LAST_AXIS},
               {"Resize", 13, MODE_LOST},
               {"BatchNormalization", 14, ONE_OUTPUT},
               {"RoiAlign", 16, DEFAULT_MODE},
               {"ReduceL1", 18, AXES_TO_INPUT},
               {"ReduceL2", 18, AXES_TO_INPUT},
               {"ReduceLogSum", 18, AXES_TO_INPUT},
               {"ReduceLogSumExp", 18, AXES_TO_INPUT},
               {"ReduceMax", 18, AXES_TO_INPUT},
               {"ReduceMean", 18, AXES_TO_INPUT},
               {"ReduceMin", 18, AXES_TO_INPUT},
               {"ReduceProd", 18, AXES_TO_INPUT},
               {"ReduceSumSquare", 18, AXES_TO_INPUT},
               {"Split", 18, COUNT_NAMED},
               {"GridSample", 20, WORDS},
               {"DFT", 20, UNLIKE},
               {"GroupNormalization", 21, UNLIKE},
               {"Upsample", 10, UNLIKE},
               {"Scatter", 11, UNLIKE},
               {"Slice", 10, UNLIKE},
               {"TopK", 10, UNLIKE},
               {"Clip", 11, UNLIKE},
               {"Pad", 11, UNLIKE},
               {"Resize", 11, UNLIKE},
               {"Scan", 9, UNLIKE},
               {"BatchNormalization", 9, ONE_OUTPUT},
               {"Dropout", 12, RATIO_LOST}};

typedef struct raiser {
    kln_onnx_model *model;
    kln_arena *arena;
    int64_t from, to;
    unsigned made; /* names */
    uint32_t at;   /* the node's place in its graph */
} raiser;

static kiln_status no_memory(void)
{
    return kln_fail_memory(sizeof(kln_onnx_node), "a model in a newer operator set");
}

static kiln_status in_the_way(const raiser *r, const kln_onnx_node *node, int64_t since)
{
    return kln_fail(KILN_ERROR_UNSUPPORTED,
                    "the model has operator set %lld and %lld is needed, but node \"%s\" (%s) "
                    "means something else from %lld on; export the model with the newer one",
                    (long long)r->from, (long long)r->to, KLN_NODE_LABEL(node, r->at),
                    node->op_type, (long long)since);
}

/* The node without attribute `name`, which is returned, or NULL; there is room for one more. */
static kiln_status take_attribute(const raiser *r, kln_onnx_node *node, const char *name,
                                  const kln_onnx_attribute **taken)
{
    kln_onnx_attribute *made =
        kln_arena_alloc_zeroed(r->arena, node->attribute_count + 1, sizeof *made);
    size_t count = 0;
    *taken = NULL;
    KLN_FAIL_IF(made == NULL, no_memory());
    for (size_t i = 0; i < node->attribute_count; i++) {
        if (strcmp(node->attributes[i].name, name) == 0) {
            *taken = &node->attributes[i];
        } else {
            made[count++] = node->attributes[i];
        }
    }
    node->attributes = made;
    node->attribute_count = count;
    return KILN_OK;
}

/* A list of numbers moves from an attribute to an initializer, as input 1. */
static kiln_status to_input(raiser *r, kln_onnx_graph *graph, kln_onnx_node *node, const char *name)
{
    const kln_onnx_attribute *list = NULL;
    KLN_RETURN_IF_ERROR(take_attribute(r, node, name, &list));
    if (list == NULL) {
        return KILN_OK;
    }
    const char **inputs = kln_arena_alloc_zeroed(r->arena, 2, sizeof *inputs);
    int64_t *dims = kln_arena_alloc_zeroed(r->arena, 1, sizeof *dims);
    const char *label = kln_arena_printf(r->arena, "%s/%s/%u",
                                         node->output_count != 0 ? node->outputs[0] : node->op_type,
                                         name, r->made++);
    KLN_FAIL_IF(inputs == NULL || dims == NULL || label == NULL, no_memory());
    dims[0] = (int64_t)list->count;
    const kln_onnx_tensor tensor = {.name = label,
                                    .dtype = KILN_DTYPE_INT64,
                                    .wire_dtype = kln_onnx_wire_dtype(KILN_DTYPE_INT64),
                                    .rank = 1,
                                    .dims = dims,
                                    .data = {list->ints, list->count * sizeof(int64_t)}};
    KLN_RETURN_IF_ERROR(kln_onnx_add_initializer(r->arena, graph, &tensor));
    inputs[0] = node->inputs[0];
    inputs[1] = label;
    node->inputs = inputs;
    node->input_count = 2;
    return KILN_OK;
}

static kiln_status last_axis(const raiser *r, const kln_graph_inference *known, kln_onnx_node *node,
                             int64_t since)
{
    const kln_onnx_attribute *axis = kln_onnx_find_attribute(node, "axis");
    const kln_value *value = known != NULL ? kln_inference_find(known, node->inputs[0]) : NULL;
    const int64_t at = axis != NULL ? axis->i : 1;
    kln_onnx_attribute *made = kln_arena_alloc_zeroed(r->arena, 1, sizeof *made);
    KLN_FAIL_IF(made == NULL, no_memory());
    KLN_FAIL_IF(at != -1 && (value == NULL || !value->has_shape || at != (int64_t)value->rank - 1),
                in_the_way(r, node, since));
    *made = (kln_onnx_attribute){.name = "axis", .type = KLN_ONNX_ATTRIBUTE_INT, .i = -1};
    node->attributes = made;
    node->attribute_count = 1;
    return KILN_OK;
}

static kiln_status name_count(const raiser *r, kln_onnx_node *node)
{
    const kln_onnx_attribute *before = NULL;
    KLN_RETURN_IF_ERROR(take_attribute(r, node, "num_outputs", &before));
    node->attributes[node->attribute_count++] = (kln_onnx_attribute){
        .name = "num_outputs", .type = KLN_ONNX_ATTRIBUTE_INT, .i = (int64_t)node->output_count};
    return KILN_OK;
}

/* Modes of GridSample: "bilinear" became "linear" and "bicubic" "cubic". */
static kiln_status rename_mode(const raiser *r, kln_onnx_node *node)
{
    const kln_onnx_attribute *mode = NULL;
    KLN_RETURN_IF_ERROR(take_attribute(r, node, "mode", &mode));
    if (mode != NULL) {
        kln_onnx_attribute *renamed = &node->attributes[node->attribute_count++];
        *renamed = *mode;
        renamed->s = kln_onnx_attribute_is(mode, "bilinear")  ? (kiln_span){"linear", 6}
                     : kln_onnx_attribute_is(mode, "bicubic") ? (kiln_span){"cubic", 5}
                                                              : mode->s;
    }
    return KILN_OK;
}

static kiln_status apply(raiser *r, const kln_graph_inference *known, kln_onnx_graph *graph,
                         kln_onnx_node *node, size_t index)
{
    const int64_t since = changes[index].since;
    const kln_onnx_attribute *mode =
        kln_onnx_find_attribute(node, "coordinate_transformation_mode");
    switch (changes[index].change) {
        case AXES_TO_INPUT: return to_input(r, graph, node, "axes");
        case SIZES_TO_INPUT: return to_input(r, graph, node, "split");
        case LAST_AXIS: return last_axis(r, known, node, since);
        case COUNT_NAMED: return node->input_count < 2 ? name_count(r, node) : KILN_OK;
        case ONE_OUTPUT: return node->output_count == 1 ? KILN_OK : in_the_way(r, node, since);
        case WORDS: return rename_mode(r, node);
        case MODE_LOST:
            return kln_onnx_attribute_is(mode, "tf_half_pixel_for_nn") ? in_the_way(r, node, since)
                                                                       : KILN_OK;
        case RATIO_LOST: {
            const kln_onnx_attribute *lost = NULL;
            return take_attribute(r, node, "ratio", &lost);
        }
        case DEFAULT_MODE: return mode != NULL ? KILN_OK : in_the_way(r, node, since);
        default: return in_the_way(r, node, since);
    }
}

static kiln_status raise_graph(raiser *r, const kln_graph_inference *known,
                               const kln_onnx_graph *graph, kln_onnx_graph *made);

static kiln_status raise_inside(raiser *r, const kln_node_inference *known, kln_onnx_node *node)
{
    kln_onnx_attribute *attributes =
        kln_arena_alloc_zeroed(r->arena, node->attribute_count, sizeof *attributes);
    KLN_FAIL_IF(attributes == NULL, no_memory());
    if (node->attribute_count != 0) {
        memcpy(attributes, node->attributes, node->attribute_count * sizeof *attributes);
    }
    for (size_t i = 0; i < node->attribute_count; i++) {
        kln_onnx_attribute *a = &attributes[i];
        if (a->type == KLN_ONNX_ATTRIBUTE_GRAPHS) {
            return in_the_way(r, node, r->to); /* ONNX has no operator with several */
        }
        if (a->type != KLN_ONNX_ATTRIBUTE_GRAPH || a->graph == NULL) {
            continue;
        }
        kln_onnx_graph *inner = kln_arena_alloc_zeroed(r->arena, 1, sizeof *inner);
        KLN_FAIL_IF(inner == NULL, no_memory());
        KLN_RETURN_IF_ERROR(raise_graph(r, kln_inference_inside(known, a->graph), a->graph, inner));
        a->graph = inner;
    }
    node->attributes = attributes;
    return KILN_OK;
}

/* As deep as inference goes, which came here before. */
static kiln_status raise_graph(raiser *r, const kln_graph_inference *known,
                               const kln_onnx_graph *graph, kln_onnx_graph *made)
{
    *made = *graph;
    made->initializer_capacity = graph->initializer_count; /* a longer list is a new one */
    KLN_ARENA_NEW(r->arena, made->nodes, graph->node_count, "a model in a newer operator set");
    made->node_capacity = graph->node_count;
    for (size_t i = 0; i < graph->node_count; i++) {
        kln_onnx_node *node = &made->nodes[i];
        *node = graph->nodes[i];
        r->at = (uint32_t)i;
        KLN_RETURN_IF_ERROR(raise_inside(
            r, known != NULL && i < known->node_count ? &known->nodes[i] : NULL, node));
        r->at = (uint32_t)i; /* raise_inside has other graphs raised */
        for (size_t c = 0; c < KLN_ARRAY_LENGTH(changes); c++) {
            if (changes[c].since > r->from && changes[c].since <= r->to &&
                kln_onnx_node_is(node, changes[c].op)) {
                KLN_RETURN_IF_ERROR(apply(r, known, made, node, c));
            }
        }
    }
    return KILN_OK;
}

/* Before IR version 4 every initializer had to be an input too, and was constant all the same. */
static kiln_status drop_inputs(const raiser *r, kln_onnx_graph *graph)
{
    KLN_SCOPED(kln_names_finish) kln_names constants = {0};
    kln_onnx_value *kept = kln_arena_alloc_zeroed(r->arena, graph->input_count, sizeof *kept);
    size_t count = 0;
    KLN_FAIL_IF(kept == NULL, no_memory());
    KLN_RETURN_IF_ERROR(kln_onnx_name_initializers(graph, &constants));
    for (size_t i = 0; i < graph->input_count; i++) {
        if (kln_names_get(&constants, graph->inputs[i].name) == KLN_NAMES_NONE) {
            kept[count++] = graph->inputs[i];
        }
    }
    graph->inputs = kept;
    graph->input_capacity = graph->input_count;
    graph->input_count = count;
    return KILN_OK;
}

static kiln_status set_opset(raiser *r)
{
    kln_onnx_model *model = r->model;
    kln_onnx_opset *made = kln_arena_alloc_zeroed(r->arena, model->opset_count, sizeof *made);
    KLN_FAIL_IF(made == NULL, no_memory());
    for (size_t i = 0; i < model->opset_count; i++) {
        made[i] = model->opsets[i];
        made[i].version =
            kln_onnx_plain_domain(made[i].domain)[0] == '\0' ? r->to : made[i].version;
    }
    const int64_t ir = kln_onnx_ir_of_opset(r->to);
    model->opsets = made;
    model->ir_version = model->ir_version < ir ? ir : model->ir_version;
    return KILN_OK;
}

kiln_status kln_raise_opset(kln_onnx_model *model, int64_t version)
{
    raiser r = {.model = model,
                .arena = &model->arena,
                .from = kln_onnx_opset_version(model, ""),
                .to = version};
    KLN_SCOPED(kln_inference_destroy_at) kln_inference *inference = NULL;
    kln_onnx_graph made;
    if (r.from == 0 || r.from >= version) {
        return KILN_OK;
    }
    KLN_RETURN_IF(r.from < OLDEST || model->function_count != 0, KILN_ERROR_UNSUPPORTED,
                  "the model has operator set %lld%s and %lld is needed; from %d on it can "
                  "be raised; export the model with the newer one",
                  (long long)r.from, model->function_count != 0 ? " and functions of its own" : "",
                  (long long)version, OLDEST);
    KLN_RETURN_IF_ERROR(kln_infer(model, NULL, &inference));
    KLN_RETURN_IF_ERROR(raise_graph(&r, inference->graph, &model->graph, &made));
    if (model->ir_version < KLN_ONNX_IR_OF_OPTIONAL_INPUTS) {
        KLN_RETURN_IF_ERROR(drop_inputs(&r, &made));
    }
    KLN_RETURN_IF_ERROR(set_opset(&r));
    model->graph = made;
    return KILN_OK;
}
