/* SPDX-License-Identifier: Apache-2.0 */
/* Language models of a few thousand weights, which are the same in each form: what one puts out
 * another one does. */
#ifndef LANGUAGE_MODEL_H
#define LANGUAGE_MODEL_H

#include "kiln_test.h"

#define VOCABULARY 61
#define POSITIONS 96
#define HEADS 4
#define HEAD 8
#define WIDTH (HEADS * HEAD)
#define LAYERS 2
#define ENCODED 5 /* positions of what an encoder reads, at most */

typedef enum language_form {
    MODEL_GROWING, /* past and present as exporters make them */
    MODEL_NEW,     /* present: the new positions */
    MODEL_WHOLE,   /* a past of POSITIONS, cache_position */
    MODEL_ENCODER, /* input_features -> last_hidden_state */
    MODEL_FIRST,   /* a decoder without a past, with encoder_hidden_states */
    MODEL_CROSS,   /* and with one, keys and values of the encoder among it */
    MODEL_MERGED   /* both of these, as use_cache_branch says */
} language_form;

/* What a model lacks, or has beside. */
typedef struct language_options {
    language_form form;
    bool no_mask, no_positions, last_only;
    kiln_dtype tokens; /* UNDEFINED: int64 */
    kiln_dtype mask;   /* likewise */
    float poison;      /* added to the embedding of the last token of the vocabulary */
} language_options;

/* The weights are static. */
kiln_network *language_network(const language_options *options);

#endif
