#ifndef MZ_CONTROL_INJECT_GOTPL_FUNCS_H
#define MZ_CONTROL_INJECT_GOTPL_FUNCS_H
/* Between the files of functions that templates can call: their tables, and how they make and read values. */
#include "control/inject/gotpl_priv.h"

enum { MANY = 32 /* arguments, at most */ };
/* Up to one without a name. */
extern const struct tpl_function tpl_go_functions[], tpl_sprig_functions[], tpl_istio_functions[];

#define FN(name) static json_t *name(struct tpl_run *r, json_t *const *v, size_t n)
#define UNUSED   ((void)r, (void)v, (void)n)

json_t *tpl_fail(struct tpl_run *r, const char *what, json_t *at); /* NULL, with the line, @what and the value as the error */
json_t *tpl_text(struct tpl_run *r, struct mz_str s);
json_t *tpl_text_of(struct tpl_run *r, struct mz_buf *b); /* frees it; NULL: it is too much */
void tpl_put(struct mz_buf *b, struct mz_str s);          /* as long as there is room */
void tpl_dump(struct mz_buf *b, const json_t *v, size_t flags);
bool tpl_integer(struct tpl_run *r, json_t *v, json_int_t *out); /* of a text or a number; what is not set is 0 */
struct mz_str tpl_trim_set(struct mz_str s, struct mz_str set);
static inline json_t *tpl_boolean(bool b)
{
    return json_boolean(b); /* never freed */
}
#endif
