/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests with real TensorRT libraries share. */
#ifndef TRT_TEST_H
#define TRT_TEST_H

#include "kiln_test.h"

/* With KILN_TEST_REAL_TENSORRT the same files run on a GPU, over the one library that KILN_TENSORRT
 * names; what is about building without a GPU, or about RTX, is left out there. */
#ifdef KILN_TEST_REAL_TENSORRT
#define TRT_TEST_ON_GPU true
#else
#define TRT_TEST_ON_GPU false
#endif

/* The versions that install_deps.sh knows, newest first. */
extern const char *const trt_test_rtx[];
extern const char *const trt_test_lean[];

/* Something that the tests need is not installed: skips the test, or fails it where
 * KILN_REQUIRE_TENSORRT says so. */
void trt_test_absent(const char *what);

/* The folder of a library, or NULL where it is not installed and need not be. `kind` is "rtx" or
 * "lean". */
const char *trt_test_library(const char *kind, const char *version);

/* The newest RTX that is installed; skips the test where there is none. */
const char *trt_test_newest(void);

/* A model below the folder of what was downloaded, or NULL where it need not be there;
 * light_resnet50 is found in Python's onnx package. */
const char *trt_test_model(const char *name);

/* Options for `library` and compute capability 8.9. */
kiln_build_options trt_test_options(const char *library);

/* A node model of Debian's libonnx-testdata, "test_sigmoid", or of the folder that the environment
 * variable KILN_TEST_NODES names; or NULL. */
const char *trt_test_node(const char *name);

/* Skips a test that is about building where no GPU is, or about RTX. */
void trt_test_not_on_gpu(void);

/* False: it says why nothing can be run here. TESTS_BEGIN(trt_test_begin). */
bool trt_test_begin(void);

#endif
