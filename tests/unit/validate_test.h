/* SPDX-License-Identifier: Apache-2.0 */
/* Issues of a network, as the tests of validation expect them. */
#ifndef VALIDATE_TEST_H
#define VALIDATE_TEST_H

#include "graph/kln_graph.h"
#include "graph_maker.h"
#include "kiln_test.h"

static inline kiln_issue_list *validate(graph_maker *m, const kln_validate_options *options)
{
    kiln_issue_list *issues = NULL;
    assert_ok(m->status);
    assert_ok(kln_validate(m->model, options, &issues));
    return issues;
}

static inline const kiln_issue *find(const kiln_issue_list *list, kiln_issue_kind kind,
                                     const char *tensor)
{
    for (size_t i = 0; i < kiln_issue_list_count(list); i++) {
        const kiln_issue *issue = kiln_issue_list_get(list, i);
        if (issue->kind == kind && strcmp(issue->tensor, tensor) == 0) {
            return issue;
        }
    }
    return NULL;
}

static inline void print(const kiln_issue_list *list)
{
    for (size_t i = 0; i < kiln_issue_list_count(list); i++) {
        const kiln_issue *issue = kiln_issue_list_get(list, i);
        print_error("%d %s [%s] [%s] expected %s found %s: %s\n", (int)issue->severity,
                    kiln_issue_kind_name(issue->kind), issue->node, issue->tensor, issue->expected,
                    issue->found, issue->sentence);
    }
}

/* One issue, of that kind, severity and words; or none at all with words of NULL. */
static inline void expect(graph_maker *m, const kln_validate_options *options,
                          kiln_severity severity, kiln_issue_kind kind, const char *words)
{
    owned_issue_list issues = validate(m, options);
    const kiln_issue *issue = kiln_issue_list_get(issues, 0);
    if (kiln_issue_list_count(issues) != (words != NULL ? 1 : 0) ||
        (words != NULL && (issue->kind != kind || issue->severity != severity ||
                           strstr(issue->sentence, words) == NULL))) {
        print_error("expected %s, \"%s\"; found:\n", kiln_issue_kind_name(kind),
                    words != NULL ? words : "and not even this");
        print(issues);
        fail();
    }
    maker_end(m);
}

static inline void expect_error(graph_maker *m, kiln_issue_kind kind, const char *words)
{
    expect(m, NULL, KILN_SEVERITY_ERROR, kind, words);
}

static inline void expect_warning(graph_maker *m, kiln_issue_kind kind, const char *words)
{
    expect(m, NULL, KILN_SEVERITY_WARNING, kind, words);
}

/* Of a model's text. */
#define XY "in x float32[2,3]; out y float32; "

typedef struct fault {
    const char *model; /* of operator set 17 */
    kiln_issue_kind kind;
    const char *words;
} fault;

static inline void expect_faults(const fault *faults, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        graph_maker m;
        maker_model(&m, 17, faults[i].model);
        expect_error(&m, faults[i].kind, faults[i].words);
    }
}

#endif
