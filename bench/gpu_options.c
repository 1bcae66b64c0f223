/* SPDX-License-Identifier: Apache-2.0 */
/* What options of ONNX Runtime's CUDA provider are worth: a captured graph over device memory, and
 * the run as it comes, for each list of options, each in a process of its own.
 * gpu_options LIBONNXRUNTIME resnet|bert|merged[:FILE] BATCH [NAME=VALUE,...]...
 * A name in capitals is a variable of the environment, one with a dot an entry of the session. FILE
 * is a model with the same inputs and outputs, instead of the one that this would write.
 */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gpu_compare.h"
#include "gpu_scene.h"
#include "models.h"

#define MOST_SETTINGS 16
#define ROUNDS 3

static void run_raw(void *user)
{
    raw_cuda_run(user);
}

static void read_settings(char *text, const char **settings)
{
    size_t count = 0;
    for (char *part = strtok(text, ","); part != NULL; part = strtok(NULL, ",")) {
        char *value = strchr(part, '=');
        if (value == NULL || count + 3 > MOST_SETTINGS) {
            (void)fprintf(stderr, "\"%s\" is no NAME=VALUE, or one too many\n", part);
            exit(2);
        }
        *value++ = '\0';
        if (isupper((unsigned char)part[0]) != 0) {
            (void)setenv(part, value, 1);
        } else {
            settings[count++] = part;
            settings[count++] = value;
        }
    }
    settings[count] = NULL;
}

static void measure(const char *library, const scene *what, char *text)
{
    const char *settings[MOST_SETTINGS];
    char label[128];
    (void)snprintf(label, sizeof label, "%s", text[0] != '\0' ? text : "(none)");
    read_settings(text, settings);
    raw_cuda *raw = raw_cuda_open(library);
    way ways[] = {{.name = "device_graph", .run = run_raw}, {.name = "default", .run = run_raw}};
    static const raw_form forms[] = {RAW_DEVICE, RAW_DEFAULT};
    for (size_t i = 0; i < 2; i++) {
        ways[i].user = raw_cuda_load(raw, what->path, forms[i], settings, what->inputs,
                                     what->input_count, &what->output, 1);
    }
    compare_ways(ways, 2, ROUNDS, 200, 200.0);
    (void)printf("%-60s %9.2f us as a graph %9.2f us as it comes\n", label, ways[0].median_us,
                 ways[1].median_us);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        (void)fprintf(stderr,
                      "usage: gpu_options LIBONNXRUNTIME resnet|bert|merged[:FILE] BATCH "
                      "[NAME=VALUE,...]...\n");
        return 2;
    }
    const int64_t batch = strtoll(argv[3], NULL, 10);
    const char *file = strchr(argv[2], ':');
    const bool is_resnet = strncmp(argv[2], "resnet", 6) == 0;
    scene what = is_resnet ? resnet_scene(batch) : bert_scene(batch);
    if (file != NULL) {
        what.path = file + 1;
    } else if (is_resnet) {
        model_resnet50(what.path);
    } else if (strcmp(argv[2], "bert") == 0) {
        model_bert(what.path);
    } else {
        what.path = "/tmp/kiln_bench_merged.onnx";
        model_bert_merged(what.path);
    }
    int failed = 0;
    for (int i = 4; i < argc; i++) {
        (void)fflush(stdout);
        const pid_t child = fork();
        if (child == 0) {
            measure(argv[1], &what, argv[i]);
            (void)fflush(stdout);
            _exit(0);
        }
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
            (void)printf("%-60s failed\n", argv[i]);
            failed = 1;
        }
    }
    scene_finish(&what);
    return failed;
}
