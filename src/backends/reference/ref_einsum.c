/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"
#include "ref_product.h"

#define MOST_LABELS 24
#define MOST_OPERANDS 16

/* Labels are letters, and '0' onwards for the dimensions of "...", counted from the last one. */
typedef struct einsum {
    char labels[MOST_LABELS]; /* the output's first */
    int64_t dims[MOST_LABELS];
    int label_count;
    int output_count; /* number of output labels */
    size_t operands;
    const ref_tensor *x[MOST_OPERANDS];
    double *values[MOST_OPERANDS];
    int64_t *ints[MOST_OPERANDS];
    char terms[MOST_OPERANDS][REF_RANK + 1];
    char output[MOST_LABELS + 1];
    int64_t strides[MOST_OPERANDS][MOST_LABELS];
} einsum;

static int find_label(const einsum *e, char label)
{
    for (int i = 0; i < e->label_count; i++) {
        if (e->labels[i] == label) {
            return i;
        }
    }
    return -1;
}

static kiln_status fail_equation(const char *equation)
{
    return kln_fail(
        KILN_ERROR_INVALID_NETWORK,
        "the equation \"%s\" needs a term for each operand, a letter for each dimension, and "
        "one length for each letter",
        equation);
}

/* Reads a term and expands its ellipsis to `hidden` dimensions. */
static const char *read_term(const char *at, int hidden, char *term, size_t room)
{
    size_t used = 0;
    for (; *at != '\0' && *at != ',' && !(at[0] == '-' && at[1] == '>'); at++) {
        if (*at == '.') {
            for (int i = hidden - 1; i >= 0 && used + 1 < room; i--) {
                term[used++] = (char)('0' + i);
            }
            at += strncmp(at, "...", 3) == 0 ? 2 : 0;
        } else if (*at != ' ') {
            if (used + 1 >= room) {
                return NULL;
            }
            term[used++] = *at;
        }
    }
    term[used] = '\0';
    return at;
}

/* The number of dimensions that a term's ellipsis stands for; -1 if it has none. */
static int hidden_dims(const char *at, int rank)
{
    bool dots = false;
    for (; *at != '\0' && *at != ',' && *at != '-'; at++) {
        if (*at == '.') {
            dots = true;
        } else if (*at != ' ') {
            rank--;
        }
    }
    return !dots ? -1 : rank > 0 ? rank : 0;
}

static kiln_status read_terms(einsum *e, const char *equation, int *widest)
{
    const char *at = equation;
    *widest = -1;
    for (size_t i = 0; i < e->operands; i++) {
        const int hidden = hidden_dims(at, e->x[i]->rank);
        /* All ellipses stand for the same number of dimensions. */
        KLN_FAIL_IF(hidden >= 0 && *widest >= 0 && hidden != *widest, fail_equation(equation));
        *widest = hidden >= 0 ? hidden : *widest;
        at = read_term(at, hidden, e->terms[i], sizeof e->terms[i]);
        KLN_FAIL_IF(at == NULL || strlen(e->terms[i]) != (size_t)e->x[i]->rank ||
                        (i + 1 < e->operands) != (*at == ','),
                    fail_equation(equation));
        at += *at == ',';
    }
    if (*at == '-') {
        at = read_term(at + 2, *widest, e->output, sizeof e->output);
        return at != NULL && *at == '\0' ? KILN_OK : fail_equation(equation);
    }
    return *at == '\0' ? KILN_OK : fail_equation(equation);
}

/* Without "->" the output consists of the ellipsis and the letters that occur once, in alphabetical
 * order. */
static void imply_output(einsum *e, int widest)
{
    size_t used = 0;
    for (int i = widest - 1; i >= 0; i--) {
        e->output[used++] = (char)('0' + i);
    }
    for (int letter = 'A'; letter <= 'z'; letter++) {
        int times = 0;
        for (size_t i = 0; i < e->operands; i++) {
            for (const char *at = e->terms[i]; *at != '\0'; at++) {
                times += *at == (char)letter;
            }
        }
        if (times == 1 && used < MOST_LABELS) {
            e->output[used++] = (char)letter;
        }
    }
    e->output[used] = '\0';
}

static kiln_status add_labels(einsum *e, const char *term, const char *equation)
{
    for (; *term != '\0'; term++) {
        if (find_label(e, *term) >= 0) {
            continue;
        }
        KLN_FAIL_IF(e->label_count == MOST_LABELS, fail_equation(equation));
        e->dims[e->label_count] = 1;
        e->labels[e->label_count++] = *term;
    }
    return KILN_OK;
}

static bool is_in_a_term(const einsum *e, char label)
{
    for (size_t i = 0; i < e->operands; i++) {
        if (strchr(e->terms[i], label) != NULL) {
            return true;
        }
    }
    return false;
}

static kiln_status measure(einsum *e, const char *equation)
{
    for (const char *label = e->output; *label != '\0'; label++) {
        KLN_FAIL_IF(!is_in_a_term(e, *label), fail_equation(equation));
    }
    KLN_RETURN_IF_ERROR(add_labels(e, e->output, equation));
    e->output_count = e->label_count;
    KLN_FAIL_IF(strlen(e->output) != (size_t)e->output_count || e->output_count > REF_RANK,
                fail_equation(equation));
    for (size_t i = 0; i < e->operands; i++) {
        KLN_RETURN_IF_ERROR(add_labels(e, e->terms[i], equation));
        int64_t dense[REF_RANK];
        ref_dense_strides(e->x[i]->rank, e->x[i]->dims, dense);
        for (int j = 0; j < e->x[i]->rank; j++) {
            const int label = find_label(e, e->terms[i][j]);
            const int64_t dim = e->x[i]->dims[j];
            KLN_FAIL_IF(dim != 1 && e->dims[label] != 1 && e->dims[label] != dim,
                        fail_equation(equation));
            e->dims[label] = dim != 1 ? dim : e->dims[label];
            e->strides[i][label] += dim != 1 ? dense[j] : 0;
        }
    }
    return KILN_OK;
}

/* Advances the labels from `begin` to `end`; false after the last position. */
static bool advance(const einsum *e, int begin, int end, int64_t *place, int64_t *offsets)
{
    for (int i = end - 1; i >= begin; i--) {
        place[i]++;
        for (size_t k = 0; k < e->operands; k++) {
            offsets[k] += e->strides[k][i];
        }
        if (place[i] < e->dims[i]) {
            return true;
        }
        for (size_t k = 0; k < e->operands; k++) {
            offsets[k] -= e->strides[k][i] * e->dims[i];
        }
        place[i] = 0;
    }
    return false;
}

static void contract(const einsum *e, bool whole, ref_tensor *y)
{
    int64_t place[MOST_LABELS] = {0};
    int64_t offsets[MOST_OPERANDS] = {0};
    int64_t terms = 1;
    for (int i = e->output_count; i < e->label_count; i++) {
        terms *= e->dims[i];
    }
    for (int64_t i = 0; i < y->count; i++) {
        double sum = 0.0;
        uint64_t total = 0;
        for (bool more = terms > 0; more;
             more = advance(e, e->output_count, e->label_count, place, offsets)) {
            double product = 1.0;
            uint64_t factor = 1;
            for (size_t k = 0; k < e->operands; k++) {
                if (whole) {
                    factor *= (uint64_t)e->ints[k][offsets[k]];
                } else {
                    product *= e->values[k][offsets[k]];
                }
            }
            sum += product;
            total += factor;
        }
        if (whole) {
            ref_put_int(y, i, (int64_t)total);
        } else {
            ref_put_float(y, i, sum);
        }
        (void)advance(e, 0, e->output_count, place, offsets);
    }
}

/* --- two float operands: many outputs at a time --- */

#define DEPTH 128 /* terms per pass */

/* Operand `left` lacks the output's last label, so a row of outputs shares its elements. Operand
 * `right` lacks label `rows` (-1: there is none), so several rows share its elements. */
typedef struct plan {
    size_t left, right;
    int columns, rows;
    int64_t terms;
    int64_t *offsets[2];        /* of each term in each operand */
    int64_t apart[2];           /* distance between terms if it is constant; else 0 */
    int64_t steps[MOST_LABELS]; /* in the output */
} plan;

static bool make_plan(const einsum *e, plan *p)
{
    p->columns = e->output_count - 1;
    if (e->operands != 2 || p->columns < 0 ||
        (e->strides[0][p->columns] != 0 && e->strides[1][p->columns] != 0)) {
        return false;
    }
    p->left = e->strides[0][p->columns] == 0 ? 0 : 1;
    p->right = 1 - p->left;
    p->rows = -1;
    for (int i = 0; i < p->columns; i++) {
        if (e->strides[p->right][i] == 0 && (p->rows < 0 || e->dims[i] > e->dims[p->rows])) {
            p->rows = i;
        }
    }
    p->terms = 1;
    for (int i = e->output_count; i < e->label_count; i++) {
        p->terms *= e->dims[i];
    }
    int64_t step = 1;
    for (int i = e->output_count - 1; i >= 0; i--) {
        p->steps[i] = step;
        step *= e->dims[i];
    }
    return p->terms > 0;
}

static kiln_status list_terms(ref_call *call, const einsum *e, plan *p)
{
    int64_t place[MOST_LABELS] = {0};
    int64_t offsets[MOST_OPERANDS] = {0};
    for (int i = 0; i < 2; i++) {
        KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)p->terms, sizeof(int64_t), &p->offsets[i]));
    }
    for (int64_t t = 0; t < p->terms; t++) {
        p->offsets[0][t] = offsets[0];
        p->offsets[1][t] = offsets[1];
        (void)advance(e, e->output_count, e->label_count, place, offsets);
    }
    for (int i = 0; i < 2; i++) {
        p->apart[i] = p->terms > 1 ? p->offsets[i][1] : 1;
        for (int64_t t = 1; t < p->terms; t++) {
            p->apart[i] = p->offsets[i][t] == t * p->apart[i] ? p->apart[i] : 0;
        }
    }
    return KILN_OK;
}

/* Computes all rows and up to REF_SIDE columns of output; `out_at` and `at` hold the offsets of the
 * first one in the output and in the operands. */
static void add_columns(const einsum *e, const plan *p, ref_sum_function sum, int64_t column,
                        int64_t out_at, const int64_t *at, double *out)
{
    const int64_t all = e->dims[p->columns];
    const int64_t width = all - column < REF_SIDE ? all - column : REF_SIDE;
    const int64_t step = e->strides[p->right][p->columns];
    const double *b = e->values[p->right] + at[p->right] + column * step;
    const int64_t rows = p->rows >= 0 ? e->dims[p->rows] : 1;
    const int64_t a_step = p->rows >= 0 ? e->strides[p->left][p->rows] : 0;
    const int64_t out_step = p->rows >= 0 ? p->steps[p->rows] : 0;
    double panel[DEPTH * REF_SIDE] = {0};
    for (int64_t t = 0; t < p->terms; t += DEPTH) {
        const int64_t count = p->terms - t < DEPTH ? p->terms - t : DEPTH;
        for (int64_t k = 0; k < count; k++) {
            const double *from = b + p->offsets[p->right][t + k];
            for (int64_t c = 0; c < width; c++) {
                panel[k * REF_SIDE + c] = from[c * step];
            }
        }
        for (int64_t r = 0; r < rows; r += REF_ROWS) {
            double tile[REF_ROWS * REF_SIDE] = {0};
            const double *from[REF_ROWS];
            const int row_count = rows - r < REF_ROWS ? (int)(rows - r) : REF_ROWS;
            for (int i = 0; i < REF_ROWS; i++) {
                const int64_t row = r + (i < row_count ? i : 0);
                from[i] = e->values[p->left] + at[p->left] + row * a_step;
                memcpy(tile + (ptrdiff_t)i * REF_SIDE, out + out_at + row * out_step + column,
                       (size_t)width * sizeof *tile);
            }
            sum(count, p->offsets[p->left] + t, from, panel, (int)width, tile, REF_SIDE, row_count);
            for (int i = 0; i < row_count; i++) {
                memcpy(out + out_at + (r + i) * out_step + column, tile + (ptrdiff_t)i * REF_SIDE,
                       (size_t)width * sizeof *tile);
            }
        }
    }
}

/* The rows and columns at one position, if they form a matrix product. */
typedef struct matrices {
    int64_t rows, columns, a_step, out_step;
    ref_matrix b;
    bool turned; /* terms are contiguous in both operands, also rows of the left and the output */
} matrices;

static bool find_matrices(const einsum *e, const plan *p, matrices *m)
{
    const ref_tensor *right = e->x[p->right];
    *m = (matrices){.rows = 1, .columns = e->dims[p->columns]};
    if (p->rows >= 0) {
        m->rows = e->dims[p->rows];
        m->a_step = e->strides[p->left][p->rows];
        m->out_step = p->steps[p->rows];
    }
    m->b = (ref_matrix){.row = p->apart[p->right], .column = e->strides[p->right][p->columns]};
    m->b.exact = ref_is_exact(e->x[0]->dtype, e->x[1]->dtype);
    m->b.floats = right->dtype == KILN_DTYPE_FLOAT32 ? right->data : NULL;
    m->turned = m->b.floats != NULL && e->x[p->left]->dtype == KILN_DTYPE_FLOAT32 &&
                m->b.row == 1 &&
                (m->rows == 1 || (m->a_step == p->terms && m->out_step == m->columns));
    return p->apart[p->left] == 1 && p->apart[p->right] != 0;
}

/* Adds the product at one position, `at` in the operands, to `out`. */
static void multiply_matrices(const einsum *e, const plan *p, const matrices *m, const int64_t *at,
                              double *out)
{
    ref_matrix b = m->b;
    if (b.floats != NULL) {
        b.floats += at[p->right];
    } else {
        b.doubles += at[p->right];
    }
    ref_multiply_matrix(m->rows, p->terms, m->columns, e->values[p->left] + at[p->left], m->a_step,
                        &b, out, m->out_step);
}

/* Writes the product to `y`; false if another method is needed. */
static bool multiply_turned(const einsum *e, const plan *p, const matrices *m, const int64_t *at,
                            double *room, float *y)
{
    const ref_turned turned = {.rows = m->rows,
                               .inner = p->terms,
                               .columns = m->columns,
                               .a = e->values[p->left] + at[p->left],
                               .b = m->b.floats + at[p->right],
                               .b_stride = m->b.column,
                               .alpha = 1.0,
                               .room = room,
                               .y = y};
    return ref_multiply_turned(0, &turned);
}

/* Advances the output labels, except those of rows and columns. */
static bool next_place(const einsum *e, const plan *p, int64_t *place)
{
    for (int i = p->columns - 1; i >= 0; i--) {
        if (i != p->rows) {
            if (++place[i] < e->dims[i]) {
                return true;
            }
            place[i] = 0;
        }
    }
    return false;
}

static kiln_status contract_two(ref_call *call, einsum *e, plan *p, ref_tensor *y)
{
    const ref_sum_function sum = ref_sum_kernel(ref_is_exact(e->x[0]->dtype, e->x[1]->dtype));
    double *out = NULL;
    matrices m;
    KLN_RETURN_IF_ERROR(list_terms(call, e, p));
    const bool multiplied = find_matrices(e, p, &m);
    bool turned = multiplied && m.turned;
    KLN_RETURN_IF_ERROR(ref_doubles(call, e->x[p->left], &e->values[p->left]));
    if (!multiplied || m.b.floats == NULL) {
        KLN_RETURN_IF_ERROR(ref_doubles(call, e->x[p->right], &e->values[p->right]));
        m.b.doubles = e->values[p->right];
    }
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)(y->count + m.rows), sizeof *out, &out));
    memset(out, 0, (size_t)y->count * sizeof *out);
    int64_t place[MOST_LABELS] = {0};
    for (bool more = y->count > 0; more; more = next_place(e, p, place)) {
        int64_t at[2] = {0, 0};
        int64_t out_at = 0;
        for (int i = 0; i < p->columns; i++) {
            at[0] += place[i] * e->strides[0][i];
            at[1] += place[i] * e->strides[1][i];
            out_at += place[i] * p->steps[i];
        }
        KLN_RETURN_IF_ERROR(ref_spend(call, 0));
        turned = turned && multiply_turned(e, p, &m, at, out, (float *)y->data + out_at);
        if (multiplied && !turned) {
            multiply_matrices(e, p, &m, at, out + out_at);
        }
        for (int64_t c = 0; !multiplied && c < m.columns; c += REF_SIDE) {
            add_columns(e, p, sum, c, out_at, at, out);
        }
    }
    if (!turned) {
        ref_store_float(y, 0, 1, y->count, out);
    }
    return KILN_OK;
}

static kiln_status ref_op_einsum(ref_call *call)
{
    einsum *e = NULL;
    ref_tensor *y = NULL;
    int widest = 0;
    const char *equation = ref_attribute_string(call, "equation", "");
    KLN_RETURN_IF_ERROR(ref_scratch(call, 1, sizeof *e, &e));
    memset(e, 0, sizeof *e);
    e->operands = call->node->input_count;
    KLN_RETURN_IF(e->operands == 0 || e->operands > REF_SCRATCH - 2, KILN_ERROR_UNSUPPORTED,
                  "%zu operands; 1 to %d are computed here", e->operands, REF_SCRATCH - 2);
    for (size_t i = 0; i < e->operands; i++) {
        KLN_RETURN_IF_ERROR(ref_need_number(call, i, &e->x[i]));
    }
    const bool whole = ref_domain_of(e->x[0]->dtype) != REF_DOMAIN_FLOAT;
    KLN_RETURN_IF_ERROR(read_terms(e, equation, &widest));
    if (strstr(equation, "->") == NULL) {
        imply_output(e, widest);
    }
    KLN_RETURN_IF_ERROR(measure(e, equation));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, e->x[0]->dtype, e->output_count, e->dims, &y));
    double work = (double)e->operands;
    for (int i = 0; i < e->label_count; i++) {
        work *= (double)e->dims[i];
    }
    KLN_RETURN_IF_ERROR(ref_spend(call, work));
    plan p;
    if (!whole && make_plan(e, &p)) {
        return contract_two(call, e, &p, y);
    }
    for (size_t i = 0; i < e->operands; i++) {
        KLN_RETURN_IF_ERROR(whole ? ref_ints(call, e->x[i], &e->ints[i])
                                  : ref_doubles(call, e->x[i], &e->values[i]));
    }
    contract(e, whole, y);
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_einsum[] = {
    REF_OP("Einsum", 12, einsum, 0),
    REF_KERNELS_END
};
/* clang-format on */
