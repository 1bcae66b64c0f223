/* SPDX-License-Identifier: Apache-2.0 */
/* What `kiln inspect` shows of an ONNX file that no engine is built of. */
#ifndef CLI_NETWORK_H
#define CLI_NETWORK_H

#include "cli.h"

typedef struct cli_network {
    kiln_inspection *inspection;
    kiln_inspection_info info;
} cli_network;

/* False: `path` cannot be read as ONNX. What fails afterwards is said and goes to *result; so is
 * what is missing of the weights, which fails nothing. */
bool cli_network_open(const char *path, bool layers, cli_network *network, cli_exit *result);
void cli_network_close(cli_network *network);

/* What stands before the inputs. */
cli_exit cli_network_print_head(const char *path, const cli_network *network);
/* A table of the nodes, with a row for each of their tensors. */
cli_exit cli_network_print_layers(const cli_network *network);

/* "ir_version", "opsets", "nodes", "initializers", "functions" and "issues" go into `document`. */
cli_exit cli_network_add_head(struct cJSON *document, const cli_network *network);
/* "layers" goes into `document`. */
cli_exit cli_network_add_layers(struct cJSON *document, const cli_network *network);

#endif
