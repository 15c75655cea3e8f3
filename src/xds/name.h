#ifndef MZ_XDS_NAME_H
#define MZ_XDS_NAME_H
/*
 * Names of xDS-TP (X1; xDS' transport protocol, "xdstp://authority/type/id?key=value&key=value") and URLs of collections.
 * Two names that say the same are the same text in canonical form: escapes as Envoy writes them, parameters in order.
 * What is parsed lies in the caller's arena or in the text. Any thread.
 */
#include "base/arena.h"
#include "base/err.h"

struct mz_xds_param {
    struct mz_str key, value;
};
struct mz_xds_params {
    struct mz_xds_param *v;
    size_t n;
};
struct mz_xds_name { /* decoded */
    struct mz_str authority, type, id;
    struct mz_xds_params context; /* each key once; a key that stands twice means its first value */
};
static inline bool mz_xds_name_is(struct mz_str text) /* is it to be read as such a name? */
{
    return mz_str_starts(text, MZ_STR("xdstp:"));
}
bool mz_xds_name_parse(struct mz_arena *a, struct mz_str text, struct mz_xds_name *out, struct mz_err *err);
struct mz_str mz_xds_name_text(struct mz_arena *a, const struct mz_xds_name *n); /* canonical */
/* A collection of all that has the same name but for the last part of its id: that part is "*". */
bool mz_xds_name_is_glob(const struct mz_xds_name *n);
void mz_xds_name_to_glob(struct mz_arena *a, struct mz_xds_name *n);
/* Parameters that the name does not say itself. */
void mz_xds_name_complete(struct mz_arena *a, struct mz_xds_name *n, const struct mz_xds_params *with);

struct mz_xds_url { /* where a collection is */
    struct mz_str file; /* absolute path, with a NUL behind it; n 0: it is the name */
    struct mz_xds_name name;
};
/* "file:///path" or an xdstp name. Errors: another scheme, directives (behind '#'): nothing honours them. */
bool mz_xds_url_parse(struct mz_arena *a, struct mz_str text, struct mz_xds_url *out, struct mz_err *err);
#endif
