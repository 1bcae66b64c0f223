/* RNN, GRU and LSTM.
 * SPDX-License-Identifier: Apache-2.0 */
#include <strings.h>

#include "ref_ops.h"
#include "ref_product.h"

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
    double *x, *b, *p; /* b and p may be NULL */
    ref_matrix w, r;   /* of all directions; a gate's weights are a column */
    const ref_tensor *lengths;
    double *h, *c; /* states: [direction][batch][hidden] */
    double *y;     /* [step][direction][batch][hidden] */
    /* Of one direction, sample by sample: what some steps read and what that adds to the gates,
     * and what one step's state adds to them. */
    double *read, *from_x, *from_h;
    int64_t together; /* gates whose share of the state is found before any other */
    double *panels;   /* of these gates' recurrent weights, and behind them of the others' */
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

/* Weights of `width` inputs for each gate. */
static kiln_status read_weights(ref_call *call, size_t index, const network *n, int64_t width,
                                ref_matrix *weights)
{
    const ref_tensor *tensor = NULL;
    const int64_t count = n->directions * n->gates * n->hidden * width;
    KLN_RETURN_IF_ERROR(ref_need_float(call, index, &tensor));
    KLN_RETURN_IF(tensor->count != count, KILN_ERROR_SHAPE,
                  "input %zu has %lld elements, %lld are needed", index, (long long)tensor->count,
                  (long long)count);
    KLN_RETURN_IF_ERROR(ref_matrix_of(call, tensor, weights));
    weights->row = 1;
    weights->column = width;
    weights->exact = ref_is_exact(tensor->dtype, ref_input(call, 0)->dtype);
    return KILN_OK;
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

#define AT_ONCE 32 /* rows of input, of as many steps as there are batches in it */

static int64_t steps_at_once(const network *n)
{
    return n->batch < AT_ONCE ? AT_ONCE / (n->batch > 0 ? n->batch : 1) : 1;
}

static kiln_status make_room(ref_call *call, network *n)
{
    const int64_t gates = n->gates * n->hidden;
    const int64_t rows = steps_at_once(n) * n->batch;
    double **const parts[5] = {&n->y, &n->read, &n->from_x, &n->from_h, &n->panels};
    n->together = (n->cell == REF_CELL_GRU && !n->reset_after ? 2 : n->gates) * n->hidden;
    const int64_t panels =
        ref_panels_count(1, n->together) + ref_panels_count(1, gates - n->together);
    const int64_t dims[5][3] = {{n->steps * n->directions, n->batch, n->hidden},
                                {rows, n->width, 1},
                                {rows, gates, 1},
                                {n->batch, gates, 1},
                                {panels, n->hidden, 1}};
    int64_t counts[5];
    int64_t all = 0;
    for (int i = 0; i < 5; i++) {
        KLN_RETURN_IF_ERROR(ref_count(3, dims[i], &counts[i]));
        all += counts[i];
    }
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)all, sizeof *n->y, &n->y));
    memset(n->y, 0, (size_t)counts[0] * sizeof *n->y);
    for (int i = 1; i < 5; i++) {
        *parts[i] = *parts[i - 1] + counts[i - 1];
    }
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
    KLN_RETURN_IF_ERROR(read_weights(call, 1, n, n->width, &n->w));
    KLN_RETURN_IF_ERROR(read_weights(call, 2, n, n->hidden, &n->r));
    KLN_RETURN_IF_ERROR(read_part(call, 3, 2 * rows, &n->b));
    KLN_RETURN_IF_ERROR(read_state(call, 5, n, &n->h));
    if (n->cell == REF_CELL_LSTM) {
        KLN_RETURN_IF_ERROR(read_state(call, 6, n, &n->c));
        KLN_RETURN_IF_ERROR(read_part(call, 7, n->directions * 3 * n->hidden, &n->p));
    }
    n->clip = ref_attribute_float(call, "clip", HUGE_VAL);
    n->reset_after = ref_attribute_int(call, "linear_before_reset", 0) != 0;
    n->input_forget = ref_attribute_int(call, "input_forget", 0) != 0;
    return make_room(call, n);
}

/* --- computing --- */

static double clipped(const network *n, double x)
{
    return ref_clamp(x, -n->clip, n->clip);
}

/* The matrix from row `row` of those that make its columns on. */
static ref_matrix matrix_from(const ref_matrix *matrix, int64_t row)
{
    ref_matrix from = *matrix;
    if (from.floats != NULL) {
        from.floats += row * from.column;
    } else {
        from.doubles += row * from.column;
    }
    return from;
}

static void add_bias(int64_t rows, int64_t count, const double *bias, int64_t stride, double *out)
{
    for (int64_t i = 0; bias != NULL && i < rows * count; i++) {
        out[i / count * stride + i % count] += bias[i % count];
    }
}

/* The place of step `i` in the sequence of a sample, or -1 past its end. */
static int64_t place_of(const network *n, int64_t d, int64_t sample, int64_t i)
{
    int64_t length = n->lengths != NULL ? ref_get_int(n->lengths, sample) : n->steps;
    length = length > n->steps ? n->steps : length;
    return i >= length ? -1 : n->backward[d] ? length - 1 - i : i;
}

/* What the inputs of `count` steps from `begin` on add to each gate. */
static void weigh_inputs(const network *n, int64_t d, int64_t begin, int64_t count)
{
    const int64_t gates = n->gates * n->hidden;
    const ref_matrix w = matrix_from(&n->w, d * gates);
    for (int64_t i = 0; i < count * n->batch; i++) {
        const int64_t sample = i % n->batch;
        const int64_t t = place_of(n, d, sample, begin + i / n->batch);
        const int64_t row = n->batch_first ? sample * n->steps + t : t * n->batch + sample;
        double *to = n->read + i * n->width;
        memset(to, 0, (size_t)n->width * sizeof *to);
        if (t >= 0) {
            memcpy(to, n->x + row * n->width, (size_t)n->width * sizeof *to);
        }
    }
    memset(n->from_x, 0, (size_t)(count * n->batch * gates) * sizeof *n->from_x);
    ref_multiply_matrix(count * n->batch, n->width, gates, n->read, n->width, &w, n->from_x, gates);
    add_bias(count * n->batch, gates, n->b != NULL ? n->b + d * 2 * gates : NULL, gates, n->from_x);
}

/* What the states `h` add to the gates that do not wait for others. */
static void weigh_states(const network *n, int64_t d, const double *h)
{
    const int64_t gates = n->gates * n->hidden;
    memset(n->from_h, 0, (size_t)(n->batch * gates) * sizeof *n->from_h);
    ref_multiply_panels(n->batch, n->hidden, n->together, h, n->hidden, n->panels, n->from_h,
                        gates);
    add_bias(n->batch, n->together, n->b != NULL ? n->b + (d * 2 + 1) * gates : NULL, gates,
             n->from_h);
}

/* One step of one sample: `from_x` and `from_h` are what input and state add to its gates. */

static void step_rnn(const network *n, int64_t d, const double *from_x, const double *from_h,
                     double *h)
{
    for (int64_t i = 0; i < n->hidden; i++) {
        h[i] = activate(&n->f[d], clipped(n, from_x[i] + from_h[i]));
    }
}

/* The share of the state that the reset gate lets through. */
static void weigh_reset(const network *n, int64_t d, double *reset, const double *h, double *from_h)
{
    const int64_t size = n->hidden;
    const double *b = n->b != NULL ? n->b + d * 6 * size + 5 * size : NULL;
    for (int64_t i = 0; i < size; i++) {
        reset[i] *= h[i];
        from_h[i] = b != NULL ? b[i] : 0.0;
    }
    ref_multiply_panels(1, size, size, reset, size, n->panels + ref_panels_count(size, n->together),
                        from_h, size);
}

static void step_gru(const network *n, int64_t d, double *from_x, double *from_h, double *h)
{
    const int64_t size = n->hidden;
    const activation *f = &n->f[2 * d];
    for (int64_t i = 0; i < 2 * size; i++) {
        from_x[i] = activate(&f[0], clipped(n, from_x[i] + from_h[i]));
    }
    const double *z = from_x;
    double *reset = from_x + size;
    if (!n->reset_after) {
        weigh_reset(n, d, reset, h, from_h + 2 * size);
    }
    for (int64_t i = 0; i < size; i++) {
        const double past = (n->reset_after ? reset[i] : 1.0) * from_h[2 * size + i];
        const double fresh = activate(&f[1], clipped(n, from_x[2 * size + i] + past));
        h[i] = (1.0 - z[i]) * fresh + z[i] * h[i];
    }
}

static void step_lstm(const network *n, int64_t d, const double *from_x, const double *from_h,
                      double *h, double *c)
{
    const int64_t size = n->hidden;
    const activation *f = &n->f[3 * d];
    const double *p = n->p != NULL ? n->p + d * 3 * size : NULL;
    for (int64_t i = 0; i < size; i++) {
        double gate[4]; /* input, output, forget, cell */
        for (int64_t k = 0; k < 4; k++) {
            gate[k] = from_x[k * size + i] + from_h[k * size + i];
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

/* Step `i` of all samples, whose inputs are weighed in `from_x`. */
static void run_step(const network *n, int64_t d, int64_t i, double *from_x)
{
    const int64_t gates = n->gates * n->hidden;
    weigh_states(n, d, n->h + d * n->batch * n->hidden);
    for (int64_t sample = 0; sample < n->batch; sample++) {
        const int64_t state = (d * n->batch + sample) * n->hidden;
        const int64_t t = place_of(n, d, sample, i);
        double *x = from_x + sample * gates;
        double *past = n->from_h + sample * gates;
        double *h = n->h + state;
        if (t < 0) {
            continue;
        }
        switch (n->cell) {
            case REF_CELL_RNN: step_rnn(n, d, x, past, h); break;
            case REF_CELL_GRU: step_gru(n, d, x, past, h); break;
            case REF_CELL_LSTM: step_lstm(n, d, x, past, h, n->c + state); break;
        }
        memcpy(n->y + ((t * n->directions + d) * n->batch + sample) * n->hidden, h,
               (size_t)n->hidden * sizeof *h);
    }
}

static kiln_status run_direction(const ref_call *call, const network *n, int64_t d)
{
    const int64_t gates = n->gates * n->hidden;
    const int64_t step = steps_at_once(n);
    const ref_matrix r = matrix_from(&n->r, d * gates);
    const ref_matrix rest = matrix_from(&r, n->together);
    ref_pack_panels(n->hidden, n->together, &r, n->panels);
    ref_pack_panels(n->hidden, gates - n->together, &rest,
                    n->panels + ref_panels_count(n->hidden, n->together));
    for (int64_t begin = 0; begin < n->steps; begin += step) {
        const int64_t count = n->steps - begin < step ? n->steps - begin : step;
        KLN_RETURN_IF_ERROR(ref_spend(call, 0));
        weigh_inputs(n, d, begin, count);
        for (int64_t i = 0; i < count; i++) {
            run_step(n, d, begin + i, n->from_x + i * n->batch * gates);
        }
    }
    return KILN_OK;
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
    for (int64_t d = 0; d < n.directions; d++) {
        KLN_RETURN_IF_ERROR(run_direction(call, &n, d));
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
