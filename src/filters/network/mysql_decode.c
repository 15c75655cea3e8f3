#include "filters/network/mysql_decode.h"

#include <string.h>

#define SSL_REQUEST_BYTES  32 /* of a login that goes no further than to ask for TLS */
#define CLIENT_PROTOCOL_41 0x0200
#define CLIENT_SSL         0x0800

enum state { GREETING, LOGIN, LOGIN_ANSWER, SWITCH_ANSWER, MORE, RESYNC, COMMAND, ANSWER, OTHER };
enum answer { SAID_OK = 0x00, SAID_MORE = 0x01, SAID_SWITCH = 0xfe, SAID_ERROR = 0xff };

static void add(struct mysql *m, enum mysql_stat s)
{
    m->count(m->arg, s);
}

static uint32_t length_of(const struct mysql_side *s)
{
    return s->head[0] | (uint32_t)s->head[1] << 8 | (uint32_t)s->head[2] << 16;
}

/* ---- what packets mean ---- */

static enum state login(struct mysql *m, const struct mysql_side *s)
{
    unsigned flags = s->keep_n >= 2 ? s->keep[0] | (unsigned)s->keep[1] << 8 : 0;
    if (flags & CLIENT_SSL) {
        add(m, MYSQL_UPGRADED);
        m->deaf = length_of(s) == SSL_REQUEST_BYTES;
    }
    return LOGIN_ANSWER;
}

static enum state accepted(struct mysql *m)
{
    m->expected = 0; /* commands count from there */
    return COMMAND;
}

static enum state login_answer(struct mysql *m, const struct mysql_side *s)
{
    if (s->keep_n == 0)
        return OTHER;
    switch (s->keep[0]) {
    case SAID_OK:
        return accepted(m);
    case SAID_SWITCH:
        add(m, MYSQL_AUTH_SWITCH);
        return SWITCH_ANSWER;
    case SAID_ERROR:
        add(m, MYSQL_LOGIN_FAILURES);
        return OTHER;
    case SAID_MORE:
        return MORE;
    default:
        return OTHER;
    }
}

static enum state more_answer(struct mysql *m, const struct mysql_side *s)
{
    if (s->keep_n == 0)
        return OTHER;
    switch (s->keep[0]) {
    case SAID_OK:
        return accepted(m);
    case SAID_MORE:
        return MORE;
    case SAID_ERROR:
        add(m, MYSQL_LOGIN_FAILURES);
        m->expected = 0;
        return RESYNC;
    default:
        return OTHER;
    }
}

static enum state packet(struct mysql *m, bool from_client, const struct mysql_side *s)
{
    switch ((enum state)m->state) {
    case GREETING:
        add(m, MYSQL_LOGIN_ATTEMPTS);
        return LOGIN;
    case LOGIN:
        return login(m, s);
    case LOGIN_ANSWER:
        return login_answer(m, s);
    case SWITCH_ANSWER:
        return MORE;
    case MORE:
        return from_client ? MORE : more_answer(m, s);
    case RESYNC:
    case COMMAND:
    case ANSWER:
        return ANSWER;
    case OTHER:
        break;
    }
    return OTHER;
}

/* A packet that is not the one that must come next says nothing, but for a command, which begins a new count. */
static void whole(struct mysql *m, bool from_client, struct mysql_side *s)
{
    uint8_t number = s->head[3];
    s->head_n = 0;
    if (number != m->expected) {
        if (m->state != ANSWER || number != 0) {
            add(m, MYSQL_PROTOCOL_ERRORS);
            return;
        }
        m->expected = 0;
    }
    m->expected++;
    m->state = (uint8_t)packet(m, from_client, s);
}

/* ---- pieces ---- */

static size_t body_take(struct mysql_side *s, const char *b, size_t n)
{
    size_t took = n < s->left ? n : s->left;
    size_t room = sizeof(s->keep) - s->keep_n, keep = took < room ? took : room;
    memcpy(s->keep + s->keep_n, b, keep);
    s->keep_n = (uint8_t)(s->keep_n + keep);
    s->left -= (uint32_t)took;
    return took;
}

void mysql_feed(struct mysql *m, bool from_client, const char *b, size_t n)
{
    struct mysql_side *s = &m->sides[from_client];
    while (n && !m->deaf) {
        size_t took = 1;
        if (s->head_n < sizeof(s->head)) {
            s->head[s->head_n++] = (unsigned char)*b;
            if (s->head_n == sizeof(s->head)) {
                s->left = length_of(s);
                s->keep_n = 0;
            }
        } else {
            took = body_take(s, b, n);
        }
        if (s->head_n == sizeof(s->head) && s->left == 0)
            whole(m, from_client, s);
        b += took;
        n -= took;
    }
}
