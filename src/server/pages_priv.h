#ifndef MZ_SERVER_PAGES_PRIV_H
#define MZ_SERVER_PAGES_PRIV_H
/* Shared by the pages_*.c: each file has one list of pages; pages.c joins them. A handler's arg is the struct mz_pages. */
#include "base/alloc.h"
#include "base/arena.h"
#include "proto/mapper.h"
#include "server/pages.h"

struct mz_regex;
struct page_list {
    const struct mz_admin_page *v;
    size_t n;
};
struct mz_pages {
    struct mz_pages_env env;
    bool lookups; /* /stats/recentlookups/enable */
    struct mz_admin_page *v; /* copies with their arg */
    size_t n;
};
extern const struct page_list pages_config, pages_explain, pages_home, pages_logging, pages_memory, pages_state, pages_stats;

static inline char *page_chars(const char *s) /* messages want char *; nobody writes to it. NULL is "" */
{
    return (char *)(uintptr_t)(s ? s : "");
}

static inline void *page_new(struct mz_arena *a, const ProtobufCMessageDescriptor *d) /* a message without any field set */
{
    void *m = mz_arena_alloc(a, d->sizeof_message);
    protobuf_c_message_init(d, m);
    return m;
}

#define PAGE_TEXT "text/plain; charset=UTF-8"
#define PAGE_HTML "text/html; charset=UTF-8"
#define PAGE_JSON "application/json"

void page_text(struct mz_admin_reply *out, unsigned status, struct mz_str text);
/* HTML, and a policy under which nothing is loaded from elsewhere and no other site can frame the page (H07). */
void page_html(const struct mz_admin_request *rq, struct mz_admin_reply *out);
/* The message as Envoy prints it; @flags MZ_JSON_DEFAULTS or 0. */
void page_message(struct mz_admin_reply *out, const ProtobufCMessage *m, unsigned flags);
/* Reads what a manager wrote as JSON as a message of type @d (arena @a); NULL: it does not fit the schema. */
ProtobufCMessage *page_parse(struct mz_buf *json, const ProtobufCMessageDescriptor *d, struct mz_arena *a);
bool page_has(const struct mz_admin_request *rq, const char *name); /* is the parameter there, with or without a value? */
bool page_word(const struct mz_admin_request *rq, const char *name, const char *word); /* is its value this? */
/* The parameter's regex: true with NULL when it is absent, false when RE2 refuses it (@out_err holds its reason). */
bool page_regex(const struct mz_admin_request *rq, const char *name, struct mz_regex **out_regex, struct mz_str *out_err);

/* Every host status of the cluster manager, as a message. NULL: none. */
struct Envoy__Admin__V3__Clusters *page_clusters(struct mz_pages *p, struct mz_arena *a);

/* pages_dump.c: the parts of /config_dump, each a message of envoy.admin.v3 in the arena. */
struct dump {
    struct mz_pages *pages;
    struct mz_arena *arena;
    struct mz_regex *name; /* whole names of resources to show; NULL: all */
};
ProtobufCMessage *dump_bootstrap(const struct dump *d);
ProtobufCMessage *dump_clusters(const struct dump *d);
ProtobufCMessage *dump_endpoints(const struct dump *d);
ProtobufCMessage *dump_listeners(const struct dump *d);
ProtobufCMessage *dump_scoped_routes(const struct dump *d);
ProtobufCMessage *dump_routes(const struct dump *d);
ProtobufCMessage *dump_secrets(const struct dump *d);
/* One part for each kind of filter; NULL: nothing of the kind is subscribed to. */
ProtobufCMessage *dump_ecds_http(const struct dump *d);
ProtobufCMessage *dump_ecds_network(const struct dump *d);
ProtobufCMessage *dump_ecds_listener(const struct dump *d);

/* pages_mask.c: keeps of @m what the paths name (comma separated, "cluster.name"), also inside Any. False: a path names no
 * field of the message. */
bool mask_apply(ProtobufCMessage *m, struct mz_str paths, struct mz_arena *a);
#endif
