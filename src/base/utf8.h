/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8, for the library, the server and the program alike. */
#ifndef KLN_UTF8_H
#define KLN_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Replaces each byte that is not UTF-8 by "?": names come from files, sentences go to JSON. */
void kln_utf8_clean(char *text);
/* Bytes of the UTF-8 character that `text` begins with, and what it is; 0 where it is none. */
size_t kln_utf8_read(const char *text, size_t size, uint32_t *point);
/* A character in up to 4 bytes; how many. */
size_t kln_utf8_write(uint32_t point, char *to);
static inline bool kln_utf8_is_point(uint32_t point)
{
    return point < 0xD800 || (point > 0xDFFF && point <= 0x10FFFF);
}
/* Bytes of the text that are UTF-8; all of them where it is. */
size_t kln_utf8_valid(const char *text, size_t size);

#endif
