/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/tensorrt/trt_library.h"
#include "backends/tensorrt/trt_plan.h"

static kiln_status open_registry(const char *requested, trt_library **library,
                                 trt_PluginRegistry **registry)
{
    KLN_RETURN_IF_ERROR(trt_library_open(requested, library));
    KLN_RETURN_IF_ERROR(trt_library_need_plugins(*library));
    *registry =
        (*library)->core.getPluginRegistry != NULL ? (*library)->core.getPluginRegistry() : NULL;
    KLN_RETURN_IF(trt_is_null(*registry), KILN_ERROR_UNSUPPORTED, "%s has no registry of plugins",
                  (*library)->name);
    return KILN_OK;
}

kiln_status trt_plugin_load(const char *requested, const char *path)
{
    trt_library *library = NULL;
    trt_PluginRegistry *registry = NULL;
    KLN_RETURN_IF_ERROR(open_registry(requested, &library, &registry));
    trt_logged_clear();
    KLN_FAIL_IF(
        trt_is_null(trt_PluginRegistry_loadLibrary(&library->abi, registry, path)),
        trt_fail(KILN_ERROR_LIBRARY_BROKEN, NULL, "plugins: \"%s\" cannot be loaded", path));
    return KILN_OK;
}

static kiln_status list(const char *requested, trt_library **library,
                        trt_PluginCreatorInterface *const **creators, size_t *count)
{
    trt_PluginRegistry *registry = NULL;
    int32_t found = 0;
    KLN_RETURN_IF_ERROR(open_registry(requested, library, &registry));
    *creators = trt_PluginRegistry_getAllCreators(&(*library)->abi, registry, &found);
    *count = found > 0 && !trt_is_null(*creators) ? (size_t)found : 0;
    return KILN_OK;
}

kiln_status trt_plugin_count(const char *requested, size_t *count)
{
    trt_library *library = NULL;
    trt_PluginCreatorInterface *const *creators = NULL;
    return list(requested, &library, &creators, count);
}

/* V1 creators have their methods in other vtable slots than later ones. */
kiln_status trt_plugin_get(const char *requested, size_t index, kiln_plugin *plugin)
{
    trt_library *library = NULL;
    trt_PluginCreatorInterface *const *creators = NULL;
    size_t count = 0;
    KLN_RETURN_IF_ERROR(list(requested, &library, &creators, &count));
    KLN_RETURN_IF(index >= count, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_plugin_get: plugin %zu was asked for, there are %zu", index, count);
    const trt_abi *abi = &library->abi;
    union {
        trt_PluginCreatorInterface *any;
        trt_PluginCreator *v1;
        trt_PluginCreatorV3One *v3;
    } creator = {.any = creators[index]};
    const trt_InterfaceInfo info = trt_PluginCreatorInterface_getInterfaceInfo(abi, creator.any);
    plugin->interface_kind = info.kind != NULL ? info.kind : "";
    if (strcmp(plugin->interface_kind, "PLUGIN CREATOR_V1") == 0) {
        plugin->name = trt_PluginCreator_getPluginName(abi, creator.v1);
        plugin->version = trt_PluginCreator_getPluginVersion(abi, creator.v1);
        plugin->name_space = trt_PluginCreator_getPluginNamespace(abi, creator.v1);
    } else {
        plugin->name = trt_PluginCreatorV3One_getPluginName(abi, creator.v3);
        plugin->version = trt_PluginCreatorV3One_getPluginVersion(abi, creator.v3);
        plugin->name_space = trt_PluginCreatorV3One_getPluginNamespace(abi, creator.v3);
    }
    plugin->name = plugin->name != NULL ? plugin->name : "";
    plugin->version = plugin->version != NULL ? plugin->version : "";
    plugin->name_space = plugin->name_space != NULL ? plugin->name_space : "";
    return KILN_OK;
}
