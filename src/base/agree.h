/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KLN_AGREE_H
#define KLN_AGREE_H

/* Makes "1 dimension is" of a sentence "1 dimensions are"; what is quoted stays (agree.c). */
void kln_agree(char *text);

#endif
