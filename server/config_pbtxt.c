/* SPDX-License-Identifier: Apache-2.0 */
#include "config_pbtxt.h"

#include <string.h>

/* --- the messages of Triton's model_config.proto --- */

#define TYPE(name) {"TYPE_" #name, MODEL_TYPE_##name},
static const pbtxt_value data_type_values[] = {{"TYPE_INVALID", MODEL_TYPE_NONE},
                                               MODEL_TYPE_LIST(TYPE){NULL, 0}};
static const pbtxt_value format_values[] = {
    {"FORMAT_NONE", 0}, {"FORMAT_NHWC", 1}, {"FORMAT_NCHW", 2}, {NULL, 0}};
static const pbtxt_value kind_values[] = {{"KIND_AUTO", MODEL_KIND_AUTO},
                                          {"KIND_GPU", MODEL_KIND_GPU},
                                          {"KIND_CPU", MODEL_KIND_CPU},
                                          {"KIND_MODEL", MODEL_KIND_MODEL},
                                          {NULL, 0}};
static const pbtxt_value timeout_action_values[] = {
    {"REJECT", MODEL_TIMEOUT_REJECT}, {"DELAY", MODEL_TIMEOUT_DELAY}, {NULL, 0}};
static const pbtxt_value priority_values[] = {
    {"PRIORITY_DEFAULT", 0}, {"PRIORITY_MAX", 1}, {"PRIORITY_MIN", 2}, {NULL, 0}};

#define AT(tag, member) .offset = offsetof(model_config_##tag, member)
#define BEGIN(tag) static const pbtxt_field tag##_fields[] = {
#define END(tag, words)                                                                          \
    }                                                                                            \
    ;                                                                                            \
    static const pbtxt_message tag##_message = {words, sizeof(model_config_##tag), tag##_fields, \
                                                sizeof tag##_fields / sizeof tag##_fields[0]};
#define ONE(tag, kind_, member, name_) {.name = name_, .kind = PBTXT_##kind_, AT(tag, member)},
#define CHOSEN(tag, kind_, member, name_) \
    {.name = name_, .kind = PBTXT_##kind_, .choice = 1, AT(tag, member)},
#define NUMBERED(tag, member, name_) \
    {.name = name_, .kind = PBTXT_ENUM, AT(tag, member), .values = member##_values},
#define REPEATED(tag, members, count) \
    .repeated = true, AT(tag, members), .count_offset = offsetof(model_config_##tag, count)
#define MANY(tag, kind_, members, count, name_) \
    {.name = name_, .kind = PBTXT_##kind_, REPEATED(tag, members, count)},
#define MESSAGE(tag, other, member, name_, choice_) \
    {.name = name_,                                 \
     .kind = PBTXT_MESSAGE,                         \
     .choice = choice_,                             \
     AT(tag, member),                               \
     .message = &other##_message},
#define INSIDE(tag, other, member, name_) MESSAGE(tag, other, member, name_, 0)
#define CHOICE(tag, other, member, name_) MESSAGE(tag, other, member, name_, 1)
#define LIST(tag, other, members, count, name_) \
    {.name = name_,                             \
     .kind = PBTXT_MESSAGE,                     \
     REPEATED(tag, members, count),             \
     .message = &other##_message},
#define IGNORED(name_) {.name = name_, .kind = PBTXT_IGNORED},
#define REFUSED(choice_, name_) {.name = name_, .kind = PBTXT_REFUSED, .choice = choice_},
#define MEMORY

static const pbtxt_message input_message;
static const pbtxt_message output_message;
static const pbtxt_message all_message = {"all", sizeof(pbtxt_place), NULL, 0};
#include "config_pbtxt.inc"

/* clang-format off */
#define TENSOR_ROWS(tag)                                \
    ONE(tag, TEXT, name, "name")                        \
    NUMBERED(tag, data_type, "data_type")               \
    MANY(tag, INT64, dims, dim_count, "dims")           \
    INSIDE(tag, reshape, reshape, "reshape")            \
    ONE(tag, BOOL, is_shape_tensor, "is_shape_tensor")  \
    IGNORED("is_non_linear_format_io")
BEGIN(input)
TENSOR_ROWS(input)
NUMBERED(input, format, "format")
ONE(input, BOOL, allow_ragged_batch, "allow_ragged_batch")
ONE(input, BOOL, optional, "optional")
END(input, "input")
BEGIN(output)
TENSOR_ROWS(output)
ONE(output, TEXT, label_filename, "label_filename")
END(output, "output")
/* clang-format on */

/* --- rules beyond the format --- */

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

/* Derives the backend from the platform. */
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
    return pbtxt_read(text, size, &file_message, config, &config->memory, error) && check(&at);
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
    for (const pbtxt_value *value = data_type_values + 1; value->name != NULL; value++) {
        if (value->value == type) {
            return type == MODEL_TYPE_STRING ? "BYTES" : value->name + strlen("TYPE_");
        }
    }
    return "";
}
