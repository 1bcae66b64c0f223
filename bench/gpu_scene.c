/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu_scene.h"

#include <stdlib.h>

#include "models.h"

static void *values_for(unsigned type, size_t bytes, int64_t most)
{
    void *data = malloc(bytes);
    if (data == NULL) {
        exit(1);
    }
    uint32_t seed = 7;
    const size_t count = bytes / (type == FLOAT_TYPE ? sizeof(float) : sizeof(int64_t));
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525U + 1013904223U;
        if (type == FLOAT_TYPE) {
            ((float *)data)[i] = (float)(seed >> 8) / 8388608.0F - 1.0F;
        } else {
            ((int64_t *)data)[i] = most == 1 ? 1 : (int64_t)(seed >> 8) % most;
        }
    }
    return data;
}

scene resnet_scene(int64_t batch)
{
    scene made = {.name = "resnet50", .path = "/tmp/kiln_bench_resnet50.onnx", .input_count = 1};
    made.inputs[0] = (raw_binding){.name = "image",
                                   .type = FLOAT_TYPE,
                                   .dims = {batch, 3, 224, 224},
                                   .rank = 4,
                                   .bytes = (size_t)batch * 3 * 224 * 224 * sizeof(float)};
    made.inputs[0].data = values_for(FLOAT_TYPE, made.inputs[0].bytes, 0);
    made.output = (raw_binding){.name = "scores",
                                .type = FLOAT_TYPE,
                                .dims = {batch, 1000},
                                .rank = 2,
                                .bytes = (size_t)batch * 1000 * sizeof(float)};
    return made;
}

scene bert_scene(int64_t batch)
{
    static const char *const names[] = {"ids", "types", "mask"};
    static const int64_t most[] = {30522, 2, 1};
    scene made = {.name = "bert_base", .path = "/tmp/kiln_bench_bert.onnx", .input_count = 3};
    for (size_t i = 0; i < 3; i++) {
        made.inputs[i] = (raw_binding){.name = names[i],
                                       .type = INT64_TYPE,
                                       .dims = {batch, BERT_TOKENS},
                                       .rank = 2,
                                       .bytes = (size_t)batch * BERT_TOKENS * sizeof(int64_t)};
        made.inputs[i].data = values_for(INT64_TYPE, made.inputs[i].bytes, most[i]);
    }
    made.output = (raw_binding){.name = "hidden",
                                .type = FLOAT_TYPE,
                                .dims = {batch, BERT_TOKENS, 768},
                                .rank = 3,
                                .bytes = (size_t)batch * BERT_TOKENS * 768 * sizeof(float)};
    return made;
}

void scene_finish(scene *what)
{
    for (size_t i = 0; i < what->input_count; i++) {
        free((void *)(uintptr_t)what->inputs[i].data);
    }
}
