/* SPDX-License-Identifier: Apache-2.0 */
/* A lean runtime of TensorRT on a real GPU: what Kiln sets is taken, and what is no plan for it is
 * refused with an explanation.
 *
 *     gpu_lean LIBRARY PLAN_OF_RTX|- [PLAN]...
 *
 * LIBRARY is a lean runtime or its folder, PLAN_OF_RTX a plan that the runtime must refuse, and
 * each PLAN one that it must load. Prints a line for each check; exits with 1 where one fails,
 * with 77 where there is no GPU. */
#include <stdio.h>
#include <string.h>

#include <kiln/kiln.h>

#include "backends/kln_backends.h"
#include "backends/tensorrt/trt_device.h"
#include "backends/tensorrt/trt_library.h"

static int failures;

static void check(bool right, const char *what, const char *found)
{
    failures += right ? 0 : 1;
    printf("%s %s: %s\n", right ? "ok  " : "FAIL", what, found);
    (void)fflush(stdout);
}

static void check_number(const char *what, long long found, long long expected)
{
    char text[64];
    (void)snprintf(text, sizeof text, "%lld (expected %lld)", found, expected);
    check(found == expected, what, text);
}

/* --- device memory that counts, so that a use of the allocator shows --- */

typedef struct counted {
    trt_memory memory;
    int allocations;
    int releases;
} counted;

static void *count_allocate(void *user, size_t size, void *stream, kiln_block *piece)
{
    counted *counts = user;
    counts->allocations++;
    return counts->memory.allocate(counts->memory.user, size, stream, piece);
}

static bool count_release(void *user, void *memory, void *stream, const kiln_block *piece)
{
    counted *counts = user;
    counts->releases++;
    return counts->memory.release(counts->memory.user, memory, stream, piece);
}

/* --- what is set --- */

static void check_objects(const trt_abi *abi, trt_Runtime *runtime, trt_error_recorder *recorder)
{
    trt_Runtime_setErrorRecorder(abi, runtime, &recorder->object);
    check_number("references to the recorder", recorder->references, 1);
    trt_Runtime_setErrorRecorder(abi, runtime, NULL);
    check_number("references to the recorder after NULL", recorder->references, 0);
    trt_Runtime_setErrorRecorder(abi, runtime, &recorder->object);
    check(trt_Runtime_setMaxThreads(abi, runtime, 4), "setMaxThreads", "accepted");
    check(!trt_Runtime_setMaxThreads(abi, runtime, 0), "setMaxThreads(0)", "refused");
    trt_Runtime_setEngineHostCodeAllowed(abi, runtime, true);
    trt_Runtime_setEngineHostCodeAllowed(abi, runtime, false);
}

/* --- what is no plan --- */

static bool read_whole(const char *path, kln_mapping *mapping)
{
    if (kln_mapping_open(path, mapping) == KILN_OK) {
        return true;
    }
    check(false, path, kiln_error_message());
    return false;
}

static void refuse(const trt_library *library, trt_Runtime *runtime, trt_error_recorder *recorder,
                   const char *what, kiln_span bytes)
{
    const trt_abi *abi = &library->abi;
    trt_logged_clear();
    trt_error_recorder_clear(recorder);
    trt_CudaEngine *engine =
        trt_Runtime_deserializeCudaEngine(abi, runtime, bytes.data, bytes.size);
    char name[128];
    (void)snprintf(name, sizeof name, "%s is refused", what);
    check(trt_is_null(engine), name, trt_logged_error());
    (void)snprintf(name, sizeof name, "%s: errors recorded", what);
    check(recorder->count > 0 || trt_logged_error()[0] != '\0', name, "");
    trt_CudaEngine_destroy(engine);
}

/* The same as Kiln explains it. */
static void refuse_publicly(const char *library, const char *what, kiln_span bytes)
{
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "tensorrt", .library = library);
    const kiln_model plan = {.bytes = bytes};
    void *engine = NULL;
    const kiln_status status = kln_backend_tensorrt.engine.load(&plan, &options, NULL, &engine);
    char name[128];
    (void)snprintf(name, sizeof name, "%s through Kiln: %s", what, kiln_status_name(status));
    /* What has no magic word of a plan is taken for a model, which these libraries cannot build. */
    check(status == KILN_ERROR_MALFORMED || status == KILN_ERROR_MISMATCH ||
              status == KILN_ERROR_UNSUPPORTED,
          name, kiln_error_message());
    if (status == KILN_OK) {
        kln_backend_tensorrt.engine.destroy(engine);
    }
}

static void check_plans(const trt_library *library, trt_Runtime *runtime,
                        trt_error_recorder *recorder, const char *path, const char *rtx_plan)
{
    static unsigned char garbage[65536];
    for (size_t i = 0; i < sizeof garbage; i++) {
        garbage[i] = (unsigned char)(i * 167 + 13);
    }
    const kiln_span all = {garbage, sizeof garbage};
    refuse(library, runtime, recorder, "garbage", all);
    refuse_publicly(path, "garbage", all);
    memcpy(garbage, "ftrt", 4);
    refuse(library, runtime, recorder, "garbage behind the magic word", all);
    refuse_publicly(path, "garbage behind the magic word", all);
    refuse(library, runtime, recorder, "a plan of 8 bytes", (kiln_span){garbage, 8});
    kln_mapping mapping;
    if (strcmp(rtx_plan, "-") != 0 && read_whole(rtx_plan, &mapping)) {
        refuse(library, runtime, recorder, "a plan of RTX", mapping.bytes);
        refuse_publicly(path, "a plan of RTX", mapping.bytes);
        kln_mapping_close(&mapping);
    }
}

/* --- plans that it must load --- */

static void load(const char *library, const char *plan)
{
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "tensorrt", .library = library);
    kiln_engine *engine = NULL;
    check(kiln_engine_load(plan, &options, &engine) == KILN_OK, plan, kiln_error_message());
    kiln_engine_release(engine);
}

/* --- all --- */

static void check_runtime(trt_library *library, trt_Runtime *runtime, char **arguments)
{
    const trt_abi *abi = &library->abi;
    kiln_stream *stream = NULL;
    check(kiln_stream_create(0, 0, &stream) == KILN_OK, "a stream", kiln_error_message());
    if (stream == NULL) {
        return;
    }
    counted counts = {.allocations = 0};
    int32_t device = 0;
    trt_device_memory(&counts.memory, &device);
    const trt_memory memory = {
        .user = &counts, .allocate = count_allocate, .release = count_release, .copy = NULL};
    trt_gpu_allocator allocator;
    trt_gpu_allocator_init(&allocator, &library->tables, &memory, 0);
    trt_error_recorder recorder;
    trt_error_recorder_init(&recorder, &library->tables);
    check_objects(abi, runtime, &recorder);
    trt_Runtime_setGpuAllocator(abi, runtime, &allocator.object);
    check_plans(library, runtime, &recorder, arguments[1], arguments[2]);
    printf("     device memory: %d allocations, %d releases\n", counts.allocations,
           counts.releases);
    check_number("device memory in use at the end", (long long)allocator.in_use, 0);
    trt_Runtime_setGpuAllocator(abi, runtime, NULL);
    trt_Runtime_setErrorRecorder(abi, runtime, NULL);
    trt_Runtime_destroy(runtime);
    check_number("references to the recorder at the end", recorder.references, 0);
    trt_error_recorder_finish(&recorder);
    trt_gpu_allocator_finish(&allocator);
    kiln_stream_destroy(stream);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: %s LIBRARY PLAN_OF_RTX|- [PLAN]...\n", argv[0]);
        return 2;
    }
    trt_library *library = NULL;
    if (trt_library_open(argv[1], &library) != KILN_OK) {
        fprintf(stderr, "%s\n", kiln_error_message());
        return 1;
    }
    printf("%s, %s\n", library->name, kln_library_path(library->record));
    trt_logged_clear();
    trt_Runtime *runtime =
        library->core.createInferRuntime_INTERNAL(&library->logger, library->abi.version);
    const char *why_none = "";
    if (trt_device_count(&why_none) == 0) {
        printf("skipped: %s; the library says: %s\n", why_none, trt_logged_error());
        trt_Runtime_destroy(runtime);
        return 77;
    }
    check(!trt_is_null(runtime), "createInferRuntime", trt_logged_error());
    if (!trt_is_null(runtime)) {
        check_runtime(library, runtime, argv);
    }
    for (int i = 3; i < argc; i++) {
        load(argv[1], argv[i]);
    }
    printf("%d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
