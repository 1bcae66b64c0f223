/* SPDX-License-Identifier: Apache-2.0 */
/* Protobuf's text format, read into plain structs that tables describe.
 *
 * Everything of the format is taken: comments, `name: value` and `name { ... }`, `< >` for `{ }`,
 * lists in brackets, `,` and `;` between fields, strings of either quote with escapes and joined
 * where they stand side by side, numbers in decimal, hexadecimal and octal. A field that no table
 * has is skipped and named in a warning; whatever is wrong is an error with its line and column.
 * Protobuf's own C libraries read the binary form alone. */
#ifndef KILN_SERVER_PBTXT_H
#define KILN_SERVER_PBTXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where something stands, from 1. A struct that a table describes begins with one. */
typedef struct pbtxt_place {
    int32_t line;
    int32_t column;
} pbtxt_place;

typedef enum pbtxt_kind {
    PBTXT_TEXT, /* UTF-8; NULL where it is not given */
    PBTXT_BOOL,
    PBTXT_INT32,
    PBTXT_INT64,
    PBTXT_UINT32,
    PBTXT_UINT64,
    PBTXT_ENUM,    /* int32_t, of `values` */
    PBTXT_MESSAGE, /* a pointer to a struct of `message`; NULL where it is not given */
    PBTXT_IGNORED, /* nobody reads it: as an unknown field, in other words */
    PBTXT_REFUSED  /* an error: the rest means something else without it */
} pbtxt_kind;

/* What the members of these are. */
#define PBTXT_C_TEXT const char *
#define PBTXT_C_BOOL bool
#define PBTXT_C_INT32 int32_t
#define PBTXT_C_INT64 int64_t
#define PBTXT_C_UINT32 uint32_t
#define PBTXT_C_UINT64 uint64_t

typedef struct pbtxt_value {
    const char *name; /* NULL: the end of a table */
    int32_t value;
} pbtxt_value;

typedef struct pbtxt_field {
    const char *name;
    pbtxt_kind kind;
    uint8_t choice;      /* of fields with one number that is not 0 one at most is given */
    bool repeated;       /* the member is a pointer to as many as `count_offset` tells, a size_t */
    size_t offset;       /* of the member */
    size_t count_offset; /* repeated ones only */
    const pbtxt_value *values;
    const struct pbtxt_message *message;
} pbtxt_field;

typedef struct pbtxt_message {
    const char *name;
    size_t size; /* of its struct, which begins with a pbtxt_place and is zeroed before */
    const pbtxt_field *fields;
    size_t field_count; /* 64 at most */
} pbtxt_message;

/* Memory of what was read, all given back at once. Zeroed: empty. */
typedef struct pbtxt_memory {
    struct pbtxt_chunk *chunks;
    const char **warnings; /* sentences with line and column, in their order */
    size_t warning_count;  /* at most PBTXT_MOST_WARNINGS */
    size_t unnamed;        /* that were left out beyond those */
    bool is_short;         /* there was not enough of it */
} pbtxt_memory;

#define PBTXT_MOST_WARNINGS 32
#define PBTXT_MOST_BYTES ((size_t)1 << 20) /* of a text */
#define PBTXT_ERROR_SIZE 400               /* of a sentence */

/* Reads a text into a struct of `message`. false: `error` says "line 3, column 7: ...", and what
 * was read up to there is to be given back all the same. Recurses as deep as the tables do. */
bool pbtxt_read(const char *text, size_t size, const pbtxt_message *message, void *into,
                pbtxt_memory *memory, char error[PBTXT_ERROR_SIZE]);

/* Writes an error about something that was read. Always false. */
__attribute__((format(printf, 3, 4))) bool pbtxt_fail(char error[PBTXT_ERROR_SIZE],
                                                      pbtxt_place place, const char *format, ...);

void pbtxt_finish(pbtxt_memory *memory);

#endif
