/* SPDX-License-Identifier: Apache-2.0 */
/* How loader.c says what is in the ring. */
#ifndef REALPOD_LINES_H
#define REALPOD_LINES_H

#include "trace.h"

/* Once, before the first record. */
void make_crc_table(void);
/* Before records are read. */
void read_clocks(void);
void read_record(const struct line *line);

/* Times that the clock was set: the lines that are read then may have been written before. */
extern unsigned long long clock_set;
/* Lines in nginx's buffers that were forgotten at the limit: nothing will be claimed of them. */
extern unsigned long long forgotten;

#endif
