/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "kln_base.h"

const char *kln_getenv(const char *name)
{
    return secure_getenv(name);
}
