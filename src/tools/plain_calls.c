/* SPDX-License-Identifier: Apache-2.0 */
#include <kiln/bindings.h>

#include "base/kln_base.h"

/* A macro, so that messages name the function and arguments that the caller used. */
#define RETURN_IF_NO_DATA(data, size) \
    do {                              \
        if ((size) != 0) {            \
            KLN_RETURN_IF_NULL(data); \
        }                             \
    } while (false)

kiln_status kiln_build_start_data(const void *model, size_t model_size,
                                  const kiln_build_options *options,
                                  const kiln_build_limits *limits, kiln_build **build)
{
    KLN_RETURN_IF_NULL_RESULT(build);
    RETURN_IF_NO_DATA(model, model_size);
    return kiln_build_start_bytes((kiln_span){model, model_size}, options, limits, build);
}

kiln_status kiln_check_data(const void *model, size_t model_size, const char *folder,
                            const kiln_check_options *options, kiln_issue_list **issues)
{
    KLN_RETURN_IF_NULL_RESULT(issues);
    RETURN_IF_NO_DATA(model, model_size);
    return kiln_check_bytes((kiln_span){model, model_size}, folder, options, issues);
}

kiln_status kiln_engine_build_data(const void *model, size_t model_size,
                                   const kiln_build_options *options, kiln_engine **engine)
{
    KLN_RETURN_IF_NULL_RESULT(engine);
    RETURN_IF_NO_DATA(model, model_size);
    return kiln_engine_build_bytes((kiln_span){model, model_size}, options, engine);
}

kiln_status kiln_engine_load_data(const void *bytes, size_t size, const void *manifest,
                                  size_t manifest_size, const kiln_build_options *options,
                                  kiln_engine **engine)
{
    KLN_RETURN_IF_NULL_RESULT(engine);
    RETURN_IF_NO_DATA(bytes, size);
    RETURN_IF_NO_DATA(manifest, manifest_size);
    return kiln_engine_load_bytes((kiln_span){bytes, size}, (kiln_span){manifest, manifest_size},
                                  options, engine);
}

kiln_status kiln_engine_refit_data(kiln_engine *engine, const void *bytes, size_t size,
                                   const char *folder, const kiln_refit_options *options)
{
    KLN_RETURN_IF_NULL(engine);
    RETURN_IF_NO_DATA(bytes, size);
    return kiln_engine_refit_bytes(engine, (kiln_span){bytes, size}, folder, options);
}

kiln_status kiln_network_from_data(const void *bytes, size_t size, const char *folder,
                                   kiln_network **network)
{
    KLN_RETURN_IF_NULL_RESULT(network);
    RETURN_IF_NO_DATA(bytes, size);
    return kiln_network_from_bytes((kiln_span){bytes, size}, folder, network);
}

kiln_status kiln_range_table_load_data(const void *bytes, size_t size, kiln_range_table **table)
{
    KLN_RETURN_IF_NULL_RESULT(table);
    RETURN_IF_NO_DATA(bytes, size);
    return kiln_range_table_load_bytes((kiln_span){bytes, size}, table);
}

kiln_status kiln_buffer_write_data(kiln_buffer *buffer, size_t offset, const void *from,
                                   size_t size, kiln_stream *stream)
{
    KLN_RETURN_IF_NULL(buffer);
    RETURN_IF_NO_DATA(from, size);
    return kiln_buffer_write(buffer, offset, (kiln_span){from, size}, stream);
}

kiln_status kiln_buffer_read_data(const kiln_buffer *buffer, size_t offset, void *to, size_t size,
                                  kiln_stream *stream)
{
    KLN_RETURN_IF_NULL(buffer);
    RETURN_IF_NO_DATA(to, size);
    return kiln_buffer_read(buffer, offset, (kiln_mutable_span){to, size}, stream);
}
