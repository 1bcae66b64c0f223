/* SPDX-License-Identifier: Apache-2.0 */
/* Collects what the builder refuses, next to what validation finds. */
#include "build_layer.h"

static const struct {
    kiln_status status;
    kiln_issue_kind kind; /* the first kind with a status represents it */
} kinds[] = {
    {KILN_ERROR_INVALID_ARGUMENT, KILN_ISSUE_VALUE},
    {KILN_ERROR_INVALID_ARGUMENT, KILN_ISSUE_ARITY},
    {KILN_ERROR_INVALID_ARGUMENT, KILN_ISSUE_ATTRIBUTE},
    {KILN_ERROR_INVALID_ARGUMENT, KILN_ISSUE_QUANTIZATION},
    {KILN_ERROR_DTYPE, KILN_ISSUE_DTYPE},
    {KILN_ERROR_RANK, KILN_ISSUE_RANK},
    {KILN_ERROR_SHAPE, KILN_ISSUE_SHAPE},
    {KILN_ERROR_NAME, KILN_ISSUE_DUPLICATE_NAME},
    {KILN_ERROR_NAME, KILN_ISSUE_UNKNOWN_NAME},
    {KILN_ERROR_NAME, KILN_ISSUE_NAME},
    {KILN_ERROR_SIZE, KILN_ISSUE_WEIGHTS},
    {KILN_ERROR_UNSUPPORTED, KILN_ISSUE_OPSET},
    {KILN_ERROR_UNSUPPORTED, KILN_ISSUE_UNKNOWN_OPERATOR},
};

kiln_status kln_issue_status(kiln_issue_kind kind)
{
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(kinds); i++) {
        if (kinds[i].kind == kind) {
            return kinds[i].status;
        }
    }
    return KILN_ERROR_INVALID_NETWORK;
}

static kiln_issue_kind kind_of(kiln_status status)
{
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(kinds); i++) {
        if (kinds[i].status == status) {
            return kinds[i].kind;
        }
    }
    return (kiln_issue_kind)0;
}

bool kln_issue_is_of_operator(const kiln_issue *issue)
{
    return issue->severity == KILN_SEVERITY_ERROR &&
           (issue->kind == KILN_ISSUE_ARITY || issue->kind == KILN_ISSUE_ATTRIBUTE ||
            issue->kind == KILN_ISSUE_UNKNOWN_OPERATOR || issue->kind == KILN_ISSUE_OPSET);
}

kiln_status kiln_network_collect_issues(kiln_network *network, bool collect)
{
    KLN_RETURN_IF_NULL(network);
    kiln_network *root = network->root;
    if (collect && root->issues == NULL) {
        KLN_RETURN_IF_ERROR(kln_issues_create(&root->issues));
    }
    root->collects = collect;
    return KILN_OK;
}

bool kln_network_collects(const kiln_network *network, kiln_status status)
{
    return network->root->collects && kind_of(status) != 0;
}

kiln_status kln_network_refuse(kiln_network *network, kiln_status status, const char *node,
                               const char *tensor)
{
    if (!kln_network_collects(network, status)) {
        return status;
    }
    const kiln_issue issue = {.severity = KILN_SEVERITY_ERROR,
                              .kind = kind_of(status),
                              .node = node,
                              .tensor = tensor,
                              .sentence = kiln_error_message()};
    return kln_issues_add(network->root->issues, &issue);
}

/* Whether such an issue only follows from what was refused. */
static bool follows(const kiln_network *network, kiln_issue_kind kind)
{
    return kind == KILN_ISSUE_UNUSED ||
           (kind == KILN_ISSUE_NO_OUTPUTS && network->root->refused_outputs > 0);
}

kiln_status kln_network_issues(const kiln_network *network, kiln_issue_list **issues)
{
    const kiln_issue_list *refused = network->root->issues;
    KLN_SCOPED(kiln_issue_list_destroy_at) kiln_issue_list *all = NULL;
    if (kiln_issue_list_count(refused) == 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(kln_issues_create(&all));
    KLN_RETURN_IF_ERROR(kln_issues_merge(all, refused, (kiln_issue_kind)0));
    for (size_t i = 0; i < kiln_issue_list_count(*issues); i++) {
        const kiln_issue *issue = kiln_issue_list_get(*issues, i);
        if (!follows(network, issue->kind)) {
            KLN_RETURN_IF_ERROR(kln_issues_add(all, issue));
        }
    }
    kiln_issue_list_destroy(*issues);
    *issues = KLN_TAKE(all);
    return KILN_OK;
}

kiln_status kln_network_whole(const kiln_network *network)
{
    return network->root->issues != NULL ? kln_issues_status(network->root->issues) : KILN_OK;
}
