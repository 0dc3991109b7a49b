/* Log records as aya-log 0.3 reads them from a ring buffer of this name: u16 length of all; then {u8 kind, u16 length, value}
 * in host order. For rare events alone. */
#pragma once

#include "bpf.h"

enum { LOG_TARGET, LOG_LEVEL, LOG_MODULE, LOG_FILE, LOG_LINE, LOG_ARGUMENTS };
enum { LOG_U64 = 9, LOG_STR = 20 };
enum { LOG_WARN = 2 };

#define LOG_NAME "weir_ebpf::kernel"
#define LOG_TEXT 56

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} AYA_LOGS SEC(".maps");

struct __attribute__((packed)) log_name {
	u8 kind;
	u16 length;
	char value[sizeof(LOG_NAME) - 1];
};

struct __attribute__((packed)) log_u32 {
	u8 kind;
	u16 length;
	u32 value;
};

/* A text, padded with spaces, and a number behind it. */
struct __attribute__((packed)) log_record {
	u16 size;
	struct log_name target, module, file;
	struct __attribute__((packed)) {
		u8 kind;
		u16 length;
		u8 value;
	} level;
	struct log_u32 line, arguments;
	struct __attribute__((packed)) {
		u8 kind;
		u16 length;
		char value[LOG_TEXT];
	} text;
	struct __attribute__((packed)) {
		u8 kind;
		u16 length;
		u64 value;
	} number;
};

/* Says that something has happened `count` times: at each power of two, so that it stays rare. */
#define log_count(what, count)                                                                                                  \
	do {                                                                                                                    \
		u64 number_ = (count);                                                                                          \
		if ((number_ & (number_ - 1)) == 0) {                                                                           \
			struct log_record record_ = {                                                                           \
				sizeof(record_),                                                                                \
				{LOG_TARGET, sizeof(LOG_NAME) - 1, LOG_NAME},                                                   \
				{LOG_MODULE, sizeof(LOG_NAME) - 1, LOG_NAME},                                                   \
				{LOG_FILE, sizeof(LOG_NAME) - 1, LOG_NAME},                                                     \
				{LOG_LEVEL, 1, LOG_WARN},                                                                       \
				{LOG_LINE, 4, 0},                                                                               \
				{LOG_ARGUMENTS, 4, 2},                                                                          \
				{LOG_STR, sizeof(what) - 1, what},                                                              \
				{LOG_U64, 8, number_},                                                                          \
			};                                                                                                      \
			_Static_assert(sizeof(what) - 1 == LOG_TEXT, "pad the text to LOG_TEXT octets");                        \
			ringbuf_output(&AYA_LOGS, &record_, sizeof(record_), 0);                                                \
		}                                                                                                               \
	} while (0)
