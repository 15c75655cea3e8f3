#ifndef MZ_OBSERVE_PLAIN_TEXT_H
#define MZ_OBSERVE_PLAIN_TEXT_H
#include "base/buf.h"
#include "base/str.h"
/* Foreign bytes for a terminal or a line of text: what is not printable ASCII becomes \xNN (B18). */
void mz_plain_text(struct mz_buf *out, struct mz_str s);
#endif
