/* SPDX-License-Identifier: Apache-2.0 */
/* .safetensors files: every tensor that is told of lies in the file, and no two share a byte. */
#include "fuzz_parts.h"
#include "tensor/kln_tensor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kln_arena arena = {0};
    kiln_named_tensor *tensors = NULL;
    size_t count = 0;
    size_t total = 0;
    const kiln_span file = {data, size};
    (void)kln_safetensors_is(file);
    const kiln_status status = kln_safetensors_read(file, &arena, &tensors, &count);
    FAULT_IF(status != KILN_OK && (kiln_error_message()[0] == '\0' || count != 0));
    for (size_t i = 0; i < count; i++) {
        const kiln_tensor *tensor = &tensors[i].tensor;
        size_t needed = 0;
        FAULT_IF(kiln_tensor_bytes(tensor->desc.dtype, &tensor->desc.shape, &needed) != KILN_OK ||
                 needed != tensor->bytes);
        read_all(tensor->data, tensor->bytes);
        total += tensor->bytes;
    }
    FAULT_IF(total > size);
    kln_arena_finish(&arena);
    return 0;
}
