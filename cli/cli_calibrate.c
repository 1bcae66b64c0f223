/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_accuracy.h"
#include "cli_list.h"
#include "cli_model.h"

typedef struct calibrate_settings {
    cli_model_settings model;
    const char *data;
    const char *output;
    int method;
    double percentile;
    int64_t batches;
    int64_t batch_size;
    int64_t memory; /* in MiB */
    int64_t count_threads;
    cli_list tensors;
    int precision; /* index in `precisions`; -1: all tensors */
    const char *header;
} calibrate_settings;

typedef struct job {
    calibrate_settings settings;
    const char *path;
    kiln_batch_folder *folder;
    kiln_range_table *ranges;
    kiln_calibrate_progress progress; /* the most recent */
} job;

static const char *const methods[] = {"entropy", "minmax", "percentile", "mse", NULL};

static const char *const precisions[] = {"int8", "fp8", NULL};

static bool note(void *user, const kiln_calibrate_progress *progress)
{
    job *work = user;
    const size_t files = kiln_batch_folder_count(work->folder);
    const uint64_t most = progress->most > 0 && progress->most < files ? progress->most : files;
    work->progress = *progress;
    cli_progress_set((double)progress->batches / (double)most);
    return true;
}

static kiln_status calibrate(job *work)
{
    const calibrate_settings *settings = &work->settings;
    const kiln_build_options build = cli_model_build(&settings->model);
    kiln_calibrate_options options = KILN_CALIBRATE_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(kiln_batch_folder_open(settings->data, &work->folder));
    const kiln_batch_source source = kiln_batch_folder_source(work->folder);
    options.method = (kiln_calibration_method)settings->method;
    options.percentile = settings->percentile > 0 ? settings->percentile : options.percentile;
    options.batches = (uint64_t)settings->batches;
    options.batch_size = settings->batch_size;
    options.memory_bytes = (uint64_t)settings->memory << 20;
    options.threads = (int32_t)settings->count_threads;
    options.tensors = settings->tensors.count > 0 ? settings->tensors.items : NULL;
    options.tensor_count = settings->tensors.count;
    options.precision = settings->precision < 0    ? KILN_PRECISION_DEFAULT
                        : settings->precision == 0 ? KILN_PRECISION_INT8
                                                   : KILN_PRECISION_FP8;
    options.progress = note;
    options.user = work;
    options.channels = cli_ends_with(settings->output, ".json");
    CLI_WITH_PROGRESS("calibrating",
                      kiln_calibrate_file(work->path, &build, &source, &options, &work->ranges));
    if (settings->header != NULL) {
        KLN_RETURN_IF_ERROR(kiln_range_table_set_header(work->ranges, settings->header));
    }
    return kiln_range_table_save(work->ranges, settings->output);
}

void cli_print_not_finite(const kiln_range_table *ranges)
{
    for (size_t i = 0; i < kiln_range_table_count(ranges); i++) {
        const kiln_range *range = kiln_range_table_at(ranges, i);
        if (range->nans + range->infinities > 0) {
            SCOPED_HEAP char *name = cli_printable(range->name);
            (void)printf("\"%s\": of %" PRIu64 " numbers %" PRIu64 " NaN and %" PRIu64
                         " infinite, which have no part in its range\n",
                         name, range->count, range->nans, range->infinities);
        }
    }
}

static void print(const job *work)
{
    SCOPED_HEAP char *output = cli_printable(work->settings.output);
    (void)printf("%s: the ranges of %zu tensor%s by %s, of %" PRIu64 " batch%s in %.2f s\n", output,
                 kiln_range_table_count(work->ranges), CLI_S(kiln_range_table_count(work->ranges)),
                 methods[work->settings.method], work->progress.batches,
                 CLI_ES(work->progress.batches), (double)work->progress.nanoseconds / 1e9);
    cli_print_not_finite(work->ranges);
}

static void finish(job *work)
{
    kiln_range_table_destroy(work->ranges);
    kiln_batch_folder_close(work->folder);
}

static cli_exit run(const cli_command *self, void *given, const char **operands)
{
    SCOPED(finish)
    job work = {.settings = *(const calibrate_settings *)given, .path = operands[0]};
    if (work.settings.data == NULL || work.settings.output == NULL) {
        return cli_misuse(self, "--%s is needed", work.settings.data == NULL ? "data" : "output");
    }
    if (work.settings.percentile > 0 && work.settings.method != KILN_CALIBRATE_PERCENTILE) {
        return cli_misuse(self, "--percentile goes with --method percentile");
    }
    CLI_FAIL_IF_ERROR(calibrate(&work));
    print(&work);
    return CLI_DONE;
}

#define FIELD(name) offsetof(calibrate_settings, name)

static const cli_option options[] = {
    {"data", 'd', "DIR", CLI_TEXT, FIELD(data), 0, 0, NULL,
     "The folder of the batches, in the order of their names: each .npz file is one, with an "
     "array for each input, and each .npy file if the model has one input; or a single such "
     "file."},
    {"output", 'o', "FILE", CLI_OUTPUT, FIELD(output), 0, 0, NULL,
     "Where to write the ranges: JSON, including ranges of channels, if FILE ends in .json, "
     "else TensorRT's calibration cache, as trtexec --int8 --calib=FILE takes it."},
    {"calib", 0, "FILE", CLI_OUTPUT, FIELD(output), 0, 0, NULL, "The same as --output."},
    {"method", 'm', "METHOD", CLI_CHOICE, FIELD(method), 0, 0, methods,
     "How to find a range: entropy, the least Kullback-Leibler divergence, as TensorRT does; "
     "minmax; percentile; or mse, the least mean square error. Default entropy."},
    {"percentile", 0, "P", CLI_REAL, FIELD(percentile), 1e-9, 100, NULL,
     "With --method percentile: the share of the values that lies within the range. Default "
     "99.99."},
    {"batches", 'n', "N", CLI_INTEGER, FIELD(batches), 0, 1e15, NULL,
     "Use the first N batches. Default 0, all."},
    {"batch-size", 0, "N", CLI_INTEGER, FIELD(batch_size), 0, 1e15, NULL,
     "Run batches in pieces of N along the first dimension. Default 0: the model's fixed size, "
     "else a batch as it is."},
    {"memory", 0, "MIB", CLI_INTEGER, FIELD(memory), 1, 1e9, NULL,
     "The most memory for tensors that are observed at once, with their histograms; beyond it "
     "the model runs several times for each batch. Default 1024."},
    {"count-threads", 0, "N", CLI_INTEGER, FIELD(count_threads), 0, 4096, NULL,
     "Threads that count and, with ONNX Runtime on the CPU, batches that run concurrently, as "
     "far as --memory allows. Default 0: one for each processor, 16 at most."},
    {"precision", 'p', "TYPE", CLI_CHOICE, FIELD(precision), 0, 0, precisions,
     "Find only the ranges that kiln quantize uses for int8 or fp8: the others cost time."},
    {"tensor", 0, "NAME", CLI_LIST, FIELD(tensors), 0, 0, NULL,
     "Find only the range of this tensor; may be given several times. Default: all."},
    {"header", 0, "LINE", CLI_TEXT, FIELD(header), 0, 0, NULL,
     "The first line of the cache: TRT, TensorRT's version and the calibrator that will read it. "
     "Default " KILN_CACHE_HEADER ", or MinMaxCalibration with --method minmax."},
    {0},
};

static const cli_option engine_options[] = {
    {CLI_LOADS, 0, "d", CLI_ROWS, offsetof(cli_model_settings, build), 0, 0, NULL, NULL},
    CLI_ROWS_OF("tf32 conv_search", offsetof(cli_model_settings, build)),
    {0},
};

static const cli_group groups[] = {
    {"Calibration", options, 0},
    {"Engine", engine_options, FIELD(model)},
    {0},
};

static const cli_example examples[] = {
    {"kiln calibrate model.onnx --data batches -o calib.cache",
     "a cache for trtexec --int8 --calib=calib.cache"},
    {"kiln calibrate model.onnx -d batches -o ranges.json -m percentile",
     "ranges as JSON, together with the observed values"},
    {0},
};

const cli_command cli_command_calibrate = {
    .name = "calibrate",
    .operands = "MODEL",
    .summary = "find the ranges of a model's tensors on batches of data",
    .description =
        "Runs the ONNX file MODEL on batches of data and finds for each floating-point tensor "
        "the range that a low-precision type should represent. Batches are in memory only while "
        "they run.\n\nNaN and infinities are excluded from the ranges, and reported.",
    .groups = groups,
    .examples = examples,
    CLI_SETTINGS(calibrate_settings, .memory = 1024, .precision = -1),
    .run = run,
};
