#include "observe/stream_info.h"

#include "base/map.h"

static const struct flag_name {
    struct mz_str brief, full;
} flag_names[MZ_FLAG__COUNT] = {
#define X(id, s, l) [MZ_FLAG_BIT_##id] = { MZ_STR_INIT(s), MZ_STR_INIT(l) },
    MZ_RESPONSE_FLAGS(X)
#undef X
};

static void addrs_absent(struct mz_addr *first, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        first[i].sa.sa_family = AF_UNSPEC;
        first[i].len = 0;
    }
}

void mz_info_init(struct mz_stream_info *i)
{
    char *at = (char *)i, *host = (char *)&i->up.host, *host_end = (char *)(&i->up.remote + 1),
         *local = (char *)&i->local, *local_end = (char *)(&i->direct_local + 1);
    memset(at, 0, (size_t)(host - at));
    addrs_absent(&i->up.host, 3);
    memset(host_end, 0, (size_t)(local - host_end));
    addrs_absent(&i->local, 4);
    memset(local_end, 0, (size_t)((char *)(i + 1) - local_end));
}
_Static_assert(offsetof(struct mz_stream_info, up.remote) ==
                       offsetof(struct mz_stream_info, up.host) + 2 * sizeof(struct mz_addr) &&
                   offsetof(struct mz_stream_info, direct_local) ==
                       offsetof(struct mz_stream_info, local) + 3 * sizeof(struct mz_addr),
               "the addresses lie side by side");

void mz_info_flag(struct mz_stream_info *i, uint64_t flags)
{
    for (uint64_t fresh = flags & ~i->flags; fresh; fresh &= fresh - 1) {
        unsigned at = (unsigned)__builtin_popcountll(i->flags);
        if (at < 8) /* what comes later is told in the order of the bits */
            i->flag_order |= (__builtin_ctzll(fresh) + UINT64_C(1)) << (8 * at);
        i->flags |= fresh & -fresh;
    }
}

static size_t flag_append(unsigned bit, bool long_names, char *text, size_t n)
{
    struct mz_str name = long_names ? flag_names[bit].full : flag_names[bit].brief;
    if (n)
        text[n++] = ',';
    memcpy(text + n, name.p, name.n);
    return n + name.n;
}

size_t mz_flags_text(uint64_t flags, uint64_t order, bool long_names, char out_text[MZ_FLAGS_TEXT])
{
    size_t n = 0;
    uint64_t rest = flags & ((UINT64_C(1) << MZ_FLAG__COUNT) - 1);
    for (; order; order >>= 8) {
        unsigned bit = (unsigned)(order & 255) - 1;
        if (!(rest >> bit & 1))
            continue;
        n = flag_append(bit, long_names, out_text, n);
        rest &= ~(UINT64_C(1) << bit);
    }
    for (; rest; rest &= rest - 1)
        n = flag_append((unsigned)__builtin_ctzll(rest), long_names, out_text, n);
    if (n == 0)
        out_text[n++] = '-';
    return n;
}

bool mz_flag_parse(struct mz_str short_name, uint64_t *out_flag)
{
    for (unsigned i = 0; i < MZ_FLAG__COUNT; i++)
        if (mz_str_eq(short_name, flag_names[i].brief)) {
            *out_flag = 1ull << i;
            return true;
        }
    return false;
}

static void state_free(void *map)
{
    mz_map_fini(map);
}

static struct mz_map *map_new(struct mz_arena *a)
{
    struct mz_map *m = mz_arena_new0(a, struct mz_map);
    mz_map_init(m, MZ_MEM_STREAM);
    mz_arena_cleanup(a, state_free, m);
    return m;
}

struct mz_map *mz_info_state_map(struct mz_stream_info *i)
{
    if (!i->filter_state)
        i->filter_state = map_new(i->arena);
    return i->filter_state;
}

struct mz_conn_state *mz_conn_state_create(void)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_conn_state *s = mz_arena_new0(a, struct mz_conn_state);
    *s = (struct mz_conn_state){ 1, a, map_new(a) };
    return s;
}

struct mz_conn_state *mz_conn_state_ref(struct mz_conn_state *s)
{
    s->refs++;
    return s;
}

void mz_conn_state_unref(struct mz_conn_state *s)
{
    if (s && --s->refs == 0)
        mz_arena_destroy(s->arena);
}

void mz_info_set_state(struct mz_stream_info *i, struct mz_str name, struct mz_filter_object *o)
{
    struct mz_map *m = mz_info_state_map(i);
    const struct mz_filter_object *old = mz_map_get(m, name);
    if (!old || !old->read_only)
        (void)mz_map_put(m, name, o); /* what it replaces lives in the arena */
}

void mz_info_inherit_state(struct mz_stream_info *i, const struct mz_map *of_connection)
{
    if (!of_connection)
        return;
    mz_map_foreach (e, of_connection)
        mz_info_set_state(i, e->key, e->value);
}

const struct mz_filter_object *mz_info_state(const struct mz_stream_info *i, struct mz_str name)
{
    return i->filter_state ? mz_map_get(i->filter_state, name) : NULL;
}

void mz_info_uuid(uint64_t high, uint64_t low, char out_text[MZ_UUID_TEXT])
{
    static const char hex[] = "0123456789abcdef";
    const uint64_t half[2] = { (high & ~0xf000ull) | 0x4000u, (low & ~(3ull << 62)) | 1ull << 63 };
    char *p = out_text;
    for (unsigned i = 0; i < 32; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20)
            *p++ = '-';
        *p++ = hex[half[i / 16] >> (60 - i % 16 * 4) & 15];
    }
}

struct mz_str mz_info_stream_id(const struct mz_stream_info *i, char out_text[MZ_UUID_TEXT])
{
    if (i->request_id.n || i->stream_id || !i->conn_id)
        return i->request_id;
    /* Of what tells this connection from all others of the process; the hash has a secret seed. */
    const uint64_t of[2][2] = { { i->conn_id, i->start_wall_us },
                                { i->start_wall_us, ~i->conn_id } };
    mz_info_uuid(mz_str_hash((struct mz_str){ (const char *)of[0], sizeof(of[0]) }),
                 mz_str_hash((struct mz_str){ (const char *)of[1], sizeof(of[1]) }), out_text);
    return (struct mz_str){ out_text, MZ_UUID_TEXT };
}
