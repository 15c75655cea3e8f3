/* What nearly every file that knows messages reads first, precompiled with -Dprecompiled=true (script/options.sh). Nothing of ours but what
 * is generated: an edit of a header compiles no more than without it. Nothing of the system that a file of ours may not want or few want: each
 * pays for loading it (math.h alone is a third). */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/names.h"
