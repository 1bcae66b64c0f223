/* SPDX-License-Identifier: Apache-2.0 */
/* Finding and opening foreign libraries, with the reason if that fails. */
#ifndef KLN_LOADER_H
#define KLN_LOADER_H

#include <kiln/system.h>

#include "base/kln_base.h"

/* One function of a foreign library, and where its address goes in the caller's table. */
typedef struct kln_symbol {
    const char *name;
    size_t offset;       /* of the pointer in the table */
    const char *feature; /* NULL: required; otherwise the feature that is off if it is missing */
} kln_symbol;

/* Size of a version and of a reason, terminators included. */
#define KLN_LIBRARY_VERSION 64
#define KLN_LIBRARY_REASON 256

/* How to find a library. All static. Lists are NULL-terminated; an absent list is NULL. */
typedef struct kln_library_spec {
    const char *name;        /* "ONNX Runtime" */
    const char *purpose;     /* "runs ONNX models on the CPU" */
    const char *environment; /* environment variable with the path of a file or folder:
                                "KILN_ONNXRUNTIME" */
    /* File names to try in a folder, best first; "*" is allowed, and the newest version comes
     * first. */
    const char *const *files;
    /* Folders inside a Python site-packages, "*" allowed: "onnxruntime/capi", "nvidia/cu*" */
    const char *const *packages;
    /* Absolute folders, "*" allowed: "/usr/local/cuda/lib64", "/opt/TensorRT-*" */
    const char *const *folders;
    const kln_symbol *symbols; /* terminated by a NULL name */
    size_t table_size;
    /* Prefer the copy that the process has already loaded, or that the system's search finds, over
     * the places above: a library that others in the process use must not be loaded twice. */
    bool system_first;
    const char *advice; /* what to do if it is absent: "pip install onnxruntime, or set ..." */
    /* Optional. Examines an opened library through its table: writes its version, and returns false
     * with a reason if Kiln cannot use it; the search then continues. */
    bool (*accept)(const void *table, char version[KLN_LIBRARY_VERSION],
                   char reason[KLN_LIBRARY_REASON]);
} kln_library_spec;

/* The record of a search. Outside the heap, so that it may stay as long as the process. */
typedef struct kln_library kln_library;

/* One foreign library of a module, for the system report. */
typedef struct kln_library_use {
    const kln_library_spec *spec;
    const kln_library *library; /* already looked for */
    const char *version;        /* "" if it is not open or does not tell */
} kln_library_use;

/* Looks for a library, in this order:
 *
 * - only `explicit_path`, if given;
 * - otherwise only the environment variable, if set;
 * - otherwise: copies that others in this process have open, the folders of Kiln's own RUNPATH, the
 *   site-packages of an active virtual environment and of the usual Python installations, the
 *   spec's folders, and last (or second, if the spec says so) the system's own search (dlopen by
 *   name).
 *
 * The path of a folder stands for its files and those in its lib and lib64. A world-writable file
 * is refused. Opens the first that works with RTLD_NOW | RTLD_LOCAL and fills `table` (of
 * spec->table_size bytes; zeroed if none works). `*library` is set in every case except
 * OUT_OF_MEMORY, and keeps one line for each place.
 *
 * LIBRARY_ABSENT if there is no file at all; otherwise the error of the first file: LIBRARY_BROKEN
 * (not a library, or a library it needs is missing), LIBRARY_SYMBOL, LIBRARY_VERSION. OUT_OF_MEMORY
 * is not an answer: memory or descriptors are short, and the next call may succeed. Any thread. */
KILN_MUST_CHECK kiln_status kln_library_open(const kln_library_spec *spec,
                                             const char *explicit_path, void *table,
                                             kln_library **library);

/* The same for an `explicit_path` from elsewhere, as the sentence explains: named by `origin`, a
 * variable, or, if it is not named, in the folder of `origin`. */
KILN_MUST_CHECK kiln_status kln_library_open_for(const kln_library_spec *spec,
                                                 const char *explicit_path, const char *origin,
                                                 bool is_named, void *table, kln_library **library);

/* Only checks whether one of the spec's files (names without "*") is in `folder` and valid, for a
 * library that something else opens: FOUND, ABSENT or BROKEN, with its path and a line for each.
 * `folder` is NULL if it is not known. Fails only with OUT_OF_MEMORY. Any thread. */
KILN_MUST_CHECK kiln_status kln_library_look(const kln_library_spec *spec, const char *folder,
                                             kln_library **library);

/* Closes the library. NULL is allowed. A library with threads of its own (ONNX Runtime, CUDA)
 * should not be closed: use kln_library_forget. */
void kln_library_close(kln_library *library);

/* Releases the record, but leaves the library open as long as the process lives. NULL is
 * allowed. */
void kln_library_forget(kln_library *library);

/* Makes the opened library call `function` in place of the `import` ("getenv") of another library.
 * False if it does not import that, if that cannot be done, and for a library that something else
 * in the process had opened before, which is left alone. Call it before the library has threads. */
bool kln_library_redirect(const kln_library *library, const char *import, const void *function);

/* Whether nothing else in the process had opened the library before. */
bool kln_library_is_own(const kln_library *library);
/* The resolved path of the opened file, or "". Owned by the library, as all strings below. */
const char *kln_library_path(const kln_library *library);
/* What spec->accept wrote, or "". */
const char *kln_library_version(const kln_library *library);
kiln_library_state kln_library_state(const kln_library *library);
size_t kln_library_place_count(const kln_library *library);
/* "/usr/lib/libonnxruntime.so: opened, version 1.31.1"; NULL past the end. */
const char *kln_library_place(const kln_library *library, size_t index);

/* Whether the library at `path` requires the dynamic linker to load `name` ("libcudart.so.13") with
 * it. False if it is not a library. */
bool kln_library_needs(const char *path, const char *name);

/* For a module that finds after opening that it cannot use this version: the state becomes REFUSED,
 * and one more line is kept. */
void kln_library_refuse(kln_library *library, const char *reason);

#endif
