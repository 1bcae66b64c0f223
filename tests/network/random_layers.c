/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "random_parts.h"

#define LARGEST 4096 /* elements of a tensor that more is made of */

static float numbers[4096];
int64_t random_indices[4096];
int64_t random_ends[4096];
float random_scales[4096];

uint64_t random_next(uint64_t *state)
{
    uint64_t mixed = (*state += UINT64_C(0x9e3779b97f4a7c15));
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ (mixed >> 31);
}

int64_t random_upto(random_network *r, int64_t limit)
{
    return (int64_t)(random_next(&r->state) % (uint64_t)(limit < 1 ? 1 : limit));
}

int64_t random_elements(const random_tensor *t)
{
    int64_t count = 1;
    for (int32_t i = 0; i < t->shape.rank; i++) {
        count *= t->shape.dims[i];
    }
    return count;
}

random_tensor *random_pick(random_network *r, random_fits wanted)
{
    random_tensor *found = NULL;
    int64_t seen = 0;
    for (size_t i = 0; i < r->count; i++) {
        random_tensor *t = &r->tensors[i];
        const bool usable = t->shape.rank >= 0 && random_elements(t) <= LARGEST &&
                            random_elements(t) > 0 && t->most < 1e6 &&
                            t->error <= 1e-2 * (1 + t->most);
        if (usable && wanted(t) && random_upto(r, ++seen) == 0) {
            found = t;
        }
    }
    return found;
}

static bool exact_number(const random_tensor *t)
{
    return random_number(t) && t->error == 0;
}
void random_add(random_network *r, kiln_tensor_id id, double most, double error)
{
    kiln_shape shape = {-1, {0}};
    kiln_dtype dtype = KILN_DTYPE_UNDEFINED;
    if (r->status == KILN_OK) {
        r->status = kiln_network_tensor_type(r->network, id, &dtype, &shape);
    }
    if (r->status != KILN_OK || r->count == RANDOM_MOST) {
        return;
    }
    if (shape.rank >= 0 && !kiln_shape_is_static(&shape)) {
        shape.rank = -1;
    }
    if (random_is_float(dtype) && error > 0) {
        error += most * random_unit(dtype);
    }
    r->tensors[r->count++] = (random_tensor){id, dtype, shape, most, error};
}

kiln_tensor_id random_constant(random_network *r, kiln_dtype dtype, kiln_shape shape,
                               const void *data)
{
    kiln_tensor_id id = KILN_NO_TENSOR;
    kiln_weights weights = {dtype, shape, {data, 0}};
    if (r->status == KILN_OK) {
        r->status = kiln_tensor_bytes(dtype, &shape, &weights.data.size);
    }
    if (r->status == KILN_OK) {
        r->status = kiln_network_add_constant(r->network, NULL, &weights, &id);
    }
    return id;
}

kiln_tensor_id random_weights(random_network *r, kiln_shape shape)
{
    return random_constant(r, F, shape, numbers + random_upto(r, 2048));
}

/* --- the layers; each returns false when nothing fits --- */

bool random_activation(random_network *r, const random_tensor *t)
{
    kiln_tensor_id y = 0;
    const kiln_activation kind = (kiln_activation)random_upto(r, KILN_ACTIVATION_CELU + 1);
    if (kind == KILN_ACTIVATION_THRESHOLDED_RELU && t->error > 0) {
        return false;
    }
    DO(kiln_network_add_activation(r->network, NULL, kind, t->id, 0.5F, 0.75F, &y));
    const bool exact = kind == KILN_ACTIVATION_IDENTITY || kind == KILN_ACTIVATION_RELU ||
                       kind == KILN_ACTIVATION_CLIP || kind == KILN_ACTIVATION_THRESHOLDED_RELU;
    const double most = exact ? t->most + 1 : 1.5 * t->most + 2;
    random_add(r, y, most, exact ? t->error : 1.5 * t->error + 2e-6 * (1 + most));
    return true;
}

bool random_unary(random_network *r, const random_tensor *none)
{
    static const kiln_unary smooth[] = {KILN_UNARY_SIN, KILN_UNARY_COS, KILN_UNARY_ATAN,
                                        KILN_UNARY_ASINH, KILN_UNARY_ERF};
    static const kiln_unary steps[] = {KILN_UNARY_FLOOR, KILN_UNARY_CEIL, KILN_UNARY_ROUND,
                                       KILN_UNARY_SIGN, KILN_UNARY_IS_NAN};
    kiln_tensor_id y = 0;
    const int64_t which = random_upto(r, 3);
    random_tensor *t = random_pick(r, which == 0   ? random_number
                                      : which == 1 ? random_f32_exact
                                                   : random_f32_tame);
    if (t == NULL) {
        return false;
    }
    if (which == 0) {
        const kiln_unary kind = random_upto(r, 2) == 0 ? KILN_UNARY_ABS : KILN_UNARY_NEG;
        DO(kiln_network_add_unary(r->network, NULL, kind, t->id, &y));
        random_add(r, y, t->most, t->error);
    } else if (which == 1) {
        DO(kiln_network_add_unary(r->network, NULL, steps[random_upto(r, 5)], t->id, &y));
        random_add(r, y, t->most + 1, 0);
    } else {
        DO(kiln_network_add_unary(r->network, NULL, smooth[random_upto(r, 5)], t->id, &y));
        random_add(r, y, t->most + 1, 1.2 * t->error + 1e-6 * (1 + t->most));
    }
    return true;
}

/* Functions of a narrow domain: of 1 to 2, and of -1/2 to 1/2. */
bool random_narrow(random_network *r, const random_tensor *t)
{
    static const kiln_unary above[] = {KILN_UNARY_EXP, KILN_UNARY_LOG, KILN_UNARY_SQRT,
                                       KILN_UNARY_RECIPROCAL, KILN_UNARY_ACOSH};
    static const kiln_unary around[] = {KILN_UNARY_ASIN, KILN_UNARY_ACOS, KILN_UNARY_ATANH,
                                        KILN_UNARY_TAN,  KILN_UNARY_SINH, KILN_UNARY_COSH};
    static const float one = 1.0F;
    static const float half = 0.5F;
    kiln_tensor_id y = 0;
    const bool is_above = random_upto(r, 2) == 0;
    DO(kiln_network_add_activation(r->network, NULL,
                                   is_above ? KILN_ACTIVATION_SIGMOID : KILN_ACTIVATION_TANH, t->id,
                                   0, 0, &y));
    const kiln_tensor_id c = random_constant(r, F, KILN_SHAPE_SCALAR, is_above ? &one : &half);
    DO(kiln_network_add_elementwise(
        r->network, NULL, is_above ? KILN_ELEMENTWISE_ADD : KILN_ELEMENTWISE_MUL, y, c, &y));
    if (random_upto(r, 3) == 0 && is_above) {
        DO(kiln_network_add_elementwise(
            r->network, NULL, random_upto(r, 2) == 0 ? KILN_ELEMENTWISE_POW : KILN_ELEMENTWISE_DIV,
            y, y, &y));
    } else {
        const kiln_unary kind = is_above ? above[random_upto(r, 5)] : around[random_upto(r, 6)];
        if (kind == KILN_UNARY_ACOSH) { /* of 2 to 3 */
            DO(kiln_network_add_elementwise(r->network, NULL, KILN_ELEMENTWISE_ADD, y, c, &y));
        }
        DO(kiln_network_add_unary(r->network, NULL, kind, y, &y));
    }
    random_add(r, y, 8, 8 * (t->error + 4e-6));
    return true;
}

static bool broadcasts(const kiln_shape *a, const kiln_shape *b)
{
    for (int32_t i = 1; i <= a->rank && i <= b->rank; i++) {
        const int64_t x = a->dims[a->rank - i];
        const int64_t y = b->dims[b->rank - i];
        if (x != y && x != 1 && y != 1) {
            return false;
        }
    }
    return true;
}

bool random_arithmetic(random_network *r, const random_tensor *none)
{
    static const kiln_elementwise kinds[] = {KILN_ELEMENTWISE_ADD, KILN_ELEMENTWISE_SUB,
                                             KILN_ELEMENTWISE_MUL, KILN_ELEMENTWISE_MIN,
                                             KILN_ELEMENTWISE_MAX};
    static const kiln_elementwise exact[] = {
        KILN_ELEMENTWISE_EQUAL, KILN_ELEMENTWISE_LESS, KILN_ELEMENTWISE_LESS_OR_EQUAL,
        KILN_ELEMENTWISE_GREATER, KILN_ELEMENTWISE_GREATER_OR_EQUAL};
    kiln_tensor_id y = 0;
    const bool compares = random_upto(r, 4) == 0;
    random_tensor *a = random_pick(r, compares ? exact_number : random_number);
    random_tensor *b = random_pick(r, compares ? exact_number : random_number);
    if (a == NULL || a->dtype != b->dtype || !broadcasts(&a->shape, &b->shape)) {
        b = a;
    }
    if (a == NULL) {
        return false;
    }
    const kiln_elementwise kind = compares ? exact[random_upto(r, 5)] : kinds[random_upto(r, 5)];
    DO(kiln_network_add_elementwise(r->network, NULL, kind, a->id, b->id, &y));
    if (compares) {
        random_add(r, y, 1, 0);
        return true;
    }
    const bool is_product = kind == KILN_ELEMENTWISE_MUL;
    const double most = is_product ? a->most * b->most : a->most + b->most;
    const double error =
        is_product ? a->error * (b->most + b->error) + b->error * a->most : a->error + b->error;
    /* Sums and products of eighths stay exact while they are small. */
    random_add(r, y, most,
               error > 0 || !random_is_float(a->dtype) || most < 4096 ? error : 1e-7 * most);
    return true;
}

bool random_logic(random_network *r, const random_tensor *c)
{
    random_tensor *a = random_pick(r, random_number);
    kiln_tensor_id y = 0;
    if (random_upto(r, 3) == 0) {
        DO(kiln_network_add_unary(r->network, NULL, KILN_UNARY_NOT, c->id, &y));
        random_add(r, y, 1, 0);
    } else if (a != NULL && random_upto(r, 2) == 0 && broadcasts(&c->shape, &a->shape)) {
        DO(kiln_network_add_where(r->network, NULL, c->id, a->id, a->id, &y));
        random_add(r, y, a->most, a->error);
    } else {
        DO(kiln_network_add_elementwise(
            r->network, NULL, (kiln_elementwise)(KILN_ELEMENTWISE_AND + random_upto(r, 3)), c->id,
            c->id, &y));
        random_add(r, y, 1, 0);
    }
    return true;
}

bool random_cast(random_network *r, const random_tensor *t)
{
    static const kiln_dtype types[] = {F,
                                       F,
                                       KILN_DTYPE_FLOAT64,
                                       KILN_DTYPE_INT32,
                                       KILN_DTYPE_INT64,
                                       KILN_DTYPE_FLOAT16,
                                       KILN_DTYPE_BOOL};
    kiln_tensor_id y = 0;
    const kiln_dtype to = types[random_upto(r, 7)];
    if (!random_is_float(to) && t->error > 0) {
        return false;
    }
    const bool narrows = to == KILN_DTYPE_FLOAT16;
    if (narrows && t->most > 60000) {
        return false;
    }
    DO(kiln_network_add_cast(r->network, NULL, t->id, to, &y));
    random_add(r, y, to == KILN_DTYPE_BOOL ? 1 : t->most,
               t->error + (narrows ? 0x1p-10 * t->most : 0));
    return true;
}

bool random_product(random_network *r, const random_tensor *a)
{
    kiln_tensor_id y = 0;
    const int64_t k = a->shape.dims[a->shape.rank - 1];
    double most = (double)k * a->most;
    double error = (double)k * a->error + random_unit(a->dtype) * (double)(k + 2) * most;
    if (a->dtype == F && k <= 16) {
        const kiln_tensor_id w = random_weights(r, KILN_SHAPE(k, 1 + random_upto(r, 6)));
        if (a->shape.rank == 2 && random_upto(r, 2) == 0) {
            kiln_gemm_options options = KILN_GEMM_OPTIONS_INIT;
            options.alpha = 0.5F;
            DO(kiln_network_add_gemm(r->network, NULL, a->id, w, KILN_NO_TENSOR, &options, &y));
        } else {
            DO(kiln_network_add_matrix_multiply(r->network, NULL, a->id, w, &y));
        }
    } else {
        const int64_t order[] = {1, 0};
        if (a->shape.rank != 2) {
            return false;
        }
        DO(kiln_network_add_transpose(r->network, NULL, a->id, order, 2, &y));
        DO(kiln_network_add_matrix_multiply(r->network, NULL, a->id, y, &y));
        error = 2.5 * error * (a->most + 1);
        most *= a->most;
    }
    random_add(r, y, most, error);
    return true;
}

static const struct {
    const char *name;
    bool (*make)(random_network *r, const random_tensor *t);
    random_fits fits;
} layers[] = {
#define RANDOM_ROW(name, fits) {#name, random_##name, fits},
    RANDOM_LAYERS(RANDOM_ROW)};

/* --- the network --- */

static void add_inputs(random_network *r)
{
    static const kiln_dtype types[] = {
        F, F, F, KILN_DTYPE_INT64, KILN_DTYPE_INT32, KILN_DTYPE_FLOAT64, KILN_DTYPE_BOOL};
    char name[32];
    r->inputs = 1 + (size_t)random_upto(r, 3);
    for (size_t i = 0; i < r->inputs; i++) {
        const kiln_dtype dtype = i == 0 ? F : types[random_upto(r, 7)];
        kiln_shape shape = {i == 0 ? (int32_t)(3 + random_upto(r, 3)) : (int32_t)random_upto(r, 5),
                            {0}};
        kiln_tensor_id id = 0;
        for (int32_t k = 0; k < shape.rank; k++) {
            shape.dims[k] =
                k == 0 && random_upto(r, 2) == 0 ? 1 : 1 + random_upto(r, shape.rank > 4 ? 4 : 6);
        }
        (void)snprintf(name, sizeof name, "x%zu", i);
        DO(kiln_network_add_input(r->network, name, dtype, &shape, NULL, &id));
        random_add(r, id, dtype == KILN_DTYPE_BOOL ? 1 : 4, 0);
    }
}

void random_network_make(random_network *r, uint64_t seed, size_t count)
{
    static const int32_t opsets[] = {18, 21, 21, 23};
    kiln_network_options options = KILN_NETWORK_OPTIONS_INIT;
    if (numbers[0] == 0) {
        uint64_t state = 1;
        for (size_t i = 0; i < 4096; i++) {
            numbers[i] = ((float)(random_next(&state) % 33) - 16.0F) / 16.0F;
            random_indices[i] = (int64_t)(random_next(&state) % 3);
            random_ends[i] = -(int64_t)(random_next(&state) % 2);
            random_scales[i] = 2.0F / (float)(1U << (random_next(&state) % 5));
        }
        numbers[0] = 1.0F;
    }
    *r = (random_network){.state = seed * 2 + 1};
    options.opset = opsets[random_upto(r, 4)];
    DO(kiln_network_create(&options, &r->network));
    add_inputs(r);
    for (size_t i = 0; i < count && r->status == KILN_OK; i++) {
        bool added = false;
        for (int tries = 0; tries < 20 && !added && r->status == KILN_OK; tries++) {
            const size_t which =
                (size_t)random_upto(r, (int64_t)(sizeof layers / sizeof layers[0]));
            const random_tensor *t =
                layers[which].fits != NULL ? random_pick(r, layers[which].fits) : NULL;
            r->layer = layers[which].name;
            added = (layers[which].fits == NULL || t != NULL) && layers[which].make(r, t);
        }
    }
}

void random_network_finish(random_network *r)
{
    kiln_network_destroy(r->network);
    r->network = NULL;
}
