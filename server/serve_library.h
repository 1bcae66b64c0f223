/* SPDX-License-Identifier: Apache-2.0 */
/* Libraries that are opened when they are needed, as tables of their functions. */
#ifndef KILN_SERVE_LIBRARY_H
#define KILN_SERVE_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

typedef struct serve_symbol {
    const char *name;
    size_t offset; /* of its pointer in the table */
} serve_symbol;

typedef struct serve_library {
    const char *file;
    const char *user; /* what needs it */
    const char *name, *version, *package;
    const serve_symbol *symbols;
    size_t count;
} serve_library;

/* Fills the table. False and a sentence where the library is not here, or too old; it stays open.
 * One thread at a time. */
bool serve_library_open(const serve_library *library, void *table, char *sentence, size_t size);

#endif
