/* SPDX-License-Identifier: Apache-2.0 */
/* Reads ONNX models and writes them again, for compare_copies.py.
 *
 *     onnx_copy inline|external|left-out <pairs>
 *
 * <pairs> is a file with "input<TAB>output" in each line. For each one a line "ok" or the sentence
 * goes to standard output. */
#include <stdio.h>
#include <string.h>

#include "onnx/kln_onnx.h"

static kiln_status copy(const char *from, const char *to, kln_onnx_weights weights)
{
    kln_onnx_model *model = NULL;
    KLN_RETURN_IF_ERROR(kln_onnx_read_file(from, &model));
    const kiln_status status = kln_onnx_write_file(model, to, weights);
    kln_onnx_model_destroy(model);
    return status;
}

int main(int argc, char **argv)
{
    char line[8192];
    FILE *pairs = argc == 3 ? fopen(argv[2], "r") : NULL;
    if (pairs == NULL) {
        fprintf(stderr, "usage: onnx_copy inline|external|left-out <pairs>\n");
        return 2;
    }
    const kln_onnx_weights weights = strcmp(argv[1], "inline") == 0     ? KLN_ONNX_WEIGHTS_INLINE
                                     : strcmp(argv[1], "external") == 0 ? KLN_ONNX_WEIGHTS_EXTERNAL
                                                                        : KLN_ONNX_WEIGHTS_LEFT_OUT;
    while (fgets(line, sizeof line, pairs) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *tab = strchr(line, '\t');
        if (tab != NULL) {
            *tab = '\0';
            const kiln_status status = copy(line, tab + 1, weights);
            printf("%s\n", status == KILN_OK ? "ok" : kiln_error_message());
        }
    }
    fclose(pairs);
    return 0;
}
