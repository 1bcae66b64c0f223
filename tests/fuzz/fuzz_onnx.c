/* SPDX-License-Identifier: Apache-2.0 */
/* ONNX models: what is read can be written, and what was written is read as the same. */
#include "fuzz_parts.h"
#include "onnx/kln_onnx.h"

/* Writes the model, reads that, writes it again: nothing may change any more. */
static void check_copy(const kln_onnx_model *model)
{
    kln_onnx_model *copy = NULL;
    kln_text first;
    kln_text second;
    kln_text_init(&first, SIZE_MAX / 4);
    kln_text_init(&second, SIZE_MAX / 4);
    if (kln_onnx_write_bytes(model, KLN_ONNX_WEIGHTS_INLINE, &first) != KILN_OK ||
        kln_onnx_read_bytes((kiln_span){first.data, first.size}, NULL, &copy) != KILN_OK ||
        kln_onnx_write_bytes(copy, KLN_ONNX_WEIGHTS_INLINE, &second) != KILN_OK ||
        first.size != second.size || memcmp(first.data, second.data, first.size) != 0) {
        abort();
    }
    kln_onnx_model_destroy(copy);
    kln_text_finish(&first);
    kln_text_finish(&second);
    FAULT_IF(kln_onnx_write_bytes(model, KLN_ONNX_WEIGHTS_LEFT_OUT, &first) != KILN_OK);
    kln_text_finish(&first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kln_onnx_model *model = NULL;
    /* A folder without files: locations are checked, none can be opened. */
    const kiln_status status =
        kln_onnx_read_bytes((kiln_span){data, size}, "/proc/self/ns", &model);
    if (status != KILN_OK) {
        FAULT_IF(model != NULL || kiln_error_message()[0] == '\0');
        if (kln_onnx_read_bytes((kiln_span){data, size}, NULL, &model) != KILN_OK) {
            return 0;
        }
    }
    check_copy(model);
    kln_onnx_model_destroy(model);
    return 0;
}
