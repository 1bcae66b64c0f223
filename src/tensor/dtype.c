/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_tensor.h"

const char *kiln_dtype_name(kiln_dtype dtype)
{
    switch (dtype) {
#define DTYPE_CASE(name, value, bits, text) \
    case name: return text;
        KILN_DTYPE_LIST(DTYPE_CASE)
#undef DTYPE_CASE
    }
    return "undefined";
}

unsigned kiln_dtype_bits(kiln_dtype dtype)
{
    switch (dtype) {
#define DTYPE_CASE(name, value, bits, text) \
    case name: return bits;
        KILN_DTYPE_LIST(DTYPE_CASE)
#undef DTYPE_CASE
    }
    return 0;
}

size_t kiln_dtype_alignment(kiln_dtype dtype)
{
    /* C aligns a complex number like one of its two floats. */
    if (dtype == KILN_DTYPE_COMPLEX64) {
        return 4;
    }
    if (dtype == KILN_DTYPE_COMPLEX128) {
        return 8;
    }
    if (dtype == KILN_DTYPE_STRING) {
        return _Alignof(kiln_span);
    }
    const unsigned bits = kiln_dtype_bits(dtype);
    return bits < 8 ? 1 : bits / 8;
}

kiln_dtype kiln_dtype_from_name(const char *name)
{
    static const struct {
        const char *name;
        kiln_dtype dtype;
    } names[] = {
#define DTYPE_NAME(name, value, bits, text) {text, name},
        KILN_DTYPE_LIST(DTYPE_NAME)
#undef DTYPE_NAME
            {"fp32", KILN_DTYPE_FLOAT32},
        {"fp16", KILN_DTYPE_FLOAT16},
        {"bf16", KILN_DTYPE_BFLOAT16},
        {"fp64", KILN_DTYPE_FLOAT64},
        {"fp8", KILN_DTYPE_FLOAT8E4M3},
        {"float", KILN_DTYPE_FLOAT32},
        {"half", KILN_DTYPE_FLOAT16},
        {"double", KILN_DTYPE_FLOAT64},
    };
    for (size_t i = 0; name != NULL && i < KLN_ARRAY_LENGTH(names); i++) {
        if (strcmp(name, names[i].name) == 0) {
            return names[i].dtype;
        }
    }
    return KILN_DTYPE_UNDEFINED;
}

const char *kiln_location_name(kiln_location location)
{
    switch (location) {
        case KILN_LOCATION_HOST: return "host";
        case KILN_LOCATION_PINNED: return "pinned";
        case KILN_LOCATION_MANAGED: return "managed";
        case KILN_LOCATION_DEVICE: return "device";
    }
    return "?";
}
