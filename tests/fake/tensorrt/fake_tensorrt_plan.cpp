/* SPDX-License-Identifier: Apache-2.0 */
/* Plans of the stand-in: 32 bytes of a head, then numbers and texts. */
#include "fake_tensorrt.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

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
        out.number(node.to);
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
        node.to = static_cast<int32_t>(in.number());
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
