/*
 * kiln.h - the whole C interface of Kiln.
 *
 *     kiln_engine *engine = NULL;
 *     kiln_context *context = NULL;
 *     if (kiln_engine_build_file("model.onnx", NULL, &engine) == KILN_OK &&
 *         kiln_context_create(engine, NULL, &context) == KILN_OK && ...
 *
 * Conventions of every header:
 *
 * - A call that can fail returns a kiln_status. On failure, kiln_error_message() says in one
 *   sentence what went wrong.
 * - Results are returned through the last parameters.
 * - Functions named `destroy`, `release` or `free` accept NULL.
 * - Strings are UTF-8 and NUL-terminated.
 * - An option struct begins with its size and has an _INIT macro. If that macro sets everything but
 *   the size to 0, the macro of the same name without _INIT takes members:
 *   KILN_BUILD_OPTIONS(.threads = 1).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_KILN_H
#define KILN_KILN_H

/* Basic: load a model, run it, read the results. */
#include <kiln/context.h>
#include <kiln/engine.h>
#include <kiln/export.h>
#include <kiln/options.h>
#include <kiln/status.h>
#include <kiln/tensor.h>
#include <kiln/version.h>

/* Full: networks built in code and their validation, builds as jobs, memory, devices. */
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

/* Expert: reduced precision, plans, refit, request scheduling, language models, bindings. */
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
