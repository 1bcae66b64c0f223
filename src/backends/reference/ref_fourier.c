/* SPDX-License-Identifier: Apache-2.0 */
/* Stockham's form of the fast Fourier transform, by the factors of n: each stage reads rows of
 * `side` numbers `length` rows apart, and writes what it finds in the order of the next one. */
#include "ref_fourier.h"

typedef struct stage {
    int64_t radix, length, side;
    int64_t turn; /* the root by whose powers the stage turns, of the n-th roots */
} stage;

/* The radix of the next stage of `n` points. */
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

bool ref_fourier_pays(int64_t n)
{
    bool pays = true;
    for (int64_t left = n; left > 1; left /= next_radix(left)) {
        pays = pays && next_radix(left) < 32;
    }
    return pays;
}

/* Doubles between numbers that are read together, whose distance is a power of 2, so that they
 * fall into different sets of the cache. */
#define APART 40

int64_t ref_fourier_room(int64_t n, int64_t beside)
{
    return 2 * n + 4 * (n * beside + APART);
}

/* e^(2 pi i k / n) for `count` k from `begin` on. */
static void list_roots(double *cosines, double *sines, int64_t begin, int64_t count, double n)
{
    for (int64_t k = begin; k < begin + count; k++) {
        const double angle = 2.0 * 3.14159265358979323846 * (double)k / n;
        *cosines++ = cos(angle);
        *sines++ = sin(angle);
    }
}

/* The n-th roots of one: every `fine`th, times those before the first of them. Cosines and sines
 * of rounded angles lie within 2^-48.8 of the roots', products of two within 2^-47.3. */
static void make_roots(ref_fourier *f)
{
    int64_t fine = 1;
    while (fine * fine < f->n) {
        fine *= 2;
    }
    double *cosines = f->roots;
    double *sines = f->roots + f->n;
    list_roots(cosines, sines, 0, fine < f->n ? fine : f->n, (double)f->n);
    for (int64_t i = fine; i < f->n; i += fine) {
        double c = 0.0;
        double s = 0.0;
        list_roots(&c, &s, i, 1, (double)f->n);
        for (int64_t k = 0; k < fine && i + k < f->n; k++) {
            cosines[i + k] = c * cosines[k] - s * sines[k];
            sines[i + k] = s * cosines[k] + c * sines[k];
        }
    }
    for (int64_t k = 0; k < f->n && !f->inverse; k++) {
        sines[k] = -sines[k];
    }
}

void ref_fourier_make(ref_fourier *f, int64_t n, int64_t beside, bool inverse, double *room)
{
    *f = (ref_fourier){.n = n, .beside = beside, .inverse = inverse, .roots = room};
    room += 2 * n;
    for (int i = 0; i < 2; i++) {
        f->room[i] = (ref_points){room, room + n * beside + APART};
        room += 2 * (n * beside + APART);
    }
    make_roots(f);
    f->units = 40.0; /* other roots of one, and products by them */
    for (int64_t left = n; left > 1; left /= next_radix(left)) {
        f->units += 64.0 + (double)next_radix(left); /* roots, a product, and a sum */
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
    const int64_t part = f->n / g->radix;
    for (int64_t j = 0; j < g->length; j++) {
        for (int64_t r = 0; r < g->radix; r++) {
            const int64_t to = (j * g->radix + r) * g->side;
            int64_t root = j * r * g->turn;
            for (int64_t q = 0; q < g->radix; q++) {
                const int64_t from = (q * g->length + j) * g->side;
                add_turned(g->side, f->roots[root], f->roots[f->n + root], x.re + from, x.im + from,
                           q == 0, y.re + to, y.im + to);
                root += r * part;
                root -= root >= f->n ? f->n : 0;
            }
        }
    }
}

/* Four rows `far` apart, turned by 0, 1, 2 and 3 times an angle, whose cosines and sines are
 * `c` and `s`; `sign` times i is the fourth root of one. */
static inline void add_four(int64_t side, int64_t far, double sign, const double c[4],
                            const double s[4], const double *restrict re, const double *restrict im,
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
        const double d_re = sign * (im[k + 3 * far] - im[k + far]);
        const double d_im = sign * (re[k + far] - re[k + 3 * far]);
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

/* A stage of radix 4, whose own roots are 1, i, -1 and -i. */
REF_WIDE static void run_four(const ref_fourier *f, const stage *g, ref_points x, ref_points y)
{
    for (int64_t j = 0; j < g->length; j++) {
        double c[4];
        double s[4];
        for (int64_t r = 0; r < 4; r++) {
            c[r] = f->roots[r * j * g->turn];
            s[r] = f->roots[f->n + r * j * g->turn];
        }
        const int64_t from = j * g->side;
        add_four(g->side, g->length * g->side, f->inverse ? 1.0 : -1.0, c, s, x.re + from,
                 x.im + from, y.re + 4 * from, y.im + 4 * from);
    }
}

ref_points ref_fourier_transform(const ref_fourier *f, ref_points x)
{
    stage g = {.side = f->beside, .turn = 1};
    int to = 0;
    for (int64_t left = f->n; left > 1; left = g.length) {
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
