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
 * Everything below needs the NVIDIA driver, which is looked for on first use. Where there is none,
 * or no GPU, these calls fail with LIBRARY_ABSENT, LIBRARY_BROKEN, LIBRARY_SYMBOL, LIBRARY_VERSION
 * or NO_DEVICE. What the driver reports comes back as OUT_OF_MEMORY, NO_DEVICE or DEVICE, with the
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

/* A queue of work for one GPU. */
typedef struct kiln_stream kiln_stream;

#ifdef __cplusplus
}
#endif

#endif
