#include "control/inject/inject.h"

#include <stdlib.h>

#include "control/inject/annotations.h"
#include "control/inject/templates_priv.h"

void mz_inject_opts_init(struct mz_inject_opts *o)
{
    *o = (struct mz_inject_opts){ .ca_address = "istiod.istio-system.svc:15012",
                                  .cluster_id = "Kubernetes",
                                  .mesh_id = "cluster.local",
                                  .trust_domain = "cluster.local",
                                  .revision = "default",
                                  .domain = "cluster.local",
                                  .status_port = 15020 };
}

const char *annotation(const struct injection *i, const char *name, const char *otherwise)
{
    const char *s = json_string_value(json_object_get(i->annotations, name));
    return s ? s : otherwise;
}

static json_t *member(json_t *object, const char *name, json_t *(*make)(void))
{
    json_t *v = json_object_get(object, name);
    if (!v || json_is_null(v)) {
        (void)json_object_set_new(object, name, make()); /* only without memory, as all below */
        v = json_object_get(object, name);
    }
    return v;
}

/* ---- who ---- */

static bool is_wanted(const struct injection *i)
{
    static const char *const system[] = { "kube-system", "kube-public", "kube-node-lease",
                                          "local-path-storage" };
    json_t *meta = json_object_get(i->pod, "metadata");
    const char *name = "sidecar.istio.io/inject";
    const char *label = json_string_value(json_object_get(json_object_get(meta, "labels"), name)),
               *note =
                   json_string_value(json_object_get(json_object_get(meta, "annotations"), name));
    const char *word = label ? label : note ? note : "";
    for (size_t k = 0; k < 4; k++)
        if (strcmp(i->owner->ns, system[k]) == 0)
            return false;
    if (json_is_true(json_object_get(i->spec, "hostNetwork")))
        return false;
    if (json_object_get(json_object_get(meta, "annotations"), "sidecar.istio.io/status"))
        return false; /* it has one */
    if (strcmp(word, "true") == 0 || strcmp(word, "false") == 0)
        return word[0] == 't';
    return templates_policy(i, json_object_get(meta, "labels")); /* other words say nothing */
}

/* ---- merging ---- */

static json_t *by_key(json_t *list, const char *key, json_t *value)
{
    size_t at;
    json_t *one;
    json_array_foreach(list, at, one) if (json_equal(json_object_get(one, key), value)) return one;
    return NULL;
}

/* Lists of objects are merged by what names their elements, as Kubernetes does. */
static const struct {
    const char *list, *key;
} keys[] = { { "ports", "containerPort" }, { "env", "name" }, { "volumeMounts", "mountPath" } };

static void merge(json_t *into, json_t *from);

static void merge_lists(json_t *into, json_t *from, const char *key)
{
    size_t at;
    json_t *one;
    json_array_foreach(from, at, one)
    {
        json_t *same = by_key(into, key, json_object_get(one, key));
        if (same)
            merge(same, one);
        else
            (void)json_array_append(into, one);
    }
}

static void merge(json_t *into, json_t *from)
{
    const char *name;
    json_t *value;
    json_object_foreach(from, name, value)
    {
        json_t *have = json_object_get(into, name);
        const char *key = NULL;
        for (size_t i = 0; i < 3; i++)
            if (strcmp(keys[i].list, name) == 0)
                key = keys[i].key;
        if (key && json_is_array(have) && json_is_array(value))
            merge_lists(have, value, key);
        else if (json_is_object(have) && json_is_object(value))
            merge(have, value);
        else
            (void)json_object_set(into, name, value);
    }
}

/* ---- the pod ---- */

static json_t *names_of(json_t *list)
{
    json_t *out = json_array(), *one;
    size_t at;
    json_array_foreach(list, at, one)(void) json_array_append(out, json_object_get(one, "name"));
    return out;
}

void set_text(json_t *map, const char *name, const char *value, bool keep)
{
    if (!keep || !json_object_get(map, name))
        (void)json_object_set_new(map, name, json_string(value));
}

static json_t *named(json_t *list, const char *name)
{
    size_t at;
    json_t *one;
    json_array_foreach(list, at, one)
    {
        const char *its = json_string_value(json_object_get(one, "name"));
        if (its && strcmp(its, name) == 0)
            return one;
    }
    return NULL;
}

/* Out of the list; the caller's then. */
static json_t *take_named(json_t *list, const char *name)
{
    json_t *one = json_incref(named(list, name));
    for (size_t at = 0; one && at < json_array_size(list); at++)
        if (json_array_get(list, at) == one) {
            (void)json_array_remove(list, at);
            break;
        }
    return one;
}

/* The pod's own settings of a container that is ours are remembered for the next injection. */
static void remember(json_t *notes, const char *list, json_t *own)
{
    const char *had = json_string_value(json_object_get(notes, "proxy.istio.io/overrides"));
    json_t *all = had ? json_loads(had, 0, NULL) : NULL, *kept = json_deep_copy(own);
    if (!all)
        all = json_object();
    if (!json_object_get(kept, "resources"))
        (void)json_object_set_new(kept, "resources", json_object());
    json_t *to = member(all, list, json_array);
    json_decref(take_named(to, json_string_value(json_object_get(kept, "name"))));
    (void)json_array_insert_new(to, 0, kept);
    char *text = json_dumps(all, JSON_COMPACT);
    set_text(notes, "proxy.istio.io/overrides", text ? text : "{}", false);
    free(text);
    json_decref(all);
}

/* What the pod says of its proxy's container wins; what that was is remembered. */
static void add_proxy(struct injection *i, json_t *containers, json_t *init, json_t *proxy,
                      json_t *notes)
{
    size_t at = 0;
    json_t *one, *own = NULL;
    json_array_foreach(containers, at, one)
    {
        const char *name = json_string_value(json_object_get(one, "name"));
        if (name && strcmp(name, INJECT_PROXY) == 0) {
            own = json_incref(one);
            break;
        }
    }
    if (own) {
        const char *image = json_string_value(json_object_get(own, "image"));
        json_t *kept = json_deep_copy(own);
        if (image && strcmp(image, "auto") == 0)
            (void)json_object_del(kept, "image");
        merge(proxy, kept);
        remember(notes, i->native ? "initContainers" : "containers", kept);
        i->own_proxy = kept; /* until the pod is done */
        (void)json_array_set(containers, at, proxy);
        if (i->native)
            (void)json_array_remove(containers, at);
    }
    if (i->native) { /* the network is made ready by the first, for all that follow */
        (void)json_array_insert(init, 0, proxy);
    } else if (own) {
        ;
    } else if (applications_wait(i)) {
        (void)json_array_insert(containers, 0, proxy);
    } else {
        (void)json_array_append(containers, proxy);
    }
    json_decref(own);
}

/* Traffic of the proxy's user is not sent to the proxy; whoever runs it as another user says so in its container. */
static void set_user(const struct injection *i, json_t *init, json_t *proxy, const json_t *said)
{
    static const char *const ids[] = { "runAsUser", "runAsGroup" };
    const json_t *rights = json_object_get(said, "securityContext"),
                 *own = json_object_get(rights, ids[0]);
    const bool checks =
                   strcmp(json_string_value(json_object_get(init, "name")), INJECT_VALIDATION) == 0,
               tproxy = strcmp(template_mode(i), "TPROXY") == 0;
    json_t *args = json_object_get(init, "args");
    char text[24];
    for (size_t k = 0; k < 2 && checks && !tproxy; k++)
        if (json_is_integer(json_object_get(rights, ids[k])))
            (void)json_object_set(member(init, "securityContext", json_object), ids[k],
                                  json_object_get(rights, ids[k]));
    if (!json_is_integer(own))
        return;
    if (tproxy) /* it works as root only */
        (void)json_object_set_new(json_object_get(proxy, "securityContext"), ids[0],
                                  json_integer(0));
    (void)snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, json_integer_value(own));
    for (size_t k = 0; json_integer_value(own) && k + 1 < json_array_size(args); k++) {
        const char *said_user = json_string_value(json_array_get(args, k));
        if (said_user && strcmp(said_user, "-u") == 0)
            (void)json_array_set_new(args, k + 1, json_string(text));
    }
}

static void add_init(const struct injection *i, json_t *containers, json_t *list, json_t *proxy,
                     json_t *notes)
{
    json_t *init = template_init(i), *own = take_named(list, INJECT_INIT);
    if (!own)
        own = take_named(containers, INJECT_INIT);
    if (own) {
        const char *image = json_string_value(json_object_get(own, "image"));
        if (image && strcmp(image, "auto") == 0)
            (void)json_object_del(own, "image");
        merge(init, own);
        remember(notes, "initContainers", own);
    }
    set_user(i, init, proxy, i->own_proxy);
    (void)json_array_insert_new(list, i->native ? 0 : json_array_size(list), init);
    json_decref(own);
}

static const char *label_of(json_t *labels, const char *const *names, size_t n,
                            const char *otherwise)
{
    for (size_t i = 0; i < n; i++) {
        const char *v = json_string_value(json_object_get(labels, names[i]));
        if (v && v[0])
            return v;
    }
    return otherwise;
}

enum { MAX_LABEL = 63 }; /* bytes of a value (Kubernetes) */

static void add_labels(const struct injection *i, json_t *labels)
{
    static const char *const names[] = { "service.istio.io/canonical-name",
                                         "app.kubernetes.io/name", "app" },
                             *const versions[] = { "service.istio.io/canonical-revision",
                                                   "app.kubernetes.io/version", "version" };
    if (!i->gateway)
        set_text(labels, "security.istio.io/tlsMode", "istio", true);
    const char *name = label_of(labels, names, 3, i->owner->name);
    size_t n = strlen(name);
    if (n > MAX_LABEL) /* nor may it end in a sign */
        for (n = MAX_LABEL; n && strchr("-_.", name[n - 1]);)
            n--;
    if (!json_object_get(labels, names[0]))
        (void)json_object_set_new(labels, names[0], json_stringn(name, n));
    set_text(labels, versions[0], label_of(labels, versions, 3, "latest"), true);
}

unsigned status_port(const struct injection *i)
{
    const json_int_t said = json_integer_value(json_object_get(i->config, "statusPort"));
    return said > 0 && said <= UINT16_MAX ? (unsigned)said : i->o->status_port;
}

/* Something sends the pod's traffic to the proxy. */
static bool has_init(const struct injection *i)
{
    return !i->gateway && strcmp(template_mode(i), "NONE") != 0;
}

static void add_status(const struct injection *i, json_t *notes, json_t *volumes)
{
    json_t *names = names_of(volumes);
    json_t *init = json_array();
    if (has_init(i))
        (void)json_array_append_new(init, json_string(INJECT_INIT));
    if (i->native)
        (void)json_array_append_new(init, json_string(INJECT_PROXY));
    json_t *s = json_pack("{s:o?, s:o, s:o, s:n, s:s}", "initContainers",
                          json_array_size(init) ? init : json_null(), "containers",
                          i->native ? json_null() : json_pack("[s]", INJECT_PROXY), "volumes",
                          names, "imagePullSecrets", "revision", i->o->revision);
    if (!json_array_size(init))
        json_decref(init);
    char *text = json_dumps(s, JSON_COMPACT);
    set_text(notes, "sidecar.istio.io/status", text ? text : "{}", false);
    free(text);
    json_decref(s);
}

/* The last of that name; none where @value is NULL. */
static void env_last(json_t *container, const char *name, const char *value)
{
    if (!value || !value[0])
        return;
    json_decref(take_named(json_object_get(container, "env"), name));
    env_add(container, name, value);
}

/* Where the proxy is, by the injector's values and the pod's label, goes over what templates say. */
static void set_place(const struct injection *i, json_t *proxy)
{
    const char *name = "topology.istio.io/network";
    json_t *labels = member(member(i->pod, "metadata", json_object), "labels", json_object);
    const char *network = json_string_value(json_object_get(labels, name));
    if (!network)
        network = json_string_value(templates_value(i, "global.network"));
    env_last(proxy, "ISTIO_META_CLUSTER_ID",
             json_string_value(templates_value(i, "global.multiCluster.clusterName")));
    env_last(proxy, "ISTIO_META_NETWORK", network);
    if (network && network[0])
        set_text(labels, name, network, true);
}

static void add_defaults(const struct injection *i, json_t *notes)
{
    size_t at;
    json_t *c;
    set_text(notes, "istio.io/rev", i->o->revision, false);
    json_array_foreach(json_object_get(i->spec, "containers"), at, c)
    {
        const char *name = json_string_value(json_object_get(c, "name"));
        if (!name || strcmp(name, INJECT_PROXY) == 0)
            continue;
        set_text(notes, "kubectl.kubernetes.io/default-logs-container", name, true);
        set_text(notes, "kubectl.kubernetes.io/default-container", name, true);
        return;
    }
}

static bool apply(struct injection *i)
{
    json_t *meta = member(i->pod, "metadata", json_object),
           *labels = member(meta, "labels", json_object),
           *notes = member(meta, "annotations", json_object),
           *containers = member(i->spec, "containers", json_array);
    json_t *volumes = template_volumes(i, "volumes"), *proxy = volumes ? template_proxy(i) : NULL;
    if (!proxy) {
        json_decref(volumes);
        return false;
    }
    set_place(i, proxy);
    char *probers = i->gateway ? NULL : probes_rewrite(i);
    add_defaults(i, notes);
    if (probers)
        env_add(proxy, "ISTIO_KUBE_APP_PROBERS", probers);
    free(probers);
    if (!scrape_add(i, notes, proxy)) {
        json_decref(volumes);
        json_decref(proxy);
        return false;
    }
    json_t *init = i->gateway ? NULL : member(i->spec, "initContainers", json_array);
    add_proxy(i, containers, init, proxy, notes);
    if (has_init(i))
        add_init(i, containers, init, proxy, notes);
    else if (i->gateway &&
             !json_object_get(member(i->spec, "securityContext", json_object), "sysctls"))
        (void)json_object_set_new(
            json_object_get(i->spec, "securityContext"), "sysctls",
            json_pack("[{s:s, s:s}]", "name", "net.ipv4.ip_unprivileged_port_start", "value", "0"));
    json_t *own = member(i->spec, "volumes", json_array);
    for (size_t k = 0; k < json_array_size(volumes); k++)
        (void)json_array_insert(own, k, json_array_get(volumes, k));
    add_status(i, notes, volumes);
    add_labels(i, labels);
    json_decref(volumes);
    json_decref(proxy);
    return true;
}

bool mz_inject_native_is_auto(void)
{
    const char *s = getenv("ENABLE_NATIVE_SIDECARS");
    return !s || !s[0] || strcmp(s, "auto") == 0;
}

bool mz_inject_native_from_env(void)
{
    const char *s = getenv("ENABLE_NATIVE_SIDECARS");
    return s && strcmp(s, "true") == 0;
}

static bool is_native(const struct injection *i)
{
    const char *own = annotation(i, "sidecar.istio.io/nativeSidecar", "");
    const char *node = json_string_value(json_object_get(i->spec, "nodeName"));
    if (own[0])
        return strcmp(own, "false") != 0;
    return i->o->native_of ? i->o->native_of(i->o->config_arg, node ? node : "") : i->o->native;
}

static bool read_config(struct injection *i, const char *text)
{
    json_t *own = text ? proxy_config_read(text, i->err) : NULL, *under = NULL, *over = NULL;
    if (text && !own)
        return mz_err_at(i->err, "annotation proxy.istio.io/config");
    if (i->o->config)
        i->o->config(i->o->config_arg, i->owner->ns,
                     json_object_get(json_object_get(i->pod, "metadata"), "labels"), &under, &over);
    json_t *low = proxy_config_merge(under, own);
    i->config = proxy_config_merge(low, over);
    json_decref(low);
    json_decref(own);
    json_decref(under);
    json_decref(over);
    return true;
}

/* ---- templates of one's own ---- */

static json_t *container_of(json_t *spec, const char *list, json_t **out_list, size_t *out_at)
{
    json_t *all = json_object_get(spec, list), *one;
    size_t at;
    json_array_foreach(all, at, one)
    {
        const char *name = json_string_value(json_object_get(one, "name"));
        *out_list = all;
        *out_at = at;
        if (name && strcmp(name, INJECT_PROXY) == 0)
            return one;
    }
    return NULL;
}

static json_t *proxy_of(json_t *spec, json_t **out_list, size_t *out_at)
{
    json_t *c = container_of(spec, "containers", out_list, out_at);
    return c ? c : container_of(spec, "initContainers", out_list, out_at);
}

/* What the pod said of a container that a template has, too, wins, and is remembered. @made: of the templates alone. */
static void keep_own_one(json_t *list, const char *in, const json_t *own, const json_t *made,
                         json_t *notes, bool ours)
{
    const char *image = json_string_value(json_object_get(own, "image"));
    json_t *kept = json_deep_copy(own),
           *to = named(list, json_string_value(json_object_get(own, "name")));
    if (image && strcmp(image, "auto") == 0)
        (void)json_object_del(kept, "image");
    if (to && !ours) { /* what the pod says comes last, in lists, too */
        json_object_clear(to);
        json_t *fresh = json_deep_copy(made);
        (void)json_object_update(to, fresh);
        json_decref(fresh);
    }
    if (to) {
        merge(to, kept);
        remember(notes, in, kept);
    }
    json_decref(kept);
}

/* Where the proxy has become an init container, what the pod said of it is there. */
static void keep_own(struct injection *i, const json_t *original, const json_t *laid, json_t *notes,
                     bool ours)
{
    static const char *const lists[] = { "containers", "initContainers" };
    size_t at;
    json_t *made, *list, *spec = json_object_get(original, "spec");
    const bool said = named(json_object_get(spec, lists[0]), INJECT_PROXY);
    if (said && container_of(i->spec, lists[1], &list, &at) &&
        container_of(i->spec, lists[0], &list, &at))
        (void)json_array_remove(list, at);
    for (size_t k = 0; k < 2; k++)
        for (at = json_array_size(json_object_get(json_object_get(laid, "spec"), lists[k])); at;) {
            made = json_array_get(json_object_get(json_object_get(laid, "spec"), lists[k]), --at);
            const char *name = json_string_value(json_object_get(made, "name"));
            json_t *own = name ? named(json_object_get(spec, lists[0]), name) : NULL;
            if (name && !own && k == 1)
                own = named(json_object_get(spec, lists[1]), name);
            if (own)
                keep_own_one(json_object_get(i->spec, lists[k]), lists[k], own, made, notes, ours);
        }
}

/* The proxy's user is the one that what prepares the network leaves alone, or that checks it. */
static void keep_user(const struct injection *i, const json_t *original)
{
    static const char *const names[] = { INJECT_INIT, INJECT_VALIDATION };
    size_t at;
    json_t *list, *init = NULL, *of = json_object_get(original, "spec"),
                  *proxy = proxy_of(i->spec, &list, &at),
                  *said = container_of(of, "containers", &list, &at);
    for (size_t k = 0; k < 2 && !init; k++)
        init = named(json_object_get(i->spec, "initContainers"), names[k]);
    if (init && proxy && said)
        set_user(i, init, proxy, said);
}

static void move(json_t *list, const char *name, bool first)
{
    json_t *one = take_named(list, name);
    if (one)
        (void)json_array_insert_new(list, first ? 0 : json_array_size(list), one);
}

/* What prepares the network for a proxy that is an init container stands before all, else behind all. */
static void order_init(const struct injection *i, bool native)
{
    json_t *list = json_object_get(i->spec, "initContainers");
    move(list, "enable-core-dump", native);
    if (native)
        move(list, INJECT_PROXY, true);
    move(list, INJECT_VALIDATION, true);
    move(list, INJECT_INIT, native);
    if (!native)
        move(list, "enable-core-dump", false);
}

/* What the code for our own templates does to the pod besides: probes, metrics, the order of containers. */
static bool finish_proxy(struct injection *i, json_t *notes)
{
    size_t at;
    json_t *list = NULL, *proxy = proxy_of(i->spec, &list, &at);
    json_decref(i->annotations); /* a template may have said more */
    i->annotations = json_deep_copy(notes);
    if (proxy) {
        member(proxy, "env", json_array);
        set_place(i, proxy);
    }
    char *probers = proxy ? probes_rewrite(i) : NULL;
    if (probers)
        env_add(proxy, "ISTIO_KUBE_APP_PROBERS", probers);
    free(probers);
    if (!scrape_add(i, notes, proxy))
        return false;
    if (proxy && !json_array_size(json_object_get(proxy, "env")))
        (void)json_object_del(proxy, "env");
    order_init(i, named(json_object_get(i->spec, "initContainers"), INJECT_PROXY) != NULL);
    if (proxy && list == json_object_get(i->spec, "containers"))
        move(list, INJECT_PROXY, applications_wait(i));
    return true;
}

/* The names of what templates added, behind those that are told already. */
static void finish_status(struct injection *i, const json_t *laid, json_t *notes)
{
    static const char *const lists[] = { "initContainers", "containers", "volumes",
                                         "imagePullSecrets" };
    const char *had = json_string_value(json_object_get(notes, "sidecar.istio.io/status"));
    json_t *s = had ? json_loads(had, 0, NULL) : NULL, *spec = json_object_get(laid, "spec"), *one;
    size_t at;
    if (!s)
        s = json_pack("{s:n, s:n, s:n, s:n, s:s}", lists[0], lists[1], lists[2], lists[3],
                      "revision", i->o->revision);
    for (size_t k = 0; k < 4; k++) {
        json_t *names = names_of(json_object_get(spec, lists[k]));
        json_t *to = json_array_size(names) ? member(s, lists[k], json_array) : NULL;
        json_array_foreach(names, at, one)
        {
            bool told = false;
            for (size_t j = 0; j < json_array_size(to); j++)
                told |= json_equal(json_array_get(to, j), one);
            if (!told)
                (void)json_array_append(to, one);
        }
        json_decref(names);
    }
    char *text = json_dumps(s, JSON_COMPACT);
    set_text(notes, "sidecar.istio.io/status", text ? text : "{}", false);
    free(text);
    json_decref(s);
}

static bool finish(struct injection *i, const json_t *original, const json_t *laid, bool ours)
{
    const char *name;
    json_t *value;
    i->spec = json_object_get(i->pod, "spec");
    if (!json_is_object(i->spec))
        return mz_err_set(i->err, "the templates leave no spec");
    json_t *notes = member(member(i->pod, "metadata", json_object), "annotations", json_object);
    keep_own(i, original, laid, notes, ours);
    if (!ours)
        keep_user(i, original);
    if (!ours && !finish_proxy(i, notes))
        return false;
    finish_status(i, laid, notes);
    json_object_foreach(templates_annotations(i), name, value)(void)
        json_object_set(notes, name, value);
    return true;
}

/* Each in its order. Ours stand in the pod, those of one's own are laid over it. */
static bool apply_all(struct injection *i, const struct templates_chosen *c)
{
    json_t *original = json_deep_copy(i->pod), *laid = json_object();
    bool ok = true, ours = false, others = false;
    for (size_t k = 0; ok && k < c->n; k++) {
        const struct mz_gotpl *t = templates_find(i, c->v[k]);
        i->native = is_native(i);
        if (t) {
            ok = templates_apply(i, t, c->v[k], original, laid);
            others = true;
            continue;
        }
        const bool gateway = mz_str_eq(c->v[k], MZ_STR("gateway"));
        if (ours && i->gateway == gateway)
            continue; /* it is named twice */
        i->gateway = gateway;
        i->native &= !i->gateway;
        ok =
            (!ours ||
             mz_err_set(
                 i->err,
                 "annotation inject.istio.io/templates: sidecar and gateway do not go together")) &&
            apply(i);
        ours = true;
    }
    ok = ok && (!others || finish(i, original, laid, ours));
    json_decref(original);
    json_decref(laid);
    return ok;
}

/* A value that its reader could not take would become a pod that does not start. */
static bool check_annotations(const struct injection *i)
{
    const char *name;
    json_t *value;
    struct mz_err why;
    json_object_foreach(i->annotations, name, value)
    {
        const struct mz_str text = { json_string_value(value), json_string_length(value) };
        if (json_is_string(value) && strcmp(name, "proxy.istio.io/config") != 0 &&
            !mz_annotation_check(mz_str_c(name), text, &why))
            return mz_err_set(i->err, "invalid value '%.*s' for annotation '%s': %s",
                              (int)(text.n < 100 ? text.n : 100), text.p, name, why.msg);
    }
    return true;
}

enum mz_injected mz_inject_pod(json_t *pod, const struct mz_inject_opts *o,
                               const struct mz_inject_owner *owner, struct mz_err *err)
{
    json_t *spec = json_object_get(pod, "spec");
    struct injection i = { .o = o, .owner = owner, .pod = pod, .spec = spec, .err = err };
    if (!json_is_object(spec) || !is_wanted(&i))
        return MZ_INJECT_SKIPPED;
    i.mesh = o->mesh ? o->mesh(o->config_arg) : NULL;
    i.annotations =
        json_deep_copy(json_object_get(json_object_get(pod, "metadata"), "annotations"));
    const char *config = annotation(&i, "proxy.istio.io/config", NULL);
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct templates_chosen chosen;
    const bool ok = check_annotations(&i) && templates_choose(&i, a, &chosen) &&
                    read_config(&i, config) && apply_all(&i, &chosen);
    mz_arena_destroy(a);
    json_decref(i.mesh);
    json_decref(i.config);
    json_decref(i.annotations);
    json_decref(i.own_proxy);
    return ok ? MZ_INJECT_DONE : MZ_INJECT_FAILED;
}

/* ---- documents ---- */

static const char *text_of(json_t *object, const char *name, const char *otherwise)
{
    const char *s = json_string_value(json_object_get(object, name));
    return s ? s : otherwise;
}

/* The object in which a pod is described. */
static json_t *pod_of(json_t *object, const char *kind)
{
    static const char *const makers[] = { "Deployment",      "ReplicaSet", "StatefulSet",
                                          "DaemonSet",       "Job",        "ReplicationController",
                                          "DeploymentConfig" };
    json_t *spec = json_object_get(object, "spec");
    if (strcmp(kind, "Pod") == 0)
        return object;
    for (size_t i = 0; i < sizeof(makers) / sizeof(*makers); i++)
        if (strcmp(kind, makers[i]) == 0)
            return json_object_get(spec, "template");
    return NULL;
}

static enum mz_injected inject_list(json_t *items, const struct mz_inject_opts *o,
                                    struct mz_err *err)
{
    enum mz_injected all = MZ_INJECT_SKIPPED;
    size_t at;
    json_t *one;
    json_array_foreach(items, at, one)
    {
        const enum mz_injected r = mz_inject_object(one, o, err);
        if (r != MZ_INJECT_SKIPPED && all != MZ_INJECT_FAILED)
            all = r;
    }
    return all;
}

/* Labels and annotations of a CronJob's pods are those of its jobs, as the field's tool has it. */
static enum mz_injected inject_cron_job(json_t *object, const struct mz_inject_opts *o,
                                        const struct mz_inject_owner *owner, struct mz_err *err)
{
    json_t *job = json_object_get(json_object_get(object, "spec"), "jobTemplate"),
           *pod = json_object_get(json_object_get(job, "spec"), "template");
    json_t *view = json_pack("{s:O?, s:O?}", "metadata", json_object_get(job, "metadata"), "spec",
                             json_object_get(pod, "spec"));
    const enum mz_injected r = mz_inject_pod(view, o, owner, err);
    if (r == MZ_INJECT_DONE) {
        (void)json_object_set(job, "metadata", json_object_get(view, "metadata"));
        (void)json_object_set(pod, "spec", json_object_get(view, "spec"));
    }
    json_decref(view);
    return r;
}

enum mz_injected mz_inject_object(json_t *object, const struct mz_inject_opts *o,
                                  struct mz_err *err)
{
    const char *kind = text_of(object, "kind", "");
    json_t *meta = json_object_get(object, "metadata"), *pod = pod_of(object, kind);
    struct mz_inject_owner owner = { text_of(object, "apiVersion", "v1"), kind,
                                     text_of(meta, "name", ""),
                                     text_of(meta, "namespace", "default") };
    char name[MZ_INJECT_NAME];
    const bool cron = strcmp(kind, "CronJob") == 0;
    if (strcmp(kind, "List") == 0 && json_is_array(json_object_get(object, "items")))
        return inject_list(json_object_get(object, "items"), o, err);
    if (!json_is_object(pod) && !cron)
        return MZ_INJECT_SKIPPED;
    if (pod == object)
        mz_inject_owner_of_pod(pod, owner.ns, name, &owner);
    const enum mz_injected r =
        cron ? inject_cron_job(object, o, &owner, err) : mz_inject_pod(pod, o, &owner, err);
    if (r == MZ_INJECT_FAILED)
        (void)mz_err_at(err, "%s/%s/%s", kind, owner.ns, owner.name);
    return r;
}
