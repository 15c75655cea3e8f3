/* The services of Bookinfo.
 *
 *   mizzen-bookinfo SERVICE [PORT]       productpage, details, reviews or ratings; port 9080
 *
 * Environment, under the names of the field's sample:
 *   SERVICE_VERSION      v1, v2, ...; ratings: also v-faulty (every second answer a 503), v-delayed (every second one after 7 s),
 *                        v-unavailable (503 every second minute), v-unhealthy (so, and /health says it)
 *   ENABLE_RATINGS       reviews: true or false            STAR_COLOR   reviews: black, red, or another colour of CSS
 *   DETAILS_HOSTNAME, DETAILS_SERVICE_PORT, REVIEWS_..., RATINGS_..., SERVICES_DOMAIN      where the others are
 *   POD_NAME             who answers; the machine's name without it */
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../common/loop.h"
#include "../../common/server.h"
#include "../../common/text.h"
#include "bookinfo.h"

struct settings set;
static serve_fn *serve_own;

static const struct {
    const char *name;
    serve_fn *serve;
} services[] = {
    { "productpage", productpage_serve },
    { "details", details_serve },
    { "reviews", reviews_serve },
    { "ratings", ratings_serve },
};

static const char *env(const char *name, const char *otherwise)
{
    const char *v = getenv(name); /* NOLINT(concurrency-mt-unsafe): nothing else runs yet */
    return v && v[0] ? v : otherwise;
}

static const char *host_of(const char *name, const char *otherwise)
{
    const char *domain = env("SERVICES_DOMAIN", ""), *host = env(name, otherwise);
    struct text t = { 0 };
    text_add(&t, domain[0] ? "%s.%s" : "%s%s", host, domain);
    return t.p;
}

static int port_of(const char *text)
{
    const long n = strtol(text, NULL, 10);
    if (n <= 0 || n > 65535)
        errx(2, "%s: not a port", text);
    return (int)n;
}

bool common_serve(struct conn *c, const struct request *r)
{
    struct text t = { 0 };
    if (!strcmp(r->path, "/health")) {
        const bool ill = !strcmp(set.version, "v-unhealthy") && now_ms() / 60000 % 2;
        text_add(&t, "{\"status\":\"%s is %shealthy\"}", set.service, ill ? "not " : "");
        answer_json(c, ill ? 500 : 200, t.p);
    } else if (!strcmp(r->path, "/metrics")) {
        text_add(&t, "# TYPE bookinfo_answers_total counter\n");
        for (unsigned k = 2; k <= 5; k++)
            text_add(&t,
                     "bookinfo_answers_total{service=\"%s\",version=\"%s\",code=\"%uxx\"} %llu\n",
                     set.service, set.version, k, (unsigned long long)server_answered(k));
        answer_text(c, 200, t.p);
    } else {
        return false;
    }
    text_fini(&t);
    return true;
}

static void serve(struct conn *c, const struct request *r)
{
    if (!common_serve(c, r))
        serve_own(c, r);
}

static void ended(int number)
{
    (void)number;
    _exit(0);
}

static void read_settings(const char *service)
{
    static char machine[256];
    (void)gethostname(machine, sizeof(machine) - 1); /* stays empty */
    set = (struct settings){
        .service = service,
        .version = env("SERVICE_VERSION", "v1"),
        .pod = env("POD_NAME", machine),
        .details_host = host_of("DETAILS_HOSTNAME", "details"),
        .reviews_host = host_of("REVIEWS_HOSTNAME", "reviews"),
        .ratings_host = host_of("RATINGS_HOSTNAME", "ratings"),
        .details_port = port_of(env("DETAILS_SERVICE_PORT", "9080")),
        .reviews_port = port_of(env("REVIEWS_SERVICE_PORT", "9080")),
        .ratings_port = port_of(env("RATINGS_SERVICE_PORT", "9080")),
        .with_ratings = !strcmp(env("ENABLE_RATINGS", "false"), "true"),
        .star_color = env("STAR_COLOR", "black"),
    };
}

int main(int argc, char **argv)
{
    for (size_t i = 0; argc >= 2 && i < sizeof(services) / sizeof(services[0]); i++)
        if (!strcmp(argv[1], services[i].name))
            serve_own = services[i].serve;
    if (!serve_own || argc > 3) {
        fputs("usage: mizzen-bookinfo productpage|details|reviews|ratings [PORT]\n", stderr);
        return 2;
    }
    read_settings(argv[1]);
    (void)signal(SIGPIPE, SIG_IGN); /* sends say so themselves */
    (void)signal(SIGTERM, ended);
    loop_init();
    server_named(set.service, set.version);
    server_listen(NULL, port_of(argc == 3 ? argv[2] : "9080"), serve);
    loop_run();
    return 0;
}
