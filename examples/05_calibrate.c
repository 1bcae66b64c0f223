/* SPDX-License-Identifier: Apache-2.0 */
/* Within what range do a model's numbers lie? Google's magika model, from lesson 1, is run on the
 * files that are named, and the scales that its tensors need in 8 bits go to a calibration cache.
 *
 *     05_calibrate CACHE FILE...
 *
 * The lesson: batches come from a function, one at a time, and the ranges stand in a table that
 * TensorRT's tools read: trtexec --int8 --calib=CACHE. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <kiln/kiln.h>

enum { PART = 1024, FEATURES = 2 * PART, PADDING = 256, SHOWN = 8 };

/* The files that are left, and the batch that was made of the last one. */
typedef struct samples {
    char **paths; /* ended by NULL */
    int32_t features[FEATURES];
    kiln_named_tensor batch;
} samples;

/* The first bytes of a file and the last, as magika takes them, but for white space. */
static int read_features(const char *path, int32_t *features)
{
    unsigned char bytes[PART];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return 0;
    }
    for (size_t i = 0; i < FEATURES; i++) {
        features[i] = PADDING;
    }
    size_t size = fread(bytes, 1, PART, file);
    for (size_t i = 0; i < size; i++) {
        features[i] = bytes[i];
    }
    if (fseek(file, -PART, SEEK_END) != 0) {
        rewind(file);
    }
    size = fread(bytes, 1, PART, file);
    for (size_t i = 0; i < size; i++) {
        features[FEATURES - size + i] = bytes[i];
    }
    (void)fclose(file);
    return size > 0;
}

/* Called for each batch. Those that cannot be read are passed over; no batch is the end. */
static kiln_status next_batch(void *user, const kiln_named_tensor **inputs, size_t *count)
{
    samples *from = user;
    while (*from->paths != NULL) {
        if (read_features(*from->paths++, from->features)) {
            from->batch.name = "bytes";
            from->batch.tensor = KILN_HOST_TENSOR(KILN_DTYPE_INT32, KILN_SHAPE(1, FEATURES),
                                                  from->features, sizeof from->features);
            *inputs = &from->batch;
            *count = 1;
            return KILN_OK;
        }
    }
    *count = 0;
    return KILN_OK;
}

static bool show_progress(void *user, const kiln_calibrate_progress *progress)
{
    (void)user;
    (void)fprintf(stderr, "\r%llu files", (unsigned long long)progress->batches);
    return true; /* false would cancel it */
}

int main(int count, char **arguments)
{
    if (count < 3) {
        (void)fprintf(stderr, "usage: 05_calibrate CACHE FILE...\n");
        return 2;
    }
    samples from = {.paths = arguments + 2};
    const kiln_batch_source source = {next_batch, &from};
    kiln_calibrate_options options = KILN_CALIBRATE_OPTIONS_INIT;
    kiln_range_table *ranges = NULL;
    options.progress = show_progress;
    if (kiln_calibrate_file(KILN_MODELS_DIR "/magika/model.onnx", NULL, &source, &options,
                            &ranges) != KILN_OK ||
        kiln_range_table_save(ranges, arguments[1]) != KILN_OK) {
        (void)fprintf(stderr, "\n%s\n", kiln_error_message());
        kiln_range_table_destroy(ranges);
        return 1;
    }
    (void)printf("\n%zu tensors, of which the last are:\n", kiln_range_table_count(ranges));
    const size_t all = kiln_range_table_count(ranges);
    for (size_t i = all > SHOWN ? all - SHOWN : 0; i < all; i++) {
        const kiln_range *range = kiln_range_table_at(ranges, i);
        const char *slash = strrchr(range->name, '/');
        (void)printf("  %-28.28s %11.4f to %11.4f, seen %11.4f to %11.4f\n",
                     slash != NULL ? slash + 1 : range->name, range->low, range->high, range->least,
                     range->greatest);
    }
    kiln_range_table_destroy(ranges);
    return 0;
}
