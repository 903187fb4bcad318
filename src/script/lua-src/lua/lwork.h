/*
** Work that instructions do beyond a step each.
** Part of Quorate, not of Lua; see ../README.md.
**
** The count hook is called for every so many instructions. What an instruction costs has no bound, though: it
** may join strings, read a number from one, or lay a table anew. Such places say here how much work they do, in
** steps of the size of a plain instruction; where the hook is due, it is called as often as that work asks for.
** All of it depends on what scripts do alone, never on addresses or time.
*/

#ifndef lwork_h
#define lwork_h

#include <stdint.h>

#include "llimits.h"

/* one interpreter runs on a thread at a time, and no place that works is told which */
extern _Thread_local uint64_t luai_debt;

/* the number of the object that was numbered last: see luaE_beginscript */
extern _Thread_local lu_int32 luai_lastid;

#define luai_work(steps)	(luai_debt += (uint64_t)(steps))

/* going through bytes once: to copy, compare or hash them */
#define luai_workbytes(bytes)	luai_work((bytes) >> 6)
/* reading digits */
#define luai_workdigits(digits)	luai_work(4 + ((digits) >> 4))
/* writing a number, or raising it to a power */
#define luai_worknumber()	luai_work(32)
/* moving values on a stack */
#define luai_workvalues(values)	luai_work((values) >> 3)
/* going through a chain in a table: short ones are part of the instruction */
#define luai_workchain(hops)	{ if ((hops) > 8) luai_work(hops); }

#endif
