/* SPDX-License-Identifier: Apache-2.0 */
/* Operators on integers, each in its own type, many at once and few: what 64 bits give that wrap
 * when they are stored. */
#include <inttypes.h>

#include "drawn_test.h"
#include "graph_maker.h"

#define MOST 12000

typedef struct kind {
    kiln_dtype dtype;
    unsigned bits;
    bool is_signed;
} kind;

static const kind kinds[] = {{KILN_DTYPE_INT8, 8, true},   {KILN_DTYPE_UINT8, 8, false},
                             {KILN_DTYPE_INT16, 16, true}, {KILN_DTYPE_UINT16, 16, false},
                             {KILN_DTYPE_INT32, 32, true}, {KILN_DTYPE_UINT32, 32, false},
                             {KILN_DTYPE_INT64, 64, true}, {KILN_DTYPE_UINT64, 64, false}};

typedef struct numbers_of {
    const kind *of;
    int64_t rows, columns;
    uint64_t bytes[MOST];
} numbers_of;

static uint64_t wrapped(const kind *of, uint64_t value)
{
    const uint64_t mask = of->bits == 64 ? UINT64_MAX : (UINT64_C(1) << of->bits) - 1;
    const uint64_t sign = of->is_signed ? UINT64_C(1) << (of->bits - 1) : 0;
    return ((value & mask) ^ sign) - sign;
}

static uint64_t element(const kind *of, const void *data, int64_t index)
{
    uint64_t value = 0;
    memcpy(&value, (const char *)data + index * (int64_t)(of->bits / 8), of->bits / 8);
    return wrapped(of, value);
}

/* Some small, some of all bits, the least and the greatest. */
static void fill(numbers_of *x, const kind *of, int64_t rows, int64_t columns)
{
    x->of = of;
    x->rows = rows;
    x->columns = columns;
    assert_true(rows * columns <= MOST);
    for (int64_t i = 0; i < rows * columns; i++) {
        const uint64_t any = (uint64_t)draw(INT64_C(1) << 31) << 33 ^ (uint64_t)draw(1 << 30) << 10;
        const uint64_t end = UINT64_C(1) << (of->bits - 1);
        const int64_t which = draw(16);
        const uint64_t value = which < 8    ? (uint64_t)(draw(9) - 4)
                               : which < 14 ? any >> draw(60)
                               : which < 15 ? end
                                            : end - 1;
        memcpy((char *)x->bytes + i * (of->bits / 8), &value, of->bits / 8);
    }
}

static kiln_tensor tensor_of(numbers_of *x)
{
    const kiln_shape shape = {.rank = 2, .dims = {x->rows, x->columns}};
    return KILN_HOST_TENSOR(x->of->dtype, shape, x->bytes,
                            (size_t)(x->rows * x->columns) * x->of->bits / 8);
}

/* y of the node of `text`, which reads x and, unless it is NULL, w. */
static kiln_context *run(const char *text, numbers_of *x, numbers_of *w, kiln_dtype out,
                         kiln_tensor *y)
{
    char model[300];
    graph_maker m;
    (void)snprintf(model, sizeof model, "in x %s[a,b]; %s%s%s", kiln_dtype_name(x->of->dtype),
                   w != NULL ? "in w " : "", w != NULL ? kiln_dtype_name(w->of->dtype) : "",
                   w != NULL ? "[c,d]; " : "");
    maker_model(&m, 20, model);
    maker_text(&m, text);
    (void)snprintf(model, sizeof model, "out y %s[e,f]", kiln_dtype_name(out));
    maker_text(&m, model);
    assert_ok(m.status);
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
    owned_engine engine = built_bytes(maker_span(m.model), &options);
    kiln_context *context = context_on(engine);
    maker_end(&m);
    kiln_tensor tensor = tensor_of(x);
    assert_ok(kiln_context_bind(context, "x", &tensor));
    if (w != NULL) {
        tensor = tensor_of(w);
        assert_ok(kiln_context_bind(context, "w", &tensor));
    }
    assert_ok(kiln_context_run(context));
    assert_ok(kiln_context_tensor(context, "y", y));
    return context;
}

static void expect(const char *what, const kind *from, const kind *of, const kiln_tensor *y,
                   int64_t index, uint64_t value)
{
    const uint64_t found = element(of, y->data, index);
    if (found != wrapped(of, value)) {
        fail_msg("%s of %s, element %" PRId64 ": %" PRIu64 ", %" PRIu64 " is right", what,
                 kiln_dtype_name(from->dtype), index, found, wrapped(of, value));
    }
}

static bool less(const kind *of, uint64_t a, uint64_t b)
{
    return of->is_signed ? (int64_t)a < (int64_t)b : a < b;
}

/* --- reductions --- */

typedef enum reduced { SUM, MEAN, PROD, L1, SQUARES, LEAST, GREATEST, REDUCED } reduced;

static const char *const reduced_names[] = {"ReduceSum", "ReduceMean",      "ReduceProd",
                                            "ReduceL1",  "ReduceSumSquare", "ReduceMin",
                                            "ReduceMax"};

static uint64_t reduce(reduced what, const kind *of, const void *data, int64_t start, int64_t step,
                       int64_t n)
{
    uint64_t total = what == PROD ? 1 : 0;
    for (int64_t i = 0; i < n; i++) {
        const uint64_t v = element(of, data, start + i * step);
        const bool negative = of->is_signed && (int64_t)v < 0;
        total = what == PROD                            ? total * v
                : what == L1                            ? total + (negative ? 0 - v : v)
                : what == SQUARES                       ? total + v * v
                : what == SUM || what == MEAN           ? total + v
                : i == 0                                ? v
                : (what == LEAST) == less(of, v, total) ? v
                                                        : total;
    }
    return what != MEAN    ? total
           : of->is_signed ? (uint64_t)((int64_t)total / n)
                           : total / (uint64_t)n;
}

TEST(reductions_wrap)
{
    static numbers_of x;
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(kinds) * REDUCED; k++) {
        const kind *of = &kinds[k / REDUCED];
        const reduced what = (reduced)(k % REDUCED);
        for (int axis = 0; axis < 2; axis++) {
            char text[100];
            kiln_tensor y;
            fill(&x, of, 1 + draw(11), 1 + draw(1000));
            (void)snprintf(text, sizeof text, "axes={%d}; y=%s(x,axes)", axis, reduced_names[what]);
            owned_context context = run(text, &x, NULL, of->dtype, &y);
            const int64_t outputs = axis == 0 ? x.columns : x.rows;
            for (int64_t i = 0; i < outputs; i++) {
                expect(reduced_names[what], of, of, &y, i,
                       axis == 0 ? reduce(what, of, x.bytes, i, x.columns, x.rows)
                                 : reduce(what, of, x.bytes, i * x.columns, 1, x.columns));
            }
        }
    }
}

/* Where the first or last of the extremes of a row is. */
static int64_t place(const kind *of, const void *data, int64_t start, int64_t step, int64_t n,
                     bool most, bool last)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++) {
        const uint64_t a = element(of, data, start + i * step);
        const uint64_t b = element(of, data, start + best * step);
        best = (a == b && last) || (a != b && less(of, a, b) != most) ? i : best;
    }
    return best;
}

TEST(places_of_extremes)
{
    static numbers_of x;
    const kind places = {KILN_DTYPE_INT64, 64, true};
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(kinds) * 8; k++) {
        const kind *of = &kinds[k / 8];
        const bool most = k % 2 != 0;
        const bool last = k % 4 / 2 != 0;
        const bool down = k % 8 / 4 != 0;
        char text[100];
        kiln_tensor y;
        fill(&x, of, 1 + draw(11), 1 + draw(700));
        (void)snprintf(text, sizeof text, "y=%s(x) axis=%d select_last_index=%d",
                       most ? "ArgMax" : "ArgMin", down ? 0 : 1, last);
        owned_context context = run(text, &x, NULL, KILN_DTYPE_INT64, &y);
        for (int64_t i = 0; i < (down ? x.columns : x.rows); i++) {
            const int64_t right = place(of, x.bytes, down ? i : i * x.columns, down ? x.columns : 1,
                                        down ? x.rows : x.columns, most, last);
            expect(text, of, &places, &y, i, (uint64_t)right);
        }
    }
}

/* --- pairs --- */

static uint64_t quotient(const kind *of, uint64_t a, uint64_t b)
{
    return b == 0                             ? 0
           : of->is_signed && b == UINT64_MAX ? 0 - a
           : of->is_signed                    ? (uint64_t)((int64_t)a / (int64_t)b)
                                              : a / b;
}

static uint64_t rest(const kind *of, uint64_t a, uint64_t b, bool of_divisor)
{
    const uint64_t left = b == 0 ? 0 : a - quotient(of, a, b) * b;
    const bool apart = left != 0 && ((int64_t)left < 0) != ((int64_t)b < 0);
    return of->is_signed && of_divisor && apart ? left + b : left;
}

static uint64_t pair(size_t which, const kind *of, uint64_t a, uint64_t b)
{
    switch (which) {
        case 0: return a + b;
        case 1: return a - b;
        case 2: return a * b;
        case 3: return quotient(of, a, b);
        case 4: return rest(of, a, b, true);
        case 5: return rest(of, a, b, false);
        case 6: return less(of, a, b) ? a : b;
        case 7: return less(of, a, b) ? b : a;
        case 8: return a & b;
        case 9: return a == b;
        case 10: return less(of, a, b);
        default: return !less(of, b, a);
    }
}

TEST(pairs_wrap)
{
    static const char *const nodes[] = {"y=Add(x,w)",   "y=Sub(x,w)",  "y=Mul(x,w)",
                                        "y=Div(x,w)",   "y=Mod(x,w)",  "y=Mod(x,w) fmod=1",
                                        "y=Min(x,w)",   "y=Max(x,w)",  "y=BitwiseAnd(x,w)",
                                        "y=Equal(x,w)", "y=Less(x,w)", "y=LessOrEqual(x,w)"};
    static numbers_of x;
    static numbers_of w;
    const kind truth = {KILN_DTYPE_BOOL, 8, false};
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(kinds) * KLN_ARRAY_LENGTH(nodes) * 3; k++) {
        const kind *of = &kinds[k / 3 % KLN_ARRAY_LENGTH(kinds)];
        const size_t which = k / 3 / KLN_ARRAY_LENGTH(kinds);
        const kind *out = which < 9 ? of : &truth;
        const bool one[2] = {k % 3 == 1, k % 3 == 2};
        const int64_t rows = 1 + draw(5);
        const int64_t columns = 1 + draw(400);
        kiln_tensor y;
        fill(&x, of, one[0] ? 1 : rows, one[0] ? 1 : columns);
        fill(&w, of, one[1] ? 1 : rows, one[1] ? 1 : columns);
        owned_context context = run(nodes[which], &x, &w, out->dtype, &y);
        for (int64_t i = 0; i < rows * columns; i++) {
            expect(nodes[which], of, out, &y, i,
                   pair(which, of, element(of, x.bytes, one[0] ? 0 : i),
                        element(of, w.bytes, one[1] ? 0 : i)));
        }
    }
}

/* About `middle`, some of them about 0. */
static void fill_about(numbers_of *x, const kind *of, int64_t rows, uint64_t middle, bool some)
{
    fill(x, of, rows, 300);
    for (int64_t i = 0; i < rows * 300; i++) {
        x->bytes[i] = (some && draw(3) == 0 ? 0 : middle) + (uint64_t)(draw(9) - 4);
    }
}

TEST(numbers_of_64_bits_past_those_of_doubles)
{
    static const char *const nodes[] = {"y=Div(x,w)", "y=Mod(x,w)", "y=Mod(x,w) fmod=1"};
    static const unsigned places[] = {0, 20, 50, 51, 52, 53, 62, 63};
    static numbers_of x;
    static numbers_of w;
    kiln_tensor y;
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(places) * 4; k++) {
        const kind *of = &kinds[6 + k % 2];
        const uint64_t end = UINT64_C(1) << places[k / 4];
        const uint64_t middle = k % 4 < 2 ? end : 0 - end;
        for (size_t i = 0; i < KLN_ARRAY_LENGTH(nodes); i++) {
            fill_about(&x, of, 2, middle, true);
            fill_about(&w, of, 2, draw(2) == 0 ? middle : end >> 20, true);
            owned_context context = run(nodes[i], &x, &w, of->dtype, &y);
            for (int64_t j = 0; j < 600; j++) {
                expect(nodes[i], of, of, &y, j, pair(3 + i, of, x.bytes[j], w.bytes[j]));
            }
        }
        fill_about(&x, of, 8, middle / 8, false);
        owned_context context = run("axes={0}; y=ReduceMean(x,axes)", &x, NULL, of->dtype, &y);
        for (int64_t j = 0; j < 300; j++) {
            expect("the mean", of, of, &y, j, reduce(MEAN, of, x.bytes, j, 300, 8));
        }
    }
}

/* --- one by one --- */

TEST(casts_wrap)
{
    static numbers_of x;
    const size_t count = KLN_ARRAY_LENGTH(kinds);
    for (size_t k = 0; k < count * count; k++) {
        const kind *of = &kinds[k / count];
        const kind *out = &kinds[k % count];
        char text[100];
        kiln_tensor y;
        fill(&x, of, 1 + draw(4), 1 + draw(3000));
        (void)snprintf(text, sizeof text, "y=Cast(x) to=%d", (int)kln_onnx_wire_dtype(out->dtype));
        owned_context context = run(text, &x, NULL, out->dtype, &y);
        for (int64_t i = 0; i < x.rows * x.columns; i++) {
            expect(text, of, out, &y, i, element(of, x.bytes, i));
        }
    }
}

/* Limits are clipped to as they are; without elements there is nothing to look at. */
TEST(clips_and_choices)
{
    static numbers_of x;
    static numbers_of w;
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(kinds) * 2; k++) {
        const kind *of = &kinds[k / 2];
        char text[200];
        kiln_tensor y;
        fill(&x, of, k % 2 != 0 ? 0 : 1 + draw(4), 1 + draw(700));
        fill(&w, of, x.rows, x.columns);
        const char *name = kiln_dtype_name(of->dtype);
        (void)snprintf(text, sizeof text,
                       "const low %s[1]={1}; const high %s[1]={3}; y=Clip(x,low,high)", name, name);
        owned_context clipped = run(text, &x, NULL, of->dtype, &y);
        for (int64_t i = 0; i < x.rows * x.columns; i++) {
            const uint64_t v = element(of, x.bytes, i);
            expect("Clip", of, of, &y, i, less(of, v, 1) ? 1 : less(of, 3, v) ? 3 : v);
        }
        owned_context chosen = run("yes=Less(x,w); y=Where(yes,w,x)", &x, &w, of->dtype, &y);
        for (int64_t i = 0; i < x.rows * x.columns; i++) {
            const uint64_t a = element(of, x.bytes, i);
            const uint64_t b = element(of, w.bytes, i);
            expect("Where", of, of, &y, i, less(of, a, b) ? b : a);
        }
    }
}
