#include "driftless.h"

#include <stddef.h>

static uint32_t field(uint32_t value, uint32_t mask, uint32_t shift) { return (value & mask) >> shift; }

int driftless_probe(void) {
  const int known = driftless_read(DRIFTLESS_ID) == 0x54465244u && /* "DRFT" */
                    driftless_read(DRIFTLESS_PARAMETERS) == DRIFTLESS_FINGERPRINT;
  return known ? DRIFTLESS_DONE : DRIFTLESS_FOREIGN;
}

void driftless_place(const struct driftless_region regions[8]) {
  const uint32_t step = DRIFTLESS_REGION1_BASE - DRIFTLESS_REGION0_BASE;
  for (uint32_t i = 0; i < 8; i++) {
    driftless_write(DRIFTLESS_REGION0_BASE + i * step, regions[i].base);
    driftless_write(DRIFTLESS_REGION0_LIMIT + i * step, regions[i].limit);
  }
}

void driftless_start(uint32_t operand, uint32_t commands) {
  driftless_write(DRIFTLESS_PROGRAM, operand);
  driftless_write(DRIFTLESS_PROGRAM_SIZE, commands);
  driftless_write(DRIFTLESS_INTERRUPT, DRIFTLESS_INTERRUPT_DONE_MASK | DRIFTLESS_INTERRUPT_ERROR_MASK |
                                           DRIFTLESS_INTERRUPT_REACHED_MASK);
  driftless_write(DRIFTLESS_CONTROL, DRIFTLESS_CONTROL_START_MASK | DRIFTLESS_CONTROL_CLEAR_MASK);
}

int driftless_poll(void) {
  const uint32_t status = driftless_read(DRIFTLESS_STATUS);
  if (status & DRIFTLESS_STATUS_ERROR_MASK) return DRIFTLESS_FAILED;
  return status & DRIFTLESS_STATUS_DONE_MASK ? DRIFTLESS_DONE : DRIFTLESS_RUNNING;
}

int driftless_wait(uint32_t polls) {
  int found = driftless_poll();
  while (found == DRIFTLESS_RUNNING && polls-- > 0) found = driftless_poll();
  return found;
}

int driftless_reset(uint32_t polls) {
  driftless_write(DRIFTLESS_CONTROL, DRIFTLESS_CONTROL_RESET_MASK);
  do {
    if (!(driftless_read(DRIFTLESS_STATUS) & DRIFTLESS_STATUS_RESETTING_MASK)) return DRIFTLESS_DONE;
  } while (polls-- > 0);
  return DRIFTLESS_RUNNING;
}

uint32_t driftless_cause(uint32_t *tag, uint32_t *position) {
  const uint32_t error = driftless_read(DRIFTLESS_ERROR);
  if (tag != NULL) *tag = field(error, DRIFTLESS_ERROR_TAG_MASK, DRIFTLESS_ERROR_TAG_SHIFT);
  if (position != NULL) *position = driftless_read(DRIFTLESS_ERROR_POSITION);
  return field(error, DRIFTLESS_ERROR_CAUSE_MASK, DRIFTLESS_ERROR_CAUSE_SHIFT);
}

uint64_t driftless_counter(uint32_t low) {
  driftless_write(DRIFTLESS_CONTROL, DRIFTLESS_CONTROL_FREEZE_MASK);
  const uint32_t step = DRIFTLESS_CLOCKS_HIGH - DRIFTLESS_CLOCKS_LOW;
  return driftless_read(low) | (uint64_t)driftless_read(low + step) << 32;
}
