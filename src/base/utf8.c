/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_base.h"

/* https://www.unicode.org/versions/latest, table 3-7 */
size_t kln_utf8_read(const char *text, size_t size, uint32_t *point)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *bytes = (const unsigned char *)text;
    if (size == 0 || (bytes[0] >= 0x80 && bytes[0] < 0xC2) || bytes[0] > 0xF4) {
        return 0;
    }
    const size_t length = bytes[0] < 0x80 ? 1 : bytes[0] < 0xE0 ? 2 : bytes[0] < 0xF0 ? 3 : 4;
    if (length > size) {
        return 0;
    }
    uint32_t value = length == 1 ? bytes[0] : bytes[0] & (0x7FU >> length);
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xC0U) != 0x80U) {
            return 0;
        }
        value = value << 6 | (bytes[i] & 0x3FU);
    }
    *point = value;
    return value >= least[length] && kln_utf8_is_point(value) ? length : 0;
}

size_t kln_utf8_write(uint32_t point, char *to)
{
    if (point < 0x80) {
        to[0] = (char)point;
        return 1;
    }
    const size_t length = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = length; i-- > 1; point >>= 6) {
        to[i] = (char)(0x80U | (point & 0x3FU));
    }
    to[0] = (char)((0xF00U >> length & 0xFFU) | point);
    return length;
}

void kln_utf8_clean(char *text)
{
    for (size_t left = strlen(text); left != 0;) {
        uint32_t point = 0;
        size_t length = kln_utf8_read(text, left, &point);
        if (length == 0) {
            *text = '?';
            length = 1;
        }
        text += length;
        left -= length;
    }
}
