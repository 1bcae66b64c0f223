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
    int kept = -1; /* the last dimension that is kept */
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

/* With a constant size each copy becomes one load and one store, and a single element for all is
 * loaded only once. */
#define COPY_SIZE(bytes)                                                      \
    do {                                                                      \
        char one[bytes];                                                      \
        memcpy(one, from, (bytes));                                           \
        for (int64_t i = 0; from_step == 0 && to_step == 1 && i < n; i++) {   \
            memcpy((char *)to + i * (bytes), one, (bytes));                   \
        }                                                                     \
        for (int64_t i = 0; (from_step != 0 || to_step != 1) && i < n; i++) { \
            memcpy((char *)to + i * to_step * (bytes),                        \
                   (const char *)from + i * from_step * (bytes), (bytes));    \
        }                                                                     \
    } while (0)

void ref_copy_elements(size_t size, int64_t n, void *restrict to, int64_t to_step,
                       const void *restrict from, int64_t from_step)
{
    if (n <= 0) {
        return;
    }
    if (to_step == 1 && from_step == 1) {
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

#define TAKE_SIZE(bytes)                                                                     \
    for (int64_t i = 0; i < n; i++) {                                                        \
        memcpy((char *)to + i * (bytes), (const char *)from + places[i] * (bytes), (bytes)); \
    }                                                                                        \
    break

void ref_take_elements(size_t size, int64_t n, void *restrict to, const void *restrict from,
                       const int64_t *restrict places)
{
    switch (size) {
        case 1: TAKE_SIZE(1);
        case 2: TAKE_SIZE(2);
        case 4: TAKE_SIZE(4);
        case 8: TAKE_SIZE(8);
        default: TAKE_SIZE(16);
    }
}

void ref_take_slices(size_t size, size_t slice, int64_t n, void *to, const void *from,
                     const int64_t *places)
{
    if (slice == size) {
        ref_take_elements(size, n, to, from, places);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        memcpy((char *)to + (size_t)i * slice, (const char *)from + (size_t)places[i] * slice,
               slice);
    }
}

/* --- transposition --- */

/* A matrix whose rows are contiguous in the source and whose columns are contiguous in the
 * destination. */
typedef struct turned {
    int64_t rows, columns;
    int64_t to_row, to_column; /* elements from one to the next */
    int64_t from_column;
} turned;

/* One block at a time, so that each cache line is fetched only once. */
#define BLOCK 16

/* Transposes four by four elements at once, if there are four contiguous ones on both sides. */
#define DEFINE_TURN_FOUR(name, type)                                                       \
    static void name##_four(turned t, char *to, const char *from)                          \
    {                                                                                      \
        type in[4][4];                                                                     \
        for (int c = 0; c < 4; c++) {                                                      \
            memcpy(in[c], from + c * t.from_column * (int64_t)sizeof(type), sizeof in[c]); \
        }                                                                                  \
        for (int r = 0; r < 4; r++) {                                                      \
            const type out[4] = {in[0][r], in[1][r], in[2][r], in[3][r]};                  \
            memcpy(to + r * t.to_row * (int64_t)sizeof(type), out, sizeof out);            \
        }                                                                                  \
    }
DEFINE_TURN_FOUR(turn_bytes, uint8_t)
DEFINE_TURN_FOUR(turn_halves, uint16_t)
DEFINE_TURN_FOUR(turn_longs, uint64_t)

typedef uint32_t words __attribute__((vector_size(16)));

static inline void turn_words_four(turned t, char *to, const char *from)
{
    const ptrdiff_t size = sizeof(uint32_t);
    words in[4];
    for (int c = 0; c < 4; c++) {
        memcpy(&in[c], from + c * t.from_column * size, sizeof in[c]);
    }
    const words low01 = __builtin_shufflevector(in[0], in[1], 0, 4, 1, 5);
    const words high01 = __builtin_shufflevector(in[0], in[1], 2, 6, 3, 7);
    const words low23 = __builtin_shufflevector(in[2], in[3], 0, 4, 1, 5);
    const words high23 = __builtin_shufflevector(in[2], in[3], 2, 6, 3, 7);
    const words out[4] = {__builtin_shufflevector(low01, low23, 0, 1, 4, 5),
                          __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
                          __builtin_shufflevector(high01, high23, 0, 1, 4, 5),
                          __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
    for (int r = 0; r < 4; r++) {
        memcpy(to + r * t.to_row * size, &out[r], sizeof out[r]);
    }
}

#define DEFINE_TURN(name, type)                                                                   \
    static void name##_block(turned t, int64_t rows, int64_t columns, char *to, const char *from) \
    {                                                                                             \
        const int64_t size = (int64_t)sizeof(type);                                               \
        for (int64_t r = 0; r < rows; r++) {                                                      \
            for (int64_t c = 0; c < columns; c++) {                                               \
                memcpy(to + (r * t.to_row + c * t.to_column) * size,                              \
                       from + (r + c * t.from_column) * size, sizeof(type));                      \
            }                                                                                     \
        }                                                                                         \
    }                                                                                             \
    static void name(turned t, char *to, const char *from)                                        \
    {                                                                                             \
        const int64_t size = (int64_t)sizeof(type);                                               \
        for (int64_t i = 0; i < t.rows; i += BLOCK) {                                             \
            const int64_t rows = t.rows - i < BLOCK ? t.rows - i : BLOCK;                         \
            for (int64_t j = 0; j < t.columns; j += 4) {                                          \
                const int64_t columns = t.columns - j < 4 ? t.columns - j : 4;                    \
                char *place = to + (i * t.to_row + j * t.to_column) * size;                       \
                const char *origin = from + (i + j * t.from_column) * size;                       \
                int64_t r = 0;                                                                    \
                for (; columns == 4 && t.to_column == 1 && r + 4 <= rows; r += 4) {               \
                    name##_four(t, place + r * t.to_row * size, origin + r * size);               \
                }                                                                                 \
                name##_block(t, rows - r, columns, place + r * t.to_row * size,                   \
                             origin + r * size);                                                  \
            }                                                                                     \
        }                                                                                         \
    }
DEFINE_TURN(turn_bytes, uint8_t)
DEFINE_TURN(turn_halves, uint16_t)
DEFINE_TURN(turn_words, uint32_t)
DEFINE_TURN(turn_longs, uint64_t)

typedef float eight __attribute__((vector_size(32)));

#define PAIRS(a, b, first)                                                                   \
    __builtin_shufflevector(a, b, first, (first) + 8, (first) + 1, (first) + 9, (first) + 4, \
                            (first) + 12, (first) + 5, (first) + 13)
#define QUADS(a, b, first)                                                                   \
    __builtin_shufflevector(a, b, first, (first) + 1, (first) + 8, (first) + 9, (first) + 4, \
                            (first) + 5, (first) + 12, (first) + 13)
#define HALVES(a, b, first)                                                                  \
    __builtin_shufflevector(a, b, first, (first) + 1, (first) + 2, (first) + 3, (first) + 8, \
                            (first) + 9, (first) + 10, (first) + 11)

/* Transposes eight columns, eight rows at a time; returns how many rows. */
REF_WIDE static int64_t turn_eight(int64_t rows, const float *from, int64_t from_column, float *to,
                                   int64_t to_row)
{
    int64_t i = 0;
    for (; i + 8 <= rows; i += 8) {
        eight in[8];
        eight pairs[8];
        eight quads[8];
        for (int c = 0; c < 8; c++) {
            memcpy(&in[c], from + i + c * from_column, sizeof in[c]);
        }
        for (int c = 0; c < 8; c += 2) {
            pairs[c] = PAIRS(in[c], in[c + 1], 0);
            pairs[c + 1] = PAIRS(in[c], in[c + 1], 2);
        }
        for (int c = 0; c < 8; c += 4) {
            quads[c] = QUADS(pairs[c], pairs[c + 2], 0);
            quads[c + 1] = QUADS(pairs[c], pairs[c + 2], 2);
            quads[c + 2] = QUADS(pairs[c + 1], pairs[c + 3], 0);
            quads[c + 3] = QUADS(pairs[c + 1], pairs[c + 3], 2);
        }
        for (int r = 0; r < 4; r++) {
            const eight low = HALVES(quads[r], quads[r + 4], 0);
            const eight high = HALVES(quads[r], quads[r + 4], 4);
            memcpy(to + (i + r) * to_row, &low, sizeof low);
            memcpy(to + (i + r + 4) * to_row, &high, sizeof high);
        }
    }
    return i;
}

void ref_turn_floats(int64_t rows, int64_t count, const float *from, int64_t from_column, float *to,
                     int64_t to_row)
{
    for (int64_t k = 0; k < count; k += 8) {
        const float *origin = from + k * from_column;
        const int64_t done =
            count - k < 8 ? 0 : turn_eight(rows, origin, from_column, to + k, to_row);
        const turned rest = {rows - done, count - k < 8 ? count - k : 8, to_row, 1, from_column};
        turn_words(rest, (char *)(to + done * to_row + k), (const char *)(origin + done));
    }
}

typedef void (*turn_function)(turned t, char *to, const char *from);

static turn_function turn_of(size_t size)
{
    return size == 1   ? turn_bytes
           : size == 2 ? turn_halves
           : size == 4 ? turn_words
           : size == 8 ? turn_longs
                       : NULL;
}

/* Copies by transposing, if the rows of the walk are columns of the source; returns whether it
 * did. */
static bool copy_turned(const ref_walk *walk, size_t size, char *to, const char *from)
{
    const turn_function turn = turn_of(size);
    int row = -1;
    ref_walk rest;
    int64_t dims[REF_RANK];
    int64_t strides[2][REF_RANK];
    int rank = 0;
    for (int i = 0; i < walk->rank; i++) {
        if (row < 0 && walk->strides[1][i] == 1 && walk->dims[i] >= 4) {
            row = i;
            continue;
        }
        dims[rank] = walk->dims[i];
        strides[0][rank] = walk->strides[0][i];
        strides[1][rank++] = walk->strides[1][i];
    }
    if (turn == NULL || row < 0 || walk->empty || walk->step[1] <= 1 || walk->dims[row] < 8) {
        return false;
    }
    const turned block = {walk->dims[row], walk->length, walk->strides[0][row], walk->step[0],
                          walk->step[1]};
    ref_walk_init(&rest, rank, dims);
    ref_walk_add(&rest, strides[0]);
    ref_walk_add(&rest, strides[1]);
    ref_walk_begin(&rest);
    while (ref_walk_next(&rest)) {
        for (int64_t i = 0; i < rest.length; i++) {
            turn(block, to + (rest.offset[0] + i * rest.step[0]) * (int64_t)size,
                 from + (rest.offset[1] + i * rest.step[1]) * (int64_t)size);
        }
    }
    return true;
}

void ref_copy_strided(size_t size, int rank, const int64_t *dims, void *to,
                      const int64_t *to_strides, const void *from, const int64_t *from_strides)
{
    ref_walk walk;
    ref_walk_init(&walk, rank, dims);
    ref_walk_add(&walk, to_strides);
    ref_walk_add(&walk, from_strides);
    ref_walk_begin(&walk);
    if (copy_turned(&walk, size, to, from)) {
        return;
    }
    while (ref_walk_next(&walk)) {
        ref_copy_elements(size, walk.length, (char *)to + walk.offset[0] * (int64_t)size,
                          walk.step[0], (const char *)from + walk.offset[1] * (int64_t)size,
                          walk.step[1]);
    }
}
