/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_tensorrt.hpp"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <mutex>
#include <unistd.h>

#include "fake_tensorrt_classes.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

/* --- counting, and faults --- */

static std::atomic<long> calls, strays, live, fail_at;
static std::atomic<uintptr_t> null_value;
std::atomic<long> fake_compilations;
long fake_streamed;
std::atomic<long> fake_builders, fake_loads, fake_measured;

void stray(const char *type, const char *method, int slot)
{
    strays++;
    (void)std::fprintf(stderr, "fake TensorRT: %s.%s (%d) is not played\n", type, method, slot);
}

void check_entry(Base *body, const char *type, const char *method, int since)
{
    calls++;
    if (since > body->version) {
        strays++;
        (void)std::fprintf(stderr, "fake TensorRT %d: %s.%s came with %d\n", body->version, type,
                           method, since);
    }
}

/* What only asks for something that is there cannot fail. */
static bool is_question(const std::string &method)
{
    return (method.compare(0, 3, "get") == 0 && method.find("Information") == std::string::npos) ||
           method.compare(0, 2, "is") == 0 || method == "data";
}

bool is_fault(Base *body, const char *type, const char *method)
{
    if (is_question(method)) {
        return false;
    }
    if (fail_at.load() <= 0 || --fail_at != 0) {
        return false;
    }
    return !body->fail(INVALID_STATE, std::string("a fault at ") + type + "." + method);
}

uintptr_t fault_null()
{
    return null_value.load();
}

void dropped(Base *body)
{
    if (body->is_called_itself) {
        delete body;
    }
}

EXPORT long fake_tensorrt_number(const char *what)
{
    const std::string word = what;
    return word == "calls" ? calls.load() : word == "stray" ? strays.load()
         : word == "live" ? live.load() : word == "fault" ? fail_at.load()
         : word == "streamed" ? fake_streamed : word == "loads" ? fake_loads.load()
         : word == "measured" ? fake_measured.load() : fake_compilations.load();
}

EXPORT void fake_tensorrt_fail(long call, long null)
{
    fail_at = call;
    null_value = static_cast<uintptr_t>(null);
}

/* --- versions --- */

int layout_of(int32_t version)
{
    return version >= 100000 && version < 101700   ? 0
           : version >= 110000 && version < 110500 ? 1
           : version >= 10300 && version < 10500   ? 2
           : version >= 10500 && version < 10800   ? 3
                                                   : -1;
}

static int32_t version_of_word(const std::string &word)
{
    return word == "11"      ? 110400
           : word == "rtx14" ? 10400
           : word == "rtx15" ? 10701
           : word == "10"    ? 101601
                             : std::atoi(word.c_str());
}

int32_t played_version()
{
    const char *wanted = std::getenv("KILN_FAKE_TENSORRT");
    if (wanted != nullptr && wanted[0] != '\0') {
        return version_of_word(wanted);
    }
    Dl_info info;
    if (dladdr(reinterpret_cast<void *>(&played_version), &info) == 0) {
        return 0;
    }
    const std::string path = info.dli_fname;
    const std::string file = path.substr(path.rfind('/') + 1);
    const std::string folder = path.substr(0, path.rfind('/'));
    const int32_t version = version_of_word(folder.substr(folder.rfind('/') + 1));
    if (version != 0) {
        return version;
    }
    /* In a folder of another name, as where pip puts it, the file says it. */
    return version_of_word(file == "libtensorrt_rtx.so.1" ? "rtx15"
                                                          : file.substr(file.rfind('.') + 1));
}

/* --- objects --- */

Base::Base(const Base *parent)
{
    live++;
    if (parent != nullptr) {
        version = parent->version;
        layout = parent->layout;
        logger = parent->logger;
        recorder = parent->recorder;
    }
}

Base::~Base()
{
    live--;
    setErrorRecorder(nullptr);
}

void Base::setErrorRecorder(void *given)
{
    if (has_own_recorder) {
        IErrorRecorder_decRefCount(layout, recorder);
    }
    recorder = given;
    has_own_recorder = given != nullptr;
    if (given != nullptr) {
        IErrorRecorder_incRefCount(layout, given);
    }
}

void Base::log(int32_t severity, const std::string &text)
{
    if (logger != nullptr) {
        ILogger_log(layout, logger, severity, text.c_str());
    }
}

bool Base::fail(int32_t code, const std::string &text)
{
    const std::string said = code == FAILED_ALLOCATION ? "Error Code 2: OutOfMemory (" + text + ")" : text;
    if (recorder != nullptr) {
        IErrorRecorder_reportError(layout, recorder, code == FAILED_ALLOCATION ? INTERNAL : code, said.c_str());
    } else {
        log(1, said);
    }
    return false;
}

namespace {
struct OwningHandle : Handle {
    void (*drop)(void *);
};
} // namespace

Handle::~Handle()
{
    OwningHandle *self = static_cast<OwningHandle *>(this);
    self->drop(implementation);
    delete body;
}

void *wrap(Base *body, void *implementation, void (*drop)(void *))
{
    OwningHandle *handle = new OwningHandle;
    handle->implementation = implementation;
    handle->body = body;
    handle->drop = drop;
    body->handle = handle;
    return handle;
}

/* --- plugins --- */

namespace {

struct CreatorBody : Base {
    CreatorBody(const Base *parent, const char *plugin, bool is_v3)
        : Base(parent), name(plugin), v3(is_v3)
    {
        live--; /* these stay */
    }
    const char *name;
    bool v3;
    int32_t getAPILanguage() { return 0; }
    InterfaceInfo getInterfaceInfo()
    {
        return v3 ? InterfaceInfo{"PLUGIN CREATOR_V3ONE", 1, 0} : InterfaceInfo{"PLUGIN CREATOR_V1", 1, 0};
    }
    const char *getPluginName() { return name; }
    const char *getPluginVersion() { return v3 ? "2" : "1"; }
    const char *getPluginNamespace() { return v3 ? "kiln" : ""; }
};

struct RegistryBody : Base {
    RegistryBody() : Base(nullptr) { live--; }
    std::vector<void *> creators;
    std::vector<void *> libraries;
    std::vector<std::string> names; /* of the layers that the parser may make */

    void add(const char *name, bool v3)
    {
        CreatorBody *creator = new CreatorBody(this, name, v3);
        names.push_back(name);
        creators.push_back(v3 ? make_IPluginCreatorV3One(layout, creator)
                              : make_IPluginCreator(layout, creator));
    }
    void **getAllCreators(int32_t *count)
    {
        *count = static_cast<int32_t>(creators.size());
        return creators.data();
    }
    void **getAllCreatorsRecursive(int32_t *count) { return getAllCreators(count); }
    void *loadLibrary(const char *path)
    {
        if (path == nullptr || access(path, R_OK) != 0) {
            fail(INVALID_ARGUMENT, std::string("cannot open plugin library ") + (path ? path : "(null)"));
            return nullptr;
        }
        add("loaded", true);
        libraries.push_back(creators.back());
        return libraries.back();
    }
    void deregisterLibrary(void *) { creators.pop_back(); }
    bool isParentSearchEnabled() { return true; }
    void setParentSearchEnabled(bool) {}
};

struct Registries {
    RegistryBody bodies[4];
    void *objects[4];
    Registries()
    {
        for (int layout = 0; layout < 4; layout++) {
            static const int32_t newest[] = {101601, 110400, 10400, 10701};
            bodies[layout].layout = layout;
            bodies[layout].version = newest[layout];
            objects[layout] = make_IPluginRegistry(layout, &bodies[layout]);
        }
    }
};

Registries &registries()
{
    static Registries *made = new Registries;
    return *made;
}

} // namespace

void *registry_of(int32_t version)
{
    return registries().objects[layout_of(version)];
}

bool register_own_plugins(int32_t version)
{
    RegistryBody &body = registries().bodies[layout_of(version)];
    if (body.creators.empty()) {
        body.add("BatchedNMS_TRT", false);
        body.add("ScatterElements", true);
        body.add("LReLU_TRT", false);
    }
    return true;
}

bool lacks_plugin(const Graph &graph, int32_t version, std::string *name)
{
    const std::vector<std::string> &known = registries().bodies[layout_of(version)].names;
    for (const Node &node : graph.nodes) {
        if (is_plugin(node.op) && std::find(known.begin(), known.end(), node.op) == known.end()) {
            *name = node.op;
            return true;
        }
    }
    return false;
}

/* --- what the libraries export --- */

static std::mutex lock;

static bool is_asked_right(void *logger, int32_t version)
{
    return logger != nullptr && layout_of(version) >= 0;
}

template <class F> static void *made(F make)
{
    calls++;
    if (fail_at.load() > 0 && --fail_at == 0) {
        return reinterpret_cast<void *>(fault_null());
    }
    const std::lock_guard<std::mutex> guard(lock);
    return make();
}

EXPORT int32_t getInferLibVersion()
{
    return played_version();
}

EXPORT int32_t getNvOnnxParserVersion()
{
    return 1016;
}

EXPORT void *createInferBuilder_INTERNAL(void *logger, int32_t version)
{
    return is_asked_right(logger, version) ? made([&] { return make_builder(logger, version); }) : nullptr;
}

EXPORT void *createInferRuntime_INTERNAL(void *logger, int32_t version)
{
    return is_asked_right(logger, version) ? made([&] { return make_runtime(logger, version); }) : nullptr;
}

EXPORT void *createInferRefitter_INTERNAL(void *engine, void *logger, int32_t version)
{
    return is_asked_right(logger, version) ? made([&] { return make_refitter(engine, logger); }) : nullptr;
}

EXPORT void *createNvOnnxParser_INTERNAL(void *network, void *logger, int32_t)
{
    return logger != nullptr ? made([&] { return make_parser(network, logger); }) : nullptr;
}

EXPORT void *createNvOnnxParserRefitter_INTERNAL(void *refitter, void *logger, int32_t)
{
    return logger != nullptr ? made([&] { return make_parser_refitter(refitter, logger); }) : nullptr;
}

EXPORT void *getPluginRegistry()
{
    return registry_of(played_version());
}

EXPORT bool initLibNvInferPlugins(void *, const char *)
{
    return register_own_plugins(played_version());
}
