/* SPDX-License-Identifier: Apache-2.0 */
#include "serve_config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "serve_data.h"

#define MOST_THREADS 1024
#define MOST_LABELS ((size_t)8 << 20) /* bytes of a label file */

/* --- files --- */

/* Whether something has that name, in which case it is an error and not ignored. */
static bool is_there(const char *folder)
{
    struct stat found;
    SCOPED(serve_text_finish) serve_text path = {.data = NULL};
    serve_text_printf(&path, "%s/" SERVE_CONFIG_FILE, folder);
    return !path.failed && lstat(path.data, &found) == 0;
}

bool serve_config_read(serve *server, const char *root, const char *folder, serve_config *config,
                       serve_problem *problem)
{
    char error[PBTXT_ERROR_SIZE];
    size_t size = 0;
    *config = (serve_config){.given = false};
    bool lost = false;
    SCOPED_HEAP char *path =
        root != NULL ? serve_file_beside(server, root, folder, SERVE_CONFIG_FILE, &lost) : NULL;
    if (path == NULL) {
        return lost ? serve_no_memory(problem)
                    : root == NULL || !is_there(folder) ||
                          serve_refuse(problem, 400,
                                       SERVE_CONFIG_FILE " is no file of the repository");
    }
    SCOPED_HEAP char *text =
        serve_file_read(path, SERVE_CONFIG_FILE, PBTXT_MOST_BYTES, &size, problem);
    if (text == NULL) {
        return false;
    }
    const bool read = model_config_read(text, size, &config->model, error);
    config->given = true;
    if (!read) {
        (void)serve_refuse(problem, config->model.memory.is_short ? 503 : 400,
                           SERVE_CONFIG_FILE ", %s", error);
        serve_config_finish(config);
    }
    return read;
}

void serve_config_finish(serve_config *config)
{
    if (config->given) {
        model_config_finish(&config->model);
    }
    config->given = false;
}

/* --- versions --- */

bool serve_config_serves(const serve_config *config, const int64_t *versions, size_t index)
{
    const model_config_versions *policy = config->given ? config->model.versions : NULL;
    if (policy != NULL && policy->all != NULL) {
        return true;
    }
    if (policy != NULL && policy->specific != NULL) {
        for (size_t i = 0; i < policy->specific->version_count; i++) {
            if (policy->specific->versions[i] == versions[index]) {
                return true;
            }
        }
        return false;
    }
    const uint32_t latest =
        policy != NULL && policy->latest != NULL ? policy->latest->num_versions : 1;
    return index < (latest == 0 ? 1 : latest);
}

bool serve_config_tell(const serve_config *config, serve_instance *instance, serve_problem *problem)
{
    const model_config_versions *policy = config->given ? config->model.versions : NULL;
    const model_config_specific *specific = policy != NULL ? policy->specific : NULL;
    serve_text *text = &instance->version_policy;
    if (policy != NULL && policy->all != NULL) {
        serve_text_string(text, "{\"all\":{}}");
    } else if (specific != NULL) {
        for (size_t i = 0; i < specific->version_count; i++) {
            serve_text_printf(text, "%s%lld", i > 0 ? "," : "{\"specific\":{\"versions\":[",
                              (long long)specific->versions[i]);
        }
        serve_text_string(text, specific->version_count > 0 ? "]}}" : "{\"specific\":{}}");
    } else {
        const uint32_t latest =
            policy != NULL && policy->latest != NULL ? policy->latest->num_versions : 1;
        serve_text_printf(text, "{\"latest\":{\"num_versions\":%u}}", latest == 0 ? 1 : latest);
    }
    instance->decoupled =
        config->given && config->model.transactions != NULL && config->model.transactions->on;
    return !text->failed || serve_no_memory(problem);
}

/* --- engines and schedulers --- */

static bool take_group(const model_config_group *group, serve_tuning *tuning,
                       serve_problem *problem)
{
    const int32_t count = group->count > 0 ? group->count : 1;
    tuning->contexts = count > tuning->contexts ? count : tuning->contexts;
    if (group->kind == MODEL_KIND_GPU && kiln_device_count() == 0) {
        return serve_refuse(problem, 400,
                            SERVE_CONFIG_FILE
                            ", line %d: an instance_group wants a GPU, and none is here",
                            group->place.line);
    }
    if (group->kind == MODEL_KIND_CPU) {
        tuning->provider = KILN_PROVIDER_CPU;
    }
    for (size_t i = 0; i < group->gpu_count; i++) {
        if (tuning->device_count == SERVE_DEVICES) {
            return serve_refuse(problem, 400, SERVE_CONFIG_FILE " names more than %d GPUs",
                                SERVE_DEVICES);
        }
        tuning->devices[tuning->device_count++] = group->gpus[i];
    }
    return true;
}

static void take_batching(const model_config *model, serve_tuning *tuning)
{
    const model_config_batching *batching = model->batching;
    if (batching == NULL || model->max_batch_size < 1) {
        return;
    }
    tuning->joins = true;
    tuning->max_batch = model->max_batch_size;
    tuning->delay = batching->max_queue_delay_microseconds * 1000;
    if (batching->default_queue_policy != NULL) {
        tuning->queue_limit = batching->default_queue_policy->max_queue_size;
    }
}

/* Reads a number or boolean of "parameters", as Triton's backends have their own. */
static bool take_parameter(const model_config *model, const char *key, int64_t most, int64_t *value,
                           serve_problem *problem)
{
    const char *text = model_config_parameter_of(model, key);
    char *end = NULL;
    if (text == NULL) {
        return true;
    }
    const bool is_true = strcmp(text, "true") == 0;
    errno = 0;
    *value = is_true || strcmp(text, "false") == 0 ? is_true : strtoll(text, &end, 10);
    return ((end == NULL || (end != text && *end == '\0' && errno == 0)) && *value >= 0 &&
            *value <= most) ||
           serve_refuse(problem, 400, SERVE_CONFIG_FILE ": the parameter \"%s\" is \"%.60s\"; %s",
                        key, text,
                        most == 1 ? "true and false are possible" : "a number is needed");
}

static bool take_language(const model_config *model, serve_tuning *tuning, serve_problem *problem)
{
    const bool decoupled = model->transactions != NULL && model->transactions->on;
    int64_t generate = decoupled ? 1 : -1;
    int64_t relative = 0;
    if (!take_parameter(model, "generate", 1, &generate, problem) ||
        !take_parameter(model, "max_length", INT32_MAX, &tuning->max_length, problem) ||
        !take_parameter(model, "vocabulary", INT32_MAX, &tuning->vocabulary, problem) ||
        !take_parameter(model, "relative", 1, &relative, problem)) {
        return false;
    }
    tuning->generate = generate < 0 ? SERVE_MAYBE : generate == 0 ? SERVE_NO : SERVE_YES;
    tuning->relative = relative == 1;
    return !decoupled || generate == 1 ||
           serve_refuse(problem, 400,
                        SERVE_CONFIG_FILE
                        " has a decoupled model that is not to generate: only "
                        "texts have several answers to a request");
}

bool serve_config_tune(const serve_config *config, const char *name, serve_tuning *tuning,
                       serve_problem *problem)
{
    const model_config *model = &config->model;
    *tuning = (serve_tuning){.given = config->given, .graphs = -1};
    if (!config->given) {
        return true;
    }
    if (model->name != NULL && strcmp(model->name, name) != 0) {
        return serve_refuse(problem, 400,
                            SERVE_CONFIG_FILE " names the model \"%.200s\", its folder \"%.200s\"",
                            model->name, name);
    }
    if (model->backend != NULL && strcmp(model->backend, "onnxruntime") != 0 &&
        strcmp(model->backend, "tensorrt") != 0) {
        return serve_refuse(problem, 400,
                            SERVE_CONFIG_FILE
                            " asks for the backend \"%.80s\"; onnxruntime and tensorrt are served",
                            model->backend);
    }
    tuning->backend = model->backend;
    take_batching(model, tuning);
    for (size_t i = 0; i < model->group_count; i++) {
        if (!take_group(&model->groups[i], tuning, problem)) {
            return false;
        }
    }
    if (model->optimization != NULL && model->optimization->cuda_graphs != NULL) {
        tuning->graphs =
            model->optimization->cuda_graphs->on ? KILN_GRAPH_AUTOMATIC : KILN_GRAPH_OFF;
    }
    return take_parameter(model, "intra_op_thread_count", MOST_THREADS, &tuning->threads,
                          problem) &&
           take_language(model, tuning, problem);
}

static void say_left_alone(const serve_instance *instance, const char *what)
{
    serve_say(instance->server, "%s, " SERVE_CONFIG_FILE ": %s is not acted on", instance->name,
              what);
}

/* Reports settings that differ from their defaults and have no effect here. */
static void tell_left_alone(const model_config *model, const serve_instance *instance)
{
    static const model_config_batching no_batching;
    static const model_config_queue no_queue;
    static const model_config_optimization no_optimization;
    static const model_config_accelerators no_accelerators;
    static const model_config_graph no_graph;
    const model_config_batching *batching =
        model->batching != NULL ? model->batching : &no_batching;
    const model_config_queue *queue =
        batching->default_queue_policy != NULL ? batching->default_queue_policy : &no_queue;
    const model_config_optimization *optimization =
        model->optimization != NULL ? model->optimization : &no_optimization;
    const model_config_accelerators *accelerators =
        optimization->accelerators != NULL ? optimization->accelerators : &no_accelerators;
    const model_config_graph *graph = optimization->graph != NULL ? optimization->graph : &no_graph;
    const struct {
        bool asked;
        const char *name;
    } rows[] = {{batching->preferred_count != 0, "preferred_batch_size"},
                {batching->preserve_ordering, "preserve_ordering"},
                {batching->level_count != 0, "priority_queue_policy"},
                {queue->timeout_action == MODEL_TIMEOUT_DELAY, "timeout_action: DELAY"},
                {graph->level != 0, "graph { level }"},
                {optimization->priority != 0, "the priority of optimization"},
                {optimization->eager_batching, "eager_batching"},
                {accelerators->gpu_count + accelerators->cpu_count != 0, "execution_accelerators"}};
    for (size_t i = 0; i < SERVE_LENGTH(rows); i++) {
        if (rows[i].asked) {
            say_left_alone(instance, rows[i].name);
        }
    }
    for (size_t i = 0; i < model->group_count; i++) {
        const model_config_group *group = &model->groups[i];
        if (group->passive || group->profile_count != 0 ||
            (group->host_policy != NULL && group->host_policy[0] != '\0')) {
            say_left_alone(instance, "passive, profile or host_policy of an instance_group");
        }
    }
    for (size_t i = 0; i < model->input_count; i++) {
        if (model->inputs[i].optional) {
            say_left_alone(instance, "an input's optional: a request brings each input; that");
        }
    }
    for (size_t i = 0; i < model->memory.warning_count; i++) {
        serve_say(instance->server, "%s, " SERVE_CONFIG_FILE ", %s", instance->name,
                  model->memory.warnings[i]);
    }
}

/* --- inputs and outputs --- */

/* A request's dimensions: rows before those in the configuration, if there is a batch. */
static bool take_shape(const model_config_tensor *tensor, bool batched, serve_binding *binding)
{
    const int32_t rank = (int32_t)tensor->dim_count + (batched ? 1 : 0);
    bool fits = tensor->dim_count < KILN_MAX_RANK &&
                (binding->shape.rank < 0 || binding->shape.rank == rank);
    kiln_shape shape = {.rank = rank};
    for (int32_t d = 0; fits && d < rank; d++) {
        const int64_t own = binding->shape.rank < 0 ? KILN_DYNAMIC : binding->shape.dims[d];
        const int64_t said = !batched ? tensor->dims[d] : d == 0 ? -1 : tensor->dims[d - 1];
        fits = own < 0 || said < 0 || own == said;
        shape.dims[d] = said < 0 ? own : said;
    }
    binding->shape = fits ? shape : binding->shape;
    return fits;
}

static serve_binding *find(serve_binding *bindings, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(bindings[i].name, name) == 0) {
            return &bindings[i];
        }
    }
    return NULL;
}

static bool take_tensor(const model_config_tensor *tensor, const char *what, bool batched,
                        serve_binding *bindings, size_t count, serve_problem *problem)
{
    char shape[256];
    const char *name = tensor->name != NULL ? tensor->name : "";
    serve_binding *binding = find(bindings, count, name);
    if (binding == NULL) {
        return serve_refuse(problem, 400,
                            SERVE_CONFIG_FILE ", line %d: the model has no %s \"%.200s\"",
                            tensor->place.line, what, name);
    }
    const char *type = model_config_type_name(tensor->data_type);
    if (tensor->data_type != MODEL_TYPE_NONE &&
        strcmp(type, serve_type_name(binding->dtype)) != 0) {
        return serve_refuse(problem, 400,
                            SERVE_CONFIG_FILE
                            ", line %d: %s \"%.200s\" is %s there, and %s in the "
                            "model",
                            tensor->place.line, what, name, type, serve_type_name(binding->dtype));
    }
    if (tensor->allow_ragged_batch) {
        return serve_refuse(problem, 400,
                            SERVE_CONFIG_FILE
                            ", line %d: %s \"%.200s\" allows ragged batches, which are not offered",
                            tensor->place.line, what, name);
    }
    if (tensor->reshape != NULL) {
        return serve_refuse(problem, 400,
                            SERVE_CONFIG_FILE
                            ", line %d: %s \"%.200s\" has a reshape, which is not offered",
                            tensor->reshape->place.line, what, name);
    }
    if (!take_shape(tensor, batched, binding)) {
        (void)kiln_shape_format(&binding->shape, shape, sizeof shape);
        return serve_refuse(
            problem, 400,
            SERVE_CONFIG_FILE ", line %d: the dims of %s \"%.200s\"%s do not fit the model's %s",
            tensor->place.line, what, name, batched ? ", behind the batch," : "", shape);
    }
    return true;
}

/* Reads the lines of the file that an output names. */
static bool read_labels(const char *path, const char *name, serve_labels *labels,
                        serve_problem *problem)
{
    size_t size = 0;
    size_t lines = 1;
    labels->text = serve_file_read(path, name, MOST_LABELS, &size, problem);
    if (labels->text == NULL) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        lines += labels->text[i] == '\n';
    }
    labels->items = calloc(lines, sizeof *labels->items);
    if (labels->items == NULL) {
        return serve_no_memory(problem);
    }
    char *rest = NULL;
    for (char *at = strtok_r(labels->text, "\r\n", &rest); at != NULL;
         at = strtok_r(NULL, "\r\n", &rest)) {
        labels->items[labels->count++] = at;
    }
    return true;
}

static bool take_labels(const model_config_tensor *tensor, const serve_model *model,
                        serve_instance *instance, serve_problem *problem)
{
    const serve_binding *binding = find(instance->outputs, instance->output_count, tensor->name);
    if (tensor->label_filename == NULL || binding == NULL) {
        return true;
    }
    if (instance->labels == NULL) {
        instance->labels = calloc(instance->output_count, sizeof *instance->labels);
    }
    bool lost = false;
    SCOPED_HEAP char *path = serve_file_beside(instance->server, model->root, model->place,
                                               tensor->label_filename, &lost);
    if (instance->labels == NULL || lost) {
        return serve_no_memory(problem);
    }
    return read_labels(path, tensor->label_filename, &instance->labels[binding - instance->outputs],
                       problem);
}

bool serve_config_apply(const serve_config *config, const serve_model *model,
                        serve_instance *instance, serve_problem *problem)
{
    const model_config *found = &config->model;
    const bool batched = config->given && found->max_batch_size > 0;
    if (!config->given) {
        return true;
    }
    for (size_t i = 0; i < found->input_count; i++) {
        if (!take_tensor(&found->inputs[i], "input", batched, instance->inputs,
                         instance->input_count, problem)) {
            return false;
        }
    }
    for (size_t i = 0; i < found->output_count; i++) {
        if (!take_tensor(&found->outputs[i], "output", batched, instance->outputs,
                         instance->output_count, problem) ||
            !take_labels(&found->outputs[i], model, instance, problem)) {
            return false;
        }
    }
    instance->row_limit = found->max_batch_size;
    const model_config_queue *queue =
        found->batching != NULL ? found->batching->default_queue_policy : NULL;
    if (queue != NULL && queue->timeout_action == MODEL_TIMEOUT_REJECT) {
        instance->timeout = queue->default_timeout_microseconds;
        instance->keeps_timeout = !queue->allow_timeout_override;
    }
    tell_left_alone(found, instance);
    return true;
}
