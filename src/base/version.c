/* SPDX-License-Identifier: Apache-2.0 */
#include <kiln/version.h>

#define TEXT_OF(value) #value
#define TEXT(value) TEXT_OF(value)

int kiln_version(void)
{
    return KILN_VERSION_NUMBER;
}

const char *kiln_version_string(void)
{
    return TEXT(KILN_VERSION_MAJOR) "." TEXT(KILN_VERSION_MINOR) "." TEXT(KILN_VERSION_PATCH);
}
