/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "infer_rules.h"

#define ROW(domain_, name_, rule_, fold_, random_, form_, fit_) \
    {.domain = domain_,                                         \
     .name = name_,                                             \
     .rule = kln_rule_##rule_,                                  \
     .fold = kln_fold_##fold_,                                  \
     .random = random_,                                         \
     .form = form_,                                             \
     .fit = fit_},
static const struct {
    const char *domain;
    const char *name;
    kln_rule_function rule;
    kln_rule_function fold;
    bool random;
    const char *form;
    kln_rule_question fit;
} rules[] = {
#define RULE(domain_, name_, rule_, fold_) ROW(domain_, name_, rule_, fold_, false, NULL, NULL)
#define FORMED(domain_, name_, rule_, fold_, form_) \
    ROW(domain_, name_, rule_, fold_, false, form_, NULL)
#define FITTED(domain_, name_, rule_, fold_, form_, fit_) \
    ROW(domain_, name_, rule_, fold_, false, form_, kln_fit_##fit_)
#define RANDOM(domain_, name_, rule_) ROW(domain_, name_, rule_, none, true, NULL, NULL)
#include "infer_rows.inc"
};

/* The words of a form, or NULL where there is none for that version. */
static const char *form_in(const char *form, int since)
{
    char *words = NULL;
    return form != NULL && since >= strtol(form, &words, 10) ? words + strlen(": ") : NULL;
}

void kln_rule_lookup(const char *domain, const char *name, kln_resolved *resolved)
{
    size_t low = 0;
    size_t high = KLN_ARRAY_LENGTH(rules);
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        int order = strcmp(domain, rules[middle].domain);
        order = order != 0 ? order : strcmp(name, rules[middle].name);
        if (order == 0) {
            resolved->rule = rules[middle].rule;
            resolved->fold = rules[middle].fold;
            resolved->random = rules[middle].random;
            resolved->form = form_in(rules[middle].form, resolved->schema->row->since);
            resolved->fit = resolved->form != NULL ? rules[middle].fit : NULL;
            return;
        }
        low = order > 0 ? middle + 1 : low;
        high = order > 0 ? high : middle;
    }
}
