#!/bin/sh
# lua2c.sh FILE.lua...: prints C in which each script is a struct symm_script, named symm_script_FILE.
set -eu
printf '/* Made by scripts/lua2c.sh from store/lua. */\n#include "scripts.h"\n'
for file; do
	name=$(basename "$file" .lua)
	printf '\nstruct symm_script symm_script_%s = {\n\t"%s",\n' "$name" "$name"
	sed -e 's/[\\"]/\\&/g' -e 's/.*/\t"&\\n"/' "$file"
	printf '\t"",\n\t""\n};\n'
done
