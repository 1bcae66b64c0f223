/*
 * options.h - how to build: in C as a struct, for language bindings by name.
 *
 *     kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
 *     options.backend = "tensorrt";
 *     options.workspace_bytes = 1 << 30;
 *
 *     kiln_build_options *options = NULL;
 *     kiln_build_options_create(&options);
 *     kiln_build_options_set(options, "backend", "tensorrt");
 *     kiln_build_options_set(options, "workspace_bytes", "1073741824");
 *     ...
 *     kiln_build_options_destroy(options);
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_OPTIONS_H
#define KILN_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kiln/export.h>
#include <kiln/issues.h>
#include <kiln/memory.h>
#include <kiln/status.h>
#include <kiln/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How much a backend may rewrite a network while it builds. ONNX Runtime: its graph optimization
 * levels. TensorRT has a level of its own. The results may differ in the last bits between levels.
 */
typedef enum kiln_optimization {
    KILN_OPTIMIZATION_DEFAULT = 0,  /* the backend's own default (ONNX Runtime: all) */
    KILN_OPTIMIZATION_OFF = 1,      /* run the nodes as they stand */
    KILN_OPTIMIZATION_BASIC = 2,    /* remove what is redundant */
    KILN_OPTIMIZATION_EXTENDED = 3, /* fuse nodes */
    KILN_OPTIMIZATION_ALL = 4       /* change layouts too */
} kiln_optimization;

/* The range of one input in an optimization profile. For an input whose shape is dynamic: the
 * smallest, the most common and the largest shape, none with a dynamic dimension. For an input that
 * is itself a shape (a shape tensor, which a Reshape or Range reads): its values instead. */
typedef struct kiln_profile_input {
    const char *name;
    kiln_shape min, opt, max;
    const int64_t *min_values, *opt_values, *max_values; /* `value_count` of them, or NULL */
    size_t value_count;                                  /* 0: shapes, not values */
} kiln_profile_input;

/* One optimization profile: shapes between min and max run with it, and those near opt run
 * fastest. Each input with a dynamic dimension must be in each profile. */
typedef struct kiln_profile {
    const kiln_profile_input *inputs;
    size_t input_count;
    const char *name; /* to find it by (kiln_engine_find_profile), unlike all others; NULL: none. A
                         plan has no place for names: the manifest keeps them */
} kiln_profile;

/* The shape that an input will most likely have, without a dynamic dimension. */
typedef struct kiln_shape_hint {
    const char *name;
    kiln_shape shape;
} kiln_shape_hint;

/* Which weights of a plan can be replaced later. */
typedef enum kiln_refit_mode {
    KILN_REFIT_NONE = 0,
    KILN_REFIT_ALL = 1,        /* any (trtexec --refit) */
    KILN_REFIT_IDENTICAL = 2,  /* any, by the same values: for stripped plans */
    KILN_REFIT_INDIVIDUAL = 3, /* those of `refit_weights` */
} kiln_refit_mode;

/* On which GPUs a plan runs beside the one it is built on (trtexec --hardwareCompatibilityLevel).
 */
typedef enum kiln_hardware_compatibility {
    KILN_HARDWARE_NONE = 0,
    KILN_HARDWARE_AMPERE_PLUS = 1,            /* compute capability 8.0 and above */
    KILN_HARDWARE_SAME_COMPUTE_CAPABILITY = 2 /* other chips of the same capability */
} kiln_hardware_compatibility;

/* How much a plan tells of its layers (trtexec --profilingVerbosity). */
typedef enum kiln_profiling_verbosity {
    KILN_PROFILING_DEFAULT = 0, /* layer names */
    KILN_PROFILING_NONE = 1,
    KILN_PROFILING_LAYER_NAMES = 2,
    KILN_PROFILING_DETAILED = 3 /* shapes, types and tactics too */
} kiln_profiling_verbosity;

/* In which type a network computes; all but the first are <kiln/precision.h>'s. */
typedef enum kiln_precision {
    KILN_PRECISION_DEFAULT = 0, /* as the model says */
    KILN_PRECISION_FP16 = 1,
    KILN_PRECISION_BF16 = 2,
    KILN_PRECISION_INT8 = 3, /* activations and weights */
    KILN_PRECISION_FP8 = 4,  /* likewise, in float8e4m3fn */
    KILN_PRECISION_INT4 = 5  /* weights alone, in blocks */
} kiln_precision;

/* Whether products of float32 become sums of products that tensor cores compute
 * (kiln_network_split_products). */
typedef enum kiln_split {
    KILN_SPLIT_NONE = 0,
    KILN_SPLIT_FEW = 1, /* for few rows: a step of a language model */
    KILN_SPLIT_MANY = 2 /* for many: prompts, images */
} kiln_split;

/* An option that is on or off, or as the library has it. */
typedef enum kiln_switch {
    KILN_SWITCH_DEFAULT = 0,
    KILN_SWITCH_ON = 1,
    KILN_SWITCH_OFF = 2
} kiln_switch;

/* Who gives TensorRT its memory of the GPU: for weights, for what lies between inputs and outputs,
 * and for what a build tries kernels on. */
typedef enum kiln_gpu_allocator {
    KILN_GPU_ALLOCATOR_DEFAULT = 0, /* Kiln; but for a build, which is faster so, the library,
                                       unless `gpu_memory_bytes` or `gpu_pool` is given */
    KILN_GPU_ALLOCATOR_KILN = 1, /* Kiln, also for a build: counted (kiln_engine_gpu_memory), within
                                    `gpu_memory_bytes`, and from `gpu_pool` where it is given */
    KILN_GPU_ALLOCATOR_LIBRARY = 2 /* the library itself, uncounted */
} kiln_gpu_allocator;

/* Where ONNX Runtime computes. */
typedef enum kiln_provider {
    KILN_PROVIDER_DEFAULT = 0, /* the CPU */
    KILN_PROVIDER_CPU = 1,
    KILN_PROVIDER_CUDA = 2 /* the GPU `device`; needs the library of onnxruntime-gpu, and cuDNN */
} kiln_provider;

/* How ONNX Runtime's memory on a GPU grows. */
typedef enum kiln_arena_growth {
    KILN_ARENA_DEFAULT = 0,   /* doubling */
    KILN_ARENA_DOUBLING = 1,  /* few allocations, up to twice what is needed */
    KILN_ARENA_AS_NEEDED = 2, /* what was asked for, no more */
} kiln_arena_growth;

/* How convolutions choose their algorithm on a GPU. */
typedef enum kiln_conv_search {
    KILN_CONV_SEARCH_DEFAULT = 0,    /* exhaustive */
    KILN_CONV_SEARCH_EXHAUSTIVE = 1, /* try all: slow first run, fastest after */
    KILN_CONV_SEARCH_HEURISTIC = 2,  /* cuDNN's guess */
    KILN_CONV_SEARCH_NONE = 3        /* one and the same */
} kiln_conv_search;

/* How to build. Start from KILN_BUILD_OPTIONS_INIT, change what matters; every 0 and NULL is a
 * sensible default. The members are the rows of <kiln/build_options.inc>, which say what each is
 * for, its range, and which backends take it: one that does not refuses it by name with
 * KILN_ERROR_UNSUPPORTED. Arrays and strings are read during the build only. */
typedef struct kiln_build_options {
    size_t struct_size; /* set by KILN_BUILD_OPTIONS_INIT */
    void *owner;        /* set by kiln_build_options_create; else NULL */
#define KILN_OPTION(kind, type, name, ...) type name;
#define KILN_OPTION_LIST(kind, type, name, count, ...) \
    type *name;                                        \
    size_t count;
#include <kiln/build_options.inc>
} kiln_build_options;

#define KILN_BUILD_OPTIONS(...) KILN_INIT_OF_(kiln_build_options, __VA_ARGS__)
#define KILN_BUILD_OPTIONS_INIT KILN_INIT_(kiln_build_options)

/* --- by name, for language bindings and configuration files --- */

/* What an option is made of, and its text. */
typedef enum kiln_option_kind {
    KILN_OPTION_FLAG = 0,      /* bool: "true" or "false" */
    KILN_OPTION_CHOICE = 1,    /* an enumeration: one of `choices` */
    KILN_OPTION_INTEGER = 2,   /* int32_t: "4" */
    KILN_OPTION_LEVEL = 3,     /* the same, where 0 is the default and -1 stands for 0 */
    KILN_OPTION_BYTES = 4,     /* uint64_t: "1073741824" */
    KILN_OPTION_TEXT = 5,      /* const char * */
    KILN_OPTION_PATH = 6,      /* the same, of a file or folder */
    KILN_OPTION_LIBRARY = 7,   /* the same, of a library, or its name */
    KILN_OPTION_INTEGERS = 8,  /* several: "80,89" */
    KILN_OPTION_TEXTS = 9,     /* one more with each call */
    KILN_OPTION_PATHS = 10,    /* likewise */
    KILN_OPTION_PROFILES = 11, /* likewise: "x=1x8:4x8:8x8 s=v1,64:v1,128:v1,256", or one shape for
                                  all three of an input */
    KILN_OPTION_SHAPES = 12,   /* kiln_shape_hint, one more with each call: "x=4x8" */
    KILN_OPTION_SPAN = 13,     /* bytes in memory: not by name */
    KILN_OPTION_POINTER = 14   /* likewise */
} kiln_option_kind;

/* One option. All text is static. */
typedef struct kiln_build_option {
    size_t struct_size; /* sizeof(kiln_build_option), set by the caller */
    const char *name;   /* the member of kiln_build_options */
    kiln_option_kind kind;
    int64_t least, most;        /* what a number, or of a list the count, may be */
    const char *const *choices; /* of a CHOICE, in the order of its values, ended by NULL; of a
                                   PATH, words that may stand in its place */
    const char *group;          /* who takes it: "TensorRT" */
    bool loads;                 /* it matters to a load too, not only to a build */
    bool saved;  /* a load of ONNX takes it from the manifest where it is left at its default */
    char letter; /* on the command line: 'b' for -b, or 0 */
    const char *flag;    /* "backend" for --backend, or NULL */
    const char *value;   /* "NAME", as its help calls the value; NULL for a FLAG */
    const char *trtexec; /* what NVIDIA's trtexec calls it: "maxTactics"; or NULL */
    const char *help;    /* one paragraph */
} kiln_build_option;

/* Every option there is, by groups. Errors: NULL_ARGUMENT; INVALID_ARGUMENT past the end or for a
 * struct_size that is too small. Any thread. Since 0.1. */
KILN_API size_t kiln_build_option_count(void);
KILN_API KILN_MUST_CHECK kiln_status kiln_build_option_get(size_t index, kiln_build_option *option);

/* Options at their defaults, whose texts and lists belong to them; for kiln_build_options_destroy.
 * They are options like any others, and members may be set directly as well. Errors: NULL_ARGUMENT;
 * OUT_OF_MEMORY. Any thread, one at a time. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_build_options_create(kiln_build_options **options);

/* Sets the option `name` from text, as its kind says. NULL sets it back to its default, and empties
 * a list. Errors: NULL_ARGUMENT; NAME with the closest name; INVALID_ARGUMENT with what is
 * possible, and for options that kiln_build_options_create did not make; UNSUPPORTED for an option
 * that has no text; OUT_OF_MEMORY. Nothing is changed then. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_build_options_set(kiln_build_options *options,
                                                            const char *name, const char *value);

/* The text of option `name` of any options: at most `size` bytes of it go to `text`, always with a
 * NUL at the end where `size` is not 0, and to `*length` how long the whole is without it. Of a
 * list each item stands on a line of its own; "" where nothing is set. Errors: as
 * kiln_build_options_set. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_build_options_get(const kiln_build_options *options,
                                                            const char *name, char *text,
                                                            size_t size, size_t *length);

/* NULL is allowed. Since 0.1. */
KILN_API void kiln_build_options_destroy(kiln_build_options *options);

#ifdef __cplusplus
}
#endif

#endif
