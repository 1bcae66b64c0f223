/* SPDX-License-Identifier: Apache-2.0 */
/* What the loader remembers about a library, during the search and after it. */
#ifndef KLN_LIBRARY_RECORD_H
#define KLN_LIBRARY_RECORD_H

#include "kln_loader.h"

/* The most lines and characters that are kept: wildcards must not make a report endless. */
#define KLN_PLACE_LIMIT ((size_t)256)
#define KLN_PLACE_TEXT ((size_t)96 * 1024)
/* The most copies of one library in one process that are looked at. */
#define KLN_LOADED_LIMIT ((size_t)8)

/* One anonymous mapping, not a piece of the heap: modules keep a record as long as the process
 * lives, and kiln_set_allocator must stay possible then. Pages that nobody writes cost nothing. */
struct kln_library {
    const kln_library_spec *spec;
    void *handle; /* of dlopen, or NULL */
    bool is_own;  /* nobody else in the process had it open before */
    const char *path;
    const char *version;
    kiln_library_state state;
    /* The first file that was there and did not work: what the search fails with in the end. */
    kiln_status failure;
    const char *failure_line;
    const char *places[KLN_PLACE_LIMIT];
    size_t place_count;
    char loaded[KLN_LOADED_LIMIT][PATH_MAX]; /* open in this process already, of its names */
    size_t loaded_count;
    size_t text_used;
    char text[KLN_PLACE_TEXT]; /* every string above */
};

/* `text` in the record, cut where the record is full. */
const char *kln_record_keep(kln_library *library, const char *text);
/* Keeps "PLACE: words". */
void kln_record_place(kln_library *library, const char *place, const char *words);

/* Tries one file by its path. True: it opened, and the search is over. */
bool kln_library_try_path(kln_library *library, const char *path, void *table);

/* Tries one file by its name, in the places of the system's own search. */
bool kln_library_try_name(kln_library *library, const char *name, void *table);

/* Tries the spec's files in a folder. */
bool kln_library_is_folder(const char *path);
/* Where wildcards were met: a file of libraries, or folders with them. */
typedef bool kln_library_visit(kln_library *library, const char *path, void *table);
bool kln_library_expand(kln_library *library, const char *root, const char *tail,
                        kln_library_visit *each, void *table);
bool kln_library_search_folder(kln_library *library, const char *folder, void *table);

/* Tries what others in the process have open (library_loaded.c). */
bool kln_library_search_loaded(kln_library *library, void *table);

/* Tries the folders of the RUNPATH of the object that Kiln is part of (library_loaded.c). */
bool kln_library_search_runpath(kln_library *library, void *table);

/* Whether somebody else in the process has the library at `path` open, and the list of those that
 * only Kiln has (library_loaded.c). */
bool kln_library_is_loaded(const char *path);
void kln_library_remember_own(const void *handle);

/* Goes through every place of the specification until one opens. */
bool kln_library_search(kln_library *library, void *table);

/* Tries `path`, a file or a folder, and nothing else. */
bool kln_library_search_path(kln_library *library, const char *path, void *table);

/* Whether only who is trusted can have written the library at `path` (links resolved): the file,
 * and every folder above it. Writes why not (library_trust.c). */
bool kln_library_is_safe(const char *path, char reason[KLN_LIBRARY_REASON]);

/* Whether the file at `path` can be a whole library for this processor: KILN_OK where nothing
 * speaks against opening it; LIBRARY_BROKEN, or OUT_OF_MEMORY where it could not be looked at for
 * want of memory or descriptors, with the reason. The dynamic linker ends the process with SIGBUS
 * on a library that was cut short, so it must not be shown one. */
KILN_MUST_CHECK kiln_status kln_elf_check(const char *path, char reason[KLN_LIBRARY_REASON]);

/* Whether an error of the system (its errno) is a shortage that may be over at the next try. */
bool kln_is_shortage(int reason);

#endif
