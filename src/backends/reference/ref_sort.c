/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

static int order_doubles(double a, double b)
{
    if (isnan(a) || isnan(b)) {
        return (isnan(a) ? 1 : 0) - (isnan(b) ? 1 : 0);
    }
    return (a > b) - (a < b);
}

/* Negative, 0 or positive if element a of x sorts before, equal to or after element b. NaN sorts
 * last. */
static int order(const ref_tensor *x, int64_t a, int64_t b)
{
    if (ref_domain_of(x->dtype) == REF_DOMAIN_FLOAT) {
        return order_doubles(ref_get_float(x, a), ref_get_float(x, b));
    }
    const int64_t va = ref_get_int(x, a);
    const int64_t vb = ref_get_int(x, b);
    if (ref_domain_of(x->dtype) == REF_DOMAIN_UNSIGNED) {
        return ((uint64_t)va > (uint64_t)vb) - ((uint64_t)va < (uint64_t)vb);
    }
    return (va > vb) - (va < vb);
}

typedef struct sorting {
    const ref_tensor *x;
    int64_t start, step;  /* TopK: of the row */
    const uint64_t *keys; /* sort keys of its elements */
    bool descending;
    /* Unique: a slice has `inner` elements in each of `outer` pieces; there are `length` slices */
    int64_t inner, outer, length;
    int (*compare)(const struct sorting *sort, int64_t a, int64_t b);
} sorting;

/* Sorts indices, keeping the order of equal ones; `room` has space for as many. */
static void merge_sort(const sorting *sort, int64_t *items, int64_t n, int64_t *room)
{
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t begin = 0; begin < n; begin += 2 * width) {
            const int64_t middle = begin + width < n ? begin + width : n;
            const int64_t end = middle + width < n ? middle + width : n;
            int64_t left = begin;
            int64_t right = middle;
            for (int64_t i = begin; i < end; i++) {
                const bool take_left =
                    left < middle &&
                    (right >= end || sort->compare(sort, items[left], items[right]) <= 0);
                room[i] = take_left ? items[left++] : items[right++];
            }
        }
        memcpy(items, room, (size_t)n * sizeof *items);
    }
}

static int compare_elements(const sorting *sort, int64_t a, int64_t b)
{
    const int result = order(sort->x, sort->start + a * sort->step, sort->start + b * sort->step);
    return sort->descending ? -result : result;
}

/* Makes keys that compare as the elements do: NaN is last, and zeros are equal. */
static void make_keys(const ref_tensor *x, int64_t start, int64_t step, int64_t count,
                      uint64_t *keys)
{
    const uint64_t sign = UINT64_C(1) << 63;
    const bool is_float = ref_domain_of(x->dtype) == REF_DOMAIN_FLOAT;
    const bool is_signed = ref_domain_of(x->dtype) == REF_DOMAIN_SIGNED;
    for (int64_t at = 0; at < count; at += REF_CHUNK) {
        const int64_t n = count - at < REF_CHUNK ? count - at : REF_CHUNK;
        double floats[REF_CHUNK];
        int64_t ints[REF_CHUNK];
        if (is_float) {
            ref_load_float(x, start + at * step, step, n, floats);
        } else {
            ref_load_int(x, start + at * step, step, n, ints);
        }
        for (int64_t i = 0; !is_float && i < n; i++) {
            keys[at + i] = (uint64_t)ints[i] ^ (is_signed ? sign : 0);
        }
        for (int64_t i = 0; is_float && i < n; i++) {
            const double v = floats[i] + 0.0;
            uint64_t bits = 0;
            memcpy(&bits, &v, sizeof bits);
            keys[at + i] = isnan(v) ? UINT64_MAX : (bits & sign) != 0 ? ~bits : bits | sign;
        }
    }
}

static int compare_keys(const sorting *sort, int64_t a, int64_t b)
{
    const uint64_t va = sort->keys[a];
    const uint64_t vb = sort->keys[b];
    return sort->descending ? (va < vb) - (va > vb) : (va > vb) - (va < vb);
}

static kiln_status read_k(const ref_call *call, int64_t length, int64_t *k)
{
    const ref_tensor *given = ref_input(call, 1);
    *k = given != NULL ? ref_get_int(given, 0) : ref_attribute_int(call, "k", -1);
    return *k >= 0 && *k <= length
               ? KILN_OK
               : kln_fail(KILN_ERROR_INVALID_NETWORK, "the first %lld of %lld elements",
                          (long long)*k, (long long)length);
}

/* Whether item a comes after item b; of two equal items the one with the higher index comes
 * after. */
static bool is_after(const sorting *sort, int64_t a, int64_t b)
{
    const int result = sort->compare(sort, a, b);
    return result != 0 ? result > 0 : a > b;
}

/* Moves the item at `place` down to where it belongs in a heap whose top is the last item in
 * sorting order. */
static void sink(const sorting *sort, int64_t *heap, int64_t n, int64_t place)
{
    for (int64_t child = 2 * place + 1; child < n; child = 2 * place + 1) {
        child += child + 1 < n && is_after(sort, heap[child + 1], heap[child]) ? 1 : 0;
        if (!is_after(sort, heap[child], heap[place])) {
            return;
        }
        const int64_t item = heap[place];
        heap[place] = heap[child];
        heap[child] = item;
        place = child;
    }
}

/* Selects the first k of n in order, the same as a full sort would give: the worst of those kept so
 * far is replaced. */
static void select_first(const sorting *sort, int64_t *items, int64_t n, int64_t k)
{
    for (int64_t i = 0; i < k; i++) {
        items[i] = i;
    }
    for (int64_t i = k / 2; i-- > 0;) {
        sink(sort, items, k, i);
    }
    for (int64_t i = k; i < n && k > 0; i++) {
        if (sort->compare(sort, i, items[0]) < 0) {
            items[0] = i;
            sink(sort, items, k, 0);
        }
    }
    for (int64_t end = k - 1; end > 0; end--) {
        const int64_t last = items[0];
        items[0] = items[end];
        items[end] = last;
        sink(sort, items, end, 0);
    }
}

static kiln_status ref_op_top_k(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *values = NULL;
    ref_tensor *indices = NULL;
    int axis = 0;
    int64_t k = 0;
    int64_t *items = NULL;
    int64_t *room = NULL;
    KLN_RETURN_IF_ERROR(ref_axis(call, ref_attribute_int(call, "axis", -1), x->rank, &axis));
    const int64_t n = x->dims[axis];
    KLN_RETURN_IF_ERROR(read_k(call, n, &k));
    int64_t dims[REF_RANK];
    memcpy(dims, x->dims, sizeof dims);
    dims[axis] = k;
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, dims, &values));
    KLN_RETURN_IF_ERROR(ref_output(call, 1, KILN_DTYPE_INT64, x->rank, dims, &indices));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)n, sizeof *items, &items));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)n, sizeof *room, &room));
    uint64_t *keys = NULL;
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)n, sizeof *keys, &keys));
    sorting sort = {.x = x, .keys = keys, .compare = compare_keys};
    sort.step = ref_product(x->dims, axis + 1, x->rank);
    sort.descending = ref_attribute_int(call, "largest", 1) != 0;
    const size_t size = ref_element_size(x->dtype);
    for (int64_t i = 0; x->count > 0 && i < x->count / n; i++) {
        sort.start = i / sort.step * n * sort.step + i % sort.step;
        KLN_RETURN_IF_ERROR(ref_spend(call, 0));
        make_keys(x, sort.start, sort.step, n, keys);
        if (k < n / 8) {
            select_first(&sort, items, n, k);
        } else {
            for (int64_t j = 0; j < n; j++) {
                items[j] = j;
            }
            merge_sort(&sort, items, n, room);
        }
        const int64_t to = i / sort.step * k * sort.step + i % sort.step;
        for (int64_t j = 0; j < k; j++) {
            memcpy((char *)values->data + (size_t)(to + j * sort.step) * size,
                   (const char *)x->data + (size_t)(sort.start + items[j] * sort.step) * size,
                   size);
            ref_put_int(indices, to + j * sort.step, items[j]);
        }
    }
    return KILN_OK;
}

/* --- Unique --- */

static int compare_slices(const sorting *sort, int64_t a, int64_t b)
{
    for (int64_t i = 0; i < sort->outer; i++) {
        for (int64_t j = 0; j < sort->inner; j++) {
            const int64_t base = i * sort->length * sort->inner + j;
            const int result = order(sort->x, base + a * sort->inner, base + b * sort->inner);
            if (result != 0) {
                return result;
            }
        }
    }
    return 0;
}

/* Sorts items by their keys, digit by digit, keeping the order of equal ones. */
static void sort_by_keys(const uint64_t *keys, int64_t *items, int64_t n, int64_t *room)
{
    uint64_t differing = 0;
    for (int64_t i = 1; i < n; i++) {
        differing |= keys[items[i]] ^ keys[items[0]];
    }
    for (int shift = 0; shift < 64; shift += 8) {
        int64_t places[257] = {0};
        for (int64_t i = 0; (differing >> shift & 255) != 0 && i < n; i++) {
            places[(keys[items[i]] >> shift & 255) + 1]++;
        }
        for (int digit = 0; digit < 256; digit++) {
            places[digit + 1] += places[digit];
        }
        for (int64_t i = 0; places[256] != 0 && i < n; i++) {
            room[places[keys[items[i]] >> shift & 255]++] = items[i];
        }
        if (places[256] != 0) {
            memcpy(items, room, (size_t)n * sizeof *items);
        }
    }
}

typedef struct uniques {
    uint64_t *keys;   /* for slices of one element */
    int64_t *sorted;  /* slices in order */
    int64_t *first;   /* the first slice of each kind */
    int64_t *count;   /* the number of slices of each kind */
    int64_t *kind_of; /* the kind of each slice */
    int64_t kinds;
} uniques;

/* Finds the kinds in ascending order, each with its first slice: the sort is stable. */
static void find_kinds(const sorting *sort, uniques *u)
{
    const bool single = sort->inner * sort->outer == 1;
    for (int64_t i = 0; i < sort->length; i++) {
        const int64_t slice = u->sorted[i];
        if (i == 0 || (single ? u->keys[u->sorted[i - 1]] != u->keys[slice]
                              : compare_slices(sort, u->sorted[i - 1], slice) != 0)) {
            u->first[u->kinds] = slice;
            u->count[u->kinds++] = 0;
        }
        u->kind_of[slice] = u->kinds - 1;
        u->count[u->kinds - 1]++;
    }
}

/* Puts the kinds into the order in which they first occur. */
static kiln_status by_occurrence(ref_call *call, uniques *u, int64_t length)
{
    int64_t *places[3] = {NULL, NULL, NULL}; /* order, room, rank */
    int64_t *copy = NULL; /* of counts; the copy of the first slices reuses the keys */
    const size_t kinds = (size_t)u->kinds;
    for (int i = 0; i < 3; i++) {
        KLN_RETURN_IF_ERROR(ref_scratch(call, kinds, sizeof(int64_t), &places[i]));
    }
    KLN_RETURN_IF_ERROR(ref_scratch(call, kinds, sizeof *copy, &copy));
    memcpy(copy, u->count, kinds * sizeof *copy);
    for (int64_t i = 0; i < u->kinds; i++) {
        u->keys[i] = (uint64_t)u->first[i];
        places[0][i] = i;
    }
    sort_by_keys(u->keys, places[0], u->kinds, places[1]);
    for (int64_t i = 0; i < u->kinds; i++) {
        u->first[i] = (int64_t)u->keys[places[0][i]];
        u->count[i] = copy[places[0][i]];
        places[2][places[0][i]] = i;
    }
    for (int64_t i = 0; i < length; i++) {
        u->kind_of[i] = places[2][u->kind_of[i]];
    }
    return KILN_OK;
}

static kiln_status write_uniques(ref_call *call, const sorting *sort, const uniques *u, int rank,
                                 const int64_t *dims)
{
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(ref_output(call, 0, sort->x->dtype, rank, dims, &y));
    const size_t size = ref_element_size(sort->x->dtype);
    const size_t inner = (size_t)sort->inner * size;
    for (int64_t i = 0; inner > 0 && i < sort->outer * u->kinds; i++) {
        const int64_t from = i / u->kinds * sort->length + u->first[i % u->kinds];
        memcpy((char *)y->data + (size_t)i * inner,
               (const char *)sort->x->data + (size_t)from * inner, inner);
    }
    const int64_t *const lists[3] = {u->first, u->kind_of, u->count};
    const int64_t lengths[3] = {u->kinds, sort->length, u->kinds};
    for (size_t i = 0; i < 3; i++) {
        if (ref_wants(call, i + 1)) {
            KLN_RETURN_IF_ERROR(ref_output(call, i + 1, KILN_DTYPE_INT64, 1, &lengths[i], &y));
            ref_store_int(y, 0, 1, lengths[i], lists[i]);
        }
    }
    return KILN_OK;
}

static kiln_status ref_op_unique(ref_call *call)
{
    sorting sort = {.inner = 1, .outer = 1, .compare = compare_slices};
    uniques u = {.kinds = 0};
    int axis = 0;
    KLN_RETURN_IF_ERROR(ref_need_number(call, 0, &sort.x));
    const ref_tensor *x = sort.x;
    const bool flat = ref_attribute(call, "axis") == NULL;
    sort.length = x->count;
    if (!flat) {
        KLN_RETURN_IF_ERROR(ref_axis(call, ref_attribute_int(call, "axis", 0), x->rank, &axis));
        sort.inner = ref_product(x->dims, axis + 1, x->rank);
        sort.outer = ref_product(x->dims, 0, axis);
        sort.length = x->dims[axis];
    }
    int64_t *room = NULL;
    int64_t **const lists[5] = {&u.sorted, &u.first, &u.count, &u.kind_of, &room};
    for (int i = 0; i < 5; i++) {
        KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)sort.length, sizeof(int64_t), lists[i]));
    }
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)sort.length, sizeof *u.keys, &u.keys));
    for (int64_t i = 0; i < sort.length; i++) {
        u.sorted[i] = i;
    }
    /* Slices may be equal up to their last element, in each of about 20 rounds. */
    KLN_RETURN_IF_ERROR(
        ref_spend(call, 20.0 * (double)sort.length * (double)(sort.inner * sort.outer + 1)));
    if (sort.inner * sort.outer == 1) {
        make_keys(x, 0, 1, x->count, u.keys);
        sort_by_keys(u.keys, u.sorted, sort.length, room);
    } else {
        merge_sort(&sort, u.sorted, sort.length, room);
    }
    find_kinds(&sort, &u);
    if (ref_attribute_int(call, "sorted", 1) == 0) {
        KLN_RETURN_IF_ERROR(by_occurrence(call, &u, sort.length));
    }
    int64_t dims[REF_RANK];
    memcpy(dims, x->dims, sizeof dims);
    dims[flat ? 0 : axis] = u.kinds;
    return write_uniques(call, &sort, &u, flat ? 1 : x->rank, dims);
}

/* --- NonMaxSuppression --- */

typedef struct suppression {
    const ref_tensor *boxes;
    bool centred;
    double overlap; /* boxes that overlap more are suppressed */
    double least;   /* lowest score */
    int64_t most;   /* boxes per class */
    bool has_least;
} suppression;

static void corners(const suppression *s, int64_t box, double c[4])
{
    double v[4];
    ref_load_float(s->boxes, box * 4, 1, 4, v);
    if (s->centred) {
        c[0] = v[0] - v[2] / 2;
        c[1] = v[1] - v[3] / 2;
        c[2] = v[0] + v[2] / 2;
        c[3] = v[1] + v[3] / 2;
        return;
    }
    c[0] = fmin(v[0], v[2]);
    c[1] = fmin(v[1], v[3]);
    c[2] = fmax(v[0], v[2]);
    c[3] = fmax(v[1], v[3]);
}

static bool suppresses(const suppression *s, int64_t a, int64_t b)
{
    double p[4];
    double q[4];
    corners(s, a, p);
    corners(s, b, q);
    const double width = fmin(p[2], q[2]) - fmax(p[0], q[0]);
    const double height = fmin(p[3], q[3]) - fmax(p[1], q[1]);
    const double shared = width > 0.0 && height > 0.0 ? width * height : 0.0;
    const double all = (p[2] - p[0]) * (p[3] - p[1]) + (q[2] - q[0]) * (q[3] - q[1]) - shared;
    return all > 0.0 && shared / all > s->overlap;
}

static double option(const ref_call *call, size_t index, double otherwise)
{
    const ref_tensor *tensor = ref_input(call, index);
    return tensor != NULL ? ref_get_float(tensor, 0) : otherwise;
}

/* Chooses among the boxes of one class; the chosen ones are put at the front of `items`. */
static int64_t choose(const suppression *s, const sorting *sort, int64_t first_box, int64_t *items,
                      int64_t *room)
{
    int64_t chosen = 0;
    for (int64_t i = 0; i < sort->length; i++) {
        items[i] = i;
    }
    merge_sort(sort, items, sort->length, room);
    for (int64_t i = 0; i < sort->length && chosen < s->most; i++) {
        bool good = !s->has_least || ref_get_float(sort->x, sort->start + items[i]) > s->least;
        for (int64_t j = 0; good && j < chosen; j++) {
            good = !suppresses(s, first_box + items[i], first_box + items[j]);
        }
        if (good) {
            const int64_t box = items[i];
            items[chosen++] = box;
        }
    }
    return chosen;
}

static kiln_status ref_op_nms(ref_call *call)
{
    suppression s = {.boxes = NULL};
    sorting sort = {.step = 1, .descending = true, .compare = compare_elements};
    ref_tensor *y = NULL;
    int64_t *items = NULL;
    int64_t *room = NULL;
    int64_t *found = NULL;
    s.boxes = ref_input(call, 0);
    sort.x = ref_input(call, 1);
    const int64_t *d = sort.x->dims;
    KLN_RETURN_IF(
        s.boxes->rank != 3 || sort.x->rank != 3 || s.boxes->dims[2] != 4 ||
            s.boxes->dims[0] != d[0] || s.boxes->dims[1] != d[2],
        KILN_ERROR_SHAPE,
        "boxes of batches x boxes x 4 and scores of batches x classes x boxes are needed");
    s.most = ref_to_int(option(call, 2, 0.0));
    s.overlap = option(call, 3, 0.0);
    s.least = option(call, 4, 0.0);
    s.has_least = ref_input(call, 4) != NULL;
    s.centred = ref_attribute_int(call, "center_point_box", 0) != 0;
    sort.length = d[2];
    const int64_t each = s.most < d[2] ? (s.most > 0 ? s.most : 0) : d[2];
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)d[2], sizeof *items, &items));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)d[2], sizeof *room, &room));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)(d[0] * d[1] * each), 3 * sizeof *found, &found));
    KLN_RETURN_IF_ERROR(
        ref_spend(call, (double)d[0] * (double)d[1] * (double)d[2] * (double)(each + 1)));
    int64_t dims[2] = {0, 3};
    for (int64_t i = 0; i < d[0] * d[1]; i++) {
        sort.start = i * d[2];
        const int64_t chosen = choose(&s, &sort, i / d[1] * d[2], items, room);
        for (int64_t j = 0; j < chosen; j++) {
            int64_t *row = found + 3 * dims[0]++;
            row[0] = i / d[1];
            row[1] = i % d[1];
            row[2] = items[j];
        }
    }
    KLN_RETURN_IF_ERROR(ref_output(call, 0, KILN_DTYPE_INT64, 2, dims, &y));
    ref_store_int(y, 0, 1, y->count, found);
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_sort[] = {
    REF_OP("TopK", 1, top_k, 0, "n?"),
    REF_OP("Unique", 11, unique, 0),
    REF_OP("NonMaxSuppression", 10, nms, 0, "ff???"),
    REF_KERNELS_END
};
/* clang-format on */
