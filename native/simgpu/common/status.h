/* What can go wrong between a library and the state file; each library translates it into its own errors. */
#ifndef SIMGPU_STATUS_H
#define SIMGPU_STATUS_H

typedef enum sim_status {
  SIM_OK = 0,
  SIM_ABSENT,   /* no state file: the driver is not loaded */
  SIM_DENIED,   /* it may not be opened */
  SIM_INVALID,  /* it is not a state file of this version, or damaged */
  SIM_BUSY,     /* no free slot, or the lock could not be had in time */
  SIM_NO_SPACE, /* the card's memory is used up */
  SIM_SYSTEM,   /* the operating system refused (errno says why) */
} sim_status;

#endif
