#ifndef MZ_OBSERVE_JSON_TEXT_H
#define MZ_OBSERVE_JSON_TEXT_H
/* JSON scalars as Envoy writes them in access logs (B18): nothing that a peer sent can leave its string. */
#include "base/buf.h"
#include "base/str.h"

/* Quoted. Text that is not UTF-8 is taken as Latin-1 and every special or high byte of it becomes \u00XX. */
void mz_json_string(struct mz_buf *out, struct mz_str s);
void mz_json_escape(struct mz_buf *out, struct mz_str s); /* the same without the quotes */
/* Whole numbers without fraction or exponent where they fit; NaN and infinities are null. */
#define MZ_JSON_NUMBER_TEXT 32
size_t mz_json_number(double v, char out_text[MZ_JSON_NUMBER_TEXT]);
#endif
