#include "json.h"

#include <inttypes.h>

static void quote(FILE *out, const char *text)
{
	putc('"', out);
	for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
		if (*c == '"' || *c == '\\')
			fprintf(out, "\\%c", *c);
		else if (*c < 0x20 || *c >= 0x7f)
			fprintf(out, "\\u%04x", *c);
		else
			putc(*c, out);
	}
	putc('"', out);
}

static void start(struct symm_json *json, const char *key)
{
	if (json->more)
		putc(',', json->out);
	json->more = true;
	if (key != NULL) {
		quote(json->out, key);
		putc(':', json->out);
	}
}

void symm_json_open(struct symm_json *json, const char *key, char bracket)
{
	start(json, key);
	putc(bracket, json->out);
	json->more = false;
}

void symm_json_close(struct symm_json *json, char bracket)
{
	putc(bracket, json->out);
	json->more = true;
}

void symm_json_end(struct symm_json *json)
{
	putc('\n', json->out);
	json->more = false;
}

void symm_json_text(struct symm_json *json, const char *key, const char *text)
{
	start(json, key);
	if (text != NULL)
		quote(json->out, text);
	else
		fputs("null", json->out);
}

void symm_json_int(struct symm_json *json, const char *key, int64_t value)
{
	start(json, key);
	fprintf(json->out, "%" PRId64, value);
}

void symm_json_real(struct symm_json *json, const char *key, double value)
{
	start(json, key);
	fprintf(json->out, "%.6g", value);
}

void symm_json_bool(struct symm_json *json, const char *key, bool value)
{
	start(json, key);
	fputs(value ? "true" : "false", json->out);
}
