/* SPDX-License-Identifier: Apache-2.0 */
/* The variants of a captured run, and the measured ones among them. graph_variant_choose decides
 * which one is used (exec_parts.h, graph_variants.c).
 *
 * How bytes travel is one choice for all inputs and one for all outputs. Small tensors are fastest
 * in place, large ones with copies. Copies of inputs enqueued before the graph travel while the
 * host still launches it. Copies inside the graph cost the host nothing, but the device a few
 * microseconds each. A kernel that gathers all inputs costs those microseconds once. */
#ifndef KLN_GRAPH_VARIANTS_H
#define KLN_GRAPH_VARIANTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kiln/status.h>

struct cJSON;

/* How bytes get from host memory to the device, or back. */
typedef enum transfer_mode {
    TRANSFER_MAPPED,   /* no copy: the device accesses pinned memory, or the caller's, directly */
    TRANSFER_COPIED,   /* a separate copy inside the captured work */
    TRANSFER_OUTSIDE,  /* a separate copy enqueued before or after the graph */
    TRANSFER_GATHERED, /* one kernel for all tensors of its direction, inside the captured work */
    TRANSFER_DIRECT,   /* ordinary host memory: copied by the driver in place, before or after the
                          graph, without a staging buffer */
    TRANSFER_MODES
} transfer_mode;

typedef struct graph_variant {
    transfer_mode in;
    transfer_mode out;
    bool unfenced; /* wait for its end through the driver, even if a fence in memory could tell */
} graph_variant;

/* "mapped", "copied", "outside", "gathered", "direct" */
const char *transfer_mode_name(transfer_mode mode);

/* The data to transfer in one direction. */
typedef struct transfer_load {
    size_t bytes;
    size_t ordinary; /* of these, bytes in ordinary memory of the caller's */
} transfer_load;

/* Whether `mode` can be the fastest for the data in one direction. */
bool transfer_mode_is_worth_trying(transfer_mode mode, transfer_load load, bool inputs);

/* A variant that was measured to be fastest, for bindings with this hash (shapes and locations) on
 * one kind of GPU. */
typedef struct measured_variant {
    uint64_t bindings;
    char gpu[64];
    graph_variant variant;
    uint64_t nanoseconds; /* median time of a run */
} measured_variant;

#define MEASURED_VARIANTS 64

/* A new row replaces the oldest. */
typedef struct measured_variants {
    size_t count;
    size_t next;
    measured_variant rows[MEASURED_VARIANTS];
} measured_variants;

/* The measured variants of an engine, for all its contexts. In separate memory, so that a user of a
 * const engine can lock it. */
typedef struct shared_variants {
    pthread_mutex_t mutex;
    measured_variants variants;
} shared_variants;

bool measured_variants_same(const measured_variants *a, const measured_variants *b);
void measured_variants_put(measured_variants *measured, const measured_variant *row);
/* False if nothing was measured for them. */
bool measured_variants_get(const measured_variants *measured, uint64_t bindings, const char *gpu,
                           graph_variant *variant);

/* As the list "graph_variants" of a manifest. False: out of memory. */
bool measured_variants_write(const measured_variants *measured, struct cJSON *root);
/* MALFORMED. */
KILN_MUST_CHECK kiln_status measured_variants_read(measured_variants *measured,
                                                   const struct cJSON *root);

#endif
