/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "kln_base.h"

#define FIRST_BLOCK ((size_t)4096)
/* Below the 128 KiB from which malloc maps memory: freeing a mapped block moves that limit up, and
 * the large buffers of every other library in the process then stay in the heap when freed. */
#define LARGEST_BLOCK ((size_t)1 << 16)
#define PIECE_ALIGNMENT ((size_t)16)

typedef struct kln_arena_block {
    struct kln_arena_block *next;
    size_t used;
    size_t size; /* bytes of `data` */
    _Alignas(16) unsigned char data[];
} kln_arena_block;

void kln_arena_init(kln_arena *arena)
{
    *arena = (kln_arena){.blocks = NULL, .block_size = FIRST_BLOCK, .bytes = 0};
}

void kln_arena_finish(kln_arena *arena)
{
    kln_arena_block *block = arena->blocks;
    while (block != NULL) {
        kln_arena_block *next = block->next;
        kln_free(block);
        block = next;
    }
    kln_arena_init(arena);
}

static kln_arena_block *add_block(kln_arena *arena, size_t least)
{
    const size_t size = least > arena->block_size ? least : arena->block_size;
    if (size > SIZE_MAX / 2) {
        return NULL;
    }
    kln_arena_block *block = kln_alloc(sizeof *block + size);
    if (block == NULL) {
        return NULL;
    }
    block->used = 0;
    block->size = size;
    arena->bytes += sizeof *block + size;
    if (arena->blocks != NULL && least > arena->block_size) {
        /* A piece with a block of its own goes behind the current one, whose rest stays in use. */
        block->next = arena->blocks->next;
        arena->blocks->next = block;
    } else {
        block->next = arena->blocks;
        arena->blocks = block;
    }
    if (arena->block_size < LARGEST_BLOCK) {
        arena->block_size *= 2;
    }
    return block;
}

void *kln_arena_alloc(kln_arena *arena, size_t size)
{
    if (size > SIZE_MAX / 2) {
        return NULL;
    }
    size = (size + PIECE_ALIGNMENT - 1) & ~(PIECE_ALIGNMENT - 1);
    kln_arena_block *block = arena->blocks;
    if (block == NULL || block->size - block->used < size) {
        block = add_block(arena, size);
        if (block == NULL) {
            return NULL;
        }
    }
    void *piece = block->data + block->used;
    block->used += size;
    return piece;
}

void *kln_arena_alloc_zeroed(kln_arena *arena, size_t count, size_t size)
{
    size_t bytes = 0;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        return NULL;
    }
    void *piece = kln_arena_alloc(arena, bytes);
    if (piece != NULL) {
        memset(piece, 0, bytes);
    }
    return piece;
}

char *kln_arena_strndup(kln_arena *arena, const char *text, size_t size)
{
    char *copy = size < SIZE_MAX ? kln_arena_alloc(arena, size + 1) : NULL;
    if (copy != NULL) {
        memcpy(copy, text, size);
        copy[size] = '\0';
    }
    return copy;
}

char *kln_arena_strdup(kln_arena *arena, const char *text)
{
    return kln_arena_strndup(arena, text, strlen(text));
}

char *kln_arena_printf(kln_arena *arena, const char *format, ...)
{
    char few[96]; /* most texts are names */
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(few, sizeof few, format, arguments);
    va_end(arguments);
    char *text = length >= 0 ? kln_arena_alloc(arena, (size_t)length + 1) : NULL;
    if (text != NULL && (size_t)length < sizeof few) {
        memcpy(text, few, (size_t)length + 1);
    } else if (text != NULL) {
        va_start(arguments, format);
        (void)vsnprintf(text, (size_t)length + 1, format, arguments);
        va_end(arguments);
    }
    return text;
}

kiln_status kln_array_grow(kln_arena *arena, void *array, size_t count, size_t *capacity,
                           size_t size)
{
    if (count < *capacity) {
        return KILN_OK;
    }
    const size_t more = *capacity == 0 ? 8 : *capacity * 2;
    size_t bytes = 0;
    unsigned char *grown =
        __builtin_mul_overflow(more, size, &bytes) ? NULL : kln_arena_alloc(arena, bytes);
    void *old = NULL;
    KLN_RETURN_IF_NO_MEMORY(grown, more * size, "a list");
    memcpy(&old, array, sizeof old);
    if (count != 0) {
        memcpy(grown, old, count * size);
    }
    memcpy(array, &grown, sizeof grown);
    *capacity = more;
    return KILN_OK;
}
