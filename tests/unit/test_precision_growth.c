/* SPDX-License-Identifier: Apache-2.0 */
/* What converting a network takes grows as the network does: names that are compared are counted,
 * not time. Calls of strcmp go through the one here (CMakeLists.txt). */
#include "base/kln_base.h"
#include "graph_maker.h"
#include "kiln_test.h"
#include "precision/kln_precision.h"

#define CHANNELS 8

static size_t compared;

int __real_strcmp(const char *a, const char *b);
int __wrap_strcmp(const char *a, const char *b);

int __wrap_strcmp(const char *a, const char *b)
{
    compared++;
    return __real_strcmp(a, b);
}

static float numbers[CHANNELS * CHANNELS];

static void constant(graph_maker *m, const char *name, const char *dims)
{
    maker_weights(m, name, 1, dims);
    assert_ok(m->status);
    m->graph->initializers[m->graph->initializer_count - 1].data.data = numbers;
}

/* Uneven channels, so that they are evened out. */
static void add_range(kiln_range_table *ranges, const char *name)
{
    kiln_channel channels[CHANNELS];
    for (size_t c = 0; c < CHANNELS; c++) {
        const double reach = c == 3 ? 100 : 1;
        channels[c] = (kiln_channel){-reach, reach, 0.1, reach / 3};
    }
    assert_ok(kiln_range_table_put(
        ranges, &KILN_RANGE(.name = name, .low = -100, .high = 100, .least = -100, .greatest = 100,
                            .count = 100, .channels = channels, .channel_count = CHANNELS)));
}

/* Products with a bias behind them, and convolutions of one pixel, which may be gates. */
static void make(graph_maker *m, kiln_range_table *ranges, size_t count)
{
    maker_begin(m, 17);
    maker_text(m, "in r0 float32[4,8]; in s0 float32[1,8,1,1]");
    constant(m, "w", "8,8");
    constant(m, "v", "8,8,1,1");
    constant(m, "b", "8");
    add_range(ranges, "r0");
    add_range(ranges, "s0");
    for (size_t i = 0; i < count; i++) {
        char text[400];
        char name[32];
        (void)snprintf(text, sizeof text,
                       "m%zu=MatMul(r%zu,w); a%zu=Add(m%zu,b); r%zu=Relu(a%zu); "
                       "c%zu=Conv(s%zu,v); s%zu=Relu(c%zu)",
                       i, i, i, i, i + 1, i, i, i, i + 1, i);
        maker_text(m, text);
        for (size_t k = 0; k < 2; k++) {
            (void)snprintf(name, sizeof name, "%c%zu", k == 0 ? 'r' : 's', i + 1);
            add_range(ranges, name);
        }
    }
    char ends[64];
    (void)snprintf(ends, sizeof ends, "out r%zu; out s%zu", count, count);
    maker_text(m, ends);
    assert_ok(m->status);
}

/* Comparisons that a conversion of so many blocks takes. */
static double comparisons_of(kiln_precision precision, size_t count)
{
    owned_maker m;
    owned_range_table ranges = NULL;
    kiln_precision_report *report = NULL;
    assert_ok(kiln_range_table_create(&ranges));
    make(&m, ranges, count);
    const kiln_precision_options how =
        KILN_PRECISION_OPTIONS(.precision = precision, .ranges = ranges);
    compared = 0;
    assert_ok(kln_precision_convert(m.model, &how, &report));
    const size_t found = compared;
    kiln_precision_report_destroy(report);
    assert_true(found > count);
    return (double)found;
}

TEST(four_times_the_nodes_take_four_times_the_comparisons)
{
    static const kiln_precision all[] = {KILN_PRECISION_FP16, KILN_PRECISION_BF16,
                                         KILN_PRECISION_INT8, KILN_PRECISION_FP8,
                                         KILN_PRECISION_INT4};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(numbers); i++) {
        numbers[i] = (float)(i % 7) / 4 - 0.7F;
    }
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(all); k++) {
        const double few = comparisons_of(all[k], 200);
        const double many = comparisons_of(all[k], 800);
        if (many > 4.5 * few) {
            fail_msg("precision %d: %.0f comparisons of names became %.0f", (int)all[k], few, many);
        }
    }
}
