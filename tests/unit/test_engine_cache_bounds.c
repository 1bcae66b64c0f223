/* SPDX-License-Identifier: Apache-2.0 */
/* Plans that are kept: where nothing can be written, past the bounds, and what is measured. */
#include "engine_cache_test.h"

#include <errno.h>
#include <sys/stat.h>

/* --- where nothing can be written --- */

TENSORRT_TEST(a_build_goes_on_without_a_cache)
{
    kiln_build_options options = cached_options("without");
    const kiln_span model = relu_model("2,3");
    /* A file in the place of the folder. */
    const char *file = kiln_test_file("file", "x", 1);
    options.cache = file;
    assert_use(NOT_STORED, model, &options);
    /* A folder of everybody's. */
    options.cache = folder;
    assert_int_equal(mkdir(folder, 0700) == 0 || errno == EEXIST, 1);
    assert_int_equal(chmod(folder, 0777), 0);
    assert_use(NOT_STORED, model, &options);
    assert_int_equal(count_entries(NULL), 0);
    /* A folder that nothing can be written to: what is there is found all the same. */
    assert_int_equal(chmod(folder, 0755), 0);
    assert_use(STORED, model, &options);
    const bool is_root = geteuid() == 0;
    assert_int_equal(chmod(folder, 0555), 0);
    assert_true(!is_root || seteuid(65534) == 0);
    const kiln_cache_use other = use_of_build(relu_model("2,3"), &options);
    options.builder_optimization_level = 1;
    const kiln_cache_use missing = use_of_build(relu_model("2,3"), &options);
    assert_true(!is_root || seteuid(0) == 0);
    assert_int_equal(chmod(folder, 0755), 0);
    assert_int_equal(missing, KILN_CACHE_NOT_STORED);
    /* Its entries are the owner's alone. */
    assert_int_equal(other, is_root ? KILN_CACHE_NOT_STORED : KILN_CACHE_FOUND);
    /* No usual place. */
    set("XDG_CACHE_HOME", "relative");
    set("HOME", NULL);
    options.cache = "default";
    assert_use(NOT_STORED, model, &options);
    size_t length = 0;
    assert_status(KILN_ERROR_NOT_FOUND, kiln_cache_folder("default", NULL, 0, &length));
    set("XDG_CACHE_HOME", folder);
    char text[4096];
    assert_ok(kiln_cache_folder("default", text, sizeof text, &length));
    assert_int_equal(length, strlen(folder) + 5);
    assert_string_equal(text + strlen(folder), "/kiln");
    assert_status(KILN_ERROR_LIMIT, kiln_cache_folder("default", text, length, &length));
    set("XDG_CACHE_HOME", NULL);
    set("HOME", folder);
    assert_ok(kiln_cache_folder("default", text, sizeof text, &length));
    assert_string_equal(text + strlen(folder), "/.cache/kiln");
}

/* --- bounds --- */

TENSORRT_TEST(what_was_not_used_for_longest_goes)
{
    kiln_build_options options = cached_options("bound");
    const kiln_span model = relu_model("2,3");
    for (int32_t level = 1; level <= 5; level++) {
        options.builder_optimization_level = level;
        assert_use(STORED, model, &options);
    }
    options.builder_optimization_level = 1;
    assert_use(FOUND, model, &options);
    kiln_cache_entry entry = {.struct_size = sizeof entry};
    kiln_cache_list *list = cache_entries(folder, false);
    assert_int_equal(kiln_cache_list_count(list), 6);
    uint64_t most = 0;
    for (size_t i = 0; i < 6; i++) {
        assert_ok(kiln_cache_list_get(list, i, &entry));
        most += i < 2 ? entry.bytes : 0;
    }
    kiln_cache_list_destroy(list);
    uint64_t freed = 0;
    assert_ok(kiln_cache_clear(folder, most, &freed));
    assert_true(freed > 0);
    assert_use(FOUND, model, &options);
    options.builder_optimization_level = 2;
    options.cache_bytes = most + 1; /* the one that is put there stays, what it pushes out goes */
    assert_use(STORED, model, &options);
    assert_true(count_entries(NULL) <= 4);
    assert_use(FOUND, model, &options);
    options.cache_bytes = 10;
    options.builder_optimization_level = 3;
    assert_use(NOT_STORED, model, &options);
    assert_ok(kiln_cache_clear(folder, 0, NULL));
    assert_int_equal(count_entries(NULL), 0);
    assert_status(KILN_ERROR_NAME, kiln_cache_remove(folder, "../../etc"));
}

/* --- what is measured --- */

TENSORRT_TEST(what_builds_measured_is_kept)
{
    kiln_build_options options = cached_options("timings");
    const kiln_span model = relu_model("2,3");
    assert_use(STORED, model, &options);
    (void)kiln_build_release_builders(); /* as another process has none */
    const long measured = trt_number(LAYOUT_10, "measured");
    options.builder_optimization_level = 1; /* another plan of the same layers */
    assert_use(STORED, model, &options);
    assert_int_equal(trt_number(LAYOUT_10, "measured"), measured);
    (void)kiln_build_release_builders();
    /* Damaged, they are measured again, and written anew. */
    char path[8300];
    kiln_cache_list *list = cache_entries(folder, false);
    for (size_t i = 0; i < kiln_cache_list_count(list); i++) {
        const kiln_cache_entry entry = entry_at(list, i);
        if (strcmp(entry.kind, "timings") == 0) {
            (void)snprintf(path, sizeof path, "%s/%s/data", folder, entry.key);
        }
    }
    kiln_cache_list_destroy(list);
    kiln_test_write(path, "nonsense", 8);
    options.builder_optimization_level = 2;
    assert_use(STORED, model, &options);
    assert_true(trt_number(LAYOUT_10, "measured") > measured);
    size_t problems = 1;
    (void)count_entries(&problems);
    assert_int_equal(problems, 0);
}

TENSORRT_TEST(what_builds_in_a_smaller_type_measured_is_kept)
{
    kiln_build_options options = cached_options("smaller");
    long measured[2];
    options.precision = KILN_PRECISION_FP16;
    for (int32_t i = 0; i < 2; i++) {
        options.builder_optimization_level = i;
        owned_engine engine = built_bytes(relu_model("2,3"), &options);
        assert_int_equal(kiln_engine_cache_use(engine), KILN_CACHE_STORED);
        measured[i] = trt_number(LAYOUT_10, "measured");
        (void)kiln_build_release_builders();
    }
    assert_int_equal(measured[0], measured[1]);
}

TENSORRT_TEST(what_a_warmup_measured_is_kept)
{
    static unsigned char text[PLAN_ROOM];
    const kiln_build_options options = cached_options("variants");
    const kiln_span model = relu_model("2,3");
    for (size_t i = 0; i < 2; i++) {
        kiln_engine *engine = built_bytes(model, &options);
        assert_int_equal(engine->shared.measured->variants.count, i);
        kiln_context *context = context_on(engine);
        float x[6] = {0};
        (void)run_floats(context, KILN_SHAPE(2, 3), x);
        assert_ok(kiln_context_warmup(context, 20, 0, NULL));
        kiln_context_destroy(context);
        kiln_engine_release(engine);
        (void)kiln_test_read(plan_file("data.json"), text, sizeof text);
        assert_non_null(strstr((const char *)text, "graph_variants"));
    }
    assert_use(FOUND, model, &options);
}
