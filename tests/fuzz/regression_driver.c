/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target once over each file of the folders named on the command line, and over each of
 * these files cut short at a few places, so that what a fuzzer once found stays fixed without one.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        (void)fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    const long end = ftell(file);
    const size_t size = end > 0 ? (size_t)end : 0;
    rewind(file);
    uint8_t *whole = malloc(size + 1);
    if (whole == NULL || fread(whole, 1, size, file) != size) {
        (void)fprintf(stderr, "%s: it cannot be read\n", path);
        return 1;
    }
    (void)fclose(file);
    const size_t step = size / 64 + 1;
    for (size_t length = size % step; length <= size; length += step) {
        /* A copy of just that size, so that a read past the end is seen. */
        uint8_t *part = malloc(length + (length == 0));
        if (part == NULL) {
            return 1;
        }
        memcpy(part, whole, length);
        (void)LLVMFuzzerTestOneInput(part, length);
        free(part);
    }
    free(whole);
    return 0;
}

int main(int count, char **arguments)
{
    int files = 0;
    int failures = 0;
    for (int i = 1; i < count; i++) {
        DIR *folder = opendir(arguments[i]);
        if (folder == NULL) {
            (void)fprintf(stderr, "%s: %s\n", arguments[i], strerror(errno));
            return 1;
        }
        for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
            if (entry->d_name[0] != '.') {
                char path[4096];
                (void)snprintf(path, sizeof path, "%s/%s", arguments[i], entry->d_name);
                failures += run_file(path);
                files++;
            }
        }
        (void)closedir(folder);
    }
    (void)printf("%d files, %d failures\n", files, failures);
    return files == 0 || failures != 0;
}
