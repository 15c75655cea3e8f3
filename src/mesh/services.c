/*
 * Services for pods without a proxy, as a cluster's name server and kube-proxy have them: names in the pod's hosts, and addresses that
 * the node translates to a ready pod's. Addresses are those that mizzend has given. Where every pod has a proxy nothing is done.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "mesh/json.h"
#include "mesh/supervisor_priv.h"
#include "web/fetch.h"

enum { PAUSE_MS = 50, AGAIN_MS = 1000, FETCH_MS = 5000, MOST_BYTES = 16 << 20 };
#define REGISTRY "http://127.0.0.1:15014/debug/registryz"

struct services {
    struct supervisor *s;
    struct mz_fetcher *fetcher; /* NULL: nobody has needed it */
    struct mz_fetch *asked;
    struct mz_timer soon;
    struct rules {
        struct mz_mesh_process restore; /* iptables-restore, ip6tables-restore */
        struct mz_buf text;             /* in force, or on their way */
    } rules[2];                         /* of IPv4, of IPv6 */
};
static const char *const restorers[] = { "iptables-restore", "ip6tables-restore" };

static struct mz_mesh_pod *pod_at(struct mz_list *it)
{
    return MZ_CONTAINER(it, struct mz_mesh_pod, link);
}

static bool is_plain(const struct mz_mesh_pod *p)
{
    return !p->spec->injected && p->stage == MZ_MESH_RUN;
}

static bool are_needed(const struct supervisor *s)
{
    for (struct mz_list *it = s->pods.next; it != &s->pods; it = it->next)
        if (is_plain(pod_at(it)))
            return true;
    return false;
}

static void say_address(struct mz_buf *b, const char *address, const char *name, const char *ns,
                        const char *host)
{
    mz_buf_printf(b, "%s %s %s.%s.svc %s.%s", address, host, name, ns, name, ns);
}

/* ---- names ---- */

/* Of a service: texts; none of a headless one. */
static json_t *addresses_of(json_t *service)
{
    json_t *clusters = mz_json_at(service, "clusterVIPs", "Addresses", NULL); /* there is one */
    return json_object_iter_value(json_object_iter(clusters));
}

/* A headless service is its pods. */
static void add_names(struct supervisor *s, struct mz_buf *b, json_t *service, const char *pod_ns)
{
    json_t *of = json_object_get(service, "Attributes");
    const char *name = mz_json_text(of, "Name", ""), *ns = mz_json_text(of, "Namespace", ""),
               *host = mz_json_text(service, "hostname", "");
    const struct mz_mesh_doc *d = mz_mesh_folder_find(s->folder, "Service", ns, name);
    const char *end = strcmp(ns, pod_ns) == 0 ? name : "";
    size_t at;
    json_t *address;
    if (!d || !host[0])
        return; /* not one of Kubernetes' */
    json_array_foreach(addresses_of(service), at, address)
    {
        say_address(b, json_string_value(address), name, ns, host);
        mz_buf_printf(b, " %s\n", end);
    }
    if (at)
        return;
    const struct mz_mesh_port any = { .doc = d,
                                      .selector = mz_json_at(d->object, "spec", "selector", NULL) };
    mz_list_foreach (it, &s->pods)
        if (pod_at(it)->ready && supervisor_is_behind(pod_at(it), &any)) {
            say_address(b, pod_at(it)->spec->ip, name, ns, host);
            mz_buf_printf(b, " %s\n", end);
        }
}

/* In place: the pod has this file by its number. */
static void write_hosts(const struct mz_mesh_pod *p, struct mz_buf *b)
{
    char path[1200];
    (void)snprintf(path, sizeof(path), "%s/hosts", p->spec->work);
    const struct mz_str text = mz_buf_linearize(b, mz_buf_len(b));
    const int fd = open(path, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || write(fd, text.p, text.n) != (ssize_t)text.n)
        MZ_LOG(ERROR, main, "cannot write %s", path);
    if (fd >= 0)
        (void)close(fd);
}

static void write_names(struct supervisor *s, json_t *list)
{
    size_t at;
    json_t *one;
    mz_list_foreach (it, &s->pods) {
        const struct mz_mesh_pod *p = pod_at(it);
        struct mz_buf b;
        if (!is_plain(p))
            continue;
        mz_buf_init(&b);
        mz_mesh_files_hosts(&s->files, p->spec, &b);
        json_array_foreach(list, at, one) add_names(s, &b, one, p->spec->ns);
        write_hosts(p, &b);
        mz_buf_fini(&b);
    }
}

/* ---- addresses ---- */

static void add_rules(struct supervisor *s, struct mz_buf *b, const struct mz_mesh_doc *d,
                      const char *address, bool six, json_t *port)
{
    const json_t *target = json_object_get(port, "targetPort");
    const struct mz_mesh_port p = { .doc = d,
                                    .port = (uint16_t)mz_json_number(port, "port", 0),
                                    .target = target ? target : json_object_get(port, "port"),
                                    .selector = mz_json_at(d->object, "spec", "selector", NULL) };
    unsigned n = 0;
    if (strcmp(mz_json_text(port, "protocol", "TCP"), "TCP") != 0)
        return;
    mz_list_foreach (it, &s->pods)
        n += pod_at(it)->ready && supervisor_is_behind(pod_at(it), &p) &&
             supervisor_port_of(pod_at(it), &p);
    mz_list_foreach (it, &s->pods) {
        const struct mz_mesh_pod *pod = pod_at(it);
        if (!pod->ready || !supervisor_is_behind(pod, &p) || !supervisor_port_of(pod, &p))
            continue;
        mz_buf_printf(b, "-A PREROUTING -d %s/%d -p tcp -m tcp --dport %u", address, six ? 128 : 32,
                      p.port);
        if (n > 1)
            mz_buf_printf(b, " -m statistic --mode random --probability %.6f", 1.0 / n);
        mz_buf_printf(
            b, six ? " -j DNAT --to-destination [%s]:%u\n" : " -j DNAT --to-destination %s:%u\n",
            six ? pod->spec->ip6 : pod->spec->ip, supervisor_port_of(pod, &p));
        n--;
    }
}

/* Answers must come back this way to be translated again: who asks is the node. */
static void make_rules(struct supervisor *s, struct mz_buf *b, bool six, json_t *list)
{
    size_t at, k, i;
    json_t *one, *port, *address;
    mz_buf_printf(b, "*nat\n");
    json_array_foreach(list, at, one)
    {
        json_t *of = json_object_get(one, "Attributes");
        const struct mz_mesh_doc *d = mz_mesh_folder_find(
            s->folder, "Service", mz_json_text(of, "Namespace", ""), mz_json_text(of, "Name", ""));
        if (!d)
            continue;
        json_array_foreach(addresses_of(one), i,
                           address) if ((strchr(json_string_value(address), ':') != NULL) == six)
            json_array_foreach(mz_json_at(d->object, "spec", "ports", NULL), k, port)
                add_rules(s, b, d, json_string_value(address), six, port);
    }
    mz_buf_printf(b, "-A POSTROUTING -m conntrack --ctstate DNAT -j MASQUERADE\nCOMMIT\n");
}

static void on_restored(struct mz_mesh_process *p, int code)
{
    struct rules *r = MZ_CONTAINER(p, struct rules, restore);
    if (!code)
        return;
    MZ_LOG(ERROR, main,
           "iptables-restore or ip6tables-restore ended with %d: addresses of services do not lead "
           "anywhere (logs/iptables.log)",
           code);
    mz_buf_fini(&r->text); /* the next change tries again */
}

static void apply(struct supervisor *s, struct rules *r, bool six)
{
    struct mz_err err = { .path = "", .msg = "" };
    char path[1200], log[1200];
    (void)snprintf(path, sizeof(path), "%s/work/node.rules%s", s->node.state, six ? "6" : "");
    (void)snprintf(log, sizeof(log), "%s/logs/iptables.log", s->node.state);
    const char *const argv[] = { restorers[six], path, NULL };
    const int to = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const struct mz_mesh_spawn spawn = { .in = &s->mizzend_in,
                                         .argv = argv,
                                         .env = (const char *const *)(uintptr_t)s->node.env,
                                         .dir = s->node.state,
                                         .caps = ~UINT64_C(0),
                                         .fds = { s->node.null, to, to } };
    if (!mz_mesh_write_file(path, mz_buf_linearize(&r->text, mz_buf_len(&r->text)), &err) ||
        !mz_mesh_process_start(&s->node.processes, &r->restore, &spawn, on_restored, &err)) {
        MZ_LOG(ERROR, main, "%s", err.msg);
        mz_buf_fini(&r->text);
    }
    if (to >= 0)
        (void)close(to);
}

static void write_addresses(struct services *v, bool six, json_t *list)
{
    struct rules *r = &v->rules[six];
    struct mz_buf b;
    mz_buf_init(&b);
    make_rules(v->s, &b, six, list);
    const struct mz_str now = mz_buf_linearize(&b, mz_buf_len(&b)),
                        before = mz_buf_linearize(&r->text, mz_buf_len(&r->text));
    if (r->restore.pid) {
        mz_timer_start_ms(&v->soon, PAUSE_MS); /* one at a time */
    } else if (!mz_str_eq(now, before)) {
        mz_buf_fini(&r->text);
        mz_buf_move_all(&r->text, &b);
        apply(v->s, r, six);
    }
    mz_buf_fini(&b);
}

/* ---- when ---- */

static void on_registry(void *arg, const char *why, struct mz_str body)
{
    struct services *v = arg;
    v->asked = NULL;
    json_t *list = why ? NULL : json_loadb(body.p, body.n, 0, NULL);
    if (json_is_array(list)) {
        write_names(v->s, list);
        write_addresses(v, false, list);
        if (v->s->node.six)
            write_addresses(v, true, list);
    } else if (!v->s->stopping) {
        mz_timer_start_ms(&v->soon, AGAIN_MS); /* mizzend is not there now */
    }
    json_decref(list);
}

static void on_soon(struct mz_timer *t)
{
    struct services *v = MZ_CONTAINER(t, struct services, soon);
    static const struct mz_fetcher_opts o = { .max_bytes = MOST_BYTES };
    if (!v->fetcher)
        v->fetcher = mz_fetcher_create(v->s->node.loop, &o);
    mz_fetch_cancel(v->asked);
    v->asked = mz_fetch_start(v->fetcher, MZ_STR(REGISTRY), FETCH_MS, on_registry, v);
}

struct services *services_create(struct supervisor *s)
{
    struct services *v = mz_new0(MZ_MEM_MISC, struct services);
    v->s = s;
    mz_buf_init(&v->rules[0].text);
    mz_buf_init(&v->rules[1].text);
    mz_timer_init(s->node.loop, &v->soon, on_soon);
    return v;
}

void services_changed(struct services *v)
{
    if (v && !v->s->stopping && are_needed(v->s) && !mz_timer_armed(&v->soon))
        mz_timer_start_ms(&v->soon, PAUSE_MS);
}

bool services_settled(const struct services *v)
{
    return !are_needed(v->s) || (!mz_timer_armed(&v->soon) && !v->asked &&
                                 !v->rules[0].restore.pid && !v->rules[1].restore.pid);
}

void services_stop(struct services *v)
{
    if (!v)
        return;
    mz_timer_stop(&v->soon);
    mz_mesh_process_abandon(&v->rules[0].restore);
    mz_mesh_process_abandon(&v->rules[1].restore);
    mz_fetch_cancel(v->asked);
    v->asked = NULL;
    mz_fetcher_stop(v->fetcher);
}

void services_destroy(struct services *v)
{
    if (!v)
        return;
    mz_fetcher_destroy(v->fetcher);
    mz_buf_fini(&v->rules[0].text);
    mz_buf_fini(&v->rules[1].text);
    mz_free(MZ_MEM_MISC, v);
}
