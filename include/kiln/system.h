/*
 * system.h - installed libraries and where Kiln looked for them; GPUs, streams, events and CUDA
 * graphs.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_SYSTEM_H
#define KILN_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kiln/export.h>
#include <kiln/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The result of looking for a library. ABSENT calls for an installation, BROKEN for a repair. */
typedef enum kiln_library_state {
    KILN_LIBRARY_FOUND = 0,  /* opened, with everything that Kiln needs */
    KILN_LIBRARY_ABSENT = 1, /* not found anywhere */
    KILN_LIBRARY_BROKEN = 2, /* found, but it cannot be opened or lacks a function */
    KILN_LIBRARY_REFUSED = 3 /* opened, but Kiln does not know its version */
} kiln_library_state;

/* A library that Kiln can use. Strings are owned by the report. */
typedef struct kiln_library_info {
    size_t struct_size;  /* sizeof(kiln_library_info), set by the caller */
    const char *name;    /* "ONNX Runtime", "CUDA driver", "TensorRT 10", ... */
    const char *purpose; /* what it is for, in a few words */
    kiln_library_state state;
    const char *version; /* "1.31.1", or "" */
    const char *path;    /* path of the opened file, with links resolved, or "" */
    const char *advice;  /* what to do if the state is not FOUND, or "" */
    size_t place_count;  /* number of places searched */
} kiln_library_info;

/* One GPU, as the CUDA driver describes it. */
typedef struct kiln_device_info {
    size_t struct_size; /* sizeof(kiln_device_info), set by the caller */
    int32_t index;      /* from 0, in the driver's order */
    const char *name;   /* owned by the report */
    int32_t compute_major;
    int32_t compute_minor;
    uint64_t total_bytes;    /* device memory */
    const char *pci_address; /* "0000:65:00.0" */
    int32_t multiprocessors;
    bool integrated;            /* shares the host's memory */
    bool managed_memory;        /* supports KILN_LOCATION_MANAGED */
    bool stream_ordered_memory; /* supports stream-ordered allocation: the driver keeps a memory
                                   pool for it */
} kiln_device_info;

typedef struct kiln_system_report kiln_system_report;

/* Looks for every library that Kiln can use and queries the driver for its devices. Libraries that
 * it opens stay open. It also succeeds on a machine with nothing installed, and reports that.
 * Errors: NULL_ARGUMENT, OUT_OF_MEMORY. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_system_report_create(kiln_system_report **report);

/* Destroys a report. NULL is allowed. Since 0.1. */
KILN_API void kiln_system_report_destroy(kiln_system_report *report);

/* The number of libraries, and library `index`, in a fixed order. Errors: NULL_ARGUMENT;
 * INVALID_ARGUMENT past the end. Since 0.1. */
KILN_API size_t kiln_system_report_library_count(const kiln_system_report *report);
KILN_API KILN_MUST_CHECK kiln_status kiln_system_report_library(const kiln_system_report *report,
                                                                size_t index,
                                                                kiln_library_info *info);

/* Place `place` searched for library `library`, as one line with the path and what was found there.
 * NULL past the end. Owned by the report. Since 0.1. */
KILN_API const char *kiln_system_report_place(const kiln_system_report *report, size_t library,
                                              size_t place);

/* The number of devices, 0 without a driver, and device `index`. Errors: as above. Since 0.1. */
KILN_API size_t kiln_system_report_device_count(const kiln_system_report *report);
KILN_API KILN_MUST_CHECK kiln_status kiln_system_report_device(const kiln_system_report *report,
                                                               size_t index,
                                                               kiln_device_info *info);

/* --- devices --- */

/*
 * Everything below needs the NVIDIA driver. It is looked for and initialized on first use, and so
 * is each device. That takes tenths of a second, and seconds on a machine with many GPUs.
 *
 * Without a driver or a GPU these calls fail with LIBRARY_ABSENT, LIBRARY_BROKEN, LIBRARY_SYMBOL,
 * LIBRARY_VERSION or NO_DEVICE. Errors of the driver become OUT_OF_MEMORY, NO_DEVICE or DEVICE,
 * with the driver's own name and text in the sentence. The descriptions below do not repeat these.
 *
 * Work runs in a device's primary context, which the CUDA runtime uses too.
 */

/* The number of GPUs; 0 without a driver. Any thread. Since 0.1. */
KILN_API size_t kiln_device_count(void);

/* Describes GPU `device`, from 0. The strings are valid as long as the process. Errors:
 * NULL_ARGUMENT; INVALID_ARGUMENT if struct_size is too small. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_device_get(int32_t device, kiln_device_info *info);

/* Gives the device memory that is free at present, and the total, in bytes. Errors: NULL_ARGUMENT.
 * Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_device_memory(int32_t device, size_t *free_bytes,
                                                        size_t *total_bytes);

/* Enables peer access: work on `device` can directly read and write the memory of `peer`, as long
 * as the process lives. Does nothing if that is enabled already. Errors: UNSUPPORTED if the two are
 * not connected in that way. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_device_connect(int32_t device, int32_t peer);

/* Sets how many free bytes the driver keeps for kiln_stream_allocate on `device` instead of
 * releasing them at the next synchronization. Free memory above that is released now. The driver's
 * default is 0; a program that allocates often is much faster with a large value. The setting
 * affects all users of the device's default memory pool in this process. Errors: UNSUPPORTED
 * without stream-ordered memory. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_device_keep_free(int32_t device, uint64_t bytes);

/* --- streams --- */

/* A queue of work for one GPU. Work on one stream runs in order, and concurrently with other
 * streams. Any thread may enqueue; if two threads enqueue on one stream at the same time, their
 * order is undefined. */
typedef struct kiln_stream kiln_stream;

/* A point in a stream, to wait for or to measure time at. One thread at a time. */
typedef struct kiln_event kiln_event;

/* Creates a stream on `device`. `priority` 0 is the default; smaller numbers are more urgent, down
 * to the device's limit (-5 on current devices). On an error `*stream` is NULL. Errors:
 * NULL_ARGUMENT; INVALID_ARGUMENT for a priority that the device does not have, with its range. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_create(int32_t device, int32_t priority,
                                                        kiln_stream **stream);

/* Wraps a stream of the caller's. `handle` is a cudaStream_t or CUstream of `device`, created by
 * the CUDA runtime or in the primary context; NULL is the legacy default stream. The caller keeps
 * ownership, and the handle must outlive the kiln_stream. Errors: NULL_ARGUMENT; INVALID_ARGUMENT
 * for a stream of another context. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_wrap(int32_t device, void *handle,
                                                      kiln_stream **stream);

/* Destroys the stream. Enqueued work still runs. If memory of a kiln_pool was released on the
 * stream, waits for its work first. NULL is allowed. Since 0.1. */
KILN_API void kiln_stream_destroy(kiln_stream *stream);

/* The cudaStream_t (CUstream), on which the caller may enqueue work; valid as long as `stream`.
 * NULL for NULL and for the default stream. Any thread. Since 0.1. */
KILN_API void *kiln_stream_handle(const kiln_stream *stream);

/* The index of the stream's device; -1 for NULL. Any thread. Since 0.1. */
KILN_API int32_t kiln_stream_device(const kiln_stream *stream);

/* Waits until all enqueued work is done. Errors of that work (an illegal address, a lost device)
 * are reported here at the latest. Errors: NULL_ARGUMENT. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_synchronize(kiln_stream *stream);

/* Checks whether all enqueued work is done, without waiting. Errors: NULL_ARGUMENT. Any thread.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_query(kiln_stream *stream, bool *done);

/* Makes work enqueued from now on wait for the last record of `event`, which may be on another
 * device. An event that was never recorded does not delay anything. Errors: NULL_ARGUMENT. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_wait_event(kiln_stream *stream, kiln_event *event);

/* Enqueues a call of `function(user)` in a thread of the driver's. The function must not call the
 * driver, nor anything of Kiln's that takes a device. Errors: NULL_ARGUMENT. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_call(kiln_stream *stream,
                                                      void (*function)(void *user), void *user);

/* Allocates device memory in stream order. Work enqueued on the stream from now on may use it,
 * until the stream reaches its release. `bytes` is at least 1. For frequent allocations, kiln_pool
 * is several times faster. Errors: NULL_ARGUMENT; SIZE for 0 bytes; UNSUPPORTED with a driver
 * before 11.2, or a device without stream-ordered memory. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_allocate(kiln_stream *stream, size_t bytes,
                                                          void **memory);

/* Releases memory of kiln_stream_allocate after the work now enqueued on `stream`, which may be
 * another stream that was ordered behind the first. NULL memory is allowed. Errors: NULL_ARGUMENT.
 * Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_release(kiln_stream *stream, void *memory);

/* Creates an event; one that is not `timed` is cheaper. Errors: NULL_ARGUMENT. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_event_create(int32_t device, bool timed,
                                                       kiln_event **event);

/* Destroys an event. NULL is allowed. Since 0.1. */
KILN_API void kiln_event_destroy(kiln_event *event);

/* Records the event after the work now enqueued on `stream`, replacing an earlier record. Errors:
 * NULL_ARGUMENT; INVALID_ARGUMENT if the two are of different devices. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_event_record(kiln_event *event, kiln_stream *stream);

/* Waits until the last record is reached. Errors: NULL_ARGUMENT. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_event_synchronize(kiln_event *event);

/* Checks whether the last record is reached, without waiting. Errors: NULL_ARGUMENT. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_event_query(kiln_event *event, bool *done);

/* Gives the device time between two records in milliseconds, with a resolution of about half a
 * microsecond. Waits for `end`. Errors: NULL_ARGUMENT; STATE for an event that is not timed or was
 * never recorded. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_event_elapsed(kiln_event *begin, kiln_event *end,
                                                        double *milliseconds);

/* --- CUDA graphs --- */

/*
 * A CUDA graph is work that is recorded once and then launched as a whole, at the cost of one
 * launch. It is made by stream capture: between begin and end, work enqueued on the stream is
 * recorded instead of run. Memory must keep its addresses, because the graph stores them.
 */
typedef struct kiln_graph kiln_graph;

/* Starts to capture what this thread enqueues on `stream`, until one of the next three calls.
 * Errors: NULL_ARGUMENT; UNSUPPORTED with a driver without graphs. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_capture_begin(kiln_stream *stream);

/* Ends the capture and instantiates the graph. On an error `*graph` is NULL, and the stream runs
 * work again. Errors: NULL_ARGUMENT; STATE if no capture was started; DEVICE if something was
 * enqueued that cannot be captured. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_capture_end(kiln_stream *stream,
                                                             kiln_graph **graph);

/* Ends the capture and replaces the contents of `graph`. If the structure of the work is the same,
 * the graph is updated in place, which is cheap; otherwise it is instantiated again. `in_place`,
 * which may be NULL, says which. On an error the graph is unchanged. Must not run at the same time
 * as a launch. Errors: as kiln_stream_capture_end; INVALID_ARGUMENT if the two are of different
 * devices. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_capture_update(kiln_stream *stream,
                                                                kiln_graph *graph, bool *in_place);

/* Ends the capture and discards it; does nothing without a capture. NULL is allowed. Since 0.1. */
KILN_API void kiln_stream_capture_abandon(kiln_stream *stream);

/* Enqueues the graph. Launches of one graph never overlap. Errors: NULL_ARGUMENT. One thread at a
 * time. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_graph_launch(kiln_graph *graph, kiln_stream *stream);

/* The number of nodes in the graph; 0 for NULL. Since 0.1. */
KILN_API size_t kiln_graph_node_count(const kiln_graph *graph);

/* Destroys a graph. NULL is allowed. Since 0.1. */
KILN_API void kiln_graph_destroy(kiln_graph *graph);

#ifdef __cplusplus
}
#endif

#endif
