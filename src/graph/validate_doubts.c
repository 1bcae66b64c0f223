/* SPDX-License-Identifier: Apache-2.0 */
#include "validate_rules.h"

const kiln_issue *kln_validate_news(const kln_validation *v, const kiln_issue_list *list,
                                    kiln_severity least)
{
    for (size_t i = 0; i < kiln_issue_list_count(list); i++) {
        const kiln_issue *issue = kiln_issue_list_get(list, i);
        if (issue->severity >= least && !kln_issues_have(v->inference->issues, issue, least)) {
            return issue;
        }
    }
    return NULL;
}

/* A branch that may not run and fails with the shapes that the inputs have is a warning: it may be
 * there for others. One that fails with any is an error. */
void kln_validate_doubts(kln_validation *v)
{
    const kiln_issue_list *doubts = v->inference->doubts;
    if (kiln_issue_list_count(doubts) == 0) {
        return;
    }
    const kln_infer_options options = {.ignore_declared = true, .open_inputs = true};
    KLN_SCOPED(kln_inference_destroy_at) kln_inference *open = NULL;
    v->status = kln_infer(v->model, &options, &open);
    for (size_t i = 0; i < kiln_issue_list_count(doubts) && v->status == KILN_OK; i++) {
        const kiln_issue *doubt = kiln_issue_list_get(doubts, i);
        if (kln_issues_have(open->doubts, doubt, KILN_SEVERITY_ERROR) ||
            kln_issues_have(open->issues, doubt, KILN_SEVERITY_ERROR)) {
            v->status = kln_issues_add(v->inference->issues, doubt);
        } else {
            kln_validate_issue(v, KILN_SEVERITY_WARNING, doubt->kind, doubt->node, doubt->tensor,
                               doubt->expected, doubt->found, "a branch fails if it is taken: %s",
                               doubt->sentence);
        }
    }
}
