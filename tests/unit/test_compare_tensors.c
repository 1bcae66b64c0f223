/* SPDX-License-Identifier: Apache-2.0 */
/* kiln_compare_tensors: tensors without an engine. */
#include <kiln/compare.h>

#include "kiln_test.h"

static kiln_status compare_two(kiln_tensor found, kiln_tensor expected,
                               const kiln_compare_options *options, kiln_comparison **comparison)
{
    const kiln_named_tensor a = {"a", found};
    const kiln_named_tensor b = {"b", expected};
    kiln_comparison_destroy(*comparison);
    return kiln_compare_tensors(&a, &b, 1, options, comparison);
}

/* 2^62 and 2^62 + 1 are one double. */
TEST(long_integers_are_exact)
{
    int64_t numbers[2][2] = {{INT64_C(1) << 62, INT64_MIN}, {(INT64_C(1) << 62) + 1, INT64_MIN}};
    owned_comparison comparison = NULL;
    assert_ok(compare_two(KILN_HOST_TENSOR(KILN_DTYPE_INT64, KILN_SHAPE(2), numbers[0], 16),
                          KILN_HOST_TENSOR(KILN_DTYPE_INT64, KILN_SHAPE(2), numbers[1], 16), NULL,
                          &comparison));
    const kiln_tensor_difference *of = kiln_comparison_get(comparison, 0);
    assert_int_equal(1, of->different);
    assert_true(of->largest_absolute == 1);
}

TEST(tensors_are_compared_without_engines)
{
    float one[] = {1, 2, 3};
    float other[] = {1, 2.5F, 3};
    kiln_span words[] = {{"a", 1}, {"bc", 2}};
    kiln_span others[] = {{"a", 1}, {"bd", 2}};
    kiln_compare_options options = KILN_COMPARE_OPTIONS_INIT;
    owned_comparison comparison = NULL;
    kiln_named_tensor found[] = {
        {"x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(3), one, sizeof one)},
        {"y", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(3, 1), one, sizeof one)},
        {"z", KILN_HOST_TENSOR(KILN_DTYPE_STRING, KILN_SHAPE(2), words, sizeof words)}};
    const kiln_named_tensor expected[] = {
        {"first", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(3), other, sizeof other)},
        {"second", found[0].tensor},
        {"third", KILN_HOST_TENSOR(KILN_DTYPE_STRING, KILN_SHAPE(2), others, sizeof others)}};
    options.absolute = options.relative = 2;
    assert_ok(kiln_compare_tensors(found, expected, 3, &options, &comparison));
    assert_false(kiln_comparison_passes(comparison));
    assert_int_equal(kiln_comparison_count(comparison), 3);
    const kiln_tensor_difference *of = kiln_comparison_get(comparison, 0);
    assert_string_equal(of->name, "first");
    assert_true(of->passes && of->largest_at == 1 && of->found == 2 && of->expected == 2.5);
    assert_false(kiln_comparison_get(comparison, 1)->is_comparable);
    of = kiln_comparison_get(comparison, 2);
    /* Another string is another one, whatever is allowed. */
    assert_true(!of->passes && of->different == 1 && of->largest_at == 1);
    kiln_comparison_destroy(comparison);
    assert_ok(kiln_compare_tensors(found, expected, 1, &options, &comparison));
    assert_true(kiln_comparison_passes(comparison));
    kiln_comparison_destroy(comparison);
    assert_ok(kiln_compare_tensors(found, expected, 0, NULL, &comparison));
    assert_true(kiln_comparison_passes(comparison) && kiln_comparison_count(comparison) == 0);
}

TEST(what_is_no_tensor_to_compare_is_refused)
{
    float numbers[] = {1, 2, 3, 4};
    owned_comparison comparison = NULL;
    const kiln_tensor good =
        KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(2, 2), numbers, sizeof numbers);
    const kiln_named_tensor nameless = {NULL, good};
    kiln_tensor bad = good;
    bad.bytes = 15;
    assert_fails(KILN_ERROR_SIZE, compare_two(bad, good, NULL, &comparison),
                 "found \"a\": 15 bytes");
    assert_fails(KILN_ERROR_SIZE, compare_two(good, bad, NULL, &comparison), "expected \"b\"");
    bad = good;
    bad.desc.strides = (kiln_strides){2, {1, 2}};
    assert_fails(KILN_ERROR_UNSUPPORTED, compare_two(bad, good, NULL, &comparison), "strides");
    bad = good;
    bad.desc.location = KILN_LOCATION_DEVICE;
    assert_fails(KILN_ERROR_UNSUPPORTED, compare_two(good, bad, NULL, &comparison),
                 "\"b\": kiln_tensor_read: a dense linear tensor in host memory is needed");
    assert_fails(KILN_ERROR_NULL_ARGUMENT,
                 kiln_compare_tensors(&nameless, &nameless, 1, NULL, &comparison),
                 "found: `name` is NULL");
    assert_null(comparison);
}
