/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <string.h>

#include "cli.h"

typedef struct term {
    const char *library; /* the wording in the library's messages */
    const char *shell;   /* the equivalent in a shell */
} term;

/* Functions and members in the library's advice, and their equivalents here. A longer phrase comes
 * before any that it starts with. scripts/check_sentences.py reads this table. */
static const term advice[] = {
    {"`kiln doctor` and kiln_backend_get say why of each", "`kiln doctor` says why of each"},
    {"kiln_backend_get lists those there are", "`kiln doctor` lists those there are"},
    {"; restore the file, or set kiln_build_options.copy_file", "; restore the file and run again"},
    {"; give the weights by name (kiln_engine_refit)", ""},
    {"give a table of ranges (kiln_calibrate)",
     "give a table of ranges (kiln calibrate, --ranges)"},
    {"kiln_engine_load loads it", "kiln run and the others load it"},
    {"kiln_refit_options.allow_rounding", "--allow-rounding of `kiln refit`"},
    {"kiln_refit_options.allow_nonfinite", "--allow-nonfinite of `kiln refit`"},
    {"kiln_build_options.library", "--library"},
    {"kiln_build_options.allow_host_code", "--allow-host-code"},
    {"kiln_build_options.profile_nodes", "--layers"},
    {"(kiln_build_options.profiles), or the shape it will have (shape_hints)",
     "(--profile of `kiln build`, or --shape of the other commands)"},
    {"give a profile, or its shape (shape_hints)", "give --profile instead"},
    {"kiln_build_options.profiles", "--profile of `kiln build`"},
    {"kiln_build_options.refit", "--refit of `kiln build`"},
    {"refit: ", "new weights: "},
    {"kiln_build_options.shape_hints", "--shape"},
    {"kiln_calibrate_options.memory_bytes", "--memory"},
    {"kiln_calibrate_options.tensors", "--tensor"},
    {"kiln_compare_options.inputs, with or without data", "--shape"},
    {"kiln_context_options.graph_bytes allows", "a context may take"},
    {"kiln_engine_refit_file", "--refit-from"},
    {"kiln_plugin_load", "--plugin"},
    {"kiln_precision_options.bindings", "--scale and --stored"},
    {"kiln_precision_options.reduce_range", "--reduce-range"},
    {"kiln_precision_options.zero_points", "--zero-points"},
    {"kiln_precision_options.block_size", "--block"},
    {"kiln_precision_options.rest", "--rest"},
    {"kiln_context_reshape", "--shape"},
    {"kiln_context_bind", "--input"},
    {"shape_hints", "--shape"},
    {"KILN_PROVIDER_CUDA", "cuda"},
};

/* Members of other structures, and those whose option is not the library's. */
static const term members[] = {
    {"graphs", "graph"},
    {"profile_nodes", "layers"},
    {"shape_hints", "shape"},
};

static bool is_word(char c)
{
    return isalnum((unsigned char)c) != 0 || c == '_';
}

static size_t word_length(const char *text)
{
    size_t length = 0;
    while (is_word(text[length])) {
        length++;
    }
    return length;
}

static bool is_same(const char *name, const char *word, size_t length)
{
    return strncmp(name, word, length) == 0 && name[length] == '\0';
}

/* The option that sets a member, or NULL. */
static const char *option_of(const char *word, size_t length)
{
    kiln_build_option option = {.struct_size = sizeof option};
    for (size_t i = 0; i < kiln_build_option_count(); i++) {
        if (kiln_build_option_get(i, &option) == KILN_OK && option.flag != NULL &&
            is_same(option.name, word, length)) {
            return option.flag;
        }
    }
    for (size_t i = 0; i < CLI_ARRAY_LENGTH(members); i++) {
        if (is_same(members[i].library, word, length)) {
            return members[i].shell;
        }
    }
    return NULL;
}

/* Members are recognized in `"provider" is set`, as `tactic_sources: ` at the beginning, and as
 * `weight_streaming` anywhere. A word without _ may mean many things elsewhere, and names of
 * tensors and files are quoted or part of a path. */
static size_t take_member(const char *at, bool begins, cli_text *text)
{
    const bool quoted = at[0] == '"';
    const char *word = at + (quoted ? 1 : 0);
    const size_t length = word_length(word);
    const char *after = word + length;
    const char *option = option_of(word, length);
    bool is_member = false;
    if (quoted) {
        is_member = strncmp(after, "\" is set", 8) == 0;
    } else if (strchr(" ,;:)", *after) != NULL) {
        is_member = (begins && *after == ':') || memchr(word, '_', length) != NULL;
    }
    if (option == NULL || !is_member) {
        return 0;
    }
    cli_text_printf(text, "--%s", option);
    return length + (quoted ? 2 : 0);
}

static size_t take_advice(const char *at, cli_text *text)
{
    for (size_t i = 0; i < CLI_ARRAY_LENGTH(advice); i++) {
        const size_t length = strlen(advice[i].library);
        if (strncmp(at, advice[i].library, length) == 0 &&
            (!is_word(at[length]) || !is_word(at[length - 1]))) {
            cli_text_add(text, advice[i].shell);
            return length;
        }
    }
    return 0;
}

/* Skips a prefix like "kiln_build_options: ", which tells a C program where to look. */
static size_t skip_function(const char *at)
{
    const size_t length = strncmp(at, "kiln_", 5) == 0 ? word_length(at) : 0;
    return length > 0 && strncmp(at + length, ": ", 2) == 0 ? length + 2 : 0;
}

char *cli_in_shell(const char *sentence)
{
    cli_text text = {NULL, 0, 0};
    const char *at = sentence;
    bool begins = true;
    cli_text_append(&text, "", 0);
    while (*at != '\0') {
        const bool between = at == sentence || at[-1] == ' ' || at[-1] == '(';
        size_t taken = between || !is_word(*at) ? take_advice(at, &text) : 0;
        const size_t function = taken == 0 && between ? skip_function(at) : 0;
        if (taken + function == 0 && between) {
            taken = take_member(at, begins, &text);
        }
        if (taken + function == 0) {
            cli_text_append(&text, at, 1);
            taken = 1;
        }
        begins = begins && function > 0;
        at += taken + function;
    }
    return text.data;
}
