/*
 * kiln.h - all of Kiln's C interface.
 *
 *     kiln_engine *engine = NULL;
 *     kiln_context *context = NULL;
 *     if (kiln_engine_build_file("model.onnx", NULL, &engine) == KILN_OK &&
 *         kiln_context_create(engine, NULL, &context) == KILN_OK && ...
 *
 * Rules that hold everywhere: a call that can fail returns a kiln_status and leaves a sentence in
 * kiln_error_message(); results come through the last parameters; `destroy`, `release` and `free`
 * take NULL; strings are UTF-8 and terminated; option structs begin with their size and have an
 * _INIT macro; where that makes all the rest 0, the macro without _INIT takes members:
 * KILN_BUILD_OPTIONS(.threads = 1).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_KILN_H
#define KILN_KILN_H

/* Simple: a model in, answers out. */
#include <kiln/context.h>
#include <kiln/engine.h>
#include <kiln/export.h>
#include <kiln/options.h>
#include <kiln/status.h>
#include <kiln/tensor.h>
#include <kiln/version.h>

/* Full: networks in code and what is wrong with them, builds as jobs, memory, the machine. */
#include <kiln/build.h>
#include <kiln/cache.h>
#include <kiln/check.h>
#include <kiln/compare.h>
#include <kiln/inspect.h>
#include <kiln/issues.h>
#include <kiln/layers.h>
#include <kiln/layers_attention.h>
#include <kiln/layers_control.h>
#include <kiln/layers_math.h>
#include <kiln/layers_shape.h>
#include <kiln/layers_spatial.h>
#include <kiln/log.h>
#include <kiln/memory.h>
#include <kiln/network.h>
#include <kiln/system.h>

/* Expert: smaller types, plans, new weights, many requests, language models, bindings. */
#include <kiln/backend.h>
#include <kiln/bindings.h>
#include <kiln/calibrate.h>
#include <kiln/histogram.h>
#include <kiln/pipeline.h>
#include <kiln/plan.h>
#include <kiln/precision.h>
#include <kiln/quantize.h>
#include <kiln/refit.h>
#include <kiln/scheduler.h>
#include <kiln/stream.h>

#endif
