/* The four services of Bookinfo, with the paths, fields, environment and faults of the field's sample of that name. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct conn;
struct request;
struct text;
struct json_t;

/** What the program was told; set before the first request. */
struct settings {
    const char *service, *version, *pod;
    const char *details_host, *reviews_host, *ratings_host; /* with SERVICES_DOMAIN */
    int details_port, reviews_port, ratings_port;
    bool with_ratings;      /* reviews: ENABLE_RATINGS */
    const char *star_color; /* reviews: STAR_COLOR */
};
extern struct settings set;

void productpage_serve(struct conn *c, const struct request *r);
void details_serve(struct conn *c, const struct request *r);
void reviews_serve(struct conn *c, const struct request *r);
void ratings_serve(struct conn *c, const struct request *r);

/** The number after @prefix where @path is exactly that; -1 where it is something else. */
long id_in(const char *path, const char *prefix);
void answer_json(struct conn *c, int status, const char *json);
/** /health and /metrics, which all of them have; false where it was another path. */
bool common_serve(struct conn *c, const struct request *r);

/** The one book of the shop. */
struct book {
    const char *title, *author, *about, *type, *publisher, *language, *isbn10, *isbn13;
    int year, pages;
};
extern const struct book book;
/** The texts of its two reviews. */
extern const char *const review_texts[2];

/** One call that a page was made of. */
struct made_of {
    const char *service, *who; /* who: "reviews-v2-7d4b", or NULL */
    int status;                /* 0: no answer */
    const char *error;
    double ms;
};

/** What is on the product page; the texts are escaped where they are put into it. */
struct page {
    const char *user;                       /* NULL: nobody is signed in */
    const struct json_t *details, *reviews; /* NULL: could not be had */
    const struct made_of *calls;
    size_t n_calls;
};
void page_write(struct text *out, const struct page *p);
void page_write_index(struct text *out);
