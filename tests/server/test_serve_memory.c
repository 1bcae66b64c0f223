/* SPDX-License-Identifier: Apache-2.0 */
/* Each allocation of the server's, and each of the library's under it, fails in its turn: a request
 * is answered with 5xx or its connection is closed, the next one is answered as ever, and nothing
 * is left behind. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <sys/mman.h>
#include <time.h>

#include "graph_maker.h"
#include "serve_here.h"

#define ANSWER (1 << 17)

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
char *__real_strdup(const char *text);
char *__real_realpath(const char *path, char *resolved);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_realpath(const char *path, char *resolved);

static atomic_long left = LONG_MAX; /* allocations until one fails */
static atomic_bool failed;

static bool fails(void)
{
    const bool now = atomic_load(&left) != LONG_MAX && atomic_fetch_sub(&left, 1) == 0;
    if (now) {
        atomic_store(&failed, true);
        errno = ENOMEM;
    }
    return now;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return fails() ? NULL : __real_realloc(memory, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, size);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

char *__wrap_realpath(const char *path, char *resolved)
{
    return fails() ? NULL : __real_realpath(path, resolved);
}

/* --- the library's --- */

static atomic_bool spares_library;

static void *allocate(void *user, size_t size, size_t alignment)
{
    void *memory = NULL;
    if (!atomic_load(&spares_library) && fails()) {
        return NULL;
    }
    return posix_memalign(&memory, alignment, size) == 0 ? memory : NULL;
}

static void give_back(void *user, void *memory, size_t size, size_t alignment)
{
    free(memory);
}

/* --- what is asked --- */

typedef struct ask {
    const char *head; /* method, path */
    const char *more; /* headers */
    const char *body; /* a | stands for blanks that make it long */
    int status;       /* while memory is there */
} ask;

#define TENSOR "{\"name\":\"x\",\"shape\":[1,4],\"datatype\":\"FP32\","
#define TEXT "{\"id\":\"a\",\"input_ids\":[1,2,3],\"max_tokens\":4,\"stop_token_ids\":[60]}"

#define KEY "/kiln_test_serve_memory"
#define REGION "{\"key\":\"" KEY "\",\"byte_size\":64}"
#define SHARED                                        \
    "\"parameters\":{\"shared_memory_region\":\"r\"," \
    "\"shared_memory_byte_size\":16,\"shared_memory_offset\":32}"

static const ask asks[] = {
    {"GET /", "", "", 200},
    {"GET /metrics", "", "", 200},
    {"GET /v2", "", "", 200},
    {"GET /v2/models/relu", "", "", 200},
    {"GET /v2/models/relu/config", "", "", 200},
    {"GET /v2/models/stats", "", "", 200},
    {"GET /v2/models/none", "", "", 404},
    {"POST /v2/repository/index", "", "{}", 200},
    {"POST /v2/models/relu/infer", "", "{\"id\":\"b\",\"inputs\":[" TENSOR "\"data\":[1,2,3,-4]}]}",
     200},
    {"POST /v2/models/relu/infer", "",
     "{\"inputs\":[{\"data\":[1,2,3,-4],\"name\":\"x\",\"shape\":[1,4],\"datatype\":\"FP32\"}],"
     "\"outputs\":[{\"name\":\"y\",\"parameters\":{\"classification\":2}}]}",
     200},
    {"POST /v2/models/relu/infer", "Inference-Header-Content-Length: 138\r\n",
     "{\"inputs\":[" TENSOR "\"parameters\":{\"binary_data_size\":16}}],\"parameters\":{\"binary_"
     "data_output\":true}}   ABCDEFGHIJKLMNOP",
     200},
    {"POST /v2/models/relu/infer", "Content-Encoding: deflate\r\n", /* the one with an id */
     "x\001\253V\312LQ\262RJJ\002R:J\231y\005\245\045\305JV\321\325Jy\211\271\251@\211\012"
     "\240hqFb\001\220\035m\250c\022\253\243\224\222X\222XR\011\022Pr\01306R\202\210\200"
     "\245\215t\214utMbkck\001\212L\031\261",
     200},
    {"POST /v2/models/relu/infer", "", "{\"inputs\":[" TENSOR "\"data\":[1,2,3,4,5]}]}", 400},
    {"POST /v2/models/relu/infer", "", "{\"inputs\":[" TENSOR "\"data\":[1,2,|3,-4]}]}", 200},
    {"POST /v2/models/relu/infer", "", "{\"inputs\":[" TENSOR "\"data\":[1,2,|3.x]}]}", 400},
    {"POST /v2/models/plain/infer", "Inference-Header-Content-Length: 141\r\n",
     "{\"inputs\":[{\"name\":\"x\",\"shape\":[5000,4],\"datatype\":\"FP32\","
     "\"parameters\":{\"binary_data_size\":80000}}],\"parameters\":{\"binary_data_output\":true}}|",
     200},
    {"POST /v2/systemsharedmemory/region/r/register", "", REGION, 400}, /* it is already */
    {"GET /v2/systemsharedmemory/status", "", "", 200},
    {"POST /v2/models/relu/infer", "",
     "{\"inputs\":[" TENSOR SHARED "}],\"outputs\":[{\"name\":\"y\"," SHARED "}]}", 200},
    {"POST /v2/models/lm/generate", "", TEXT, 200},
    {"POST /v2/models/lm/generate_stream", "", TEXT, 200},
    {"POST /v2/models/lm/generate", "", "{\"input_ids\":[1],\"stop\":[]}", 400},
    {"POST /v2/repository/models/relu/load", "", "{}", 200},
    {"POST /v2/repository/models/lm/load", "", "", 200},
};
#define ASKS (sizeof asks / sizeof *asks)

/* The status of the answer; 0 where the connection was closed before one, or in the middle of a
 * stream. */
static char answer[ANSWER];

static int put(int port, const ask *one)
{
    static char request[100000];
    const char *gap = strchr(one->body, '|');
    const int before = gap != NULL ? (int)(gap - one->body) : 0;
    const int blanks = gap != NULL ? 80000 : 0;
    const char *rest = gap != NULL ? gap + 1 : one->body;
    const int size = snprintf(request, sizeof request,
                              "%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s"
                              "Content-Length: %zu\r\n\r\n%.*s%*s%s",
                              one->head, one->more, strlen(rest) + (size_t)(before + blanks),
                              before, one->body, blanks, "", rest);
    const int client = here_ask(port, request, (size_t)size);
    if (here_read(client, answer, sizeof answer) == 0) {
        return 0;
    }
    const int status = (int)strtol(answer + sizeof "HTTP/1.1", NULL, 10);
    const bool streams = strstr(answer, "text/event-stream") != NULL;
    if (streams && (strstr(answer, "\r\n0\r\n") == NULL || strstr(answer, "\"error\"") != NULL)) {
        return 0;
    }
    if (streams) {
        assert_non_null(strstr(answer, "finish_reason"));
    }
    return status;
}

static void check(const ask *one, int status, long which)
{
    if (status != one->status && status != 0 && status < 500) {
        fail_msg("%s: allocation %ld failed: %s", one->head, which, answer);
    }
}

/* Until none fails any more. */
static long each_allocation(int port, const ask *one)
{
    long which = 0;
    do {
        atomic_store(&failed, false);
        atomic_store(&left, which);
        const uint64_t begin = kiln_clock_now();
        check(one, put(port, one), which);
        if (kiln_clock_now() - begin > 30000000000) { /* a request has 60 s */
            fail_msg("%s: allocation %ld failed, and the client waits", one->head, which);
        }
        atomic_store(&left, LONG_MAX);
        which++;
    } while (atomic_load(&failed));
    assert_int_equal(put(port, one), one->status);
    return which - 1;
}

static void write_file(const char *folder, const char *name, const void *data, size_t size)
{
    char path[4300];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static const char *make_repository(void)
{
    static const char config[] =
        "max_batch_size: 4\n"
        "output [{ name: \"y\", data_type: TYPE_FP32, dims: [4],"
        " label_filename: \"labels.txt\" }]\n"
        "model_warmup { name: \"w\" batch_size: 2 inputs { key: \"x\" value {"
        " data_type: TYPE_FP32 dims: [4] input_data_file: \"row\" } } }\n"
        "parameters { key: \"max_length\" value { string_value: \"50\" } }\n";
    char path[4200];
    const char *folder = here_folder("memory", true);
    (void)snprintf(path, sizeof path, "%s/relu", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    write_file(folder, "relu/config.pbtxt", config, sizeof config - 1);
    write_file(folder, "relu/labels.txt", "a\nb\nc\nd\n", 8);
    (void)snprintf(path, sizeof path, "%s/relu/warmup", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    write_file(folder, "relu/warmup/row", "0123456789abcdef", 16);
    (void)snprintf(path, sizeof path, "%s/relu/1", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    const kiln_span model = unary_model("Relu", "n,4");
    write_file(folder, "relu/1/model.onnx", model.data, model.size);
    write_file(folder, "plain.onnx", model.data, model.size);
    return folder;
}

static serve *started(const serve_options *options)
{
    serve_problem problem = {.code = 0};
    serve *server = serve_start(options, &problem);
    if (server != NULL && !serve_load_all(server, &problem)) {
        serve_stop(server);
        server = NULL;
    }
    if (server == NULL && !atomic_load(&failed)) {
        fail_msg("%s", problem.sentence);
    }
    return server;
}

/* Memory of a client's, which the server is told of. */
static void share(int port)
{
    static const ask register_it = {"POST /v2/systemsharedmemory/region/r/register", "", REGION,
                                    200};
    const int made = shm_open(KEY, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(made >= 0);
    assert_int_equal(ftruncate(made, 64), 0);
    assert_int_equal(close(made), 0);
    assert_int_equal(put(port, &register_it), 200);
}

/* A model that was replaced is given back by another thread: what is in use once that is done, or
 * no more than `enough`. */
static size_t in_use(size_t enough)
{
    const struct timespec moment = {.tv_nsec = 20000000};
    size_t least = SIZE_MAX;
    for (int i = 0; i < (enough == 0 ? 100 : 1000) && least > enough; i++) {
        const size_t now = mallinfo2().uordblks;
        least = now < least ? now : least;
        (void)nanosleep(&moment, NULL);
    }
    return least;
}

TEST(each_allocation_of_a_request_and_of_a_start)
{
    static const kiln_allocator allocator = {sizeof(kiln_allocator), NULL, allocate, give_back};
    const kiln_build_options build = KILN_BUILD_OPTIONS(.backend = "reference", .threads = 1);
    SKIP_IF(!serve_is_built());
    const char *const places[] = {make_repository()};
    serve_options options = here_options(places, &build);
    options.shared_memory = true;
    assert_ok(kiln_set_allocator(&allocator));
    atomic_store(&spares_library, true);
    long which = 0;
    do { /* a start and a stop */
        atomic_store(&failed, false);
        atomic_store(&left, which++);
        serve *server = started(&options);
        atomic_store(&left, LONG_MAX);
        if (server != NULL) {
            serve_stop(server);
        }
    } while (atomic_load(&failed));
    print_message("a start: %ld allocations\n", which - 1);
    serve *server = started(&options);
    const int port = here_port(server);
    size_t before = 0;
    share(port);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < ASKS; i++) {
            atomic_store(&spares_library, round == 0 || strstr(asks[i].head, "/load") != NULL);
            const long count = each_allocation(port, &asks[i]);
            if (round < 2) {
                print_message("%s: %ld\n", asks[i].head, count);
            }
        }
        if (round == 1) {
            before = in_use(0);
        }
    }
    const size_t after = in_use(before + 65536);
    if (after > before + 65536) {
        fail_msg("%zu bytes are in use, and %zu after as much again", before, after);
    }
    serve_stop(server);
    assert_int_equal(shm_unlink(KEY), 0);
    assert_ok(kiln_set_allocator(NULL));
}
