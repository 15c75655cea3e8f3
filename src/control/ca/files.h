#ifndef MZ_CONTROL_CA_FILES_H
#define MZ_CONTROL_CA_FILES_H
/* The files of an authority. Keys are made readable for their owner only; a file is replaced as a whole or not at all. */
#include "base/arena.h"
#include "base/err.h"

#define CA_FILE_MAX (1u << 20)
enum file_found { FILE_FOUND, FILE_ABSENT, FILE_FAULT };
/* The text lies in @a with a NUL behind it. @secret: told in the log when others may read it, an error when they may write it. */
enum file_found file_read(const char *dir, const char *name, bool secret, struct mz_arena *a, struct mz_str *out, struct mz_err *err);
/* Links are not followed. @secret: mode 0600, else 0644. */
bool file_write(const char *dir, const char *name, bool secret, struct mz_str text, struct mz_err *err);
bool dir_make(const char *dir, struct mz_err *err); /* mode 0700 where it is not there */
int dir_lock(const char *dir, struct mz_err *err);   /* until close(); one at a time changes files. -1 */
uint64_t files_stamp(const char *dir, const char *const *names, size_t n); /* another number when one of them was replaced */
#endif
