/* SPDX-License-Identifier: Apache-2.0 */
/* Copies many tensors in one kernel launch. Each copy by the driver costs microseconds before its
 * first byte moves; a kernel that reads pinned memory over the bus pays that once for all. */
#include "cuda_driver.h"

#define THREADS 256
#define LARGEST_GRID UINT64_C(0x7fffffff)

/* The layout that the kernel expects: the first `vectors` threads of a segment copy 16 bytes each,
 * the rest up to `units` one byte each. */
typedef struct segment {
    uint64_t to;
    uint64_t from;
    uint64_t vectors;
    uint64_t units;
} segment;

typedef struct parameters {
    segment segments[KLN_CUDA_PIECES];
} parameters;

_Static_assert(sizeof(segment) == 32 && sizeof(parameters) == 512, "the kernel has these numbers");

/* Each segment has as many blocks as its units fill, and a block first finds its segment. Every
 * thread starts with one access, of 16 bytes where it can, so that as many as the device can hold
 * are in flight on the bus. PTX 6.0 is older than every driver that Kiln accepts, and a driver
 * compiles sm_50 for all later devices. */
static const char text[] =
    ".version 6.0\n"
    ".target sm_50\n"
    ".address_size 64\n"
    "\n"
    ".visible .entry kiln_gather(.param .align 8 .b8 segments[512])\n"
    "{\n"
    "    .reg .pred %p;\n"
    "    .reg .b32 %block32, %thread32, %v<4>;\n"
    "    .reg .b16 %byte;\n"
    "    .reg .b64 %block, %blocks, %segment, %to, %from, %vectors, %units, %index, %offset;\n"
    "\n"
    "    mov.u32 %block32, %ctaid.x;\n"
    "    mov.u32 %thread32, %tid.x;\n"
    "    cvt.u64.u32 %block, %block32;\n"
    "    mov.b64 %segment, segments;\n"
    "NEXT:\n"
    "    ld.param.u64 %units, [%segment+24];\n"
    "    add.u64 %blocks, %units, 255;\n"
    "    shr.u64 %blocks, %blocks, 8;\n"
    "    setp.lt.u64 %p, %block, %blocks;\n"
    "    @%p bra FOUND;\n"
    "    sub.u64 %block, %block, %blocks;\n"
    "    add.u64 %segment, %segment, 32;\n"
    "    bra NEXT;\n"
    "FOUND:\n"
    "    shl.b64 %index, %block, 8;\n"
    "    cvt.u64.u32 %offset, %thread32;\n"
    "    add.u64 %index, %index, %offset;\n"
    "    setp.ge.u64 %p, %index, %units;\n"
    "    @%p bra DONE;\n"
    "    ld.param.u64 %to, [%segment];\n"
    "    ld.param.u64 %from, [%segment+8];\n"
    "    ld.param.u64 %vectors, [%segment+16];\n"
    "    cvta.to.global.u64 %to, %to;\n"
    "    cvta.to.global.u64 %from, %from;\n"
    "    setp.ge.u64 %p, %index, %vectors;\n"
    "    @%p bra BYTES;\n"
    "    shl.b64 %offset, %index, 4;\n"
    "    add.u64 %from, %from, %offset;\n"
    "    add.u64 %to, %to, %offset;\n"
    "    ld.global.v4.u32 {%v0, %v1, %v2, %v3}, [%from];\n"
    "    st.global.v4.u32 [%to], {%v0, %v1, %v2, %v3};\n"
    "    bra DONE;\n"
    "BYTES:\n"
    "    mad.lo.u64 %offset, %vectors, 15, %index;\n"
    "    add.u64 %from, %from, %offset;\n"
    "    add.u64 %to, %to, %offset;\n"
    "    ld.global.u8 %byte, [%from];\n"
    "    st.global.u8 [%to], %byte;\n"
    "DONE:\n"
    "    ret;\n"
    "}\n";

static const cuda_kernel gathers = {CUDA_KERNEL_GATHER, "kiln_gather", text, "copies", "copying"};

/* Fills in the kernel's parameters and counts the blocks to launch. */
static kiln_status lay_out(const kln_cuda_piece *pieces, size_t count,
                           parameters *kernel_parameters, uint64_t *blocks)
{
    size_t used = 0;
    *blocks = 0;
    for (size_t i = 0; i < count; i++) {
        const kln_cuda_piece *piece = &pieces[i];
        if (piece->bytes == 0) {
            continue;
        }
        const uint64_t to = cuda_address(piece->to);
        const uint64_t from = cuda_address(piece->from);
        const uint64_t vectors = (to | from) % 16 == 0 ? piece->bytes / 16 : 0;
        const uint64_t units = piece->bytes - vectors * 15;
        const uint64_t needed = units / THREADS + (units % THREADS != 0);
        KLN_RETURN_IF(needed > LARGEST_GRID - *blocks, KILN_ERROR_SIZE,
                      "copies by a kernel: piece %zu of %zu has %zu bytes, more than one "
                      "launch can copy: copy it by itself",
                      i, count, piece->bytes);
        *blocks += needed;
        kernel_parameters->segments[used++] = (segment){to, from, vectors, units};
    }
    return KILN_OK;
}

kiln_status kln_cuda_gather(kiln_stream *stream, const kln_cuda_piece *pieces, size_t count)
{
    parameters kernel_parameters = {.segments = {{0}}};
    uint64_t blocks = 0;
    KLN_RETURN_IF(count > KLN_CUDA_PIECES, KILN_ERROR_SIZE,
                  "copies by a kernel: %zu pieces were given, one launch takes %d", count,
                  KLN_CUDA_PIECES);
    KLN_RETURN_IF_ERROR(lay_out(pieces, count, &kernel_parameters, &blocks));
    if (blocks == 0) {
        return KILN_OK;
    }
    void *arguments[] = {&kernel_parameters};
    return cuda_launch(stream, &gathers, blocks, THREADS, arguments);
}
