/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "kln_engine.h"

/* Of a member that is a pointer, the size of the pointer is meant. */
#define SIZE(name) sizeof(((const kiln_build_options *)0)->name) /* NOLINT(bugprone-sizeof-*) */
#define OPTION(name)                                          \
    {                                                         \
#name, offsetof(kiln_build_options, name), SIZE(name) \
    }

/* What only some backends take, to be named where one does not. */
static const struct {
    const char *name;
    size_t offset;
    size_t size;
} names[] = {
    OPTION(profiles),
    OPTION(profile_count),
    OPTION(workspace_bytes),
    OPTION(dla_sram_bytes),
    OPTION(dla_local_dram_bytes),
    OPTION(dla_global_dram_bytes),
    OPTION(tactic_dram_bytes),
    OPTION(tactic_shared_bytes),
    OPTION(builder_optimization_level),
    OPTION(timing_cache),
    OPTION(timing_cache_bytes),
    OPTION(tf32),
    OPTION(sparse_weights),
    OPTION(strip_plan),
    OPTION(weight_streaming),
    OPTION(version_compatible),
    OPTION(exclude_lean_runtime),
    OPTION(distributive_independence),
    OPTION(strict_nans),
    OPTION(direct_io),
    OPTION(disable_timing_cache),
    OPTION(disable_compilation_cache),
    OPTION(error_on_timing_cache_miss),
    OPTION(gpu_fallback),
    OPTION(use_dla),
    OPTION(dla_core),
    OPTION(refit),
    OPTION(refit_weights),
    OPTION(refit_weight_count),
    OPTION(hardware_compatibility),
    OPTION(profiling_verbosity),
    OPTION(tactic_sources),
    OPTION(tiling_optimization_level),
    OPTION(l2_limit_for_tiling),
    OPTION(max_aux_streams),
    OPTION(max_tactics),
    OPTION(average_timing_iterations),
    OPTION(windows_runtime),
    OPTION(compute_capabilities),
    OPTION(compute_capability_count),
    OPTION(plugins),
    OPTION(plugin_count),
    OPTION(serialize_plugins),
    OPTION(allow_host_code),
    OPTION(share_weights),
    OPTION(provider),
    OPTION(gpu_memory_bytes),
    OPTION(arena_growth),
    OPTION(conv_search),
    OPTION(prefer_nhwc),
    OPTION(gpu_only),
    OPTION(profile_nodes),
    OPTION(fuse_conv_bias),
    OPTION(gpu_allocator),
    OPTION(gpu_pool),
    OPTION(keep_builder),
    OPTION(weights_folder),
    OPTION(copy_file),
    OPTION(shape_hints),
    OPTION(shape_hint_count),
};

const char *kln_build_option_name(const kiln_build_options *options)
{
    static const unsigned char zero[64];
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(names); i++) {
        if (memcmp((const unsigned char *)options + names[i].offset, zero, names[i].size) != 0) {
            return names[i].name;
        }
    }
    return NULL;
}
