/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "backends/tensorrt/trt_builder.h"
#include "backends/tensorrt/trt_device.h"

/* Sets a flag of the configuration and checks that it took effect. */
static kiln_status set_flag(trt_build *build, trt_enumerator flag, const char *option)
{
    const trt_abi *abi = &build->library->abi;
    KLN_RETURN_IF_ERROR(trt_need_value(build->library, flag, option));
    const int32_t value = trt_value(abi, flag);
    trt_BuilderConfig_setFlag(abi, build->config, value);
    KLN_FAIL_IF(!trt_BuilderConfig_getFlag(abi, build->config, value),
                trt_fail(KILN_ERROR_UNSUPPORTED, &build->recorder, "%s: %s did not accept it",
                         option, build->library->name));
    return KILN_OK;
}

#define FLAG(member, flag)                           \
    {                                                \
        o->member, TRT_V_BuilderFlag_##flag, #member \
    }

static kiln_status apply_flags(trt_build *build)
{
    const kiln_build_options *o = build->options;
    const struct {
        bool set;
        trt_enumerator flag;
        const char *option;
    } flags[] = {
        FLAG(sparse_weights, SPARSE_WEIGHTS),
        FLAG(strip_plan, STRIP_PLAN),
        FLAG(weight_streaming, WEIGHT_STREAMING),
        FLAG(version_compatible, VERSION_COMPATIBLE),
        FLAG(exclude_lean_runtime, EXCLUDE_LEAN_RUNTIME),
        FLAG(distributive_independence, DISTRIBUTIVE_INDEPENDENCE),
        FLAG(strict_nans, STRICT_NANS),
        FLAG(direct_io, DIRECT_IO),
        FLAG(disable_timing_cache, DISABLE_TIMING_CACHE),
        FLAG(disable_compilation_cache, DISABLE_COMPILATION_CACHE),
        FLAG(error_on_timing_cache_miss, ERROR_ON_TIMING_CACHE_MISS),
        FLAG(gpu_fallback, GPU_FALLBACK),
        {o->tf32 == KILN_SWITCH_ON, TRT_V_BuilderFlag_TF32, "tf32"},
        {o->refit == KILN_REFIT_ALL, TRT_V_BuilderFlag_REFIT, "refit"},
        {o->refit == KILN_REFIT_IDENTICAL, TRT_V_BuilderFlag_REFIT_IDENTICAL, "refit (identical)"},
        {o->refit == KILN_REFIT_INDIVIDUAL, TRT_V_BuilderFlag_REFIT_INDIVIDUAL,
         "refit (individual)"},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(flags); i++) {
        if (flags[i].set) {
            KLN_RETURN_IF_ERROR(set_flag(build, flags[i].flag, flags[i].option));
        }
    }
    if (o->tf32 == KILN_SWITCH_OFF) {
        const trt_abi *abi = &build->library->abi;
        trt_BuilderConfig_clearFlag(abi, build->config, trt_value(abi, TRT_V_BuilderFlag_TF32));
    }
    return KILN_OK;
}

static kiln_status apply_pools(trt_build *build)
{
    const kiln_build_options *o = build->options;
    const trt_abi *abi = &build->library->abi;
    const struct {
        uint64_t bytes;
        trt_enumerator pool;
        const char *option;
    } pools[] = {
        {o->workspace_bytes, TRT_V_MemoryPoolType_WORKSPACE, "workspace_bytes"},
        {o->dla_sram_bytes, TRT_V_MemoryPoolType_DLA_MANAGED_SRAM, "dla_sram_bytes"},
        {o->dla_local_dram_bytes, TRT_V_MemoryPoolType_DLA_LOCAL_DRAM, "dla_local_dram_bytes"},
        {o->dla_global_dram_bytes, TRT_V_MemoryPoolType_DLA_GLOBAL_DRAM, "dla_global_dram_bytes"},
        {o->tactic_dram_bytes, TRT_V_MemoryPoolType_TACTIC_DRAM, "tactic_dram_bytes"},
        {o->tactic_shared_bytes, TRT_V_MemoryPoolType_TACTIC_SHARED_MEMORY, "tactic_shared_bytes"},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(pools); i++) {
        if (pools[i].bytes == 0) {
            continue;
        }
        KLN_RETURN_IF_ERROR(trt_need_value(build->library, pools[i].pool, pools[i].option));
        const int32_t pool = trt_value(abi, pools[i].pool);
        trt_BuilderConfig_setMemoryPoolLimit(abi, build->config, pool, (size_t)pools[i].bytes);
        const size_t kept = trt_BuilderConfig_getMemoryPoolLimit(abi, build->config, pool);
        if (kept != pools[i].bytes) {
            return trt_fail(KILN_ERROR_UNSUPPORTED, &build->recorder,
                            "%s: %llu were asked for, %s keeps %zu; ask for that, or leave it out",
                            pools[i].option, (unsigned long long)pools[i].bytes,
                            build->library->name, kept);
        }
    }
    return KILN_OK;
}

/* A number that is set and then read back. */
typedef struct number {
    bool set;
    int32_t value;
    const char *option;
    trt_method method;
    void (*apply)(const trt_abi *abi, trt_BuilderConfig *config, int32_t value);
    int32_t (*read)(const trt_abi *abi, trt_BuilderConfig *config);
} number;

#define NUMBER(member, number, method)                                      \
    {                                                                       \
        o->member != 0, (number), #member, TRT_M_BuilderConfig_set##method, \
            trt_BuilderConfig_set##method, trt_BuilderConfig_get##method    \
    }

static void set_tiling(const trt_abi *abi, trt_BuilderConfig *config, int32_t level)
{
    (void)trt_BuilderConfig_setTilingOptimizationLevel(abi, config, level);
}

static kiln_status apply_numbers(trt_build *build)
{
    const kiln_build_options *o = build->options;
    const trt_abi *abi = &build->library->abi;
    static const trt_enumerator verbosities[] = {
        TRT_V_ProfilingVerbosity_LAYER_NAMES_ONLY, TRT_V_ProfilingVerbosity_NONE,
        TRT_V_ProfilingVerbosity_LAYER_NAMES_ONLY, TRT_V_ProfilingVerbosity_DETAILED};
    static const trt_enumerator hardware[] = {
        TRT_V_HardwareCompatibilityLevel_NONE, TRT_V_HardwareCompatibilityLevel_AMPERE_PLUS,
        TRT_V_HardwareCompatibilityLevel_SAME_COMPUTE_CAPABILITY};
    KLN_RETURN_IF_ERROR(trt_need_value(build->library, hardware[o->hardware_compatibility],
                                       "hardware_compatibility (same compute capability)"));
    const number numbers[] = {
        NUMBER(builder_optimization_level,
               o->builder_optimization_level > 0 ? o->builder_optimization_level : 0,
               BuilderOptimizationLevel),
        NUMBER(profiling_verbosity, trt_value(abi, verbosities[o->profiling_verbosity]),
               ProfilingVerbosity),
        NUMBER(hardware_compatibility, trt_value(abi, hardware[o->hardware_compatibility]),
               HardwareCompatibilityLevel),
        NUMBER(max_aux_streams, o->max_aux_streams > 0 ? o->max_aux_streams : 0, MaxAuxStreams),
        NUMBER(max_tactics, o->max_tactics, MaxNbTactics),
        NUMBER(average_timing_iterations, o->average_timing_iterations, AvgTimingIterations),
        NUMBER(windows_runtime, trt_value(abi, TRT_V_RuntimePlatform_WINDOWS_AMD64),
               RuntimePlatform),
        {o->tiling_optimization_level != 0, o->tiling_optimization_level,
         "tiling_optimization_level", TRT_M_BuilderConfig_setTilingOptimizationLevel, set_tiling,
         trt_BuilderConfig_getTilingOptimizationLevel},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(numbers); i++) {
        const number *n = &numbers[i];
        if (!n->set) {
            continue;
        }
        KLN_RETURN_IF_ERROR(trt_need(build->library, n->method, n->option));
        n->apply(abi, build->config, n->value);
        const int32_t kept = n->read(abi, build->config);
        if (kept != n->value) {
            return trt_fail(KILN_ERROR_UNSUPPORTED, &build->recorder,
                            "%s: %d was asked for, %s keeps %d; leave it out", n->option, n->value,
                            build->library->name, kept);
        }
    }
    return KILN_OK;
}

static kiln_status apply_l2_limit(trt_build *build)
{
    const int64_t limit = (int64_t)build->options->l2_limit_for_tiling;
    if (limit == 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(
        trt_need(build->library, TRT_M_BuilderConfig_setL2LimitForTiling, "l2_limit_for_tiling"));
    KLN_FAIL_IF(!trt_BuilderConfig_setL2LimitForTiling(&build->library->abi, build->config, limit),
                trt_fail(KILN_ERROR_UNSUPPORTED, &build->recorder,
                         "l2_limit_for_tiling: %lld bytes were not accepted", (long long)limit));
    return KILN_OK;
}

/* --- tactic sources: "-CUDNN,+CUBLAS" --- */

static const struct {
    const char *name;
    trt_enumerator source;
} tactic_names[] = {{"CUBLAS", TRT_V_TacticSource_CUBLAS},
                    {"CUBLAS_LT", TRT_V_TacticSource_CUBLAS_LT},
                    {"CUDNN", TRT_V_TacticSource_CUDNN},
                    {"EDGE_MASK_CONVOLUTIONS", TRT_V_TacticSource_EDGE_MASK_CONVOLUTIONS},
                    {"JIT_CONVOLUTIONS", TRT_V_TacticSource_JIT_CONVOLUTIONS}};

static kiln_status add_source(trt_build *build, const char *text, size_t length, uint32_t *sources)
{
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(tactic_names) && length > 1; i++) {
        if (strlen(tactic_names[i].name) == length - 1 &&
            strncmp(tactic_names[i].name, text + 1, length - 1) == 0) {
            KLN_RETURN_IF_ERROR(
                trt_need_value(build->library, tactic_names[i].source, "tactic_sources"));
            const uint32_t bit =
                1U << (unsigned)trt_value(&build->library->abi, tactic_names[i].source);
            *sources = text[0] == '+' ? *sources | bit : *sources & ~bit;
            return text[0] == '+' || text[0] == '-'
                       ? KILN_OK
                       : kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                                  "tactic_sources: \"%.*s\" must begin with + or -", (int)length,
                                  text);
        }
    }
    return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                    "tactic_sources: \"%.*s\" is none of CUBLAS, CUBLAS_LT, CUDNN, "
                    "EDGE_MASK_CONVOLUTIONS, JIT_CONVOLUTIONS with a + or - before it",
                    (int)length, text);
}

static kiln_status apply_tactics(trt_build *build)
{
    const char *text = build->options->tactic_sources;
    if (text == NULL) {
        return KILN_OK;
    }
    const trt_abi *abi = &build->library->abi;
    uint32_t sources = trt_BuilderConfig_getTacticSources(abi, build->config);
    while (*text != '\0') {
        const size_t length = strcspn(text, ",");
        KLN_RETURN_IF_ERROR(add_source(build, text, length, &sources));
        text += length + (text[length] == ',' ? 1 : 0);
    }
    KLN_FAIL_IF(!trt_BuilderConfig_setTacticSources(abi, build->config, sources),
                trt_fail(KILN_ERROR_UNSUPPORTED, &build->recorder,
                         "tactic_sources: %s did not accept \"%s\"", build->library->name,
                         build->options->tactic_sources));
    return KILN_OK;
}

/* --- devices --- */

static const trt_enumerator capabilities[] = {
    TRT_V_ComputeCapability_SM75, TRT_V_ComputeCapability_SM80,  TRT_V_ComputeCapability_SM86,
    TRT_V_ComputeCapability_SM89, TRT_V_ComputeCapability_SM120, TRT_V_ComputeCapability_SM121};

static kiln_status check_capability(const trt_library *library, int32_t capability)
{
    char known[64] = "";
    size_t used = 0;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(capabilities); i++) {
        const int32_t value = trt_value(&library->abi, capabilities[i]);
        if (value == capability && capability > 0) {
            return KILN_OK;
        }
        if (value > 0) {
            const int size =
                snprintf(known + used, sizeof known - used, "%s%d", used > 0 ? ", " : "", value);
            used += size > 0 ? (size_t)size : 0;
        }
    }
    return kln_fail(KILN_ERROR_UNSUPPORTED,
                    "compute_capabilities: %d is not one that %s builds for; there are %s",
                    capability, library->name, known);
}

static kiln_status set_capabilities(trt_build *build, const int32_t *list, size_t count)
{
    const trt_abi *abi = &build->library->abi;
    bool good = trt_BuilderConfig_setNbComputeCapabilities(abi, build->config, (int32_t)count);
    for (size_t i = 0; i < count && good; i++) {
        KLN_RETURN_IF_ERROR(check_capability(build->library, list[i]));
        good = trt_BuilderConfig_setComputeCapability(abi, build->config, list[i], (int32_t)i);
    }
    KLN_FAIL_IF(!good, trt_fail(KILN_ERROR_UNSUPPORTED, &build->recorder,
                                "compute_capabilities: %s did not accept the list of %zu",
                                build->library->name, count));
    return KILN_OK;
}

static kiln_status apply_capabilities(trt_build *build)
{
    static const int32_t usual[] = {80, 86, 89, 120};
    const kiln_build_options *o = build->options;
    if (o->compute_capability_count > 0) {
        KLN_RETURN_IF_ERROR(trt_need(build->library, TRT_M_BuilderConfig_setComputeCapability,
                                     "compute_capabilities"));
        return set_capabilities(build, o->compute_capabilities, o->compute_capability_count);
    }
    if (build->library->abi.is_rtx && !trt_library_runs(build->library, o->device, NULL)) {
        return set_capabilities(build, usual, KLN_ARRAY_LENGTH(usual));
    }
    return KILN_OK;
}

static kiln_status apply_dla(trt_build *build)
{
    const kiln_build_options *o = build->options;
    const trt_abi *abi = &build->library->abi;
    if (o->dla_core == 0) {
        return KILN_OK;
    }
    const int32_t core = o->dla_core > 0 ? o->dla_core : 0;
    const int32_t cores = trt_Builder_getNbDLACores(abi, build->builder);
    KLN_RETURN_IF(core >= cores, KILN_ERROR_UNSUPPORTED,
                  "dla_core: %d was asked for, this machine has %d", core, cores);
    trt_BuilderConfig_setDefaultDeviceType(abi, build->config,
                                           trt_value(abi, TRT_V_DeviceType_DLA));
    trt_BuilderConfig_setDLACore(abi, build->config, core);
    return KILN_OK;
}

static kiln_status apply_plugins(trt_build *build)
{
    const kiln_build_options *o = build->options;
    const trt_abi *abi = &build->library->abi;
    if (o->plugin_count == 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(trt_library_need_plugins(build->library));
    trt_PluginRegistry *registry = trt_Builder_getPluginRegistry(abi, build->builder);
    for (size_t i = 0; i < o->plugin_count; i++) {
        KLN_FAIL_IF(trt_is_null(registry) ||
                        trt_is_null(trt_PluginRegistry_loadLibrary(abi, registry, o->plugins[i])),
                    trt_fail(KILN_ERROR_LIBRARY_BROKEN, &build->recorder,
                             "plugins: \"%s\" cannot be loaded", o->plugins[i]));
    }
    if (o->serialize_plugins) {
        trt_BuilderConfig_setPluginsToSerialize(abi, build->config, o->plugins,
                                                (int32_t)o->plugin_count);
    }
    return KILN_OK;
}

/* Neither an empty list nor a duplicate is what the caller meant, and the library does not report
 * them. */
static kiln_status check_refit_names(const kiln_build_options *o)
{
    KLN_RETURN_IF(o->refit == KILN_REFIT_INDIVIDUAL && o->refit_weight_count == 0,
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_build_options: refit is individual and refit_weights names "
                  "none: nothing could be replaced");
    KLN_SCOPED(kln_names_finish) kln_names names = {0};
    for (size_t i = 0; i < o->refit_weight_count; i++) {
        const char *name = o->refit_weights[i];
        KLN_RETURN_IF(kln_names_get(&names, name) != KLN_NAMES_NONE, KILN_ERROR_NAME,
                      "kiln_build_options: refit_weights names \"%s\" twice", name);
        KLN_RETURN_IF_ERROR(kln_names_set(&names, name, (uint32_t)i));
    }
    return KILN_OK;
}

/* Options that have no effect on their own: the library ignores them, or fails only at the end of a
 * build. */
static kiln_status check_pairs(const kiln_build_options *o)
{
    const bool has_cache = o->timing_cache != NULL || o->timing_cache_bytes.size > 0;
    const struct {
        bool lacks;
        const char *option, *other;
    } pairs[] = {
        {o->gpu_fallback && o->dla_core == 0, "gpu_fallback", "dla_core"},
        {o->exclude_lean_runtime && !o->version_compatible, "exclude_lean_runtime",
         "version_compatible"},
        {o->error_on_timing_cache_miss && !has_cache, "error_on_timing_cache_miss", "timing_cache"},
        {o->serialize_plugins && o->plugin_count == 0, "serialize_plugins", "plugins"},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(pairs); i++) {
        KLN_RETURN_IF(pairs[i].lacks, KILN_ERROR_INVALID_ARGUMENT,
                      "%s: it goes with %s, which is not set", pairs[i].option, pairs[i].other);
    }
    KLN_RETURN_IF(o->disable_timing_cache && has_cache, KILN_ERROR_INVALID_ARGUMENT,
                  "disable_timing_cache: timing_cache is set as well; leave one of them out");
    return KILN_OK;
}

kiln_status trt_check_options(const kiln_build_options *o)
{
    KLN_RETURN_IF_ERROR(check_pairs(o));
    KLN_RETURN_IF(o->refit_weight_count > 0 && o->refit != KILN_REFIT_INDIVIDUAL,
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_build_options: %zu refit_weights are named, which only refit "
                  "individual takes; refit is %d",
                  o->refit_weight_count, (int)o->refit);
    KLN_RETURN_IF(o->optimization != KILN_OPTIMIZATION_DEFAULT || o->parallel_nodes > 1,
                  KILN_ERROR_UNSUPPORTED, "%s: TensorRT has builder_optimization_level instead",
                  o->parallel_nodes > 1 ? "parallel_nodes" : "optimization");
    return check_refit_names(o);
}

kiln_status trt_apply_options(trt_build *build)
{
    const kiln_build_options *o = build->options;
    trt_logged_clear(); /* errors from creating the objects do not explain failures here */
    KLN_RETURN_IF_ERROR(apply_flags(build));
    KLN_RETURN_IF_ERROR(apply_pools(build));
    KLN_RETURN_IF_ERROR(apply_numbers(build));
    KLN_RETURN_IF_ERROR(apply_l2_limit(build));
    KLN_RETURN_IF_ERROR(apply_tactics(build));
    KLN_RETURN_IF_ERROR(apply_capabilities(build));
    KLN_RETURN_IF_ERROR(apply_dla(build));
    KLN_RETURN_IF_ERROR(apply_plugins(build));
    KLN_FAIL_IF(o->threads > 0 &&
                    !trt_Builder_setMaxThreads(&build->library->abi, build->builder, o->threads),
                trt_fail(KILN_ERROR_UNSUPPORTED, &build->recorder, "threads: %d were not accepted",
                         o->threads));
    return KILN_OK;
}

/* --- int4 weights --- */

static bool has_int4_beside_halves(const kln_onnx_graph *graph)
{
    bool has_int4 = false;
    bool has_halves = false;
    for (size_t i = 0; i < graph->initializer_count; i++) {
        const kiln_dtype dtype = graph->initializers[i].dtype;
        has_int4 = has_int4 || dtype == KILN_DTYPE_INT4;
        has_halves = has_halves || dtype == KILN_DTYPE_FLOAT16 || dtype == KILN_DTYPE_BFLOAT16;
    }
    return has_int4 && has_halves;
}

/* On an H200, TensorRT 10.6 terminates the process ("LLVM ERROR: out of memory") while it searches
 * for kernels that multiply a half type with int4 weights, at level 2 and above, for any block size
 * and shape (bench/gpu_precision.py). At level 1 it converts the weights to the half type first. */
kiln_status trt_apply_int4(trt_build *build)
{
    const kiln_build_options *o = build->options;
    const trt_library *library = build->library;
    const kln_onnx_model *model = build->model->graph != NULL ? build->model->graph : build->onnx;
    if (model == NULL || library->abi.is_rtx || library->abi.version / 100 != 1006 ||
        trt_device_capability(o->device) != 90 || o->hardware_compatibility != KILN_HARDWARE_NONE ||
        !has_int4_beside_halves(&model->graph)) {
        return KILN_OK;
    }
    KLN_RETURN_IF(o->builder_optimization_level > 1, KILN_ERROR_UNSUPPORTED,
                  "builder_optimization_level: %d was asked for; %s ends the process above 1 where "
                  "weights of int4 are multiplied by a half type on this GPU",
                  o->builder_optimization_level, library->name);
    if (o->builder_optimization_level == 0) {
        kln_log(KILN_LOG_INFO, "tensorrt",
                "%s: weights of int4 beside a half type: level 1, above which %s ends the process",
                build->source, library->name);
        trt_BuilderConfig_setBuilderOptimizationLevel(&library->abi, build->config, 1);
    }
    return KILN_OK;
}
