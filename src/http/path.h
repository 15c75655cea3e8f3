#ifndef MZ_HTTP_PATH_H
#define MZ_HTTP_PATH_H
/*
 * What is done to :path before anything matches it (H4; attacks C01-C08), as Envoy's connection manager does: escaped
 * slashes, normalization (RFC 3986 6.2.2.3 with Envoy's choices), merging of slashes, in this order. Only the part before
 * '?' changes. Pure functions; any thread.
 */
#include "base/arena.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

enum mz_escaped_slashes { /* path_with_escaped_slashes_action */
                          MZ_SLASHES_KEEP,
                          MZ_SLASHES_REJECT,
                          MZ_SLASHES_REDIRECT,
                          MZ_SLASHES_FORWARD,
};
struct mz_path_rules {
    bool normalize, merge_slashes;
    uint8_t escaped_slashes; /* enum mz_escaped_slashes */
};
enum mz_path_verdict {
    MZ_PATH_OK,
    MZ_PATH_REJECT, /* 400 path_normalization_failed: a fragment, an escaped NUL, a refused escaped slash */
    MZ_PATH_REDIRECT, /* 307 to *out_path */
};
/**
 * @out_path is @path itself where nothing changed, else in @arena; also set on REJECT (Envoy's access log shows it).
 * A path that does not begin with '/' is left alone. Normalizing: %XX of unreserved characters is decoded, once; '\' is
 * '/'; "." and ".." segments go, also when escaped or followed by ";parameters"; "<>^`{|} and bytes outside visible ASCII
 * are escaped; %00 is refused.
 */
enum mz_path_verdict mz_path_clean(struct mz_arena *arena, struct mz_str path,
                                   const struct mz_path_rules *rules, struct mz_str *out_path);
#endif
