/* SPDX-License-Identifier: Apache-2.0 */
/* Stockham's fast Fourier transform, by the factors of n: each stage reads rows of `side` numbers,
 * `length` rows apart, and writes its results in the order that the next one needs. If n has a
 * large prime factor, the transform is a convolution (L. Bluestein, "A linear filtering approach to
 * the computation of discrete Fourier transform", 1970), computed by transforms of a power of 2. */
#include "ref_fourier.h"

typedef struct stage {
    int64_t radix, length, side;
    int64_t turn; /* the stage rotates by powers of this one of the n-th roots */
} stage;

/* The radix of the next stage, for `n` points. */
static int64_t next_radix(int64_t n)
{
    if (n % 4 == 0) {
        return 4;
    }
    int64_t p = 2;
    while (n % p != 0) {
        p = p * p < n ? p + 1 : n;
    }
    return p;
}

/* Whether n factors into stages with few enough operations. */
static bool has_small_factors(int64_t n)
{
    for (int64_t left = n; left > 1; left /= next_radix(left)) {
        if (next_radix(left) > 31) {
            return false;
        }
    }
    return true;
}

/* The number of points of the stages: n or, with Bluestein's method, that of the convolution. */
static int64_t stage_points(int64_t n)
{
    int64_t m = 1;
    while (m < 2 * n - 1) {
        m *= 2;
    }
    return has_small_factors(n) ? n : m;
}

/* Doubles of padding between numbers that are read together at a distance of a power of 2, so that
 * they fall into different cache sets. */
#define APART 40

int64_t ref_fourier_room(int64_t n, int64_t beside)
{
    const int64_t m = stage_points(n);
    return 2 * m + 4 * (m * beside + APART) + (m != n ? 2 * (n + m) : 0);
}

/* e^(-2 pi i k / n), computed from an angle of at most an eighth of a turn, where rounding changes
 * it by less than 2^-53. */
static void find_root(int64_t k, int64_t n, double *c, double *s)
{
    const bool below = 2 * k <= n;
    int64_t at = 8 * (below ? k : n - k); /* in units of 1 / (8 n) */
    const bool left = at > 2 * n;
    at = left ? 4 * n - at : at;
    const bool upright = at > n;
    at = upright ? 2 * n - at : at;
    const double angle = 0x1.921fb54442d18p-1 * ((double)at / (double)n);
    const double first = cos(angle);
    const double second = sin(angle);
    *c = (left ? -1.0 : 1.0) * (upright ? second : first);
    *s = (below ? -1.0 : 1.0) * (upright ? first : second);
}

/* The n-th roots of unity, each computed once. */
static void make_roots(int64_t n, double *c, double *s)
{
    for (int64_t k = 0; k < n; k++) {
        if (2 * k > n) {
            c[k] = c[n - k];
            s[k] = -s[n - k];
        } else if (4 * k > n && n % 2 == 0) {
            c[k] = -c[n / 2 - k];
            s[k] = s[n / 2 - k];
        } else if (8 * k > n && n % 4 == 0) {
            c[k] = -s[n / 4 - k];
            s[k] = -c[n / 4 - k];
        } else {
            find_root(k, n, &c[k], &s[k]);
        }
    }
}

static inline void add_turned(int64_t side, double c, double s, const double *restrict re,
                              const double *restrict im, bool first, double *restrict to_re,
                              double *restrict to_im)
{
    for (int64_t k = 0; k < side; k++) {
        to_re[k] = (first ? 0.0 : to_re[k]) + (re[k] * c - im[k] * s);
        to_im[k] = (first ? 0.0 : to_im[k]) + (re[k] * s + im[k] * c);
    }
}

/* A stage of any radix. */
REF_WIDE static void run_stage(const ref_fourier *f, const stage *g, ref_points x, ref_points y)
{
    const int64_t part = f->m / g->radix;
    for (int64_t j = 0; j < g->length; j++) {
        for (int64_t r = 0; r < g->radix; r++) {
            const int64_t to = (j * g->radix + r) * g->side;
            int64_t root = j * r * g->turn;
            for (int64_t q = 0; q < g->radix; q++) {
                const int64_t from = (q * g->length + j) * g->side;
                add_turned(g->side, f->roots[root], f->roots[f->m + root], x.re + from, x.im + from,
                           q == 0, y.re + to, y.im + to);
                root += r * part;
                root -= root >= f->m ? f->m : 0;
            }
        }
    }
}

/* Combines four rows `far` apart, rotated by 0, 1, 2 and 3 times an angle with cosines `c` and
 * sines `s`. */
static inline void add_four(int64_t side, int64_t far, const double c[4], const double s[4],
                            const double *restrict re, const double *restrict im,
                            double *restrict to_re, double *restrict to_im)
{
    const double c1 = c[1];
    const double c2 = c[2];
    const double c3 = c[3];
    const double s1 = s[1];
    const double s2 = s[2];
    const double s3 = s[3];
    KLN_INDEPENDENT
    for (int64_t k = 0; k < side; k++) {
        const double a_re = re[k] + re[k + 2 * far];
        const double a_im = im[k] + im[k + 2 * far];
        const double b_re = re[k] - re[k + 2 * far];
        const double b_im = im[k] - im[k + 2 * far];
        const double c_re = re[k + far] + re[k + 3 * far];
        const double c_im = im[k + far] + im[k + 3 * far];
        const double d_re = im[k + far] - im[k + 3 * far];
        const double d_im = re[k + 3 * far] - re[k + far];
        to_re[k] = a_re + c_re;
        to_im[k] = a_im + c_im;
        to_re[k + side] = (b_re + d_re) * c1 - (b_im + d_im) * s1;
        to_im[k + side] = (b_re + d_re) * s1 + (b_im + d_im) * c1;
        to_re[k + 2 * side] = (a_re - c_re) * c2 - (a_im - c_im) * s2;
        to_im[k + 2 * side] = (a_re - c_re) * s2 + (a_im - c_im) * c2;
        to_re[k + 3 * side] = (b_re - d_re) * c3 - (b_im - d_im) * s3;
        to_im[k + 3 * side] = (b_re - d_re) * s3 + (b_im - d_im) * c3;
    }
}

/* A stage of radix 4, whose roots are 1, i, -1 and -i. */
REF_WIDE static void run_four(const ref_fourier *f, const stage *g, ref_points x, ref_points y)
{
    for (int64_t j = 0; j < g->length; j++) {
        double c[4];
        double s[4];
        for (int64_t r = 0; r < 4; r++) {
            c[r] = f->roots[r * j * g->turn];
            s[r] = f->roots[f->m + r * j * g->turn];
        }
        const int64_t from = j * g->side;
        add_four(g->side, g->length * g->side, c, s, x.re + from, x.im + from, y.re + 4 * from,
                 y.im + 4 * from);
    }
}

/* Runs the stages of m points, starting from `x`; f->room[kept] is first written by the second
 * stage. */
static ref_points run_stages(const ref_fourier *f, ref_points x, int kept)
{
    stage g = {.side = f->beside, .turn = 1};
    int to = 1 - kept;
    for (int64_t left = f->m; left > 1; left = g.length) {
        g.radix = next_radix(left);
        g.length = left / g.radix;
        (g.radix == 4 ? run_four : run_stage)(f, &g, x, f->room[to]);
        x = f->room[to];
        to = 1 - to;
        g.side *= g.radix;
        g.turn *= g.radix;
    }
    return x;
}

/* to = from * (c + i s), with a factor for each of `count` points. */
REF_WIDE static void turn_points(int64_t count, int64_t beside, const double *c, const double *s,
                                 ref_points from, ref_points to)
{
    for (int64_t j = 0; j < count; j++) {
        KLN_INDEPENDENT
        for (int64_t k = j * beside; k < (j + 1) * beside; k++) {
            const double re = from.re[k];
            const double im = from.im[k];
            to.re[k] = re * c[j] - im * s[j];
            to.im[k] = re * s[j] + im * c[j];
        }
    }
}

/* The factors of the convolution: e^(-pi i j^2 / n), and the transform of their conjugates. */
static void make_chirp(ref_fourier *f)
{
    double *c = f->chirp;
    double *s = f->chirp + f->n;
    const int64_t beside = f->beside;
    const ref_points h = f->room[1];
    memset(h.re, 0, (size_t)f->m * sizeof *h.re);
    memset(h.im, 0, (size_t)f->m * sizeof *h.im);
    const double half =
        f->n % 2 == 0 ? 1.0 : -1.0; /* (n - j)^2 is j^2 modulo 2n, plus n if n is odd */
    for (int64_t j = 0, square = 0; j < f->n; j++) {
        if (2 * j <= f->n) {
            find_root(square, 2 * f->n, &c[j], &s[j]);
        } else {
            c[j] = half * c[f->n - j];
            s[j] = half * s[f->n - j];
        }
        h.re[j] = h.re[j > 0 ? f->m - j : 0] = c[j];
        h.im[j] = h.im[j > 0 ? f->m - j : 0] = -s[j];
        square = (square + 2 * j + 1) % (2 * f->n);
    }
    f->beside = 1;
    const ref_points found = run_stages(f, h, 1);
    f->beside = beside;
    for (int64_t j = 0; j < f->m; j++) {
        f->spectrum[j] = found.re[j] / (double)f->m;
        f->spectrum[f->m + j] = found.im[j] / (double)f->m;
    }
}

void ref_fourier_make(ref_fourier *f, int64_t n, int64_t beside, double *room)
{
    *f = (ref_fourier){.n = n, .m = stage_points(n), .beside = beside};
    for (int i = 0; i < 2; i++) { /* first, so that contiguous rows fill whole cache lines */
        f->room[i] = (ref_points){room, room + f->m * beside + APART};
        room += 2 * (f->m * beside + APART);
    }
    f->roots = room;
    make_roots(f->m, f->roots, f->roots + f->m);
    if (f->m != n) {
        f->chirp = room + 2 * f->m;
        f->spectrum = f->chirp + 2 * n;
        make_chirp(f);
    }
}

static ref_points swapped(ref_points x)
{
    return (ref_points){x.im, x.re};
}

static ref_points convolve(const ref_fourier *f, ref_points x)
{
    const size_t rest = (size_t)((f->m - f->n) * f->beside) * sizeof *x.re;
    ref_points a = f->room[1];
    turn_points(f->n, f->beside, f->chirp, f->chirp + f->n, x, a);
    memset(a.re + f->n * f->beside, 0, rest);
    memset(a.im + f->n * f->beside, 0, rest);
    a = run_stages(f, a, 1);
    turn_points(f->m, f->beside, f->spectrum, f->spectrum + f->m, a, a);
    /* Swapping real and imaginary parts before and after makes it the inverse transform. */
    a = swapped(run_stages(f, swapped(a), a.re == f->room[1].re ? 1 : 0));
    turn_points(f->n, f->beside, f->chirp, f->chirp + f->n, a, a);
    return a;
}

ref_points ref_fourier_transform(const ref_fourier *f, ref_points x)
{
    return f->m == f->n ? run_stages(f, x, 1) : convolve(f, x);
}
