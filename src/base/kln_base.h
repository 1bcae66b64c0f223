/* SPDX-License-Identifier: Apache-2.0 */
/* The base of every module: failing with a sentence, logging, memory, text, names, files. It
 * includes the C headers that nearly every file needs; files that include it, directly or through
 * another header, do not include those again. */
#ifndef KLN_BASE_H
#define KLN_BASE_H

#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <kiln/log.h>
#include <kiln/memory.h>
#include <kiln/status.h>
#include <kiln/tensor.h>
#include <kiln/version.h>

#include "fail.h"
#include "processor.h"

/* A function compiled once for each of these machines ("avx2", ..., "default"); at run time the
 * program uses the version for its own. The choice is made before ThreadSanitizer is ready, which
 * would end the program. */
#if defined(__has_feature)
#define KLN_HAS_TSAN __has_feature(thread_sanitizer)
#elif defined(__SANITIZE_THREAD__)
#define KLN_HAS_TSAN 1
#else
#define KLN_HAS_TSAN 0
#endif
#if defined(__x86_64__) && defined(__GLIBC__) && __has_attribute(target_clones) && !KLN_HAS_TSAN
#define KLN_CLONES(...) __attribute__((target_clones(__VA_ARGS__)))
#else
#define KLN_CLONES(...)
#endif

/* Before a loop: no iteration reads what another one writes. */
#if defined(__clang__)
#define KLN_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define KLN_INDEPENDENT _Pragma("GCC ivdep")
#endif

#define KLN_ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* --- log (log.c) --- */

/* Sends one line to the sink if it accepts this level; costs one load if not. */
void kln_log(kiln_log_level level, const char *component, const char *format, ...) KLN_PRINTF(3, 4);
bool kln_log_wants(kiln_log_level level);

/* --- memory (heap.c) --- */

/* Memory from the replaceable allocator, aligned to 16, or NULL; a size of 0 gives a valid
 * pointer. */
void *kln_alloc(size_t size);
void *kln_alloc_zeroed(size_t count, size_t size); /* NULL also if the product overflows */
void *kln_alloc_aligned(size_t size, size_t alignment);
/* Resizes `memory`; if this returns NULL, the old memory stays. */
void *kln_realloc(void *memory, size_t size);
void kln_free(void *memory); /* NULL is allowed */
char *kln_strdup(const char *text);

/* A local variable that is released at the end of its scope, however the scope is left, after the
 * value of a return is computed; in reverse order of declaration. `finish` receives its address. */
#define KLN_SCOPED(finish) __attribute__((cleanup(finish)))
/* For memory that kln_free releases. */
#define KLN_SCOPED_FREE KLN_SCOPED(kln_free_at)
static inline void kln_free_at(void *variable)
{
    void *memory = NULL;
    memcpy(&memory, variable, sizeof memory);
    kln_free(memory);
}
/* Defines <destroy>_at for KLN_SCOPED, for a pointer that `destroy` takes. */
#define KLN_SCOPED_POINTER(type, destroy)            \
    static inline void destroy##_at(type **variable) \
    {                                                \
        if (*variable != NULL) {                     \
            destroy(*variable);                      \
        }                                            \
    }
/* Moves the pointer out of such a variable: *engine = KLN_TAKE(made). */
#define KLN_TAKE(variable) kln_take(&(variable))
static inline void *kln_take(void *variable)
{
    void *taken = NULL;
    memcpy(&taken, variable, sizeof taken);
    memset(variable, 0, sizeof taken);
    return taken;
}

/* Holds `mutex` until the end of the scope. */
#define KLN_LOCKED(mutex)                                                   \
    KLN_SCOPED(kln_unlock_at) pthread_mutex_t *const kln_locked_ = (mutex); \
    (void)pthread_mutex_lock(kln_locked_)
static inline void kln_unlock_at(pthread_mutex_t *const *mutex)
{
    (void)pthread_mutex_unlock(*mutex);
}

/* At the end of the scope, restores this thread's sentence as it is here, whatever fails in
 * between. */
#define KLN_MESSAGE_STAYS                                     \
    KLN_SCOPED(kln_message_restore) kln_message kln_message_; \
    kln_message_keep(&kln_message_)

/* The plural "s", unless the count is 1: "%zu dimension%s". */
#define KLN_S(count) ((count) == 1 ? "" : "s")
/* "2 dimensions", "at least 1 dimension", "1 to 3 dimensions"; `most` SIZE_MAX: no limit. */
void kln_range_text(char *text, size_t size, size_t least, size_t most, const char *what);
/* Gives name `index`, or NULL for one that is not listed. */
typedef const char *kln_name_of(const void *from, size_t index);
/* `"a", "b" and 3 more`, as far as `size` allows. Returns the number of names. */
size_t kln_list_names(char *text, size_t size, size_t count, kln_name_of *name_of,
                      const void *from);
/* The end of a sentence about a name that was not found: `there is "a"`, `there are "a", "b"`,
 * "there is none". Returns `text`. */
const char *kln_there_are(char *text, size_t size, size_t count, kln_name_of *name_of,
                          const void *from);

/* Memory that this thread allocates between these two lasts as long as the process, as for a
 * library that was found, and its path. It comes from the C library and is not counted, so that it
 * neither blocks kiln_set_allocator nor shows up in a leak test. Pairs may be nested. */
void kln_lasting_begin(void);
void kln_lasting_end(void);

/* --- arena (arena.c): many small pieces released together --- */

/* Pieces are never released individually. One thread at a time. A zeroed arena is empty and
 * ready. */
typedef struct kln_arena {
    struct kln_arena_block *blocks;
    unsigned char *free; /* unused part of the first block */
    size_t left;
    size_t block_size; /* of the next block; doubles up to a limit */
    size_t bytes;      /* taken from the heap so far */
} kln_arena;

void kln_arena_finish(kln_arena *arena);
#define KLN_ARENA_PIECE(size) (((size) + 15) & ~(size_t)15)
void *kln_arena_more(kln_arena *arena, size_t size); /* like kln_arena_alloc, in a new block */
/* Uninitialized memory aligned to 16, or NULL. */
static inline void *kln_arena_alloc(kln_arena *arena, size_t size)
{
    if (size >= arena->left) {
        return kln_arena_more(arena, size);
    }
    void *piece = arena->free;
    arena->free += KLN_ARENA_PIECE(size);
    arena->left -= KLN_ARENA_PIECE(size);
    return piece;
}
void *kln_arena_alloc_zeroed(kln_arena *arena, size_t count, size_t size);
char *kln_arena_strdup(kln_arena *arena, const char *text);
char *kln_arena_strndup(kln_arena *arena, const char *text, size_t size);
char *kln_arena_printf(kln_arena *arena, const char *format, ...) KLN_PRINTF(2, 3);
/* Makes room for `count` + 1 elements in an array of the arena (NULL: of the heap); new elements
 * are not zeroed. */
#define KLN_GROW(arena, array, count, capacity) \
    kln_array_grow((arena), &(array), (count), &(capacity), sizeof *(array))
KILN_MUST_CHECK kiln_status kln_array_grow(kln_arena *arena, void *array, size_t count,
                                           size_t *capacity, size_t size);

/* "3 rows" from "%zu rows", in memory that lasts as long as the block. */
#define KLN_PRINTED(...) kln_printed((char[KLN_PRINTED_SIZE]){0}, __VA_ARGS__)
#define KLN_PRINTED_SIZE 48
const char *kln_printed(char text[KLN_PRINTED_SIZE], const char *format, ...) KLN_PRINTF(2, 3);

/* --- text buffer (text.c): grows up to a limit stated at init --- */

typedef struct kln_text {
    char *data; /* NUL-terminated once something is appended, otherwise NULL */
    size_t size;
    size_t capacity;
    size_t limit;
} kln_text;

void kln_text_init(kln_text *text, size_t limit);
void kln_text_finish(kln_text *text);
/* OUT_OF_MEMORY or LIMIT, which leave the text unchanged. */
KILN_MUST_CHECK kiln_status kln_text_append(kln_text *text, const void *data, size_t size);
KILN_MUST_CHECK kiln_status kln_text_printf(kln_text *text, const char *format, ...)
    KLN_PRINTF(2, 3);

/* --- JSON (json.c), read and written with cJSON --- */

struct cJSON;

/* 2^53: JSON numbers represent every integer up to here. */
#define KLN_JSON_LARGEST_INTEGER 9007199254740992.0

/* Call before any function of cJSON: sets its global hooks, once, so that it uses the replaceable
 * heap. */
void kln_json_begin(void);
/* Parses `what` ("a manifest") of at most `limit` bytes; release the root with cJSON_Delete. LIMIT,
 * OUT_OF_MEMORY; MALFORMED, with `advice` at the end of the sentence. */
KILN_MUST_CHECK kiln_status kln_json_parse(kiln_span text, size_t limit, const char *what,
                                           const char *advice, struct cJSON **root);

/* --- names (names.c): strings to numbers --- */

/* A hash map from a string to a uint32_t. Keys are not copied: they must outlive the map. A zeroed
 * map is empty and ready. */
typedef struct kln_names {
    struct kln_names_slot *slots;
    size_t capacity; /* a power of two, or 0 */
    size_t count;
} kln_names;

#define KLN_NAMES_NONE UINT32_MAX

void kln_names_finish(kln_names *names);
/* Sets `key`, replacing an old value. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_names_set(kln_names *names, const char *key, uint32_t value);
/* Sets `key` and gives its old value, or KLN_NAMES_NONE. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_names_swap(kln_names *names, const char *key, uint32_t value,
                                           uint32_t *before);
/* The value, or KLN_NAMES_NONE. */
uint32_t kln_names_get(const kln_names *names, const char *key);
/* The same for callers that have the hash of a key, which is the same in all tables of the
 * process. */
uint32_t kln_names_hash(const char *key);
KILN_MUST_CHECK kiln_status kln_names_swap_hashed(kln_names *names, const char *key, uint32_t hash,
                                                  uint32_t value, uint32_t *before);
uint32_t kln_names_get_hashed(const kln_names *names, const char *key, uint32_t hash);
/* Removes `key`: kln_names_get then gives KLN_NAMES_NONE. */
void kln_names_forget(kln_names *names, const char *key);

/* --- keys (names.c): maps from several strings and a number to a number --- */

#define KLN_KEY_TEXTS 3

/* No part is NULL; an unused part is "" or 0. */
typedef struct kln_key {
    const char *text[KLN_KEY_TEXTS];
    int64_t number;
} kln_key;

/* A hash map like kln_names; the strings are not copied and must outlive the map. */
typedef struct kln_keys {
    kln_names table;
    kln_arena arena; /* of the keys */
} kln_keys;

void kln_keys_finish(kln_keys *keys);
/* Sets `key`, replacing an old value. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_keys_set(kln_keys *keys, const kln_key *key, uint32_t value);
/* The value, or KLN_NAMES_NONE. */
uint32_t kln_keys_get(const kln_keys *keys, const kln_key *key);

/* --- hashes (hash.c) --- */

/* Hash of a name that seeds random numbers: the same in every process. Not for hash tables. 64-bit
 * FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/ */
uint64_t kln_hash(const void *data, size_t size, uint64_t seed);
#define KLN_HASH_SEED UINT64_C(0xcbf29ce484222325)

/* Hash of the bytes of a file, at the speed of reading them: a plan is hashed at each load. XXH3,
 * 64 bits, seed 0 (https://xxhash.com). The same in every process. */
uint64_t kln_hash_bytes(const void *data, size_t size);
/* The same for bytes that come in parts. NULL if memory is short; release it with kln_free. */
typedef struct kln_hasher kln_hasher;
kln_hasher *kln_hasher_create(void);
void kln_hasher_add(kln_hasher *hasher, const void *data, size_t size);
uint64_t kln_hasher_value(const kln_hasher *hasher);
/* A 128-bit hash of the same bytes, for keys that stand for content. */
void kln_hasher_digest(const kln_hasher *hasher, uint64_t digest[2]);

/* Hash for the keys of a table, with a secret of this process, so that no file can be crafted whose
 * names collide. */
uint64_t kln_hash_key(const void *data, size_t size);
/* SipHash-1-3: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012. */
uint64_t kln_siphash(const uint64_t key[2], const void *data, size_t size);

/* --- threads and forks (threads.c) --- */

/* pthread_create for a thread that, like its own threads, blocks the host's signals, except those
 * raised by faults: if these were blocked, they would end the process without calling the
 * handler. */
int kln_thread_start(pthread_t *thread, void *(*body)(void *user), void *user);

/* Initializes a condition variable that waits by the clock of kln_now. */
void kln_condition_init(pthread_cond_t *condition);

/* Bytes of stack left for this thread; SIZE_MAX if that is unknown (a stack that the host made). */
size_t kln_stack_left(void);
/* Code that recurses through nested graphs checks, from this depth on, that this much stack is
 * left: twice what the deepest calls use before the next check, as test_stacks measures. */
#define KLN_STACK_GRAPHS ((size_t)4)
#define KLN_STACK_FOR_A_GRAPH ((size_t)14336)

/* The number of times this process was forked since the first call of kln_forks_begin. An object
 * made at another count has threads, or a GPU, that the fork did not copy. */
unsigned kln_forks_begin(void);
unsigned kln_forks(void); /* costs one load */
/* STATE if `what` ("scheduler") was made in the process that this one was forked from. */
KILN_MUST_CHECK kiln_status kln_forks_check(unsigned made_at, const char *function,
                                            const char *what);

/* --- the environment (environment.c) --- */

/* The variable, or NULL if it is empty or not set. Always NULL if the program has more rights than
 * the user who started it (setuid, capabilities), because then the environment cannot be
 * trusted. */
const char *kln_getenv(const char *name);

/* --- files (files.c) --- */

/* A file mapped for reading. If another program truncates it while it is mapped, the next read past
 * its new end ends the process with SIGBUS: the price of not copying it. */
typedef struct kln_mapping {
    kiln_span bytes;
    struct kln_mapped *mapped; /* shared with all mappings made from this one */
} kln_mapping;

/* NOT_FOUND, NOT_A_FILE (a directory, a device), EMPTY, IO; the sentence names the path. */
KILN_MUST_CHECK kiln_status kln_mapping_open(const char *path, kln_mapping *mapping);
/* With `copy`, into private memory of the process, which nobody can change or truncate. */
KILN_MUST_CHECK kiln_status kln_mapping_open_as(const char *path, bool copy, kln_mapping *mapping);
bool kln_mapping_is_copy(const kln_mapping *mapping);
size_t kln_page_size(void); /* the machine's page size in bytes; costs one load */
/* Whether the last of these bytes can still be read; if their file was truncated, reading it would
 * end the process. One system call; true if the system is too old to tell. IO. */
KILN_MUST_CHECK kiln_status kln_bytes_check(kiln_span bytes, const char *what);
/* Shares the mapping; close each one. The bytes stay mapped until the last is closed. */
KILN_MUST_CHECK kln_mapping kln_mapping_share(const kln_mapping *mapping);
void kln_mapping_close(kln_mapping *mapping); /* a zeroed one is allowed */
/* Whether the file at `path` is still the one that was opened. */
bool kln_mapping_is_at(const kln_mapping *mapping, const char *path);
/* Whether another file is at `path` by now. Files that the mapped one refers to may have been
 * replaced with it: a caller that fails because of that opens the new file, at most this many
 * times. */
bool kln_mapping_was_replaced(const kln_mapping *mapping, const char *path);
#define KLN_MOST_REPLACED 100
/* Removes the pages read so far from the process's memory; reading one again brings it back. */
void kln_mapping_rest(const kln_mapping *mapping);

bool kln_file_exists(const char *path);

/* `path` made absolute, so that it stays right if the process changes its folder. LIMIT, IO. */
KILN_MUST_CHECK kiln_status kln_path_absolute(const char *path, char absolute[PATH_MAX]);
/* Whether `text`, which may be a path or another word, is a path: it contains a slash, or contains
 * a dot and exists. */
bool kln_is_path(const char *text);

/* --- writing files (output.c) --- */

/* A file that appears whole at `path` when it is committed, or not at all. If `path` is a link, it
 * stays, and its target is replaced. A new file has the mode that the umask leaves; a replaced one
 * keeps its mode, and its owner if the system allows that. Anything but a regular file (a device, a
 * pipe, a terminal, a link to an open file) is written to directly. */
typedef struct kln_output {
    int descriptor;
    char *path;      /* as given, for sentences */
    char *place;     /* the final location: `path` with links resolved */
    char *temporary; /* location until then, in the same folder; NULL: written at `place` */
    bool flushed;
} kln_output;

KILN_MUST_CHECK kiln_status kln_output_open(const char *path, kln_output *output);
/* Whether a commit replaces the file at `path`; false for a device, pipe or the like. */
bool kln_output_replaces(const kln_output *output);
KILN_MUST_CHECK kiln_status kln_output_write(kln_output *output, const void *data, size_t size);
/* Waits until the written bytes are on the disk. A commit then waits for the folder, too. */
KILN_MUST_CHECK kiln_status kln_output_flush(kln_output *output);
/* Before anything is written: copies the access rights of the file at `path`, if there is one. */
void kln_output_take_after(const kln_output *output, const char *path);
/* Moves the file to its place. Finishes the output, on an error too. */
KILN_MUST_CHECK kiln_status kln_output_commit(kln_output *output);
/* Removes the written bytes. Does nothing after a commit, or for a zeroed output. */
void kln_output_discard(kln_output *output);

/* Locks the folder of `path` against other threads and processes that call this, while several of
 * its files change together. Release `*lock` with kln_folder_unlock; it is -1, without a lock, if
 * the system cannot lock this folder. BUSY after ten seconds. */
KILN_MUST_CHECK kiln_status kln_folder_lock(const char *path, int *lock);
void kln_folder_unlock(int lock);

/* Writes `count` spans one after the other; with `flush` they are on the disk on return. */
KILN_MUST_CHECK kiln_status kln_file_write(const char *path, const kiln_span *parts, size_t count,
                                           bool flush);

/* --- structs that begin with their size (sized.c) --- */

/* Copies a caller's option struct, which may come from a newer header, into `copy` of `size` bytes.
 * Members that this library does not know must be zero. NULL leaves `copy` unchanged.
 * INVALID_ARGUMENT, also for a smaller struct: there is none older than 0.1. */
KILN_MUST_CHECK kiln_status kln_options_read(const char *what, const void *options, void *copy,
                                             size_t size);

/* Copies `info` of `size` bytes into a caller's struct, whose struct_size stays. NULL_ARGUMENT;
 * INVALID_ARGUMENT for a smaller struct. */
KILN_MUST_CHECK kiln_status kln_info_write(const char *what, void *out, const void *info,
                                           size_t size);

/* --- time (clock.c) --- */

/* kiln_clock_now. */
uint64_t kln_now(void);
/* The time this many milliseconds from now; UINT64_MAX, which never comes, for a negative number or
 * one too large to wait for. */
uint64_t kln_deadline(int64_t milliseconds);
static inline struct timespec kln_timespec(uint64_t nanoseconds)
{
    return (struct timespec){.tv_sec = (time_t)(nanoseconds / 1000000000),
                             .tv_nsec = (long)(nanoseconds % 1000000000)};
}

/* --- statistics of a few values; for many, use kiln_histogram (statistics.c) --- */

/* Sorts in ascending order. */
void kln_sort(uint64_t *values, size_t count);

/* The median of `count` (not 0) values, of two the upper one. Sorts them. */
uint64_t kln_median(uint64_t *values, size_t count);

/* The index, from 0, of a percentile among `count` (not 0) sorted values, as
 * kiln_histogram_percentile counts it. */
uint64_t kln_percentile_rank(uint64_t count, double percent);

/* `size` and `what` describe the failed allocation: its bytes, and its purpose. */
#define KLN_RETURN_IF_NO_MEMORY(pointer, size, what) \
    KLN_FAIL_IF((pointer) == NULL, kln_fail_memory((size), (what)))

/* Allocates `count` zeroed elements of what `pointer` points to, or returns OUT_OF_MEMORY; from the
 * heap, or from an arena. */
#define KLN_NEW(pointer, count, what) \
    KLN_NEW_BY((pointer), (count), (what), kln_alloc_zeroed((count), sizeof *(pointer)))
#define KLN_ARENA_NEW(arena, pointer, count, what) \
    KLN_NEW_BY((pointer), (count), (what),         \
               kln_arena_alloc_zeroed((arena), (count), sizeof *(pointer)))
#define KLN_NEW_BY(pointer, count, what, memory)                                 \
    do {                                                                         \
        (pointer) = (memory);                                                    \
        KLN_RETURN_IF_NO_MEMORY((pointer), (count) * sizeof *(pointer), (what)); \
    } while (0)

#endif
