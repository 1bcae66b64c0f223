/* SPDX-License-Identifier: Apache-2.0 */
/* Networks of the stand-in, and their tensors. */
#ifndef FAKE_TENSORRT_NETWORK_HPP
#define FAKE_TENSORRT_NETWORK_HPP

#include "fake_tensorrt.hpp"

#include "fake_tensorrt_classes.h"

struct TensorBody : Base {
    TensorBody(const Base *parent, Value *of, bool input) : Base(parent), value(of), is_input(input) {}
    Value *value;
    bool is_input;
    const char *getName() { return value->name.c_str(); }
    Dims getDimensions() { return dims_of(value->dims); }
    int32_t getType() { return value->type; }
    bool isNetworkInput() { return is_input; }
    bool isNetworkOutput() { return !is_input; }
    bool isShapeTensor() { return value->on_host; }
    bool isExecutionTensor() { return !value->on_host; }
    uint32_t getAllowedFormats() { return 1; }
    const char *getDimensionName(int32_t i)
    {
        return i >= 0 && static_cast<size_t>(i) < value->names.size() ? value->names[static_cast<size_t>(i)].c_str()
                                                                      : nullptr;
    }
};

struct NetworkBody : Base {
    explicit NetworkBody(const Base *parent) : Base(parent) {}
    ~NetworkBody() override
    {
        for (void *tensor : tensors) {
            delete static_cast<Handle *>(tensor);
        }
    }
    Graph graph;
    std::vector<void *> tensors; /* inputs, then outputs */
    std::vector<std::string> marked;

    void make_tensors()
    {
        for (std::vector<Value> *list : {&graph.inputs, &graph.outputs}) {
            for (Value &value : *list) {
                TensorBody *body = new TensorBody(this, &value, list == &graph.inputs);
                tensors.push_back(wrap(body, make_VTensor(layout, body), drop_made));
            }
        }
    }
    int32_t getNbInputs() { return static_cast<int32_t>(graph.inputs.size()); }
    int32_t getNbOutputs() { return static_cast<int32_t>(graph.outputs.size()); }
    int32_t getNbLayers() { return static_cast<int32_t>(graph.nodes.size()); }
    void *tensor_at(int32_t i, int32_t first, int32_t count)
    {
        return i >= 0 && i < count ? tensors[static_cast<size_t>(first + i)] : nullptr;
    }
    void *getInput(int32_t i) { return tensor_at(i, 0, getNbInputs()); }
    void *getOutput(int32_t i) { return tensor_at(i, getNbInputs(), getNbOutputs()); }
    const char *getName() { return graph.name.c_str(); }
    bool markWeightsRefittable(const char *name)
    {
        if (graph.weights.count(name) == 0) {
            return fail(INVALID_ARGUMENT, std::string("no weights ") + name);
        }
        marked.push_back(name);
        return true;
    }
};

#endif
