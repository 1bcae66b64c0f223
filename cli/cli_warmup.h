/* SPDX-License-Identifier: Apache-2.0 */
/* Kiln build --warmup: how inputs and outputs travel fastest. */
#ifndef CLI_WARMUP_H
#define CLI_WARMUP_H

#include "cli.h"

/* Warms a context up with the opt shapes of each profile; what it measures stays with the engine
 * and is saved with it. Fails, with the sentence on standard error, where it does not run on a GPU
 * here. */
cli_exit cli_warmup(kiln_engine *engine);

#endif
