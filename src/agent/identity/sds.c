#include "agent/identity/sds.h"

#include <stdio.h>

#include "agent/identity/crl.h"
#include "agent/tree.h"
#include "base/log.h"
#include "event/loop.h"
#include "grpc/server.h"
#include "proto/mapper.h"

#define NAMES_MAX  32 /* secrets of one call */
#define NAME_BYTES 1024
#define FILES_MS   1000 /* how often files are looked at */

struct subscription {
    char *name;
    uint64_t sent; /* the version that was sent; 0 none */
};
struct call {
    struct mz_list link;
    struct mz_sds *sds;
    struct mz_grpc_serving *serving;
    bool delta, failed;
    struct subscription v[NAMES_MAX];
    size_t n;
    unsigned nonce;
};
struct mz_sds {
    struct mz_loop *loop;
    struct mz_identity *identity;
    const char *root_file; /* NULL: none */
    struct mz_list calls;
    struct mz_timer files;
    struct crl *crl;
};

static const char secret_type[] =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/* ---- what a name stands for ---- */

struct secret {
    struct mz_str chain, key, root;
    struct mz_str crl; /* with roots; "" none */
    uint64_t version;  /* 0: not there */
};

static bool file_part(struct mz_str path, struct mz_arena *a, struct mz_str *out, uint64_t *version)
{
    struct file_text f;
    struct mz_err err;
    const char *p = mz_arena_dup(a, path).p;
    *version = *version * 31 + file_version(p);
    if (!file_read(p, a, &f, &err) || !f.there)
        return false;
    *out = f.text;
    return true;
}

/* A proxy that verifies by roots looks whether an authority of the mesh has taken a certificate back. */
static void add_revoked(const struct mz_sds *s, struct mz_arena *a, struct secret *out)
{
    out->crl = crl_get(s->crl, a);
    if (out->version && out->crl.n)
        out->version += mz_xxh64(out->crl.p, out->crl.n, 0) | 1;
}

/* False: a name that is none of ours. */
static bool look_up(const struct mz_sds *s, const char *name, struct mz_arena *a,
                    struct secret *out)
{
    const struct mz_identity_pair *p = mz_identity_get(s->identity);
    const struct mz_str n = mz_str_c(name);
    *out = (struct secret){ 0 };
    if (mz_str_eq(n, MZ_STR("default"))) {
        *out = (struct secret){ .chain = p->chain, .key = p->key, .version = p->serial };
        return true;
    }
    if (mz_str_eq(n, MZ_STR("ROOTCA"))) {
        if (s->root_file && file_part(mz_str_c(s->root_file), a, &out->root, &out->version))
            return true;
        *out = (struct secret){ .root = p->root, .version = p->serial };
        add_revoked(s, a, out);
        return true;
    }
    if (mz_str_starts(n, MZ_STR("file-root:"))) {
        if (!file_part(mz_str_skip(n, 10), a, &out->root, &out->version))
            out->version = 0;
        add_revoked(s, a, out);
        return true;
    }
    const ptrdiff_t tilde = mz_str_chr(n, '~');
    if (mz_str_starts(n, MZ_STR("file-cert:")) && tilde > 10) {
        if (!file_part((struct mz_str){ n.p + 10, (size_t)tilde - 10 }, a, &out->chain,
                       &out->version) ||
            !file_part(mz_str_skip(n, (size_t)tilde + 1), a, &out->key, &out->version))
            out->version = 0;
        return true;
    }
    return false;
}

static struct mz_str packed(const char *name, const struct secret *s, struct mz_arena *a)
{
    pb_DataSource chain = pb_DataSource__INIT, key = pb_DataSource__INIT,
                  root = pb_DataSource__INIT, crl = pb_DataSource__INIT;
    pb_TlsCertificate cert = pb_TlsCertificate__INIT;
    pb_CertificateValidationContext trust = pb_CertificateValidationContext__INIT;
    pb_Secret m = pb_Secret__INIT;
    const struct {
        pb_DataSource *to;
        struct mz_str from;
    } parts[] = { { &chain, s->chain }, { &key, s->key }, { &root, s->root }, { &crl, s->crl } };
    for (size_t i = 0; i < MZ_COUNT(parts); i++) {
        parts[i].to->specifier_case = pb_DataSource_SPECIFIER_INLINE_BYTES;
        parts[i].to->inline_bytes =
            (ProtobufCBinaryData){ parts[i].from.n, (uint8_t *)(uintptr_t)parts[i].from.p };
    }
    m.name = (char *)(uintptr_t)name;
    cert.certificate_chain = &chain;
    cert.private_key = &key;
    trust.trusted_ca = &root;
    trust.crl = s->crl.n ? &crl : NULL;
    if (s->root.n) {
        m.type_case = pb_Secret_TYPE_VALIDATION_CONTEXT;
        m.validation_context = &trust;
    } else {
        m.type_case = pb_Secret_TYPE_TLS_CERTIFICATE;
        m.tls_certificate = &cert;
    }
    return mz_msg_pack_alloc(&m.base, a);
}

/* ---- answers ---- */

struct answer {
    pb_Any any[NAMES_MAX];
    pb_Resource resource[NAMES_MAX];
    pb_Any *anys[NAMES_MAX];
    pb_Resource *resources[NAMES_MAX];
    char versions[NAMES_MAX][24];
    size_t n;
};

static void add(struct answer *w, const char *name, uint64_t version, struct mz_str bytes)
{
    const size_t i = w->n++;
    w->any[i] = (pb_Any)pb_Any__INIT;
    w->any[i].type_url = (char *)(uintptr_t)secret_type;
    w->any[i].value = (ProtobufCBinaryData){ bytes.n, (uint8_t *)(uintptr_t)bytes.p };
    w->anys[i] = &w->any[i];
    w->resource[i] = (pb_Resource)pb_Resource__INIT;
    (void)snprintf(w->versions[i], sizeof(w->versions[i]), "%llu", (unsigned long long)version);
    w->resource[i].name = (char *)(uintptr_t)name;
    w->resource[i].version = w->versions[i];
    w->resource[i].resource = &w->any[i];
    w->resources[i] = &w->resource[i];
}

static void put(struct call *c, struct answer *w)
{
    char nonce[16];
    (void)snprintf(nonce, sizeof(nonce), "%u", ++c->nonce);
    if (c->delta) {
        pb_DeltaDiscoveryResponse r = pb_DeltaDiscoveryResponse__INIT;
        r.type_url = (char *)(uintptr_t)secret_type;
        r.nonce = r.system_version_info = nonce;
        r.n_resources = w->n;
        r.resources = w->resources;
        (void)mz_grpc_serving_send(c->serving, &r.base); /* secrets are small: one always fits */
    } else {
        pb_DiscoveryResponse r = pb_DiscoveryResponse__INIT;
        r.type_url = (char *)(uintptr_t)secret_type;
        r.nonce = r.version_info = nonce;
        r.n_resources = w->n;
        r.resources = w->anys;
        (void)mz_grpc_serving_send(c->serving, &r.base);
    }
}

/* State of the world repeats what the proxy has as soon as one of its secrets changed. */
static void send_changes(struct call *c)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    struct answer *w = mz_arena_alloc0(a, sizeof(*w));
    struct secret found[NAMES_MAX];
    bool any = false;
    for (size_t i = 0; i < c->n; i++) {
        (void)look_up(c->sds, c->v[i].name, a, &found[i]);
        any = any || (found[i].version && found[i].version != c->v[i].sent);
    }
    for (size_t i = 0; any && i < c->n; i++) {
        if (!found[i].version || (c->delta && found[i].version == c->v[i].sent))
            continue;
        c->v[i].sent = found[i].version;
        add(w, c->v[i].name, found[i].version, packed(c->v[i].name, &found[i], a));
    }
    if (w->n)
        put(c, w);
    mz_arena_destroy(a);
}

static void on_files(struct mz_timer *t)
{
    struct mz_sds *s = MZ_CONTAINER(t, struct mz_sds, files);
    mz_sds_changed(s);
    mz_timer_start_ms(t, FILES_MS);
}

void mz_sds_changed(struct mz_sds *s)
{
    mz_list_foreach (it, &s->calls)
        send_changes(MZ_CONTAINER(it, struct call, link));
}

/* ---- questions ---- */

static void drop(struct call *c, const char *name)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->v[i].name, name) == 0) {
            mz_free(MZ_MEM_TLS, c->v[i].name);
            c->v[i] = c->v[--c->n];
            return;
        }
}

static void subscribe(struct call *c, const char *name)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    struct secret s;
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->v[i].name, name) == 0) {
            mz_arena_destroy(a);
            return;
        }
    if (c->n == NAMES_MAX || strlen(name) > NAME_BYTES || !look_up(c->sds, name, a, &s)) {
        MZ_LOG(WARN, secret, "the proxy asks for a secret that is not the agent's: %.100s", name);
    } else {
        const size_t n = strlen(name) + 1;
        c->v[c->n] = (struct subscription){ .name = mz_alloc(MZ_MEM_TLS, n) };
        memcpy(c->v[c->n++].name, name, n);
    }
    mz_arena_destroy(a);
}

static bool named(char **names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static void refused(const struct pb_Status *e, const char *nonce)
{
    MZ_LOG(WARN, secret, "the proxy refused the secrets of answer %.16s: %.200s", nonce,
           e->message);
}

static void on_state(void *object, struct mz_grpc_serving *serving, struct mz_grpc_message *m)
{
    struct call *c = object;
    const pb_DiscoveryRequest *r = (const pb_DiscoveryRequest *)m->msg;
    (void)serving;
    if (r->error_detail)
        refused(r->error_detail, r->response_nonce);
    for (size_t i = c->n; i-- > 0;)
        if (!named(r->resource_names, r->n_resource_names, c->v[i].name))
            drop(c, c->v[i].name);
    for (size_t i = 0; i < r->n_resource_names; i++)
        subscribe(c, r->resource_names[i]);
    send_changes(c);
}

static void on_delta(void *object, struct mz_grpc_serving *serving, struct mz_grpc_message *m)
{
    struct call *c = object;
    const pb_DeltaDiscoveryRequest *r = (const pb_DeltaDiscoveryRequest *)m->msg;
    (void)serving;
    if (r->error_detail)
        refused(r->error_detail, r->response_nonce);
    for (size_t i = 0; i < r->n_resource_names_unsubscribe; i++)
        drop(c, r->resource_names_unsubscribe[i]);
    for (size_t i = 0; i < r->n_resource_names_subscribe; i++)
        subscribe(c, r->resource_names_subscribe[i]);
    send_changes(c);
}

static void *begin(struct mz_sds *s, struct mz_grpc_serving *serving, bool delta)
{
    struct call *c = mz_alloc0(MZ_MEM_TLS, sizeof(*c));
    c->sds = s;
    c->serving = serving;
    c->delta = delta;
    mz_list_add_tail(&s->calls, &c->link);
    return c;
}

static void *begin_state(void *arg, struct mz_grpc_serving *serving, const struct mz_headers *h)
{
    (void)h;
    return begin(arg, serving, false);
}

static void *begin_delta(void *arg, struct mz_grpc_serving *serving, const struct mz_headers *h)
{
    (void)h;
    return begin(arg, serving, true);
}

static void gone(void *object, struct mz_grpc_serving *serving)
{
    struct call *c = object;
    (void)serving;
    while (c->n)
        drop(c, c->v[0].name);
    mz_list_del(&c->link);
    mz_free(MZ_MEM_TLS, c);
}

static void half_closed(void *object, struct mz_grpc_serving *serving)
{
    (void)object;
    mz_grpc_serving_finish(serving, MZ_GRPC_OK, (struct mz_str){ 0 });
}

static const struct mz_grpc_handler methods[] = {
    { { "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
        &pb_DiscoveryRequest__descriptor, &pb_DiscoveryResponse__descriptor },
      false,
      begin_state,
      on_state,
      half_closed,
      NULL,
      gone },
    { { "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
        &pb_DeltaDiscoveryRequest__descriptor, &pb_DeltaDiscoveryResponse__descriptor },
      false,
      begin_delta,
      on_delta,
      half_closed,
      NULL,
      gone },
};

struct mz_sds *mz_sds_create(struct mz_loop *l, struct mz_identity *d, const char *root_file)
{
    struct mz_sds *s = mz_alloc0(MZ_MEM_TLS, sizeof(*s));
    s->loop = l;
    s->identity = d;
    s->root_file = root_file;
    s->crl = crl_create();
    mz_list_init(&s->calls);
    mz_timer_init(l, &s->files, on_files);
    mz_timer_start_ms(&s->files, FILES_MS);
    return s;
}

void mz_sds_add(struct mz_sds *s, struct mz_grpc_server *server)
{
    mz_grpc_server_add(server, methods, sizeof(methods) / sizeof(methods[0]), s);
}

void mz_sds_destroy(struct mz_sds *s)
{
    if (!s)
        return;
    mz_timer_stop(&s->files);
    crl_destroy(s->crl);
    mz_free(MZ_MEM_TLS, s);
}
