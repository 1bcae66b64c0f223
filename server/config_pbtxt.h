/* SPDX-License-Identifier: Apache-2.0 */
/* A model's configuration as Triton's repositories have it.
 *
 *     model_config config;
 *     char error[PBTXT_ERROR_SIZE];
 *     if (!model_config_read(text, size, &config, error)) {
 *         printf("config.pbtxt: %s\n", error);
 *     }
 *     model_config_finish(&config);
 *
 * What a server can leave alone without serving something else (metrics, the number of a
 * GPU's priority) is named in config.memory.warnings; what it cannot (ensembles, sequences) is an
 * error. Nothing here touches a file or a library. */
#ifndef KILN_SERVER_CONFIG_PBTXT_H
#define KILN_SERVER_CONFIG_PBTXT_H

#include "pbtxt.h"

/* In the order of Triton's numbers, from 1 on; 0 is none, TYPE_INVALID. */
#define MODEL_TYPE_LIST(X) \
    X(BOOL)                \
    X(UINT8)               \
    X(UINT16)              \
    X(UINT32)              \
    X(UINT64)              \
    X(INT8)                \
    X(INT16)               \
    X(INT32)               \
    X(INT64)               \
    X(FP16)                \
    X(FP32)                \
    X(FP64)                \
    X(STRING)              \
    X(BF16)
typedef enum model_config_type {
#define MODEL_TYPE_NUMBER_(name) MODEL_TYPE_##name,
    MODEL_TYPE_NONE,
    MODEL_TYPE_LIST(MODEL_TYPE_NUMBER_)
#undef MODEL_TYPE_NUMBER_
} model_config_type;

/* The name that the inference protocol has for a type, "FP32"; "BYTES" for STRING; "" for NONE. */
const char *model_config_type_name(int32_t type);

typedef struct model_config_reshape {
    pbtxt_place place;
    const int64_t *shape;
    size_t shape_count;
} model_config_reshape;

/* An input or an output. Its dims are those of one request: with a max_batch_size the batch stands
 * before them. */
typedef struct model_config_tensor {
    pbtxt_place place;
    const char *name;
    int32_t data_type;
    int32_t format;      /* 0: none, 1: NHWC, 2: NCHW */
    const int64_t *dims; /* -1: any */
    size_t dim_count;
    const model_config_reshape *reshape; /* the model's own shape, or NULL: as dims */
    bool is_shape_tensor;
    bool allow_ragged_batch; /* inputs only, as optional */
    bool optional;
    const char *label_filename; /* outputs only */
} model_config_tensor;

typedef struct model_config_latest {
    pbtxt_place place;
    uint32_t num_versions;
} model_config_latest;

typedef struct model_config_specific {
    pbtxt_place place;
    const int64_t *versions;
    size_t version_count;
} model_config_specific;

/* An input of a request that is run before any other; one of its data is given. */
typedef struct model_config_warmup_tensor {
    pbtxt_place place;
    int32_t data_type;
    const int64_t *dims; /* of one row, as those of an input */
    size_t dim_count;
    bool zeros, random;
    const char *file; /* in the folder "warmup" beside the configuration; the bytes of a row */
} model_config_warmup_tensor;

typedef struct model_config_warmup_input {
    pbtxt_place place;
    const char *name;
    const model_config_warmup_tensor *tensor;
} model_config_warmup_input;

typedef struct model_config_warmup {
    pbtxt_place place;
    const char *name;
    uint32_t batch_size; /* rows, all alike; 0 is 1 */
    const model_config_warmup_input *inputs;
    size_t input_count;
    uint32_t count; /* runs; 0 is 1 */
} model_config_warmup;

/* One of them is not NULL, if the policy is given. */
typedef struct model_config_versions {
    pbtxt_place place;
    const model_config_latest *latest;
    const pbtxt_place *all;
    const model_config_specific *specific;
} model_config_versions;

typedef enum model_config_kind {
    MODEL_KIND_AUTO = 0,
    MODEL_KIND_GPU = 1,
    MODEL_KIND_CPU = 2,
    MODEL_KIND_MODEL = 3
} model_config_kind;

typedef struct model_config_group {
    pbtxt_place place;
    const char *name;
    int32_t kind;
    int32_t count; /* contexts on each device; 0: not given, which is 1 */
    const int32_t *gpus;
    size_t gpu_count;            /* 0: every GPU */
    const char *const *profiles; /* of TensorRT's plan, by number */
    size_t profile_count;
    bool passive;
    const char *host_policy;
} model_config_group;

typedef enum model_config_timeout {
    MODEL_TIMEOUT_REJECT = 0,
    MODEL_TIMEOUT_DELAY = 1
} model_config_timeout;

typedef struct model_config_queue {
    pbtxt_place place;
    int32_t timeout_action;
    bool allow_timeout_override;
    uint64_t default_timeout_microseconds; /* 0: none */
    uint32_t max_queue_size;               /* 0: no limit but the server's */
} model_config_queue;

typedef struct model_config_level {
    pbtxt_place place;
    uint64_t priority; /* from 1, the first to be served */
    const model_config_queue *queue;
} model_config_level;

typedef struct model_config_batching {
    pbtxt_place place;
    const int32_t *preferred_batch_size;
    size_t preferred_count;
    uint64_t max_queue_delay_microseconds;
    bool preserve_ordering;
    uint64_t priority_levels; /* 0: requests have no priority */
    uint64_t default_priority_level;
    const model_config_queue *default_queue_policy; /* or NULL */
    const model_config_level *levels;
    size_t level_count;
} model_config_batching;

typedef struct model_config_pair {
    pbtxt_place place;
    const char *key;
    const char *value;
} model_config_pair;

typedef struct model_config_accelerator {
    pbtxt_place place;
    const char *name;
    const model_config_pair *parameters;
    size_t parameter_count;
} model_config_accelerator;

typedef struct model_config_accelerators {
    pbtxt_place place;
    const model_config_accelerator *gpu;
    size_t gpu_count;
    const model_config_accelerator *cpu;
    size_t cpu_count;
} model_config_accelerators;

typedef struct model_config_switch {
    pbtxt_place place;
    bool on;
} model_config_switch;

typedef struct model_config_graph {
    pbtxt_place place;
    int32_t level; /* of ONNX Runtime's optimizations: -1 basic, 0 default, 1 extended */
} model_config_graph;

typedef struct model_config_optimization {
    pbtxt_place place;
    const model_config_graph *graph;
    int32_t priority; /* 0: default, 1: max, 2: min */
    const model_config_switch *cuda_graphs;
    const model_config_accelerators *accelerators;
    const model_config_switch *input_pinned_memory;
    const model_config_switch *output_pinned_memory;
    bool eager_batching;
} model_config_optimization;

typedef struct model_config_parameter_value {
    pbtxt_place place;
    const char *text;
} model_config_parameter_value;

typedef struct model_config_parameter {
    pbtxt_place place;
    const char *key;
    const model_config_parameter_value *value;
} model_config_parameter;

typedef struct model_config {
    pbtxt_place place;
    const char *name;     /* NULL: its folder's */
    const char *platform; /* "onnxruntime_onnx", "tensorrt_plan", or NULL */
    const char *backend; /* "onnxruntime", "tensorrt", as platform says where it is not given; NULL:
                            neither is */
    const char *default_model_filename; /* NULL: "model.onnx" or "model.plan" */
    int32_t max_batch_size;             /* 0: requests are not joined, and dims are all there is */
    const model_config_tensor *inputs;
    size_t input_count;
    const model_config_tensor *outputs;
    size_t output_count;
    const model_config_versions *versions; /* or NULL: the latest one */
    const model_config_batching *batching; /* or NULL: requests are run as they come */
    const model_config_group *groups;
    size_t group_count;
    const model_config_optimization *optimization;
    const model_config_parameter *parameters;
    size_t parameter_count;
    const model_config_warmup *warmups;
    size_t warmup_count;
    const model_config_switch *transactions; /* whether it is decoupled: it answers in parts */
    pbtxt_memory memory;                     /* of all of it, and the warnings */
} model_config;

/* Reads `size` bytes. false: `error` has line, column and a sentence; finish it all the same. */
bool model_config_read(const char *text, size_t size, model_config *config,
                       char error[PBTXT_ERROR_SIZE]);

/* The text of a parameter, or NULL. */
const char *model_config_parameter_of(const model_config *config, const char *key);

void model_config_finish(model_config *config);

#endif
