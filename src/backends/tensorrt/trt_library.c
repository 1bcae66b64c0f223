/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/tensorrt/trt_library.h"

#include <stdio.h>

#include "backends/tensorrt/trt_device.h"

static bool accept(const void *table, char version[KLN_LIBRARY_VERSION],
                   char reason[KLN_LIBRARY_REASON])
{
    const int32_t number = ((const trt_core *)table)->getInferLibVersion();
    /* RTX versions begin at 1 and TensorRT's at 10, so the numbers do not overlap. */
    const bool is_rtx = number < 20000;
    trt_abi abi;
    char text[32];
    trt_version_text(is_rtx, number, text);
    (void)snprintf(version, KLN_LIBRARY_VERSION, "%s", strchr(text, ' ') + 1);
    const bool known = trt_abi_resolve(is_rtx, number, &abi) == KILN_OK;
    if (!known) {
        (void)snprintf(reason, KLN_LIBRARY_REASON, "%s", kiln_error_message());
    }
    return known;
}

#define SYMBOL(type, name, feature)          \
    {                                        \
#name, offsetof(type, name), feature \
    }
static const kln_symbol core_symbols[] = {SYMBOL(trt_core, getInferLibVersion, NULL),
                                          SYMBOL(trt_core, createInferRuntime_INTERNAL, NULL),
                                          SYMBOL(trt_core, createInferRefitter_INTERNAL, "refit"),
                                          SYMBOL(trt_core, getPluginRegistry, "plugins"),
                                          SYMBOL(trt_core, createInferBuilder_INTERNAL, "building"),
                                          {NULL, 0, NULL}};
static const kln_symbol parser_symbols[] = {
    SYMBOL(trt_parser_functions, getNvOnnxParserVersion, NULL),
    SYMBOL(trt_parser_functions, createNvOnnxParser_INTERNAL, NULL),
    SYMBOL(trt_parser_functions, createNvOnnxParserRefitter_INTERNAL, "refit from ONNX"),
    {NULL, 0, NULL}};
static const kln_symbol plugin_symbols[] = {
    SYMBOL(trt_plugin_functions, initLibNvInferPlugins, NULL), {NULL, 0, NULL}};

static const char *const files_11[] = {"libnvinfer.so.11*", NULL};
static const char *const files_10[] = {"libnvinfer.so.10*", NULL};
static const char *const files_rtx[] = {"libtensorrt_rtx.so.1*", "libtensorrt_rtx.so", NULL};
static const char *const files_lean_11[] = {"libnvinfer_lean.so.11*", NULL};
static const char *const files_lean_10[] = {"libnvinfer_lean.so.10*", NULL};
static const char *const files_any[] = {
    "libnvinfer.so.11*",      "libnvinfer.so.10*",      "libnvinfer.so.*",
    "libtensorrt_rtx.so.1*",  "libtensorrt_rtx.so.*",   "libtensorrt_rtx.so",
    "libnvinfer_lean.so.11*", "libnvinfer_lean.so.10*", NULL};
static const char *const packages[] = {"tensorrt_libs", "tensorrt_cu*_libs", NULL};
static const char *const packages_rtx[] = {"tensorrt_rtx_libs", NULL};
static const char *const packages_lean[] = {"tensorrt_lean_libs", NULL};
static const char *const folders[] = {"/usr/lib/x86_64-linux-gnu",
                                      "/usr/lib64",
                                      "/usr/local/lib",
                                      "/usr/local/tensorrt/lib",
                                      "/usr/local/TensorRT-*/lib",
                                      "/opt/tensorrt/lib",
                                      "/opt/TensorRT-*/lib",
                                      "/opt/TensorRT-RTX-*/lib",
                                      NULL};

#define SPEC(title, what, names, where, tip)                                         \
    {                                                                                \
        .name = (title), .purpose = (what), .files = (names), .packages = (where),   \
        .folders = folders, .symbols = core_symbols, .table_size = sizeof(trt_core), \
        .advice = (tip), .accept = accept                                            \
    }
#define OR_SET "; or set " TRT_ENVIRONMENT " to the library or its folder"

/* In order of preference on a machine with a GPU. */
static const struct family {
    const char *word;
    bool is_rtx;
    kln_library_spec spec;
} families[] = {
    {"11", false,
     SPEC("TensorRT 11", "builds and runs plans", files_11, packages,
          "pip install tensorrt-cu13 (11.0 to 11.4)" OR_SET)},
    {"10", false,
     SPEC("TensorRT 10", "builds and runs plans", files_10, packages,
          "pip install tensorrt-cu12 (10.0 to 10.16)" OR_SET)},
    {"rtx", true,
     SPEC("TensorRT-RTX", "builds plans, without a GPU too, and runs them on GeForce and RTX GPUs",
          files_rtx, packages_rtx, "pip install tensorrt-rtx-cu13 (1.3 to 1.7)" OR_SET)},
    {"lean11", false,
     SPEC("TensorRT 11 lean runtime", "runs version-compatible plans", files_lean_11, packages_lean,
          "pip install tensorrt-lean-cu13" OR_SET)},
    {"lean10", false,
     SPEC("TensorRT 10 lean runtime", "runs version-compatible plans", files_lean_10, packages_lean,
          "pip install tensorrt-lean-cu12" OR_SET)},
};

static const kln_library_spec any_spec =
    SPEC("TensorRT", "builds and runs plans", files_any, packages, "pip install tensorrt" OR_SET);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static trt_library *libraries;

/* --- opening --- */

static kiln_status open_spec(trt_library *library, const kln_library_spec *spec, const char *path)
{
    kln_library *record = NULL;
    const char *origin =
        library->is_in_environment ? TRT_ENVIRONMENT : "kiln_build_options.library";
    const kiln_status status =
        kln_library_open_for(spec, path, origin, true, &library->core, &record);
    if (status == KILN_ERROR_OUT_OF_MEMORY) {
        kln_library_forget(record);
        return status;
    }
    /* The error of a broken file is more useful than that of a missing one. */
    const bool says_more =
        library->record == NULL || status == KILN_OK ||
        (library->status == KILN_ERROR_LIBRARY_ABSENT && status != KILN_ERROR_LIBRARY_ABSENT);
    if (!says_more) {
        kln_library_close(record);
        return KILN_OK;
    }
    kln_library_close(library->record);
    library->record = record;
    library->spec = spec;
    library->status = status;
    (void)snprintf(library->reason, sizeof library->reason, "%s",
                   status == KILN_OK ? "" : kiln_error_message());
    return KILN_OK;
}

/* Whether a family is preferred on this machine: it runs plans here, or without a usable GPU at
 * least builds them. */
static bool is_fit(const struct family *family)
{
    if (trt_device_count(NULL) == 0) {
        return family->is_rtx;
    }
    return !family->is_rtx || trt_rtx_runs_on(trt_device_capability(0));
}

static kiln_status search(trt_library *library)
{
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < KLN_ARRAY_LENGTH(families); i++) {
            if ((pass == 0) == is_fit(&families[i])) {
                KLN_RETURN_IF_ERROR(open_spec(library, &families[i].spec, NULL));
                if (library->status == KILN_OK) {
                    return KILN_OK;
                }
            }
        }
    }
    if (library->status == KILN_ERROR_LIBRARY_ABSENT) {
        (void)snprintf(library->reason, sizeof library->reason,
                       "none of TensorRT 10, TensorRT 11 and TensorRT-RTX is installed; pip "
                       "install tensorrt-rtx-cu13 or tensorrt-cu13" OR_SET);
    }
    return KILN_OK;
}

static kiln_status look(trt_library *library, const char *requested)
{
    if (requested[0] == '\0') {
        KLN_RETURN_IF_ERROR(search(library));
    } else {
        const kln_library_spec *spec = &any_spec;
        const char *path = requested;
        for (size_t i = 0; i < KLN_ARRAY_LENGTH(families); i++) {
            if (strcmp(families[i].word, requested) == 0) {
                spec = &families[i].spec;
                path = NULL;
            }
        }
        KLN_RETURN_IF_ERROR(open_spec(library, spec, path));
    }
    if (library->status != KILN_OK) {
        return KILN_OK;
    }
    const int32_t version = library->core.getInferLibVersion();
    KLN_RETURN_IF_ERROR(trt_abi_resolve(version < 20000, version, &library->abi));
    trt_version_text(library->abi.is_rtx, version, library->name);
    trt_tables_init(&library->tables, &library->abi);
    trt_logger_init(&library->logger, &library->tables);
    return KILN_OK;
}

static kiln_status add(const char *requested, bool is_in_environment, trt_library **added)
{
    const size_t size = strlen(requested) + 1;
    trt_library *library = kln_alloc_zeroed(1, sizeof *library + size);
    KLN_RETURN_IF_NO_MEMORY(library, sizeof *library + size, "a record of TensorRT");
    char *copy = (char *)(library + 1);
    memcpy(copy, requested, size);
    library->requested = copy;
    library->is_in_environment = is_in_environment;
    const kiln_status status = look(library, requested);
    if (status != KILN_OK) {
        kln_library_close(library->record);
        kln_free(library);
        return status;
    }
    library->next = libraries;
    libraries = library;
    *added = library;
    return KILN_OK;
}

kiln_status trt_library_find(const char *requested, trt_library **library)
{
    *library = NULL;
    const char *variable = kln_getenv(TRT_ENVIRONMENT);
    const bool is_asked = requested != NULL && requested[0] != '\0';
    const char *key = is_asked ? requested : variable != NULL ? variable : "";
    char absolute[PATH_MAX];
    if (kln_is_path(key)) {
        KLN_RETURN_IF_ERROR(kln_path_absolute(key, absolute));
        key = absolute;
    }
    KLN_LOCKED(&lock);
    for (trt_library *known = libraries; known != NULL && *library == NULL; known = known->next) {
        *library = strcmp(known->requested, key) == 0 ? known : NULL;
    }
    kiln_status status = KILN_OK;
    if (*library == NULL) {
        kln_lasting_begin();
        status = add(key, !is_asked, library);
        kln_lasting_end();
    }
    return status;
}

kiln_status trt_library_open(const char *requested, trt_library **library)
{
    KLN_RETURN_IF_ERROR(trt_library_find(requested, library));
    KLN_RETURN_IF((*library)->status != KILN_OK, (*library)->status, "%s", (*library)->reason);
    return KILN_OK;
}

bool trt_library_runs(trt_library *library, int32_t device, const char **reason)
{
    const char *why_none = "";
    bool runs = trt_device_count(&why_none) > 0;
    const int32_t capability = runs ? trt_device_capability(device) : 0;
    if (runs && library->abi.is_rtx && capability > 0 && !trt_rtx_runs_on(capability)) {
        runs = false;
        why_none = library->no_device;
        (void)pthread_mutex_lock(&lock);
        if (library->no_device[0] == '\0') {
            (void)snprintf(library->no_device, sizeof library->no_device,
                           "the GPU here has compute capability %d.%d, and TensorRT-RTX runs "
                           "on " TRT_RTX_CAPABILITIES,
                           capability / 10, capability % 10);
        }
        (void)pthread_mutex_unlock(&lock);
    }
    if (reason != NULL) {
        *reason = why_none;
    }
    return runs;
}

/* --- companion libraries --- */

static const char *const files_parser_rtx[] = {"libtensorrt_onnxparser_rtx.so.1*",
                                               "libtensorrt_onnxparser_rtx.so", NULL};
static const char *const files_parser_11[] = {"libnvonnxparser.so.11*", NULL};
static const char *const files_parser_10[] = {"libnvonnxparser.so.10*", NULL};
static const char *const files_plugin_11[] = {"libnvinfer_plugin.so.11*", NULL};
static const char *const files_plugin_10[] = {"libnvinfer_plugin.so.10*", NULL};

#define PARSER(title, names, where)                                                                \
    {                                                                                              \
        .name = (title), .purpose = "reads ONNX models for TensorRT",                              \
        .environment = "KILN_TENSORRT_PARSER", .files = (names), .packages = (where),              \
        .folders = folders, .symbols = parser_symbols, .table_size = sizeof(trt_parser_functions), \
        .advice = "it belongs beside TensorRT itself; or set KILN_TENSORRT_PARSER to it"           \
    }
#define PLUGIN(title, names)                                                                       \
    {                                                                                              \
        .name = (title), .purpose = "TensorRT's own plugin layers",                                \
        .environment = "KILN_TENSORRT_PLUGIN", .files = (names), .packages = packages,             \
        .folders = folders, .symbols = plugin_symbols, .table_size = sizeof(trt_plugin_functions), \
        .advice = "it belongs beside TensorRT itself; or set KILN_TENSORRT_PLUGIN to it"           \
    }

static const kln_library_spec parser_specs[TRT_LAYOUT_COUNT] = {
    PARSER("TensorRT 10's ONNX parser", files_parser_10, packages),
    PARSER("TensorRT 11's ONNX parser", files_parser_11, packages),
    PARSER("TensorRT-RTX's ONNX parser", files_parser_rtx, packages_rtx),
    PARSER("TensorRT-RTX's ONNX parser", files_parser_rtx, packages_rtx)};
static const kln_library_spec plugin_specs[TRT_LAYOUT_COUNT] = {
    PLUGIN("TensorRT 10's plugins", files_plugin_10),
    PLUGIN("TensorRT 11's plugins", files_plugin_11),
    {.name = NULL},
    {.name = NULL}};

/* Opens a companion library from the core's folder, unless the environment names one. No other
 * folder is searched: the parser calls the core through the vtable slots of one version, and its
 * own version number does not tell which. */
static kiln_status open_beside(const trt_library *library, const kln_library_spec *spec,
                               void *table, kln_library **record)
{
    if (kln_getenv(spec->environment) != NULL) {
        return kln_library_open(spec, NULL, table, record);
    }
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s", kln_library_path(library->record));
    char *slash = strrchr(folder, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    return kln_library_open_for(spec, folder, library->name, false, table, record);
}

/* Searches once, and again only if memory ran out. Called with the lock held. */
static kiln_status seek(const trt_library *library, const kln_library_spec *spec, void *table,
                        trt_beside *found)
{
    if (found->sought) {
        return KILN_OK;
    }
    kln_lasting_begin();
    const kiln_status status = open_beside(library, spec, table, &found->record);
    kln_lasting_end();
    if (status == KILN_ERROR_OUT_OF_MEMORY) {
        kln_library_forget(found->record);
        found->record = NULL;
        return status;
    }
    found->sought = true;
    found->status = status;
    (void)snprintf(found->reason, sizeof found->reason, "%s",
                   status == KILN_OK ? "" : kiln_error_message());
    return KILN_OK;
}

static kiln_status tell(const trt_beside *found)
{
    return found->status == KILN_OK ? KILN_OK : kln_fail(found->status, "%s", found->reason);
}

kiln_status trt_library_need_parser(trt_library *library)
{
    KLN_LOCKED(&lock);
    KLN_RETURN_IF_ERROR(seek(library, &parser_specs[library->abi.layout], &library->parser,
                             &library->parser_found));
    return tell(&library->parser_found);
}

/* A separate step, because a query that only lists libraries should not wait for the registration.
 * Called with the lock held. */
static void register_plugins(trt_library *library)
{
    trt_logged_clear();
    library->plugins_registered = true;
    if (!library->plugin.initLibNvInferPlugins(&library->logger, "")) {
        trt_beside *found = &library->plugin_found;
        found->status =
            trt_fail(KILN_ERROR_BACKEND, NULL, "TensorRT's own plugins cannot be registered");
        (void)snprintf(found->reason, sizeof found->reason, "%s", kiln_error_message());
    }
}

static kiln_status look_for_plugins(trt_library *library, bool use)
{
    KLN_RETURN_IF(library->abi.is_rtx, KILN_ERROR_UNSUPPORTED, "%s has no plugin layers",
                  library->name);
    KLN_LOCKED(&lock);
    KLN_RETURN_IF_ERROR(seek(library, &plugin_specs[library->abi.layout], &library->plugin,
                             &library->plugin_found));
    if (use && library->plugin_found.status == KILN_OK && !library->plugins_registered) {
        kln_lasting_begin();
        register_plugins(library);
        kln_lasting_end();
    }
    return tell(&library->plugin_found);
}

kiln_status trt_library_need_plugins(trt_library *library)
{
    return look_for_plugins(library, true);
}

kiln_status trt_library_offer_plugins(trt_library *library)
{
    /* The plugins beside a lean runtime belong to the full library and would open it. */
    if (library->abi.is_rtx || library->core.createInferBuilder_INTERNAL == NULL) {
        return KILN_OK;
    }
    const kiln_status status = look_for_plugins(library, true);
    if (status != KILN_OK) {
        const char *variable = plugin_specs[library->abi.layout].environment;
        kln_log(kln_getenv(variable) != NULL ? KILN_LOG_WARNING : KILN_LOG_DEBUG, "tensorrt",
                "without its own plugins: %s", kiln_error_message());
    }
    return status == KILN_ERROR_OUT_OF_MEMORY ? status : KILN_OK;
}

/* Lists the library that the environment names, or else each family; then, for the library in use,
 * its parser, which builds need, and its plugins. */
bool trt_library_use(size_t index, kln_library_use *use)
{
    const bool is_named = kln_getenv(TRT_ENVIRONMENT) != NULL;
    const size_t count = is_named ? 1 : KLN_ARRAY_LENGTH(families);
    trt_library *library = NULL;
    if (index > count + 1 ||
        trt_library_find(is_named || index >= count ? NULL : families[index].word, &library) !=
            KILN_OK) {
        return false;
    }
    if (index < count) {
        *use = (kln_library_use){.spec = is_named ? library->spec : &families[index].spec,
                                 .library = library->record,
                                 .version = kln_library_version(library->record)};
        return true;
    }
    if (library->status != KILN_OK || library->core.createInferBuilder_INTERNAL == NULL ||
        (index > count && library->abi.is_rtx)) {
        return false;
    }
    const trt_layout layout = library->abi.layout;
    const kiln_status status =
        index == count ? trt_library_need_parser(library) : look_for_plugins(library, false);
    *use = (kln_library_use){
        .spec = index == count ? &parser_specs[layout] : &plugin_specs[layout],
        .library = index == count ? library->parser_found.record : library->plugin_found.record,
        .version = ""};
    return status != KILN_ERROR_OUT_OF_MEMORY;
}

/* --- missing features --- */

kiln_status trt_library_need_builder(trt_library *library)
{
    KLN_RETURN_IF(library->core.createInferBuilder_INTERNAL == NULL, KILN_ERROR_UNSUPPORTED,
                  "%s at \"%s\" is a lean runtime: it runs plans and builds none; install TensorRT "
                  "or TensorRT-RTX to build",
                  library->name, kln_library_path(library->record));
    return KILN_OK;
}

static kiln_status fail_need(const trt_library *library, const char *what, const char *needed,
                             const char *where)
{
    return kln_fail(
        KILN_ERROR_UNSUPPORTED,
        "%s: it needs %s, which %s does not have; leave it out, or use one that has: %s", what,
        needed, library->name, where);
}

kiln_status trt_need(const trt_library *library, trt_method method, const char *what)
{
    char where[TRT_WHERE_TEXT];
    if (trt_has(&library->abi, method)) {
        return KILN_OK;
    }
    trt_method_where(method, where);
    return fail_need(library, what, trt_method_name(method), where);
}

kiln_status trt_need_value(const trt_library *library, trt_enumerator enumerator, const char *what)
{
    char where[TRT_WHERE_TEXT];
    if (trt_value(&library->abi, enumerator) >= 0) {
        return KILN_OK;
    }
    trt_enumerator_where(enumerator, where);
    return fail_need(library, what, trt_enumerator_name(enumerator), where);
}
