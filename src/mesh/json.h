#ifndef MZ_MESH_JSON_H
#define MZ_MESH_JSON_H
/* Members of documents, where they are of the kind that is asked for. NULL objects are empty ones. */
#include <jansson.h>
#include <stdarg.h>

static inline const char *mz_json_text(const json_t *o, const char *name, const char *otherwise)
{
    const char *s = json_string_value(json_object_get(o, name));
    return s ? s : otherwise;
}
static inline json_int_t mz_json_number(const json_t *o, const char *name, json_int_t otherwise)
{
    const json_t *v = json_object_get(o, name);
    return json_is_integer(v) ? json_integer_value(v) : otherwise;
}
/* mz_json_at(pod, "metadata", "labels", NULL) */
__attribute__((sentinel)) static inline json_t *mz_json_at(json_t *o, ...)
{
    va_list ap;
    va_start(ap, o);
    for (const char *name; o && (name = va_arg(ap, const char *)) != NULL;)
        o = json_object_get(o, name);
    va_end(ap);
    return o;
}
/* The member, made where it is not there. */
static inline json_t *mz_json_member(json_t *o, const char *name)
{
    if (!json_is_object(json_object_get(o, name)))
        (void)json_object_set_new(o, name, json_object()); /* only without memory */
    return json_object_get(o, name);
}
#endif
