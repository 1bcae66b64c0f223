/* SPDX-License-Identifier: Apache-2.0 */
/* What a conversion to a smaller type costs: a model and what it was converted to, on batches that
 * the conversion did not see. */
#ifndef CLI_ACCURACY_H
#define CLI_ACCURACY_H

#include "cli.h"

/* The difference of two tensors' numbers: signal to noise is the sum of squares by that of the
 * differences, in decibels; infinite where they are equal. NaN equals NaN, an infinity itself;
 * what only one side has is infinite noise, and so are numbers that the other side lacks. */
typedef struct cli_deviation {
    double largest; /* number */
    double worst;   /* difference */
    double signal, noise;
} cli_deviation;

typedef struct cli_numbers {
    float *values;
    size_t count;
} cli_numbers;

static inline void cli_numbers_finish(cli_numbers *numbers)
{
    free(numbers->values);
}

typedef struct cli_output_error {
    const char *name; /* the engine's */
    cli_deviation of;
    uint64_t rows, alike; /* along the last axis, and those whose largest number is where it was */
    size_t misshapen;     /* batches for which its shape is another; they have no part in rows */
} cli_output_error;

/* The same of a tensor on the way. */
typedef struct cli_layer_error {
    const char *name, *operator_type;
    cli_deviation of;
} cli_layer_error;

/* A node that was converted, and the least signal to noise of an output where it is the only one.
 */
typedef struct cli_node_cost {
    const char *name; /* or that of its output */
    const char *operator_type;
    double decibels; /* infinite for one that was not measured */
    uint64_t multiplications;
    double weight; /* in the order of the search by arithmetic */
    bool is_kept;  /* by the search */
} cli_node_cost;

typedef struct cli_accuracy {
    const char *path, *batches; /* the model, and the folder */
    kiln_precision_options how; /* keep_nodes are the caller's */
    kiln_build_options build;   /* of every engine */
    kiln_engine *before;        /* of the model as it was */
    cli_output_error *outputs;  /* of the last measurement */
    size_t output_count;
    cli_numbers *expected; /* of each batch and output, in that order */
    size_t batch_count;
    cli_node_cost *nodes; /* those that hurt most first, but for those that are not measured */
    size_t node_count;
    size_t free_count;       /* the first so many, which multiply nothing and are kept first */
    size_t kept;             /* nodes */
    cli_layer_error *layers; /* in the order of the graph; names are the report's */
    size_t layer_count;
    size_t most_batches; /* of a measurement; 0: all */
} cli_accuracy;

/* What is to be reached: decibels of every output, and rows that stay alike, in percent; 0: not
 * asked. */
typedef struct cli_target {
    double decibels, agreement;
} cli_target;

/* How far the last measurement is: the worst output of either. */
cli_target cli_accuracy_reached(const cli_accuracy *accuracy);
bool cli_accuracy_suffices(const cli_accuracy *accuracy, cli_target target);

double cli_decibels(const cli_deviation *of);
void cli_deviation_add(cli_deviation *of, cli_numbers expected, cli_numbers found);

/* Runs the model as it is on every batch; cli_accuracy_finish is to follow. */
KILN_MUST_CHECK kiln_status cli_accuracy_begin(cli_accuracy *accuracy);
void cli_accuracy_finish(cli_accuracy *accuracy);
/* The same for other batches; nodes that were ranked stay. */
KILN_MUST_CHECK kiln_status cli_accuracy_again(cli_accuracy *accuracy);

/* Converts it with so many nodes kept beside the caller's, and fills in `outputs`. */
KILN_MUST_CHECK kiln_status cli_accuracy_measure(cli_accuracy *accuracy, const char *const *kept,
                                                 size_t count);
/* Outputs, and the nodes that hurt most. */
void cli_accuracy_print(const cli_accuracy *accuracy);

/* What each converted node of `report` costs alone. In a half type nodes that multiply nothing are
 * not measured: there are many, each rounds a little, and all of them together are no arithmetic to
 * speak of. They come first, in the order of the graph. */
KILN_MUST_CHECK kiln_status cli_accuracy_rank(cli_accuracy *accuracy,
                                              const kiln_precision_report *report);
/* Keeps as few nodes as it takes to reach the target, those that hurt most first, or those that
 * hurt most by their arithmetic: the order that leaves more arithmetic. Where all but one are kept
 * and it is not reached, none. `*names` is for free(). */
KILN_MUST_CHECK kiln_status cli_accuracy_search(cli_accuracy *accuracy, cli_target target,
                                                const char ***names);
/* Fills in `layers`, on the first batches, by what `how` makes of the model; `report` is of that.
 * (cli_accuracy_layers.c) */
KILN_MUST_CHECK kiln_status cli_accuracy_layers(cli_accuracy *accuracy,
                                                const kiln_precision_report *report);

/* An engine of what was converted to `precision`, DEFAULT: of the model as it was. A half type is
 * measured on the reference executor, which rounds what each node gives: ONNX Runtime has no
 * kernels of bfloat16, and computes float16 in float32 and leaves the casts between two nodes out.
 */
KILN_MUST_CHECK kiln_status cli_accuracy_build(const cli_accuracy *accuracy, kiln_network *network,
                                               kiln_precision precision, kiln_engine **engine);

/* Runs a batch, of which the engine takes those tensors that it has inputs for. */
KILN_MUST_CHECK kiln_status cli_accuracy_run(kiln_context *context, const kiln_engine *engine,
                                             const kiln_named_tensor *inputs, size_t count,
                                             kiln_named_tensor *outputs, size_t output_count);
/* A tensor's numbers; values are for free(). */
KILN_MUST_CHECK kiln_status cli_accuracy_read(const kiln_tensor *tensor, cli_numbers *numbers);

/* Tensors that had NaN or infinities when they were calibrated, one in a line. */
void cli_print_not_finite(const kiln_range_table *ranges);

/* A page of HTML with all of it; `model` is what was written. */
cli_exit cli_accuracy_page(const cli_accuracy *accuracy, const kiln_precision_report *report,
                           const char *model, const char *output);

#endif
