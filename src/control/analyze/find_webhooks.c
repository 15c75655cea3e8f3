/* Webhooks of an installation: two for one pod, no service behind, addresses; pods that wait for one; definitions of types. */
#include <arpa/inet.h>

#include "control/analyze/finders.h"

struct hook {
    const struct mz_object *of;
    const struct mz_node *tree;
    struct mz_str name; /* "configuration/webhook" */
};
struct hooks {
    struct mz_documents *d;
    MZ_VEC(struct hook) v;
    struct names revisions;
};
enum { MAX_REVISIONS = 32 }; /* combinations are their square */

static struct mz_node *make_labels(struct mz_arena *a, const char *key, const char *value,
                                   struct mz_str revision)
{
    struct mz_node *map = mz_arena_new0(a, struct mz_node), *v;
    const struct {
        struct mz_str key, value;
    } pairs[] = { { mz_str_c(key), mz_str_c(value) }, { MZ_STR_INIT("istio.io/rev"), revision } };
    map->kind = MZ_NODE_MAP;
    map->pairs = mz_arena_alloc0(a, 2 * sizeof(*map->pairs));
    for (size_t i = 0; i < MZ_COUNT(pairs); i++) {
        if (!pairs[i].value.n)
            continue;
        v = mz_arena_new0(a, struct mz_node);
        v->kind = MZ_NODE_STR;
        v->text = pairs[i].value;
        map->pairs[map->n++] = (struct mz_pair){ pairs[i].key, v, 0, 0 };
    }
    return map;
}

static void add_revision(struct hooks *h, struct mz_str revision)
{
    bool known = !revision.n || h->revisions.v.n == MAX_REVISIONS;
    for (size_t i = 0; i < h->revisions.v.n; i++)
        known |= mz_str_eq(h->revisions.v.v[i], revision);
    if (!known)
        names_add(&h->revisions, revision);
}

static void revisions_of(struct hooks *h, const struct mz_node *selector)
{
    const struct mz_node *list = mz_node_get(selector, "matchExpressions");
    add_revision(h, map_text(mz_node_get(selector, "matchLabels"), "istio.io/rev"));
    for (size_t i = 0; i < mz_node_count(list); i++) {
        const struct mz_node *values = mz_node_get(list->list[i], "values");
        if (mz_str_eq(mz_node_text(list->list[i], "key"), MZ_STR("istio.io/rev")))
            for (size_t j = 0; j < mz_node_count(values); j++)
                add_revision(h, scalar_text(values->list[j]));
    }
}

static void add_hooks(struct hooks *h, const struct mz_object *o)
{
    const struct mz_node *list = mz_node_get(o->tree, "webhooks");
    const size_t before = h->revisions.v.n;
    bool ours = object_label(o, "istio.io/rev").n > 0;
    add_revision(h, object_label(o, "istio.io/rev"));
    for (size_t i = 0; i < mz_node_count(list); i++) {
        revisions_of(h, mz_node_get(list->list[i], "namespaceSelector"));
        revisions_of(h, mz_node_get(list->list[i], "objectSelector"));
        ours |= mz_str_ends(mz_node_text(list->list[i], "name"), MZ_STR("istio.io"));
    }
    ours |= h->revisions.v.n > before;
    for (size_t i = 0; ours && i < mz_node_count(list); i++)
        *mz_vec_push(&h->v, MZ_MEM_CONFIG) =
            (struct hook){ o, list->list[i],
                           mz_arena_printf(h->d->arena, "%.*s/%.*s", MZ_STR_ARG(o->name),
                                           MZ_STR_ARG(mz_node_text(list->list[i], "name"))) };
}

static bool takes(const struct mz_node *hook, const struct mz_node *ns, const struct mz_node *pod)
{
    return label_selector_matches(mz_node_get(hook, "namespaceSelector"), ns) &&
           label_selector_matches(mz_node_get(hook, "objectSelector"), pod);
}

static void overlap(const struct hooks *h, const struct mz_node *ns, const struct mz_node *pod)
{
    size_t n = 0;
    for (size_t i = 0; i < h->v.n; i++)
        n += takes(h->v.v[i].tree, ns, pod);
    for (size_t i = 0; n > 1 && i < h->v.n; i++) {
        struct names others = { 0 };
        if (!takes(h->v.v[i].tree, ns, pod))
            continue;
        for (size_t k = 0; k < h->v.n; k++)
            if (k != i && takes(h->v.v[k].tree, ns, pod))
                names_add(&others, h->v.v[k].name);
        const struct mz_str list = names_text(&others, " ", h->d->arena);
        found(h->d, MZ_LEVEL_ERROR, 139, h->v.v[i].of, 0,
              "Webhook overlaps with others: [%.*s]. This may cause injection to occur twice.",
              MZ_STR_ARG(list));
    }
}

static void overlaps(const struct hooks *h)
{
    static const char *const ns_values[] = { "", "enabled", "disabled" }, *const pod_values[] = {
        "", "true", "false"
    };
    for (size_t r = 0; r <= h->revisions.v.n; r++)
        for (size_t s = 0; s <= h->revisions.v.n; s++)
            for (size_t i = 0; i < MZ_COUNT(ns_values); i++)
                for (size_t k = 0; k < MZ_COUNT(pod_values); k++)
                    overlap(h,
                            make_labels(h->d->arena, "istio-injection", ns_values[i],
                                        r ? h->revisions.v.v[r - 1] : MZ_STR("")),
                            make_labels(h->d->arena, "sidecar.istio.io/inject", pod_values[k],
                                        s ? h->revisions.v.v[s - 1] : MZ_STR("")));
}

static void services(const struct hooks *h)
{
    for (size_t i = 0; i < h->v.n; i++) {
        const struct mz_node *s = mz_node_at(h->v.v[i].tree, "clientConfig.service");
        const struct mz_str ns = mz_node_text(s, "namespace"), name = mz_node_text(s, "name");
        if (s && !object_find(h->d, "Service", ns, name))
            found(h->d, MZ_LEVEL_ERROR, 139, h->v.v[i].of, 0,
                  "Injector refers to a control plane service that does not exist: %.*s/%.*s.",
                  MZ_STR_ARG(ns), MZ_STR_ARG(name));
    }
}

/* ---- a control plane elsewhere ---- */

static bool is_address(struct mz_str url)
{
    const ptrdiff_t slashes = mz_str_find(url, MZ_STR("://"));
    struct mz_str host = slashes < 0 ? url : mz_str_skip(url, (size_t)slashes + 3);
    char text[INET6_ADDRSTRLEN];
    unsigned char out[16];
    const bool v6 = host.n && host.p[0] == '[';
    size_t n = 0;
    host = mz_str_skip(host, v6);
    while (n < host.n && !strchr(v6 ? "]" : ":/?#", host.p[n]))
        n++;
    if (n >= sizeof(text))
        return false;
    memcpy(text, host.p, n);
    text[n] = '\0';
    return inet_pton(v6 ? AF_INET6 : AF_INET, text, out) == 1;
}

static void external(struct mz_documents *d, const struct mz_object *o)
{
    const struct mz_node *list = mz_node_get(o->tree, "webhooks");
    for (size_t i = 0; i < mz_node_count(list); i++) {
        const struct mz_str name = mz_node_text(list->list[i], "name");
        const struct mz_node *to = mz_node_get(list->list[i], "clientConfig"),
                             *url = mz_node_get(to, "url");
        if (url && url->kind == MZ_NODE_NULL)
            url = NULL;
        if (url && is_address(scalar_text(url)))
            found(d, MZ_LEVEL_INFO, 164, o, 0,
                  "The address (%.*s) that was provided for the webhook (%.*s) to reach the "
                  "ingress gateway on the external control plane cluster is an IP address. This "
                  "is not recommended for a production environment.",
                  MZ_STR_ARG(scalar_text(url)), MZ_STR_ARG(name));
        else if (!url && !mz_node_get(to, "service"))
            found(d, MZ_LEVEL_WARNING, 163, o, 0,
                  "The hostname () that was provided for the webhook (%.*s) to reach the ingress "
                  "gateway on the external control plane cluster is blank. Traffic may not flow "
                  "properly.",
                  MZ_STR_ARG(name));
    }
}

/* ---- pods that wait for an injector ---- */

static bool is_auto(const struct mz_object *o)
{
    const struct mz_node *list = mz_node_get(pod_spec(o), "containers");
    for (size_t i = 0; i < mz_node_count(list); i++)
        if (mz_str_eq(mz_node_text(list->list[i], "name"), MZ_STR("istio-proxy")) &&
            mz_str_eq(mz_node_text(list->list[i], "image"), MZ_STR("auto")))
            return true;
    return false;
}

/* Those of an installation where no document tells of webhooks: by the label of the pod, else of the namespace. */
static bool is_labelled(const struct mz_object *ns, const struct mz_object *deployment)
{
    const struct mz_node *own = map_get(pod_labels(deployment), MZ_STR("sidecar.istio.io/inject"));
    if (own)
        return mz_str_eq(scalar_text(own), MZ_STR("true"));
    return ns && mz_str_eq(object_label(ns, "istio-injection"), MZ_STR("enabled"));
}

static bool is_injected(const struct mz_documents *d, const struct mz_object *deployment)
{
    const struct mz_object *ns = object_find(d, "Namespace", MZ_STR(""), deployment->ns);
    if (!*objects_of(d, "MutatingWebhookConfiguration"))
        return is_labelled(ns, deployment);
    objects_foreach(it, d, "MutatingWebhookConfiguration")
    {
        const struct mz_node *list = mz_node_get((*it)->tree, "webhooks");
        for (size_t i = 0; i < mz_node_count(list); i++)
            if (mz_str_ends(mz_node_text(list->list[i], "name"), MZ_STR("istio.io")) &&
                takes(list->list[i], ns ? object_labels(ns) : NULL, pod_labels(deployment)))
                return true;
    }
    return false;
}

static void waiting(struct mz_documents *d, const struct mz_object *o, bool error)
{
    found(d, error ? MZ_LEVEL_ERROR : MZ_LEVEL_WARNING, error ? 147 : 146, o, 0,
          "%.*s %.*s contains `image: auto` but does not match any Istio injection webhook "
          "selectors.",
          MZ_STR_ARG(o->kind), MZ_STR_ARG(o->name));
}

/* ---- definitions of types ---- */

struct version {
    uint64_t v[3];
};

/* "v1.4.0-rc.1": what follows the third number is left out. */
static bool read_version(struct mz_str text, struct version *out)
{
    struct mz_str rest = mz_str_skip(text, text.n && text.p[0] == 'v'), part;
    *out = (struct version){ { 0 } };
    for (size_t i = 0; i < 3 && mz_str_split(&rest, '.', &part); i++) {
        size_t n = 0;
        while (n < part.n && part.p[n] >= '0' && part.p[n] <= '9')
            n++;
        if (!mz_str_u64((struct mz_str){ part.p, n }, &out->v[i]))
            return false;
        if (n < part.n)
            break;
    }
    return true;
}

static void definition(struct mz_documents *d, const struct mz_object *o)
{
    static const struct {
        const char *name;
        unsigned minor; /* of 1.x.0 */
    } needed[] = { { "grpcroutes.gateway.networking.k8s.io", 1 },
                   { "backendtlspolicies.gateway.networking.k8s.io", 4 },
                   { "tlsroutes.gateway.networking.k8s.io", 5 },
                   { "tcproutes.gateway.networking.k8s.io", 6 } };
    static const char *const gone[] = { "ClusterRbacConfig", "RbacConfig", "ServiceRole",
                                        "ServiceRoleBinding" };
    const struct mz_str kind = mz_node_text(o->tree, "spec.names.kind"),
                        text = map_text(object_annotations(o),
                                        "gateway.networking.k8s.io/bundle-version");
    struct version v;
    for (size_t i = 0; i < MZ_COUNT(gone); i++)
        if (mz_str_eq(mz_node_text(o->tree, "spec.group"), MZ_STR("rbac.istio.io")) &&
            mz_str_eq(kind, mz_str_c(gone[i])))
            found(d, MZ_LEVEL_WARNING, 2, o, 0,
                  "Deprecated: Custom resource type rbac.istio.io %s is removed", gone[i]);
    for (size_t i = 0; i < MZ_COUNT(needed); i++)
        if (mz_str_eq(o->name, mz_str_c(needed[i].name)) && text.n && read_version(text, &v) &&
            (v.v[0] < 1 || (v.v[0] == 1 && v.v[1] < needed[i].minor)))
            found(d, MZ_LEVEL_WARNING, 176, o, 0,
                  "Gateway API CRD \"%s\" is at version \"%.*s\" but Istio requires at least "
                  "\"1.%u.0\"; resources of this kind will not be processed. Upgrade the Gateway "
                  "API CRDs to satisfy the minimum version.",
                  needed[i].name, MZ_STR_ARG(mz_str_skip(text, text.p[0] == 'v')), needed[i].minor);
}

void find_in_webhooks(struct mz_documents *d)
{
    struct hooks h = { .d = d };
    objects_foreach(it, d, "MutatingWebhookConfiguration")
    {
        add_hooks(&h, *it);
        if (mz_str_starts((*it)->name, MZ_STR("istio-sidecar-injector")))
            external(d, *it);
    }
    objects_foreach(
        it, d,
        "ValidatingWebhookConfiguration") if (mz_str_eq((*it)->name,
                                                        MZ_STR("istiod-default-validator")) ||
                                              mz_str_starts((*it)->name, MZ_STR("istio-validator")))
        external(d, *it);
    overlaps(&h);
    services(&h);
    objects_foreach(it, d, "Pod") if (!(*it)->made && is_auto(*it)) waiting(d, *it, true);
    objects_foreach(it, d, "Deployment") if (is_auto(*it) && !is_injected(d, *it))
        waiting(d, *it, false);
    objects_foreach(it, d, "CustomResourceDefinition") definition(d, *it);
    mz_vec_free(&h.v, MZ_MEM_CONFIG);
    mz_vec_free(&h.revisions.v, MZ_MEM_CONFIG);
}
