/* SPDX-License-Identifier: Apache-2.0 */
/* What `kiln inspect` shows of a plan beside its bindings. */
#ifndef CLI_PLAN_H
#define CLI_PLAN_H

#include "cli.h"

/* A table of the ranges of each profile; nothing where there is none. */
cli_exit cli_plan_print_profiles(const kiln_engine *engine);

/* One line for each layer. */
cli_exit cli_plan_print_layers(kiln_engine *engine);

/* "profiles", where there are any, and with `layers` "layers", go into `document`. */
cli_exit cli_plan_add_json(struct cJSON *document, kiln_engine *engine, bool layers);

#endif
