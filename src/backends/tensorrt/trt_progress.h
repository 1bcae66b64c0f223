/* SPDX-License-Identifier: Apache-2.0 */
/* Progress of a build: Kiln's own stages, one of which contains the nested phases that TensorRT
 * reports.
 *
 * TensorRT reports half a million steps in a build of half a minute. Each is counted. The listener
 * receives about a hundred a second, and can stop the build at each. */
#ifndef TRT_PROGRESS_H
#define TRT_PROGRESS_H

#include <stdatomic.h>

#include "backends/tensorrt/trt_callbacks.h"

#define TRT_PHASES 32

typedef struct trt_progress_monitor {
    trt_ProgressMonitor object;
    const kiln_monitor *monitor; /* or NULL */
    uint64_t pause;              /* nanoseconds between two reports that are passed on, but for the
                                    first TRT_FIRST_REPORTS */
    atomic_bool stopped;         /* the monitor asked to stop */

    pthread_mutex_t lock; /* everything below */
    uint64_t passed_on;   /* reports */
    uint64_t next;        /* when the next may be */
    double begin, share;  /* of the stage that is under way, in the whole */
    double fraction;      /* never falls */
    size_t rounds, round; /* of timing, that there will be, and that have begun */
    size_t count;
    struct trt_phase {
        char name[64];
        int depth;
        int parent; /* -1: none */
        int32_t steps, done;
    } phases[TRT_PHASES]; /* that are under way */
} trt_progress_monitor;

#define TRT_FIRST_REPORTS 100

void trt_progress_monitor_init(trt_progress_monitor *progress, const trt_tables *tables,
                               const kiln_monitor *monitor);
void trt_progress_monitor_finish(trt_progress_monitor *progress);

/* The stage `name` begins where the last one ends, and is `share` of the whole build. False: stop.
 */
bool trt_progress_stage(trt_progress_monitor *progress, const char *name, double share);

#endif
