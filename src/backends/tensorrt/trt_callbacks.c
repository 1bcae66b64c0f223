/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/tensorrt/trt_callbacks.h"

#include <stdio.h>

#include "backends/tensorrt/trt_callback_tables.h"

/* --- tables --- */

static void destructor(void *self)
{
    (void)self; /* Kiln owns the memory */
}

static int32_t language(void *self)
{
    (void)self;
    return 0; /* C++, as far as TensorRT is concerned */
}

#define COMMON(table, c)                                       \
    do {                                                       \
        TRT_PUT(table, c, D1, destructor);                     \
        TRT_PUT(table, c, D0, destructor);                     \
        TRT_PUT(table, c, getAPILanguage, language);           \
        TRT_PUT(table, c, getInterfaceInfo, interface_of_##c); \
    } while (0)

#define INTERFACE(c)                                      \
    static trt_InterfaceInfo interface_of_##c(void *self) \
    {                                                     \
        (void)self;                                       \
        return (trt_InterfaceInfo){"I" #c, 1, 0};         \
    }
INTERFACE(Logger)
INTERFACE(ErrorRecorder)
INTERFACE(ProgressMonitor)
INTERFACE(GpuAllocator)
INTERFACE(OutputAllocator)
INTERFACE(Profiler)

/* --- logger --- */

/* The first error since trt_logged_clear: of this thread, and of any thread. */
static _Thread_local char own_error[TRT_RECORDED_TEXT];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char any_error[TRT_RECORDED_TEXT];

void trt_logged_clear(void)
{
    own_error[0] = '\0';
    KLN_LOCKED(&lock);
    any_error[0] = '\0';
}

const char *trt_logged_error(void)
{
    if (own_error[0] == '\0') {
        (void)pthread_mutex_lock(&lock);
        memcpy(own_error, any_error, sizeof own_error);
        (void)pthread_mutex_unlock(&lock);
    }
    return own_error;
}

static bool says_nothing(const char *text)
{
    /* Noise: an error that RTX logs once in each thread; a warning that the plan's memory is owned
     * by the user, which is intended; and the parser's advice about binding an int64 output as
     * int32. */
    return strncmp(text, "Thread context has not been set", 31) == 0 ||
           strncmp(text, "Providing user-owned deserialization memory", 43) == 0 ||
           (strstr(text, "Make sure ") != NULL && strstr(text, " has Int64 binding") != NULL);
}

static void logger_log(void *self, int32_t severity, const char *text)
{
    (void)self;
    static const kiln_log_level levels[] = {KILN_LOG_ERROR, KILN_LOG_ERROR, KILN_LOG_WARNING,
                                            KILN_LOG_INFO, KILN_LOG_DEBUG};
    text = text != NULL ? text : "";
    if (says_nothing(text)) {
        severity = (int32_t)KLN_ARRAY_LENGTH(levels);
    }
    const kiln_log_level level = severity >= 0 && severity < (int32_t)KLN_ARRAY_LENGTH(levels)
                                     ? levels[severity]
                                     : KILN_LOG_DEBUG;
    if (level == KILN_LOG_ERROR) {
        if (own_error[0] == '\0') {
            (void)snprintf(own_error, sizeof own_error, "%s", text);
        }
        (void)pthread_mutex_lock(&lock);
        if (any_error[0] == '\0') {
            (void)snprintf(any_error, sizeof any_error, "%s", text);
        }
        (void)pthread_mutex_unlock(&lock);
    }
    kln_log(level, "tensorrt", "%s", text);
}

static void fill_logger(trt_tables *tables, const trt_abi *abi)
{
    TRT_PUT(&tables->logger, Logger, log, logger_log);
}

void trt_logger_init(trt_logger *logger, const trt_tables *tables)
{
    logger->object.vtable = trt_table_point(&tables->logger);
}

/* --- error recorder --- */

/* Called with the lock held. */
static int32_t kept(const trt_error_recorder *recorder)
{
    return recorder->count < TRT_RECORDED_ERRORS ? recorder->count : TRT_RECORDED_ERRORS;
}

static int32_t recorder_count(void *self)
{
    trt_error_recorder *recorder = self;
    KLN_LOCKED(&recorder->lock);
    return kept(recorder);
}

static int32_t recorder_code(void *self, int32_t index)
{
    trt_error_recorder *recorder = self;
    return index >= 0 && index < recorder_count(self) ? recorder->codes[index] : 3;
}

static const char *recorder_text(void *self, int32_t index)
{
    trt_error_recorder *recorder = self;
    return index >= 0 && index < recorder_count(self) ? recorder->texts[index] : "";
}

static bool recorder_overflowed(void *self)
{
    trt_error_recorder *recorder = self;
    KLN_LOCKED(&recorder->lock);
    return recorder->count > TRT_RECORDED_ERRORS;
}

static void recorder_clear(void *self)
{
    trt_error_recorder *recorder = self;
    KLN_LOCKED(&recorder->lock);
    recorder->count = 0;
}

static bool recorder_report(void *self, int32_t code, const char *text)
{
    trt_error_recorder *recorder = self;
    (void)pthread_mutex_lock(&recorder->lock);
    if (recorder->count < TRT_RECORDED_ERRORS) {
        recorder->codes[recorder->count] = code;
        (void)snprintf(recorder->texts[recorder->count], TRT_RECORDED_TEXT, "%s",
                       text != NULL ? text : "");
    }
    if (recorder->count < INT32_MAX) {
        recorder->count++;
    }
    (void)pthread_mutex_unlock(&recorder->lock);
    kln_log(KILN_LOG_ERROR, "tensorrt", "error %d: %s", code, text != NULL ? text : "");
    return false; /* TensorRT need not abort what it is doing */
}

static int32_t recorder_retain(void *self)
{
    trt_error_recorder *recorder = self;
    KLN_LOCKED(&recorder->lock);
    return ++recorder->references;
}

static int32_t recorder_release(void *self)
{
    trt_error_recorder *recorder = self;
    KLN_LOCKED(&recorder->lock);
    return --recorder->references;
}

static void fill_error_recorder(trt_tables *tables, const trt_abi *abi)
{
    trt_table *table = &tables->error_recorder;
    TRT_PUT(table, ErrorRecorder, getNbErrors, recorder_count);
    TRT_PUT(table, ErrorRecorder, getErrorCode, recorder_code);
    TRT_PUT(table, ErrorRecorder, getErrorDesc, recorder_text);
    TRT_PUT(table, ErrorRecorder, hasOverflowed, recorder_overflowed);
    TRT_PUT(table, ErrorRecorder, clear, recorder_clear);
    TRT_PUT(table, ErrorRecorder, reportError, recorder_report);
    TRT_PUT(table, ErrorRecorder, incRefCount, recorder_retain);
    TRT_PUT(table, ErrorRecorder, decRefCount, recorder_release);
}

void trt_error_recorder_init(trt_error_recorder *recorder, const trt_tables *tables)
{
    recorder->object.vtable = trt_table_point(&tables->error_recorder);
    (void)pthread_mutex_init(&recorder->lock, NULL);
    recorder->references = 0;
    recorder->count = 0;
}

void trt_error_recorder_finish(trt_error_recorder *recorder)
{
    (void)pthread_mutex_destroy(&recorder->lock);
}

void trt_error_recorder_clear(trt_error_recorder *recorder)
{
    recorder_clear(recorder);
}

bool trt_said(trt_error_recorder *recorder, const char *word)
{
    bool said = strstr(trt_logged_error(), word) != NULL;
    KLN_LOCKED(&recorder->lock);
    for (int32_t i = 0; i < kept(recorder); i++) {
        said |= strstr(recorder->texts[i], word) != NULL;
    }
    return said;
}

/* ErrorCode.FAILED_ALLOCATION has this number in every layout, but TensorRT reports most failed
 * allocations as internal errors. */
static bool lacks_memory(trt_error_recorder *recorder, int32_t code)
{
    return code == 5 || (recorder != NULL && (trt_said(recorder, "OutOfMemory") ||
                                              trt_said(recorder, "out of memory")));
}

/* Copies the first error and returns the number of errors; under the lock, because another thread
 * may be reporting one. */
static int32_t first_error(trt_error_recorder *recorder, int32_t *code,
                           char text[TRT_RECORDED_TEXT])
{
    KLN_LOCKED(&recorder->lock);
    if (recorder->count > 0) {
        *code = recorder->codes[0];
        memcpy(text, recorder->texts[0], TRT_RECORDED_TEXT);
    }
    return recorder->count;
}

kiln_status(trt_fail)(kiln_status status, trt_error_recorder *recorder, const char *format, ...)
{
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    char recorded[TRT_RECORDED_TEXT];
    int32_t code = 0;
    const int32_t count = recorder != NULL ? first_error(recorder, &code, recorded) : 0;
    const char *said = count > 0 ? recorded : trt_logged_error();
    KLN_RETURN_IF(said[0] == '\0', status, "%s; TensorRT gave no reason", what);
    if (lacks_memory(recorder, code)) {
        status = KILN_ERROR_OUT_OF_MEMORY;
    }
    KLN_RETURN_IF(count > 1, status, "%s: TensorRT says: %s (and %d more errors)", what, said,
                  count - 1);
    return kln_fail(status, "%s: TensorRT says: %s", what, said);
}

/* --- all tables --- */

void trt_tables_init(trt_tables *tables, const trt_abi *abi)
{
    memset(tables, 0, sizeof *tables);
    COMMON(&tables->logger, Logger);
    COMMON(&tables->error_recorder, ErrorRecorder);
    COMMON(&tables->progress_monitor, ProgressMonitor);
    COMMON(&tables->gpu_allocator, GpuAllocator);
    COMMON(&tables->output_allocator, OutputAllocator);
    COMMON(&tables->profiler, Profiler);
    fill_logger(tables, abi);
    fill_error_recorder(tables, abi);
    trt_fill_progress_monitor(tables, abi);
    trt_fill_memory(tables, abi);
    trt_fill_profiler(tables, abi);
}
