/* SPDX-License-Identifier: Apache-2.0 */
/* A library that says of itself that it is TensorRT UNKNOWN_VERSION, and must not be asked
 * anything else. With LEAN it is a runtime without a builder. */
#include <stdint.h>
#include <stdlib.h>

int32_t getInferLibVersion(void);
int32_t getInferLibVersion(void)
{
    return UNKNOWN_VERSION;
}

#define MUST_NOT_BE_CALLED(name) \
    void name(void);             \
    void name(void)              \
    {                            \
        abort();                 \
    }
MUST_NOT_BE_CALLED(createInferRuntime_INTERNAL)
MUST_NOT_BE_CALLED(createInferRefitter_INTERNAL)
#ifndef LEAN
MUST_NOT_BE_CALLED(createInferBuilder_INTERNAL)
#endif
MUST_NOT_BE_CALLED(getPluginRegistry)
