/* Nodes that make ONNX Runtime end the process.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "ort_lacks.h"

/* The kernel reads the input behind the empty name. */
static ort_refusal ends_of_tail(const kln_node_view *view)
{
    const kln_onnx_node *node = view->node;
    return node->input_count != 0 && node->inputs[node->input_count - 1][0] == '\0'
               ? ort_no_build(
                     "its last input is left out by an empty name, which must be left out of the "
                     "list")
               : ort_takes;
}

/* The same, for any of a variable number of inputs. */
static ort_refusal ends_of_gap(const kln_node_view *view)
{
    for (size_t i = 0; i < view->node->input_count; i++) {
        if (view->node->inputs[i][0] == '\0') {
            return ort_no_build("one of its inputs has no name");
        }
    }
    return ort_takes;
}

static bool is_empty(const kln_node_view *view, size_t input)
{
    return kln_view_count(view, input) == 0;
}

static ort_refusal ends_of_scan(const kln_node_view *view)
{
    const int64_t scanned = kln_view_int(view, "num_scan_inputs", 0);
    for (size_t i = 0; i < view->node->input_count; i++) {
        if (i + (size_t)scanned >= view->node->input_count && is_empty(view, i)) {
            return ort_no_run("there is nothing to scan");
        }
    }
    return ort_takes;
}

static ort_refusal ends_of_einsum(const kln_node_view *view)
{
    for (size_t i = 0; i < view->node->input_count; i++) {
        if (is_empty(view, i)) {
            return ort_no_run("an operand has no elements");
        }
    }
    return ort_takes;
}

static ort_refusal ends_of_recurrence(const kln_node_view *view)
{
    return is_empty(view, 0) ? ort_no_run("there are no time steps, batches or elements")
                             : ort_takes;
}

static ort_refusal ends_of_conv_transpose(const kln_node_view *view)
{
    return is_empty(view, 0) || is_empty(view, 1)
               ? ort_no_run("an input or its weights have no elements")
               : ort_takes;
}

static ort_refusal ends_of_window(const kln_node_view *view)
{
    const int64_t rank = kln_view_rank(view, 2);
    return (rank >= 0 && rank != 1) || kln_view_dim(view, 2, 0) == 0
               ? ort_no_run("its window has no elements, or not one dimension")
               : ort_takes;
}

/* The kernel divides by the number of heads. */
static ort_refusal ends_of_attention(const kln_node_view *view)
{
    return kln_view_int(view, "q_num_heads", 1) < 1 || kln_view_int(view, "kv_num_heads", 1) < 1
               ? ort_no_build("its number of heads is less than 1")
               : ort_takes;
}

/* com.microsoft's kernel also divides by the work of each batch, and reads a second dimension
 * without a check. */
static ort_refusal ends_of_grouped(const kln_node_view *view)
{
    const int64_t places = kln_view_rank(view, 9);
    return is_empty(view, 0) || kln_view_rank(view, 7) == 1 || places == 0 || places == 1
               ? ort_no_run(
                     "there are no batches or tokens, or its tables or places are not of two "
                     "dimensions")
               : ort_takes;
}

static const struct {
    const char *name;
    ort_refuses ends;
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

static ort_refuses find(const kln_onnx_node *node)
{
    if (strcmp(node->domain, "com.microsoft") == 0) {
        return strcmp(node->op_type, "GroupQueryAttention") == 0 ? ends_of_grouped : NULL;
    }
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(fatal); i++) {
        if (kln_onnx_node_is(node, fatal[i].name)) {
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
    const ort_refuses ends = find(view->node);
    const ort_refusal refusal = ends != NULL ? ends(view) : ort_takes;
    if (refusal.lack != KLN_LACK_NONE) {
        (void)snprintf(why, size, "%s; ONNX Runtime would end the process", refusal.words);
    }
    return refusal.lack;
}
