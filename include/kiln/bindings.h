/*
 * bindings.h - calls that take a kiln_span, from plain arguments, for languages that cannot pass a
 * struct by value.
 *
 * Each call is named after its original, with `_data` in place of `_bytes` or at the end, and takes
 * an address and a size in place of the span. Ownership, lifetime, threads and errors are those of
 * the original.
 *
 * Other calls for language bindings are in the header of their subject:
 *
 * - build options by name: <kiln/options.h>
 * - layers by operator name, kiln_network_add_node: <kiln/layers.h>
 * - kiln_tensor_make: <kiln/tensor.h>
 * - kiln_status_message: <kiln/status.h>
 * - error sentences that do not depend on the thread: kiln_context_error_message in
 *   <kiln/context.h>, kiln_build_error_message in <kiln/build.h>
 * - kiln_context_run_once, which leaves none of the caller's memory bound: <kiln/context.h>
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_BINDINGS_H
#define KILN_BINDINGS_H

#include <stddef.h>

#include <kiln/build.h>
#include <kiln/check.h>
#include <kiln/engine.h>
#include <kiln/export.h>
#include <kiln/memory.h>
#include <kiln/network.h>
#include <kiln/quantize.h>
#include <kiln/refit.h>
#include <kiln/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* kiln_build_start_bytes. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_build_start_data(const void *model, size_t model_size,
                                                           const kiln_build_options *options,
                                                           const kiln_build_limits *limits,
                                                           kiln_build **build);

/* kiln_check_bytes. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_check_data(const void *model, size_t model_size,
                                                     const char *folder,
                                                     const kiln_check_options *options,
                                                     kiln_issue_list **issues);

/* kiln_engine_build_bytes. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_build_data(const void *model, size_t model_size,
                                                            const kiln_build_options *options,
                                                            kiln_engine **engine);

/* kiln_engine_load_bytes. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_load_data(const void *bytes, size_t size,
                                                           const void *manifest,
                                                           size_t manifest_size,
                                                           const kiln_build_options *options,
                                                           kiln_engine **engine);

/* kiln_engine_refit_bytes. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_refit_data(kiln_engine *engine, const void *bytes,
                                                            size_t size, const char *folder,
                                                            const kiln_refit_options *options);

/* kiln_network_from_bytes. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_from_data(const void *bytes, size_t size,
                                                            const char *folder,
                                                            kiln_network **network);

/* kiln_range_table_load_bytes. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_range_table_load_data(const void *bytes, size_t size,
                                                                kiln_range_table **table);

/* kiln_buffer_write. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_write_data(kiln_buffer *buffer, size_t offset,
                                                            const void *from, size_t size,
                                                            kiln_stream *stream);

/* kiln_buffer_read. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_buffer_read_data(const kiln_buffer *buffer, size_t offset,
                                                           void *to, size_t size,
                                                           kiln_stream *stream);

#ifdef __cplusplus
}
#endif

#endif
