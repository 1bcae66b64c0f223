/* SPDX-License-Identifier: Apache-2.0 */
/* A single build, from ONNX to a plan. */
#ifndef TRT_BUILDER_H
#define TRT_BUILDER_H

#include "backends/tensorrt/trt_library.h"
#include "backends/tensorrt/trt_progress.h"
#include "onnx/kln_onnx.h"

typedef struct trt_build {
    trt_library *library;
    const kiln_model *model;
    const kiln_build_options *options;
    const char *source; /* for sentences */
    const char *place;  /* a path in the folder of external weights, or NULL */
    char made_place[PATH_MAX];
    trt_error_recorder recorder;
    trt_progress_monitor progress;
    trt_GpuAllocator *allocator;
    trt_Builder *builder;
    trt_BuilderConfig *config;
    trt_NetworkDefinition *network;
    trt_Parser *parser;

    /* What the network's weights point into until the plan is there. */
    kln_onnx_model *onnx;      /* NULL where the model was given as a graph, or not needed */
    kln_onnx_model *rewritten; /* what the library takes, where that is something else; or NULL */
    kln_text proto;
    kln_arena copies;       /* of weights that lie unaligned */
    unsigned char *changed; /* a copy of the model with what the parser must not see taken out */

    kln_mapping timing_cache;
    trt_TimingCache *timing;
    bool keeps_timing; /* for the next build in this process; nobody asked for it */
} trt_build;

/* Whether they make sense, before seconds are spent on a builder (trt_options.c). */
KILN_MUST_CHECK kiln_status trt_check_options(const kiln_build_options *options);
/* Sets everything the options ask of the configuration, or refuses it by name. */
KILN_MUST_CHECK kiln_status trt_apply_options(trt_build *build);
/* The names that profiles have, to the number of the profile. */
KILN_MUST_CHECK kiln_status trt_profile_names(const kiln_build_options *options, kln_names *names);
/* What is wrong with profiles, as far as the model tells: the first builder of a process takes
 * seconds, and is not needed for that. */
KILN_MUST_CHECK kiln_status trt_check_profiles(const trt_build *build);
/* What concerns the network, once it is there: profiles and weights that are marked. */
KILN_MUST_CHECK kiln_status trt_apply_profiles(trt_build *build);
KILN_MUST_CHECK kiln_status trt_apply_weights(trt_build *build);
/* Keeps a version from a level at which it would end the process (trt_options.c). */
KILN_MUST_CHECK kiln_status trt_apply_int4(trt_build *build);

/* Reads the timing cache in, and writes it out after the build, also after one that was stopped
 * (trt_timing.c). A plan is worth more than the cache: where that cannot be written, a warning is
 * logged. Where none was asked for, what is measured is kept with the builder. */
KILN_MUST_CHECK kiln_status trt_timing_begin(trt_build *build);
void trt_timing_end(trt_build *build);
void trt_timing_finish(trt_build *build);

/* Fills build->network from the model (trt_parse.c). What it leaves in `build` must stay until the
 * plan is there. */
KILN_MUST_CHECK kiln_status trt_parse(trt_build *build);

/* TensorRT's parser takes an initializer for a weight though it is an input of the model too. Those
 * that a profile names become inputs: `*onnx` is then a model without their values, and else stays
 * (trt_feed.c). */
KILN_MUST_CHECK kiln_status trt_feed(trt_build *build, const kln_onnx_model **onnx);
void trt_parse_finish(trt_build *build);
/* Whether weights lie outside of the message that the libraries get. */
bool trt_has_left_out(const kln_onnx_graph *graph);
/* Where the tensor's elements lie, or a copy of them where that is not aligned: the libraries take
 * weights element by element. */
KILN_MUST_CHECK kiln_status trt_align(const kln_onnx_tensor *tensor, kln_arena *copies,
                                      const void **data);

/* "node 3 "conv" (Conv): kind: what [function, file:line]", and the status that fits. */
#define TRT_PARSER_TEXT 768
kiln_status trt_parser_explain(const trt_abi *abi, trt_ParserError *error,
                               char text[TRT_PARSER_TEXT]);

/* The whole of it. `allocator` may be NULL: the library's own. `*plan` is the library's, to be
 * destroyed; the description's strings are in its arena. */
KILN_MUST_CHECK kiln_status trt_build_plan(trt_library *library, const kiln_model *model,
                                           const kiln_build_options *options,
                                           const kiln_monitor *monitor, trt_GpuAllocator *allocator,
                                           kiln_description *description, trt_HostMemory **plan);

/* Between TensorRT's data types and kiln_dtype: UNDEFINED and -1 where there is no match. */
kiln_dtype trt_dtype(int32_t type);
int32_t trt_type_of(kiln_dtype dtype);

/* Between dims and shapes. */
kiln_shape trt_shape(const trt_Dims *dims);
trt_Dims trt_dims(const kiln_shape *shape);

#endif
