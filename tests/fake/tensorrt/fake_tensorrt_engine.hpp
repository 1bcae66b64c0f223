/* SPDX-License-Identifier: Apache-2.0 */
/* Engines of the stand-in, and what RTX compiles for them. */
#ifndef FAKE_TENSORRT_ENGINE_HPP
#define FAKE_TENSORRT_ENGINE_HPP

#include "fake_tensorrt.hpp"

#include <mutex>
#include <set>

#include "fake_tensorrt_classes.h"

#define WRAPPED(name, body) wrap((body), make_##name((body)->layout, (body)), drop_made)

enum { STATIC = 0, ON_PROFILE_CHANGE = 1, USER_MANAGED = 2 };

/* --- what RTX compiles where it runs --- */

inline const char cache_magic[] = "fake runtime cache:";

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

/* Of a stripped plan it begins with what keeps weights out. */
struct SerializationConfigBody : Base {
    SerializationConfigBody(const Base *parent, uint32_t given) : Base(parent), flags(given) {}
    uint32_t flags;
    bool setFlags(uint32_t given)
    {
        flags = given;
        return true;
    }
    uint32_t getFlags() { return flags; }
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
            is_stripped = is_stripped || entry.second.is_missing;
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
    bool is_stripped = false;
    void *write(bool with_weights, bool stays_refittable)
    {
        Plan written = plan;
        if (is_stripped && with_weights && !stays_refittable) {
            written.has_refitter = written.refittable = false;
        }
        for (auto &entry : written.graph.weights) {
            entry.second.is_missing |= !with_weights && entry.second.is_refittable;
        }
        return make_host_memory(this, write_plan(written));
    }
    void *serialize() { return write(!is_stripped, false); }
    void *createSerializationConfig()
    {
        SerializationConfigBody *body = new SerializationConfigBody(this, is_stripped ? 1 : 0);
        return WRAPPED(VSerializationConfig, body);
    }
    void *serializeWithConfig(void *config)
    {
        const uint32_t flags = body_of<SerializationConfigBody>(config)->flags;
        return write((flags & 1) == 0, (flags & 4) != 0);
    }
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

#endif
