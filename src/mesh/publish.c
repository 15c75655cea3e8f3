#include "mesh/publish.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "mesh/json.h"
#include "mesh/network.h"
#include "mesh/relay.h"

#define ANNOTATION "mizzen.io/publish"

/* ---- what documents want ---- */

static const json_t *service_port(const struct mz_mesh_doc *d, json_int_t port)
{
    size_t at;
    json_t *one;
    json_array_foreach(mz_json_at(d->object, "spec", "ports", NULL), at,
                       one) if (mz_json_number(one, "port", 0) == port) return one;
    return NULL;
}

static void add(struct mz_mesh_ports *out, const struct mz_mesh_doc *d, json_int_t host,
                json_int_t port, const json_t *of)
{
    const bool service = strcmp(d->kind, "Service") == 0;
    const json_t *target = json_object_get(of, "targetPort");
    *mz_vec_push(&out->v, MZ_MEM_CONFIG) = (struct mz_mesh_port){
        .doc = d,
        .host_port = (uint16_t)host,
        .port = (uint16_t)port,
        .target = target ? target : json_object_get(of, "port"),
        .selector = service ? mz_json_at(d->object, "spec", "selector", NULL) : NULL,
    };
}

static bool number(struct mz_str s, uint64_t least, json_int_t *out)
{
    uint64_t v;
    if (!mz_str_u64(mz_str_trim(s), &v) || v < least || v > UINT16_MAX)
        return false;
    *out = (json_int_t)v;
    return true;
}

/* "8080:80, 8443:443"; host port 0 is any. */
static bool by_annotation(const struct mz_mesh_doc *d, const char *text, bool any,
                          struct mz_mesh_ports *out, struct mz_err *err)
{
    struct mz_str rest = mz_str_c(text), one;
    while (mz_str_split(&rest, ',', &one)) {
        const ptrdiff_t colon = mz_str_chr(one, ':');
        json_int_t host = 0, port = 0;
        if (colon < 0 || !number((struct mz_str){ one.p, (size_t)colon }, 0, &host) ||
            !number(mz_str_skip(one, (size_t)colon + 1), 1, &port)) {
            mz_err_set(err, "annotation " ANNOTATION ": \"%.100s\" is not HOSTPORT:PORT, ...",
                       text);
            return mz_mesh_doc_err(d, err);
        }
        const json_t *of = service_port(d, port);
        if (!of && strcmp(d->kind, "Service") == 0) {
            mz_err_set(err, "annotation " ANNOTATION ": there is no port %lld", (long long)port);
            return mz_mesh_doc_err(d, err);
        }
        add(out, d, any ? 0 : host, port, of);
    }
    return true;
}

static void by_type(const struct mz_mesh_doc *d, bool any, struct mz_mesh_ports *out)
{
    json_t *spec = json_object_get(d->object, "spec"), *one;
    const char *type = mz_json_text(spec, "type", "");
    const bool node = strcmp(type, "NodePort") == 0;
    size_t at;
    if (!node && strcmp(type, "LoadBalancer") != 0)
        return;
    json_array_foreach(json_object_get(spec, "ports"), at, one)
    {
        const json_int_t port = mz_json_number(one, "port", 0),
                         host = node ? mz_json_number(one, "nodePort", port) : port;
        const bool tcp = strcmp(mz_json_text(one, "protocol", "TCP"), "TCP") == 0;
        if (tcp && port > 0 && port <= UINT16_MAX && host > 0 && host <= UINT16_MAX)
            add(out, d, any ? 0 : host, port, one);
    }
}

static json_t *pod_notes(const struct mz_mesh_doc *d)
{
    return strcmp(d->kind, "Pod") == 0
               ? mz_json_at(d->object, "metadata", "annotations", NULL)
               : mz_json_at(d->object, "spec", "template", "metadata", "annotations", NULL);
}

bool mz_mesh_ports_wanted(const struct mz_mesh_folder *f, bool any, struct mz_mesh_ports *out,
                          struct mz_err *err)
{
    for (size_t i = 0; i < f->docs.n; i++) {
        const struct mz_mesh_doc *d = &f->docs.v[i];
        const bool service = strcmp(d->kind, "Service") == 0;
        json_t *notes =
            service ? mz_json_at(d->object, "metadata", "annotations", NULL) : pod_notes(d);
        const char *text = mz_json_text(notes, ANNOTATION, NULL);
        if (text && !by_annotation(d, text, any, out, err))
            return false;
        if (!text && service)
            by_type(d, any, out);
    }
    return true;
}

int mz_mesh_port_listen(const struct mz_mesh_port *p, struct mz_err *err)
{
    const struct sockaddr_in a = { .sin_family = AF_INET,
                                   .sin_port = htons(p->host_port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    const int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
        bind(fd, (const struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, SOMAXCONN) == 0)
        return fd;
    const int e = errno;
    mz_err_set(err,
               "cannot publish port %u at 127.0.0.1:%u of this machine: %s (annotation " ANNOTATION
               ": \"HOSTPORT:%u\" names another)",
               p->port, p->host_port, strerrordesc_np(e), p->port);
    (void)mz_mesh_doc_err(p->doc, err);
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

/* ---- listening ---- */

struct open_port {
    struct mz_io io;
    struct mz_mesh_publisher *of;
    struct mz_mesh_port want;
    char *name; /* "demo/web": by it and numbers it is known again */
    bool kept;
};
struct mz_mesh_publisher {
    struct mz_mesh_publisher_opts o;
    struct mz_mesh_relays relays;
    MZ_VEC(struct open_port *) ports;
};

struct mz_mesh_publisher *mz_mesh_publisher_create(const struct mz_mesh_publisher_opts *o)
{
    struct mz_mesh_publisher *p = mz_new0(MZ_MEM_MISC, struct mz_mesh_publisher);
    p->o = *o;
    mz_mesh_relays_init(&p->relays, o->node->loop);
    return p;
}

static void carry(struct open_port *port, int client)
{
    struct mz_mesh_publisher *p = port->of;
    struct sockaddr_in to = { .sin_family = AF_INET };
    uint32_t ip;
    uint16_t number;
    const bool any = p->o.choose(p->o.arg, &port->want, &ip, &number);
    const int fd = any ? mz_mesh_socket_in(-1, p->o.node->net) : -1;
    if (any) {
        to.sin_addr.s_addr = htonl(ip);
        to.sin_port = htons(number);
    }
    if (fd >= 0 &&
        (connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0 || errno == EINPROGRESS)) {
        mz_mesh_relay_add(&p->relays, client, fd);
        return;
    }
    if (fd >= 0)
        (void)close(fd);
    (void)close(client); /* nobody is ready */
}

static void on_accept(struct mz_io *io, unsigned events)
{
    struct open_port *port = MZ_CONTAINER(io, struct open_port, io);
    (void)events;
    for (int i = 0; i < 64; i++) {
        const int fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        carry(port, fd);
    }
}

static void port_close(struct open_port *p)
{
    mz_io_del(&p->io);
    (void)close(p->io.fd);
    mz_free(MZ_MEM_MISC, p->name);
    mz_free(MZ_MEM_MISC, p);
}

static struct open_port *find(struct mz_mesh_publisher *p, const struct mz_mesh_port *want,
                              const char *name)
{
    mz_vec_foreach (it, &p->ports) {
        struct open_port *o = *it;
        if (!o->kept && o->want.port == want->port && o->want.host_port == want->host_port &&
            strcmp(o->name, name) == 0)
            return o;
    }
    return NULL;
}

static void open_new(struct mz_mesh_publisher *p, const struct mz_mesh_port *want, const char *name,
                     int fd)
{
    struct mz_err err = { .path = "", .msg = "" };
    if (fd < 0)
        fd = p->o.listen(p->o.arg, want, &err);
    if (fd < 0) {
        MZ_LOG(ERROR, main, "%s", err.msg);
        return;
    }
    struct open_port *o = mz_new0(MZ_MEM_MISC, struct open_port);
    o->of = p;
    o->want = *want;
    o->kept = true;
    o->name = mz_strndup(MZ_MEM_MISC, name, strlen(name));
    if (mz_io_add_level(p->o.node->loop, &o->io, fd, MZ_IO_READ, on_accept) != 0)
        MZ_LOG(ERROR, main, "port %u cannot be watched", want->host_port);
    *mz_vec_push(&p->ports, MZ_MEM_MISC) = o;
}

void mz_mesh_publisher_set(struct mz_mesh_publisher *p, const struct mz_mesh_ports *ports,
                           const int *fds)
{
    size_t n = 0;
    mz_vec_foreach (it, &p->ports)
        (*it)->kept = false;
    for (size_t i = 0; i < ports->v.n; i++) {
        const struct mz_mesh_port *want = &ports->v.v[i];
        char name[256];
        (void)snprintf(name, sizeof(name), "%s/%s", want->doc->ns, want->doc->name);
        struct open_port *same = find(p, want, name);
        if (same) {
            same->want = *want;
            same->kept = true;
        } else {
            open_new(p, want, name, fds ? fds[i] : -1);
        }
    }
    for (size_t i = 0; i < p->ports.n; i++) {
        if (p->ports.v[i]->kept)
            p->ports.v[n++] = p->ports.v[i];
        else
            port_close(p->ports.v[i]);
    }
    p->ports.n = n;
}

void mz_mesh_publisher_destroy(struct mz_mesh_publisher *p)
{
    if (!p)
        return;
    mz_mesh_relays_fini(&p->relays);
    mz_vec_foreach (it, &p->ports)
        port_close(*it);
    mz_vec_free(&p->ports, MZ_MEM_MISC);
    mz_free(MZ_MEM_MISC, p);
}

json_t *mz_mesh_publisher_list(const struct mz_mesh_publisher *p)
{
    json_t *list = json_array();
    for (size_t i = 0; i < p->ports.n; i++) {
        const struct open_port *port = p->ports.v[i];
        struct sockaddr_in a = { 0 };
        socklen_t n = sizeof(a);
        (void)getsockname(port->io.fd, (struct sockaddr *)&a, &n); /* else it is port 0 */
        (void)json_array_append_new(list,
                                    json_pack("{s:o, s:s, s:i}", "host",
                                              json_sprintf("127.0.0.1:%u", ntohs(a.sin_port)),
                                              "service", port->name, "port", (int)port->want.port));
    }
    return list;
}
