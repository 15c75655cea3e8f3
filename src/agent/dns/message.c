#include "agent/dns/message.h"

enum {
    HEADER = 12,
    LABEL_MAX = 63,
    NAME_WIRE_MAX = 255,
    OPT = 41,
    OPT_BYTES = 11,
    RECORD_HEAD = 10
};
enum {
    QR = 0x8000,
    OPCODE = 0x7800,
    AA = 0x0400,
    TC = 0x0200,
    RD = 0x0100,
    RA = 0x0080,
    AD = 0x0020,
    CD = 0x0010
};

struct reader {
    struct mz_str all;
    size_t at;
};

static unsigned get16(struct mz_str s, size_t at)
{
    return (unsigned)(uint8_t)s.p[at] << 8 | (uint8_t)s.p[at + 1];
}

static void put16(char *p, size_t at, unsigned v)
{
    p[at] = (char)(v >> 8);
    p[at + 1] = (char)v;
}

static bool has(const struct reader *r, size_t n)
{
    return r->all.n - r->at >= n;
}

/* ---- reading ---- */

static bool is_plain(uint8_t c)
{
    return c > ' ' && c < 0x7f && c != '.' && c != '\\';
}

/* The name of a question: labels without references. */
static bool take_name(struct reader *r, char out[MZ_DNS_NAME_MAX + 1])
{
    const size_t begin = r->at;
    size_t n = 0;
    bool plain = true;
    for (;;) {
        if (!has(r, 1))
            return false;
        const uint8_t len = (uint8_t)r->all.p[r->at++];
        if (!len)
            break;
        if (len > LABEL_MAX || !has(r, len) || r->at + len + 1 - begin > NAME_WIRE_MAX)
            return false;
        if (n)
            out[n++] = '.';
        for (size_t i = 0; i < len; i++) {
            const char c = r->all.p[r->at++];
            plain = plain && is_plain((uint8_t)c);
            out[n++] = mz_lower(c);
        }
    }
    out[plain ? n : 0] = 0;
    return true;
}

static bool skip_name(struct reader *r)
{
    while (has(r, 1)) {
        const uint8_t len = (uint8_t)r->all.p[r->at++];
        if (!len)
            return true;
        if (len >= 0xc0) {
            r->at++;
            return r->at <= r->all.n;
        }
        if (len > LABEL_MAX || !has(r, len))
            return false;
        r->at += len;
    }
    return false;
}

struct record {
    size_t begin, end;
    unsigned type, class_;
    uint32_t ttl;
};

static bool take_record(struct reader *r, struct record *out)
{
    out->begin = r->at;
    if (!skip_name(r) || !has(r, RECORD_HEAD))
        return false;
    const size_t data = get16(r->all, r->at + 8);
    out->type = get16(r->all, r->at);
    out->class_ = get16(r->all, r->at + 2);
    out->ttl = (uint32_t)get16(r->all, r->at + 4) << 16 | get16(r->all, r->at + 6);
    r->at += RECORD_HEAD;
    if (!has(r, data))
        return false;
    r->at += data;
    out->end = r->at;
    return true;
}

static bool take_opt(struct reader *r, unsigned records, struct mz_dns_question *q)
{
    struct record one;
    for (unsigned i = 0; i < records; i++) {
        if (!take_record(r, &one))
            return false;
        if (one.type != OPT)
            continue;
        if (q->edns)
            return false; /* more than one (RFC 6891 6.1.1) */
        q->edns = true;
        q->dnssec = one.ttl & 0x8000;
        q->room = (uint16_t)(one.class_ > 512 ? one.class_ : 512);
    }
    return true;
}

/* Which messages are looked at at all is what the field's own servers do: one question, few records behind it. */
enum mz_dns_read mz_dns_question_read(struct mz_str message, struct mz_dns_question *out,
                                      enum mz_dns_code *out_code)
{
    struct reader r = { message, HEADER };
    if (message.n < HEADER || get16(message, 2) & QR)
        return MZ_DNS_READ_IGNORE;
    out->id = (uint16_t)get16(message, 0);
    out->flags = (uint16_t)get16(message, 2);
    *out_code = MZ_DNS_NOTIMP;
    if (out->flags & OPCODE)
        return MZ_DNS_READ_REFUSE;
    *out_code = MZ_DNS_FORMERR;
    const unsigned answers = get16(message, 6), authority = get16(message, 8),
                   more = get16(message, 10);
    if (get16(message, 4) != 1 || answers > 1 || authority > 1 || more > 2)
        return MZ_DNS_READ_REFUSE;
    if (!take_name(&r, out->name) || !has(&r, 4))
        return MZ_DNS_READ_REFUSE;
    out->type = (uint16_t)get16(message, r.at);
    out->class_ = (uint16_t)get16(message, r.at + 2);
    r.at += 4;
    out->section = (struct mz_str){ message.p + HEADER, r.at - HEADER };
    out->edns = out->dnssec = false;
    out->room = 512;
    return take_opt(&r, answers + authority + more, out) ? MZ_DNS_READ_OK : MZ_DNS_READ_REFUSE;
}

/* ---- writing ---- */

static size_t put_opt(char *p, size_t n, unsigned room, bool dnssec)
{
    memset(p + n, 0, OPT_BYTES);
    put16(p, n + 1, OPT);
    put16(p, n + 3, room);
    put16(p, n + 7, dnssec ? 0x8000 : 0);
    return n + OPT_BYTES;
}

static void put_head(char *p, unsigned id, unsigned flags, unsigned answers, unsigned more)
{
    put16(p, 0, id);
    put16(p, 2, flags);
    put16(p, 4, 1);
    put16(p, 6, answers);
    put16(p, 8, 0);
    put16(p, 10, more);
}

/* Options of the client's are between him and us (RFC 6891 6.2.6). */
size_t mz_dns_question_write(const struct mz_dns_question *q, uint16_t id,
                             char out[MZ_DNS_ASKED_MAX])
{
    put_head(out, id, q->flags & (RD | AD | CD), 0, q->edns);
    memcpy(out + HEADER, q->section.p, q->section.n);
    const size_t n = HEADER + q->section.n;
    return q->edns ? put_opt(out, n, MZ_DNS_UDP_MAX, q->dnssec) : n;
}

void mz_dns_reply_begin(struct mz_dns_reply *r, const struct mz_dns_question *q, char *p,
                        size_t room)
{
    *r = (struct mz_dns_reply){ .q = q, .p = p, .owner = HEADER };
    r->max = room - (q->edns ? OPT_BYTES : 0);
    memcpy(p + HEADER, q->section.p, q->section.n);
    r->n = HEADER + q->section.n;
}

static bool put_record(struct mz_dns_reply *r, unsigned type, uint32_t ttl_s, size_t data)
{
    const size_t n = 2 + RECORD_HEAD;
    if (r->full || r->max - r->n < n + data) {
        r->full = true;
        return false;
    }
    char *p = r->p + r->n;
    put16(p, 0, 0xc000u | r->owner);
    put16(p, 2, type);
    put16(p, 4, 1);
    put16(p, 6, ttl_s >> 16);
    put16(p, 8, ttl_s & 0xffff);
    put16(p, 10, (unsigned)data);
    r->n += n;
    r->answers++;
    return true;
}

void mz_dns_reply_alias(struct mz_dns_reply *r, struct mz_str target, uint32_t ttl_s)
{
    struct mz_str label;
    if (!put_record(r, 5, ttl_s, target.n + 2))
        return;
    r->owner = (uint16_t)r->n;
    while (mz_str_split(&target, '.', &label)) {
        r->p[r->n++] = (char)label.n;
        memcpy(r->p + r->n, label.p, label.n);
        r->n += label.n;
    }
    r->p[r->n++] = 0;
}

void mz_dns_reply_address(struct mz_dns_reply *r, enum mz_dns_type t, const void *bytes,
                          uint32_t ttl_s)
{
    const size_t n = t == MZ_DNS_A ? 4 : 16;
    if (!put_record(r, t, ttl_s, n))
        return;
    memcpy(r->p + r->n, bytes, n);
    r->n += n;
}

size_t mz_dns_reply_end(struct mz_dns_reply *r, enum mz_dns_code code, bool authoritative)
{
    const struct mz_dns_question *q = r->q;
    put_head(r->p, q->id,
             QR | RA | (q->flags & (RD | CD)) | (authoritative ? AA : 0) | (r->full ? TC : 0) |
                 code,
             r->answers, q->edns);
    return q->edns ? put_opt(r->p, r->n, MZ_DNS_UDP_MAX, q->dnssec) : r->n;
}

size_t mz_dns_reply_error(uint16_t id, uint16_t flags, enum mz_dns_code code, char out[12])
{
    memset(out, 0, HEADER);
    put16(out, 0, id);
    put16(out, 2, QR | (flags & (OPCODE | RD)) | code);
    return HEADER;
}

/* ---- an answer from elsewhere ---- */

static bool is_of(const struct mz_dns_question *q, struct mz_str answer)
{
    return answer.n >= HEADER + q->section.n && get16(answer, 2) & QR && get16(answer, 4) == 1 &&
           mz_str_ieq((struct mz_str){ answer.p + HEADER, q->section.n }, q->section);
}

/* Where the OPT record stands that is the last of all records; 0: there is none such. */
static size_t opt_at_end(struct mz_str answer, size_t question)
{
    struct reader r = { answer, HEADER + question };
    struct record one = { 0 };
    const unsigned n = get16(answer, 6) + get16(answer, 8) + get16(answer, 10);
    if (!get16(answer, 10))
        return 0;
    for (unsigned i = 0; i < n; i++)
        if (!take_record(&r, &one))
            return 0;
    return one.type == OPT && one.end == answer.n ? one.begin : 0;
}

size_t mz_dns_reply_forward(const struct mz_dns_question *q, struct mz_str answer, char *p,
                            size_t room)
{
    if (!is_of(q, answer) || answer.n > MZ_DNS_MESSAGE_MAX)
        return 0;
    const size_t opt = q->edns ? 0 : opt_at_end(answer, q->section.n);
    const unsigned flags = get16(answer, 2);
    size_t n = opt ? opt : answer.n;
    if (n > room) {
        struct mz_dns_reply r;
        mz_dns_reply_begin(&r, q, p, room);
        r.full = true;
        return mz_dns_reply_end(&r, (enum mz_dns_code)(flags & 15), flags & AA);
    }
    memcpy(p, answer.p, n);
    memcpy(p + HEADER, q->section.p, q->section.n);
    put16(p, 0, q->id);
    if (opt)
        put16(p, 10, get16(answer, 10) - 1);
    return n;
}
