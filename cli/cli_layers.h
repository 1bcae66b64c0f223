/* SPDX-License-Identifier: Apache-2.0 */
/* The time of each layer of a plan. */
#ifndef KILN_CLI_LAYERS_H
#define KILN_CLI_LAYERS_H

#include "cli_model.h"

/* What layers are measured with. */
typedef struct cli_layers {
    kiln_context *context; /* without CUDA graphs */
    kiln_engine *engine;   /* built anew; NULL where the caller's will do */
    cli_inputs inputs;
} cli_layers;

/* Says why where layers cannot be measured at all. */
cli_exit cli_layers_open(const cli_command *command, const char *path,
                         const cli_model_settings *model, const cli_input_settings *inputs,
                         kiln_engine *engine, cli_layers *layers);
void cli_layers_close(cli_layers *layers);

/* Runs with what is bound for `seconds`, `least` times at least, with each layer measured. */
kiln_status cli_layers_measure(kiln_context *context, double seconds, size_t least);

/* A table, the slowest first. */
cli_exit cli_layers_print(kiln_context *context);

/* "layers" in the order of a run. */
void cli_layers_add(struct cJSON *document, kiln_context *context);

#endif
