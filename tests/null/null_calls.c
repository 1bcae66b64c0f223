/* SPDX-License-Identifier: Apache-2.0 */
/* Every public function with NULL for each of its pointers in turn, and for all of them, each in a
 * child process. A function that gives a status must give NULL_ARGUMENT with a sentence that names
 * function and parameter; what gives something else stands in a list. Functions without a status
 * must return.
 *
 * null_calls ALLOWED [--list]     --list: prints what ALLOWED should say */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <kiln/kiln.h>

#define SECONDS_EACH 60U
/* Exit statuses of a child beside those of kiln_status. */
#define NO_SENTENCE 120
#define WRONG_SENTENCE 121
#define NO_FIXTURE 122

typedef struct null_case {
    const char *function;
    const char *parameter; /* "*": all of them */
    int (*call)(void);
    bool gives_status;
} null_case;

static char room[4096];
static float right_bytes[4];
static const char *right_text = "x";
static const char *right_names[8] = {"x"};

static void need(kiln_status status)
{
    if (status != KILN_OK) {
        (void)fprintf(stderr, "%s\n", kiln_error_message());
        _exit(NO_FIXTURE);
    }
}

/* right_TYPE(): an object that `call` makes. */
#define RIGHT(type, call)                  \
    static kiln_##type *right_##type(void) \
    {                                      \
        kiln_##type *made = NULL;          \
        need(call);                        \
        return made;                       \
    }

static kiln_status fill_nothing(void *user, kiln_mutable_span memory)
{
    (void)user;
    (void)memory;
    return KILN_OK;
}

static void log_nothing(void *user, kiln_log_level level, const char *source, const char *text)
{
    (void)user;
    (void)level;
    (void)source;
    (void)text;
}

static void call_nothing(void *user)
{
    (void)user;
}

static kiln_status run_nothing(void *user, kiln_mock_run *run, char message[1024])
{
    (void)user;
    (void)run;
    (void)message;
    return KILN_OK;
}

static kiln_tensor right_tensor(void)
{
    return KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1), right_bytes, sizeof(float));
}

static kiln_weights right_weights(void)
{
    return (kiln_weights){KILN_DTYPE_FLOAT32, KILN_SHAPE(1), {right_bytes, sizeof(float)}};
}

static kiln_buffer_request right_buffer_request(void)
{
    kiln_buffer_request request;
    memset(&request, 0, sizeof request);
    request.name = "x";
    request.dtype = KILN_DTYPE_FLOAT32;
    request.shape = KILN_SHAPE(1);
    return request;
}

static kiln_attribute right_attribute(void)
{
    return KILN_ATTRIBUTE(.name = "axis");
}

static kiln_mock_options right_mock(void)
{
    static kiln_binding x;
    static kiln_binding y;
    x = (kiln_binding){
        .struct_size = sizeof x, .name = "x", .dtype = KILN_DTYPE_FLOAT32, .shape = KILN_SHAPE(1)};
    y = x;
    y.name = "y";
    return KILN_MOCK_OPTIONS(.inputs = &x, .input_count = 1, .outputs = &y, .output_count = 1,
                             .handler = run_nothing);
}

static kiln_engine *right_engine(void)
{
    const kiln_mock_options options = right_mock();
    kiln_engine *engine = NULL;
    need(kiln_engine_create_mock(&options, &engine));
    return engine;
}

RIGHT(context, kiln_context_create(right_engine(), NULL, &made))
RIGHT(pipeline, kiln_pipeline_create(right_engine(), NULL, &made))

static kiln_scheduler *right_scheduler(void)
{
    kiln_engine *engine = right_engine();
    kiln_scheduler *scheduler = NULL;
    need(kiln_scheduler_create(&engine, 1, NULL, &scheduler));
    return scheduler;
}

/* A model with a cache, as far as its names go. */
static kiln_generator *right_generator(void)
{
    static kiln_binding inputs[2];
    static kiln_binding outputs[2];
    kiln_mock_options options =
        KILN_MOCK_OPTIONS(.inputs = inputs, .input_count = 2, .outputs = outputs, .output_count = 2,
                          .handler = run_nothing);
    kiln_engine *engine = NULL;
    kiln_generator *generator = NULL;
    inputs[0] = (kiln_binding){.struct_size = sizeof inputs[0],
                               .name = "input_ids",
                               .dtype = KILN_DTYPE_INT64,
                               .shape = KILN_SHAPE(KILN_DYNAMIC, KILN_DYNAMIC)};
    inputs[1] = (kiln_binding){.struct_size = sizeof inputs[1],
                               .name = "past",
                               .dtype = KILN_DTYPE_FLOAT32,
                               .shape = KILN_SHAPE(KILN_DYNAMIC, KILN_DYNAMIC, 1)};
    outputs[0] = inputs[1];
    outputs[0].name = "present";
    outputs[1] = outputs[0];
    outputs[1].name = "logits";
    outputs[1].shape = KILN_SHAPE(KILN_DYNAMIC, KILN_DYNAMIC, 4);
    const kiln_generator_options how = KILN_GENERATOR_OPTIONS(.max_length = 8);
    need(kiln_engine_create_mock(&options, &engine));
    need(kiln_generator_create(engine, &how, &generator));
    return generator;
}

static kiln_sequence *right_sequence(void)
{
    static const int64_t prompt = 1;
    kiln_sequence *sequence = NULL;
    need(kiln_generator_submit(right_generator(), &prompt, 1, NULL, &sequence));
    return sequence;
}

static kiln_request *right_request(void)
{
    const kiln_named_tensor x = {"x", right_tensor()};
    kiln_request *request = NULL;
    need(kiln_scheduler_submit(right_scheduler(), &x, 1, NULL, 0, NULL, &request));
    return request;
}

static kiln_network *right_network(void)
{
    kiln_network *network = NULL;
    kiln_tensor_id x = 0;
    need(kiln_network_create(NULL, &network));
    need(kiln_network_add_input(network, "input", KILN_DTYPE_FLOAT32, &KILN_SHAPE(1), NULL, &x));
    return network;
}

static kiln_precision_options right_precision(void)
{
    return KILN_PRECISION_OPTIONS(.precision = KILN_PRECISION_FP16);
}

static kiln_precision_report *right_precision_report(void)
{
    const kiln_precision_options options = right_precision();
    kiln_network *network = right_network();
    kiln_precision_report *report = NULL;
    kiln_tensor_id x = 0;
    need(kiln_network_find(network, "input", &x));
    need(kiln_network_add_unary(network, "y", KILN_UNARY_NEG, x, &x));
    need(kiln_network_convert(network, &options, &report));
    kiln_network_destroy(network);
    return report;
}

RIGHT(inspection, kiln_network_inspect(right_network(), true, &made))
RIGHT(build,
      kiln_build_start_bytes((kiln_span){right_bytes, sizeof right_bytes}, NULL, NULL, &made))
RIGHT(buffer, kiln_buffer_create(KILN_LOCATION_HOST, 0, 64, &made))
RIGHT(pool, kiln_pool_create(NULL, &made))
RIGHT(cache_list, kiln_cache_list_create("nowhere", false, &made))
RIGHT(histogram, kiln_histogram_create(&made))

static kiln_status no_batch(void *user, const kiln_named_tensor **inputs, size_t *count)
{
    (void)user;
    *inputs = NULL;
    *count = 0;
    return KILN_OK;
}

RIGHT(range_table, kiln_range_table_create(&made))
RIGHT(buffer_plan, kiln_engine_plan_buffers(right_engine(), NULL, NULL, &made))
RIGHT(system_report, kiln_system_report_create(&made))
RIGHT(stream, kiln_stream_create(0, 0, &made))
RIGHT(event, kiln_event_create(0, false, &made))

static kiln_graph *right_graph(void)
{
    kiln_stream *stream = right_stream();
    kiln_graph *graph = NULL;
    need(kiln_stream_capture_begin(stream));
    need(kiln_stream_call(stream, call_nothing, NULL));
    need(kiln_stream_capture_end(stream, &graph));
    return graph;
}

#include "null_cases.inc"

/* A child ends with all that it made, and so with threads that nobody waited for. */
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
__attribute__((visibility("default"))) const char *__tsan_default_options(void)
{
    return "report_thread_leaks=0";
}

/* In the child: the exit status. */
static int judge(const null_case *it)
{
    const int status = it->call();
    if (!it->gives_status || status == (int)KILN_OK) {
        return status;
    }
    const char *sentence = kiln_error_message();
    if (sentence[0] == '\0') {
        return NO_SENTENCE;
    }
    if (status == (int)KILN_ERROR_NULL_ARGUMENT && it->parameter[0] != '*' &&
        (strstr(sentence, it->parameter) == NULL || strstr(sentence, it->function) == NULL)) {
        (void)fprintf(stderr, "%s with %s NULL says: %s\n", it->function, it->parameter, sentence);
        return WRONG_SENTENCE;
    }
    return status;
}

/* A word for how the child ended. */
static const char *outcome(const null_case *it)
{
    int result = 0;
    (void)fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        (void)alarm(SECONDS_EACH);
        _exit(judge(it));
    }
    if (child < 0 || waitpid(child, &result, 0) != child) {
        return "no child";
    }
    if (!WIFEXITED(result)) {
        return WTERMSIG(result) == SIGALRM ? "hung" : "crashed";
    }
    switch (WEXITSTATUS(result)) {
        case NO_SENTENCE: return "no sentence";
        case WRONG_SENTENCE: return "a sentence without the names";
        case NO_FIXTURE: return "its objects could not be made";
        default: return kiln_status_name((kiln_status)WEXITSTATUS(result));
    }
}

/* Whether the list has this line; those that begin with # are comments. */
static bool stands_in(const char *list, const char *line)
{
    const size_t length = strlen(line);
    for (const char *at = list; at != NULL && *at != '\0'; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, line, length) == 0 && (at[length] == '\n' || at[length] == '\0')) {
            return true;
        }
    }
    return false;
}

static char *read_list(const char *path)
{
    static char list[65536];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        (void)fprintf(stderr, "%s cannot be read\n", path);
        exit(2);
    }
    list[fread(list, 1, sizeof list - 1, file)] = '\0';
    (void)fclose(file);
    return list;
}

static size_t lines_of(const char *list)
{
    size_t lines = 0;
    for (const char *at = list; *at != '\0'; at++) {
        lines += (at == list || at[-1] == '\n') && *at != '#' && *at != '\n';
    }
    return lines;
}

int main(int count, char **arguments)
{
    const bool printing = count > 2 && strcmp(arguments[2], "--list") == 0;
    if (count < 2) {
        return 2;
    }
    const char *allowed = printing ? "" : read_list(arguments[1]);
    const size_t total = sizeof cases / sizeof cases[0];
    size_t wrong = 0;
    size_t exceptions = 0;
    for (size_t i = 0; i < total; i++) {
        const char *found = outcome(&cases[i]);
        const char *wanted = cases[i].gives_status ? "KILN_ERROR_NULL_ARGUMENT" : "KILN_OK";
        if (strcmp(found, wanted) == 0) {
            continue;
        }
        char line[256];
        (void)snprintf(line, sizeof line, "%s %s %s", cases[i].function, cases[i].parameter, found);
        exceptions++;
        if (printing || !stands_in(allowed, line)) {
            (void)printf("%s\n", line);
            wrong++;
        }
    }
    if (printing) {
        return 0;
    }
    if (exceptions != lines_of(allowed)) {
        (void)printf("%zu calls give something else, %s lists %zu\n", exceptions, arguments[1],
                     lines_of(allowed));
        wrong++;
    }
    (void)printf("%zu calls of %d public functions, %zu give something else, %zu wrong\n", total,
                 PUBLIC_FUNCTIONS, exceptions, wrong);
    return wrong == 0 ? 0 : 1;
}
