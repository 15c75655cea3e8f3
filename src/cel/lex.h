#ifndef MZ_CEL_LEX_H
#define MZ_CEL_LEX_H
/* Text of an expression to tokens; for this folder. */
#include "cel/cel_priv.h"

enum token_kind {
    TOKEN_END,
    TOKEN_IDENT,
    TOKEN_VALUE, /* a literal */
    TOKEN_SIGN,  /* text: one of ( ) [ ] { } , . ? : + - * / % ! < > <= >= == != && || */
    TOKEN_BAD,   /* err is set */
};
struct lexer {
    struct mz_str text;
    size_t at;
    struct mz_arena *arena; /* of literals */
    struct mz_err *err;
};
struct token {
    enum token_kind kind;
    size_t at; /* where it begins */
    struct mz_str text;
    struct mz_cel_value value;
    bool minimum; /* 9223372036854775808, which only a minus makes a number */
};
void lex_next(struct lexer *l, struct token *out);
#endif
