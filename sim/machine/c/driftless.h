/* A bare driver of the machine: C99, no operating system, no allocation.
 *
 *     struct driftless_region regions[8] = {...};    from program.json, beside memory.bin at unit 0
 *     if (driftless_probe() == DRIFTLESS_DONE) {
 *       driftless_place(regions);
 *       driftless_start(operand, commands);
 *       int ended = driftless_wait(1000000);
 *       uint64_t clocks = driftless_counter(DRIFTLESS_CLOCKS_LOW);
 *     }
 *
 * `registers.h` is written by `python -m rtl_gen build`; docs/machine.md says what registers mean.
 */
#ifndef DRIFTLESS_H
#define DRIFTLESS_H

#include <stdint.h>

#include "registers.h"

/* What the platform provides: a register of the machine, by its offset in bytes. */
uint32_t driftless_read(uint32_t offset);
void driftless_write(uint32_t offset, uint32_t value);

/* Where a region lies, in units of 32 bytes. */
struct driftless_region {
  uint32_t base;
  uint32_t limit;
};

#define DRIFTLESS_DONE 0
#define DRIFTLESS_RUNNING 1
#define DRIFTLESS_FAILED (-1)
#define DRIFTLESS_FOREIGN (-2)

/* DRIFTLESS_DONE if this is the machine that `registers.h` was written for, else DRIFTLESS_FOREIGN. */
int driftless_probe(void);

/* Tells the machine where its regions lie; only while it is idle. */
void driftless_place(const struct driftless_region regions[8]);

/* Starts a program by the operand of its first command; counters start at 0. */
void driftless_start(uint32_t operand, uint32_t commands);

/* DRIFTLESS_RUNNING, DRIFTLESS_DONE, or DRIFTLESS_FAILED. */
int driftless_poll(void);

/* Polls so often at most; the outcome as of driftless_poll. */
int driftless_wait(uint32_t polls);

/* Stops whatever runs; DRIFTLESS_RUNNING if the bus has not drained after so many polls. */
int driftless_reset(uint32_t polls);

/* Why a program has failed, one of DRIFTLESS_CAUSE_...; `tag` and `position` take its command's, unless they are null. */
uint32_t driftless_cause(uint32_t *tag, uint32_t *position);

/* A counter, by the offset of its low half: DRIFTLESS_..._LOW. */
uint64_t driftless_counter(uint32_t low);

#endif
