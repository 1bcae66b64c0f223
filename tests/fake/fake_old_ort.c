/* SPDX-License-Identifier: Apache-2.0 */
/* An ONNX Runtime of long ago: it knows its version, and no table that is asked for today. */
#include <stddef.h>
#include <stdint.h>

struct base {
    const void *(*get_api)(uint32_t level);
    const char *(*get_version)(void);
};

__attribute__((visibility("default"))) const struct base *OrtGetApiBase(void);

static const void *get_api(uint32_t level)
{
    static const void *const table[1] = {NULL};
    return level <= 10 ? table : NULL;
}

static const char *get_version(void)
{
    return "1.10.0";
}

const struct base *OrtGetApiBase(void)
{
    static const struct base base = {get_api, get_version};
    return &base;
}
