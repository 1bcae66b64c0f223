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

/* How bytes get from the host's memory to the device, or back. */
typedef enum transfer_mode {
    TRANSFER_MAPPED, /* not at all: the device works on pinned memory, or on the caller's, itself */
    TRANSFER_COPIED, /* by a copy of its own, a part of what is captured */
    TRANSFER_OUTSIDE,  /* by a copy of its own that is enqueued before the graph or behind it */
    TRANSFER_GATHERED, /* by one kernel with all others of its direction, a part of what is
                          captured */
    TRANSFER_DIRECT,   /* ordinary host memory: by a copy of the driver's from or to where it lies,
                          before or behind the graph, without a staging buffer */
    TRANSFER_MODES
} transfer_mode;

typedef struct graph_variant {
    transfer_mode in;
    transfer_mode out;
    bool
        unfenced; /* its end is waited for through the driver, where memory could tell of it, too */
} graph_variant;

/* "mapped", "copied", "outside", "gathered", "direct" */
const char *transfer_mode_name(transfer_mode mode);

/* What travels in one direction. */
typedef struct transfer_load {
    size_t bytes;
    size_t ordinary; /* of these, the bytes in ordinary memory of the caller's */
} transfer_load;

/* Whether `mode` can be the fastest for what travels in one direction. */
bool transfer_mode_is_worth_trying(transfer_mode mode, transfer_load load, bool inputs);

/* One variant that was found fastest, for bindings of one hash (shapes and places) on one kind of
 * GPU. */
typedef struct measured_variant {
    uint64_t bindings;
    char gpu[64];
    graph_variant variant;
    uint64_t nanoseconds; /* the median of a run */
} measured_variant;

#define MEASURED_VARIANTS 64

/* A new row takes the place of the oldest. */
typedef struct measured_variants {
    size_t count;
    size_t next;
    measured_variant rows[MEASURED_VARIANTS];
} measured_variants;

/* Those of an engine, for all of its contexts. Its own piece of memory, so that who may not change
 * an engine can lock it. */
typedef struct shared_variants {
    pthread_mutex_t mutex;
    measured_variants variants;
} shared_variants;

bool measured_variants_same(const measured_variants *a, const measured_variants *b);
void measured_variants_put(measured_variants *measured, const measured_variant *row);
/* False where nothing was measured for them. */
bool measured_variants_get(const measured_variants *measured, uint64_t bindings, const char *gpu,
                           graph_variant *variant);

/* In a manifest: "graph_variants", a list. False: out of memory. */
bool measured_variants_write(const measured_variants *measured, struct cJSON *root);
/* MALFORMED. */
KILN_MUST_CHECK kiln_status measured_variants_read(measured_variants *measured,
                                                   const struct cJSON *root);

#endif
