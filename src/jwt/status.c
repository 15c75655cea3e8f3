#include "jwt/jwt.h"

const char *mz_jwt_status_text(enum mz_jwt_status s)
{
    switch (s) {
#define X(id, number, text)                                                                        \
    case MZ_JWT_##id:                                                                              \
        return text;
        MZ_JWT_STATUSES(X)
#undef X
    }
    return "";
}
