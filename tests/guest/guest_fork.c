/* SPDX-License-Identifier: Apache-2.0 */
/* A host that is forked while it has engines: what cannot work says so, what can does. */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <kiln/kiln.h>

static const char *model;

#define REQUIRE(condition)                                                           \
    do {                                                                             \
        if (!(condition)) {                                                          \
            (void)fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, \
                          kiln_error_message());                                     \
            _exit(1);                                                                \
        }                                                                            \
    } while (0)

static kiln_engine *make(const char *backend)
{
    kiln_engine *engine = NULL;
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = backend, .threads = 2);
    REQUIRE(kiln_engine_build_file(model, &options, &engine) == KILN_OK);
    return engine;
}

static kiln_context *seat(kiln_engine *engine)
{
    kiln_context *context = NULL;
    REQUIRE(kiln_context_create(engine, NULL, &context) == KILN_OK);
    for (size_t i = 0; i < kiln_engine_input_count(engine); i++) {
        kiln_binding binding = {.struct_size = sizeof binding};
        kiln_tensor tensor;
        REQUIRE(kiln_engine_input(engine, i, &binding) == KILN_OK);
        REQUIRE(kiln_context_tensor(context, binding.name, &tensor) == KILN_OK);
    }
    return context;
}

static kiln_engine *engines[2];
static kiln_context *contexts[2];
static kiln_build *job;

static void in_the_child(void)
{
    kiln_context *context = NULL;
    kiln_engine *engine = NULL;
    REQUIRE(kiln_context_run(contexts[0]) == KILN_ERROR_STATE);
    REQUIRE(strstr(kiln_error_message(), "was forked after the engine was made") != NULL);
    REQUIRE(kiln_context_create(engines[0], NULL, &context) == KILN_ERROR_STATE);
    kiln_context_destroy(contexts[0]);
    kiln_engine_release(engines[0]);
    kiln_build_progress progress = {.struct_size = sizeof progress};
    REQUIRE(kiln_build_get_progress(job, &progress) == KILN_ERROR_STATE);
    REQUIRE(kiln_build_wait(job, UINT64_MAX, &engine) == KILN_ERROR_STATE);
    REQUIRE(strstr(kiln_error_message(), "its threads did not come along") != NULL);
    kiln_build_cancel(job);
    kiln_build_destroy(job);
    /* The reference executor is nothing but memory. */
    REQUIRE(kiln_context_run(contexts[1]) == KILN_OK);
    kiln_context_destroy(contexts[1]);
    kiln_engine_release(engines[1]);
    /* And what is made after fork works. */
    kiln_engine *made = make("onnxruntime");
    kiln_context *own = seat(made);
    REQUIRE(kiln_context_run(own) == KILN_OK);
    kiln_context_destroy(own);
    kiln_engine_release(made);
    REQUIRE(kiln_build_start_file(model, NULL, NULL, &job) == KILN_OK);
    REQUIRE(kiln_build_wait(job, UINT64_MAX, &engine) == KILN_OK);
    kiln_build_destroy(job);
    kiln_engine_release(engine);
}

int main(int count, char **arguments)
{
    REQUIRE(count == 2);
    model = arguments[1];
    static const char *const backends[] = {"onnxruntime", "reference"};
    for (size_t i = 0; i < 2; i++) {
        engines[i] = make(backends[i]);
        contexts[i] = seat(engines[i]);
        REQUIRE(kiln_context_run(contexts[i]) == KILN_OK);
    }
    REQUIRE(kiln_build_start_file(model, NULL, NULL, &job) == KILN_OK);
    kiln_engine *engine = NULL;
    REQUIRE(kiln_build_wait(job, UINT64_MAX, &engine) == KILN_OK);
    const pid_t child = fork();
    if (child == 0) {
        (void)alarm(30);
        in_the_child();
        _exit(0);
    }
    int result = 0;
    REQUIRE(waitpid(child, &result, 0) == child && result == 0);
    /* The parent has all that it had. */
    for (size_t i = 0; i < 2; i++) {
        REQUIRE(kiln_context_run(contexts[i]) == KILN_OK);
        kiln_context_destroy(contexts[i]);
        kiln_engine_release(engines[i]);
    }
    kiln_engine_release(engine);
    kiln_build_destroy(job);
    puts("forked");
    return 0;
}
