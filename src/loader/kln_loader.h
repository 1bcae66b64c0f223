/* SPDX-License-Identifier: Apache-2.0 */
/* Finding and opening foreign libraries, with the reason if that fails. */
#ifndef KLN_LOADER_H
#define KLN_LOADER_H

#include <kiln/system.h>

#include "base/kln_base.h"

/* One function of a foreign library: where its address goes in the caller's table. */
typedef struct kln_symbol {
    const char *name;
    size_t offset;       /* of the pointer in the table */
    const char *feature; /* NULL: required; else what is switched off where it is missing */
} kln_symbol;

/* Room for a version and for a reason, terminators included. */
#define KLN_LIBRARY_VERSION 64
#define KLN_LIBRARY_REASON 256

/* How one library is found. All static. Lists end with NULL; an absent list is NULL. */
typedef struct kln_library_spec {
    const char *name;        /* "ONNX Runtime" */
    const char *purpose;     /* "runs ONNX models on the CPU" */
    const char *environment; /* variable with a path of a file or folder: "KILN_ONNXRUNTIME" */
    /* Names to try in a folder, best first; "*" allowed, where the newest version comes first. */
    const char *const *files;
    /* Folders inside a Python site-packages, "*" allowed: "onnxruntime/capi", "nvidia/cu*" */
    const char *const *packages;
    /* Absolute folders, "*" allowed: "/usr/local/cuda/lib64", "/opt/TensorRT-*" */
    const char *const *folders;
    const kln_symbol *symbols; /* ended by a NULL name */
    size_t table_size;
    /* The copy that the process has already, or that the system's search finds, goes before those
     * in the places above: a library that others in the process use must not be there twice. */
    bool system_first;
    const char *advice; /* what to do where it is absent: "pip install onnxruntime, or set ..." */
    /* Optional. Looks at an opened library through its table: writes its version, and where Kiln
     * cannot use it returns false and writes why; the search goes on then. */
    bool (*accept)(const void *table, char version[KLN_LIBRARY_VERSION],
                   char reason[KLN_LIBRARY_REASON]);
} kln_library_spec;

/* The record of a search. It lies outside the heap, so that it may stay as long as the process. */
typedef struct kln_library kln_library;

/* What a module that uses foreign libraries says about one of them, for the system report. */
typedef struct kln_library_use {
    const kln_library_spec *spec;
    const kln_library *library; /* looked for already */
    const char *version;        /* "" where it is not open or does not say */
} kln_library_use;

/* Looks in this order: `explicit_path` alone if given; else the environment variable alone if set;
 * else what others in this process have open, the folders of Kiln's own RUNPATH, the site-packages
 * of an active virtual environment and of the usual Python places, the spec's folders, and at last
 * (or second, where the spec says so) the system's own search (dlopen by name). A path of a folder
 * stands for its files and those in its lib and lib64. A file that everybody can write is refused.
 * Opens the first that works with RTLD_NOW | RTLD_LOCAL and fills `table` (of spec->table_size
 * bytes; zeroed when nothing works). `*library` is set in any case but for want of memory: it keeps
 * one line for each place. LIBRARY_ABSENT where no file is there at all; else what the first
 * file failed with: LIBRARY_BROKEN (not a library, or a library it needs is missing),
 * LIBRARY_SYMBOL, LIBRARY_VERSION. OUT_OF_MEMORY is no answer: memory or descriptors are short, and
 * the next call may have more luck. Any thread. */
KILN_MUST_CHECK kiln_status kln_library_open(const kln_library_spec *spec,
                                             const char *explicit_path, void *table,
                                             kln_library **library);

/* The same where `explicit_path` is from elsewhere, for the sentence: named by `origin`, a
 * variable, or, where it is not named, the folder of `origin`. */
KILN_MUST_CHECK kiln_status kln_library_open_for(const kln_library_spec *spec,
                                                 const char *explicit_path, const char *origin,
                                                 bool is_named, void *table, kln_library **library);

/* Only looks whether one of the spec's files (names without "*") is in `folder` and whole, for a
 * library that something else opens: FOUND, ABSENT or BROKEN, with its path and a line for each.
 * `folder` is NULL where nobody knows it. OUT_OF_MEMORY alone fails. Any thread. */
KILN_MUST_CHECK kiln_status kln_library_look(const kln_library_spec *spec, const char *folder,
                                             kln_library **library);

/* Closes it. NULL is allowed. A library that keeps threads of its own (ONNX Runtime, CUDA) is
 * better never closed: kln_library_forget. */
void kln_library_close(kln_library *library);

/* Releases the record and leaves the library open as long as the process lives. NULL is allowed. */
void kln_library_forget(kln_library *library);

/* Lets the opened library call `function` where it would call `import` ("getenv") of another one.
 * False where it does not import that, where it is not known how, and for a library that somebody
 * else in the process had open before: that one is left alone. Before it has threads. */
bool kln_library_redirect(const kln_library *library, const char *import, const void *function);

/* Whether nobody else in the process had the opened library open before. */
bool kln_library_is_own(const kln_library *library);
/* The resolved path of the opened file, or "". The library's, like every string below. */
const char *kln_library_path(const kln_library *library);
/* What spec->accept wrote, or "". */
const char *kln_library_version(const kln_library *library);
kiln_library_state kln_library_state(const kln_library *library);
size_t kln_library_place_count(const kln_library *library);
/* "/usr/lib/libonnxruntime.so: opened, version 1.31.1"; NULL past the end. */
const char *kln_library_place(const kln_library *library, size_t index);

/* Whether the library at `path` says that the dynamic linker must load `name` ("libcudart.so.13")
 * with it. False for what is not a library. */
bool kln_library_needs(const char *path, const char *name);

/* For a module that finds, after opening, that it cannot use this version: state becomes REFUSED
 * and one more line is kept. */
void kln_library_refuse(kln_library *library, const char *reason);

#endif
