/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "serve_config.h"

/* Of requests to a model that nothing says more of. */
#define USUAL_ROWS 32

void serve_profile_finish(serve_profile *made)
{
    kiln_network_destroy(made->network);
    free(made->inputs);
    *made = (serve_profile){.network = NULL};
}

bool serve_is_onnx(const char *file)
{
    const size_t length = strlen(file);
    return length > 5 && strcmp(file + length - 5, ".onnx") == 0;
}

bool serve_builds_long(const char *file, const kiln_build_options *build)
{
    kiln_backend_info info = {.struct_size = sizeof info};
    return serve_is_onnx(file) && kiln_backend_choose(build->backend, &info) == KILN_OK &&
           (info.capabilities & KILN_CAPABILITY_PROFILES) != 0;
}

/* The size of a dimension by the configuration, which leaves the batch out; -1: it says nothing. */
static int64_t said(const serve_config *config, const char *name, int32_t dimension)
{
    const bool batched = config->given && config->model.max_batch_size > 0;
    const int32_t index = batched ? dimension - 1 : dimension;
    for (size_t i = 0; config->given && i < config->model.input_count; i++) {
        const model_config_tensor *tensor = &config->model.inputs[i];
        if (tensor->name != NULL && strcmp(tensor->name, name) == 0) {
            return index >= 0 && (size_t)index < tensor->dim_count ? tensor->dims[index] : -1;
        }
    }
    return -1;
}

static bool add_input(const serve_config *config, int64_t rows, const char *name,
                      const kiln_shape *shape, serve_profile *made, serve_problem *problem)
{
    kiln_profile_input range = {.name = name, .min = *shape, .opt = *shape, .max = *shape};
    for (int32_t d = 0; d < shape->rank; d++) {
        const int64_t size = shape->dims[d] >= 0 ? shape->dims[d] : said(config, name, d);
        if (size < 0 && d > 0) {
            char text[200];
            (void)kiln_shape_format(shape, text, sizeof text);
            return serve_refuse(problem, 400,
                                "input \"%.200s\" is %s, and TensorRT builds for sizes that are "
                                "known: give dimension %d in " SERVE_CONFIG_FILE
                                ", or serve a plan of kiln build --profile",
                                name, text, d);
        }
        range.min.dims[d] = size >= 0 ? size : 1;
        range.opt.dims[d] = range.max.dims[d] = size >= 0 ? size : rows;
    }
    if (!kiln_shape_is_static(shape)) {
        made->inputs[made->profile.input_count++] = range;
    }
    return true;
}

bool serve_profile_make(const serve_config *config, int64_t most_rows, const char *file,
                        kiln_build_options *build, serve_profile *made, serve_problem *problem)
{
    *made = (serve_profile){.network = NULL};
    if (build->profile_count != 0 || !serve_builds_long(file, build) ||
        kiln_network_from_onnx(file, &made->network) != KILN_OK) {
        return true; /* a load says more of what cannot be read */
    }
    const int32_t told = config->given ? config->model.max_batch_size : 0;
    const int64_t rows = told > 0 ? told : most_rows > 0 ? most_rows : USUAL_ROWS;
    const size_t count = kiln_network_input_count(made->network);
    made->inputs = calloc(count + 1, sizeof *made->inputs);
    if (made->inputs == NULL) {
        return serve_no_memory(problem);
    }
    for (size_t i = 0; i < count; i++) {
        kiln_tensor_id id;
        kiln_dtype dtype = KILN_DTYPE_UNDEFINED;
        kiln_shape shape = KILN_SHAPE_SCALAR;
        if (kiln_network_input(made->network, i, &id) != KILN_OK ||
            kiln_network_tensor_type(made->network, id, &dtype, &shape) != KILN_OK) {
            return serve_refuse(problem, 503, "%s", kiln_error_message());
        }
        if (!add_input(config, rows, kiln_network_tensor_name(made->network, id), &shape, made,
                       problem)) {
            return false;
        }
    }
    made->profile.inputs = made->inputs;
    build->profiles = &made->profile;
    build->profile_count = made->profile.input_count > 0 ? 1 : 0;
    return true;
}
