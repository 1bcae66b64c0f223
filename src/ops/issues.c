/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "kln_ops.h"

/* A broken file of a million nodes must not become a list of a million sentences. */
#define ISSUES_MOST ((size_t)1000)

struct kiln_issue_list {
    kln_arena arena;
    kiln_issue *issues;
    size_t count, capacity;
    size_t errors;
    size_t left_out; /* past ISSUES_MOST */
};

const char *kiln_issue_kind_name(kiln_issue_kind kind)
{
    switch (kind) {
#define ISSUE_NAME(name, value, text) \
    case name: return text;
        KILN_ISSUE_LIST(ISSUE_NAME)
#undef ISSUE_NAME
    }
    return "?";
}

kiln_status kln_issues_create(kiln_issue_list **out)
{
    kiln_issue_list *list = kln_alloc_zeroed(1, sizeof *list);
    KLN_RETURN_IF_NO_MEMORY(list, sizeof *list, "a list of issues");
    *out = list;
    return KILN_OK;
}

void kiln_issue_list_destroy(kiln_issue_list *list)
{
    if (list != NULL) {
        kln_arena_finish(&list->arena);
        kln_free(list->issues);
        kln_free(list);
    }
}

size_t kiln_issue_list_count(const kiln_issue_list *list)
{
    return list != NULL ? list->count : 0;
}

size_t kiln_issue_list_errors(const kiln_issue_list *list)
{
    return list != NULL ? list->errors : 0;
}

const kiln_issue *kiln_issue_list_get(const kiln_issue_list *list, size_t index)
{
    return list != NULL && index < list->count ? &list->issues[index] : NULL;
}

/* Bytes of the UTF-8 character at `text`, or 0 when there is none. */
static size_t character(const unsigned char *text)
{
    const size_t length = text[0] < 0x80                      ? 1
                          : text[0] >= 0xC2 && text[0] < 0xE0 ? 2
                          : (text[0] & 0xF0U) == 0xE0         ? 3
                          : text[0] >= 0xF0 && text[0] < 0xF5 ? 4
                                                              : 0;
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xC0U) != 0x80) {
            return 0;
        }
    }
    return length;
}

/* A copy in the list's arena, cut where somebody else's names have no end. What is no UTF-8, or was
 * cut in the middle of a character, becomes '?'. */
static const char *keep(kiln_issue_list *list, const char *text)
{
    if (text == NULL || text[0] == '\0') {
        return "";
    }
    char *copy = kln_arena_strndup(&list->arena, text, strnlen(text, KLN_ISSUE_TEXT - 1));
    for (unsigned char *c = (unsigned char *)copy; c != NULL && *c != '\0';) {
        const size_t length = character(c);
        if (length == 0) {
            *c = '?';
        }
        c += length > 0 ? length : 1;
    }
    return copy;
}

kiln_status kln_issues_add(kiln_issue_list *list, const kiln_issue *issue)
{
    if (list->count >= ISSUES_MOST) {
        list->left_out++;
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(KLN_GROW(NULL, list->issues, list->count, list->capacity));
    kiln_issue copy = *issue;
    copy.node = keep(list, issue->node);
    copy.tensor = keep(list, issue->tensor);
    copy.expected = keep(list, issue->expected);
    copy.found = keep(list, issue->found);
    char sentence[KLN_ISSUE_TEXT];
    (void)snprintf(sentence, sizeof sentence, "%s", issue->sentence != NULL ? issue->sentence : "");
    kln_agree(sentence);
    copy.sentence = keep(list, sentence);
    KLN_FAIL_IF(copy.node == NULL || copy.tensor == NULL || copy.expected == NULL ||
                    copy.found == NULL || copy.sentence == NULL,
                kln_fail_memory(KLN_ISSUE_TEXT, "an issue"));
    list->issues[list->count++] = copy;
    if (copy.severity == KILN_SEVERITY_ERROR) {
        list->errors++;
    }
    return KILN_OK;
}

void kln_issues_cut(kiln_issue_list *list, size_t count)
{
    while (list->count > count) {
        list->errors -= list->issues[--list->count].severity == KILN_SEVERITY_ERROR ? 1 : 0;
    }
}

bool kln_issues_have(const kiln_issue_list *list, const kiln_issue *issue, kiln_severity least)
{
    for (size_t i = 0; i < list->count; i++) {
        const kiln_issue *other = &list->issues[i];
        if (other->kind == issue->kind && strcmp(other->node, issue->node) == 0 &&
            strcmp(other->tensor, issue->tensor) == 0 && other->severity >= least) {
            return true;
        }
    }
    return false;
}

kiln_status kln_issues_sort(kiln_issue_list *list)
{
    if (list->errors == 0 || list->errors == list->count) {
        return KILN_OK;
    }
    kiln_issue *sorted = kln_alloc(list->count * sizeof *sorted);
    KLN_RETURN_IF_NO_MEMORY(sorted, list->count * sizeof *sorted, "a list of issues");
    size_t error = 0;
    size_t warning = list->errors;
    for (size_t i = 0; i < list->count; i++) {
        if (list->issues[i].severity == KILN_SEVERITY_ERROR) {
            sorted[error++] = list->issues[i];
        } else {
            sorted[warning++] = list->issues[i];
        }
    }
    kln_free(list->issues);
    list->issues = sorted;
    list->capacity = list->count;
    return KILN_OK;
}

kiln_status kln_issues_merge(kiln_issue_list *to, const kiln_issue_list *from, kiln_issue_kind kind)
{
    for (size_t i = 0; i < from->count; i++) {
        if (kind == 0 || from->issues[i].kind == kind) {
            KLN_RETURN_IF_ERROR(kln_issues_add(to, &from->issues[i]));
        }
    }
    return kln_issues_sort(to);
}

kiln_status kln_issues_add_missing(kiln_issue_list *list, const kln_onnx_model *model)
{
    for (size_t i = 0; i < model->missing_count; i++) {
        const kln_onnx_missing *file = &model->missing[i];
        char sentence[KLN_ISSUE_TEXT];
        (void)snprintf(sentence, sizeof sentence, "%s%s", file->reason,
                       file->tensors > 1 ? "; other weights lie there too" : "");
        const kiln_issue issue = {.severity = KILN_SEVERITY_ERROR,
                                  .kind = KILN_ISSUE_WEIGHTS,
                                  .tensor = file->tensor,
                                  .expected = "a file with the weights",
                                  .found = file->location,
                                  .sentence = sentence};
        KLN_RETURN_IF_ERROR(kln_issues_add(list, &issue));
    }
    return KILN_OK;
}

static size_t errors_of(const kiln_issue_list *list, kiln_issue_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        const kiln_issue *issue = &list->issues[i];
        count += issue->severity == KILN_SEVERITY_ERROR && issue->kind == kind ? 1 : 0;
    }
    return count;
}

kiln_status kln_issues_status(const kiln_issue_list *list)
{
    if (list->errors == 0) {
        return KILN_OK;
    }
    const kiln_issue *first = &list->issues[0];
    while (first->severity != KILN_SEVERITY_ERROR) {
        first++;
    }
    kiln_status status = KILN_ERROR_INVALID_NETWORK;
    if (errors_of(list, KILN_ISSUE_UNSUPPORTED) == list->errors) {
        status = KILN_ERROR_UNSUPPORTED;
    } else if (errors_of(list, KILN_ISSUE_PROFILE) == list->errors) {
        status = KILN_ERROR_SHAPE;
    }
    return kln_fail(status, "the network has %zu %s; the first: %s", list->errors,
                    list->errors == 1 ? "error" : "errors", first->sentence);
}
