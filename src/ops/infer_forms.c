/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "infer_rules.h"

/* A name of a form, and where it first stood. */
typedef struct named {
    size_t input, axis;
    kln_dim dim;
} named;

/* Those that stood somewhere, one bit each; the others are not set. */
typedef struct form_names {
    uint32_t known;
    named of[26];
} form_names;

static kln_dim wanted_for(const form_names *names, char sign)
{
    if (sign >= '0' && sign <= '9') {
        return KLN_DIM_OF_NUMBER(sign - '0');
    }
    const bool known = sign >= 'a' && sign <= 'z' && (names->known >> (sign - 'a') & 1) != 0;
    return known ? names->of[sign - 'a'].dim : KLN_UNKNOWN_DIM;
}

static bool check_dim(kln_rule *rule, form_names *names, char sign, size_t input, size_t axis)
{
    const kln_dim dim = kln_rule_dim(rule, input, axis);
    const kln_dim wanted = wanted_for(names, sign);
    char expected[48];
    char found[48];
    if (dim.kind != KLN_DIM_NUMBER) {
        return true;
    }
    if (wanted.kind != KLN_DIM_NUMBER) {
        if (sign >= 'a' && sign <= 'z') {
            names->of[sign - 'a'] = (named){input, axis, dim};
            names->known |= UINT32_C(1) << (sign - 'a');
        }
        return true;
    }
    if (wanted.of.number == dim.of.number) {
        return true;
    }
    (void)kln_dim_format(wanted, expected, sizeof expected);
    (void)kln_dim_format(dim, found, sizeof found);
    const char *name = rule->node->inputs[input];
    if (sign <= '9') {
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, name, expected, found,
                       "dimension %zu of \"%.100s\" must be %s, but is %s", axis, name, expected,
                       found);
    } else {
        const named *first = &names->of[sign - 'a'];
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, name, expected, found,
                       "dimension %zu of \"%.80s\" is %s, and dimension %zu of \"%.80s\" is %s; "
                       "they must be the same",
                       axis, name, found, first->axis, rule->node->inputs[first->input], expected);
    }
    return false;
}

static bool check_word(kln_rule *rule, form_names *names, const char *word, size_t length,
                       size_t input)
{
    if (word[0] == '-') {
        return true;
    }
    if (word[0] == '(') {
        return kln_rule_need_rank(rule, input, 0, length - 2) &&
               (kln_rule_rank(rule, input) == 0 || check_dim(rule, names, word[1], input, 0));
    }
    const bool open = word[length - 1] == '+';
    const size_t rank = open ? length - 1 : length;
    bool fits = kln_rule_need_rank(rule, input, rank, open ? SIZE_MAX : rank);
    for (size_t i = 0; fits && i < rank; i++) {
        fits = check_dim(rule, names, word[i], input, i);
    }
    return fits;
}

bool kln_form_fits(kln_rule *rule, const char *form)
{
    form_names names;
    names.known = 0;
    for (size_t input = 0; form[0] != '\0' && input < rule->in_count; input++) {
        const size_t length = strcspn(form, " ");
        if (kln_rule_ranked(rule, input) && !check_word(rule, &names, form, length, input)) {
            return false;
        }
        form += length + (form[length] == ' ' ? 1 : 0);
    }
    return true;
}
