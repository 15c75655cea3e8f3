#include "agent/dns/names.h"

#include <arpa/inet.h>

#include "base/arena.h"
#include "base/map.h"
#include "proto/wire.h"

#define HOSTS_MAX (1u << 20)

struct host {
    struct mz_str name, info;
    struct host *next;
};
struct mz_names {
    char *bytes;
    struct mz_arena *arena;
    struct mz_map by_name;  /* struct host, by "reviews.shop.svc.cluster.local" */
    struct mz_map by_short; /* struct host, by "reviews.shop": Kubernetes services of our domain */
    struct mz_names_pod pod;
    struct mz_str first_of_domain; /* "svc" */
    struct host *first;
    size_t hosts;
};

/* ---- the message ---- */

static bool is_message(struct mz_str s)
{
    struct mz_wire_piece f;
    while (s.n)
        if (!mz_wire_next(&s, &f))
            return false;
    return true;
}

enum { BYTES = 2, TABLE_ENTRY = 1, ENTRY_KEY = 1, ENTRY_VALUE = 2 };
enum { INFO_IP = 1, INFO_REGISTRY = 2, INFO_SHORT = 3, INFO_NAMESPACE = 4, INFO_OTHER_NAMES = 5 };

static bool parse_ip(struct mz_str text, enum mz_dns_type t, char out[16])
{
    char z[INET6_ADDRSTRLEN];
    if (text.n >= sizeof(z))
        return false;
    memcpy(z, text.p, text.n);
    z[text.n] = 0;
    return inet_pton(t == MZ_DNS_A ? AF_INET : AF_INET6, z, out) == 1;
}

bool mz_names_next(struct mz_str *info, enum mz_dns_type t, char out_bytes[16])
{
    struct mz_wire_piece f;
    while (info->n && mz_wire_next(info, &f))
        if (f.wire == BYTES && f.id == INFO_IP && parse_ip(f.bytes, t, out_bytes))
            return true;
    return false;
}

static bool has_address(struct mz_str info)
{
    char bytes[16];
    struct mz_str again = info;
    return mz_names_next(&info, MZ_DNS_A, bytes) || mz_names_next(&again, MZ_DNS_AAAA, bytes);
}

/* ---- the index ---- */

static void lower(struct mz_names *t, struct mz_str s) /* in our copy */
{
    for (size_t i = 0; i < s.n; i++) {
        char *p = t->bytes + (s.p - t->bytes) + i;
        *p = mz_lower(*p);
    }
}

/* "reviews.shop", out of the host's name where it begins so. */
static struct mz_str short_of(struct mz_names *t, const struct host *h, struct mz_str name,
                              struct mz_str namespace_)
{
    const struct mz_str parts[] = { name, MZ_STR("."), namespace_ };
    const size_t n = name.n + 1 + namespace_.n;
    if (h->name.n > n && h->name.p[name.n] == '.' && h->name.p[n] == '.' &&
        mz_str_starts(h->name, name) && mz_str_starts(mz_str_skip(h->name, name.n + 1), namespace_))
        return (struct mz_str){ h->name.p, n };
    return mz_arena_cat(t->arena, 3, parts);
}

/* Names of another domain than ours, of another cluster, have no short forms: they would be of several. */
static void add_short_names(struct mz_names *t, struct host *h)
{
    const struct mz_str name = mz_wire_bytes(h->info, INFO_SHORT),
                        namespace_ = mz_wire_bytes(h->info, INFO_NAMESPACE);
    struct mz_str info = h->info;
    struct mz_wire_piece f;
    if (!mz_str_eq(mz_wire_bytes(h->info, INFO_REGISTRY), MZ_STR("Kubernetes")) ||
        !t->pod.domain.n || !mz_str_ends(h->name, t->pod.domain))
        return;
    lower(t, name);
    lower(t, namespace_);
    if (name.n + namespace_.n < MZ_DNS_NAME_MAX)
        (void)mz_map_put(&t->by_short, short_of(t, h, name, namespace_), h);
    while (info.n && mz_wire_next(&info, &f))
        if (f.wire == BYTES && f.id == INFO_OTHER_NAMES && f.bytes.n) {
            lower(t, f.bytes);
            if (!mz_map_get(&t->by_name, f.bytes))
                (void)mz_map_put(&t->by_name, f.bytes, h);
        }
}

static bool is_name(struct mz_str s)
{
    struct mz_str label;
    if (!s.n || s.n > MZ_DNS_NAME_MAX - 1 || s.p[s.n - 1] == '.')
        return false;
    while (mz_str_split(&s, '.', &label))
        if (!label.n || label.n > 63)
            return false;
    return true;
}

static bool add(struct mz_names *t, struct mz_str entry)
{
    struct host h = { mz_wire_bytes(entry, ENTRY_KEY), mz_wire_bytes(entry, ENTRY_VALUE),
                      t->first };
    if (!is_message(entry) || !is_message(h.info))
        return false;
    if (h.name.n && h.name.p[h.name.n - 1] == '.')
        h.name.n--;
    if (!is_name(h.name) || !has_address(h.info) || t->hosts == HOSTS_MAX)
        return true; /* nothing that could be asked for */
    struct host *kept = mz_arena_new0(t->arena, struct host);
    *kept = h;
    t->first = kept;
    lower(t, h.name);
    if (!mz_map_put(&t->by_name, kept->name, kept))
        t->hosts++;
    return true;
}

static bool index_all(struct mz_names *t, struct mz_str all)
{
    struct mz_wire_piece f;
    while (all.n && mz_wire_next(&all, &f))
        if (f.wire == BYTES && f.id == TABLE_ENTRY && !add(t, f.bytes))
            return false;
    for (struct host *h = t->first; h; h = h->next) /* behind all names that are hosts' own */
        if (mz_map_get(&t->by_name, h->name) == h)
            add_short_names(t, h);
    return true;
}

static struct mz_str lower_copy(struct mz_arena *a, struct mz_str s)
{
    char *p = mz_arena_alloc(a, s.n);
    for (size_t i = 0; i < s.n; i++)
        p[i] = mz_lower(s.p[i]);
    return (struct mz_str){ p, s.n };
}

struct mz_names *mz_names_create(struct mz_str packed, const struct mz_names_pod *pod)
{
    struct mz_names *t = mz_new0(MZ_MEM_XDS, struct mz_names);
    t->bytes = mz_alloc(MZ_MEM_XDS, packed.n + 1);
    if (packed.n)
        memcpy(t->bytes, packed.p, packed.n);
    t->arena = mz_arena_create(MZ_MEM_XDS);
    mz_map_init(&t->by_name, MZ_MEM_XDS);
    mz_map_init(&t->by_short, MZ_MEM_XDS);
    t->pod = (struct mz_names_pod){ lower_copy(t->arena, pod->namespace_),
                                    lower_copy(t->arena, pod->domain),
                                    lower_copy(t->arena, pod->search) };
    struct mz_str domain = t->pod.domain;
    (void)mz_str_split(&domain, '.', &t->first_of_domain);
    if (is_message(packed) && index_all(t, (struct mz_str){ t->bytes, packed.n }))
        return t;
    mz_names_destroy(t);
    return NULL;
}

void mz_names_destroy(struct mz_names *t)
{
    if (!t)
        return;
    mz_map_fini(&t->by_name);
    mz_map_fini(&t->by_short);
    mz_arena_destroy(t->arena);
    mz_free(MZ_MEM_XDS, t->bytes);
    mz_free(MZ_MEM_XDS, t);
}

size_t mz_names_count(const struct mz_names *t)
{
    return t->hosts;
}

/* ---- asking ---- */

/* Of a host as it may be written, without search domains. */
static const struct host *written(const struct mz_names *t, struct mz_str name)
{
    char text[MZ_DNS_NAME_MAX + 1];
    const struct mz_str first = t->first_of_domain, own = t->pod.namespace_;
    const struct host *h = mz_map_get(&t->by_name, name);
    if (!h)
        h = mz_map_get(&t->by_short, name);
    if (!h && first.n && name.n > first.n + 1 && mz_str_ends(name, first) &&
        name.p[name.n - first.n - 1] == '.')
        h = mz_map_get(&t->by_short, (struct mz_str){ name.p, name.n - first.n - 1 });
    if (!h && own.n && name.n + 1 + own.n < sizeof(text)) {
        memcpy(text, name.p, name.n);
        text[name.n] = '.';
        memcpy(text + name.n + 1, own.p, own.n);
        h = mz_map_get(&t->by_short, (struct mz_str){ text, name.n + 1 + own.n });
    }
    return h;
}

/* The name as it is, or with the search domain behind it. */
static const struct host *searched(const struct mz_names *t, struct mz_str name,
                                   struct mz_str *out_alias)
{
    const struct mz_str search = t->pod.search;
    const struct host *h = written(t, name);
    *out_alias = (struct mz_str){ 0 };
    if (h || !search.n || name.n <= search.n + 1 || !mz_str_ends(name, search) ||
        name.p[name.n - search.n - 1] != '.')
        return h;
    *out_alias = (struct mz_str){ name.p, name.n - search.n - 1 };
    return written(t, *out_alias);
}

bool mz_names_find(const struct mz_names *t, struct mz_str name, struct mz_names_found *out)
{
    struct mz_str alias, rest = name, label;
    const struct host *h = name.n ? searched(t, name, &alias) : NULL;
    /* "a.b.c": "*.b.c", then "*.c" */
    while (!h && mz_str_split(&rest, '.', &label) && rest.n && rest.n + 2 < sizeof(out->room)) {
        out->room[0] = '*';
        out->room[1] = '.';
        memcpy(out->room + 2, rest.p, rest.n);
        h = searched(t, (struct mz_str){ out->room, rest.n + 2 }, &alias);
    }
    if (!h)
        return false;
    out->info = h->info;
    out->alias = alias;
    return true;
}
