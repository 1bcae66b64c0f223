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

typedef enum model_config_kind {
    MODEL_KIND_AUTO = 0,
    MODEL_KIND_GPU = 1,
    MODEL_KIND_CPU = 2,
    MODEL_KIND_MODEL = 3
} model_config_kind;

typedef enum model_config_timeout {
    MODEL_TIMEOUT_REJECT = 0,
    MODEL_TIMEOUT_DELAY = 1
} model_config_timeout;

/* An input or an output. Its dims are those of one request: with a max_batch_size the batch stands
 * before them. */
typedef struct model_config_tensor {
    pbtxt_place place;
    const char *name;
    int32_t data_type;
    int32_t format;      /* 0: none, 1: NHWC, 2: NCHW */
    const int64_t *dims; /* -1: any */
    size_t dim_count;
    const struct model_config_reshape *reshape; /* the model's own shape, or NULL: as dims */
    bool is_shape_tensor;
    bool allow_ragged_batch; /* inputs only, as optional */
    bool optional;
    const char *label_filename; /* outputs only */
} model_config_tensor, model_config_input, model_config_output;

typedef pbtxt_place model_config_all;

/* The others, each with its place first. */
#define BEGIN(tag)                      \
    typedef struct model_config_##tag { \
        pbtxt_place place;
#define END(tag, words) \
    }                   \
    model_config_##tag;
#define ONE(tag, kind, member, name) PBTXT_C_##kind member;
#define CHOSEN ONE
#define NUMBERED(tag, member, name) int32_t member;
#define MANY(tag, kind, members, count, name) \
    PBTXT_C_##kind const *members;            \
    size_t count;
#define INSIDE(tag, other, member, name) const model_config_##other *member;
#define CHOICE INSIDE
#define LIST(tag, other, members, count, name) \
    const model_config_##other *members;       \
    size_t count;
#define IGNORED(name)
#define REFUSED(choice_, name)
#define MEMORY pbtxt_memory memory;
#include "config_pbtxt.inc"
#undef BEGIN
#undef END
#undef ONE
#undef CHOSEN
#undef NUMBERED
#undef MANY
#undef INSIDE
#undef CHOICE
#undef LIST
#undef IGNORED
#undef REFUSED
#undef MEMORY

typedef model_config_file model_config;

/* Reads `size` bytes. false: `error` has line, column and a sentence; finish it all the same. */
bool model_config_read(const char *text, size_t size, model_config *config,
                       char error[PBTXT_ERROR_SIZE]);

/* The text of a parameter, or NULL. */
const char *model_config_parameter_of(const model_config *config, const char *key);

void model_config_finish(model_config *config);

#endif
