/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_internal.h"

int64_t ref_product(const int64_t *dims, int begin, int end)
{
    int64_t product = 1;
    for (int i = begin; i < end; i++) {
        product *= dims[i];
    }
    return product;
}

void ref_dense_strides(int rank, const int64_t *dims, int64_t *strides)
{
    int64_t stride = 1;
    for (int i = rank - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= dims[i];
    }
}

void ref_walk_init(ref_walk *walk, int rank, const int64_t *dims)
{
    *walk = (ref_walk){.rank = rank, .length = 1};
    for (int i = 0; i < rank; i++) {
        walk->dims[i] = dims[i];
        walk->empty = walk->empty || dims[i] == 0;
    }
}

void ref_walk_add(ref_walk *walk, const int64_t *strides)
{
    memcpy(walk->strides[walk->operands++], strides, (size_t)walk->rank * sizeof(int64_t));
}

void ref_walk_add_broadcast(ref_walk *walk, const ref_tensor *tensor)
{
    int64_t dense[REF_RANK];
    int64_t strides[REF_RANK] = {0};
    ref_dense_strides(tensor->rank, tensor->dims, dense);
    const int shift = walk->rank - tensor->rank;
    for (int i = 0; i < tensor->rank; i++) {
        strides[i + shift] = tensor->dims[i] == 1 ? 0 : dense[i];
    }
    ref_walk_add(walk, strides);
}

static bool mergeable(const ref_walk *walk, int outer, int inner)
{
    for (int i = 0; i < walk->operands; i++) {
        if (walk->strides[i][outer] != walk->strides[i][inner] * walk->dims[inner]) {
            return false;
        }
    }
    return true;
}

void ref_walk_begin(ref_walk *walk)
{
    int kept = -1; /* the last dimension that stays */
    for (int i = 0; i < walk->rank; i++) {
        if (walk->dims[i] == 1) {
            continue;
        }
        if (kept >= 0 && mergeable(walk, kept, i)) {
            walk->dims[kept] *= walk->dims[i];
        } else {
            kept++;
            walk->dims[kept] = walk->dims[i];
        }
        for (int j = 0; j < walk->operands; j++) {
            walk->strides[j][kept] = walk->strides[j][i];
        }
    }
    walk->rank = kept < 0 ? 0 : kept;
    if (kept >= 0) {
        walk->length = walk->dims[kept];
        for (int j = 0; j < walk->operands; j++) {
            walk->step[j] = walk->strides[j][kept];
        }
    }
}

bool ref_walk_next(ref_walk *walk)
{
    if (walk->empty) {
        return false;
    }
    if (!walk->started) {
        walk->started = true;
        return true;
    }
    for (int i = walk->rank - 1; i >= 0; i--) {
        for (int j = 0; j < walk->operands; j++) {
            walk->offset[j] += walk->strides[j][i];
        }
        if (++walk->index[i] < walk->dims[i]) {
            return true;
        }
        for (int j = 0; j < walk->operands; j++) {
            walk->offset[j] -= walk->strides[j][i] * walk->dims[i];
        }
        walk->index[i] = 0;
    }
    return false;
}

/* A constant size becomes one load and one store. */
#define COPY_SIZE(bytes)                                                   \
    do {                                                                   \
        for (int64_t i = 0; i < n; i++) {                                  \
            memcpy((char *)to + i * to_step * (bytes),                     \
                   (const char *)from + i * from_step * (bytes), (bytes)); \
        }                                                                  \
    } while (0)

void ref_copy_elements(size_t size, int64_t n, void *to, int64_t to_step, const void *from,
                       int64_t from_step)
{
    if (n > 0 && to_step == 1 && from_step == 1) {
        memcpy(to, from, (size_t)n * size);
        return;
    }
    switch (size) {
        case 1: COPY_SIZE(1); break;
        case 2: COPY_SIZE(2); break;
        case 4: COPY_SIZE(4); break;
        case 8: COPY_SIZE(8); break;
        default: COPY_SIZE(16); break;
    }
}

void ref_copy_strided(size_t size, int rank, const int64_t *dims, void *to,
                      const int64_t *to_strides, const void *from, const int64_t *from_strides)
{
    ref_walk walk;
    ref_walk_init(&walk, rank, dims);
    ref_walk_add(&walk, to_strides);
    ref_walk_add(&walk, from_strides);
    ref_walk_begin(&walk);
    while (ref_walk_next(&walk)) {
        ref_copy_elements(size, walk.length, (char *)to + walk.offset[0] * (int64_t)size,
                          walk.step[0], (const char *)from + walk.offset[1] * (int64_t)size,
                          walk.step[1]);
    }
}
