/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "infer_rules.h"

/* --- Einsum --- */

#define LETTERS_MOST 52
#define ELLIPSIS_MOST 8

typedef struct einsum {
    kln_rule *rule;
    bool seen[LETTERS_MOST];
    unsigned uses[LETTERS_MOST];
    kln_dim dims[LETTERS_MOST];
    kln_dim ellipsis[ELLIPSIS_MOST]; /* counted from the last */
    size_t ellipsis_count;
    bool has_ellipsis;
} einsum;

static int letter_of(char c)
{
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    return c >= 'A' && c <= 'Z' ? c - 'A' : -1;
}

static size_t count_letters(const char *term, size_t length)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++) {
        count += letter_of(term[i]) >= 0 ? 1 : 0;
    }
    return count;
}

static bool bad_equation(kln_rule *rule, const char *why)
{
    kln_rule_fault(rule, KILN_ISSUE_VALUE, "equation", "an equation that fits the inputs", why,
                   "the equation \"%.100s\" does not fit: %s",
                   kln_rule_string(rule, "equation", ""), why);
    return false;
}

static bool read_term(einsum *e, size_t input, const char *term, size_t length)
{
    kln_rule *rule = e->rule;
    const size_t rank = kln_rule_rank(rule, input);
    const size_t letters = count_letters(term, length);
    const bool dots = memchr(term, '.', length) != NULL;
    if (rank < letters || (!dots && rank != letters) || rank - letters > ELLIPSIS_MOST) {
        char why[112];
        (void)snprintf(why, sizeof why, "term %zu needs %s%zu dimension%s, and input %zu has %zu",
                       input, dots ? "at least " : "", letters, KLN_S(letters), input, rank);
        return bad_equation(rule, why);
    }
    const size_t open = rank - letters;
    if (dots && e->has_ellipsis && open != e->ellipsis_count) {
        char why[112];
        (void)snprintf(why, sizeof why,
                       "\"...\" stands for %zu dimension%s in one term and for %zu in term %zu",
                       e->ellipsis_count, KLN_S(e->ellipsis_count), open, input);
        return bad_equation(rule, why);
    }
    e->has_ellipsis |= dots;
    size_t axis = 0;
    for (size_t i = 0; i < length; i++) {
        const int letter = letter_of(term[i]);
        if (letter >= 0) {
            const kln_dim dim = kln_rule_dim(rule, input, axis++);
            e->dims[letter] =
                e->uses[letter] == 0 ? dim : kln_rule_broadcast_dim(rule, e->dims[letter], dim);
            e->uses[letter]++;
        } else if (term[i] == '.') {
            for (size_t k = 0; k < open; k++) {
                const size_t place = open - 1 - k;
                const kln_dim dim = kln_rule_dim(rule, input, axis++);
                e->ellipsis[place] = place < e->ellipsis_count
                                         ? kln_rule_broadcast_dim(rule, e->ellipsis[place], dim)
                                         : dim;
            }
            e->ellipsis_count = open > e->ellipsis_count ? open : e->ellipsis_count;
            while (i + 1 < length && term[i + 1] == '.') {
                i++;
            }
        }
    }
    return true;
}

static size_t write_dims(einsum *e, const char *term, kln_dim *dims)
{
    size_t rank = 0;
    for (size_t i = 0; term[i] != '\0'; i++) {
        const int letter = letter_of(term[i]);
        if (letter >= 0) {
            if (dims != NULL) {
                dims[rank] = e->dims[letter];
            }
            rank++;
        } else if (term[i] == '.') {
            for (size_t k = e->ellipsis_count; k-- > 0;) {
                if (dims != NULL) {
                    dims[rank] = e->ellipsis[k];
                }
                rank++;
            }
            while (term[i + 1] == '.') {
                i++;
            }
        }
    }
    return rank;
}

/* What is wrong with an equation whatever the inputs are. */
static bool check_equation(kln_rule *rule, const char *equation)
{
    char why[112];
    unsigned inputs[LETTERS_MOST] = {0};
    unsigned outputs[LETTERS_MOST] = {0};
    size_t terms = 1;
    unsigned dots[2] = {0, 0}; /* ellipses in a term, and whether any input has one */
    bool output = false;
    for (const char *at = equation; *at != '\0'; at++) {
        const int letter = letter_of(*at);
        if (letter >= 0) {
            unsigned *uses = output ? outputs : inputs;
            uses[letter]++;
            if (output && (inputs[letter] == 0 || outputs[letter] > 1)) {
                (void)snprintf(
                    why, sizeof why, "\"%c\" stands %s", *at,
                    inputs[letter] == 0 ? "in the output, but in no input" : "twice in the output");
                return bad_equation(rule, why);
            }
        } else if (strncmp(at, "...", 3) == 0 && dots[0] == 0) {
            dots[0] = 1;
            at += 2;
        } else if (!output && strncmp(at, "->", 2) == 0) {
            output = true;
            dots[1] |= dots[0];
            dots[0] = 0;
            at++;
        } else if (!output && *at == ',') {
            terms++;
            dots[1] |= dots[0];
            dots[0] = 0;
        } else if (*at != ' ') {
            (void)snprintf(why, sizeof why, "\"%.20s\" is no part of an equation", at);
            return bad_equation(rule, why);
        }
    }
    if (output && dots[0] != 0 && dots[1] == 0) {
        return bad_equation(rule, "\"...\" stands in the output, but in no input");
    }
    if (terms != rule->in_count) {
        (void)snprintf(why, sizeof why, "it has %zu terms, and there are %zu inputs", terms,
                       rule->in_count);
        return bad_equation(rule, why);
    }
    return true;
}

void kln_rule_einsum(kln_rule *rule)
{
    const char *equation = kln_rule_string(rule, "equation", "");
    einsum e = {.rule = rule};
    if (!check_equation(rule, equation)) {
        return;
    }
    const char *arrow = strstr(equation, "->");
    const char *end = arrow != NULL ? arrow : equation + strlen(equation);
    const char *term = equation;
    for (size_t i = 0; i < rule->in_count; i++) {
        if (!kln_rule_ranked(rule, i)) {
            return;
        }
        const char *comma = memchr(term, ',', (size_t)(end - term));
        const char *stop = comma != NULL ? comma : end;
        if (!read_term(&e, i, term, (size_t)(stop - term))) {
            return;
        }
        term = comma != NULL ? comma + 1 : end;
    }
    char implicit[LETTERS_MOST + 4] = "";
    size_t used = 0;
    if (arrow == NULL) {
        /* What stands once comes out, in the order of the alphabet, capitals first. */
        memcpy(implicit, "...", 3);
        used = 3;
        for (int k = 0; k < LETTERS_MOST; k++) {
            if (e.uses[k] == 1) {
                implicit[used++] = (char)(k < 26 ? 'A' + k : 'a' + k - 26);
            }
        }
        implicit[used] = '\0';
    }
    const char *result = arrow != NULL ? arrow + 2 : implicit;
    kln_dim *dims = kln_rule_new_shape(rule, 0, write_dims(&e, result, NULL));
    if (dims != NULL) {
        (void)write_dims(&e, result, dims);
    }
}

/* --- text and pictures --- */

void kln_rule_tfidf(kln_rule *rule)
{
    size_t count = 0;
    const int64_t *indexes = kln_rule_ints(rule, "ngram_indexes", &count);
    if (!kln_rule_ranked(rule, 0) || indexes == NULL || !kln_rule_need_rank(rule, 0, 1, 2)) {
        return;
    }
    int64_t most = -1;
    for (size_t i = 0; i < count; i++) {
        if (indexes[i] < 0) {
            kln_rule_fault(rule, KILN_ISSUE_VALUE, "ngram_indexes", "at least 0", "less",
                           "\"ngram_indexes\" holds %lld, which is no place in the output",
                           (long long)indexes[i]);
            return;
        }
        most = indexes[i] > most ? indexes[i] : most;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    kln_dim *dims = most < INT64_MAX ? kln_rule_new_shape(rule, 0, rank) : NULL;
    if (dims != NULL) {
        dims[0] = kln_rule_dim(rule, 0, 0);
        dims[rank - 1] = KLN_DIM_OF_NUMBER(most + 1);
    }
}

void kln_rule_string_normalizer(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    if (rank < 1 || rank > 2 ||
        (rank == 2 && kln_rule_dim(rule, 0, 0).kind == KLN_DIM_NUMBER &&
         !kln_rule_is(kln_rule_dim(rule, 0, 0), 1))) {
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, rule->node->inputs[0], "[n] or [1,n]",
                       "another shape", "\"%.100s\" must have the shape [n] or [1,n]",
                       rule->node->inputs[0]);
        return;
    }
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank);
    if (dims != NULL && rank == 2) {
        dims[0] = KLN_DIM_OF_NUMBER(1);
    }
}

void kln_rule_string_split(kln_rule *rule)
{
    kln_rule_set_dtype(rule, 0, KLN_WIRE_STRING);
    kln_rule_set_dtype(rule, 1, KLN_WIRE_INT64);
    kln_rule_same_shape(rule, 0, 1);
    if (!kln_rule_ranked(rule, 0)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank + 1);
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        dims[i] = kln_rule_dim(rule, 0, i);
    }
}

void kln_rule_image_decoder(kln_rule *rule)
{
    const char *format = kln_rule_string(rule, "pixel_format", "RGB");
    kln_rule_set_dtype(rule, 0, KLN_WIRE_UINT8);
    kln_dim *dims = kln_rule_new_shape(rule, 0, 3);
    if (dims != NULL) {
        dims[2] = KLN_DIM_OF_NUMBER(strcmp(format, "Grayscale") == 0 ? 1 : 3);
    }
}

/* --- ai.onnx.preview.training --- */

/* Inputs: two scalars, then n tensors of each kind; outputs: n of the first kind, then the states,
 * in the order of the inputs without the gradients. */
void kln_rule_training(kln_rule *rule)
{
    const bool adam = strcmp(rule->node->op_type, "Adam") == 0;
    const size_t kinds = adam ? 4 : 3;
    if (rule->in_count < 2 || (rule->in_count - 2) % kinds != 0) {
        return;
    }
    const size_t n = (rule->in_count - 2) / kinds;
    for (size_t o = 0; o < rule->out_count; o++) {
        const size_t from = 2 + (o < n ? o : o + n);
        kln_rule_same_type(rule, from, o);
        kln_rule_same_shape(rule, from, o);
    }
}

/* --- ai.onnx.ml --- */

void kln_rule_ml_extract(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    if (!kln_rule_need_rank(rule, 0, 1, SIZE_MAX)) {
        return;
    }
    const size_t out = rank > 1 ? rank : 2;
    kln_dim *dims = kln_rule_new_shape(rule, 0, out);
    if (dims == NULL) {
        return;
    }
    dims[0] = KLN_DIM_OF_NUMBER(1);
    for (size_t i = 0; rank > 1 && i + 1 < rank; i++) {
        dims[i] = kln_rule_dim(rule, 0, i);
    }
    const size_t indices = kln_rule_rank(rule, 1);
    dims[out - 1] = kln_rule_ranked(rule, 1) && indices > 0
                        ? kln_rule_product(rule, rule->in[1]->dims, 0, indices)
                        : KLN_UNKNOWN_DIM;
}

void kln_rule_ml_map(kln_rule *rule)
{
    kln_rule_same_shape(rule, 0, 0);
    const bool text =
        rule->in_count > 0 && rule->in[0] != NULL && rule->in[0]->wire_dtype == KLN_WIRE_STRING;
    if (strcmp(rule->node->op_type, "CategoryMapper") == 0 && rule->in_count > 0 &&
        rule->in[0] != NULL && rule->in[0]->wire_dtype != 0) {
        kln_rule_set_dtype(rule, 0, text ? KLN_WIRE_INT64 : KLN_WIRE_STRING);
    }
}

/* Lists among the attributes that belong together, ended by NULL, have one length. */
static void same_lengths(kln_rule *rule, const char *const *names)
{
    const char *first = NULL;
    size_t length = 0;
    for (size_t i = 0; names[i] != NULL; i++) {
        const kln_onnx_attribute *a = kln_rule_attribute(rule, names[i]);
        if (a != NULL && first != NULL && a->count != length) {
            char expected[32];
            char found[32];
            (void)snprintf(expected, sizeof expected, "%zu", length);
            (void)snprintf(found, sizeof found, "%zu", a->count);
            kln_rule_fault(rule, KILN_ISSUE_VALUE, names[i], expected, found,
                           "\"%s\" has %s elements, and \"%s\" has %s", names[i], found, first,
                           expected);
            return;
        }
        if (a != NULL && first == NULL) {
            first = names[i];
            length = a->count;
        }
    }
}

/* Keys of the input's type, as many as there are values. */
static void check_labels(kln_rule *rule)
{
    static const char *const lists[] = {
        "keys_strings",  "keys_int64s",   "keys_floats", "values_strings",
        "values_int64s", "values_floats", NULL};
    static const int32_t types[] = {KLN_WIRE_STRING, KLN_WIRE_INT64, KLN_WIRE_FLOAT};
    const int32_t type = rule->in_count > 0 && rule->in[0] != NULL ? rule->in[0]->wire_dtype : 0;
    if (rule->since < 2) {
        return;
    }
    same_lengths(rule, lists);
    const kln_onnx_attribute *tensor = kln_rule_attribute(rule, "keys_tensor");
    int32_t keys = tensor != NULL && tensor->tensor != NULL ? tensor->tensor->wire_dtype : 0;
    for (size_t i = 0; i < 3; i++) {
        keys = kln_rule_attribute(rule, lists[i]) != NULL ? types[i] : keys;
    }
    if (keys != 0 && type != 0 && keys != type) {
        kln_rule_fault(rule, KILN_ISSUE_DTYPE, rule->node->inputs[0], kln_onnx_dtype_name(keys),
                       kln_onnx_dtype_name(type), "\"%.100s\" is %s, but the keys are %s",
                       rule->node->inputs[0], kln_onnx_dtype_name(type), kln_onnx_dtype_name(keys));
    }
}

void kln_rule_ml_labels(kln_rule *rule)
{
    static const struct {
        const char *attribute;
        int32_t type;
    } values[] = {{"values_strings", KLN_WIRE_STRING},
                  {"values_int64s", KLN_WIRE_INT64},
                  {"values_floats", KLN_WIRE_FLOAT}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(values); i++) {
        if (kln_rule_attribute(rule, values[i].attribute) != NULL) {
            kln_rule_set_dtype(rule, 0, values[i].type);
        }
    }
    check_labels(rule);
    const kln_onnx_attribute *tensor = kln_rule_attribute(rule, "values_tensor");
    if (tensor != NULL && tensor->tensor != NULL) {
        kln_rule_set_dtype(rule, 0, tensor->tensor->wire_dtype);
    }
    if (rule->since < 2 && rule->in_count > 0 && rule->in[0] != NULL) {
        const bool text = rule->in[0]->wire_dtype == KLN_WIRE_STRING;
        kln_rule_set_dtype(rule, 0, text ? KLN_WIRE_INT64 : KLN_WIRE_STRING);
    }
    kln_rule_same_shape(rule, 0, 0);
}

void kln_rule_ml_one_hot(kln_rule *rule)
{
    const kln_onnx_attribute *ints = kln_rule_attribute(rule, "cats_int64s");
    const kln_onnx_attribute *texts = kln_rule_attribute(rule, "cats_strings");
    const size_t count = ints != NULL ? ints->count : texts != NULL ? texts->count : 0;
    if (!kln_rule_ranked(rule, 0)) {
        return;
    }
    const size_t rank = kln_rule_rank(rule, 0);
    kln_dim *dims = kln_rule_new_shape(rule, 0, rank + 1);
    for (size_t i = 0; dims != NULL && i < rank; i++) {
        dims[i] = kln_rule_dim(rule, 0, i);
    }
    if (dims != NULL) {
        dims[rank] = KLN_DIM_OF_NUMBER((int64_t)count);
    }
}

static kln_dim rows(const kln_rule *rule)
{
    return kln_rule_rank(rule, 0) > 1 ? kln_rule_dim(rule, 0, 0)
           : kln_rule_ranked(rule, 0) ? KLN_DIM_OF_NUMBER(1)
                                      : KLN_UNKNOWN_DIM;
}

void kln_rule_ml_classifier(kln_rule *rule)
{
    const kln_onnx_attribute *texts = kln_rule_attribute(rule, "classlabels_strings");
    const bool text = texts != NULL && texts->count > 0;
    kln_rule_set_dtype(rule, 0, text ? KLN_WIRE_STRING : KLN_WIRE_INT64);
    kln_rule_set_dtype(rule, 1, KLN_WIRE_FLOAT);
    kln_dim *labels = kln_rule_new_shape(rule, 0, 1);
    if (labels != NULL) {
        labels[0] = rows(rule);
    }
    kln_dim *scores = kln_rule_new_shape(rule, 1, 2);
    if (scores != NULL) {
        scores[0] = rows(rule);
    }
}

void kln_rule_ml_regressor(kln_rule *rule)
{
    const kln_onnx_attribute *targets = kln_rule_attribute(rule, "n_targets");
    kln_dim *dims = kln_rule_ranked(rule, 0) ? kln_rule_new_shape(rule, 0, 2) : NULL;
    if (dims != NULL) {
        dims[0] = rows(rule);
        dims[1] = targets != NULL ? KLN_DIM_OF_NUMBER(targets->i) : KLN_UNKNOWN_DIM;
    }
}

void kln_rule_ml_trees(kln_rule *rule)
{
    static const char *const lists[] = {"nodes_featureids",   "nodes_falseleafs",
                                        "nodes_falsenodeids", "nodes_trueleafs",
                                        "nodes_truenodeids",  NULL};
    const kln_onnx_attribute *targets = kln_rule_attribute(rule, "leaf_targetids");
    const kln_onnx_attribute *weights = kln_rule_attribute(rule, "leaf_weights");
    same_lengths(rule, lists);
    if (targets != NULL && weights != NULL && weights->tensor != NULL &&
        weights->tensor->rank == 1 && (int64_t)targets->count != weights->tensor->dims[0]) {
        kln_rule_fault(rule, KILN_ISSUE_VALUE, "leaf_targetids", "one for each weight",
                       "another number",
                       "\"leaf_targetids\" has %zu elements, \"leaf_weights\" %lld", targets->count,
                       (long long)weights->tensor->dims[0]);
    }
    kln_rule_ml_regressor(rule);
}

void kln_rule_ml_features(kln_rule *rule)
{
    kln_rule_set_dtype(rule, 0, KLN_WIRE_FLOAT);
}
