/* SPDX-License-Identifier: Apache-2.0 */
/* Inputs that are filled with numbers: random ones, or one number for all elements. */
#include <stdio.h>
#include <string.h>

#include "cli_model.h"

bool cli_filling_read(const char *text, cli_filling *how, bool *is_wrong)
{
    *how = (cli_filling){.is_given = false};
    *is_wrong = false;
    double value = 0;
    if (text == NULL || strcmp(text, "random") == 0) {
        return true;
    }
    how->is_given = true;
    if (strcmp(text, "zeros") == 0) {
        text = "0";
    }
    if (cli_number(text, &value)) {
        how->range[0] = how->range[1] = value;
        return true;
    }
    if (strncmp(text, "random:", 7) != 0) {
        return false;
    }
    *is_wrong = cli_numbers_read(text + 7, how->range) != 2 || !(how->range[0] <= how->range[1]) ||
                !(how->range[1] - how->range[0] < 1e300);
    return true;
}

cli_exit cli_filling_bind(const cli_command *command, kiln_context *context,
                          const kiln_binding *binding, const kiln_shape *shape,
                          const cli_filling *how, int64_t seed)
{
    kiln_tensor tensor;
    CLI_FAIL_IF_ERROR(kiln_context_reshape(context, binding->name, shape));
    CLI_FAIL_IF_ERROR(cli_tensor_of(context, binding, &tensor));
    if (kiln_tensor_fill(&tensor, binding->name, (uint64_t)seed,
                         how->is_given ? how->range : NULL) != KILN_OK) {
        if (binding->dtype == KILN_DTYPE_STRING) {
            return cli_misuse(command, "--input: %s", kiln_error_message());
        }
        char range[96];
        (void)snprintf(range, sizeof range,
                       how->range[0] == how->range[1] ? "%.15g" : "all numbers from %.15g to %.15g",
                       how->range[0], how->range[1]);
        return cli_misuse(command, "--input: input \"%.200s\" is of type %s, which cannot hold %s",
                          binding->name, kiln_dtype_name(binding->dtype), range);
    }
    return CLI_DONE;
}
