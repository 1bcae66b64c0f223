/* SPDX-License-Identifier: Apache-2.0 */
/* Objects that a test makes or fails, and that end with their block:
 *
 *     owned_engine engine = built_bytes(model, &options);
 *     owned_context context = context_on(engine); */
#ifndef KILN_OWNED_H
#define KILN_OWNED_H

#include <kiln/kiln.h>

#define KILN_TEST_ENDS(type, end)                                       \
    static inline void kiln_test_end_##type(kiln_##type *const *object) \
    {                                                                   \
        end(*object);                                                   \
    }
KILN_TEST_ENDS(batch_folder, kiln_batch_folder_close)
KILN_TEST_ENDS(buffer, kiln_buffer_destroy)
KILN_TEST_ENDS(buffer_plan, kiln_buffer_plan_destroy)
KILN_TEST_ENDS(build, kiln_build_destroy)
KILN_TEST_ENDS(comparison, kiln_comparison_destroy)
KILN_TEST_ENDS(context, kiln_context_destroy)
KILN_TEST_ENDS(engine, kiln_engine_release)
KILN_TEST_ENDS(event, kiln_event_destroy)
KILN_TEST_ENDS(graph, kiln_graph_destroy)
KILN_TEST_ENDS(generator, kiln_generator_destroy)
KILN_TEST_ENDS(histogram, kiln_histogram_destroy)
KILN_TEST_ENDS(inspection, kiln_inspection_destroy)
KILN_TEST_ENDS(issue_list, kiln_issue_list_destroy)
KILN_TEST_ENDS(network, kiln_network_destroy)
KILN_TEST_ENDS(pipeline, kiln_pipeline_destroy)
KILN_TEST_ENDS(pool, kiln_pool_destroy)
KILN_TEST_ENDS(range_table, kiln_range_table_destroy)
KILN_TEST_ENDS(request, kiln_request_release)
KILN_TEST_ENDS(scheduler, kiln_scheduler_destroy)
KILN_TEST_ENDS(sequence, kiln_sequence_release)
KILN_TEST_ENDS(stream, kiln_stream_destroy)
KILN_TEST_ENDS(system_report, kiln_system_report_destroy)

#define KILN_TEST_OWNED(type) __attribute__((unused, cleanup(kiln_test_end_##type))) kiln_##type *
#define owned_batch_folder KILN_TEST_OWNED(batch_folder)
#define owned_buffer KILN_TEST_OWNED(buffer)
#define owned_buffer_plan KILN_TEST_OWNED(buffer_plan)
#define owned_build KILN_TEST_OWNED(build)
#define owned_comparison KILN_TEST_OWNED(comparison)
#define owned_context KILN_TEST_OWNED(context)
#define owned_engine KILN_TEST_OWNED(engine)
#define owned_event KILN_TEST_OWNED(event)
#define owned_graph KILN_TEST_OWNED(graph)
#define owned_generator KILN_TEST_OWNED(generator)
#define owned_histogram KILN_TEST_OWNED(histogram)
#define owned_inspection KILN_TEST_OWNED(inspection)
#define owned_issue_list KILN_TEST_OWNED(issue_list)
#define owned_network KILN_TEST_OWNED(network)
#define owned_pipeline KILN_TEST_OWNED(pipeline)
#define owned_pool KILN_TEST_OWNED(pool)
#define owned_range_table KILN_TEST_OWNED(range_table)
#define owned_request KILN_TEST_OWNED(request)
#define owned_scheduler KILN_TEST_OWNED(scheduler)
#define owned_sequence KILN_TEST_OWNED(sequence)
#define owned_stream KILN_TEST_OWNED(stream)
#define owned_system_report KILN_TEST_OWNED(system_report)

static inline kiln_build_options backend_options(const char *backend)
{
    return KILN_BUILD_OPTIONS(.backend = backend);
}

/* With default options, and with these. */
#define context_on(engine) context_with((engine), NULL)
#define context_with(...) kiln_test_context(__FILE__, __LINE__, __VA_ARGS__)
#define stream_on(...) kiln_test_stream(__FILE__, __LINE__, __VA_ARGS__)
#define new_network() kiln_test_network(__FILE__, __LINE__)
#define built_network(...) kiln_test_built_network(__FILE__, __LINE__, __VA_ARGS__)
#define built_bytes(...) kiln_test_built_bytes(__FILE__, __LINE__, __VA_ARGS__)
#define built_file(...) kiln_test_built_file(__FILE__, __LINE__, __VA_ARGS__)

kiln_context *kiln_test_context(const char *file, int line, kiln_engine *engine,
                                const kiln_context_options *options);
kiln_stream *kiln_test_stream(const char *file, int line, int32_t device);
kiln_network *kiln_test_network(const char *file, int line);
kiln_engine *kiln_test_built_network(const char *file, int line, const kiln_network *network,
                                     const kiln_build_options *options);
kiln_engine *kiln_test_built_bytes(const char *file, int line, kiln_span model,
                                   const kiln_build_options *options);
kiln_engine *kiln_test_built_file(const char *file, int line, const char *path,
                                  const kiln_build_options *options);

#endif
