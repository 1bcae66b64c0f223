/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chooses which nodes to keep from being converted to a smaller type, so that the rest reaches a
 * target. The noises of nodes nearly add up: measured with each node alone, they give the order in
 * which nodes are given up. For a given amount of arithmetic the noise is lowest if the nodes with
 * the most noise per unit of arithmetic go first, as in a knapsack whose items may be cut (Dantzig,
 * "Discrete-Variable Extremum Problems", 1957, https://doi.org/10.1287/opre.5.2.266).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli_accuracy.h"

static int compare_costs(const void *left, const void *right)
{
    const double a = ((const cli_node_cost *)left)->decibels;
    const double b = ((const cli_node_cost *)right)->decibels;
    return a < b ? -1 : a > b;
}

/* Moves the nodes without multiplications to the front and keeps their order. */
static void put_free_first(cli_accuracy *accuracy)
{
    size_t free_count = 0;
    for (size_t i = 0; i < accuracy->node_count; i++) {
        const cli_node_cost node = accuracy->nodes[i];
        if (node.multiplications == 0) {
            memmove(&accuracy->nodes[free_count + 1], &accuracy->nodes[free_count],
                    (i - free_count) * sizeof node);
            accuracy->nodes[free_count++] = node;
        }
    }
    accuracy->free_count = free_count < accuracy->node_count ? free_count : 0;
}

/* For 8 bits, an addition or pooling node next to products is weighted as an average node: if it is
 * kept, more than its own arithmetic is no longer done in 8 bits. */
static void weigh_nodes(cli_accuracy *accuracy)
{
    double all = 1;
    for (size_t i = 0; i < accuracy->node_count; i++) {
        all += (double)accuracy->nodes[i].multiplications;
    }
    for (size_t i = 0; i < accuracy->node_count; i++) {
        cli_node_cost *node = &accuracy->nodes[i];
        node->weight = node->multiplications != 0 ? (double)node->multiplications
                                                  : all / (double)accuracy->node_count;
    }
}

static kiln_status list_nodes(cli_accuracy *accuracy, const kiln_precision_report *report)
{
    kiln_precision_summary summary = {.struct_size = sizeof summary};
    KLN_RETURN_IF_ERROR(kiln_precision_report_summary(report, &summary));
    accuracy->nodes = calloc(summary.node_count + 1, sizeof *accuracy->nodes);
    if (accuracy->nodes == NULL) {
        return KILN_ERROR_OUT_OF_MEMORY;
    }
    for (size_t i = 0; i < summary.node_count; i++) {
        kiln_precision_node node = {.struct_size = sizeof node};
        KLN_RETURN_IF_ERROR(kiln_precision_report_node(report, i, &node));
        if (node.reason == KILN_PRECISION_CONVERTED) {
            accuracy->nodes[accuracy->node_count++] =
                (cli_node_cost){.name = node.output[0] != '\0' ? node.output : node.name,
                                .operator_type = node.operator_type,
                                .decibels = (double)INFINITY,
                                .multiplications = node.multiplications};
        }
    }
    weigh_nodes(accuracy);
    return KILN_OK;
}

/* This many batches are enough to tell which node costs more. */
#define RANKED_BY 4

kiln_status cli_accuracy_rank(cli_accuracy *accuracy, const kiln_precision_report *report)
{
    KLN_RETURN_IF_ERROR(list_nodes(accuracy, report));
    const kiln_precision precision = accuracy->how.precision;
    if (precision == KILN_PRECISION_FP16 || precision == KILN_PRECISION_BF16) {
        put_free_first(accuracy);
    }
    const size_t first = accuracy->free_count;
    SCOPED_HEAP const char **others = calloc(accuracy->node_count + 1, sizeof *others);
    if (others == NULL) {
        return KILN_ERROR_OUT_OF_MEMORY;
    }
    accuracy->most_batches = RANKED_BY;
    for (size_t i = first; i < accuracy->node_count; i++) {
        size_t count = 0;
        for (size_t k = 0; k < accuracy->node_count; k++) {
            if (k != i) {
                others[count++] = accuracy->nodes[k].name;
            }
        }
        KLN_RETURN_IF_ERROR(cli_accuracy_measure(accuracy, others, count));
        accuracy->nodes[i].decibels = cli_accuracy_reached(accuracy).decibels;
        cli_progress_set((double)(i + 1) / (double)accuracy->node_count);
    }
    accuracy->most_batches = 0;
    if (accuracy->node_count > first) {
        qsort(accuracy->nodes + first, accuracy->node_count - first, sizeof *accuracy->nodes,
              compare_costs);
    }
    return KILN_OK;
}

/* --- the search --- */

/* Nodes in the order in which they are kept, how many were needed, and the multiplications of the
 * others. */
typedef struct kept_order {
    cli_node_cost **nodes;
    const char **names; /* the names of `nodes` */
    size_t count;
    bool suffices;
    double multiplications;
} kept_order;

static int compare_sizes(const void *left, const void *right)
{
    const cli_node_cost *a = *(cli_node_cost *const *)left;
    const cli_node_cost *b = *(cli_node_cost *const *)right;
    const double most = pow(10, -a->decibels / 10) * b->weight;
    const double least = pow(10, -b->decibels / 10) * a->weight;
    return most > least ? -1 : most < least ? 1 : (a > b) - (a < b);
}

static kiln_status make_order(const cli_accuracy *accuracy, bool by_arithmetic, kept_order *order)
{
    const size_t all = accuracy->node_count;
    order->nodes = calloc(all + 1, sizeof(cli_node_cost *));
    order->names = calloc(all + 1, sizeof *order->names);
    if (order->nodes == NULL || order->names == NULL) {
        return KILN_ERROR_OUT_OF_MEMORY;
    }
    for (size_t i = 0; i < all; i++) {
        order->nodes[i] = &accuracy->nodes[i];
    }
    if (by_arithmetic) {
        qsort(order->nodes + accuracy->free_count, all - accuracy->free_count,
              sizeof(cli_node_cost *), compare_sizes);
    }
    for (size_t i = 0; i < all; i++) {
        order->names[i] = order->nodes[i]->name;
    }
    return KILN_OK;
}

/* Finds the smallest number of nodes from the front that suffices. */
static kiln_status search_order(cli_accuracy *accuracy, cli_target target, kept_order *order)
{
    const size_t all = accuracy->node_count;
    size_t least = 0;
    size_t most = all; /* not tested with all nodes: nothing would be converted */
    while (least < most) {
        const size_t tried = (least + most) / 2;
        KLN_RETURN_IF_ERROR(cli_accuracy_measure(accuracy, order->names, tried));
        if (cli_accuracy_suffices(accuracy, target)) {
            most = tried;
        } else {
            least = tried + 1;
        }
    }
    order->suffices = least < all;
    order->count = order->suffices ? least : 0;
    for (size_t i = order->count; i < all; i++) {
        order->multiplications += (double)order->nodes[i]->multiplications;
    }
    return KILN_OK;
}

static void move_to(kept_order *order, size_t from, size_t to)
{
    cli_node_cost *node = order->nodes[from];
    memmove(&order->nodes[from], &order->nodes[from + 1], (to - from) * sizeof(cli_node_cost *));
    memmove(&order->names[from], &order->names[from + 1], (to - from) * sizeof *order->names);
    order->nodes[to] = node;
    order->names[to] = node->name;
}

#define MOST_TAKEN_BACK 6

/* If one of the first nodes costs too much, a later one with less noise may still be convertible: a
 * few are tried for which the sum of the noises leaves room. */
static kiln_status take_back(cli_accuracy *accuracy, cli_target target, kept_order *order)
{
    const double most = pow(10, -target.decibels / 10);
    KLN_RETURN_IF_ERROR(cli_accuracy_measure(accuracy, order->names, order->count));
    double noise = pow(10, -cli_accuracy_reached(accuracy).decibels / 10);
    int tried = 0;
    for (size_t i = order->count; i-- > accuracy->free_count;) {
        if (noise + pow(10, -order->nodes[i]->decibels / 10) > most || tried == MOST_TAKEN_BACK) {
            continue;
        }
        tried++;
        move_to(order, i, order->count - 1);
        KLN_RETURN_IF_ERROR(cli_accuracy_measure(accuracy, order->names, order->count - 1));
        if (cli_accuracy_suffices(accuracy, target)) {
            noise = pow(10, -cli_accuracy_reached(accuracy).decibels / 10);
            order->count--;
        }
    }
    return KILN_OK;
}

static bool is_better(const kept_order *a, const kept_order *b)
{
    return a->suffices != b->suffices                 ? a->suffices
           : a->multiplications != b->multiplications ? a->multiplications > b->multiplications
                                                      : a->count < b->count;
}

kiln_status cli_accuracy_search(cli_accuracy *accuracy, cli_target target, const char ***names)
{
    kept_order orders[2] = {{.nodes = NULL}, {.nodes = NULL}};
    kiln_status status = KILN_OK;
    for (size_t k = 0; status == KILN_OK && k < 2; k++) {
        status = make_order(accuracy, k == 1, &orders[k]);
        status = status == KILN_OK ? search_order(accuracy, target, &orders[k]) : status;
    }
    const size_t better = is_better(&orders[1], &orders[0]) ? 1 : 0;
    status = status == KILN_OK && orders[better].count > accuracy->free_count
                 ? take_back(accuracy, target, &orders[better])
                 : status;
    accuracy->kept = orders[better].count;
    for (size_t i = 0; status == KILN_OK && i < accuracy->kept; i++) {
        orders[better].nodes[i]->is_kept = true;
    }
    *names = orders[better].names;
    free(orders[1 - better].names);
    free(orders[0].nodes);
    free(orders[1].nodes);
    return status;
}
