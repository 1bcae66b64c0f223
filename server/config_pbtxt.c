/* SPDX-License-Identifier: Apache-2.0 */
#include "config_pbtxt.h"

#include <string.h>

/* --- what Triton's model_config.proto has --- */

#define ONE(type, member, kind_, name_)                                    \
    {                                                                      \
        .name = (name_), .kind = (kind_), .offset = offsetof(type, member) \
    }
#define OF(type, member, kind_, name_, values_)                                                 \
    {                                                                                           \
        .name = (name_), .kind = (kind_), .offset = offsetof(type, member), .values = (values_) \
    }
#define MANY(type, member, count, kind_, name_)                                               \
    {                                                                                         \
        .name = (name_), .kind = (kind_), .repeated = true, .offset = offsetof(type, member), \
        .count_offset = offsetof(type, count)                                                 \
    }
#define INSIDE(type, member, name_, message_)                                     \
    {                                                                             \
        .name = (name_), .kind = PBTXT_MESSAGE, .offset = offsetof(type, member), \
        .message = &(message_)                                                    \
    }
#define CHOICE(type, member, name_, message_)                                                  \
    {                                                                                          \
        .name = (name_), .kind = PBTXT_MESSAGE, .choice = 1, .offset = offsetof(type, member), \
        .message = &(message_)                                                                 \
    }
#define LIST(type, member, count, name_, message_)                               \
    {                                                                            \
        .name = (name_), .kind = PBTXT_MESSAGE, .repeated = true,                \
        .offset = offsetof(type, member), .count_offset = offsetof(type, count), \
        .message = &(message_)                                                   \
    }
#define DATA(type, member, kind_, name_)                                                \
    {                                                                                   \
        .name = (name_), .kind = (kind_), .choice = 1, .offset = offsetof(type, member) \
    }
#define IGNORED(name_)                         \
    {                                          \
        .name = (name_), .kind = PBTXT_IGNORED \
    }
#define MESSAGE(variable, name_, type, fields_)                          \
    static const pbtxt_message variable = {name_, sizeof(type), fields_, \
                                           sizeof(fields_) / sizeof(fields_[0])}

#define TYPE(name) {"TYPE_" #name, MODEL_TYPE_##name},
static const pbtxt_value type_values[] = {{"TYPE_INVALID", MODEL_TYPE_NONE},
                                          MODEL_TYPE_LIST(TYPE){NULL, 0}};
static const pbtxt_value format_values[] = {
    {"FORMAT_NONE", 0}, {"FORMAT_NHWC", 1}, {"FORMAT_NCHW", 2}, {NULL, 0}};
static const pbtxt_value kind_values[] = {{"KIND_AUTO", MODEL_KIND_AUTO},
                                          {"KIND_GPU", MODEL_KIND_GPU},
                                          {"KIND_CPU", MODEL_KIND_CPU},
                                          {"KIND_MODEL", MODEL_KIND_MODEL},
                                          {NULL, 0}};
static const pbtxt_value timeout_values[] = {
    {"REJECT", MODEL_TIMEOUT_REJECT}, {"DELAY", MODEL_TIMEOUT_DELAY}, {NULL, 0}};
static const pbtxt_value priority_values[] = {
    {"PRIORITY_DEFAULT", 0}, {"PRIORITY_MAX", 1}, {"PRIORITY_MIN", 2}, {NULL, 0}};

static const pbtxt_field reshape_fields[] = {
    MANY(model_config_reshape, shape, shape_count, PBTXT_INT64, "shape")};
MESSAGE(reshape_message, "reshape", model_config_reshape, reshape_fields);

#define TENSOR_FIELDS                                                             \
    ONE(model_config_tensor, name, PBTXT_TEXT, "name"),                           \
        OF(model_config_tensor, data_type, PBTXT_ENUM, "data_type", type_values), \
        MANY(model_config_tensor, dims, dim_count, PBTXT_INT64, "dims"),          \
        INSIDE(model_config_tensor, reshape, "reshape", reshape_message),         \
        ONE(model_config_tensor, is_shape_tensor, PBTXT_BOOL, "is_shape_tensor"), \
        IGNORED("is_non_linear_format_io")
static const pbtxt_field input_fields[] = {
    TENSOR_FIELDS,
    OF(model_config_tensor, format, PBTXT_ENUM, "format", format_values),
    ONE(model_config_tensor, allow_ragged_batch, PBTXT_BOOL, "allow_ragged_batch"),
    ONE(model_config_tensor, optional, PBTXT_BOOL, "optional"),
};
MESSAGE(input_message, "input", model_config_tensor, input_fields);
static const pbtxt_field output_fields[] = {
    TENSOR_FIELDS, ONE(model_config_tensor, label_filename, PBTXT_TEXT, "label_filename")};
MESSAGE(output_message, "output", model_config_tensor, output_fields);

static const pbtxt_field latest_fields[] = {
    ONE(model_config_latest, num_versions, PBTXT_UINT32, "num_versions")};
MESSAGE(latest_message, "latest", model_config_latest, latest_fields);
static const pbtxt_field specific_fields[] = {
    MANY(model_config_specific, versions, version_count, PBTXT_INT64, "versions")};
MESSAGE(specific_message, "specific", model_config_specific, specific_fields);
static const pbtxt_message all_message = {"all", sizeof(pbtxt_place), NULL, 0};
static const pbtxt_field versions_fields[] = {
    CHOICE(model_config_versions, latest, "latest", latest_message),
    CHOICE(model_config_versions, all, "all", all_message),
    CHOICE(model_config_versions, specific, "specific", specific_message),
};
MESSAGE(versions_message, "version_policy", model_config_versions, versions_fields);

static const pbtxt_field group_fields[] = {
    ONE(model_config_group, name, PBTXT_TEXT, "name"),
    OF(model_config_group, kind, PBTXT_ENUM, "kind", kind_values),
    ONE(model_config_group, count, PBTXT_INT32, "count"),
    MANY(model_config_group, gpus, gpu_count, PBTXT_INT32, "gpus"),
    MANY(model_config_group, profiles, profile_count, PBTXT_TEXT, "profile"),
    ONE(model_config_group, passive, PBTXT_BOOL, "passive"),
    ONE(model_config_group, host_policy, PBTXT_TEXT, "host_policy"),
    IGNORED("rate_limiter"),
    IGNORED("secondary_devices"),
};
MESSAGE(group_message, "instance_group", model_config_group, group_fields);

static const pbtxt_field queue_fields[] = {
    OF(model_config_queue, timeout_action, PBTXT_ENUM, "timeout_action", timeout_values),
    ONE(model_config_queue, default_timeout_microseconds, PBTXT_UINT64,
        "default_timeout_microseconds"),
    ONE(model_config_queue, allow_timeout_override, PBTXT_BOOL, "allow_timeout_override"),
    ONE(model_config_queue, max_queue_size, PBTXT_UINT32, "max_queue_size"),
};
MESSAGE(queue_message, "queue policy", model_config_queue, queue_fields);
static const pbtxt_field level_fields[] = {
    ONE(model_config_level, priority, PBTXT_UINT64, "key"),
    INSIDE(model_config_level, queue, "value", queue_message),
};
MESSAGE(level_message, "priority_queue_policy", model_config_level, level_fields);
static const pbtxt_field batching_fields[] = {
    MANY(model_config_batching, preferred_batch_size, preferred_count, PBTXT_INT32,
         "preferred_batch_size"),
    ONE(model_config_batching, max_queue_delay_microseconds, PBTXT_UINT64,
        "max_queue_delay_microseconds"),
    ONE(model_config_batching, preserve_ordering, PBTXT_BOOL, "preserve_ordering"),
    ONE(model_config_batching, priority_levels, PBTXT_UINT64, "priority_levels"),
    ONE(model_config_batching, default_priority_level, PBTXT_UINT64, "default_priority_level"),
    INSIDE(model_config_batching, default_queue_policy, "default_queue_policy", queue_message),
    LIST(model_config_batching, levels, level_count, "priority_queue_policy", level_message),
};
MESSAGE(batching_message, "dynamic_batching", model_config_batching, batching_fields);

static const pbtxt_field pair_fields[] = {ONE(model_config_pair, key, PBTXT_TEXT, "key"),
                                          ONE(model_config_pair, value, PBTXT_TEXT, "value")};
MESSAGE(pair_message, "parameters", model_config_pair, pair_fields);
static const pbtxt_field accelerator_fields[] = {
    ONE(model_config_accelerator, name, PBTXT_TEXT, "name"),
    LIST(model_config_accelerator, parameters, parameter_count, "parameters", pair_message),
};
MESSAGE(accelerator_message, "accelerator", model_config_accelerator, accelerator_fields);
static const pbtxt_field accelerators_fields[] = {
    LIST(model_config_accelerators, gpu, gpu_count, "gpu_execution_accelerator",
         accelerator_message),
    LIST(model_config_accelerators, cpu, cpu_count, "cpu_execution_accelerator",
         accelerator_message),
};
MESSAGE(accelerators_message, "execution_accelerators", model_config_accelerators,
        accelerators_fields);
static const pbtxt_field enable_fields[] = {ONE(model_config_switch, on, PBTXT_BOOL, "enable")};
MESSAGE(enable_message, "pinned memory", model_config_switch, enable_fields);
static const pbtxt_field cuda_fields[] = {ONE(model_config_switch, on, PBTXT_BOOL, "graphs"),
                                          IGNORED("busy_wait_events"), IGNORED("graph_spec"),
                                          IGNORED("output_copy_stream")};
MESSAGE(cuda_message, "cuda", model_config_switch, cuda_fields);
static const pbtxt_field graph_fields[] = {ONE(model_config_graph, level, PBTXT_INT32, "level")};
MESSAGE(graph_message, "graph", model_config_graph, graph_fields);
static const pbtxt_field optimization_fields[] = {
    INSIDE(model_config_optimization, graph, "graph", graph_message),
    OF(model_config_optimization, priority, PBTXT_ENUM, "priority", priority_values),
    INSIDE(model_config_optimization, cuda_graphs, "cuda", cuda_message),
    INSIDE(model_config_optimization, accelerators, "execution_accelerators", accelerators_message),
    INSIDE(model_config_optimization, input_pinned_memory, "input_pinned_memory", enable_message),
    INSIDE(model_config_optimization, output_pinned_memory, "output_pinned_memory", enable_message),
    ONE(model_config_optimization, eager_batching, PBTXT_BOOL, "eager_batching"),
    IGNORED("gather_kernel_buffer_threshold"),
};
MESSAGE(optimization_message, "optimization", model_config_optimization, optimization_fields);

static const pbtxt_field parameter_value_fields[] = {
    ONE(model_config_parameter_value, text, PBTXT_TEXT, "string_value")};
MESSAGE(parameter_value_message, "parameter", model_config_parameter_value, parameter_value_fields);
static const pbtxt_field parameter_fields[] = {
    ONE(model_config_parameter, key, PBTXT_TEXT, "key"),
    INSIDE(model_config_parameter, value, "value", parameter_value_message),
};
MESSAGE(parameter_message, "parameters", model_config_parameter, parameter_fields);

static const pbtxt_field decoupled_fields[] = {
    ONE(model_config_switch, on, PBTXT_BOOL, "decoupled")};
MESSAGE(decoupled_message, "model_transaction_policy", model_config_switch, decoupled_fields);

static const pbtxt_field warmup_tensor_fields[] = {
    OF(model_config_warmup_tensor, data_type, PBTXT_ENUM, "data_type", type_values),
    MANY(model_config_warmup_tensor, dims, dim_count, PBTXT_INT64, "dims"),
    DATA(model_config_warmup_tensor, zeros, PBTXT_BOOL, "zero_data"),
    DATA(model_config_warmup_tensor, random, PBTXT_BOOL, "random_data"),
    DATA(model_config_warmup_tensor, file, PBTXT_TEXT, "input_data_file"),
};
MESSAGE(warmup_tensor_message, "value", model_config_warmup_tensor, warmup_tensor_fields);
static const pbtxt_field warmup_input_fields[] = {
    ONE(model_config_warmup_input, name, PBTXT_TEXT, "key"),
    INSIDE(model_config_warmup_input, tensor, "value", warmup_tensor_message),
};
MESSAGE(warmup_input_message, "inputs", model_config_warmup_input, warmup_input_fields);
static const pbtxt_field warmup_fields[] = {
    ONE(model_config_warmup, name, PBTXT_TEXT, "name"),
    ONE(model_config_warmup, batch_size, PBTXT_UINT32, "batch_size"),
    LIST(model_config_warmup, inputs, input_count, "inputs", warmup_input_message),
    ONE(model_config_warmup, count, PBTXT_UINT32, "count"),
};
MESSAGE(warmup_message, "model_warmup", model_config_warmup, warmup_fields);

static const pbtxt_field config_fields[] = {
    ONE(model_config, name, PBTXT_TEXT, "name"),
    ONE(model_config, platform, PBTXT_TEXT, "platform"),
    ONE(model_config, backend, PBTXT_TEXT, "backend"),
    ONE(model_config, default_model_filename, PBTXT_TEXT, "default_model_filename"),
    ONE(model_config, max_batch_size, PBTXT_INT32, "max_batch_size"),
    LIST(model_config, inputs, input_count, "input", input_message),
    LIST(model_config, outputs, output_count, "output", output_message),
    INSIDE(model_config, versions, "version_policy", versions_message),
    CHOICE(model_config, batching, "dynamic_batching", batching_message),
    LIST(model_config, groups, group_count, "instance_group", group_message),
    INSIDE(model_config, optimization, "optimization", optimization_message),
    LIST(model_config, parameters, parameter_count, "parameters", parameter_message),
    INSIDE(model_config, transactions, "model_transaction_policy", decoupled_message),
    {.name = "sequence_batching", .kind = PBTXT_REFUSED, .choice = 1},
    {.name = "ensemble_scheduling", .kind = PBTXT_REFUSED, .choice = 1},
    {.name = "batch_input", .kind = PBTXT_REFUSED},
    {.name = "batch_output", .kind = PBTXT_REFUSED},
    IGNORED("runtime"),
    IGNORED("cc_model_filenames"),
    IGNORED("metric_tags"),
    LIST(model_config, warmups, warmup_count, "model_warmup", warmup_message),
    IGNORED("model_operations"),
    IGNORED("model_repository_agents"),
    IGNORED("response_cache"),
    IGNORED("model_metrics"),
};
MESSAGE(config_message, "the model's configuration", model_config, config_fields);

/* --- what must hold beside the format --- */

typedef struct checking {
    model_config *config;
    char *error;
} checking;

static bool check_shape(const checking *at, pbtxt_place place, const char *name,
                        const int64_t *dims, size_t count, int64_t *known, size_t *unknown)
{
    *known = 1;
    *unknown = 0;
    for (size_t i = 0; i < count; i++) {
        if (dims[i] != -1 && dims[i] < 1) {
            return pbtxt_fail(at->error, place,
                              "a dimension of \"%s\" is %lld; 1 and more are allowed, and -1 for "
                              "any",
                              name, (long long)dims[i]);
        }
        *unknown += dims[i] == -1;
        if (dims[i] > 1 && *known > INT64_MAX / dims[i]) {
            return pbtxt_fail(at->error, place, "\"%s\" has more elements than can be counted",
                              name);
        }
        *known *= dims[i] == -1 ? 1 : dims[i];
    }
    return true;
}

static bool check_tensor(const checking *at, const model_config_tensor *tensor, const char *what)
{
    int64_t known[2];
    size_t unknown[2];
    const model_config_reshape *reshape = tensor->reshape;
    if (tensor->name == NULL || tensor->name[0] == '\0') {
        return pbtxt_fail(at->error, tensor->place, "this %s has no name", what);
    }
    if (tensor->data_type == MODEL_TYPE_NONE) {
        return pbtxt_fail(at->error, tensor->place, "%s \"%s\" has no data_type", what,
                          tensor->name);
    }
    if (tensor->dim_count == 0) {
        return pbtxt_fail(at->error, tensor->place,
                          "%s \"%s\" has no dims; a model whose shape has none is given as "
                          "dims: [ 1 ] with reshape { shape: [ ] }",
                          what, tensor->name);
    }
    if (!check_shape(at, tensor->place, tensor->name, tensor->dims, tensor->dim_count, &known[0],
                     &unknown[0])) {
        return false;
    }
    if (reshape == NULL) {
        return true;
    }
    if (!check_shape(at, reshape->place, tensor->name, reshape->shape, reshape->shape_count,
                     &known[1], &unknown[1])) {
        return false;
    }
    if (known[0] != known[1] || unknown[0] != unknown[1]) {
        return pbtxt_fail(at->error, reshape->place,
                          "the reshape of \"%s\" has %lld elements%s, its dims %lld%s",
                          tensor->name, (long long)known[1], unknown[1] != 0 ? " of -1" : "",
                          (long long)known[0], unknown[0] != 0 ? " of -1" : "");
    }
    return true;
}

static bool check_tensors(const checking *at, const model_config_tensor *tensors, size_t count,
                          const char *what)
{
    for (size_t i = 0; i < count; i++) {
        if (!check_tensor(at, &tensors[i], what)) {
            return false;
        }
        for (size_t k = 0; k < i; k++) {
            if (strcmp(tensors[i].name, tensors[k].name) == 0) {
                return pbtxt_fail(at->error, tensors[i].place,
                                  "%s \"%s\" is given already in line %d", what, tensors[i].name,
                                  tensors[k].place.line);
            }
        }
    }
    return true;
}

static bool check_versions(const checking *at)
{
    const model_config_versions *versions = at->config->versions;
    if (versions == NULL) {
        return true;
    }
    if (versions->latest != NULL && versions->latest->num_versions < 1) {
        return pbtxt_fail(at->error, versions->latest->place,
                          "the latest 0 versions are asked for; 1 and more can be");
    }
    for (size_t i = 0; versions->specific != NULL && i < versions->specific->version_count; i++) {
        if (versions->specific->versions[i] < 1) {
            return pbtxt_fail(at->error, versions->specific->place,
                              "version %lld is asked for; they count from 1",
                              (long long)versions->specific->versions[i]);
        }
    }
    return versions->specific == NULL || versions->specific->version_count != 0 ||
           pbtxt_fail(at->error, versions->specific->place, "no versions are named");
}

static bool check_groups(const checking *at)
{
    for (size_t i = 0; i < at->config->group_count; i++) {
        const model_config_group *group = &at->config->groups[i];
        if (group->count < 0) {
            return pbtxt_fail(at->error, group->place, "the count of an instance_group is %d",
                              group->count);
        }
        if (group->gpu_count != 0 && group->kind == MODEL_KIND_CPU) {
            return pbtxt_fail(at->error, group->place,
                              "an instance_group of KIND_CPU names %zu GPUs", group->gpu_count);
        }
        for (size_t k = 0; k < group->gpu_count; k++) {
            if (group->gpus[k] < 0) {
                return pbtxt_fail(at->error, group->place, "GPU %d is asked for; they count from 0",
                                  group->gpus[k]);
            }
        }
    }
    return true;
}

static bool check_batching(const checking *at)
{
    const model_config_batching *batching = at->config->batching;
    if (batching == NULL) {
        return true;
    }
    for (size_t i = 0; i < batching->preferred_count; i++) {
        const int32_t size = batching->preferred_batch_size[i];
        if (size < 1 || size > at->config->max_batch_size) {
            return pbtxt_fail(at->error, batching->place,
                              "a preferred_batch_size is %d; 1 to %d (max_batch_size) are allowed",
                              size, at->config->max_batch_size);
        }
    }
    if (batching->priority_levels != 0 &&
        (batching->default_priority_level < 1 ||
         batching->default_priority_level > batching->priority_levels)) {
        return pbtxt_fail(at->error, batching->place,
                          "default_priority_level is %llu; 1 to %llu (priority_levels) are allowed",
                          (unsigned long long)batching->default_priority_level,
                          (unsigned long long)batching->priority_levels);
    }
    for (size_t i = 0; i < batching->level_count; i++) {
        const model_config_level *level = &batching->levels[i];
        if (level->priority < 1 || level->priority > batching->priority_levels) {
            return pbtxt_fail(at->error, level->place,
                              "a policy for priority %llu is given; there are 1 to %llu "
                              "(priority_levels)",
                              (unsigned long long)level->priority,
                              (unsigned long long)batching->priority_levels);
        }
    }
    return true;
}

/* The backend that a platform means. */
static bool settle_backend(const checking *at)
{
    static const struct {
        const char *platform, *backend;
    } known[] = {{"onnxruntime_onnx", "onnxruntime"}, {"tensorrt_plan", "tensorrt"}};
    model_config *config = at->config;
    for (size_t i = 0; config->platform != NULL && i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(config->platform, known[i].platform) != 0) {
            continue;
        }
        if (config->backend != NULL && config->backend[0] != '\0' &&
            strcmp(config->backend, known[i].backend) != 0) {
            return pbtxt_fail(at->error, config->place,
                              "platform is \"%s\", which is of backend \"%s\", and backend \"%s\"",
                              config->platform, known[i].backend, config->backend);
        }
        config->backend = known[i].backend;
        return true;
    }
    return config->platform == NULL || config->platform[0] == '\0' ||
           pbtxt_fail(at->error, config->place,
                      "platform is \"%s\"; known are onnxruntime_onnx and tensorrt_plan",
                      config->platform);
}

static bool check(const checking *at)
{
    const model_config *config = at->config;
    if (config->max_batch_size < 0) {
        return pbtxt_fail(at->error, config->place, "max_batch_size is %d; 0 and more are allowed",
                          config->max_batch_size);
    }
    return settle_backend(at) && check_tensors(at, config->inputs, config->input_count, "input") &&
           check_tensors(at, config->outputs, config->output_count, "output") &&
           check_versions(at) && check_groups(at) && check_batching(at);
}

bool model_config_read(const char *text, size_t size, model_config *config,
                       char error[PBTXT_ERROR_SIZE])
{
    const checking at = {config, error};
    *config = (model_config){.place = {1, 1}};
    return pbtxt_read(text, size, &config_message, config, &config->memory, error) && check(&at);
}

void model_config_finish(model_config *config)
{
    pbtxt_finish(&config->memory);
    *config = (model_config){.place = {1, 1}};
}

const char *model_config_parameter_of(const model_config *config, const char *key)
{
    for (size_t i = config->parameter_count; i-- > 0;) {
        const model_config_parameter *parameter = &config->parameters[i];
        if (parameter->key != NULL && strcmp(parameter->key, key) == 0) {
            return parameter->value != NULL && parameter->value->text != NULL
                       ? parameter->value->text
                       : "";
        }
    }
    return NULL;
}

const char *model_config_type_name(int32_t type)
{
    for (const pbtxt_value *value = type_values + 1; value->name != NULL; value++) {
        if (value->value == type) {
            return type == MODEL_TYPE_STRING ? "BYTES" : value->name + strlen("TYPE_");
        }
    }
    return "";
}
