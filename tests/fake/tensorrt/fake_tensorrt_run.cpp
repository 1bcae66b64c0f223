/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_tensorrt_engine.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>

bool is_aligned(const void *memory)
{
    return memory != nullptr && reinterpret_cast<uintptr_t>(memory) % asked_alignment() == 0;
}

uint64_t asked_alignment()
{
    const char *text = std::getenv("KILN_FAKE_TENSORRT_ALIGNMENT");
    return text != nullptr ? std::strtoull(text, nullptr, 10) : 512;
}

int32_t current_device()
{
    const char *driver = std::getenv("KILN_CUDA_DRIVER");
    void *library = driver != nullptr ? dlopen(driver, RTLD_NOW | RTLD_NOLOAD) : nullptr;
    if (library == nullptr) {
        return 0;
    }
    typedef int (*getter)(void **);
    const getter get = reinterpret_cast<getter>(dlsym(library, "cuCtxGetCurrent"));
    const int *context = nullptr; /* begins with the number of its device */
    const int failed = get != nullptr ? get(reinterpret_cast<void **>(const_cast<int **>(&context))) : 1;
    dlclose(library);
    return failed == 0 && context != nullptr ? *context : 0;
}

namespace {

/* --- inspectors --- */

struct InspectorBody : Base {
    explicit InspectorBody(EngineBody *of) : Base(of), engine(of) {}
    EngineBody *engine;
    std::string text;
    /* The node that makes a tensor, or none. */
    const Node *maker(const std::string &tensor) const
    {
        const auto &nodes = engine->plan.graph.nodes;
        const auto found = std::find_if(nodes.begin(), nodes.end(),
                                        [&](const Node &node) { return node.outputs[0] == tensor; });
        return found != nodes.end() ? &*found : nullptr;
    }
    std::string tensors(const Node &node, bool inputs)
    {
        static const char *const names[] = {"Float", "Half", "Int8", "Int32", "Bool", "UInt8", "FP8", "BFloat16",
                                            "Int64", "Int4"};
        /* This node has no kernel for anything but float32. */
        const char *wide = std::getenv("KILN_FAKE_TENSORRT_WIDE");
        const std::map<std::string, int32_t> types = types_of(engine->plan.graph);
        std::string list;
        for (std::string tensor : inputs ? node.inputs : node.outputs) {
            const Node *from = maker(tensor);
            const bool is_wide = wide != nullptr && node.name == wide;
            if (!is_wide && from != nullptr && from->op == "DequantizeLinear") {
                tensor = from->inputs[0]; /* the layer does it itself */
            }
            const size_t type = is_wide ? 0 : static_cast<size_t>(types.at(tensor));
            list += (list.empty() ? "{\"Name\": \"" : ", {\"Name\": \"") + tensor + "\", \"Format/Datatype\": \"" +
                    names[type] + "\"}";
        }
        return list;
    }
    std::string layer(size_t i)
    {
        const Node &node = engine->plan.graph.nodes[i];
        const std::string name = node.name.empty() ? node.op + "_" + std::to_string(i) : node.name;
        const std::string source = node.name.empty() ? "node_of_" + node.outputs[0] : node.name;
        if (engine->plan.verbosity != 2) {
            return "\"" + name + "\"";
        }
        return "{\"Name\": \"" + name + "\", \"LayerType\": \"" + node.op + "\", \"Inputs\": [" +
               tensors(node, true) + "], \"Outputs\": [" + tensors(node, false) +
               "], \"Metadata\": \"[ONNX Layer: " + source + "]\\u001e[ONNX Layer: " + source + "]\"}";
    }
    const char *getLayerInformation(int32_t i, int32_t)
    {
        text = layer(static_cast<size_t>(i));
        return text.c_str();
    }
    const char *getEngineInformation(int32_t format)
    {
        if (format != 1) {
            fail(INVALID_ARGUMENT, "only JSON is played");
            return nullptr;
        }
        text.clear();
        if (!engine->is_here(this)) {
            return text.c_str(); /* as layers that are compiled do where no context is current */
        }
        text = "{\"Layers\": [";
        for (size_t i = 0; i < engine->plan.graph.nodes.size() && engine->plan.verbosity != 1; i++) {
            text += (i > 0 ? ", " : "") + layer(i);
        }
        text += "]}";
        return text.c_str();
    }
};

/* --- contexts --- */

/* One run as it was enqueued: with the addresses of that moment. */
struct Launch {
    struct ContextBody *context;
    std::map<std::string, const void *> inputs;
    std::map<std::string, void *> outputs;
    std::map<std::string, Shape> shapes;
};

struct ContextBody : Base {
    ContextBody(EngineBody *of, int32_t given_strategy, RuntimeCacheBody *given)
        : Base(of), engine(of), strategy(given_strategy), cache(given)
    {
        const std::lock_guard<std::mutex> lock(engine->guard);
        engine->contexts++;
    }
    ~ContextBody() override
    {
        if (activations != nullptr) {
            IGpuAllocator_deallocate(layout, engine->allocator, activations);
        }
        const std::lock_guard<std::mutex> lock(engine->guard);
        engine->contexts--;
    }
    EngineBody *engine;
    int32_t strategy;
    void *activations = nullptr;
    bool load()
    {
        if (strategy != USER_MANAGED && engine->allocator != nullptr) {
            activations = IGpuAllocator_allocate(layout, engine->allocator,
                                                 static_cast<uint64_t>(engine->getDeviceMemorySizeV2()),
                                                 asked_alignment(), 0);
            return is_aligned(activations) || fail(FAILED_ALLOCATION, "no memory for activations");
        }
        return true;
    }
    RuntimeCacheBody *cache;
    int32_t profile = 0;
    void *profiler = nullptr;
    void *memory = nullptr;
    int64_t memory_bytes = 0;
    size_t cache_limit = 0;
    void *switched_on = nullptr; /* the stream of the last change of the profile */
    bool is_switched = false;    /* and no run was enqueued since */
    bool emits = true;
    std::map<std::string, Shape> shapes;      /* of inputs that were set */
    std::map<std::string, void *> addresses;
    std::map<std::string, void *> allocators;
    std::vector<std::unique_ptr<Launch>> launches; /* a graph may replay each */
    std::string name;

    void setName(const char *given) { name = given; }
    const char *getName() { return name.c_str(); }
    void *getEngine() { return engine->handle; }
    void setProfiler(void *given) { profiler = given != nullptr ? given : profiler; } /* as 10.6 does */
    void *getProfiler() { return profiler; }
    void setEnqueueEmitsProfile(bool value) { emits = value; }
    bool getEnqueueEmitsProfile() { return emits; }
    bool reportToProfiler()
    {
        for (size_t i = 0; profiler != nullptr && i < engine->plan.graph.nodes.size(); i++) {
            const Node &node = engine->plan.graph.nodes[i];
            IProfiler_reportLayerTime(layout, profiler,
                                      (node.name.empty() ? node.op : node.name).c_str(), 0.25F);
        }
        return profiler != nullptr;
    }
    void setDeviceMemory(void *given) { memory = given; }
    void setDeviceMemoryV2(void *given, int64_t bytes)
    {
        if (!is_aligned(given)) {
            fail(INVALID_ARGUMENT, "setDeviceMemory: memory must be aligned on 512 byte boundary.");
            return;
        }
        memory = given;
        memory_bytes = bytes;
    }
    size_t updateDeviceMemorySizeForShapes() { return static_cast<size_t>(1024 * (profile + 1)); }
    int32_t getOptimizationProfile() { return profile; }
    bool setOptimizationProfileAsync(int32_t index, void *stream)
    {
        switched_on = stream;
        is_switched = true;
        if (index < 0 || index >= engine->getNbOptimizationProfiles()) {
            return fail(INVALID_ARGUMENT, "there is no such profile");
        }
        profile = index; /* shapes stay, also where they do not fit */
        return true;
    }
    void setPersistentCacheLimit(size_t bytes)
    {
        if (bytes > (size_t{1} << 30)) {
            fail(INVALID_ARGUMENT, "The set persistent cache limit size is larger than the device has");
            return;
        }
        cache_limit = bytes;
    }
    size_t getPersistentCacheLimit() { return cache_limit; }
    bool setNvtxVerbosity(int32_t) { return true; }
    void setDebugSync(bool) {}
    bool setInputShape(const char *input, const Dims *dims)
    {
        bool is_input = false;
        const Value *value = engine->find(input, &is_input);
        const Shape shape = shape_of(*dims);
        if (value == nullptr || !is_input || shape.size() != value->dims.size()) {
            return fail(INVALID_ARGUMENT, std::string("a shape does not fit ") + input);
        }
        bool fits_any = false;
        for (int32_t i = 0; i < engine->getNbOptimizationProfiles(); i++) {
            fits_any = fits_any || is_in_range(*value, shape, i);
        }
        if (!fits_any) {
            return fail(INVALID_ARGUMENT, std::string("Set dimension for tensor ") + input +
                                              " does not satisfy any optimization profiles.");
        }
        shapes[input] = shape;
        return true;
    }
    bool is_in_range(const Value &value, const Shape &shape, int32_t index)
    {
        const ProfileShapes *range = engine->profile_of(value.name.c_str(), index);
        for (size_t i = 0; i < shape.size(); i++) {
            const bool in_range = value.on_host || value.dims[i] >= 0 || range == nullptr ||
                                  (shape[i] >= range->dims[0].d[i] && shape[i] <= range->dims[2].d[i]);
            if (!in_range || (value.dims[i] >= 0 && value.dims[i] != shape[i])) {
                return false;
            }
        }
        return true;
    }
    /* An address is aligned for its elements, no more. */
    bool setTensorAddress(const char *tensor, void *address)
    {
        const Value *value = engine->find(tensor);
        if (value == nullptr) {
            return false;
        }
        const size_t alignment = size_of_type(value->type);
        if (reinterpret_cast<uintptr_t>(address) % alignment != 0) {
            return fail(INVALID_ARGUMENT, std::string(tensor) + ": data must be aligned on " +
                                              std::to_string(alignment) + " boundary.");
        }
        addresses[tensor] = address;
        return true;
    }
    bool setInputTensorAddress(const char *tensor, void *address) { return setTensorAddress(tensor, address); }
    bool setOutputTensorAddress(const char *tensor, void *address) { return setTensorAddress(tensor, address); }
    void *getTensorAddress(const char *tensor) { return addresses[tensor]; }
    bool setOutputAllocator(const char *tensor, void *allocator)
    {
        bool is_input = false;
        if (engine->find(tensor, &is_input) == nullptr || is_input) {
            return fail(INVALID_ARGUMENT, "an output is needed");
        }
        allocators[tensor] = allocator;
        return true;
    }
    void *getOutputAllocator(const char *tensor) { return allocators[tensor]; }

    /* Shapes of everything, as far as inputs have shapes and values; which lack one. */
    std::map<std::string, Shape> infer_all(std::vector<const char *> *lacking)
    {
        std::map<std::string, Shape> inputs, values;
        for (const Value &input : engine->plan.graph.inputs) {
            const auto set = shapes.find(input.name);
            const bool open = std::count(input.dims.begin(), input.dims.end(), -1) > 0;
            inputs[input.name] = set != shapes.end() ? set->second : input.dims;
            if (set != shapes.end() && !is_in_range(input, set->second, profile)) {
                throw OnnxError(INVALID_ARGUMENT, "Supplied binding dimensions for " + input.name +
                                                      " exceed min..max range for profile " +
                                                      std::to_string(profile) + ".");
            }
            if (open && set == shapes.end()) {
                lacking->push_back(input.name.c_str());
            } else if (input.on_host) {
                const int64_t *numbers = static_cast<const int64_t *>(addresses[input.name]);
                if (numbers == nullptr) {
                    lacking->push_back(input.name.c_str());
                } else {
                    values[input.name] = Shape(numbers, numbers + count_of(inputs[input.name]));
                }
            }
        }
        return shapes_of(engine->plan.graph, inputs, values);
    }
    Dims getTensorShape(const char *tensor)
    {
        std::vector<const char *> lacking;
        try {
            const std::map<std::string, Shape> all = infer_all(&lacking);
            const auto found = all.find(tensor);
            return found != all.end() ? dims_of(found->second) : Dims{-1, {}};
        } catch (const OnnxError &) {
            return Dims{-1, {}};
        }
    }
    int32_t inferShapes(int32_t room, const char **names)
    {
        std::vector<const char *> lacking;
        try {
            (void)infer_all(&lacking);
        } catch (const OnnxError &error) {
            fail(INVALID_ARGUMENT, error.what());
            return -1;
        }
        for (size_t i = 0; i < lacking.size() && static_cast<int32_t>(i) < room; i++) {
            names[i] = lacking[i];
        }
        return static_cast<int32_t>(lacking.size());
    }
    int64_t getMaxOutputSize(const char *tensor)
    {
        const Value *value = engine->find(tensor);
        const Dims dims = getTensorShape(tensor);
        if (value == nullptr || dims.nbDims < 0) {
            return -1;
        }
        Shape shape = shape_of(dims);
        for (int64_t &dim : shape) {
            dim = dim < 0 ? 1024 : dim;
        }
        return count_of(shape) * static_cast<int64_t>(size_of_type(value->type));
    }

    bool compile()
    {
        const std::string kernel = engine->plan.graph.name + "/" + engine->plan.graph.nodes[0].op;
        if (is_rtx() && (cache == nullptr || cache->kernels.insert(kernel).second)) {
            const std::lock_guard<std::mutex> lock(engine->guard);
            fake_compilations++;
        }
        return true;
    }

    bool place(Launch *launch, const Value &output, void *stream)
    {
        const auto allocator = allocators.find(output.name);
        void *address = addresses[output.name];
        if (allocator != allocators.end() && allocator->second != nullptr &&
            !engine->plan.graph.has_data_dependent()) {
            const size_t bytes = static_cast<size_t>(getMaxOutputSize(output.name.c_str()));
            address = IOutputAllocator_reallocateOutputAsync(layout, allocator->second, output.name.c_str(),
                                                             address, bytes, asked_alignment(), stream);
            const Dims dims = dims_of(launch->shapes[output.name]);
            if (!is_aligned(address)) {
                return fail(FAILED_ALLOCATION, "no memory for the output " + output.name);
            }
            IOutputAllocator_notifyShape(layout, allocator->second, output.name.c_str(), &dims);
        }
        launch->outputs[output.name] = address;
        return address != nullptr || engine->plan.graph.has_data_dependent() ||
               fail(INVALID_STATE, "the output " + output.name + " has no address");
    }

    bool enqueueV3(void *stream)
    {
        std::unique_ptr<Launch> launch(new Launch);
        launch->context = this;
        std::vector<const char *> lacking;
        if (!engine->is_here(this)) {
            return false;
        }
        if (is_switched && switched_on != stream) {
            return fail(INVALID_STATE, "the profile is switched on another stream, and nobody waited for it");
        }
        is_switched = false;
        if (strategy == USER_MANAGED && memory == nullptr) {
            return fail(INVALID_STATE, "the context has no device memory");
        }
        try {
            launch->shapes = infer_all(&lacking);
        } catch (const OnnxError &error) {
            return fail(INVALID_ARGUMENT, error.what());
        }
        for (const Value &input : engine->plan.graph.inputs) {
            launch->inputs[input.name] = addresses[input.name];
            if (!lacking.empty() || (addresses[input.name] == nullptr && count_of(launch->shapes[input.name]) > 0)) {
                return fail(INVALID_STATE, "the input " + input.name + " is not set");
            }
        }
        for (const Value &output : engine->plan.graph.outputs) {
            if (!place(launch.get(), output, stream)) {
                return false;
            }
        }
        if (!compile() || !start(launch.get(), stream)) {
            return false;
        }
        launches.push_back(std::move(launch));
        return !emits || profiler == nullptr || reportToProfiler();
    }

    /* On the stream where the driver is the stand-in's, so that it can be captured; else at once. */
    bool start(Launch *launch, void *stream)
    {
        const char *driver = std::getenv("KILN_CUDA_DRIVER");
        void *library = driver != nullptr ? dlopen(driver, RTLD_NOW | RTLD_NOLOAD) : nullptr;
        typedef int (*launcher)(void *, void (*)(void *), void *);
        const launcher put = library != nullptr ? reinterpret_cast<launcher>(dlsym(library, "cuLaunchHostFunc"))
                                                : nullptr;
        bool good = true;
        if (put == nullptr || engine->plan.graph.has_data_dependent()) {
            good = run(launch, stream);
        } else if (put(stream, [](void *user) { (void)static_cast<Launch *>(user)->context->run(
                                                    static_cast<Launch *>(user), nullptr); },
                       launch) != 0) {
            good = fail(INVALID_STATE, "the driver does not take the work");
        }
        if (library != nullptr) {
            dlclose(library);
        }
        return good;
    }

    bool run(Launch *launch, void *stream)
    {
        std::map<std::string, Tensor> tensors;
        for (const Value &input : engine->plan.graph.inputs) {
            const Shape &shape = launch->shapes[input.name];
            const size_t bytes = static_cast<size_t>(count_of(shape)) * size_of_type(input.type);
            const uint8_t *data = static_cast<const uint8_t *>(launch->inputs[input.name]);
            tensors[input.name] = {input.type, shape, {data, data + bytes}};
        }
        compute(engine->plan.graph, &tensors);
        for (const Value &output : engine->plan.graph.outputs) {
            const Tensor &made = tensors[output.name];
            void *address = launch->outputs[output.name];
            void *allocator = engine->plan.graph.has_data_dependent() ? allocators[output.name] : nullptr;
            if (allocator != nullptr) {
                const Dims dims = dims_of(made.dims);
                const size_t asked = made.bytes.size() + 64; /* more than it needs, as 10.6 */
                address = IOutputAllocator_reallocateOutputAsync(layout, allocator, output.name.c_str(), address,
                                                                 asked, asked_alignment(), stream);
                if (!is_aligned(address)) {
                    return fail(FAILED_ALLOCATION, "no memory for the output " + output.name);
                }
                IOutputAllocator_notifyShape(layout, allocator, output.name.c_str(), &dims);
            }
            if (address == nullptr) {
                return fail(INVALID_STATE, "the output " + output.name + " has no address");
            }
            std::copy(made.bytes.begin(), made.bytes.end(), static_cast<uint8_t *>(address));
        }
        return true;
    }
};

} // namespace

void *EngineBody::createEngineInspector()
{
    InspectorBody *body = new InspectorBody(this);
    return WRAPPED(VEngineInspector, body);
}

void *EngineBody::create_context(int32_t strategy, RuntimeCacheBody *cache)
{
    if (!is_here(this)) {
        return nullptr;
    }
    std::unique_ptr<ContextBody> body(new ContextBody(this, strategy, cache));
    if (!body->load()) {
        return nullptr;
    }
    ContextBody *context = body.release();
    return WRAPPED(VExecutionContext, context);
}
