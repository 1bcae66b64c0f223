/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of kept plans share. */
#ifndef ENGINE_CACHE_TEST_H
#define ENGINE_CACHE_TEST_H

#include "fake_tensorrt_test.h"

#include "engine/engine_cache.h"

static char folder[4096];

/* An empty cache, and options that use it. */
static inline kiln_build_options cached_options(const char *name)
{
    kiln_build_options options = fake_options(LAYOUT_10);
    (void)snprintf(folder, sizeof folder, "%s", kiln_test_path(name));
    assert_ok(kiln_cache_clear(folder, 0, NULL));
    options.cache = folder;
    return options;
}

static inline kiln_span relu_model(const char *shape)
{
    return unary_model("Relu", shape);
}

static inline kiln_cache_use use_of_build(kiln_span model, const kiln_build_options *options)
{
    owned_engine engine = built_bytes(model, options);
    const kiln_cache_use use = kiln_engine_cache_use(engine);
    owned_context context = context_on(engine);
    float x[] = {-1, 2, -3, 4, -5, 6};
    const float *y = run_floats(context, KILN_SHAPE(2, 3), x).data;
    assert_true(y[0] == 0 && y[1] == 2 && y[4] == 0 && y[5] == 6);
    return use;
}

#define assert_use(expected, model, options) \
    assert_int_equal(KILN_CACHE_##expected, use_of_build(model, options))

/* How many entries there are; in `problems` (or NULL) how many are not whole and as written. */
static inline size_t count_entries(size_t *problems)
{
    kiln_cache_list *list = cache_entries(folder, true);
    const size_t count = kiln_cache_list_count(list);
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        const kiln_cache_entry entry = entry_at(list, i);
        found += entry.problem != NULL;
    }
    kiln_cache_list_destroy(list);
    if (problems != NULL) {
        *problems = found;
    }
    return count;
}

/* The path of a file of the only plan there is. */
static const char *plan_file(const char *name)
{
    static char path[8192];
    owned_cache_list list = cache_entries(folder, false);
    path[0] = '\0';
    for (size_t i = 0; i < kiln_cache_list_count(list); i++) {
        const kiln_cache_entry entry = entry_at(list, i);
        if (strcmp(entry.kind, "timings") != 0) {
            assert_int_equal(path[0], '\0');
            (void)snprintf(path, sizeof path, "%s/%s/%s", folder, entry.key, name);
        }
    }
    return path;
}

#endif
