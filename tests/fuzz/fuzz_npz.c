/* SPDX-License-Identifier: Apache-2.0 */
/* .npz files: what is accepted keeps the rules of views, each with a name of its own. */
#include "fuzz_parts.h"
#include "tensor/kln_tensor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kiln_named_tensor *tensors = NULL;
    size_t count = 0;
    if (kln_npz_read((kiln_span){data, size}, &tensors, &count) != KILN_OK) {
        FAULT_IF(kiln_error_message()[0] == '\0' || tensors != NULL || count != 0);
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        FAULT_IF(kln_tensor_check("fuzz", &tensors[i].tensor) != KILN_OK ||
                 tensors[i].name[0] == '\0' ||
                 (i > 0 && strcmp(tensors[i].name, tensors[0].name) == 0));
        read_all(tensors[i].tensor.data, tensors[i].tensor.bytes);
    }
    kiln_tensors_free(tensors, count);
    return 0;
}
