pkginclude_HEADERS = include/symm/symm.h
