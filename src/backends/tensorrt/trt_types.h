/* SPDX-License-Identifier: Apache-2.0 */
/* The structs that cross TensorRT's binary interface, and reading a cell of the table. Also
 * compiled as C++ by the check against NVIDIA's headers. */
#ifndef TRT_TYPES_H
#define TRT_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRT_MAX_DIMS 8

typedef struct trt_Dims {
    int32_t nbDims;
    int64_t d[TRT_MAX_DIMS];
} trt_Dims;

typedef struct trt_Weights {
    int32_t type;
    const void *values;
    int64_t count;
} trt_Weights;

typedef struct trt_InterfaceInfo {
    const char *kind;
    int32_t major;
    int32_t minor;
} trt_InterfaceInfo;

/* One entry of a virtual table. */
typedef void (*trt_slot)(void);

/* The classes. IMPL: a public object {virtual table, implementation}, whose methods are virtual
 * calls on the implementation and which is destroyed through slot 1 of its own table; SELF: the
 * object is called itself, and the second name is its C++ one. */
#define TRT_CLASSES(IMPL, SELF)                                     \
    IMPL(Runtime)                                                   \
    IMPL(CudaEngine)                                                \
    IMPL(ExecutionContext)                                          \
    IMPL(HostMemory)                                                \
    IMPL(SerializationConfig)                                       \
    IMPL(EngineInspector)                                           \
    IMPL(RuntimeConfig)                                             \
    IMPL(RuntimeCache)                                              \
    IMPL(Builder)                                                   \
    IMPL(BuilderConfig)                                             \
    IMPL(NetworkDefinition)                                         \
    IMPL(OptimizationProfile)                                       \
    IMPL(TimingCache)                                               \
    IMPL(Refitter)                                                  \
    IMPL(Tensor)                                                    \
    IMPL(Layer)                                                     \
    SELF(Parser, nvonnxparser::IParser)                             \
    SELF(ParserError, nvonnxparser::IParserError)                   \
    SELF(ParserRefitter, nvonnxparser::IParserRefitter)             \
    SELF(PluginRegistry, nvinfer1::IPluginRegistry)                 \
    SELF(PluginCreatorInterface, nvinfer1::IPluginCreatorInterface) \
    SELF(PluginCreatorV3One, nvinfer1::IPluginCreatorV3One)         \
    SELF(PluginCreator, nvinfer1::v_1_0::IPluginCreator)            \
    SELF(Logger, nvinfer1::ILogger)                                 \
    SELF(ErrorRecorder, nvinfer1::v_1_0::IErrorRecorder)            \
    SELF(ProgressMonitor, nvinfer1::v_1_0::IProgressMonitor)        \
    SELF(GpuAllocator, nvinfer1::v_1_0::IGpuAllocator)              \
    SELF(OutputAllocator, nvinfer1::v_1_0::IOutputAllocator)        \
    SELF(Profiler, nvinfer1::v_1_0::IProfiler)

#define TRT_DECLARE_IMPL(name)      \
    typedef struct trt_##name {     \
        const trt_slot *vtable;     \
        struct trt_##name##_impl {  \
            const trt_slot *vtable; \
        } * implementation;         \
    } trt_##name;
#define TRT_DECLARE_SELF(name, cpp) \
    typedef struct trt_##name {     \
        const trt_slot *vtable;     \
    } trt_##name;
TRT_CLASSES(TRT_DECLARE_IMPL, TRT_DECLARE_SELF)
#undef TRT_DECLARE_IMPL
#undef TRT_DECLARE_SELF

/* A layer is {virtual table, layer, ...}: what it shares with all layers is called on the second
 * word, and that is all that Kiln calls. */
typedef trt_Layer trt_ElementWiseLayer;
typedef trt_Layer trt_UnaryLayer;
typedef trt_Layer trt_ConstantLayer;
typedef trt_Layer trt_IdentityLayer;

/* The functions that the libraries export: name, return type, parameters. */
#define TRT_CORE_FUNCTIONS(FUNCTION)                                                              \
    FUNCTION(getInferLibVersion, int32_t, (void))                                                 \
    FUNCTION(createInferRuntime_INTERNAL, void *, (void *logger, int32_t version))                \
    FUNCTION(createInferRefitter_INTERNAL, void *, (void *engine, void *logger, int32_t version)) \
    FUNCTION(getPluginRegistry, trt_PluginRegistry *, (void))                                     \
    FUNCTION(createInferBuilder_INTERNAL, void *, (void *logger, int32_t version))
#define TRT_PARSER_FUNCTIONS(FUNCTION)                                                            \
    FUNCTION(getNvOnnxParserVersion, int32_t, (void))                                             \
    FUNCTION(createNvOnnxParser_INTERNAL, void *, (void *network, void *logger, int32_t version)) \
    FUNCTION(createNvOnnxParserRefitter_INTERNAL, void *,                                         \
             (void *refitter, void *logger, int32_t version))
#define TRT_PLUGIN_FUNCTIONS(FUNCTION) \
    FUNCTION(initLibNvInferPlugins, bool, (void *logger, const char *name_space))

/* --- the four layouts --- */

typedef enum trt_layout {
    TRT_LAYOUT_10 = 0,     /* TensorRT 10.0 to 10.16 */
    TRT_LAYOUT_11 = 1,     /* TensorRT 11.0 to 11.4 */
    TRT_LAYOUT_RTX_13 = 2, /* TensorRT-RTX 1.3 and 1.4 */
    TRT_LAYOUT_RTX_15 = 3, /* TensorRT-RTX 1.5 to 1.7 */
    TRT_LAYOUT_COUNT = 4
} trt_layout;

/* The versions a layout is known for, as getInferLibVersion counts them; what lies outside all of
 * them is refused: a wrong slot calls another method, and often does not even crash. */
typedef struct trt_range {
    bool is_rtx;
    int32_t first;
    int32_t past;
} trt_range;

static const trt_range trt_ranges[TRT_LAYOUT_COUNT] = {
    {false, 100000, 101700},
    {false, 110000, 110500},
    {true, 10300, 10500},
    {true, 10500, 10800},
};

/* The layout of a library, or TRT_LAYOUT_COUNT when none is known. */
static inline trt_layout trt_layout_find(bool is_rtx, int32_t version)
{
    int layout = 0;
    while (layout < TRT_LAYOUT_COUNT &&
           !(trt_ranges[layout].is_rtx == is_rtx && version >= trt_ranges[layout].first &&
             version < trt_ranges[layout].past)) {
        layout++;
    }
    return (trt_layout)layout;
}

/* --- cells --- */

/* A slot or enumerator below 1000, 1000 times the version it came with (0: its layout's first), and
 * a mark for a slot that 10.8 moved. */
typedef int64_t trt_cell;

#define TRT_CELL_MARK ((trt_cell)1000000000000)
#define TRT_CELL_NONE ((trt_cell)-1)
#define TRT_CELL_FROM(number, version) ((trt_cell)(version)*1000 + (number))
#define TRT_CELL_GAP(number, version) (TRT_CELL_MARK + TRT_CELL_FROM(number, version))

/* What a cell says for one version of its layout; -1: absent. */
static inline int trt_cell_at(trt_cell cell, int32_t version)
{
    if (cell < 0 || (cell >= TRT_CELL_MARK && version / 100 == 1008)) {
        return -1;
    }
    const trt_cell plain = cell % TRT_CELL_MARK;
    return plain / 1000 > version ? -1 : (int)(plain % 1000);
}

#endif
