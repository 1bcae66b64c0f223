/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/tensorrt/trt_builder.h"

/* Starts the build with a cache of `bytes`, or an empty one; false if the library rejects it. */
static bool set_cache(trt_build *build, kiln_span bytes)
{
    const trt_abi *abi = &build->library->abi;
    trt_logged_clear();
    trt_error_recorder_clear(&build->recorder);
    build->timing = trt_BuilderConfig_createTimingCache(abi, build->config, bytes.data, bytes.size);
    if (trt_is_null(build->timing)) {
        build->timing = NULL;
    }
    /* Some versions return an object for bytes that they could not read, and only log it. */
    return build->timing != NULL &&
           trt_BuilderConfig_setTimingCache(abi, build->config, build->timing, false) &&
           (bytes.size == 0 || !trt_said(&build->recorder, "Serialization"));
}

/* Measurements of one build save later ones of similar models most of their time. RTX measures when
 * it loads a plan. */
static bool may_keep(const trt_build *build)
{
    const kiln_build_options *o = build->options;
    return o->keep_builder != KILN_SWITCH_OFF && !o->disable_timing_cache &&
           !o->error_on_timing_cache_miss && !build->library->abi.is_rtx;
}

static kiln_status begin_with_kept(trt_build *build)
{
    if (!may_keep(build)) {
        return KILN_OK;
    }
    kiln_span bytes = {NULL, 0};
    KLN_RETURN_IF_ERROR(trt_library_get_timings(build->library, build->options->device, &bytes));
    build->keeps_timing = set_cache(build, bytes.size > 0 ? bytes : build->model->timings);
    if (!build->keeps_timing && bytes.size == 0 && build->model->timings.size > 0) {
        trt_TimingCache_destroy(build->timing);
        build->keeps_timing = set_cache(build, bytes);
    }
    if (!build->keeps_timing) {
        /* The caller did not ask for it: TensorRT measures as if there were no cache. */
        trt_library_keep_timings(build->library, build->options->device, (kiln_span){NULL, 0});
        trt_error_recorder_clear(&build->recorder);
        trt_logged_clear();
    }
    kln_free((void *)(uintptr_t)bytes.data);
    return KILN_OK;
}

/* The timing cache is read before a build and written after it, atomically: if two builds run at
 * once, each writes a valid file, and the later one stays. */
kiln_status trt_timing_begin(trt_build *build)
{
    const kiln_build_options *options = build->options;
    kiln_span bytes = options->timing_cache_bytes;
    if (options->timing_cache == NULL && bytes.size == 0) {
        return begin_with_kept(build);
    }
    KLN_RETURN_IF(options->timing_cache != NULL && bytes.size > 0, KILN_ERROR_INVALID_ARGUMENT,
                  "timing_cache and timing_cache_bytes are both set; one is needed");
    if (options->timing_cache != NULL && kln_file_exists(options->timing_cache)) {
        KLN_RETURN_IF_ERROR(kln_mapping_open(options->timing_cache, &build->timing_cache));
        bytes = build->timing_cache.bytes;
    }
    if (!set_cache(build, bytes)) {
        return trt_fail(KILN_ERROR_MISMATCH, &build->recorder,
                        "timing_cache: %s does not take the %zu bytes of %s; one of another "
                        "version or GPU must be deleted",
                        build->library->name, bytes.size,
                        options->timing_cache != NULL ? options->timing_cache : "the caller");
    }
    kln_log(KILN_LOG_DEBUG, "tensorrt", "timing cache: %zu bytes read", bytes.size);
    return KILN_OK;
}

static kiln_status write_cache(trt_build *build, kiln_span bytes)
{
    return bytes.size > 0 ? kln_file_write(build->options->timing_cache, &bytes, 1, false)
                          : trt_fail(KILN_ERROR_BACKEND, &build->recorder, "the timing cache");
}

void trt_timing_end(trt_build *build)
{
    const trt_abi *abi = &build->library->abi;
    if (build->timing == NULL || (!build->keeps_timing && build->options->timing_cache == NULL)) {
        return;
    }
    trt_HostMemory *memory = trt_TimingCache_serialize(abi, build->timing);
    kiln_span bytes = {NULL, 0};
    if (!trt_is_null(memory)) {
        bytes = (kiln_span){trt_HostMemory_data(abi, memory), trt_HostMemory_size(abi, memory)};
    }
    if (build->keeps_timing) {
        trt_library_keep_timings(build->library, build->options->device, bytes);
    } else if (write_cache(build, bytes) != KILN_OK) {
        kln_log(KILN_LOG_WARNING, "tensorrt",
                "%s is built, but its timing cache was not written, and the next build measures "
                "again what this one did: %s",
                build->source, kiln_error_message());
    }
    trt_HostMemory_destroy(memory);
}

void trt_timing_finish(trt_build *build)
{
    trt_TimingCache_destroy(build->timing);
    kln_mapping_close(&build->timing_cache);
}
