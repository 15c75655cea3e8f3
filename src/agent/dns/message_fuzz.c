/* A question of an application and a name server's answer to it; a name table, and the names that are looked up in it. */
#include <stdlib.h>

#include "agent/dns/message.h"
#include "agent/dns/names.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char room[MZ_DNS_MESSAGE_MAX];

static void insist(bool ok)
{
    if (!ok)
        abort();
}

static void forwarded(const struct mz_dns_question *q, struct mz_str answer, size_t max)
{
    const size_t n = mz_dns_reply_forward(q, answer, room, max);
    insist(n <= max);
    insist(!n || (n >= 12 + q->section.n && memcmp(room + 12, q->section.p, q->section.n) == 0));
}

static void questions(struct mz_str message, struct mz_str answer)
{
    struct mz_dns_question q;
    enum mz_dns_code code;
    char asked[MZ_DNS_ASKED_MAX], whole[MZ_DNS_MESSAGE_MAX];
    if (mz_dns_question_read(message, &q, &code) != MZ_DNS_READ_OK)
        return;
    insist(strlen(q.name) <= MZ_DNS_NAME_MAX && q.section.n <= 259 && q.room >= 512);
    const size_t n = mz_dns_question_write(&q, 7, asked);
    struct mz_dns_question again;
    insist(mz_dns_question_read((struct mz_str){ asked, n }, &again, &code) == MZ_DNS_READ_OK);
    insist(mz_str_eq(again.section, q.section) && again.edns == q.edns);
    forwarded(&q, answer, q.room);
    if (answer.n + n > sizeof(whole))
        return;
    memcpy(whole, asked, n); /* the question, then what the bytes say */
    whole[2] = (char)0x80;
    if (answer.n > 5)
        memcpy(whole + 6, answer.p, 6);
    memcpy(whole + 12 + q.section.n, answer.p, answer.n);
    forwarded(&q, (struct mz_str){ whole, 12 + q.section.n + answer.n }, 512);
}

static void reply(const struct mz_dns_question *q, struct mz_names_found *found, size_t max)
{
    struct mz_dns_reply r;
    char bytes[16];
    mz_dns_reply_begin(&r, q, room, max);
    if (found->alias.n)
        mz_dns_reply_alias(&r, found->alias, 30);
    while (mz_names_next(&found->info, q->type, bytes))
        mz_dns_reply_address(&r, q->type, bytes, 30);
    insist(mz_dns_reply_end(&r, MZ_DNS_NOERROR, true) <= max);
}

static void names(struct mz_str table, struct mz_str message)
{
    static const struct mz_names_pod pod = { MZ_STR_INIT("shop"), MZ_STR_INIT("svc.cluster.local"),
                                             MZ_STR_INIT("shop.svc.cluster.local") };
    struct mz_names *t = mz_names_create(table, &pod);
    struct mz_names_found found;
    struct mz_dns_question q;
    enum mz_dns_code code;
    if (t && mz_dns_question_read(message, &q, &code) == MZ_DNS_READ_OK &&
        mz_names_find(t, mz_str_c(q.name), &found)) {
        insist(found.alias.n < strlen(q.name));
        q.type = q.type == MZ_DNS_AAAA ? MZ_DNS_AAAA : MZ_DNS_A;
        reply(&q, &found, 512);
    }
    mz_names_destroy(t);
}

/* Two bytes of length, a question, the rest. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2)
        return 0;
    const struct mz_str all = { (const char *)data + 2, n - 2 };
    size_t cut = (size_t)data[0] << 8 | data[1];
    cut = cut < all.n ? cut : all.n;
    const struct mz_str message = { all.p, cut }, rest = mz_str_skip(all, cut);
    questions(message, rest);
    names(rest, message);
    return 0;
}
