/* SPDX-License-Identifier: Apache-2.0 */
/* Models: every rewriting pass over whatever the reader takes, valid or not, leaves a model that is
 * written and read again. */
#include "backends/onnxruntime/ort_rewrite.h"
#include "fuzz_parts.h"
#include "graph/kln_graph.h"

#define MODEL_LARGEST ((size_t)1 << 16)

static void require(kiln_status status)
{
    /* A limit is an answer, too. */
    FAULT_IF(status != KILN_OK && status != KILN_ERROR_LIMIT);
}

static void check_written(const kln_onnx_model *model)
{
    kln_onnx_model *again = NULL;
    kln_text bytes;
    kln_text_init(&bytes, SIZE_MAX);
    require(kln_onnx_write_bytes(model, KLN_ONNX_WEIGHTS_INLINE, &bytes));
    require(kln_onnx_read_bytes((kiln_span){bytes.data, bytes.size}, NULL, &again));
    FAULT_IF(again != NULL && again->graph.node_count != model->graph.node_count);
    kln_onnx_model_destroy(again);
    kln_text_finish(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kln_onnx_model *model = NULL;
    size_t merged = 0;
    size_t count = 0;
    size_t changed = 0;
    if (size > MODEL_LARGEST ||
        kln_onnx_read_bytes((kiln_span){data, size}, NULL, &model) != KILN_OK) {
        return 0;
    }
    /* The last byte says what comes first. */
    if (data[size - 1] % 2 == 0) {
        require(kln_fuse_horizontally(model, &merged));
    }
    if (data[size - 1] / 2 % 2 == 0) {
        require(kln_inline_branches(model, &count));
        changed += count;
        require(kln_inline_functions(model, &count));
        changed += count;
    }
    for (int kind = 0; kind < ORT_REWRITE_KINDS; kind++) {
        require(ort_rewrite(model, (ort_rewrite_kind)kind, NULL, &count));
        changed += count;
    }
    if (merged + changed != 0) {
        check_written(model);
    }
    kln_onnx_model_destroy(model);
    return 0;
}
