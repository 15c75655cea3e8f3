#include "cli/pods.h"

#include "base/near.h"

#include <stdio.h>
#include <string.h>

#include "cli/fetch.h"
#include "mesh/client.h"

enum { ADMIN_PORT = 15000, PLANE_PORT = 15014, SILENCE_S = 10 };

/* ---- of a running mesh ---- */

static struct mz_str text(const json_t *o, const char *name, struct mz_arena *a)
{
    const char *s = json_string_value(json_object_get(o, name));
    return mz_arena_dup(a, mz_str_c(s ? s : ""));
}

static uint64_t number(const json_t *o, const char *name)
{
    const json_int_t n = json_integer_value(json_object_get(o, name));
    return n > 0 ? (uint64_t)n : 0;
}

static struct mz_str app_of(const json_t *labels, struct mz_arena *a)
{
    static const char *const names[] = { "service.istio.io/canonical-name", "app", "istio" };
    struct mz_str app = MZ_STR("");
    for (size_t i = 0; !app.n && i < MZ_COUNT(names); i++)
        app = text(labels, names[i], a);
    return app;
}

static void memory(const json_t *containers, struct pod *p)
{
    size_t i;
    json_t *c;
    json_array_foreach(containers, i, c)
    {
        const char *name = json_string_value(json_object_get(c, "name"));
        p->pss_kb += number(c, "pss_kb");
        if (name && strcmp(name, "istio-proxy") == 0)
            p->proxy_pss_kb = number(c, "pss_kb");
    }
}

/* "default/Deployment/reviews-v1" */
static struct mz_str last_part(struct mz_str s)
{
    const ptrdiff_t slash = mz_str_rchr(s, '/');
    return slash < 0 ? s : mz_str_skip(s, (size_t)slash + 1);
}

static struct pod pod_read(const json_t *o, struct mz_arena *a)
{
    const struct mz_str proxy = text(o, "proxy", a);
    struct pod p = { .name = text(o, "name", a),
                     .ns = text(o, "namespace", a),
                     .ip = text(o, "ip", a),
                     .account = text(o, "account", a),
                     .workload = last_part(text(o, "workload", a)),
                     .app = app_of(json_object_get(o, "labels"), a),
                     .ready = json_is_true(json_object_get(o, "ready")),
                     .gateway = mz_str_eq(text(o, "kind", a), MZ_STR("gateway")),
                     .has_proxy = !mz_str_eq(proxy, MZ_STR("none")),
                     .ours = mz_str_eq(proxy, MZ_STR("mizzen")) };
    p.id = mz_arena_printf(a, "%.*s.%.*s", MZ_STR_ARG(p.name), MZ_STR_ARG(p.ns));
    memory(json_object_get(o, "containers"), &p);
    return p;
}

static void list_read(struct pods *p, const json_t *list)
{
    const json_t *pods = json_object_get(list, "pods"),
                 *published = json_object_get(list, "services_published");
    p->dir = text(list, "dir", p->arena);
    p->plane_pss_kb = number(json_object_get(list, "mizzend"), "pss_kb");
    p->v = mz_arena_alloc0(p->arena, (json_array_size(pods) + 1) * sizeof(*p->v));
    for (size_t i = 0; i < json_array_size(pods); i++)
        p->v[p->n++] = pod_read(json_array_get(pods, i), p->arena);
    p->published =
        mz_arena_alloc0(p->arena, (json_array_size(published) + 1) * sizeof(*p->published));
    for (size_t i = 0; i < json_array_size(published); i++) {
        const json_t *o = json_array_get(published, i);
        p->published[p->published_n].host = text(o, "host", p->arena);
        p->published[p->published_n].service = text(o, "service", p->arena);
        p->published[p->published_n++].port = (uint16_t)number(o, "port");
    }
}

static bool mesh_open(struct pods *p, const char *name, struct mz_err *err)
{
    p->client = mz_mesh_open(name, err);
    json_t *list = p->client ? mz_mesh_list(p->client, err) : NULL;
    if (list)
        list_read(p, list);
    json_decref(list);
    return list != NULL;
}

/* ---- by admin addresses ---- */

/* "sidecar~10.11.0.1~a-1.demo~demo.svc.cluster.local", as sidecars and gateways of a mesh call themselves. */
static void identity_read(struct pod *p, struct mz_str id)
{
    struct mz_str rest = id, part[4];
    size_t n = 0;
    while (n < 4 && mz_str_split(&rest, '~', &part[n]))
        n++;
    const ptrdiff_t dot = n == 4 ? mz_str_chr(part[2], '.') : -1;
    if (dot < 0)
        return;
    p->gateway = mz_str_eq(part[0], MZ_STR("router"));
    p->ip = part[1];
    p->id = part[2];
    p->name = (struct mz_str){ part[2].p, (size_t)dot };
    p->ns = mz_str_skip(part[2], (size_t)dot + 1);
}

static bool admin_open(struct pods *p, const struct arg_list *admin, struct mz_err *err)
{
    p->v = mz_arena_alloc0(p->arena, (admin->n + 1) * sizeof(*p->v));
    for (size_t i = 0; i < admin->n; i++) {
        struct pod *pod = &p->v[p->n++];
        struct dump d;
        *pod = (struct pod){ .admin = admin->v[i],
                             .id = mz_str_c(admin->v[i]),
                             .name = mz_str_c(admin->v[i]),
                             .ready = true,
                             .has_proxy = true };
        const bool ok = dump_load(&d, pod->admin, ADMIN_PORT, "/server_info", NULL, err);
        if (ok) {
            const struct mz_node *node = mz_node_get(d.root, "node");
            identity_read(pod, mz_arena_dup(p->arena, mz_node_text(node, "id")));
            pod->account = mz_arena_dup(p->arena, mz_node_text(node, "metadata.SERVICE_ACCOUNT"));
            pod->workload = mz_arena_dup(p->arena, mz_node_text(node, "metadata.WORKLOAD_NAME"));
            pod->ours = mz_str_find(mz_node_text(d.root, "version"), MZ_STR("mizzen")) >= 0;
        }
        dump_fini(&d);
        if (!ok)
            return false;
    }
    return true;
}

bool pods_open(struct pods *p, const struct pods_options *o, struct mz_err *err)
{
    *p = (struct pods){ .arena = mz_arena_create(MZ_MEM_MISC), .plane = o->plane };
    return o->admin.n ? admin_open(p, &o->admin, err) : mesh_open(p, o->mesh, err);
}

void pods_close(struct pods *p)
{
    mz_mesh_close(p->client);
    mz_arena_destroy(p->arena);
}

/* ---- by name ---- */

enum how { BY_NAME, BY_ADMIN, BY_WORKLOAD, BY_APP, HOWS };

static bool is(const struct pod *p, enum how how, struct mz_str name, struct mz_str ns)
{
    const struct mz_str own[HOWS] = { p->name, p->admin ? mz_str_c(p->admin) : MZ_STR(""),
                                      p->workload, p->app };
    return own[how].n && mz_str_eq(own[how], name) && (!ns.n || mz_str_eq(p->ns, ns));
}

/* Of several pods of one workload any; of a name that stands in several namespaces none. */
static const struct pod *look(const struct pods *p, enum how how, struct mz_str name,
                              struct mz_str ns, struct mz_err *err)
{
    const struct pod *found = NULL;
    *err = (struct mz_err){ .path = "", .msg = "" };
    for (size_t i = 0; i < p->n; i++) {
        const struct pod *one = &p->v[i];
        if (!is(one, how, name, ns))
            continue;
        if (found && !mz_str_eq(found->ns, one->ns)) {
            mz_err_set(err, "\"%.*s\" is %.*s and %.*s: name the namespace", MZ_STR_ARG(name),
                       MZ_STR_ARG(found->id), MZ_STR_ARG(one->id));
            return NULL;
        }
        if (!found || (one->ready && !found->ready))
            found = one;
    }
    return found;
}

static bool is_type(struct mz_str s)
{
    static const char *const words[] = { "pod",        "pods",        "po",          "deployment",
                                         "deploy",     "deployments", "statefulset", "sts",
                                         "replicaset", "rs",          "job",         "jobs" };
    for (size_t i = 0; i < MZ_COUNT(words); i++)
        if (mz_str_eq(s, mz_str_c(words[i])))
            return true;
    return false;
}

const struct pod *pods_find(const struct pods *p, const char *word, struct mz_err *err)
{
    struct mz_str name = mz_str_c(word), ns = MZ_STR("");
    const ptrdiff_t slash = mz_str_chr(name, '/');
    if (slash > 0) {
        const struct mz_str before = { name.p, (size_t)slash };
        ns = is_type(before) ? MZ_STR("") : before;
        name = mz_str_skip(name, (size_t)slash + 1);
    }
    const ptrdiff_t dot = mz_str_rchr(name, '.');
    for (unsigned how = 0; how < HOWS; how++) {
        const struct pod *found = look(p, (enum how)how, name, ns, err);
        if (!found && !err->msg[0] && dot > 0 && !ns.n)
            found = look(p, (enum how)how, (struct mz_str){ name.p, (size_t)dot },
                         mz_str_skip(name, (size_t)dot + 1), err);
        if (found || err->msg[0])
            return found;
    }
    struct mz_near near;
    mz_near_init(&near, dot > 0 && !ns.n ? (struct mz_str){ name.p, (size_t)dot } : name);
    for (size_t i = 0; i < p->n; i++) {
        mz_near_try(&near, p->v[i].workload);
        mz_near_try(&near, p->v[i].name);
    }
    mz_err_set(err, "no pod \"%s\" in the mesh%s%s%s (mizzenctl ps lists them)", word,
               p->client ? " " : "", p->client ? mz_mesh_name(p->client) : "", mz_near_text(&near));
    return NULL;
}

const struct pod *pods_by_ip(const struct pods *p, struct mz_str ip)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->v[i].ip.n && mz_str_eq(p->v[i].ip, ip))
            return &p->v[i];
    return NULL;
}

/* ---- pages ---- */

static bool dial(const struct pods *p, const char *who, uint16_t port, const char *method,
                 const char *path, struct mz_buf *out, struct mz_err *err)
{
    const int fd = mz_mesh_dial(p->client, who, port, err);
    return fd >= 0 && fetch_on(fd, who, SILENCE_S, method, path, out, err);
}

bool pod_fetch(const struct pods *p, const struct pod *of, const char *method, const char *path,
               struct mz_buf *out, struct mz_err *err)
{
    if (of->admin)
        return fetch(of->admin, ADMIN_PORT, method, path, out, err);
    if (!of->has_proxy)
        return mz_err_set(err, "%.*s has no proxy", MZ_STR_ARG(of->id));
    char who[600];
    (void)snprintf(who, sizeof(who), "%.*s/%.*s", MZ_STR_ARG(of->ns), MZ_STR_ARG(of->name));
    return dial(p, who, ADMIN_PORT, method, path, out, err);
}

static bool read_tree(struct dump *d, struct mz_err *err)
{
    d->root =
        mz_tree_read(d->arena, mz_buf_linearize(&d->text, mz_buf_len(&d->text)), MZ_TEXT_JSON, err);
    return d->root != NULL;
}

bool pod_load(const struct pods *p, const struct pod *of, const char *method, const char *path,
              struct dump *out, struct mz_err *err)
{
    dump_init(out);
    return pod_fetch(p, of, method, path, &out->text, err) &&
           (read_tree(out, err) || mz_err_at(err, "%.*s", MZ_STR_ARG(of->id)));
}

bool plane_fetch(const struct pods *p, const char *path, struct mz_buf *out, struct mz_err *err)
{
    if (!p->plane && !p->client)
        return mz_err_set(err, "no control plane is known (--control-plane)");
    return p->plane ? fetch(p->plane, PLANE_PORT, "GET", path, out, err)
                    : dial(p, "mizzend", PLANE_PORT, "GET", path, out, err);
}

bool plane_load(const struct pods *p, const char *path, struct dump *out, struct mz_err *err)
{
    dump_init(out);
    return plane_fetch(p, path, &out->text, err) &&
           (read_tree(out, err) || mz_err_at(err, "%s", path));
}

const char *pods_mesh(const struct pods *p)
{
    return p->client ? mz_mesh_name(p->client) : "";
}

/* ---- one proxy ---- */

static bool is_address(const char *s)
{
    return strpbrk(s, ":@") || s[0] == '/' || s[0] == '[' || strcmp(s, "localhost") == 0 ||
           !s[strspn(s, "0123456789.")];
}

bool mesh_runs(const char *mesh)
{
    struct mz_err err;
    struct mz_mesh_client *m = mz_mesh_open(mesh, &err);
    mz_mesh_close(m);
    return m || mz_str_starts(mz_str_c(err.msg), MZ_STR("several")); /* which, is asked later */
}

bool proxy_find(struct proxy_at *at, const char *word, const char *mesh, uint16_t port,
                struct mz_err *err)
{
    *at = (struct proxy_at){ .address = word, .port = port };
    if (is_address(word) || (!mesh && !mesh_runs(NULL)))
        return true;
    if (!pods_open(&at->pods, &(struct pods_options){ .mesh = mesh }, err))
        return false;
    at->pod = pods_find(&at->pods, word, err);
    return at->pod != NULL;
}

void proxy_close(struct proxy_at *at)
{
    if (at->pods.arena)
        pods_close(&at->pods);
}

bool proxy_fetch(const struct proxy_at *at, const char *method, const char *path,
                 struct mz_buf *out, struct mz_err *err)
{
    return at->pod ? pod_fetch(&at->pods, at->pod, method, path, out, err)
                   : fetch(at->address, at->port, method, path, out, err);
}

bool proxy_load(const struct proxy_at *at, const char *path, struct dump *out, struct mz_err *err)
{
    return at->pod ? pod_load(&at->pods, at->pod, "GET", path, out, err)
                   : dump_load(out, at->address, at->port, path, NULL, err);
}
