/* details, reviews, ratings */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../common/client.h"
#include "../../common/loop.h"
#include "../../common/server.h"
#include "../../common/text.h"
#include "../../common/trace.h"
#include "bookinfo.h"

long id_in(const char *path, const char *prefix)
{
    const size_t n = strlen(prefix);
    if (strncmp(path, prefix, n) != 0 || path[n] < '0' || path[n] > '9')
        return -1;
    char *end;
    const long id = strtol(path + n, &end, 10);
    return *end == 0 && id <= 1000000 ? id : -1;
}

static void send_json(struct conn *c, int status, const struct text *t, int64_t later_ms)
{
    const struct answer a = {
        .status = status, .type = "application/json", .body = t->p, .len = t->n
    };
    if (later_ms)
        answer_later(c, &a, later_ms);
    else
        answer(c, &a);
}

void answer_json(struct conn *c, int status, const char *json)
{
    struct text t = { 0 };
    text_add(&t, "%s", json);
    send_json(c, status, &t, 0);
    text_fini(&t);
}

static void refuse(struct conn *c, const char *path, const char *prefix)
{
    if (strncmp(path, prefix, strlen(prefix)) != 0)
        answer_json(c, 404, "{\"error\":\"not found\"}");
    else
        answer_json(c, 400, "{\"error\":\"please give the number of a product\"}");
}

/* ---- details ---- */

void details_serve(struct conn *c, const struct request *r)
{
    const long id = id_in(r->path, "/details/");
    if (id < 0) {
        refuse(c, r->path, "/details/");
        return;
    }
    struct text t = { 0 };
    text_add(&t,
             "{\"id\":%ld,\"author\":\"%s\",\"year\":%d,\"type\":\"%s\",\"pages\":%d,"
             "\"publisher\":\"%s\",\"language\":\"%s\",\"ISBN-10\":\"%s\",\"ISBN-13\":\"%s\"}",
             id, book.author, book.year, book.type, book.pages, book.publisher, book.language,
             book.isbn10, book.isbn13);
    send_json(c, 200, &t, 0);
    text_fini(&t);
}

/* ---- ratings ---- */

/* The faulty versions fail by turns, so that what is counted is known before. */
void ratings_serve(struct conn *c, const struct request *r)
{
    static unsigned turn;
    const long id = id_in(r->path, "/ratings/");
    const char *v = set.version;
    if (id < 0) {
        refuse(c, r->path, "/ratings/");
        return;
    }
    const bool odd = ++turn % 2, minute = now_ms() / 60000 % 2;
    if ((!strcmp(v, "v-faulty") && odd) || (!strcmp(v, "v-unavailable") && minute)) {
        answer_json(c, 503, "{\"error\":\"ratings is out of order\"}");
        return;
    }
    struct text t = { 0 };
    text_add(&t, "{\"id\":%ld,\"ratings\":{\"Reviewer1\":5,\"Reviewer2\":4}}", id);
    send_json(c, 200, &t, !strcmp(v, "v-delayed") && odd ? 7000 : 0);
    text_fini(&t);
}

/* ---- reviews ---- */

struct asked {
    struct conn *c;
    long id;
};

/* @stars: of each reviewer; NULL without ratings, or where they could not be had */
static void say_reviews(struct conn *c, long id, const int stars[2])
{
    struct text t = { 0 };
    text_add(&t, "{\"id\":\"%ld\",\"podname\":", id);
    text_json(&t, set.pod);
    text_add(&t, ",\"clustername\":\"null\",\"reviews\":[");
    for (int i = 0; i < 2; i++) {
        text_add(&t, "%s{\"reviewer\":\"Reviewer%d\",\"text\":", i ? "," : "", i + 1);
        text_json(&t, review_texts[i]);
        if (set.with_ratings && stars) {
            text_add(&t, ",\"rating\":{\"stars\":%d,\"color\":", stars[i]);
            text_json(&t, set.star_color);
            text_add(&t, "}");
        } else if (set.with_ratings) {
            text_add(&t, ",\"rating\":{\"error\":\"ratings did not answer\"}");
        }
        text_add(&t, "}");
    }
    text_add(&t, "]}");
    send_json(c, 200, &t, 0);
    text_fini(&t);
}

static void have_ratings(void *arg, const struct call_reply *r)
{
    struct asked *a = arg;
    int stars[2] = { 0 };
    json_t *doc = r->status == 200 ? json_loadb(r->body, r->body_len, 0, NULL) : NULL;
    const bool ok = doc && json_unpack(doc, "{s:{s:i,s:i}}", "ratings", "Reviewer1", &stars[0],
                                       "Reviewer2", &stars[1]) == 0;
    json_decref(doc);
    say_reviews(a->c, a->id, ok ? stars : NULL);
    free(a);
}

void reviews_serve(struct conn *c, const struct request *r)
{
    const long id = id_in(r->path, "/reviews/");
    if (id < 0) {
        refuse(c, r->path, "/reviews/");
        return;
    }
    if (!set.with_ratings) {
        say_reviews(c, id, NULL);
        return;
    }
    struct asked *a = must(malloc(sizeof(*a)));
    struct text fields = { 0 };
    char path[64];
    *a = (struct asked){ c, id };
    snprintf(path, sizeof(path), "/ratings/%ld", id);
    trace_pass(r, &fields);
    hold(c);
    /* as in the field's sample, where the version with black stars is the one that waits too long for its caller */
    call_get(&(struct call_to){ .host = set.ratings_host,
                                .port = set.ratings_port,
                                .path = path,
                                .fields = fields.p,
                                .timeout_ms = !strcmp(set.star_color, "black") ? 10000 : 2500 },
             have_ratings, a);
    text_fini(&fields);
}
