/* SPDX-License-Identifier: Apache-2.0 */
/* What this backend needs of CUDA, through the CUDA module. */
#ifndef TRT_DEVICE_H
#define TRT_DEVICE_H

#include "backends/tensorrt/trt_callbacks.h"
#include "cuda/kln_cuda.h"

/* How many CUDA devices there are; where none, `*reason` (NULL is allowed) says why. The text stays
 * as long as the process. */
int32_t trt_device_count(const char **reason);

/* What that is where no device is of use: NO_DEVICE, or the failure of a driver that is there, or
 * is named, and does not work. */
kiln_status trt_device_refusal(void);

/* NO_DEVICE where a device of this number is not there, though others are; the first is taken for
 * granted where there is none at all: a build ahead of time needs none. */
KILN_MUST_CHECK kiln_status trt_device_check(int32_t index);

/* The library works on the device that is current in the calling thread, so whatever it is asked to
 * make, load, change or give up stands between these two. Nothing happens where there is no device
 * at all. Scopes nest. */
KILN_MUST_CHECK kiln_status trt_enter(int32_t device, kln_cuda_scope *scope);
/* Enters to the end of the scope, or returns. */
#define TRT_ENTER(device)                                                     \
    KLN_SCOPED(kln_cuda_leave) kln_cuda_scope trt_scope_ = {.pushed = false}; \
    KLN_RETURN_IF_ERROR(trt_enter((device), &trt_scope_))
/* Or goes on with a warning, for what has to be given back all the same. */
kln_cuda_scope trt_enter_anyway(int32_t device, const char *what);
#define TRT_ENTER_ANYWAY(device, what)                                             \
    __attribute__((unused)) KLN_SCOPED(kln_cuda_leave) kln_cuda_scope trt_scope_ = \
        trt_enter_anyway((device), (what))

/* Compute capability of device `index` as 10 * major + minor, or 0. */
int32_t trt_device_capability(int32_t index);

/* Whether TensorRT-RTX runs on GPUs of this compute capability, 89 for 8.9. */
bool trt_rtx_runs_on(int32_t capability);
#define TRT_RTX_CAPABILITIES "7.5, 8.0, 8.6, 8.9 and from 12.0 on"

/* Device memory for the callbacks, of the device whose number stays at `device`. */
void trt_device_memory(trt_memory *memory, int32_t *device);

/* The same from a pool of a caller's. */
typedef struct trt_pool {
    kiln_pool *pool;
    int32_t device;
} trt_pool;

void trt_pool_memory(trt_memory *memory, trt_pool *pool);

#endif
