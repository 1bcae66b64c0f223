/* SPDX-License-Identifier: Apache-2.0 */
/* What every module stands on: failing with a sentence, logging, memory, text, names, files. It
 * brings what nearly every file needs of C; who includes it, or what includes it, does not name
 * that again.
 */
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

/* A function that is compiled once for each of these machines ("avx2", ..., "default"), of which
 * the program takes its own. Who chooses runs before ThreadSanitizer is ready, which ends the
 * program.
 */
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

/* Before a loop: no step of it reads what another one writes. */
#if defined(__clang__)
#define KLN_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define KLN_INDEPENDENT _Pragma("GCC ivdep")
#endif

#define KLN_ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* --- log (log.c) --- */

/* Sends one line to the sink where it wants this level; costs one load where it does not. */
void kln_log(kiln_log_level level, const char *component, const char *format, ...) KLN_PRINTF(3, 4);
bool kln_log_wants(kiln_log_level level);

/* --- memory (heap.c) --- */

/* Memory from the replaceable allocator, aligned to 16, or NULL; a size of 0 gives a valid pointer.
 */
void *kln_alloc(size_t size);
void *kln_alloc_zeroed(size_t count, size_t size); /* NULL too when the product overflows */
void *kln_alloc_aligned(size_t size, size_t alignment);
/* `memory` grown or shrunk; the old one stays when NULL comes back. */
void *kln_realloc(void *memory, size_t size);
void kln_free(void *memory); /* NULL is allowed */
char *kln_strdup(const char *text);

/* A local variable that is given back where its scope ends, whichever way that is left, after the
 * value of a return is computed; the one declared last goes first. `finish` takes its address. */
#define KLN_SCOPED(finish) __attribute__((cleanup(finish)))
/* Of memory that kln_free takes. */
#define KLN_SCOPED_FREE KLN_SCOPED(kln_free_at)
static inline void kln_free_at(void *variable)
{
    void *memory = NULL;
    memcpy(&memory, variable, sizeof memory);
    kln_free(memory);
}
/* Defines <destroy>_at for KLN_SCOPED, of a pointer that `destroy` takes. */
#define KLN_SCOPED_POINTER(type, destroy)            \
    static inline void destroy##_at(type **variable) \
    {                                                \
        if (*variable != NULL) {                     \
            destroy(*variable);                      \
        }                                            \
    }
/* What such a variable points to, which it gives up: *engine = KLN_TAKE(made). */
#define KLN_TAKE(variable) kln_take(&(variable))
static inline void *kln_take(void *variable)
{
    void *taken = NULL;
    memcpy(&taken, variable, sizeof taken);
    memset(variable, 0, sizeof taken);
    return taken;
}

/* Holds `mutex` to the end of the scope. */
#define KLN_LOCKED(mutex)                                                   \
    KLN_SCOPED(kln_unlock_at) pthread_mutex_t *const kln_locked_ = (mutex); \
    (void)pthread_mutex_lock(kln_locked_)
static inline void kln_unlock_at(pthread_mutex_t *const *mutex)
{
    (void)pthread_mutex_unlock(*mutex);
}

/* To the end of the scope: this thread's sentence is then what it is here, whatever fails. */
#define KLN_MESSAGE_STAYS                                     \
    KLN_SCOPED(kln_message_restore) kln_message kln_message_; \
    kln_message_keep(&kln_message_)

/* "dimension", or "dimensions" where there is not one: "%zu dimension%s". */
#define KLN_S(count) ((count) == 1 ? "" : "s")
/* "2 dimensions", "at least 1 dimension", "1 to 3 dimensions"; `most` SIZE_MAX: no limit. */
void kln_range_text(char *text, size_t size, size_t least, size_t most, const char *what);
/* Gives name number `index`, or NULL for one that is not to be told. */
typedef const char *kln_name_of(const void *from, size_t index);
/* `"a", "b" and 3 more`, as far as `size` reaches. Returns how many names there are. */
size_t kln_list_names(char *text, size_t size, size_t count, kln_name_of *name_of,
                      const void *from);
/* How a sentence goes on about a name that was not found: `there is "a"`, `there are "a", "b"`,
 * "there is none". Returns `text`. */
const char *kln_there_are(char *text, size_t size, size_t count, kln_name_of *name_of,
                          const void *from);

/* What this thread allocates between these two lasts as long as the process: a library that was
 * found, and where. It comes from the C library and is not counted, so that it does not stand in
 * the way of kiln_set_allocator or of a test that looks for what stayed behind. Pairs may be
 * nested. */
void kln_lasting_begin(void);
void kln_lasting_end(void);

/* --- arena (arena.c): many small pieces that go together --- */

/* Pieces are never released one by one. One thread at a time. A zeroed one is empty and ready. */
typedef struct kln_arena {
    struct kln_arena_block *blocks;
    unsigned char *free; /* in the first block: what is left of it */
    size_t left;
    size_t block_size; /* of the next block; doubles up to a limit */
    size_t bytes;      /* taken from the heap so far */
} kln_arena;

void kln_arena_finish(kln_arena *arena);
#define KLN_ARENA_PIECE(size) (((size) + 15) & ~(size_t)15)
void *kln_arena_more(kln_arena *arena, size_t size); /* the same, in a new block */
/* Uninitialised memory aligned to 16, or NULL. */
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
/* Room for `count` + 1 elements in an array of the arena (NULL: of the heap); what is new is not
 * zeroed. */
#define KLN_GROW(arena, array, count, capacity) \
    kln_array_grow((arena), &(array), (count), &(capacity), sizeof *(array))
KILN_MUST_CHECK kiln_status kln_array_grow(kln_arena *arena, void *array, size_t count,
                                           size_t *capacity, size_t size);

/* "3 rows" of "%zu rows", in memory that lasts as long as the block. */
#define KLN_PRINTED(...) kln_printed((char[KLN_PRINTED_SIZE]){0}, __VA_ARGS__)
#define KLN_PRINTED_SIZE 48
const char *kln_printed(char text[KLN_PRINTED_SIZE], const char *format, ...) KLN_PRINTF(2, 3);

/* --- text buffer (text.c): grows up to a limit stated at init --- */

typedef struct kln_text {
    char *data; /* terminated once something was appended, else NULL */
    size_t size;
    size_t capacity;
    size_t limit;
} kln_text;

void kln_text_init(kln_text *text, size_t limit);
void kln_text_finish(kln_text *text);
/* OUT_OF_MEMORY or LIMIT; the text stays as it was then. */
KILN_MUST_CHECK kiln_status kln_text_append(kln_text *text, const void *data, size_t size);
KILN_MUST_CHECK kiln_status kln_text_printf(kln_text *text, const char *format, ...)
    KLN_PRINTF(2, 3);

/* --- JSON (json.c), which is cJSON's to read and write --- */

struct cJSON;

/* Before any call of cJSON's: its hooks are global, and set once, so that the replaceable heap
 * holds there too. */
void kln_json_begin(void);
/* Parses `what` ("a manifest") of at most `limit` bytes; cJSON_Delete takes the root back. LIMIT,
 * OUT_OF_MEMORY; MALFORMED, with `advice` at the end of the sentence. */
KILN_MUST_CHECK kiln_status kln_json_parse(kiln_span text, size_t limit, const char *what,
                                           const char *advice, struct cJSON **root);

/* --- names (names.c): strings to numbers --- */

/* A hash map from a string to a uint32_t. Keys are not copied: they must outlive the map. A zeroed
 * one is empty and ready. */
typedef struct kln_names {
    struct kln_names_slot *slots;
    size_t capacity; /* a power of two, or 0 */
    size_t count;
} kln_names;

#define KLN_NAMES_NONE UINT32_MAX

void kln_names_finish(kln_names *names);
/* Sets `key`; an old value is replaced. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_names_set(kln_names *names, const char *key, uint32_t value);
/* Sets `key` and tells what it had before, or KLN_NAMES_NONE. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_names_swap(kln_names *names, const char *key, uint32_t value,
                                           uint32_t *before);
/* The value, or KLN_NAMES_NONE. */
uint32_t kln_names_get(const kln_names *names, const char *key);
/* The same for who has the hash of a key, which is one in all tables of the process. */
uint32_t kln_names_hash(const char *key);
KILN_MUST_CHECK kiln_status kln_names_swap_hashed(kln_names *names, const char *key, uint32_t hash,
                                                  uint32_t value, uint32_t *before);
uint32_t kln_names_get_hashed(const kln_names *names, const char *key, uint32_t hash);
/* Afterwards kln_names_get has nothing for it. */
void kln_names_forget(kln_names *names, const char *key);

/* --- keys (names.c): several strings and a number to a number --- */

#define KLN_KEY_TEXTS 3

/* No part is NULL; what a key has no use for is "" or 0. */
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
/* Sets `key`; an old value is replaced. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_keys_set(kln_keys *keys, const kln_key *key, uint32_t value);
/* The value, or KLN_NAMES_NONE. */
uint32_t kln_keys_get(const kln_keys *keys, const kln_key *key);

/* --- hashes (hash.c) --- */

/* Of a name that random numbers begin from: the same in every process. Never for a table. 64-bit
 * FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/ */
uint64_t kln_hash(const void *data, size_t size, uint64_t seed);
#define KLN_HASH_SEED UINT64_C(0xcbf29ce484222325)

/* Of the bytes of a file, as fast as they can be read: a plan is hashed at each load. XXH3, 64
 * bits, seed 0 (https://xxhash.com). The same in every process. */
uint64_t kln_hash_bytes(const void *data, size_t size);
/* The same of bytes that come in parts. NULL where memory is short; kln_free takes it back. */
typedef struct kln_hasher kln_hasher;
kln_hasher *kln_hasher_create(void);
void kln_hasher_add(kln_hasher *hasher, const void *data, size_t size);
uint64_t kln_hasher_value(const kln_hasher *hasher);
/* The same bytes' hash of 128 bits, for keys that stand for content. */
void kln_hasher_digest(const kln_hasher *hasher, uint64_t digest[2]);

/* Of what a table is searched by: under a secret of this process, so that no file can be made whose
 * names collide. */
uint64_t kln_hash_key(const void *data, size_t size);
/* SipHash-1-3: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012. */
uint64_t kln_siphash(const uint64_t key[2], const void *data, size_t size);

/* --- threads and forks (threads.c) --- */

/* pthread_create for a thread that takes none of the host's signals, nor do those that it makes.
 * What a fault raises stays as it is: blocked, it would end the process without a word of its
 * handler's. */
int kln_thread_start(pthread_t *thread, void *(*body)(void *user), void *user);

/* A condition that waits by kln_now's clock. */
void kln_condition_init(pthread_cond_t *condition);

/* Bytes of stack that this thread has left; SIZE_MAX where nobody knows (a stack of the host's own
 * making). */
size_t kln_stack_left(void);
/* What recurses by a graph within a graph looks, from so many on, whether there is so much left:
 * twice what the deepest calls take before the next look, as test_stacks measures. */
#define KLN_STACK_GRAPHS ((size_t)4)
#define KLN_STACK_FOR_A_GRAPH ((size_t)14336)

/* How often this process was forked from another one since the first call of kln_forks_begin: what
 * was made at another count has threads, or a GPU, that did not come along. */
unsigned kln_forks_begin(void);
unsigned kln_forks(void); /* costs one load */
/* STATE where `what` ("scheduler") was made in the process that this one was forked from. */
KILN_MUST_CHECK kiln_status kln_forks_check(unsigned made_at, const char *function,
                                            const char *what);

/* --- the environment (environment.c) --- */

/* The variable, or NULL where it is empty or not set; NULL for every one where the program has more
 * rights than who started it (setuid, capabilities), because then the environment is a stranger's.
 */
const char *kln_getenv(const char *name);

/* --- files (files.c) --- */

/* A file mapped to be read. A file that another program truncates while it is mapped ends the
 * process with SIGBUS on the next read past its new end: that is the price of not copying it. */
typedef struct kln_mapping {
    kiln_span bytes;
    struct kln_mapped *mapped; /* what this one and those shared with it hold together */
} kln_mapping;

/* NOT_FOUND, NOT_A_FILE (a directory, a device), EMPTY, IO; the sentence names the path. */
KILN_MUST_CHECK kiln_status kln_mapping_open(const char *path, kln_mapping *mapping);
/* With `copy` into memory of the process's own, which nobody can change or cut short. */
KILN_MUST_CHECK kiln_status kln_mapping_open_as(const char *path, bool copy, kln_mapping *mapping);
bool kln_mapping_is_copy(const kln_mapping *mapping);
size_t kln_page_size(void); /* of the machine's memory, in bytes; costs one load */
/* Whether the last of these bytes can still be read: where their file was cut short meanwhile,
 * reading it would end the process. One call of the system; true where that is too old to tell.
 * IO. */
KILN_MUST_CHECK kiln_status kln_bytes_check(kiln_span bytes, const char *what);
/* The same bytes once more, to be closed as well: they stay until the last one is. */
KILN_MUST_CHECK kln_mapping kln_mapping_share(const kln_mapping *mapping);
void kln_mapping_close(kln_mapping *mapping); /* a zeroed one is allowed */
/* Whether the file that was opened is the one that lies at `path` now. */
bool kln_mapping_is_at(const kln_mapping *mapping, const char *path);
/* Whether it is another file that lies at `path` by now. What the mapped one referred to may have
 * gone with it: who fails for that opens the new one, up to so many times. */
bool kln_mapping_was_replaced(const kln_mapping *mapping, const char *path);
#define KLN_MOST_REPLACED 100
/* Takes the pages that were read so far out of the process's memory; the next read of one brings it
 * back. */
void kln_mapping_rest(const kln_mapping *mapping);

bool kln_file_exists(const char *path);

/* `path` from the root on, which stays right when the process changes its folder. LIMIT, IO. */
KILN_MUST_CHECK kiln_status kln_path_absolute(const char *path, char absolute[PATH_MAX]);
/* Whether `text`, which may be a path or another word, is a path: it has a slash, or a dot and
 * something is there. */
bool kln_is_path(const char *text);

/* --- writing files (output.c) --- */

/* A file that appears whole at `path` when it is committed, or not at all. A link at `path` stays,
 * and what it leads to is replaced; a new file has the mode that the umask leaves, one that is
 * replaced keeps its own, and its owner where the system allows. What is no regular file (a device,
 * a pipe, a terminal, a link to an open file) is written to as it is. */
typedef struct kln_output {
    int descriptor;
    char *path;      /* as it was given, for sentences */
    char *place;     /* where it shall appear: `path` without links */
    char *temporary; /* where it is written until then, in the same folder; NULL: at `place` */
    bool flushed;
} kln_output;

KILN_MUST_CHECK kiln_status kln_output_open(const char *path, kln_output *output);
/* Whether a commit puts a file at `path`; false where there is a device, pipe or the like. */
bool kln_output_replaces(const kln_output *output);
KILN_MUST_CHECK kiln_status kln_output_write(kln_output *output, const void *data, size_t size);
/* Waits until the disk has what was written. A commit then waits for the folder, too. */
KILN_MUST_CHECK kiln_status kln_output_flush(kln_output *output);
/* Before anything is written: as open to others as the file at `path`, where one lies there. */
void kln_output_take_after(const kln_output *output, const char *path);
/* Puts it in its place; the output is finished whether that works or not. */
KILN_MUST_CHECK kiln_status kln_output_commit(kln_output *output);
/* Removes what was written. After a commit, and on a zeroed output, it does nothing. */
void kln_output_discard(kln_output *output);

/* Keeps others that ask for the same out while files in the folder of `path` change together: other
 * threads, and other processes. `*lock` is for kln_folder_unlock; -1 where the system cannot lock
 * this folder, and then there is none. BUSY after ten seconds. */
KILN_MUST_CHECK kiln_status kln_folder_lock(const char *path, int *lock);
void kln_folder_unlock(int lock);

/* Writes `count` spans, one after the other; with `flush` they are on the disk afterwards. */
KILN_MUST_CHECK kiln_status kln_file_write(const char *path, const kiln_span *parts, size_t count,
                                           bool flush);

/* --- structs that begin with their size (sized.c) --- */

/* Copies an option struct of a caller, who may have been compiled with a newer header, into `copy`
 * of `size` bytes: what this library does not know must be zero. NULL leaves `copy` as it is.
 * INVALID_ARGUMENT, also for a struct that is smaller: 0.1 knows no older one. */
KILN_MUST_CHECK kiln_status kln_options_read(const char *what, const void *options, void *copy,
                                             size_t size);

/* Copies `info` of `size` bytes into a caller's struct, whose struct_size stays. NULL_ARGUMENT;
 * INVALID_ARGUMENT for a smaller one. */
KILN_MUST_CHECK kiln_status kln_info_write(const char *what, void *out, const void *info,
                                           size_t size);

/* --- time (clock.c) --- */

/* kiln_clock_now. */
uint64_t kln_now(void);
/* So many milliseconds from now; UINT64_MAX, which never comes, where they are less than 0, or more
 * than anybody waits. */
uint64_t kln_deadline(int64_t milliseconds);
static inline struct timespec kln_timespec(uint64_t nanoseconds)
{
    return (struct timespec){.tv_sec = (time_t)(nanoseconds / 1000000000),
                             .tv_nsec = (long)(nanoseconds % 1000000000)};
}

/* --- statistics of a few values; for many there is kiln_histogram (statistics.c) --- */

/* Ascending. */
void kln_sort(uint64_t *values, size_t count);

/* The middle one of `count` (not 0) values, the upper of two. Sorts them. */
uint64_t kln_median(uint64_t *values, size_t count);

/* Which of `count` (not 0) sorted values, from 0, is that percentile, as kiln_histogram_percentile
 * says. */
uint64_t kln_percentile_rank(uint64_t count, double percent);

/* What was to be allocated: its bytes, and what it is. */
#define KLN_RETURN_IF_NO_MEMORY(pointer, size, what) \
    KLN_FAIL_IF((pointer) == NULL, kln_fail_memory((size), (what)))

/* `count` zeroed elements of what `pointer` points to, or a return with OUT_OF_MEMORY; from the
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
