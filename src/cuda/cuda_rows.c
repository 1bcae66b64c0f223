/* SPDX-License-Identifier: Apache-2.0 */
/* Copies blocks of memory whose rows are not contiguous, many blocks in one kernel launch. */
#include "cuda_driver.h"

#define BLOCKS 32
#define THREADS 256
#define MOST_UNITS UINT64_C(0x7fffffff)

/* The layout that the kernel expects: `units` threads copy 1 << `shift` bytes each, `per_row` of
 * them a row. */
typedef struct segment {
    uint64_t to, from;
    uint64_t to_step, from_step;
    uint32_t per_row;
    uint32_t units;
    uint32_t shift;
    uint32_t unused;
} segment;

typedef struct parameters {
    segment segments[BLOCKS];
} parameters;

_Static_assert(sizeof(segment) == 48 && sizeof(parameters) == 1536, "the kernel has these numbers");

static const char text[] =
    ".version 6.0\n"
    ".target sm_50\n"
    ".address_size 64\n"
    "\n"
    ".visible .entry kiln_rows(.param .align 8 .b8 segments[1536])\n"
    "{\n"
    "    .reg .pred %p;\n"
    "    .reg .b32 %block, %thread, %units, %blocks, %index, %per_row, %row, %column, %shift, "
    "%v<4>;\n"
    "    .reg .b16 %byte;\n"
    "    .reg .b64 %segment, %to, %from, %step, %offset, %wide;\n"
    "\n"
    "    mov.u32 %block, %ctaid.x;\n"
    "    mov.u32 %thread, %tid.x;\n"
    "    mov.b64 %segment, segments;\n"
    "NEXT:\n"
    "    ld.param.u32 %units, [%segment+36];\n"
    "    add.u32 %blocks, %units, 255;\n"
    "    shr.u32 %blocks, %blocks, 8;\n"
    "    setp.lt.u32 %p, %block, %blocks;\n"
    "    @%p bra FOUND;\n"
    "    sub.u32 %block, %block, %blocks;\n"
    "    add.u64 %segment, %segment, 48;\n"
    "    bra NEXT;\n"
    "FOUND:\n"
    "    shl.b32 %index, %block, 8;\n"
    "    add.u32 %index, %index, %thread;\n"
    "    setp.ge.u32 %p, %index, %units;\n"
    "    @%p bra DONE;\n"
    "    ld.param.u32 %per_row, [%segment+32];\n"
    "    div.u32 %row, %index, %per_row;\n"
    "    mul.lo.u32 %column, %row, %per_row;\n"
    "    sub.u32 %column, %index, %column;\n"
    "    ld.param.u32 %shift, [%segment+40];\n"
    "    cvt.u64.u32 %offset, %column;\n"
    "    shl.b64 %offset, %offset, %shift;\n"
    "    cvt.u64.u32 %wide, %row;\n"
    "    ld.param.u64 %to, [%segment];\n"
    "    ld.param.u64 %step, [%segment+16];\n"
    "    cvta.to.global.u64 %to, %to;\n"
    "    mad.lo.u64 %to, %wide, %step, %to;\n"
    "    add.u64 %to, %to, %offset;\n"
    "    ld.param.u64 %from, [%segment+8];\n"
    "    ld.param.u64 %step, [%segment+24];\n"
    "    cvta.to.global.u64 %from, %from;\n"
    "    mad.lo.u64 %from, %wide, %step, %from;\n"
    "    add.u64 %from, %from, %offset;\n"
    "    setp.eq.u32 %p, %shift, 0;\n"
    "    @%p bra BYTES;\n"
    "    ld.global.v4.u32 {%v0, %v1, %v2, %v3}, [%from];\n"
    "    st.global.v4.u32 [%to], {%v0, %v1, %v2, %v3};\n"
    "    bra DONE;\n"
    "BYTES:\n"
    "    ld.global.u8 %byte, [%from];\n"
    "    st.global.u8 [%to], %byte;\n"
    "DONE:\n"
    "    ret;\n"
    "}\n";

static const cuda_kernel copies_rows = {CUDA_KERNEL_ROWS, "kiln_rows", text, "copies", "copying"};

static kiln_status make_segment(const kln_cuda_rows *block, segment *made)
{
    const uint64_t to = cuda_address(block->to);
    const uint64_t from = cuda_address(block->from);
    const bool aligned = (to | from | block->to_step | block->from_step | block->bytes) % 16 == 0;
    const uint32_t shift = aligned ? 4 : 0;
    const uint64_t per_row = block->bytes >> shift;
    KLN_RETURN_IF(per_row != 0 && block->count > MOST_UNITS / per_row, KILN_ERROR_SIZE,
                  "copying %zu rows of %zu bytes: more than one launch of a kernel can copy",
                  block->count, block->bytes);
    *made = (segment){to,
                      from,
                      block->to_step,
                      block->from_step,
                      (uint32_t)per_row,
                      (uint32_t)(per_row * block->count),
                      shift,
                      0};
    return KILN_OK;
}

/* One launch for up to BLOCKS segments: they fill at most 2^28 thread blocks, well within a grid's
 * limit. */
static kiln_status copy_by_kernel(kiln_stream *stream, const kln_cuda_rows *blocks, size_t count)
{
    for (size_t i = 0; i < count;) {
        parameters given = {.segments = {{0}}};
        uint64_t grid = 0;
        for (size_t used = 0; used < BLOCKS && i < count; i++) {
            KLN_RETURN_IF_ERROR(make_segment(&blocks[i], &given.segments[used]));
            grid += ((uint64_t)given.segments[used].units + THREADS - 1) / THREADS;
            used += given.segments[used].units != 0;
        }
        if (grid != 0) {
            void *arguments[] = {&given};
            KLN_RETURN_IF_ERROR(cuda_launch(stream, &copies_rows, grid, THREADS, arguments));
        }
    }
    return KILN_OK;
}

static kiln_status copy_by_rows(kiln_stream *stream, const kln_cuda_rows *block)
{
    for (size_t i = 0; block->bytes != 0 && i < block->count; i++) {
        KLN_RETURN_IF_ERROR(kln_cuda_copy(
            stream->device, (unsigned char *)block->to + i * block->to_step,
            (const unsigned char *)block->from + i * block->from_step, block->bytes, stream));
    }
    return KILN_OK;
}

kiln_status kln_cuda_copy_rows(kiln_stream *stream, const kln_cuda_rows *blocks, size_t count)
{
    if (!cuda_has_kernels()) {
        for (size_t i = 0; i < count; i++) {
            KLN_RETURN_IF_ERROR(copy_by_rows(stream, &blocks[i]));
        }
        return KILN_OK;
    }
    return copy_by_kernel(stream, blocks, count);
}
