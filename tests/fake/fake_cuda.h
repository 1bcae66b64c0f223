/* SPDX-License-Identifier: Apache-2.0 */
/* A CUDA driver played on host memory, with four devices and chosen faults.
 *
 * Work is done at once when it is enqueued. What goes wrong is chosen by environment variables,
 * which are read at each call, so that a test may change its mind:
 *
 *     FAKE_CUDA_DEVICES    how many there are (4)
 *     FAKE_CUDA_CAPABILITY 90 for 9.0, of each device (8.6 and 9.0 in turns)
 *     FAKE_CUDA_VERSION    what cuDriverGetVersion says (12080)
 *     FAKE_CUDA_INIT       what cuInit returns (0)
 *     FAKE_CUDA_MEMORY     bytes of each device (1 GiB); past them allocations fail
 *     FAKE_CUDA_LOST       each call that touches a device returns this number (719, say)
 *     FAKE_CUDA_LOST_DEVICE    only this device is lost (all)
 *     FAKE_CUDA_LOST_FILE      only while this file is there (always)
 *     FAKE_CUDA_MEMORY_DEVICE  FAKE_CUDA_MEMORY is said of this device only (all)
 *     FAKE_CUDA_CAPTURE    "fail": work enqueued during a capture breaks it
 *     FAKE_CUDA_UPDATE     "fail": no graph can be updated in place
 *     FAKE_CUDA_HOST_NODES set: functions in a captured graph are the host's, else kernels
 *     FAKE_CUDA_SLOW       microseconds that each copy inside a graph takes, of fake_cuda_took
 *     FAKE_CUDA_SLOW_COPIES    the same of each copy, in a graph or not
 *     FAKE_CUDA_KERNELS    "load", "name", "launch": that step towards a kernel fails
 *     FAKE_CUDA_SCHEDULE   how the primary contexts say that threads wait (0): 4 to sleep
 *     FAKE_CUDA_WRITES     "refused": no kernel tells the end; "late": one does it too late
 *     FAKE_CUDA_BUSY       streams and events say that they are not ready until somebody waits
 *
 * The tests find functions of its own by dlsym: fake_cuda_calls(name), how often that function was
 * called; fake_cuda_bytes(), what is allocated on all devices and as pinned memory;
 * fake_cuda_objects(), how many contexts, streams, events, graphs and modules are alive;
 * fake_cuda_urgency(), how far the last graph that was launched is below priority 0;
 * fake_cuda_took(), nanoseconds that copies and kernels that copy took so far, by no clock: one for
 * each byte, and what is said above.
 *
 * Built with FAKE_WITHOUT_KERNELS it exports nothing that loads or launches kernels. */
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

#include <stddef.h>

#define CU __attribute__((visibility("default"))) int
#define DEVICE_LIMIT 64
#define NODE_LIMIT 64

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_SUPPORTED = 801,
    NOT_READY = 600,
    INVALID_IMAGE = 200,
    NOT_FOUND = 500,
    LAUNCH_RESOURCES = 701,
    PEER_ALREADY_ENABLED = 704,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    UPDATE_FAILURE = 910
};

typedef unsigned long long address;

typedef struct context {
    int device;
    int references;
    size_t used;
    int peers[DEVICE_LIMIT];
} context;

typedef enum node_kind { COPY, FILL, CALL, GATHER, BOUNDS, BINS, ROWS, FENCE } node_kind;

#define SEGMENTS 16

/* As Kiln's kernel that copies is given it. */
typedef struct segment {
    unsigned long long to;
    unsigned long long from;
    unsigned long long vectors;
    unsigned long long units;
} segment;

#define ROW_SEGMENTS 32

/* And the one that copies rows. */
typedef struct row_segment {
    unsigned long long to, from;
    unsigned long long to_step, from_step;
    unsigned per_row, units, shift, unused;
} row_segment;

typedef struct node {
    node_kind kind;
    void *to;
    const void *from;
    size_t bytes;
    unsigned char value;
    void (*function)(void *user);
    void *user;
    unsigned blocks; /* of a launch */
    union {
        segment segments[SEGMENTS];
        row_segment rows[ROW_SEGMENTS];
    };
    const float *values; /* of a kernel that counts */
    unsigned long long count;
    float scale;
} node;

typedef struct graph {
    size_t count;
    int priority; /* of the stream where it was captured */
    node nodes[NODE_LIMIT];
} graph;

typedef struct stream {
    context *owner;
    int priority;
    graph *capture; /* being written, or NULL */
    int broken;     /* the capture is */
    int busy;       /* work nobody waited for */
} stream;

typedef struct event {
    context *owner;
    int timed;
    stream *on;
    unsigned long ticks; /* the fake's clock: one for each piece of work */
} event;

/* Lies before each piece of memory, so that releases are counted; as long as the alignment of what
 * the real driver gives. */
typedef struct piece {
    size_t bytes;
    int device; /* -1: pinned */
    int padding[125];
} piece;

extern context fake_contexts[DEVICE_LIMIT];
extern stream fake_default_streams[DEVICE_LIMIT];
extern long fake_objects;
extern unsigned long fake_nanoseconds; /* fake_cuda_took */

/* What an environment variable says: a number, or a word. */
long fake_setting(const char *name, long otherwise);
int fake_says(const char *name, const char *word);

/* Counts the call, takes the one lock of the fake, and returns SUCCESS, or what a lost device says.
 */
int fake_enter(const char *name);
/* Gives the lock back and returns `result`. */
int fake_unlock(int result);

context *fake_current_context(void);

/* A new object, which counts; and its end. */
int fake_make(void **made, size_t size);
int fake_end(void *object);
/* Plays it, or writes it down where the stream captures. */
int fake_enqueue(void *on, const node *work);

#define ENTER()                                 \
    do {                                        \
        const int lost_ = fake_enter(__func__); \
        if (lost_ != SUCCESS) {                 \
            return fake_unlock(lost_);          \
        }                                       \
    } while (0)

/* A call that is one expression. */
#define CU_GIVES(name, parameters, ...)  \
    CU name parameters                   \
    {                                    \
        ENTER();                         \
        return fake_unlock(__VA_ARGS__); \
    }
#pragma GCC diagnostic ignored "-Wunused-parameter"

#endif
