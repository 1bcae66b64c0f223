/* SPDX-License-Identifier: Apache-2.0 */
/* TensorRT played on host memory: builder, ONNX parser, runtime, contexts, refitter, in each of
 * the four layouts, for networks of a few operators that it really computes.
 *
 * The environment variable KILN_FAKE_TENSORRT says which: "10", "11", "rtx14", "rtx15", or a
 * number as getInferLibVersion counts (100000, 101601, 110400, 10400, 10701). Without it, the
 * folder that the library was opened from says so by its name (tests/fake/tensorrt/10 and so on).
 *
 * The virtual tables are the compiler's, made from classes whose methods stand in the order of
 * vtables.tsv; nothing here knows Kiln's own list. A body (EngineBody, ...) has the behaviour and
 * is the same in all layouts; what no body plays is counted as stray when it is called, and so is
 * what is younger than the version that is played.
 *
 * The tests find by dlsym: fake_tensorrt_number(what), with what one of "calls", "stray", "live"
 * (objects), "compilations" (of kernels, by RTX), "streamed" (bytes that came through stream
 * readers), "loads" (of the builders' kernels: with the first builder, which they go with again;
 * each takes FAKE_TENSORRT_LOADING milliseconds), "measured" (layers that no timing cache had);
 * and fake_tensorrt_fail(call, null): call number `call` from now on that makes or does something
 * (and returns a pointer or a bool) fails, once, by returning `null` or false, and says so to the
 * recorder; 0: none. */
#ifndef FAKE_TENSORRT_HPP
#define FAKE_TENSORRT_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

struct Dims {
    int32_t nbDims;
    int64_t d[8];
};
struct Weights {
    int32_t type;
    const void *values;
    int64_t count;
};
struct InterfaceInfo {
    const char *kind;
    int32_t major;
    int32_t minor;
};

/* --- what the made classes need --- */

struct Base;
void stray(const char *type, const char *method, int slot);
void check_entry(Base *body, const char *type, const char *method, int since);
bool is_fault(Base *body, const char *type, const char *method);
uintptr_t fault_null();
void dropped(Base *body);

template <class R> bool entered(Base *body, const char *type, const char *method, int since)
{
    check_entry(body, type, method, since);
    if constexpr (std::is_pointer_v<R> || std::is_same_v<R, bool>) {
        return !is_fault(body, type, method);
    }
    return true;
}

template <class R> R refused()
{
    if constexpr (std::is_pointer_v<R>) {
        return reinterpret_cast<R>(fault_null());
    } else {
        return R();
    }
}

/* --- bodies --- */

/* A public object: {virtual table, implementation}, and where its body is. */
struct Handle {
    virtual ~Handle();
    void *implementation;
    Base *body;
};

struct Base {
    explicit Base(const Base *parent);
    virtual ~Base();
    Base(const Base &) = delete;
    Base &operator=(const Base &) = delete;

    int32_t version = 0;
    int layout = 0;
    bool is_rtx() const { return version < 20000; }
    bool is_old_enums() const { return layout == 0 || layout == 2; }
    void *logger = nullptr;
    void *recorder = nullptr; /* its own or inherited */
    bool has_own_recorder = false;
    Handle *handle = nullptr; /* of objects that are {table, implementation} */
    bool is_called_itself = false; /* a parser: its own destructor takes the body along */

    void setErrorRecorder(void *given);
    void *getErrorRecorder() { return has_own_recorder ? recorder : nullptr; }
    void *getLogger() { return logger; }
    void log(int32_t severity, const std::string &text);
    /* False, and the text to whoever listens. */
    bool fail(int32_t code, const std::string &text);
};

enum { INTERNAL = 2, INVALID_ARGUMENT = 3, FAILED_ALLOCATION = 5, INVALID_STATE = 9 };

template <class T> T *body_of(void *object)
{
    return static_cast<T *>(static_cast<Handle *>(object)->body);
}

/* --- networks (fake_tensorrt_graph.cpp) --- */

typedef std::vector<int64_t> Shape;

struct Value {
    std::string name;
    int32_t type = 0;
    Shape dims;
    std::vector<std::string> names;
    bool on_host = false;
};

struct Weight {
    int32_t type = 0;
    Shape dims;
    size_t size = 0;
    std::vector<uint8_t> own;
    const void *borrowed = nullptr; /* memory of the caller's, as loadInitializer gives it */
    bool is_missing = false;        /* left out of a stripped plan, or not loaded yet */
    bool is_refittable = false;
    const uint8_t *data() const
    {
        return borrowed != nullptr ? static_cast<const uint8_t *>(borrowed) : own.data();
    }
};

struct Node {
    std::string name, op;
    std::vector<std::string> inputs, outputs;
    int32_t to = 0; /* of a Cast */
};

struct Graph {
    std::string name;
    std::vector<Value> inputs, outputs;
    std::vector<Node> nodes;
    std::map<std::string, Weight> weights;
    bool has_data_dependent() const;
};

struct Tensor {
    int32_t type = 0;
    Shape dims;
    std::vector<uint8_t> bytes;
};

struct OnnxError : std::runtime_error {
    OnnxError(int32_t error_code, const std::string &text, int node_index = -1)
        : std::runtime_error(text), code(error_code), node(node_index)
    {
    }
    int32_t code;
    int node;
};

/* Why a model is refused, as the parser counts. */
enum { DESERIALIZE_FAILED = 3, INVALID_GRAPH = 5, UNSUPPORTED_NODE = 8, UNSUPPORTED_TYPE = 11 };

inline void append(std::vector<uint8_t> *to, const void *data, size_t size)
{
    const uint8_t *bytes = static_cast<const uint8_t *>(data);
    to->insert(to->end(), bytes, bytes + size);
}

size_t size_of_type(int32_t type);
int64_t count_of(const Shape &dims);
Shape shape_of(const Dims &dims);
Dims dims_of(const Shape &shape);
/* Reads a ModelProto; weights without data are missing. Throws OnnxError. */
void read_onnx(const void *data, size_t size, Graph *graph);
/* Types and shapes of the outputs, and which inputs are shape tensors. Throws OnnxError. */
void infer(Graph *graph);
std::map<std::string, int32_t> types_of(const Graph &graph);
/* Everything that can be said of shapes once the inputs have these; -1 where only a run tells. */
std::map<std::string, Shape> shapes_of(const Graph &graph, const std::map<std::string, Shape> &inputs,
                                       const std::map<std::string, Shape> &values);
/* Runs the nodes. `timed` hears each node's name. */
void compute(const Graph &graph, std::map<std::string, Tensor> *tensors);

/* --- plans --- */

struct ProfileShapes {
    Dims dims[3] = {};
    std::vector<int64_t> values[3];
    std::vector<int32_t> narrow[3];
};
typedef std::map<std::string, ProfileShapes> ProfileMap;

struct Plan {
    int32_t version = 0;
    Graph graph;
    std::vector<ProfileMap> profiles;
    bool refittable = false, has_refitter = false, streamable = false;
    bool compatible = false; /* with later versions of the same major */
    bool host_code = false;  /* carries a runtime of its own */
    int32_t verbosity = 0, auxiliary = 0, hardware = 0, capability = 0;
};

/* Of the thread, as the driver's stand-in has it: 0 where no context is current, as CUDA's runtime
 * takes it; and its compute capability, 86 for 8.6. */
int32_t current_device();
int32_t current_capability();
std::vector<uint8_t> write_plan(const Plan &plan);
/* Throws std::runtime_error with what TensorRT would say. */
void read_plan(const void *data, size_t size, int32_t version, bool host_code, Plan *plan);

/* --- objects --- */

struct HostMemoryBody : Base {
    HostMemoryBody(const Base *parent, std::vector<uint8_t> content);
    std::vector<uint8_t> bytes;
    void *data() { return bytes.data(); }
    size_t size() { return bytes.size(); }
    int32_t type() { return 2; }
};

/* What is asked of each allocator: 512 as TensorRT 10.6 does, or what the environment variable
 * KILN_FAKE_TENSORRT_ALIGNMENT says. */
uint64_t asked_alignment();
bool is_aligned(const void *memory);

void *make_host_memory(const Base *parent, std::vector<uint8_t> bytes);
void *make_builder(void *logger, int32_t version);
void *make_runtime(void *logger, int32_t version);
void *make_refitter(void *engine, void *logger);
void *make_parser(void *network, void *logger);
void *make_parser_refitter(void *refitter, void *logger);
void *registry_of(int32_t version);
bool register_own_plugins(int32_t version);
/* An operator that is a layer of a plugin's: the library beside the core must have registered it. */
bool is_plugin(const std::string &op);
/* Whether one of the graph's is not registered, and its name. */
bool lacks_plugin(const Graph &graph, int32_t version, std::string *name);

/* The version of a layout that `version` names, or -1. */
int layout_of(int32_t version);
int32_t played_version();
extern std::atomic<long> fake_compilations;
extern long fake_streamed;
extern std::atomic<long> fake_builders, fake_loads, fake_measured;

/* Makes the {table, implementation} for a body. `implementation` is of a made class. */
void *wrap(Base *body, void *implementation, void (*drop)(void *));

/* A made object begins with its virtual table, and slot 1 destroys it. */
inline void drop_made(void *made)
{
    void **const table = *static_cast<void ***>(made);
    reinterpret_cast<void (*)(void *)>(table[1])(made);
}

#endif
