/* SPDX-License-Identifier: Apache-2.0 */
/* .npy files: what is accepted keeps the rules of a view. */
#include <stdint.h>
#include <stdlib.h>

#include "tensor/kln_tensor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kiln_tensor tensor;
    if (kln_npy_read((kiln_span){data, size}, &tensor) != KILN_OK) {
        if (kiln_error_message()[0] == '\0') {
            abort();
        }
        return 0;
    }
    if (kln_tensor_check("fuzz", &tensor) != KILN_OK || tensor.bytes > size) {
        abort();
    }
    /* Every byte is readable. */
    const unsigned char *bytes = tensor.data;
    unsigned sum = 0;
    for (size_t i = 0; i < tensor.bytes; i++) {
        sum += bytes[i];
    }
    kiln_tensor_free(&tensor);
    volatile unsigned kept = sum;
    (void)kept;
    return 0;
}
