/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_tensorrt_network.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <thread>

HostMemoryBody::HostMemoryBody(const Base *parent, std::vector<uint8_t> content)
    : Base(parent), bytes(std::move(content))
{
    recorder = nullptr; /* it outlives who made it */
}

void *make_host_memory(const Base *parent, std::vector<uint8_t> bytes)
{
    HostMemoryBody *body = new HostMemoryBody(parent, std::move(bytes));
    return wrap(body, make_VHostMemory(body->layout, body), drop_made);
}

namespace {

/* --- profiles --- */

struct ProfileBody : Base {
    explicit ProfileBody(const Base *parent) : Base(parent) {}
    ProfileMap shapes;
    bool setDimensions(const char *name, int32_t which, const Dims *dims)
    {
        shapes[name].dims[which] = *dims;
        return true;
    }
    Dims getDimensions(const char *name, int32_t which) { return shapes[name].dims[which]; }
    bool setShapeValuesV2(const char *name, int32_t which, const int64_t *values, int32_t count)
    {
        shapes[name].values[which].assign(values, values + count);
        return true;
    }
    bool setShapeValues(const char *name, int32_t which, const int32_t *values, int32_t count)
    {
        shapes[name].values[which].assign(values, values + count);
        return true;
    }
    int32_t getNbShapeValues(const char *name) { return static_cast<int32_t>(shapes[name].values[0].size()); }
    bool isValid() { return true; }
};

/* --- timing caches --- */

const char timing_magic[] = "fake timing cache:";

struct TimingCacheBody : Base {
    TimingCacheBody(const Base *parent, std::string given) : Base(parent), entries(std::move(given)) {}
    std::string entries; /* "Conv;Relu;": what was measured */
    bool has(const std::string &op) const { return (";" + entries).find(";" + op + ";") != std::string::npos; }
    void *serialize()
    {
        const std::string all = timing_magic + entries;
        return make_host_memory(this, std::vector<uint8_t>(all.begin(), all.end()));
    }
    bool reset()
    {
        entries.clear();
        return true;
    }
};

/* --- configurations --- */

struct ConfigBody : Base {
    explicit ConfigBody(const Base *parent) : Base(parent) {}
    uint32_t flags = 1U << 6; /* TF32 */
    std::map<int32_t, size_t> pools;
    std::vector<ProfileBody *> profiles;
    TimingCacheBody *timing = nullptr;
    void *monitor = nullptr;
    std::vector<int32_t> capabilities;
    std::vector<std::string> plugins;
    int32_t level = 3, verbosity = 0, hardware = 0, streams = -1, tactics = -1, timings = 1;
    int32_t tiling = 0, platform = 0, core = 0, device = 0;
    int64_t l2 = -1;
    uint32_t sources = 31;

    void setFlag(int32_t flag) { flags |= 1U << static_cast<unsigned>(flag); }
    void clearFlag(int32_t flag) { flags &= ~(1U << static_cast<unsigned>(flag)); }
    bool getFlag(int32_t flag) { return (flags >> static_cast<unsigned>(flag) & 1U) != 0; }
    /* By the number it has in the layouts of 10 and RTX 1.3; later ones lost INT8's three. */
    bool has(int32_t old_number, int32_t new_number) { return getFlag(is_old_enums() ? old_number : new_number); }
    void setMemoryPoolLimit(int32_t pool, size_t bytes) { pools[pool] = bytes; }
    size_t getMemoryPoolLimit(int32_t pool) { return pools[pool]; }
    void setBuilderOptimizationLevel(int32_t value) { level = value; }
    int32_t getBuilderOptimizationLevel() { return level; }
    void setProfilingVerbosity(int32_t value) { verbosity = value; }
    int32_t getProfilingVerbosity() { return verbosity; }
    void setHardwareCompatibilityLevel(int32_t value) { hardware = value; }
    int32_t getHardwareCompatibilityLevel() { return hardware; }
    bool setMaxAuxStreams(int32_t value)
    {
        streams = value;
        return true;
    }
    int32_t getMaxAuxStreams() { return streams; }
    void setMaxNbTactics(int32_t value) { tactics = value; }
    int32_t getMaxNbTactics() { return tactics; }
    void setAvgTimingIterations(int32_t value) { timings = value; }
    int32_t getAvgTimingIterations() { return timings; }
    bool setTilingOptimizationLevel(int32_t value)
    {
        tiling = value;
        return true;
    }
    int32_t getTilingOptimizationLevel() { return tiling; }
    void setRuntimePlatform(int32_t value) { platform = value; }
    int32_t getRuntimePlatform() { return platform; }
    bool setL2LimitForTiling(int64_t value)
    {
        l2 = value;
        return value > 0 || fail(INVALID_ARGUMENT, "a limit must be positive");
    }
    uint32_t getTacticSources() { return sources; }
    bool setTacticSources(uint32_t value)
    {
        sources = value;
        return true;
    }
    void setDefaultDeviceType(int32_t value) { device = value; }
    void setDLACore(int32_t value) { core = value; }
    void setProgressMonitor(void *given) { monitor = given; }
    void *getProgressMonitor() { return monitor; }
    void setPluginsToSerialize(const char **paths, int32_t count)
    {
        plugins.assign(paths, paths + count);
    }
    int32_t getNbPluginsToSerialize() { return static_cast<int32_t>(plugins.size()); }
    bool setNbComputeCapabilities(int32_t count)
    {
        capabilities.assign(static_cast<size_t>(count), 0);
        return true;
    }
    bool setComputeCapability(int32_t capability, int32_t index)
    {
        capabilities.at(static_cast<size_t>(index)) = capability;
        return true;
    }
    int32_t addOptimizationProfile(void *profile)
    {
        profiles.push_back(body_of<ProfileBody>(profile));
        return static_cast<int32_t>(profiles.size()) - 1;
    }
    int32_t getNbOptimizationProfiles() { return static_cast<int32_t>(profiles.size()); }
    void *createTimingCache(const void *data, size_t size) { return create_cache(data, size); }
    void *createTimingCache(void *data, size_t size) { return create_cache(data, size); }
    void *create_cache(const void *data, size_t size)
    {
        const std::string given(static_cast<const char *>(data), size);
        const std::string magic = timing_magic;
        if (size > 0 && given.compare(0, magic.size(), magic) != 0) {
            fail(INVALID_ARGUMENT, "Serialization (these bytes are no timing cache)");
            return wrap_cache(""); /* as TensorRT 10.6 does */
        }
        return wrap_cache(size > 0 ? given.substr(magic.size()) : "");
    }
    void *wrap_cache(const std::string &content)
    {
        TimingCacheBody *body = new TimingCacheBody(this, content);
        return wrap(body, make_VTimingCache(layout, body), drop_made);
    }
    bool setTimingCache(void *cache, bool)
    {
        timing = body_of<TimingCacheBody>(cache);
        return true;
    }
};

/* --- builders --- */

void sleep_for(const char *variable)
{
    const char *milliseconds = std::getenv(variable);
    if (milliseconds != nullptr) {
        std::this_thread::sleep_for(std::chrono::milliseconds(std::atoi(milliseconds)));
    }
}

struct BuilderBody : Base {
    BuilderBody(void *given_logger, int32_t of) : Base(nullptr)
    {
        logger = given_logger;
        version = of;
        layout = layout_of(of);
        if (fake_builders++ == 0) {
            fake_loads++;
            sleep_for("FAKE_TENSORRT_LOADING");
        }
    }
    ~BuilderBody() override
    {
        fake_builders--;
        for (void *profile : profiles) {
            delete static_cast<Handle *>(profile);
        }
    }
    std::vector<void *> profiles;
    int32_t threads = 1;
    void *allocator = nullptr;
    void setGpuAllocator(void *given) { allocator = given; }

    /* What kernels are tried on: some memory in each of the two ways, given back again. */
    bool try_kernels()
    {
        if (allocator == nullptr) {
            return true;
        }
        void *first = IGpuAllocator_allocate(layout, allocator, 4096, asked_alignment(), 0);
        void *second = IGpuAllocator_allocateAsync(layout, allocator, 2048, asked_alignment(), 0, nullptr);
        const bool good = is_aligned(first) && is_aligned(second) &&
                          IGpuAllocator_reallocate(layout, allocator, first, asked_alignment(), 8192) == nullptr;
        const bool returned = IGpuAllocator_deallocate(layout, allocator, first) &&
                              IGpuAllocator_deallocateAsync(layout, allocator, second, nullptr);
        return (good && returned) || fail(INVALID_STATE, "no memory to try kernels in");
    }

    void *createBuilderConfig()
    {
        ConfigBody *body = new ConfigBody(this);
        return wrap(body, make_VBuilderConfig(layout, body), drop_made);
    }
    void *createNetworkV2(uint32_t flags)
    {
        if (flags != (is_old_enums() ? 2U : 1U)) {
            fail(INVALID_ARGUMENT, "a strongly typed network is needed");
            return nullptr;
        }
        NetworkBody *body = new NetworkBody(this);
        return wrap(body, make_VNetworkDefinition(layout, body), drop_made);
    }
    void *createOptimizationProfile()
    {
        ProfileBody *body = new ProfileBody(this);
        profiles.push_back(wrap(body, make_VOptimizationProfile(layout, body), drop_made));
        return profiles.back();
    }
    int32_t getNbDLACores() { return is_rtx() ? 0 : 2; }
    bool setMaxThreads(int32_t count)
    {
        threads = count;
        return count > 0 && count <= 64;
    }
    int32_t getMaxThreads() { return threads; }
    void *getPluginRegistry() { return registry_of(version); }

    /* A phase with so many steps, in each of which something happens; false when it shall stop. */
    template <class F> bool phase(void *monitor, const char *name, const char *parent, size_t steps, F in_step)
    {
        bool goes_on = true;
        if (monitor != nullptr) {
            IProgressMonitor_phaseStart(layout, monitor, name, parent, static_cast<int32_t>(steps));
        }
        for (size_t i = 0; i < steps && goes_on; i++) {
            goes_on = in_step(i) && (monitor == nullptr || IProgressMonitor_stepComplete(layout, monitor, name,
                                                                                         static_cast<int32_t>(i)));
        }
        if (monitor != nullptr) {
            IProgressMonitor_phaseFinish(layout, monitor, name);
        }
        return goes_on;
    }

    /* What TensorRT 10.6 reports of a build: phases in phases, of which one takes nearly all the
     * time. FAKE_TENSORRT_SILENCE: so many milliseconds in the middle of it that it says nothing of. */
    bool report(ConfigBody *config, const std::vector<Node> &all, size_t profiles)
    {
        void *const monitor = config->monitor;
        const size_t nodes = all.size();
        const auto nothing = [](size_t) { return true; };
        const auto time_tactic = [&](size_t tactic) {
            if (tactic == 1) {
                sleep_for("FAKE_TENSORRT_SILENCE");
            }
            return try_kernels() && phase(monitor, "Measuring tactic time", "Evaluating tactic times", 4, nothing);
        };
        const auto time_node = [&](size_t i) {
            if (config->timing != nullptr && config->timing->has(all[i].op)) {
                return true;
            }
            fake_measured++;
            if (!phase(monitor, "Evaluating tactic times", "Timing graph nodes", 2, time_tactic)) {
                return false;
            }
            if (config->timing != nullptr) {
                config->timing->entries += all[i].op + ";";
            }
            return true;
        };
        const auto tactics = [&](size_t step) {
            return step != 0 || (phase(monitor, "Timing graph nodes", "Timing tactics", nodes, time_node) &&
                                 phase(monitor, "Timing tensor reformats", "Timing tactics", nodes, nothing));
        };
        const auto costs = [&](size_t step) {
            return step == 0   ? phase(monitor, "Timing tactics", "Computing profile costs", 3, tactics)
                   : step == 1 ? phase(monitor, "Determining refit engines", "Computing profile costs", nodes, nothing)
                               : true;
        };
        const auto subgraph = [&](size_t) {
            bool goes_on = phase(monitor, "Optimizing graph", "Building engine from subgraph", 33, nothing);
            for (size_t i = 0; i < profiles && goes_on; i++) {
                goes_on = phase(monitor, "Computing profile costs", "Building engine from subgraph", 5, costs);
            }
            return goes_on;
        };
        const auto whole = [&](size_t step) {
            return step == 0   ? phase(monitor, "Cloning network graph", "Building engine", nodes, nothing)
                   : step == 2 ? phase(monitor, "Preparing graph for optimization", "Building engine", 4, nothing)
                   : step == 4 ? phase(monitor, "Building engine from subgraph", "Building engine", 1, subgraph)
                               : true;
        };
        return phase(monitor, "Building engine", nullptr, 6, whole);
    }

    void mark(ConfigBody *config, NetworkBody *network, Plan *plan)
    {
        const bool strips = config->has(19, 18);
        const bool individual = config->has(23, 22);
        /* A plan that is stripped without another word is for identical weights. */
        const bool all = config->getFlag(4) || config->has(20, 19) || (strips && !individual);
        /* One that is for identical or for some weights says no, and has a refitter. */
        plan->refittable = config->getFlag(4);
        plan->has_refitter = all || individual;
        plan->compatible = config->has(13, 12);
        plan->host_code = plan->compatible && !config->has(14, 13);
        plan->streamable = config->has(21, 20);
        for (auto &entry : plan->graph.weights) {
            Weight &weight = entry.second;
            weight.is_refittable = all || (individual && std::count(network->marked.begin(), network->marked.end(),
                                                                    entry.first) > 0);
            weight.is_missing = weight.is_refittable && strips;
        }
    }

    /* Dimensions of one name are equal: a size must be left that all of them may have. */
    bool check_names(const Graph &graph, const ProfileMap &profile)
    {
        std::map<std::string, std::pair<int64_t, int64_t>> sizes;
        for (const Value &input : graph.inputs) {
            const auto found = profile.find(input.name);
            for (size_t i = 0; found != profile.end() && i < input.dims.size(); i++) {
                const std::string &name = input.names[i];
                if (name.empty() || input.dims[i] >= 0) {
                    continue;
                }
                auto &size = sizes.emplace(name, std::make_pair(INT64_MIN, INT64_MAX)).first->second;
                size.first = std::max(size.first, found->second.dims[0].d[i]);
                size.second = std::min(size.second, found->second.dims[2].d[i]);
                if (size.first > size.second) {
                    return fail(4, "Dimensions with name " + name +
                                       ": Input dimensions with this name have different constant values or "
                                       "have contradictory IOptimizationProfile kMIN/kMAX constraints.");
                }
            }
        }
        return true;
    }

    void *buildSerializedNetwork(void *network_object, void *config_object)
    {
        NetworkBody *network = body_of<NetworkBody>(network_object);
        ConfigBody *config = body_of<ConfigBody>(config_object);
        if (network->graph.nodes.empty()) {
            fail(INVALID_STATE, "the network has no layers");
            return nullptr;
        }
        for (const Node &node : network->graph.nodes) {
            if (config->has(16, 15) && (config->timing == nullptr || !config->timing->has(node.op))) {
                fail(2, "Assertion !errorOnMiss failed. Adding new entry to timing cache is not allowed if "
                        "`BuilderFlag::kERROR_ON_TIMING_CACHE_MISS` is set.");
                return nullptr;
            }
        }
        for (const ProfileBody *profile : config->profiles) {
            if (!check_names(network->graph, profile->shapes)) {
                return nullptr;
            }
        }
        if (!report(config, network->graph.nodes, std::max<size_t>(config->profiles.size(), 1))) {
            return nullptr;
        }
        if (!try_kernels()) {
            return nullptr;
        }
        log(3, "[fake] built " + std::to_string(network->graph.nodes.size()) + " layers");
        Plan plan;
        plan.version = version;
        plan.capability = current_capability();
        plan.graph = network->graph;
        plan.verbosity = config->verbosity;
        plan.hardware = config->hardware;
        plan.auxiliary = std::max(config->streams, 0);
        for (const ProfileBody *profile : config->profiles) {
            plan.profiles.push_back(profile->shapes);
        }
        if (plan.profiles.empty()) {
            plan.profiles.emplace_back();
        }
        mark(config, network, &plan);
        return make_host_memory(this, write_plan(plan));
    }
};

} // namespace

/* --- making them --- */

void *make_builder(void *logger, int32_t version)
{
    BuilderBody *body = new BuilderBody(logger, version);
    return wrap(body, make_VBuilder(body->layout, body), drop_made);
}
