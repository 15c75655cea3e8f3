/* A small HTTP/1.1 server to put behind a proxy: the sample application, and the upstream of tests and benchmarks.
 *
 *   mizzen-sample-server --port N [--host ADDR] [--name TEXT] [--version TEXT] [--forward PORT=HOST:PORT]
 *
 *   /            name, version and the request id          /headers    the request's head, echoed
 *   /status/N    that status                               /delay/MS   answers later
 *   /flaky       every second request is a 503             /reset      closes with RST instead of answering
 *   /bytes/N     N bytes                                   /echo       the request's body
 *
 * --forward: GET requests that come to that port are asked of another server, with their path and their trace's fields. */
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../common/client.h"
#include "../common/loop.h"
#include "../common/message.h"
#include "../common/server.h"
#include "../common/text.h"
#include "../common/trace.h"

static const char *server_name = "sample", *server_version = "v1";
static unsigned flaky;
static struct {
    char host[256];
    int port;
} next;

static const char *after(const char *path, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(path, prefix, n) == 0 ? path + n : NULL;
}

static void echo(struct conn *c, const char *p, size_t n)
{
    answer(c, &(struct answer){ .status = 200, .body = p, .len = n });
}

static void say_status(struct conn *c, long status)
{
    char text[256];
    snprintf(text, sizeof(text), "status %ld from %s %s\n", status, server_name, server_version);
    answer_text(c, status >= 200 && status <= 599 ? (int)status : 400, text);
}

static void serve(struct conn *c, const struct request *r)
{
    const char *arg;
    char text[512];
    if (!strcmp(r->path, "/reset")) {
        reset(c);
    } else if (!strcmp(r->path, "/headers")) {
        echo(c, r->head, r->head_len);
    } else if (!strcmp(r->path, "/echo")) {
        echo(c, r->body, r->body_len);
    } else if ((arg = after(r->path, "/bytes/"))) {
        answer(c, &(struct answer){ .status = 200, .fill = strtoull(arg, NULL, 10) });
    } else if ((arg = after(r->path, "/status/"))) {
        say_status(c, strtol(arg, NULL, 10));
    } else {
        bool bad = !strcmp(r->path, "/flaky") && ++flaky % 2;
        int n = snprintf(text, sizeof(text), "%s %s %s\nrequest-id: %s\n", server_name,
                         server_version, bad ? "is flaky" : "says hello", r->id);
        struct answer a = { .status = bad ? 503 : 200, .body = text, .len = (size_t)n };
        if ((arg = after(r->path, "/delay/")))
            answer_later(c, &a, strtol(arg, NULL, 10));
        else
            answer(c, &a);
    }
}

static void forwarded(void *arg, const struct call_reply *r)
{
    char text[512], type[64] = "";
    if (!r->status) {
        snprintf(text, sizeof(text), "%s:%d: %s\n", next.host, next.port, r->error);
        answer_text(arg, 502, text);
        return;
    }
    (void)message_field(r->head, r->head_len, "content-type", type, sizeof(type)); /* or plain */
    answer(arg, &(struct answer){ .status = r->status,
                                  .type = type[0] ? type : NULL,
                                  .body = r->body,
                                  .len = r->body_len });
}

static void forward(struct conn *c, const struct request *r)
{
    struct text fields = { 0 }, path = { 0 };
    trace_pass(r, &fields);
    text_add(&path, "%s%s%s", r->path, r->query[0] ? "?" : "", r->query);
    hold(c);
    call_get(&(struct call_to){ .host = next.host,
                                .port = next.port,
                                .path = path.p,
                                .fields = fields.p,
                                .timeout_ms = 15000 },
             forwarded, c);
    text_fini(&fields);
    text_fini(&path);
}

static int port_of(const char *text)
{
    long n = strtol(text, NULL, 10);
    return n > 0 && n < 65536 ? (int)n : -1;
}

static void ended(int number)
{
    (void)number;
    _exit(0);
}

int main(int argc, char **argv)
{
    const char *host = "127.0.0.1";
    int port = 0, from = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--port"))
            port = port_of(argv[i + 1]);
        else if (!strcmp(argv[i], "--host"))
            host = strcmp(argv[i + 1], "*") != 0 ? argv[i + 1] : NULL;
        else if (!strcmp(argv[i], "--name"))
            server_name = argv[i + 1];
        else if (!strcmp(argv[i], "--version"))
            server_version = argv[i + 1];
        else if (!strcmp(argv[i], "--forward") &&
                 sscanf(argv[i + 1], "%d=%255[^:]:%d", &from, next.host, &next.port) == 3)
            continue;
        else
            port = -1;
    }
    if (argc % 2 == 0 || port <= 0) {
        fputs("usage: mizzen-sample-server --port N [--host ADDR|'*'] [--name TEXT] "
              "[--version TEXT] [--forward PORT=HOST:PORT]\n",
              stderr);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN); /* sends say so themselves */
    (void)signal(SIGTERM, ended);   /* an orderly end, as jobs and pods expect it */
    loop_init();
    server_named(server_name, server_version);
    server_listen(host, port, serve);
    if (from)
        server_listen(host, from, forward);
    loop_run();
    return 0;
}
