/* SPDX-License-Identifier: Apache-2.0 */
/* Decides which prompts run together. Prompts are padded to the longest in the run, and padding
 * costs as much computation as tokens do; but every run has a cost of its own. */
#include <math.h>

#include "stream_parts.h"

/* A run of a new shape has no graph yet, and costs the host as much as this many steps. */
#define STEPS_FOR_A_RUN 2

void prompt_groups_sort(kiln_sequence **group, int64_t count)
{
    for (int64_t i = 1; i < count; i++) {
        kiln_sequence *moved = group[i];
        int64_t at = i;
        for (; at > 0 && group[at - 1]->prompt_count < moved->prompt_count; at--) {
            group[at] = group[at - 1];
        }
        group[at] = moved;
    }
}

void prompt_groups_note(prompt_pace *pace, int64_t prompt_tokens, uint64_t nanoseconds)
{
    const double took = (double)nanoseconds;
    if (prompt_tokens == 0) {
        pace->step = pace->step == 0 || took < pace->step ? took : pace->step;
    } else if (pace->step > 0 && took > pace->step) {
        const double each = (took - pace->step) / (double)prompt_tokens;
        pace->token = pace->token == 0 || each < pace->token ? each : pace->token;
    }
}

void prompt_groups_plan(const prompt_pace *pace, const stream_limits *limits,
                        kiln_sequence *const *group, int64_t count, int64_t most, prompt_cut *cuts)
{
    const bool known = pace->step > 0 && pace->token > 0;
    const double each = known ? STEPS_FOR_A_RUN * pace->step / pace->token : 0;
    cuts[count] = (prompt_cut){0, 0};
    for (int64_t i = count; i-- > 0;) {
        const int64_t end = count - i < most ? count : i + most;
        const int64_t prompt = (int64_t)group[i]->prompt_count;
        const int64_t length = prompt > limits->least_tokens ? prompt : limits->least_tokens;
        cuts[i] = (prompt_cut){end, HUGE_VAL};
        for (int64_t next = known ? i + 1 : end; next <= end; next++) {
            const int64_t rows = next - i > limits->least_rows ? next - i : limits->least_rows;
            const double cost = each + (double)(length * rows) + cuts[next].cost;
            cuts[i] = cost <= cuts[i].cost ? (prompt_cut){next, cost} : cuts[i];
        }
    }
}
