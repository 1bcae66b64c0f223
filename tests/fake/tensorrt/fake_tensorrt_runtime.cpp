/* SPDX-License-Identifier: Apache-2.0 */
/* Runtimes of the stand-in: plans that become engines. */
#include "fake_tensorrt_engine.hpp"

#include <cstring>

namespace {

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
