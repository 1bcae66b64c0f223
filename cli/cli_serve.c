/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "../server/serve.h"
#include "cli_list.h"
#include "cli_model.h"

#define SAME_STOP 500000000 /* nanoseconds */

typedef struct serve_settings {
    cli_model_settings model;
    serve_options server;
    double body;   /* MiB */
    double bodies; /* MiB */
    bool lenient;
    cli_list loads;
} serve_settings;

/* Models are loaded in a thread while signals are handled: a build takes minutes. */
typedef struct loading {
    serve *server;
    serve_problem problem;
    pthread_t thread;
    bool worked;
    atomic_bool over;
} loading;

static void *load(void *user)
{
    loading *self = user;
    self->worked = serve_load_all(self->server, &self->problem);
    atomic_store(&self->over, true);
    return NULL;
}

static void say(const char *sentence)
{
    SCOPED_HEAP char *shown = cli_in_shell(sentence);
    cli_error("%s", shown);
}

static void say_nothing(const char *sentence)
{
    (void)sentence;
}

/* Each connection needs a file descriptor. */
static void raise_descriptors(int64_t connections)
{
    struct rlimit limit;
    const rlim_t wanted = (rlim_t)connections + 256;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted) {
        limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        if (limit.rlim_cur < wanted) {
            cli_error("the system allows %llu open files: %lld connections cannot be had at once",
                      (unsigned long long)limit.rlim_cur, (long long)connections);
        }
    }
}

/* Blocks the signals that this command waits for; all threads inherit the mask. */
static sigset_t block_signals(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    sigset_t set;
    (void)sigemptyset(&set);
    for (size_t i = 0; i < CLI_ARRAY_LENGTH(numbers); i++) {
        (void)sigaddset(&set, numbers[i]);
    }
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    return set;
}

static cli_exit fail(const char *sentence)
{
    say(sentence);
    return CLI_FAILED;
}

/* Whether the server continues once its models are loaded. */
static bool look_at_models(const serve_settings *settings, loading *self, cli_exit *result)
{
    (void)pthread_join(self->thread, NULL);
    const size_t count = serve_ready_count(self->server);
    const bool waits = settings->server.poll_seconds > 0; /* for models that are added later */
    if (!self->worked && !waits && (!settings->lenient || count == 0)) {
        *result = fail(self->problem.sentence);
        return false;
    }
    if (!cli_is_quiet()) {
        (void)printf("%zu model%s ready\n", count, count == 1 ? " is" : "s are");
        (void)fflush(stdout);
    }
    return true;
}

/* A second Ctrl-C means that the user does not want to wait, whether for requests or for a model
 * that is being built. The same signal within a short time, for example from a wrapper that
 * forwards it, counts as one. */
static void *wait_for_another(void *user)
{
    const uint64_t begin = kiln_clock_now();
    while (sigwaitinfo(user, NULL) != SIGINT || kiln_clock_now() - begin < SAME_STOP) {
    }
    say("told to stop a second time: what was under way is cut off");
    _exit(CLI_FAILED);
}

static void stop(serve *server, const sigset_t *signals)
{
    pthread_t impatient;
    const bool watches =
        pthread_create(&impatient, NULL, wait_for_another, (void *)(uintptr_t)signals) == 0;
    serve_stop(server);
    if (watches) {
        (void)pthread_cancel(impatient);
        (void)pthread_join(impatient, NULL);
    }
}

static cli_exit wait_for_signals(const serve_settings *settings, loading *self,
                                 const sigset_t *signals)
{
    const struct timespec moment = {.tv_nsec = 100000000};
    cli_exit result = CLI_DONE;
    bool loads = true;
    for (;;) {
        const int found = loads ? sigtimedwait(signals, NULL, &moment) : sigwaitinfo(signals, NULL);
        if (found == SIGHUP) {
            serve_reload(self->server);
        } else if (found > 0) {
            break;
        }
        if (loads && atomic_load(&self->over)) {
            loads = false;
            if (!look_at_models(settings, self, &result)) {
                break;
            }
        }
    }
    if (loads && !atomic_load(&self->over)) {
        _exit(CLI_DONE); /* nothing was served yet, and a build cannot be waited for */
    }
    if (loads) {
        (void)pthread_join(self->thread, NULL);
    }
    stop(self->server, signals);
    return result;
}

static cli_exit serve_models_of(const serve_settings *settings)
{
    loading self = {.problem = {.code = 0}};
    const sigset_t signals = block_signals();
    raise_descriptors(settings->server.connections);
    self.server = serve_start(&settings->server, &self.problem);
    if (self.server == NULL) {
        return fail(self.problem.sentence);
    }
    (void)printf("listening on %s\n", serve_address(self.server));
    if (settings->server.grpc_port >= 0) {
        (void)printf("and for gRPC on %s\n", serve_grpc_address(self.server));
    }
    (void)fflush(stdout);
    if (pthread_create(&self.thread, NULL, load, &self) != 0) {
        serve_stop(self.server);
        return fail("a thread cannot be started");
    }
    return wait_for_signals(settings, &self, &signals);
}

static cli_exit run(const cli_command *self, void *given, const char **operands)
{
    serve_settings *settings = given;
    serve_options *server = &settings->server;
    kiln_build_options build = cli_model_build(&settings->model);
    CLI_RETURN_UNLESS_DONE(cli_model_cache(self, &settings->model, &build));
    server->places = operands;
    while (operands[server->place_count] != NULL) {
        server->place_count++;
    }
    server->build = &build;
    server->graphs = (kiln_graph_policy)settings->model.graph;
    server->body_limit = (int64_t)(settings->body * CLI_MIB);
    server->memory_limit = (int64_t)(settings->bodies * CLI_MIB);
    server->say = cli_is_quiet() ? say_nothing : say;
    server->loads = settings->loads.items;
    server->load_count = settings->loads.count;
    if (server->port != 0 && server->port == server->grpc_port) {
        return cli_misuse(self, "--port and --grpc-port are the same; each needs its own");
    }
    if (server->load_count != 0 && server->poll_seconds > 0) {
        return cli_misuse(self, "--poll loads every model; --load says which are loaded");
    }
    return serve_models_of(settings);
}

#define SERVER(member) offsetof(serve_settings, server.member)

static const cli_option http_options[] = {
    {"host", 0, "ADDRESS", CLI_TEXT, SERVER(host), 0, 0, NULL,
     "The address or name to listen on. Default 127.0.0.1, which only this machine reaches; "
     "0.0.0.0 and :: listen on all interfaces."},
    {"port", 0, "N", CLI_INTEGER, SERVER(port), 0, 65535, NULL,
     "The port; 0: any free one, which is printed. Default 8000."},
    {"grpc-port", 0, "N", CLI_INTEGER, SERVER(grpc_port), 0, 65535, NULL,
     "Also serve the same protocol by gRPC on this port; 0: any free one. Other servers use "
     "8001. Default: no gRPC."},
    {"tls-certificate", 0, "FILE", CLI_TEXT, SERVER(tls_certificate), 0, 0, NULL,
     "Use TLS on both ports, with this certificate and its chain, in PEM format."},
    {"tls-key", 0, "FILE", CLI_TEXT, SERVER(tls_key), 0, 0, NULL, "Its key, in PEM format."},
    {"tokens", 0, "FILE", CLI_TEXT, SERVER(tokens), 0, 0, NULL,
     "Answer only requests that carry one of the tokens in FILE, one on each line, as "
     "\"Authorization: Bearer TOKEN\". /v2/health/live and /v2/health/ready need none. SIGHUP "
     "rereads FILE."},
    {"access-log", 0, "FILE", CLI_TEXT, SERVER(access_log), 0, 0, NULL,
     "Append a line for each request: time, client, method and path, status, bytes of the body, "
     "bytes of the answer, microseconds. \"-\" is standard output. SIGHUP reopens it."},
    {"shared-memory", 0, NULL, CLI_FLAG, SERVER(shared_memory), 0, 0, NULL,
     "Let clients on this machine name POSIX shared memory from which inputs are read and to "
     "which outputs are written. A client can reach any such memory that this process may open."},
    {"no-control", 0, NULL, CLI_FLAG, SERVER(no_control), 0, 0, NULL,
     "Do not load or unload models on request."},
    {0},
};

static const cli_option limit_options[] = {
    {"connections", 0, "N", CLI_INTEGER, SERVER(connections), 1, 1000000, NULL,
     "Concurrent connections; more are closed. Default 4096."},
    {"max-body", 0, "MIB", CLI_REAL, offsetof(serve_settings, body), 0.001, 1e6, NULL,
     "The maximum size of a request's body. Default 64."},
    {"max-bodies", 0, "MIB", CLI_REAL, offsetof(serve_settings, bodies), 0.001, 1e7, NULL,
     "The maximum size of all requests' bodies together; more are refused with 503. Default "
     "1024."},
    {"queue", 0, "N", CLI_INTEGER, SERVER(queue_limit), 0, 1000000, NULL,
     "Requests of a model that may wait; more are refused with 503. Default 1024."},
    {"request-time", 0, "SECONDS", CLI_REAL, SERVER(request_seconds), 0.1, 1e6, NULL,
     "The time limit for a request to arrive, for its computation, and for the client to read "
     "its answer, each. Default 60."},
    {"idle-time", 0, "SECONDS", CLI_REAL, SERVER(idle_seconds), 0.1, 1e6, NULL,
     "How long a connection may be idle. Default 75."},
    {"drain-time", 0, "SECONDS", CLI_REAL, SERVER(drain_seconds), 0, 1e6, NULL,
     "How long to wait for requests in flight when the server is told to stop. Default 25."},
    {0},
};

static const cli_option text_options[] = {
    {"sequences", 0, "N", CLI_INTEGER, SERVER(sequences), 0, 4096, NULL,
     "Texts that a language model generates concurrently; others wait. Default: what the plan "
     "allows, or 8."},
    {"max-length", 0, "N", CLI_INTEGER, SERVER(max_length), 0, INT32_MAX, NULL,
     "Maximum tokens of a text including its prompt; memory for that many is allocated when a "
     "model is loaded. Default: what the model tells, or 1024."},
    {"max-tokens", 0, "N", CLI_INTEGER, SERVER(max_tokens), 0, INT32_MAX, NULL,
     "Maximum tokens that a request may generate. Default: as many as --max-length has room "
     "for."},
    {"generate-time", 0, "SECONDS", CLI_REAL, SERVER(generate_seconds), 0.001, 1e6, NULL,
     "The time limit for a text, from its request to its last token. Default 600."},
    {0},
};

static const cli_option batch_options[] = {
    {"contexts", 0, "N", CLI_INTEGER, SERVER(contexts), 0, 64, NULL,
     "Concurrent runs of a model. Default 1 on the CPU, 2 on a GPU."},
    {"max-batch", 0, "N", CLI_INTEGER, SERVER(max_batch), 0, 65536, NULL,
     "Rows to which waiting requests are joined, along the first dimension, if every input and "
     "output has it. 1: requests are not joined, for a model whose rows depend on each other. "
     "Default: 4 on the CPU, and on a GPU what the model or its plan allows, or 32."},
    {"delay", 0, "MS", CLI_REAL, SERVER(delay), 0, 60000, NULL,
     "Let a request wait this long for others to share a batch with. Default 0: it waits only "
     "for a free context."},
    {"http-threads", 0, "N", CLI_INTEGER, SERVER(threads), 0, 256, NULL,
     "Threads that serve HTTP. Default: one for each processor, at most 8."},
    {"load", 0, "NAME", CLI_LIST, offsetof(serve_settings, loads), 0, 0, NULL,
     "Load only this model at the start; may be given several times. The others are loaded on "
     "request."},
    {"poll", 0, "SECONDS", CLI_REAL, SERVER(poll_seconds), 0.05, 1e6, NULL,
     "Rescan the models periodically: load what is new or changed, once it has stayed unchanged "
     "between two scans, and unload what is gone. A model that cannot be loaded then does not "
     "end the server."},
    {"lenient", 0, NULL, CLI_FLAG, offsetof(serve_settings, lenient), 0, 0, NULL,
     "If a model cannot be loaded, serve the others. Without this option, that ends the server."},
    {0},
};

static const cli_group groups[] = {
    {"Server", http_options, 0},
    {"Limits", limit_options, 0},
    {"Models", batch_options, 0},
    {"Language models", text_options, 0},
    {"Loading", cli_model_options, offsetof(serve_settings, model)},
    {0},
};

static const cli_need needs[] = {
    {"tls-certificate", "tls-key"},
    {"tls-key", "tls-certificate"},
    {0},
};

static const cli_example examples[] = {
    {"kiln serve model.onnx", "one model, on http://127.0.0.1:8000/v2/models/model"},
    {"kiln serve models --host 0.0.0.0 --tokens tokens.txt",
     "a repository, for other machines that know a token"},
    {"kiln serve model.onnx --delay 2 --max-batch 16",
     "wait two milliseconds to share a batch with others"},
    {0},
};

const cli_command cli_command_serve = {
    .name = "serve",
    .operands = "DIR|MODEL...",
    .summary = "answer requests over HTTP (Open Inference Protocol)",
    .description =
        "Serves models by the Open Inference Protocol (KServe v2) over HTTP, as JSON or with "
        "the binary tensor extension. A MODEL is named after its file, without the extension. A "
        "DIR is a repository: it holds NAME.onnx or NAME.plan, NAME/model.onnx, or "
        "NAME/VERSION/model.onnx and model.plan, of which the newest version is served.\n\n/ is "
        "a page for people, /metrics is for Prometheus, and /v2/health/ready says whether "
        "models are ready. SIGTERM and SIGINT end the server once the requests in flight are "
        "answered; another SIGINT ends it at once.",
    .groups = groups,
    .needs = needs,
    .examples = examples,
    CLI_SETTINGS(serve_settings, .body = 64, .bodies = 1024,
                 .server = {.host = "127.0.0.1",
                            .port = 8000,
                            .grpc_port = -1,
                            .connections = 4096,
                            .request_seconds = 60,
                            .idle_seconds = 75,
                            .drain_seconds = 25,
                            .generate_seconds = 600}),
    .run = run,
};
