/* SPDX-License-Identifier: Apache-2.0 */
/* The part of ONNX Runtime's C interface that Kiln calls, declared independently.
 *
 * ONNX Runtime exposes one table of function pointers and only ever appends to it, so a slot never
 * moves. ORT_API_LIST is the only place that lists the slots used, the type of each, and the API
 * version that introduced it. scripts/check_onnxruntime_abi.sh compares it with a real header, and
 * tests/unit/test_onnxruntime_abi.c calls each slot. */
#ifndef KLN_ORT_API_H
#define KLN_ORT_API_H

#include <stddef.h>
#include <stdint.h>

/* The oldest table Kiln works with (release 1.23) and the level whose functions it asks for where
 * they are there. */
#define ORT_LEVEL_NEEDED 23
#define ORT_RELEASE_NEEDED "1.23"

typedef struct OrtEnv OrtEnv;
typedef struct OrtStatus OrtStatus;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtIoBinding OrtIoBinding;
typedef struct OrtSession OrtSession;
typedef struct OrtValue OrtValue;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtTypeInfo OrtTypeInfo;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtModelMetadata OrtModelMetadata;
typedef struct OrtAllocator OrtAllocator;
typedef struct OrtCUDAProviderOptionsV2 OrtCUDAProviderOptionsV2;
typedef struct OrtEpAssignedSubgraph OrtEpAssignedSubgraph;
typedef struct OrtEpAssignedNode OrtEpAssignedNode;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtCustomOp OrtCustomOp;

/* Enumerations of the interface. They are passed as the integer that a C compiler gives them, which
 * is signed only where a value is negative. */
typedef unsigned int ort_error_code;
typedef unsigned int ort_logging_level;
typedef unsigned int ort_graph_level;
typedef unsigned int ort_execution_mode;
typedef unsigned int ort_element_type;
typedef unsigned int ort_value_type;
typedef int ort_allocator_kind;
typedef int ort_memory_kind;

enum {
    ORT_CODE_FAIL = 1,
    ORT_CODE_INVALID_ARGUMENT = 2,
    ORT_CODE_NO_SUCHFILE = 3,
    ORT_CODE_NO_MODEL = 4,
    ORT_CODE_RUNTIME_EXCEPTION = 6,
    ORT_CODE_INVALID_PROTOBUF = 7,
    ORT_CODE_NOT_IMPLEMENTED = 9,
    ORT_CODE_INVALID_GRAPH = 10,
    ORT_CODE_MODEL_LOAD_CANCELED = 12,
};

enum {
    ORT_LEVEL_VERBOSE = 0,
    ORT_LEVEL_INFO = 1,
    ORT_LEVEL_WARNING = 2,
    ORT_LEVEL_ERROR = 3,
    ORT_LEVEL_FATAL = 4,
};

enum { ORT_GRAPH_OFF = 0, ORT_GRAPH_BASIC = 1, ORT_GRAPH_EXTENDED = 2, ORT_GRAPH_ALL = 99 };

enum { ORT_MODE_SEQUENTIAL = 0, ORT_MODE_PARALLEL = 1 };

enum { ORT_VALUE_TENSOR = 1 };

/* The device allocator, because the arena one has no meaning for memory that exists already. */
enum { ORT_ALLOCATOR_DEVICE = 0, ORT_MEMORY_DEFAULT = 0 };

/* ONNXTensorElementDataType beside Kiln's data type. What is not in the list has no counterpart. */
#define ORT_ELEMENT_LIST(X)      \
    X(1, KILN_DTYPE_FLOAT32)     \
    X(2, KILN_DTYPE_UINT8)       \
    X(3, KILN_DTYPE_INT8)        \
    X(4, KILN_DTYPE_UINT16)      \
    X(5, KILN_DTYPE_INT16)       \
    X(6, KILN_DTYPE_INT32)       \
    X(7, KILN_DTYPE_INT64)       \
    X(8, KILN_DTYPE_STRING)      \
    X(9, KILN_DTYPE_BOOL)        \
    X(10, KILN_DTYPE_FLOAT16)    \
    X(11, KILN_DTYPE_FLOAT64)    \
    X(12, KILN_DTYPE_UINT32)     \
    X(13, KILN_DTYPE_UINT64)     \
    X(14, KILN_DTYPE_COMPLEX64)  \
    X(15, KILN_DTYPE_COMPLEX128) \
    X(16, KILN_DTYPE_BFLOAT16)   \
    X(17, KILN_DTYPE_FLOAT8E4M3) \
    X(19, KILN_DTYPE_FLOAT8E5M2) \
    X(21, KILN_DTYPE_UINT4)      \
    X(22, KILN_DTYPE_INT4)       \
    X(23, KILN_DTYPE_FLOAT4E2M1)

typedef void (*ort_logging_function)(void *user, ort_logging_level level, const char *category,
                                     const char *log_id, const char *location, const char *message);

/* Slot, level of the table that has it first, result, name, parameters. */
#define ORT_API_LIST(X)                                                                            \
    X(0, 1, OrtStatus *, CreateStatus, (ort_error_code, const char *))                             \
    X(1, 1, ort_error_code, GetErrorCode, (const OrtStatus *))                                     \
    X(2, 1, const char *, GetErrorMessage, (const OrtStatus *))                                    \
    X(4, 1, OrtStatus *, CreateEnvWithCustomLogger,                                                \
      (ort_logging_function, void *, ort_logging_level, const char *, OrtEnv **))                  \
    X(6, 1, OrtStatus *, DisableTelemetryEvents, (const OrtEnv *))                                 \
    X(7, 1, OrtStatus *, CreateSession,                                                            \
      (const OrtEnv *, const char *, const OrtSessionOptions *, OrtSession **))                    \
    X(8, 1, OrtStatus *, CreateSessionFromArray,                                                   \
      (const OrtEnv *, const void *, size_t, const OrtSessionOptions *, OrtSession **))            \
    X(9, 1, OrtStatus *, Run,                                                                      \
      (OrtSession *, const OrtRunOptions *, const char *const *, const OrtValue *const *, size_t,  \
       const char *const *, size_t, OrtValue **))                                                  \
    X(10, 1, OrtStatus *, CreateSessionOptions, (OrtSessionOptions **))                            \
    X(13, 1, OrtStatus *, SetSessionExecutionMode, (OrtSessionOptions *, ort_execution_mode))      \
    X(14, 1, OrtStatus *, EnableProfiling, (OrtSessionOptions *, const char *))                    \
    X(22, 1, OrtStatus *, SetSessionLogSeverityLevel, (OrtSessionOptions *, int))                  \
    X(23, 1, OrtStatus *, SetSessionGraphOptimizationLevel,                                        \
      (OrtSessionOptions *, ort_graph_level))                                                      \
    X(24, 1, OrtStatus *, SetIntraOpNumThreads, (OrtSessionOptions *, int))                        \
    X(25, 1, OrtStatus *, SetInterOpNumThreads, (OrtSessionOptions *, int))                        \
    X(26, 1, OrtStatus *, CreateCustomOpDomain, (const char *, OrtCustomOpDomain **))              \
    X(27, 1, OrtStatus *, CustomOpDomain_Add, (OrtCustomOpDomain *, const OrtCustomOp *))          \
    X(28, 1, OrtStatus *, AddCustomOpDomain, (OrtSessionOptions *, OrtCustomOpDomain *))           \
    X(30, 1, OrtStatus *, SessionGetInputCount, (const OrtSession *, size_t *))                    \
    X(31, 1, OrtStatus *, SessionGetOutputCount, (const OrtSession *, size_t *))                   \
    X(33, 1, OrtStatus *, SessionGetInputTypeInfo, (const OrtSession *, size_t, OrtTypeInfo **))   \
    X(34, 1, OrtStatus *, SessionGetOutputTypeInfo, (const OrtSession *, size_t, OrtTypeInfo **))  \
    X(36, 1, OrtStatus *, SessionGetInputName,                                                     \
      (const OrtSession *, size_t, OrtAllocator *, char **))                                       \
    X(37, 1, OrtStatus *, SessionGetOutputName,                                                    \
      (const OrtSession *, size_t, OrtAllocator *, char **))                                       \
    X(39, 1, OrtStatus *, CreateRunOptions, (OrtRunOptions **))                                    \
    X(46, 1, OrtStatus *, RunOptionsSetTerminate, (OrtRunOptions *))                               \
    X(47, 1, OrtStatus *, RunOptionsUnsetTerminate, (OrtRunOptions *))                             \
    X(48, 1, OrtStatus *, CreateTensorAsOrtValue,                                                  \
      (OrtAllocator *, const int64_t *, size_t, ort_element_type, OrtValue **))                    \
    X(49, 1, OrtStatus *, CreateTensorWithDataAsOrtValue,                                          \
      (const OrtMemoryInfo *, void *, size_t, const int64_t *, size_t, ort_element_type,           \
       OrtValue **))                                                                               \
    X(51, 1, OrtStatus *, GetTensorMutableData, (OrtValue *, void **))                             \
    X(55, 1, OrtStatus *, CastTypeInfoToTensorInfo,                                                \
      (const OrtTypeInfo *, const OrtTensorTypeAndShapeInfo **))                                   \
    X(56, 1, OrtStatus *, GetOnnxTypeFromTypeInfo, (const OrtTypeInfo *, ort_value_type *))        \
    X(60, 1, OrtStatus *, GetTensorElementType,                                                    \
      (const OrtTensorTypeAndShapeInfo *, ort_element_type *))                                     \
    X(61, 1, OrtStatus *, GetDimensionsCount, (const OrtTensorTypeAndShapeInfo *, size_t *))       \
    X(62, 1, OrtStatus *, GetDimensions, (const OrtTensorTypeAndShapeInfo *, int64_t *, size_t))   \
    X(63, 1, OrtStatus *, GetSymbolicDimensions,                                                   \
      (const OrtTensorTypeAndShapeInfo *, const char **, size_t))                                  \
    X(65, 1, OrtStatus *, GetTensorTypeAndShape, (const OrtValue *, OrtTensorTypeAndShapeInfo **)) \
    X(68, 1, OrtStatus *, CreateMemoryInfo,                                                        \
      (const char *, ort_allocator_kind, int, ort_memory_kind, OrtMemoryInfo **))                  \
    X(69, 1, OrtStatus *, CreateCpuMemoryInfo,                                                     \
      (ort_allocator_kind, ort_memory_kind, OrtMemoryInfo **))                                     \
    X(76, 1, OrtStatus *, AllocatorFree, (OrtAllocator *, void *))                                 \
    X(78, 1, OrtStatus *, GetAllocatorWithDefaultOptions, (OrtAllocator **))                       \
    X(86, 1, OrtStatus *, KernelInfoGetAttribute_int64,                                            \
      (const OrtKernelInfo *, const char *, int64_t *))                                            \
    X(90, 1, OrtStatus *, KernelContext_GetInput,                                                  \
      (const OrtKernelContext *, size_t, const OrtValue **))                                       \
    X(91, 1, OrtStatus *, KernelContext_GetOutput,                                                 \
      (OrtKernelContext *, size_t, const int64_t *, size_t, OrtValue **))                          \
    X(93, 1, void, ReleaseStatus, (OrtStatus *))                                                   \
    X(94, 1, void, ReleaseMemoryInfo, (OrtMemoryInfo *))                                           \
    X(95, 1, void, ReleaseSession, (OrtSession *))                                                 \
    X(96, 1, void, ReleaseValue, (OrtValue *))                                                     \
    X(97, 1, void, ReleaseRunOptions, (OrtRunOptions *))                                           \
    X(98, 1, void, ReleaseTypeInfo, (OrtTypeInfo *))                                               \
    X(99, 1, void, ReleaseTensorTypeAndShapeInfo, (OrtTensorTypeAndShapeInfo *))                   \
    X(100, 1, void, ReleaseSessionOptions, (OrtSessionOptions *))                                  \
    X(101, 1, void, ReleaseCustomOpDomain, (OrtCustomOpDomain *))                                  \
    X(110, 1, OrtStatus *, SessionEndProfiling, (OrtSession *, OrtAllocator *, char **))           \
    X(111, 1, OrtStatus *, SessionGetModelMetadata, (const OrtSession *, OrtModelMetadata **))     \
    X(112, 1, OrtStatus *, ModelMetadataGetProducerName,                                           \
      (const OrtModelMetadata *, OrtAllocator *, char **))                                         \
    X(113, 1, OrtStatus *, ModelMetadataGetGraphName,                                              \
      (const OrtModelMetadata *, OrtAllocator *, char **))                                         \
    X(114, 1, OrtStatus *, ModelMetadataGetDomain,                                                 \
      (const OrtModelMetadata *, OrtAllocator *, char **))                                         \
    X(115, 1, OrtStatus *, ModelMetadataGetDescription,                                            \
      (const OrtModelMetadata *, OrtAllocator *, char **))                                         \
    X(116, 1, OrtStatus *, ModelMetadataLookupCustomMetadataMap,                                   \
      (const OrtModelMetadata *, OrtAllocator *, const char *, char **))                           \
    X(117, 1, OrtStatus *, ModelMetadataGetVersion, (const OrtModelMetadata *, int64_t *))         \
    X(118, 1, void, ReleaseModelMetadata, (OrtModelMetadata *))                                    \
    X(123, 1, OrtStatus *, ModelMetadataGetCustomMetadataMapKeys,                                  \
      (const OrtModelMetadata *, OrtAllocator *, char ***, int64_t *))                             \
    X(125, 4, OrtStatus *, GetAvailableProviders, (char ***, int *))                               \
    X(126, 4, OrtStatus *, ReleaseAvailableProviders, (char **, int))                              \
    X(127, 4, OrtStatus *, GetStringTensorElementLength, (const OrtValue *, size_t, size_t *))     \
    X(130, 5, OrtStatus *, AddSessionConfigEntry,                                                  \
      (OrtSessionOptions *, const char *, const char *))                                           \
    X(133, 1, OrtStatus *, RunWithBinding,                                                         \
      (OrtSession *, const OrtRunOptions *, const OrtIoBinding *))                                 \
    X(134, 1, OrtStatus *, CreateIoBinding, (OrtSession *, OrtIoBinding **))                       \
    X(135, 1, void, ReleaseIoBinding, (OrtIoBinding *))                                            \
    X(136, 1, OrtStatus *, BindInput, (OrtIoBinding *, const char *, const OrtValue *))            \
    X(137, 1, OrtStatus *, BindOutput, (OrtIoBinding *, const char *, const OrtValue *))           \
    X(138, 1, OrtStatus *, BindOutputToDevice,                                                     \
      (OrtIoBinding *, const char *, const OrtMemoryInfo *))                                       \
    X(140, 1, OrtStatus *, GetBoundOutputValues,                                                   \
      (const OrtIoBinding *, OrtAllocator *, OrtValue ***, size_t *))                              \
    X(158, 1, OrtStatus *, ModelMetadataGetGraphDescription,                                       \
      (const OrtModelMetadata *, OrtAllocator *, char **))                                         \
    X(165, 8, OrtStatus *, AddRunConfigEntry, (OrtRunOptions *, const char *, const char *))       \
    X(204, 11, OrtStatus *, SessionOptionsAppendExecutionProvider_CUDA_V2,                         \
      (OrtSessionOptions *, const OrtCUDAProviderOptionsV2 *))                                     \
    X(205, 11, OrtStatus *, CreateCUDAProviderOptions, (OrtCUDAProviderOptionsV2 **))              \
    X(206, 11, OrtStatus *, UpdateCUDAProviderOptions,                                             \
      (OrtCUDAProviderOptionsV2 *, const char *const *, const char *const *, size_t))              \
    X(208, 11, void, ReleaseCUDAProviderOptions, (OrtCUDAProviderOptionsV2 *))                     \
    X(252, 15, OrtStatus *, GetResizedStringTensorElementBuffer,                                   \
      (OrtValue *, size_t, size_t, char **))                                                       \
    X(263, 16, OrtStatus *, UpdateCUDAProviderOptionsWithValue,                                    \
      (OrtCUDAProviderOptionsV2 *, const char *, void *))                                          \
    X(279, 18, OrtStatus *, AddExternalInitializersFromFilesInMemory,                              \
      (OrtSessionOptions *, const char *const *, char *const *, const size_t *, size_t))           \
    X(390, 24, _Bool, TensorTypeAndShape_HasShape, (const OrtTensorTypeAndShapeInfo *))            \
    X(407, 24, OrtStatus *, Session_GetEpGraphAssignmentInfo,                                      \
      (const OrtSession *, const OrtEpAssignedSubgraph *const **, size_t *))                       \
    X(408, 24, OrtStatus *, EpAssignedSubgraph_GetEpName,                                          \
      (const OrtEpAssignedSubgraph *, const char **))                                              \
    X(409, 24, OrtStatus *, EpAssignedSubgraph_GetNodes,                                           \
      (const OrtEpAssignedSubgraph *, const OrtEpAssignedNode *const **, size_t *))                \
    X(410, 24, OrtStatus *, EpAssignedNode_GetName, (const OrtEpAssignedNode *, const char **))    \
    X(412, 24, OrtStatus *, EpAssignedNode_GetOperatorType,                                        \
      (const OrtEpAssignedNode *, const char **))

/* Kiln's own table, filled from the library's by slot. A pointer of a level that the library does
 * not have is NULL. */
typedef struct ort_api {
#define ORT_API_MEMBER_(slot, level, result, name, parameters) result(*name) parameters;
    ORT_API_LIST(ORT_API_MEMBER_)
#undef ORT_API_MEMBER_
} ort_api;

/* An operator of the caller's own (OrtCustomOp), as far as the library reads it of one that says it
 * is of ORT_CUSTOM_OP_LEVEL. */
#define ORT_CUSTOM_OP_LEVEL 16
typedef struct ort_custom_op {
    uint32_t version;
    void *(*CreateKernel)(const OrtCustomOp *, const void *api, const OrtKernelInfo *);
    const char *(*GetName)(const OrtCustomOp *);
    const char *(*GetExecutionProviderType)(const OrtCustomOp *);        /* NULL: the CPU's */
    ort_element_type (*GetInputType)(const OrtCustomOp *, size_t index); /* 0: any */
    size_t (*GetInputTypeCount)(const OrtCustomOp *);
    ort_element_type (*GetOutputType)(const OrtCustomOp *, size_t index);
    size_t (*GetOutputTypeCount)(const OrtCustomOp *);
    void (*KernelCompute)(void *kernel, OrtKernelContext *);
    void (*KernelDestroy)(void *kernel);
    unsigned int (*GetInputCharacteristic)(const OrtCustomOp *, size_t index); /* 0: required */
    unsigned int (*GetOutputCharacteristic)(const OrtCustomOp *, size_t index);
    ort_memory_kind (*GetInputMemoryType)(const OrtCustomOp *, size_t index);
    int (*GetVariadicInputMinArity)(const OrtCustomOp *);
    int (*GetVariadicInputHomogeneity)(const OrtCustomOp *);
    int (*GetVariadicOutputMinArity)(const OrtCustomOp *);
    int (*GetVariadicOutputHomogeneity)(const OrtCustomOp *);
    OrtStatus *(*CreateKernelV2)(const OrtCustomOp *, const void *api, const OrtKernelInfo *,
                                 void **kernel);
    OrtStatus *(*KernelComputeV2)(void *kernel, OrtKernelContext *);
} ort_custom_op;

/* What OrtGetApiBase returns. */
typedef struct ort_api_base {
    const void *(*GetApi)(uint32_t level); /* NULL where the library is older */
    const char *(*GetVersionString)(void);
} ort_api_base;

#endif
