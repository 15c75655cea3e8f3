/* Requests at a steady rate, or as fast as the answers come, and what came of them.
 *
 *   mizzen-sample-load [--rate N] [--connections N] [--seconds S] [--requests N] [--wait S]
 *                      [--header 'NAME: VALUE']... http://HOST[:PORT]/PATH
 *
 * --rate: requests begin when they are due, whether or not others have been answered, and their time counts from then. Ends
 * after so many seconds (5) or requests; 0 seconds: at SIGTERM or Ctrl-C. Prints one JSON object. Exits with 1 where
 * a request got no answer. --wait: begins when the first one is answered by 2xx, asks for that so many seconds at most. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/client.h"
#include "../common/loop.h"
#include "../common/message.h"
#include "../common/text.h"

enum { BUCKETS = 600, SERVED_MAX = 16 };

static struct {
    char host[256], path[512];
    int port;
    double rate, seconds, wait;
    uint64_t requests, connections;
    struct text fields;
} want = { .seconds = 5, .connections = 4 };

static struct {
    uint64_t begun, done, failed, by_status[600], by_time[BUCKETS];
    struct {
        char name[96];
        uint64_t n;
    } by_server[SERVED_MAX];
    char error[128];
    int64_t began_us, slowest_us;
} so_far;

static volatile sig_atomic_t ended;
static struct timer tick;

/* Buckets grow by 3 %, from 10 microseconds. */
static size_t bucket(int64_t us)
{
    const double b = us > 10 ? log((double)us / 10) / log(1.03) : 0;
    return b < BUCKETS - 1 ? (size_t)b : BUCKETS - 1;
}

static double percentile(double share)
{
    uint64_t left = (uint64_t)ceil(share * (double)so_far.done);
    for (size_t i = 0; i < BUCKETS; i++) {
        if (so_far.by_time[i] >= left)
            return 10 * pow(1.03, (double)i + 0.5) / 1000;
        left -= so_far.by_time[i];
    }
    return (double)so_far.slowest_us / 1000;
}

static void count_server(const struct call_reply *r)
{
    char name[96];
    if (!message_field(r->head, r->head_len, "x-served-by", name, sizeof(name)))
        return;
    for (size_t i = 0; i < SERVED_MAX; i++) {
        if (!so_far.by_server[i].n)
            snprintf(so_far.by_server[i].name, sizeof(name), "%s", name);
        if (!strcmp(so_far.by_server[i].name, name)) {
            so_far.by_server[i].n++;
            return;
        }
    }
}

static bool may_begin(void)
{
    return !ended && (!want.requests || so_far.begun < want.requests) &&
           (want.seconds <= 0 || (double)(now_us() - so_far.began_us) < want.seconds * 1e6);
}

static void ask(int64_t due_us);
static void begin(void);

/* ---- until somebody is there ---- */

static void try_again(struct timer *t);

static void tried(void *arg, const struct call_reply *r)
{
    static struct timer pause;
    (void)arg;
    if (r->status / 100 == 2 || ended || (double)(now_us() - so_far.began_us) > want.wait * 1e6)
        begin();
    else
        timer_start(&pause, 50, try_again);
}

static void try_again(struct timer *t)
{
    (void)t;
    call_get(&(struct call_to){ .host = want.host,
                                .port = want.port,
                                .path = want.path,
                                .fields = want.fields.p,
                                .timeout_ms = 15000 },
             tried, NULL);
}

/* ---- the requests that count ---- */

static void answered(void *arg, const struct call_reply *r)
{
    const int64_t due = (int64_t)(intptr_t)arg, us = now_us() - due;
    so_far.done++;
    so_far.by_time[bucket(us)]++;
    if (us > so_far.slowest_us)
        so_far.slowest_us = us;
    if (r->status) {
        so_far.by_status[r->status % 600]++;
        count_server(r);
    } else {
        so_far.failed++;
        snprintf(so_far.error, sizeof(so_far.error), "%s", r->error);
    }
    if (want.rate <= 0 && may_begin())
        ask(now_us());
    else if (!may_begin() && so_far.done == so_far.begun)
        loop_stop();
}

static void ask(int64_t due_us)
{
    so_far.begun++;
    call_get(&(struct call_to){ .host = want.host,
                                .port = want.port,
                                .path = want.path,
                                .fields = want.fields.p,
                                .timeout_ms = 15000 },
             answered, (void *)(intptr_t)due_us);
}

static void due(struct timer *t)
{
    int64_t next;
    while (may_begin() &&
           (next = so_far.began_us + (int64_t)((double)so_far.begun * 1e6 / want.rate)) <=
               now_us() &&
           so_far.begun - so_far.done < 10000)
        ask(next);
    if (may_begin())
        timer_start(t, 1, due);
    else if (so_far.done == so_far.begun)
        loop_stop();
}

static void watch_end(struct timer *t)
{
    if (!may_begin() && so_far.done == so_far.begun)
        loop_stop();
    else
        timer_start(t, 50, watch_end);
}

static void begin(void)
{
    static struct timer end;
    so_far.began_us = now_us();
    timer_start(&end, 50, watch_end);
    if (want.rate > 0)
        timer_start(&tick, 0, due);
    else
        for (uint64_t k = 0; k < want.connections && may_begin(); k++)
            ask(now_us());
}

static void stop_now(int number)
{
    (void)number;
    ended = 1;
}

static int report(void)
{
    const double secs = (double)(now_us() - so_far.began_us) / 1e6;
    const char *between = "";
    printf("{\"requests\":%llu,\"errors\":%llu,\"seconds\":%.2f,\"rate\":%.1f,"
           "\"ms\":{\"p50\":%.2f,\"p90\":%.2f,\"p99\":%.2f,\"max\":%.2f},\"status\":{",
           (unsigned long long)so_far.done, (unsigned long long)so_far.failed, secs,
           (double)so_far.done / secs, percentile(0.5), percentile(0.9), percentile(0.99),
           (double)so_far.slowest_us / 1000);
    for (int i = 0; i < 600; i++) {
        if (so_far.by_status[i]) {
            printf("%s\"%d\":%llu", between, i, (unsigned long long)so_far.by_status[i]);
            between = ",";
        }
    }
    struct text t = { 0 };
    for (size_t i = 0; i < SERVED_MAX && so_far.by_server[i].n; i++) {
        text_add(&t, i ? "," : "");
        text_json(&t, so_far.by_server[i].name);
        text_add(&t, ":%llu", (unsigned long long)so_far.by_server[i].n);
    }
    printf("},\"served_by\":{%s}", t.p ? t.p : "");
    text_fini(&t);
    if (so_far.failed) {
        text_json(&t, so_far.error);
        printf(",\"last_error\":%s", t.p);
        text_fini(&t);
    }
    puts("}");
    return so_far.failed != 0;
}

static bool read_option(const char *name, const char *value)
{
    if (!strcmp(name, "--rate"))
        want.rate = strtod(value, NULL);
    else if (!strcmp(name, "--connections"))
        want.connections = strtoull(value, NULL, 10);
    else if (!strcmp(name, "--seconds"))
        want.seconds = strtod(value, NULL);
    else if (!strcmp(name, "--wait"))
        want.wait = strtod(value, NULL);
    else if (!strcmp(name, "--requests"))
        want.requests = strtoull(value, NULL, 10);
    else if (!strcmp(name, "--header"))
        text_add(&want.fields, "%s\r\n", value);
    else
        return false;
    return true;
}

static bool read_url(const char *url)
{
    want.port = 80;
    snprintf(want.path, sizeof(want.path), "/");
    if (strncmp(url, "http://", 7) != 0 || sscanf(url + 7, "%255[^:/]", want.host) != 1)
        return false;
    const char *rest = url + 7 + strlen(want.host), *slash = strchr(rest, '/');
    if (*rest == ':')
        want.port = (int)strtol(rest + 1, NULL, 10);
    if (slash)
        snprintf(want.path, sizeof(want.path), "%s", slash);
    return want.port > 0 && want.port < 65536;
}

int main(int argc, char **argv)
{
    int i = 1;
    while (i + 2 < argc && read_option(argv[i], argv[i + 1]))
        i += 2;
    if (i + 1 != argc || !read_url(argv[i])) {
        fputs("usage: mizzen-sample-load [--rate N] [--connections N] [--seconds S] [--requests N] "
              "[--wait S] [--header 'NAME: VALUE']... http://HOST[:PORT]/PATH\n",
              stderr);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGTERM, stop_now);
    (void)signal(SIGINT, stop_now);
    loop_init();
    so_far.began_us = now_us();
    if (want.wait > 0)
        try_again(NULL);
    else
        begin();
    loop_run();
    const int code = report();
    text_fini(&want.fields);
    return code;
}
