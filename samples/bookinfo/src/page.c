/* The product page as HTML: one document, nothing to fetch. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "../../common/text.h"
#include "bookinfo.h"

extern const char page_style[]; /* style.css */

static void begin(struct text *t, const char *user)
{
    text_add(t,
             "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
             "content=\"width=device-width\">"
             "<title>%s</title><style>%s</style><header><b>Bookinfo</b>",
             book.title, page_style);
    if (user) {
        text_add(t, "<form action=/logout><span>");
        text_html(t, user);
        text_add(t, "</span><button>Sign out</button></form>");
    } else {
        text_add(t, "<form method=post action=/login><input name=username placeholder=jason "
                    "aria-label=name required>"
                    "<input type=hidden name=passwd><button>Sign in</button></form>");
    }
    text_add(t, "</header><main>");
}

/* A member as text, whatever it is. */
static void member(struct text *t, const char *label, const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);
    if (!json_is_string(v) && !json_is_integer(v))
        return;
    text_add(t, "<div><dt>%s</dt><dd>", label);
    if (json_is_string(v))
        text_html(t, json_string_value(v));
    else
        text_add(t, "%lld", (long long)json_integer_value(v));
    text_add(t, "</dd></div>");
}

static void write_details(struct text *t, const json_t *d)
{
    text_add(t, "<h2>Details</h2>");
    if (!d) {
        text_add(t, "<p class=note>The details of this book cannot be shown: the service did not "
                    "give them.</p>");
        return;
    }
    text_add(t, "<dl>");
    member(t, "Type", d, "type");
    member(t, "Pages", d, "pages");
    member(t, "Publisher", d, "publisher");
    member(t, "Language", d, "language");
    member(t, "Year", d, "year");
    member(t, "ISBN-10", d, "ISBN-10");
    member(t, "ISBN-13", d, "ISBN-13");
    text_add(t, "</dl>");
}

static void write_stars(struct text *t, const json_t *rating)
{
    const json_t *n = json_object_get(rating, "stars"), *color = json_object_get(rating, "color");
    if (!rating)
        return;
    if (!json_is_integer(n)) {
        text_add(t, "<span class=bad>ratings did not answer</span>");
        return;
    }
    const json_int_t stars = json_integer_value(n);
    text_add(t, "<span class=stars aria-label=\"%lld of 5\" style=\"color:", (long long)stars);
    const char *c = json_string_value(color);
    text_html(t, !c                    ? "inherit"
                 : !strcmp(c, "black") ? "var(--ink)"
                 : !strcmp(c, "red")   ? "var(--red)"
                                       : c);
    text_add(t, "\">");
    for (json_int_t i = 0; i < 5; i++)
        text_add(t, i < stars ? "&#9733;" : "<s>&#9733;</s>");
    text_add(t, "</span>");
}

static void write_reviews(struct text *t, const json_t *doc)
{
    size_t i;
    const json_t *one, *list = json_object_get(doc, "reviews");
    text_add(t, "<h2>Reviews</h2>");
    if (!json_is_array(list)) {
        text_add(t,
                 "<p class=note>There are no reviews to show: the service did not give them.</p>");
        return;
    }
    text_add(t, "<div class=reviews>");
    json_array_foreach(list, i, one)
    {
        const char *what = json_string_value(json_object_get(one, "text"));
        const char *who = json_string_value(json_object_get(one, "reviewer"));
        text_add(t, "<blockquote><p>");
        text_html(t, what ? what : "");
        text_add(t, "</p><footer><span>");
        text_html(t, who ? who : "");
        text_add(t, "</span>");
        write_stars(t, json_object_get(one, "rating"));
        text_add(t, "</footer></blockquote>");
    }
    text_add(t, "</div>");
}

static void write_calls(struct text *t, const struct page *p)
{
    const char *pod = json_string_value(json_object_get(p->reviews, "podname"));
    text_add(t, "<h2>How this page was made</h2><table><tr><th>asked<th>answered "
                "by<th>status<th>took</tr>");
    for (size_t i = 0; i < p->n_calls; i++) {
        const struct made_of *m = &p->calls[i];
        text_add(t, "<tr><td>%s<td>", m->service);
        text_html(t, m->who ? m->who : "-");
        if (pod && !strcmp(m->service, "reviews")) {
            text_add(t, ", pod ");
            text_html(t, pod);
        }
        text_add(t, "<td>");
        if (m->status)
            text_add(t, m->status < 400 ? "%d" : "<span class=bad>%d</span>", m->status);
        else
            text_add(t, "<span class=bad>%s</span>", m->error);
        text_add(t, "<td>%.1f ms</tr>", m->ms);
    }
    text_add(t, "</table><p class=by>productpage in pod ");
    text_html(t, set.pod);
    text_add(t, "</p>");
}

void page_write(struct text *t, const struct page *p)
{
    begin(t, p->user);
    text_add(t,
             "<section class=book><div class=cover><i>%s</i><small>%s</small></div><div><h1>%s</h1>"
             "<p class=by>%s</p><p>",
             book.title, book.author, book.title, book.author);
    text_html(t, book.about);
    text_add(t, "</p></div></section>");
    write_details(t, p->details);
    write_reviews(t, p->reviews);
    write_calls(t, p);
    text_add(t, "</main></html>\n");
}

void page_write_index(struct text *t)
{
    begin(t, NULL);
    text_add(
        t,
        "<h1>Bookinfo</h1><p class=by>Four small services behind proxies, one page.</p><p><a "
        "href=/productpage>The page</a>, "
        "as everybody sees it. Sign in as <b>jason</b> and rules that look for him take effect. "
        "<a href=/api/v1/products>/api/v1/products</a> is the same as JSON.</p></main></html>\n");
}
