/* SPDX-License-Identifier: Apache-2.0 */
/* Where the time of an inference on a GPU goes. */
#ifndef KILN_CLI_GPU_H
#define KILN_CLI_GPU_H

#include "cli.h"
#include "cli_raw.h"

/* The parts of an inference, in trtexec's words; docs/cli.md defines them. */
typedef enum cli_gpu_part {
    CLI_GPU_LATENCY, /* to the device, there, and back: by the GPU's clock */
    CLI_GPU_ENQUEUE, /* of the host: until the call that starts the work returns */
    CLI_GPU_H2D,
    CLI_GPU_COMPUTE,
    CLI_GPU_D2H,
    CLI_GPU_PARTS
} cli_gpu_part;

typedef struct cli_gpu_times {
    kiln_histogram *times[CLI_GPU_PARTS]; /* nanoseconds; NULL where nothing was measured */
    size_t count;
} cli_gpu_times;

/* "h2d", as the JSON calls it. */
extern const char *const cli_gpu_names[CLI_GPU_PARTS];

/* Runs what `bound` ran, from pinned memory over device memory and back, for `seconds` and at least
 * `least` times. `bound` has run once with its inputs. */
kiln_status cli_gpu_measure(kiln_engine *engine, kiln_context *bound, kiln_graph_policy graphs,
                            double seconds, size_t least, cli_gpu_times *found);
void cli_gpu_finish(cli_gpu_times *found);

/* cli_raw_measure on device memory, with the same inputs. */
kiln_status cli_gpu_compare_raw(kiln_engine *engine, kiln_context *bound, kiln_graph_policy graphs,
                                double seconds, size_t least, cli_raw_times *found);

#endif
