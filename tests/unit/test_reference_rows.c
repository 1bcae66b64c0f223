/* SPDX-License-Identifier: Apache-2.0 */
/* Products of rows with rows, to the bit: what a sum from its first product to its last gives,
 * though other sums are taken. */
#include "backends/reference/ref_product.h"
#include "drawn_test.h"

static void multiply_by_rows(size_t kernel, int64_t rows, int64_t inner, int64_t columns,
                             int strange, bool cancels)
{
    float *floats = numbers(rows * inner, strange);
    float *b = numbers(columns * inner, strange);
    float *bias = numbers(rows * columns, 0);
    double *a = calloc((size_t)(rows * inner), sizeof *a);
    double *added = calloc((size_t)(rows * columns), sizeof *added);
    double *room = calloc((size_t)((columns + 1) * rows), sizeof *room);
    double *expected = calloc((size_t)(rows * columns), sizeof *expected);
    float *y = calloc((size_t)(rows * columns), sizeof *y);
    assert_true(a != NULL && added != NULL && room != NULL && expected != NULL && y != NULL);
    for (int64_t i = 0; i < rows * inner; i++) {
        a[i] = (double)(cancels ? 1.0F : floats[i]);
    }
    /* What is left of these sums is what was lost on the way: the order decides. */
    for (int64_t i = 0; cancels && i < columns * inner; i++) {
        const int64_t k = i % inner;
        b[i] = k < inner / 2       ? ldexpf(b[i], (int)draw(70))
               : k < inner / 2 * 2 ? -b[i - inner / 2]
                                   : 0;
    }
    ref_turned p = {rows, inner, columns, a, b, inner, 1.5, -0.5, added, room, y};
    for (int64_t i = 0; i < rows * columns; i++) {
        double sum = 0.0;
        for (int64_t k = 0; k < inner; k++) {
            sum += a[i / columns * inner + k] * (double)b[i % columns * inner + k];
        }
        added[i] = (double)bias[i];
        expected[i] = 1.5 * sum + -0.5 * added[i];
    }
    if (ref_multiply_turned(kernel, &p)) {
        expect_bits("rows times rows", rows * columns, expected, y);
    }
    void *all[] = {floats, b, bias, a, added, room, expected, y};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(all); i++) {
        free(all[i]);
    }
}

TEST(products_of_rows_are_as_in_order)
{
    for (int i = 0; i < 160; i++) {
        const int64_t inner = i % 4 == 0 ? 500 + draw(700) : 16 + draw(300);
        multiply_by_rows((size_t)(i % 2), 1 + draw(6), inner, 8 + draw(130), i % 8 == 3 ? 5 : 0,
                         i % 8 == 5);
    }
}
