/* SPDX-License-Identifier: Apache-2.0 */
/* Several ways to do one thing, timed in turns. */
#ifndef BENCH_GPU_COMPARE_H
#define BENCH_GPU_COMPARE_H

#include <stddef.h>

#define MOST_WAYS 10

typedef struct way {
    const char *name;
    void (*run)(void *user);
    void *user;
    double median_us; /* filled in: the median over the rounds of each round's median */
    double low_us;    /* and the least and the most of those */
    double high_us;
    double ratio; /* of the first way's median by this one's, within a round: the median over the
                     rounds, and the least and the most */
    double ratio_low;
    double ratio_high;
} way;

/* `rounds` rounds; in each every way in turn, beginning with another one each time, `runs` runs or
 * `milliseconds`, whichever ends first, but 10 runs at least. */
void compare_ways(way *ways, size_t count, size_t rounds, size_t runs, double milliseconds);

/* One line: what, each way's microseconds, and the first way's by each. */
void print_ways(const char *what, const way *ways, size_t count);
/* The same as the beginning of a JSON object, which the caller closes. */
void print_ways_json(const char *what, const way *ways, size_t count);

#endif
