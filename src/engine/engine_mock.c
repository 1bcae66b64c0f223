/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/mock/kln_mock.h"
#include "kln_engine.h"

kiln_status kiln_engine_create_mock(const kiln_mock_options *options, kiln_engine **engine)
{
    KLN_RETURN_IF_NULL_RESULT(engine, options);
    kiln_mock_options read = KILN_MOCK_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_mock_options", options, &read, sizeof read));
    KLN_FAIL_IF(read.handler == NULL, kln_fail_null(__func__, "handler"));
    KLN_FAIL_IF((read.inputs == NULL && read.input_count != 0) ||
                    (read.outputs == NULL && read.output_count != 0),
                kln_fail_null(__func__, read.inputs == NULL ? "inputs" : "outputs"));
    const kiln_build_options built = KILN_BUILD_OPTIONS_INIT;
    /* Not from the registry: only this call can create a mock engine. */
    const kiln_backend *backend = &kln_backend_mock;
    kiln_backend_info info = {
        .struct_size = sizeof info, .name = backend->name, .description = backend->description};
    KLN_RETURN_IF_ERROR(backend->probe(NULL, &info));
    kln_mock *mock = NULL;
    KLN_RETURN_IF_ERROR(kln_mock_create(&read, &mock));
    return kln_engine_adopt(backend, &info, mock, &built, NULL, engine);
}
