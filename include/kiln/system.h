/*
 * system.h - what is installed on this machine and where Kiln looked for it; GPUs and their
 * streams.
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

/* What came of looking for a library. Absent and broken differ: the first asks for an installation,
 * the second for a repair. */
typedef enum kiln_library_state {
    KILN_LIBRARY_FOUND = 0,  /* opened, and all that Kiln needs is in it */
    KILN_LIBRARY_ABSENT = 1, /* nowhere */
    KILN_LIBRARY_BROKEN = 2, /* a file is there, but it cannot be opened or lacks a function */
    KILN_LIBRARY_REFUSED = 3 /* opened, but its version is one that Kiln does not know */
} kiln_library_state;

/* One library that Kiln knows. The strings are the report's. */
typedef struct kiln_library_info {
    size_t struct_size;  /* sizeof(kiln_library_info), set by the caller */
    const char *name;    /* "ONNX Runtime", "CUDA driver", "TensorRT 10", ... */
    const char *purpose; /* what it is for, in a few words */
    kiln_library_state state;
    const char *version; /* "1.31.1", or "" */
    const char *path;    /* what was opened, links resolved, or "" */
    const char *advice;  /* what to do where it is not FOUND, or "" */
    size_t place_count;  /* how many places were looked at */
} kiln_library_info;

/* One GPU, as the CUDA driver describes it. */
typedef struct kiln_device_info {
    size_t struct_size; /* sizeof(kiln_device_info), set by the caller */
    int32_t index;      /* from 0, the driver's order */
    const char *name;   /* the report's */
    int32_t compute_major;
    int32_t compute_minor;
    uint64_t total_bytes;    /* memory of the device */
    const char *pci_address; /* "0000:65:00.0" */
    int32_t multiprocessors;
    bool integrated;            /* shares the host's memory */
    bool managed_memory;        /* KILN_LOCATION_MANAGED can be had */
    bool stream_ordered_memory; /* the driver keeps a memory pool for it */
} kiln_device_info;

typedef struct kiln_system_report kiln_system_report;

/* Looks for every library Kiln knows and asks the driver for its devices. Libraries that are opened
 * stay open. On a machine with nothing installed it works and says so. Errors: NULL_ARGUMENT,
 * OUT_OF_MEMORY. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_system_report_create(kiln_system_report **report);

/* NULL is allowed. Since 0.1. */
KILN_API void kiln_system_report_destroy(kiln_system_report *report);

/* The libraries, in a fixed order. Errors: NULL_ARGUMENT; INVALID_ARGUMENT past the end. Since 0.1.
 */
KILN_API size_t kiln_system_report_library_count(const kiln_system_report *report);
KILN_API KILN_MUST_CHECK kiln_status kiln_system_report_library(const kiln_system_report *report,
                                                                size_t index,
                                                                kiln_library_info *info);

/* Place `place` that was looked at for library `library`: one line, the path and what was found
 * there. NULL past the end. The report's. Since 0.1. */
KILN_API const char *kiln_system_report_place(const kiln_system_report *report, size_t library,
                                              size_t place);

/* The devices; none where there is no driver. Errors: as above. Since 0.1. */
KILN_API size_t kiln_system_report_device_count(const kiln_system_report *report);
KILN_API KILN_MUST_CHECK kiln_status kiln_system_report_device(const kiln_system_report *report,
                                                               size_t index,
                                                               kiln_device_info *info);

/* --- devices --- */

/*
 * Everything below needs the NVIDIA driver, which is looked for on first use and started then, as
 * is each device: tenths of a second, on a machine of many GPUs seconds. Where there is none, or no
 * GPU, these calls fail with LIBRARY_ABSENT, LIBRARY_BROKEN, LIBRARY_SYMBOL, LIBRARY_VERSION or
 * NO_DEVICE. What the driver reports comes back as OUT_OF_MEMORY, NO_DEVICE or DEVICE, with the
 * driver's own name and text for it in the sentence. These are not named again at each call. Work
 * happens in a device's primary context, the one that the CUDA runtime uses too.
 */

/* How many GPUs there are; 0 without a driver. Any thread. Since 0.1. */
KILN_API size_t kiln_device_count(void);

/* Describes GPU `device`, from 0. The strings live as long as the process. Errors: NULL_ARGUMENT;
 * INVALID_ARGUMENT for a struct_size that is too small. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_device_get(int32_t device, kiln_device_info *info);

/* Bytes of the device's memory that are free at this moment, and all of them. Errors:
 * NULL_ARGUMENT. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_device_memory(int32_t device, size_t *free_bytes,
                                                        size_t *total_bytes);

/* Lets what runs on `device` read and write the memory of `peer` directly, as long as the process
 * lives. Fine where it could already. Errors: UNSUPPORTED where the two are not connected so. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_device_connect(int32_t device, int32_t peer);

/* How many free bytes the driver may keep for kiln_stream_allocate on `device` instead of giving
 * them back whenever somebody waits; what it keeps beyond goes back now. A program that allocates
 * again and again is much faster with a generous number; the driver's own is 0. It holds for all
 * that use the device's default memory pool in this process. Errors: UNSUPPORTED without
 * stream-ordered memory. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_device_keep_free(int32_t device, uint64_t bytes);

/* --- streams --- */

/* A queue of work for one GPU: what is enqueued runs in order, beside what is on other streams. Any
 * thread may enqueue; two threads at once on one stream leave the order between them open. */
typedef struct kiln_stream kiln_stream;

/* A place in a stream, to wait for and to take times at. One thread at a time. */
typedef struct kiln_event kiln_event;

/* Makes a stream on `device`. `priority`: 0 is the usual, smaller numbers are more urgent, down to
 * what the device has (-5 on today's). On an error `*stream` is NULL. Errors: NULL_ARGUMENT;
 * INVALID_ARGUMENT for a priority that the device does not have, with its range. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_create(int32_t device, int32_t priority,
                                                        kiln_stream **stream);

/* A stream over one of the caller's: `handle` is a cudaStream_t or CUstream of `device`, made by
 * the CUDA runtime or in the primary context; NULL is the legacy default stream. It stays the
 * caller's and must outlive the kiln_stream. Errors: NULL_ARGUMENT; INVALID_ARGUMENT for a stream
 * of another context. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_wrap(int32_t device, void *handle,
                                                      kiln_stream **stream);

/* Destroys it; what is enqueued still runs. Where memory of a kiln_pool was released on it, waits
 * for its work first. NULL is allowed. Since 0.1. */
KILN_API void kiln_stream_destroy(kiln_stream *stream);

/* The cudaStream_t (CUstream), to enqueue work of one's own; valid as long as `stream`. NULL for
 * NULL and for the default stream. Any thread. Since 0.1. */
KILN_API void *kiln_stream_handle(const kiln_stream *stream);

/* Its device's index; -1 for NULL. Any thread. Since 0.1. */
KILN_API int32_t kiln_stream_device(const kiln_stream *stream);

/* Waits until everything enqueued is done. A failure of that work (an illegal address, a lost
 * device) shows here at the latest. Errors: NULL_ARGUMENT. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_synchronize(kiln_stream *stream);

/* Whether everything enqueued is done, without waiting. Errors: NULL_ARGUMENT. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_query(kiln_stream *stream, bool *done);

/* What is enqueued from now on runs after `event`'s last record, which may be of another device. An
 * event that was never recorded holds nothing up. Errors: NULL_ARGUMENT. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_wait_event(kiln_stream *stream, kiln_event *event);

/* Enqueues a call of `function(user)` on a thread of the driver's. It must not call the driver, nor
 * anything of Kiln's that takes a device. Errors: NULL_ARGUMENT. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_call(kiln_stream *stream,
                                                      void (*function)(void *user), void *user);

/* Device memory in the stream's order: what is enqueued there from now on may use it, until its
 * release is reached. `bytes` is at least 1. For memory that comes and goes often, kiln_pool is
 * several times faster. Errors: NULL_ARGUMENT; SIZE for 0 bytes; UNSUPPORTED by a driver before
 * 11.2 and a device without stream-ordered memory. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_allocate(kiln_stream *stream, size_t bytes,
                                                          void **memory);

/* Gives it back behind what is enqueued on `stream`, which may be another one that was put in order
 * behind the first. NULL memory is allowed. Errors: NULL_ARGUMENT. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_release(kiln_stream *stream, void *memory);

/* Makes an event; one without times is cheaper. Errors: NULL_ARGUMENT. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_event_create(int32_t device, bool timed,
                                                       kiln_event **event);

/* NULL is allowed. Since 0.1. */
KILN_API void kiln_event_destroy(kiln_event *event);

/* Sets the event behind what is enqueued on `stream` now; an earlier record is forgotten. Errors:
 * NULL_ARGUMENT; INVALID_ARGUMENT for two devices. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_event_record(kiln_event *event, kiln_stream *stream);

/* Waits until the last record is reached. Errors: NULL_ARGUMENT. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_event_synchronize(kiln_event *event);

/* Whether the last record is reached, without waiting. Errors: NULL_ARGUMENT. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_event_query(kiln_event *event, bool *done);

/* Device time between two records, in milliseconds, with a resolution of about half a microsecond.
 * Waits for `end`. Errors: NULL_ARGUMENT; STATE for one that was made without times or was never
 * recorded. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_event_elapsed(kiln_event *begin, kiln_event *end,
                                                        double *milliseconds);

/* --- graphs --- */

/*
 * A CUDA graph is work that was written down once and is launched as a whole, for the price of one
 * launch. It is captured: between begin and end, what is enqueued on the stream is written down
 * instead of run. Memory must stay where it was, since the graph remembers addresses.
 */
typedef struct kiln_graph kiln_graph;

/* From now on `stream` writes down, in this thread, until one of the three calls below. Errors:
 * NULL_ARGUMENT; UNSUPPORTED by a driver without graphs. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_capture_begin(kiln_stream *stream);

/* Ends the capture and makes it launchable. On an error `*graph` is NULL and the stream runs work
 * again. Errors: NULL_ARGUMENT; STATE where nothing was begun; DEVICE where something was enqueued
 * that cannot be captured. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_capture_end(kiln_stream *stream,
                                                             kiln_graph **graph);

/* Ends the capture and puts it in the place of what `graph` holds: in place where the shape of the
 * work is the same (cheap), else by making it anew; `in_place`, which may be NULL, says which. On
 * an error the graph is as it was. Must not run at the same time as a launch. Errors: as
 * kiln_stream_capture_end; INVALID_ARGUMENT for two devices. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_stream_capture_update(kiln_stream *stream,
                                                                kiln_graph *graph, bool *in_place);

/* Ends the capture and forgets it; without one it does nothing. NULL is allowed. Since 0.1. */
KILN_API void kiln_stream_capture_abandon(kiln_stream *stream);

/* Enqueues the graph. Launches of one graph never overlap each other. Errors: NULL_ARGUMENT. One
 * thread at a time. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_graph_launch(kiln_graph *graph, kiln_stream *stream);

/* How many pieces of work it holds; 0 for NULL. Since 0.1. */
KILN_API size_t kiln_graph_node_count(const kiln_graph *graph);

/* NULL is allowed. Since 0.1. */
KILN_API void kiln_graph_destroy(kiln_graph *graph);

#ifdef __cplusplus
}
#endif

#endif
