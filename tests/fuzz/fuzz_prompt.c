/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a request for a text: what is taken lies in the arena and is as long as it says, and
 * what is refused says why. */
#include <math.h>

#include "fuzz_parts.h"
#include "serve_generate.h"

#define LENGTH 16

static void check(const serve_prompt *prompt, size_t size)
{
    int64_t sum = 0;
    for (size_t i = 0; i < prompt->count; i++) {
        sum ^= prompt->tokens[i];
    }
    for (size_t i = 0; i < prompt->stop_count; i++) {
        sum ^= prompt->stops[i];
    }
    const size_t word = prompt->id != NULL ? strlen(prompt->id) : 0;
    FAULT_IF(prompt->count < 1 || prompt->count > LENGTH || prompt->stop_count > LENGTH ||
             prompt->count + prompt->stop_count + word > size + (size_t)(sum & 0) ||
             prompt->max_tokens < 0 || prompt->timeout < 0 || prompt->top_k < 0 ||
             prompt->seed < 0 || !isfinite(prompt->temperature) ||
             !isfinite(prompt->repetition_penalty) || !(prompt->top_p >= 0 && prompt->top_p <= 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *body = malloc(size + 1); /* so that a byte too far is seen */
    serve_arena arena = {.first = NULL};
    serve_prompt prompt;
    serve_problem problem = {.code = 0};
    if (body == NULL) {
        return 0;
    }
    char *at = body + 1;
    memcpy(at, data, size);
    if (serve_prompt_read(at, size, LENGTH, &arena, &prompt, &problem)) {
        check(&prompt, size);
    } else if (problem.code < 400 || problem.sentence[0] == '\0') {
        abort();
    }
    serve_arena_finish(&arena);
    free(body);
    return 0;
}
