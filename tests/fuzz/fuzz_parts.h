/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzz targets share. */
#ifndef FUZZ_PARTS_H
#define FUZZ_PARTS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FAULT_IF(condition) \
    do {                    \
        if (condition) {    \
            abort();        \
        }                   \
    } while (0)

/* Every byte can be read. */
static inline void read_all(const void *data, size_t size)
{
    volatile unsigned char sum = 0;
    for (size_t i = 0; i < size; i++) {
        sum ^= ((const unsigned char *)data)[i];
    }
    (void)sum;
}

#endif
