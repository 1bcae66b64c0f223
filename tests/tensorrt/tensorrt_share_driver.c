/* SPDX-License-Identifier: Apache-2.0 */
/* Builds the models it is told of through Kiln, one line each.
 *
 * In:  PATH [TAB NAME=2x3x4]... [TAB NAME=v1,2,3]...   shapes and values of dynamic inputs Out:
 * PATH TAB built|parsed|refused TAB sentence; on standard error PATH TAB milliseconds, the same
 * after "cpu:" for the processors' time, and at the end the peak of memory in KiB
 *
 *     tensorrt_share_driver LIBRARY CAPABILITY < lines */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <kiln/kiln.h>

#define MOST_INPUTS 32
#define MOST_VALUES 64

typedef struct request {
    const char *path;
    kiln_profile_input inputs[MOST_INPUTS];
    int64_t values[MOST_INPUTS][MOST_VALUES];
    size_t input_count;
} request;

static void read_values(request *r, char *text)
{
    kiln_profile_input *input = &r->inputs[r->input_count];
    int64_t *values = r->values[r->input_count];
    char *rest = NULL;
    for (char *item = strtok_r(text, ",", &rest); item != NULL && input->value_count < MOST_VALUES;
         item = strtok_r(NULL, ",", &rest)) {
        values[input->value_count++] = strtoll(item, NULL, 10);
    }
    input->min_values = values;
    input->opt_values = values;
    input->max_values = values;
}

static bool read_request(char *line, request *r)
{
    memset(r, 0, sizeof *r);
    line[strcspn(line, "\n")] = '\0';
    char *rest = NULL;
    r->path = strtok_r(line, "\t", &rest);
    for (char *item = strtok_r(NULL, "\t", &rest); item != NULL && r->input_count < MOST_INPUTS;
         item = strtok_r(NULL, "\t", &rest)) {
        char *value = strrchr(item, '=');
        if (value == NULL) {
            return false;
        }
        *value++ = '\0';
        kiln_profile_input *input = &r->inputs[r->input_count];
        input->name = item;
        if (value[0] == 'v') {
            read_values(r, value + 1);
        } else if (kiln_shape_parse(value, &input->min) != KILN_OK) {
            return false;
        }
        input->opt = input->min;
        input->max = input->min;
        r->input_count++;
    }
    return r->path != NULL;
}

static double milliseconds(clockid_t clock)
{
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void build(const request *r, const char *library, int32_t capability)
{
    const kiln_profile profile = {.inputs = r->inputs, .input_count = r->input_count};
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = "tensorrt", .library = library,
                           .compute_capabilities = &capability, .compute_capability_count = 1,
                           .profiles = &profile, .profile_count = r->input_count > 0 ? 1 : 0);
    kiln_engine *engine = NULL;
    const double begin = milliseconds(CLOCK_MONOTONIC);
    const double cpu = milliseconds(CLOCK_PROCESS_CPUTIME_ID);
    const kiln_status status = kiln_engine_build_file(r->path, &options, &engine);
    fprintf(stderr, "%s\t%.3f\ncpu:%s\t%.3f\n", r->path, milliseconds(CLOCK_MONOTONIC) - begin,
            r->path, milliseconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    kiln_engine_release(engine);
    const char *sentence = status == KILN_OK ? "" : kiln_error_message();
    const char *word =
        status == KILN_OK ? "built"
        : strstr(sentence, "builds no plan") != NULL || strstr(sentence, "profile") != NULL
            ? "parsed"
            : "refused";
    printf("%s\t%s\t", r->path, word);
    for (; *sentence != '\0'; sentence++) { /* one line, whatever the library says */
        (void)putchar(*sentence == '\n' || *sentence == '\t' ? ' ' : *sentence);
    }
    (void)putchar('\n');
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s LIBRARY CAPABILITY < requests\n", argv[0]);
        return 2;
    }
    static char line[65536];
    static request r;
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (!read_request(line, &r)) {
            fprintf(stderr, "a request cannot be read\n");
            return 1;
        }
        build(&r, argv[1], (int32_t)strtol(argv[2], NULL, 10));
    }
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        fprintf(stderr, "peak\t%ld\n", usage.ru_maxrss);
    }
    return 0;
}
