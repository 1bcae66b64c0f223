/* RNN, GRU and LSTM.
 * SPDX-License-Identifier: Apache-2.0 */
#include <strings.h>

#include "ref_ops.h"

typedef enum function_kind {
    AFFINE,
    ELU,
    HARD_SIGMOID,
    LEAKY_RELU,
    RELU,
    SCALED_TANH,
    SIGMOID,
    SOFTPLUS,
    SOFTSIGN,
    TANH,
    THRESHOLDED_RELU
} function_kind;

/* Name, and the defaults of alpha and beta; (double)NaN where there is no such number. */
static const struct {
    const char *name;
    double alpha, beta;
} functions[] = {[AFFINE] = {"Affine", 1.0, 0.0},
                 [ELU] = {"Elu", 1.0, (double)NAN},
                 [HARD_SIGMOID] = {"HardSigmoid", 0.2, 0.5},
                 [LEAKY_RELU] = {"LeakyRelu", 0.01, (double)NAN},
                 [RELU] = {"Relu", (double)NAN, (double)NAN},
                 [SCALED_TANH] = {"ScaledTanh", 1.0, 1.0},
                 [SIGMOID] = {"Sigmoid", (double)NAN, (double)NAN},
                 [SOFTPLUS] = {"Softplus", (double)NAN, (double)NAN},
                 [SOFTSIGN] = {"Softsign", (double)NAN, (double)NAN},
                 [TANH] = {"Tanh", (double)NAN, (double)NAN},
                 [THRESHOLDED_RELU] = {"ThresholdedRelu", 1.0, (double)NAN}};

typedef struct activation {
    function_kind kind;
    double a, b;
} activation;

static double activate(const activation *f, double x)
{
    switch (f->kind) {
        case AFFINE: return f->a * x + f->b;
        case ELU: return x >= 0.0 ? x : f->a * expm1(x);
        case HARD_SIGMOID: return ref_clamp(f->a * x + f->b, 0.0, 1.0);
        case LEAKY_RELU: return x >= 0.0 ? x : f->a * x;
        case RELU: return x < 0.0 ? 0.0 : x;
        case SCALED_TANH: return f->a * tanh(f->b * x);
        case SIGMOID: return ref_sigmoid(x);
        case SOFTPLUS: return ref_softplus(x);
        case SOFTSIGN: return x / (1.0 + fabs(x));
        case TANH: return tanh(x);
        case THRESHOLDED_RELU: return x > f->a ? x : 0.0;
    }
    return x;
}

typedef struct network {
    ref_cell cell;
    int64_t gates, steps, batch, width, hidden, directions;
    bool batch_first, reset_after, input_forget;
    bool backward[2];
    double clip;
    activation f[6];
    double *x, *w, *r, *b, *p; /* b and p may be NULL */
    const ref_tensor *lengths;
    double *h, *c; /* states: [direction][batch][hidden] */
    double *y;     /* [step][direction][batch][hidden] */
    double *gate;  /* of one step of one sample */
} network;

/* --- reading --- */

static kiln_status read_function(const kiln_span *name, activation *f)
{
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(functions); i++) {
        if (name->size == strlen(functions[i].name) &&
            strncasecmp(name->data, functions[i].name, name->size) == 0) {
            f->kind = (function_kind)i;
            return KILN_OK;
        }
    }
    return kln_fail(KILN_ERROR_UNSUPPORTED, "the activation \"%.*s\" is not known",
                    (int)(name->size < 64 ? name->size : 64), (const char *)name->data);
}

static double take_number(const kln_onnx_attribute *list, size_t *used, double otherwise)
{
    if (isnan(otherwise) || list == NULL || *used >= list->count) {
        return otherwise;
    }
    return (double)list->floats[(*used)++];
}

static kiln_status read_activations(const ref_call *call, network *n)
{
    static const function_kind usual[3] = {SIGMOID, TANH, TANH};
    const size_t each = n->cell == REF_CELL_LSTM ? 3 : n->cell == REF_CELL_GRU ? 2 : 1;
    const size_t count = each * (size_t)n->directions;
    const kln_onnx_attribute *names = ref_attribute(call, "activations");
    const kln_onnx_attribute *alphas = ref_attribute(call, "activation_alpha");
    const kln_onnx_attribute *betas = ref_attribute(call, "activation_beta");
    size_t used[2] = {0, 0};
    KLN_RETURN_IF(names != NULL && names->count != count, KILN_ERROR_INVALID_NETWORK,
                  "%zu activations are named, %zu are needed", names->count, count);
    for (size_t i = 0; i < count; i++) {
        n->f[i].kind = n->cell == REF_CELL_RNN ? TANH : usual[i % each];
        if (names != NULL) {
            KLN_RETURN_IF_ERROR(read_function(&names->strings[i], &n->f[i]));
        }
        n->f[i].a = take_number(alphas, &used[0], functions[n->f[i].kind].alpha);
        n->f[i].b = take_number(betas, &used[1], functions[n->f[i].kind].beta);
    }
    return KILN_OK;
}

static kiln_status read_directions(const ref_call *call, network *n)
{
    const char *direction = ref_attribute_string(call, "direction", "forward");
    n->directions = strcmp(direction, "bidirectional") == 0 ? 2 : 1;
    n->backward[0] = strcmp(direction, "reverse") == 0;
    n->backward[1] = true;
    return KILN_OK;
}

/* Doubles of an input that must have `count` elements; NULL when it is left out. */
static kiln_status read_part(ref_call *call, size_t index, int64_t count, double **values)
{
    const ref_tensor *tensor = ref_input(call, index);
    *values = NULL;
    if (tensor == NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF(tensor->count != count, KILN_ERROR_SHAPE,
                  "input %zu has %lld elements, %lld are needed", index, (long long)tensor->count,
                  (long long)count);
    return ref_doubles(call, tensor, values);
}

/* A state, with the direction first. */
static kiln_status read_state(ref_call *call, size_t index, const network *n, double **state)
{
    const int64_t count = n->directions * n->batch * n->hidden;
    double *given = NULL;
    KLN_RETURN_IF_ERROR(read_part(call, index, count, &given));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)count, sizeof **state, state));
    memset(*state, 0, (size_t)count * sizeof **state);
    for (int64_t i = 0; given != NULL && i < n->directions * n->batch; i++) {
        const int64_t from = n->batch_first ? i % n->batch * n->directions + i / n->batch : i;
        memcpy(*state + i * n->hidden, given + from * n->hidden,
               (size_t)n->hidden * sizeof **state);
    }
    return KILN_OK;
}

static kiln_status read_sizes(ref_call *call, const ref_tensor *x, network *n)
{
    const ref_tensor *r = NULL;
    KLN_RETURN_IF_ERROR(ref_need_float(call, 2, &r));
    KLN_RETURN_IF(x->rank != 3 || r->rank != 3, KILN_ERROR_RANK,
                  "3 dimensions are needed, found %d and %d", x->rank, r->rank);
    n->batch_first = ref_attribute_int(call, "layout", 0) != 0;
    n->steps = x->dims[n->batch_first ? 1 : 0];
    n->batch = x->dims[n->batch_first ? 0 : 1];
    n->width = x->dims[2];
    n->hidden = r->dims[2];
    n->lengths = ref_input(call, 4);
    KLN_RETURN_IF(n->lengths != NULL && n->lengths->count != n->batch, KILN_ERROR_SHAPE,
                  "%lld lengths are given for a batch of %lld", (long long)n->lengths->count,
                  (long long)n->batch);
    return KILN_OK;
}

static kiln_status read_network(ref_call *call, network *n)
{
    const ref_tensor *x = NULL;
    KLN_RETURN_IF_ERROR(ref_need_float(call, 0, &x));
    KLN_RETURN_IF_ERROR(read_directions(call, n));
    KLN_RETURN_IF_ERROR(read_activations(call, n));
    KLN_RETURN_IF_ERROR(read_sizes(call, x, n));
    const int64_t rows = n->directions * n->gates * n->hidden;
    KLN_RETURN_IF_ERROR(ref_doubles(call, x, &n->x));
    KLN_RETURN_IF_ERROR(read_part(call, 1, rows * n->width, &n->w));
    KLN_RETURN_IF_ERROR(read_part(call, 2, rows * n->hidden, &n->r));
    KLN_RETURN_IF_ERROR(read_part(call, 3, 2 * rows, &n->b));
    KLN_RETURN_IF_ERROR(read_state(call, 5, n, &n->h));
    if (n->cell == REF_CELL_LSTM) {
        KLN_RETURN_IF_ERROR(read_state(call, 6, n, &n->c));
        KLN_RETURN_IF_ERROR(read_part(call, 7, n->directions * 3 * n->hidden, &n->p));
    }
    KLN_RETURN_IF(n->w == NULL || n->r == NULL, KILN_ERROR_INVALID_NETWORK,
                  "the weights are left out");
    n->clip = ref_attribute_float(call, "clip", HUGE_VAL);
    n->reset_after = ref_attribute_int(call, "linear_before_reset", 0) != 0;
    n->input_forget = ref_attribute_int(call, "input_forget", 0) != 0;
    const int64_t count = n->steps * n->directions * n->batch * n->hidden;
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)count, sizeof *n->y, &n->y));
    memset(n->y, 0, (size_t)count * sizeof *n->y);
    return ref_scratch(call, (size_t)(2 * n->gates * n->hidden), sizeof *n->gate, &n->gate);
}

/* --- computing --- */

static double dot(const double *a, const double *b, int64_t count)
{
    double sum = 0.0;
    for (int64_t i = 0; i < count; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

static double clipped(const network *n, double x)
{
    return ref_clamp(x, -n->clip, n->clip);
}

/* What input and state add to each gate: gate[g] from x, gate[gates * hidden + g] from h. */
static void weigh(const network *n, int64_t d, const double *x, const double *h)
{
    const int64_t rows = n->gates * n->hidden;
    const double *w = n->w + d * rows * n->width;
    const double *r = n->r + d * rows * n->hidden;
    const double *b = n->b != NULL ? n->b + d * 2 * rows : NULL;
    for (int64_t i = 0; i < rows; i++) {
        n->gate[i] = dot(w + i * n->width, x, n->width) + (b != NULL ? b[i] : 0.0);
        n->gate[rows + i] = dot(r + i * n->hidden, h, n->hidden) + (b != NULL ? b[rows + i] : 0.0);
    }
}

static void step_rnn(const network *n, int64_t d, double *h)
{
    for (int64_t i = 0; i < n->hidden; i++) {
        h[i] = activate(&n->f[d], clipped(n, n->gate[i] + n->gate[n->hidden + i]));
    }
}

static void step_gru(const network *n, int64_t d, double *h)
{
    const int64_t size = n->hidden;
    const activation *f = &n->f[2 * d];
    double *from_x = n->gate;
    double *from_h = n->gate + 3 * size;
    for (int64_t i = 0; i < 2 * size; i++) {
        from_x[i] = activate(&f[0], clipped(n, from_x[i] + from_h[i]));
    }
    const double *z = from_x;
    const double *reset = from_x + size;
    if (!n->reset_after) {
        const double *r = n->r + (d * 3 + 2) * size * size;
        const double *b = n->b != NULL ? n->b + d * 6 * size + 5 * size : NULL;
        for (int64_t i = 0; i < size; i++) {
            double sum = b != NULL ? b[i] : 0.0;
            for (int64_t j = 0; j < size; j++) {
                sum += reset[j] * h[j] * r[i * size + j];
            }
            from_h[2 * size + i] = sum;
        }
    }
    for (int64_t i = 0; i < size; i++) {
        const double past = (n->reset_after ? reset[i] : 1.0) * from_h[2 * size + i];
        const double fresh = activate(&f[1], clipped(n, from_x[2 * size + i] + past));
        h[i] = (1.0 - z[i]) * fresh + z[i] * h[i];
    }
}

static void step_lstm(const network *n, int64_t d, double *h, double *c)
{
    const int64_t size = n->hidden;
    const activation *f = &n->f[3 * d];
    const double *p = n->p != NULL ? n->p + d * 3 * size : NULL;
    for (int64_t i = 0; i < size; i++) {
        double gate[4]; /* input, output, forget, cell */
        for (int64_t k = 0; k < 4; k++) {
            gate[k] = n->gate[k * size + i] + n->gate[(4 + k) * size + i];
        }
        const double seen = c[i];
        const double in = activate(&f[0], clipped(n, gate[0] + (p != NULL ? p[i] * seen : 0.0)));
        const double forget =
            n->input_forget
                ? 1.0 - in
                : activate(&f[0], clipped(n, gate[2] + (p != NULL ? p[2 * size + i] * seen : 0.0)));
        c[i] = forget * seen + in * activate(&f[1], clipped(n, gate[3]));
        const double out =
            activate(&f[0], clipped(n, gate[1] + (p != NULL ? p[size + i] * c[i] : 0.0)));
        h[i] = out * activate(&f[2], c[i]);
    }
}

static void run_sample(const network *n, int64_t d, int64_t sample)
{
    int64_t length = n->lengths != NULL ? ref_get_int(n->lengths, sample) : n->steps;
    length = length < 0 ? 0 : length > n->steps ? n->steps : length;
    double *h = n->h + (d * n->batch + sample) * n->hidden;
    double *c = n->c != NULL ? n->c + (d * n->batch + sample) * n->hidden : NULL;
    for (int64_t i = 0; i < length; i++) {
        const int64_t t = n->backward[d] ? length - 1 - i : i;
        const int64_t row = n->batch_first ? sample * n->steps + t : t * n->batch + sample;
        weigh(n, d, n->x + row * n->width, h);
        switch (n->cell) {
            case REF_CELL_RNN: step_rnn(n, d, h); break;
            case REF_CELL_GRU: step_gru(n, d, h); break;
            case REF_CELL_LSTM: step_lstm(n, d, h, c); break;
        }
        memcpy(n->y + ((t * n->directions + d) * n->batch + sample) * n->hidden, h,
               (size_t)n->hidden * sizeof *h);
    }
}

/* --- writing --- */

static kiln_status write_sequence(ref_call *call, const network *n, kiln_dtype dtype)
{
    const int64_t first[4] = {n->steps, n->directions, n->batch, n->hidden};
    const int64_t second[4] = {n->batch, n->steps, n->directions, n->hidden};
    ref_tensor *y = NULL;
    if (!ref_wants(call, 0)) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(ref_output(call, 0, dtype, 4, n->batch_first ? second : first, &y));
    for (int64_t i = 0; i < n->steps * n->directions * n->batch; i++) {
        const int64_t sample = i % n->batch;
        const int64_t to = n->batch_first ? sample * n->steps * n->directions + i / n->batch : i;
        ref_store_float(y, to * n->hidden, 1, n->hidden, n->y + i * n->hidden);
    }
    return KILN_OK;
}

static kiln_status write_state(ref_call *call, size_t index, const network *n, const double *state,
                               kiln_dtype dtype)
{
    const int64_t first[3] = {n->directions, n->batch, n->hidden};
    const int64_t second[3] = {n->batch, n->directions, n->hidden};
    ref_tensor *y = NULL;
    if (!ref_wants(call, index) || state == NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(ref_output(call, index, dtype, 3, n->batch_first ? second : first, &y));
    for (int64_t i = 0; i < n->directions * n->batch; i++) {
        const int64_t to = n->batch_first ? i % n->batch * n->directions + i / n->batch : i;
        ref_store_float(y, to * n->hidden, 1, n->hidden, state + i * n->hidden);
    }
    return KILN_OK;
}

static kiln_status ref_op_recurrent(ref_call *call)
{
    static const int64_t gates[] = {[REF_CELL_RNN] = 1, [REF_CELL_GRU] = 3, [REF_CELL_LSTM] = 4};
    network n = {.cell = (ref_cell)call->variant, .gates = gates[call->variant]};
    KLN_RETURN_IF_ERROR(read_network(call, &n));
    KLN_RETURN_IF_ERROR(ref_spend(call, (double)(n.directions * n.batch) * (double)n.steps *
                                            (double)(n.gates * n.hidden) *
                                            (double)(n.width + 2 * n.hidden)));
    for (int64_t i = 0; i < n.directions * n.batch; i++) {
        run_sample(&n, i / n.batch, i % n.batch);
    }
    const kiln_dtype dtype = ref_input(call, 0)->dtype;
    KLN_RETURN_IF_ERROR(write_sequence(call, &n, dtype));
    KLN_RETURN_IF_ERROR(write_state(call, 1, &n, n.h, dtype));
    return write_state(call, 2, &n, n.c, dtype);
}

/* clang-format off */
const ref_kernel ref_kernels_recurrent[] = {
    REF_OP("RNN", 7, recurrent, REF_CELL_RNN),
    REF_OP("GRU", 7, recurrent, REF_CELL_GRU),
    REF_OP("LSTM", 7, recurrent, REF_CELL_LSTM),
    REF_KERNELS_END
};
/* clang-format on */
