/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the ring of trace.bpf.c. */
#ifndef REALPOD_RING_H
#define REALPOD_RING_H

#include "trace.h"

/* `records`: the ring's file descriptor, `bytes`: its size. 0: it cannot be read. Once. */
int map_ring(int records, unsigned bytes);
/* Hands on what was in the ring at this call: a line may be written once its record has its place there. */
void read_ring(void (*each)(const struct line *));

#endif
