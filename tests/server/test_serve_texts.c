/* SPDX-License-Identifier: Apache-2.0 */
/* A server in this process, so that a sanitizer sees all of it, which writes texts for many clients
 * at once: each is what a generator writes by itself, whoever hangs up meanwhile. */
#include <semaphore.h>

#include "serve_here.h"

#define CLIENTS 8
#define TEXTS 6 /* of a client */
#define MOST 24 /* tokens of a text */

static const char *folder;
static int port;
static atomic_int wrong;

/* What is asked for, from a number. */
typedef struct wish {
    int64_t prompt[8];
    size_t count;
    int64_t length;
    kiln_sampling sampling;
    int64_t expected[MOST];
} wish;

static wish wishes[CLIENTS * TEXTS];

static void make_wish(unsigned number, wish *made)
{
    unsigned state = number * 2654435761U + 1;
    *made = (wish){.count = 1 + number % 8, .length = 1 + (int64_t)(number * 7 % MOST)};
    for (size_t i = 0; i < made->count; i++) {
        state = state * 1664525 + 1013904223;
        made->prompt[i] = (int64_t)(state >> 16) % VOCABULARY;
    }
    made->sampling = KILN_SAMPLING(.seed = number, .temperature = number % 3 == 0 ? 0 : 1.5F,
                                   .top_k = number % 2 == 0 ? 9 : 0, .top_p = 0.75F,
                                   .repetition_penalty = 1.25F);
}

static void write_expected(void)
{
    char path[4200];
    const kiln_build_options build = KILN_BUILD_OPTIONS(.backend = "reference");
    (void)snprintf(path, sizeof path, "%s/lm.onnx", folder);
    owned_engine engine = loaded_file(path, &build);
    owned_generator generator =
        generator_on(engine, &KILN_GENERATOR_OPTIONS(.max_length = POSITIONS));
    for (unsigned i = 0; i < CLIENTS * TEXTS; i++) {
        wish *one = &wishes[i];
        make_wish(i, one);
        const kiln_sequence_options options =
            KILN_SEQUENCE_OPTIONS(.max_tokens = one->length, .sampling = &one->sampling);
        owned_sequence sequence = submitted_text(generator, one->prompt, one->count, &options);
        assert_ok(kiln_sequence_wait(sequence, -1));
        const kiln_sequence_result result = sequence_result(sequence);
        memcpy(one->expected, result.tokens, result.count * sizeof *result.tokens);
    }
}

/* --- a client --- */

static int ask(const wish *one, bool streams)
{
    char body[1024];
    char head[1400];
    int used = snprintf(body, sizeof body, "{\"input_ids\":[");
    for (size_t i = 0; i < one->count; i++) {
        used += snprintf(body + used, sizeof body - (size_t)used, "%s%lld", i > 0 ? "," : "",
                         (long long)one->prompt[i]);
    }
    used += snprintf(body + used, sizeof body - (size_t)used,
                     "],\"max_tokens\":%lld,\"temperature\":%g,\"top_k\":%d,\"top_p\":%g,"
                     "\"repetition_penalty\":%g,\"seed\":%llu}",
                     (long long)one->length, (double)one->sampling.temperature, one->sampling.top_k,
                     (double)one->sampling.top_p, (double)one->sampling.repetition_penalty,
                     (unsigned long long)one->sampling.seed);
    const int length = snprintf(head, sizeof head,
                                "POST /v2/models/lm/generate%s HTTP/1.0\r\nContent-Length: "
                                "%d\r\n\r\n%s",
                                streams ? "_stream" : "", used, body);
    const int made = here_ask(port, head, (size_t)length);
    atomic_fetch_add(&wrong, made < 0);
    return made;
}

/* The tokens of an answer, in events or in one piece. */
static size_t take_tokens(char *at, int64_t *tokens)
{
    static const char key[] = "\"output_ids\":[";
    size_t count = 0;
    while ((at = strstr(at, key)) != NULL) {
        for (at += sizeof key - 1; *at != ']' && count < MOST; at += *at == ',') {
            tokens[count++] = strtoll(at, &at, 10);
        }
    }
    return count;
}

static void check_text(const wish *one, bool streams)
{
    static _Thread_local char answer[8192];
    int64_t tokens[MOST];
    (void)here_read(ask(one, streams), answer, sizeof answer);
    const size_t count = take_tokens(answer, tokens);
    if (count != (size_t)one->length ||
        memcmp(tokens, one->expected, count * sizeof *tokens) != 0 ||
        strstr(answer, "\"finish_reason\":\"length\"") == NULL) {
        atomic_fetch_add(&wrong, 1);
        print_error("%s\n", answer);
    }
}

static void *be_client(void *user)
{
    const unsigned self = *(const unsigned *)user;
    for (unsigned i = 0; i < TEXTS; i++) {
        const unsigned number = (self * 5 + i * 11) % (CLIENTS * TEXTS);
        if ((number + i) % 4 == 0) { /* one that loses its interest */
            const int client = ask(&wishes[number], number % 2 == 0);
            char byte = 0;
            (void)!recv(client, &byte, i % 2, MSG_DONTWAIT);
            (void)close(client);
        } else {
            check_text(&wishes[number], number % 3 != 0);
        }
    }
    return NULL;
}

TEST(texts_of_many_clients_are_the_generators_own)
{
    static unsigned numbers[CLIENTS];
    serve_problem problem = {.code = 0};
    SKIP_IF(!serve_is_built());
    folder = here_folder("texts", true);
    write_expected();
    const char *const places[] = {folder};
    const kiln_build_options build = KILN_BUILD_OPTIONS(.backend = "reference", .threads = 1);
    serve_options options = here_options(places, &build);
    options.threads = 3;
    serve *server = serve_start(&options, &problem);
    if (server == NULL) {
        print_message("%s\n", problem.sentence);
        skip();
        return;
    }
    port = here_port(server);
    assert_true(serve_load_all(server, &problem));
    for (unsigned i = 0; i < CLIENTS; i++) {
        numbers[i] = i;
    }
    kiln_test_in_threads(CLIENTS, be_client, numbers, sizeof *numbers);
    serve_stop(server);
    assert_int_equal(atomic_load(&wrong), 0);
}

/* --- one that hangs up while its text is handed over --- */

static atomic_bool hangs_up;
static sem_t handed_over;
static sem_t cancelled;

static void hold_until_cancelled(void *user, kiln_sequence *sequence, const kiln_token *token)
{
    const kiln_sequence_options *asked = user;
    if (token->index == 0 && token->token >= 0) {
        const struct timespec end = {.tv_sec = time(NULL) + 20};
        atomic_fetch_add(&wrong, sem_timedwait(&cancelled, &end) != 0);
    }
    asked->told(asked->told_user, sequence, token);
}

kiln_status __real_kiln_generator_submit(kiln_generator *generator, const int64_t *prompt,
                                         size_t count, const kiln_sequence_options *options,
                                         kiln_sequence **sequence);
kiln_status __wrap_kiln_generator_submit(kiln_generator *generator, const int64_t *prompt,
                                         size_t count, const kiln_sequence_options *options,
                                         kiln_sequence **sequence);
kiln_status __wrap_kiln_generator_submit(kiln_generator *generator, const int64_t *prompt,
                                         size_t count, const kiln_sequence_options *options,
                                         kiln_sequence **sequence)
{
    static kiln_sequence_options asked;
    if (!atomic_exchange(&hangs_up, false)) {
        return __real_kiln_generator_submit(generator, prompt, count, options, sequence);
    }
    asked = *options;
    kiln_sequence_options held = *options;
    held.told = hold_until_cancelled;
    held.told_user = &asked;
    const kiln_status status =
        __real_kiln_generator_submit(generator, prompt, count, &held, sequence);
    (void)sem_post(&handed_over);
    (void)usleep(300000); /* in which the server looks for those that have gone */
    return status;
}

kiln_status __real_kiln_sequence_cancel(kiln_sequence *sequence);
kiln_status __wrap_kiln_sequence_cancel(kiln_sequence *sequence);
kiln_status __wrap_kiln_sequence_cancel(kiln_sequence *sequence)
{
    const kiln_status status = __real_kiln_sequence_cancel(sequence);
    (void)sem_post(&cancelled);
    return status;
}

TEST(a_hang_up_is_seen_while_a_text_is_handed_over)
{
    static char answer[8192];
    const kiln_build_options build = KILN_BUILD_OPTIONS(.backend = "reference", .threads = 1);
    const char *const places[] = {folder};
    const serve_options options = here_options(places, &build);
    serve_problem problem = {.code = 0};
    serve *server = serve_start(&options, &problem);
    SKIP_IF(server == NULL);
    port = here_port(server);
    assert_true(serve_load_all(server, &problem));
    assert_int_equal(sem_init(&handed_over, 0, 0), 0);
    assert_int_equal(sem_init(&cancelled, 0, 0), 0);
    atomic_store(&hangs_up, true);
    const int client = ask(&wishes[8], true);
    assert_int_equal(sem_wait(&handed_over), 0);
    assert_int_equal(shutdown(client, SHUT_WR), 0);
    (void)here_read(client, answer, sizeof answer);
    assert_non_null(strstr(answer, "the client has gone"));
    serve_stop(server);
    assert_int_equal(atomic_load(&wrong), 0);
}

/* Some have asked, some are just about to: each connection is closed, with an answer or without. */
TEST(a_stop_meets_requests_at_any_moment)
{
    const kiln_build_options build = KILN_BUILD_OPTIONS(.backend = "reference", .threads = 1);
    const char *const places[] = {folder};
    serve_options options = here_options(places, &build);
    options.drain_seconds = 0;
    for (int round = 0; round < 20; round++) {
        serve_problem problem = {.code = 0};
        char answer[8192];
        int clients[4];
        serve *server = serve_start(&options, &problem);
        if (server == NULL) {
            skip();
            return;
        }
        port = here_port(server);
        assert_true(serve_load_all(server, &problem));
        for (size_t i = 0; i < 4; i++) {
            clients[i] = ask(&wishes[i + (size_t)round], i % 2 == 0);
        }
        serve_stop(server);
        for (size_t i = 0; i < 4; i++) {
            (void)here_read(clients[i], answer, sizeof answer);
        }
    }
}
