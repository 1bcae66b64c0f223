/* SPDX-License-Identifier: Apache-2.0 */
/* What the stand-in reads of ONNX. */
#include "fake_tensorrt.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

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
                                                      {22, 9},
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

void read_attribute(const Field &message, Node *node)
{
    bool is_to = false;
    Wire parts(message);
    for (Field part; parts.next(&part);) {
        is_to = is_to || (part.number == 1 && part.text() == "to");
        if (part.number == 3 && is_to) {
            node->to = type_of_onnx(part.value);
        }
    }
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
        case 5: read_attribute(part, &node); break;
        default: break;
        }
    }
    return node;
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
    const size_t count = static_cast<size_t>(count_of(weight.dims));
    weight.size = weight.type == 9 ? (count + 1) / 2 : count * size_of_type(weight.type); /* int4 */
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
