/* Requests that were: the records that proxies kept of one, joined. */
#include <stdio.h>

#include "cli/explain.h"
#include "cli/records.h"

static void tell(struct explain *x, const struct record *k)
{
    const struct mz_node *r = k->node, *story = mz_node_get(r, "story"),
                         *ms = mz_node_get(r, "duration_ms");
    const bool inbound = mz_str_eq(mz_node_text(r, "direction"), MZ_STR("inbound"));
    const struct mz_str flags = mz_node_text(r, "flags"), details = mz_node_text(r, "details");
    struct view view;
    view_open(&view, &x->pods, k->pod);
    (void)story_chapter(&x->story, inbound ? "inbound" : "outbound", k->pod->id,
                        mz_arena_printf(x->arena, "%s %.*s, %.*s", inbound ? "Into" : "Out of",
                                        MZ_STR_ARG(k->pod->id),
                                        MZ_STR_ARG(mz_node_text(r, "time"))));
    (void)story_say(&x->story, "request", "%.*s %.*s%.*s", MZ_STR_ARG(mz_node_text(r, "method")),
                    MZ_STR_ARG(mz_node_text(r, "authority")), MZ_STR_ARG(mz_node_text(r, "path")));
    struct telling t = { .x = x,
                         .view = &view,
                         .answer = r,
                         .past = true,
                         .inbound = inbound,
                         .listener = mz_node_text(r, "listener"),
                         .rule = { .kind = MZ_STR(""), .name = MZ_STR("") } };
    for (size_t i = 0; i < mz_node_count(story); i++)
        tell_step(&t, story->list[i]);
    const unsigned status = (unsigned)mz_node_number(r, "status");
    const bool flagged = flags.n && !mz_str_eq(flags, MZ_STR("-"));
    struct said *d = story_say(&x->story, "answer", "%u after %.*s ms%s%.*s%s%.*s", status,
                               MZ_STR_ARG(ms && ms->kind == MZ_NODE_NUM ? ms->text : MZ_STR("?")),
                               flagged ? ", " : "", MZ_STR_ARG(flagged ? flags : MZ_STR("")),
                               details.n ? ", " : "", MZ_STR_ARG(details));
    d->bad = flagged || !status || status >= 500;
    view_close(&view);
}

bool explain_past(struct explain *x, const char *request_id, struct mz_err *err)
{
    const struct records_ask ask = { .request_id = mz_str_c(request_id) };
    struct records r;
    records_load(&r, &x->pods, &ask, NULL);
    records_sort(&r, false);
    for (size_t i = 0; i < r.v.n; i++)
        tell(x, &r.v.v[i]);
    const size_t n = r.v.n;
    x->story.arrives = true;
    records_fini(&r);
    return n > 0 ||
           mz_err_set(err, "no proxy kept a request with this id: they keep what failed, was "
                           "refused or slow, and what is watched (mizzenctl tap)");
}
