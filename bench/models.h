/* SPDX-License-Identifier: Apache-2.0 */
/* Networks of well-known form with random weights, for measurements: their time depends on shapes,
 * not on values. */
#ifndef BENCH_MODELS_H
#define BENCH_MODELS_H

#include <kiln/kiln.h>

#define BERT_TOKENS 128

/* Each writes an ONNX file with an dynamic batch dimension, or ends the program with a sentence. */

/* y = Identity(x), or Relu(x), over [n] floats. */
void model_unary(const char *path, kiln_activation kind);
/* ResNet-50 v1.5 as it is used for inference, batch normalization folded into the convolutions:
 * "image" [batch, 3, 224, 224] to "scores" [batch, 1000], float32. */
void model_resnet50(const char *path);
/* BERT-base (12 layers, 768 wide, 12 heads): "ids", "types" and "mask", int64 [batch, 128], to
 * "hidden" [batch, 128, 768], float32. */
void model_bert(const char *path);

#endif
