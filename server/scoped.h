/* SPDX-License-Identifier: Apache-2.0 */
/* Local variables that end with their scope, for the programs: what the library has as KLN_SCOPED.
 */
#ifndef KILN_SCOPED_H
#define KILN_SCOPED_H

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A local variable that is given back where its scope ends, whichever way that is left, after the
 * value of a return is computed; the one declared last goes first. `finish` takes its address. */
#define SCOPED(finish) __attribute__((cleanup(finish)))
/* Defines <destroy>_at for SCOPED, of a pointer that `destroy` takes. */
#define SCOPED_POINTER(type, destroy)                \
    static inline void destroy##_at(type **variable) \
    {                                                \
        if (*variable != NULL) {                     \
            destroy(*variable);                      \
        }                                            \
    }
#ifdef __clang_analyzer__
/* Which does not know of cleanup, and takes for leaked what ends with its scope: it is shown memory
 * that is nobody's. AddressSanitizer sees what is leaked. */
void *scoped_anything(const void *before, size_t size);
#define malloc(size) scoped_anything(NULL, (size))
#define calloc(count, size) scoped_anything(NULL, (count) * (size))
#define realloc(memory, size) scoped_anything((memory), (size))
#define strdup(text) ((char *)scoped_anything((text), 1))
#define strndup(text, size) ((char *)scoped_anything((text), (size)))
#endif
/* Of memory of the C library's. */
#define SCOPED_HEAP SCOPED(scoped_heap_free_at)
static inline void scoped_heap_free_at(void *variable)
{
    void *memory = NULL;
    memcpy(&memory, variable, sizeof memory);
    free(memory);
}

/* Holds `mutex` to the end of the scope. */
#define LOCKED(mutex)                                                         \
    SCOPED(scoped_unlock_at) pthread_mutex_t *const scoped_locked_ = (mutex); \
    (void)pthread_mutex_lock(scoped_locked_)
static inline void scoped_unlock_at(pthread_mutex_t *const *mutex)
{
    (void)pthread_mutex_unlock(*mutex);
}
/* Likewise a lock of several readers. */
#define LOCKED_TO_READ(lock) LOCKED_AS(lock, pthread_rwlock_rdlock)
#define LOCKED_TO_WRITE(lock) LOCKED_AS(lock, pthread_rwlock_wrlock)
#define LOCKED_AS(lock, take)                                                     \
    SCOPED(scoped_rwunlock_at) pthread_rwlock_t *const scoped_rwlocked_ = (lock); \
    (void)take(scoped_rwlocked_)
static inline void scoped_rwunlock_at(pthread_rwlock_t *const *lock)
{
    (void)pthread_rwlock_unlock(*lock);
}

#endif
