/* SPDX-License-Identifier: Apache-2.0 */
/* Calling TensorRT: one typed inline function for each method of trt_slots.inc.
 *
 *     trt_Runtime_setMaxThreads(abi, runtime, 4);
 *
 * `abi` is the table of the library that made the object. A method that the library's version lacks
 * returns zero and does nothing. A caller that depends on it checks trt_has first and names the
 * feature in its refusal. NULL objects are not allowed. */
#ifndef TRT_ABI_H
#define TRT_ABI_H

#include "backends/tensorrt/trt_types.h"
#include "base/kln_base.h"

/* TRT_M_Runtime_setMaxThreads, ... */
typedef enum trt_method {
#define TRT_ROW(c, m, s0, s1, s2, s3, r, p) TRT_M_##c##_##m,
#include "backends/tensorrt/trt_slots.inc"
    TRT_METHOD_COUNT
} trt_method;

/* TRT_V_BuilderFlag_REFIT, ... */
typedef enum trt_enumerator {
#define VALUE(e, k, v0, v1, v2, v3) TRT_V_##e##_##k,
#include "backends/tensorrt/trt_values.inc"
    TRT_ENUMERATOR_COUNT
} trt_enumerator;

/* One column of the table, cut to one version. Immutable once resolved. */
typedef struct trt_abi {
    trt_layout layout;
    int32_t version; /* as getInferLibVersion counts */
    bool is_rtx;
    int16_t slots[TRT_METHOD_COUNT];      /* -1: absent */
    int16_t values[TRT_ENUMERATOR_COUNT]; /* -1: absent */
} trt_abi;

/* Fills `abi` for a library. LIBRARY_VERSION with the versions that are known. */
KILN_MUST_CHECK kiln_status trt_abi_resolve(bool is_rtx, int32_t version, trt_abi *abi);

/* "TensorRT-RTX 1.7.1", "TensorRT 10.16.1". */
void trt_version_text(bool is_rtx, int32_t version, char text[32]);

/* "Runtime.setMaxThreads", "BuilderFlag.REFIT": for sentences. */
const char *trt_method_name(trt_method method);
const char *trt_enumerator_name(trt_enumerator enumerator);

/* Which versions have it: "TensorRT 10 from 10.2 on, TensorRT 11", or "no version". */
#define TRT_WHERE_TEXT 160
void trt_method_where(trt_method method, char text[TRT_WHERE_TEXT]);
void trt_enumerator_where(trt_enumerator enumerator, char text[TRT_WHERE_TEXT]);

static inline bool trt_has(const trt_abi *abi, trt_method method)
{
    return abi->slots[method] >= 0;
}

/* The number TensorRT gives the enumerator, or -1 where this version lacks it. */
static inline int32_t trt_value(const trt_abi *abi, trt_enumerator enumerator)
{
    return abi->values[enumerator];
}

/* What TensorRT returns where it should return NULL: the lean runtimes give the address of a member
 * of an object that was not made, a few hundred bytes into the zero page. */
static inline bool trt_is_null(const void *object)
{
    return (uintptr_t)object < 4096;
}

/* The object that methods are called on. */
#define TRT_SELF_IMPL(name)                                         \
    static inline void *trt_##name##_self(const trt_##name *object) \
    {                                                               \
        return object->implementation;                              \
    }                                                               \
    /* NULL is allowed, and what trt_is_null takes for it. */       \
    static inline void trt_##name##_destroy(trt_##name *object)     \
    {                                                               \
        if (!trt_is_null(object)) {                                 \
            ((void (*)(void *))object->vtable[1])(object);          \
        }                                                           \
    }
#define TRT_SELF_SELF(name, cpp)                              \
    static inline void *trt_##name##_self(trt_##name *object) \
    {                                                         \
        return object;                                        \
    }
TRT_CLASSES(TRT_SELF_IMPL, TRT_SELF_SELF)
#undef TRT_SELF_IMPL
#undef TRT_SELF_SELF

/* The type of each method as a C function, `self` first: trt_fn_Logger_log, ... */
#define TRT_FN(c, m, r, ...) typedef r (*trt_fn_##c##_##m)(__VA_ARGS__);
#define METHOD0(c, m, s0, s1, s2, s3, r) TRT_FN(c, m, r, void *)
#define METHOD1(c, m, s0, s1, s2, s3, r, t0) TRT_FN(c, m, r, void *, t0)
#define METHOD2(c, m, s0, s1, s2, s3, r, t0, t1) TRT_FN(c, m, r, void *, t0, t1)
#define METHOD3(c, m, s0, s1, s2, s3, r, t0, t1, t2) TRT_FN(c, m, r, void *, t0, t1, t2)
#define METHOD4(c, m, s0, s1, s2, s3, r, t0, t1, t2, t3) TRT_FN(c, m, r, void *, t0, t1, t2, t3)
#define METHOD5(c, m, s0, s1, s2, s3, r, t0, t1, t2, t3, t4) \
    TRT_FN(c, m, r, void *, t0, t1, t2, t3, t4)
#define VOID0(c, m, s0, s1, s2, s3) TRT_FN(c, m, void, void *)
#define VOID1(c, m, s0, s1, s2, s3, t0) TRT_FN(c, m, void, void *, t0)
#define VOID2(c, m, s0, s1, s2, s3, t0, t1) TRT_FN(c, m, void, void *, t0, t1)
#define VOID3(c, m, s0, s1, s2, s3, t0, t1, t2) TRT_FN(c, m, void, void *, t0, t1, t2)
#define VOID4(c, m, s0, s1, s2, s3, t0, t1, t2, t3) TRT_FN(c, m, void, void *, t0, t1, t2, t3)
#include "backends/tensorrt/trt_slots.inc"

/* The calls. */
#define TRT_LOOKUP(c, m)                          \
    void *self = trt_##c##_self(object);          \
    const int slot = abi->slots[TRT_M_##c##_##m]; \
    const trt_fn_##c##_##m function =             \
        slot < 0 ? NULL : (trt_fn_##c##_##m)(*(const trt_slot *const *)self)[slot]
#define TRT_CALL(c, m, r, parameters, arguments)               \
    static inline r trt_##c##_##m parameters                   \
    {                                                          \
        TRT_LOOKUP(c, m);                                      \
        return function == NULL ? (r){0} : function arguments; \
    }
#define TRT_DO(c, m, parameters, arguments)     \
    static inline void trt_##c##_##m parameters \
    {                                           \
        TRT_LOOKUP(c, m);                       \
        if (function != NULL) {                 \
            function arguments;                 \
        }                                       \
    }
#define TRT_OBJECT(c) const trt_abi *abi, trt_##c *object
#define METHOD0(c, m, s0, s1, s2, s3, r) TRT_CALL(c, m, r, (TRT_OBJECT(c)), (self))
#define METHOD1(c, m, s0, s1, s2, s3, r, t0) TRT_CALL(c, m, r, (TRT_OBJECT(c), t0 a0), (self, a0))
#define METHOD2(c, m, s0, s1, s2, s3, r, t0, t1) \
    TRT_CALL(c, m, r, (TRT_OBJECT(c), t0 a0, t1 a1), (self, a0, a1))
#define METHOD3(c, m, s0, s1, s2, s3, r, t0, t1, t2) \
    TRT_CALL(c, m, r, (TRT_OBJECT(c), t0 a0, t1 a1, t2 a2), (self, a0, a1, a2))
#define METHOD4(c, m, s0, s1, s2, s3, r, t0, t1, t2, t3) \
    TRT_CALL(c, m, r, (TRT_OBJECT(c), t0 a0, t1 a1, t2 a2, t3 a3), (self, a0, a1, a2, a3))
#define METHOD5(c, m, s0, s1, s2, s3, r, t0, t1, t2, t3, t4)              \
    TRT_CALL(c, m, r, (TRT_OBJECT(c), t0 a0, t1 a1, t2 a2, t3 a3, t4 a4), \
             (self, a0, a1, a2, a3, a4))
#define VOID0(c, m, s0, s1, s2, s3) TRT_DO(c, m, (TRT_OBJECT(c)), (self))
#define VOID1(c, m, s0, s1, s2, s3, t0) TRT_DO(c, m, (TRT_OBJECT(c), t0 a0), (self, a0))
#define VOID2(c, m, s0, s1, s2, s3, t0, t1) \
    TRT_DO(c, m, (TRT_OBJECT(c), t0 a0, t1 a1), (self, a0, a1))
#define VOID3(c, m, s0, s1, s2, s3, t0, t1, t2) \
    TRT_DO(c, m, (TRT_OBJECT(c), t0 a0, t1 a1, t2 a2), (self, a0, a1, a2))
#define VOID4(c, m, s0, s1, s2, s3, t0, t1, t2, t3) \
    TRT_DO(c, m, (TRT_OBJECT(c), t0 a0, t1 a1, t2 a2, t3 a3), (self, a0, a1, a2, a3))
#include "backends/tensorrt/trt_slots.inc"

#endif
