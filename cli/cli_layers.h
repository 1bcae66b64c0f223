/*
 * cli_layers.h - the time of each layer of a plan.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_CLI_LAYERS_H
#define KILN_CLI_LAYERS_H

#include "cli.h"

/* Runs with what is bound for `seconds`, `least` times at least, with each layer measured. */
kiln_status cli_layers_measure(kiln_context *context, double seconds, size_t least);

/* A table, the slowest first. */
cli_exit cli_layers_print(kiln_context *context);

/* "layers" in the order of a run. */
void cli_layers_add(struct cJSON *document, kiln_context *context);

#endif
