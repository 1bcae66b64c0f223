/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_base.h"

static kiln_status check_size(const char *what, size_t given, size_t size)
{
    if (given >= size) {
        return KILN_OK;
    }
    return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                    "%s: struct_size is %zu, at least %zu is needed; start from its _INIT macro or "
                    "set it to the struct's sizeof",
                    what, given, size);
}

kiln_status kln_options_read(const char *what, const void *options, void *copy, size_t size)
{
    if (options == NULL) {
        return KILN_OK;
    }
    size_t given = 0;
    memcpy(&given, options, sizeof given);
    KLN_RETURN_IF_ERROR(check_size(what, given, size));
    const unsigned char *bytes = options;
    for (size_t i = size; i < given; i++) {
        KLN_RETURN_IF(bytes[i] != 0, KILN_ERROR_INVALID_ARGUMENT,
                      "%s: the option at byte %zu is set, but this library (%s) knows only the "
                      "first %zu bytes; a newer libkiln is needed",
                      what, i, kiln_version_string(), size);
    }
    memcpy(copy, options, size);
    memcpy(copy, &size, sizeof size);
    return KILN_OK;
}

kiln_status kln_info_write(const char *what, void *out, const void *info, size_t size)
{
    KLN_FAIL_IF(out == NULL, kln_fail_null(what, "info"));
    size_t given = 0;
    memcpy(&given, out, sizeof given);
    KLN_RETURN_IF_ERROR(check_size(what, given, size));
    memcpy(out, info, size);
    memcpy(out, &given, sizeof given);
    return KILN_OK;
}
