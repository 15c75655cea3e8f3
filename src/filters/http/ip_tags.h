#ifndef MZ_FILTERS_HTTP_IP_TAGS_H
#define MZ_FILTERS_HTTP_IP_TAGS_H
/*
 * Which of many address ranges hold an address: a look-up for each length of prefix that there is, however many ranges. Built on
 * the main thread, then immutable. Ranges have numbers (tags), several may share one.
 */
#include "base/arena.h"
#include "net/addr.h"

struct ip_tags;
struct ip_tags *ip_tags_create(void);
void ip_tags_destroy(struct ip_tags *t); /* NULL is fine */
void ip_tags_add(struct ip_tags *t, const struct mz_cidr *range, uint32_t tag);
/* Sets hit[tag] for each tag that holds @a; false: none does. */
bool ip_tags_find(const struct ip_tags *t, const struct mz_addr *a, bool *hit);
#endif
