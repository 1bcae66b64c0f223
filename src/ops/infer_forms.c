/* SPDX-License-Identifier: Apache-2.0 */
#include "infer_rules.h"

/* A name in a form, and where it first occurred. */
typedef struct named {
    size_t input, axis;
    kln_dim dim;
} named;

/* The names that have occurred, a bit for each; the others are not initialized. */
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

static bool wrong_dim(kln_rule *rule, const form_names *names, char sign, size_t input, size_t axis)
{
    const kln_dim dim = kln_rule_dim(rule, input, axis);
    const char *expected = KLN_DIM_PRINTED(wanted_for(names, sign));
    const char *found = KLN_DIM_PRINTED(dim);
    const char *name = rule->node->inputs[input];
    if (sign < 'a') {
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

static bool check_dim(kln_rule *rule, form_names *names, char sign, size_t input, size_t axis)
{
    if (sign == '_') {
        return true;
    }
    const kln_dim dim = kln_rule_dim(rule, input, axis);
    const kln_dim wanted = wanted_for(names, sign);
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
    return wanted.of.number == dim.of.number || wrong_dim(rule, names, sign, input, axis);
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
        size_t length = 0;
        while (form[length] != '\0' && form[length] != ' ') {
            length++;
        }
        if (kln_rule_ranked(rule, input) && !check_word(rule, &names, form, length, input)) {
            return false;
        }
        form += length + (form[length] == ' ' ? 1 : 0);
    }
    return true;
}

/* --- parts of a fit --- */

/* A fault of `what` if both are known and differ. */
bool kln_fit_same(kln_rule *rule, kln_dim a, kln_dim b, const char *what)
{
    (void)kln_rule_unify(rule, a, b, what);
    return a.kind != KLN_DIM_NUMBER || b.kind != KLN_DIM_NUMBER || a.of.number == b.of.number;
}

bool kln_fit_dim(kln_rule *rule, size_t input, size_t axis, kln_dim wanted, const char *what)
{
    return !kln_rule_ranked(rule, input) ||
           kln_fit_same(rule, kln_rule_dim(rule, input, axis), wanted, what);
}

/* `count` divides evenly among `parts`. */
bool kln_fit_shares(kln_rule *rule, size_t input, kln_dim count, int64_t parts, const char *what)
{
    if (count.kind != KLN_DIM_NUMBER || (parts > 0 && count.of.number % parts == 0)) {
        return true;
    }
    const char *found = KLN_PRINTED("%lld", (long long)count.of.number);
    kln_rule_fault(
        rule, KILN_ISSUE_SHAPE, rule->node->inputs[input],
        KLN_PRINTED(parts > 0 ? "a multiple of %lld" : "at least 1 of them", (long long)parts),
        found, "\"%.100s\" has %s %s, which %lld groups cannot share equally",
        rule->node->inputs[input], found, what, (long long)parts);
    return false;
}

/* `input` broadcasts to these dimensions without changing them. */
bool kln_fit_broadcast(kln_rule *rule, size_t input, const kln_dim *dims, size_t rank,
                       const char *what)
{
    const size_t own = kln_rule_rank(rule, input);
    if (!kln_rule_ranked(rule, input)) {
        return true;
    }
    bool fits = kln_rule_need_rank(rule, input, 0, rank);
    for (size_t i = 0; fits && i < own; i++) {
        const kln_dim dim = kln_rule_dim(rule, input, i);
        fits = kln_rule_is(dim, 1) || kln_fit_same(rule, dim, dims[rank - own + i], what);
    }
    return fits;
}

bool kln_fit_too_small(kln_rule *rule, const char *name, int64_t value, int64_t least)
{
    const char *found = KLN_PRINTED("%lld", (long long)value);
    kln_rule_fault(rule, KILN_ISSUE_VALUE, name, KLN_PRINTED("at least %lld", (long long)least),
                   found, "\"%.100s\" needs at least %lld, and has %s", name, (long long)least,
                   found);
    return false;
}

/* Dimension `axis` of an input is not 0. */
bool kln_fit_not_empty(kln_rule *rule, size_t input, size_t axis)
{
    if (!kln_rule_is(kln_rule_dim(rule, input, axis), 0)) {
        return true;
    }
    kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[input], "at least 1", "0",
                   "dimension %zu of \"%.100s\" is 0; there is nothing to take from it", axis,
                   rule->node->inputs[input]);
    return false;
}
