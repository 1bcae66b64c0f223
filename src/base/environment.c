/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "kln_base.h"

const char *kln_getenv(const char *name)
{
    const char *value = secure_getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}
