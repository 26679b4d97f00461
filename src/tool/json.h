/* json.h: JSON written value by value, for the commands' --json. */
#ifndef SYMM_TOOL_JSON_H
#define SYMM_TOOL_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct symm_json {
	FILE *out;
	bool more; /* the next value needs a comma before it */
};

/* In all of these key is NULL inside an array and at the top. bracket is '{' or '['. */
void symm_json_open(struct symm_json *json, const char *key, char bracket);
/* Closes what was opened, with '}' or ']'. */
void symm_json_close(struct symm_json *json, char bracket);
/* Ends the line after a whole value. */
void symm_json_end(struct symm_json *json);
/* text NULL: null. Any bytes give valid JSON: those outside ASCII are written as the code point of the same number. */
void symm_json_text(struct symm_json *json, const char *key, const char *text);
void symm_json_int(struct symm_json *json, const char *key, int64_t value);
/* value is finite. */
void symm_json_real(struct symm_json *json, const char *key, double value);
void symm_json_bool(struct symm_json *json, const char *key, bool value);

#endif
