/* SPDX-License-Identifier: Apache-2.0 */
/* The requests in model_warmup, which a model runs before it is ready. */
#include <stdlib.h>
#include <string.h>

#include "serve_config.h"
#include "serve_data.h"

#define MEASURING 1000 /* milliseconds, to choose a variant of a sample's graphs on a GPU */

typedef struct sample {
    const model_config_warmup *given;
    const serve_model *model;
    serve_instance *instance;
    serve_problem *problem;
    kiln_named_tensor *tensors; /* of the model's inputs; the sample owns their data */
} sample;

static const model_config_warmup_tensor *tensor_of(const sample *self, const char *name)
{
    for (size_t i = 0; i < self->given->input_count; i++) {
        const model_config_warmup_input *input = &self->given->inputs[i];
        if (input->name != NULL && strcmp(input->name, name) == 0) {
            return input->tensor;
        }
    }
    return NULL;
}

static bool refuse(const sample *self, const char *input, const char *what)
{
    return serve_refuse(self->problem, 400,
                        SERVE_CONFIG_FILE ", line %d: the warmup \"%.100s\": input \"%.200s\" %s",
                        self->given->place.line, self->given->name != NULL ? self->given->name : "",
                        input, what);
}

/* Rows come before the dims if the configuration has a batch. */
static bool take_shape(const sample *self, const serve_binding *binding,
                       const model_config_warmup_tensor *tensor, kiln_shape *shape)
{
    const bool batched = self->instance->row_limit > 0;
    const uint32_t rows = self->given->batch_size > 0 ? self->given->batch_size : 1;
    if (tensor == NULL) {
        return refuse(self, binding->name, "is missing");
    }
    if (strcmp(model_config_type_name(tensor->data_type), serve_type_name(binding->dtype)) != 0) {
        return refuse(self, binding->name, "has another type than in the model");
    }
    if (tensor->dim_count + batched > KILN_MAX_RANK || (!batched && rows > 1)) {
        return refuse(self, binding->name,
                      batched ? "has too many dims" : "has rows, but max_batch_size is 0");
    }
    if (batched && rows > self->instance->row_limit) {
        return refuse(self, binding->name, "has more rows than max_batch_size");
    }
    *shape = (kiln_shape){.rank = (int32_t)tensor->dim_count + batched};
    shape->dims[0] = rows;
    for (size_t d = 0; d < tensor->dim_count; d++) {
        shape->dims[d + batched] = tensor->dims[d];
    }
    return kiln_shape_is_static(shape) || refuse(self, binding->name, "has a dim of -1");
}

/* Floats from 1/2 to 1, and integers 0 and 1, which no model takes for an index out of range;
 * strings of digits. */
static bool fill_randomly(const sample *self, const char *name, const kiln_tensor *tensor)
{
    const kiln_dtype dtype = tensor->desc.dtype;
    const bool is_real = dtype == KILN_DTYPE_FLOAT64 || dtype == KILN_DTYPE_FLOAT32 ||
                         dtype == KILN_DTYPE_FLOAT16 || dtype == KILN_DTYPE_BFLOAT16;
    const double range[2] = {is_real ? 0.5 : 0, 1};
    return kiln_tensor_fill(tensor, name, 0, dtype == KILN_DTYPE_STRING ? NULL : range) ==
               KILN_OK ||
           serve_refuse_status(self->problem, KILN_ERROR_DTYPE, kiln_error_message());
}

/* Repeats the file's row for all rows. */
static bool read_rows(const sample *self, const char *name,
                      const model_config_warmup_tensor *tensor, kiln_tensor *into)
{
    const size_t rows = self->given->batch_size > 0 ? self->given->batch_size : 1;
    const size_t row = into->bytes / rows;
    size_t size = 0;
    bool lost = false;
    SCOPED(serve_text_finish) serve_text place = {.data = NULL};
    serve_text_printf(&place, "warmup/%s", tensor->file);
    SCOPED_HEAP char *path = place.failed
                                 ? NULL
                                 : serve_file_beside(self->instance->server, self->model->root,
                                                     self->model->place, place.data, &lost);
    SCOPED_HEAP char *text = serve_file_read(path, place.failed ? tensor->file : place.data,
                                             row + 1, &size, self->problem);
    if (lost || place.failed) {
        return serve_no_memory(self->problem);
    }
    if (text != NULL && size != row) {
        return refuse(self, name, "has a file of another size than its dims");
    }
    for (size_t i = 0; text != NULL && i < rows; i++) {
        memcpy((char *)into->data + i * row, text, row);
    }
    return text != NULL;
}

static bool make_tensor(const sample *self, const serve_binding *binding, kiln_named_tensor *made)
{
    const model_config_warmup_tensor *given = tensor_of(self, binding->name);
    kiln_tensor *tensor = &made->tensor;
    made->name = binding->name;
    tensor->desc.dtype = binding->dtype;
    if (!take_shape(self, binding, given, &tensor->desc.shape)) {
        return false;
    }
    if (!given->zeros && !given->random && given->file == NULL) {
        return refuse(self, binding->name,
                      "has no data: zero_data, random_data and input_data_file are possible");
    }
    if (given->file != NULL && binding->dtype == KILN_DTYPE_STRING) {
        return refuse(self, binding->name,
                      "is of strings, which no file is read for: zero_data and random_data are "
                      "possible");
    }
    if (kiln_tensor_bytes(binding->dtype, &tensor->desc.shape, &tensor->bytes) != KILN_OK ||
        tensor->bytes > SIZE_MAX - 64) {
        return refuse(self, binding->name, "is too large");
    }
    tensor->data = aligned_alloc(64, (tensor->bytes + 64) & ~(size_t)63);
    if (tensor->data == NULL) {
        return serve_no_memory(self->problem);
    }
    memset(tensor->data, 0, tensor->bytes);
    if (given->random && !fill_randomly(self, binding->name, tensor)) {
        return false;
    }
    return given->file == NULL || read_rows(self, binding->name, given, tensor);
}

/* Runs on every context and in every batch size, as often as asked for; none of it is counted. */
static bool run(const sample *self)
{
    const serve_instance *instance = self->instance;
    const uint32_t count = self->given->count > 0 ? self->given->count : 1;
    kiln_status status = KILN_OK;
    for (uint32_t i = 0; i < count && status == KILN_OK; i++) {
        status = kiln_scheduler_warmup(instance->scheduler, self->tensors, instance->input_count,
                                       i == 0 ? MEASURING : 1);
    }
    return status == KILN_OK ||
           serve_refuse(self->problem, 400,
                        SERVE_CONFIG_FILE ", line %d: the warmup \"%.100s\" failed: %.400s",
                        self->given->place.line, self->given->name != NULL ? self->given->name : "",
                        kiln_error_message());
}

/* Checks that each input is one of the model's. */
static bool check_names(const sample *self)
{
    const serve_instance *instance = self->instance;
    for (size_t i = 0; i < self->given->input_count; i++) {
        const char *name = self->given->inputs[i].name;
        size_t k = 0;
        while (k < instance->input_count && name != NULL &&
               strcmp(instance->inputs[k].name, name) != 0) {
            k++;
        }
        if (name == NULL || k == instance->input_count) {
            return refuse(self, name != NULL ? name : "", "is none of the model's");
        }
    }
    return true;
}

static bool warm_up(sample *self)
{
    const size_t count = self->instance->input_count;
    if (!check_names(self)) {
        return false;
    }
    self->tensors = calloc(count + 1, sizeof *self->tensors);
    if (self->tensors == NULL) {
        return serve_no_memory(self->problem);
    }
    bool made = true;
    for (size_t i = 0; made && i < count; i++) {
        made = make_tensor(self, &self->instance->inputs[i], &self->tensors[i]);
    }
    made = made && run(self);
    for (size_t i = 0; i < count; i++) {
        free(self->tensors[i].tensor.data);
    }
    free(self->tensors);
    return made;
}

bool serve_warmup(const serve_config *config, const serve_model *model, serve_instance *instance,
                  serve_problem *problem)
{
    bool warm = true;
    for (size_t i = 0; warm && config->given && i < config->model.warmup_count; i++) {
        sample self = {&config->model.warmups[i], model, instance, problem, NULL};
        warm = warm_up(&self);
    }
    return warm;
}
