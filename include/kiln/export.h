/*
 * export.h - macros that mark the declarations of Kiln's C ABI, and that initialize its structs in
 * C and C++.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_EXPORT_H
#define KILN_EXPORT_H

#if defined(__GNUC__)
/* Part of the ABI: visible outside the library and listed in src/libkiln.map. */
#define KILN_API __attribute__((visibility("default")))
/* The result tells whether the call succeeded; the compiler warns if it is ignored. */
#define KILN_MUST_CHECK __attribute__((warn_unused_result))
#else
#define KILN_API
#define KILN_MUST_CHECK
#endif

/* KILN_..._INIT expand to these: a struct with its size set, given defaults, and 0 in all other
 * members. C++ has no compound literals, and has designated initializers only from C++20 on and in
 * the order of the members. In C++, therefore, initialize a struct with KILN_..._INIT and assign
 * its members. */
#ifdef __cplusplus
#define KILN_LITERAL_(type) type
#define KILN_INIT_(type) KILN_LASTING_(type, kiln_made_<type>())
#define KILN_INIT_WITH_(type, ...) KILN_INIT_FOUR_(type, __VA_ARGS__, , , , )
#define KILN_INIT_FOUR_(type, a, b, c, d, ...)        \
    KILN_LASTING_(type, ([]() -> type {               \
                      type made = kiln_made_<type>(); \
                      (void)(made a);                 \
                      (void)(made b);                 \
                      (void)(made c);                 \
                      (void)(made d);                 \
                      return made;                    \
                  }()))
/* An object with an address until the end of the expression, like a compound literal. */
#define KILN_LASTING_(type, ...) (static_cast<const type &>(__VA_ARGS__))
extern "C++" {
template <typename Made>
inline Made kiln_made_()
{
    Made made = Made();
    made.struct_size = sizeof made;
    return made;
}
}
#else
#define KILN_LITERAL_(type) (type)
#define KILN_INIT_(type) ((type){.struct_size = sizeof(type)})
#define KILN_INIT_WITH_(type, ...) KILN_INIT_OF_(type, __VA_ARGS__)
#define KILN_LASTING_(type, ...) (__VA_ARGS__)
#endif
/* With designated members: KILN_BUILD_OPTIONS(.backend = "reference"). */
#define KILN_INIT_OF_(type, ...) \
    KILN_LASTING_(type, KILN_LITERAL_(type){.struct_size = sizeof(type), __VA_ARGS__})

#endif
