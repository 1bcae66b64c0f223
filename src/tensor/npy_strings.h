/* SPDX-License-Identifier: Apache-2.0 */
/* Strings in .npy files: all of the same width, padded with zeros. */
#ifndef NPY_STRINGS_H
#define NPY_STRINGS_H

#include "kln_tensor.h"

typedef struct npy_strings {
    size_t width; /* of each, in parts */
    size_t part;  /* 4: code points; 1: bytes; 0: they are none */
    bool is_big;  /* code points have their highest byte first */
} npy_strings;

/* What a type like "U5" or "S5" says; false for another one. */
bool npy_strings_code(kiln_span code, npy_strings *of);
/* MALFORMED, OUT_OF_MEMORY, and what a shape can lack. The tensor is one piece of memory. */
KILN_MUST_CHECK kiln_status npy_strings_read(const npy_strings *of, const kiln_shape *shape,
                                             kiln_span data, kiln_tensor *tensor);
/* The type and the bytes of these strings in a file, the latter for kln_free: characters where all
 * are UTF-8, else bytes. UNSUPPORTED, OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status npy_strings_fill(const kiln_span *strings, size_t count, char code[32],
                                             void **filled, size_t *bytes);

#endif
