/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "infer_rules.h"

/* What the shapes of an operator's inputs must look like, where its rule does not see to that. One
 * word for each input:
 *
 *     -      anything
 *     ()     a scalar
 *     (1)    a scalar, or one dimension with one element
 *     n_3    three dimensions: named, any, and 3; a name stands for one number in all inputs
 *     nc+    these two dimensions and any number of others */
static const struct {
    const char *domain;
    const char *name;
    int since; /* the first version that it holds for */
    const char *form;
} forms[] = {
    {"", "AffineGrid", 20, "n__ _"},
    {"", "Attention", 23, "- - - - ____ ____"},
    {"", "CausalConvWithState", 27, "bcl c1_ c bc_"},
    {"", "Col2Im", 18, "___ s s"},
    {"", "Compress", 9, "_+ _"},
    {"", "Dropout", 12, "- () ()"},
    {"", "Expand", 8, "- _"},
    {"", "GRU", 1, "__i dgi dgh d_"},
    {"", "GroupNormalization", 21, "nc+ c c"},
    {"", "Hardmax", 1, "_+"},
    {"", "ImageDecoder", 20, "_"},
    {"", "InstanceNormalization", 1, "nc_+ c c"},
    {"", "LRN", 1, "___+"},
    {"", "LSTM", 1, "__i dgi dgh d_ - - - d_"},
    {"", "LinearAttention", 27, "bt_ bt_ bt_ b___ bt_ bt_"},
    {"", "LogSoftmax", 1, "_+"},
    {"", "MaxUnpool", 9, "__+ __+ _"},
    {"", "NegativeLogLikelihoodLoss", 12, "nc+ n+ c"},
    {"", "NonMaxSuppression", 10, "nb4 n_b"},
    {"", "OneHot", 9, "_+ (1) 2"},
    {"", "RMSNormalization", 23, "_+"},
    {"", "RNN", 1, "__i dgi dgh d_"},
    {"", "Range", 11, "(1) (1) (1)"},
    {"", "ReduceL1", 18, "- (_)"},
    {"", "ReduceL2", 18, "- (_)"},
    {"", "ReduceLogSum", 18, "- (_)"},
    {"", "ReduceLogSumExp", 18, "- (_)"},
    {"", "ReduceMax", 18, "- (_)"},
    {"", "ReduceMean", 18, "- (_)"},
    {"", "ReduceMin", 18, "- (_)"},
    {"", "ReduceProd", 18, "- (_)"},
    {"", "ReduceSum", 13, "- (_)"},
    {"", "ReduceSumSquare", 18, "- (_)"},
    {"", "ReverseSequence", 10, "__+ _"},
    {"", "RoiAlign", 10, "____ n4 n"},
    {"", "Slice", 10, "- (_) (_) (_) (_)"},
    {"", "Softmax", 1, "_+"},
    {"", "SoftmaxCrossEntropyLoss", 12, "nc+ n+ c"},
    {"", "Split", 13, "- (_)"},
    {"", "Squeeze", 13, "- (_)"},
    {"", "TensorScatter", 24, "n+ n+ n"},
    {"", "Trilu", 14, "__+"},
    {"", "Unsqueeze", 13, "- (_)"},
    {"ai.onnx.ml", "TreeEnsemble", 5, "__"},
    {"ai.onnx.preview", "FlexAttention", 1, "b__e bhse bhs_"},
};

const char *kln_form_of(const char *domain, const char *name, int since)
{
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(forms); i++) {
        if (strcmp(forms[i].name, name) == 0 && strcmp(forms[i].domain, domain) == 0) {
            return since >= forms[i].since ? forms[i].form : NULL;
        }
    }
    return NULL;
}

/* A name of a form, and where it first stood. */
typedef struct named {
    size_t input, axis;
    kln_dim dim;
} named;

static bool check_dim(kln_rule *rule, named names[26], char sign, size_t input, size_t axis)
{
    const kln_dim dim = kln_rule_dim(rule, input, axis);
    const kln_dim wanted = sign >= '0' && sign <= '9'   ? KLN_DIM_OF_NUMBER(sign - '0')
                           : sign >= 'a' && sign <= 'z' ? names[sign - 'a'].dim
                                                        : KLN_UNKNOWN_DIM;
    char expected[48];
    char found[48];
    if (dim.kind != KLN_DIM_NUMBER) {
        return true;
    }
    if (wanted.kind != KLN_DIM_NUMBER) {
        if (sign >= 'a' && sign <= 'z') {
            names[sign - 'a'] = (named){input, axis, dim};
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
        const named *first = &names[sign - 'a'];
        kln_rule_fault(rule, KILN_ISSUE_SHAPE, name, expected, found,
                       "dimension %zu of \"%.80s\" is %s, and dimension %zu of \"%.80s\" is %s; "
                       "they must be the same",
                       axis, name, found, first->axis, rule->node->inputs[first->input], expected);
    }
    return false;
}

static bool check_word(kln_rule *rule, named names[26], const char *word, size_t length,
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
    named names[26] = {0};
    for (size_t i = 0; i < 26; i++) {
        names[i].dim = KLN_UNKNOWN_DIM;
    }
    for (size_t input = 0; form[0] != '\0' && input < rule->in_count; input++) {
        const size_t length = strcspn(form, " ");
        if (kln_rule_ranked(rule, input) && !check_word(rule, names, form, length, input)) {
            return false;
        }
        form += length + (form[length] == ' ' ? 1 : 0);
    }
    return true;
}
