/* SPDX-License-Identifier: Apache-2.0 */
/* What a model's config.pbtxt changes. */
#ifndef KILN_SERVE_CONFIG_H
#define KILN_SERVE_CONFIG_H

#include "config_pbtxt.h"
#include "serve_parts.h"

#define SERVE_CONFIG_FILE "config.pbtxt"

typedef struct serve_config {
    bool given; /* there is one */
    model_config model;
} serve_config;

/* What engines and schedulers are told. */
typedef struct serve_tuning {
    bool given;
    const char *backend; /* NULL: by the file */
    kiln_provider provider;
    int32_t devices[SERVE_DEVICES];
    size_t device_count; /* 0: the usual one */
    int32_t contexts;    /* of each device; 0: the usual number */
    bool joins;          /* requests, to so many rows */
    int64_t max_batch;
    uint64_t delay; /* nanoseconds */
    size_t queue_limit;
    int64_t threads; /* of a run; 0: not given */
    int graphs;      /* kiln_graph_policy, -1: the usual one */
    enum { SERVE_MAYBE = 0, SERVE_NO = 1, SERVE_YES = 2 } generate; /* whether it writes texts */
    int64_t max_length, vocabulary; /* of kiln_generator_options; 0: not given */
    bool relative;                  /* likewise */
} serve_tuning;

/* Reads `folder`/config.pbtxt, if there is one. */
bool serve_config_read(serve *server, const char *root, const char *folder, serve_config *config,
                       serve_problem *problem);
void serve_config_finish(serve_config *config);

/* Whether a version of these, of which the newest comes first, is to be served. */
bool serve_config_serves(const serve_config *config, const int64_t *versions, size_t index);

bool serve_config_tune(const serve_config *config, const char *name, serve_tuning *tuning,
                       serve_problem *problem);

bool serve_is_onnx(const char *file);
/* Whether it is built for ranges of shapes, by TensorRT that is: for minutes. */
bool serve_builds_long(const char *file, const kiln_build_options *build);
/* Of a model that is built so: from a row to as many as a request may have, which is
 * max_batch_size, `most_rows` where that is not given, or 32. `*hints`, for free, are `build`'s. */
bool serve_profile_make(const serve_config *config, int64_t most_rows, const char *file,
                        kiln_build_options *build, kiln_shape_hint **hints, serve_problem *problem);

/* What clients that ask for the configuration are told of it. */
bool serve_config_tell(const serve_config *config, serve_instance *instance,
                       serve_problem *problem);
/* Compares inputs and outputs with the model's, which then are as the configuration says. */
bool serve_config_apply(const serve_config *config, const serve_model *model,
                        serve_instance *instance, serve_problem *problem);

/* Runs the requests of model_warmup, so that clients' meet no first run (serve_warmup.c). */
bool serve_warmup(const serve_config *config, const serve_model *model, serve_instance *instance,
                  serve_problem *problem);

#endif
