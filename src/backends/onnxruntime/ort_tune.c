/* SPDX-License-Identifier: Apache-2.0 */
/* The variants that are worth trying on a GPU. */
#include "graph/kln_graph.h"
#include "ort_rewrite.h"

/* The options to try, and how the model is rewritten. Rewrites are tried with the best options so
 * far; each follows the one that it builds on. */
enum { MERGES = 1, FUSES = 2, TRANSPOSES = 4 };

static const struct {
    kiln_switch prefer_nhwc;
    kiln_conv_search conv_search;
    kiln_switch fuse_conv_bias;
    unsigned rewrites;
} variants[ORT_VARIANTS] = {
    {KILN_SWITCH_OFF, KILN_CONV_SEARCH_HEURISTIC, KILN_SWITCH_OFF, 0},
    {KILN_SWITCH_ON, KILN_CONV_SEARCH_EXHAUSTIVE, KILN_SWITCH_OFF, 0},
    {KILN_SWITCH_ON, KILN_CONV_SEARCH_HEURISTIC, KILN_SWITCH_OFF, 0},
    {KILN_SWITCH_ON, KILN_CONV_SEARCH_EXHAUSTIVE, KILN_SWITCH_ON, 0},
    {.rewrites = MERGES},
    {.rewrites = MERGES | FUSES},
    {.rewrites = MERGES | FUSES | TRANSPOSES},
    {.rewrites = TRANSPOSES},
};

static kiln_status rewrite(const kiln_model *model, unsigned wanted, kln_variant *variant)
{
    const kiln_profile *profile =
        variant->options.profile_count != 0 ? variant->options.profiles : NULL;
    size_t merged = 0;
    size_t fused = 0;
    size_t transposed = 0;
    KLN_RETURN_IF_ERROR(kln_model_read_anew(model, &variant->model));
    if ((wanted & MERGES) != 0) {
        KLN_RETURN_IF_ERROR(kln_fuse_horizontally(variant->model, &merged));
    }
    if ((wanted & FUSES) != 0) {
        KLN_RETURN_IF_ERROR(ort_rewrite(variant->model, ORT_REWRITE_ATTENTION, profile, &fused));
    }
    if ((wanted & TRANSPOSES) != 0) {
        KLN_RETURN_IF_ERROR(
            ort_rewrite(variant->model, ORT_REWRITE_PRODUCTS, profile, &transposed));
    }
    variant->told.merged_products = (uint32_t)merged;
    variant->told.fused_attentions = (uint32_t)fused;
    variant->told.transposed_products = (uint32_t)transposed;
    return KILN_OK;
}

kiln_status ort_variant(const kiln_model *model, size_t index, const kiln_tune_result *best,
                        kln_variant *variant)
{
    const unsigned wanted = variants[index].rewrites;
    kiln_build_options *options = &variant->options;
    options->prefer_nhwc = wanted != 0 ? best->prefer_nhwc : variants[index].prefer_nhwc;
    options->conv_search = wanted != 0 ? best->conv_search : variants[index].conv_search;
    options->fuse_conv_bias = wanted != 0 ? best->fuse_conv_bias : variants[index].fuse_conv_bias;
    variant->told.prefer_nhwc = options->prefer_nhwc;
    variant->told.conv_search = options->conv_search;
    variant->told.fuse_conv_bias = options->fuse_conv_bias;
    return wanted != 0 ? rewrite(model, wanted, variant) : KILN_OK;
}
