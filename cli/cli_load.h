/* SPDX-License-Identifier: Apache-2.0 */
/* An engine under load: several contexts at work at the same time. */
#ifndef KILN_CLI_LOAD_H
#define KILN_CLI_LOAD_H

#include "cli.h"

#define CLI_MOST_CONTEXTS 256

/* How much at once. */
typedef struct cli_load {
    size_t contexts; /* over the one engine, each with memory of its own; 1 to CLI_MOST_CONTEXTS */
    size_t streams;  /* of the GPU, that the contexts' runs go to in turn; 0: the engine is on the
                        CPU */
    size_t callers;  /* threads of the host that start runs and wait for them, the contexts dealt
                        among them; 1 to `contexts` */
    bool staggered;  /* every second stream is a step more urgent */
} cli_load;

typedef struct cli_load_result {
    kiln_histogram *latency; /* nanoseconds of each run: from its start until its outputs are there
                              */
    uint64_t count;
    uint64_t wall; /* nanoseconds from the first one's start to the last one's end */
} cli_load_result;

/* Runs with the inputs that are bound to `bound`, which has run once: `warmup` milliseconds unseen,
 * then for `seconds` and at least `least` times. Says why when that fails. */
cli_exit cli_load_measure(kiln_engine *engine, kiln_context *bound, kiln_graph_policy graphs,
                          const cli_load *load, double warmup, double seconds, uint64_t least,
                          cli_load_result *found);
void cli_load_finish(cli_load_result *found);

#endif
