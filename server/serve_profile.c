/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "serve_config.h"

/* The rows of requests, if nothing else is known about the model. */
#define USUAL_ROWS 32

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

/* Takes the inputs' shapes from the configuration, which leaves out the batch. */
static size_t say_shapes(const serve_config *config, int64_t rows, kiln_shape_hint *hints)
{
    const int32_t batched = config->model.max_batch_size > 0 ? 1 : 0;
    size_t count = 0;
    for (size_t i = 0; i < config->model.input_count; i++) {
        const model_config_tensor *tensor = &config->model.inputs[i];
        kiln_shape_hint *hint = &hints[count];
        *hint = (kiln_shape_hint){.name = tensor->name};
        bool is_known = tensor->name != NULL && tensor->dim_count + 1 <= KILN_MAX_RANK;
        hint->shape.dims[0] = rows;
        hint->shape.rank = batched;
        for (size_t d = 0; is_known && d < tensor->dim_count; d++) {
            hint->shape.dims[hint->shape.rank++] = tensor->dims[d];
            is_known = tensor->dims[d] >= 0;
        }
        count += is_known ? 1 : 0;
    }
    return count;
}

bool serve_profile_make(const serve_config *config, int64_t most_rows, const char *file,
                        kiln_build_options *build, kiln_shape_hint **hints, serve_problem *problem)
{
    *hints = NULL;
    if (build->profile_count != 0 || !serve_builds_long(file, build)) {
        return true;
    }
    const int32_t told = config->given ? config->model.max_batch_size : 0;
    const int64_t rows = told > 0 ? told : most_rows > 0 ? most_rows : USUAL_ROWS;
    build->profile_rows = (int32_t)(rows < INT32_MAX ? rows : INT32_MAX);
    if (config->given) {
        *hints = calloc(config->model.input_count + 1, sizeof **hints);
        if (*hints == NULL) {
            return serve_no_memory(problem);
        }
        build->shape_hints = *hints;
        build->shape_hint_count = say_shapes(config, rows, *hints);
    }
    return true;
}
