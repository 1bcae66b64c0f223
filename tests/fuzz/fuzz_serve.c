/* SPDX-License-Identifier: Apache-2.0 */
/* The body of an inference, JSON with or without binary tensors behind it: what is taken names
 * tensors that lie in the body or in the arena and are as long as they say, and what is refused
 * says why. The first two bytes are the length of the JSON. Read in pieces, behind blanks that make
 * it long enough, all of it as JSON comes to the same. */
#include "../server/serve_pieces.h"
#include "fuzz_parts.h"
#include "serve_data.h"

static serve_binding inputs[] = {
    {"x", KILN_DTYPE_FLOAT32, {2, {KILN_DYNAMIC, 4}}}, {"b", KILN_DTYPE_BOOL, {1, {KILN_DYNAMIC}}},
    {"i", KILN_DTYPE_INT64, {1, {KILN_DYNAMIC}}},      {"u", KILN_DTYPE_UINT8, {1, {KILN_DYNAMIC}}},
    {"h", KILN_DTYPE_BFLOAT16, {1, {KILN_DYNAMIC}}},
};
static serve_binding outputs[] = {{"y", KILN_DTYPE_FLOAT32, {1, {KILN_DYNAMIC}}},
                                  {"z", KILN_DTYPE_FLOAT16, {1, {KILN_DYNAMIC}}}};
static serve_instance model = {.inputs = inputs,
                               .outputs = outputs,
                               .input_count = SERVE_LENGTH(inputs),
                               .output_count = SERVE_LENGTH(outputs)};

static bool is_in_arena(const serve_arena *arena, const char *at, size_t bytes)
{
    for (const serve_block *block = arena->first; block != NULL; block = block->next) {
        const char *begin = (const char *)block;
        if (at > begin && at + bytes <= begin + 64 + block->used) {
            return true;
        }
    }
    return false;
}

static void check(const serve_infer *infer, const serve_arena *arena, const char *body, size_t size)
{
    for (size_t i = 0; i < infer->input_count; i++) {
        const kiln_tensor *tensor = &infer->inputs[i].tensor;
        const char *at = tensor->data;
        size_t bytes = 0;
        FAULT_IF(kiln_tensor_bytes(tensor->desc.dtype, &tensor->desc.shape, &bytes) != KILN_OK ||
                 bytes != tensor->bytes ||
                 (uintptr_t)at % kiln_dtype_alignment(tensor->desc.dtype) != 0 ||
                 !((at >= body && at + bytes <= body + size) || is_in_arena(arena, at, bytes)));
    }
    for (size_t i = 0; i < infer->wish_count; i++) {
        FAULT_IF(infer->wishes[i].index >= model.output_count || infer->wishes[i].classes < 0);
    }
    FAULT_IF(infer->wish_count == 0 || infer->wish_count > model.output_count);
}

static void check_pieces(const uint8_t *data, size_t size, uint64_t seed)
{
    enum { BLANKS = 1 << 16 };
    char *body = malloc(BLANKS + size);
    pieces_read read = {.reads = false};
    if (body == NULL) {
        return;
    }
    memset(body, ' ', BLANKS);
    memcpy(body + BLANKS, data, size);
    FAULT_IF(
        !pieces_agree(&model, body, BLANKS + size, BLANKS, 1 + (size_t)(seed % size), seed, &read));
    free(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3) {
        return 0;
    }
    const size_t length = size - 2;
    const size_t head = (size_t)data[0] + 256 * (size_t)data[1];
    /* Of the very size, so that a byte too far is seen. */
    char *body = aligned_alloc(64, (length + 64) & ~(size_t)63);
    serve_arena arena = {.first = NULL};
    serve_infer infer = {.instance = &model};
    serve_problem problem = {.code = 0};
    if (body == NULL) {
        return 0;
    }
    char *at = body + (((length + 64) & ~(size_t)63) - length);
    memcpy(at, data + 2, length);
    if (serve_infer_read(at, length, head, NULL, &arena, &infer, &problem)) {
        check(&infer, &arena, at, length);
    } else if (problem.code < 400 || problem.sentence[0] == '\0') {
        abort();
    }
    serve_arena_finish(&arena);
    free(body);
    check_pieces(data + 2, length, head);
    return 0;
}
