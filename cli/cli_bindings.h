/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges and scales that a command line gives for tensors, inputs and outputs by name. */
#ifndef CLI_BINDINGS_H
#define CLI_BINDINGS_H

#include "cli.h"

typedef struct cli_bindings {
    cli_list ranges; /* "NAME=LOW:HIGH" */
    cli_list scales; /* "NAME=S" or "NAME=S:ZERO" */
    cli_list stored; /* "NAME" or "NAME=TYPE" */
    /* What they come to. */
    kiln_binding_quantization *items, *rounded; /* the same with none of them stored */
    size_t count;
    float *numbers;
    int32_t *zeros;
    char **names;
} cli_bindings;

/* CLI_MISUSED with what an option takes. cli_bindings_finish is to follow. */
cli_exit cli_bindings_read(const cli_command *command, cli_bindings *bindings);
/* The ranges go to `*table`, which is made where there is none. */
KILN_MUST_CHECK kiln_status cli_bindings_set_ranges(const cli_bindings *bindings,
                                                    kiln_range_table **table);
/* Releases what was read; the lists are the options'. */
void cli_bindings_finish(cli_bindings *bindings);

#endif
