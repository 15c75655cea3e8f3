#ifndef MZ_CONTROL_TRANSLATE_SET_H
#define MZ_CONTROL_TRANSLATE_SET_H
/*
 * Resources of one type by name, immutable and counted. Cut into pieces where the names say so, and equal pieces are one: what a
 * thousand clients have costs little more than what one has, another one differs in the pieces that changed, and to compare two
 * means to look at the pieces that are not the same. Main thread.
 */
#include "base/vec.h"
#include "control/translate/resource.h"

struct mz_set;
struct mz_sets; /* the pieces */
struct mz_sets *mz_sets_create(void);
void mz_sets_destroy(struct mz_sets *s); /* after its sets */
struct mz_set *mz_set_create(struct mz_sets *s, struct mz_out *const *v, size_t n); /* by name, each once; references of its own */
struct mz_set *mz_set_ref(const struct mz_set *s);
void mz_set_unref(const struct mz_set *s); /* NULL is fine */
size_t mz_set_count(const struct mz_set *s); /* NULL: none */
size_t mz_set_size(const struct mz_set *s);  /* packed, each as a field of one octet's number */
uint64_t mz_set_hash(const struct mz_set *s); /* of names and versions, the same for the same; 0: nothing is in it */
bool mz_set_same(const struct mz_set *x, const struct mz_set *y); /* the very same resources, whatever their hashes; NULL: none */
struct mz_out *mz_set_find(const struct mz_set *s, struct mz_str name); /* borrowed; NULL */

struct mz_set_edit {
    struct mz_str name;
    struct mz_out *out; /* borrowed; NULL: it goes */
};
struct mz_set_edits {
    MZ_VEC(struct mz_set_edit) v;
};
int mz_set_edit_order(const void *a, const void *b); /* for qsort: by name; one that stays, or comes, before one that goes */
void mz_set_edits_sort(struct mz_set_edits *e);      /* each once, the first */
/* @e by name, each once. Another set; @from stays as it is (NULL: nothing is in it). */
struct mz_set *mz_set_edit(struct mz_sets *s, const struct mz_set *from, const struct mz_set_edit *e, size_t n);

/* Those of one that the other has not or has in another version, in the order of names; either is NULL in turn. */
void mz_set_compare(const struct mz_set *x, const struct mz_set *y,
                    void (*each)(void *arg, struct mz_out *in_x, struct mz_out *in_y), void *arg);

struct mz_set_at { /* zeroed: before the first */
    size_t piece, i;
};
struct mz_out *mz_set_next(const struct mz_set *s, struct mz_set_at *at); /* borrowed; NULL: no more */

/* Pieces, for whoever packs them: once, for all sets that they are in. */
size_t mz_set_pieces(const struct mz_set *s);
size_t mz_set_piece(const struct mz_set *s, size_t i, struct mz_out *const **out);
size_t mz_set_piece_size(const struct mz_set *s, size_t i); /* as mz_set_size() */
/* Two forms of each; borrowed. Kept as long as the piece, or until nobody else holds it at a trim and it was not asked for since @unused trims. */
struct mz_slice *mz_set_piece_packed(const struct mz_set *s, size_t i, bool form,
                                     struct mz_slice *(*pack)(void *arg, struct mz_out *const *v, size_t n), void *arg);
bool mz_set_piece_again(const struct mz_set *s, size_t i, bool form); /* whether this was asked before */
void mz_sets_trim(struct mz_sets *s, unsigned unused);
size_t mz_sets_count(const struct mz_sets *s); /* pieces */
#endif
