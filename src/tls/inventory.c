#include "tls/inventory.h"

#include <pthread.h>
#include <time.h>

#include "base/clock.h"
#include "tls/tls_priv.h"

/* A context goes with its last user, on whichever thread that is: hence the lock, which no connection takes. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mz_list all = { &all, &all };

void inventory_add(struct tls_factory *f)
{
    (void)pthread_mutex_lock(&lock);
    mz_list_add_tail(&all, &f->link);
    (void)pthread_mutex_unlock(&lock);
}

void inventory_remove(struct tls_factory *f)
{
    (void)pthread_mutex_lock(&lock);
    mz_list_del(&f->link);
    (void)pthread_mutex_unlock(&lock);
}

static int64_t now_s(void)
{
    return (int64_t)(mz_clock->wall_us() / 1000000);
}

static uint64_t days_left(const struct mz_tls_cert_facts *c)
{
    int64_t left = c->valid_until_s - now_s();
    return left > 0 ? (uint64_t)left / 86400 : 0;
}

/* ---- /certs ---- */

static void *make(struct mz_arena *a, const ProtobufCMessageDescriptor *d)
{
    ProtobufCMessage *m = mz_arena_alloc(a, d->sizeof_message);
    d->message_init(m);
    return m;
}

static pb_Timestamp *timestamp(struct mz_arena *a, int64_t seconds)
{
    pb_Timestamp *t = make(a, &pb_Timestamp__descriptor);
    t->seconds = seconds;
    return t;
}

static char *chars(struct mz_arena *a, struct mz_str s)
{
    return (char *)(uintptr_t)mz_arena_dup(a, s).p;
}

static void names_add(pb_CertificateDetails *d, struct mz_arena *a, const struct mz_tls_names *v,
                      int kind)
{
    for (size_t i = 0; i < v->n; i++) {
        pb_SubjectAlternateName *n = make(a, &pb_SubjectAlternateName__descriptor);
        n->name_case = kind;
        n->dns = chars(a, v->v[i]); /* the members of the union are alike */
        d->subject_alt_names[d->n_subject_alt_names++] = n;
    }
}

static pb_CertificateDetails *details(struct mz_arena *a, struct mz_str path,
                                      const struct mz_tls_cert_facts *c)
{
    pb_CertificateDetails *d = make(a, &pb_CertificateDetails__descriptor);
    size_t n = c->dns_sans.n + c->uri_sans.n + c->ip_sans.n;
    d->path = chars(a, path);
    d->serial_number = chars(a, c->serial);
    d->subject_alt_names = mz_arena_alloc(a, (n + 1) * sizeof(*d->subject_alt_names));
    names_add(d, a, &c->dns_sans, pb_SubjectAlternateName_NAME_DNS);
    names_add(d, a, &c->uri_sans, pb_SubjectAlternateName_NAME_URI);
    names_add(d, a, &c->ip_sans, pb_SubjectAlternateName_NAME_IP_ADDRESS);
    d->days_until_expiration = days_left(c);
    d->valid_from = timestamp(a, c->valid_from_s);
    d->expiration_time = timestamp(a, c->valid_until_s);
    return d;
}

static pb_Certificate *certificate(struct mz_arena *a, const struct tls_factory *f)
{
    pb_Certificate *c = make(a, &pb_Certificate__descriptor);
    c->ca_cert = mz_arena_alloc(a, sizeof(*c->ca_cert));
    c->cert_chain = mz_arena_alloc(a, (f->n_pairs + 1) * sizeof(*c->cert_chain));
    if (f->verify.ca)
        c->ca_cert[c->n_ca_cert++] = details(a, f->verify.ca_path, f->verify.ca);
    for (size_t i = 0; i < f->n_pairs; i++) {
        const struct key_pair *k = &f->pairs[i];
        pb_CertificateDetails *d = details(a, k->path, k->facts);
        if (k->staple.der.n) {
            d->ocsp_details = make(a, &pb_CertificateDetails_OcspDetails__descriptor);
            d->ocsp_details->valid_from = timestamp(a, k->staple.from_s);
            d->ocsp_details->expiration =
                timestamp(a, k->staple.until_s ? k->staple.until_s : now_s());
        }
        c->cert_chain[c->n_cert_chain++] = d;
    }
    return c;
}

const pb_Certificates *mz_tls_certificates(struct mz_arena *a)
{
    pb_Certificates *m = make(a, &pb_Certificates__descriptor);
    size_t n = 0;
    (void)pthread_mutex_lock(&lock);
    mz_list_foreach (it, &all)
        n++;
    m->certificates = mz_arena_alloc(a, (n + 1) * sizeof(*m->certificates));
    mz_list_foreach (it, &all) {
        const struct tls_factory *f = MZ_CONTAINER(it, struct tls_factory, link);
        if (f->n_pairs || f->verify.ca)
            m->certificates[m->n_certificates++] = certificate(a, f);
    }
    (void)pthread_mutex_unlock(&lock);
    return m;
}

/* ---- gauges ---- */

static void least(uint64_t *least_yet, uint64_t v)
{
    if (v < *least_yet)
        *least_yet = v;
}

uint32_t mz_tls_days_until_expiry(void)
{
    uint64_t days = UINT32_MAX;
    (void)pthread_mutex_lock(&lock);
    mz_list_foreach (it, &all) {
        const struct tls_factory *f = MZ_CONTAINER(it, struct tls_factory, link);
        if (f->verify.ca)
            least(&days, days_left(f->verify.ca));
        for (size_t i = 0; i < f->n_pairs; i++)
            least(&days, days_left(f->pairs[i].facts));
    }
    (void)pthread_mutex_unlock(&lock);
    return (uint32_t)days;
}

uint64_t mz_tls_seconds_until_ocsp_expiry(void)
{
    uint64_t seconds = UINT64_MAX;
    (void)pthread_mutex_lock(&lock);
    mz_list_foreach (it, &all) {
        const struct tls_factory *f = MZ_CONTAINER(it, struct tls_factory, link);
        for (size_t i = 0; i < f->n_pairs; i++) {
            int64_t left = f->pairs[i].staple.until_s - now_s();
            if (f->pairs[i].staple.der.n)
                least(&seconds, left > 0 ? (uint64_t)left : 0);
        }
    }
    (void)pthread_mutex_unlock(&lock);
    return seconds == UINT64_MAX ? 0 : seconds;
}
