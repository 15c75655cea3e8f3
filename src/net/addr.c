#include "net/addr.h"

#include "base/alloc.h"
#include "base/map.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/un.h>

bool mz_addr_parse_ip(struct mz_str ip, uint16_t port, struct mz_addr *out_addr)
{
    char text[INET6_ADDRSTRLEN];
    if (ip.n == 0 || ip.n >= sizeof(text) || memchr(ip.p, '\0', ip.n))
        return false;
    memcpy(text, ip.p, ip.n);
    text[ip.n] = '\0';
    struct mz_addr a = { 0 };
    if (inet_pton(AF_INET, text, &a.in4.sin_addr) == 1) {
        a.in4.sin_family = AF_INET;
        a.in4.sin_port = htons(port);
        a.len = sizeof(a.in4);
    } else if (inet_pton(AF_INET6, text, &a.in6.sin6_addr) == 1) {
        a.in6.sin6_family = AF_INET6;
        a.in6.sin6_port = htons(port);
        a.len = sizeof(a.in6);
    } else {
        return false;
    }
    *out_addr = a;
    return true;
}

bool mz_addr_parse(struct mz_str text, struct mz_addr *out_addr)
{
    ptrdiff_t colon = mz_str_rchr(text, ':');
    uint64_t port;
    if (colon < 0 || !mz_str_u64(mz_str_skip(text, (size_t)colon + 1), &port) || port > UINT16_MAX)
        return false;
    struct mz_str ip = { text.p, (size_t)colon };
    bool brackets = ip.n > 2 && ip.p[0] == '[' && ip.p[ip.n - 1] == ']';
    if (brackets)
        ip = (struct mz_str){ ip.p + 1, ip.n - 2 };
    struct mz_addr a;
    if (!mz_addr_parse_ip(ip, (uint16_t)port, &a) || brackets != (a.sa.sa_family == AF_INET6))
        return false;
    *out_addr = a;
    return true;
}

/* Each path is its own key. */
static struct mz_map paths = { .mem = MZ_MEM_CONFIG }, internals = { .mem = MZ_MEM_CONFIG };
static pthread_mutex_t paths_lock = PTHREAD_MUTEX_INITIALIZER;

/* Returns the one copy of a path; NULL: there are too many. */
static const char *path_kept(struct mz_map *m, struct mz_str path)
{
    pthread_mutex_lock(&paths_lock);
    char *p = mz_map_get(m, path);
    if (!p && m->n < MZ_ADDR_PATHS_MAX) {
        p = mz_strndup(MZ_MEM_CONFIG, path.p, path.n);
        (void)mz_map_put(m, (struct mz_str){ p, path.n }, p); /* there is none to replace */
    }
    pthread_mutex_unlock(&paths_lock);
    return p;
}

static void kept_free(struct mz_map *m)
{
    mz_map_foreach (e, m)
        mz_free(MZ_MEM_CONFIG, e->value);
    mz_map_fini(m);
}

void mz_addr_paths_free(void)
{
    kept_free(&paths);
    kept_free(&internals);
}

static socklen_t unix_len(size_t n, bool abstract)
{
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (abstract ? 0 : 1));
}

bool mz_addr_unix(struct mz_str path, struct mz_addr *out_addr, struct mz_err *err)
{
    bool abstract = path.n > 0 && path.p[0] == '@';
    if (path.n == 0 || memchr(path.p, '\0', path.n))
        return mz_err_set(err, "not a path of a UNIX socket: '" MZ_STR_FMT "'", MZ_STR_ARG(path));
    if (unix_len(path.n, abstract) > sizeof(struct sockaddr_un))
        return mz_err_set(
            err, "\"" MZ_STR_FMT "\" is longer than a UNIX socket's path may be (107 bytes)",
            MZ_STR_ARG(path));
    struct mz_addr a = { .len = unix_len(path.n, abstract) };
    a.un.family = AF_UNIX;
    a.un.path = path_kept(&paths, path);
    if (!a.un.path)
        return mz_err_set(err, "more than %d different paths of UNIX sockets", MZ_ADDR_PATHS_MAX);
    *out_addr = a;
    return true;
}

#define INTERNAL "envoy://"

bool mz_addr_internal(struct mz_str listener, struct mz_str endpoint, struct mz_addr *out_addr,
                      struct mz_err *err)
{
    char text[MZ_ADDR_TEXT];
    if (listener.n == 0 || listener.n + endpoint.n + sizeof(INTERNAL) + 1 > sizeof(text))
        return mz_err_set(err,
                          "an internal address must have a listener's name, and at most %zu bytes",
                          sizeof(text) - sizeof(INTERNAL) - 1);
    char *p = mempcpy(text, INTERNAL, sizeof(INTERNAL) - 1);
    p = mempcpy(p, listener.p, listener.n);
    *p++ = '/';
    struct mz_addr a = { .len = sizeof(a.internal) };
    a.internal.family = MZ_AF_INTERNAL;
    a.internal.listener = path_kept(&internals, (struct mz_str){ text, (size_t)(p - text) });
    if (endpoint.n)
        p = mempcpy(p, endpoint.p, endpoint.n);
    a.internal.text = path_kept(&internals, (struct mz_str){ text, (size_t)(p - text) });
    if (!a.internal.listener || !a.internal.text)
        return mz_err_set(err, "more than %d different internal addresses", MZ_ADDR_PATHS_MAX);
    *out_addr = a;
    return true;
}

bool mz_addr_is_internal(const struct mz_addr *a)
{
    return a->len && a->sa.sa_family == MZ_AF_INTERNAL;
}

struct mz_addr mz_addr_internal_listener(const struct mz_addr *a)
{
    struct mz_addr l = *a;
    l.internal.text = l.internal.listener;
    return l;
}

void mz_addr_internal_parts(const struct mz_addr *a, struct mz_str *out_listener,
                            struct mz_str *out_endpoint)
{
    struct mz_str l = mz_str_c(a->internal.listener), t = mz_str_c(a->internal.text);
    *out_endpoint = mz_str_skip(t, l.n);
    *out_listener = (struct mz_str){ l.p + sizeof(INTERNAL) - 1, l.n - sizeof(INTERNAL) };
}

const struct mz_addr *mz_addr_internal_client(void)
{
    static const char text[] = INTERNAL "internal_client_address/"; /* Envoy's */
    static const struct mz_addr client = {
        .internal = { .family = MZ_AF_INTERNAL, .text = text, .listener = text },
        .len = sizeof(client.internal)
    };
    return &client;
}

const char *mz_addr_file(const struct mz_addr *a)
{
    bool file = a->len && a->sa.sa_family == AF_UNIX && a->un.path && a->un.path[0] != '@';
    return file ? a->un.path : NULL;
}

struct mz_addr mz_addr_from_sockaddr(const struct sockaddr_storage *from, socklen_t len)
{
    struct mz_addr a = { .len = 0 };
    if (len < sizeof(from->ss_family))
        return a;
    switch (from->ss_family) {
    case AF_INET:
        memcpy(&a.in4, from, sizeof(a.in4));
        a.len = sizeof(a.in4);
        break;
    case AF_INET6:
        memcpy(&a.in6, from, sizeof(a.in6));
        a.len = sizeof(a.in6);
        break;
    case AF_UNIX:
        a.un.family = AF_UNIX;
        a.len = sizeof(a.un.family);
        break;
    default:
        break;
    }
    return a;
}

void mz_addr_unmap(struct mz_addr *a)
{
    if (!a->len || a->sa.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
        return;
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = a->in6.sin6_port };
    memcpy(&v4.sin_addr, &a->in6.sin6_addr.s6_addr[12], sizeof(v4.sin_addr));
    a->in4 = v4;
    a->len = sizeof(v4);
}

socklen_t mz_addr_sockaddr(const struct mz_addr *a, struct sockaddr_storage *out_sockaddr)
{
    if (a->len == 0 || a->sa.sa_family != AF_UNIX) {
        memcpy(out_sockaddr, a, a->len); /* the union stands first */
        return a->len;
    }
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    if (a->un.path)
        memcpy(un.sun_path, a->un.path, strlen(a->un.path));
    if (un.sun_path[0] == '@')
        un.sun_path[0] = '\0';
    memcpy(out_sockaddr, &un, sizeof(un));
    return a->len;
}

/* Digits and dots by hand: access logs write addresses once per request or more. */
static size_t ip4_text(const struct in_addr *in, char *out)
{
    const unsigned char *b = (const unsigned char *)&in->s_addr;
    char *p = out;
    for (int i = 0; i < 4; i++) {
        unsigned v = b[i];
        if (v >= 100)
            *p++ = (char)('0' + v / 100);
        if (v >= 10)
            *p++ = (char)('0' + v / 10 % 10);
        *p++ = (char)('0' + v % 10);
        *p++ = '.';
    }
    p[-1] = '\0';
    return (size_t)(p - 1 - out);
}

/* An access log writes the same few addresses with their ports again and again: this thread's last ones, by address and port.
 * Two have a place together, the one that was asked for last in front. */
struct memo {
    uint64_t key; /* MEMO_USED, port and address; 0: free */
    char text[23];
    uint8_t n;
};
#define MEMO_USED (UINT64_C(1) << 63)
#define MEMO_BITS 7
static _Thread_local struct memo memos[1 << MEMO_BITS];

static __attribute__((noinline)) void memo_make(struct memo *m, const struct sockaddr_in *in,
                                                uint64_t key)
{
    char digits[20];
    m[1] = m[0];
    size_t n = ip4_text(&in->sin_addr, m->text), k = mz_u64_text(ntohs(in->sin_port), digits);
    m->text[n++] = ':';
    memcpy(m->text + n, digits, k);
    m->text[n + k] = '\0'; /* 21 and the end at most */
    m->n = (uint8_t)(n + k);
    m->key = key;
}

static inline size_t ip4_port_text(const struct sockaddr_in *in, char *out)
{
    uint64_t key = MEMO_USED | (uint64_t)in->sin_port << 32 | in->sin_addr.s_addr;
    struct memo *m = &memos[key * 0x9e3779b97f4a7c15u >> (65 - MEMO_BITS) << 1];
    if (m->key != key) {
        if (m[1].key == key)
            m++;
        else
            memo_make(m, in, key);
    }
    memcpy(out, m->text, sizeof(m->text));
    return m->n;
}

static size_t unix_text(const struct mz_addr *a, char *out)
{
    size_t n = a->un.path ? strlen(a->un.path) : 0;
    memcpy(out, a->un.path ? a->un.path : "", n + 1);
    return n;
}

static size_t bare_text(const struct mz_addr *a,
                        char *out) /* room for the longest, see MZ_ADDR_TEXT */
{
    out[0] = '\0';
    if (a->len == 0)
        return 0;
    if (a->sa.sa_family == AF_INET)
        return ip4_text(&a->in4.sin_addr, out);
    if (a->sa.sa_family == AF_UNIX || a->sa.sa_family == MZ_AF_INTERNAL)
        return unix_text(a, out); /* both begin alike */
    if (a->sa.sa_family != AF_INET6 ||
        !inet_ntop(AF_INET6, &a->in6.sin6_addr, out, INET6_ADDRSTRLEN))
        return 0;
    return strlen(out);
}

size_t mz_addr_ip_text(const struct mz_addr *a, char out_text[MZ_ADDR_TEXT])
{
    return bare_text(a, out_text);
}

size_t mz_addr_text(const struct mz_addr *a, char out_text[MZ_ADDR_TEXT])
{
    if (a->len && a->sa.sa_family == AF_INET)
        return ip4_port_text(&a->in4, out_text);
    if (!mz_addr_is_ip(a))
        return bare_text(a, out_text);
    size_t n = 0;
    bool v6 = a->sa.sa_family == AF_INET6;
    if (v6)
        out_text[n++] = '[';
    n += bare_text(a, out_text + n);
    if (v6)
        out_text[n++] = ']';
    out_text[n++] = ':';
    char digits[20];
    size_t k = mz_u64_text(mz_addr_port(a), digits);
    memcpy(out_text + n, digits, k);
    out_text[n + k] = '\0';
    return n + k;
}

uint16_t mz_addr_port(const struct mz_addr *a)
{
    if (!mz_addr_is_ip(a))
        return 0;
    return ntohs(a->sa.sa_family == AF_INET ? a->in4.sin_port : a->in6.sin6_port);
}

void mz_addr_set_port(struct mz_addr *a, uint16_t port)
{
    if (!mz_addr_is_ip(a))
        return;
    if (a->sa.sa_family == AF_INET)
        a->in4.sin_port = htons(port);
    else
        a->in6.sin6_port = htons(port);
}

bool mz_addr_is_ip(const struct mz_addr *a)
{
    return a->len && (a->sa.sa_family == AF_INET || a->sa.sa_family == AF_INET6);
}

bool mz_addr_ip_eq(const struct mz_addr *a, const struct mz_addr *b)
{
    if (a->len == 0 || b->len == 0 || a->sa.sa_family != b->sa.sa_family)
        return a->len == b->len && a->len == 0;
    switch (a->sa.sa_family) {
    case AF_INET:
        return a->in4.sin_addr.s_addr == b->in4.sin_addr.s_addr;
    case AF_INET6:
        return memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof(a->in6.sin6_addr)) == 0;
    default:
        return a->un.path == b->un.path && /* or the texts of internal ones */
               (a->sa.sa_family != MZ_AF_INTERNAL || a->internal.listener == b->internal.listener);
    }
}

bool mz_addr_eq(const struct mz_addr *a, const struct mz_addr *b)
{
    return mz_addr_ip_eq(a, b) && mz_addr_port(a) == mz_addr_port(b);
}

bool mz_addr_is_loopback(const struct mz_addr *a)
{
    if (a->len == 0)
        return false;
    if (a->sa.sa_family == AF_INET)
        return a->in4.sin_addr.s_addr == htonl(INADDR_LOOPBACK);
    if (a->sa.sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr);
    return a->sa.sa_family == AF_UNIX;
}

bool mz_addr_is_any(const struct mz_addr *a)
{
    if (!mz_addr_is_ip(a))
        return false;
    if (a->sa.sa_family == AF_INET)
        return a->in4.sin_addr.s_addr == INADDR_ANY;
    return IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr);
}

uint64_t mz_addr_hash(const struct mz_addr *a)
{
    if (!mz_addr_is_ip(a))
        return mz_str_hash(mz_str_c(a->len && a->un.path ? a->un.path : ""));
    char key[18];
    bool v4 = a->sa.sa_family == AF_INET;
    size_t n = v4 ? 4 : 16;
    memcpy(key, v4 ? (const void *)&a->in4.sin_addr : (const void *)&a->in6.sin6_addr, n);
    memcpy(key + n, v4 ? &a->in4.sin_port : &a->in6.sin6_port, 2);
    return mz_str_hash((struct mz_str){ key, n + 2 });
}

static unsigned char *ip_bytes(struct mz_addr *a)
{
    return a->sa.sa_family == AF_INET ? (unsigned char *)&a->in4.sin_addr
                                      : (unsigned char *)&a->in6.sin6_addr;
}

static const unsigned char *ip_bytes_const(const struct mz_addr *a)
{
    return a->sa.sa_family == AF_INET ? (const unsigned char *)&a->in4.sin_addr
                                      : (const unsigned char *)&a->in6.sin6_addr;
}

bool mz_cidr_make(struct mz_str prefix, unsigned bits, struct mz_cidr *out_cidr, struct mz_err *err)
{
    struct mz_cidr c = { .bits = bits };
    if (!mz_addr_parse_ip(prefix, 0, &c.addr))
        return mz_err_set(err, "malformed IP address: " MZ_STR_FMT, MZ_STR_ARG(prefix));
    unsigned width = c.addr.sa.sa_family == AF_INET ? 32 : 128;
    if (c.bits > width)
        c.bits = width; /* as Envoy: a longer prefix is the whole address */
    unsigned char *b = ip_bytes(&c.addr);
    for (unsigned i = 0; i < width / 8; i++) {
        unsigned keep = c.bits > i * 8 ? c.bits - i * 8 : 0;
        if (keep < 8)
            b[i] = (unsigned char)(b[i] & (0xff00u >> keep));
    }
    *out_cidr = c;
    return true;
}

bool mz_cidr_match(const struct mz_cidr *c, const struct mz_addr *a)
{
    if (!mz_addr_is_ip(a) || a->sa.sa_family != c->addr.sa.sa_family)
        return false;
    const unsigned char *want = ip_bytes_const(&c->addr), *have = ip_bytes_const(a);
    unsigned whole = c->bits / 8, rest = c->bits % 8;
    if (memcmp(want, have, whole) != 0)
        return false;
    return rest == 0 || ((want[whole] ^ have[whole]) & (0xff00u >> rest) & 0xffu) == 0;
}

static struct mz_addr machine;
static pthread_once_t machine_once = PTHREAD_ONCE_INIT;

static void machine_find(void)
{
    struct ifaddrs *list;
    if (getifaddrs(&list) != 0)
        return;
    for (struct ifaddrs *i = list; i; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || (i->ifa_flags & IFF_LOOPBACK))
            continue;
        memcpy(&machine.in4, i->ifa_addr, sizeof(machine.in4));
        machine.in4.sin_port = 0;
        machine.len = sizeof(machine.in4);
        if (!mz_addr_is_loopback(&machine))
            break;
        machine.len = 0;
    }
    freeifaddrs(list);
}

const struct mz_addr *mz_addr_local_machine(void)
{
    pthread_once(&machine_once, machine_find);
    return &machine;
}
