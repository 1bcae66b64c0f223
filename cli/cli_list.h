/* SPDX-License-Identifier: Apache-2.0 */
/* The commands there are, in the order of the help. A new one gets its file cli_<name>.c, a line
 * here and a place in docs/cli.md. */
#ifndef KILN_CLI_LIST_H
#define KILN_CLI_LIST_H

#include "cli.h"

#define CLI_COMMAND_LIST(X) \
    X(run)                  \
    X(bench)                \
    X(build)                \
    X(inspect)              \
    X(check)                \
    X(compare)              \
    X(calibrate)            \
    X(quantize)             \
    X(refit)                \
    X(cache)                \
    X(serve)                \
    X(doctor)               \
    X(help)

#define CLI_COMMAND_DECLARE_(name) extern const cli_command cli_command_##name;
CLI_COMMAND_LIST(CLI_COMMAND_DECLARE_)
#undef CLI_COMMAND_DECLARE_

#endif
