/* SPDX-License-Identifier: Apache-2.0 */
/* Throughput: a model under one load or a list of them, at one batch size or several. */
#ifndef KILN_CLI_SWEEP_H
#define KILN_CLI_SWEEP_H

#include "cli_load.h"
#include "cli_model.h"

#define CLI_MOST_POINTS 256

/* As the options have them; NULL and 0 where they were not given. */
typedef struct cli_sweep_settings {
    const char *batches;
    const char *contexts;
    const char *streams;
    int64_t ahead;
    int64_t callers;
    bool stagger;
    const char *plot;
} cli_sweep_settings;

extern const cli_option cli_sweep_options[];

/* Whether any of them was given. */
bool cli_sweep_is_asked(const cli_sweep_settings *settings);

/* One measurement. */
typedef struct cli_point {
    int64_t batch; /* 0: the shapes are as they were given */
    cli_load load;
    size_t ahead; /* runs behind the one that a stream works on */
    cli_load_result result;
} cli_point;

typedef struct cli_sweep {
    cli_point *points; /* batch by batch, within one by contexts */
    size_t count;
    size_t levels; /* points of one batch */
} cli_sweep;

/* Inferences and items of the batch in a second. */
static inline double cli_point_rate(const cli_point *point)
{
    return point->result.wall > 0 ? (double)point->result.count / ((double)point->result.wall / 1e9)
                                  : 0;
}
static inline double cli_point_items(const cli_point *point)
{
    return cli_point_rate(point) * (double)(point->batch > 0 ? point->batch : 1);
}

/* The smallest and the largest of --batches, which a build must have room for; 0: none given. */
cli_exit cli_sweep_batches(const cli_command *command, const cli_sweep_settings *settings,
                           int64_t *smallest, int64_t *largest);

/* Which points there will be; says what is wrong with the settings. */
cli_exit cli_sweep_plan(const cli_command *command, const cli_sweep_settings *settings,
                        const kiln_engine *engine, const cli_input_settings *inputs,
                        cli_sweep *sweep);
/* Measures all, `warmup` milliseconds and `seconds` each. */
cli_exit cli_sweep_measure(const cli_command *command, const cli_model_settings *model,
                           const cli_input_settings *inputs, kiln_engine *engine, double warmup,
                           double seconds, uint64_t least, cli_sweep *sweep);
void cli_sweep_print(const cli_sweep *sweep);
void cli_sweep_add(struct cJSON *document, const cli_sweep *sweep);
void cli_sweep_finish(cli_sweep *sweep);

/* Latency against throughput as a picture of its own in a file (cli_plot.c): SVG, or with .html at
 * its end a page with the figures below. `title` and `subtitle` are printable. */
bool cli_plot_knows(const char *path);
cli_exit cli_plot_write(const char *path, const char *title, const char *subtitle,
                        const cli_sweep *sweep);

#endif
