#ifndef MZ_AGENT_DNS_MESSAGE_H
#define MZ_AGENT_DNS_MESSAGE_H
/*
 * Messages of DNS (RFC 1035, EDNS of RFC 6891): an application's question, the same asked of a name server, answers of both
 * kinds. Foreign bytes; pure.
 */
#include "base/str.h"

#define MZ_DNS_NAME_MAX    254         /* bytes of a name as text, without a dot at its end; one more for a NUL */
#define MZ_DNS_MESSAGE_MAX 65535
#define MZ_DNS_UDP_MAX     1232        /* of a name server's answer by UDP: what no path fragments */
#define MZ_DNS_ASKED_MAX   (12 + 255 + 4 + 11)

enum mz_dns_type { MZ_DNS_A = 1, MZ_DNS_AAAA = 28 };
enum mz_dns_code { MZ_DNS_NOERROR, MZ_DNS_FORMERR, MZ_DNS_SERVFAIL, MZ_DNS_NXDOMAIN, MZ_DNS_NOTIMP };

struct mz_dns_question {
    uint16_t id, flags, type, class_;
    struct mz_str section;              /* the question as it came: name, type, class; borrowed */
    char name[MZ_DNS_NAME_MAX + 1];     /* lower-case; "" the root, or one that no host has (a dot within a label) */
    bool edns, dnssec;                  /* it has an OPT record; that record's DO */
    uint16_t room;                      /* bytes that the client takes by UDP: 512 at least */
};
enum mz_dns_read { MZ_DNS_READ_OK, MZ_DNS_READ_REFUSE /* answer @out_code */, MZ_DNS_READ_IGNORE /* no question at all */ };
/* On REFUSE id and flags are set, nothing else. */
enum mz_dns_read mz_dns_question_read(struct mz_str message, struct mz_dns_question *out, enum mz_dns_code *out_code);
/* The same question for a name server, under another @id. Returns its length. */
size_t mz_dns_question_write(const struct mz_dns_question *q, uint16_t id, char out[MZ_DNS_ASKED_MAX]);

/* ---- an answer of ours ---- */
struct mz_dns_reply {
    const struct mz_dns_question *q;
    char *p;
    size_t n, max;
    uint16_t owner, answers; /* owner: where the records' name stands */
    bool full;
};
/* @room of @p: at least MZ_DNS_ASKED_MAX and not above MZ_DNS_MESSAGE_MAX. */
void mz_dns_reply_begin(struct mz_dns_reply *r, const struct mz_dns_question *q, char *p, size_t room);
void mz_dns_reply_alias(struct mz_dns_reply *r, struct mz_str target, uint32_t ttl_s); /* CNAME; later records are the target's */
void mz_dns_reply_address(struct mz_dns_reply *r, enum mz_dns_type t, const void *bytes, uint32_t ttl_s);
/* What did not fit is left out and the answer marked as cut. Returns the length. */
size_t mz_dns_reply_end(struct mz_dns_reply *r, enum mz_dns_code code, bool authoritative);
size_t mz_dns_reply_error(uint16_t id, uint16_t flags, enum mz_dns_code code, char out[12]); /* to what could not be read */

/* A name server's @answer to mz_dns_question_write(), for who asked: his id, his spelling of the name, no OPT record where he
 * sent none; longer than @room: cut. 0: it answers something else. */
size_t mz_dns_reply_forward(const struct mz_dns_question *q, struct mz_str answer, char *p, size_t room);
#endif
