/*
 * bindings.h - the calls that take a kiln_span, from plain arguments: for languages that cannot
 * pass a struct by value.
 *
 * Each is the call that it names, whose `_bytes` became `_data`, with an address and a size in the
 * place of the span, and the same ownership, lifetime, threads and errors. What else bindings need
 * stands where it belongs: build options by name (<kiln/options.h>), layers as
 * kiln_network_add_node (<kiln/layers.h>), kiln_tensor_make
 * (<kiln/tensor.h>), kiln_status_message (<kiln/status.h>), kiln_context_error_message and
 * kiln_build_error_message, which do not depend on the thread, and kiln_context_run_once, after
 * which nothing of the caller's is bound (<kiln/context.h>).
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
