/*
 * ort_api.h - ONNX Runtime's C ABI, as far as Kiln uses it.
 *
 * libonnxruntime exports one function, OrtGetApiBase; it gives a table of functions, the table of
 * API level n. The table is only ever appended to, so a slot keeps its number. The list below is
 * the one place that knows slots and types: the typed table, its filling and
 * scripts/check_onnxruntime_abi.sh, which holds it against a real header, are all made from it.
 * Enumerations are passed as `unsigned`, which is what a C compiler gives an enum without negative
 * values.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KLN_ORT_API_H
#define KLN_ORT_API_H

#include <stddef.h>
#include <stdint.h>

typedef struct OrtStatus OrtStatus;
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtValue OrtValue;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtIoBinding OrtIoBinding;
typedef struct OrtAllocator OrtAllocator;
typedef struct OrtTypeInfo OrtTypeInfo;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;
typedef struct OrtModelMetadata OrtModelMetadata;

typedef void (*ort_logger)(void *user, unsigned severity, const char *category, const char *logid,
                           const char *location, const char *message);

/* The oldest API level that has every slot below and with which Kiln was tried: release 1.23. */
#define ORT_API_LEVEL 23U
#define ORT_OLDEST_VERSION "1.23"

/* X(slot, name, result, parameters) */
#define ORT_SLOTS(X)                                                                               \
    X(1, GetErrorCode, unsigned, (const OrtStatus *))                                              \
    X(2, GetErrorMessage, const char *, (const OrtStatus *))                                       \
    X(4, CreateEnvWithCustomLogger, OrtStatus *,                                                   \
      (ort_logger, void *, unsigned, const char *, OrtEnv **))                                     \
    X(6, DisableTelemetryEvents, OrtStatus *, (const OrtEnv *))                                    \
    X(7, CreateSession, OrtStatus *,                                                               \
      (const OrtEnv *, const char *, const OrtSessionOptions *, OrtSession **))                    \
    X(8, CreateSessionFromArray, OrtStatus *,                                                      \
      (const OrtEnv *, const void *, size_t, const OrtSessionOptions *, OrtSession **))            \
    X(10, CreateSessionOptions, OrtStatus *, (OrtSessionOptions **))                               \
    X(13, SetSessionExecutionMode, OrtStatus *, (OrtSessionOptions *, unsigned))                   \
    X(22, SetSessionLogSeverityLevel, OrtStatus *, (OrtSessionOptions *, int))                     \
    X(23, SetSessionGraphOptimizationLevel, OrtStatus *, (OrtSessionOptions *, unsigned))          \
    X(24, SetIntraOpNumThreads, OrtStatus *, (OrtSessionOptions *, int))                           \
    X(25, SetInterOpNumThreads, OrtStatus *, (OrtSessionOptions *, int))                           \
    X(30, SessionGetInputCount, OrtStatus *, (const OrtSession *, size_t *))                       \
    X(31, SessionGetOutputCount, OrtStatus *, (const OrtSession *, size_t *))                      \
    X(33, SessionGetInputTypeInfo, OrtStatus *, (const OrtSession *, size_t, OrtTypeInfo **))      \
    X(34, SessionGetOutputTypeInfo, OrtStatus *, (const OrtSession *, size_t, OrtTypeInfo **))     \
    X(36, SessionGetInputName, OrtStatus *, (const OrtSession *, size_t, OrtAllocator *, char **)) \
    X(37, SessionGetOutputName, OrtStatus *,                                                       \
      (const OrtSession *, size_t, OrtAllocator *, char **))                                       \
    X(39, CreateRunOptions, OrtStatus *, (OrtRunOptions **))                                       \
    X(49, CreateTensorWithDataAsOrtValue, OrtStatus *,                                             \
      (const OrtMemoryInfo *, void *, size_t, const int64_t *, size_t, unsigned, OrtValue **))     \
    X(50, IsTensor, OrtStatus *, (const OrtValue *, int *))                                        \
    X(51, GetTensorMutableData, OrtStatus *, (OrtValue *, void **))                                \
    X(55, CastTypeInfoToTensorInfo, OrtStatus *,                                                   \
      (const OrtTypeInfo *, const OrtTensorTypeAndShapeInfo **))                                   \
    X(60, GetTensorElementType, OrtStatus *, (const OrtTensorTypeAndShapeInfo *, unsigned *))      \
    X(61, GetDimensionsCount, OrtStatus *, (const OrtTensorTypeAndShapeInfo *, size_t *))          \
    X(62, GetDimensions, OrtStatus *, (const OrtTensorTypeAndShapeInfo *, int64_t *, size_t))      \
    X(63, GetSymbolicDimensions, OrtStatus *,                                                      \
      (const OrtTensorTypeAndShapeInfo *, const char **, size_t))                                  \
    X(65, GetTensorTypeAndShape, OrtStatus *, (const OrtValue *, OrtTensorTypeAndShapeInfo **))    \
    X(69, CreateCpuMemoryInfo, OrtStatus *, (unsigned, int, OrtMemoryInfo **))                     \
    X(76, AllocatorFree, OrtStatus *, (OrtAllocator *, void *))                                    \
    X(78, GetAllocatorWithDefaultOptions, OrtStatus *, (OrtAllocator **))                          \
    X(93, ReleaseStatus, void, (OrtStatus *))                                                      \
    X(94, ReleaseMemoryInfo, void, (OrtMemoryInfo *))                                              \
    X(95, ReleaseSession, void, (OrtSession *))                                                    \
    X(96, ReleaseValue, void, (OrtValue *))                                                        \
    X(97, ReleaseRunOptions, void, (OrtRunOptions *))                                              \
    X(98, ReleaseTypeInfo, void, (OrtTypeInfo *))                                                  \
    X(99, ReleaseTensorTypeAndShapeInfo, void, (OrtTensorTypeAndShapeInfo *))                      \
    X(100, ReleaseSessionOptions, void, (OrtSessionOptions *))                                     \
    X(111, SessionGetModelMetadata, OrtStatus *, (const OrtSession *, OrtModelMetadata **))        \
    X(112, ModelMetadataGetProducerName, OrtStatus *,                                              \
      (const OrtModelMetadata *, OrtAllocator *, char **))                                         \
    X(113, ModelMetadataGetGraphName, OrtStatus *,                                                 \
      (const OrtModelMetadata *, OrtAllocator *, char **))                                         \
    X(114, ModelMetadataGetDomain, OrtStatus *,                                                    \
      (const OrtModelMetadata *, OrtAllocator *, char **))                                         \
    X(115, ModelMetadataGetDescription, OrtStatus *,                                               \
      (const OrtModelMetadata *, OrtAllocator *, char **))                                         \
    X(116, ModelMetadataLookupCustomMetadataMap, OrtStatus *,                                      \
      (const OrtModelMetadata *, OrtAllocator *, const char *, char **))                           \
    X(117, ModelMetadataGetVersion, OrtStatus *, (const OrtModelMetadata *, int64_t *))            \
    X(118, ReleaseModelMetadata, void, (OrtModelMetadata *))                                       \
    X(123, ModelMetadataGetCustomMetadataMapKeys, OrtStatus *,                                     \
      (const OrtModelMetadata *, OrtAllocator *, char ***, int64_t *))                             \
    X(133, RunWithBinding, OrtStatus *,                                                            \
      (OrtSession *, const OrtRunOptions *, const OrtIoBinding *))                                 \
    X(134, CreateIoBinding, OrtStatus *, (OrtSession *, OrtIoBinding **))                          \
    X(135, ReleaseIoBinding, void, (OrtIoBinding *))                                               \
    X(136, BindInput, OrtStatus *, (OrtIoBinding *, const char *, const OrtValue *))               \
    X(137, BindOutput, OrtStatus *, (OrtIoBinding *, const char *, const OrtValue *))              \
    X(138, BindOutputToDevice, OrtStatus *, (OrtIoBinding *, const char *, const OrtMemoryInfo *)) \
    X(140, GetBoundOutputValues, OrtStatus *,                                                      \
      (const OrtIoBinding *, OrtAllocator *, OrtValue ***, size_t *))

typedef struct ort_api {
#define ORT_MEMBER(slot, name, result, parameters) result(*name) parameters;
    ORT_SLOTS(ORT_MEMBER)
#undef ORT_MEMBER
} ort_api;

/* What OrtGetApiBase returns. The result of GetApi is a table of pointers, NULL for a level it does
 * not have. */
typedef struct ort_api_base {
    const void *(*GetApi)(uint32_t level);
    const char *(*GetVersionString)(void);
} ort_api_base;

/* OrtErrorCode */
enum {
    ORT_FAIL = 1,
    ORT_INVALID_ARGUMENT = 2,
    ORT_NO_SUCHFILE = 3,
    ORT_NO_MODEL = 4,
    ORT_ENGINE_ERROR = 5,
    ORT_RUNTIME_EXCEPTION = 6,
    ORT_INVALID_PROTOBUF = 7,
    ORT_MODEL_LOADED = 8,
    ORT_NOT_IMPLEMENTED = 9,
    ORT_INVALID_GRAPH = 10,
    ORT_EP_FAIL = 11
};

/* OrtLoggingLevel */
enum {
    ORT_LOG_VERBOSE = 0,
    ORT_LOG_INFO = 1,
    ORT_LOG_WARNING = 2,
    ORT_LOG_ERROR = 3,
    ORT_LOG_FATAL = 4
};

/* GraphOptimizationLevel and ExecutionMode */
enum {
    ORT_OPTIMIZE_NONE = 0,
    ORT_OPTIMIZE_BASIC = 1,
    ORT_OPTIMIZE_EXTENDED = 2,
    ORT_OPTIMIZE_ALL = 99
};
enum { ORT_RUN_SEQUENTIAL = 0, ORT_RUN_PARALLEL = 1 };

/* OrtAllocatorType and OrtMemType */
enum { ORT_DEVICE_ALLOCATOR = 0, ORT_ARENA_ALLOCATOR = 1 };
enum { ORT_MEMORY_DEFAULT = 0 };

#endif
