/*
 * library_record.h - what the loader remembers of one library while it looks for it and after.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KLN_LIBRARY_RECORD_H
#define KLN_LIBRARY_RECORD_H

#include "kln_loader.h"

/* The most lines and characters that are kept: wildcards must not make a report endless. */
#define KLN_PLACE_LIMIT ((size_t)256)
#define KLN_PLACE_TEXT ((size_t)96 * 1024)

/* One anonymous mapping, not a piece of the heap: rooms keep a record as long as the process lives,
 * and kiln_set_allocator must stay possible then. Pages that nobody writes cost nothing. */
struct kln_library {
    const kln_library_spec *spec;
    void *handle; /* of dlopen, or NULL */
    const char *path;
    const char *version;
    kiln_library_state state;
    /* The first file that was there and did not work: what the search fails with in the end. */
    kiln_status failure;
    const char *failure_line;
    const char *places[KLN_PLACE_LIMIT];
    size_t place_count;
    size_t text_used;
    char text[KLN_PLACE_TEXT]; /* every string above */
};

/* Keeps "PLACE: words". */
void kln_record_place(kln_library *library, const char *place, const char *words);

/* Keeps the line of a file that is there but does not work, and remembers the first of them. */
void kln_record_failure(kln_library *library, kiln_status failure, const char *place,
                        const char *words);

/* Tries one file by its path. True: it opened, and the search is over. */
bool kln_library_try_path(kln_library *library, const char *path, void *table);

/* Tries one file by its name, in the places of the system's own search. */
bool kln_library_try_name(kln_library *library, const char *name, void *table);

/* Goes through every place of the specification until one opens. */
bool kln_library_search(kln_library *library, void *table);

/* Tries `path`, a file or a folder, and nothing else. */
bool kln_library_search_path(kln_library *library, const char *path, void *table);

/* Writes why the file at `path` cannot be a whole library for this processor, and returns false;
 * true where nothing speaks against opening it. The dynamic linker ends the process with SIGBUS on
 * a library that was cut short, so it must not be shown one. */
bool kln_elf_is_whole(const char *path, char reason[KLN_LIBRARY_REASON]);

#endif
