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

/* --- ONNX --- */

enum { DESERIALIZE_FAILED = 3, INVALID_GRAPH = 5, UNSUPPORTED_NODE = 8, UNSUPPORTED_TYPE = 11 };

namespace {

struct Field {
    uint32_t number = 0;
    uint64_t value = 0;
    const uint8_t *data = nullptr;
    size_t size = 0;
    std::string text() const { return std::string(reinterpret_cast<const char *>(data), size); }
};

struct Wire {
    const uint8_t *at, *end;
    Wire(const void *data, size_t size) : at(static_cast<const uint8_t *>(data)), end(at + size) {}
    explicit Wire(const Field &field) : Wire(field.data, field.size) {}

    uint64_t varint()
    {
        uint64_t value = 0;
        for (int shift = 0; shift < 64; shift += 7) {
            if (at == end) {
                throw OnnxError(DESERIALIZE_FAILED, "the model ends within a field");
            }
            const uint8_t byte = *at++;
            value |= static_cast<uint64_t>(byte & 0x7f) << shift;
            if (byte < 0x80) {
                return value;
            }
        }
        throw OnnxError(DESERIALIZE_FAILED, "a number is too long");
    }

    bool next(Field *field)
    {
        if (at == end) {
            return false;
        }
        const uint64_t tag = varint();
        *field = Field();
        field->number = static_cast<uint32_t>(tag >> 3);
        size_t size = 0;
        switch (tag & 7) {
        case 0: field->value = varint(); return true;
        case 1: size = 8; break;
        case 2: size = static_cast<size_t>(varint()); break;
        case 5: size = 4; break;
        case 4: at = end; return false; /* a group's end, where protobuf's reader stops in peace */
        default: throw OnnxError(DESERIALIZE_FAILED, "a field has an unknown kind");
        }
        if (size > static_cast<size_t>(end - at)) {
            throw OnnxError(DESERIALIZE_FAILED, "the model ends within a field");
        }
        field->data = at;
        field->size = size;
        at += size;
        return true;
    }
};

int32_t type_of_onnx(uint64_t type)
{
    static const std::map<uint64_t, int32_t> types = {{1, 0}, {10, 1}, {3, 2}, {6, 3},
                                                      {9, 4}, {2, 5},  {16, 7}, {7, 8},
                                                      {11, 0} /* float64: float32 is made of it */};
    const auto found = types.find(type);
    if (found == types.end()) {
        throw OnnxError(UNSUPPORTED_TYPE, "data type " + std::to_string(type) + " is not played");
    }
    return found->second;
}

void read_shape(const Field &message, Value *value)
{
    Wire dims(message);
    for (Field dim; dims.next(&dim);) {
        int64_t size = -1;
        std::string name;
        Wire parts(dim);
        for (Field part; parts.next(&part);) {
            if (part.number == 1) {
                size = static_cast<int64_t>(part.value);
            } else if (part.number == 2) {
                name = part.text();
            }
        }
        value->dims.push_back(size);
        value->names.push_back(name);
    }
}

Value read_value(const Field &message)
{
    Value value;
    Wire parts(message);
    for (Field part; parts.next(&part);) {
        if (part.number == 1) {
            value.name = part.text();
        } else if (part.number == 2) {
            Wire kinds(part);
            for (Field kind; kinds.next(&kind);) {
                Wire tensor(kind);
                for (Field field; kind.number == 1 && tensor.next(&field);) {
                    if (field.number == 1) {
                        value.type = type_of_onnx(field.value);
                    } else if (field.number == 2) {
                        read_shape(field, &value);
                    }
                }
            }
        }
    }
    return value;
}

Node read_node(const Field &message)
{
    Node node;
    Wire parts(message);
    for (Field part; parts.next(&part);) {
        switch (part.number) {
        case 1: node.inputs.push_back(part.text()); break;
        case 2: node.outputs.push_back(part.text()); break;
        case 3: node.name = part.text(); break;
        case 4: node.op = part.text(); break;
        default: break;
        }
    }
    return node;
}

void append(std::vector<uint8_t> *to, const void *data, size_t size)
{
    const uint8_t *bytes = static_cast<const uint8_t *>(data);
    to->insert(to->end(), bytes, bytes + size);
}

void read_weight(const Field &message, Graph *graph)
{
    Weight weight;
    std::string name;
    bool has_data = false;
    Wire parts(message);
    for (Field part; parts.next(&part);) {
        if (part.number == 1 && part.data == nullptr) {
            weight.dims.push_back(static_cast<int64_t>(part.value));
        } else if (part.number == 1) {
            for (Wire packed(part); packed.at != packed.end;) {
                weight.dims.push_back(static_cast<int64_t>(packed.varint()));
            }
        } else if (part.number == 2) {
            weight.type = type_of_onnx(part.value);
        } else if (part.number == 4 || part.number == 9) {
            append(&weight.own, part.data, part.size);
            has_data = true;
        } else if (part.number == 7) {
            Wire packed(part);
            while (part.data != nullptr && packed.at != packed.end) {
                const int64_t number = static_cast<int64_t>(packed.varint());
                append(&weight.own, &number, sizeof number);
            }
            if (part.data == nullptr) {
                append(&weight.own, &part.value, sizeof part.value);
            }
            has_data = true;
        } else if (part.number == 8) {
            name = part.text();
        }
    }
    weight.size = static_cast<size_t>(count_of(weight.dims)) * size_of_type(weight.type);
    weight.is_missing = !has_data && weight.size > 0;
    if (has_data && weight.own.size() != weight.size) {
        throw OnnxError(DESERIALIZE_FAILED, "initializer " + name + " has another size");
    }
    graph->weights[name] = weight;
}

void read_graph(const Field &message, Graph *graph)
{
    Wire parts(message);
    for (Field part; parts.next(&part);) {
        switch (part.number) {
        case 1: graph->nodes.push_back(read_node(part)); break;
        case 2: graph->name = part.text(); break;
        case 5: read_weight(part, graph); break;
        case 11: graph->inputs.push_back(read_value(part)); break;
        case 12: graph->outputs.push_back(read_value(part)); break;
        default: break;
        }
    }
}

} // namespace

void read_onnx(const void *data, size_t size, Graph *graph)
{
    Wire parts(data, size);
    for (Field part; parts.next(&part);) { /* without a graph, an empty network, as 10.6 */
        if (part.number == 7) {
            read_graph(part, graph);
        }
    }
    /* As NVIDIA's parser: an initializer is a weight, whatever else it is. */
    auto &inputs = graph->inputs;
    inputs.erase(std::remove_if(inputs.begin(), inputs.end(),
                                [&](const Value &input) { return graph->weights.count(input.name) != 0; }),
                 inputs.end());
}

/* --- shapes --- */

/* NVIDIA's own have such names. */
bool is_plugin(const std::string &op)
{
    return op.size() > 4 && op.compare(op.size() - 4, 4, "_TRT") == 0;
}

namespace {

bool is_unary(const std::string &op)
{
    return op == "Identity" || op == "Relu" || op == "Neg" || is_plugin(op);
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

void infer(Graph *graph)
{
    std::map<std::string, Shape> inputs;
    std::map<std::string, int32_t> types;
    for (Value &input : graph->inputs) {
        inputs[input.name] = input.dims;
        types[input.name] = input.type;
        for (const Node &node : graph->nodes) {
            input.on_host = input.on_host || (node.op == "Reshape" && node.inputs.size() > 1 &&
                                              node.inputs[1] == input.name);
        }
    }
    for (const auto &entry : graph->weights) {
        types[entry.first] = entry.second.type;
    }
    const std::map<std::string, Shape> shapes = shapes_of(*graph, inputs, {});
    for (const Node &node : graph->nodes) {
        const bool numbers = node.op == "NonZero" || node.op == "Shape";
        types[node.outputs[0]] = numbers ? 8 : types[node.inputs[0]];
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

/* --- plans: 32 bytes of a head, then numbers and texts --- */

namespace {

uint64_t checksum(const uint8_t *data, size_t size)
{
    uint64_t sum = 1469598103934665603U;
    for (size_t i = 0; i < size; i++) {
        sum = (sum ^ data[i]) * 1099511628211U;
    }
    return sum;
}

struct Writer {
    std::vector<uint8_t> bytes;
    void number(int64_t value) { append(&bytes, &value, sizeof value); }
    void text(const std::string &value)
    {
        number(static_cast<int64_t>(value.size()));
        append(&bytes, value.data(), value.size());
    }
    void list(const Shape &values)
    {
        number(static_cast<int64_t>(values.size()));
        append(&bytes, values.data(), values.size() * sizeof values[0]);
    }
    void texts(const std::vector<std::string> &values)
    {
        number(static_cast<int64_t>(values.size()));
        for (const std::string &value : values) {
            text(value);
        }
    }
    void values(const std::vector<Value> &all)
    {
        number(static_cast<int64_t>(all.size()));
        for (const Value &value : all) {
            text(value.name);
            number(value.type);
            list(value.dims);
            number(value.on_host);
        }
    }
};

struct Reader {
    const uint8_t *at, *end;
    const uint8_t *take(size_t size)
    {
        if (size > static_cast<size_t>(end - at)) {
            throw std::runtime_error("deserialization: the plan ends too soon");
        }
        at += size;
        return at - size;
    }
    int64_t number()
    {
        int64_t value = 0;
        std::memcpy(&value, take(sizeof value), sizeof value);
        return value;
    }
    size_t count() { return static_cast<size_t>(number()); }
    std::string text()
    {
        const size_t size = count();
        return std::string(reinterpret_cast<const char *>(take(size)), size);
    }
    Shape list()
    {
        Shape values;
        for (size_t left = count(); left > 0; left--) {
            values.push_back(number());
        }
        return values;
    }
    std::vector<std::string> texts()
    {
        std::vector<std::string> values;
        for (size_t left = count(); left > 0; left--) {
            values.push_back(text());
        }
        return values;
    }
    std::vector<Value> values()
    {
        std::vector<Value> all(count());
        for (Value &value : all) {
            value.name = text();
            value.type = static_cast<int32_t>(number());
            value.dims = list();
            value.on_host = number() != 0;
        }
        return all;
    }
};

} // namespace

std::vector<uint8_t> write_plan(const Plan &plan)
{
    Writer out;
    for (const int64_t number : {static_cast<int64_t>(plan.version), int64_t{plan.refittable},
                                 int64_t{plan.streamable}, int64_t{plan.verbosity},
                                 int64_t{plan.auxiliary}, int64_t{plan.hardware},
                                 int64_t{plan.compatible}, int64_t{plan.host_code},
                                 int64_t{plan.capability}, int64_t{plan.has_refitter}}) {
        out.number(number);
    }
    out.text(plan.graph.name);
    out.values(plan.graph.inputs);
    out.values(plan.graph.outputs);
    out.number(static_cast<int64_t>(plan.graph.nodes.size()));
    for (const Node &node : plan.graph.nodes) {
        out.text(node.name);
        out.text(node.op);
        out.texts(node.inputs);
        out.texts(node.outputs);
    }
    out.number(static_cast<int64_t>(plan.graph.weights.size()));
    for (const auto &entry : plan.graph.weights) {
        const Weight &weight = entry.second;
        out.text(entry.first);
        out.number(weight.type);
        out.list(weight.dims);
        out.number(weight.is_refittable);
        out.text(weight.is_missing ? std::string()
                                   : std::string(weight.data(), weight.data() + weight.size));
    }
    out.number(static_cast<int64_t>(plan.profiles.size()));
    for (const ProfileMap &profile : plan.profiles) {
        out.number(static_cast<int64_t>(profile.size()));
        for (const auto &entry : profile) {
            out.text(entry.first);
            for (int i = 0; i < 3; i++) {
                out.list(shape_of(entry.second.dims[i]));
                out.list(entry.second.values[i]);
            }
        }
    }
    std::vector<uint8_t> bytes(32, 0);
    std::memcpy(bytes.data(), plan.version < 20000 ? "vtrt" : "ftrt", 4);
    const uint64_t head[2] = {checksum(out.bytes.data(), out.bytes.size()), out.bytes.size()};
    std::memcpy(bytes.data() + 8, head, sizeof head);
    bytes[24] = static_cast<uint8_t>(plan.version / 10000);
    bytes[25] = static_cast<uint8_t>(plan.version / 100 % 100);
    bytes[26] = static_cast<uint8_t>(plan.version % 100);
    append(&bytes, out.bytes.data(), out.bytes.size());
    return bytes;
}

int32_t current_capability()
{
    const char *capability = std::getenv("FAKE_CUDA_CAPABILITY");
    return capability != nullptr ? std::atoi(capability) : current_device() % 2 != 0 ? 90 : 86;
}

static std::string dotted(int32_t version)
{
    return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
           std::to_string(version % 100);
}

/* Whether the plan of one version is taken by another, and by whom it is told. */
static bool is_taken(const Plan &plan, int32_t version)
{
    const bool same_major = plan.version / 10000 == version / 10000;
    return plan.version == version || (plan.compatible && same_major && plan.version < version);
}

void read_plan(const void *data, size_t size, int32_t version, bool host_code, Plan *plan)
{
    const uint8_t *bytes = static_cast<const uint8_t *>(data);
    if (size < 32 || std::memcmp(bytes, version < 20000 ? "vtrt" : "ftrt", 4) != 0) {
        throw std::runtime_error("serialization: the magic tag does not match");
    }
    uint64_t head[2];
    std::memcpy(head, bytes + 8, sizeof head);
    if (head[1] != size - 32 || head[0] != checksum(bytes + 32, size - 32)) {
        throw std::runtime_error("deserialization: the checksum does not match");
    }
    const char *capability = std::getenv("FAKE_CUDA_CAPABILITY");
    if (version < 20000 && capability != nullptr && std::strcmp(capability, "90") == 0) {
        throw std::runtime_error("the GPU has a compute capability that is not supported");
    }
    Reader in = {bytes + 32, bytes + size};
    plan->version = static_cast<int32_t>(in.number());
    plan->refittable = in.number() != 0;
    plan->streamable = in.number() != 0;
    plan->verbosity = static_cast<int32_t>(in.number());
    plan->auxiliary = static_cast<int32_t>(in.number());
    plan->hardware = static_cast<int32_t>(in.number());
    plan->compatible = in.number() != 0;
    plan->host_code = in.number() != 0;
    if (!is_taken(*plan, version)) {
        throw std::runtime_error("The engine plan file is not compatible with this version of TensorRT, "
                                 "expecting library version " + dotted(version) + " got " +
                                 dotted(plan->version) + ", please rebuild.");
    }
    plan->capability = static_cast<int32_t>(in.number());
    plan->has_refitter = in.number() != 0;
    if (version >= 20000 && plan->hardware == 0 && plan->capability != current_capability()) {
        throw std::runtime_error("The engine plan file is generated on an incompatible device, expecting compute " +
                                 std::to_string(current_capability() / 10) + "." +
                                 std::to_string(current_capability() % 10) + " got compute " +
                                 std::to_string(plan->capability / 10) + "." +
                                 std::to_string(plan->capability % 10) + ", please rebuild.");
    }
    if (plan->host_code && !host_code) {
        throw std::runtime_error("Engine has host code, which is not allowed by the runtime");
    }
    plan->graph.name = in.text();
    plan->graph.inputs = in.values();
    plan->graph.outputs = in.values();
    plan->graph.nodes.resize(in.count());
    for (Node &node : plan->graph.nodes) {
        node.name = in.text();
        node.op = in.text();
        node.inputs = in.texts();
        node.outputs = in.texts();
    }
    for (size_t left = in.count(); left > 0; left--) {
        Weight &weight = plan->graph.weights[in.text()];
        weight.type = static_cast<int32_t>(in.number());
        weight.dims = in.list();
        weight.is_refittable = in.number() != 0;
        weight.size = static_cast<size_t>(count_of(weight.dims)) * size_of_type(weight.type);
        const std::string content = in.text();
        weight.own.assign(content.begin(), content.end());
        weight.is_missing = weight.own.size() != weight.size; /* then it is read as zeros */
        weight.own.resize(weight.size);
    }
    plan->profiles.resize(in.count());
    for (ProfileMap &profile : plan->profiles) {
        for (size_t left = in.count(); left > 0; left--) {
            ProfileShapes &shapes = profile[in.text()];
            for (int i = 0; i < 3; i++) {
                shapes.dims[i] = dims_of(in.list());
                shapes.values[i] = in.list();
            }
        }
    }
}
