#ifndef MZ_BASE_LIST_H
#define MZ_BASE_LIST_H
#include <stdbool.h>
#include <stddef.h>

/* Intrusive circular doubly linked list. A head and an element that is in no list point to themselves. */
struct mz_list {
    struct mz_list *next, *prev;
};
static inline void mz_list_init(struct mz_list *l)
{
    l->next = l->prev = l;
}
static inline bool mz_list_empty(const struct mz_list *l)
{
    return l->next == l;
}
static inline void mz_list_add_tail(struct mz_list *head, struct mz_list *e)
{
    e->prev = head->prev;
    e->next = head;
    head->prev->next = e;
    head->prev = e;
}
static inline void mz_list_add_head(struct mz_list *head, struct mz_list *e)
{
    mz_list_add_tail(head->next, e);
}
static inline void mz_list_del(struct mz_list *e) /* harmless on an initialised element that is in no list */
{
    e->prev->next = e->next;
    e->next->prev = e->prev;
    e->next = e->prev = e;
}
/* @it may be removed inside the loop; no other element may. */
#define mz_list_foreach(it, head)                                                                                      \
    for (struct mz_list *it = (head)->next, *it##_next = it->next; it != (head); it = it##_next, it##_next = it->next)
#endif
