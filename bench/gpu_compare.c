/* SPDX-License-Identifier: Apache-2.0 */
#include "gpu_compare.h"

#include <stdio.h>
#include <stdlib.h>

#include "bench_times.h"

#define MOST_RUNS 2000
#define MOST_ROUNDS 32

static double measure(const way *what, size_t runs, double milliseconds)
{
    static double samples[MOST_RUNS];
    size_t count = 0;
    for (int i = 0; i < 5; i++) {
        what->run(what->user);
    }
    const uint64_t begin = bench_now();
    uint64_t now = begin;
    while (count < MOST_RUNS && count < runs &&
           (count < 10 || (double)(now - begin) < milliseconds * 1e6)) {
        const uint64_t start = now;
        what->run(what->user);
        now = bench_now();
        samples[count++] = (double)(now - start) / 1e3;
    }
    return bench_median(samples, count);
}

/* A way that always came after the same one would always find the chip as warm as that one leaves
 * it, so that each round has an order of its own. */
static void shuffle(size_t *order, size_t count)
{
    static uint64_t state = 20251129;
    for (size_t i = count; i-- > 1;) {
        const size_t other = (size_t)(bench_random(&state) >> 33) % (i + 1);
        const size_t kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
}

void compare_ways(way *ways, size_t count, size_t rounds, size_t runs, double milliseconds)
{
    double medians[MOST_WAYS][MOST_ROUNDS];
    if (count > MOST_WAYS || rounds > MOST_ROUNDS) {
        exit(1);
    }
    size_t order[MOST_WAYS];
    for (size_t i = 0; i < count; i++) {
        order[i] = i;
    }
    for (size_t round = 0; round < rounds; round++) {
        shuffle(order, count);
        for (size_t turn = 0; turn < count; turn++) {
            medians[order[turn]][round] = measure(&ways[order[turn]], runs, milliseconds);
        }
    }
    /* The first way's last: it sorts them. */
    for (size_t i = count; i-- > 0;) {
        double ratios[MOST_ROUNDS];
        for (size_t round = 0; round < rounds; round++) {
            ratios[round] = medians[0][round] / medians[i][round];
        }
        ways[i].ratio = bench_median(ratios, rounds);
        ways[i].ratio_low = ratios[0];
        ways[i].ratio_high = ratios[rounds - 1];
        ways[i].median_us = bench_median(medians[i], rounds);
        ways[i].low_us = medians[i][0];
        ways[i].high_us = medians[i][rounds - 1];
    }
}

void print_ways(const char *what, const way *ways, size_t count)
{
    (void)fprintf(stderr, "%-26s", what);
    for (size_t i = 0; i < count; i++) {
        (void)fprintf(stderr, "  %s %.2f us [%.0f, %.0f]", ways[i].name, ways[i].median_us,
                      ways[i].low_us, ways[i].high_us);
        if (i > 0) {
            (void)fprintf(stderr, " (%.3f)", ways[i].ratio);
        }
    }
    (void)fprintf(stderr, "\n");
}

void print_ways_json(const char *what, const way *ways, size_t count)
{
    (void)printf("{\"what\": \"%s\"", what);
    for (size_t i = 0; i < count; i++) {
        (void)printf(", \"%s_us\": %.3f, \"%s_range\": [%.3f, %.3f]", ways[i].name,
                     ways[i].median_us, ways[i].name, ways[i].low_us, ways[i].high_us);
        if (i > 0) {
            (void)printf(", \"%s_ratio\": [%.4f, %.4f, %.4f]", ways[i].name, ways[i].ratio_low,
                         ways[i].ratio, ways[i].ratio_high);
        }
    }
}
