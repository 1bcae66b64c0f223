/*
 * library_record.h - what the loader remembers of one library while it looks for it and after.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KLN_LIBRARY_RECORD_H
#define KLN_LIBRARY_RECORD_H

#include "kln_loader.h"

struct kln_library {
    const kln_library_spec *spec;
    void *handle;    /* of dlopen, or NULL */
    kln_arena arena; /* owns every string below */
    const char **places;
    size_t place_count;
    size_t place_capacity;
    const char *path;
    const char *version;
    kiln_library_state state;
    /* The first file that was there and did not work: what the search fails with in the end. */
    kiln_status failure;
    const char *failure_line;
};

/* The most lines that are kept: wildcards must not make a report endless. */
#define KLN_PLACE_LIMIT ((size_t)512)

/* Keeps "PLACE: words". OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_record_place(kln_library *library, const char *place,
                                             const char *words);

/* Keeps the line of a file that is there but does not work, and remembers the first of them. */
KILN_MUST_CHECK kiln_status kln_record_failure(kln_library *library, kiln_status failure,
                                               const char *place, const char *words);

/* Tries one file by its path. `*opened` says whether the search is over; OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_library_try_path(kln_library *library, const char *path,
                                                 void *table, bool *opened);

/* Tries one file by its name, in the places of the system's own search. */
KILN_MUST_CHECK kiln_status kln_library_try_name(kln_library *library, const char *name,
                                                 void *table, bool *opened);

/* Goes through every place of the specification until one opens. */
KILN_MUST_CHECK kiln_status kln_library_search(kln_library *library, void *table, bool *opened);

/* Tries `path`, a file or a folder, and nothing else. */
KILN_MUST_CHECK kiln_status kln_library_search_path(kln_library *library, const char *path,
                                                    void *table, bool *opened);

/* Writes why the file at `path` cannot be a whole library for this processor, and returns false;
 * true where nothing speaks against opening it. The dynamic linker ends the process with SIGBUS on
 * a library that was cut short, so it must not be shown one. */
bool kln_elf_is_whole(const char *path, char reason[KLN_LIBRARY_REASON]);

#endif
