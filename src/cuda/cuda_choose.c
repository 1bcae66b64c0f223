/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel of Kiln's: the best candidate of each row, so that what comes next can be enqueued
 * before the host knows it. */
#include "cuda_driver.h"

#define ROWS_OF_A_BLOCK 8
#define THREADS 256

/* Bits of `kinds`, as the kernel has them. Scores of 16 bits are looked at as the upper half of 32:
 * numbers of either kind are in the same order so. */
enum { HALVES = 1, WIDE_TOKENS = 2, WIDE_CHOSEN = 4 };

/* Of two pairs of a score and a token the one with the larger score, of equal ones the one with the
 * smaller token: as 64 bits, with the token's bits inverted, the larger number. */
#define FOLD_BY(distance)                            \
    "    mov.b64 {%low, %high}, %best;\n"            \
    "    shfl.sync.bfly.b32 %low, %low, " distance   \
    ", 0x1f, 0xffffffff;\n"                          \
    "    shfl.sync.bfly.b32 %high, %high, " distance \
    ", 0x1f, 0xffffffff;\n"                          \
    "    mov.b64 %other, {%low, %high};\n"           \
    "    max.s64 %best, %best, %other;\n"

/* A warp for each row. */
static const char text[] =
    ".version 6.0\n"
    ".target sm_50\n"
    ".address_size 64\n"
    "\n"
    ".visible .entry kiln_choose(.param .u64 scores, .param .u64 tokens, .param .u64 chosen,\n"
    "                            .param .u32 rows, .param .u32 count, .param .u32 limit,\n"
    "                            .param .u32 kinds)\n"
    "{\n"
    "    .reg .pred %p;\n"
    "    .reg .b16 %half;\n"
    "    .reg .b32 %t, %lane, %row, %rows, %count, %limit, %kinds, %at, %bits, %sign, %token, "
    "%low, %high;\n"
    "    .reg .f32 %score;\n"
    "    .reg .b64 %scores, %tokens, %chosen, %place, %best, %other;\n"
    "\n"
    "    ld.param.u32 %rows, [rows];\n"
    "    ld.param.u32 %count, [count];\n"
    "    ld.param.u32 %limit, [limit];\n"
    "    ld.param.u32 %kinds, [kinds];\n"
    "    ld.param.u64 %scores, [scores];\n"
    "    ld.param.u64 %tokens, [tokens];\n"
    "    ld.param.u64 %chosen, [chosen];\n"
    "    cvta.to.global.u64 %scores, %scores;\n"
    "    cvta.to.global.u64 %tokens, %tokens;\n"
    "    cvta.to.global.u64 %chosen, %chosen;\n"
    "    mov.u32 %row, %ctaid.x;\n"
    "    shl.b32 %row, %row, 3;\n"
    "    mov.u32 %lane, %tid.x;\n"
    "    shr.u32 %t, %lane, 5;\n"
    "    add.u32 %row, %row, %t;\n"
    "    and.b32 %lane, %lane, 31;\n"
    "    setp.ge.u32 %p, %row, %rows;\n"
    "    @%p bra END;\n"
    "    mov.b64 %best, 0x8000000000000000;\n"
    "    mov.u32 %at, %lane;\n"
    "NEXT:\n"
    "    setp.ge.u32 %p, %at, %count;\n"
    "    @%p bra FOLD;\n"
    "    mad.lo.u32 %t, %row, %count, %at;\n"
    "    and.b32 %bits, %kinds, 2;\n"
    "    setp.eq.u32 %p, %bits, 0;\n"
    "    mul.wide.u32 %place, %t, 8;\n"
    "    @%p mul.wide.u32 %place, %t, 4;\n"
    "    add.u64 %place, %tokens, %place;\n"
    "    ld.global.u32 %token, [%place];\n"
    "    and.b32 %bits, %kinds, 1;\n"
    "    setp.eq.u32 %p, %bits, 0;\n"
    "    @%p bra WHOLE;\n"
    "    mul.wide.u32 %place, %t, 2;\n"
    "    add.u64 %place, %scores, %place;\n"
    "    ld.global.u16 %half, [%place];\n"
    "    cvt.u32.u16 %bits, %half;\n"
    "    shl.b32 %bits, %bits, 16;\n"
    "    mov.b32 %score, %bits;\n"
    "    bra SCORED;\n"
    "WHOLE:\n"
    "    mul.wide.u32 %place, %t, 4;\n"
    "    add.u64 %place, %scores, %place;\n"
    "    ld.global.f32 %score, [%place];\n"
    "SCORED:\n"
    "    add.f32 %score, %score, 0f00000000;\n" /* no -0 */
    "    mov.b32 %bits, %score;\n"
    "    shr.s32 %sign, %bits, 31;\n"
    "    and.b32 %sign, %sign, 0x7fffffff;\n"
    "    xor.b32 %bits, %bits, %sign;\n"
    "    not.b32 %token, %token;\n"
    "    mov.b64 %other, {%token, %bits};\n"
    "    max.s64 %best, %best, %other;\n"
    "    add.u32 %at, %at, 32;\n"
    "    bra NEXT;\n"
    "FOLD:\n" FOLD_BY("16") FOLD_BY("8") FOLD_BY("4") FOLD_BY("2") FOLD_BY("1")
    "    setp.ne.u32 %p, %lane, 0;\n"
    "    @%p bra END;\n"
    "    mov.b64 {%low, %high}, %best;\n"
    "    not.b32 %token, %low;\n"
    "    setp.ge.u32 %p, %token, %limit;\n"
    "    @%p mov.u32 %token, 0;\n"
    "    and.b32 %t, %kinds, 4;\n"
    "    setp.eq.u32 %p, %t, 0;\n"
    "    @%p bra NARROW;\n"
    "    mul.wide.u32 %place, %row, 8;\n"
    "    add.u64 %place, %chosen, %place;\n"
    "    cvt.u64.u32 %other, %token;\n"
    "    st.global.u64 [%place], %other;\n"
    "    bra END;\n"
    "NARROW:\n"
    "    mul.wide.u32 %place, %row, 4;\n"
    "    add.u64 %place, %chosen, %place;\n"
    "    st.global.u32 [%place], %token;\n"
    "END:\n"
    "    ret;\n"
    "}\n";

static const cuda_kernel chooses = {CUDA_KERNEL_CHOOSE, "kiln_choose", text, "chooses", "choosing"};

kiln_status kln_cuda_choose(kiln_stream *stream, const kln_cuda_choice *choice)
{
    cu_address scores = cuda_address(choice->scores);
    cu_address tokens = cuda_address(choice->tokens);
    cu_address chosen = cuda_address(choice->chosen);
    uint32_t rows = choice->rows;
    uint32_t count = choice->count;
    uint32_t limit = choice->limit;
    uint32_t kinds = (choice->dtype != KILN_DTYPE_FLOAT32 ? HALVES : 0) |
                     (choice->wide_tokens ? WIDE_TOKENS : 0) |
                     (choice->wide_chosen ? WIDE_CHOSEN : 0);
    void *arguments[] = {&scores, &tokens, &chosen, &rows, &count, &limit, &kinds};
    const uint64_t blocks = ((uint64_t)rows + ROWS_OF_A_BLOCK - 1) / ROWS_OF_A_BLOCK;
    return rows == 0 ? KILN_OK : cuda_launch(stream, &chooses, blocks, THREADS, arguments);
}
