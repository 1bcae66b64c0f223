/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/tensorrt/trt_builder.h"

/* The timing cache is read before a build and written after it, whole or not at all: two builds at
 * once each leave a good file, and the later one's stays. */
kiln_status trt_timing_begin(trt_build *build)
{
    const kiln_build_options *options = build->options;
    const trt_abi *abi = &build->library->abi;
    kiln_span bytes = options->timing_cache_bytes;
    if (options->timing_cache == NULL && bytes.size == 0) {
        return KILN_OK;
    }
    if (options->timing_cache != NULL && bytes.size > 0) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "timing_cache and timing_cache_bytes are both set; one is needed");
    }
    if (options->timing_cache != NULL && kln_file_exists(options->timing_cache)) {
        KLN_RETURN_IF_ERROR(kln_mapping_open(options->timing_cache, &build->timing_cache));
        bytes = build->timing_cache.bytes;
    }
    build->timing = trt_BuilderConfig_createTimingCache(abi, build->config, bytes.data, bytes.size);
    if (trt_is_null(build->timing)) {
        build->timing = NULL;
    }
    if (build->timing == NULL ||
        !trt_BuilderConfig_setTimingCache(abi, build->config, build->timing, false)) {
        return trt_fail(KILN_ERROR_MISMATCH, &build->recorder,
                        "timing_cache: %s does not take the %zu bytes of %s; one of another "
                        "version or GPU must be deleted",
                        build->library->name, bytes.size,
                        options->timing_cache != NULL ? options->timing_cache : "the caller");
    }
    kln_log(KILN_LOG_DEBUG, "tensorrt", "timing cache: %zu bytes read", bytes.size);
    return KILN_OK;
}

static kiln_status write_cache(trt_build *build, const char *path)
{
    const trt_abi *abi = &build->library->abi;
    trt_HostMemory *memory = trt_TimingCache_serialize(abi, build->timing);
    if (trt_is_null(memory)) {
        return trt_fail(KILN_ERROR_BACKEND, &build->recorder, "the timing cache");
    }
    const kiln_span bytes = {trt_HostMemory_data(abi, memory), trt_HostMemory_size(abi, memory)};
    const kiln_status status = kln_file_write(path, &bytes, 1, false);
    trt_HostMemory_destroy(memory);
    return status;
}

void trt_timing_end(trt_build *build)
{
    const char *path = build->options->timing_cache;
    if (path != NULL && build->timing != NULL && write_cache(build, path) != KILN_OK) {
        kln_log(KILN_LOG_WARNING, "tensorrt",
                "%s is built, but its timing cache was not written, and the next build measures "
                "again what this one did: %s",
                build->source, kiln_error_message());
    }
}

void trt_timing_finish(trt_build *build)
{
    trt_TimingCache_destroy(build->timing);
    kln_mapping_close(&build->timing_cache);
}
