/*
 * options.h - build options: a struct in C, and by name for language bindings.
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

/* How far a backend may rewrite a network during a build. For ONNX Runtime: its graph optimization
 * levels. TensorRT has a level of its own. Results may differ in the last bits between levels. */
typedef enum kiln_optimization {
    KILN_OPTIMIZATION_DEFAULT = 0,  /* the backend's default (ONNX Runtime: all) */
    KILN_OPTIMIZATION_OFF = 1,      /* run the nodes unchanged */
    KILN_OPTIMIZATION_BASIC = 2,    /* remove redundant nodes */
    KILN_OPTIMIZATION_EXTENDED = 3, /* fuse nodes */
    KILN_OPTIMIZATION_ALL = 4       /* also change layouts */
} kiln_optimization;

/* The range of one input in an optimization profile. For an input with a dynamic shape: its
 * smallest, most common and largest shape, without dynamic dimensions. For a shape tensor (an input
 * that is itself a shape, which a Reshape or Range reads): its values instead. */
typedef struct kiln_profile_input {
    const char *name;
    kiln_shape min, opt, max;
    const int64_t *min_values, *opt_values, *max_values; /* `value_count` values each, or NULL */
    size_t value_count;                                  /* 0: the range is of shapes, not of
                                                            values */
} kiln_profile_input;

/* One optimization profile. It covers all shapes between min and max, and runs fastest near opt.
 * Every profile must include every input with a dynamic dimension. */
typedef struct kiln_profile {
    const kiln_profile_input *inputs;
    size_t input_count;
    const char *name; /* for kiln_engine_find_profile; unique; NULL: none. A plan cannot store
                         names: the manifest keeps them */
} kiln_profile;

/* The most likely shape of an input, without dynamic dimensions. */
typedef struct kiln_shape_hint {
    const char *name;
    kiln_shape shape;
} kiln_shape_hint;

/* Which weights of a plan can be replaced later. */
typedef enum kiln_refit_mode {
    KILN_REFIT_NONE = 0,
    KILN_REFIT_ALL = 1,        /* all weights (trtexec --refit) */
    KILN_REFIT_IDENTICAL = 2,  /* all weights, with identical values only: for stripped plans */
    KILN_REFIT_INDIVIDUAL = 3, /* the weights in `refit_weights` */
} kiln_refit_mode;

/* Which GPUs a plan runs on in addition to the one it is built on (trtexec
 * --hardwareCompatibilityLevel). */
typedef enum kiln_hardware_compatibility {
    KILN_HARDWARE_NONE = 0,
    KILN_HARDWARE_AMPERE_PLUS = 1,            /* compute capability 8.0 and higher */
    KILN_HARDWARE_SAME_COMPUTE_CAPABILITY = 2 /* other GPUs of the same compute capability */
} kiln_hardware_compatibility;

/* How much a plan tells about its layers (trtexec --profilingVerbosity). */
typedef enum kiln_profiling_verbosity {
    KILN_PROFILING_DEFAULT = 0, /* layer names */
    KILN_PROFILING_NONE = 1,
    KILN_PROFILING_LAYER_NAMES = 2,
    KILN_PROFILING_DETAILED = 3 /* shapes, types and tactics as well */
} kiln_profiling_verbosity;

/* The type in which a network computes. <kiln/precision.h> covers all but the first. */
typedef enum kiln_precision {
    KILN_PRECISION_DEFAULT = 0, /* as the model says */
    KILN_PRECISION_FP16 = 1,
    KILN_PRECISION_BF16 = 2,
    KILN_PRECISION_INT8 = 3, /* activations and weights */
    KILN_PRECISION_FP8 = 4,  /* activations and weights, in float8e4m3fn */
    KILN_PRECISION_INT4 = 5  /* weights only, in blocks */
} kiln_precision;

/* Whether float32 products are split into sums of products that tensor cores compute
 * (kiln_network_split_products). */
typedef enum kiln_split {
    KILN_SPLIT_NONE = 0,
    KILN_SPLIT_FEW = 1, /* for few rows, as in one step of a language model */
    KILN_SPLIT_MANY = 2 /* for many rows, as in prompts and images */
} kiln_split;

/* An option that is on, off, or left to the library. */
typedef enum kiln_switch {
    KILN_SWITCH_DEFAULT = 0,
    KILN_SWITCH_ON = 1,
    KILN_SWITCH_OFF = 2
} kiln_switch;

/* Who provides TensorRT's GPU memory: for weights, for activations, and for trying out kernels
 * during a build. */
typedef enum kiln_gpu_allocator {
    KILN_GPU_ALLOCATOR_DEFAULT = 0, /* Kiln for plans. The library for builds, which are faster that
                                       way, unless `gpu_memory_bytes` or `gpu_pool` is given */
    KILN_GPU_ALLOCATOR_KILN = 1, /* Kiln, also for builds: counted (kiln_engine_gpu_memory), limited
                                    by `gpu_memory_bytes`, and taken from `gpu_pool` if it is
                                    given */
    KILN_GPU_ALLOCATOR_LIBRARY = 2 /* TensorRT itself, not counted */
} kiln_gpu_allocator;

/* Where ONNX Runtime computes: its execution provider. */
typedef enum kiln_provider {
    KILN_PROVIDER_DEFAULT = 0, /* the CPU */
    KILN_PROVIDER_CPU = 1,
    KILN_PROVIDER_CUDA = 2 /* the GPU `device`; needs the library of onnxruntime-gpu, and cuDNN */
} kiln_provider;

/* How ONNX Runtime's GPU memory arena grows. */
typedef enum kiln_arena_growth {
    KILN_ARENA_DEFAULT = 0,   /* doubling */
    KILN_ARENA_DOUBLING = 1,  /* few allocations, up to twice the memory needed */
    KILN_ARENA_AS_NEEDED = 2, /* exactly what is requested */
} kiln_arena_growth;

/* How convolutions choose their algorithm on a GPU. */
typedef enum kiln_conv_search {
    KILN_CONV_SEARCH_DEFAULT = 0,    /* exhaustive */
    KILN_CONV_SEARCH_EXHAUSTIVE = 1, /* try all: slow first run, fastest afterwards */
    KILN_CONV_SEARCH_HEURISTIC = 2,  /* cuDNN's heuristic */
    KILN_CONV_SEARCH_NONE = 3        /* always the same algorithm */
} kiln_conv_search;

/* Build options. Start from KILN_BUILD_OPTIONS_INIT and change what matters; 0 and NULL are
 * sensible defaults everywhere. The members are the rows of <kiln/build_options.inc>, which give
 * the purpose and range of each option and the backends that accept it. Any other backend refuses
 * the option by name with KILN_ERROR_UNSUPPORTED. Arrays and strings are read during the build
 * only. */
typedef struct kiln_build_options {
    size_t struct_size; /* set by KILN_BUILD_OPTIONS_INIT */
    void *owner;        /* set by kiln_build_options_create; otherwise NULL */
#define KILN_OPTION(kind, type, name, ...) type name;
#define KILN_OPTION_LIST(kind, type, name, count, ...) \
    type *name;                                        \
    size_t count;
#include <kiln/build_options.inc>
} kiln_build_options;

#define KILN_BUILD_OPTIONS(...) KILN_INIT_OF_(kiln_build_options, __VA_ARGS__)
#define KILN_BUILD_OPTIONS_INIT KILN_INIT_(kiln_build_options)

/* --- by name, for language bindings and configuration files --- */

/* The type of an option, and the form of its text. */
typedef enum kiln_option_kind {
    KILN_OPTION_FLAG = 0,      /* bool: "true" or "false" */
    KILN_OPTION_CHOICE = 1,    /* enumeration: one of `choices` */
    KILN_OPTION_INTEGER = 2,   /* int32_t: "4" */
    KILN_OPTION_LEVEL = 3,     /* int32_t; 0 is the default, and -1 stands for 0 */
    KILN_OPTION_BYTES = 4,     /* uint64_t: "1073741824" */
    KILN_OPTION_TEXT = 5,      /* const char * */
    KILN_OPTION_PATH = 6,      /* const char *, a file or folder */
    KILN_OPTION_LIBRARY = 7,   /* const char *, a library's path or name */
    KILN_OPTION_INTEGERS = 8,  /* list of int32_t: "80,89" */
    KILN_OPTION_TEXTS = 9,     /* list of texts; each call appends one */
    KILN_OPTION_PATHS = 10,    /* list of paths; each call appends one */
    KILN_OPTION_PROFILES = 11, /* list of kiln_profile; each call appends one: "x=1x8:4x8:8x8
                                  s=v1,64:v1,128:v1,256", or a single shape for all three of an
                                  input */
    KILN_OPTION_SHAPES = 12,   /* list of kiln_shape_hint; each call appends one: "x=4x8" */
    KILN_OPTION_SPAN = 13,     /* bytes in memory: cannot be set by name */
    KILN_OPTION_POINTER = 14   /* pointer: cannot be set by name */
} kiln_option_kind;

/* Description of one option. All strings are static. */
typedef struct kiln_build_option {
    size_t struct_size; /* sizeof(kiln_build_option), set by the caller */
    const char *name;   /* member of kiln_build_options */
    kiln_option_kind kind;
    int64_t least, most;        /* range of the number; for a list, of the item count */
    const char *const *choices; /* for a CHOICE: its words in the order of the values,
                                   NULL-terminated; for a PATH: words accepted in place of a path */
    const char *group;          /* the backends that accept it: "TensorRT" */
    bool loads;                 /* applies to loads too, not only to builds */
    bool saved;  /* when ONNX is loaded and this is at its default, the manifest's value is used */
    char letter; /* short command-line option: 'b' for -b; 0: none */
    const char *flag;    /* long command-line option: "backend" for --backend; NULL: none */
    const char *value;   /* placeholder in the command line's help: "NAME"; NULL for a FLAG */
    const char *trtexec; /* trtexec's name for it: "maxTactics"; NULL: none */
    const char *help;    /* one paragraph */
} kiln_build_option;

/* The number of options, and the description of option `index`; options of one group follow each
 * other. Errors: NULL_ARGUMENT; INVALID_ARGUMENT if `index` is past the end or struct_size is too
 * small. Any thread. Since 0.1. */
KILN_API size_t kiln_build_option_count(void);
KILN_API KILN_MUST_CHECK kiln_status kiln_build_option_get(size_t index, kiln_build_option *option);

/* Creates options at their defaults that own their strings and lists; destroy them with
 * kiln_build_options_destroy. They can be used like any others, and members may be set directly as
 * well. Errors: NULL_ARGUMENT; OUT_OF_MEMORY. Any thread, one at a time. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_build_options_create(kiln_build_options **options);

/* Sets option `name` from text in the form of its kind. NULL resets it to its default, and empties
 * a list. Errors: NULL_ARGUMENT; NAME with the closest name; INVALID_ARGUMENT with the accepted
 * values, and for options that kiln_build_options_create did not make; UNSUPPORTED for an option
 * without a text form; OUT_OF_MEMORY. On an error nothing changes. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_build_options_set(kiln_build_options *options,
                                                            const char *name, const char *value);

/* Gives option `name` of any kiln_build_options as text. Writes at most `size` bytes to `text`,
 * NUL-terminated if `size` is not 0, and the full length without the NUL to `*length`. List items
 * are on separate lines; an option that is not set gives "". Errors: as kiln_build_options_set.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_build_options_get(const kiln_build_options *options,
                                                            const char *name, char *text,
                                                            size_t size, size_t *length);

/* Destroys options from kiln_build_options_create. NULL is allowed. Since 0.1. */
KILN_API void kiln_build_options_destroy(kiln_build_options *options);

#ifdef __cplusplus
}
#endif

#endif
