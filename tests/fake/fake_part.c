/* SPDX-License-Identifier: Apache-2.0 */
/* A library for the loader to find, in several shapes: FAKE_VERSION is what it says of itself,
 * FAKE_WITHOUT_SYMBOL leaves the needed function out, FAKE_NEEDS_ABSENT calls into a library that
 * is not there when it is opened. */
#define FAKE_API __attribute__((visibility("default")))

#ifndef FAKE_VERSION
#define FAKE_VERSION 3
#endif

#ifndef FAKE_WITHOUT_SYMBOL
FAKE_API int fake_version(void);

int fake_version(void)
{
    return FAKE_VERSION;
}
#endif

#ifdef FAKE_NEEDS_ABSENT
FAKE_API int fake_elsewhere(void);
FAKE_API int fake_here(void);

int fake_here(void)
{
    return fake_elsewhere();
}
#else
FAKE_API int fake_here(void);

int fake_here(void)
{
    return 1;
}
#endif
