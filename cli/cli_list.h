/* SPDX-License-Identifier: Apache-2.0 */
/* The commands there are. A new one gets its file cli_<name>.c, a line here and one in
 * cli_main.c, its name in cli/CMakeLists.txt for the manual page, and a place in
 * docs/cli.md. */
#ifndef KILN_CLI_LIST_H
#define KILN_CLI_LIST_H

#include "cli.h"

extern const cli_command cli_command_bench;
extern const cli_command cli_command_build;
extern const cli_command cli_command_cache;
extern const cli_command cli_command_calibrate;
extern const cli_command cli_command_check;
extern const cli_command cli_command_compare;
extern const cli_command cli_command_doctor;
extern const cli_command cli_command_inspect;
extern const cli_command cli_command_quantize;
extern const cli_command cli_command_refit;
extern const cli_command cli_command_run;
extern const cli_command cli_command_serve;

#endif
