/* SPDX-License-Identifier: Apache-2.0 */
#include <kiln/system.h>

#include "backends/kln_backends.h"
#include "base/kln_base.h"
#include "cuda/kln_cuda.h"
#include "loader/kln_loader.h"

struct kiln_system_report {
    kln_library_use *libraries;
    size_t library_count;
    kiln_device_info *devices;
    size_t device_count;
};

void kiln_system_report_destroy(kiln_system_report *report)
{
    if (report != NULL) {
        kln_free(report->libraries);
        kln_free(report->devices);
        kln_free(report);
    }
}

/* Copies what every backend says about its libraries to `libraries`, after the first one, which is
 * the driver's; only counts them if that is NULL. */
static size_t collect(kln_library_use *libraries)
{
    size_t count = 1;
    const kiln_backend *backend = NULL;
    for (size_t b = 0; (backend = kln_backend_at(b)) != NULL; b++) {
        kln_library_use use = {.spec = NULL};
        for (size_t i = 0; backend->library != NULL && backend->library(i, &use); i++) {
            if (libraries != NULL) {
                libraries[count] = use;
            }
            count++;
        }
    }
    return count;
}

static kiln_status describe_devices(kiln_system_report *report)
{
    const size_t count = kiln_device_count();
    KLN_NEW(report->devices, count, "a system report");
    for (; report->device_count < count; report->device_count++) {
        kiln_device_info *info = &report->devices[report->device_count];
        info->struct_size = sizeof *info;
        KLN_RETURN_IF_ERROR(kln_cuda_device_info((int32_t)report->device_count, info));
    }
    return KILN_OK;
}

KLN_SCOPED_POINTER(kiln_system_report, kiln_system_report_destroy)

kiln_status kiln_system_report_create(kiln_system_report **report)
{
    KLN_RETURN_IF_NULL_RESULT(report);
    KLN_SCOPED(kiln_system_report_destroy_at) kiln_system_report *made = NULL;
    KLN_NEW(made, 1, "a system report");
    kln_message before;
    kln_message_keep(&before);
    made->library_count = collect(NULL);
    KLN_NEW(made->libraries, made->library_count, "a system report");
    (void)collect(made->libraries);
    KLN_RETURN_IF_ERROR(kln_cuda_library(&made->libraries[0]));
    KLN_RETURN_IF_ERROR(describe_devices(made));
    kln_message_restore(&before);
    *report = KLN_TAKE(made);
    return KILN_OK;
}

size_t kiln_system_report_library_count(const kiln_system_report *report)
{
    return report != NULL ? report->library_count : 0;
}

kiln_status kiln_system_report_library(const kiln_system_report *report, size_t index,
                                       kiln_library_info *info)
{
    KLN_RETURN_IF_NULL(report);
    KLN_RETURN_IF(index >= report->library_count, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_system_report_library: library %zu was asked for, there are %zu", index,
                  report->library_count);
    const kln_library_use *use = &report->libraries[index];
    const kiln_library_info found = {
        .struct_size = sizeof found,
        .name = use->spec->name,
        .purpose = use->spec->purpose,
        .state = kln_library_state(use->library),
        .version = use->version != NULL ? use->version : "",
        .path = kln_library_path(use->library),
        .advice = kln_library_state(use->library) != KILN_LIBRARY_FOUND ? use->spec->advice : "",
        .place_count = kln_library_place_count(use->library)};
    return kln_info_write(__func__, info, &found, sizeof found);
}

const char *kiln_system_report_place(const kiln_system_report *report, size_t library, size_t place)
{
    if (report == NULL || library >= report->library_count ||
        place >= kln_library_place_count(report->libraries[library].library)) {
        return NULL;
    }
    return kln_library_place(report->libraries[library].library, place);
}

size_t kiln_system_report_device_count(const kiln_system_report *report)
{
    return report != NULL ? report->device_count : 0;
}

kiln_status kiln_system_report_device(const kiln_system_report *report, size_t index,
                                      kiln_device_info *info)
{
    KLN_RETURN_IF_NULL(report);
    KLN_RETURN_IF(index >= report->device_count, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_system_report_device: device %zu was asked for, there are %zu", index,
                  report->device_count);
    return kln_info_write(__func__, info, &report->devices[index], sizeof *info);
}
