/* Makes noun and verb agree with the number 1: "1 dimension is needed".
 * SPDX-License-Identifier: Apache-2.0 */
#include "kln_base.h"

/* The nouns that messages put after a number. scripts/check_sentences.py reads this table. */
static const char *const nouns[][2] = {
    {"activations", "activation"},
    {"attentions", "attention"},
    {"attributes", "attribute"},
    {"axes", "axis"},
    {"backends", "backend"},
    {"batches", "batch"},
    {"bits", "bit"},
    {"blocks", "block"},
    {"branches", "branch"},
    {"bytes", "byte"},
    {"casts", "cast"},
    {"channels", "channel"},
    {"classes", "class"},
    {"columns", "column"},
    {"connections", "connection"},
    {"contexts", "context"},
    {"dimensions", "dimension"},
    {"elements", "element"},
    {"ends", "end"},
    {"engines", "engine"},
    {"entries", "entry"},
    {"errors", "error"},
    {"files", "file"},
    {"functions", "function"},
    {"groups", "group"},
    {"heads", "head"},
    {"indices", "index"},
    {"inputs", "input"},
    {"keys", "key"},
    {"lengths", "length"},
    {"lines", "line"},
    {"measurements", "measurement"},
    {"messages", "message"},
    {"nodes", "node"},
    {"numbers", "number"},
    {"operands", "operand"},
    {"outputs", "output"},
    {"pads", "pad"},
    {"pairs", "pair"},
    {"passes", "pass"},
    {"pieces", "piece"},
    {"places", "place"},
    {"points", "point"},
    {"products", "product"},
    {"profiles", "profile"},
    {"queries", "query"},
    {"repeats", "repeat"},
    {"requests", "request"},
    {"rows", "row"},
    {"runs", "run"},
    {"scales", "scale"},
    {"scores", "score"},
    {"seconds", "second"},
    {"sequences", "sequence"},
    {"sizes", "size"},
    {"slices", "slice"},
    {"starts", "start"},
    {"steps", "step"},
    {"strings", "string"},
    {"targets", "target"},
    {"tensors", "tensor"},
    {"terms", "term"},
    {"times", "time"},
    {"tokens", "token"},
    {"updates", "update"},
    {"values", "value"},
    {"ways", "way"},
    {"windows", "window"},
};

static const char *const verbs[][2] = {
    {" are ", " is "},
    {" were ", " was "},
    {" have ", " has "},
};

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           strchr("._-,#x", c) != NULL;
}

/* Replaces the first `length` bytes by the shorter word. */
static void put(char *at, size_t length, const char *word)
{
    const size_t shorter = strlen(word);
    memcpy(at, word, shorter);
    memmove(at + shorter, at + length, strlen(at + length) + 1);
}

/* The verb follows the noun and any parentheses after it. */
static void agree_verb(char *at)
{
    const char *closed = strncmp(at, " (", 2) == 0 ? strchr(at, ')') : NULL;
    at = closed != NULL ? at + (closed - at) + 1 : at;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(verbs); i++) {
        const size_t length = strlen(verbs[i][0]);
        if (strncmp(at, verbs[i][0], length) == 0) {
            put(at, length, verbs[i][1]);
            return;
        }
    }
}

static void agree_noun(char *at)
{
    const size_t length = strspn(at, "abcdefghijklmnopqrstuvwxyz");
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(nouns); i++) {
        if (strlen(nouns[i][0]) == length && memcmp(nouns[i][0], at, length) == 0) {
            put(at, length, nouns[i][1]);
            agree_verb(at + strlen(nouns[i][1]));
            return;
        }
    }
}

void kln_agree(char *text)
{
    bool quoted = false;
    for (char *at = text; *at != '\0'; at++) {
        quoted = quoted != (*at == '"');
        const bool begins = at == text || !is_letter(at[-1]);
        /* "0 to 1 inputs", "none of the 1 inputs", "1 of 1 inputs" */
        const size_t behind = (size_t)(at - text);
        const bool ranges =
            (behind >= 3 && memcmp(at - 3, "to ", 3) == 0) ||
            (behind >= 4 && memcmp(at - 4, "the ", 4) == 0) ||
            (behind >= 5 && memcmp(at - 4, " of ", 4) == 0 && at[-5] >= '0' && at[-5] <= '9');
        if (!quoted && begins && !ranges && at[0] == '1' && at[1] == ' ') {
            agree_noun(at + 2);
        }
    }
}
