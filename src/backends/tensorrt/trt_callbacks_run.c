/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/tensorrt/trt_callback_tables.h"

/* --- aligned memory --- */

static bool drop(const trt_memory *memory, const trt_allocation *made, void *stream)
{
    return (memory->drop != NULL ? memory->drop : memory->release)(memory->user, made->base, stream,
                                                                   &made->piece);
}

/* The memory is nearly always aligned enough, so try the plain size before allocating more. */
static bool obtain(const trt_memory *memory, uint64_t size, uint64_t alignment, void *stream,
                   trt_allocation *made)
{
    *made = (trt_allocation){.size = size};
    const uint64_t step = alignment > 0 ? alignment : 1;
    if ((step & (step - 1)) != 0 || size > SIZE_MAX - step) {
        return false;
    }
    const size_t bytes = size > 0 ? (size_t)size : 1;
    made->base = memory->allocate(memory->user, bytes, stream, &made->piece);
    if ((uintptr_t)made->base % step != 0) {
        (void)drop(memory, made, stream);
        made->base = memory->allocate(memory->user, bytes + (size_t)step - 1, stream, &made->piece);
    }
    if (made->base == NULL) {
        return false;
    }
    made->memory = (unsigned char *)made->base + (step - (uintptr_t)made->base % step) % step;
    return true;
}

static bool give_back(const trt_memory *memory, const trt_allocation *made, void *stream)
{
    return memory->release(memory->user, made->base, stream, &made->piece);
}

/* --- GPU allocator --- */

/* Called with the lock held. */
static bool remember(trt_gpu_allocator *allocator, trt_allocation made)
{
    if (KLN_GROW(NULL, allocator->allocations, allocator->count, allocator->capacity) != KILN_OK) {
        return false;
    }
    allocator->allocations[allocator->count++] = made;
    allocator->made++;
    allocator->peak = allocator->in_use > allocator->peak ? allocator->in_use : allocator->peak;
    return true;
}

/* Reserves `size` bytes before they are allocated, so that threads together cannot exceed the
 * limit. */
static bool reserve(trt_gpu_allocator *allocator, uint64_t size)
{
    (void)pthread_mutex_lock(&allocator->lock);
    const uint64_t most = allocator->limit != 0 ? allocator->limit : UINT64_MAX;
    const uint64_t in_use = allocator->in_use;
    const bool fits = size <= most && in_use <= most - size;
    allocator->refused += fits ? 0 : 1;
    allocator->in_use += fits ? size : 0;
    (void)pthread_mutex_unlock(&allocator->lock);
    if (!fits) {
        kln_log(KILN_LOG_WARNING, "tensorrt",
                "an allocation of %llu bytes was refused: %llu of %llu are in use",
                (unsigned long long)size, (unsigned long long)in_use,
                (unsigned long long)allocator->limit);
    }
    return fits;
}

static void *allocator_allocate(trt_gpu_allocator *allocator, uint64_t size, uint64_t alignment,
                                void *stream)
{
    if (!reserve(allocator, size)) {
        return NULL;
    }
    trt_allocation made;
    const bool obtained = obtain(allocator->memory, size, alignment, stream, &made);
    (void)pthread_mutex_lock(&allocator->lock);
    const bool kept = obtained && remember(allocator, made);
    allocator->failed += kept ? 0 : 1;
    allocator->in_use -= kept ? 0 : size;
    (void)pthread_mutex_unlock(&allocator->lock);
    if (!kept && obtained) {
        (void)drop(allocator->memory, &made, stream);
    }
    return kept ? made.memory : NULL;
}

static bool allocator_release(trt_gpu_allocator *allocator, void *memory, void *stream)
{
    if (memory == NULL) {
        return true;
    }
    trt_allocation found = {.memory = NULL};
    (void)pthread_mutex_lock(&allocator->lock);
    for (size_t i = allocator->count; i > 0 && found.memory == NULL; i--) {
        if (allocator->allocations[i - 1].memory == memory) {
            found = allocator->allocations[i - 1];
            allocator->allocations[i - 1] = allocator->allocations[--allocator->count];
            allocator->in_use -= found.size;
            allocator->released++;
        }
    }
    (void)pthread_mutex_unlock(&allocator->lock);
    return found.memory != NULL && give_back(allocator->memory, &found, stream);
}

static void *gpu_allocate(void *self, uint64_t size, uint64_t alignment, uint32_t flags)
{
    (void)flags;
    return allocator_allocate(self, size, alignment, NULL);
}

static void *gpu_allocate_async(void *self, uint64_t size, uint64_t alignment, uint32_t flags,
                                void *stream)
{
    (void)flags;
    return allocator_allocate(self, size, alignment, stream);
}

static void *gpu_reallocate(void *self, void *memory, uint64_t alignment, uint64_t size)
{
    (void)self;
    (void)memory;
    (void)alignment;
    (void)size;
    return NULL; /* not supported: TensorRT allocates anew and copies */
}

static bool gpu_release(void *self, void *memory)
{
    return allocator_release(self, memory, NULL);
}

static bool gpu_release_async(void *self, void *memory, void *stream)
{
    return allocator_release(self, memory, stream);
}

void trt_gpu_allocator_init(trt_gpu_allocator *allocator, const trt_tables *tables,
                            const trt_memory *memory, uint64_t limit)
{
    memset(allocator, 0, sizeof *allocator);
    allocator->object.vtable = trt_table_point(&tables->gpu_allocator);
    allocator->memory = memory;
    allocator->limit = limit;
    (void)pthread_mutex_init(&allocator->lock, NULL);
}

void trt_gpu_allocator_finish(trt_gpu_allocator *allocator)
{
    while (allocator->count > 0) {
        void *memory = allocator->allocations[allocator->count - 1].memory;
        kln_log(KILN_LOG_WARNING, "tensorrt", "device memory was not given back; it is now");
        (void)allocator_release(allocator, memory, NULL);
    }
    kln_free(allocator->allocations);
    (void)pthread_mutex_destroy(&allocator->lock);
}

/* --- output allocator --- */

static void *output_reallocate_async(void *self, const char *name, void *current, uint64_t size,
                                     uint64_t alignment, void *stream)
{
    trt_output_allocator *allocator = self;
    (void)name;
    (void)current;
    trt_allocation *made = &allocator->made;
    /* The size may exceed what the output takes, which is known only after the run. */
    const bool in_bound = allocator->bound != NULL && size <= allocator->bound_bytes &&
                          (alignment == 0 || (uintptr_t)allocator->bound % alignment == 0);
    allocator->is_beside = allocator->bound != NULL && !in_bound;
    if (in_bound) {
        return allocator->bound;
    }
    if (made->memory != NULL && size <= made->size &&
        (alignment == 0 || (uintptr_t)made->memory % alignment == 0)) {
        return made->memory;
    }
    trt_allocation grown;
    if (!obtain(allocator->memory, size, alignment, stream, &grown)) {
        return NULL;
    }
    trt_output_allocator_finish(allocator);
    *made = grown;
    return made->memory;
}

static void *output_reallocate(void *self, const char *name, void *current, uint64_t size,
                               uint64_t alignment)
{
    return output_reallocate_async(self, name, current, size, alignment, NULL);
}

static void output_shape(void *self, const char *name, const trt_Dims *dims)
{
    trt_output_allocator *allocator = self;
    (void)name;
    allocator->shape = *dims;
    allocator->known = true;
}

void trt_output_allocator_init(trt_output_allocator *allocator, const trt_tables *tables,
                               const trt_memory *memory)
{
    memset(allocator, 0, sizeof *allocator);
    allocator->object.vtable = trt_table_point(&tables->output_allocator);
    allocator->memory = memory;
}

void trt_output_allocator_finish(trt_output_allocator *allocator)
{
    if (allocator->made.memory != NULL) {
        (void)give_back(allocator->memory, &allocator->made, NULL);
        allocator->made = (trt_allocation){.memory = NULL};
    }
}

void trt_fill_memory(trt_tables *tables, const trt_abi *abi)
{
    trt_table *gpu = &tables->gpu_allocator;
    TRT_PUT(gpu, GpuAllocator, allocate, gpu_allocate);
    TRT_PUT(gpu, GpuAllocator, reallocate, gpu_reallocate);
    TRT_PUT(gpu, GpuAllocator, deallocate, gpu_release);
    TRT_PUT(gpu, GpuAllocator, allocateAsync, gpu_allocate_async);
    TRT_PUT(gpu, GpuAllocator, deallocateAsync, gpu_release_async);
    trt_table *output = &tables->output_allocator;
    TRT_PUT(output, OutputAllocator, reallocateOutput, output_reallocate);
    TRT_PUT(output, OutputAllocator, reallocateOutputAsync, output_reallocate_async);
    TRT_PUT(output, OutputAllocator, notifyShape, output_shape);
}

/* --- profiler --- */

static trt_layer_time *find_layer(trt_profiler *profiler, const char *name)
{
    for (size_t i = 0; i < profiler->count; i++) {
        const size_t at = (profiler->next + i) % profiler->count;
        if (strcmp(profiler->layers[at].name, name) == 0) {
            profiler->next = at + 1;
            return &profiler->layers[at];
        }
    }
    return NULL;
}

static trt_layer_time *add_layer(trt_profiler *profiler, const char *name)
{
    char *copy = kln_strdup(name);
    if (copy == NULL ||
        KLN_GROW(NULL, profiler->layers, profiler->count, profiler->capacity) != KILN_OK) {
        kln_free(copy);
        return NULL;
    }
    profiler->layers[profiler->count] = (trt_layer_time){copy, 0.0, 0};
    profiler->next = profiler->count + 1;
    return &profiler->layers[profiler->count++];
}

static void report_layer(void *self, const char *name, float milliseconds)
{
    trt_profiler *profiler = self;
    if (profiler->is_off) {
        return;
    }
    name = name != NULL ? name : "";
    trt_layer_time *layer = find_layer(profiler, name);
    layer = layer != NULL ? layer : add_layer(profiler, name);
    if (layer == NULL) {
        profiler->incomplete = true;
        return;
    }
    layer->milliseconds += (double)milliseconds;
    layer->runs++;
}

void trt_fill_profiler(trt_tables *tables, const trt_abi *abi)
{
    TRT_PUT(&tables->profiler, Profiler, reportLayerTime, report_layer);
}

void trt_profiler_init(trt_profiler *profiler, const trt_tables *tables)
{
    memset(profiler, 0, sizeof *profiler);
    profiler->object.vtable = trt_table_point(&tables->profiler);
}

void trt_profiler_finish(trt_profiler *profiler)
{
    for (size_t i = 0; i < profiler->count; i++) {
        kln_free(profiler->layers[i].name);
    }
    kln_free(profiler->layers);
}
