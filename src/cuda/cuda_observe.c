/* SPDX-License-Identifier: Apache-2.0 */
/* Computes on the device what a calibration needs of a tensor: the tensors of a batch take hundreds
 * of megabytes, the result a few kilobytes each. */
#include "cuda_driver.h"

#define THREADS 256
/* Enough blocks for every multiprocessor, but so few that clearing and summing up the table of each
 * block costs little. */
#define EACH_BLOCK 8192
#define MOST_BLOCKS 1024

#define HEAD ".version 6.0\n.target sm_50\n.address_size 64\n\n"

/* %index is the thread's first element, %step the distance to its next one. */
#define WALK                                     \
    "    ld.param.u64 %values, [values];\n"      \
    "    ld.param.u64 %count, [count];\n"        \
    "    ld.param.u64 %found, [found];\n"        \
    "    cvta.to.global.u64 %values, %values;\n" \
    "    cvta.to.global.u64 %found, %found;\n"   \
    "    mov.u32 %lane, %tid.x;\n"               \
    "    mov.u32 %t, %ctaid.x;\n"                \
    "    shl.b32 %t, %t, 8;\n"                   \
    "    add.u32 %t, %t, %lane;\n"               \
    "    cvt.u64.u32 %index, %t;\n"              \
    "    mov.u32 %t, %nctaid.x;\n"               \
    "    shl.b32 %t, %t, 8;\n"                   \
    "    cvt.u64.u32 %step, %t;\n"

/* Leaves the loop after the last element. */
#define NEXT_ELEMENT                        \
    "    setp.ge.u64 %p, %index, %count;\n" \
    "    @%p bra DONE;\n"                   \
    "    shl.b64 %at, %index, 2;\n"         \
    "    add.u64 %at, %values, %at;\n"      \
    "    ld.global.u32 %bits, [%at];\n"     \
    "    add.u64 %index, %index, %step;\n"  \
    "    and.b32 %magnitude, %bits, 0x7fffffff;\n"

/* Reduces a register over the 32 threads of a warp; every thread gets the result. */
#define FOLD_BY(operation, what, distance)           \
    "    shfl.sync.bfly.b32 %t, " what ", " distance \
    ", 0x1f, 0xffffffff;\n"                          \
    "    " operation " " what ", " what ", %t;\n"
#define FOLD(operation, what)      \
    FOLD_BY(operation, what, "16") \
    FOLD_BY(operation, what, "8")  \
    FOLD_BY(operation, what, "4") FOLD_BY(operation, what, "2") FOLD_BY(operation, what, "1")

/* Only one thread of each warp continues. */
#define ONE_OF_EACH_WARP           \
    "    and.b32 %t, %lane, 31;\n" \
    "    setp.ne.u32 %p, %t, 0;\n" \
    "    @%p bra END;\n"

/* Finite floats are compared as integers of the same order: the key of kln_cuda_bounds. */
static const char bounds_text[] = HEAD
    ".visible .entry kiln_bounds(.param .u64 values, .param .u64 count, .param .u64 found)\n"
    "{\n"
    "    .reg .pred %p, %odd;\n"
    "    .reg .b32 %lane, %t, %bits, %magnitude, %least, %greatest, %nans, %infinities;\n"
    "    .reg .b64 %values, %count, %found, %index, %step, %at;\n"
    "\n" WALK
    "    mov.u32 %least, 0x7fffffff;\n"
    "    mov.u32 %greatest, 0x80000000;\n"
    "    mov.u32 %nans, 0;\n"
    "    mov.u32 %infinities, 0;\n"
    "NEXT:\n" NEXT_ELEMENT
    "    setp.ge.u32 %odd, %magnitude, 0x7f800000;\n"
    "    @%odd bra ODD;\n"
    "    shr.s32 %t, %bits, 31;\n"
    "    and.b32 %t, %t, 0x7fffffff;\n"
    "    xor.b32 %bits, %bits, %t;\n"
    "    min.s32 %least, %least, %bits;\n"
    "    max.s32 %greatest, %greatest, %bits;\n"
    "    bra NEXT;\n"
    "ODD:\n"
    "    setp.gt.u32 %p, %magnitude, 0x7f800000;\n"
    "    @%p add.u32 %nans, %nans, 1;\n"
    "    @!%p add.u32 %infinities, %infinities, 1;\n"
    "    bra NEXT;\n"
    "DONE:\n" FOLD("min.s32", "%least") FOLD("max.s32", "%greatest") FOLD("add.u32", "%nans")
        FOLD("add.u32", "%infinities") ONE_OF_EACH_WARP
    "    red.global.min.s32 [%found], %least;\n"
    "    red.global.max.s32 [%found+4], %greatest;\n"
    "    red.global.add.u32 [%found+8], %nans;\n"
    "    red.global.add.u32 [%found+12], %infinities;\n"
    "END:\n"
    "    ret;\n"
    "}\n";

/* Each block counts in a table of its own and adds it to the tensor's at the end. Zeros, the bulk
 * of many tensors, are counted in registers. 0f44FFE000 is 2047. */
static const char bins_text[] = HEAD
    ".visible .entry kiln_bins(.param .u64 values, .param .u64 count, .param .f32 scale,\n"
    "                          .param .u64 found)\n"
    "{\n"
    "    .reg .pred %p;\n"
    "    .reg .b32 %lane, %t, %bits, %magnitude, %bin, %zeros, %table;\n"
    "    .reg .f32 %scale, %place;\n"
    "    .reg .b64 %values, %count, %found, %index, %step, %at;\n"
    "    .shared .align 4 .b8 table[16384];\n"
    "\n" WALK
    "    ld.param.f32 %scale, [scale];\n"
    "    mov.u32 %table, table;\n"
    "    mov.u32 %zeros, 0;\n"
    "    mov.u32 %bin, %lane;\n"
    "CLEAR:\n"
    "    shl.b32 %t, %bin, 2;\n"
    "    add.u32 %t, %table, %t;\n"
    "    st.shared.u32 [%t], 0;\n"
    "    add.u32 %bin, %bin, 256;\n"
    "    setp.lt.u32 %p, %bin, 4096;\n"
    "    @%p bra CLEAR;\n"
    "    bar.sync 0;\n"
    "NEXT:\n" NEXT_ELEMENT
    "    setp.eq.u32 %p, %magnitude, 0;\n"
    "    @%p add.u32 %zeros, %zeros, 1;\n"
    "    @%p bra NEXT;\n"
    "    setp.ge.u32 %p, %magnitude, 0x7f800000;\n"
    "    @%p bra NEXT;\n"
    "    mov.b32 %place, %magnitude;\n"
    "    mul.rn.f32 %place, %place, %scale;\n"
    "    min.f32 %place, %place, 0f44FFE000;\n"
    "    cvt.rzi.s32.f32 %bin, %place;\n"
    "    shr.u32 %t, %bits, 31;\n"
    "    shl.b32 %t, %t, 11;\n"
    "    add.u32 %bin, %bin, %t;\n"
    "    shl.b32 %bin, %bin, 2;\n"
    "    add.u32 %bin, %table, %bin;\n"
    "    red.shared.add.u32 [%bin], 1;\n"
    "    bra NEXT;\n"
    "DONE:\n"
    "    bar.sync 0;\n"
    "    mov.u32 %bin, %lane;\n"
    "ADD:\n"
    "    shl.b32 %t, %bin, 2;\n"
    "    cvt.u64.u32 %at, %t;\n"
    "    add.u64 %at, %found, %at;\n"
    "    add.u32 %t, %table, %t;\n"
    "    ld.shared.u32 %bits, [%t];\n"
    "    setp.ne.u32 %p, %bits, 0;\n"
    "    @%p red.global.add.u32 [%at], %bits;\n"
    "    add.u32 %bin, %bin, 256;\n"
    "    setp.lt.u32 %p, %bin, 4096;\n"
    "    @%p bra ADD;\n" FOLD("add.u32", "%zeros") ONE_OF_EACH_WARP
    "    red.global.add.u32 [%found+16384], %zeros;\n"
    "END:\n"
    "    ret;\n"
    "}\n";

static const cuda_kernel bounds_kernel = {CUDA_KERNEL_BOUNDS, "kiln_bounds", bounds_text, "counts",
                                          "counting"};
static const cuda_kernel bins_kernel = {CUDA_KERNEL_BINS, "kiln_bins", bins_text, "counts",
                                        "counting"};

static uint64_t blocks_for(uint64_t count)
{
    const uint64_t blocks = (count + EACH_BLOCK - 1) / EACH_BLOCK;
    return blocks < MOST_BLOCKS ? blocks : MOST_BLOCKS;
}

kiln_status kln_cuda_find_bounds(kiln_stream *stream, const float *values, uint64_t count,
                                 kln_cuda_bounds *found)
{
    cu_address from = cuda_address(values);
    cu_address to = cuda_address(found);
    void *arguments[] = {&from, &count, &to};
    return count == 0 ? KILN_OK
                      : cuda_launch(stream, &bounds_kernel, blocks_for(count), THREADS, arguments);
}

kiln_status kln_cuda_count_bins(kiln_stream *stream, const float *values, uint64_t count,
                                float scale, uint32_t *bins)
{
    cu_address from = cuda_address(values);
    cu_address to = cuda_address(bins);
    void *arguments[] = {&from, &count, &scale, &to};
    return count == 0 ? KILN_OK
                      : cuda_launch(stream, &bins_kernel, blocks_for(count), THREADS, arguments);
}
