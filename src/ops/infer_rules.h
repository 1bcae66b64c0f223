/*
 * infer_rules.h - the rules by family. Private to the module.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KLN_INFER_RULES_H
#define KLN_INFER_RULES_H

#include "infer_rule.h"

/* Every rule, so that each is declared once. */
/* clang-format off */
#define KLN_RULES(X)                                                                              \
    X(same)                                                                                       \
    X(rotary_embedding)                                                                           \
    X(tensor_scatter)                                                                             \
    X(same_axis)                                                                                  \
    X(binary)                                                                                     \
    X(variadic)                                                                                   \
    X(where)                                                                                      \
    X(cast)                                                                                       \
    X(cast_like)                                                                                  \
    X(bit_cast)                                                                                   \
    X(prelu)                                                                                      \
    X(dropout)                                                                                    \
    X(batch_norm)                                                                                 \
    X(layer_norm)                                                                                 \
    X(like)                                                                                       \
    X(random)                                                                                     \
    X(eye_like)                                                                                   \
    X(bernoulli)                                                                                  \
    X(dynamic_quantize)                                                                           \
    X(quantize)                                                                                   \
    X(dequantize)                                                                                 \
    X(clip)                                                                                       \
    X(conv)                                                                                       \
    X(conv_transpose)                                                                             \
    X(deform_conv)                                                                                \
    X(pool)                                                                                       \
    X(global_pool)                                                                                \
    X(max_unpool)                                                                                 \
    X(roi_pool)                                                                                   \
    X(col2im)                                                                                     \
    X(matmul)                                                                                     \
    X(qlinear_matmul)                                                                             \
    X(gemm)                                                                                       \
    X(einsum)                                                                                     \
    X(reshape)                                                                                    \
    X(transpose)                                                                                  \
    X(flatten)                                                                                    \
    X(squeeze)                                                                                    \
    X(unsqueeze)                                                                                  \
    X(concat)                                                                                     \
    X(split)                                                                                      \
    X(slice)                                                                                      \
    X(pad)                                                                                        \
    X(tile)                                                                                       \
    X(expand)                                                                                     \
    X(resize)                                                                                     \
    X(upsample)                                                                                   \
    X(shape)                                                                                      \
    X(size)                                                                                       \
    X(constant)                                                                                   \
    X(constant_of_shape)                                                                          \
    X(range)                                                                                      \
    X(depth_to_space)                                                                             \
    X(space_to_depth)                                                                             \
    X(center_crop_pad)                                                                            \
    X(gather)                                                                                     \
    X(gather_elements)                                                                            \
    X(scatter_elements)                                                                           \
    X(cumulative_sum)                                                                             \
    X(gather_nd)                                                                                  \
    X(one_hot)                                                                                    \
    X(compress)                                                                                   \
    X(non_zero)                                                                                   \
    X(unique)                                                                                     \
    X(nms)                                                                                        \
    X(topk)                                                                                       \
    X(grid_sample)                                                                                \
    X(affine_grid)                                                                                \
    X(roi_align)                                                                                  \
    X(multinomial)                                                                                \
    X(reduce)                                                                                     \
    X(arg)                                                                                        \
    X(loss)                                                                                       \
    X(softmax_loss)                                                                               \
    X(det)                                                                                        \
    X(rnn)                                                                                        \
    X(lstm)                                                                                       \
    X(attention)                                                                                  \
    X(stft)                                                                                       \
    X(dft)                                                                                        \
    X(window)                                                                                     \
    X(mel)                                                                                        \
    X(tfidf)                                                                                      \
    X(string_normalizer)                                                                          \
    X(string_split)                                                                               \
    X(image_decoder)                                                                              \
    X(if)                                                                                         \
    X(loop)                                                                                       \
    X(scan)                                                                                       \
    X(sequence_map)                                                                               \
    X(sequence_construct)                                                                         \
    X(sequence_empty)                                                                             \
    X(sequence_at)                                                                                \
    X(sequence_insert)                                                                            \
    X(sequence_erase)                                                                             \
    X(sequence_length)                                                                            \
    X(split_to_sequence)                                                                          \
    X(concat_from_sequence)                                                                       \
    X(optional)                                                                                   \
    X(optional_get)                                                                               \
    X(optional_has)                                                                               \
    X(identity)                                                                                   \
    X(training)                                                                                   \
    X(ml_extract)                                                                                 \
    X(ml_map)                                                                                     \
    X(ml_labels)                                                                                  \
    X(ml_one_hot)                                                                                 \
    X(ml_classifier)                                                                              \
    X(ml_regressor)                                                                               \
    X(ml_features)                                                                                \
    X(causal_conv)                                                                                \
    X(linear_attention)                                                                           \
    X(flex_attention)                                                                             \
    X(ml_trees)                                                                                   \
    X(swiglu)
/* clang-format on */

#define KLN_RULE_DECLARE_(name) void kln_rule_##name(kln_rule *rule);
KLN_RULES(KLN_RULE_DECLARE_)
#undef KLN_RULE_DECLARE_

/* What Slice takes of one axis. */
typedef struct kln_slice_range {
    bool given;
    kln_dim start, end, step;
} kln_slice_range;

/* The ranges of a Slice in any version, by axis; false when they are not known. */
bool kln_slice_ranges(kln_rule *rule, kln_slice_range *ranges, size_t rank);

/* The dimensions that a Shape reads: [first, last). */
void kln_shape_bounds(const kln_rule *rule, size_t *first, size_t *last);

/* The axes that a reduction takes out, `gone` for each; false when they are not known. */
bool kln_reduced_axes(kln_rule *rule, bool *gone, size_t rank);

/* Folding: the content of outputs from known contents. */
/* clang-format off */
#define KLN_FOLDS(X)                                                                              \
    X(copy)                                                                                       \
    X(unary)                                                                                      \
    X(binary)                                                                                     \
    X(compare)                                                                                    \
    X(variadic)                                                                                   \
    X(where)                                                                                      \
    X(cast)                                                                                       \
    X(shape)                                                                                      \
    X(size)                                                                                       \
    X(gather)                                                                                     \
    X(concat)                                                                                     \
    X(slice)                                                                                      \
    X(constant)                                                                                   \
    X(constant_of_shape)                                                                          \
    X(range)                                                                                      \
    X(reduce)                                                                                     \
    X(expand)                                                                                     \
    X(split)                                                                                      \
    X(transpose)                                                                                  \
    X(tile)
/* clang-format on */

#define KLN_FOLD_DECLARE_(name) void kln_fold_##name(kln_rule *rule);
KLN_FOLDS(KLN_FOLD_DECLARE_)
#undef KLN_FOLD_DECLARE_

#endif
