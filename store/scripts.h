/* scripts.h: the Lua scripts of store/lua, as the build embeds them. Each file's first lines give its KEYS, ARGV and
 * answer. */
#ifndef SYMM_SCRIPTS_H
#define SYMM_SCRIPTS_H

#include "store.h"

extern struct symm_script symm_script_join;
extern struct symm_script symm_script_leave;
extern struct symm_script symm_script_members;
extern struct symm_script symm_script_roster;
extern struct symm_script symm_script_publish;
extern struct symm_script symm_script_vote;
extern struct symm_script symm_script_decide;
extern struct symm_script symm_script_missing;
extern struct symm_script symm_script_refresh;
extern struct symm_script symm_script_fail;

#endif
