/*
 * export.h - how a declaration of Kiln's C ABI is marked, and how C and C++ write its structs.
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

/* KILN_..._INIT are these: a struct with its size, 0 in all other members but those that a default
 * is given for. C++ has no compound literals, and designators from C++20 on alone, in the order of
 * the members: there a struct is made by KILN_..._INIT and its members are assigned. */
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
/* Something that has an address until the end of the expression, as a compound literal has. */
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
/* With members by name: KILN_BUILD_OPTIONS(.backend = "reference"). */
#define KILN_INIT_OF_(type, ...) \
    KILN_LASTING_(type, KILN_LITERAL_(type){.struct_size = sizeof(type), __VA_ARGS__})

#endif
