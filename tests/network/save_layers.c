/* SPDX-License-Identifier: Apache-2.0 */
/* Builds every network of layer_cases.c in three operator sets and saves them, for
 * check_layers.py. Prints "<file> <bound>" for each.
 *
 *     save_layers <folder> */
#include <stdio.h>

#include "layer_cases.h"

static kiln_status save(const layer_case *each, int opset, const char *folder)
{
    char path[4096];
    kiln_network *network = NULL;
    kiln_network_options options = KILN_NETWORK_OPTIONS(.opset = opset, .name = each->name);
    kiln_status status = kiln_network_create(&options, &network);
    if (status == KILN_OK) {
        status = each->build(network);
    }
    (void)snprintf(path, sizeof path, "%s/%s.%d.onnx", folder, each->name, opset);
    if (status == KILN_OK) {
        status = kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE);
    }
    kiln_network_destroy(network);
    if (status == KILN_OK) {
        printf("%s %g\n", path, each->bound);
    } else {
        fprintf(stderr, "%s in operator set %d: %s\n", each->name, opset, kiln_error_message());
    }
    return status;
}

int main(int count, char **arguments)
{
    static const int opsets[] = {18, 21, 23};
    int failures = count != 2;
    for (size_t i = 0; count == 2 && i < layer_case_count; i++) {
        for (size_t k = 0; k < sizeof opsets / sizeof opsets[0]; k++) {
            if (opsets[k] >= layer_cases[i].oldest) {
                failures += save(&layer_cases[i], opsets[k], arguments[1]) != KILN_OK;
            }
        }
    }
    return failures != 0;
}
