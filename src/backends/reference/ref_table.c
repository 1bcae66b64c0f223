/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

/* The files with kernels, ref_<family>.c; each ends with the table of its operators. */
#define FAMILIES(ROW) \
    ROW(unary)        \
    ROW(binary)       \
    ROW(pow)          \
    ROW(clip)         \
    ROW(where)        \
    ROW(shape)        \
    ROW(move)         \
    ROW(gather)       \
    ROW(cast)         \
    ROW(reduce)       \
    ROW(arg)          \
    ROW(softmax)      \
    ROW(matmul)       \
    ROW(conv)         \
    ROW(pooling)      \
    ROW(norm)         \
    ROW(response)     \
    ROW(quantize)     \
    ROW(qlinear)      \
    ROW(bytes)        \
    ROW(fused)        \
    ROW(transformer)  \
    ROW(grouped)      \
    ROW(control)      \
    ROW(edges)        \
    ROW(sort)         \
    ROW(recurrent)    \
    ROW(transposed)   \
    ROW(deform)       \
    ROW(resize)       \
    ROW(einsum)       \
    ROW(spatial)      \
    ROW(attention)    \
    ROW(rotary)       \
    ROW(signal)       \
    ROW(loss)         \
    ROW(ngram)        \
    ROW(text)         \
    ROW(sequence)     \
    ROW(trees)

#define DECLARE(family) extern const ref_kernel ref_kernels_##family[];
FAMILIES(DECLARE)
#define LIST(family) ref_kernels_##family,
static const ref_kernel *const families[] = {FAMILIES(LIST)};

const ref_kernel *ref_kernel_get(size_t index)
{
    for (size_t f = 0; f < KLN_ARRAY_LENGTH(families); f++) {
        for (const ref_kernel *kernel = families[f]; kernel->op != NULL; kernel++) {
            if (index-- == 0) {
                return kernel;
            }
        }
    }
    return NULL;
}

size_t ref_kernel_count(void)
{
    size_t count = 0;
    while (ref_kernel_get(count) != NULL) {
        count++;
    }
    return count;
}

const ref_kernel *ref_kernel_find(const char *domain, const char *op)
{
    for (size_t f = 0; f < KLN_ARRAY_LENGTH(families); f++) {
        for (const ref_kernel *kernel = families[f]; kernel->op != NULL; kernel++) {
            if (kernel->op[0] == op[0] && strcmp(kernel->op, op) == 0 &&
                strcmp(kernel->domain, domain) == 0) {
                return kernel;
            }
        }
    }
    return NULL;
}
