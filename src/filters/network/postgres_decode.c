#include "filters/network/postgres_decode.h"

#include <string.h>

#include "base/alloc.h"
#include "base/str.h"

#define STARTUP_MAX  10000                  /* bytes, PostgreSQL's MAX_STARTUP_PACKET_LENGTH */
#define REQUEST_BASE (UINT32_C(1234) << 16) /* codes from here on ask for encryption or a cancel */

static const char frontend_types[] = "BCdcfDEHFpPQSX";
static const char backend_types[] = "RK23CdcGHWDIEVvnNAtS1sZT";

static void add(struct pg *p, enum pg_stat s)
{
    p->count(p->arg, s);
}

static uint32_t be32(const char *b)
{
    const unsigned char *u = (const unsigned char *)b;
    return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

/* ---- what messages mean ---- */

static void statement(struct pg *p, struct mz_str tag)
{
    static const struct {
        struct mz_str word;
        enum pg_stat stat;
    } known[] = {
        { MZ_STR_INIT("SELECT"), PG_STATEMENTS_SELECT },
        { MZ_STR_INIT("INSERT"), PG_STATEMENTS_INSERT },
        { MZ_STR_INIT("UPDATE"), PG_STATEMENTS_UPDATE },
        { MZ_STR_INIT("DELETE"), PG_STATEMENTS_DELETE },
    };
    enum pg_stat kind = PG_STATEMENTS_OTHER;
    for (size_t i = 0; i < MZ_COUNT(known); i++)
        if (mz_str_eq(tag, known[i].word))
            kind = known[i].stat;
    add(p, PG_STATEMENTS);
    add(p, kind);
    if (mz_str_eq(tag, MZ_STR("BEGIN")) || mz_str_eq(tag, MZ_STR("START"))) {
        if (!p->in_transaction)
            add(p, PG_TRANSACTIONS);
        p->in_transaction = true;
    } else if (mz_str_eq(tag, MZ_STR("COMMIT"))) {
        p->in_transaction = false;
        add(p, PG_TRANSACTIONS_COMMIT);
    } else if (mz_str_eq(tag, MZ_STR("ROLLBACK"))) {
        if (p->in_transaction)
            add(p, PG_TRANSACTIONS_ROLLBACK);
        p->in_transaction = false;
    } else if (!p->in_transaction) { /* one of its own */
        add(p, PG_TRANSACTIONS);
        add(p, PG_TRANSACTIONS_COMMIT);
    }
}

struct severity {
    struct mz_str word;
    enum pg_stat stat;
};
static const struct severity errors[] = {
    { MZ_STR_INIT("ERROR"), PG_ERRORS_ERROR },
    { MZ_STR_INIT("FATAL"), PG_ERRORS_FATAL },
    { MZ_STR_INIT("PANIC"), PG_ERRORS_PANIC },
};
static const struct severity notices[] = {
    { MZ_STR_INIT("WARNING"), PG_NOTICES_WARNING }, { MZ_STR_INIT("NOTICE"), PG_NOTICES_NOTICE },
    { MZ_STR_INIT("DEBUG"), PG_NOTICES_DEBUG },     { MZ_STR_INIT("INFO"), PG_NOTICES_INFO },
    { MZ_STR_INIT("LOG"), PG_NOTICES_LOG },
};

/* Fields are a letter and a text that ends with NUL; S is the severity, V the same in English (from 9.6 on). */
static enum pg_stat severity_of(struct mz_str body, const struct severity *v, size_t n,
                                enum pg_stat unknown)
{
    if (!body.n || body.p[0] != 'S')
        return unknown;
    while (body.n > 1 && body.p[0]) {
        const char *end = memchr(body.p + 1, '\0', body.n - 1);
        if (!end)
            break;
        struct mz_str text = { body.p + 1, (size_t)(end - body.p) - 1 };
        for (size_t i = 0; i < n && (body.p[0] == 'S' || body.p[0] == 'V'); i++)
            if (mz_str_eq(text, v[i].word))
                return v[i].stat;
        body = mz_str_skip(body, text.n + 2);
    }
    return unknown;
}

static void backend(struct pg *p, char type, struct mz_str body)
{
    switch (type) {
    case 'R': /* authentication is done */
        if (body.n >= 4 && be32(body.p) == 0) {
            add(p, PG_SESSIONS);
            add(p, PG_SESSIONS_UNENCRYPTED);
        }
        break;
    case 'C': {
        size_t n = 0;
        while (n < body.n && body.p[n] != ' ' && body.p[n] != '\0')
            n++;
        statement(p, (struct mz_str){ body.p, n });
        break;
    }
    case 'E':
        add(p, PG_ERRORS);
        add(p, severity_of(body, errors, MZ_COUNT(errors), PG_ERRORS_UNKNOWN));
        break;
    case 'N':
        add(p, PG_NOTICES);
        add(p, severity_of(body, notices, MZ_COUNT(notices), PG_NOTICES_UNKNOWN));
        break;
    default:
        break;
    }
}

static void message(struct pg *p, bool from_client, struct pg_side *s)
{
    char type = s->head[0];
    add(p, PG_MESSAGES);
    add(p, from_client ? PG_MESSAGES_FRONTEND : PG_MESSAGES_BACKEND);
    if (!type || !strchr(from_client ? frontend_types : backend_types, type)) {
        add(p, PG_MESSAGES); /* as Envoy: it counts both ways */
        add(p, PG_MESSAGES_UNKNOWN);
    } else if (!from_client) {
        backend(p, type, (struct mz_str){ s->keep, s->keep_n });
    } else if (type == 'X' && p->in_transaction) {
        p->in_transaction = false;
        add(p, PG_TRANSACTIONS_ROLLBACK);
    }
}

/* The first message has no type; its code tells the version, or asks for encryption. */
static void startup(struct pg *p, const struct pg_side *s)
{
    p->started = true;
    if (s->keep_n < 4 || be32(s->keep) < REQUEST_BASE)
        return;
    add(p, PG_MESSAGES);
    add(p, PG_MESSAGES_FRONTEND);
    add(p, PG_SESSIONS);
    add(p, PG_SESSIONS_ENCRYPTED);
    p->deaf = true;
}

/* ---- pieces ---- */

static size_t head_size(const struct pg *p)
{
    return p->started ? 5 : 4;
}

/* The head is complete: how long is the body? */
static void head_read(struct pg *p, struct pg_side *s)
{
    uint32_t length = be32(s->head + head_size(p) - 4);
    if (length < 4 || (!p->started && (length < 8 || length > STARTUP_MAX))) {
        p->deaf = true;
        return;
    }
    s->left = length - 4;
    s->keep_n = 0;
}

static void whole(struct pg *p, bool frontend, struct pg_side *s)
{
    s->head_n = 0;
    if (p->started)
        message(p, frontend, s);
    else
        startup(p, s);
}

static size_t body_take(struct pg_side *s, const char *b, size_t n)
{
    size_t take = n < s->left ? n : s->left;
    size_t room = (size_t)PG_KEEP - s->keep_n, keep = take < room ? take : room;
    memcpy(s->keep + s->keep_n, b, keep);
    s->keep_n = (uint16_t)(s->keep_n + keep);
    s->left -= (uint32_t)take;
    return take;
}

void pg_feed(struct pg *p, bool frontend, const char *b, size_t n)
{
    struct pg_side *s = &p->sides[frontend];
    while (n && !p->deaf) {
        size_t head = head_size(p), took = 1;
        if (!frontend && !p->started) { /* a server speaks second */
            p->deaf = true;
        } else if (s->head_n < head) {
            s->head[s->head_n++] = *b;
            if (s->head_n == head) {
                head_read(p, s);
                if (!p->deaf && s->left == 0)
                    whole(p, frontend, s);
            }
        } else {
            took = body_take(s, b, n);
            if (s->left == 0)
                whole(p, frontend, s);
        }
        b += took;
        n -= took;
    }
}
