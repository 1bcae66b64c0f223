/* SPDX-License-Identifier: Apache-2.0 */
/* From a model and its options to an engine with its inputs bound, and looking at tensors. */
#ifndef KILN_CLI_MODEL_H
#define KILN_CLI_MODEL_H

#include "cli.h"

/* --- the engine (cli_model.c) --- */

typedef struct cli_model_settings {
    kiln_build_options *build; /* of the library's options; NULL: none was given */
    int graph;                 /* kiln_graph_policy */
    const char *refit;
    bool no_cache;
    const struct cli_input_settings *shapes; /* no option: where a build that needs an optimization
                                                profile takes it from; or NULL */
    bool profile_nodes;                      /* no option: kiln_build_options.profile_nodes */
} cli_model_settings;

extern const cli_option cli_model_options[];

/* What a build is told. */
kiln_build_options cli_model_build(const cli_model_settings *settings);

/* Which cache it uses. MISUSED where two options contradict each other. */
cli_exit cli_model_cache(const cli_command *command, const cli_model_settings *settings,
                         kiln_build_options *options);

/* One call of the library that loads or builds. */
typedef struct cli_loading {
    kiln_build_options options;
    struct kiln_shape_hint *hints;
    struct kiln_profile_input *ranges; /* from the smallest batch to the largest; or NULL */
    struct kiln_profile profile;
    kiln_network *network; /* that was read for them, and has their names; or NULL */
    kiln_issue_list *issues;
} cli_loading;

/* Fills in the options for `path`, whose `network` the caller may have read already. */
cli_exit cli_loading_begin(const cli_command *command, const char *path, kiln_network *network,
                           const cli_model_settings *settings, cli_loading *loading);
/* Says why a call with so many of these failed, where it did, and frees what it was told. */
cli_exit cli_loading_end(const cli_command *command, cli_loading *loadings, size_t count,
                         kiln_status status);

/* Loads or builds `path`; says why when that fails. */
cli_exit cli_model_open(const cli_command *command, const char *path,
                        const cli_model_settings *settings, kiln_engine **engine);

/* Shows that `path` is being built, until cli_progress_end. */
void cli_model_progress(const char *path);

/* A context over it, with graphs as the settings say. */
cli_exit cli_model_context(const cli_model_settings *settings, kiln_engine *engine,
                           kiln_context **context);

/* "onnxruntime 1.31.1" */
void cli_model_backend(const kiln_engine *engine, char *text, size_t size);

/* What was opened, and on what. */
void cli_model_print(const char *path, const kiln_engine *engine);

/* --- its inputs (cli_inputs.c) --- */

typedef struct cli_input_settings {
    cli_list inputs;
    cli_list shapes;
    int64_t seed;
    int64_t batch; /* what N stands for in a shape, and the first dimension of an input where no
                      shape is given and it is dynamic; 0: nothing */
    int64_t smallest, largest; /* such sizes, which what is built must all run; 0: none */
} cli_input_settings;

extern const cli_option cli_input_options[];

/* What belongs to the inputs and not to the context. */
typedef struct cli_inputs {
    kiln_tensor *loaded; /* of .npy files, one place for each input */
    bool *is_bound;      /* an input with a value of its own is where an option names it only */
    size_t count;
} cli_inputs;

/* Input `index`, those with a value of their own (kiln_engine_optional) behind the others. */
kiln_status cli_input_at(const kiln_engine *engine, size_t index, kiln_binding *binding);

/* Input `index`, or behind all inputs an output. */
kiln_status cli_binding_at(const kiln_engine *engine, size_t index, kiln_binding *binding);

/* Gives every input of `engine` a shape and data as the options say, random where they say nothing.
 * `inputs` must outlive the context. */
cli_exit cli_inputs_bind(const cli_command *command, const cli_input_settings *settings,
                         const kiln_engine *engine, kiln_context *context, cli_inputs *inputs);
void cli_inputs_finish(cli_inputs *inputs);

/* --- numbers for an input (cli_filling.c) --- */

typedef struct cli_filling {
    bool is_given;
    double range[2]; /* as kiln_tensor_fill takes it, where one is given */
} cli_filling;

/* "random", "random:LOW:HIGH", "zeros" or a number. False: `text` is none of these, but a file.
 * NULL stands for "random". */
bool cli_filling_read(const char *text, cli_filling *how, bool *is_wrong);

/* Gives the input this shape and fills it. */
cli_exit cli_filling_bind(const cli_command *command, kiln_context *context,
                          const kiln_binding *binding, const kiln_shape *shape,
                          const cli_filling *how, int64_t seed);

/* --- shapes for a build (cli_inputs.c) --- */

/* The shapes that inputs are given, for kiln_build_options. */
typedef struct cli_hints {
    kiln_shape_hint *items; /* for free(); the names are the network's */
    size_t count;
} cli_hints;

cli_exit cli_hints_read(const cli_command *command, const cli_input_settings *settings,
                        kiln_network *network, cli_hints *hints);

/* --- tensors (cli_tensor.c) --- */

/* What the numbers of a tensor are like. */
typedef struct cli_summary {
    bool has_numbers; /* false for complex and empty ones */
    double minimum;   /* of those that are numbers */
    double mean;
    double maximum;
    int64_t count;
    int64_t nans;
} cli_summary;

/* kiln_context_tensor of a binding, also where one tensor is an input and an output. */
kiln_status cli_tensor_of(kiln_context *context, const kiln_binding *binding, kiln_tensor *tensor);

cli_exit cli_tensor_summarize(const kiln_tensor *tensor, cli_summary *summary);

/* A number in at most 10 columns. */
void cli_number_format(double number, char text[32]);

/* `folder`/NAME.npy, where NAME is `name` with what a file name cannot or should not hold written
 * as %XX. The caller frees it. */
char *cli_tensor_path(const char *folder, const char *name);

/* Reads a .npy file for a tensor of `dtype`: types that .npy has no name for lie there as unsigned
 * integers of their size, as Kiln writes them. */
kiln_status cli_tensor_load(const char *path, kiln_dtype dtype, kiln_tensor *tensor);

/* Whether the file is NumPy's, by its name: .npy or .npz. */
bool cli_is_array(const char *path);
/* The same as cli_tensor_load, or array `name` of a .npz file. */
cli_exit cli_array_load(const char *path, const char *name, kiln_dtype dtype, kiln_tensor *tensor);

/* A string in quotes, cut behind `most` bytes. */
void cli_string_append(cli_text *text, const kiln_span *string, size_t most);

/* How two tensors differ. */
typedef struct cli_difference {
    int64_t different; /* elements that differ by more than is allowed */
    int64_t count;     /* elements */
    double largest;    /* the largest difference of all; infinity where one is NaN */
    int64_t where;     /* which element that is, row by row */
    char found[32];    /* it in `tensor`, as text */
    char expected[32]; /* it in `reference` */
} cli_difference;

/* Whether |found - expected| <= absolute + relative * |expected| in every place; NaN equals NaN.
 * Type and shape must be the same: `name` begins the sentence where not. */
cli_exit cli_tensor_compare(const char *name, const kiln_tensor *tensor,
                            const kiln_tensor *reference, double absolute, double relative,
                            cli_difference *difference);

/* "[0,3,17]" for element `index` of `shape`. */
void cli_index_format(const kiln_shape *shape, int64_t index, char *text, size_t size);

#endif
