/* Heads of Kafka's messages; requests and responses find each other by correlation id (L5). */
#include "filters/network/kafka_decode.h"

#include "base/alloc.h"
#include <string.h>

#define REQUEST_HEAD  12
#define RESPONSE_HEAD 8
#define SIZE          4

static const int16_t versions[KAFKA_N_APIS] = {
#define X(key, name, version) [key] = (version),
    KAFKA_APIS(X)
#undef X
};

static uint32_t be32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int16_t be16(const unsigned char *p)
{
    return (int16_t)(uint16_t)(p[0] << 8 | p[1]);
}

/* ---- requests that wait ---- */

static void open_drop(struct kafka *k, size_t n)
{
    k->n_open -= n;
    memmove(k->open, k->open + n, k->n_open * sizeof(*k->open));
}

static void open_add(struct kafka *k, const struct kafka_open *o)
{
    if (k->n_open == KAFKA_OPEN_MAX)
        open_drop(k, KAFKA_OPEN_MAX / 2);
    if (k->n_open == k->cap_open) {
        k->cap_open = k->cap_open ? k->cap_open * 2 : 8;
        k->open = mz_realloc(MZ_MEM_CONN, k->open, k->cap_open * sizeof(*k->open));
    }
    k->open[k->n_open++] = *o;
}

/* Responses come in the order of requests: what stands before the one that is answered never gets any (acks=0). */
static bool open_take(struct kafka *k, int32_t correlation, struct kafka_open *out)
{
    for (size_t i = 0; i < k->n_open; i++)
        if (k->open[i].correlation == correlation) {
            *out = k->open[i];
            open_drop(k, i + 1);
            return true;
        }
    return false;
}

/* ---- messages ---- */

static bool known(int16_t key, int16_t version)
{
    return key >= 0 && key < KAFKA_N_APIS && version >= 0 && version <= versions[key];
}

static void request_end(struct kafka *k, const unsigned char *head, uint64_t now_us)
{
    struct kafka_open o = { .correlation = (int32_t)be32(head + 8),
                            .key = be16(head + 4),
                            .version = be16(head + 6),
                            .start_us = now_us };
    o.known = known(o.key, o.version);
    open_add(k, &o);
    const struct kafka_message m = {
        .request = true, .known = o.known, .key = o.key, .version = o.version
    };
    k->message(k->arg, &m);
}

static bool response_end(struct kafka *k, const unsigned char *head, uint64_t now_us)
{
    struct kafka_open o;
    if (!open_take(k, (int32_t)be32(head + 4), &o))
        return false;
    const struct kafka_message m = {
        .known = o.known, .key = o.key, .version = o.version, .took_us = now_us - o.start_us
    };
    k->message(k->arg, &m);
    return true;
}

/* The head is whole. False: no message is that small, or that large. */
static bool head_end(struct kafka_side *s, size_t head)
{
    uint32_t size = be32(s->head);
    if (size < head - SIZE || size > KAFKA_FRAME_MAX)
        return false;
    s->left = size - (uint32_t)(head - SIZE);
    return true;
}

void kafka_feed(struct kafka *k, bool from_client, const char *bytes, size_t n, uint64_t now_us)
{
    struct kafka_side *s = &k->sides[from_client];
    const size_t head = from_client ? REQUEST_HEAD : RESPONSE_HEAD;
    while (n && !s->deaf) {
        if (s->head_n < head) {
            s->head[s->head_n++] = (unsigned char)*bytes++;
            n--;
            if (s->head_n < head)
                continue;
            s->deaf = !head_end(s, head);
        } else {
            size_t part = s->left < n ? s->left : n;
            s->left -= (uint32_t)part;
            bytes += part;
            n -= part;
        }
        if (!s->deaf && s->left == 0) {
            s->head_n = 0;
            if (from_client)
                request_end(k, s->head, now_us);
            else
                s->deaf = !response_end(k, s->head, now_us);
        }
        if (s->deaf)
            k->broken(k->arg, from_client);
    }
}

void kafka_fini(struct kafka *k)
{
    mz_free(MZ_MEM_CONN, k->open);
}
