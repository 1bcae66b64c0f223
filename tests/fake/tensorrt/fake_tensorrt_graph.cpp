/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_tensorrt.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

/* --- small things --- */

size_t size_of_type(int32_t type)
{
    static const size_t sizes[] = {4, 2, 1, 4, 1, 1, 1, 2, 8};
    return type >= 0 && type < 9 ? sizes[type] : 0;
}

int64_t count_of(const Shape &dims)
{
    int64_t count = 1;
    for (const int64_t dim : dims) {
        count *= dim;
    }
    return count;
}

Shape shape_of(const Dims &dims)
{
    return Shape(dims.d, dims.d + std::max(dims.nbDims, 0));
}

Dims dims_of(const Shape &shape)
{
    Dims dims = {};
    dims.nbDims = static_cast<int32_t>(shape.size());
    std::copy_n(shape.begin(), std::min<size_t>(shape.size(), 8), dims.d);
    return dims;
}

bool Graph::has_data_dependent() const
{
    return std::any_of(nodes.begin(), nodes.end(), [](const Node &n) { return n.op == "NonZero"; });
}

/* --- shapes --- */

/* NVIDIA's own have such names. */
bool is_plugin(const std::string &op)
{
    return op.size() > 4 && op.compare(op.size() - 4, 4, "_TRT") == 0;
}

namespace {

bool is_conversion(const std::string &op)
{
    return op == "Cast" || op == "QuantizeLinear" || op == "DequantizeLinear";
}

bool is_unary(const std::string &op)
{
    return op == "Identity" || op == "Relu" || op == "Neg" || is_plugin(op) || is_conversion(op);
}

Shape broadcast(const Shape &a, const Shape &b)
{
    Shape result(std::max(a.size(), b.size()));
    for (size_t i = 0; i < result.size(); i++) {
        const int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
        const int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
        if (x > 1 && y > 1 && x != y) {
            throw OnnxError(INVALID_GRAPH, "shapes do not go together");
        }
        result[result.size() - 1 - i] = x < 0 || y < 0 ? (x > 1 ? x : y > 1 ? y : -1) : std::max(x, y);
    }
    return result;
}

Shape reshaped(const Shape &from, const Shape &wanted)
{
    Shape result = wanted;
    int64_t known = 1;
    int open = -1;
    for (size_t i = 0; i < result.size(); i++) {
        if (result[i] == -1) {
            open = static_cast<int>(i);
        } else {
            result[i] = result[i] == 0 && i < from.size() ? from[i] : result[i];
            known *= result[i];
        }
    }
    const int64_t count = count_of(from);
    if (open >= 0 && known > 0 && count >= 0) {
        result[static_cast<size_t>(open)] = count / known;
    }
    if (count >= 0 && count_of(result) != count) {
        throw OnnxError(INVALID_GRAPH, "a tensor cannot take another number of elements");
    }
    return result;
}

Shape convolved(const Shape &x, const Shape &w)
{
    if (x.size() != 4 || w.size() != 4 || x[1] != w[1]) {
        throw OnnxError(INVALID_GRAPH, "a convolution does not fit its input");
    }
    return Shape{x[0], w[0], x[2] < 0 ? -1 : x[2] - w[2] + 1, x[3] < 0 ? -1 : x[3] - w[3] + 1};
}

Shape multiplied(const Shape &a, const Shape &b)
{
    if (a.size() != 2 || b.size() != 2 || (a[1] >= 0 && b[0] >= 0 && a[1] != b[0])) {
        throw OnnxError(INVALID_GRAPH, "matrices do not go together");
    }
    return Shape{a[0], b[1]};
}

Shape node_shape(const Node &node, int index, const std::map<std::string, Shape> &shapes,
                 const std::map<std::string, Shape> &values)
{
    const auto input = [&](size_t i) -> const Shape & {
        if (i >= node.inputs.size() || shapes.find(node.inputs[i]) == shapes.end()) {
            throw OnnxError(INVALID_GRAPH, node.op + " lacks an input", index);
        }
        return shapes.at(node.inputs[i]);
    };
    if (is_unary(node.op)) {
        return input(0);
    }
    if (node.op == "Add") {
        return broadcast(input(0), input(1));
    }
    if (node.op == "MatMul") {
        return multiplied(input(0), input(1));
    }
    if (node.op == "Conv") {
        return convolved(input(0), input(1));
    }
    if (node.op == "NonZero") {
        return Shape{static_cast<int64_t>(input(0).size()), -1};
    }
    if (node.op == "Shape") {
        return Shape{static_cast<int64_t>(input(0).size())};
    }
    if (node.op == "Reshape") {
        const auto wanted = values.find(node.inputs.size() > 1 ? node.inputs[1] : "");
        return wanted != values.end() ? reshaped(input(0), wanted->second)
                                      : Shape(static_cast<size_t>(count_of(input(1))), -1);
    }
    throw OnnxError(UNSUPPORTED_NODE, "no importer for " + node.op, index);
}

std::map<std::string, Shape> with_weights(const Graph &graph, std::map<std::string, Shape> values)
{
    for (const auto &entry : graph.weights) {
        if (entry.second.type == 8 && !entry.second.is_missing) {
            Shape numbers(entry.second.size / sizeof(int64_t));
            std::memcpy(numbers.data(), entry.second.data(), entry.second.size);
            values[entry.first] = numbers;
        }
    }
    return values;
}

} // namespace

std::map<std::string, Shape> shapes_of(const Graph &graph, const std::map<std::string, Shape> &inputs,
                                       const std::map<std::string, Shape> &values)
{
    std::map<std::string, Shape> shapes = inputs;
    const std::map<std::string, Shape> known = with_weights(graph, values);
    for (const auto &entry : graph.weights) {
        shapes[entry.first] = entry.second.dims;
    }
    for (size_t i = 0; i < graph.nodes.size(); i++) {
        const Node &node = graph.nodes[i];
        shapes[node.outputs.at(0)] = node_shape(node, static_cast<int>(i), shapes, known);
    }
    return shapes;
}

/* A quantization has the type of its zero point, and back it has that of its scale. */
std::map<std::string, int32_t> types_of(const Graph &graph)
{
    std::map<std::string, int32_t> types;
    for (const Value &input : graph.inputs) {
        types[input.name] = input.type;
    }
    for (const auto &entry : graph.weights) {
        types[entry.first] = entry.second.type;
    }
    for (const Node &node : graph.nodes) {
        const size_t like = node.op == "QuantizeLinear" ? 2 : node.op == "DequantizeLinear" ? 1 : 0;
        types[node.outputs[0]] = node.op == "NonZero" || node.op == "Shape" ? 8
                                 : node.op == "Cast"                        ? node.to
                                                                            : types[node.inputs.at(like)];
    }
    return types;
}

void infer(Graph *graph)
{
    std::map<std::string, Shape> inputs;
    for (Value &input : graph->inputs) {
        inputs[input.name] = input.dims;
        for (const Node &node : graph->nodes) {
            input.on_host = input.on_host || (node.op == "Reshape" && node.inputs.size() > 1 &&
                                              node.inputs[1] == input.name);
        }
    }
    const std::map<std::string, Shape> shapes = shapes_of(*graph, inputs, {});
    std::map<std::string, int32_t> types = types_of(*graph);
    for (const Node &node : graph->nodes) {
        for (Value &output : graph->outputs) {
            output.on_host = output.on_host || (node.op == "Shape" && node.outputs[0] == output.name);
        }
    }
    for (Value &output : graph->outputs) {
        if (shapes.find(output.name) == shapes.end()) {
            throw OnnxError(INVALID_GRAPH, "nothing makes the output " + output.name);
        }
        output.dims = shapes.at(output.name);
        output.type = types[output.name];
        output.names.clear();
    }
}

/* --- numbers --- */

namespace {

float *floats(Tensor *tensor)
{
    return reinterpret_cast<float *>(tensor->bytes.data());
}

const float *floats(const Tensor &tensor)
{
    return reinterpret_cast<const float *>(tensor.bytes.data());
}

int64_t offset_of(const Shape &dims, const Shape &whole, int64_t index)
{
    int64_t offset = 0;
    int64_t step = 1;
    for (size_t i = 0; i < whole.size(); i++) {
        const size_t axis = whole.size() - 1 - i;
        const int64_t at = index % whole[axis];
        index /= whole[axis];
        if (i < dims.size()) {
            const int64_t dim = dims[dims.size() - 1 - i];
            offset += (dim == 1 ? 0 : at) * step;
            step *= dim;
        }
    }
    return offset;
}

void add(const Tensor &a, const Tensor &b, Tensor *y)
{
    for (int64_t i = 0; i < count_of(y->dims); i++) {
        floats(y)[i] = floats(a)[offset_of(a.dims, y->dims, i)] +
                       floats(b)[offset_of(b.dims, y->dims, i)];
    }
}

void multiply(const Tensor &a, const Tensor &b, Tensor *y)
{
    for (int64_t i = 0; i < a.dims[0]; i++) {
        for (int64_t j = 0; j < b.dims[1]; j++) {
            float sum = 0;
            for (int64_t k = 0; k < a.dims[1]; k++) {
                sum += floats(a)[i * a.dims[1] + k] * floats(b)[k * b.dims[1] + j];
            }
            floats(y)[i * b.dims[1] + j] = sum;
        }
    }
}

void convolve(const Tensor &x, const Tensor &w, const Tensor *bias, Tensor *y)
{
    for (int64_t i = 0; i < count_of(y->dims); i++) {
        const int64_t column = i % y->dims[3];
        const int64_t row = i / y->dims[3] % y->dims[2];
        const int64_t map = i / y->dims[3] / y->dims[2] % y->dims[1];
        const int64_t image = i / y->dims[3] / y->dims[2] / y->dims[1];
        float sum = bias != nullptr ? floats(*bias)[map] : 0;
        for (int64_t k = 0; k < w.dims[1] * w.dims[2] * w.dims[3]; k++) {
            const int64_t c = k % w.dims[3];
            const int64_t r = k / w.dims[3] % w.dims[2];
            const int64_t m = k / w.dims[3] / w.dims[2];
            sum += floats(w)[map * w.dims[1] * w.dims[2] * w.dims[3] + k] *
                   floats(x)[((image * x.dims[1] + m) * x.dims[2] + row + r) * x.dims[3] + column + c];
        }
        floats(y)[i] = sum;
    }
}

void find_nonzero(const Tensor &x, Tensor *y)
{
    std::vector<int64_t> found;
    for (int64_t i = 0; i < count_of(x.dims); i++) {
        if (floats(x)[i] != 0.0F) {
            found.push_back(i);
        }
    }
    y->dims = Shape{static_cast<int64_t>(x.dims.size()), static_cast<int64_t>(found.size())};
    y->bytes.resize(static_cast<size_t>(count_of(y->dims)) * sizeof(int64_t));
    int64_t *out = reinterpret_cast<int64_t *>(y->bytes.data());
    for (size_t i = 0; i < found.size(); i++) {
        int64_t rest = found[i];
        for (size_t axis = x.dims.size(); axis-- > 0;) {
            out[axis * found.size() + i] = rest % x.dims[axis];
            rest /= x.dims[axis];
        }
    }
}

} // namespace

void compute(const Graph &graph, std::map<std::string, Tensor> *tensors)
{
    std::map<std::string, Shape> shapes, values;
    for (const auto &entry : *tensors) {
        shapes[entry.first] = entry.second.dims;
        if (entry.second.type == 8) {
            const int64_t *numbers = reinterpret_cast<const int64_t *>(entry.second.bytes.data());
            values[entry.first] = Shape(numbers, numbers + entry.second.bytes.size() / 8);
        }
    }
    for (const auto &entry : graph.weights) {
        const Weight &weight = entry.second;
        (*tensors)[entry.first] = {weight.type, weight.dims,
                                   {weight.data(), weight.data() + weight.size}};
    }
    shapes = shapes_of(graph, shapes, values);
    for (const Node &node : graph.nodes) {
        if (is_conversion(node.op)) {
            throw OnnxError(UNSUPPORTED_NODE, "the stand-in builds what is in smaller types, and runs none of it");
        }
        const Tensor &x = tensors->at(node.inputs[0]);
        Tensor y;
        y.type = node.op == "NonZero" || node.op == "Shape" ? 8 : x.type;
        y.dims = shapes[node.outputs[0]];
        if (node.op == "NonZero") {
            find_nonzero(x, &y);
            (*tensors)[node.outputs[0]] = y;
            continue;
        }
        y.bytes.resize(static_cast<size_t>(count_of(y.dims)) * size_of_type(y.type));
        if (node.op == "Add") {
            add(x, tensors->at(node.inputs[1]), &y);
        } else if (node.op == "MatMul") {
            multiply(x, tensors->at(node.inputs[1]), &y);
        } else if (node.op == "Conv") {
            const Tensor *bias = node.inputs.size() > 2 ? &tensors->at(node.inputs[2]) : nullptr;
            convolve(x, tensors->at(node.inputs[1]), bias, &y);
        } else if (node.op == "Shape") {
            std::memcpy(y.bytes.data(), x.dims.data(), y.bytes.size());
        } else {
            y.bytes = x.bytes;
            for (int64_t i = 0; node.op != "Identity" && node.op != "Reshape" && i < count_of(y.dims); i++) {
                float &value = floats(&y)[i];
                value = node.op == "Relu" ? std::max(value, 0.0F)
                        : node.op == "Neg" ? -value
                                           : std::max(value, 0.01F * value); /* LReLU_TRT */
            }
        }
        (*tensors)[node.outputs[0]] = y;
    }
}
