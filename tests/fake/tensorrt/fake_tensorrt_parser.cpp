/* SPDX-License-Identifier: Apache-2.0 */
/* The ONNX parser of the stand-in, over its networks. */
#include "fake_tensorrt_network.hpp"

namespace {

struct ParserErrorBody : Base {
    ParserErrorBody(const Base *parent, const OnnxError &error, const Graph &graph)
        : Base(parent), number(error.code), text(error.what()), index(error.node)
    {
        if (index >= 0) {
            name = graph.nodes[static_cast<size_t>(index)].name;
            op = graph.nodes[static_cast<size_t>(index)].op;
        }
    }
    int32_t number;
    std::string text, name, op;
    int index;
    int32_t code() { return number; }
    const char *desc() { return text.c_str(); }
    const char *file() { return "/source/of/fake_parser.cpp"; }
    int line() { return 42; }
    const char *func() { return "parse"; }
    int node() { return index; }
    const char *nodeName() { return name.c_str(); }
    const char *nodeOperator() { return op.c_str(); }
    const char **localFunctionStack() { return nullptr; }
    int32_t localFunctionStackSize() { return 0; }
};

struct ParserBody : Base {
    ParserBody(NetworkBody *given, void *given_logger) : Base(given), network(given)
    {
        logger = given_logger;
        is_called_itself = true;
    }
    ~ParserBody() override { clearErrors(); }
    NetworkBody *network;
    std::vector<void *> errors;
    std::vector<ParserErrorBody *> bodies;
    Graph loaded;

    template <class F> bool guarded(F action)
    {
        try {
            action();
            return true;
        } catch (const OnnxError &error) {
            ParserErrorBody *body = new ParserErrorBody(this, error, network->graph);
            bodies.push_back(body);
            errors.push_back(make_IParserError(layout, body));
            return false;
        }
    }
    void take(const Graph &graph)
    {
        network->graph = graph;
        std::string plugin;
        if (lacks_plugin(graph, version, &plugin)) {
            throw OnnxError(8, "Plugin not found, are the plugin name, version, and namespace correct? " + plugin);
        }
        for (const auto &entry : graph.weights) {
            if (entry.second.is_missing) {
                throw OnnxError(3, "the weights " + entry.first + " were not loaded");
            }
        }
        infer(&network->graph);
        network->make_tensors();
    }
    bool parse(void *data, size_t size, const char *)
    {
        return guarded([&] {
            Graph graph;
            read_onnx(data, size, &graph);
            take(graph);
        });
    }
    bool loadModelProto(void *data, size_t size, const char *)
    {
        return guarded([&] {
            loaded = Graph();
            read_onnx(data, size, &loaded);
        });
    }
    bool loadInitializer(const char *name, void *data, size_t size)
    {
        return guarded([&] {
            const auto found = loaded.weights.find(name);
            if (found == loaded.weights.end() || found->second.size != size) {
                throw OnnxError(4, std::string("no weights of this size: ") + name);
            }
            found->second.borrowed = data;
            found->second.is_missing = false;
        });
    }
    bool parseModelProto()
    {
        return guarded([&] { take(loaded); });
    }
    int getNbErrors() { return static_cast<int>(errors.size()); }
    void *getError(int i) { return errors.at(static_cast<size_t>(i)); }
    void clearErrors()
    {
        for (size_t i = 0; i < errors.size(); i++) {
            drop_slot(errors[i], 11);
            delete bodies[i];
        }
        errors.clear();
        bodies.clear();
    }
    static void drop_slot(void *made, size_t slot)
    {
        void **const table = *static_cast<void ***>(made);
        reinterpret_cast<void (*)(void *)>(table[slot])(made);
    }
};

} // namespace

void *make_parser(void *network, void *logger)
{
    ParserBody *body = new ParserBody(body_of<NetworkBody>(network), logger);
    return make_IParser(body->layout, body);
}
