/*
 * version.h - the version of Kiln.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_VERSION_H
#define KILN_VERSION_H

#include <kiln/export.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KILN_VERSION_MAJOR 0
#define KILN_VERSION_MINOR 1
#define KILN_VERSION_PATCH 0

/* The version as a number that grows with each release: 0.1.0 is 100, 1.2.3 is 10203. */
#define KILN_VERSION_NUMBER \
    (KILN_VERSION_MAJOR * 10000 + KILN_VERSION_MINOR * 100 + KILN_VERSION_PATCH)

/* The version of the loaded library, in the form of KILN_VERSION_NUMBER. It may be newer than the
 * header that a program was compiled with. It is never older than the program can use, because
 * every symbol carries its version. Any thread. Since 0.1. */
KILN_API int kiln_version(void);

/* The version of the loaded library as text, "0.1.0". Static storage. Any thread. Since 0.1. */
KILN_API const char *kiln_version_string(void);

#ifdef __cplusplus
}
#endif

#endif
