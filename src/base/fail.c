/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "kln_base.h"

/* The functions are defined here, so undo the macros that replace them for the analyser. */
#undef kln_fail
#undef kln_fail_v
#undef kln_fail_within
#undef kln_fail_null
#undef kln_fail_memory

static _Thread_local kln_message last;

const char *kiln_status_name(kiln_status status)
{
    switch (status) {
#define STATUS_NAME(name, value, text) \
    case name: return #name;
        KILN_STATUS_LIST(STATUS_NAME)
#undef STATUS_NAME
    }
    return "KILN_ERROR_?";
}

const char *kiln_status_text(kiln_status status)
{
    switch (status) {
#define STATUS_TEXT(name, value, text) \
    case name: return text;
        KILN_STATUS_LIST(STATUS_TEXT)
#undef STATUS_TEXT
    }
    return "unknown status";
}

const char *kiln_error_message(void)
{
    return last.text;
}

const char *kiln_status_message(kiln_status status)
{
    return status == KILN_OK ? "" : status == last.status ? last.text : kiln_status_text(status);
}

void kln_message_keep(kln_message *message)
{
    *message = last;
}

void kln_message_restore(const kln_message *message)
{
    last = *message;
}

/* A cut must not split a UTF-8 character, or a JSON writer higher up would fail. */
static void mark_cut(char message[KLN_MESSAGE_SIZE])
{
    size_t end = KLN_MESSAGE_SIZE - 4;
    while (end > 0 && ((unsigned char)message[end] & 0xC0U) == 0x80U) {
        end--;
    }
    memcpy(message + end, "...", 4);
}

kiln_status kln_fail_v(kiln_status status, const char *format, va_list arguments)
{
    char message[KLN_MESSAGE_SIZE];
    const int length = vsnprintf(message, sizeof message, format, arguments);
    if (length < 0) {
        message[0] = '\0';
    } else if ((size_t)length >= sizeof message) {
        mark_cut(message);
    }
    kln_utf8_clean(message);
    kln_agree(message);
    /* Uses a local buffer, because an argument may be the last message itself. */
    memcpy(last.text, message, sizeof message);
    last.status = status;
    return status;
}

kiln_status kln_fail(kiln_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    status = kln_fail_v(status, format, arguments);
    va_end(arguments);
    return status;
}

kiln_status kln_fail_within(kiln_status status, const char *format, ...)
{
    char context[KLN_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(context, sizeof context, format, arguments);
    va_end(arguments);
    return kln_fail(status, "%s: %s", context, last.text);
}

kiln_status kln_fail_null(const char *function, const char *parameter)
{
    return kln_fail(KILN_ERROR_NULL_ARGUMENT, "%s: `%s` is NULL, but it is required", function,
                    parameter);
}

kiln_status kln_fail_memory(size_t size, const char *what)
{
    return kln_fail(KILN_ERROR_OUT_OF_MEMORY, "%zu bytes for %s could not be allocated", size,
                    what);
}
