/* SPDX-License-Identifier: Apache-2.0 */
/* The scenarios of tests/unit/test_trt_*.c on the library that KILN_TENSORRT names, on GPU 0: what
 * fake_tensorrt_test.h offers them for the stand-in, for a real one. */
#ifndef REAL_TENSORRT_TEST_H
#define REAL_TENSORRT_TEST_H

#include "backends/tensorrt/trt_library.h"
#include "cuda/kln_cuda.h"
#include "kiln_test.h"

#define ON_STAND_IN false
#define SOME_LAYOUT 0

/* One library, which begin_tensorrt_tests() fills in. */
static struct fake_layout {
    const char *folder;
    char version[32]; /* "10.6.0" */
    char name[32];    /* "TensorRT 10.6.0" */
} fake_layouts[1];
#define FAKE_LAYOUTS ((size_t)1)
#define LAYOUT_10 0
#define LAYOUT_11 0
#define LAYOUT_RTX_14 0
#define LAYOUT_RTX_15 0
#define LAYOUT_OLDEST ((size_t)-1) /* none */

static bool real_is_rtx;
static trt_library *real_library;

static inline const char *fake_place(const char *name)
{
    return "/no/stand/in"; /* never opened */
}

static inline const char *fake_folder(size_t layout)
{
    return fake_layouts[layout].folder;
}

static inline bool is_rtx(size_t layout)
{
    return real_is_rtx;
}

/* Whether what came with TensorRT `version` (101200) is there. */
static inline bool has_since(size_t layout, int32_t version)
{
    return real_is_rtx || real_library->abi.version >= version;
}

static inline void set(const char *name, const char *value)
{
    assert_int_equal(value != NULL ? setenv(name, value, 1) : unsetenv(name), 0);
}

/* Where a scenario asks the stand-in's own counters, ON_STAND_IN stands before it. */
static inline unsigned long calls(const char *name)
{
    return 0;
}

static inline long trt_number(size_t layout, const char *what)
{
    return 0;
}

static inline void trt_fail_at(size_t layout, long which, long null)
{
}

static inline kiln_build_options fake_options(size_t layout)
{
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = "tensorrt", .library = fake_folder(layout));
    options.builder_optimization_level = -1; /* a convolution takes 10 s to build at level 3 */
    return options;
}

/* False, and why, where there is no GPU or no library that can build. */
static inline bool begin_tensorrt_tests(void)
{
    const char *folder = getenv("KILN_TENSORRT");
    const char *reason = "";
    if (folder == NULL || folder[0] == '\0') {
        print_message("skipped: KILN_TENSORRT names no library\n");
        return false;
    }
    if (trt_library_open(folder, &real_library) != KILN_OK ||
        trt_library_need_builder(real_library) != KILN_OK ||
        trt_library_need_parser(real_library) != KILN_OK) {
        print_message("skipped: %s\n", kiln_error_message());
        return false;
    }
    if (!trt_library_runs(real_library, 0, &reason)) {
        print_message("skipped: %s\n", reason);
        return false;
    }
    fake_layouts[0].folder = folder;
    (void)snprintf(fake_layouts[0].name, sizeof fake_layouts[0].name, "%s", real_library->name);
    real_is_rtx = strstr(real_library->name, "RTX") != NULL;
    (void)snprintf(fake_layouts[0].version, sizeof fake_layouts[0].version, "%s",
                   strrchr(real_library->name, ' ') + 1);
    print_message("%s, %s\n", real_library->name, kln_library_path(real_library->record));
    return true;
}

static inline int begin_real(void **state)
{
    return unsetenv("KILN_BACKEND");
}

static inline void only_on_the_stand_in(void **state)
{
    print_message("  only on the stand-in: %s\n", (const char *)*state);
    _skip(__FILE__, __LINE__); /* by design, not for lack of something */
}

TESTS_BEGIN(begin_tensorrt_tests)

#define TENSORRT_TEST(name) TEST_WITH(name, begin_real, NULL)
/* The name stays, so that what is left out is read in the output. */
#define STAND_IN_TEST(name, why)                                                \
    KILN_TEST_AS(name, ON_STAND_IN ? (name) : only_on_the_stand_in, NULL, NULL, \
                 (void *)(uintptr_t)(why))

#endif
