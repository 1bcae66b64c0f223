/* SPDX-License-Identifier: Apache-2.0 */
/* Passing a network in memory to ONNX Runtime without copying its weights.
 *
 * ONNX Runtime parses a message with names, types and shapes only. Each weight that the message
 * leaves out is registered with ONNX Runtime as an in-memory file, and is then used in place. That
 * file is the caller's own array, or a range of a mapped file. */
#ifndef KLN_ORT_HANDOVER_H
#define KLN_ORT_HANDOVER_H

#include "onnx/kln_onnx.h"
#include "ort_runtime.h"

typedef struct ort_handover {
    kln_onnx_model *model; /* a reference: its spans are used as long as the session */
    kln_text message;
    char **names; /* of the files in memory, until the session is there */
    char **buffers;
    size_t *sizes;
    size_t count;
    void **copies; /* of small weights at addresses their type does not allow */
    size_t copy_count;
} ort_handover;

/* Writes the message and collects the weights. OUT_OF_MEMORY; LIMIT when the message alone is
 * larger than protobuf allows. `handover` is zeroed before, and finished by the caller either way.
 */
KILN_MUST_CHECK kiln_status ort_handover_init(ort_handover *handover, const kln_onnx_model *model);

/* Names the weights to the session options. */
KILN_MUST_CHECK kiln_status ort_handover_apply(const ort_handover *handover,
                                               const ort_runtime *runtime,
                                               OrtSessionOptions *options);

/* After a session packed copies of weights: the pages of mapped files leave the process's memory,
 * and those that it computes on come back when it does. */
void ort_handover_rest(const ort_handover *handover);

/* Releases what only the making of a session needs. */
void ort_handover_trim(ort_handover *handover);

/* The network as it was handed over, with its weights where they lie; for kln_onnx_model_destroy,
 * and longer than the handover. */
KILN_MUST_CHECK kiln_status ort_handover_read(const ort_handover *handover, kln_onnx_model **model);
/* The whole model in one message, as it was when it was handed over, whatever its builder did to it
 * since. LIMIT past 2 GiB. */
KILN_MUST_CHECK kiln_status ort_handover_write(const ort_handover *handover, kln_text *bytes);

/* After the session is gone. A zeroed one is allowed. */
void ort_handover_finish(ort_handover *handover);

#endif
