// SPDX-License-Identifier: Apache-2.0
// Compares Kiln's table of TensorRT's binary interface with NVIDIA's headers: every slot, argument
// size, struct size, exported function and enumerator that Kiln uses. Run by check_tensorrt_abi.sh.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

// What a version may lack is declared first, so that it is an incomplete type there.
namespace nvinfer1
{
#define DECLARE_ENUM(name) enum class name : int32_t;
DECLARE_ENUM(DynamicShapesKernelSpecializationStrategy)
DECLARE_ENUM(CudaGraphStrategy)
DECLARE_ENUM(ComputeCapability)
DECLARE_ENUM(RuntimePlatform)
class IRuntimeConfig;
class IRuntimeCache;
namespace apiv
{
class VRuntimeConfig;
class VRuntimeCache;
}  // namespace apiv
}  // namespace nvinfer1

#include <NvInfer.h>
#include <NvInferPlugin.h>
#if __has_include(<NvOnnxParser.h>)
#include <NvOnnxParser.h>
constexpr bool hasParser = true;
#else
constexpr bool hasParser = false;
namespace nvonnxparser
{
class IParser;
class IParserError;
class IParserRefitter;
enum class ErrorCode : int;
}  // namespace nvonnxparser
#endif

#include "backends/tensorrt/trt_types.h"

namespace
{

constexpr int kABSENT = -1;
int differences = 0;
bool quiet = false;

void differ(std::string const &what, std::string const &header, std::string const &kiln)
{
    differences++;
    if (!quiet) {
        std::printf("%s: the headers say %s, Kiln says %s\n", what.c_str(), header.c_str(),
                    kiln.c_str());
    }
}

std::string text(int slot)
{
    return slot == kABSENT ? "absent" : std::to_string(slot);
}

// --- types: what of them a C caller can get wrong ---

template <class T>
std::string shape()
{
    if constexpr (std::is_void_v<T>) {
        return "v";
    } else if constexpr (std::is_reference_v<T> || std::is_pointer_v<T>) {
        return "p";
    } else if constexpr (std::is_enum_v<T>) {
        return shape<std::underlying_type_t<T>>();
    } else if constexpr (std::is_same_v<T, bool>) {
        return "b";
    } else if constexpr (std::is_floating_point_v<T>) {
        return "f" + std::to_string(sizeof(T));
    } else if constexpr (std::is_integral_v<T>) {
        return (std::is_signed_v<T> ? "i" : "u") + std::to_string(sizeof(T));
    } else {
        static_assert(std::is_trivially_copyable_v<T>);
        return "s" + std::to_string(sizeof(T));
    }
}

template <class R, class... A>
std::string signature()
{
    std::string s = shape<R>() + "(";
    ((s += shape<A>() + ","), ...);
    return s + ")";
}

template <class F>
struct Function;
template <class R, class... A>
struct Function<R(A...)> {
    static std::string text()
    {
        return signature<R, std::remove_cv_t<A>...>();
    }
};
template <class R, class... A>
struct Function<R(A...) noexcept> : Function<R(A...)> {
};

// --- slots: the Itanium ABI stores a virtual member as 1 + 8 * slot ---

struct Fact {
    int slot = kABSENT;
    std::string types;
};

template <class M>
int slotOf(M member)
{
    struct {
        std::ptrdiff_t pointer;
        std::ptrdiff_t adjustment;
    } raw{};
    static_assert(sizeof(raw) == sizeof(member));
    std::memcpy(&raw, &member, sizeof raw);
    return (raw.pointer & 1) != 0 && raw.adjustment == 0 ? int((raw.pointer - 1) / 8) : -2;
}

template <class C, class R, class... A>
Fact describe(R (C::*member)(A...))
{
    return {slotOf(member), signature<R, A...>()};
}
template <class C, class R, class... A>
Fact describe(R (C::*member)(A...) const)
{
    return {slotOf(member), signature<R, A...>()};
}
template <class C, class R, class... A>
Fact describe(R (C::*member)(A...) noexcept)
{
    return {slotOf(member), signature<R, A...>()};
}
template <class C, class R, class... A>
Fact describe(R (C::*member)(A...) const noexcept)
{
    return {slotOf(member), signature<R, A...>()};
}

// A table of functions that say which was called: destructors have no pointer to member.
int called = kABSENT;
template <int I>
void record(void *)
{
    called = I;
}
template <int... I>
void *const *recorders(std::integer_sequence<int, I...>)
{
    static void *const table[] = {reinterpret_cast<void *>(&record<I>)...};
    return table;
}
struct Fake {
    void *const *vtable = recorders(std::make_integer_sequence<int, 64>());
    void *more[4] = {};
};

template <class T>
__attribute__((noinline)) void deleteIt(T *object)
{
    delete object;
}
template <class T>
__attribute__((noinline)) void destroyIt(T *object)
{
    object->~T();
}
template <class T>
int destructor(bool deleting)
{
    Fake fake;
    called = kABSENT;
    T *volatile object = reinterpret_cast<T *>(&fake);
    deleting ? deleteIt<T>(object) : destroyIt<T>(object);
    return called;
}

template <class T>
Fact overloaded(std::string_view name)
{
    using namespace nvinfer1;
    if constexpr (std::is_same_v<T, apiv::VRuntime>) {
        if (name == "deserializeCudaEngine") {
            return describe<T, ICudaEngine *, void const *, std::size_t>(&T::deserializeCudaEngine);
        }
    }
    if constexpr (requires { sizeof(T); }) {
        if (name == "D0" || name == "D1") {
            return {destructor<T>(name == "D0"), "v()"};
        }
    }
    return {};
}

struct Row {
    std::string name;
    bool parser;
    std::string types;  // Kiln's
    Fact header;
};

#define CPP_IMPL(name) using C_##name = nvinfer1::apiv::V##name;
#define CPP_SELF(name, cpp) using C_##name = cpp;
TRT_CLASSES(CPP_IMPL, CPP_SELF)

#define ENUM_OF(name) using E_##name = nvinfer1::name;
ENUM_OF(BuilderFlag)
ENUM_OF(NetworkDefinitionCreationFlag)
ENUM_OF(MemoryPoolType)
ENUM_OF(OptProfileSelector)
ENUM_OF(TensorIOMode)
ENUM_OF(TensorLocation)
ENUM_OF(HardwareCompatibilityLevel)
ENUM_OF(ProfilingVerbosity)
ENUM_OF(TacticSource)
ENUM_OF(ExecutionContextAllocationStrategy)
ENUM_OF(LayerInformationFormat)
ENUM_OF(DeviceType)
ENUM_OF(ComputeCapability)
ENUM_OF(RuntimePlatform)
ENUM_OF(DynamicShapesKernelSpecializationStrategy)
ENUM_OF(CudaGraphStrategy)
ENUM_OF(ErrorCode)
using E_Severity = nvinfer1::ILogger::Severity;
using E_ParserErrorCode = nvonnxparser::ErrorCode;

template <class T>
constexpr bool isParser =
    std::is_same_v<T, nvonnxparser::IParser> || std::is_same_v<T, nvonnxparser::IParserError> ||
    std::is_same_v<T, nvonnxparser::IParserRefitter> || std::is_same_v<T, E_ParserErrorCode>;

using Cells = std::vector<std::array<trt_cell, TRT_LAYOUT_COUNT>>;

std::vector<Row> methodRows()
{
    std::vector<Row> rows;
#define TRT_ROW(c, m, s0, s1, s2, s3, r, p)                                                \
    {                                                                                      \
        auto get = []<class T>() -> Fact {                                                 \
            if constexpr (requires { describe(&T::m); }) {                                 \
                return describe(&T::m);                                                    \
            } else {                                                                       \
                return overloaded<T>(#m);                                                  \
            }                                                                              \
        };                                                                                 \
        rows.push_back(                                                                    \
            {#c "." #m, isParser<C_##c>, Function<r p>::text(), get.operator()<C_##c>()}); \
    }
#include "backends/tensorrt/trt_slots.inc"
    return rows;
}

std::vector<Row> valueRows()
{
    std::vector<Row> rows;
#define VALUE(e, name, v0, v1, v2, v3)                                                      \
    {                                                                                       \
        auto get = []<class T>() -> int {                                                   \
            if constexpr (requires { T::k##name; }) {                                       \
                return int(T::k##name);                                                     \
            } else {                                                                        \
                return kABSENT;                                                             \
            }                                                                               \
        };                                                                                  \
        rows.push_back({#e "." #name, isParser<E_##e>, "", {get.operator()<E_##e>(), ""}}); \
    }
#include "backends/tensorrt/trt_values.inc"
    return rows;
}

Cells const methodCells = {
#define TRT_ROW(c, m, s0, s1, s2, s3, r, p) {s0, s1, s2, s3},
#include "backends/tensorrt/trt_slots.inc"
};
Cells const valueCells = {
#define VALUE(e, k, v0, v1, v2, v3) {v0, v1, v2, v3},
#include "backends/tensorrt/trt_values.inc"
};

bool rowDiffers(Row const &row, trt_cell cell, int32_t version)
{
    int const expected = trt_cell_at(cell, version);
    // A slot that 10.8 moved is in its headers, and Kiln goes without.
    bool const gap = expected == kABSENT && cell >= TRT_CELL_MARK && version / 100 == 1008;
    if (expected != row.header.slot && !gap) {
        differ(row.name, text(row.header.slot), text(expected));
        return true;
    }
    // A result may be left alone where another layout or version has none; Kiln reads the value
    // back.
    bool const dropped = row.name == "BuilderConfig.setMaxAuxStreams" && !row.types.empty() &&
                         row.types[0] == 'v' && row.header.types[0] == 'b' &&
                         row.types.substr(1) == row.header.types.substr(1);
    if (expected != kABSENT && row.types != row.header.types && !dropped) {
        differ(row.name, row.header.types, row.types);
        return true;
    }
    return false;
}

size_t compare(std::vector<Row> const &rows, Cells const &cells, int layout, int32_t version)
{
    size_t checked = 0;
    for (size_t i = 0; i < rows.size(); i++) {
        if (!rows[i].parser || hasParser) {
            (void)rowDiffers(rows[i], cells[i][size_t(layout)], version);
            checked++;
        }
    }
    return checked;
}

// Wrong types of a method: another result, one argument more, one fewer, and each of another size.
std::vector<std::string> wrongTypes(std::string const &types)
{
    size_t const open = types.find('(');
    std::vector<std::string> wrong = {types.substr(0, types.size() - 1) + "i4,)"};
    wrong.push_back((types.substr(0, open) == "i8" ? "i4" : "i8") + types.substr(open));
    for (size_t begin = open + 1; types[begin] != ')';) {
        size_t const end = types.find(',', begin);
        std::string const type = types.substr(begin, end - begin);
        for (char const *other : {"i4,", "u8,", "p,", "s72,", ""}) {
            if (type + "," != other) {
                wrong.push_back(types.substr(0, begin) + other + types.substr(end + 1));
            }
        }
        begin = end + 1;
    }
    return wrong;
}

// Every cell of this version's column in turn: a wrong number, an absent one, a later version; and
// wrong types of every method.
size_t mutate(std::vector<Row> const &rows, Cells const &cells, int layout, int32_t version,
              size_t *missed)
{
    size_t tried = 0;
    for (size_t i = 0; i < rows.size(); i++) {
        trt_cell const cell = cells[i][size_t(layout)];
        if ((rows[i].parser && !hasParser) || (cell >= TRT_CELL_MARK && version / 100 == 1008)) {
            continue;
        }
        int const now = trt_cell_at(cell, version);
        std::vector<trt_cell> wrong;
        if (now == kABSENT) {
            wrong = {0, 7, TRT_CELL_FROM(3, version)};
        } else {
            wrong = {now + 1, now + 2, TRT_CELL_NONE, TRT_CELL_FROM(now, version + 1)};
            if (now > 0) {
                wrong.push_back(now - 1);
            }
        }
        if (now != kABSENT && !rows[i].types.empty()) {
            for (std::string const &types : wrongTypes(rows[i].types)) {
                tried++;
                Row const row = {rows[i].name, rows[i].parser, types, rows[i].header};
                if (!rowDiffers(row, cell, version)) {
                    std::printf("%s: wrong types %s were not noticed\n", row.name.c_str(),
                                types.c_str());
                    (*missed)++;
                }
            }
        }
        for (trt_cell const w : wrong) {
            tried++;
            if (!rowDiffers(rows[i], w, version)) {
                std::printf("%s: a wrong cell (%lld) was not noticed\n", rows[i].name.c_str(),
                            (long long)w);
                (*missed)++;
            }
        }
    }
    return tried;
}

size_t sizes()
{
    size_t checked = 0;
    auto const same = [&checked](char const *what, size_t header, size_t kiln) {
        checked++;
        if (header != kiln) {
            differ(what, std::to_string(header), std::to_string(kiln));
        }
    };
    auto const alike = [&checked](char const *what, std::string const &header,
                                  std::string const &kiln) {
        checked++;
        if (header != kiln) {
            differ(what, header, kiln);
        }
    };
#define MEMBER(structure, name)                                               \
    same(#structure "." #name, offsetof(nvinfer1::structure, name),           \
         offsetof(trt_##structure, name));                                    \
    alike(#structure "." #name,                                               \
          shape<std::remove_extent_t<decltype(nvinfer1::structure::name)>>(), \
          shape<std::remove_extent_t<decltype(trt_##structure::name)>>());
    same("sizeof Dims", sizeof(nvinfer1::Dims), sizeof(trt_Dims));
    MEMBER(Dims, nbDims)
    MEMBER(Dims, d)
    same("Dims::MAX_DIMS", size_t(nvinfer1::Dims::MAX_DIMS), TRT_MAX_DIMS);
    same("sizeof Weights", sizeof(nvinfer1::Weights), sizeof(trt_Weights));
    MEMBER(Weights, type)
    MEMBER(Weights, values)
    MEMBER(Weights, count)
    same("sizeof InterfaceInfo", sizeof(nvinfer1::InterfaceInfo), sizeof(trt_InterfaceInfo));
    MEMBER(InterfaceInfo, kind)
    MEMBER(InterfaceInfo, major)
    MEMBER(InterfaceInfo, minor)
    auto const object = [&same]<class Public, class Kiln>(char const *name) {
        if constexpr (requires { sizeof(Public); }) {
            same((std::string("sizeof I") + name).c_str(), sizeof(Public), sizeof(Kiln));
            same((std::string("destroying I") + name).c_str(), size_t(destructor<Public>(true)), 1);
        }
    };
#define OBJECT(name) object.operator()<nvinfer1::I##name, trt_##name>(#name);
#define NOTHING(name, cpp)
    TRT_CLASSES(OBJECT, NOTHING)
    return checked;
}

size_t functions()
{
    size_t checked = 0;
    auto const same = [&checked](char const *name, std::string const &header,
                                 std::string const &kiln) {
        checked++;
        if (header != kiln) {
            differ(name, header, kiln);
        }
    };
#define SAME(name, r, p) same(#name, Function<decltype(name)>::text(), Function<r p>::text());
    TRT_CORE_FUNCTIONS(SAME)
#if __has_include(<NvOnnxParser.h>)
    TRT_PARSER_FUNCTIONS(SAME)
#endif
    TRT_PLUGIN_FUNCTIONS(SAME)
    return checked;
}

}  // namespace

int main()
{
    bool const isRtx = NV_TENSORRT_MAJOR < 5;
    int32_t const version = NV_TENSORRT_MAJOR * 10000 + NV_TENSORRT_MINOR * 100 + NV_TENSORRT_PATCH;
    int const layout = trt_layout_find(isRtx, version);
    if (layout == TRT_LAYOUT_COUNT) {
        std::printf("version %d is not one that Kiln knows\n", version);
        return 1;
    }
    auto const methods = methodRows();
    auto const values = valueRows();
    size_t const slots = compare(methods, methodCells, layout, version);
    size_t const enumerators = compare(values, valueCells, layout, version);
    size_t const structs = sizes();
    size_t const exported = functions();
    int const found = differences;
    size_t missed = 0;
    quiet = true;
    size_t const tried = mutate(methods, methodCells, layout, version, &missed) +
                         mutate(values, valueCells, layout, version, &missed);
    std::printf(
        "%s %d.%d.%d: %zu methods, %zu enumerators, %zu sizes, %zu functions: %d differences; "
        "%zu mutations, %zu unnoticed%s\n",
        isRtx ? "TensorRT-RTX" : "TensorRT", NV_TENSORRT_MAJOR, NV_TENSORRT_MINOR,
        NV_TENSORRT_PATCH, slots, enumerators, structs, exported, found, tried, missed,
        hasParser ? "" : " (no parser header)");
    return found == 0 && missed == 0 ? 0 : 1;
}
