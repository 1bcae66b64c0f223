/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors computed on a GPU are observed there: copying them over the bus would take ten times as
 * long as running the network. */
#include "calibrate_parts.h"
#include "cuda/kln_cuda.h"

#define ALIGNMENT UINT64_C(256)
#define MOST_ELEMENTS (UINT64_C(1) << 31)

/* The size of the counters of `tensors`, which the device writes and the host reads: bounds, then
 * bins. */
static size_t counts_bytes(const kln_calibration *of, size_t tensors)
{
    return tensors *
           (sizeof(kln_cuda_bounds) + (of->bins != NULL ? KLN_CUDA_BINS * sizeof(uint32_t) : 0));
}

static uint64_t room_for(const kln_observed *each)
{
    return (each->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

bool kln_calibration_is_on_gpu(const kln_calibration *of, size_t part)
{
    const int32_t device = kiln_engine_device(of->engines[part]);
    bool counted = device >= 0 && kln_cuda_has(KLN_CUDA_KERNELS, device);
    for (size_t i = of->part_begins[part]; counted && i < of->part_begins[part + 1]; i++) {
        const kln_observed *each = &of->observed[i];
        counted = each->products == NULL && each->tensor.desc.dtype == KILN_DTYPE_FLOAT32 &&
                  each->tensor.desc.shape.rank >= 0 && each->bytes / sizeof(float) <= MOST_ELEMENTS;
    }
    return counted;
}

static kiln_status make_room(kln_calibration *of, int32_t device, size_t tensors, uint64_t bytes)
{
    kln_calibration_gpu *gpu = &of->gpu;
    gpu->device = device;
    if (gpu->stream == NULL) {
        KLN_RETURN_IF_ERROR(kiln_stream_create(device, 0, &gpu->stream));
    }
    if (gpu->memory == NULL || gpu->room < bytes) {
        kln_cuda_release(KILN_LOCATION_DEVICE, device, gpu->memory);
        gpu->memory = NULL;
        KLN_RETURN_IF_ERROR(
            kln_cuda_allocate(KILN_LOCATION_DEVICE, device, bytes > 0 ? bytes : 1, &gpu->memory));
        gpu->room = bytes;
    }
    if (gpu->counts == NULL || gpu->tensors < tensors) {
        kln_cuda_release(KILN_LOCATION_DEVICE, device, gpu->counts);
        kln_cuda_release(KILN_LOCATION_PINNED, device, gpu->read);
        gpu->counts = gpu->read = NULL;
        KLN_RETURN_IF_ERROR(kln_cuda_allocate(KILN_LOCATION_DEVICE, device,
                                              counts_bytes(of, tensors), &gpu->counts));
        KLN_RETURN_IF_ERROR(
            kln_cuda_allocate(KILN_LOCATION_PINNED, device, counts_bytes(of, tensors), &gpu->read));
        gpu->tensors = tensors;
    }
    return KILN_OK;
}

kiln_status kln_calibration_bind_on_gpu(kln_calibration *of, size_t part, kiln_context *context)
{
    const int32_t device = kiln_engine_device(of->engines[part]);
    const size_t first = of->part_begins[part];
    const size_t end = of->part_begins[part + 1];
    uint64_t bytes = 0;
    for (size_t i = first; i < end; i++) {
        bytes += room_for(&of->observed[i]);
    }
    KLN_RETURN_IF_ERROR(make_room(of, device, end - first, bytes));
    uint64_t at = 0;
    for (size_t i = first; i < end; i++) {
        kln_observed *each = &of->observed[i];
        each->tensor.desc.location = KILN_LOCATION_DEVICE;
        each->tensor.desc.device = device;
        each->tensor.data = (char *)of->gpu.memory + at;
        each->tensor.bytes = (size_t)each->bytes;
        KLN_RETURN_IF_ERROR(kiln_context_bind(context, each->name, &each->tensor));
        at += room_for(each);
    }
    return KILN_OK;
}

static kiln_status copy(const kln_calibration_gpu *gpu, bool back, size_t at, size_t bytes)
{
    char *const there = (char *)gpu->counts + at;
    char *const here = (char *)gpu->read + at;
    KLN_RETURN_IF_ERROR(
        kln_cuda_copy(gpu->device, back ? here : there, back ? there : here, bytes, gpu->stream));
    return back ? kiln_stream_synchronize(gpu->stream) : KILN_OK;
}

static kiln_status find_bounds(kln_calibration *of, kln_observed *observed, size_t count)
{
    const kln_calibration_gpu *gpu = &of->gpu;
    kln_cuda_bounds *const there = gpu->counts;
    kln_cuda_bounds *const here = gpu->read;
    for (size_t i = 0; i < count; i++) {
        here[i] = KLN_CUDA_NO_BOUNDS;
    }
    KLN_RETURN_IF_ERROR(copy(gpu, false, 0, count * sizeof *here));
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(kln_cuda_find_bounds(gpu->stream, observed[i].tensor.data,
                                                 observed[i].bytes / sizeof(float), &there[i]));
    }
    KLN_RETURN_IF_ERROR(copy(gpu, true, 0, count * sizeof *here));
    for (size_t i = 0; i < count; i++) {
        const kln_bounds bounds = {.least = (double)kln_float_of_key(here[i].least),
                                   .greatest = (double)kln_float_of_key(here[i].greatest),
                                   .count = observed[i].bytes / sizeof(float),
                                   .nans = here[i].nans,
                                   .infinities = here[i].infinities};
        kln_observer_take_bounds(&observed[i].observer, &bounds);
    }
    return KILN_OK;
}

static kiln_status count_bins(kln_calibration *of, kln_observed *observed, size_t count)
{
    const kln_calibration_gpu *gpu = &of->gpu;
    const size_t at = count * sizeof(kln_cuda_bounds);
    const size_t bytes = count * KLN_CUDA_BINS * sizeof(uint32_t);
    uint32_t *const there = (uint32_t *)((char *)gpu->counts + at);
    const uint32_t *const here = (const uint32_t *)((const char *)gpu->read + at);
    KLN_RETURN_IF_ERROR(kln_cuda_fill(gpu->device, there, 0, bytes, gpu->stream));
    for (size_t i = 0; i < count; i++) {
        if (observed[i].observer.finite > 0) {
            const float scale = kln_observer_scale(&observed[i].observer);
            KLN_RETURN_IF_ERROR(kln_cuda_count_bins(gpu->stream, observed[i].tensor.data,
                                                    observed[i].bytes / sizeof(float), scale,
                                                    there + i * KLN_CUDA_BINS));
        }
    }
    KLN_RETURN_IF_ERROR(copy(gpu, true, at, bytes));
    for (size_t i = 0; i < count; i++) {
        kln_observer_take_bins(&observed[i].observer, here + i * KLN_CUDA_BINS);
    }
    return KILN_OK;
}

kiln_status kln_calibration_observe_on_gpu(kln_calibration *of, size_t part)
{
    const size_t first = of->part_begins[part];
    const size_t count = of->part_begins[part + 1] - first;
    kln_observed *const observed = of->observed + first;
    KLN_RETURN_IF_ERROR(find_bounds(of, observed, count));
    return of->bins != NULL ? count_bins(of, observed, count) : KILN_OK;
}

void kln_calibration_leave_gpu(kln_calibration *of)
{
    kln_calibration_gpu *gpu = &of->gpu;
    if (gpu->stream != NULL) {
        kln_cuda_release(KILN_LOCATION_DEVICE, gpu->device, gpu->memory);
        kln_cuda_release(KILN_LOCATION_DEVICE, gpu->device, gpu->counts);
        kln_cuda_release(KILN_LOCATION_PINNED, gpu->device, gpu->read);
        kiln_stream_destroy(gpu->stream);
    }
    *gpu = (kln_calibration_gpu){.stream = NULL};
}
