/* SPDX-License-Identifier: Apache-2.0 */
/* .npy files: what is accepted keeps the rules of a view. */
#include "fuzz_parts.h"
#include "tensor/kln_tensor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kiln_tensor tensor;
    if (kln_npy_read((kiln_span){data, size}, &tensor) != KILN_OK) {
        FAULT_IF(kiln_error_message()[0] == '\0');
        return 0;
    }
    FAULT_IF(kln_tensor_check("fuzz", &tensor) != KILN_OK || tensor.bytes > size);
    read_all(tensor.data, tensor.bytes);
    kiln_tensor_free(&tensor);
    return 0;
}
