/* Metrics of applications, which are merged with the proxy's: the agent is told where they were. */
#include <stdio.h>
#include <stdlib.h>

#include "control/inject/inject_priv.h"

/* Prometheus knows no other signs in names than letters, digits and '_'. */
static bool is_named(const char *note, const char *name)
{
    for (; *note && *name; note++, name++)
        if (*note != *name && !(strchr("./-_", *note) && strchr("./-_", *name)))
            return false;
    return !*note && !*name;
}

/* The annotation of @i that Prometheus would take for @name. */
static const char *scraped(const struct injection *i, const char *name, const char *otherwise)
{
    const char *note;
    json_t *value;
    json_object_foreach(i->annotations, note,
                        value) if (is_named(note, name) &&
                                   json_is_string(value)) return json_string_value(value);
    return otherwise;
}

static void forget_scraping(const struct injection *i, json_t *notes)
{
    static const char *const names[] = { "prometheus.io/port", "prometheus.io/path",
                                         "prometheus.io/scrape",
                                         "prometheus.istio.io/scrape-targets" };
    const char *note;
    json_t *value;
    json_object_foreach(i->annotations, note, value) for (size_t k = 0; k < MZ_COUNT(names);
                                                          k++) if (is_named(note, names[k]))(void)
        json_object_del(notes, note);
}

static bool is_reserved(uint64_t port, uint64_t own)
{
    static const uint16_t reserved[] = { 15000, 15001, 15004, 15006, 15008,
                                         15020, 15021, 15053, 15090 };
    bool taken = port == own;
    for (size_t k = 0; k < MZ_COUNT(reserved); k++)
        taken |= port == reserved[k];
    return taken;
}

static bool check_scraped(const struct injection *i, struct mz_str port)
{
    uint64_t n = 0;
    if (!mz_str_u64(port, &n) || !n || n > UINT16_MAX)
        return mz_err_set(i->err, "invalid prometheus scrape configuration: invalid port \"%.*s\"",
                          (int)(port.n < 20 ? port.n : 20), port.p);
    if (is_reserved(n, status_port(i)))
        return mz_err_set(i->err,
                          "invalid prometheus scrape configuration: port %.*s is the proxy's and "
                          "cannot be scraped",
                          MZ_STR_ARG(port));
    return true;
}

/* "8080:/metrics,9100:/more". NULL: @text is none of that; whether its ports will do, is another question. */
static json_t *targets_of(const char *text)
{
    struct mz_str rest = mz_str_c(text), one;
    json_t *list = json_array();
    while (mz_str_split(&rest, ',', &one)) {
        const struct mz_str t = mz_str_trim(one);
        const ptrdiff_t colon = mz_str_chr(t, ':');
        const struct mz_str port =
            mz_str_trim((struct mz_str){ t.p, colon < 0 ? t.n : (size_t)colon });
        struct mz_str path = mz_str_trim(mz_str_skip(t, colon < 0 ? t.n : (size_t)colon + 1));
        if (!path.n)
            path = MZ_STR("/metrics");
        if (t.n && port.n)
            (void)json_array_append_new(
                list, json_pack("{s:s%, s:s%}", "port", port.p, port.n, "path", path.p, path.n));
        if (t.n && !port.n) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

bool scrape_add(const struct injection *i, json_t *notes, json_t *proxy)
{
    const char *scrape = scraped(i, "prometheus.io/scrape", NULL),
               *path = scraped(i, "prometheus.io/path", ""),
               *port = scraped(i, "prometheus.io/port", ""),
               *many = scraped(i, "prometheus.istio.io/scrape-targets", "");
    const bool merges = !json_is_false(json_object_get(i->mesh, "enablePrometheusMerge"));
    json_t *targets = many[0] ? targets_of(many) : NULL, *first = json_array_get(targets, 0);
    char own[16];
    bool ok = true;
    (void)snprintf(own, sizeof(own), "%u", status_port(i));
    if ((scrape && strcmp(scrape, "true") != 0) || strcmp(port, own) == 0 ||
        strcmp(annotation(i, "prometheus.istio.io/merge-metrics", merges ? "true" : "false"),
               "false") == 0) {
        json_decref(targets);
        return true;
    }
    if (first) {
        port = json_string_value(json_object_get(first, "port"));
        path = json_string_value(json_object_get(first, "path"));
    }
    for (size_t k = 0; ok && k < json_array_size(targets); k++)
        ok = check_scraped(
            i, mz_str_c(json_string_value(json_object_get(json_array_get(targets, k), "port"))));
    ok = ok && (!port[0] || check_scraped(i, mz_str_c(port)));
    if (ok && proxy && (scrape || path[0] || port[0])) {
        json_t *was = json_pack("{s:s, s:s, s:s}", "scrape", scrape ? scrape : "", "path", path,
                                "port", port);
        if (first)
            (void)json_object_set(was, "targets", targets);
        char *text = json_dumps(was, JSON_COMPACT);
        env_add(proxy, "ISTIO_PROMETHEUS_ANNOTATIONS", text ? text : "{}");
        free(text);
        json_decref(was);
    }
    forget_scraping(i, notes);
    set_text(notes, "prometheus.io/port", own, false);
    set_text(notes, "prometheus.io/path", "/stats/prometheus", false);
    set_text(notes, "prometheus.io/scrape", "true", false);
    json_decref(targets);
    return ok;
}
