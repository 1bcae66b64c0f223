/* SPDX-License-Identifier: Apache-2.0 */
/* Refitters of the stand-in. */
#include "fake_tensorrt_engine.hpp"

#include <algorithm>

namespace {

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

} // namespace

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
