/* SPDX-License-Identifier: Apache-2.0 */
/* What a piece of memory costs from a kiln_pool and from malloc, one thread and several; and with a
 * GPU, from a pool of device memory and from cudaMallocAsync. One allocation and its release count
 * as one. pool [THREADS]
 */
#include <dlfcn.h>
#include <kiln/kiln.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_times.h"

#define ROUNDS ((size_t)2000000)
#define REPEATS 7
#define MOST_THREADS 64
#define HELD 16 /* pieces that each thread holds, of several sizes */

typedef struct job {
    kiln_pool *pool; /* NULL: malloc */
    size_t rounds;
    double nanoseconds; /* for one allocation and its release */
} job;

static pthread_barrier_t barrier;

/* 700 bytes to 22 KB, as small bindings are. */
static size_t size_of(size_t index)
{
    return (size_t)700 + (index * index % HELD) * 1400;
}

static void turn_pool(kiln_pool *pool, size_t rounds)
{
    kiln_block blocks[HELD] = {{NULL, 0, NULL}};
    for (size_t i = 0; i < rounds; i++) {
        kiln_block *block = &blocks[i % HELD];
        bench_require(kiln_pool_release(pool, block, NULL));
        bench_require(kiln_pool_allocate(pool, size_of(i), NULL, block));
        *(volatile char *)block->data = 1;
    }
    for (size_t i = 0; i < HELD; i++) {
        bench_require(kiln_pool_release(pool, &blocks[i], NULL));
    }
}

static void turn_malloc(size_t rounds)
{
    void *blocks[HELD] = {NULL};
    for (size_t i = 0; i < rounds; i++) {
        free(blocks[i % HELD]);
        blocks[i % HELD] = malloc(size_of(i));
        if (blocks[i % HELD] == NULL) {
            exit(1);
        }
        *(volatile char *)blocks[i % HELD] = 1;
    }
    for (size_t i = 0; i < HELD; i++) {
        free(blocks[i]);
    }
}

static void *work(void *user)
{
    job *mine = user;
    (void)pthread_barrier_wait(&barrier);
    const double begin = bench_processor(CLOCK_THREAD_CPUTIME_ID);
    if (mine->pool != NULL) {
        turn_pool(mine->pool, mine->rounds);
    } else {
        turn_malloc(mine->rounds);
    }
    mine->nanoseconds = (bench_processor(CLOCK_THREAD_CPUTIME_ID) - begin) / (double)mine->rounds;
    return NULL;
}

/* The median over repeats of the mean over threads, in CPU time of the threads themselves, so that
 * more threads than cores do not count each other's turns. */
static double measure(kiln_pool *pool, size_t threads)
{
    double results[REPEATS];
    for (size_t repeat = 0; repeat < REPEATS; repeat++) {
        pthread_t handles[MOST_THREADS];
        job jobs[MOST_THREADS];
        (void)pthread_barrier_init(&barrier, NULL, (unsigned)threads);
        for (size_t i = 0; i < threads; i++) {
            jobs[i] = (job){pool, ROUNDS / threads, 0.0};
            if (pthread_create(&handles[i], NULL, work, &jobs[i]) != 0) {
                exit(1);
            }
        }
        results[repeat] = 0.0;
        for (size_t i = 0; i < threads; i++) {
            (void)pthread_join(handles[i], NULL);
            results[repeat] += jobs[i].nanoseconds / (double)threads;
        }
        (void)pthread_barrier_destroy(&barrier);
    }
    return bench_median(results, REPEATS);
}

/* --- device memory, against the driver's own pool --- */

typedef int (*allocate_async)(unsigned long long *memory, size_t bytes, void *stream);
typedef int (*free_async)(unsigned long long memory, void *stream);
typedef int (*default_pool)(void **pool, int device);
typedef int (*set_attribute)(void *pool, int attribute, void *value);

#define RELEASE_THRESHOLD 4 /* CU_MEMPOOL_ATTR_RELEASE_THRESHOLD */

static void find(void *library, const char *name, void *function)
{
    void *address = dlsym(library, name);
    memcpy(function, &address, sizeof address);
}

static double measure_device(kiln_pool *pool, kiln_stream *stream, size_t rounds)
{
    const double begin = (double)bench_now();
    for (size_t i = 0; i < rounds; i++) {
        kiln_block block;
        bench_require(kiln_pool_allocate(pool, size_of(i), stream, &block));
        bench_require(kiln_pool_release(pool, &block, stream));
    }
    return ((double)bench_now() - begin) / (double)rounds;
}

static double measure_driver(allocate_async allocate, free_async release, kiln_stream *stream,
                             size_t rounds)
{
    void *handle = kiln_stream_handle(stream);
    const double begin = (double)bench_now();
    for (size_t i = 0; i < rounds; i++) {
        unsigned long long memory = 0;
        if (allocate(&memory, size_of(i), handle) != 0 || release(memory, handle) != 0) {
            (void)fprintf(stderr, "cuMemAllocAsync failed\n");
            exit(1);
        }
    }
    bench_require(kiln_stream_synchronize(stream));
    return ((double)bench_now() - begin) / (double)rounds;
}

static void compare_on_device(void)
{
    const size_t rounds = 200000;
    kiln_pool_options options = KILN_POOL_OPTIONS(.location = KILN_LOCATION_DEVICE);
    kiln_pool *pool = NULL;
    kiln_stream *stream = NULL;
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    allocate_async allocate = NULL;
    free_async release = NULL;
    default_pool find_pool = NULL;
    set_attribute set = NULL;
    if (driver == NULL || kiln_device_count() == 0) {
        (void)printf("device memory: not measured, there is no GPU\n");
        return;
    }
    find(driver, "cuMemAllocAsync", &allocate);
    find(driver, "cuMemFreeAsync", &release);
    find(driver, "cuDeviceGetDefaultMemPool", &find_pool);
    find(driver, "cuMemPoolSetAttribute", &set);
    bench_require(kiln_pool_create(&options, &pool));
    bench_require(kiln_stream_create(0, 0, &stream));
    (void)measure_device(pool, stream, HELD);
    const double through_pool = measure_device(pool, stream, rounds);
    const double direct = measure_driver(allocate, release, stream, rounds);
    unsigned long long all = ~0ULL;
    void *own = NULL;
    if (find_pool(&own, 0) != 0 || set(own, RELEASE_THRESHOLD, &all) != 0) {
        (void)fprintf(stderr, "the driver's pool cannot be told to keep its memory\n");
        exit(1);
    }
    (void)measure_driver(allocate, release, stream, HELD);
    const double kept = measure_driver(allocate, release, stream, rounds);
    (void)printf("device memory          pool %7.1f ns   cuMemAllocAsync %7.1f ns   ratio %.3f\n",
                 through_pool, direct, through_pool / direct);
    (void)printf("  its memory kept      pool %7.1f ns   cuMemAllocAsync %7.1f ns   ratio %.3f\n",
                 through_pool, kept, through_pool / kept);
    kiln_pool_destroy(pool);
    kiln_stream_destroy(stream);
}

int main(int argc, char **argv)
{
    const long most = argc > 1 ? strtol(argv[1], NULL, 10) : 8;
    if (most < 1 || most > MOST_THREADS) {
        (void)fprintf(stderr, "pool [THREADS], 1 to %d\n", MOST_THREADS);
        return 2;
    }
    for (size_t threads = 1; threads <= (size_t)most; threads *= 2) {
        kiln_pool *pool = NULL;
        bench_require(kiln_pool_create(NULL, &pool));
        const double through_pool = measure(pool, threads);
        const double through_malloc = measure(NULL, threads);
        (void)printf("host, %2zu thread%s       pool %7.1f ns   malloc %7.1f ns   ratio %.3f\n",
                     threads, threads == 1 ? " " : "s", through_pool, through_malloc,
                     through_pool / through_malloc);
        kiln_pool_destroy(pool);
    }
    compare_on_device();
    return 0;
}
