/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's functions, declared as Kiln calls them, and the translation of its errors.
 *
 * Types and numbers are those of the driver's ABI: handles are pointers, device addresses have 64
 * bits, enums are ints. A name ends in _v2 if cuda.h redirects to it. */
#ifndef KLN_CUDA_DRIVER_H
#define KLN_CUDA_DRIVER_H

#include "kln_cuda.h"

typedef unsigned long long cu_address; /* CUdeviceptr on the 64-bit platforms that Kiln runs on */

/* CUresult. */
enum {
    CU_SUCCESS = 0,
    CU_INVALID_VALUE = 1,
    CU_OUT_OF_MEMORY = 2,
    CU_STUB_LIBRARY = 34,
    CU_NO_DEVICE = 100,
    CU_INVALID_DEVICE = 101,
    CU_ECC_UNCORRECTABLE = 214,
    CU_NVLINK_UNCORRECTABLE = 220,
    CU_CONTAINED = 221,
    CU_NOT_READY = 600,
    CU_ILLEGAL_ADDRESS = 700,
    CU_LAUNCH_TIMEOUT = 702,
    CU_PEER_ALREADY_ENABLED = 704,
    CU_CONTEXT_IS_DESTROYED = 709,
    CU_ASSERT = 710,
    CU_HARDWARE_STACK = 714,
    CU_ILLEGAL_INSTRUCTION = 715,
    CU_MISALIGNED_ADDRESS = 716,
    CU_INVALID_ADDRESS_SPACE = 717,
    CU_INVALID_PC = 718,
    CU_LAUNCH_FAILED = 719,
    CU_NOT_SUPPORTED = 801,
    CU_SYSTEM_DRIVER_MISMATCH = 803,
    CU_GRAPH_EXEC_UPDATE_FAILURE = 910
};

/* CUdevice_attribute. */
enum {
    CU_ATTRIBUTE_MULTIPROCESSORS = 16,
    CU_ATTRIBUTE_INTEGRATED = 18,
    CU_ATTRIBUTE_COMPUTE_MAJOR = 75,
    CU_ATTRIBUTE_COMPUTE_MINOR = 76,
    CU_ATTRIBUTE_MANAGED_MEMORY = 83,
    CU_ATTRIBUTE_MEMORY_POOLS = 115
};

enum {
    CU_STREAM_NON_BLOCKING = 1,
    CU_EVENT_DISABLE_TIMING = 2,
    CU_HOST_PORTABLE = 1,
    CU_HOST_MAPPED = 2,
    CU_CONTEXT_YIELDS = 2,
    CU_CONTEXT_BLOCKS = 4,
    CU_ATTACH_GLOBAL = 1,
    CU_CAPTURE_THREAD_LOCAL = 1,
    CU_CAPTURE_RELAXED = 2,
    CU_CAPTURE_ACTIVE = 1,
    CU_LAUNCH_AHEAD = 6, /* programmatic stream serialization */
    CU_NODE_KERNEL = 0,
    CU_NODE_HOST = 3,
    CU_POOL_RELEASE_THRESHOLD = 4,
    CU_COPY_IN_STREAM_ORDER = 1
};

/* CUgraphExecUpdateResultInfo. */
typedef struct cu_update_result {
    int result;
    void *error_node;
    void *error_from_node;
} cu_update_result;

/* CUmemcpyAttributes. */
typedef struct cu_copy_attributes {
    int source_order;
    int source[2], target[2]; /* hints for managed memory */
    unsigned flags;
} cu_copy_attributes;

/* CUlaunchConfig, and CUlaunchAttribute with an int. */
typedef struct cu_launch_attribute {
    int id;
    char unused[4];
    union {
        int on;
        char size[64];
    } value;
} cu_launch_attribute;

typedef struct cu_launch {
    unsigned grid[3], block[3], shared_bytes;
    void *stream;
    cu_launch_attribute *attributes;
    unsigned attribute_count;
} cu_launch;

/* Member, symbol, the driver version (as cuDriverGetVersion counts) that brought it, what is off
 * without it (NULL: nothing works), parameters. */
#define KLN_CUDA_FUNCTIONS(X)                                                                      \
    X(init, "cuInit", 2000, NULL, (unsigned flags))                                                \
    X(driver_version, "cuDriverGetVersion", 2020, NULL, (int *version))                            \
    X(error_name, "cuGetErrorName", 6000, NULL, (int result, const char **text))                   \
    X(error_text, "cuGetErrorString", 6000, NULL, (int result, const char **text))                 \
    X(device_count, "cuDeviceGetCount", 2000, NULL, (int *count))                                  \
    X(device_get, "cuDeviceGet", 2000, NULL, (int *device, int index))                             \
    X(device_name, "cuDeviceGetName", 2000, NULL, (char *name, int size, int device))              \
    X(device_memory, "cuDeviceTotalMem_v2", 3020, NULL, (size_t * bytes, int device))              \
    X(device_attribute, "cuDeviceGetAttribute", 2000, NULL,                                        \
      (int *value, int attribute, int device))                                                     \
    X(device_pci, "cuDeviceGetPCIBusId", 4010, NULL, (char *text, int size, int device))           \
    X(device_can_access, "cuDeviceCanAccessPeer", 4000, "peer access",                             \
      (int *can, int device, int peer))                                                            \
    X(context_retain, "cuDevicePrimaryCtxRetain", 7000, NULL, (void **context, int device))        \
    X(context_release, "cuDevicePrimaryCtxRelease_v2", 11000, NULL, (int device))                  \
    X(context_push, "cuCtxPushCurrent_v2", 4000, NULL, (void *context))                            \
    X(context_pop, "cuCtxPopCurrent_v2", 4000, NULL, (void **context))                             \
    X(context_current, "cuCtxGetCurrent", 4000, NULL, (void **context))                            \
    X(context_enable_peer, "cuCtxEnablePeerAccess", 4000, "peer access",                           \
      (void *context, unsigned flags))                                                             \
    X(context_wait, "cuCtxSynchronize", 2000, NULL, (void))                                        \
    X(priority_range, "cuCtxGetStreamPriorityRange", 5050, NULL, (int *least, int *greatest))      \
    X(memory_info, "cuMemGetInfo_v2", 3020, NULL, (size_t * free_bytes, size_t * total))           \
    X(allocate, "cuMemAlloc_v2", 3020, NULL, (cu_address * memory, size_t bytes))                  \
    X(release, "cuMemFree_v2", 3020, NULL, (cu_address memory))                                    \
    X(allocate_pinned, "cuMemHostAlloc", 2020, NULL,                                               \
      (void **memory, size_t bytes, unsigned flags))                                               \
    X(release_pinned, "cuMemFreeHost", 2000, NULL, (void *memory))                                 \
    X(allocate_managed, "cuMemAllocManaged", 6000, NULL,                                           \
      (cu_address * memory, size_t bytes, unsigned flags))                                         \
    X(allocate_ordered, "cuMemAllocAsync", 11020, "stream-ordered memory",                         \
      (cu_address * memory, size_t bytes, void *stream))                                           \
    X(release_ordered, "cuMemFreeAsync", 11020, "stream-ordered memory",                           \
      (cu_address memory, void *stream))                                                           \
    X(default_pool, "cuDeviceGetDefaultMemPool", 11020, "stream-ordered memory",                   \
      (void **pool, int device))                                                                   \
    X(pool_trim, "cuMemPoolTrimTo", 11020, "stream-ordered memory", (void *pool, size_t keep))     \
    X(pool_set, "cuMemPoolSetAttribute", 11020, "stream-ordered memory",                           \
      (void *pool, int attribute, void *value))                                                    \
    X(copy, "cuMemcpy", 4000, NULL, (cu_address to, cu_address from, size_t bytes))                \
    X(copy_async, "cuMemcpyAsync", 4000, NULL,                                                     \
      (cu_address to, cu_address from, size_t bytes, void *stream))                                \
    X(copy_peer_async, "cuMemcpyPeerAsync", 4000, "copies between devices",                        \
      (cu_address to, void *to_context, cu_address from, void *from_context, size_t bytes,         \
       void *stream))                                                                              \
    X(copy_batch, "cuMemcpyBatchAsync", 12080, "many copies by one call",                          \
      (cu_address * to, cu_address * from, size_t * bytes, size_t count,                           \
       cu_copy_attributes * attributes, size_t * attributes_from, size_t attribute_count,          \
       size_t * failed, void *stream))                                                             \
    X(fill_async, "cuMemsetD8Async", 3020, NULL,                                                   \
      (cu_address memory, unsigned char value, size_t bytes, void *stream))                        \
    X(module_load, "cuModuleLoadData", 2000, "copies by a kernel",                                 \
      (void **module, const void *image))                                                          \
    X(module_function, "cuModuleGetFunction", 2000, "copies by a kernel",                          \
      (void **function, void *module, const char *name))                                           \
    X(module_unload, "cuModuleUnload", 2000, "copies by a kernel", (void *module))                 \
    X(launch_kernel, "cuLaunchKernel", 4000, "copies by a kernel",                                 \
      (void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,        \
       unsigned block_y, unsigned block_z, unsigned shared_bytes, void *stream, void **parameters, \
       void **extra))                                                                              \
    X(launch_kernel_with, "cuLaunchKernelEx", 11080, "kernels that are launched ahead",            \
      (const cu_launch *launch, void *function, void **parameters, void **extra))                  \
    X(stream_create, "cuStreamCreateWithPriority", 5050, NULL,                                     \
      (void **stream, unsigned flags, int priority))                                               \
    X(stream_priority, "cuStreamGetPriority", 5050, NULL, (void *stream, int *priority))           \
    X(stream_destroy, "cuStreamDestroy_v2", 4000, NULL, (void *stream))                            \
    X(stream_wait, "cuStreamSynchronize", 2000, NULL, (void *stream))                              \
    X(context_state, "cuDevicePrimaryCtxGetState", 7000, NULL,                                     \
      (int device, unsigned *flags, int *active))                                                  \
    X(stream_query, "cuStreamQuery", 2000, NULL, (void *stream))                                   \
    X(stream_wait_event, "cuStreamWaitEvent", 3020, NULL,                                          \
      (void *stream, void *event, unsigned flags))                                                 \
    X(stream_context, "cuStreamGetCtx", 9020, NULL, (void *stream, void **context))                \
    X(stream_call, "cuLaunchHostFunc", 10000, NULL,                                                \
      (void *stream, void (*function)(void *user), void *user))                                    \
    X(event_create, "cuEventCreate", 2000, NULL, (void **event, unsigned flags))                   \
    X(event_destroy, "cuEventDestroy_v2", 4000, NULL, (void *event))                               \
    X(event_record, "cuEventRecord", 2000, NULL, (void *event, void *stream))                      \
    X(event_query, "cuEventQuery", 2000, NULL, (void *event))                                      \
    X(event_wait, "cuEventSynchronize", 2000, NULL, (void *event))                                 \
    X(event_elapsed, "cuEventElapsedTime", 2000, NULL, (float *ms, void *begin, void *end))        \
    X(capture_begin, "cuStreamBeginCapture_v2", 10010, "CUDA graphs", (void *stream, int mode))    \
    X(capture_end, "cuStreamEndCapture", 10000, "CUDA graphs", (void *stream, void **graph))       \
    X(capture_status, "cuStreamIsCapturing", 10000, "CUDA graphs", (void *stream, int *status))    \
    X(capture_info, "cuStreamGetCaptureInfo_v2", 11030, "kernels that are launched ahead",         \
      (void *stream, int *status, uint64_t *id, void **graph, void *const **nodes, size_t *count)) \
    X(graph_nodes, "cuGraphGetNodes", 10000, "CUDA graphs",                                        \
      (void *graph, void **nodes, size_t *count))                                                  \
    X(graph_node_type, "cuGraphNodeGetType", 10000, "CUDA graphs", (void *node, int *type))        \
    X(graph_destroy, "cuGraphDestroy", 10000, "CUDA graphs", (void *graph))                        \
    X(graph_instantiate_flags, "cuGraphInstantiateWithFlags", 11040,                               \
      "graphs made by the newer call", (void **exec, void *graph, unsigned long long flags))       \
    X(graph_instantiate, "cuGraphInstantiate_v2", 11000, "CUDA graphs before driver 11.4",         \
      (void **exec, void *graph, void **error_node, char *log, size_t log_size))                   \
    X(graph_launch, "cuGraphLaunch", 10000, "CUDA graphs", (void *exec, void *stream))             \
    X(exec_destroy, "cuGraphExecDestroy", 10000, "CUDA graphs", (void *exec))                      \
    X(exec_update, "cuGraphExecUpdate", 10020, "graph update before driver 12.0",                  \
      (void *exec, void *graph, void **error_node, int *result))                                   \
    X(exec_update_info, "cuGraphExecUpdate_v2", 12000, "graph update by the newer call",           \
      (void *exec, void *graph, cu_update_result *result))

typedef struct cuda_table {
#define KLN_CUDA_MEMBER_(member, symbol, version, feature, parameters) int(*member) parameters;
    KLN_CUDA_FUNCTIONS(KLN_CUDA_MEMBER_)
#undef KLN_CUDA_MEMBER_
} cuda_table;

/* One function at least is older than every driver that Kiln accepts. */
#define KLN_CUDA_LEAST_VERSION 11000

#define KLN_CUDA_DEVICE_LIMIT 64

/* A kernel of Kiln's, in PTX, and where a device keeps it. */
typedef enum cuda_kernel_slot {
    CUDA_KERNEL_GATHER = 0, /* cuda_gather.c */
    CUDA_KERNEL_BOUNDS = 1, /* cuda_observe.c */
    CUDA_KERNEL_BINS = 2,
    CUDA_KERNEL_ROWS = 3,  /* cuda_rows.c */
    CUDA_KERNEL_FENCE = 4, /* cuda_fence.c */
    CUDA_KERNEL_FENCE_AHEAD = 5,
    CUDA_KERNELS = 6
} cuda_kernel_slot;

typedef struct cuda_kernel {
    cuda_kernel_slot slot;
    const char *name, *text;
    const char *does, *doing; /* "copies", "copying" */
} cuda_kernel;

/* What is known of one device; written once, under the driver's mutex. */
typedef struct cuda_device {
    int handle;
    char name[256];
    char pci_address[32];
    size_t total_bytes;
    int compute_major;
    int compute_minor;
    int multiprocessors;
    int integrated;
    int managed_memory;
    int memory_pools;
    void *_Atomic context;                 /* the primary one, once somebody needed it */
    void *_Atomic kernels[CUDA_KERNELS];   /* each once somebody needed it (cuda_kernel.c) */
    void *modules[CUDA_KERNELS];           /* that they are in */
    void (*forget_kernels)(int32_t index); /* unloads them; NULL: none was loaded */
} cuda_device;

/* The open driver's functions. Only after kln_cuda_open worked. */
const cuda_table *cuda_functions(void);

/* Device `index`: NO_DEVICE with how many there are. Opens the driver. */
KILN_MUST_CHECK kiln_status cuda_find_device(int32_t index, cuda_device **device);

/* Its primary context, retained by the first who asks. */
KILN_MUST_CHECK kiln_status cuda_primary_context(cuda_device *device, void **context);

/* KILN_OK for success; else the sentence "WHAT: NAME (number): text", with what to do about it
 * where that is known, and OUT_OF_MEMORY, NO_DEVICE, UNSUPPORTED or DEVICE. */
KILN_MUST_CHECK kiln_status cuda_check(int result, const char *format, ...) KLN_PRINTF(2, 3);

/* Whether the open driver has what loads and launches kernels. */
bool cuda_has_kernels(void);

/* Launches a kernel in the order of the stream. The first launch on a device loads it, which
 * compiles it. UNSUPPORTED without KLN_CUDA_KERNELS; OUT_OF_MEMORY; DEVICE. (cuda_kernel.c) */
KILN_MUST_CHECK kiln_status cuda_launch(kiln_stream *stream, const cuda_kernel *kernel,
                                        uint64_t blocks, unsigned threads, void **arguments);

/* Loads it before it is launched, on the device whose context is current. */
KILN_MUST_CHECK kiln_status cuda_load_kernel(cuda_device *device, const cuda_kernel *kernel);
/* One thread of a kernel that waits itself for what comes before it on the stream, and is launched
 * while that still runs: on devices of compute capability 9.0, where the driver can. */
KILN_MUST_CHECK kiln_status cuda_launch_ahead(kiln_stream *stream, const cuda_kernel *kernel,
                                              void **arguments);

/* A failure with nobody to report it to. */
void cuda_log_failure(int result, const char *what);
/* Lets `destroy` have the handle where the device can be entered (cuda_device.c). */
void cuda_drop(int32_t device, int (*destroy)(void *handle), void *handle, const char *what);

static inline cu_address cuda_address(const void *memory)
{
    return (cu_address)(uintptr_t)memory;
}

/* The driver's handle of a stream; NULL is the default stream. */
static inline void *cuda_stream_handle(const kiln_stream *stream)
{
    return stream != NULL ? stream->handle : NULL;
}

#endif
