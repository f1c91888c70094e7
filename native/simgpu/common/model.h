/* The cards that can be simulated.  Figures are those of the vendors' data sheets and of nvidia-smi on such cards. */
#ifndef SIMGPU_MODEL_H
#define SIMGPU_MODEL_H

#include "state.h"

/* Fills in what follows from the model, one of sim_model_names in any case of letters.  Returns 0, or -1 if there
 * is none such. */
int sim_model_fill(const char *model, sim_card *card);

/* The models' names, separated by blanks. */
const char *sim_model_names(void);

#endif
