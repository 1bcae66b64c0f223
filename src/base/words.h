/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that the server and the program share with the library (kiln_words of
 * server/CMakeLists.txt): singular and plural in sentences (kln_agree), and UTF-8. */
#ifndef KLN_WORDS_H
#define KLN_WORDS_H

#include <stdbool.h>
#include <stdint.h>

#include "fail.h"

static inline bool kln_utf8_is_valid(const char *text, size_t size)
{
    uint32_t point = 0;
    size_t length = 1;
    for (size_t at = 0; at < size && length != 0; at += length) {
        length = kln_utf8_read(text + at, size - at, &point);
    }
    return length != 0;
}

#endif
