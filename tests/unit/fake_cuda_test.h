/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests share that run over the fake CUDA driver (tests/fake/fake_cuda.h). */
#ifndef FAKE_CUDA_TEST_H
#define FAKE_CUDA_TEST_H

#include <dlfcn.h>

#include "cuda/kln_cuda.h"
#include "kiln_test.h"

#define FAKE_CUDA kiln_test_built("fake/cuda/libcuda.so.1")
/* The same without functions for kernels. */
#define FAKE_CUDA_PLAIN kiln_test_built("fake/cudaplain/libcuda.so.1")

static inline void set(const char *name, const char *value)
{
    assert_int_equal(value != NULL ? setenv(name, value, 1) : unsetenv(name), 0);
}

/* The fake's own word on calls, bytes and objects. */
static inline unsigned long fake_number(const char *function, const char *name)
{
    void *handle = dlopen(FAKE_CUDA, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(handle);
    void *address = dlsym(handle, function);
    assert_non_null(address);
    unsigned long (*call)(const char *) = NULL;
    memcpy(&call, &address, sizeof call);
    const unsigned long number = call(name);
    assert_int_equal(dlclose(handle), 0);
    return number;
}

static inline unsigned long calls(const char *name)
{
    return fake_number("fake_cuda_calls", name);
}

/* Before each test: the fake as it is without wishes. */
static inline int begin_fake(void **state)
{
    static const char *const wishes[] = {"DEVICES",     "VERSION",     "INIT",          "MEMORY",
                                         "LOST",        "CAPTURE",     "UPDATE",        "BUSY",
                                         "HOST_NODES",  "LOST_DEVICE", "MEMORY_DEVICE", "SLOW",
                                         "SLOW_COPIES", "KERNELS",     "SCHEDULE",      "WRITES"};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(wishes); i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "FAKE_CUDA_%s", wishes[i]);
        (void)unsetenv(name);
    }
    kln_cuda_close();
    return setenv("KILN_CUDA_DRIVER", FAKE_CUDA, 1);
}

/* After each test: nothing of the fake's is left. */
static inline int end_fake(void **state)
{
    (void)begin_fake(state);
    assert_int_equal(fake_number("fake_cuda_bytes", ""), 0);
    assert_int_equal(fake_number("fake_cuda_objects", ""), 0);
    return 0;
}

#define FAKE_TEST(name) TEST_WITH(name, begin_fake, end_fake)

#endif
