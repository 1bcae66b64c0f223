/* What the reference backend's kernels are made of.
 * SPDX-License-Identifier: Apache-2.0 */
#include "backends/reference/ref_internal.h"
#include "backends/reference/ref_ops.h"
#include "kiln_test.h"

static ref_tensor vector_of(kiln_dtype dtype, int64_t count, void *data)
{
    ref_tensor tensor = {.dtype = dtype, .rank = 1, .count = count, .data = data, .dims[0] = count};
    return tensor;
}

TEST(test_rounding_to_even)
{
    assert_true(ref_round_even(0.5) == 0.0);
    assert_true(ref_round_even(1.5) == 2.0);
    assert_true(ref_round_even(2.5) == 2.0);
    assert_true(ref_round_even(-1.5) == -2.0);
    assert_true(ref_round_even(-0.4) == 0.0 && signbit(ref_round_even(-0.4)));
    assert_true(ref_round_even(1e300) == 1e300);
    assert_true(isnan(ref_round_even((double)NAN)));
    assert_true(isinf(ref_round_even((double)INFINITY)));
}

/* 1 + 2^-11 + 2^-40 lies above the middle between two float16: rounding to float first would make
 * it a tie. */
TEST(test_one_rounding_to_narrow_types)
{
    uint16_t half = 0;
    ref_tensor tensor = vector_of(KILN_DTYPE_FLOAT16, 1, &half);
    ref_put_float(&tensor, 0, 1.0 + ldexp(1.0, -11) + ldexp(1.0, -40));
    assert_int_equal(half, 0x3C01);
    ref_put_float(&tensor, 0, 1.0 + ldexp(1.0, -11));
    assert_int_equal(half, 0x3C00);
    ref_put_float(&tensor, 0, -1.0 - ldexp(1.0, -11) - ldexp(1.0, -40));
    assert_int_equal(half, 0xBC01);
}

TEST(test_integers_are_exact_and_wrap)
{
    int64_t wide[2] = {0, 0};
    ref_tensor tensor = vector_of(KILN_DTYPE_INT64, 2, wide);
    ref_put_int(&tensor, 1, INT64_MAX);
    assert_true(ref_get_int(&tensor, 1) == INT64_MAX);
    int8_t narrow[2] = {0, 0};
    tensor = vector_of(KILN_DTYPE_INT8, 2, narrow);
    ref_put_int(&tensor, 0, 200);
    assert_int_equal(narrow[0], -56);
    tensor.dtype = KILN_DTYPE_INT4;
    ref_put_int(&tensor, 0, 9);
    assert_int_equal(narrow[0], -7);
    ref_put_float(&tensor, 1, (double)NAN);
    assert_int_equal(narrow[1], 0);
    assert_true(ref_least(KILN_DTYPE_INT4) == -8.0 && ref_greatest(KILN_DTYPE_UINT4) == 15.0);
    uint8_t truth = 7;
    tensor = vector_of(KILN_DTYPE_BOOL, 1, &truth);
    ref_put_float(&tensor, 0, 0.25);
    assert_int_equal(truth, 1);
}

TEST(test_packing)
{
    const uint8_t packed[2] = {0x8F, 0x03};
    uint8_t bytes[3];
    uint8_t back[2] = {0, 0};
    ref_unpack(KILN_DTYPE_INT4, packed, 3, bytes);
    assert_int_equal((int8_t)bytes[0], -1);
    assert_int_equal((int8_t)bytes[1], -8);
    assert_int_equal((int8_t)bytes[2], 3);
    ref_pack(bytes, 3, back);
    assert_memory_equal(back, packed, 2);
}

/* [2, 3, 4] against [3, 1]: the last dimension cannot be merged with the one before. */
TEST(test_walk_broadcasts)
{
    const int64_t dims[3] = {2, 3, 4};
    ref_tensor full = {.rank = 3, .dims = {2, 3, 4}};
    ref_tensor column = {.rank = 2, .dims = {3, 1}};
    ref_walk walk;
    ref_walk_init(&walk, 3, dims);
    ref_walk_add_broadcast(&walk, &full);
    ref_walk_add_broadcast(&walk, &column);
    ref_walk_begin(&walk);
    int64_t rows = 0;
    for (; ref_walk_next(&walk); rows++) {
        assert_int_equal(walk.length, 4);
        assert_int_equal(walk.step[0], 1);
        assert_int_equal(walk.step[1], 0);
        assert_int_equal(walk.offset[0], rows * 4);
        assert_int_equal(walk.offset[1], rows % 3);
    }
    assert_int_equal(rows, 6);
}

TEST(test_walk_merges)
{
    const int64_t dims[4] = {2, 3, 1, 4};
    ref_tensor full = {.rank = 4, .dims = {2, 3, 1, 4}};
    ref_walk walk;
    ref_walk_init(&walk, 4, dims);
    ref_walk_add_broadcast(&walk, &full);
    ref_walk_begin(&walk);
    assert_true(ref_walk_next(&walk));
    assert_int_equal(walk.length, 24);
    assert_false(ref_walk_next(&walk));
    const int64_t empty[2] = {3, 0};
    ref_walk_init(&walk, 2, empty);
    ref_walk_begin(&walk);
    assert_false(ref_walk_next(&walk));
    ref_walk_init(&walk, 0, NULL);
    ref_walk_begin(&walk);
    assert_true(ref_walk_next(&walk));
    assert_int_equal(walk.length, 1);
    assert_false(ref_walk_next(&walk));
}

TEST(test_strided_copy_transposes)
{
    const uint16_t from[6] = {1, 2, 3, 4, 5, 6};
    uint16_t to[6] = {0};
    const int64_t dims[2] = {3, 2};
    const int64_t to_strides[2] = {2, 1};
    const int64_t from_strides[2] = {1, 3};
    ref_copy_strided(sizeof *from, 2, dims, to, to_strides, from, from_strides);
    assert_memory_equal(to, ((const uint16_t[6]){1, 4, 2, 5, 3, 6}), sizeof to);
}

TEST(test_memory_gives_what_was_released)
{
    ref_memory memory;
    ref_buffer *first = NULL;
    ref_buffer *second = NULL;
    assert_ok(ref_memory_init(&memory));
    for (size_t size = 0; size < 5000; size += 37) {
        assert_ok(ref_memory_take(&memory, size, &first));
        memset(ref_buffer_data(first), 1, size);
        assert_int_equal((uintptr_t)ref_buffer_data(first) % 64, 0);
        ref_buffer_release(&memory, first);
        assert_ok(ref_memory_take(&memory, size, &second));
        assert_ptr_equal(first, second);
        ref_buffer_release(&memory, second);
    }
    assert_status(KILN_ERROR_LIMIT, ref_memory_take(&memory, SIZE_MAX, &first));
    ref_memory_finish(&memory);
}

TEST(test_values_share_their_bytes)
{
    ref_memory memory;
    ref_value one = {.kind = REF_TENSOR};
    ref_value two;
    ref_buffer *again = NULL;
    assert_ok(ref_memory_init(&memory));
    assert_ok(ref_memory_take(&memory, 100, &one.buffer));
    ref_buffer *buffer = one.buffer;
    ref_value_copy(&two, &one);
    ref_value_release(&memory, &one);
    assert_int_equal(one.kind, REF_NONE);
    assert_ok(ref_memory_take(&memory, 100, &again));
    assert_ptr_not_equal(again, buffer);
    ref_buffer_release(&memory, again);
    ref_value_release(&memory, &two);
    ref_memory_finish(&memory);
}

TEST(test_multiply)
{
    /* 5 rows of 2, more than a block of rows; 2 rows of 3 */
    const double a[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    const double b[6] = {1, 0, -1, 2, 1, 0};
    double out[15] = {0};
    ref_multiply(5, 2, 3, a, 2, b, 3, out, 3);
    assert_true(out[0] == 5.0 && out[1] == 2.0 && out[2] == -1.0);
    assert_true(out[12] == 29.0 && out[13] == 10.0 && out[14] == -9.0);
    const int64_t big[1] = {INT64_MAX};
    const int64_t two[1] = {2};
    int64_t wrapped[1] = {0};
    ref_multiply_int(1, 1, 1, big, 1, two, 1, wrapped, 1);
    assert_true(wrapped[0] == -2);
}

TEST(test_quantized_values_saturate)
{
    assert_true(ref_quantized(2.5, 0.0, KILN_DTYPE_UINT8) == 2.0);
    assert_true(ref_quantized(300.0, 0.0, KILN_DTYPE_UINT8) == 255.0);
    assert_true(ref_quantized(-300.0, 0.0, KILN_DTYPE_INT8) == -128.0);
    assert_true(ref_quantized(1.0, 128.0, KILN_DTYPE_UINT8) == 129.0);
    assert_true(ref_quantized((double)NAN, 0.0, KILN_DTYPE_INT4) == -8.0);
}

/* The table is what docs/reference.md is checked against: each operator stands there once. */
TEST(test_kernels_are_unique)
{
    assert_true(ref_kernel_count() > 180);
    for (size_t i = 0; i < ref_kernel_count(); i++) {
        const ref_kernel *kernel = ref_kernel_get(i);
        assert_ptr_equal(ref_kernel_find(kernel->domain, kernel->op), kernel);
        assert_non_null(kernel->function);
        assert_in_range(kernel->since, 1, REF_NEWEST_OPSET);
    }
    assert_null(ref_kernel_get(ref_kernel_count()));
    assert_null(ref_kernel_find("ai.onnx.ml", "Add"));
}
