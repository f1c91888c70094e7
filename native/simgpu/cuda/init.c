/* cuInit: finds the node, chooses the devices, takes a slot. */
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "faults.h"
#include "mps.h"
#include "visible.h"

/* What the library says of itself where there is no node to ask. */
#define OWN_CUDA_VERSION 13000

enum { NOT_STARTED, READY, FORKED };

driver the_driver = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;
static int phase = NOT_STARTED;

CUresult driver_ready(void) {
  return __atomic_load_n(&phase, __ATOMIC_ACQUIRE) == READY ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

CUresult driver_device(CUdevice ordinal, gpu **found) {
  TRY(driver_ready());
  if (ordinal < 0 || ordinal >= the_driver.device_count) return CUDA_ERROR_INVALID_DEVICE;
  *found = &the_driver.devices[ordinal];
  return CUDA_SUCCESS;
}

CUresult driver_error(sim_status status) {
  switch (status) {
    case SIM_OK: return CUDA_SUCCESS;
    case SIM_ABSENT:
    case SIM_DENIED: return CUDA_ERROR_NO_DEVICE;
    case SIM_NO_SPACE: return CUDA_ERROR_OUT_OF_MEMORY;
    case SIM_SYSTEM: return CUDA_ERROR_OPERATING_SYSTEM;
    default: return CUDA_ERROR_UNKNOWN;
  }
}

/* pthread_atfork's other half, which all versions of glibc have under one name and version. */
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso_handle);

/* The slot is the parent's: like the real driver, this one does not work in a child that did not exec. */
static void after_fork_in_child(void) {
  if (phase == READY) phase = FORKED;
}

static void choose_devices(const sim_store *store, const sim_node *node) {
  choice chosen[SIM_MAX_CARDS];
  uint32_t count = visible_devices(store, node, getenv("CUDA_VISIBLE_DEVICES"), getenv("CUDA_DEVICE_ORDER"), chosen);
  for (uint32_t i = 0; i < count; i++) {
    gpu *device = &the_driver.devices[i];
    device->facts = node->cards[chosen[i].card];
    device->card = node->index[chosen[i].card];
    memcpy(device->card_uuid, device->facts.uuid, sizeof device->card_uuid);
    if (!chosen[i].mig) continue;
    sim_mig_facts(&device->facts, &chosen[i].instance, chosen[i].id);
    the_driver.mig = true;
    the_driver.mig_place = chosen[i].place;
    the_driver.mig_id = chosen[i].id;
  }
  the_driver.device_count = (int)count;
}

/* From here on the MIG device cannot be destroyed; it may have been while we chose it. */
static CUresult attach(const sim_node *node) {
  if (!the_driver.mig) return CUDA_SUCCESS;
  for (uint32_t i = 0; i < node->card_count; i++)
    if (node->index[i] == the_driver.devices[0].card &&
        sim_mig_attach(&the_driver.session, &node->cards[i], node->index[i], the_driver.mig_place, the_driver.mig_id))
      return CUDA_SUCCESS;
  return CUDA_ERROR_NO_DEVICE;
}

static CUresult start(void) {
  sim_store store;
  sim_node node;
  TRY(driver_error(sim_store_open(&store, sim_root(), true)));
  /* From here on the store stays open, also after an error: closing it would drop locks that others may hold on it. */
  TRY(driver_error(sim_store_node(&store, &node)));
  const sim_driver_state loaded = sim_driver_read(&store);
  if (loaded.unloaded != 0) return CUDA_ERROR_NO_DEVICE;
  if (loaded.library_version[0] != '\0' && strcmp(loaded.library_version, node.driver_version) != 0)
    return CUDA_ERROR_SYSTEM_DRIVER_MISMATCH;
  if (!sim_store_usable(&store, "dev/nvidia-uvm")) return CUDA_ERROR_UNKNOWN;
  choose_devices(&store, &node);
  the_driver.cuda_version = node.cuda_version;
  if (the_driver.device_count == 0) return CUDA_ERROR_NO_DEVICE;
  TRY(mps_join());
  TRY(driver_error(sim_session_begin(&the_driver.session, &store)));
  the_driver.session.most_bytes = mps_most_bytes();
  TRY(attach(&node));
  __register_atfork(NULL, NULL, after_fork_in_child, NULL);
  return CUDA_SUCCESS;
}

CUresult cuInit(unsigned int Flags) {
  NEED(Flags == 0);
  if (__atomic_load_n(&phase, __ATOMIC_ACQUIRE) == FORKED) return CUDA_ERROR_NOT_INITIALIZED;
  pthread_mutex_lock(&starting);
  CUresult result = CUDA_SUCCESS;
  if (phase == NOT_STARTED) {
    static CUresult failure = CUDA_SUCCESS;
    /* A failure is final, as with the real driver: a process sees one set of devices. */
    result = failure != CUDA_SUCCESS ? failure : start();
    failure = result;
    if (result == CUDA_SUCCESS) __atomic_store_n(&phase, READY, __ATOMIC_RELEASE);
  }
  pthread_mutex_unlock(&starting);
  return result;
}

CUresult cuDriverGetVersion(int *driverVersion) {
  NEED(driverVersion != NULL);
  if (driver_ready() == CUDA_SUCCESS) {
    *driverVersion = (int)the_driver.cuda_version;
    return CUDA_SUCCESS;
  }
  /* Allowed before cuInit. */
  static sim_store store = {.fd = -1};
  sim_node node;
  pthread_mutex_lock(&starting);
  sim_status status = store.fd >= 0 ? SIM_OK : sim_store_open(&store, sim_root(), false);
  if (status == SIM_OK) status = sim_store_node(&store, &node);
  pthread_mutex_unlock(&starting);
  *driverVersion = status == SIM_OK ? (int)node.cuda_version : OWN_CUDA_VERSION;
  return CUDA_SUCCESS;
}
