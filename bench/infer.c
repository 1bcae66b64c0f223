/* SPDX-License-Identifier: Apache-2.0 */
/* Reading, inferring and checking models: how long, and whether the time grows with the size and
 * no faster.
 *
 *     bench_infer MODEL...
 *
 * infer_python.py makes graphs of 5,000 to 100,000 nodes for it and runs the onnx package beside
 * it. */
#include <stdio.h>

#include <kiln/kiln.h>

#include "bench_times.h"

#define RUNS 10

/* The fastest of several runs in milliseconds: what the work takes, without what else the machine
 * does. Negative when it does not work. */
static double measure(const char *path)
{
    double best = 1e12;
    for (int i = 0; i < RUNS; i++) {
        kiln_issue_list *issues = NULL;
        const double begin = bench_milliseconds();
        if (kiln_check_file(path, NULL, &issues) != KILN_OK) {
            (void)fprintf(stderr, "%s: %s\n", path, kiln_error_message());
            return -1.0;
        }
        const double time = bench_milliseconds() - begin;
        best = time < best ? time : best;
        const size_t count = kiln_issue_list_count(issues);
        if (count > 0) {
            (void)fprintf(stderr, "%s: %s\n", path, kiln_issue_list_get(issues, 0)->sentence);
        }
        kiln_issue_list_destroy(issues);
        if (count > 0) {
            return -1.0;
        }
    }
    return best;
}

int main(int count, char **arguments)
{
    if (count < 2) {
        (void)fprintf(stderr, "usage: bench_infer MODEL...\n");
        return 2;
    }
    for (int i = 1; i < count; i++) {
        const double time = measure(arguments[i]);
        if (time < 0.0) {
            return 1;
        }
        (void)printf("%s %.3f ms\n", arguments[i], time);
    }
    return 0;
}
