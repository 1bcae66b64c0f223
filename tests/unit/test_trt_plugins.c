/* SPDX-License-Identifier: Apache-2.0 */
/* Plugins beside the core, in a process where nothing has registered them yet. */
#include <sys/types.h>
#include <sys/wait.h>

#include "fake_tensorrt_test.h"
#include "graph_maker.h"
#include "kiln_test.h"

static void check_leaky(kiln_engine *engine)
{
    float values[2] = {-100, 3};
    owned_context context = context_on(engine);
    const kiln_tensor y = run_floats(context, KILN_SHAPE(2), values);
    assert_int_equal(((const float *)y.data)[0], -1);
    assert_int_equal(((const float *)y.data)[1], 3);
    kiln_engine_release(engine);
}

static const char *absent_plan(size_t layout)
{
    char name[32];
    (void)snprintf(name, sizeof name, "plugin%zu.plan", layout);
    return kiln_test_path(name);
}

/* Where nobody in this process has registered them yet. */
static void check_absent(size_t layout)
{
    char folder[512]; /* another way to ask, so that what is found here is not remembered */
    kiln_build_options options = fake_options(layout);
    kiln_engine *engine = NULL;
    (void)snprintf(folder, sizeof folder, "%s/././", options.library);
    options.library = folder;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_load(absent_plan(layout), &options, &engine),
                 "layers of a plugin that is not loaded", "Cannot find plugin: LReLU_TRT",
                 "/no/such/plugins");
    assert_fails(KILN_ERROR_UNSUPPORTED,
                 kiln_engine_build_bytes(unary_model("LReLU_TRT", "2"), &options, &engine),
                 "Plugin not found", "/no/such/plugins");
    /* A model without such layers is none the worse for it. */
    assert_ok(kiln_engine_build_bytes(unary_model("Relu", "2,3"), &options, &engine));
    kiln_engine_release(engine);
    (void)kiln_build_release_builders();
}

/* A plan with such a layer, from a process of its own, so that it is not registered in this one. */
static void make_plan_elsewhere(size_t layout)
{
    const char *path = absent_plan(layout);
    (void)fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        const kiln_build_options options = fake_options(layout);
        const kiln_span model = unary_model("LReLU_TRT", "2");
        kiln_engine *engine = NULL;
        const bool made = kiln_engine_build_bytes(model, &options, &engine) == KILN_OK &&
                          kiln_engine_save(engine, path) == KILN_OK;
        _exit(made ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

STAND_IN_TEST(plugins_that_are_absent_are_named, "the layer is the stand-in's own")
{
    for (size_t i = 0; i < FAKE_LAYOUTS; i++) {
        if (!is_rtx(i)) {
            make_plan_elsewhere(i);
        }
    }
    set("KILN_TENSORRT_PLUGIN", "/no/such/plugins");
    for (size_t i = 0; i < FAKE_LAYOUTS; i++) {
        if (!is_rtx(i)) {
            check_absent(i);
        }
    }
    set("KILN_TENSORRT_PLUGIN", NULL);
}

STAND_IN_LAYOUTS_TEST(plugins_beside_the_core_are_registered, "the layer is the stand-in's own")
{
    const kiln_build_options options = fake_options(i);
    const kiln_span model = unary_model("LReLU_TRT", "2");
    kiln_engine *engine = NULL;
    if (is_rtx(i)) {
        assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_build_bytes(model, &options, &engine),
                     "Plugin not found");
        return;
    }
    assert_ok(kiln_engine_build_bytes(model, &options, &engine));
    assert_ok(kiln_engine_save(engine, kiln_test_path("plugin.plan")));
    check_leaky(engine);
    assert_ok(kiln_engine_load(kiln_test_path("plugin.plan"), &options, &engine));
    check_leaky(engine);
    /* A check before the build does not stand in the way. */
    kiln_network *network = network_in(model, NULL);
    assert_ok(kiln_engine_build(network, &options, &engine));
    kiln_network_destroy(network);
    check_leaky(engine);
}

TENSORRT_TEST(the_report_names_the_plugin_library)
{
    set("KILN_TENSORRT", fake_folder(SOME_LAYOUT));
    kiln_system_report *report = NULL;
    assert_ok(kiln_system_report_create(&report));
    size_t found = 0;
    for (size_t i = 0; i < kiln_system_report_library_count(report); i++) {
        kiln_library_info info = {.struct_size = sizeof info};
        assert_ok(kiln_system_report_library(report, i, &info));
        found += strstr(info.name, "plugins") != NULL && info.state == KILN_LIBRARY_FOUND;
    }
    kiln_system_report_destroy(report);
    set("KILN_TENSORRT", NULL);
    assert_int_equal(found, 1);
}
