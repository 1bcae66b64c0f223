/* SPDX-License-Identifier: Apache-2.0 */
/* One small network for each layer of the builder. */
#ifndef LAYER_CASES_H
#define LAYER_CASES_H

#include <kiln/layers.h>

typedef struct layer_case {
    const char *name;
    kiln_status (*build)(kiln_network *network); /* inputs, layers, outputs */
    int oldest;   /* the first operator set that it can be built in */
    double bound; /* how far two executors may be apart: |a - b| <= bound * (1 + |a|) */
} layer_case;

extern const layer_case layer_cases[];
extern const size_t layer_case_count;

#endif
