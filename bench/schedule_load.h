/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of one row that are kept outstanding before a scheduler. */
#ifndef BENCH_SCHEDULE_LOAD_H
#define BENCH_SCHEDULE_LOAD_H

#include "plan_feed.h"

/* A request's tensors; with outputs as a run of its own wrote them. */
typedef struct one_request {
    feed fed;
    kiln_named_tensor inputs[FEED_MOST];
    kiln_named_tensor outputs[FEED_MOST];
} one_request;

void open_request(kiln_engine *engine, kiln_location location, char **shapes, size_t shape_count,
                  one_request *made);

typedef struct load {
    size_t at_once;
    kiln_location location; /* of requests */
    bool has_callers;       /* a thread for each, which waits for it; else its answer submits it */
    bool checks;            /* each answer against the outputs of `request` */
    double worst;           /* difference found, as a part of the largest number */
} load;

/* Requests like this one that were answered in a second. */
double load_rows(load *self, kiln_scheduler *scheduler, const one_request *request, double seconds);

/* What a scheduler measured of itself, medians, to stderr. */
void print_figures(kiln_scheduler *scheduler);

#endif
