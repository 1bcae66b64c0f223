/* Nodes on which ONNX Runtime ends the process.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "ort_lacks.h"

static kln_lack say(char *why, size_t size, kln_lack lack, const char *words)
{
    (void)snprintf(why, size, "%s; ONNX Runtime would end the process", words);
    return lack;
}

/* The kernel reads what the empty name stands for. */
static kln_lack ends_of_tail(const kln_node_view *view, char *why, size_t size)
{
    const kln_onnx_node *node = view->node;
    return node->input_count != 0 && node->inputs[node->input_count - 1][0] == '\0'
               ? say(why, size, KLN_LACK_BUILD,
                     "its last input is left out by an empty name, which must be left out of the "
                     "list")
               : KLN_LACK_NONE;
}

/* And so where one of many is left out. */
static kln_lack ends_of_gap(const kln_node_view *view, char *why, size_t size)
{
    for (size_t i = 0; i < view->node->input_count; i++) {
        if (view->node->inputs[i][0] == '\0') {
            return say(why, size, KLN_LACK_BUILD, "one of its inputs has no name");
        }
    }
    return KLN_LACK_NONE;
}

static bool is_empty(const kln_node_view *view, size_t input)
{
    return kln_view_count(view, input) == 0;
}

static kln_lack ends_of_scan(const kln_node_view *view, char *why, size_t size)
{
    const int64_t scanned = kln_view_int(view, "num_scan_inputs", 0);
    for (size_t i = 0; i < view->node->input_count; i++) {
        if (i + (size_t)scanned >= view->node->input_count && is_empty(view, i)) {
            return say(why, size, KLN_LACK_RUN, "there is nothing to scan");
        }
    }
    return KLN_LACK_NONE;
}

static kln_lack ends_of_einsum(const kln_node_view *view, char *why, size_t size)
{
    for (size_t i = 0; i < view->node->input_count; i++) {
        if (is_empty(view, i)) {
            return say(why, size, KLN_LACK_RUN, "an operand has no elements");
        }
    }
    return KLN_LACK_NONE;
}

static kln_lack ends_of_recurrence(const kln_node_view *view, char *why, size_t size)
{
    return is_empty(view, 0)
               ? say(why, size, KLN_LACK_RUN, "there are no time steps, batches or elements")
               : KLN_LACK_NONE;
}

static kln_lack ends_of_conv_transpose(const kln_node_view *view, char *why, size_t size)
{
    return is_empty(view, 0) || is_empty(view, 1)
               ? say(why, size, KLN_LACK_RUN, "an input or its weights have no elements")
               : KLN_LACK_NONE;
}

static kln_lack ends_of_window(const kln_node_view *view, char *why, size_t size)
{
    const int64_t rank = kln_view_rank(view, 2);
    return (rank >= 0 && rank != 1) || kln_view_dim(view, 2, 0) == 0
               ? say(why, size, KLN_LACK_RUN, "its window has no elements, or not one dimension")
               : KLN_LACK_NONE;
}

/* A division by the heads. */
static kln_lack ends_of_attention(const kln_node_view *view, char *why, size_t size)
{
    return kln_view_int(view, "q_num_heads", 1) < 1 || kln_view_int(view, "kv_num_heads", 1) < 1
               ? say(why, size, KLN_LACK_BUILD, "its number of heads is less than 1")
               : KLN_LACK_NONE;
}

static const struct {
    const char *name;
    kln_lacks ends;
} fatal[] = {
    {"LayerNormalization", ends_of_tail},
    {"DFT", ends_of_tail},
    {"Scan", ends_of_scan},
    {"Einsum", ends_of_einsum},
    {"GRU", ends_of_recurrence},
    {"LSTM", ends_of_recurrence},
    {"ConvTranspose", ends_of_conv_transpose},
    {"Attention", ends_of_attention},
    {"Min", ends_of_gap},
    {"Max", ends_of_gap},
    {"Sum", ends_of_gap},
    {"Mean", ends_of_gap},
    {"STFT", ends_of_window},
};

static kln_lacks find(const kln_onnx_node *node)
{
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(fatal); i++) {
        if (strcmp(fatal[i].name, node->op_type) == 0 &&
            (node->domain[0] == '\0' || strcmp(node->domain, "ai.onnx") == 0)) {
            return fatal[i].ends;
        }
    }
    return NULL;
}

bool ort_may_end(const kln_onnx_node *node)
{
    return find(node) != NULL;
}

kln_lack ort_ends(const kln_node_view *view, char *why, size_t size)
{
    const kln_lacks ends = find(view->node);
    return ends != NULL ? ends(view, why, size) : KLN_LACK_NONE;
}
