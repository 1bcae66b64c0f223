/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "kln_base.h"

#define FIRST_BLOCK ((size_t)4096)
/* Below 128 KiB, the size from which malloc uses mmap: freeing a mapped block raises that
 * threshold, and then large buffers of all other libraries in the process stay in the heap when
 * they are freed. */
#define LARGEST_BLOCK ((size_t)1 << 16)

typedef struct kln_arena_block {
    struct kln_arena_block *next;
    _Alignas(16) unsigned char data[];
} kln_arena_block;

void kln_arena_finish(kln_arena *arena)
{
    kln_arena_block *block = arena->blocks;
    while (block != NULL) {
        kln_arena_block *next = block->next;
        kln_free(block);
        block = next;
    }
    *arena = (kln_arena){.blocks = NULL};
}

void *kln_arena_more(kln_arena *arena, size_t size)
{
    if (size > SIZE_MAX / 2) {
        return NULL;
    }
    const size_t piece = KLN_ARENA_PIECE(size);
    arena->block_size = arena->block_size != 0 ? arena->block_size : FIRST_BLOCK;
    const bool is_large = piece > arena->block_size;
    const size_t room = is_large ? piece : arena->block_size;
    kln_arena_block *block = kln_alloc(sizeof *block + room);
    if (block == NULL) {
        return NULL;
    }
    arena->bytes += sizeof *block + room;
    if (arena->blocks != NULL && is_large) {
        /* A large piece has a block of its own, which goes after the current one, so that the rest
         * of that stays in use. */
        block->next = arena->blocks->next;
        arena->blocks->next = block;
    } else {
        block->next = arena->blocks;
        arena->blocks = block;
        arena->free = block->data + piece;
        arena->left = room - piece;
    }
    if (arena->block_size < LARGEST_BLOCK) {
        arena->block_size *= 2;
    }
    return block->data;
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
    void *old = NULL;
    memcpy(&old, array, sizeof old);
    void *grown = __builtin_mul_overflow(more, size, &bytes) ? NULL
                  : arena == NULL                            ? kln_realloc(old, bytes)
                                                             : kln_arena_alloc(arena, bytes);
    KLN_RETURN_IF_NO_MEMORY(grown, more * size, "a list");
    if (arena != NULL && count != 0) {
        memcpy(grown, old, count * size);
    }
    memcpy(array, &grown, sizeof grown);
    *capacity = more;
    return KILN_OK;
}
