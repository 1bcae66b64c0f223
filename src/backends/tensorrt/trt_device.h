/*
 * trt_device.h - what this room needs of CUDA, through the room of the driver.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TRT_DEVICE_H
#define TRT_DEVICE_H

#include "backends/tensorrt/trt_callbacks.h"

/* How many CUDA devices there are; where none, `*reason` (NULL is allowed) says why. The text stays
 * as long as the process. */
int32_t trt_device_count(const char **reason);

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
