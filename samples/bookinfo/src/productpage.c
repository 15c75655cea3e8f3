/* productpage: the page, its API, signing in */
#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../common/client.h"
#include "../../common/message.h"
#include "../../common/server.h"
#include "../../common/text.h"
#include "../../common/trace.h"
#include "bookinfo.h"

enum { USER_MAX = 32, WAIT_MS = 3000, DETAILS = 0, REVIEWS = 1 };

struct product { /* a request that waits for others */
    struct conn *c;
    struct text fields; /* passed on to them */
    char user[USER_MAX + 1];
    long id;
    unsigned waits_for, tries;
    json_t *doc[2];
    struct made_of calls[3];
    char who[2][128], error[2][96];
};

/* ---- who is signed in ---- */

static bool is_name(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)s[i]) && !strchr("._@-", s[i]))
            return false;
    return n > 0 && n <= USER_MAX;
}

/* "name=value" in @s, between separators. */
static bool take_value(const char *s, size_t n, const char *name, const char *between,
                       char out[USER_MAX + 1])
{
    char copy[2048];
    snprintf(copy, sizeof(copy), "%.*s", (int)(n < sizeof(copy) ? n : sizeof(copy) - 1), s);
    const size_t len = strlen(name);
    for (char *p = copy; *p; p += strcspn(p, between)) {
        p += strspn(p, between);
        const size_t v =
            strncmp(p, name, len) == 0 && p[len] == '=' ? strcspn(p + len + 1, between) : 0;
        if (!is_name(p + len + 1, v))
            continue;
        snprintf(out, USER_MAX + 1, "%.*s", (int)v, p + len + 1);
        return true;
    }
    return false;
}

static void sign_in(struct conn *c, const struct request *r)
{
    char user[USER_MAX + 1], fields[256];
    if (!take_value(r->body, r->body_len, "username", "&", user)) {
        answer_text(c, 400, "a name has letters, digits and . _ @ -\n");
        return;
    }
    snprintf(fields, sizeof(fields),
             "location: /productpage\r\nset-cookie: session=%s; Path=/; HttpOnly; SameSite=Lax\r\n",
             user);
    answer(c, &(struct answer){ .status = 302, .fields = fields });
}

static void sign_out(struct conn *c)
{
    answer(c, &(struct answer){ .status = 302,
                                .fields = "location: /productpage\r\n"
                                          "set-cookie: session=; Path=/; Max-Age=0\r\n" });
}

/* ---- what others say ---- */

static void product_done(struct product *p)
{
    for (size_t i = 0; i < 2; i++)
        json_decref(p->doc[i]);
    text_fini(&p->fields);
    free(p);
}

static void maybe_show(struct product *p)
{
    if (p->waits_for)
        return;
    struct text page = { 0 };
    page_write(&page, &(struct page){ .user = p->user[0] ? p->user : NULL,
                                      .details = p->doc[DETAILS],
                                      .reviews = p->doc[REVIEWS],
                                      .calls = p->calls,
                                      .n_calls = 2 });
    answer(p->c,
           &(struct answer){
               .status = 200, .type = "text/html; charset=utf-8", .body = page.p, .len = page.n });
    text_fini(&page);
    product_done(p);
}

static void take(struct product *p, int which, const char *service, const struct call_reply *r)
{
    struct made_of *m = &p->calls[which];
    p->doc[which] = r->status == 200 ? json_loadb(r->body, r->body_len, 0, NULL) : NULL;
    snprintf(p->error[which], sizeof(p->error[0]), "%s", r->error ? r->error : "");
    *m = (struct made_of){ .service = service,
                           .status = r->status,
                           .error = p->error[which],
                           .ms = m->ms + (double)r->us / 1000 };
    if (r->status && message_field(r->head, r->head_len, "x-served-by", p->who[which], 128))
        m->who = p->who[which];
}

static void have_details(void *arg, const struct call_reply *r)
{
    struct product *p = arg;
    take(p, DETAILS, "details", r);
    p->waits_for--;
    maybe_show(p);
}

static void ask_reviews(struct product *p);

static void have_reviews(void *arg, const struct call_reply *r)
{
    struct product *p = arg;
    take(p, REVIEWS, "reviews", r);
    if (!p->doc[REVIEWS] && ++p->tries < 2) { /* the field's sample asks twice, too */
        ask_reviews(p);
        return;
    }
    p->waits_for--;
    maybe_show(p);
}

static void ask(struct product *p, const char *host, int port, const char *what, call_fn *done)
{
    char path[64];
    snprintf(path, sizeof(path), "/%s/%ld", what, p->id);
    call_get(&(struct call_to){ .host = host,
                                .port = port,
                                .path = path,
                                .fields = p->fields.p,
                                .timeout_ms = WAIT_MS },
             done, p);
}

static void ask_reviews(struct product *p)
{
    ask(p, set.reviews_host, set.reviews_port, "reviews", have_reviews);
}

static struct product *product_begin(struct conn *c, const struct request *r, long id)
{
    struct product *p = must(calloc(1, sizeof(*p)));
    char cookie[2048], known[64];
    p->c = c;
    p->id = id;
    trace_pass(r, &p->fields);
    if (request_field(r, "cookie", cookie, sizeof(cookie)) &&
        take_value(cookie, strlen(cookie), "session", "; ", p->user) &&
        !request_field(r, "end-user", known, sizeof(known)))
        text_add(&p->fields, "end-user: %s\r\n", p->user);
    hold(c);
    return p;
}

/* ---- the API: what one of the others says, as it says it ---- */

static void pass_on(void *arg, const struct call_reply *r)
{
    struct product *p = arg;
    if (r->status)
        answer(p->c, &(struct answer){ .status = r->status,
                                       .type = "application/json",
                                       .body = r->body,
                                       .len = r->body_len });
    else
        answer_json(p->c, 503, "{\"error\":\"the service did not answer\"}");
    product_done(p);
}

static void list_products(struct conn *c)
{
    struct text t = { 0 };
    text_add(&t, "[{\"id\":0,\"title\":\"%s\",\"descriptionHtml\":", book.title);
    text_json(&t, book.about);
    text_add(&t, "}]");
    answer_json(c, 200, t.p);
    text_fini(&t);
}

static void serve_api(struct conn *c, const struct request *r)
{
    char rest[16] = "";
    long id = -1;
    int n = 0;
    (void)sscanf(r->path, "/api/v1/products/%6ld%n/%15s", &id, &n, rest); /* id stays -1 */
    if (id < 0 || (r->path[n] != 0 && strcmp(rest, "reviews") != 0 && strcmp(rest, "ratings") != 0))
        answer_json(c, 404, "{\"error\":\"not found\"}");
    else if (!strcmp(rest, "reviews"))
        ask(product_begin(c, r, id), set.reviews_host, set.reviews_port, rest, pass_on);
    else if (!strcmp(rest, "ratings"))
        ask(product_begin(c, r, id), set.ratings_host, set.ratings_port, rest, pass_on);
    else
        ask(product_begin(c, r, id), set.details_host, set.details_port, "details", pass_on);
}

static void show(struct conn *c, const struct request *r)
{
    struct product *p = product_begin(c, r, 0);
    p->waits_for = 2;
    ask(p, set.details_host, set.details_port, "details", have_details);
    ask_reviews(p);
}

static void show_index(struct conn *c)
{
    struct text t = { 0 };
    page_write_index(&t);
    answer(c, &(struct answer){
                  .status = 200, .type = "text/html; charset=utf-8", .body = t.p, .len = t.n });
    text_fini(&t);
}

void productpage_serve(struct conn *c, const struct request *r)
{
    if (!strcmp(r->path, "/productpage"))
        show(c, r);
    else if (!strcmp(r->path, "/api/v1/products"))
        list_products(c);
    else if (!strncmp(r->path, "/api/v1/products/", 17))
        serve_api(c, r);
    else if (!strcmp(r->path, "/login") && !strcmp(r->method, "POST"))
        sign_in(c, r);
    else if (!strcmp(r->path, "/logout"))
        sign_out(c);
    else if (!strcmp(r->path, "/") || !strcmp(r->path, "/index.html"))
        show_index(c);
    else
        answer_text(c, 404, "not found\n");
}
