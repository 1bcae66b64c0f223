/* SPDX-License-Identifier: Apache-2.0 */
/* .safetensors files: every tensor that is told of lies in the file, and no two share a byte. */
#include <stdint.h>
#include <stdlib.h>

#include "tensor/kln_tensor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kln_arena arena = {0};
    kiln_named_tensor *tensors = NULL;
    size_t count = 0;
    size_t total = 0;
    unsigned sum = 0;
    const kiln_span file = {data, size};
    (void)kln_safetensors_is(file);
    const kiln_status status = kln_safetensors_read(file, &arena, &tensors, &count);
    if (status != KILN_OK && (kiln_error_message()[0] == '\0' || count != 0)) {
        abort();
    }
    for (size_t i = 0; i < count; i++) {
        const kiln_tensor *tensor = &tensors[i].tensor;
        const unsigned char *bytes = tensor->data;
        size_t needed = 0;
        if (kiln_tensor_bytes(tensor->desc.dtype, &tensor->desc.shape, &needed) != KILN_OK ||
            needed != tensor->bytes) {
            abort();
        }
        for (size_t k = 0; k < tensor->bytes; k++) {
            sum += bytes[k];
        }
        total += tensor->bytes;
    }
    if (total > size) {
        abort();
    }
    kln_arena_finish(&arena);
    volatile unsigned kept = sum;
    (void)kept;
    return 0;
}
