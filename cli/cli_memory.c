/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"

void *cli_grow(void *memory, size_t size)
{
    void *grown = realloc(memory, size > 0 ? size : 1);
    if (grown == NULL) {
        (void)fprintf(stderr, "kiln: memory is exhausted: %zu bytes were needed\n", size);
        exit(CLI_FAILED);
    }
    return grown;
}

void *cli_allocate(size_t size)
{
    return memset(cli_grow(NULL, size), 0, size);
}
