#ifndef MZ_CONTROL_TRANSLATE_TOUCH_H
#define MZ_CONTROL_TRANSLATE_TOUCH_H
/*
 * What changed since something was made: services, one by one, in models that stand on each other. Whoever keeps what it made notes
 * where it was (tr_touches.now), and changes what it has by what was touched since. Main thread.
 */
#include "control/model/model.h"

struct mz_translator;
struct tr_touch {
    uint64_t at;
    const struct mz_service *was, *is; /* NULL: not there. The same: its endpoints are others, and more follows from them, or... */
    const struct mz_patched_rule *rule; /* ... what holds for it is; NULL: that is not it. Without a service: for one that was there before, perhaps */
    const struct mz_patched_virtual *routed; /* no service, but a VirtualService; NULL: none */
    bool alone;   /* nobody else has any of its names: its virtual host follows from itself, and who routes it */
    bool spoken;  /* some VirtualService speaks for it */
    bool led_to;  /* some VirtualService has it as a destination */
    bool routed4; /* some VirtualService says something of its connections, or leads some to it */
};
static inline bool tr_touch_is_bare(const struct tr_touch *t) /* a rule, for no service that there is */
{
    return !t->was && !t->is && !t->routed;
}
static inline struct mz_str tr_touch_host(const struct tr_touch *t) /* "" of a VirtualService */
{
    return t->is ? t->is->host : t->was ? t->was->host : MZ_STR("");
}
struct tr_touches {
    MZ_VEC(struct tr_touch) v;
    uint64_t now, forgotten; /* the last one that is not known any more */
    struct tr_names *names;  /* NULL: not needed yet */
};
void tr_touches_clear(struct tr_touches *t); /* nothing that was made before can be changed to what is now */
/* Since @at, the oldest first. False: not known any more; make it anew. */
bool tr_touches_since(const struct tr_touches *t, uint64_t at, const struct tr_touch **out, size_t *out_n);
/* What @next, which stands on @m, has others. */
void tr_touches_add(struct tr_touches *t, const struct mz_model *m, const struct mz_model *next);
bool tr_is_alone(struct tr_touches *t, const struct mz_model *m, const struct mz_service *s); /* as tr_touch.alone */
bool tr_has_wildcards(const struct tr_touches *t); /* a VirtualService of the mesh speaks for one. After a touch was added */
bool tr_leads_to(const struct mz_virtual *v, struct mz_str host);
bool tr_is_led_to(struct tr_touches *t, const struct mz_model *m, struct mz_str host); /* some VirtualService has it as a destination */
#endif
