/* SPDX-License-Identifier: Apache-2.0 */
/* The words of protobuf's text format. */
#ifndef KILN_SERVER_PBTXT_LEXER_H
#define KILN_SERVER_PBTXT_LEXER_H

#include "pbtxt.h"

typedef enum pbtxt_word {
    PBTXT_END,
    PBTXT_NAME,
    PBTXT_NUMBER, /* without a sign */
    PBTXT_STRING, /* with its quotes */
    PBTXT_MARK    /* a single character */
} pbtxt_word;

typedef struct pbtxt_reader {
    const char *at; /* behind the word */
    const char *end;
    pbtxt_place next; /* of `at` */
    pbtxt_word kind;  /* of the word, and where and how long it is */
    const char *start;
    size_t length;
    pbtxt_place place;
    pbtxt_memory *memory;
    char *error; /* PBTXT_ERROR_SIZE */
} pbtxt_reader;

/* The next word. */
bool pbtxt_lexer_next(pbtxt_reader *reader);
/* The value of the strings that stand here side by side, and the word behind them. */
bool pbtxt_lexer_text(pbtxt_reader *reader, const char **text);
/* The value of a number; false where it is not a whole one. */
bool pbtxt_lexer_whole(const pbtxt_reader *reader, uint64_t *value, bool *overflows);

/* Zeroed, or NULL. */
void *pbtxt_alloc(pbtxt_memory *memory, size_t bytes);

#endif
