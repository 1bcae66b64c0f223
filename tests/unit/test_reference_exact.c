/* SPDX-License-Identifier: Apache-2.0 */
/* Products of the reference executor, to the bit: each is what a sum from its first product to its
 * last gives, in double, rounded once, however many are taken side by side. */
#include "backends/reference/ref_product.h"
#include "drawn_test.h"
#include "graph_maker.h"

typedef struct feed {
    const char *name;
    const float *data;
    int rank;
    int64_t dims[5];
} feed;

/* Runs the maker's network, whose inputs are declared of open rank, and gives output "y". */
static kiln_context *run(graph_maker *m, const feed *feeds, size_t count, kiln_tensor *y)
{
    assert_ok(m->status);
    const kiln_span bytes = maker_span(m->model);
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
    owned_engine engine = built_bytes(bytes, &options);
    kiln_context *context = context_on(engine);
    for (size_t i = 0; i < count; i++) {
        kiln_shape shape = {.rank = feeds[i].rank};
        size_t size = sizeof(float);
        for (int k = 0; k < feeds[i].rank; k++) {
            shape.dims[k] = feeds[i].dims[k];
            size *= (size_t)feeds[i].dims[k];
        }
        void *data = (void *)(uintptr_t)feeds[i].data;
        assert_ok(kiln_context_bind(context, feeds[i].name,
                                    &KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, shape, data, size)));
    }
    assert_ok(kiln_context_run(context));
    assert_ok(kiln_context_tensor(context, "y", y));
    maker_end(m);
    return context;
}

/* --- products of matrices --- */

static void multiply_once(int64_t rows, int64_t inner, int64_t columns, bool a_flip, bool b_flip,
                          int strange)
{
    graph_maker m;
    float *a = numbers(rows * inner, strange);
    float *b = numbers(inner * columns, strange);
    double *expected = calloc((size_t)(rows * columns) + 1, sizeof *expected);
    assert_non_null(expected);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < columns; c++) {
            double sum = 0.0;
            for (int64_t k = 0; k < inner; k++) {
                sum += (double)a[a_flip ? k * rows + r : r * inner + k] *
                       (double)b[b_flip ? c * inner + k : k * columns + c];
            }
            expected[r * columns + c] = sum;
        }
    }
    const bool plain = !a_flip && !b_flip && draw(2) == 0;
    const feed feeds[2] = {{"a", a, 2, {a_flip ? inner : rows, a_flip ? rows : inner}},
                           {"b", b, 2, {b_flip ? columns : inner, b_flip ? inner : columns}}};
    maker_model(&m, 17, "in a float32[ar,ac]; in b float32[br,bc]");
    maker_node(&m, plain ? "MatMul" : "Gemm", "a,b", "y");
    if (!plain) {
        maker_attribute_int(&m, "transA", a_flip);
        maker_attribute_int(&m, "transB", b_flip);
    }
    maker_output(&m, "y", 1, "yr,yc");
    kiln_tensor y;
    owned_context context = run(&m, feeds, 2, &y);
    expect_bits("a product", rows * columns, expected, y.data);
    free(expected);
    free(a);
    free(b);
}

TEST(products_are_exact)
{
    for (int i = 0; i < 160; i++) {
        const int64_t inner = i % 16 == 0  ? 600 + draw(900)
                              : i % 5 == 0 ? 100 + draw(200)
                                           : draw(40);
        multiply_once(1 + draw(9), inner, 1 + draw(i % 3 == 0 ? 150 : 60), draw(2) != 0,
                      draw(2) != 0, i % 4 == 0 ? 20 : 0);
    }
}

/* Each machine has some of them, and takes the widest. */
TEST(kernels_are_alike)
{
    enum { DEPTH = 37 };
    /* Where the numbers are floats, those for exact products give the same too. */
    ref_sum_function kernels[2 * REF_SUM_KERNELS];
    const size_t any = ref_sum_kernels(false, kernels);
    const size_t all = any + ref_sum_kernels(true, kernels + any);
    double a[REF_ROWS * DEPTH * 2];
    double panel[DEPTH * REF_SIDE];
    double tiles[2 * REF_SUM_KERNELS][REF_ROWS * REF_SIDE];
    const double *rows[REF_ROWS];
    int64_t offsets[DEPTH];
    for (int round = 0; round < 400; round++) {
        const bool exact = round >= 200;
        const size_t count = exact ? all : any;
        const int width = round % 3 == 0 ? REF_SIDE : (int)(1 + draw(REF_SIDE));
        for (size_t i = 0; i < KLN_ARRAY_LENGTH(a); i++) {
            const double value = (double)(draw(2000001) - 1000000) / 3.0;
            a[i] = exact ? (double)(float)value : value;
        }
        for (size_t i = 0; i < KLN_ARRAY_LENGTH(panel); i++) {
            const double value = (double)(draw(2000001) - 1000000) / 7.0;
            panel[i] = exact ? (double)(float)value : value;
        }
        for (int i = 0; i < DEPTH; i++) {
            offsets[i] = draw(DEPTH);
        }
        for (int r = 0; r < REF_ROWS; r++) {
            rows[r] = a + (ptrdiff_t)r * DEPTH;
        }
        for (size_t i = 0; i < count; i++) {
            for (size_t k = 0; k < KLN_ARRAY_LENGTH(tiles[i]); k++) {
                tiles[i][k] = (double)k / 11.0;
            }
            kernels[i](DEPTH, round % 2 == 0 ? NULL : offsets, rows, panel, width, tiles[i],
                       REF_SIDE, 1 + round % REF_ROWS);
            for (int r = 0; r < REF_ROWS; r++) {
                assert_memory_equal(tiles[0] + (size_t)r * REF_SIDE,
                                    tiles[i] + (size_t)r * REF_SIDE,
                                    (size_t)width * sizeof tiles[0][0]);
            }
        }
    }
}

/* --- convolutions --- */

typedef struct conv {
    int64_t batch, groups, channels, maps; /* channels and maps of a group */
    int64_t in[2], kernel[2], stride[2], dilation[2], begin[2], end[2], out[2];
} conv;

static conv draw_conv(void)
{
    conv c = {.batch = 1 + draw(2), .groups = 1 + draw(2), .channels = 1 + draw(5)};
    c.maps = draw(3) == 0 ? 1 + draw(4) : 8 + draw(20);
    for (int i = 0; i < 2; i++) {
        c.kernel[i] = 1 + draw(4);
        c.stride[i] = 1 + draw(3);
        c.dilation[i] = 1 + draw(2);
        c.begin[i] = draw(4);
        c.end[i] = draw(4);
        const int64_t reach = (c.kernel[i] - 1) * c.dilation[i] + 1;
        c.in[i] = reach + draw(9);
        c.out[i] = (c.in[i] + c.begin[i] + c.end[i] - reach) / c.stride[i] + 1;
    }
    return c;
}

static double convolve_one(const conv *c, const float *x, const float *w, double sum, int64_t oy,
                           int64_t ox)
{
    for (int64_t k = 0; k < c->channels * c->kernel[0] * c->kernel[1]; k++) {
        const int64_t ky = k / c->kernel[1] % c->kernel[0];
        const int64_t kx = k % c->kernel[1];
        const int64_t iy = oy * c->stride[0] - c->begin[0] + ky * c->dilation[0];
        const int64_t ix = ox * c->stride[1] - c->begin[1] + kx * c->dilation[1];
        if (iy >= 0 && iy < c->in[0] && ix >= 0 && ix < c->in[1]) {
            const int64_t channel = k / (c->kernel[0] * c->kernel[1]);
            sum += (double)w[k] * (double)x[(channel * c->in[0] + iy) * c->in[1] + ix];
        }
    }
    return sum;
}

static void convolve_once(const conv *c, int strange, int negative_zeros)
{
    graph_maker m;
    const int64_t maps = c->groups * c->maps;
    const int64_t volume = c->channels * c->kernel[0] * c->kernel[1];
    const int64_t size = c->in[0] * c->in[1];
    const int64_t out_size = c->out[0] * c->out[1];
    float *x = numbers(c->batch * c->groups * c->channels * size, strange);
    float *w = numbers(maps * volume, strange);
    float *bias = numbers(maps, 0);
    double *expected = calloc((size_t)(c->batch * maps * out_size), sizeof *expected);
    assert_non_null(expected);
    for (int64_t i = 0; i < maps && negative_zeros != 0; i++) {
        bias[i] = -0.0F;
    }
    for (int64_t i = 0; i < c->batch * maps * out_size; i++) {
        const int64_t map = i / out_size % maps;
        const int64_t group = i / out_size / c->maps; /* of all images */
        expected[i] = convolve_one(c, x + group * c->channels * size, w + map * volume,
                                   (double)bias[map], i % out_size / c->out[1], i % c->out[1]);
    }
    const feed feeds[3] = {{"x", x, 4, {c->batch, c->groups * c->channels, c->in[0], c->in[1]}},
                           {"w", w, 4, {maps, c->channels, c->kernel[0], c->kernel[1]}},
                           {"b", bias, 1, {maps}}};
    maker_model(&m, 17,
                "in x float32[n,c,h,w]; in w float32[m,d,k,l]; in b float32[m]; y=Conv(x,w,b)");
    maker_attribute_int(&m, "group", c->groups);
    maker_attribute_ints(&m, "strides", 2, c->stride);
    maker_attribute_ints(&m, "dilations", 2, c->dilation);
    maker_attribute_ints(&m, "pads", 4,
                         (int64_t[]){c->begin[0], c->begin[1], c->end[0], c->end[1]});
    maker_output(&m, "y", 1, "n,m,p,q");
    kiln_tensor y;
    owned_context context = run(&m, feeds, 3, &y);
    expect_bits("a convolution", c->batch * maps * out_size, expected, y.data);
    free(expected);
    free(bias);
    free(w);
    free(x);
}

TEST(convolutions_are_exact)
{
    for (int i = 0; i < 200; i++) {
        const conv c = draw_conv();
        convolve_once(&c, i % 4 == 0 ? 20 : 0, i % 3 == 0);
    }
}

/* --- Einsum --- */

/* Every place of the labels, the output's first and the last one fastest; a letter's dimension is
 * 2 and up by the letter. */
static void contract_once(const char *left, const char *right, const char *output)
{
    char labels[16] = "";
    int64_t place[16] = {0};
    int64_t sizes[2] = {1, 1};
    int64_t count = 1;
    (void)snprintf(labels, sizeof labels, "%s", output);
    for (int side = 0; side < 2; side++) {
        for (const char *c = side == 0 ? left : right; *c != '\0'; c++) {
            sizes[side] *= *c - 'a' + 2;
            if (strchr(labels, *c) == NULL) {
                labels[strlen(labels) + 1] = '\0';
                labels[strlen(labels)] = *c;
            }
        }
    }
    for (const char *c = output; *c != '\0'; c++) {
        count *= *c - 'a' + 2;
    }
    float *a = numbers(sizes[0], 5);
    float *b = numbers(sizes[1], 5);
    double *expected = calloc((size_t)count, sizeof *expected);
    assert_non_null(expected);
    const char *const terms[3] = {left, right, output};
    for (bool more = true; more;) {
        int64_t at[3] = {0, 0, 0};
        for (int side = 0; side < 3; side++) {
            for (const char *c = terms[side]; *c != '\0'; c++) {
                at[side] = at[side] * (*c - 'a' + 2) + place[strchr(labels, *c) - labels];
            }
        }
        expected[at[2]] += (double)a[at[0]] * (double)b[at[1]];
        more = false;
        for (size_t i = strlen(labels); i-- > 0 && !more;) {
            more = ++place[i] < labels[i] - 'a' + 2;
            place[i] = more ? place[i] : 0;
        }
    }
    feed feeds[2] = {{"a", a, 0, {0}}, {"b", b, 0, {0}}};
    char shapes[2][64] = {"", ""};
    for (int side = 0; side < 2; side++) {
        for (const char *c = terms[side]; *c != '\0'; c++) {
            feeds[side].dims[feeds[side].rank++] = *c - 'a' + 2;
            const size_t used = strlen(shapes[side]);
            (void)snprintf(shapes[side] + used, sizeof shapes[side] - used, "%s%d",
                           used > 0 ? "," : "", *c - 'a' + 2);
        }
    }
    char equation[64];
    (void)snprintf(equation, sizeof equation, "%s,%s->%s", left, right, output);
    graph_maker m;
    maker_begin(&m, 17);
    maker_input(&m, "a", 1, shapes[0]);
    maker_input(&m, "b", 1, shapes[1]);
    maker_node(&m, "Einsum", "a,b", "y");
    maker_attribute_string(&m, "equation", equation);
    maker_output(&m, "y", 1, NULL);
    kiln_tensor y;
    owned_context context = run(&m, feeds, 2, &y);
    expect_bits(equation, count, expected, y.data);
    free(expected);
    free(a);
    free(b);
}

TEST(contractions_are_exact)
{
    static const char *const equations[][3] = {
        {"ab", "bc", "ac"},       {"ab", "cb", "ac"},   {"ab", "cb", "ca"},   {"a", "b", "ab"},
        {"abcd", "abed", "abce"}, {"abz", "abz", "ab"}, {"ab", "b", "a"},     {"ab", "ab", ""},
        {"az", "zb", "ab"},       {"az", "z", "a"},     {"ab", "cd", "dcba"}, {"aab", "bz", "az"},
        {"zb", "zb", "zb"},       {"abc", "c", "ba"},   {"z", "zxy", "xy"},   {"abz", "acz", "bc"}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(equations); i++) {
        contract_once(equations[i][0], equations[i][1], equations[i][2]);
    }
}

/* --- conversions --- */

TEST(halves_are_exact)
{
    static uint16_t halves[65536 + 16];
    static double numbers_of[65536 + 16];
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(halves); i++) {
        halves[i] = (uint16_t)i;
    }
    ref_halves_load(halves, (int64_t)KLN_ARRAY_LENGTH(halves), numbers_of);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(halves); i++) {
        const double expected = (double)kln_float_from_half((uint16_t)i);
        assert_memory_equal(&expected, &numbers_of[i], sizeof expected);
    }
    for (int round = 0; round < 200; round++) {
        const int64_t n = draw(300);
        for (int64_t i = 0; i < n; i++) {
            double value = (double)kln_float_from_half((uint16_t)draw(65536));
            if (round % 2 == 0) { /* between two halves, and beside the middle */
                const double next = (double)kln_float_from_half((uint16_t)draw(65536));
                value = (value + next) / 2.0 * (1.0 + (double)(draw(3) - 1) * 0x1p-40);
            }
            numbers_of[i] = value;
        }
        ref_halves_store(numbers_of, n, halves);
        for (int64_t i = 0; i < n; i++) {
            assert_int_equal(kln_half_from_float(ref_narrow(numbers_of[i])), halves[i]);
        }
    }
}

static double quantized(float x, float scale, int zero, double low, double high)
{
    const float scaled = x / scale;
    if (isnan(scaled)) {
        return low;
    }
    const double down = floor((double)scaled);
    const double rest = (double)scaled - down;
    const bool up = rest > 0.5 || (rest == 0.5 && fmod(down, 2.0) != 0.0);
    const double value = isinf(scaled) ? (double)scaled : down + (up ? 1.0 : 0.0) + zero;
    return value < low ? low : value > high ? high : value;
}

/* One scale for each index of the middle dimension. */
TEST(quantized_elements_are_exact)
{
    for (int round = 0; round < 40; round++) {
        const bool is_signed = round % 2 != 0;
        const int64_t dims[3] = {1 + draw(4), 1 + draw(5), 1 + draw(90)};
        const int64_t count = dims[0] * dims[1] * dims[2];
        float *x = numbers(count, 50);
        float *scale = numbers(dims[1], 0);
        int64_t zero = is_signed ? draw(256) - 128 : draw(256);
        for (int64_t i = 0; i < dims[1]; i++) {
            scale[i] = draw(2) != 0 ? 0.0078125F : fabsf(scale[i]) / 64.0F + 1e-6F;
        }
        graph_maker m;
        maker_model(&m, 19, "in x float32[a,b,c]; in s float32[b]");
        maker_int(&m, "zero", zero);
        maker_node(&m, "Cast", "zero", "point");
        maker_attribute_int(&m, "to", is_signed ? 3 : 2);
        maker_text(&m,
                   "shape=Shape(s); points=Expand(point,shape); "
                   "q=QuantizeLinear(x,s,points) axis=1; y=Cast(q) to=1; out y float32");
        const feed feeds[2] = {{"x", x, 3, {dims[0], dims[1], dims[2]}},
                               {"s", scale, 1, {dims[1]}}};
        kiln_tensor y;
        kiln_context *context = run(&m, feeds, 2, &y);
        for (int64_t i = 0; i < count; i++) {
            const double expected = quantized(x[i], scale[i / dims[2] % dims[1]], (int)zero,
                                              is_signed ? -128 : 0, is_signed ? 127 : 255);
            assert_true((double)((const float *)y.data)[i] == expected);
        }
        kiln_context_destroy(context);
        free(scale);
        free(x);
    }
}

/* --- TopK --- */

TEST(the_first_are_those_of_a_sort)
{
    for (int round = 0; round < 60; round++) {
        const int64_t n = 1 + draw(100);
        const int64_t k = draw(3) == 0 ? draw(n + 1) : draw(n / 8 + 1);
        const bool largest = draw(2) != 0;
        float *x = numbers(n, 100);
        for (int64_t i = 0; i < n; i++) {
            x[i] = draw(2) != 0 ? x[i] : (float)draw(4); /* many are equal */
        }
        graph_maker m;
        maker_model(&m, 17, "in x float32[n]");
        maker_ints(&m, "k", 1, &k);
        maker_node(&m, "TopK", "x,k", "y,i");
        maker_attribute_int(&m, "largest", largest);
        maker_text(&m, "out y float32; out i int64");
        const feed given = {"x", x, 1, {n}};
        kiln_tensor y;
        kiln_context *context = run(&m, &given, 1, &y);
        const kiln_tensor places = tensor_in(context, "i");
        assert_int_equal(k, places.desc.shape.dims[0]);
        bool taken[128] = {false};
        for (int64_t j = 0; j < k; j++) {
            /* NaN is the largest; of equal ones the first comes first. */
            int64_t best = -1;
            for (int64_t i = 0; i < n; i++) {
                const bool above = best >= 0 && !taken[i] &&
                                   (largest ? (isnan(x[i]) ? !isnan(x[best]) : x[i] > x[best])
                                            : (isnan(x[best]) ? !isnan(x[i]) : x[i] < x[best]));
                best = !taken[i] && (best < 0 || above) ? i : best;
            }
            taken[best] = true;
            assert_int_equal(best, ((const int64_t *)places.data)[j]);
        }
        kiln_context_destroy(context);
        free(x);
    }
}
