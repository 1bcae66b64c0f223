/* SPDX-License-Identifier: Apache-2.0 */
/* Kiln for scripts that compare it with others in one process: a few functions over plain structs
 * of their own, so that Python's ctypes need not know Kiln's.
 *
 * Every function that can fail returns 0 or a kiln_status; feed_error() has the sentence. */
#include <stdlib.h>
#include <string.h>

#include <kiln/kiln.h>

#define FEED __attribute__((visibility("default")))

/* Bytes that somebody else owns, and what they are. */
typedef struct feed_tensor {
    const char *name;
    int32_t dtype; /* kiln_dtype */
    int32_t rank;
    int64_t dims[KILN_MAX_RANK];
    void *data;
    uint64_t bytes;
} feed_tensor;

/* One input of the one profile: its shapes, or with `value_count` its values. */
typedef struct feed_range {
    const char *name;
    int32_t rank;
    int64_t min[KILN_MAX_RANK], opt[KILN_MAX_RANK], max[KILN_MAX_RANK];
    const int64_t *values;
    uint64_t value_count;
} feed_range;

FEED const char *feed_error(void);
FEED int32_t feed_dtype(const char *name);
FEED int feed_build(const char *backend, const char *library, const char *model,
                    const feed_range *ranges, uint64_t count, int tf32, int level,
                    kiln_engine **engine);
FEED int feed_load(const char *backend, const char *library, const char *plan,
                   kiln_engine **engine);
FEED int feed_save(const kiln_engine *engine, const char *path);
FEED void feed_release(kiln_engine *engine);
FEED uint64_t feed_count(const kiln_engine *engine, int is_input);
FEED int feed_binding(const kiln_engine *engine, int is_input, uint64_t index, feed_tensor *tensor);
FEED int feed_context(kiln_engine *engine, kiln_context **context);
FEED void feed_end(kiln_context *context);
FEED int feed_bind(kiln_context *context, const feed_tensor *tensor);
FEED int feed_run(kiln_context *context);
FEED int feed_output(kiln_context *context, const char *name, feed_tensor *tensor);

const char *feed_error(void)
{
    return kiln_error_message();
}

int32_t feed_dtype(const char *name)
{
    return (int32_t)kiln_dtype_from_name(name);
}

static kiln_shape shape_of(int32_t rank, const int64_t *dims)
{
    kiln_shape shape = {.rank = rank};
    memcpy(shape.dims, dims, sizeof shape.dims);
    return shape;
}

static kiln_build_options options_for(const char *backend, const char *library)
{
    return KILN_BUILD_OPTIONS(.backend = backend, .library = library);
}

int feed_build(const char *backend, const char *library, const char *model,
               const feed_range *ranges, uint64_t count, int tf32, int level, kiln_engine **engine)
{
    kiln_build_options options = options_for(backend, library);
    kiln_profile_input *inputs = calloc((size_t)count + 1, sizeof *inputs);
    if (inputs == NULL) {
        return (int)KILN_ERROR_OUT_OF_MEMORY;
    }
    for (uint64_t i = 0; i < count; i++) {
        inputs[i].name = ranges[i].name;
        if (ranges[i].value_count > 0) {
            inputs[i].min_values = inputs[i].opt_values = inputs[i].max_values = ranges[i].values;
            inputs[i].value_count = (size_t)ranges[i].value_count;
        } else {
            inputs[i].min = shape_of(ranges[i].rank, ranges[i].min);
            inputs[i].opt = shape_of(ranges[i].rank, ranges[i].opt);
            inputs[i].max = shape_of(ranges[i].rank, ranges[i].max);
        }
    }
    const kiln_profile profile = {.inputs = inputs, .input_count = (size_t)count};
    options.profiles = &profile;
    options.profile_count = count > 0 ? 1 : 0;
    options.builder_optimization_level = level;
    options.tf32 = tf32 != 0 ? KILN_SWITCH_DEFAULT : KILN_SWITCH_OFF;
    const kiln_status status = kiln_engine_build_file(model, &options, engine);
    free(inputs);
    return (int)status;
}

int feed_load(const char *backend, const char *library, const char *plan, kiln_engine **engine)
{
    const kiln_build_options options = options_for(backend, library);
    return (int)kiln_engine_load(plan, &options, engine);
}

int feed_save(const kiln_engine *engine, const char *path)
{
    return (int)kiln_engine_save(engine, path);
}

void feed_release(kiln_engine *engine)
{
    kiln_engine_release(engine);
}

uint64_t feed_count(const kiln_engine *engine, int is_input)
{
    return is_input != 0 ? kiln_engine_input_count(engine) : kiln_engine_output_count(engine);
}

int feed_binding(const kiln_engine *engine, int is_input, uint64_t index, feed_tensor *tensor)
{
    kiln_binding binding = {.struct_size = sizeof binding};
    const kiln_status status = is_input != 0 ? kiln_engine_input(engine, (size_t)index, &binding)
                                             : kiln_engine_output(engine, (size_t)index, &binding);
    tensor->name = binding.name;
    tensor->dtype = (int32_t)binding.dtype;
    tensor->rank = binding.shape.rank;
    memcpy(tensor->dims, binding.shape.dims, sizeof tensor->dims);
    return (int)status;
}

int feed_context(kiln_engine *engine, kiln_context **context)
{
    return (int)kiln_context_create(engine, NULL, context);
}

void feed_end(kiln_context *context)
{
    kiln_context_destroy(context);
}

int feed_bind(kiln_context *context, const feed_tensor *tensor)
{
    const kiln_tensor bound =
        KILN_HOST_TENSOR((kiln_dtype)tensor->dtype, shape_of(tensor->rank, tensor->dims),
                         tensor->data, (size_t)tensor->bytes);
    return (int)kiln_context_bind(context, tensor->name, &bound);
}

int feed_run(kiln_context *context)
{
    return (int)kiln_context_run(context);
}

int feed_output(kiln_context *context, const char *name, feed_tensor *tensor)
{
    kiln_tensor found;
    const kiln_status status = kiln_context_tensor(context, name, &found);
    if (status == KILN_OK) {
        tensor->name = name;
        tensor->dtype = (int32_t)found.desc.dtype;
        tensor->rank = found.desc.shape.rank;
        memcpy(tensor->dims, found.desc.shape.dims, sizeof tensor->dims);
        tensor->data = found.data;
        tensor->bytes = found.bytes;
    }
    return (int)status;
}
