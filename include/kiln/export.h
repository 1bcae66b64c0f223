/*
 * export.h - how a declaration of Kiln's C ABI is marked.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_EXPORT_H
#define KILN_EXPORT_H

#if defined(__GNUC__)
/* Part of the ABI: visible outside the library and listed in src/libkiln.map. */
#define KILN_API __attribute__((visibility("default")))
/* The result says whether the call worked; the compiler warns where it is dropped. */
#define KILN_MUST_CHECK __attribute__((warn_unused_result))
#else
#define KILN_API
#define KILN_MUST_CHECK
#endif

#endif
