/* SPDX-License-Identifier: Apache-2.0 */
#include "trt_test.h"

#include <glob.h>

#include "backends/tensorrt/trt_library.h"
#include "base/kln_base.h"

#ifndef TRT_REQUIRED
#define TRT_REQUIRED 0
#endif

#ifdef KILN_TEST_REAL_TENSORRT
const char *const trt_test_rtx[] = {"KILN_TENSORRT", NULL};
const char *const trt_test_lean[] = {NULL};
#else
const char *const trt_test_rtx[] = {"1.7.1.116", "1.5.0.114", "1.4.0.76", NULL};
const char *const trt_test_lean[] = {"11.4.0.106", "10.16.1.11", NULL};
#endif

/* Every path that was asked for, so that the strings stay. */
static char paths[64][512];
static size_t path_count;

static const char *existing(const char *path)
{
    if (access(path, R_OK) != 0) {
        return NULL;
    }
    for (size_t i = 0; i < path_count; i++) {
        if (strcmp(paths[i], path) == 0) {
            return paths[i];
        }
    }
    assert_true(path_count < KLN_ARRAY_LENGTH(paths));
    char *kept = paths[path_count++];
    (void)snprintf(kept, sizeof paths[0], "%s", path);
    return kept;
}

void trt_test_absent(const char *what)
{
    if (TRT_REQUIRED) {
        fail_msg("%s is not there: scripts/install_deps.sh test tensorrt", what);
    }
    skip();
}

/* `path`, or NULL where it is not there and need not be. */
static const char *wanted(const char *path)
{
    const char *found = existing(path);
    if (found == NULL && TRT_REQUIRED) {
        trt_test_absent(path);
    }
    return found;
}

const char *trt_test_library(const char *kind, const char *version)
{
    if (TRT_TEST_ON_GPU) {
        return getenv("KILN_TENSORRT");
    }
    char path[512];
    (void)snprintf(path, sizeof path, "%s/tensorrt/%s-%s/tensorrt_%s_libs", kiln_test_deps_folder,
                   kind, version, kind);
    return wanted(path);
}

const char *trt_test_newest(void)
{
    for (size_t i = 0; trt_test_rtx[i] != NULL; i++) {
        const char *found = trt_test_library("rtx", trt_test_rtx[i]);
        if (found != NULL) {
            return found;
        }
    }
    skip();
    return NULL;
}

const char *trt_test_model(const char *name)
{
    char path[512];
    if (strcmp(name, "light_resnet50") != 0) {
        (void)snprintf(path, sizeof path, "%s/models/%s", kiln_test_deps_folder, name);
        return wanted(path);
    }
    (void)snprintf(path, sizeof path,
                   "%s/python/lib/python3*/site-packages/onnx/backend/test/data/light/%s.onnx",
                   kiln_test_deps_folder, name);
    glob_t found;
    const char *result = NULL;
    if (glob(path, 0, NULL, &found) == 0) {
        result = existing(found.gl_pathv[0]);
        globfree(&found);
    }
    if (result == NULL && TRT_REQUIRED) {
        trt_test_absent(name);
    }
    return result;
}

const char *trt_test_node(const char *name)
{
    char path[512];
    const char *folder = getenv("KILN_TEST_NODES");
    folder = folder != NULL ? folder : "/usr/share/libonnx-testdata/data/node";
    (void)snprintf(path, sizeof path, "%s/%s/model.onnx", folder, name);
    return wanted(path);
}

kiln_build_options trt_test_options(const char *library)
{
    static const int32_t capabilities[] = {89};
    kiln_build_options options = backend_options("tensorrt");
    options.library = library;
    options.compute_capabilities = TRT_TEST_ON_GPU ? NULL : capabilities;
    options.compute_capability_count = TRT_TEST_ON_GPU ? 0 : 1;
    options.builder_optimization_level = TRT_TEST_ON_GPU ? -1 : 0; /* kernels are not tried */
    return options;
}

void trt_test_not_on_gpu(void)
{
    SKIP_IF(TRT_TEST_ON_GPU);
}

bool trt_test_begin(void)
{
    if (!TRT_TEST_ON_GPU) {
        return true;
    }
    trt_library *library = NULL;
    const char *reason = "KILN_TENSORRT names no library";
    if (getenv("KILN_TENSORRT") == NULL || trt_library_open(NULL, &library) != KILN_OK ||
        !trt_library_runs(library, 0, &reason)) {
        print_message("skipped: %s\n", library != NULL ? reason : kiln_error_message());
        return false;
    }
    /* The first one of a process takes seconds, and goes with the last: this one stays. */
    (void)library->core.createInferBuilder_INTERNAL(&library->logger, library->abi.version);
    return true;
}
