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

    /* Memory that the network's weights point to until the plan is built. */
    kln_onnx_model *onnx;      /* NULL if the model was given as a graph, or is not needed */
    kln_onnx_model *rewritten; /* the model given to the library, if it is another one; or NULL */
    kln_text proto;
    kln_arena copies;       /* of misaligned weights */
    unsigned char *changed; /* a copy of the model without the parts that the parser must not see */

    kln_mapping timing_cache;
    trt_TimingCache *timing;
    bool keeps_timing; /* for the next build in this process, without a request */
} trt_build;

/* Checks the options before seconds are spent on a builder (trt_options.c). */
KILN_MUST_CHECK kiln_status trt_check_options(const kiln_build_options *options);
/* Sets everything that the options request in the configuration, or refuses it by name. */
KILN_MUST_CHECK kiln_status trt_apply_options(trt_build *build);
/* Maps the names of profiles to their numbers. */
KILN_MUST_CHECK kiln_status trt_profile_names(const kiln_build_options *options, kln_names *names);
/* Checks the profiles as far as the model allows: the first builder of a process takes seconds, and
 * is not needed for that. */
KILN_MUST_CHECK kiln_status trt_check_profiles(const trt_build *build);
/* Applies the options that concern the parsed network: profiles, and weights that are marked. */
KILN_MUST_CHECK kiln_status trt_apply_profiles(trt_build *build);
KILN_MUST_CHECK kiln_status trt_apply_weights(trt_build *build);
/* Keeps a version from a level at which it would end the process (trt_options.c). */
KILN_MUST_CHECK kiln_status trt_apply_int4(trt_build *build);

/* Reads the timing cache before the build and writes it afterwards, even if the build was stopped
 * (trt_timing.c). If it cannot be written, a warning is logged, because the plan matters more.
 * Without a requested cache, the measurements stay with the builder. */
KILN_MUST_CHECK kiln_status trt_timing_begin(trt_build *build);
void trt_timing_end(trt_build *build);
void trt_timing_finish(trt_build *build);

/* Fills build->network from the model (trt_parse.c). Memory that it leaves in `build` must stay
 * valid until the plan is built. */
KILN_MUST_CHECK kiln_status trt_parse(trt_build *build);

/* The model as NVIDIA's parser and builder take it: what they refuse is replaced by other nodes of
 * the same results. `*rewritten`: another model, which shares the rest with `from`; NULL: nothing
 * had to be replaced. `source` is for the log. OUT_OF_MEMORY, LIMIT. (trt_rewrite.c) */
KILN_MUST_CHECK kiln_status trt_rewrite(const char *source, const kln_onnx_model *from,
                                        kln_onnx_model **rewritten);

/* TensorRT's parser takes an initializer for a weight even if it is also an input of the model.
 * Those that a profile names become inputs: `*onnx` is then a model without their values, and
 * otherwise unchanged (trt_feed.c). */
KILN_MUST_CHECK kiln_status trt_feed(trt_build *build, const kln_onnx_model **onnx);
void trt_parse_finish(trt_build *build);
/* Whether weights are outside of the message that the libraries receive. */
bool trt_has_left_out(const kln_onnx_graph *graph);
/* The tensor's elements in place, or a copy if they are misaligned: the libraries read weights
 * element by element. */
KILN_MUST_CHECK kiln_status trt_align(const kln_onnx_tensor *tensor, kln_arena *copies,
                                      const void **data);

/* "node 3 "conv" (Conv): kind: what [function, file:line]", and the matching status. */
#define TRT_PARSER_TEXT 768
kiln_status trt_parser_explain(const trt_abi *abi, trt_ParserError *error,
                               char text[TRT_PARSER_TEXT]);

/* The complete build. `allocator` may be NULL: the library's own. `*plan` is the library's object,
 * to be destroyed; the description's strings are in its arena. */
KILN_MUST_CHECK kiln_status trt_build_plan(trt_library *library, const kiln_model *model,
                                           const kiln_build_options *options,
                                           const kiln_monitor *monitor, trt_GpuAllocator *allocator,
                                           kiln_description *description, trt_HostMemory **plan);

/* Conversion between TensorRT's data types and kiln_dtype: UNDEFINED and -1 if there is no
 * match. */
kiln_dtype trt_dtype(int32_t type);
int32_t trt_type_of(kiln_dtype dtype);

/* Conversion between dims and shapes. */
kiln_shape trt_shape(const trt_Dims *dims);
trt_Dims trt_dims(const kiln_shape *shape);

#endif
