#include "filters/network/mongo_decode.h"

#include "base/alloc.h"

enum bson {
    BSON_DOUBLE = 0x01,
    BSON_STRING = 0x02,
    BSON_DOCUMENT = 0x03,
    BSON_ARRAY = 0x04,
    BSON_BINARY = 0x05,
    BSON_OBJECT_ID = 0x07,
    BSON_BOOLEAN = 0x08,
    BSON_DATETIME = 0x09,
    BSON_NULL = 0x0a,
    BSON_REGEX = 0x0b,
    BSON_SYMBOL = 0x0e,
    BSON_INT32 = 0x10,
    BSON_TIMESTAMP = 0x11,
    BSON_INT64 = 0x12,
};

static uint32_t le32(const void *p)
{
    const unsigned char *b = p;
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

/* ---- reading what was kept ---- */

struct reader {
    struct mz_str rest;
    bool cut; /* the message is longer than what was kept */
    bool bad;
};

/* Too little is there: a mistake, unless the message goes on. */
static bool lacks(struct reader *r)
{
    r->bad |= !r->cut;
    r->rest.n = 0;
    return false;
}

static bool take(struct reader *r, size_t n, struct mz_str *out)
{
    if (r->rest.n < n)
        return lacks(r);
    *out = (struct mz_str){ r->rest.p, n };
    r->rest = mz_str_skip(r->rest, n);
    return true;
}

static bool take32(struct reader *r, uint32_t *out)
{
    struct mz_str s;
    if (!take(r, 4, &s))
        return false;
    *out = le32(s.p);
    return true;
}

static bool take_text(struct reader *r, struct mz_str *out) /* up to a NUL */
{
    ptrdiff_t end = mz_str_chr(r->rest, '\0');
    if (end < 0)
        return lacks(r);
    *out = (struct mz_str){ r->rest.p, (size_t)end };
    r->rest = mz_str_skip(r->rest, (size_t)end + 1);
    return true;
}

/* What stands behind an int32 of its length, which counts @itself bytes with it. */
static bool take_sized(struct reader *r, uint32_t itself, struct mz_str *out)
{
    uint32_t n;
    if (!take32(r, &n))
        return false;
    if (n < itself || n > INT32_MAX) {
        r->bad = true;
        return lacks(r);
    }
    return take(r, n - itself, out);
}

struct element {
    enum bson type;
    struct mz_str key, value; /* of strings without the NUL, of documents without the length */
};

static bool value_read(struct reader *r, struct element *e)
{
    struct mz_str more;
    switch (e->type) {
    case BSON_DOUBLE:
    case BSON_DATETIME:
    case BSON_TIMESTAMP:
    case BSON_INT64:
        return take(r, 8, &e->value);
    case BSON_INT32:
        return take(r, 4, &e->value);
    case BSON_OBJECT_ID:
        return take(r, 12, &e->value);
    case BSON_BOOLEAN:
        return take(r, 1, &e->value);
    case BSON_STRING:
    case BSON_SYMBOL:
        if (!take_sized(r, 0, &e->value))
            return false;
        if (e->value.n == 0)
            r->bad = true;
        else
            e->value.n--;
        return !r->bad;
    case BSON_DOCUMENT:
    case BSON_ARRAY:
        return take_sized(r, 4, &e->value);
    case BSON_BINARY:
        return take_sized(r, 0, &e->value) &&
               take(r, 1, &more); /* the length is without the kind */
    case BSON_REGEX:
        return take_text(r, &e->value) && take_text(r, &more);
    case BSON_NULL:
        e->value = MZ_STR("");
        return true;
    }
    r->bad = true;
    return false;
}

/* The next of a document's elements; false: its end, or bad. */
static bool next(struct reader *r, struct element *e)
{
    struct mz_str type;
    if (r->bad || !take(r, 1, &type) || type.p[0] == '\0')
        return false;
    e->type = (enum bson)(unsigned char)type.p[0];
    return take_text(r, &e->key) && value_read(r, e);
}

static struct reader document(struct mz_str body, bool cut)
{
    return (struct reader){ body, cut, false };
}

/* ---- queries ---- */

static enum mongo_get get_of(const struct element *id)
{
    return id->type == BSON_DOCUMENT || id->type == BSON_ARRAY ? MONGO_MULTI_GET
                                                               : MONGO_PRIMARY_KEY;
}

/* What is known of a query's document, also of the one within ("$query", "filter"). */
struct facts {
    struct element first, query, filter;
    bool any, has_query, has_filter;
    enum mongo_get get;
    bool max_time;
};

static bool number_set(const struct element *e)
{
    if (e->type != BSON_INT32 && e->type != BSON_INT64)
        return false;
    return (int32_t)le32(e->value.p) >= 1; /* Envoy reads the low half of longer ones */
}

static void facts_read(struct reader *r, struct facts *f)
{
    struct element e;
    *f = (struct facts){ .get = MONGO_SCATTER_GET };
    while (next(r, &e)) {
        if (!f->any)
            f->first = e;
        f->any = true;
        if (mz_str_eq(e.key, MZ_STR("_id")))
            f->get = get_of(&e);
        else if (mz_str_eq(e.key, MZ_STR("$query")) && e.type == BSON_DOCUMENT) {
            f->query = e;
            f->has_query = true;
        } else if (mz_str_eq(e.key, MZ_STR("filter")) && e.type == BSON_DOCUMENT) {
            f->filter = e;
            f->has_filter = true;
        } else if (mz_str_eq(e.key, MZ_STR("$maxTimeMS")) ||
                   mz_str_eq(e.key, MZ_STR("maxTimeMS"))) {
            f->max_time |= number_set(&e);
        }
    }
}

static struct mz_str command_name(struct mz_str name)
{
    static const struct mz_str same[][2] = {
        { MZ_STR_INIT("collstats"), MZ_STR_INIT("collStats") },
        { MZ_STR_INIT("dbstats"), MZ_STR_INIT("dbStats") },
        { MZ_STR_INIT("findandmodify"), MZ_STR_INIT("findAndModify") },
        { MZ_STR_INIT("getlasterror"), MZ_STR_INIT("getLastError") },
        { MZ_STR_INIT("ismaster"), MZ_STR_INIT("isMaster") },
    };
    for (size_t i = 0; i < MZ_COUNT(same); i++)
        if (mz_str_eq(name, same[i][0]))
            return same[i][1];
    return name;
}

/* "db.$cmd": the first key is the command; of "find", which is a query, the value is the collection. */
static bool command_read(struct facts f, struct mongo_message *m)
{
    if (f.has_query) {
        struct reader r = document(f.query.value, false);
        facts_read(&r, &f);
        if (r.bad)
            return false;
    }
    if (!f.any)
        return false;
    if (!mz_str_eq(f.first.key, MZ_STR("find"))) {
        m->command = command_name(f.first.key);
        return true;
    }
    if (f.first.type != BSON_STRING)
        return false;
    m->collection = f.first.value;
    m->get = MONGO_SCATTER_GET;
    if (!f.has_filter)
        return true;
    struct reader r = document(f.filter.value, false);
    struct facts inner;
    facts_read(&r, &inner);
    m->get = inner.get;
    return !r.bad;
}

static bool query_read(struct reader *r, struct mongo_message *m)
{
    struct mz_str name, body;
    uint32_t skip, count, length;
    if (!take32(r, &m->flags) || !take_text(r, &name) || !take32(r, &skip) || !take32(r, &count) ||
        !take32(r, &length))
        return !r->bad;
    if (length < 5 || length > INT32_MAX)
        return false;
    bool cut = length - 4 > r->rest.n;
    if (cut && !r->cut)
        return false;
    body = (struct mz_str){ r->rest.p, cut ? r->rest.n : length - 4 };
    struct reader d = document(body, cut);
    struct facts f;
    facts_read(&d, &f);
    if (d.bad)
        return false;
    if (mz_str_find(name, MZ_STR("$cmd")) >= 0) {
        m->odd = !command_read(f, m);
        return true;
    }
    ptrdiff_t dot = mz_str_chr(name, '.');
    if (dot < 0) {
        m->odd = true;
        return true;
    }
    m->collection = mz_str_skip(name, (size_t)dot + 1);
    m->max_time = f.max_time;
    m->get = f.get;
    if (f.get == MONGO_SCATTER_GET && f.has_query) {
        struct reader q = document(f.query.value, false);
        struct facts inner;
        facts_read(&q, &inner);
        m->get = inner.get;
        return !q.bad;
    }
    return true;
}

/* ---- the others ---- */

static bool reply_read(struct reader *r, uint32_t body, struct mongo_message *m)
{
    uint32_t low, high, from;
    if (!take32(r, &m->flags) || !take32(r, &low) || !take32(r, &high) || !take32(r, &from) ||
        !take32(r, &m->documents))
        return false;
    m->cursor = (int64_t)((uint64_t)high << 32 | low);
    m->bytes = body - 20;
    if (m->documents > INT32_MAX)
        m->documents = 0;
    return m->documents <= m->bytes / 5; /* an empty document has five bytes */
}

static bool kill_read(struct reader *r)
{
    uint32_t zero, n;
    return !take32(r, &zero) || !take32(r, &n) || n > INT32_MAX || r->cut || n <= r->rest.n / 8;
}

static void whole(struct mongo *m, struct mongo_side *s, uint32_t body)
{
    struct reader r = { { s->keep ? s->keep : "", s->keep_n }, body > s->keep_n, false };
    struct mongo_message msg = { .op = (enum mongo_op)le32(s->head + 12),
                                 .id = (int32_t)le32(s->head + 4),
                                 .response_to = (int32_t)le32(s->head + 8),
                                 .get = MONGO_PRIMARY_KEY };
    struct mz_str name;
    uint32_t flags;
    bool ok = false;
    switch (msg.op) {
    case MONGO_REPLY:
        ok = reply_read(&r, body, &msg);
        break;
    case MONGO_QUERY:
        ok = query_read(&r, &msg);
        break;
    case MONGO_INSERT:
    case MONGO_GET_MORE:
        ok = take32(&r, &flags) && take_text(&r, &name);
        break;
    case MONGO_KILL_CURSORS:
        ok = kill_read(&r) && !r.bad;
        break;
    case MONGO_COMMAND:
        ok = take_text(&r, &name) && take_text(&r, &name);
        break;
    case MONGO_COMMAND_REPLY:
        ok = take32(&r, &flags);
        break;
    }
    if (ok)
        m->message(m->arg, &msg);
    if (ok && !msg.odd)
        return;
    m->deaf = true;
    m->broken(m->arg);
}

/* ---- pieces ---- */

static uint32_t body_size(const struct mongo_side *s)
{
    return le32(s->head) - 16;
}

static void side_done(struct mongo *m, struct mongo_side *s)
{
    whole(m, s, body_size(s));
    mz_free(MZ_MEM_CONN, s->keep);
    s->keep = NULL;
    s->head_n = s->keep_n = 0;
}

static void head_done(struct mongo *m, struct mongo_side *s)
{
    uint32_t length = le32(s->head);
    if (length < 16 || length > INT32_MAX) {
        m->deaf = true;
        m->broken(m->arg);
        return;
    }
    s->left = length - 16;
    if (s->left == 0)
        side_done(m, s);
    else
        s->keep = mz_alloc(MZ_MEM_CONN, s->left < MONGO_KEEP ? s->left : MONGO_KEEP);
}

static size_t body_take(struct mongo_side *s, const char *b, size_t n)
{
    size_t took = n < s->left ? n : s->left;
    size_t room = MONGO_KEEP - s->keep_n, keep = took < room ? took : room;
    memcpy(s->keep + s->keep_n, b, keep);
    s->keep_n += (uint32_t)keep;
    s->left -= (uint32_t)took;
    return took;
}

void mongo_feed(struct mongo *m, bool from_client, const char *b, size_t n)
{
    struct mongo_side *s = &m->sides[from_client];
    while (n && !m->deaf) {
        size_t took;
        if (s->head_n < sizeof(s->head)) {
            size_t room = sizeof(s->head) - s->head_n;
            took = n < room ? n : room;
            memcpy(s->head + s->head_n, b, took);
            s->head_n += (uint32_t)took;
            if (s->head_n == sizeof(s->head))
                head_done(m, s);
        } else {
            took = body_take(s, b, n);
            if (s->left == 0)
                side_done(m, s);
        }
        b += took;
        n -= took;
    }
}

void mongo_fini(struct mongo *m)
{
    for (int i = 0; i < 2; i++)
        mz_free(MZ_MEM_CONN, m->sides[i].keep);
}
