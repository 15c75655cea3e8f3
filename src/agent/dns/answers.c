/* What a question is answered: out of the table, or by a name server. */
#include "agent/dns/dns_priv.h"
#include "base/buf.h"
#include "base/log.h"
#include "net/dns.h"

#define TTL_S       30   /* low: whoever keeps to it hears of changes soon */
#define PENDING_MAX 1024 /* questions at name servers at once */
#define UDP_MOST                                                                                   \
    4096 /* bytes of an answer, whatever the client says that it takes (RFC 6891 6.2.5) */
#define ADDRESSES 4096 /* of an answer: more than fit into any */

struct pending {
    struct mz_list link;
    struct dns_answers *answers;
    struct mz_dns_exchange *exchange;
    struct dns_asker who;
    struct mz_dns_question q;
    uint64_t began_us;
    char section[255 + 4]; /* q's */
};

static size_t room_for(const struct mz_dns_question *q, const struct dns_asker *who)
{
    if (!who->socket)
        return MZ_DNS_MESSAGE_MAX;
    return q->room < UDP_MOST ? q->room : UDP_MOST;
}

static void fail(struct dns_answers *a, const struct mz_dns_question *q,
                 const struct dns_asker *who)
{
    struct mz_dns_reply r;
    mz_dns_reply_begin(&r, q, a->room + 2, MZ_DNS_ASKED_MAX);
    a->send(who, a->room, mz_dns_reply_end(&r, MZ_DNS_SERVFAIL, false));
}

/* ---- out of the table ---- */

static size_t count_addresses(struct mz_str info, enum mz_dns_type t)
{
    char bytes[16];
    size_t n = 0;
    while (n < ADDRESSES && mz_names_next(&info, t, bytes))
        n++;
    return n;
}

/* In another order each time: who takes the first spreads all the same. */
static void put_shuffled(struct dns_answers *a, struct mz_dns_reply *r, struct mz_str info,
                         enum mz_dns_type t, size_t n)
{
    struct mz_rand *rand = mz_loop_rand(a->loop);
    char few[8][16];
    char(*v)[16] = n > MZ_COUNT(few) ? mz_alloc(MZ_MEM_XDS, n * sizeof(*v)) : few;
    for (size_t i = 0; i < n; i++) {
        const size_t k = mz_rand_below(rand, i + 1); /* whoever is there goes to the end */
        memcpy(v[i], v[k], 16);
        (void)mz_names_next(&info, t, v[k]);
    }
    for (size_t i = 0; i < n; i++)
        mz_dns_reply_address(r, t, v[i], TTL_S);
    if (v != few)
        mz_free(MZ_MEM_XDS, v);
}

/* A name of ours without an address of the family exists all the same: NXDOMAIN would end the search for the other family. */
static bool from_table(struct dns_answers *a, const struct mz_dns_question *q,
                       const struct dns_asker *who)
{
    struct mz_names_found found;
    struct mz_dns_reply r;
    const enum mz_dns_type t = q->type;
    if ((t != MZ_DNS_A && t != MZ_DNS_AAAA) || q->class_ != 1 ||
        !mz_names_find(a->names, mz_str_c(q->name), &found))
        return false;
    const size_t n = count_addresses(found.info, t);
    mz_dns_reply_begin(&r, q, a->room + 2, room_for(q, who));
    if (n && found.alias.n)
        mz_dns_reply_alias(&r, found.alias, TTL_S);
    put_shuffled(a, &r, found.info, t, n);
    a->send(who, a->room, mz_dns_reply_end(&r, MZ_DNS_NOERROR, true));
    return true;
}

/* ---- from a name server ---- */

static void pending_end(struct pending *p)
{
    mz_list_del(&p->link);
    p->answers->pending_n--;
    mz_free(MZ_MEM_XDS, p);
}

static const double bounds_s[DNS_BUCKETS] = { .001, .005, .01, .1, 1, 5 };

static void count(struct dns_answers *a, uint64_t us)
{
    size_t i = 0;
    while (i < DNS_BUCKETS && (double)us / 1e6 > bounds_s[i])
        i++;
    a->took[i]++;
    a->took_us += us;
}

static void on_answer(void *arg, const char *why, struct mz_str answer)
{
    struct pending *p = arg;
    struct dns_answers *a = p->answers;
    const size_t n =
        why ? 0 : mz_dns_reply_forward(&p->q, answer, a->room + 2, room_for(&p->q, &p->who));
    count(a, mz_loop_now_us(a->loop) - p->began_us);
    if (n) {
        a->send(&p->who, a->room, n);
    } else {
        a->upstream_failures++;
        MZ_LOG(DEBUG, dns, "no name server answers for \"%s\": %s", p->q.name,
               why ? why : "the answer is to another question");
        fail(a, &p->q, &p->who);
    }
    if (p->who.client)
        a->answered(p->who.client);
    pending_end(p);
}

static bool is_same(const struct pending *p, const struct mz_dns_question *q,
                    const struct dns_asker *who)
{
    return p->q.id == q->id && p->who.socket == who->socket && p->who.client == who->client &&
           mz_str_eq(p->q.section, q->section) &&
           (!who->socket || mz_addr_eq(&p->who.address, &who->address));
}

static bool is_pending(const struct dns_answers *a, const struct mz_dns_question *q,
                       const struct dns_asker *who)
{
    mz_list_foreach (it, &a->pending)
        if (is_same(MZ_CONTAINER(it, struct pending, link), q, who))
            return true;
    return false;
}

static bool forward(struct dns_answers *a, const struct mz_dns_question *q,
                    const struct dns_asker *who)
{
    char message[MZ_DNS_ASKED_MAX];
    uint16_t id;
    if (is_pending(a, q, who))
        return false; /* asked again: the answer is on its way */
    a->upstream_requests++;
    if (!a->upstream || a->pending_n >= PENDING_MAX) {
        a->upstream_failures++;
        fail(a, q, who);
        return false;
    }
    struct pending *p = mz_new0(MZ_MEM_XDS, struct pending);
    p->answers = a;
    p->who = *who;
    p->q = *q;
    p->began_us = mz_loop_now_us(a->loop);
    memcpy(p->section, q->section.p, q->section.n);
    p->q.section.p = p->section;
    mz_list_add_tail(&a->pending, &p->link);
    a->pending_n++;
    mz_rand_system(&id, sizeof(id)); /* not to be guessed by who forges answers */
    const size_t n = mz_dns_question_write(q, id, message);
    p->exchange = mz_dns_send(a->upstream, (struct mz_str){ message, n }, on_answer, p);
    return true;
}

/* ---- questions ---- */

bool dns_answers_take(struct dns_answers *a, struct mz_str message, const struct dns_asker *who)
{
    struct mz_dns_question q = { 0 };
    enum mz_dns_code code;
    const enum mz_dns_read read = mz_dns_question_read(message, &q, &code);
    if (read == MZ_DNS_READ_IGNORE)
        return false;
    a->requests++;
    if (read == MZ_DNS_READ_REFUSE) {
        a->send(who, a->room, mz_dns_reply_error(q.id, q.flags, code, a->room + 2));
        return false;
    }
    if (!a->names && !a->forward_early) {
        fail(a, &q, who);
        return false;
    }
    return !(a->names && from_table(a, &q, who)) && forward(a, &q, who);
}

void dns_answers_forget(struct dns_answers *a, const struct dns_client *c)
{
    mz_list_foreach (it, &a->pending) {
        struct pending *p = MZ_CONTAINER(it, struct pending, link);
        if (p->who.client != c)
            continue;
        mz_dns_send_cancel(p->exchange);
        pending_end(p);
    }
}

static struct mz_str keep(char *to, size_t room, struct mz_str s)
{
    const size_t n = s.n < room ? s.n : 0;
    if (n)
        memcpy(to, s.p, n);
    return (struct mz_str){ to, n };
}

/* The domain of a pod begins with its namespace; what is asked for is in the one behind it. */
static struct mz_str without_namespace(struct mz_str domain, struct mz_str namespace_)
{
    if (!mz_str_starts(domain, namespace_) || !namespace_.n)
        return domain;
    const struct mz_str rest = mz_str_skip(domain, namespace_.n);
    return rest.n && rest.p[0] == '.' ? mz_str_skip(rest, 1) : domain;
}

void dns_answers_init(struct dns_answers *a, const struct mz_agent_dns_opts *o)
{
    a->loop = o->loop;
    a->room = mz_alloc(MZ_MEM_XDS, 2 + MZ_DNS_MESSAGE_MAX);
    a->pod.namespace_ = keep(a->namespace_, sizeof(a->namespace_), o->namespace_);
    a->pod.domain = keep(a->domain, sizeof(a->domain), without_namespace(o->domain, o->namespace_));
    mz_list_init(&a->pending);
}

void dns_answers_fini(struct dns_answers *a)
{
    while (!mz_list_empty(&a->pending)) {
        struct pending *p = MZ_CONTAINER(a->pending.next, struct pending, link);
        mz_dns_send_cancel(p->exchange);
        pending_end(p);
    }
    mz_dns_destroy(a->upstream);
    mz_names_destroy(a->names);
    mz_free(MZ_MEM_XDS, a->room);
}

/* ---- metrics ---- */

static void counter(struct mz_buf *out, const char *name, uint64_t value)
{
    mz_buf_printf(out, "# TYPE istio_agent_dns_%s counter\nistio_agent_dns_%s %llu\n", name, name,
                  (unsigned long long)value);
}

void dns_answers_metrics(const struct dns_answers *a, struct mz_buf *out)
{
    static const char took[] = "istio_agent_dns_upstream_request_duration_seconds";
    uint64_t sum = 0;
    counter(out, "requests_total", a->requests);
    counter(out, "upstream_requests_total", a->upstream_requests);
    counter(out, "upstream_failures_total", a->upstream_failures);
    mz_buf_printf(out, "# TYPE %s histogram\n", took);
    for (size_t i = 0; i < DNS_BUCKETS; i++) {
        sum += a->took[i];
        mz_buf_printf(out, "%s_bucket{le=\"%g\"} %llu\n", took, bounds_s[i],
                      (unsigned long long)sum);
    }
    sum += a->took[DNS_BUCKETS];
    mz_buf_printf(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %g\n%s_count %llu\n", took,
                  (unsigned long long)sum, took, (double)a->took_us / 1e6, took,
                  (unsigned long long)sum);
}
