/* SPDX-License-Identifier: Apache-2.0 */
/* One model of models.h at one batch size, with what it is fed. */
#ifndef BENCH_GPU_SCENE_H
#define BENCH_GPU_SCENE_H

#include "raw_cuda.h"

#define SCENE_INPUTS 3
#define FLOAT_TYPE 1U
#define INT64_TYPE 7U

typedef struct scene {
    const char *name;
    const char *path;
    raw_binding inputs[SCENE_INPUTS];
    size_t input_count;
    raw_binding output;
} scene;

scene resnet_scene(int64_t batch);
scene bert_scene(int64_t batch);
void scene_finish(scene *what);

#endif
