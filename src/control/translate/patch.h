#ifndef MZ_CONTROL_TRANSLATE_PATCH_H
#define MZ_CONTROL_TRANSLATE_PATCH_H
/*
 * EnvoyFilters (C5). They work on finished resources: a copy of each that something could be about is opened, patched, checked and
 * packed anew. A patch that would make a resource which proxies refuse is told and left out; the others count.
 */
#include "control/translate/translate_priv.h"

struct mz_attached;
struct tr_patch { /* one configPatch that is for this proxy */
    const struct mz_attached *doc;
    size_t index; /* in its document */
    ist_EnvoyFilter_ApplyTo to;
    ist_EnvoyFilter_Patch_Operation op;
    ist_EnvoyFilter_PatchContext context;
    const ist_EnvoyFilter_EnvoyConfigObjectMatch *match; /* NULL: everything */
    const ProtobufCMessageDescriptor *type;
    struct mz_str value; /* packed; opened anew for each place. p NULL: none */
    struct mz_str name;  /* of what an EXTENSION_CONFIG adds; "" otherwise */
    bool off; /* found out to do harm to the resource that is being made */
};
struct tr_patches { /* in the order in which they work */
    size_t n_v;
    struct tr_patch *v;
    uint64_t hash;
};
struct tr_patches *tr_patches(struct mz_view *v); /* in the view's arena, made at the first call */

/* Everything of a type, patched; and what is added. */
void tr_patch_outs(struct mz_view *v, enum mz_xds_type t, struct mz_outs *out);
/* ECDS: what EXTENSION_CONFIG adds, else the extension of a document (extensions.h). NULL: there is none of this name. */
struct mz_out *tr_patch_extension(struct mz_view *v, struct mz_str name);

/* ---- for the files of this feature ---- */

/* What patches do to one resource must follow from its size: patches and places multiply (H01). */
struct patch_work {
    size_t left; /* changes; one with a large value counts more than once */
    const struct tr_patch *cut; /* it and all behind it are left out; NULL: none */
    void **list; /* the list that grew last, and how much it has room for */
    size_t room;
};
struct patcher { /* at work on one resource */
    struct mz_view *v;
    struct mz_arena *a;
    struct tr_patches *p;
    ist_EnvoyFilter_PatchContext context;
    struct patch_work *work;
};
/* The i-th patch of this kind, in this context, and not off; @i goes on. NULL: no more. */
const struct tr_patch *patch_next(const struct patcher *x, ist_EnvoyFilter_ApplyTo to, size_t *i);
/* Its value, to be kept; NULL: none, or there is too much already. */
void *patch_fresh(const struct patcher *x, const struct tr_patch *p);
bool patch_merges(const struct tr_patch *p);
void patch_merge(const struct patcher *x, const struct tr_patch *p, void *into, const void *from);
/* A typed_config; what does not fit is told and stays as it was. */
void patch_merge_any(const struct patcher *x, const struct tr_patch *p, pb_Any *into, const pb_Any *from);

/* A list of messages, as protobuf-c has it. */
struct patch_list {
    void ***v;
    size_t *n;
};
#define PATCH_LIST(m, field) ((struct patch_list){ (void ***)(void *)&(m)->field, &(m)->n_##field })
void patch_insert(const struct patcher *x, struct patch_list l, size_t at, void *item);
void patch_drop(struct patch_list l, size_t at);
/* Operations on one of a list but merges. @names: the match says which. */
void patch_list(const struct patcher *x, const struct tr_patch *p, struct patch_list l, bool names,
                bool (*fits)(const void *item, const struct tr_patch *p));

bool patch_listener(const struct patcher *x, pb_Listener *l);    /* patch_listener.c; false: it goes */
void patch_routes(const struct patcher *x, pb_RouteConfiguration *r); /* patch_route.c */

/* The bytes after all patches that are not off; @work is spent. False: it goes. */
bool patch_apply(struct mz_view *v, enum mz_xds_type t, struct mz_str bytes, struct mz_arena *a, struct patch_work *work,
                 struct mz_str *out);
bool patch_loads(const struct mz_view *v, enum mz_xds_type t, struct mz_str bytes, struct mz_arena *a, struct mz_err *err);
/**
 * For a resource that proxies would refuse with all patches: those that would do harm are told and left out (patch_refused.c).
 * @allowed: changes that its patches may make; looking for those that do harm may cost a few times what they made (@spent). @why: proxies would refuse it with all of them.
 */
bool patch_good_ones(struct mz_view *v, enum mz_xds_type t, const struct mz_out *o, size_t allowed, size_t spent,
                     const struct mz_err *why, struct mz_arena *a, struct mz_str *out);
#endif
