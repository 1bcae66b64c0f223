/* SPDX-License-Identifier: Apache-2.0 */
/* Work, kernels, streams and events of the fake driver; see fake_cuda.h. */
#include "fake_cuda.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

unsigned long fake_nanoseconds;
static unsigned long clock_ticks;

static void *pointer(address memory)
{
    return (void *)(uintptr_t)memory;
}

typedef struct module_record {
    context *owner;
    node_kind kernel;
} module_record;

int fake_make(void **made, size_t size)
{
    *made = calloc(1, size);
    fake_objects += *made != NULL;
    return *made != NULL ? SUCCESS : OUT_OF_MEMORY;
}

int fake_end(void *object)
{
    free(object);
    fake_objects--;
    return SUCCESS;
}

/* --- work --- */

/* One block of Kiln's kernel that copies, step by step as src/cuda/cuda_gather.c has it. */
static void gather(const segment *segments, unsigned long long block)
{
    while (block >= (segments->units + 255) >> 8) {
        block -= (segments->units + 255) >> 8;
        segments++;
    }
    char *to = pointer(segments->to);
    const char *from = pointer(segments->from);
    for (unsigned long long thread = 0; thread < 256; thread++) {
        const unsigned long long index = block * 256 + thread;
        if (index < segments->vectors) {
            if ((segments->to | segments->from) % 16 != 0) {
                abort(); /* the real one would end the context */
            }
            memcpy(to + index * 16, from + index * 16, 16);
        } else if (index < segments->units) {
            const unsigned long long offset = segments->vectors * 15 + index;
            to[offset] = from[offset];
        }
    }
}

/* The one that copies rows, as src/cuda/cuda_rows.c has it. */
static void copy_rows(const row_segment *segments, unsigned block)
{
    while (block >= (segments->units + 255) >> 8) {
        block -= (segments->units + 255) >> 8;
        segments++;
    }
    const unsigned long long steps =
        segments->to | segments->from | segments->to_step | segments->from_step;
    if (segments->shift != 0 && (segments->shift != 4 || steps % 16 != 0)) {
        abort();
    }
    for (unsigned index = block * 256; index < block * 256 + 256 && index < segments->units;
         index++) {
        const unsigned long long row = index / segments->per_row;
        const unsigned long long offset = (unsigned long long)(index % segments->per_row)
                                          << segments->shift;
        memcpy((char *)pointer(segments->to) + row * segments->to_step + offset,
               (const char *)pointer(segments->from) + row * segments->from_step + offset,
               (size_t)1 << segments->shift);
    }
}

/* Kiln's kernels that count, element by element as src/cuda/cuda_observe.c has them. */
static void find_bounds(const node *work)
{
    int *found = work->to;
    for (unsigned long long i = 0; i < work->count; i++) {
        int bits = 0;
        memcpy(&bits, &work->values[i], sizeof bits);
        const int magnitude = bits & 0x7fffffff;
        const int key = bits < 0 ? bits ^ 0x7fffffff : bits;
        if (magnitude >= 0x7f800000) {
            found[magnitude > 0x7f800000 ? 2 : 3]++;
            continue;
        }
        found[0] = key < found[0] ? key : found[0];
        found[1] = key > found[1] ? key : found[1];
    }
}

static void count_bins(const node *work)
{
    unsigned *bins = work->to;
    for (unsigned long long i = 0; i < work->count; i++) {
        int bits = 0;
        float place = 0;
        memcpy(&bits, &work->values[i], sizeof bits);
        const int magnitude = bits & 0x7fffffff;
        memcpy(&place, &magnitude, sizeof place);
        if (magnitude == 0) {
            bins[4096]++;
        } else if (magnitude < 0x7f800000) {
            place *= work->scale;
            bins[(place < 2047.0F ? (int)place : 2047) + (bits < 0 ? 2048 : 0)]++;
        }
    }
}

static void play(const node *work)
{
    clock_ticks++;
    switch (work->kind) {
        case COPY:
            memmove(work->to, work->from, work->bytes);
            fake_nanoseconds +=
                work->bytes + (unsigned long)fake_setting("FAKE_CUDA_SLOW_COPIES", 0) * 1000;
            break;
        case BOUNDS: find_bounds(work); break;
        case BINS: count_bins(work); break;
        case GATHER:
            for (unsigned block = 0; block < work->blocks; block++) {
                gather(work->segments, block);
            }
            fake_nanoseconds += work->blocks * 256UL * 16;
            break;
        case ROWS:
            for (unsigned block = 0; block < work->blocks; block++) {
                copy_rows(work->rows, block);
            }
            break;
        case FILL: memset(work->to, work->value, work->bytes); break;
        case CALL: work->function(work->user); break;
        case FENCE:
            if (!fake_says("FAKE_CUDA_WRITES", "late")) {
                __atomic_store_n((unsigned *)work->to, 1U, __ATOMIC_RELEASE);
            }
            break;
    }
}

static stream *stream_of(void *on)
{
    context *here = fake_current_context();
    return on != NULL ? on : here != NULL ? &fake_default_streams[here->device] : NULL;
}

int fake_enqueue(void *on, const node *work)
{
    stream *target = stream_of(on);
    if (target == NULL) {
        return INVALID_CONTEXT;
    }
    if (target->capture == NULL) {
        play(work);
        target->busy = 1;
        return SUCCESS;
    }
    if (fake_says("FAKE_CUDA_CAPTURE", "fail") || target->capture->count == NODE_LIMIT) {
        target->broken = 1;
        return CAPTURE_UNSUPPORTED;
    }
    target->capture->nodes[target->capture->count++] = *work;
    return SUCCESS;
}

CU cuMemcpy(address to, address from, size_t bytes)
{
    ENTER();
    const node work = {.kind = COPY, .to = pointer(to), .from = pointer(from), .bytes = bytes};
    play(&work);
    return fake_unlock(SUCCESS);
}

CU_GIVES(cuMemcpyAsync, (address to, address from, size_t bytes, void *on),
         fake_enqueue(on,
                      &(const node){
                          .kind = COPY, .to = pointer(to), .from = pointer(from), .bytes = bytes}))

CU cuMemcpyPeerAsync(address to, void *to_context, address from, void *from_context, size_t bytes,
                     void *on)
{
    ENTER();
    if (to_context == NULL || from_context == NULL) {
        return fake_unlock(INVALID_CONTEXT);
    }
    const node work = {.kind = COPY, .to = pointer(to), .from = pointer(from), .bytes = bytes};
    return fake_unlock(fake_enqueue(on, &work));
}

CU_GIVES(cuMemsetD8Async, (address memory, unsigned char value, size_t bytes, void *on),
         fake_enqueue(on, &(const node){
                              .kind = FILL, .to = pointer(memory), .bytes = bytes, .value = value}))

CU_GIVES(cuLaunchHostFunc, (void *on, void (*function)(void *user), void *user),
         fake_enqueue(on, &(const node){.kind = CALL, .function = function, .user = user}))

/* --- kernels: Kiln's own, which it knows by its name --- */

#ifndef FAKE_WITHOUT_KERNELS

/* CUmemcpyAttributes. */
typedef struct copy_attributes {
    int source_order;
    int source[2], target[2];
    unsigned flags;
} copy_attributes;

CU cuMemcpyBatchAsync(address *to, address *from, size_t *bytes, size_t count,
                      copy_attributes *attributes, size_t *attributes_from, size_t attribute_count,
                      size_t *failed, void *on)
{
    ENTER();
    if (count == 0 || attribute_count != 1 || attributes_from[0] != 0 || failed == NULL ||
        attributes->source_order < 1 || attributes->source_order > 3 || on == NULL) {
        return fake_unlock(INVALID_VALUE);
    }
    int result = SUCCESS;
    for (size_t i = count; i-- > 0 && result == SUCCESS;) { /* in no order */
        const node work = {
            .kind = COPY, .to = pointer(to[i]), .from = pointer(from[i]), .bytes = bytes[i]};
        result = bytes[i] != 0 ? fake_enqueue(on, &work) : INVALID_VALUE;
    }
    return fake_unlock(result);
}

static const char *const kernels[] = {[GATHER] = "kiln_gather",
                                      [BOUNDS] = "kiln_bounds",
                                      [BINS] = "kiln_bins",
                                      [ROWS] = "kiln_rows",
                                      [FENCE] = "kiln_fence"};

/* The kernel that a text has, or -1. */
static int kernel_in(const char *text)
{
    char entry[64];
    for (int i = GATHER; i <= FENCE; i++) {
        (void)snprintf(entry, sizeof entry, ".entry %s(", kernels[i]);
        if (strstr(text, entry) != NULL) {
            return i;
        }
    }
    return -1;
}

CU cuModuleLoadData(void **module, const void *image)
{
    ENTER();
    const int kernel = kernel_in(image);
    if (fake_current_context() == NULL || strncmp(image, ".version ", 9) != 0 || kernel < 0 ||
        fake_says("FAKE_CUDA_KERNELS", "load")) {
        return fake_unlock(INVALID_IMAGE);
    }
    const int result = fake_make(module, sizeof(module_record));
    if (result == SUCCESS) {
        *(module_record *)*module = (module_record){fake_current_context(), (node_kind)kernel};
    }
    return fake_unlock(result);
}

CU cuModuleGetFunction(void **function, void *module, const char *name)
{
    ENTER();
    *function = module;
    return fake_unlock(strcmp(name, kernels[((module_record *)module)->kernel]) == 0 &&
                               !fake_says("FAKE_CUDA_KERNELS", "name")
                           ? SUCCESS
                           : NOT_FOUND);
}

CU_GIVES(cuModuleUnload, (void *module), fake_end(module))

static int launch_fence(const module_record *module, unsigned threads, void *on, void **parameters)
{
    address place = 0;
    memcpy(&place, parameters[0], sizeof place);
    if (module->owner != fake_current_context() || threads != 1 || place % 4 != 0) {
        return INVALID_VALUE;
    }
    const node work = {.kind = FENCE, .to = pointer(place)};
    return fake_says("FAKE_CUDA_WRITES", "refused") ? NOT_SUPPORTED : fake_enqueue(on, &work);
}

/* CUlaunchConfig. */
typedef struct launch {
    unsigned grid[3], block[3], shared;
    void *stream;
    const struct {
        int id;
        char unused[4];
        int on;
    } * attributes;
    unsigned attribute_count;
} launch;

CU cuLaunchKernelEx(const launch *how, void *function, void **parameters, void **extra)
{
    ENTER();
    const stream *target = how->stream;
    const int ahead = how->attribute_count == 1 && how->attributes[0].id == 6 &&
                      how->attributes[0].on == 1 && extra == NULL;
    const graph *written = target != NULL ? target->capture : NULL;
    /* Nothing but a kernel can be waited for by one. */
    return fake_unlock(ahead && written != NULL && written->count != 0 &&
                               written->nodes[written->count - 1].kind >= CALL
                           ? launch_fence(function, how->block[0], how->stream, parameters)
                           : INVALID_VALUE);
}

CU cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                  unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared, void *on,
                  void **parameters, void **extra)
{
    ENTER();
    if (fake_says("FAKE_CUDA_KERNELS", "launch")) {
        return fake_unlock(LAUNCH_RESOURCES);
    }
    const module_record *module = function;
    if (module->kernel == FENCE) {
        return fake_unlock(launch_fence(module, block_x, on, parameters));
    }
    if (module->owner != fake_current_context() || grid_x == 0 || block_x != 256 ||
        grid_y * grid_z * block_y * block_z != 1 || shared != 0 || extra != NULL) {
        return fake_unlock(INVALID_VALUE);
    }
    node work = {.kind = module->kernel, .blocks = grid_x};
    if (module->kernel == BOUNDS || module->kernel == BINS) {
        address ends[2];
        memcpy(&ends[0], parameters[0], sizeof ends[0]);
        memcpy(&work.count, parameters[1], sizeof work.count);
        memcpy(&ends[1], parameters[module->kernel == BINS ? 3 : 2], sizeof ends[1]);
        if (module->kernel == BINS) {
            memcpy(&work.scale, parameters[2], sizeof work.scale);
        }
        work.values = pointer(ends[0]);
        work.to = pointer(ends[1]);
        return fake_unlock(fake_enqueue(on, &work));
    }
    unsigned long long needed = 0;
    if (module->kernel == ROWS) {
        memcpy(work.rows, parameters[0], sizeof work.rows);
        for (size_t i = 0; i < ROW_SEGMENTS; i++) {
            needed += (work.rows[i].units + 255) >> 8;
        }
        return fake_unlock(needed == grid_x ? fake_enqueue(on, &work) : INVALID_VALUE);
    }
    memcpy(work.segments, parameters[0], sizeof work.segments);
    for (size_t i = 0; i < SEGMENTS; i++) {
        needed += (work.segments[i].units + 255) >> 8;
    }
    return fake_unlock(needed == grid_x ? fake_enqueue(on, &work) : INVALID_VALUE);
}

#endif

/* --- streams and events --- */

CU cuStreamCreateWithPriority(void **made, unsigned flags, int priority)
{
    ENTER();
    context *here = fake_current_context();
    if (here == NULL || flags != 1 || priority > 0 || priority < -5) {
        return fake_unlock(INVALID_VALUE);
    }
    const int result = fake_make(made, sizeof(stream));
    if (result == SUCCESS) {
        ((stream *)*made)->owner = here;
        ((stream *)*made)->priority = priority;
    }
    return fake_unlock(result);
}

CU_GIVES(cuStreamDestroy_v2, (void *on), fake_end(on))

/* A capture anywhere forbids it, as the real driver has it for captures that are not relaxed. */
CU_GIVES(cuCtxSynchronize, (void), SUCCESS)

CU cuStreamSynchronize(void *on)
{
    ENTER();
    stream *target = stream_of(on);
    if (target == NULL || target->capture != NULL) {
        return fake_unlock(target == NULL ? INVALID_CONTEXT : CAPTURE_UNSUPPORTED);
    }
    target->busy = 0;
    return fake_unlock(SUCCESS);
}

static int not_ready(const stream *target)
{
    return target != NULL && target->busy && getenv("FAKE_CUDA_BUSY") != NULL ? NOT_READY : SUCCESS;
}

CU_GIVES(cuStreamQuery, (void *on), not_ready(stream_of(on)))

CU_GIVES(cuStreamWaitEvent, (void *on, void *what, unsigned flags),
         stream_of(on) != NULL && what != NULL && flags == 0 ? SUCCESS : INVALID_HANDLE)

CU cuStreamGetCtx(void *on, void **found)
{
    ENTER();
    *found = stream_of(on)->owner;
    return fake_unlock(SUCCESS);
}

CU cuEventCreate(void **made, unsigned flags)
{
    ENTER();
    const int result = fake_make(made, sizeof(event));
    if (result == SUCCESS) {
        ((event *)*made)->timed = flags == 0;
        ((event *)*made)->owner = fake_current_context();
    }
    return fake_unlock(result);
}

CU_GIVES(cuEventDestroy_v2, (void *what), fake_end(what))

CU cuEventRecord(void *what, void *on)
{
    ENTER();
    event *recorded = what;
    recorded->on = stream_of(on);
    recorded->ticks = ++clock_ticks;
    return fake_unlock(
        recorded->on != NULL && recorded->on->owner == recorded->owner ? SUCCESS : INVALID_HANDLE);
}

CU_GIVES(cuEventQuery, (void *what), not_ready(((event *)what)->on))

CU cuEventSynchronize(void *what)
{
    ENTER();
    event *recorded = what;
    if (recorded->on != NULL) {
        recorded->on->busy = 0;
    }
    return fake_unlock(SUCCESS);
}

CU cuEventElapsedTime(float *milliseconds, void *begin, void *end)
{
    ENTER();
    const event *first = begin;
    const event *last = end;
    if (!first->timed || !last->timed) {
        return fake_unlock(INVALID_HANDLE);
    }
    *milliseconds = (float)(last->ticks - first->ticks);
    return fake_unlock(SUCCESS);
}
