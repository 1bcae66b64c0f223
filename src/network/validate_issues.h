/*
 * validate_issues.h - filling a list of issues. Private to the module.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KLN_VALIDATE_ISSUES_H
#define KLN_VALIDATE_ISSUES_H

#include "kln_network.h"

/* A broken file of a million nodes must not become a list of a million sentences. */
#define KLN_ISSUES_MOST ((size_t)1000)
#define KLN_ISSUE_TEXT ((size_t)512)

struct kiln_issue_list {
    kln_arena arena;
    kiln_issue *issues;
    size_t count, capacity;
    size_t errors;
    size_t left_out; /* past KLN_ISSUES_MOST */
};

#endif
