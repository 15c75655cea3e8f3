/* Gateways: the workloads that they select, the ports that lead there, their certificates. */
#include "control/analyze/finders.h"

/* Services that select @pod: is one of them to @port, or does one lead there? */
static bool is_reached(const struct mz_documents *d, const struct mz_object *pod, uint64_t port)
{
    objects_foreach(it, d, "Service")
    {
        const struct mz_node *ports = mz_node_at((*it)->tree, "spec.ports");
        if (!mz_str_eq((*it)->ns, pod->ns) ||
            !selector_matches(mz_node_at((*it)->tree, "spec.selector"), object_labels(pod)))
            continue;
        for (size_t i = 0; i < mz_node_count(ports); i++) {
            const struct mz_str protocol = mz_node_text(ports->list[i], "protocol");
            const uint64_t target = mz_node_number(ports->list[i], "targetPort"),
                           number = mz_node_number(ports->list[i], "port");
            /* The field's tool counts only ports whose protocol is written: documents from a server have it. Those that
               have pods still to be made are no such documents. */
            if ((mz_str_eq(protocol, MZ_STR("TCP")) || (!protocol.n && pod->made)) &&
                (number == port || target == port))
                return true;
        }
    }
    return false;
}

static uint32_t selector_line(const struct mz_object *gateway)
{
    const struct mz_node *s = mz_node_at(gateway->tree, "spec.selector");
    return s && s->n ? s->pairs[0].value->line : 0;
}

static void ports(struct mz_documents *d, const struct mz_object *gateway)
{
    const struct mz_node *servers = mz_node_at(gateway->tree, "spec.servers"),
                         *selector = mz_node_at(gateway->tree, "spec.selector");
    const struct mz_str text = selector_text(selector, d->arena);
    size_t pods = 0;
    objects_foreach(it, d, "Pod") pods += selector_matches(selector, object_labels(*it));
    if (!text.n)
        return;
    if (!pods) {
        found(d, MZ_LEVEL_ERROR, 101, gateway, selector_line(gateway),
              "Referenced selector not found: \"%.*s\"", MZ_STR_ARG(text));
        return;
    }
    for (size_t i = 0; i < mz_node_count(servers); i++) {
        const uint64_t port = mz_node_number(servers->list[i], "port.number");
        bool ok = false;
        objects_foreach(it, d, "Pod") ok |=
            selector_matches(selector, object_labels(*it)) && is_reached(d, *it, port);
        if (!ok && port)
            found(d, MZ_LEVEL_WARNING, 162, gateway, selector_line(gateway),
                  "The gateway is listening on a target port (port %u) that is not defined in the "
                  "Service "
                  "associated with its workload instances (Pod selector %.*s). If you need to "
                  "access the "
                  "gateway port through the gateway Service, it will not be available.",
                  (unsigned)port, MZ_STR_ARG(text));
    }
}

/* The namespaces of its pods, and its own where there is none. */
static bool has_secret(const struct mz_documents *d, const struct mz_object *gateway,
                       struct mz_str name)
{
    const struct mz_node *selector = mz_node_at(gateway->tree, "spec.selector");
    if (object_find(d, "Secret", gateway->ns, name))
        return true;
    objects_foreach(it, d, "Pod") if (selector_matches(selector, object_labels(*it)) &&
                                      object_find(d, "Secret", (*it)->ns, name)) return true;
    return false;
}

static void credentials(struct mz_documents *d, const struct mz_object *gateway)
{
    const struct mz_node *servers = mz_node_at(gateway->tree, "spec.servers");
    for (size_t i = 0; i < mz_node_count(servers); i++) {
        const struct mz_node *n = mz_node_at(servers->list[i], "tls.credential_name");
        if (n && n->kind == MZ_NODE_STR && n->text.n && !has_secret(d, gateway, n->text))
            found(d, MZ_LEVEL_ERROR, 101, gateway, n->line,
                  "Referenced credentialName not found: \"%.*s\"", MZ_STR_ARG(n->text));
    }
}

void find_in_gateways(struct mz_documents *d)
{
    objects_foreach(it, d, "Gateway")
    {
        ports(d, *it);
        credentials(d, *it);
    }
}
