/*
 * status.h - status codes and error messages.
 *
 * Every call that can fail returns a kiln_status, and KILN_OK is zero. For the last failure, the
 * calling thread also keeps one sentence that says what was asked, what was found and what to do:
 *
 *     kiln_engine *engine = NULL;
 *     if (kiln_engine_build_file("model.onnx", NULL, &engine) != KILN_OK) {
 *         fprintf(stderr, "%s\n", kiln_error_message());
 *     }
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_STATUS_H
#define KILN_STATUS_H

#include <kiln/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Every status: name, value, text. The values are ABI: new ones are appended, and none is ever
 * reused.
 *
 * The groups say what a caller can do: fix the call (1-19), fix the file or the model (20-39), fix
 * the installation or the machine (40-59), try again or in another way (60-79).
 */
#define KILN_STATUS_LIST(X)                                                                  \
    X(KILN_OK, 0, "success")                                                                 \
    X(KILN_ERROR_NULL_ARGUMENT, 1, "a required pointer is NULL")                             \
    X(KILN_ERROR_INVALID_ARGUMENT, 2, "an argument has a value that is not allowed")         \
    X(KILN_ERROR_NAME, 3, "no such name")                                                    \
    X(KILN_ERROR_DTYPE, 4, "the data type does not fit")                                     \
    X(KILN_ERROR_RANK, 5, "the number of dimensions does not fit")                           \
    X(KILN_ERROR_SHAPE, 6, "a dimension does not fit")                                       \
    X(KILN_ERROR_SIZE, 7, "the number of bytes does not fit")                                \
    X(KILN_ERROR_ALIGNMENT, 8, "an address is not aligned for its data type")                \
    X(KILN_ERROR_NOT_BOUND, 9, "an input has neither data nor shape")                        \
    X(KILN_ERROR_STATE, 10, "the object is not in a state that allows the call")             \
    X(KILN_ERROR_BUSY, 11, "in use by another thread, or not ended yet")                     \
    X(KILN_ERROR_UNSUPPORTED, 12, "this cannot be done by the backend or version in use")    \
    X(KILN_ERROR_LIMIT, 13, "a stated limit is exceeded")                                    \
    X(KILN_ERROR_NOT_FOUND, 20, "no such file")                                              \
    X(KILN_ERROR_NOT_A_FILE, 21, "the path does not name a regular file")                    \
    X(KILN_ERROR_EMPTY, 22, "the file or buffer is empty")                                   \
    X(KILN_ERROR_IO, 23, "reading or writing failed")                                        \
    X(KILN_ERROR_MALFORMED, 24, "the bytes are not what they claim to be")                   \
    X(KILN_ERROR_INVALID_NETWORK, 25, "the network has problems that prevent a build")       \
    X(KILN_ERROR_MISMATCH, 26, "what was saved does not fit this machine, version or model") \
    X(KILN_ERROR_LIBRARY_ABSENT, 40, "a library is not installed")                           \
    X(KILN_ERROR_LIBRARY_BROKEN, 41, "a library was found but cannot be opened")             \
    X(KILN_ERROR_LIBRARY_SYMBOL, 42, "a library lacks a function that Kiln needs")           \
    X(KILN_ERROR_LIBRARY_VERSION, 43, "a library has a version that Kiln does not know")     \
    X(KILN_ERROR_NO_DEVICE, 44, "there is no such device")                                   \
    X(KILN_ERROR_OUT_OF_MEMORY, 45, "memory is exhausted")                                   \
    X(KILN_ERROR_BACKEND, 46, "the backend reported a failure")                              \
    X(KILN_ERROR_DEVICE, 47, "the device reported a failure")                                \
    X(KILN_ERROR_CANCELLED, 60, "the work was cancelled")                                    \
    X(KILN_ERROR_TIMEOUT, 61, "the time allowed has passed")                                 \
    X(KILN_ERROR_QUEUE_FULL, 62, "the queue is full")                                        \
    X(KILN_ERROR_INTERNAL, 79, "a defect in Kiln")

typedef enum kiln_status {
#define KILN_STATUS_ENUM_(name, value, text) name = value,
    KILN_STATUS_LIST(KILN_STATUS_ENUM_)
#undef KILN_STATUS_ENUM_
} kiln_status;

/* The name of `status` as written in C, such as "KILN_ERROR_SHAPE"; "KILN_ERROR_?" for a value that
 * is not in the list. Static storage. Any thread. Since 0.1. */
KILN_API const char *kiln_status_name(kiln_status status);

/* The general meaning of `status` in a few words of English. Static storage. Any thread. Since
 * 0.1. */
KILN_API const char *kiln_status_text(kiln_status status);

/* The sentence of this thread's last failed call: what was asked, which file, binding or node, what
 * was expected, what was found and, if there is one, the fix. "" if no call of this thread has
 * failed yet. A successful call leaves it unchanged, so read it only after a failure. At most 1,023
 * bytes of UTF-8; a longer one ends in "...". Owned by the library, valid until this thread's next
 * failing call. Since 0.1. */
KILN_API const char *kiln_error_message(void);

/* The sentence for the status that this thread's last call returned, for bindings that turn every
 * status into an error object. "" for KILN_OK; kiln_error_message() if that belongs to a failure
 * with this status; otherwise kiln_status_text(). A successful call is therefore never reported
 * with the sentence of an earlier failure, and no call has to clear anything. Valid as long as
 * kiln_error_message(). Since 0.1. */
KILN_API const char *kiln_status_message(kiln_status status);

#ifdef __cplusplus
}
#endif

#endif
