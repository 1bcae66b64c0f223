/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "infer_rules.h"

/* The files with rules: infer_<family>.c. */
#define FAMILIES(ROW) \
    ROW(attention)    \
    ROW(cast)         \
    ROW(concat)       \
    ROW(control)      \
    ROW(conv)         \
    ROW(elementwise)  \
    ROW(expand)       \
    ROW(gather)       \
    ROW(matmul)       \
    ROW(ml)           \
    ROW(normalize)    \
    ROW(pad)          \
    ROW(pool)         \
    ROW(quantize)     \
    ROW(random)       \
    ROW(recurrent)    \
    ROW(reduce)       \
    ROW(reshape)      \
    ROW(resize)       \
    ROW(rotary)       \
    ROW(select)       \
    ROW(sequence)     \
    ROW(shape)        \
    ROW(signal)       \
    ROW(slice)        \
    ROW(text)         \
    ROW(transformer)  \
    ROW(trees)        \
    ROW(trees_old)

#define DECLARE(family) extern const kln_op_rule kln_rules_##family[];
FAMILIES(DECLARE)
#define LIST(family) kln_rules_##family,
static const kln_op_rule *const families[] = {FAMILIES(LIST)};

static const kln_op_rule *find(const char *domain, const char *name)
{
    for (size_t f = 0; f < KLN_ARRAY_LENGTH(families); f++) {
        for (const kln_op_rule *row = families[f]; row->name != NULL; row++) {
            if (row->name[0] == name[0] && strcmp(row->name, name) == 0 &&
                strcmp(row->domain, domain) == 0) {
                return row;
            }
        }
    }
    return NULL;
}

/* The text of a form, or NULL if that version has none. */
static const char *form_in(const char *form, int since)
{
    char *words = NULL;
    return form != NULL && since >= strtol(form, &words, 10) ? words + strlen(": ") : NULL;
}

void kln_rule_lookup(const char *domain, const char *name, kln_resolved *resolved)
{
    const kln_op_rule *row = find(domain, name);
    if (row != NULL) {
        resolved->rule = row->rule;
        resolved->fold = row->fold;
        resolved->ranked = row->ranked;
        resolved->random = row->random;
        resolved->form = form_in(row->form, resolved->schema->row->since);
        resolved->fit = resolved->form != NULL ? row->fit : NULL;
    }
}
