#ifndef MZ_CONTROL_SOURCES_READING_H
#define MZ_CONTROL_SOURCES_READING_H
/*
 * Texts to documents, part by part (what stands between `---`): a part whose bytes were there the last time is not read again, and
 * where many others are left, they are read on all CPUs. What a part says depends on nothing else, so all come out as if
 * one had been read after the other. Main thread.
 */
#include "base/vec.h"
#include "control/sources/doc.h"

struct mz_note { /* a problem; the text is owned */
    enum mz_level level;
    uint32_t line;
    struct mz_str key;
    char *text; /* text, then key */
};
struct mz_note mz_note_make(enum mz_level level, uint32_t line, struct mz_str key, const char *text);
void mz_notes_clear(struct mz_note *v, size_t n);

struct mz_part {    /* that was read */
    uint64_t hash;  /* of its bytes, by a key of this process; 0: there was something to tell, it is read again */
    uint32_t line0; /* lines in front of it */
    uint32_t docs_n;
};
struct mz_content { /* of a text */
    MZ_VEC(struct mz_doc *) docs; /* in order; a reference each */
    MZ_VEC(struct mz_note) notes;
    MZ_VEC(struct mz_part) parts; /* their documents are the first of those */
    bool broken; /* one of its documents cannot be named */
};
void mz_content_fini(struct mz_content *c);
/* Something to tell, as by `problem` of struct mz_doc_reader. */
void mz_content_tell(struct mz_content *c, enum mz_level level, uint32_t line, struct mz_str key, const char *text);

struct mz_reading;
struct mz_reading *mz_reading_create(void);
/*
 * @file and @text are borrowed until the end; what is found is in @out then, which was empty. @before: what the same file held the last
 * time, or NULL; it stays as it is.
 */
void mz_reading_add(struct mz_reading *r, struct mz_str file, struct mz_str text, enum mz_text_form form,
                    const struct mz_content *before, struct mz_content *out);
void mz_reading_end(struct mz_reading *r); /* everything is read; @r is gone */
#endif
