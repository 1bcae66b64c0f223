/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as JSON writes them, read in one pass. */
#ifndef KILN_SERVE_NUMBER_H
#define KILN_SERVE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `mantissa` times 10 to the power `exponent`. */
typedef struct serve_number {
    const char *at; /* as it stands there, its sign included */
    size_t length;
    uint64_t mantissa;
    int64_t exponent;
    bool negative;
    bool whole; /* digits alone */
    bool cut;   /* what follows the 19th digit is left out, and it is not 0 */
} serve_number;

/* False where the text does not begin with one (RFC 8259, section 6). */
bool serve_number_read(const char *at, const char *end, serve_number *number);
/* The nearest double. */
double serve_number_double(const serve_number *number);
/* Doubles with commas between, `most` at most; `*at` is behind the last of them. How many there
 * are; 0 where the text does not begin with one. */
size_t serve_number_run(const char **at, const char *end, double *values, size_t most);
/* Exactly: false where it is no integer, or below `least` or above `most`. */
bool serve_number_integer(const serve_number *number, int64_t least, uint64_t most,
                          uint64_t *value);

#endif
