/* SPDX-License-Identifier: Apache-2.0 */
/* The access log. */
#include <errno.h>
#include <stdio_ext.h>
#include <string.h>
#include <time.h>

#include "serve_parts.h"

bool serve_open_log(serve *server, serve_problem *problem)
{
    const char *path = server->options->access_log;
    if (path != NULL) {
        server->log = strcmp(path, "-") == 0 ? stdout : serve_file_open(path, true);
    }
    return path == NULL || server->log != NULL ||
           serve_refuse(problem, 400, "\"%.300s\" cannot be written: %s", path, strerror(errno));
}

void serve_close_log(serve *server)
{
    if (server->log != NULL && server->log != stdout) {
        (void)fclose(server->log);
    }
    server->log = NULL;
}

void serve_reopen_log(serve *server)
{
    serve_problem problem;
    (void)pthread_mutex_lock(&server->log_lock);
    if (server->log != NULL && server->log != stdout) {
        FILE *again = serve_file_open(server->options->access_log, true);
        if (again != NULL) {
            (void)fclose(server->log);
            server->log = again;
        } else {
            (void)serve_refuse(&problem, 0, "the access log cannot be opened anew: %s",
                               strerror(errno));
            serve_say(server, "%s", problem.sentence);
        }
    }
    (void)pthread_mutex_unlock(&server->log_lock);
}

/* Escapes what a client wrote, so that it stays within its field. */
static void print_quoted(FILE *file, const char *text)
{
    for (; *text != '\0'; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\') {
            (void)fprintf(file, "\\x%02x", c);
        } else {
            (void)fputc(c, file);
        }
    }
}

/* Reports a full disk once, and again when lines can be written. Called with log_lock held. */
static void note_written(serve *server, bool written)
{
    if (!written) {
        if (server->lost_lines++ == 0) {
            serve_say(server,
                      "the access log cannot be written: %s; lines are lost until it can be",
                      strerror(errno));
        }
        __fpurge(server->log);
        clearerr(server->log);
    } else if (server->lost_lines != 0) {
        serve_say(server, "the access log is written again; %llu lines were lost",
                  server->lost_lines);
        server->lost_lines = 0;
    }
}

void serve_log_line(serve_connection *at)
{
    serve *server = at->server;
    struct timespec now;
    struct tm parts;
    char time[40];
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &parts);
    (void)strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &parts);
    (void)pthread_mutex_lock(&server->log_lock);
    if (server->log != NULL) {
        (void)fprintf(server->log, "%s.%03ldZ %s \"%s ", time, now.tv_nsec / 1000000, at->client,
                      at->method);
        print_quoted(server->log, at->uri != NULL ? at->uri : "");
        (void)fprintf(server->log, "\" %d %zu %zu %llu\n", at->code, at->body_size + at->taken,
                      at->answer_size, (unsigned long long)(kiln_clock_now() - at->begun) / 1000);
        note_written(server, fflush(server->log) == 0);
    }
    (void)pthread_mutex_unlock(&server->log_lock);
}
