/* SPDX-License-Identifier: Apache-2.0 */
/* Objects that a test makes or fails, and that end with their block:
 *
 *     owned_engine engine = built_bytes(model, &options);
 *     owned_context context = context_on(engine); */
#ifndef KILN_OWNED_H
#define KILN_OWNED_H

#include <kiln/kiln.h>

#define KILN_TEST_ENDS_OF(type, end)                             \
    static inline void kiln_test_end_##type(type *const *object) \
    {                                                            \
        end(*object);                                            \
    }
#define KILN_TEST_ENDS(type, end) KILN_TEST_ENDS_OF(kiln_##type, end)
KILN_TEST_ENDS(batch_folder, kiln_batch_folder_close)
KILN_TEST_ENDS(buffer, kiln_buffer_destroy)
KILN_TEST_ENDS(buffer_plan, kiln_buffer_plan_destroy)
KILN_TEST_ENDS(build, kiln_build_destroy)
KILN_TEST_ENDS(comparison, kiln_comparison_destroy)
KILN_TEST_ENDS(cache_list, kiln_cache_list_destroy)
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
KILN_TEST_ENDS(precision_report, kiln_precision_report_destroy)
KILN_TEST_ENDS(range_table, kiln_range_table_destroy)
KILN_TEST_ENDS(request, kiln_request_release)
KILN_TEST_ENDS(scheduler, kiln_scheduler_destroy)
KILN_TEST_ENDS(sequence, kiln_sequence_release)
KILN_TEST_ENDS(stream, kiln_stream_destroy)
KILN_TEST_ENDS(system_report, kiln_system_report_destroy)

#define KILN_TEST_OWNED_OF(type) __attribute__((unused, cleanup(kiln_test_end_##type))) type *
#define KILN_TEST_OWNED(type) KILN_TEST_OWNED_OF(kiln_##type)
#define owned_batch_folder KILN_TEST_OWNED(batch_folder)
#define owned_buffer KILN_TEST_OWNED(buffer)
#define owned_buffer_plan KILN_TEST_OWNED(buffer_plan)
#define owned_build KILN_TEST_OWNED(build)
#define owned_comparison KILN_TEST_OWNED(comparison)
#define owned_cache_list KILN_TEST_OWNED(cache_list)
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
#define owned_precision_report KILN_TEST_OWNED(precision_report)
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

/* A binding of a mock's; `dim` names its first dimension, or NULL. */
static inline kiln_binding binding_of(const char *name, kiln_dtype dtype, kiln_shape shape,
                                      const char *dim)
{
    return (kiln_binding){.struct_size = sizeof(kiln_binding),
                          .name = name,
                          .dtype = dtype,
                          .shape = shape,
                          .dim_names = {dim}};
}

void kiln_test_status(kiln_status expected, kiln_status found, const char *call, const char *file,
                      int line);

/* kiln_test_<name>(): what a call gives in its last argument, `out`; where it fails, the test does,
 * at the line that asked. */
#define KILN_TEST_GIVES(type, name, init, call, ...)                             \
    static inline type kiln_test_##name(const char *file, int line, __VA_ARGS__) \
    {                                                                            \
        type out = init;                                                         \
        kiln_test_status(KILN_OK, (call), #call, file, line);                    \
        return out;                                                              \
    }
#define KILN_TEST_HERE __FILE__, __LINE__

KILN_TEST_GIVES(kiln_engine *, built_bytes, NULL, kiln_engine_build_bytes(model, options, &out),
                kiln_span model, const kiln_build_options *options)
KILN_TEST_GIVES(kiln_engine *, built_file, NULL, kiln_engine_build_file(path, options, &out),
                const char *path, const kiln_build_options *options)
KILN_TEST_GIVES(kiln_engine *, built_network, NULL, kiln_engine_build(network, options, &out),
                const kiln_network *network, const kiln_build_options *options)
KILN_TEST_GIVES(kiln_engine *, loaded_file, NULL, kiln_engine_load(path, options, &out),
                const char *path, const kiln_build_options *options)
KILN_TEST_GIVES(kiln_engine *, new_mock, NULL, kiln_engine_create_mock(options, &out),
                const kiln_mock_options *options)
KILN_TEST_GIVES(kiln_span, saved_bytes, {.size = 0}, kiln_engine_save_bytes(engine, &out),
                const kiln_engine *engine)
KILN_TEST_GIVES(kiln_binding, input_at, {.struct_size = sizeof out},
                kiln_engine_input(engine, index, &out), const kiln_engine *engine, size_t index)
KILN_TEST_GIVES(kiln_binding, output_at, {.struct_size = sizeof out},
                kiln_engine_output(engine, index, &out), const kiln_engine *engine, size_t index)
KILN_TEST_GIVES(kiln_metadata, metadata_line, {.key = NULL},
                kiln_engine_metadata(engine, index, &out), const kiln_engine *engine, size_t index)
KILN_TEST_GIVES(kiln_build_progress, progress_of, {.struct_size = sizeof out},
                kiln_build_get_progress(build, &out), kiln_build *build)
KILN_TEST_GIVES(kiln_context *, context_with, NULL, kiln_context_create(engine, options, &out),
                kiln_engine *engine, const kiln_context_options *options)
KILN_TEST_GIVES(kiln_context_counters, counters_of, {.struct_size = sizeof out},
                kiln_context_get_counters(context, &out), kiln_context *context)
KILN_TEST_GIVES(kiln_tensor, tensor_in, {.bytes = 0}, kiln_context_tensor(context, name, &out),
                kiln_context *context, const char *name)
KILN_TEST_GIVES(kiln_network *, network_in, NULL, kiln_network_from_bytes(bytes, folder, &out),
                kiln_span bytes, const char *folder)
KILN_TEST_GIVES(kiln_network *, network_file, NULL, kiln_network_from_onnx(path, &out),
                const char *path)
KILN_TEST_GIVES(kiln_network *, network_with, NULL, kiln_network_create(options, &out),
                const kiln_network_options *options)
KILN_TEST_GIVES(kiln_network *, new_branch, NULL, kiln_network_create_branch(network, name, &out),
                kiln_network *network, const char *name)
KILN_TEST_GIVES(kiln_tensor_id, add_input, KILN_NO_TENSOR,
                kiln_network_add_input(network, name, dtype, &shape, NULL, &out),
                kiln_network *network, const char *name, kiln_dtype dtype, kiln_shape shape)
KILN_TEST_GIVES(kiln_stream *, new_stream, NULL, kiln_stream_create(device, priority, &out),
                int32_t device, int32_t priority)
KILN_TEST_GIVES(kiln_event *, new_event, NULL, kiln_event_create(device, timed, &out),
                int32_t device, bool timed)
KILN_TEST_GIVES(kiln_buffer *, new_buffer, NULL, kiln_buffer_create(location, device, bytes, &out),
                kiln_location location, int32_t device, size_t bytes)
KILN_TEST_GIVES(kiln_tensor, buffer_tensor, {.bytes = 0},
                kiln_buffer_tensor(buffer, offset, dtype, shape, &out), const kiln_buffer *buffer,
                size_t offset, kiln_dtype dtype, const kiln_shape *shape)
KILN_TEST_GIVES(kiln_pool *, new_pool, NULL, kiln_pool_create(options, &out),
                const kiln_pool_options *options)
KILN_TEST_GIVES(kiln_block, block_of, {.bytes = 0}, kiln_pool_allocate(pool, bytes, stream, &out),
                kiln_pool *pool, size_t bytes, kiln_stream *stream)
KILN_TEST_GIVES(kiln_pipeline *, pipeline_on, NULL, kiln_pipeline_create(engine, options, &out),
                kiln_engine *engine, const kiln_pipeline_options *options)
KILN_TEST_GIVES(kiln_scheduler *, scheduler_on, NULL,
                kiln_scheduler_create(engines, count, options, &out), kiln_engine *const *engines,
                size_t count, const kiln_scheduler_options *options)
KILN_TEST_GIVES(kiln_scheduler_counters, scheduler_counters, {.struct_size = sizeof out},
                kiln_scheduler_get_counters(scheduler, &out), kiln_scheduler *scheduler)
KILN_TEST_GIVES(kiln_generator *, generator_on, NULL, kiln_generator_create(engine, options, &out),
                kiln_engine *engine, const kiln_generator_options *options)
KILN_TEST_GIVES(kiln_sequence *, submitted_text, NULL,
                kiln_generator_submit(generator, prompt, count, options, &out),
                kiln_generator *generator, const int64_t *prompt, size_t count,
                const kiln_sequence_options *options)
KILN_TEST_GIVES(kiln_sequence_result, sequence_result, {.struct_size = sizeof out},
                kiln_sequence_get_result(sequence, &out), kiln_sequence *sequence)
KILN_TEST_GIVES(kiln_cache_list *, cache_entries, NULL, kiln_cache_list_create(cache, verify, &out),
                const char *cache, bool verify)
KILN_TEST_GIVES(kiln_cache_entry, entry_at, {.struct_size = sizeof out},
                kiln_cache_list_get(list, index, &out), const kiln_cache_list *list, size_t index)

#define built_bytes(...) kiln_test_built_bytes(KILN_TEST_HERE, __VA_ARGS__)
#define built_file(...) kiln_test_built_file(KILN_TEST_HERE, __VA_ARGS__)
#define built_network(...) kiln_test_built_network(KILN_TEST_HERE, __VA_ARGS__)
#define loaded_file(...) kiln_test_loaded_file(KILN_TEST_HERE, __VA_ARGS__)
#define new_mock(...) kiln_test_new_mock(KILN_TEST_HERE, __VA_ARGS__)
#define saved_bytes(...) kiln_test_saved_bytes(KILN_TEST_HERE, __VA_ARGS__)
#define input_at(...) kiln_test_input_at(KILN_TEST_HERE, __VA_ARGS__)
#define output_at(...) kiln_test_output_at(KILN_TEST_HERE, __VA_ARGS__)
#define metadata_line(...) kiln_test_metadata_line(KILN_TEST_HERE, __VA_ARGS__)
#define progress_of(...) kiln_test_progress_of(KILN_TEST_HERE, __VA_ARGS__)
#define context_with(...) kiln_test_context_with(KILN_TEST_HERE, __VA_ARGS__)
#define counters_of(...) kiln_test_counters_of(KILN_TEST_HERE, __VA_ARGS__)
#define tensor_in(...) kiln_test_tensor_in(KILN_TEST_HERE, __VA_ARGS__)
#define network_in(...) kiln_test_network_in(KILN_TEST_HERE, __VA_ARGS__)
#define network_file(...) kiln_test_network_file(KILN_TEST_HERE, __VA_ARGS__)
#define network_with(...) kiln_test_network_with(KILN_TEST_HERE, __VA_ARGS__)
#define new_branch(...) kiln_test_new_branch(KILN_TEST_HERE, __VA_ARGS__)
#define add_input(...) kiln_test_add_input(KILN_TEST_HERE, __VA_ARGS__)
#define new_stream(...) kiln_test_new_stream(KILN_TEST_HERE, __VA_ARGS__)
#define new_event(...) kiln_test_new_event(KILN_TEST_HERE, __VA_ARGS__)
#define new_buffer(...) kiln_test_new_buffer(KILN_TEST_HERE, __VA_ARGS__)
#define buffer_tensor(...) kiln_test_buffer_tensor(KILN_TEST_HERE, __VA_ARGS__)
#define new_pool(...) kiln_test_new_pool(KILN_TEST_HERE, __VA_ARGS__)
#define block_of(...) kiln_test_block_of(KILN_TEST_HERE, __VA_ARGS__)
#define pipeline_on(...) kiln_test_pipeline_on(KILN_TEST_HERE, __VA_ARGS__)
#define scheduler_on(...) kiln_test_scheduler_on(KILN_TEST_HERE, __VA_ARGS__)
#define scheduler_counters(...) kiln_test_scheduler_counters(KILN_TEST_HERE, __VA_ARGS__)
#define generator_on(...) kiln_test_generator_on(KILN_TEST_HERE, __VA_ARGS__)
#define submitted_text(...) kiln_test_submitted_text(KILN_TEST_HERE, __VA_ARGS__)
#define sequence_result(...) kiln_test_sequence_result(KILN_TEST_HERE, __VA_ARGS__)
#define cache_entries(...) kiln_test_cache_entries(KILN_TEST_HERE, __VA_ARGS__)
#define entry_at(...) kiln_test_entry_at(KILN_TEST_HERE, __VA_ARGS__)
#define context_on(engine) context_with((engine), NULL)
#define stream_on(device) new_stream((device), 0)
#define new_network() network_with(NULL)
#define network_of_opset(number) network_with(&KILN_NETWORK_OPTIONS(.opset = (number)))

#define bind_tensor(...) kiln_test_bind(KILN_TEST_HERE, __VA_ARGS__)
void kiln_test_bind(const char *file, int line, kiln_context *context, const char *name,
                    kiln_tensor tensor);

#endif
