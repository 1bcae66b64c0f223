/* SPDX-License-Identifier: Apache-2.0 */
/* Features of the processor, for the library and the program. */
#ifndef KLN_PROCESSOR_H
#define KLN_PROCESSOR_H

#include <stdbool.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* Whether products of unsigned and signed 8-bit numbers are added in 16 bits by two, and cut off
 * there, by who has no other instruction for them (VPMADDUBSW): on x86 without VNNI, which is bit
 * 11 of ECX in leaf 7, or of AVX bit 4 of EAX in its second part. */
static inline bool kln_processor_cuts_sums(void)
{
#if defined(__x86_64__)
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    const bool is_told = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0;
    const bool has_more = is_told && a >= 1;
    const bool has_vnni = is_told && (c >> 11 & 1) != 0;
    return !has_vnni &&
           !(has_more && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0);
#else
    return false;
#endif
}

#endif
