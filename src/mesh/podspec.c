#include "mesh/podspec.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/inject/layers.h"
#include "mesh/json.h"
#include "mesh/podenv.h"

struct building {
    const struct mz_mesh_workload *w;
    const struct mz_mesh_place *p;
    struct mz_mesh_pod_spec *s;
    struct mz_err *err;
};

/* ---- the document ---- */

/* What the mesh and ProxyConfigs say, and names that are asked of the agent: there is no other name server in a pod. */
static void layers(void *arg, const char *ns, const json_t *labels, json_t **out_under,
                   json_t **out_over)
{
    const struct building *b = arg;
    mz_inject_layers(b->p->folder->model, ns, labels, out_under, out_over);
    json_t *copy = *out_under ? json_deep_copy(*out_under) : json_object();
    json_decref(*out_under);
    *out_under = copy;
    json_t *meta = mz_json_member(copy, "proxyMetadata");
    if (!json_object_get(meta, "ISTIO_META_DNS_CAPTURE"))
        (void)json_object_set_new(meta, "ISTIO_META_DNS_CAPTURE", json_string("true"));
    if (b->p->ip6[0] && !json_object_get(meta, "ISTIO_DUAL_STACK"))
        (void)json_object_set_new(meta, "ISTIO_DUAL_STACK", json_string("true"));
    if (json_object_get(copy, "discoveryAddress"))
        return;
    /* By its address: nobody has to be asked for a name before the first request. */
    (void)json_object_set_new(copy, "discoveryAddress", json_sprintf("%s:15012", b->p->host_ip));
    if (!json_object_get(meta, "ISTIOD_SAN"))
        (void)json_object_set_new(
            meta, "ISTIOD_SAN",
            json_sprintf("istiod.%.*s.svc", MZ_STR_ARG(b->p->folder->model->mesh.root_ns)));
}

static json_t *mesh_config(void *arg)
{
    return mz_inject_mesh(((struct building *)arg)->p->folder->model);
}

static bool inject(struct building *b)
{
    const struct mz_mesh *m = &b->p->folder->model->mesh;
    const struct mz_inject_owner owner = { b->w->api, b->w->kind_name, b->w->name, b->w->ns };
    struct mz_arena *a = b->s->arena;
    struct mz_inject_opts o;
    mz_inject_opts_init(&o);
    o.ca_address = mz_arena_printf(a, "%s:15012", b->p->host_ip).p;
    o.trust_domain = o.mesh_id = mz_arena_dup(a, m->trust_domain).p;
    o.cluster_id = mz_arena_dup(a, m->cluster_id).p;
    o.config = layers;
    o.config_arg = b;
    o.mesh = mesh_config;
    const enum mz_injected r = mz_inject_pod(b->s->object, &o, &owner, b->err);
    b->s->injected = r == MZ_INJECT_DONE;
    return r != MZ_INJECT_FAILED;
}

static void make_object(struct building *b)
{
    json_t *from =
        (json_t *)(uintptr_t)b->w->template; /* jansson's getters want it so; it is only read */
    json_t *pod = json_pack("{s:s, s:s, s:o, s:o}", "apiVersion", "v1", "kind", "Pod", "metadata",
                            json_deep_copy(json_object_get(from, "metadata")) ?: json_object(),
                            "spec", json_deep_copy(json_object_get(from, "spec")));
    json_t *meta = json_object_get(pod, "metadata");
    (void)json_object_set_new(meta, "name", json_string(b->p->name));
    (void)json_object_set_new(meta, "namespace", json_string(b->w->ns));
    (void)mz_json_member(meta, "labels");
    if (b->w->kind != MZ_MESH_POD)
        (void)json_object_set_new(meta, "ownerReferences",
                                  json_pack("[{s:s, s:s, s:s, s:b}]", "apiVersion", b->w->api,
                                            "kind", b->w->kind_name, "name", b->w->name,
                                            "controller", 1));
    b->s->object = pod;
}

static void complete_object(struct building *b)
{
    json_t *spec = json_object_get(b->s->object, "spec");
    b->s->account = mz_json_text(spec, "serviceAccountName", NULL);
    if (!b->s->account) {
        (void)json_object_set_new(spec, "serviceAccountName", json_string("default"));
        b->s->account = mz_json_text(spec, "serviceAccountName", "default");
    }
    (void)json_object_set_new(spec, "nodeName", json_string(b->p->node));
    (void)json_object_set_new(b->s->object, "status",
                              json_pack("{s:s, s:s, s:[{s:s}]}", "hostIP", b->p->host_ip, "podIP",
                                        b->p->ip, "podIPs", "ip", b->p->ip));
    if (b->p->ip6[0])
        (void)json_array_append_new(mz_json_at(b->s->object, "status", "podIPs", NULL),
                                    json_pack("{s:s}", "ip", b->p->ip6));
}

/* ---- programs ---- */

static const char *in_folder(struct mz_arena *a, struct mz_str folder, const char *name)
{
    const char *path = mz_arena_printf(a, "%.*s/%s", MZ_STR_ARG(folder), name).p;
    return access(path, X_OK) == 0 ? path : NULL;
}

/* A path is of the folder of documents; a name is looked for beside our own programs, then in PATH. */
static const char *program(const struct building *b, const char *name)
{
    struct mz_arena *a = b->s->arena;
    const char *search = "/usr/local/bin:/usr/bin:/bin", *found = NULL;
    if (name[0] == '/')
        return access(name, X_OK) == 0 ? name : NULL;
    if (strchr(name, '/'))
        return in_folder(a, mz_str_c(b->p->folder->dir), name);
    for (char *const *e = b->p->env; *e; e++)
        if (strncmp(*e, "PATH=", 5) == 0)
            search = *e + 5;
    struct mz_str rest = mz_str_c(search), one;
    found = in_folder(a, mz_str_c(b->p->bin), name);
    while (!found && mz_str_split(&rest, ':', &one))
        found = in_folder(a, one, name);
    return found;
}

/* ---- one container ---- */

struct words {
    MZ_VEC(const char *) v;
};

static void add_word(struct words *w, const char *s)
{
    *mz_vec_push(&w->v, MZ_MEM_CONFIG) = s;
}

static void add_words(struct words *w, const struct mz_mesh_env *env, json_t *list, size_t from)
{
    for (size_t i = from; i < json_array_size(list); i++)
        add_word(w, mz_mesh_env_expand(env, json_string_value(json_array_get(list, i)) ?: ""));
}

static const char *const *keep_words(struct words *w, struct mz_arena *a)
{
    const char **all = mz_arena_alloc(a, (w->v.n + 1) * sizeof(*all));
    for (size_t i = 0; i < w->v.n; i++)
        all[i] = w->v.v[i];
    all[w->v.n] = NULL;
    mz_vec_free(&w->v, MZ_MEM_CONFIG);
    return all;
}

static enum mz_mesh_role role_of(const struct building *b, json_t *c, bool init)
{
    const char *name = mz_json_text(c, "name", ""),
               *arg = json_string_value(json_array_get(json_object_get(c, "args"), 0)) ?: "";
    if (b->s->injected && strcmp(name, "istio-init") == 0 && strcmp(arg, "istio-iptables") == 0)
        return MZ_MESH_CAPTURE;
    if (b->s->injected && strcmp(name, "istio-proxy") == 0 && !json_object_get(c, "command"))
        return MZ_MESH_PROXY;
    if (!init)
        return MZ_MESH_APP;
    return strcmp(mz_json_text(c, "restartPolicy", ""), "Always") == 0 ? MZ_MESH_SIDECAR
                                                                       : MZ_MESH_INIT;
}

static bool read_command(struct building *b, json_t *c, const struct mz_mesh_env *env,
                         struct mz_mesh_container_spec *out)
{
    struct words w = { 0 };
    json_t *command = json_object_get(c, "command"), *args = json_object_get(c, "args");
    const bool ours = out->role == MZ_MESH_PROXY || out->role == MZ_MESH_CAPTURE;
    if (!ours && !json_array_size(command))
        return mz_err_set(b->err,
                          "command: is missing; images are not pulled here: it names a program of "
                          "this machine");
    if (ours) {
        add_word(&w, "mizzen-agent");
        if (out->role == MZ_MESH_CAPTURE)
            add_word(&w, "iptables");
        add_words(&w, env, args, out->role == MZ_MESH_CAPTURE);
        if (out->role == MZ_MESH_CAPTURE) { /* applications and proxies are of one user here */
            add_word(&w, "--proxy-uid");
            add_word(&w, "none");
        }
    } else {
        add_words(&w, env, command, 0);
        add_words(&w, env, args, 0);
    }
    const char *name = w.v.n ? w.v.v[0] : "", *path = program(b, name);
    if (path && w.v.n)
        w.v.v[0] = path;
    out->argv = keep_words(&w, b->s->arena);
    return path ? true
                : mz_err_set(b->err, "command: there is no program \"%.200s\"%s", name,
                             strchr(name, '/') ? "" : " beside mizzenctl or in PATH");
}

/* PATH with our programs first, what sanitizers read, and nothing else of `up`'s own. */
static void start_env(struct building *b, struct mz_mesh_env *env)
{
    const char *path = "/usr/local/bin:/usr/bin:/bin";
    for (char *const *e = b->p->env; *e; e++) {
        const char *eq = strchr(*e, '=');
        if (eq && eq - *e >= 11 && strncmp(eq - 11, "SAN_OPTIONS", 11) == 0)
            mz_mesh_env_set(
                env, mz_arena_dup(env->arena, (struct mz_str){ *e, (size_t)(eq - *e) }).p, eq + 1);
        if (strncmp(*e, "PATH=", 5) == 0)
            path = eq + 1;
        if (strncmp(*e, "HOME=", 5) == 0 || strncmp(*e, "LANG=", 5) == 0)
            mz_mesh_env_set(env, mz_arena_dup(env->arena, (struct mz_str){ *e, 4 }).p, eq + 1);
    }
    mz_mesh_env_set(env, "PATH", mz_arena_printf(env->arena, "%s:%s", b->p->bin, path).p);
    mz_mesh_env_set(env, "HOSTNAME", b->s->name);
    mz_mesh_env_set(env, "XTABLES_LOCKFILE",
                    mz_arena_printf(env->arena, "%s/xtables.lock", b->s->work).p);
}

static const struct {
    const char *name;
    unsigned bit;
    bool usual; /* what containers have that ask for nothing */
} capabilities[] = {
    { "CHOWN", CAP_CHOWN, true },
    { "DAC_OVERRIDE", CAP_DAC_OVERRIDE, true },
    { "DAC_READ_SEARCH", CAP_DAC_READ_SEARCH, false },
    { "FOWNER", CAP_FOWNER, true },
    { "FSETID", CAP_FSETID, true },
    { "KILL", CAP_KILL, true },
    { "NET_ADMIN", CAP_NET_ADMIN, false },
    { "NET_BIND_SERVICE", CAP_NET_BIND_SERVICE, true },
    { "NET_RAW", CAP_NET_RAW, true },
    { "SETFCAP", CAP_SETFCAP, true },
    { "SETGID", CAP_SETGID, true },
    { "SETPCAP", CAP_SETPCAP, true },
    { "SETUID", CAP_SETUID, true },
    { "SYS_ADMIN", CAP_SYS_ADMIN, false },
    { "SYS_CHROOT", CAP_SYS_CHROOT, true },
    { "SYS_PTRACE", CAP_SYS_PTRACE, false },
};

static uint64_t caps_named(json_t *list)
{
    size_t at;
    json_t *one;
    uint64_t bits = 0;
    json_array_foreach(list, at, one) for (size_t i = 0; i < MZ_COUNT(capabilities); i++)
    {
        const char *name = json_string_value(one) ?: "";
        name += strncmp(name, "CAP_", 4) == 0 ? 4 : 0;
        if (strcmp(name, "ALL") == 0 || strcmp(name, capabilities[i].name) == 0)
            bits |= UINT64_C(1) << capabilities[i].bit;
    }
    return bits;
}

/* A proxy must find its program and files in folders that are only its user's: root without rights of others' would not. */
static uint64_t caps_of(enum mz_mesh_role role, json_t *c)
{
    json_t *caps = mz_json_at(c, "securityContext", "capabilities", NULL);
    uint64_t bits = 0;
    if (role == MZ_MESH_CAPTURE)
        return ~UINT64_C(0);
    for (size_t i = 0; i < MZ_COUNT(capabilities); i++)
        bits |= (uint64_t)capabilities[i].usual << capabilities[i].bit;
    bits &= ~caps_named(json_object_get(caps, "drop"));
    bits |= caps_named(json_object_get(caps, "add"));
    return bits | (role == MZ_MESH_PROXY ? UINT64_C(1) << CAP_DAC_READ_SEARCH : 0);
}

/* ---- probes ---- */

static bool probe_port(struct building *b, json_t *c, json_t *where, uint16_t *out)
{
    json_t *port = json_object_get(where, "port"), *ports = json_object_get(c, "ports"), *one;
    json_int_t number = json_integer_value(port);
    const char *name = json_string_value(port);
    uint64_t text = 0;
    size_t at;
    if (name && mz_str_u64(mz_str_c(name), &text))
        number = text <= UINT16_MAX ? (json_int_t)text : 0;
    else if (name)
        json_array_foreach(ports, at, one) if (strcmp(mz_json_text(one, "name", ""), name) == 0)
            number = mz_json_number(one, "containerPort", 0);
    if (number <= 0 || number > UINT16_MAX)
        return mz_err_set(b->err, "port: \"%.60s\" is neither a number nor a port's name",
                          name ? name : "");
    *out = (uint16_t)number;
    return true;
}

static bool clean(const char *s) /* no byte that ends a line of the request */
{
    for (; *s; s++)
        if ((unsigned char)*s <= ' ' || *s == 127)
            return false;
    return true;
}

static bool http_probe(struct building *b, json_t *http, struct mz_mesh_probe_spec *out)
{
    struct mz_arena *a = b->s->arena;
    const char *path = mz_json_text(http, "path", "/"), *host = b->p->ip, *more = "";
    size_t at;
    json_t *one;
    if (strcasecmp(mz_json_text(http, "scheme", "HTTP"), "HTTP") != 0)
        return mz_err_set(b->err, "httpGet.scheme: HTTPS needs an agent in the pod, which asks");
    json_array_foreach(json_object_get(http, "httpHeaders"), at, one)
    {
        const char *name = mz_json_text(one, "name", ""), *value = mz_json_text(one, "value", "");
        if (strpbrk(value, "\r\n") || !clean(name) || !name[0])
            return mz_err_set(b->err, "httpGet.httpHeaders[%zu]: is no header", at);
        if (strcasecmp(name, "host") == 0)
            host = value;
        else
            more = mz_arena_printf(a, "%s%s: %s\r\n", more, name, value).p;
    }
    if (!clean(path) || !clean(host))
        return mz_err_set(b->err, "httpGet.path: blanks and control characters");
    out->kind = MZ_MESH_PROBE_HTTP;
    out->request = mz_arena_printf(a,
                                   "GET %s%s HTTP/1.1\r\nhost: %s\r\nuser-agent: "
                                   "mizzen-probe\r\n%sconnection: close\r\n\r\n",
                                   path[0] == '/' ? "" : "/", path, host, more)
                       .p;
    return true;
}

static bool read_probe(struct building *b, json_t *c, const char *name,
                       struct mz_mesh_probe_spec *out)
{
    json_t *p = json_object_get(c, name), *http = json_object_get(p, "httpGet"),
           *tcp = json_object_get(p, "tcpSocket"),
           *command = mz_json_at(p, "exec", "command", NULL);
    struct words w = { 0 };
    bool ok = true;
    *out = (struct mz_mesh_probe_spec){ .kind = MZ_MESH_PROBE_NONE };
    if (!p)
        return true;
    out->delay_ms = (unsigned)mz_json_number(p, "initialDelaySeconds", 0) * 1000;
    out->period_ms = (unsigned)mz_json_number(p, "periodSeconds", 10) * 1000;
    out->timeout_ms = (unsigned)mz_json_number(p, "timeoutSeconds", 1) * 1000;
    out->failures = (unsigned)mz_json_number(p, "failureThreshold", 3);
    out->successes = (unsigned)mz_json_number(p, "successThreshold", 1);
    if (!out->period_ms || !out->timeout_ms || out->period_ms > 86400000 ||
        out->timeout_ms > 3600000)
        ok = mz_err_set(b->err, "periodSeconds, timeoutSeconds: from 1 second to a day, an hour");
    else if (http)
        ok = http_probe(b, http, out) && probe_port(b, c, http, &out->port);
    else if (tcp) {
        out->kind = MZ_MESH_PROBE_TCP;
        ok = probe_port(b, c, tcp, &out->port);
    } else if (json_array_size(command)) {
        const struct mz_mesh_env none = { .arena = b->s->arena };
        add_words(&w, &none, command, 0);
        const char *word = w.v.n ? w.v.v[0] : "", *path = program(b, word);
        ok = path ? true : mz_err_set(b->err, "exec: there is no program \"%.200s\"", word);
        if (path && w.v.n)
            w.v.v[0] = path;
        out->kind = MZ_MESH_PROBE_EXEC;
        out->argv = keep_words(&w, b->s->arena);
    } else {
        ok =
            mz_err_set(b->err, "httpGet, tcpSocket or exec is needed (grpc: in pods with a proxy)");
    }
    return ok || mz_err_at(b->err, "%s", name);
}

/* ---- all ---- */

static bool add_container(struct building *b, json_t *c, bool init)
{
    struct mz_mesh_pod_spec *s = b->s;
    struct mz_mesh_env env = { .arena = s->arena };
    struct mz_mesh_container_spec *o = &s->v[s->n];
    const char *dir = mz_json_text(c, "workingDir", "");
    struct words w = { 0 };
    *o = (struct mz_mesh_container_spec){ .name = mz_json_text(c, "name", "") };
    o->role = role_of(b, c, init);
    o->gid = o->role == MZ_MESH_PROXY ? MZ_MESH_PROXY_GID : 0;
    o->caps = caps_of(o->role, c);
    o->dir = o->role == MZ_MESH_PROXY || o->role == MZ_MESH_CAPTURE ? s->work
             : dir[0] == '/'                                        ? dir
                             : mz_arena_printf(s->arena, "%s/%s", b->p->folder->dir, dir).p;
    if (!o->name[0] || strchr(o->name, '/'))
        return mz_err_set(b->err, "containers: \"%.60s\" is no name", o->name);
    start_env(b, &env);
    bool ok = mz_mesh_env_read(&env, s->object, c, b->p->folder, b->err) &&
              read_command(b, c, &env, o) && read_probe(b, c, "startupProbe", &o->startup) &&
              read_probe(b, c, "readinessProbe", &o->readiness) &&
              read_probe(b, c, "livenessProbe", &o->liveness);
    mz_vec_foreach (line, &env.v)
        add_word(&w, *line);
    o->env = keep_words(&w, s->arena);
    mz_vec_free(&env.v, MZ_MEM_CONFIG);
    s->n++;
    return ok || mz_err_at(b->err, "container %s", o->name);
}

/* Init containers as they stand; then proxies, then who waits for them. */
static bool add_containers(struct building *b)
{
    json_t *spec = json_object_get(b->s->object, "spec"),
           *init = json_object_get(spec, "initContainers"),
           *main = json_object_get(spec, "containers"), *c;
    size_t at;
    b->s->v = mz_arena_alloc0(b->s->arena, (json_array_size(init) + json_array_size(main) + 1) *
                                               sizeof(*b->s->v));
    json_array_foreach(init, at, c) if (!add_container(b, c, true)) return false;
    for (int proxies = 1; proxies >= 0; proxies--)
        json_array_foreach(main, at,
                           c) if ((role_of(b, c, false) == MZ_MESH_PROXY) == (proxies == 1) &&
                                  !add_container(b, c, false)) return false;
    return json_array_size(main) ? true : mz_err_set(b->err, "spec.containers: is empty");
}

static bool read_spec(struct building *b)
{
    json_t *spec = json_object_get(b->s->object, "spec");
    const json_int_t grace = mz_json_number(spec, "terminationGracePeriodSeconds", 30);
    const char *restart =
        mz_json_text(spec, "restartPolicy", b->w->kind == MZ_MESH_JOB ? "OnFailure" : "Always");
    b->s->grace_ms = grace >= 0 && grace < 86400 ? (unsigned)grace * 1000 : 30000;
    b->s->restart = strcmp(restart, "Always") == 0      ? MZ_MESH_ALWAYS
                    : strcmp(restart, "OnFailure") == 0 ? MZ_MESH_ON_FAILURE
                                                        : MZ_MESH_NEVER;
    b->s->gateway = strcmp(mz_json_text(mz_json_at(b->s->object, "metadata", "annotations", NULL),
                                        "inject.istio.io/templates", ""),
                           "gateway") == 0;
    return true;
}

struct mz_mesh_pod_spec *mz_mesh_pod_spec(const struct mz_mesh_workload *w,
                                          const struct mz_mesh_place *p, struct mz_err *err)
{
    struct mz_mesh_pod_spec *s = mz_new0(MZ_MEM_CONFIG, struct mz_mesh_pod_spec);
    struct building b = { .w = w, .p = p, .s = s, .err = err };
    s->arena = mz_arena_create(MZ_MEM_CONFIG);
    s->ns = mz_arena_dup(s->arena, mz_str_c(w->ns)).p;
    s->name = mz_arena_dup(s->arena, mz_str_c(p->name)).p;
    s->ip = mz_arena_dup(s->arena, mz_str_c(p->ip)).p;
    s->ip6 = mz_arena_dup(s->arena, mz_str_c(p->ip6)).p;
    s->work = mz_arena_dup(s->arena, mz_str_c(p->work)).p;
    make_object(&b);
    bool ok = !w->inject || inject(&b);
    if (ok) {
        complete_object(&b);
        ok = read_spec(&b) && add_containers(&b);
    }
    if (ok)
        return s;
    (void)mz_mesh_doc_err(w->doc, err);
    mz_mesh_pod_spec_destroy(s);
    return NULL;
}

void mz_mesh_pod_spec_destroy(struct mz_mesh_pod_spec *s)
{
    if (!s)
        return;
    json_decref(s->object);
    mz_arena_destroy(s->arena);
    mz_free(MZ_MEM_CONFIG, s);
}
