/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "infer_rules.h"

static void matmul(kln_rule *rule, size_t left, size_t right)
{
    if (!kln_rule_ranked(rule, left) || !kln_rule_ranked(rule, right) ||
        !kln_rule_need_rank(rule, left, 1, SIZE_MAX) ||
        !kln_rule_need_rank(rule, right, 1, SIZE_MAX)) {
        return;
    }
    const size_t a = kln_rule_rank(rule, left);
    const size_t b = kln_rule_rank(rule, right);
    (void)kln_rule_unify(rule, kln_rule_dim(rule, left, a - 1),
                         kln_rule_dim(rule, right, b == 1 ? 0 : b - 2),
                         "the dimensions that are multiplied and summed");
    const size_t batch_a = a > 2 ? a - 2 : 0;
    const size_t batch_b = b > 2 ? b - 2 : 0;
    const size_t batch = batch_a > batch_b ? batch_a : batch_b;
    kln_dim *dims = kln_rule_new_shape(rule, 0, batch + (a > 1 ? 1U : 0U) + (b > 1 ? 1U : 0U));
    if (dims == NULL) {
        return;
    }
    for (size_t i = 0; i < batch; i++) {
        const kln_dim one = KLN_DIM_OF_NUMBER(1);
        const kln_dim x =
            i + batch_a >= batch ? kln_rule_dim(rule, left, i + batch_a - batch) : one;
        const kln_dim y =
            i + batch_b >= batch ? kln_rule_dim(rule, right, i + batch_b - batch) : one;
        dims[i] = kln_rule_broadcast_dim(rule, x, y);
    }
    size_t place = batch;
    if (a > 1) {
        dims[place++] = kln_rule_dim(rule, left, a - 2);
    }
    if (b > 1) {
        dims[place] = kln_rule_dim(rule, right, b - 1);
    }
}

static void rule_matmul(kln_rule *rule)
{
    matmul(rule, 0, 1);
}

static void rule_qlinear_matmul(kln_rule *rule)
{
    matmul(rule, 0, 3);
}

/* A scale or zero point: a single one, one for each row of the left operand or column of the right
 * one, or such in the operand's rank. */
static bool fit_lanes(kln_rule *rule, size_t input, size_t operand, bool left)
{
    const size_t rank = kln_rule_rank(rule, operand);
    kln_dim dims[KILN_MAX_RANK] = {{.kind = KLN_DIM_UNKNOWN}};
    if (!kln_rule_ranked(rule, operand) || !kln_rule_ranked(rule, input) || rank > KILN_MAX_RANK) {
        return true;
    }
    for (size_t i = 0; i < rank; i++) {
        dims[i] = kln_rule_dim(rule, operand, i);
    }
    if (rank > 0) {
        dims[left ? rank - 1 : rank > 1 ? rank - 2 : 0] = KLN_DIM_OF_NUMBER(1);
    }
    static const char what[] = "the scales or zero points and the rows or columns";
    const kln_dim own = kln_rule_dim(rule, input, 0);
    if (left && kln_rule_rank(rule, input) == 1 && rank > 1) {
        return kln_rule_is(own, 1) || kln_fit_same(rule, own, dims[rank - 2], what);
    }
    return kln_rule_rank(rule, input) == 0 ||
           (kln_rule_rank(rule, input) == 1 && kln_rule_is(own, 1)) ||
           kln_fit_broadcast(rule, input, dims, rank, what);
}

static bool fit_matmul_integer(kln_rule *rule)
{
    return fit_lanes(rule, 2, 0, true) && fit_lanes(rule, 3, 1, false);
}

static bool fit_matmul_to_float(kln_rule *rule)
{
    return fit_lanes(rule, 4, 0, true) && fit_lanes(rule, 3, 1, false) &&
           fit_lanes(rule, 5, 1, false);
}

static bool fit_dynamic_matmul(kln_rule *rule)
{
    return fit_lanes(rule, 2, 1, false) && fit_lanes(rule, 3, 1, false);
}

static bool fit_qlinear_matmul(kln_rule *rule)
{
    return fit_lanes(rule, 1, 0, true) && fit_lanes(rule, 2, 0, true) &&
           fit_lanes(rule, 4, 3, false) && fit_lanes(rule, 5, 3, false) &&
           fit_lanes(rule, 6, 0, true) && fit_lanes(rule, 7, 0, true);
}

static void rule_gemm(kln_rule *rule)
{
    if (!kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1) ||
        !kln_rule_need_rank(rule, 0, 2, 2) || !kln_rule_need_rank(rule, 1, 2, 2)) {
        return;
    }
    const size_t a = kln_rule_int(rule, "transA", 0) != 0 ? 1 : 0;
    const size_t b = kln_rule_int(rule, "transB", 0) != 0 ? 1 : 0;
    (void)kln_rule_unify(rule, kln_rule_dim(rule, 0, 1 - a), kln_rule_dim(rule, 1, b),
                         "the dimensions that are multiplied and summed");
    kln_rule_give(rule, 0, kln_rule_dim(rule, 0, a), kln_rule_dim(rule, 1, 1 - b));
}

/* A with its scale and zero point, then B with its own. The result is real if it has no zero
 * point. */
static void rule_qgemm(kln_rule *rule)
{
    kln_rule_set_dtype(rule, 0, kln_rule_has(rule, 8) ? kln_rule_dtype(rule, 8) : KLN_WIRE_FLOAT);
    kln_rule_with(rule, (const size_t[]){0, 3}, 2, rule_gemm);
}

/* With `batch`, the first dimension of an operand moves behind the batch dimensions; then `flip`
 * swaps the last two. */
static kln_value *turned(kln_rule *rule, size_t input, bool flip, bool batch)
{
    const size_t rank = kln_rule_rank(rule, input);
    kln_value *copy = kln_rule_alloc(rule, 1, sizeof *copy);
    kln_dim *dims = kln_rule_alloc(rule, rank, sizeof *dims);
    if (copy == NULL || dims == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < rank; i++) {
        const size_t to = flip && i + 2 >= rank && rank > 1 ? 2 * rank - 3 - i : i;
        dims[to] = kln_rule_dim(rule, input,
                                !batch || i + 1 == rank ? i
                                : i + 2 == rank         ? 0
                                                        : i + 1);
    }
    *copy = *rule->in[input];
    copy->dims = dims;
    return copy;
}

static void rule_fused_matmul(kln_rule *rule)
{
    static const char *const names[2][2] = {{"transA", "transBatchA"}, {"transB", "transBatchB"}};
    kln_value *operands[2] = {NULL};
    for (size_t i = 0; i < 2; i++) {
        if (!kln_rule_ranked(rule, i)) {
            return;
        }
        operands[i] = turned(rule, i, kln_rule_int(rule, names[i][0], 0) != 0,
                             kln_rule_int(rule, names[i][1], 0) != 0);
        if (operands[i] == NULL) {
            return;
        }
    }
    kln_rule of = *rule;
    of.in = operands;
    of.in_count = 2;
    rule_matmul(&of);
}

static void rule_matmul_nbits(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    kln_dim *dims = kln_rule_ranked(rule, 0) && kln_rule_need_rank(rule, 0, 1, SIZE_MAX)
                        ? kln_rule_shape_like(rule, 0, rank)
                        : NULL;
    if (dims != NULL) {
        (void)kln_rule_unify(rule, dims[rank - 1], KLN_DIM_OF_NUMBER(kln_rule_int(rule, "K", 0)),
                             "the last dimension and K");
        dims[rank - 1] = KLN_DIM_OF_NUMBER(kln_rule_int(rule, "N", 0));
    }
}

static bool fit_gemm(kln_rule *rule)
{
    if (rule->since < 7 || !kln_rule_ranked(rule, 0) || !kln_rule_ranked(rule, 1)) {
        return true;
    }
    const size_t a = kln_rule_int(rule, "transA", 0) != 0 ? 1 : 0;
    const size_t b = kln_rule_int(rule, "transB", 0) != 0 ? 1 : 0;
    const kln_dim dims[2] = {kln_rule_dim(rule, 0, a), kln_rule_dim(rule, 1, 1 - b)};
    return kln_fit_broadcast(rule, 2, dims, 2, "C and the product");
}

#define LETTERS_MOST 52

#define ELLIPSIS_MOST 8

typedef struct einsum {
    kln_rule *rule;
    bool seen[LETTERS_MOST];
    unsigned uses[LETTERS_MOST];
    kln_dim dims[LETTERS_MOST];
    kln_dim ellipsis[ELLIPSIS_MOST]; /* counted from the end */
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

/* Checks an equation independently of the inputs. */
static bool check_equation(kln_rule *rule, const char *equation)
{
    char why[112];
    unsigned inputs[LETTERS_MOST] = {0};
    unsigned outputs[LETTERS_MOST] = {0};
    size_t terms = 1;
    unsigned dots[2] = {0, 0}; /* ellipses in the current term, and whether any input has one */
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

static void rule_einsum(kln_rule *rule)
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
        /* Letters that occur once are in the output, in alphabetical order, capitals first. */
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

static void rule_det(kln_rule *rule)
{
    const size_t rank = kln_rule_rank(rule, 0);
    (void)kln_rule_unify(rule, kln_rule_dim(rule, 0, rank - 2), kln_rule_dim(rule, 0, rank - 1),
                         "the sides of a square matrix");
    (void)kln_rule_shape_like(rule, 0, rank - 2);
}

const kln_op_rule kln_rules_matmul[] = {
    OP("Det", rule_det, .form = "11: __+", .ranked = true),
    OP("Einsum", rule_einsum),
    OP("Gemm", rule_gemm, .form = "1: -", .fit = fit_gemm),
    OP("MatMul", rule_matmul),
    OP("MatMulInteger", rule_matmul, .form = "10: -", .fit = fit_matmul_integer),
    OP("QLinearMatMul", rule_qlinear_matmul, .form = "10: -", .fit = fit_qlinear_matmul),
    OP_MS("DynamicQuantizeMatMul", rule_matmul, .form = "1: -", .fit = fit_dynamic_matmul),
    OP_MS("FusedGemm", rule_gemm),
    OP_MS("FusedMatMul", rule_fused_matmul),
    OP_MS("MatMulIntegerToFloat", rule_matmul, .form = "1: - - (1)", .fit = fit_matmul_to_float),
    OP_MS("MatMulNBits", rule_matmul_nbits),
    OP_MS("QGemm", rule_qgemm, .form = "1: - (1) (1) - - - - (1) (1)"),
    OP_MS("TransposeMatMul", rule_fused_matmul),
    OP_END};
