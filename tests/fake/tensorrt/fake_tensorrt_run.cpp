/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_tensorrt.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <mutex>
#include <set>

#include "fake_tensorrt_classes.h"

/* A made object begins with its virtual table, and slot 1 destroys it. */
static void drop_made(void *made)
{
    void **const table = *static_cast<void ***>(made);
    reinterpret_cast<void (*)(void *)>(table[1])(made);
}

#define WRAPPED(name, body) wrap((body), make_##name((body)->layout, (body)), drop_made)

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

enum { STATIC = 0, ON_PROFILE_CHANGE = 1, USER_MANAGED = 2 };

/* --- what RTX compiles where it runs --- */

const char cache_magic[] = "fake runtime cache:";

struct RuntimeCacheBody : Base {
    explicit RuntimeCacheBody(const Base *parent) : Base(parent) {}
    std::set<std::string> kernels;
    void *serialize()
    {
        std::string all = cache_magic;
        for (const std::string &kernel : kernels) {
            all += kernel + ";";
        }
        return make_host_memory(this, std::vector<uint8_t>(all.begin(), all.end()));
    }
    bool deserialize(void *data, size_t size)
    {
        std::string given(static_cast<const char *>(data), size);
        if (given.compare(0, sizeof cache_magic - 1, cache_magic) != 0) {
            return fail(INVALID_ARGUMENT, "these bytes are no runtime cache");
        }
        given.erase(0, sizeof cache_magic - 1);
        for (size_t at = 0; (at = given.find(';')) != std::string::npos; given.erase(0, at + 1)) {
            kernels.insert(given.substr(0, at));
        }
        return true;
    }
    bool reset()
    {
        kernels.clear();
        return true;
    }
};

struct RuntimeConfigBody : Base {
    explicit RuntimeConfigBody(const Base *parent) : Base(parent) {}
    int32_t strategy = STATIC, specialization = 0, graphs = 0;
    RuntimeCacheBody *cache = nullptr;
    void setExecutionContextAllocationStrategy(int32_t value) { strategy = value; }
    int32_t getExecutionContextAllocationStrategy() { return strategy; }
    void *createRuntimeCache()
    {
        RuntimeCacheBody *body = new RuntimeCacheBody(this);
        return WRAPPED(VRuntimeCache, body);
    }
    bool setRuntimeCache(void *given)
    {
        cache = body_of<RuntimeCacheBody>(given);
        return true;
    }
    void *getRuntimeCache() { return cache != nullptr ? cache->handle : nullptr; }
    void setDynamicShapesKernelSpecializationStrategy(int32_t value) { specialization = value; }
    int32_t getDynamicShapesKernelSpecializationStrategy() { return specialization; }
    bool setCudaGraphStrategy(int32_t value)
    {
        graphs = value;
        return value >= 0 && value <= 1;
    }
    int32_t getCudaGraphStrategy() { return graphs; }
};

/* --- engines --- */

struct EngineBody : Base {
    EngineBody(const Base *parent, void *given) : Base(parent), allocator(given), device(current_device()) {}
    ~EngineBody() override
    {
        if (weights != nullptr) {
            IGpuAllocator_deallocateAsync(layout, allocator, weights, nullptr);
        }
    }
    void *allocator; /* or NULL: then nothing is allocated */
    int32_t device;  /* where it was loaded */
    bool is_here(Base *caller)
    {
        return current_device() == device || caller->fail(INVALID_STATE, "invalid resource handle");
    }
    void *weights = nullptr;
    bool load()
    {
        size_t bytes = 512;
        for (const auto &entry : plan.graph.weights) {
            bytes += entry.second.size;
        }
        if (allocator != nullptr) {
            weights = IGpuAllocator_allocateAsync(layout, allocator, bytes, asked_alignment(), 0, nullptr);
        }
        return allocator == nullptr || is_aligned(weights) ||
               fail(INTERNAL, "OutOfMemory (no memory for the weights)");
    }
    Plan plan;
    long contexts = 0;
    int64_t budget = -1;
    std::mutex guard;

    const Value *find(const char *name, bool *is_input = nullptr)
    {
        for (const std::vector<Value> *list : {&plan.graph.inputs, &plan.graph.outputs}) {
            for (const Value &value : *list) {
                if (value.name == name) {
                    if (is_input != nullptr) {
                        *is_input = list == &plan.graph.inputs;
                    }
                    return &value;
                }
            }
        }
        fail(INVALID_ARGUMENT, std::string("there is no tensor ") + name);
        return nullptr;
    }
    int32_t getNbLayers() { return static_cast<int32_t>(plan.graph.nodes.size()); }
    const char *getName() { return plan.graph.name.c_str(); }
    bool isRefittable() { return plan.refittable; }
    void *serialize() { return make_host_memory(this, write_plan(plan)); }
    int32_t getNbOptimizationProfiles() { return static_cast<int32_t>(plan.profiles.size()); }
    int32_t getProfilingVerbosity() { return plan.verbosity; }
    int32_t getHardwareCompatibilityLevel() { return plan.hardware; }
    int32_t getNbAuxStreams() { return plan.auxiliary; }
    int32_t getNbIOTensors()
    {
        return static_cast<int32_t>(plan.graph.inputs.size() + plan.graph.outputs.size());
    }
    /* Outputs first: no order is promised. */
    const char *getIOTensorName(int32_t i)
    {
        const size_t at = static_cast<size_t>(i);
        const size_t outputs = plan.graph.outputs.size();
        if (i < 0 || i >= getNbIOTensors()) {
            return nullptr;
        }
        return (at < outputs ? plan.graph.outputs[at] : plan.graph.inputs[at - outputs]).name.c_str();
    }
    int32_t getTensorIOMode(const char *name)
    {
        bool is_input = false;
        return find(name, &is_input) == nullptr ? 0 : is_input ? 1 : 2;
    }
    int32_t getTensorLocation(const char *name)
    {
        const Value *value = find(name);
        return value != nullptr && value->on_host;
    }
    int32_t getTensorDataType(const char *name)
    {
        const Value *value = find(name);
        return value != nullptr ? value->type : 0;
    }
    Dims getTensorShape(const char *name)
    {
        const Value *value = find(name);
        return value != nullptr ? dims_of(value->dims) : Dims{-1, {}};
    }
    bool isShapeInferenceIO(const char *name) { return getTensorLocation(name) == 1; }
    const char *getTensorFormatDesc(const char *) { return "Row major linear"; }
    const ProfileShapes *profile_of(const char *name, int32_t profile)
    {
        if (profile < 0 || profile >= getNbOptimizationProfiles()) {
            return nullptr;
        }
        const ProfileMap &shapes = plan.profiles[static_cast<size_t>(profile)];
        const auto found = shapes.find(name);
        return found != shapes.end() ? &found->second : nullptr;
    }
    Dims getProfileShape(const char *name, int32_t profile, int32_t which)
    {
        const ProfileShapes *shapes = profile_of(name, profile);
        return shapes != nullptr && shapes->values[0].empty() ? shapes->dims[which] : getTensorShape(name);
    }
    const int64_t *getProfileTensorValuesV2(const char *name, int32_t profile, int32_t which)
    {
        const ProfileShapes *shapes = profile_of(name, profile);
        return shapes != nullptr && !shapes->values[which].empty() ? shapes->values[which].data() : nullptr;
    }
    const int32_t *getProfileTensorValues(const char *name, int32_t profile, int32_t which)
    {
        ProfileShapes *shapes = const_cast<ProfileShapes *>(profile_of(name, profile));
        if (shapes == nullptr || shapes->values[which].empty()) {
            return nullptr;
        }
        shapes->narrow[which].assign(shapes->values[which].begin(), shapes->values[which].end());
        return shapes->narrow[which].data();
    }
    int64_t getDeviceMemorySizeForProfileV2(int32_t profile) { return 1024 * (profile + 1); }
    int64_t getDeviceMemorySizeV2() { return 1024 * getNbOptimizationProfiles(); }
    size_t getDeviceMemorySize() { return static_cast<size_t>(getDeviceMemorySizeV2()); }
    size_t getDeviceMemorySizeForProfile(int32_t profile)
    {
        return static_cast<size_t>(getDeviceMemorySizeForProfileV2(profile));
    }
    int64_t getStreamableWeightsSize()
    {
        int64_t size = 0;
        for (const auto &entry : plan.graph.weights) {
            size += static_cast<int64_t>(entry.second.size);
        }
        return plan.streamable ? size : 0;
    }
    bool setWeightStreamingBudgetV2(int64_t bytes)
    {
        if (contexts > 0) {
            return fail(INVALID_STATE, "a budget cannot change while there are contexts");
        }
        if (bytes < 0 || bytes > getStreamableWeightsSize()) {
            return fail(INVALID_ARGUMENT, "a budget lies between 0 and what can be streamed");
        }
        budget = bytes;
        return true;
    }
    bool setWeightStreamingBudget(int64_t bytes) { return setWeightStreamingBudgetV2(bytes); }
    int64_t getWeightStreamingBudgetV2() { return budget >= 0 ? budget : getStreamableWeightsSize(); }
    int64_t getWeightStreamingBudget() { return getWeightStreamingBudgetV2(); }
    int64_t getMinimumWeightStreamingBudget() { return 16; }
    int64_t getWeightStreamingAutomaticBudget() { return getStreamableWeightsSize() / 2; }
    int64_t getWeightStreamingScratchMemorySize() { return plan.streamable ? 256 : 0; }
    int64_t getEngineStat(int32_t) { return 0; }

    void *create_context(int32_t strategy, RuntimeCacheBody *cache);
    void *createExecutionContext(int32_t strategy) { return create_context(strategy, nullptr); }
    void *createExecutionContextWithoutDeviceMemory() { return create_context(USER_MANAGED, nullptr); }
    void *createExecutionContextWithRuntimeConfig(void *config)
    {
        RuntimeConfigBody *body = body_of<RuntimeConfigBody>(config);
        return create_context(body->strategy, body->cache);
    }
    void *createRuntimeConfig()
    {
        RuntimeConfigBody *body = new RuntimeConfigBody(this);
        return WRAPPED(VRuntimeConfig, body);
    }
    void *createEngineInspector();
};

/* --- inspectors --- */

struct InspectorBody : Base {
    explicit InspectorBody(EngineBody *of) : Base(of), engine(of) {}
    EngineBody *engine;
    std::string text;
    std::string layer(size_t i)
    {
        const Node &node = engine->plan.graph.nodes[i];
        const std::string name = "\"" + (node.name.empty() ? node.op + "_" + std::to_string(i) : node.name) + "\"";
        return engine->plan.verbosity == 2 ? "{\"Name\": " + name + ", \"LayerType\": \"" + node.op + "\"}" : name;
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
        text = "{\"Layers\": [";
        for (size_t i = 0; i < engine->plan.graph.nodes.size() && engine->plan.verbosity != 1; i++) {
            text += (i > 0 ? ", " : "") + layer(i);
        }
        text += "]}";
        return text.c_str();
    }
};

void *EngineBody::createEngineInspector()
{
    InspectorBody *body = new InspectorBody(this);
    return WRAPPED(VEngineInspector, body);
}

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

/* --- refitters --- */

struct RefitterBody : Base {
    explicit RefitterBody(EngineBody *of) : Base(of), engine(of) {}
    EngineBody *engine;
    std::map<std::string, Weights> set;

    Weight *find(const char *name)
    {
        const auto found = engine->plan.graph.weights.find(name);
        if (found == engine->plan.graph.weights.end() || !found->second.is_refittable) {
            fail(INVALID_ARGUMENT, std::string("no refittable weights ") + name);
            return nullptr;
        }
        return &found->second;
    }
    bool setNamedWeights(const char *name, Weights given)
    {
        const Weight *weight = find(name);
        if (weight == nullptr) {
            return false;
        }
        if (given.type != weight->type || given.count != count_of(weight->dims)) {
            return fail(INVALID_ARGUMENT, std::string("type or count differ: ") + name);
        }
        set[name] = given;
        return true;
    }
    bool setNamedWeightsWithLocation(const char *name, Weights given, int32_t) { return setNamedWeights(name, given); }
    bool unsetNamedWeights(const char *name) { return set.erase(name) > 0; }
    Weights getNamedWeights(const char *name)
    {
        const auto found = set.find(name);
        return found != set.end() ? found->second : Weights{0, nullptr, 0};
    }
    Weights getWeightsPrototype(const char *name)
    {
        const Weight *weight = find(name);
        return weight != nullptr ? Weights{weight->type, nullptr, count_of(weight->dims)} : Weights{0, nullptr, 0};
    }
    /* The other weights of a node that gets new ones; not what a stripped plan lacks. */
    std::vector<const char *> missing()
    {
        std::set<std::string> needed;
        for (const Node &node : engine->plan.graph.nodes) {
            const bool touched = std::any_of(node.inputs.begin(), node.inputs.end(),
                                             [&](const std::string &name) { return set.count(name) > 0; });
            for (const std::string &input : node.inputs) {
                const auto weight = engine->plan.graph.weights.find(input);
                if (touched && node.op == "Conv" && weight != engine->plan.graph.weights.end() &&
                    weight->second.is_refittable) {
                    needed.insert(input);
                }
            }
        }
        std::vector<const char *> names;
        for (const auto &entry : engine->plan.graph.weights) {
            if (needed.count(entry.first) > 0 && set.count(entry.first) == 0) {
                names.push_back(entry.first.c_str());
            }
        }
        return names;
    }
    static int32_t hand_out(const std::vector<const char *> &names, int32_t room, const char **to)
    {
        for (size_t i = 0; i < names.size() && static_cast<int32_t>(i) < room; i++) {
            to[i] = names[i];
        }
        return static_cast<int32_t>(names.size());
    }
    int32_t getMissingWeights(int32_t room, const char **names) { return hand_out(missing(), room, names); }
    int32_t getAllWeights(int32_t room, const char **names)
    {
        std::vector<const char *> all;
        for (const auto &entry : engine->plan.graph.weights) {
            if (entry.second.is_refittable) {
                all.push_back(entry.first.c_str());
            }
        }
        return hand_out(all, room, names);
    }
    bool setMaxThreads(int32_t) { return true; }
    bool refitCudaEngine()
    {
        if (!engine->is_here(this)) {
            return false;
        }
        if (!missing().empty()) {
            return fail(INVALID_STATE, std::string("weights are missing: ") + missing()[0]);
        }
        for (const auto &entry : set) {
            Weight &weight = engine->plan.graph.weights[entry.first];
            const uint8_t *values = static_cast<const uint8_t *>(entry.second.values);
            weight.own.assign(values, values + weight.size);
            weight.borrowed = nullptr;
            weight.is_missing = false;
        }
        set.clear();
        return true;
    }
    bool refitCudaEngineAsync(void *) { return refitCudaEngine(); }
};

struct ParserRefitterBody : Base {
    ParserRefitterBody(RefitterBody *of, void *given_logger) : Base(of), refitter(of)
    {
        logger = given_logger;
        is_called_itself = true;
    }
    RefitterBody *refitter;
    std::vector<std::unique_ptr<Graph>> graphs;
    bool loadModelProto(void *data, size_t size, const char *)
    {
        graphs.emplace_back(new Graph);
        try {
            read_onnx(data, size, graphs.back().get());
        } catch (const OnnxError &error) {
            return fail(INVALID_ARGUMENT, error.what());
        }
        return true;
    }
    bool refitFromBytes(void *data, size_t size, const char *path)
    {
        return loadModelProto(data, size, path) && refitModelProto();
    }
    bool loadInitializer(const char *name, void *data, size_t size)
    {
        const auto found = graphs.back()->weights.find(name);
        if (found == graphs.back()->weights.end() || found->second.size != size) {
            return fail(INVALID_ARGUMENT, std::string("no weights of this size: ") + name);
        }
        found->second.borrowed = data;
        found->second.is_missing = false;
        return true;
    }
    bool refitModelProto()
    {
        for (const auto &entry : graphs.back()->weights) {
            if (entry.second.is_missing) {
                return fail(INVALID_ARGUMENT, "the weights " + entry.first + " were not loaded");
            }
        }
        for (const auto &entry : graphs.back()->weights) {
            const auto known = refitter->engine->plan.graph.weights.find(entry.first);
            if (known != refitter->engine->plan.graph.weights.end() && known->second.is_refittable &&
                !refitter->setNamedWeights(entry.first.c_str(),
                                           {entry.second.type, entry.second.data(), count_of(entry.second.dims)})) {
                return false;
            }
        }
        return true;
    }
    int32_t getNbErrors() { return 0; }
};

/* --- runtimes --- */

struct RuntimeBody : Base {
    RuntimeBody(void *given_logger, int32_t of) : Base(nullptr)
    {
        logger = given_logger;
        version = of;
        layout = layout_of(of);
    }
    int32_t threads = 1;
    void *allocator = nullptr;
    bool host_code = false;
    bool setMaxThreads(int32_t count)
    {
        threads = count;
        return count > 0;
    }
    int32_t getMaxThreads() { return threads; }
    void setGpuAllocator(void *given) { allocator = given; }
    void setEngineHostCodeAllowed(bool value) { host_code = value; }
    bool getEngineHostCodeAllowed() { return host_code; }
    int32_t getNbDLACores() { return is_rtx() ? 0 : 2; }
    void *getPluginRegistry() { return registry_of(version); }

    void *deserialize(const void *data, size_t size)
    {
        std::unique_ptr<EngineBody> body(new EngineBody(this, allocator));
        try {
            read_plan(data, size, version, host_code, &body->plan);
        } catch (const std::exception &error) {
            fail(6, error.what());
            return nullptr;
        }
        std::string plugin;
        if (lacks_plugin(body->plan.graph, version, &plugin)) {
            fail(6, "Cannot find plugin: " + plugin + ", version: 1, namespace:.");
            return nullptr;
        }
        if (!body->load()) {
            return nullptr;
        }
        EngineBody *engine = body.release();
        return WRAPPED(VCudaEngine, engine);
    }
    void *deserializeCudaEngine(void *data, size_t size) { return deserialize(data, size); }
    template <class F> void *deserialize_pieces(F read)
    {
        std::vector<uint8_t> bytes;
        uint8_t piece[100];
        for (int64_t count = 0; (count = read(piece, int64_t{sizeof piece})) != 0;) {
            if (count < 0) {
                fail(6, "the stream reader failed");
                return nullptr;
            }
            bytes.insert(bytes.end(), piece, piece + count);
            fake_streamed += count;
        }
        return deserialize(bytes.data(), bytes.size());
    }
    void *deserializeCudaEngine(void *reader)
    {
        return deserialize_pieces(
            [&](void *to, int64_t size) { return IStreamReader_read(layout, reader, to, size); });
    }
    void *deserializeCudaEngineV2(void *reader)
    {
        if (!IStreamReaderV2_seek(layout, reader, 0, 0)) {
            return nullptr;
        }
        return deserialize_pieces(
            [&](void *to, int64_t size) { return IStreamReaderV2_read(layout, reader, to, size, nullptr); });
    }
    int64_t getEngineHeaderSize() { return 32; }
    int32_t getEngineValidity(void *data, int64_t size, uint64_t *diagnostics)
    {
        *diagnostics = 0;
        return size >= 32 && std::memcmp(data, "vtrt", 4) == 0 ? 0 : 2;
    }
};

} // namespace

void *make_runtime(void *logger, int32_t version)
{
    RuntimeBody *body = new RuntimeBody(logger, version);
    return WRAPPED(VRuntime, body);
}

void *make_refitter(void *engine, void *logger)
{
    EngineBody *of = body_of<EngineBody>(engine);
    if (!of->plan.has_refitter) {
        of->fail(INVALID_ARGUMENT, "createInferRefitter: Parameter check failed, condition: !isNoneRefittable()");
        return nullptr;
    }
    RefitterBody *body = new RefitterBody(of);
    body->logger = logger;
    return WRAPPED(VRefitter, body);
}

void *make_parser_refitter(void *refitter, void *logger)
{
    ParserRefitterBody *body = new ParserRefitterBody(body_of<RefitterBody>(refitter), logger);
    return make_IParserRefitter(body->layout, body);
}
