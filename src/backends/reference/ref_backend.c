/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/kln_graph.h"
#include "ref_internal.h"

/* --- engine --- */

static void engine_destroy(void *opaque)
{
    ref_engine *engine = opaque;
    if (engine == NULL) {
        return;
    }
    kln_arena_finish(&engine->arena);
    kln_arena_finish(&engine->weights);
    kln_onnx_model_destroy(engine->model);
    kln_text_finish(&engine->written);
    (void)pthread_mutex_destroy(&engine->lock);
    kln_free(engine->copy);
    kln_free(engine);
}

/* Keeps the model open, because weights are used in place. */
static kiln_status open_model(ref_engine *engine, const kiln_model *model)
{
    if (model->file != NULL) {
        KLN_RETURN_IF_ERROR(kln_model_read(model, &engine->model));
        engine->source = model->bytes;
        return KILN_OK;
    }
    /* A network may be changed after it was built. */
    if (model->graph != NULL) {
        return kln_onnx_model_copy(model->graph, &engine->model, &engine->source);
    }
    engine->copy = kln_alloc(model->bytes.size);
    KLN_RETURN_IF_NO_MEMORY(engine->copy, model->bytes.size, "a copy of the model");
    memcpy(engine->copy, model->bytes.data, model->bytes.size);
    engine->source = (kiln_span){engine->copy, model->bytes.size};
    const kiln_model kept = {.folder = model->folder, .bytes = engine->source};
    KLN_RETURN_IF_ERROR(kln_model_read(&kept, &engine->model));
    engine->model->kept = engine->copy;
    engine->copy = NULL;
    return KILN_OK;
}

/* A model with external weights is saved as a single message that contains them. */
static kiln_status gather_weights(ref_engine *engine)
{
    const kln_onnx_graph *graph = &engine->model->graph;
    for (size_t i = 0; i < graph->initializer_count; i++) {
        if (graph->initializers[i].is_external || engine->model->replaced != NULL) {
            KLN_RETURN_IF_ERROR(
                kln_onnx_write_bytes(engine->model, KLN_ONNX_WEIGHTS_INLINE, &engine->written));
            engine->source = (kiln_span){engine->written.data, engine->written.size};
            break;
        }
    }
    return KILN_OK;
}

KLN_SCOPED_POINTER(ref_engine, engine_destroy)

static kiln_status engine_create(ref_engine **made)
{
    KLN_NEW(*made, 1, "an engine");
    kln_text_init(&(*made)->written, (size_t)INT32_MAX);
    (void)pthread_mutex_init(&(*made)->lock, NULL);
    return KILN_OK;
}

static kiln_status build(const kiln_model *model, const kiln_build_options *options,
                         const kiln_monitor *monitor, void **out)
{
    (void)options;
    const kiln_phase begin = {"plan", 0, 0, 1, 0.0};
    KLN_RETURN_IF(monitor != NULL && !monitor->progress(monitor->user, &begin),
                  KILN_ERROR_CANCELLED, "the build was stopped before it began");
    KLN_SCOPED(engine_destroy_at) ref_engine *engine = NULL;
    KLN_RETURN_IF_ERROR(engine_create(&engine));
    KLN_RETURN_IF_ERROR(open_model(engine, model));
    KLN_RETURN_IF_ERROR(ref_plan_make(engine));
    *out = KLN_TAKE(engine);
    return KILN_OK;
}

static kiln_status serialize(void *opaque, kiln_span *bytes)
{
    ref_engine *engine = opaque;
    KLN_RETURN_IF_ERROR(kln_onnx_check_files(engine->model));
    KLN_LOCKED(&engine->lock);
    const kiln_status status = engine->written.size == 0 ? gather_weights(engine) : KILN_OK;
    *bytes = engine->source;
    return status;
}

/* --- replacing weights --- */

static kiln_status weight_count(void *opaque, size_t *count)
{
    *count = kln_onnx_weight_count(((const ref_engine *)opaque)->model);
    return KILN_OK;
}

static kiln_status weight_get(void *opaque, size_t index, kiln_refit_weight *weight)
{
    return kln_refit_weight_of(kln_onnx_weight_at(((const ref_engine *)opaque)->model, index),
                               weight);
}

static kiln_status beside(void *opaque, const kiln_named_tensor *weights, size_t count, void **made)
{
    const ref_engine *self = opaque;
    KLN_SCOPED(engine_destroy_at) ref_engine *engine = NULL;
    KLN_RETURN_IF_ERROR(engine_create(&engine));
    KLN_RETURN_IF_ERROR(kln_refit_replace(self->model, weights, count, &engine->model));
    KLN_RETURN_IF_ERROR(ref_plan_make(engine));
    *made = KLN_TAKE(engine);
    return KILN_OK;
}

static const kiln_refit_table refit_operations = {
    .count = weight_count, .get = weight_get, .beside = beside};

/* --- description --- */

static kiln_status describe_value(kln_arena *arena, const kln_onnx_value *value, bool is_input,
                                  kiln_binding *binding)
{
    const kln_onnx_type *type = &value->type;
    *binding = (kiln_binding){.struct_size = sizeof *binding, .is_input = is_input};
    binding->name = kln_arena_strdup(arena, value->name);
    binding->dtype = type->dtype;
    binding->shape.rank = type->has_shape ? (int32_t)type->rank : -1;
    KLN_RETURN_IF_NO_MEMORY(binding->name, strlen(value->name) + 1, "the name of a binding");
    KLN_RETURN_IF(type->kind != KLN_ONNX_KIND_TENSOR && type->kind != KLN_ONNX_KIND_NONE,
                  KILN_ERROR_UNSUPPORTED,
                  "%s \"%s\" is not a tensor; the reference backend takes sequences and "
                  "optional values inside a network only",
                  is_input ? "input" : "output", value->name);
    KLN_RETURN_IF(type->has_shape && type->rank > KILN_MAX_RANK, KILN_ERROR_RANK,
                  "\"%s\" has %zu dimensions; the limit is %d", value->name, type->rank,
                  KILN_MAX_RANK);
    for (size_t i = 0; type->has_shape && i < type->rank; i++) {
        const kln_onnx_dim *dim = &type->dims[i];
        binding->shape.dims[i] = dim->value >= 0 ? dim->value : KILN_DYNAMIC;
        if (dim->value < 0 && dim->parameter != NULL && dim->parameter[0] != '\0') {
            binding->dim_names[i] = kln_arena_strdup(arena, dim->parameter);
            KLN_RETURN_IF_NO_MEMORY(binding->dim_names[i], strlen(dim->parameter) + 1,
                                    "the name of a dimension");
        }
    }
    return KILN_OK;
}

/* Describes the graph's inputs that `names` lists, in their order. */
static kiln_status describe_inputs(kln_arena *arena, const kln_onnx_graph *graph,
                                   const char *const *names, size_t count, kiln_binding **next)
{
    size_t found = 0;
    for (size_t i = 0; i < graph->input_count && found < count; i++) {
        if (strcmp(graph->inputs[i].name, names[found]) == 0) {
            KLN_RETURN_IF_ERROR(describe_value(arena, &graph->inputs[i], true, (*next)++));
            found++;
        }
    }
    return KILN_OK;
}

static kiln_status describe_optional(kln_arena *arena, const ref_engine *engine, kiln_binding *next)
{
    const ref_plan *plan = engine->plan;
    const size_t required = plan->input_count - plan->optional_count;
    return describe_inputs(arena, &engine->model->graph, plan->input_names + required,
                           plan->optional_count, &next);
}

static kiln_status describe_bindings(const ref_engine *engine, kiln_description *description)
{
    const kln_onnx_graph *graph = &engine->model->graph;
    kln_arena *arena = description->arena;
    KLN_ARENA_NEW(arena, description->bindings, graph->input_count + graph->output_count + 1,
                  "the list of bindings");
    kiln_binding *next = description->bindings;
    const ref_plan *plan = engine->plan;
    const size_t required = plan->input_count - plan->optional_count;
    KLN_RETURN_IF_ERROR(describe_inputs(arena, graph, plan->input_names, required, &next));
    for (size_t i = 0; i < graph->output_count; i++) {
        KLN_RETURN_IF_ERROR(describe_value(arena, &graph->outputs[i], false, next++));
    }
    description->input_count = required;
    description->output_count = graph->output_count;
    description->optional_count = plan->optional_count;
    return describe_optional(arena, engine, next);
}

static kiln_status describe_metadata(const ref_engine *engine, kiln_description *description)
{
    const kln_onnx_model *model = engine->model;
    KLN_RETURN_IF_ERROR(kln_model_metadata(model, description->arena, &description->metadata,
                                           &description->metadata_count));
    const char *opset =
        kln_arena_printf(description->arena, "%lld", (long long)kln_onnx_opset_version(model, ""));
    KLN_RETURN_IF_NO_MEMORY(opset, sizeof *description->metadata, "the metadata of a network");
    description->metadata[description->metadata_count++] = (kiln_metadata){"opset", opset};
    return KILN_OK;
}

static kiln_status describe(void *engine, kiln_description *description)
{
    KLN_RETURN_IF_ERROR(describe_bindings(engine, description));
    return describe_metadata(engine, description);
}

/* --- context --- */

static void context_destroy(void *opaque)
{
    ref_context *context = opaque;
    if (context == NULL) {
        return;
    }
    if (context->results != NULL) {
        for (size_t i = 0; i < context->engine->plan->output_count; i++) {
            ref_value_release(&context->memory, &context->results[i]);
        }
    }
    ref_text_release(context);
    ref_tables_finish(context);
    ref_times_finish(context);
    ref_memory_finish(&context->memory);
    kln_free(context->bound);
    kln_free(context->results);
    kln_free(context->direct);
    kln_free(context);
}

KLN_SCOPED_POINTER(ref_context, context_destroy)

static kiln_status context_create(void *engine, const kiln_context_options *options, void **out)
{
    const ref_plan *plan = ((const ref_engine *)engine)->plan;
    KLN_SCOPED(context_destroy_at) ref_context *context = kln_alloc_zeroed(1, sizeof *context);
    KLN_RETURN_IF_NO_MEMORY(context, sizeof *context, "a context");
    context->find = ref_kernel_find;
    context->engine = engine;
    context->work_limit = HUGE_VAL;
    atomic_init(&context->stopped, false);
    KLN_RETURN_IF_ERROR(ref_memory_init(&context->memory));
    context->memory.limit = options != NULL ? options->run_memory_bytes : 0;
    KLN_NEW(context->bound, plan->input_count + plan->output_count + 1, "a context");
    KLN_NEW(context->results, plan->output_count + 1, "a context");
    KLN_NEW(context->direct, plan->output_count + 1, "a context");
    *out = KLN_TAKE(context);
    return KILN_OK;
}

/* Internally, optional inputs directly follow the others, and outputs come last. */
static size_t place_of(const ref_plan *plan, size_t binding)
{
    const size_t required = plan->input_count - plan->optional_count;
    if (binding < required) {
        return binding;
    }
    return binding < required + plan->output_count ? binding + plan->optional_count
                                                   : binding - plan->output_count;
}

static kiln_status bind(void *opaque, size_t index, const kiln_tensor *tensor)
{
    ref_context *context = opaque;
    context->bound[place_of(context->engine->plan, index)] = *tensor;
    return KILN_OK;
}

static kiln_status output(void *opaque, size_t index, kiln_tensor *tensor)
{
    ref_context *context = opaque;
    const size_t place = place_of(context->engine->plan, index);
    const kiln_tensor *bound = &context->bound[place];
    const ref_value *value = &context->results[place - context->engine->plan->input_count];
    if (value->kind != REF_TENSOR) {
        *tensor = *bound;
        return KILN_OK;
    }
    *tensor = (kiln_tensor){.data = value->tensor.data};
    tensor->desc.dtype = value->tensor.dtype;
    tensor->desc.shape.rank = value->tensor.rank;
    memcpy(tensor->desc.shape.dims, value->tensor.dims,
           (size_t)value->tensor.rank * sizeof(int64_t));
    return kiln_tensor_bytes(tensor->desc.dtype, &tensor->desc.shape, &tensor->bytes);
}

static void stop(void *opaque, bool stop)
{
    ref_context *context = opaque;
    atomic_store_explicit(&context->stopped, stop, memory_order_relaxed);
}

static kiln_status probe(const char *library, kiln_backend_info *info)
{
    (void)library;
    info->available = true;
    info->score = 10;
    info->version = kiln_version_string();
    info->library = "";
    info->reason = "built in; exact rather than fast";
    info->capabilities =
        KILN_CAPABILITY_BUILD | KILN_CAPABILITY_RUN | KILN_CAPABILITY_DYNAMIC_SHAPES;
    return KILN_OK;
}

static bool supports(const char *domain, const char *name, int64_t opset, kiln_dtype dtype)
{
    const bool plain = domain[0] == '\0' || strcmp(domain, "ai.onnx") == 0;
    const ref_kernel *kernel = ref_kernel_find(plain ? "" : domain, name);
    (void)dtype;
    /* Constant has no kernel: plans contain its value. */
    if (plain && opset > REF_NEWEST_OPSET) {
        return false;
    }
    return kernel != NULL ? kernel->since <= opset : plain && strcmp(name, "Constant") == 0;
}

static bool holds(int32_t wire_dtype)
{
    return kln_onnx_dtype(wire_dtype) != KILN_DTYPE_UNDEFINED;
}

const kiln_backend kln_backend_reference = {
    .struct_size = sizeof(kiln_backend),
    .survives_fork = true,
    .name = "reference",
    .description = "ONNX operators in plain C, exact rather than fast",
    .probe = probe,
    .supports = supports,
    .holds = holds,
    .binds_strings = true,
    .dense_only = true,
    .takes_run_memory = true,
    .refit = &refit_operations,
    .engine = {.build = build,
               .serialize = serialize,
               .describe = describe,
               .destroy = engine_destroy},
    .context = {.create = context_create,
                .destroy = context_destroy,
                .bind = bind,
                .run = ref_run,
                .stop = stop,
                .output = output,
                .time_layers = ref_time_nodes,
                .layer_time = ref_node_time},
};
