/* SPDX-License-Identifier: Apache-2.0 */
/* Memory by location, for the modules above. Buffers, pools and plans are the public objects of
 * <kiln/memory.h>. */
#ifndef KLN_MEMORY_H
#define KLN_MEMORY_H

#include <kiln/memory.h>

#include "base/kln_base.h"
#include "cuda/kln_cuda.h"

/* Every piece of memory that this module gives begins at a multiple of this: what CUDA gives
 * itself, and what vector loads on any processor want. */
#define KLN_MEMORY_ALIGNMENT ((size_t)256)

/* `bytes` (not 0) in `location`, aligned to KLN_MEMORY_ALIGNMENT. As kln_cuda_allocate, and HOST.
 */
KILN_MUST_CHECK kiln_status kln_memory_allocate(kiln_location location, int32_t device,
                                                size_t bytes, void **memory);
void kln_memory_release(kiln_location location, int32_t device, void *memory);

/* Whether this machine has such memory at all: INVALID_ARGUMENT, LIBRARY_*, NO_DEVICE,
 * UNSUPPORTED. */
KILN_MUST_CHECK kiln_status kln_memory_check(kiln_location location, int32_t device);

/* Where a pool's memory lies. */
kiln_location kln_pool_location(const kiln_pool *pool, int32_t *device);

/* Sets `bytes` at `memory` to `value`, and waits. */
KILN_MUST_CHECK kiln_status kln_memory_fill(kiln_location location, int32_t device, void *memory,
                                            uint8_t value, size_t bytes);

#endif
