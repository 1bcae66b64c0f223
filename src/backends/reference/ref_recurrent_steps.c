/* The steps of RNN, GRU and LSTM.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ref_recurrent.h"

static double activate(const ref_activation *f, double x)
{
    switch (f->kind) {
        case REF_GATE_AFFINE: return f->a * x + f->b;
        case REF_GATE_ELU: return x >= 0.0 ? x : f->a * expm1(x);
        case REF_GATE_HARD_SIGMOID: return ref_clamp(f->a * x + f->b, 0.0, 1.0);
        case REF_GATE_LEAKY_RELU: return x >= 0.0 ? x : f->a * x;
        case REF_GATE_RELU: return x < 0.0 ? 0.0 : x;
        case REF_GATE_SCALED_TANH: return f->a * tanh(f->b * x);
        case REF_GATE_SIGMOID: return ref_sigmoid(x);
        case REF_GATE_SOFTPLUS: return ref_softplus(x);
        case REF_GATE_SOFTSIGN: return x / (1.0 + fabs(x));
        case REF_GATE_TANH: return tanh(x);
        case REF_GATE_THRESHOLDED_RELU: return x > f->a ? x : 0.0;
    }
    return x;
}

static double clipped(const ref_recurrence *n, double x)
{
    return ref_clamp(x, -n->clip, n->clip);
}

static void scale_gates(int64_t rows, int64_t gates, double scale, const double *scales,
                        double *out)
{
    for (int64_t i = 0; i < rows * gates; i++) {
        out[i] *= scale * scales[i % gates];
    }
}

static void add_bias(int64_t rows, int64_t count, const double *bias, int64_t stride, double *out)
{
    for (int64_t i = 0; bias != NULL && i < rows * count; i++) {
        out[i / count * stride + i % count] += bias[i % count];
    }
}

/* The position of step `i` in the sequence of a sample, or -1 after its end. */
static int64_t place_of(const ref_recurrence *n, int64_t d, int64_t sample, int64_t i)
{
    int64_t length = n->lengths != NULL ? ref_get_int(n->lengths, sample) : n->steps;
    length = length > n->steps ? n->steps : length;
    return i >= length ? -1 : n->backward[d] ? length - 1 - i : i;
}

/* Computes what the inputs of `count` steps, starting at `begin`, contribute to each gate. */
static void weigh_inputs(const ref_recurrence *n, int64_t d, int64_t begin, int64_t count)
{
    const int64_t gates = n->gates * n->hidden;
    const ref_matrix w = ref_matrix_at(&n->w, d * gates * n->width);
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
    if (n->of_bytes) {
        scale_gates(count * n->batch, gates, 1.0, n->w_scales + d * gates, n->from_x);
    }
    add_bias(count * n->batch, gates, n->b != NULL ? n->b + d * 2 * gates : NULL, gates, n->from_x);
}

/* Quantizes the states before step `i` to 8 bits, with the zero point subtracted, and returns their
 * scale. */
static double quantize_states(const ref_recurrence *n, int64_t d, int64_t i, const double *h)
{
    for (int64_t sample = 0; sample < n->batch; sample++) {
        const bool over = n->ends_zero && i > 0 && place_of(n, d, sample, i - 1) < 0;
        double *to = n->bytes + sample * n->hidden;
        memset(to, 0, (size_t)n->hidden * sizeof *to);
        if (!over) {
            memcpy(to, h + sample * n->hidden, (size_t)n->hidden * sizeof *to);
        }
    }
    return ref_quantize_row(n->batch * n->hidden, n->bytes, n->bytes);
}

/* Computes what the states before step `i` contribute to the gates that do not depend on other
 * gates. */
static void weigh_states(const ref_recurrence *n, int64_t d, int64_t i)
{
    const int64_t gates = n->gates * n->hidden;
    const double *h = n->h + d * n->batch * n->hidden;
    const double scale = n->of_bytes ? quantize_states(n, d, i, h) : 1.0;
    memset(n->from_h, 0, (size_t)(n->batch * gates) * sizeof *n->from_h);
    ref_multiply_panels(n->batch, n->hidden, n->together, n->of_bytes ? n->bytes : h, n->hidden,
                        n->panels, n->from_h, gates);
    if (n->of_bytes) {
        scale_gates(n->batch, gates, scale, n->r_scales + d * gates, n->from_h);
    }
    add_bias(n->batch, n->together, n->b != NULL ? n->b + (d * 2 + 1) * gates : NULL, gates,
             n->from_h);
}

/* One step of one sample: `from_x` and `from_h` are the contributions of the input and the state to
 * its gates. */

static void step_rnn(const ref_recurrence *n, int64_t d, const double *from_x, const double *from_h,
                     double *h)
{
    for (int64_t i = 0; i < n->hidden; i++) {
        h[i] = activate(&n->f[d], clipped(n, from_x[i] + from_h[i]));
    }
}

/* Computes the contribution of the part of the state that the reset gate lets through. */
static void weigh_reset(const ref_recurrence *n, int64_t d, double *reset, const double *h,
                        double *from_h)
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

static void step_gru(const ref_recurrence *n, int64_t d, double *from_x, double *from_h, double *h)
{
    const int64_t size = n->hidden;
    const ref_activation *f = &n->f[2 * d];
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

static void step_lstm(const ref_recurrence *n, int64_t d, const double *from_x,
                      const double *from_h, double *h, double *c)
{
    const int64_t size = n->hidden;
    const ref_activation *f = &n->f[3 * d];
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

/* Runs step `i` of all samples; `from_x` has the contributions of their inputs. */
static void run_step(const ref_recurrence *n, int64_t d, int64_t i, double *from_x)
{
    const int64_t gates = n->gates * n->hidden;
    weigh_states(n, d, i);
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
            case REF_CELL_LSTM_OF_BYTES:
            case REF_CELL_LSTM: step_lstm(n, d, x, past, h, n->c + state); break;
        }
        memcpy(n->y + ((t * n->directions + d) * n->batch + sample) * n->hidden, h,
               (size_t)n->hidden * sizeof *h);
    }
}

kiln_status ref_run_direction(const ref_call *call, const ref_recurrence *n, int64_t d)
{
    const int64_t gates = n->gates * n->hidden;
    const int64_t step = n->at_once;
    const ref_matrix r = ref_matrix_at(&n->r, d * gates * n->hidden);
    const ref_matrix rest = ref_matrix_at(&r, n->together * r.column);
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
