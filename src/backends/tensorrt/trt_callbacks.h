/* SPDX-License-Identifier: Apache-2.0 */
/* Objects that TensorRT calls: C structs that begin with a hand-made virtual table.
 *
 * The tables are filled for one layout from trt_slots.inc, so callbacks are as reliable as calls.
 * An object is plain memory of Kiln's. TensorRT never destroys it, and it must outlive whatever it
 * was passed to. Callbacks come from any thread of the library. */
#ifndef TRT_CALLBACKS_H
#define TRT_CALLBACKS_H

#include "backends/tensorrt/trt_abi.h"
#include "seam/kln_seam.h"

/* Room for the largest callback class, and before it the two words that the Itanium ABI keeps in
 * front of a virtual table. */
#define TRT_TABLE_SLOTS 24
#define TRT_TABLE_FRONT 2

typedef struct trt_table {
    trt_slot entries[TRT_TABLE_FRONT + TRT_TABLE_SLOTS];
} trt_table;

/* The virtual tables of one library. They must stay in place as long as its callbacks live. */
typedef struct trt_tables {
    trt_table logger;
    trt_table error_recorder;
    trt_table progress_monitor;
    trt_table gpu_allocator;
    trt_table output_allocator;
    trt_table profiler;
} trt_tables;

void trt_tables_init(trt_tables *tables, const trt_abi *abi);

/* --- logger --- */

/* One for each library, as long as the process: TensorRT keeps the first it was given. */
typedef struct trt_logger {
    trt_Logger object;
} trt_logger;

void trt_logger_init(trt_logger *logger, const trt_tables *tables);

/* Forgets what this thread's calls logged as errors; the first error after that is what
 * trt_logged_error gives, "" if there was none. It may come from another thread of the library:
 * then it is the first that any thread logged since. */
void trt_logged_clear(void);
const char *trt_logged_error(void);

/* --- error recorder --- */

#define TRT_RECORDED_ERRORS 16
#define TRT_RECORDED_TEXT 768

typedef struct trt_error_recorder {
    trt_ErrorRecorder object;
    pthread_mutex_t lock;
    int32_t references;
    int32_t count; /* of errors reported; those past TRT_RECORDED_ERRORS are counted only */
    int32_t codes[TRT_RECORDED_ERRORS];
    char texts[TRT_RECORDED_ERRORS][TRT_RECORDED_TEXT];
} trt_error_recorder;

void trt_error_recorder_init(trt_error_recorder *recorder, const trt_tables *tables);
void trt_error_recorder_finish(trt_error_recorder *recorder);
void trt_error_recorder_clear(trt_error_recorder *recorder);

/* Whether `word` stands in what was recorded, or in the first error that was logged. */
bool trt_said(trt_error_recorder *recorder, const char *word);

/* Fails with `status`, `what`, and what TensorRT said: the first recorded error, else the first
 * logged one. `recorder` may be NULL. Errors of allocation become OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status trt_fail(kiln_status status, trt_error_recorder *recorder,
                                     const char *format, ...) KLN_PRINTF(3, 4);
#ifdef __clang_analyzer__
#define trt_fail(status, recorder, ...) \
    ((void)(trt_fail)((status), (recorder), __VA_ARGS__), (status))
#endif

/* --- device memory: the few functions of CUDA that this module needs --- */

/* How device memory is had. All may be called from any thread. `piece` is the maker's: what
 * allocate puts there, release gets again. */
typedef struct trt_memory {
    void *user;
    /* At any address, or NULL. */
    void *(*allocate)(void *user, size_t size, void *stream, kiln_block *piece);
    bool (*release)(void *user, void *memory, void *stream, const kiln_block *piece);
    /* As release, of what nothing was enqueued on yet. NULL: release. */
    bool (*drop)(void *user, void *memory, void *stream, const kiln_block *piece);
    /* Copies to host or device memory, in order with `stream`. NULL: a copy in host memory. */
    bool (*copy)(void *user, void *destination, const void *source, size_t size, void *stream);
} trt_memory;

/* Memory at a multiple of what TensorRT asks for (512 by 10.6; any power of two by its header),
 * which may begin behind what the maker gave. */
typedef struct trt_allocation {
    void *memory; /* what TensorRT has, or NULL */
    void *base;   /* what the maker gave */
    uint64_t size;
    kiln_block piece;
} trt_allocation;

/* --- GPU allocator: counts, and keeps a limit --- */

typedef struct trt_gpu_allocator {
    trt_GpuAllocator object;
    const trt_memory *memory;
    pthread_mutex_t lock; /* everything below */
    uint64_t limit;       /* 0: none */
    uint64_t in_use;      /* what is being allocated among it */
    uint64_t peak;
    uint64_t made;
    uint64_t released;
    uint64_t refused; /* allocations that the limit forbade */
    uint64_t failed;  /* for which there was no memory */
    trt_allocation *allocations;
    size_t count;
    size_t capacity;
} trt_gpu_allocator;

void trt_gpu_allocator_init(trt_gpu_allocator *allocator, const trt_tables *tables,
                            const trt_memory *memory, uint64_t limit);
/* What TensorRT did not give back is released. */
void trt_gpu_allocator_finish(trt_gpu_allocator *allocator);

/* --- output allocator: memory for one output whose size shows only during a run --- */

typedef struct trt_output_allocator {
    trt_OutputAllocator object;
    const trt_memory *memory;
    trt_allocation made; /* its size is what fits */
    void *bound;         /* memory of a caller's, given out instead where it is enough; or NULL */
    uint64_t bound_bytes;
    bool is_beside; /* `made` was given out beside `bound` */
    bool known;     /* notifyShape was called since the last reset */
    trt_Dims shape;
} trt_output_allocator;

void trt_output_allocator_init(trt_output_allocator *allocator, const trt_tables *tables,
                               const trt_memory *memory);
void trt_output_allocator_finish(trt_output_allocator *allocator);

/* --- profiler: the time of each layer, summed over runs --- */

typedef struct trt_layer_time {
    char *name;
    double milliseconds;
    uint64_t runs;
} trt_layer_time;

typedef struct trt_profiler {
    trt_Profiler object;
    trt_layer_time *layers;
    size_t count;
    size_t capacity;
    size_t next;     /* layers report in one order: where the next is looked for first */
    bool incomplete; /* memory ran out */
    bool is_off; /* what is reported now is not wanted: TensorRT does not let go of a profiler */
} trt_profiler;

void trt_profiler_init(trt_profiler *profiler, const trt_tables *tables);
void trt_profiler_finish(trt_profiler *profiler);

#endif
