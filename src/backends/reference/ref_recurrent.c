/* RNN, GRU and LSTM, also with 8-bit weights.
 * SPDX-License-Identifier: Apache-2.0 */
#include <strings.h>

#include "ref_recurrent.h"

/* Names, and the defaults of alpha and beta; NaN if the function has no such parameter. */
static const struct {
    const char *name;
    double alpha, beta;
} functions[] = {[REF_GATE_AFFINE] = {"Affine", 1.0, 0.0},
                 [REF_GATE_ELU] = {"Elu", 1.0, (double)NAN},
                 [REF_GATE_HARD_SIGMOID] = {"HardSigmoid", 0.2, 0.5},
                 [REF_GATE_LEAKY_RELU] = {"LeakyRelu", 0.01, (double)NAN},
                 [REF_GATE_RELU] = {"Relu", (double)NAN, (double)NAN},
                 [REF_GATE_SCALED_TANH] = {"ScaledTanh", 1.0, 1.0},
                 [REF_GATE_SIGMOID] = {"Sigmoid", (double)NAN, (double)NAN},
                 [REF_GATE_SOFTPLUS] = {"Softplus", (double)NAN, (double)NAN},
                 [REF_GATE_SOFTSIGN] = {"Softsign", (double)NAN, (double)NAN},
                 [REF_GATE_TANH] = {"Tanh", (double)NAN, (double)NAN},
                 [REF_GATE_THRESHOLDED_RELU] = {"ThresholdedRelu", 1.0, (double)NAN}};

/* --- reading --- */

static kiln_status read_function(const kiln_span *name, ref_activation *f)
{
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(functions); i++) {
        if (name->size == strlen(functions[i].name) &&
            strncasecmp(name->data, functions[i].name, name->size) == 0) {
            f->kind = (ref_gate_function)i;
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

static kiln_status read_activations(const ref_call *call, ref_recurrence *n)
{
    static const ref_gate_function usual[3] = {REF_GATE_SIGMOID, REF_GATE_TANH, REF_GATE_TANH};
    const size_t each = n->cell == REF_CELL_LSTM ? 3 : n->cell == REF_CELL_GRU ? 2 : 1;
    const size_t count = each * (size_t)n->directions;
    const kln_onnx_attribute *names = ref_attribute(call, "activations");
    const kln_onnx_attribute *alphas = ref_attribute(call, "activation_alpha");
    const kln_onnx_attribute *betas = ref_attribute(call, "activation_beta");
    size_t used[2] = {0, 0};
    KLN_RETURN_IF(names != NULL && names->count != count, KILN_ERROR_INVALID_NETWORK,
                  "%zu activations are named, %zu are needed", names->count, count);
    for (size_t i = 0; i < count; i++) {
        n->f[i].kind = n->cell == REF_CELL_RNN ? REF_GATE_TANH : usual[i % each];
        if (names != NULL) {
            KLN_RETURN_IF_ERROR(read_function(&names->strings[i], &n->f[i]));
        }
        n->f[i].a = take_number(alphas, &used[0], functions[n->f[i].kind].alpha);
        n->f[i].b = take_number(betas, &used[1], functions[n->f[i].kind].beta);
    }
    return KILN_OK;
}

static kiln_status read_directions(const ref_call *call, ref_recurrence *n)
{
    const char *direction = ref_attribute_string(call, "direction", "forward");
    n->directions = strcmp(direction, "bidirectional") == 0 ? 2 : 1;
    n->backward[0] = strcmp(direction, "reverse") == 0;
    n->backward[1] = true;
    return KILN_OK;
}

static kiln_status fail_count(size_t index, int64_t found, int64_t needed)
{
    return kln_fail(KILN_ERROR_SHAPE, "input %zu has %lld elements, %lld are needed", index,
                    (long long)found, (long long)needed);
}

/* Reads an input that must have `count` elements as doubles; NULL if it is left out. */
static kiln_status read_part(ref_call *call, size_t index, int64_t count, double **values)
{
    const ref_tensor *tensor = ref_input(call, index);
    *values = NULL;
    if (tensor == NULL) {
        return KILN_OK;
    }
    KLN_FAIL_IF(tensor->count != count, fail_count(index, tensor->count, count));
    return ref_doubles(call, tensor, values);
}

/* Reads the weights of each gate for `width` inputs. */
static kiln_status read_weights(ref_call *call, size_t index, const ref_recurrence *n,
                                int64_t width, ref_matrix *weights)
{
    const ref_tensor *tensor = NULL;
    const int64_t count = n->directions * n->gates * n->hidden * width;
    KLN_RETURN_IF_ERROR(ref_need_float(call, index, &tensor));
    KLN_FAIL_IF(tensor->count != count, fail_count(index, tensor->count, count));
    KLN_RETURN_IF_ERROR(ref_matrix_of(call, tensor, weights));
    weights->row = 1;
    weights->column = width;
    weights->exact = ref_is_exact(tensor->dtype, ref_input(call, 0)->dtype);
    return KILN_OK;
}

/* Reads a scale or zero point for each gate. The input has one per gate or one per direction. */
static kiln_status read_scales(ref_call *call, size_t index, const ref_recurrence *n, double **each)
{
    const ref_tensor *given = NULL;
    const int64_t gates = n->gates * n->hidden;
    KLN_RETURN_IF_ERROR(ref_need_number(call, index, &given));
    const bool shared = given->count == n->directions;
    KLN_FAIL_IF(!shared && given->count != n->directions * gates,
                fail_count(index, given->count, n->directions * gates));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)(n->directions * gates), sizeof **each, each));
    for (int64_t i = 0; i < n->directions * gates; i++) {
        (*each)[i] = ref_get_float(given, shared ? i / gates : i);
    }
    return KILN_OK;
}

/* Reads 8-bit weights, [direction][input][gate], and their scales, which start at input `scale`. */
static kiln_status read_bytes(ref_call *call, size_t index, const ref_recurrence *n, int64_t width,
                              size_t scale, ref_matrix *weights, double **scales)
{
    const ref_tensor *tensor = NULL;
    const int64_t gates = n->gates * n->hidden;
    const int64_t count = n->directions * width * gates;
    double *values = NULL;
    double *zeros = NULL;
    KLN_RETURN_IF_ERROR(ref_need_number(call, index, &tensor));
    KLN_FAIL_IF(!ref_is_byte(tensor->dtype), ref_fail_dtype(call, tensor->dtype));
    KLN_FAIL_IF(tensor->count != count, fail_count(index, tensor->count, count));
    KLN_RETURN_IF_ERROR(read_scales(call, scale, n, scales));
    KLN_RETURN_IF_ERROR(read_scales(call, scale + 1, n, &zeros));
    KLN_RETURN_IF_ERROR(ref_doubles(call, tensor, &values));
    for (int64_t i = 0; i < count; i++) {
        values[i] -= zeros[i / (width * gates) * gates + i % gates];
    }
    *weights = (ref_matrix){.doubles = values, .row = gates, .column = 1, .exact = true};
    return KILN_OK;
}

/* Reads a state and puts the direction first. */
static kiln_status read_state(ref_call *call, size_t index, const ref_recurrence *n, double **state)
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

static kiln_status read_sizes(ref_call *call, const ref_tensor *x, ref_recurrence *n)
{
    const ref_tensor *r = NULL;
    KLN_RETURN_IF_ERROR(ref_need_number(call, 2, &r));
    KLN_RETURN_IF(x->rank != 3 || r->rank != 3, KILN_ERROR_RANK,
                  "3 dimensions are needed, found %d and %d", x->rank, r->rank);
    n->batch_first = ref_attribute_int(call, "layout", 0) != 0;
    n->steps = x->dims[n->batch_first ? 1 : 0];
    n->batch = x->dims[n->batch_first ? 0 : 1];
    n->width = x->dims[2];
    n->hidden = r->dims[n->of_bytes ? 1 : 2];
    n->lengths = ref_input(call, 4);
    KLN_RETURN_IF(n->lengths != NULL && n->lengths->count != n->batch, KILN_ERROR_SHAPE,
                  "%lld lengths are given for a batch of %lld", (long long)n->lengths->count,
                  (long long)n->batch);
    return KILN_OK;
}

#define AT_ONCE 32 /* rows of input to read at a time: the number of steps times the batch */

static kiln_status make_room(ref_call *call, ref_recurrence *n)
{
    const int64_t gates = n->gates * n->hidden;
    n->at_once = n->batch < AT_ONCE ? AT_ONCE / (n->batch > 0 ? n->batch : 1) : 1;
    const int64_t rows = n->at_once * n->batch;
    double **const parts[] = {&n->y, &n->read, &n->from_x, &n->from_h, &n->panels, &n->bytes};
    n->together = (n->cell == REF_CELL_GRU && !n->reset_after ? 2 : n->gates) * n->hidden;
    const int64_t panels =
        ref_panels_count(1, n->together) + ref_panels_count(1, gates - n->together);
    const int64_t dims[][3] = {{n->steps * n->directions, n->batch, n->hidden},
                               {rows, n->width, 1},
                               {rows, gates, 1},
                               {n->batch, gates, 1},
                               {panels, n->hidden, 1},
                               {n->of_bytes ? n->batch : 0, n->hidden, 1}};
    enum { PARTS = KLN_ARRAY_LENGTH(dims) };
    int64_t counts[PARTS];
    int64_t all = 0;
    for (int i = 0; i < PARTS; i++) {
        KLN_RETURN_IF_ERROR(ref_count(3, dims[i], &counts[i]));
        all += counts[i];
    }
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)all, sizeof *n->y, &n->y));
    memset(n->y, 0, (size_t)counts[0] * sizeof *n->y);
    for (int i = 1; i < PARTS; i++) {
        *parts[i] = *parts[i - 1] + counts[i - 1];
    }
    return KILN_OK;
}

/* Quantizes all inputs together, up to the end of the longest sequence: a sample's rows after its
 * own end widen the range too. */
static void quantize_inputs(ref_recurrence *n)
{
    int64_t longest = n->lengths != NULL ? 0 : n->steps;
    for (int64_t i = 0; n->lengths != NULL && i < n->batch; i++) {
        const int64_t length = ref_get_int(n->lengths, i);
        longest = length > longest ? length : longest;
    }
    longest = longest < n->steps ? longest : n->steps;
    const double scale = ref_quantize_row(longest * n->batch * n->width, n->x, n->x);
    for (int64_t i = 0; i < n->directions * n->gates * n->hidden; i++) {
        n->w_scales[i] *= scale;
    }
}

static kiln_status read_network(ref_call *call, ref_recurrence *n)
{
    const ref_tensor *x = NULL;
    KLN_RETURN_IF_ERROR(ref_need_float(call, 0, &x));
    KLN_RETURN_IF_ERROR(read_directions(call, n));
    KLN_RETURN_IF_ERROR(read_activations(call, n));
    KLN_RETURN_IF_ERROR(read_sizes(call, x, n));
    const int64_t rows = n->directions * n->gates * n->hidden;
    KLN_RETURN_IF_ERROR(ref_doubles(call, x, &n->x));
    if (n->of_bytes) {
        KLN_RETURN_IF_ERROR(read_bytes(call, 1, n, n->width, 8, &n->w, &n->w_scales));
        KLN_RETURN_IF_ERROR(read_bytes(call, 2, n, n->hidden, 10, &n->r, &n->r_scales));
        quantize_inputs(n);
    } else {
        KLN_RETURN_IF_ERROR(read_weights(call, 1, n, n->width, &n->w));
        KLN_RETURN_IF_ERROR(read_weights(call, 2, n, n->hidden, &n->r));
    }
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

/* --- writing --- */

static kiln_status write_sequence(ref_call *call, const ref_recurrence *n, kiln_dtype dtype)
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

static kiln_status write_state(ref_call *call, size_t index, const ref_recurrence *n,
                               const double *state, kiln_dtype dtype)
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
    const bool of_bytes = call->variant == REF_CELL_LSTM_OF_BYTES;
    const ref_cell cell = of_bytes ? REF_CELL_LSTM : (ref_cell)call->variant;
    ref_recurrence n = {.cell = cell, .gates = gates[cell], .of_bytes = of_bytes};
    n.ends_zero = ref_wants(call, 0);
    KLN_RETURN_IF_ERROR(read_network(call, &n));
    KLN_RETURN_IF_ERROR(ref_spend(call, (double)(n.directions * n.batch) * (double)n.steps *
                                            (double)(n.gates * n.hidden) *
                                            (double)(n.width + 2 * n.hidden)));
    for (int64_t d = 0; d < n.directions; d++) {
        KLN_RETURN_IF_ERROR(ref_run_direction(call, &n, d));
    }
    const kiln_dtype dtype = ref_input(call, 0)->dtype;
    KLN_RETURN_IF_ERROR(write_sequence(call, &n, dtype));
    KLN_RETURN_IF_ERROR(write_state(call, 1, &n, n.h, dtype));
    return write_state(call, 2, &n, n.c, dtype);
}

/* clang-format off */
const ref_kernel ref_kernels_recurrent[] = {
    REF_OP("RNN", 7, recurrent, REF_CELL_RNN, "fff"),
    REF_OP("GRU", 7, recurrent, REF_CELL_GRU, "fff"),
    REF_OP("LSTM", 7, recurrent, REF_CELL_LSTM, "fff"),
    REF_OP_MS("DynamicQuantizeLSTM", recurrent, REF_CELL_LSTM_OF_BYTES, "nnn"),
    REF_KERNELS_END
};
/* clang-format on */
